use std::sync::Arc;

use super::*;
use crate::dtls::client::ClientConfig;
use crate::dtls::config::Credentials;
use crate::dtls::message::emit_client_hello;

fn server(algorithm: &'static rcgen::SignatureAlgorithm) -> ServerConfig {
    let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    let key = SigningKey::from_der(&key.serialize_der()).unwrap();
    ServerConfig::new(Arc::new(Credentials { chain: vec![], key }))
}

fn choose(client: &ClientConfig, server: &ServerConfig) -> Result<Negotiated, Error> {
    let mut body = vec![];
    emit_client_hello(&mut body, client, &[0; 32], &[]);
    Negotiated::choose(&ClientHello::decode(&body).unwrap(), server, true)
}

impl Negotiated {
    fn pair_and_scheme(&self) -> (Pair, SignatureScheme) {
        match self.exchange {
            KeyExchange::Certificate { pair, scheme, .. } => (pair, scheme),
            KeyExchange::PreSharedKey { .. } => panic!("no certificate: {self:?}"),
        }
    }
}

/// The suite must fit the kind of the server's key, and the curve of its leaf must be offered (RFC
/// 8422 section 5.1), whatever group is used for the exchange.
#[test]
fn the_servers_key_decides_what_fits() {
    let both = ClientConfig {
        cipher_suites: vec![
            CipherSuite::EcdheRsaAes256Gcm,
            CipherSuite::EcdheEcdsaAes128Ccm8,
            CipherSuite::EcdheEcdsaAes128Gcm,
        ],
        groups: vec![NamedGroup::X25519, NamedGroup::Secp256r1],
        ..ClientConfig::default()
    };
    let p256 = server(&rcgen::PKCS_ECDSA_P256_SHA256);
    let chosen = choose(&both, &p256).unwrap();
    assert_eq!(chosen.suite, CipherSuite::EcdheEcdsaAes128Ccm8);
    assert_eq!(chosen.exchange.group().unwrap(), NamedGroup::X25519);
    assert_eq!(chosen.pair_and_scheme().1, SignatureScheme::EcdsaSha256);
    let rsa = server(&rcgen::PKCS_RSA_SHA256);
    let chosen = choose(&both, &rsa).unwrap();
    assert_eq!(chosen.suite, CipherSuite::EcdheRsaAes256Gcm);
    assert_eq!(chosen.pair_and_scheme().1, SignatureScheme::RsaPkcs1Sha256);
    let p384 = server(&rcgen::PKCS_ECDSA_P384_SHA384);
    assert_eq!(choose(&both, &p384), Err(Error::NoCommonParameters));
    let chosen = choose(&ClientConfig::default(), &p384).unwrap();
    assert_eq!(chosen.pair_and_scheme().1, SignatureScheme::EcdsaSha384);
    // An RSA leaf has no curve, so one group is enough.
    let x25519 = ClientConfig {
        groups: vec![NamedGroup::X25519],
        ..both
    };
    assert_eq!(choose(&x25519, &p256), Err(Error::NoCommonParameters));
    assert_eq!(
        choose(&x25519, &rsa).unwrap().exchange.group().unwrap(),
        NamedGroup::X25519
    );
}

/// RFC 5246 section 7.4.2: the certificate's key must fit the suite, and the client must be able to
/// verify with it.
#[test]
fn of_two_certificates_the_client_gets_the_one_that_it_can_verify() {
    let mut both = server(&rcgen::PKCS_ECDSA_P384_SHA384);
    both.second_credentials = Some(server(&rcgen::PKCS_RSA_SHA256).credentials);
    let (ecdsa, rsa) = (
        CipherSuite::EcdheEcdsaAes128Gcm,
        CipherSuite::EcdheRsaAes128Gcm,
    );
    let offer = |suites: &[CipherSuite], groups: &[NamedGroup]| ClientConfig {
        cipher_suites: suites.to_vec(),
        groups: groups.to_vec(),
        ..ClientConfig::default()
    };
    let all = NamedGroup::ALL;
    let chosen =
        |config| choose(&config, &both).map(|chosen| (chosen.suite, chosen.pair_and_scheme().0));
    // The order of the client's suites decides when both would do.
    assert_eq!(chosen(offer(&[ecdsa, rsa], all)), Ok((ecdsa, Pair::First)));
    assert_eq!(chosen(offer(&[rsa, ecdsa], all)), Ok((rsa, Pair::Second)));
    assert_eq!(chosen(offer(&[rsa], all)), Ok((rsa, Pair::Second)));
    assert_eq!(chosen(offer(&[ecdsa], all)), Ok((ecdsa, Pair::First)));
    // A client without the curve of the first cannot verify it.
    let p256 = [NamedGroup::Secp256r1];
    let got = chosen(offer(&[ecdsa, rsa], &p256));
    assert_eq!(got, Ok((rsa, Pair::Second)));
    assert_eq!(
        chosen(offer(&[ecdsa], &p256)),
        Err(Error::NoCommonParameters)
    );
    // Two of one kind: the one on a curve that the client has.
    both.second_credentials = Some(server(&rcgen::PKCS_ECDSA_P256_SHA256).credentials);
    let chosen = choose(&offer(&[ecdsa], &p256), &both).unwrap();
    assert_eq!(chosen.pair_and_scheme().0, Pair::Second);
    assert_eq!(chosen.pair_and_scheme().1, SignatureScheme::EcdsaSha256);
}

#[test]
fn what_is_not_configured_is_not_chosen() {
    let mut config = server(&rcgen::PKCS_ECDSA_P256_SHA256);
    config.groups = vec![NamedGroup::Secp384r1];
    config.cipher_suites = vec![CipherSuite::EcdheEcdsaAes256Ccm8];
    let chosen = choose(&ClientConfig::default(), &config).unwrap();
    assert_eq!(chosen.suite, CipherSuite::EcdheEcdsaAes256Ccm8);
    assert_eq!(chosen.exchange.group().unwrap(), NamedGroup::Secp384r1);
    let p256_only = ClientConfig {
        groups: vec![NamedGroup::Secp256r1],
        ..ClientConfig::default()
    };
    assert_eq!(choose(&p256_only, &config), Err(Error::NoCommonParameters));
    config.cipher_suites = vec![CipherSuite::EcdheRsaAes128Gcm];
    assert_eq!(
        choose(&ClientConfig::default(), &config),
        Err(Error::NoCommonParameters)
    );
}

/// RFC 8442 section 3, RFC 4279 section 2: neither certificate nor signature, and a group with ECDHE
/// only. Without any key in use the suites are not known at all (TB vector 17).
#[test]
fn pre_shared_keys_need_no_certificate_and_a_group_with_ecdhe_only() {
    use crate::crypto::pre_shared_key::PreSharedKey;
    use crate::dtls::client::ClientPreSharedKey;

    let server = server(&rcgen::PKCS_ECDSA_P256_SHA256);
    let offer = |suites: &[CipherSuite], groups: &[NamedGroup]| ClientConfig {
        cipher_suites: suites.to_vec(),
        groups: groups.to_vec(),
        pre_shared_key: Some(Arc::new(ClientPreSharedKey {
            identity: b"device".to_vec(),
            key: PreSharedKey::new(&[7; 16]).unwrap(),
        })),
        ..ClientConfig::default()
    };
    let (plain, ecdhe) = (CipherSuite::PskAes128Ccm8, CipherSuite::EcdhePskAes128Gcm);
    let x25519 = [NamedGroup::X25519];
    let chosen = |suites: &[CipherSuite], groups: &[NamedGroup]| {
        choose(&offer(suites, groups), &server).map(|chosen| (chosen.suite, chosen.exchange))
    };
    let without = KeyExchange::PreSharedKey { group: None };
    let with = KeyExchange::PreSharedKey {
        group: Some(NamedGroup::X25519),
    };
    assert_eq!(chosen(&[plain, ecdhe], &x25519), Ok((plain, without)));
    // The curve of the certificate need not be among the groups.
    assert_eq!(chosen(&[ecdhe, plain], &x25519), Ok((ecdhe, with)));
    let mut narrow = server.clone();
    narrow.groups = vec![NamedGroup::Secp384r1];
    let got = choose(&offer(&[ecdhe, plain], &x25519), &narrow).unwrap();
    assert_eq!((got.suite, got.exchange), (plain, without));
    // The client's order decides between keys and certificates, too.
    let certificate = CipherSuite::EcdheEcdsaAes128Gcm;
    let (suite, exchange) = chosen(&[certificate, plain], NamedGroup::ALL).unwrap();
    assert_eq!(suite, certificate);
    assert!(matches!(exchange, KeyExchange::Certificate { .. }));

    let mut body = vec![];
    emit_client_hello(&mut body, &offer(&[plain], &x25519), &[0; 32], &[]);
    let hello = ClientHello::decode(&body).unwrap();
    let refused = Negotiated::choose(&hello, &server, false);
    assert_eq!(refused, Err(Error::NoCommonParameters));
}
