//! Attacks on the parsing of handshake messages and on the memory that they take.

use std::sync::Arc;

use tidegate::drop_reason::DropReason;
use tidegate::dtls::client::ClientConfig;
use tidegate::endpoint::Port;
use tidegate::metrics::Counter;
use tidegate::random::{Random, SeededRandom};

use crate::link::{PEER, World};
use crate::site::{Site, address};
use crate::support::server_config;
use crate::wire::{Fragment, assert_alive, hello_cookie, plain, records, relay};

fn world() -> World {
    World::new(1, server_config(), &Arc::new(ClientConfig::default()))
}

/// Sends `noise` between all steps of a handshake, and afterwards; the handshake ends well.
#[track_caller]
fn assert_handshake_goes_on(mut noise: impl FnMut(u64) -> Vec<u8>) {
    let mut world = world();
    let mut round = 0;
    let mut disturb = |world: &mut World| {
        for _ in 0..50 {
            round += 1;
            world.deliver_from(PEER, noise(round));
        }
    };
    while !world.server.is_established() {
        disturb(&mut world);
        assert!(world.step(), "the handshake stands still");
    }
    assert!(world.establish());
    disturb(&mut world);
    assert_alive(&mut world);
    assert_eq!(world.server.established, 1);
    assert!(world.server.failures.is_empty());
}

/// Of a fragment in a record that the client could have sent.
fn in_record(round: u64, fragment: &Fragment) -> Vec<u8> {
    plain(22, 0, 1000 + round, &fragment.encode())
}

/// pion CVE-2022-29189, OpenSSL CVE-2016-2179: pieces of messages that are far ahead, or as long as
/// a header can say, are not kept without end.
#[test]
fn pieces_without_end_are_not_kept() {
    assert_handshake_goes_on(|round| {
        let message_seq = u16::try_from(20 + round % 40_000).expect("16 bits");
        let piece = Fragment {
            length: 0x00ff_ffff,
            offset: u32::try_from(round * 500 % 0x00ff_0000).expect("24 bits"),
            ..Fragment::whole(11, message_seq, &[7; 500])
        };
        in_record(round, &piece)
    });
}

/// The same with messages that are near enough to be kept, and short enough: one of full size is,
/// and no more beside it.
#[test]
fn large_messages_ahead_are_not_all_kept() {
    const LENGTH: u32 = 8192;
    let mut world = world();
    let mut beginnings = 0;
    relay(&mut world, |by_server, datagram| {
        if by_server || hello_cookie(&datagram).is_some() {
            return vec![datagram];
        }
        // Behind the client's Finished, which is number 4, and no more than 7 ahead.
        let mut datagrams: Vec<_> = (5..10)
            .map(|message_seq| {
                let beginning = Fragment {
                    length: LENGTH,
                    ..Fragment::whole(11, message_seq, &[7; 500])
                };
                beginnings += 1;
                in_record(message_seq.into(), &beginning)
            })
            .collect();
        datagrams.push(datagram);
        datagrams
    });
    assert!(beginnings >= 5);
    let dropped = world.server.dropped(DropReason::FragmentBeyondLimit);
    assert_eq!(dropped, beginnings - 1, "of {beginnings}");
    assert_alive(&mut world);
}

/// pion CVE-2022-29190: pieces of no bytes, of a message that has some, are dropped; many of them in
/// one record take no more than their time.
#[test]
fn empty_pieces_are_dropped() {
    assert_handshake_goes_on(|round| {
        let piece = Fragment {
            length: 100,
            ..Fragment::whole(16, 2, &[])
        };
        plain(22, 0, 1000 + round, &piece.encode().repeat(100))
    });
}

/// OpenSSL CVE-2014-0195, GnuTLS work item 1839, GnuTLS CVE-2026-42009: pieces that reach beyond
/// their message, that disagree with the ones before, or that come twice with other bytes.
#[test]
fn pieces_that_lie_are_dropped() {
    let mut dice = SeededRandom::new(1);
    assert_handshake_goes_on(|round| {
        let message_seq = 8 + u16::try_from(dice.below(3)).expect("small");
        let mut piece = Fragment::whole(16, message_seq, &[9; 40]);
        match dice.below(4) {
            0 => piece.offset = 1,
            1 => piece.fragment_length = 4000,
            2 => (piece.length, piece.offset) = (0x00ff_ffff, 0x00ff_fff0),
            _ => (piece.message_type, piece.length) = (11, 60),
        }
        in_record(round, &piece)
    });
}

/// The same about messages that the client does send: each comes in two pieces, and lies about the
/// rest of it come between them.
#[test]
fn lies_between_the_pieces_of_a_message_change_nothing_of_it() {
    let mut world = world();
    let mut lies = 0;
    relay(&mut world, |by_server, datagram| {
        if by_server || hello_cookie(&datagram).is_some() {
            return vec![datagram];
        }
        let mut datagrams = Vec::new();
        for record in records(&datagram) {
            let Some(message) = Fragment::decode(&record) else {
                datagrams.push(record);
                continue;
            };
            let pieces = with_lies_between(&message);
            lies += pieces.len() - 2;
            let sequence = u64::from(message.message_seq);
            datagrams.extend(pieces.iter().map(|piece| in_record(sequence, piece)));
        }
        datagrams
    });
    assert!(lies >= 10, "{lies} lies");
    assert!(world.server.failures.is_empty());
    assert_alive(&mut world);
}

/// The first byte of a message, lies, and the rest of it.
fn with_lies_between(message: &Fragment) -> Vec<Fragment> {
    let length = message.length;
    let piece = |offset: u32, body: &[u8]| Fragment {
        length,
        offset,
        ..Fragment::whole(message.message_type, message.message_seq, body)
    };
    let (first, rest) = message.body.split_at(1);
    let wrong = vec![0xee; rest.len()];
    vec![
        piece(0, first),
        // Of another message, of a longer one, of a shorter one.
        Fragment {
            message_type: message.message_type ^ 1,
            ..piece(1, &wrong)
        },
        Fragment {
            length: length + 1,
            ..piece(1, &wrong)
        },
        Fragment {
            length: length - 1,
            ..piece(1, &wrong[1..])
        },
        // Longer than what is left, or than the record.
        piece(1, &[0xee; 600]),
        Fragment {
            fragment_length: length + 400,
            ..piece(1, &wrong)
        },
        // The first byte again, but another one; none at all.
        piece(0, &[!first[0]]),
        piece(1, &[]),
        piece(1, rest),
    ]
}

/// tinydtls CVE-2021-42141: a Finished in the clear, when one is awaited under the keys, is none, and
/// neither ends nor completes the handshake.
#[test]
fn a_finished_in_the_clear_is_none() {
    const CHANGE_CIPHER_SPEC: u8 = 20;
    const FINISHED: u8 = 20;
    let mut world = world();
    let mut forged = 0;
    relay(&mut world, |by_server, datagram| {
        if by_server {
            return vec![datagram];
        }
        let mut datagrams = Vec::new();
        for record in records(&datagram) {
            let is_change = record[0] == CHANGE_CIPHER_SPEC;
            datagrams.push(record);
            if is_change {
                forged += 1;
                datagrams.push(in_record(1, &Fragment::whole(FINISHED, 4, &[3; 12])));
            }
        }
        datagrams
    });
    assert_eq!(forged, 1);
    assert!(world.server.dropped(DropReason::RecordEpoch) > 0);
    assert!(world.server.failures.is_empty());
    assert_alive(&mut world);
}

/// tinydtls CVE-2021-42141, OpenSSL CVE-2016-2179: nothing of a handshake is taken after its end.
#[test]
fn messages_after_the_end_are_dropped() {
    let mut world = world();
    relay(&mut world, |_, datagram| vec![datagram]);
    assert!(world.server.is_established());
    for message_type in 0..=24 {
        for message_seq in 0..12 {
            let message = Fragment::whole(message_type, message_seq, &[3; 64]);
            let answers = world.deliver_from(PEER, in_record(1, &message));
            assert!(answers.len() <= usize::from(message_type == 1));
        }
    }
    assert!(
        !world
            .server
            .association
            .as_ref()
            .is_some_and(|a| a.is_handshaking())
    );
    assert_alive(&mut world);
}

/// tinydtls CVE-2021-42143, Mbed TLS CVE-2022-35409, wolfSSL CVE-2024-0901: every cut and every
/// length of a ClientHello is read to its end and no further.
#[test]
fn every_cut_of_a_hello_is_read_to_its_end() {
    let mut hello = Vec::new();
    relay(&mut world(), |by_server, datagram| {
        if !by_server && hello_cookie(&datagram) == Some(true) {
            hello.clone_from(&datagram);
        }
        vec![datagram]
    });
    let body = Fragment::decode(&records(&hello)[0]).expect("a hello").body;
    let mut answered = 0;
    for cut in 0..body.len() {
        // The length of the message follows the cut, so that only what is inside disagrees.
        let cut = Fragment::whole(1, 1, &body[..cut]);
        let mut world = world();
        answered += world.deliver_from(PEER, in_record(1, &cut)).len();
        for at in 0..body.len().min(100) {
            let mut changed = body.clone();
            changed[at] =
                changed[at].wrapping_add(u8::try_from(cut.body.len() % 255).expect("a byte"));
            world.deliver_from(PEER, in_record(1, &Fragment::whole(1, 1, &changed)));
        }
    }
    assert!(answered > 0);
}

/// Erlang/OTP CVE-2026-55950, OpenSSL issue 32949: hellos as fast as they come, with cookies and
/// without, from one address disturb neither that address's session nor others.
#[test]
fn hellos_from_one_address_disturb_nobody() {
    let mut site = Site::new(|settings| settings.handshakes_max = 4);
    let config = Arc::new(ClientConfig::default());
    let mut bystander = site.visit(address(5), &config);
    let hellos: Vec<_> = (0..20)
        .map(|_| site.visit(address(6), &config).sent)
        .collect();
    let mut sender = site.visit(address(6), &config);
    for hello in hellos.iter().cycle().take(2000).flat_map(|sent| &sent[..2]) {
        site.deliver(address(6), Port::Secure, hello);
        assert!(site.count(Counter::HandshakesOpen) <= 4);
    }
    assert!(site.serves(&mut sender), "the session of the address");
    assert!(site.serves(&mut bystander), "the session of another");
    assert_eq!(site.count(Counter::Panics), 0);
}
