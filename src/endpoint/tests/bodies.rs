//! Bodies in blocks (RFC 7959), and strangers who take all the memory that there is for them.

use super::*;

/// Bytes of a block.
const BLOCK: usize = 1024;
/// Blocks of the longest body, less one.
const BLOCKS: u32 = 63;
/// 2.31 and 5.03.
const CONTINUE: u8 = 0x5f;
const SERVICE_UNAVAILABLE: u8 = 0xa3;

/// A CON POST of a block, to `/p`.
fn block(message_id: u16, num: u32, more: bool) -> Vec<u8> {
    let [_, value @ ..] = (num << 4 | u32::from(more) << 3 | 6).to_be_bytes();
    let [high, low] = message_id.to_be_bytes();
    let mut message = vec![0x40, 0x02, high, low, 0xb1, b'p', 0xd3, 0x03];
    message.extend(value);
    message.push(0xff);
    message.extend([b'x'; BLOCK]);
    message
}

/// The code that a block is answered at once; `None` when it was the last of a whole body.
fn upload(endpoint: &mut Endpoint, from: SocketAddr, num: u32, more: bool) -> Option<u8> {
    let message_id = u16::try_from(num).unwrap();
    let out = receive(endpoint, at(1), from, &block(message_id, num, more));
    let sent = sent(&out);
    sent.first().map(|(_, message)| message[1])
}

fn stranger(number: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], number))
}

/// Blocks of many strangers, who leave their uploads before the end.
fn flood(endpoint: &mut Endpoint, strangers: std::ops::Range<u16>) -> usize {
    let mut refused = 0;
    for number in strangers {
        for num in 0..BLOCKS {
            let code = upload(endpoint, stranger(number), num, true);
            refused += usize::from(code == Some(SERVICE_UNAVAILABLE));
        }
    }
    refused
}

#[test]
fn strangers_who_leave_their_uploads_keep_nobody_from_uploading() {
    let mut endpoint = endpoint(|settings| settings.plain_peers_max = 10_000);
    let refused = flood(&mut endpoint, 1..1000);
    assert_eq!(refused, 0, "even they may go on");
    assert!(endpoint.metrics.value(Counter::BodiesDisplaced) > 700);
    assert!(!endpoint.buffers.is_scarce());
    for num in 0..BLOCKS {
        assert_eq!(upload(&mut endpoint, peer(7), num, true), Some(CONTINUE));
    }
    assert_eq!(
        upload(&mut endpoint, peer(7), BLOCKS, false),
        None,
        "all of it"
    );
    // What is left of the strangers is listed once each, at most.
    assert!(endpoint.bodies.len() <= 2 * 256);
}

#[test]
fn a_device_that_was_answered_well_is_not_displaced_by_strangers() {
    let mut endpoint = endpoint(|settings| settings.plain_peers_max = 10_000);
    let request = receive(&mut endpoint, at(1), peer(7), POST).requests.pop();
    let verdict = answer(&request.unwrap(), 0x41);
    endpoint.handle_verdict(at(1), verdict, &mut Outbox::default());
    for num in 0..3 {
        assert_eq!(upload(&mut endpoint, peer(7), num, true), Some(CONTINUE));
    }
    // It is slow: as much as all the memory comes and goes in between, twice.
    flood(&mut endpoint, 1..600);
    assert_eq!(upload(&mut endpoint, peer(7), 3, false), None, "all of it");
}

/// Who uploads much and well leaves nothing behind, here neither.
#[test]
fn those_that_hold_nothing_any_more_are_not_listed_for_good() {
    let mut endpoint = endpoint(|settings| settings.plain_peers_max = 20_000);
    for number in 1..10_000 {
        let from = stranger(number);
        assert_eq!(upload(&mut endpoint, from, 0, true), Some(CONTINUE));
        let last = receive(&mut endpoint, at(1), from, &block(1, 1, false));
        let verdict = answer(&last.requests[0], 0x41);
        endpoint.handle_verdict(at(1), verdict, &mut Outbox::default());
    }
    assert!(endpoint.bodies.len() <= 1024, "{}", endpoint.bodies.len());
    assert_eq!(endpoint.buffers.claimed(), 0);
}
