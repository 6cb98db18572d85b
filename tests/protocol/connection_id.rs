//! Connection ids (RFC 9146) between both ends, over good and bad links.

use std::sync::Arc;

use tidegate::crypto::suite::CipherSuite;
use tidegate::drop_reason::DropReason;
use tidegate::dtls::client::ClientConfig;
use tidegate::dtls::{Association, ResumedBy, ServerConfig, SessionCache, Sessions};
use tidegate::random::{Random, SeededRandom};
use tidegate::time::Duration;

use crate::faults::for_each_seed;
use crate::link::{Faults, World};
use crate::support::server_config;

fn server_with(length: Option<u8>) -> ServerConfig {
    ServerConfig {
        connection_id_length: length,
        ..server_config()
    }
}

fn client_with(id: Option<&[u8]>) -> ClientConfig {
    ClientConfig {
        connection_id: id.map(<[u8]>::to_vec),
        ..ClientConfig::default()
    }
}

/// First bytes and epochs of the records that an end sent, by the lengths in their headers.
fn records(world: &World, from_server: bool, cid_len: usize) -> Vec<(u8, u8)> {
    let mut records = vec![];
    for (_, datagram) in world.log.iter().filter(|(by, _)| *by == from_server) {
        let mut rest = &datagram[..];
        while !rest.is_empty() {
            let at = if rest[0] == 25 { 11 + cid_len } else { 11 };
            records.push((rest[0], rest[4]));
            let length = usize::from(u16::from_be_bytes([rest[at], rest[at + 1]]));
            rest = &rest[at + 2 + length..];
        }
    }
    records
}

/// RFC 9146 section 3: a direction has the new format from the first encrypted record on, if and only
/// if its receiver asked for an id that is not empty; plain records never have it.
#[test]
fn each_direction_has_the_format_that_its_receiver_asked_for() {
    let ids: [Option<&[u8]>; 3] = [None, Some(b""), Some(b"the device's")];
    for length in [None, Some(0), Some(1), Some(8), Some(255)] {
        for id in ids {
            let client = Arc::new(client_with(id));
            let mut world = World::new(1, server_with(length), &client);
            assert!(world.establish(), "{length:?} {id:?}");
            world.send_reading(b"reading");
            world.settle();
            world.send_answer(b"answer");
            world.settle();
            assert_eq!(world.server.readings.len(), 1, "{length:?} {id:?}");
            assert_eq!(world.client.received, [b"answer"], "{length:?} {id:?}");
            let agreed = length.is_some() && id.is_some();
            let to_server = usize::from(length.filter(|_| agreed).unwrap_or(0));
            let to_client = id.filter(|_| agreed).map_or(0, <[u8]>::len);
            assert_eq!(
                world.client.connection.peer_connection_id().len(),
                to_server
            );
            for (from_server, cid_len) in [(false, to_server), (true, to_client)] {
                for (content_type, epoch) in records(&world, from_server, cid_len) {
                    let has_id = content_type == 25;
                    assert_eq!(has_id, epoch > 0 && cid_len > 0, "{length:?} {id:?}");
                }
            }
        }
    }
}

/// Loss, duplication, reordering and corruption, ids of any lengths in both directions, datagrams
/// of any size: the handshake completes once the link works, and no number is used twice.
#[test]
fn handshakes_with_ids_survive_a_bad_link() {
    let server = server_config();
    for_each_seed(200, |seed| {
        let mut dice = SeededRandom::new(seed ^ 0xc1d);
        let mut server = server.clone();
        server.connection_id_length = Some(dice.below(256) as u8);
        server.max_transmission_unit = 64 + dice.below(1200) as usize;
        let client = ClientConfig {
            cipher_suites: vec![CipherSuite::ALL[dice.below(7) as usize]],
            connection_id: Some(vec![7; dice.below(256) as usize]),
            return_routability_check: dice.below(2) == 0,
            // The start of the ClientHello must reach to the end of the cookie.
            max_transmission_unit: 96 + dice.below(1200) as usize,
            ..ClientConfig::default()
        };
        let client = Arc::new(client);
        let mut world = World::new(seed, server, &client);
        world.faults = Faults {
            loss: dice.below(400),
            duplication: dice.below(300),
            corruption: dice.below(100),
            jitter_ms: dice.below(400),
        };
        world.run(Duration::from_secs(6), |world| {
            world.client.connection.is_established() && world.server.is_established()
        });
        world.faults = Faults::default();
        // A corrupted hello may have ended it; then the client begins anew.
        if !world.client.failures.is_empty() || !world.establish() {
            world.cut();
            world.restart_client(&client);
            world.server.association = None;
            assert!(world.establish(), "{:?}", world.client.failures);
        } else {
            world.assert_no_sequence_number_twice();
        }
        world.settle();
        let before = world.server.readings.len();
        world.send_reading(b"reading");
        world.settle();
        assert_eq!(world.server.readings.len(), before + 1);
        world.send_answer(b"answer");
        world.settle();
        assert_eq!(world.client.received.last().unwrap(), b"answer");
    });
}

/// RFC 9146 section 3: negotiated anew in a resumption, with ids of its own.
#[test]
fn a_resumed_session_has_ids_of_its_own() {
    let sessions = Sessions::new(Some(SessionCache::new(10, Duration::from_secs(3600))));
    let sessions = Arc::new(sessions);
    let server = server_with(Some(8));
    let mut client = ClientConfig {
        keep_session: true,
        return_routability_check: true,
        ..client_with(Some(b"first"))
    };
    let mut world = World::new(1, server.clone(), &Arc::new(client.clone()));
    world.server.sessions = Arc::clone(&sessions);
    assert!(world.establish());
    let first = world.client.connection.peer_connection_id().to_vec();
    client.resume = world.client.connection.session().cloned().map(Arc::new);
    client.connection_id = Some(b"another".to_vec());
    for seed in 2..40 {
        let mut world = World::new(seed, server.clone(), &Arc::new(client.clone()));
        world.server.sessions = Arc::clone(&sessions);
        world.faults = Faults {
            loss: 200,
            duplication: 200,
            corruption: 0,
            jitter_ms: 300,
        };
        assert!(world.establish(), "SEED={seed}");
        world.faults = Faults::default();
        world.settle();
        let connection = &world.client.connection;
        assert_eq!(connection.resumed(), Some(ResumedBy::SessionId));
        let id = connection.peer_connection_id().to_vec();
        assert!(id.len() == 8 && id != first);
        assert!(connection.return_routability_check());
        let association = world.server.association.as_ref();
        let ours = association.map(|a| a.local_connection_ids().map(<[u8]>::to_vec).collect());
        assert_eq!(ours, Some(vec![id]));
        world.send_reading(b"reading");
        world.settle();
        assert_eq!(world.server.readings.len(), 1, "SEED={seed}");
        world.send_answer(b"answer");
        world.settle();
        assert_eq!(world.client.received, [b"answer"]);
        world.assert_no_sequence_number_twice();
    }
}

/// RFC 9853 section 3: the server answers rrc only together with connection_id.
#[test]
fn the_check_is_agreed_on_only_with_connection_ids() {
    for (length, agreed) in [(None, false), (Some(0), true), (Some(8), true)] {
        let client = ClientConfig {
            return_routability_check: true,
            ..client_with(Some(b""))
        };
        let mut world = World::new(1, server_with(length), &Arc::new(client));
        assert!(world.establish());
        assert_eq!(world.client.connection.return_routability_check(), agreed);
        let server = world.server.association.as_ref();
        assert_eq!(
            server.map(Association::return_routability_check),
            Some(agreed)
        );
    }
}

/// RFC 9146 section 3: what has no id, or another one, is dropped and changes nothing; so is what
/// comes under the id of a handshake that is not that far.
#[test]
fn records_under_no_id_or_another_are_dropped() {
    let mut world = World::new(1, server_with(Some(8)), &Arc::new(client_with(Some(b""))));
    assert!(world.establish());
    world.settle();
    let record = world.client.seal(b"reading");
    let mut other = record.clone();
    other[11] ^= 1;
    world.deliver_to_server(other);
    assert_eq!(world.server.dropped(DropReason::ConnectionIdUnknown), 1);
    let mut plain = record.clone();
    plain.drain(11..19);
    plain[0] = 23;
    world.deliver_to_server(plain);
    assert_eq!(world.server.dropped(DropReason::ConnectionIdMissing), 1);
    let mut later = record.clone();
    later[4] = 2;
    world.deliver_to_server(later);
    assert_eq!(world.server.dropped(DropReason::RecordEpoch), 1);
    world.deliver_to_server(record);
    assert_eq!(world.server.readings.len(), 1);
}
