#![allow(
    clippy::single_range_in_vec_init,
    reason = "lists of ranges, of which some have one"
)]

use super::*;

/// A ClientHello's body: version, random, session_id, cookie, and what follows.
fn body(session_id: &[u8], cookie: &[u8], rest: usize) -> Vec<u8> {
    let mut out = vec![0xfe, 0xfd];
    out.extend_from_slice(&[7; 32]);
    out.push(u8::try_from(session_id.len()).unwrap());
    out.extend_from_slice(session_id);
    out.push(u8::try_from(cookie.len()).unwrap());
    out.extend_from_slice(cookie);
    out.resize(out.len() + rest, 0);
    out
}

fn record(content_type: u8, epoch: u8, fragments: &[u8]) -> Vec<u8> {
    let mut out = vec![content_type, 0xfe, 0xff, 0, epoch, 0, 0, 0, 0, 0, 5];
    out.extend_from_slice(&u16::try_from(fragments.len()).unwrap().to_be_bytes());
    out.extend_from_slice(fragments);
    out
}

fn fragment(message_seq: u16, body: &[u8], range: std::ops::Range<usize>) -> Vec<u8> {
    let header = FragmentHeader {
        message_type: HandshakeType::ClientHello,
        length: body.len(),
        message_seq,
        fragment_offset: range.start,
        fragment_length: range.len(),
    };
    [&header.encode()[..], &body[range]].concat()
}

/// One datagram with a record for each of these pieces of one message.
fn datagram(body: &[u8], ranges: &[std::ops::Range<usize>]) -> Vec<u8> {
    let records = ranges
        .iter()
        .map(|range| record(22, 0, &fragment(1, body, range.clone())));
    records.collect::<Vec<_>>().concat()
}

fn cookie_of(datagram: &[u8]) -> Option<Vec<u8>> {
    match read(datagram) {
        Knock::Hello(hello) => Some(hello.cookie.as_slice().to_vec()),
        Knock::Other | Knock::Unreadable(_) => None,
    }
}

fn reason(datagram: &[u8]) -> Option<DropReason> {
    match read(datagram) {
        Knock::Unreadable(reason) => Some(reason),
        Knock::Other | Knock::Hello(_) => None,
    }
}

#[test]
fn the_start_of_a_hello_is_read_from_one_piece_or_from_several() {
    let hello = body(&[1; 32], &[9; 16], 100);
    let end_of_cookie = hello.len() - 100;
    assert_eq!(
        cookie_of(&datagram(&hello, &[0..hello.len()])),
        Some(vec![9; 16])
    );
    assert_eq!(
        cookie_of(&datagram(&hello, &[0..end_of_cookie])),
        Some(vec![9; 16])
    );
    assert_eq!(
        cookie_of(&datagram(&hello, &[0..20, 20..60, 55..90])),
        Some(vec![9; 16])
    );
    // Several pieces in one record.
    let pieces = [fragment(1, &hello, 0..40), fragment(1, &hello, 40..90)].concat();
    assert_eq!(cookie_of(&record(22, 0, &pieces)), Some(vec![9; 16]));
    let fragmented = Some(DropReason::ClientHelloFragmented);
    for ranges in [
        &[0..end_of_cookie - 1][..],
        &[1..hello.len()],
        &[0..20, 21..90],
        &[20..90, 0..20],
        &[0..20, 0..20, 0..20],
    ] {
        assert_eq!(reason(&datagram(&hello, ranges)), fragmented, "{ranges:?}");
    }
}

#[test]
fn pieces_of_different_messages_do_not_mix() {
    let hello = body(&[], &[9; 16], 10);
    for other in [
        fragment(2, &hello, 20..62),
        fragment(1, &hello[..61], 20..61),
    ] {
        let pieces = [
            record(22, 0, &fragment(1, &hello, 0..20)),
            record(22, 0, &other),
        ]
        .concat();
        assert_eq!(reason(&pieces), Some(DropReason::ClientHelloFragmented));
    }
}

#[test]
fn the_longest_possible_start_is_read_and_its_cookie_is_not_ours() {
    let hello = body(&[1; 32], &[9; 255], 3);
    assert_eq!(hello.len() - 3, PREFIX_MAX);
    assert_eq!(
        cookie_of(&datagram(&hello, &[0..hello.len()])),
        Some(vec![])
    );
    // RFC 5246 section 7.4.1.2: a session_id has at most 32 bytes.
    let hello = body(&[1; 33], &[9; 16], 3);
    assert_eq!(cookie_of(&datagram(&hello, &[0..hello.len()])), None);
}

#[test]
fn everything_else_is_no_hello() {
    let hello = body(&[], &[], 10);
    let whole = fragment(0, &hello, 0..hello.len());
    assert!(matches!(read(&record(22, 0, &whole)), Knock::Hello(_)));
    for other in [
        record(22, 1, &whole),
        record(23, 0, &whole),
        record(21, 0, &[2, 40]),
        vec![],
    ] {
        assert!(matches!(read(&other), Knock::Other));
    }
    let mut finished = whole.clone();
    finished[0] = 20;
    assert!(matches!(read(&record(22, 0, &finished)), Knock::Other));
    let mut lying = whole.clone();
    lying[11] += 1;
    assert_eq!(
        reason(&record(22, 0, &lying)),
        Some(DropReason::ClientHelloMalformed)
    );
}

/// Looking at a datagram is bounded, however many pieces it holds.
#[test]
fn pieces_are_limited() {
    let hello = body(&[1; 32], &[9; 16], 100);
    let small: Vec<_> = (0..90).map(|at| fragment(1, &hello, at..at + 1)).collect();
    let all = record(22, 0, &small.concat());
    assert_eq!(reason(&all), Some(DropReason::ClientHelloFragmented));
}
