//! The endpoint as a whole, on plain CoAP: what crosses to the pool and what comes back.
//!
//! The DTLS side of it is tested with a client over a virtual link, in `tests/protocol`; what is of
//! the endpoint itself, in the modules below.

mod bodies;
mod connection_id;
mod credentials;
mod flood;
mod foresight;
mod half_open;
mod hot;
mod inspection;
mod local;
mod observe;
mod revocation;
mod secure;
mod unproven;

use std::collections::BTreeMap;
use std::net::SocketAddrV6;

use arc_swap::ArcSwapOption;

use super::*;
use crate::auth::request::{PeerRef, RelationId, Response, Verdict};
use crate::random::SeededRandom;

/// TB vector 1: CON POST /api/v1/ACCESS01/telemetry, MID 1234, token deadbeef.
const POST: &[u8] = b"\x44\x02\x12\x34\xde\xad\xbe\xef\xb3api\x02v1\x08ACCESS01\x09telemetry\x11\x32\xff{\"temperature\":25}";

fn settings(change: impl FnOnce(&mut EndpointSettings)) -> EndpointSettings {
    let mut settings = EndpointSettings {
        sessions_max: 100,
        handshakes_max: 10,
        handshakes_per_address: 6000,
        plain_peers_max: 4,
        requests_max: 8,
        ..EndpointSettings::new(dtls::CookieJar::new([7; 32]))
    };
    change(&mut settings);
    settings
}

fn endpoint(change: impl FnOnce(&mut EndpointSettings)) -> Endpoint {
    let settings = settings(change);
    let metrics = Arc::new(ShardMetrics::new());
    let random = Box::new(SeededRandom::new(1));
    Endpoint::new(3, Arc::new(settings), metrics, random, at(0))
}

fn at(seconds: u64) -> Now {
    Now {
        instant: Instant::from_micros(seconds * 1_000_000),
        unix_ms: 1_700_000_000_000,
    }
}

fn peer(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn receive(endpoint: &mut Endpoint, now: Now, from: SocketAddr, message: &[u8]) -> Outbox {
    let mut out = Outbox::default();
    endpoint.handle_datagram(now, from, Port::Plain, &mut message.to_vec(), &mut out);
    out
}

fn sent(out: &Outbox) -> Vec<(SocketAddr, Vec<u8>)> {
    out.transmits()
        .iter()
        .map(|t| (t.to, out.datagram(t).to_vec()))
        .collect()
}

fn answer(request: &Request, code: u8) -> Verdict {
    request.clone().into_verdict(Response::empty(code))
}

#[test]
fn a_request_crosses_once_and_its_answer_returns_to_its_sender() {
    let mut endpoint = endpoint(|_| {});
    let mut out = receive(&mut endpoint, at(1), peer(7), POST);
    let request = out.requests.pop().expect("a request");
    assert!(out.requests.is_empty() && out.is_sent());
    let path: Vec<&[u8]> = request.message.path().collect();
    assert_eq!(path, [&b"api"[..], b"v1", b"ACCESS01", b"telemetry"]);
    assert_eq!((request.peer.shard, request.secure), (3, false));
    assert_eq!(request.received_unix_ms, at(1).unix_ms);
    // The repetition of a message in work is not a second request (RFC 7252 section 4.5).
    assert!(
        receive(&mut endpoint, at(1), peer(7), POST)
            .requests
            .is_empty()
    );

    let mut out = Outbox::default();
    endpoint.handle_verdict(at(1), answer(&request, 0x41), &mut out);
    let expected = (peer(7), b"\x64\x41\x12\x34\xde\xad\xbe\xef".to_vec());
    assert_eq!(sent(&out), std::slice::from_ref(&expected));
    assert_eq!(endpoint.requests_in_work(), 0);
    // Repeated after the answer: the same answer again, and no request.
    let out = receive(&mut endpoint, at(2), peer(7), POST);
    assert!(out.requests.is_empty());
    assert_eq!(sent(&out), [expected]);
}

#[test]
fn the_same_message_id_of_another_peer_is_another_request() {
    let mut endpoint = endpoint(|_| {});
    let first = receive(&mut endpoint, at(1), peer(7), POST)
        .requests
        .pop()
        .expect("a request");
    let second = receive(&mut endpoint, at(1), peer(8), POST)
        .requests
        .pop()
        .expect("a request");
    assert_ne!(first.peer, second.peer);
    let mut out = Outbox::default();
    endpoint.handle_verdict(at(1), answer(&second, 0x41), &mut out);
    assert_eq!(sent(&out)[0].0, peer(8));
}

#[test]
fn a_late_answer_follows_an_empty_acknowledgement() {
    let mut endpoint = endpoint(|_| {});
    let request = receive(&mut endpoint, at(1), peer(7), POST)
        .requests
        .pop()
        .expect("a request");
    let due = endpoint.next_timeout();
    assert!(due > at(1).instant && due <= at(2).instant, "{due:?}");
    let mut out = Outbox::default();
    endpoint.handle_timeout(at(2), &mut out);
    assert_eq!(sent(&out), [(peer(7), b"\x60\x00\x12\x34".to_vec())]);
    let mut out = Outbox::default();
    endpoint.handle_verdict(at(3), answer(&request, 0x41), &mut out);
    let separate = &sent(&out)[0].1;
    assert_eq!(
        (separate[0], separate[1], &separate[4..]),
        (0x44, 0x41, &b"\xde\xad\xbe\xef"[..])
    );
    // Unacknowledged, it is sent again, and no more than MAX_RETRANSMIT times.
    let mut copies = 0;
    for second in 4..200 {
        let mut out = Outbox::default();
        endpoint.handle_timeout(at(second), &mut out);
        copies += sent(&out)
            .iter()
            .filter(|(_, datagram)| datagram == separate)
            .count();
    }
    assert_eq!(copies, 4);
}

#[test]
fn beyond_the_permits_a_request_is_answered_5_03_with_max_age() {
    let mut endpoint = endpoint(|settings| settings.requests_max = 1);
    let first = receive(&mut endpoint, at(1), peer(7), POST)
        .requests
        .pop()
        .expect("a request");
    let out = receive(&mut endpoint, at(1), peer(8), POST);
    assert!(out.requests.is_empty());
    assert_eq!(
        sent(&out),
        [(
            peer(8),
            b"\x64\xa3\x12\x34\xde\xad\xbe\xef\xd1\x01\x05".to_vec()
        )]
    );
    // A queue that is full says the same, and gives the permit back.
    let mut out = Outbox::default();
    endpoint.handle_refusal(at(1), first, &mut out);
    assert_eq!(sent(&out)[0].1[1], 0xa3);
    assert_eq!(endpoint.requests_in_work(), 0);
    assert_eq!(endpoint.metrics.value(Counter::QueueFull), 2);
}

#[test]
fn plain_peers_are_bounded_and_forgotten_when_silent() {
    let mut endpoint = endpoint(|_| {});
    let mut requests = BTreeMap::new();
    for port in 1..=6 {
        let request = receive(&mut endpoint, at(1), peer(port), POST)
            .requests
            .pop();
        requests.insert(port, request.expect("a request"));
    }
    assert_eq!(endpoint.peers.len(), 4);
    assert_eq!(endpoint.metrics.value(Counter::PlainPeersEvicted), 2);
    // The answer for an evicted peer is dropped, even though its slot has a new owner.
    let mut out = Outbox::default();
    endpoint.handle_verdict(at(1), answer(&requests[&1], 0x41), &mut out);
    assert!(out.is_sent());
    assert_eq!(endpoint.metrics.drops(DropReason::VerdictStale), 1);
    for port in 3..=6 {
        endpoint.handle_verdict(
            at(1),
            answer(&requests[&port], 0x41),
            &mut Outbox::default(),
        );
    }
    // EXCHANGE_LIFETIME (247 s) later nothing has to be remembered.
    for second in (2..400).step_by(10) {
        endpoint.handle_timeout(at(second), &mut Outbox::default());
    }
    assert_eq!((endpoint.peers.len(), endpoint.by_address.len()), (0, 0));
}

#[test]
fn noise_takes_no_slot() {
    let mut endpoint = endpoint(|_| {});
    for noise in [&b""[..], b"\x40", b"\xc0\x01\x00\x01", b"\x00\x00\x00\x00"] {
        assert!(receive(&mut endpoint, at(1), peer(9), noise).is_sent());
    }
    assert_eq!(endpoint.peers.len(), 0);
    assert_eq!(endpoint.metrics.drops(DropReason::CoapMalformed), 2);
    assert_eq!(endpoint.metrics.drops(DropReason::CoapVersion), 2);
}

#[test]
fn sweeps_are_reported_each_period_and_idle_deadlines_fall_on_them() {
    let mut endpoint = endpoint(|_| {});
    let mut reports = 0;
    for second in (0..7200).step_by(60) {
        reports += usize::from(
            endpoint
                .handle_timeout(at(second), &mut Outbox::default())
                .is_some(),
        );
    }
    assert_eq!(reports, 4);
    let (sweep, period) = (at(100).instant, Duration::from_secs(10));
    assert_eq!(
        peer::idle_deadline(at(50).instant, sweep, period),
        at(100).instant
    );
    assert_eq!(
        peer::idle_deadline(at(100).instant, sweep, period),
        at(100).instant
    );
    assert_eq!(
        peer::idle_deadline(at(101).instant, sweep, period),
        at(110).instant
    );
}

#[test]
fn a_link_local_peer_is_answered_on_its_interface() {
    let mut endpoint = endpoint(|_| {});
    let from: SocketAddr = SocketAddrV6::new("fe80::1".parse().unwrap(), 7, 9, 3).into();
    let to: SocketAddr = SocketAddrV6::new("fe80::1".parse().unwrap(), 7, 0, 3).into();
    let out = receive(&mut endpoint, at(0), from, b"\x40\x00\x12\x34");
    assert_eq!(sent(&out), [(to, b"\x70\x00\x12\x34".to_vec())]);
}

#[test]
fn after_forgetting_all_a_late_answer_finds_nobody_and_service_goes_on() {
    let mut endpoint = endpoint(|_| {});
    let request = receive(&mut endpoint, at(1), peer(7), POST)
        .requests
        .pop()
        .expect("a request");
    endpoint.forget_all(at(2));
    assert_eq!((endpoint.peers.len(), endpoint.by_address.len()), (0, 0));
    let again = receive(&mut endpoint, at(2), peer(8), POST)
        .requests
        .pop()
        .expect("a request");
    assert_eq!(
        again.peer.slot, request.peer.slot,
        "the slot has a new owner"
    );
    let mut out = Outbox::default();
    endpoint.handle_verdict(at(2), answer(&request, 0x41), &mut out);
    assert!(out.is_sent(), "an answer went to somebody else");
    endpoint.handle_verdict(at(2), answer(&again, 0x41), &mut out);
    assert_eq!(sent(&out)[0].0, peer(8));
    assert_eq!(endpoint.requests_in_work(), 0);
}
