//! Handshakes and data over a link that loses, doubles, reorders and corrupts, many seeds each.
//!
//! A failure names its seed; `SEED=<n>` in the environment runs that one alone.

use std::collections::HashSet;
use std::sync::Arc;

use tidegate::crypto::fingerprint::device_fingerprint;
use tidegate::crypto::suite::CipherSuite;
use tidegate::dtls::client::ClientConfig;
use tidegate::random::{Random, SeededRandom};
use tidegate::time::Duration;

use crate::link::{Faults, World};
use crate::support::{credentials, server_config};

/// The seeds to run: `count` of them, or the one in the environment.
fn seeds(count: u64) -> std::ops::Range<u64> {
    match std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
    {
        Some(seed) => seed..seed + 1,
        None => 0..count,
    }
}

/// Runs `test` for each seed and says which one failed.
pub(crate) fn for_each_seed(count: u64, test: impl Fn(u64)) {
    for seed in seeds(count) {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(seed)));
        if let Err(panic) = result {
            eprintln!("failed with SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// RFC 6347 section 4.2.4: whatever is lost, doubled or reordered for the first seconds, the
/// handshake completes once the link works; data arrives at most once and only as it was sent.
#[test]
fn handshakes_survive_loss_duplication_and_reordering() {
    let device = credentials(&rcgen::PKCS_ECDSA_P256_SHA256);
    let server = server_config();
    for_each_seed(400, |seed| {
        let mut dice = SeededRandom::new(seed ^ 0xfa17);
        let with_certificate = dice.below(2) == 0;
        let mut server = server.clone();
        server.max_transmission_unit = 64 + dice.below(1200) as usize;
        let client = ClientConfig {
            credentials: with_certificate.then(|| Arc::clone(&device)),
            cipher_suites: vec![CipherSuite::ALL[dice.below(7) as usize]],
            // The start of the ClientHello must reach to the end of the cookie.
            max_transmission_unit: 96 + dice.below(1200) as usize,
            ..ClientConfig::default()
        };
        let mut world = World::new(seed, server, &Arc::new(client));
        world.faults = Faults {
            loss: dice.below(400),
            duplication: dice.below(300),
            corruption: 0,
            jitter_ms: dice.below(400),
        };
        let faulty = Duration::from_secs(6);
        world.run(faulty, |world| {
            world.client.connection.is_established() && world.server.is_established()
        });
        world.faults = Faults {
            jitter_ms: 20,
            ..Faults::default()
        };
        assert!(
            world.establish(),
            "{:?} {:?}",
            world.client.failures,
            world.server.failures
        );
        let fingerprint = with_certificate.then(|| device_fingerprint(&device.chain[0]));
        assert_eq!(world.server.fingerprint(), fingerprint);
        assert!(world.client.failures.is_empty() && world.server.failures.is_empty());
        exchange_data(&mut world, &mut dice, fingerprint);
        world.assert_no_sequence_number_twice();
    });
}

/// Readings over a bad link: each arrives at most once, unchanged, under its identity.
fn exchange_data(world: &mut World, dice: &mut SeededRandom, fingerprint: Option<[u8; 32]>) {
    world.faults = Faults {
        loss: dice.below(200),
        duplication: dice.below(500),
        corruption: dice.below(300),
        jitter_ms: dice.below(50),
    };
    for reading in 0..40_u32 {
        world.send_reading(&reading.to_be_bytes());
        if dice.below(3) == 0 {
            world.step();
        }
    }
    world.settle();
    let mut seen = HashSet::new();
    for reading in &world.server.readings {
        assert_eq!(reading.fingerprint, fingerprint);
        let number = u32::from_be_bytes(reading.data[..].try_into().unwrap());
        assert!(number < 40 && seen.insert(number), "reading {number} twice");
    }
    world.faults = Faults::default();
    world.send_reading(b"last");
    world.settle();
    assert_eq!(world.server.readings.last().unwrap().data, b"last");
}

/// With bytes changed on the way a handshake may fail, as its messages are not protected. It must
/// fail cleanly, never give a wrong identity, and leave the next client a way in.
#[test]
fn corruption_never_leads_to_a_wrong_session() {
    let device = credentials(&rcgen::PKCS_ECDSA_P256_SHA256);
    let fingerprint = device_fingerprint(&device.chain[0]);
    let server = server_config();
    for_each_seed(300, |seed| {
        let mut dice = SeededRandom::new(seed ^ 0xc0de);
        let config = Arc::new(ClientConfig {
            credentials: Some(Arc::clone(&device)),
            max_transmission_unit: 100 + dice.below(1000) as usize,
            ..ClientConfig::default()
        });
        let mut world = World::new(seed, server.clone(), &config);
        world.faults = Faults {
            loss: dice.below(100),
            duplication: dice.below(200),
            corruption: 100 + dice.below(500),
            jitter_ms: dice.below(100),
        };
        world.run(Duration::from_secs(10), |world| {
            let both = world.client.connection.is_established() && world.server.is_established();
            both || world.client.connection.is_closed()
        });
        if world.server.is_established() {
            assert_eq!(world.server.fingerprint(), Some(fingerprint));
        }
        let both = world.client.connection.is_established() && world.server.is_established();
        if both {
            exchange_data(&mut world, &mut dice, Some(fingerprint));
        }
        world.faults = Faults::default();
        world.cut();
        let before = world.server.established;
        world.restart_client(&config);
        assert!(world.run(Duration::from_secs(60), |world| {
            world.client.connection.is_established() && world.server.established > before
        }));
        assert_eq!(world.server.fingerprint(), Some(fingerprint));
    });
}

/// RFC 6347 section 4.2.4: the last flight is repeated for a client that did not get it.
#[test]
fn a_lost_last_flight_is_sent_again() {
    for seed in 0..20 {
        let mut world = World::new(seed, server_config(), &Arc::new(ClientConfig::default()));
        world.run(Duration::from_secs(5), |world| {
            world.server.is_established()
        });
        assert!(!world.client.connection.is_established());
        // The answer to the client's Finished, several times over, is lost.
        world.cut();
        let lost = seed % 3;
        for _ in 0..lost {
            let sent = world.log.len();
            while world.log.len() < sent + 2 {
                world.step();
            }
            world.cut();
        }
        assert!(world.establish());
        assert_eq!(world.server.established, 1);
        world.send_reading(b"x");
        world.settle();
        assert_eq!(world.server.readings.len(), 1);
        world.assert_no_sequence_number_twice();
    }
}

/// The server is patient for its 30 seconds and four retransmissions, and leaves nothing behind.
#[test]
fn a_silent_client_is_given_up() {
    for (first_ms, retransmissions) in [(1000, 4), (9000, 2)] {
        let mut server = server_config();
        server.retransmission_timeout = Duration::from_millis(first_ms);
        let mut world = World::new(1, server, &Arc::new(ClientConfig::default()));
        world.run(Duration::from_secs(5), |world| {
            world.server.association.is_some()
        });
        let started = world.now;
        world.cut();
        world.faults.loss = 1000;
        // A ServerHello opens each transmission of the flight.
        let is_flight = |datagram: &[u8]| datagram[0] == 22 && datagram[13] == 2;
        while world.server.association.is_some() {
            assert!(world.step());
        }
        let waited = world.now.saturating_duration_since(started);
        assert!(waited <= Duration::from_secs(31), "{waited:?}");
        let flights = world
            .log
            .iter()
            .filter(|(server, datagram)| *server && is_flight(datagram));
        assert_eq!(flights.count(), 1 + retransmissions);
    }
}

/// RFC 6347 section 4.2.4: an end that sees the other's flight again sends its own again, without
/// waiting for its timer: each end here has a timer that would come too late.
#[test]
fn a_repeated_flight_is_answered_by_a_repetition() {
    let slow = Duration::from_secs(20);
    for patient_client in [false, true] {
        let mut server = server_config();
        let mut config = ClientConfig::default();
        if patient_client {
            config.retransmission_timeout = slow;
        } else {
            server.retransmission_timeout = slow;
        }
        let mut world = World::new(5, server, &Arc::new(config));
        // Flight 4 arrives or not; whatever answers it is lost.
        let flight = |world: &World, by_server: bool| {
            world.log.iter().filter(|(by, _)| *by == by_server).count()
        };
        world.run(Duration::from_secs(5), |world| flight(world, true) == 2);
        if patient_client {
            world.run(Duration::from_secs(5), |world| flight(world, false) == 3);
        }
        world.cut();
        let lost_at = world.now;
        assert!(world.establish());
        let waited = world.now.saturating_duration_since(lost_at);
        assert!(waited < Duration::from_secs(3), "{waited:?}");
    }
}
