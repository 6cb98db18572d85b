//! What the ends agree on beside suites: the length of records, the server's name, and how many
//! forgeries a session bears.

use std::sync::Arc;

use tidegate::drop_reason::DropReason;
use tidegate::dtls::client::ClientConfig;
use tidegate::dtls::{Association, MaxFragmentLength, RECORDS_PER_DATAGRAM_MAX, ServerConfig};

use crate::link::World;
use crate::support::server_config;

fn world(client: ClientConfig, change: impl FnOnce(&mut ServerConfig)) -> World {
    let mut server = server_config();
    change(&mut server);
    let mut world = World::new(1, server, &Arc::new(client));
    assert!(world.establish());
    world
}

/// The longest plaintext that the server's end seals.
fn longest_sealed(association: &mut Association) -> usize {
    let (prefix, suffix) = association.record_overhead();
    let mut seals = |length| {
        let mut record = vec![0; prefix + length + suffix];
        association.seal_application_data(&mut record).is_ok()
    };
    let (mut fits, mut too_long) = (0, (1 << 14) + 1);
    while too_long - fits > 1 {
        let middle = usize::midpoint(fits, too_long);
        if seals(middle) {
            fits = middle;
        } else {
            too_long = middle;
        }
    }
    fits
}

/// RFC 8449 section 4: each end MUST NOT send more plaintext in a record than the other takes.
#[test]
fn record_size_limit_binds_both_directions() {
    let client = ClientConfig {
        record_size_limit: Some(100),
        ..ClientConfig::default()
    };
    let mut world = world(client, |server| server.record_size_limit = 200);
    let association = world.server.association.as_mut().unwrap();
    assert_eq!(longest_sealed(association), 100);
    world.send_reading(&[7; 200]);
    world.settle();
    assert_eq!(world.server.readings.len(), 1);
    let connection = &mut world.client.connection;
    let (prefix, suffix) = connection.record_overhead();
    let mut record = vec![0; prefix + 201 + suffix];
    assert!(connection.seal_application_data(&mut record).is_err());
}

/// Section 4: the protocol's own limit is the most that counts, whatever a client of a later version
/// says; without the extension nothing changes.
#[test]
fn record_size_limit_is_of_effect_only_where_it_was_asked_for() {
    let mut without = world(ClientConfig::default(), |server| {
        server.record_size_limit = 200;
    });
    let association = without.server.association.as_mut().unwrap();
    assert_eq!(longest_sealed(association), 1 << 14);
    let client = ClientConfig {
        record_size_limit: Some(u16::MAX),
        ..ClientConfig::default()
    };
    let mut high = world(client, |_| {});
    let association = high.server.association.as_mut().unwrap();
    assert_eq!(longest_sealed(association), 1 << 14);
}

/// RFC 8449 section 5: a server that knows record_size_limit MUST ignore max_fragment_length beside
/// it. (The client ends a handshake in which both are answered.)
#[test]
fn record_size_limit_takes_the_place_of_max_fragment_length() {
    let client = ClientConfig {
        record_size_limit: Some(1000),
        max_fragment_length: Some(MaxFragmentLength::Bytes512),
        ..ClientConfig::default()
    };
    let mut world = world(client, |_| {});
    let association = world.server.association.as_mut().unwrap();
    assert_eq!(longest_sealed(association), 1000);
}

/// RFC 6066 section 3: acknowledged by an empty extension, which the client takes because it asked.
#[test]
fn a_server_name_is_accepted_and_acknowledged() {
    let client = ClientConfig {
        server_name: Some("coap.example.org".to_owned()),
        ..ClientConfig::default()
    };
    let mut world = world(client, |_| {});
    world.send_reading(b"reading");
    world.settle();
    assert_eq!(world.server.readings.len(), 1);
}

/// Forged records in the peer's name neither end its session soon nor shut it out.
#[test]
fn a_session_under_forgery_goes_on() {
    let suites = vec![tidegate::crypto::suite::CipherSuite::EcdheEcdsaAes128Ccm8];
    let client = ClientConfig {
        cipher_suites: suites,
        ..ClientConfig::default()
    };
    let mut world = world(client, |_| {});
    let template = world.client.seal(b"reading");
    // A forger who does not see the traffic guesses: more records than CCM_8 bears forgeries.
    for guess in 0..70_000_u64 {
        let mut forged = template.clone();
        let sequence = (guess * 0x9e37_79b9) & 0xffff_ffff;
        forged[5..11].copy_from_slice(&sequence.to_be_bytes()[2..]);
        forged[20] ^= 0x55;
        world.deliver_to_server(forged);
        if guess % 10_000 == 0 {
            world.send_reading(b"true");
            world.settle();
        }
    }
    assert!(world.server.association.as_ref().unwrap().is_established());
    assert_eq!(world.server.readings.len(), 7, "every true record was read");
    let count = |reason| world.server.drops.get(&reason).copied().unwrap_or_default();
    assert!(count(DropReason::RecordForged) < 2000);
    assert!(count(DropReason::RecordImplausible) > 60_000);
}

/// Sixteen records of a datagram are opened, whatever else it holds.
#[test]
fn records_of_a_datagram_are_capped() {
    let mut world = world(ClientConfig::default(), |_| {});
    let datagram: Vec<u8> = (0..40).flat_map(|_| world.client.seal(b"x")).collect();
    world.deliver_to_server(datagram);
    assert_eq!(world.server.readings.len(), RECORDS_PER_DATAGRAM_MAX);
    assert_eq!(world.server.drops[&DropReason::RecordsPerDatagram], 1);
}
