//! Every suite, group, kind of key and way to authenticate, over a clean link.

use std::num::NonZeroU32;
use std::sync::Arc;

use tidegate::crypto::fingerprint::device_fingerprint;
use tidegate::crypto::key_exchange::NamedGroup;
use tidegate::crypto::suite::{Authentication, CipherSuite};
use tidegate::dtls::client::{ClientConfig, ServerVerification};
use tidegate::dtls::{Credentials, Error, ServerConfig};

use crate::link::{Reading, World};
use crate::support::{Keys, server_config};

fn server(credentials: &Arc<Credentials>) -> ServerConfig {
    ServerConfig::new(Arc::clone(credentials))
}

#[test]
fn every_suite_group_and_kind_of_key() {
    let servers = Keys::generate();
    let clients = Keys::generate();
    let mut handshakes = 0;
    for &suite in CipherSuite::ALL {
        let server_keys = match suite.authentication() {
            Authentication::Ecdsa => vec![&servers.p256, &servers.p384],
            Authentication::Rsa => vec![&servers.rsa],
            // In `psk`: no server shows a certificate then.
            Authentication::PreSharedKey => continue,
        };
        for server_key in server_keys {
            for &group in NamedGroup::ALL {
                let client_keys = [
                    None,
                    Some(&clients.p256),
                    Some(&clients.p384),
                    Some(&clients.rsa),
                ];
                for (index, client_key) in client_keys.into_iter().enumerate() {
                    let mut groups = vec![group];
                    groups.extend(NamedGroup::ALL.iter().filter(|&&other| other != group));
                    let config = Arc::new(ClientConfig {
                        credentials: client_key.cloned(),
                        cipher_suites: vec![suite],
                        groups,
                        verification: ServerVerification::Certificates(server_key.chain.clone()),
                        extended_master_secret: index % 2 == 0,
                        ..ClientConfig::default()
                    });
                    let mut world = World::new(handshakes, server(server_key), &config);
                    assert!(world.establish(), "{suite:?} {group:?} {client_key:?}");
                    let fingerprint = client_key.map(|key| device_fingerprint(&key.chain[0]));
                    assert_eq!(world.server.fingerprint(), fingerprint);
                    assert_eq!(world.server.suite(), Some(suite));
                    assert_eq!(world.client.connection.suite(), Some(suite));
                    let association = world.server.association.as_ref().unwrap();
                    assert_eq!(association.group(), Some(group));
                    assert_eq!(world.client.connection.group(), Some(group));
                    assert_eq!(association.extended_master_secret(), index % 2 == 0);
                    assert_eq!(
                        world.client.connection.extended_master_secret(),
                        index % 2 == 0
                    );
                    world.send_reading(b"reading");
                    world.send_answer(b"answer");
                    world.settle();
                    let data = b"reading".to_vec();
                    assert_eq!(world.server.readings, [Reading { fingerprint, data }]);
                    assert_eq!(world.client.received, [b"answer"]);
                    world.assert_no_sequence_number_twice();
                    handshakes += 1;
                }
            }
        }
    }
    assert_eq!(handshakes, (7 * 2 + 3) * 3 * 4);
}

/// TB 3.1: the client's order wins among what is configured.
#[test]
fn the_clients_order_wins() {
    let mut server = server_config();
    let configured = [
        CipherSuite::EcdheEcdsaAes128Gcm,
        CipherSuite::EcdheEcdsaAes128Ccm8,
    ];
    server.cipher_suites = configured.to_vec();
    let config = Arc::new(ClientConfig {
        cipher_suites: vec![
            CipherSuite::EcdheRsaAes128Gcm,
            CipherSuite::EcdheEcdsaAes256Gcm,
            CipherSuite::EcdheEcdsaAes128Ccm8,
            CipherSuite::EcdheEcdsaAes128Gcm,
        ],
        groups: vec![NamedGroup::X25519, NamedGroup::Secp256r1],
        ..ClientConfig::default()
    });
    let mut world = World::new(1, server, &config);
    assert!(world.establish());
    assert_eq!(
        world.server.suite(),
        Some(CipherSuite::EcdheEcdsaAes128Ccm8)
    );
    assert_eq!(world.client.connection.group(), Some(NamedGroup::X25519));
}

/// TB 3.1 and vector 17: nothing in common is a fatal handshake_failure, after the cookie.
#[test]
fn nothing_in_common_is_refused() {
    let no_suite = ClientConfig {
        cipher_suites: vec![CipherSuite::EcdheRsaAes128Gcm],
        ..ClientConfig::default()
    };
    // The curve of the server's certificate must be among the groups (RFC 8422 section 5.1).
    let no_curve = ClientConfig {
        groups: vec![NamedGroup::X25519],
        ..ClientConfig::default()
    };
    for config in [no_suite, no_curve] {
        let mut world = World::new(2, server_config(), &Arc::new(config));
        world.settle();
        assert_eq!(world.server.failures, [Error::NoCommonParameters]);
        assert!(world.server.association.is_none());
        let alert = tidegate::dtls::AlertDescription::HandshakeFailure;
        assert_eq!(world.client.failures, [Error::PeerAlert(alert)]);
    }
}

/// RFC 7627 section 5.3: a server may insist on the extended master secret.
#[test]
fn the_extended_master_secret_can_be_required() {
    let config = Arc::new(ClientConfig {
        extended_master_secret: false,
        ..Default::default()
    });
    let mut server = server_config();
    server.require_extended_master_secret = true;
    let mut world = World::new(3, server, &config);
    world.settle();
    assert_eq!(world.server.failures, [Error::NoExtendedMasterSecret]);
    world.restart_client(&Arc::new(ClientConfig::default()));
    assert!(world.establish());
}

#[test]
fn a_server_that_is_not_trusted_is_refused_by_the_client() {
    let config = Arc::new(ClientConfig {
        verification: ServerVerification::Certificates(vec![vec![1, 2, 3]]),
        ..ClientConfig::default()
    });
    let mut world = World::new(4, server_config(), &config);
    world.settle();
    assert_eq!(world.client.failures, [Error::UntrustedCertificate]);
    // For the server it is a hint worth a log line; the handshake ends by time.
    assert_eq!(
        world.server.alerts,
        [tidegate::dtls::AlertDescription::UnknownCa]
    );
    assert!(world.server.association.as_ref().unwrap().is_handshaking());
    while world.step() {}
    assert!(world.server.association.is_none());
}

/// RFC 5246 section 7.4.3: the signature of the ServerKeyExchange proves the certificate's key. A
/// client that verifies one of several takes an impostor now and then, and only then.
#[test]
fn a_server_without_the_key_of_its_certificate_is_refused_by_the_client() {
    let (shown, own) = (Keys::generate().p256, Keys::generate().p256);
    let own = Arc::into_inner(own).unwrap();
    let impostor = Arc::new(Credentials {
        chain: shown.chain.clone(),
        key: own.key,
    });
    let taken = |verification: ServerVerification| {
        let config = Arc::new(ClientConfig {
            verification,
            ..ClientConfig::default()
        });
        let taken = |&seed: &u64| {
            let mut server = server_config();
            server.credentials = Arc::clone(&impostor);
            let mut world = World::new(seed, server, &config);
            world.settle();
            let taken = world.client.failures.is_empty();
            assert!(taken || world.client.failures == [Error::BadSignature]);
            taken
        };
        (0..40).filter(taken).count()
    };
    let one_in = |every| ServerVerification::OneIn(NonZeroU32::new(every).unwrap());
    let chain = shown.chain.clone();
    assert_eq!(taken(ServerVerification::None), 0);
    assert_eq!(taken(ServerVerification::Certificates(chain)), 0);
    assert_eq!(taken(one_in(1)), 0);
    let taken = taken(one_in(4));
    assert!((20..=36).contains(&taken), "{taken} of 40, about 30 wanted");
}
