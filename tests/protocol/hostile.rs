//! What anyone who can send from any address may try (cases and rules of the known attacks).

use std::sync::Arc;

use tidegate::crypto::fingerprint::device_fingerprint;
use tidegate::crypto::suite::CipherSuite;
use tidegate::drop_reason::DropReason;
use tidegate::dtls::client::ClientConfig;
use tidegate::dtls::{AlertDescription, Credentials, Error};
use tidegate::random::{Random, SeededRandom};
use tidegate::time::Duration;

use crate::link::{PEER, Reading, World};
use crate::support::{credentials, server_config};

fn client() -> Arc<ClientConfig> {
    Arc::new(ClientConfig::default())
}

fn client_with(credentials: &Arc<Credentials>) -> Arc<ClientConfig> {
    let credentials = Some(Arc::clone(credentials));
    Arc::new(ClientConfig {
        credentials,
        ..ClientConfig::default()
    })
}

fn established() -> World {
    let mut world = World::new(1, server_config(), &client());
    assert!(world.establish());
    world.settle();
    world
}

/// The session still carries data.
#[track_caller]
fn assert_alive(world: &mut World) {
    let before = world.server.readings.len();
    world.send_reading(b"alive");
    world.settle();
    assert_eq!(world.server.readings.len(), before + 1);
    world.send_answer(b"alive");
    world.settle();
    assert_eq!(world.client.received.last().unwrap(), b"alive");
}

/// A datagram of one record of epoch 0.
fn plain(content_type: u8, sequence: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![content_type, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, sequence];
    out.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// The client's datagrams so far.
fn from_client(world: &World) -> Vec<Vec<u8>> {
    let by_client = world.log.iter().filter(|(by_server, _)| !by_server);
    by_client.map(|(_, datagram)| datagram.clone()).collect()
}

fn is_hello_verify(datagram: &[u8]) -> bool {
    datagram[0] == 22 && datagram[13] == 3
}

/// RFC 6347 section 4.2.1: a cookie is worth nothing from another address, in another ClientHello,
/// or after its time; the answer is a fresh HelloVerifyRequest and no state.
#[test]
fn a_cookie_belongs_to_its_address_its_hello_and_its_time() {
    let mut world = World::new(1, server_config(), &client());
    assert!(world.run(Duration::from_secs(5), |world| {
        world.server.association.is_some()
    }));
    let hello = from_client(&world).pop().unwrap();
    let before = world.server.association.take();
    let refused = |world: &mut World, peer: &[u8], datagram: Vec<u8>| {
        let invalid = world.server.dropped(DropReason::CookieInvalid);
        let answers = world.deliver_from(peer, datagram);
        assert!(answers.len() == 1 && is_hello_verify(&answers[0]));
        assert!(world.server.association.is_none());
        assert_eq!(world.server.dropped(DropReason::CookieInvalid), invalid + 1);
    };
    refused(&mut world, b"192.0.2.8:4711", hello.clone());
    refused(&mut world, b"192.0.2.7:4712", hello.clone());
    let mut other_random = hello.clone();
    other_random[13 + 12 + 2] ^= 1;
    refused(&mut world, PEER, other_random);
    world.unix_ms += 120_000;
    refused(&mut world, PEER, hello.clone());
    world.unix_ms -= 120_000;
    world.deliver_from(PEER, hello);
    assert!(world.server.association.is_some());
    drop(before);
}

/// Before the cookie the server is silent to all but a ClientHello, and its answer never is longer
/// than the question (checked in `link`).
#[test]
fn noise_at_the_door_makes_neither_state_nor_answers() {
    let mut world = World::new(1, server_config(), &client());
    let hello = from_client(&world).pop().unwrap();
    world.cut();
    let mut random = SeededRandom::new(3);
    let mut answered = 0;
    for round in 0..60_000 {
        let mut datagram = if round % 2 == 0 {
            hello.clone()
        } else {
            let mut noise = vec![0; random.below(200) as usize];
            random.fill(&mut noise);
            noise
        };
        for _ in 0..random.below(4) {
            if !datagram.is_empty() {
                let at = random.below(datagram.len() as u64) as usize;
                datagram[at] = random.next_u64() as u8;
            }
        }
        if random.below(4) == 0 {
            datagram.truncate(random.below(datagram.len() as u64 + 1) as usize);
        }
        let answers = world.deliver_from(PEER, datagram);
        answered += answers.len();
        assert!(answers.iter().all(|answer| is_hello_verify(answer)));
        assert!(world.server.association.is_none());
    }
    assert!(answered > 10_000);
}

/// A handshake or a session survives any noise in its name.
#[test]
fn noise_does_not_end_a_session() {
    let mut world = established();
    let seen = from_client(&world);
    let mut random = SeededRandom::new(4);
    for _ in 0..60_000 {
        let mut datagram = seen[random.below(seen.len() as u64) as usize].clone();
        for _ in 0..=random.below(3) {
            let at = random.below(datagram.len() as u64) as usize;
            datagram[at] = random.next_u64() as u8;
        }
        world.deliver_from(PEER, datagram);
        assert!(world.server.is_established());
    }
    assert_eq!(world.server.established, 1);
    assert!(world.server.readings.is_empty());
    assert_alive(&mut world);
}

/// RFC 6347 section 4.1.2.6: every datagram again, in any order, has no effect.
#[test]
fn replays_have_no_effect() {
    let mut world = established();
    for number in 0..100_u8 {
        world.send_reading(&[number]);
    }
    world.settle();
    assert_eq!(world.server.readings.len(), 100);
    let mut seen = from_client(&world);
    seen.reverse();
    for datagram in seen {
        world.deliver_from(PEER, datagram);
    }
    assert_eq!(world.server.readings.len(), 100);
    assert_eq!(world.server.established, 1);
    assert!(!world.server.association.as_ref().unwrap().is_handshaking());
    assert_alive(&mut world);
}

/// RFC 6347 section 4.1.2.7: a forged record is dropped and counted.
#[test]
fn forged_records_are_dropped() {
    let mut world = established();
    let record = world.client.seal(b"reading");
    for at in 0..record.len() {
        let mut forged = record.clone();
        forged[at] ^= 1;
        world.deliver_from(PEER, forged);
    }
    assert!(world.server.readings.is_empty());
    world.deliver_from(PEER, record);
    assert_eq!(world.server.readings.len(), 1);
    assert!(world.server.dropped(DropReason::RecordForged) > 20);
}

/// CCM_8 has a tag of 64 bits: its forgeries are limited; GCM takes any number of this size.
#[test]
fn forgeries_end_a_session_with_short_tags() {
    let run = |suite| {
        let config = ClientConfig {
            cipher_suites: vec![suite],
            ..ClientConfig::default()
        };
        let mut world = World::new(1, server_config(), &Arc::new(config));
        assert!(world.establish());
        let mut forged = world.client.seal(b"");
        *forged.last_mut().unwrap() ^= 1;
        for _ in 0..(1 << 16) - 1 {
            world.deliver_from(PEER, forged.clone());
        }
        assert!(world.server.is_established());
        let answers = world.deliver_from(PEER, forged);
        (world, answers)
    };
    let (mut world, answers) = run(CipherSuite::EcdheEcdsaAes128Ccm8);
    assert_eq!(world.server.failures, [Error::TooManyForgeries]);
    assert!(world.server.association.is_none());
    world.deliver_to_client(answers.concat());
    let alert = AlertDescription::BadRecordMac;
    assert_eq!(world.client.failures, [Error::PeerAlert(alert)]);
    let (mut world, _) = run(CipherSuite::EcdheEcdsaAes128Gcm);
    assert_alive(&mut world);
}

/// tinydtls CVE-2021-42142, OpenSSL CVE-2016-2181: records of other epochs change nothing.
#[test]
fn records_of_other_epochs_are_dropped() {
    let mut world = established();
    for epoch in [2_u16, 3, 1000, u16::MAX] {
        for content_type in 20..=23 {
            let mut record = world.client.seal(b"x");
            record[0] = content_type;
            record[3..5].copy_from_slice(&epoch.to_be_bytes());
            world.deliver_from(PEER, record);
        }
    }
    assert_eq!(world.server.dropped(DropReason::RecordEpoch), 16);
    assert_alive(&mut world);
}

/// Alerts in the clear: of no effect on a session, a hint to a handshake.
#[test]
fn alerts_in_the_clear_end_nothing() {
    let mut world = established();
    for alert in [[1, 0], [2, 0], [2, 40], [2, 48], [1, 100]] {
        assert!(world.deliver_from(PEER, plain(21, 9, &alert)).is_empty());
    }
    assert_eq!(world.server.dropped(DropReason::AlertUnauthenticated), 5);
    assert_alive(&mut world);

    // During the handshake: the client knows nothing of it and goes on.
    let mut world = World::new(1, server_config(), &client());
    assert!(world.run(Duration::from_secs(5), |world| {
        world.server.association.is_some()
    }));
    world.deliver_from(PEER, plain(21, 9, &[2, 40]));
    assert!(world.establish());
    assert_alive(&mut world);

    // If it was true, nothing more is sent and the memory is back soon.
    let mut world = World::new(1, server_config(), &client());
    assert!(world.run(Duration::from_secs(5), |world| {
        world.server.association.is_some()
    }));
    world.faults.loss = 1000;
    world.cut();
    let sent = world.log.len();
    world.deliver_from(PEER, plain(21, 9, &[2, 40]));
    let alerted = world.now;
    while world.server.association.is_some() {
        world.step();
    }
    assert_eq!(
        world.now.saturating_duration_since(alerted),
        Duration::from_secs(1)
    );
    assert!(world.log[sent..].iter().all(|(by_server, _)| !by_server));
}

/// close_notify counts only under the keys, and once: a recorded one does not end the next session.
#[test]
fn a_close_notify_of_an_old_session_does_not_end_the_new_one() {
    let mut world = established();
    world.close_client();
    let close = from_client(&world).pop().unwrap();
    world.settle();
    assert!(world.server.association.is_none() && world.server.failures.is_empty());
    world.restart_client(&client());
    assert!(world.establish());
    world.settle();
    world.deliver_from(PEER, close);
    assert_alive(&mut world);
}

/// wolfSSL CVE-2020-12457: at most 16 records of a datagram are looked at.
#[test]
fn records_of_one_datagram_are_limited() {
    let mut world = established();
    let records: Vec<Vec<u8>> = (0..20).map(|number| world.client.seal(&[number])).collect();
    world.deliver_from(PEER, records.concat());
    let read: Vec<u8> = world
        .server
        .readings
        .iter()
        .map(|reading| reading.data[0])
        .collect();
    assert_eq!(read, (0..16).collect::<Vec<u8>>());
    assert_eq!(world.server.dropped(DropReason::RecordsPerDatagram), 1);
    world.deliver_from(PEER, plain(20, 1, &[1]).repeat(1000));
    assert_alive(&mut world);
}

/// Mbed TLS (2020, reuse of ports): a ClientHello, even one with a valid cookie, leaves the session
/// in place until its Finished is right; then all belongs to the new identity.
#[test]
fn a_new_handshake_replaces_a_session_only_once_it_is_proven() {
    let (old, new) = (
        credentials(&rcgen::PKCS_ECDSA_P256_SHA256),
        credentials(&rcgen::PKCS_ECDSA_P256_SHA256),
    );
    let [old_fingerprint, new_fingerprint] =
        [&old, &new].map(|device| Some(device_fingerprint(&device.chain[0])));
    let mut world = World::new(1, server_config(), &client_with(&old));
    assert!(world.establish());
    world.settle();
    let mut records: Vec<Vec<u8>> = (0..20)
        .map(|number| world.client.seal(&[number]))
        .rev()
        .collect();
    let mut old_reading = |world: &mut World| {
        let before = world.server.readings.len();
        world.deliver_from(PEER, records.pop().unwrap());
        world.server.readings[before..].to_vec()
    };
    let last_old_record = world.client.seal(b"old");

    world.restart_client(&client_with(&new));
    // Up to the new client's last flight, which is held back.
    while !from_client(&world)
        .last()
        .unwrap()
        .windows(13)
        .any(|w| w[..3] == [20, 254, 253])
    {
        assert!(world.step());
        let readings = old_reading(&mut world);
        assert!(
            readings
                .iter()
                .all(|reading| reading.fingerprint == old_fingerprint)
        );
        assert_eq!(
            readings.len(),
            1,
            "the old session lives beside the handshake"
        );
    }
    assert!(world.server.association.as_ref().unwrap().is_handshaking());
    world.cut();
    let flight_5 = from_client(&world).pop().unwrap();

    // One datagram: a record of the old session, then the proof of the new one.
    let before = world.server.readings.len();
    let datagram = [last_old_record, flight_5].concat();
    let answers = world.deliver_from(PEER, datagram);
    assert_eq!(world.server.established, 2);
    assert_eq!(world.server.fingerprint(), new_fingerprint);
    assert_eq!(
        world.server.readings.len(),
        before,
        "nothing old under the new identity"
    );
    for answer in answers {
        world.deliver_to_client(answer);
    }
    assert!(old_reading(&mut world).is_empty());
    world.send_reading(b"new");
    world.settle();
    let expected = Reading {
        fingerprint: new_fingerprint,
        data: b"new".to_vec(),
    };
    assert_eq!(world.server.readings.last(), Some(&expected));
}

/// A second handshake from one address before the first is done: the one that finishes is served.
#[test]
fn a_client_that_starts_over_in_mid_handshake_gets_in() {
    for steps in 0..8 {
        let mut world = World::new(1, server_config(), &client());
        for _ in 0..steps {
            world.step();
        }
        world.cut();
        world.restart_client(&client());
        assert!(world.establish());
        assert_alive(&mut world);
    }
}

/// Late copies of the ClientHello that made the session start nothing.
#[test]
fn a_late_copy_of_the_client_hello_starts_no_handshake() {
    let mut world = established();
    for datagram in from_client(&world) {
        let answers = world.deliver_from(PEER, datagram.clone());
        let first = datagram[0] == 22 && datagram[13] == 1;
        assert!(
            answers
                .iter()
                .all(|answer| first && is_hello_verify(answer))
        );
        assert!(!world.server.association.as_ref().unwrap().is_handshaking());
    }
    assert_alive(&mut world);
}

/// When the budget is spent a ClientHello with a valid cookie is dropped; sessions go on.
#[test]
fn a_spent_budget_delays_handshakes_and_nothing_else() {
    let mut world = World::new(1, server_config(), &client());
    world.server.admit = false;
    world.run(Duration::from_secs(3), |_| false);
    assert!(world.server.association.is_none());
    assert!(world.server.dropped(DropReason::HandshakeBudget) >= 2);
    world.server.admit = true;
    assert!(world.establish(), "the client's own timer is the retry");
    world.server.admit = false;
    assert_alive(&mut world);
}

/// A repeated ClientHello does not make the server send its flight at will.
#[test]
fn repetitions_of_the_hello_are_answered_at_a_limited_rate() {
    let mut world = World::new(1, server_config(), &client());
    assert!(world.run(Duration::from_secs(5), |world| {
        world.server.association.is_some()
    }));
    let hello = from_client(&world).pop().unwrap();
    let mut answers = 0;
    for _ in 0..1000 {
        answers += world.deliver_from(PEER, hello.clone()).len();
    }
    assert_eq!(answers, 0, "all within the first 200 ms");
}
