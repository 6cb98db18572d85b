//! Messages cut small (RFC 6347 section 4.1.1.1 and 4.2.3).

use std::sync::Arc;

use tidegate::dtls::Credentials;
use tidegate::dtls::client::ClientConfig;
use tidegate::time::Duration;

use crate::link::World;
use crate::support::{credentials, padded_credentials, server_config};

fn client(mtu: usize, credentials: Option<Arc<Credentials>>) -> Arc<ClientConfig> {
    Arc::new(ClientConfig {
        credentials,
        max_transmission_unit: mtu,
        ..ClientConfig::default()
    })
}

#[test]
fn both_ends_work_at_any_datagram_size() {
    let device = credentials(&rcgen::PKCS_ECDSA_P384_SHA384);
    for mtu in (64..120).chain([200, 256, 511, 512, 513, 1024, 1472, 9000]) {
        let mut server = server_config();
        server.max_transmission_unit = mtu;
        // Below 87 bytes the first piece of a ClientHello cannot hold the cookie.
        let mut world = World::new(7, server, &client(mtu.max(93), Some(Arc::clone(&device))));
        assert!(world.establish(), "datagrams of {mtu}");
        assert!(world.server.fingerprint().is_some());
        for (by_server, datagram) in &world.log {
            assert!(datagram.len() <= if *by_server { mtu } else { mtu.max(93) });
        }
    }
}

/// The smallest piece that reaches to the end of the cookie is enough; one byte less is not, and
/// leaves no state.
#[test]
fn the_first_piece_must_reach_to_the_end_of_the_cookie() {
    let enough = 13 + 12 + 2 + 32 + 1 + 1 + 16;
    let mut world = World::new(7, server_config(), &client(enough, None));
    assert!(world.establish());
    let mut world = World::new(7, server_config(), &client(enough - 1, None));
    assert!(!world.establish());
    assert!(world.server.association.is_none());
}

/// Large chains in both directions, reassembled up to 8192 bytes (TB 3.1).
#[test]
fn long_chains_pass_and_overlong_ones_do_not() {
    for (length, passes) in [(4000, true), (8000, true), (8300, false)] {
        let mut server = server_config();
        server.credentials = padded_credentials(6000);
        let device = padded_credentials(length);
        let mut world = World::new(8, server, &client(1200, Some(device)));
        assert_eq!(world.establish(), passes, "{length}");
    }
}

/// After two retransmissions the path may swallow large datagrams: they shrink to 512 bytes.
#[test]
fn a_path_that_swallows_large_datagrams_is_survived() {
    let mut server = server_config();
    server.credentials = padded_credentials(2000);
    server.max_transmission_unit = 1400;
    let mut world = World::new(9, server, &client(512, None));
    world.longest_datagram = 600;
    assert!(world.run(Duration::from_secs(30), |world| {
        world.server.is_established()
    }));
}

/// RFC 6066 section 4, TB 3.4: a client that asks for short records gets no longer ones, in the
/// handshake and afterwards.
#[test]
fn a_client_with_little_memory_gets_short_records() {
    use tidegate::dtls::MaxFragmentLength;
    for (length, limit) in [
        (MaxFragmentLength::Bytes512, 512),
        (MaxFragmentLength::Bytes1024, 1024),
        (MaxFragmentLength::Bytes2048, 2048),
        (MaxFragmentLength::Bytes4096, 4096),
    ] {
        let mut server = server_config();
        server.credentials = padded_credentials(6000);
        server.max_transmission_unit = 9000;
        let config = ClientConfig {
            credentials: Some(padded_credentials(5000)),
            max_transmission_unit: 9000,
            max_fragment_length: Some(length),
            ..ClientConfig::default()
        };
        let mut world = World::new(10, server, &Arc::new(config));
        assert!(world.establish());
        let mut longest = 0;
        for (_, datagram) in &world.log {
            let mut rest = &datagram[..];
            while !rest.is_empty() {
                let length = usize::from(u16::from_be_bytes([rest[11], rest[12]]));
                if rest[3..5] == [0, 0] {
                    longest = longest.max(length);
                }
                rest = &rest[13 + length..];
            }
        }
        assert_eq!(longest, limit, "used to the full, and not beyond");
        world.send_answer(&vec![1; limit]);
        world.settle();
        assert_eq!(world.client.received, [vec![1; limit]]);
        let association = world.server.association.as_mut().unwrap();
        let (prefix, suffix) = association.record_overhead();
        let mut record = vec![0; prefix + limit + 1 + suffix];
        let sealed = association.seal_application_data(&mut record);
        assert_eq!(sealed, Err(tidegate::dtls::SealError::Length));
    }
}
