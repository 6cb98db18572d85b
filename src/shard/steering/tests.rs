use std::net::{SocketAddr, UdpSocket};

use super::*;
use crate::shard::socket::{BATCH, ReceiveBatch};

const SHARDS: usize = 4;

/// A tls12_cid record whose connection id begins with `shard` (RFC 9146 section 4).
fn with_cid(shard: u8) -> Vec<u8> {
    let mut record = vec![TLS12_CID, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 7];
    record.extend_from_slice(&[shard, 1, 2, 3, 4, 5, 6, 7, 0, 3]);
    record.extend_from_slice(b"abc");
    record
}

fn clients(target: SocketAddr, count: usize) -> Vec<UdpSocket> {
    (0..count)
        .map(|_| {
            let any = if target.is_ipv4() {
                "127.0.0.1:0"
            } else {
                "[::1]:0"
            };
            let socket = UdpSocket::bind(any).unwrap();
            socket.connect(target).unwrap();
            socket
        })
        .collect()
}

/// What each member of the group has received, by first and twelfth byte.
fn received(group: &[Socket]) -> Vec<Vec<(u8, Option<u8>)>> {
    let mut batch = ReceiveBatch::default();
    group
        .iter()
        .map(|member| {
            let mut seen = Vec::new();
            while member.receive(&mut batch).unwrap() > 0 {
                seen.extend(batch.datagrams(0..BATCH).map(|datagram| {
                    let first = datagram.bytes.first().copied().unwrap_or(0);
                    (first, datagram.bytes.get(CID_OFFSET).copied())
                }));
            }
            seen
        })
        .collect()
}

/// The addresses that a group is bound to, and where its datagrams are sent.
fn layouts() -> [(&'static str, &'static str); 4] {
    [
        ("127.0.0.1:0", "127.0.0.1"),
        ("0.0.0.0:0", "127.0.0.1"),
        ("[::1]:0", "::1"),
        // Dual stack: an IPv4 peer of an IPv6 group.
        ("[::]:0", "127.0.0.1"),
    ]
}

fn steered(bind: &str, host: &str) -> (Vec<Socket>, SocketAddr) {
    let group = Socket::bind_group(bind.parse().unwrap(), SHARDS).unwrap();
    attach(&group[0]).unwrap();
    let port = group[0].local_addr().unwrap().port();
    (group, SocketAddr::new(host.parse().unwrap(), port))
}

#[test]
fn a_datagram_with_a_connection_id_reaches_the_shard_that_it_names_from_any_source() {
    for (bind, host) in layouts() {
        let (group, target) = steered(bind, host);
        let senders = clients(target, 10);
        for sender in &senders {
            for shard in 0..SHARDS {
                sender
                    .send(&with_cid(u8::try_from(shard).unwrap()))
                    .unwrap();
            }
        }
        for (shard, seen) in received(&group).into_iter().enumerate() {
            let expected = (TLS12_CID, Some(u8::try_from(shard).unwrap()));
            assert_eq!(seen, vec![expected; senders.len()], "{bind}, shard {shard}");
        }
    }
}

#[test]
fn all_else_is_spread_by_address_as_without_the_program() {
    for (bind, host) in layouts() {
        let (group, target) = steered(bind, host);
        let senders = clients(target, 40);
        // No connection id; one that names no shard; cut before it; nothing at all.
        let other = [0x16; 40];
        let (beyond, cut) = (with_cid(200), &with_cid(0)[..CID_OFFSET]);
        for sender in &senders {
            for datagram in [&other[..], &beyond, cut, &[]] {
                sender.send(datagram).unwrap();
            }
        }
        let seen = received(&group);
        assert_eq!(seen.iter().map(Vec::len).sum::<usize>(), 160, "{bind}");
        for (shard, seen) in seen.iter().enumerate() {
            // A quarter of 160 each on average; a shard gets all of a sender's or none.
            assert!(
                seen.len() >= 4 && seen.len() < 120,
                "{bind}, shard {shard}: {}",
                seen.len()
            );
            let count = |wanted| seen.iter().filter(|&&datagram| datagram == wanted).count();
            let whole = count((0x16, Some(0x16)));
            assert_eq!(whole, count((TLS12_CID, Some(200))), "{bind}");
            assert_eq!(whole, count((TLS12_CID, None)), "{bind}");
            assert_eq!(whole, count((0, None)), "{bind}");
        }
    }
}

#[test]
fn a_group_of_one_keeps_everything() {
    let group = Socket::bind_group("127.0.0.1:0".parse().unwrap(), 1).unwrap();
    attach(&group[0]).unwrap();
    let sender = &clients(group[0].local_addr().unwrap(), 1)[0];
    for shard in [0, 1, 255] {
        sender.send(&with_cid(shard)).unwrap();
    }
    assert_eq!(received(&group)[0].len(), 3);
    const { assert!(BATCH >= 3) };
}

#[test]
fn the_kernel_s_refusal_is_an_error_and_not_the_end() {
    // Not a member of any group.
    let alone = UdpSocket::bind("127.0.0.1:0").unwrap();
    let alone = Socket::from(alone);
    assert!(attach(&alone).is_err());
}

#[test]
fn the_shard_is_read_as_the_kernel_reads_it() {
    assert_eq!(named_shard(&with_cid(3)), Some(3));
    assert_eq!(named_shard(&with_cid(255)), Some(255));
    assert_eq!(named_shard(&with_cid(3)[..CID_OFFSET]), None);
    assert_eq!(named_shard(&[0x17; 40]), None);
    assert_eq!(named_shard(&[]), None);
}
