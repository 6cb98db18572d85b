//! Attacks on the order of messages and on who is believed.

use std::sync::Arc;

use tidegate::dtls::client::ClientConfig;
use tidegate::dtls::{AlertDescription, Credentials, Error};
use tidegate::endpoint::Port;
use tidegate::metrics::Counter;
use tidegate::time::Duration;

use crate::link::World;
use crate::site::{Site, address};
use crate::support::{credentials, server_config};
use crate::wire::{assert_alive, change_messages, hello_cookie, is_hello_verify, relay};

const SERVER_KEY_EXCHANGE: u8 = 12;

/// A client with a certificate of one key and the private key of another.
fn impostor() -> Arc<ClientConfig> {
    let [own, stolen] = [0, 1].map(|_| credentials(&rcgen::PKCS_ECDSA_P256_SHA256));
    let own = Arc::into_inner(own).expect("nobody else has it");
    Arc::new(ClientConfig {
        credentials: Some(Arc::new(Credentials {
            chain: stolen.chain.clone(),
            key: own.key,
        })),
        ..ClientConfig::default()
    })
}

/// Californium CVE-2020-27222: a handshake that fails at its certificate leaves nothing behind, for
/// the same address or for others.
#[test]
fn a_failed_certificate_handshake_leaves_nothing_behind() {
    let mut site = Site::new(|_| ());
    let honest = Arc::new(ClientConfig::default());
    let failed = site.visit(address(5), &impostor());
    assert!(failed.connection.is_closed());
    assert_eq!(site.count(Counter::Sessions), 0);
    for port in [5, 6] {
        let mut visitor = site.visit(address(port), &honest);
        assert!(visitor.connection.is_established() && site.serves(&mut visitor));
    }
    // Beside a session, too: that one stays.
    let mut visitor = site.visit(address(7), &honest);
    assert!(site.visit(address(7), &impostor()).connection.is_closed());
    assert!(site.serves(&mut visitor));
}

/// Californium CVE-2022-39368: handshakes that all fail, by an error or by silence, give back what
/// they counted.
#[test]
fn failing_handshakes_give_everything_back() {
    let mut site = Site::new(|settings| {
        settings.handshakes_max = 3;
        settings.sessions_max = 8;
    });
    let impostor = impostor();
    let honest = Arc::new(ClientConfig::default());
    let mut silent = 0;
    for round in 0..300 {
        let port = 1000 + round;
        match round % 3 {
            0 => drop(site.visit(address(port), &impostor)),
            1 => {
                // Says no more after its cookie, which another shard of the server gave it.
                let mut other = Site::new(|_| ());
                other.now = site.now;
                let sent = other.visit(address(port), &honest).sent;
                let before = site.count(Counter::HandshakesOpen);
                site.deliver(address(port), Port::Secure, &sent[1]);
                silent += site.count(Counter::HandshakesOpen) - before;
            }
            _ => {
                let left = site.wait(Duration::from_secs(60));
                assert!(!left.is_empty(), "flights are repeated");
            }
        }
        assert!(site.count(Counter::HandshakesOpen) <= 3);
        assert!(site.count(Counter::Sessions) <= 8);
    }
    assert_eq!(silent, 100);
    assert_eq!(site.count(Counter::HandshakesRefused), 100);
    site.wait(Duration::from_secs(90_000));
    assert_eq!(site.count(Counter::HandshakesOpen), 0);
    assert_eq!(site.count(Counter::Sessions), 0);
    let mut visitor = site.visit(address(5), &honest);
    assert!(site.serves(&mut visitor));
}

/// Californium CVE-2021-34433: our client does without neither the server's key exchange nor its
/// signature.
#[test]
fn a_server_without_a_signed_key_exchange_is_refused() {
    type Change = fn(&mut Vec<u8>) -> bool;
    let changes: [Change; 3] = [
        |_| false,
        |body| {
            let last = body.len() - 1;
            body[last] ^= 1;
            true
        },
        // The signature's length, and the signature, are gone.
        |body| {
            body.truncate(4 + usize::from(body[3]) + 2);
            body.extend_from_slice(&[0, 0]);
            true
        },
    ];
    for change in changes {
        let mut world = World::new(1, server_config(), &Arc::new(ClientConfig::default()));
        relay(&mut world, |by_server, datagram| {
            if !by_server {
                return vec![datagram];
            }
            let mut gone = 0;
            vec![change_messages(&datagram, |mut message| {
                if message.message_type == SERVER_KEY_EXCHANGE {
                    if !change(&mut message.body) {
                        gone = 1;
                        return None;
                    }
                    message.length = u32::try_from(message.body.len()).expect("short");
                    message.fragment_length = message.length;
                }
                message.message_seq -= gone;
                Some(message)
            })]
        });
        assert!(world.client.connection.is_closed(), "the client goes on");
        assert!(!world.server.is_established());
    }
}

/// Californium CVE-2022-2576: a session to resume, known or not, is no way around the cookie.
#[test]
fn a_session_to_resume_is_no_cookie() {
    for session_tickets in [true, false] {
        let first = ClientConfig {
            keep_session: true,
            session_tickets,
            ..ClientConfig::default()
        };
        let mut site = Site::new(|_| ());
        let visitor = site.visit(address(5), &Arc::new(first.clone()));
        let session = visitor.connection.session().expect("a session").clone();
        let resuming = Arc::new(ClientConfig {
            resume: Some(Arc::new(session)),
            ..first
        });
        let again = site.visit(address(6), &resuming);
        assert!(again.connection.resumed().is_some());
        // Each first hello, which has the session, and each second one from elsewhere.
        for (port, hello) in [(7, &again.sent[0]), (8, &again.sent[1])] {
            let before = site.count(Counter::HandshakesStarted);
            let answers = site.deliver(address(port), Port::Secure, hello);
            assert!(answers.len() == 1 && is_hello_verify(&answers[0].1));
            assert!(answers[0].1.len() <= hello.len());
            assert_eq!(site.count(Counter::HandshakesStarted), before);
        }
        assert_eq!(hello_cookie(&again.sent[1]), Some(true));

        // A server that does not know the session makes a full handshake, through the cookie.
        let mut other = Site::new(|settings| settings.sessions.set_ticket_keys(None));
        let visitor = other.visit(address(5), &resuming);
        assert!(visitor.connection.is_established() && visitor.connection.resumed().is_none());
        assert_eq!(hello_cookie(&visitor.sent[0]), Some(false));
        assert_eq!(hello_cookie(&visitor.sent[1]), Some(true));
    }
}

/// SLOTH: MD5 and SHA-1 sign nothing. A client that knows no better is refused.
#[test]
fn weak_hashes_sign_nothing() {
    let config = Arc::new(ClientConfig::default());
    for weak in [[1, 3], [2, 3], [1, 1], [2, 1]] {
        let mut world = World::new(1, server_config(), &config);
        relay(&mut world, |by_server, datagram| {
            if by_server {
                return vec![datagram];
            }
            vec![change_messages(&datagram, |mut message| {
                if message.message_type == 1 {
                    replace_signature_algorithms(&mut message.body, weak);
                }
                Some(message)
            })]
        });
        assert_eq!(world.server.failures, [Error::NoCommonParameters]);
        assert!(!world.client.connection.is_established());
    }
}

/// All of the extension signature_algorithms (13) become `algorithm`.
fn replace_signature_algorithms(hello: &mut [u8], algorithm: [u8; 2]) {
    let skip = |hello: &[u8], at: usize, width: usize| {
        let length = hello[at..at + width]
            .iter()
            .fold(0, |n, &byte| n << 8 | usize::from(byte));
        at + width + length
    };
    // Version and random, then session id, cookie, suites, compression methods, extensions.
    let mut at = skip(hello, 34, 1);
    at = skip(hello, at, 1);
    at = skip(hello, at, 2);
    at = skip(hello, at, 1) + 2;
    while hello[at..at + 2] != [0, 13] {
        at = skip(hello, at + 2, 2);
    }
    let end = skip(hello, at + 2, 2);
    for pair in hello[at + 6..end].chunks_mut(2) {
        pair.copy_from_slice(&algorithm);
    }
}

/// OpenSSL CVE-2024-13176, Java CVE-2022-21449: whoever signs and verifies is AWS-LC; no crate with
/// arithmetic of its own is linked.
#[test]
fn nobody_else_signs() {
    let lock = include_str!("../../Cargo.lock");
    let is_named = |name: &str| lock.contains(&format!("name = \"{name}\""));
    assert!(is_named("aws-lc-rs"));
    let manifest = include_str!("../../Cargo.toml");
    let dependencies = manifest
        .split("[dependencies]")
        .nth(1)
        .expect("dependencies");
    let dependencies = dependencies.split("\n[").next().expect("their end");
    for name in [
        "p256",
        "p384",
        "ecdsa",
        "rsa",
        "ed25519-dalek",
        "ring",
        "openssl",
    ] {
        let listed = dependencies
            .lines()
            .any(|line| line.starts_with(&format!("{name} ")));
        assert!(!listed, "{name} signs or verifies");
    }
}

/// pion CVE-2022-29222, JSSE CVE-2020-2655, wolfSSL CVE-2026-2645: a certificate is worth nothing
/// without the proof of its key, in its place: each message of the last flight left out.
#[test]
fn a_certificate_without_its_proof_is_nobody() {
    const CERTIFICATE_VERIFY: u8 = 15;
    const CLIENT_KEY_EXCHANGE: u8 = 16;
    for left_out in [CERTIFICATE_VERIFY, CLIENT_KEY_EXCHANGE] {
        let config = ClientConfig {
            credentials: Some(credentials(&rcgen::PKCS_ECDSA_P256_SHA256)),
            ..ClientConfig::default()
        };
        let mut world = World::new(1, server_config(), &Arc::new(config));
        relay(&mut world, |by_server, datagram| {
            if by_server {
                return vec![datagram];
            }
            let mut gone = 0;
            vec![change_messages(&datagram, |mut message| {
                if message.message_type == left_out {
                    gone = 1;
                    return None;
                }
                message.message_seq -= gone;
                Some(message)
            })]
        });
        assert!(!world.server.is_established());
        assert_eq!(world.server.fingerprint(), None);
    }
    // The relay itself does no harm.
    let config = ClientConfig {
        credentials: Some(credentials(&rcgen::PKCS_ECDSA_P256_SHA256)),
        ..ClientConfig::default()
    };
    let mut world = World::new(1, server_config(), &Arc::new(config));
    relay(&mut world, |_, datagram| {
        vec![change_messages(&datagram, Some)]
    });
    assert!(world.server.fingerprint().is_some());
    assert_alive(&mut world);
    let alert = AlertDescription::HandshakeFailure;
    assert!(!world.client.failures.contains(&Error::PeerAlert(alert)));
}
