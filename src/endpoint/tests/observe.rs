//! Observe relations (RFC 7641) between the pool and peers.

use super::connection_id::{bench_with, connect, with_id};
use super::secure::{Bench, Device, credentials};
use super::*;
use crate::auth::request::{Notification, RelationEnd, RelationEvent, RelationEventKind};
use crate::dtls::{PeerIdentity, Revocations};

/// CON GET /a, Observe 0, token 77.
const REGISTER: &[u8] = b"\x41\x01\x00\x01\x77\x60\x51a";

fn opens(request: &Request, relation: u64) -> Verdict {
    request.clone().into_verdict(Response {
        relation: Some(RelationId(relation)),
        ..Response::empty(0x45)
    })
}

fn notification(peer: PeerRef, relation: u64, delivery: u64) -> Notification {
    Notification {
        peer,
        relation: RelationId(relation),
        delivery,
        response: Response {
            payload: delivery.to_string().into_bytes(),
            ..Response::empty(0x45)
        },
        last: false,
    }
}

fn events(endpoint: &mut Endpoint) -> Vec<RelationEvent> {
    let mut events = Vec::new();
    assert!(endpoint.report_relations(|event| {
        events.push(event);
        true
    }));
    events
}

const fn event(peer: PeerRef, relation: u64, kind: RelationEventKind) -> RelationEvent {
    RelationEvent {
        peer,
        relation: RelationId(relation),
        kind,
    }
}

const fn session_ended(peer: PeerRef, relation: u64) -> RelationEvent {
    let end = RelationEventKind::Ended(RelationEnd::SessionEnded);
    event(peer, relation, end)
}

const fn sent_con(peer: PeerRef, relation: u64, delivery: u64) -> RelationEvent {
    let kind = RelationEventKind::Sent {
        delivery,
        confirmable: true,
    };
    event(peer, relation, kind)
}

/// A plain peer with an open relation 1.
fn plain_observer(endpoint: &mut Endpoint, port: u16) -> PeerRef {
    let request = receive(endpoint, at(1), peer(port), REGISTER)
        .requests
        .pop()
        .expect("a request");
    assert_eq!(request.message.observe, Some(0));
    endpoint.handle_verdict(at(1), opens(&request, 1), &mut Outbox::default());
    request.peer
}

impl Bench {
    /// Opens a relation; the device's answer is taken.
    fn observe(&mut self, device: &mut Device, relation: u64) -> PeerRef {
        let asked = device.seal(REGISTER);
        let request = self.talk(device, vec![asked]).pop().expect("a request");
        let mut out = Outbox::default();
        self.endpoint
            .handle_verdict(self.now, opens(&request, relation), &mut out);
        self.hand_over(device, &out);
        assert_eq!(
            device.received.pop().unwrap()[..5],
            *b"\x61\x45\x00\x01\x77"
        );
        request.peer
    }

    /// Gives a notification to the endpoint; what the device got of it.
    fn notify(&mut self, device: &mut Device, notification: Notification) -> Vec<Vec<u8>> {
        let mut out = Outbox::default();
        self.endpoint
            .handle_notification(self.now, notification, &mut out);
        self.hand_over(device, &out);
        std::mem::take(&mut device.received)
    }

    fn acknowledge(&mut self, device: &mut Device, notification: &[u8]) {
        let ack = [0x60, 0, notification[2], notification[3]];
        let sealed = device.seal(&ack);
        self.talk(device, vec![sealed]);
    }
}

#[test]
fn a_notification_goes_out_and_its_fate_is_told() {
    let mut endpoint = endpoint(|_| {});
    let observer = plain_observer(&mut endpoint, 7);
    assert_eq!(endpoint.metrics.value(Counter::Relations), 1);
    let mut out = Outbox::default();
    endpoint.handle_notification(at(2), notification(observer, 1, 5), &mut out);
    endpoint.handle_notification(at(2), notification(observer, 1, 6), &mut out);
    let [(to, first)] = sent(&out).try_into().unwrap();
    assert_eq!(
        (to, &first[..2], &first[4..]),
        (peer(7), &b"\x41\x45"[..], &b"\x77\x61\x01\xff5"[..])
    );
    // Nobody took the event: it is told again.
    assert!(!endpoint.report_relations(|_| false));
    assert_eq!(events(&mut endpoint), [sent_con(observer, 1, 5)]);
    let out = receive(
        &mut endpoint,
        at(3),
        peer(7),
        &[0x60, 0, first[2], first[3]],
    );
    assert_eq!(sent(&out)[0].1.last(), Some(&b'6'));
    let acknowledged = RelationEventKind::Acknowledged { delivery: 5 };
    let expected = [event(observer, 1, acknowledged), sent_con(observer, 1, 6)];
    assert_eq!(events(&mut endpoint), expected);
    let mut copies = 0;
    for second in 4..100 {
        let mut out = Outbox::default();
        endpoint.handle_timeout(at(second), &mut out);
        copies += out.transmits().len();
    }
    assert_eq!(copies, 4);
    let timed_out = RelationEventKind::Ended(RelationEnd::TimedOut);
    assert_eq!(events(&mut endpoint), [event(observer, 1, timed_out)]);
    assert_eq!(endpoint.metrics.value(Counter::Relations), 0);
    assert_eq!(endpoint.metrics.value(Counter::RelationsTimedOut), 1);
}

#[test]
fn a_relation_that_nobody_can_hold_ends_at_once() {
    let mut endpoint = endpoint(|_| {});
    let request = receive(&mut endpoint, at(1), peer(7), REGISTER)
        .requests
        .pop()
        .expect("a request");
    for port in 8..12 {
        receive(&mut endpoint, at(1), peer(port), POST);
    }
    // The peer was evicted meanwhile.
    endpoint.handle_verdict(at(2), opens(&request, 1), &mut Outbox::default());
    assert_eq!(events(&mut endpoint), [session_ended(request.peer, 1)]);
    let mut out = Outbox::default();
    endpoint.handle_notification(at(2), notification(request.peer, 1, 1), &mut out);
    assert!(out.is_sent() && !endpoint.has_relation_events());
    assert_eq!(endpoint.metrics.drops(DropReason::NotificationStale), 1);
    // An exchange that was answered already opens nothing more.
    let request = receive(&mut endpoint, at(3), peer(7), REGISTER)
        .requests
        .pop()
        .expect("a request");
    endpoint.handle_verdict(at(3), opens(&request, 2), &mut Outbox::default());
    endpoint.handle_verdict(at(3), opens(&request, 3), &mut Outbox::default());
    assert_eq!(events(&mut endpoint), [session_ended(request.peer, 3)]);
}

#[test]
fn relations_end_with_their_peer_once() {
    let mut endpoint = endpoint(|settings| settings.plain_peers_max = 3);
    let observers: Vec<_> = (7..10)
        .map(|port| plain_observer(&mut endpoint, port))
        .collect();
    endpoint.forget(peer(8), Port::Plain);
    assert_eq!(events(&mut endpoint), [session_ended(observers[1], 1)]);
    endpoint.forget_all(at(2));
    let expected = [
        session_ended(observers[0], 1),
        session_ended(observers[2], 1),
    ];
    assert_eq!(events(&mut endpoint), expected);
    let again = plain_observer(&mut endpoint, 7);
    assert_ne!(again, observers[0]);
    while endpoint.close_peers(0..100, &mut Outbox::default()) {}
    assert_eq!(events(&mut endpoint), [session_ended(again, 1)]);
    assert_eq!(endpoint.metrics.value(Counter::Relations), 0);
}

/// RFC 7641 section 4.1 names the client by its endpoint, and under DTLS that is the session: it goes
/// on from another address (RFC 9146 section 6).
#[test]
fn a_relation_follows_its_session_to_another_address() {
    let mut bench = bench_with(8);
    let mut device = connect(&mut bench, 7, with_id(b""));
    let observer = bench.observe(&mut device, 1);
    let [before] = bench
        .notify(&mut device, notification(observer, 1, 1))
        .try_into()
        .unwrap();
    // In flight when the address changes; acknowledged from the new one.
    device.address = peer(8);
    bench.acknowledge(&mut device, &before);
    let [after] = bench
        .notify(&mut device, notification(observer, 1, 2))
        .try_into()
        .unwrap();
    assert_eq!(after[4..], *b"\x77\x61\x02\xff2");
    bench.acknowledge(&mut device, &after);
    let kinds: Vec<_> = events(&mut bench.endpoint)
        .iter()
        .map(|event| event.kind)
        .collect();
    let acknowledged = |delivery| RelationEventKind::Acknowledged { delivery };
    assert_eq!((kinds[1], kinds[3]), (acknowledged(1), acknowledged(2)));
    assert_eq!(bench.metrics.value(Counter::AddressChanges), 1);
    assert_eq!(bench.metrics.value(Counter::Relations), 1);
}

/// A session belongs to whoever made it: a new one at the address inherits nothing.
#[test]
fn a_new_session_at_the_address_ends_the_relations_of_the_old_one() {
    let mut bench = Bench::new(|_| ());
    let mut device = bench.connect(10, None);
    let observer = bench.observe(&mut device, 1);
    let mut renewed = bench.connect(10, None);
    assert_eq!(events(&mut bench.endpoint), [session_ended(observer, 1)]);
    let got = bench.notify(&mut renewed, notification(observer, 1, 1));
    assert!(got.is_empty(), "another session's notification");
    let observer = bench.observe(&mut renewed, 2);
    assert_eq!(
        bench
            .notify(&mut renewed, notification(observer, 2, 1))
            .len(),
        1
    );
}

#[test]
fn relations_end_with_a_revoked_or_an_idle_session() {
    #[derive(Debug)]
    struct AllCertificates;
    impl Revocations for AllCertificates {
        fn is_revoked(&self, identity: &PeerIdentity, _since_unix_ms: u64) -> bool {
            matches!(identity, PeerIdentity::Certificate(_))
        }
    }
    let mut bench = Bench::new(|settings| {
        settings.session_inactivity_timeout = Duration::from_secs(600);
        settings.session_report_timeout = Duration::from_secs(60);
        settings.revocations = Arc::new(AllCertificates);
    });
    let mut revoked = bench.connect(10, Some(credentials()));
    let mut idle = bench.connect(11, None);
    let first = bench.observe(&mut revoked, 1);
    let second = bench.observe(&mut idle, 2);
    bench.endpoint.revoke_since(0);
    let mut out = Outbox::default();
    while bench.endpoint.drop_revoked(100, &mut out) {}
    assert_eq!(events(&mut bench.endpoint), [session_ended(first, 1)]);
    for _ in 0..120 {
        bench.sleep(Duration::from_secs(10));
        bench
            .endpoint
            .handle_timeout(bench.now, &mut Outbox::default());
    }
    assert_eq!(events(&mut bench.endpoint), [session_ended(second, 2)]);
    assert_eq!(bench.metrics.value(Counter::RelationsSessionEnded), 2);
}

/// Whoever can send from many addresses must not end what others observe.
#[test]
fn a_flood_of_plain_peers_leaves_observers_alone() {
    let mut endpoint = endpoint(|settings| {
        settings.plain_peers_max = 6;
        settings.requests_max = 1000;
    });
    let observers: Vec<_> = (1..=4)
        .map(|port| plain_observer(&mut endpoint, port))
        .collect();
    for port in 100..200 {
        receive(&mut endpoint, at(2), peer(port), POST);
        assert!(endpoint.peers.len() <= 6);
    }
    // A half of the places: the fourth was too many.
    assert_eq!(events(&mut endpoint), [session_ended(observers[3], 1)]);
    // One that cancels gives its place up, and another may have it.
    receive(
        &mut endpoint,
        at(3),
        peer(2),
        b"\x41\x01\x00\x02\x77\x61\x01",
    );
    let cancelled = RelationEventKind::Ended(RelationEnd::Cancelled);
    assert_eq!(events(&mut endpoint), [event(observers[1], 1, cancelled)]);
    let fifth = plain_observer(&mut endpoint, 5);
    for port in 200..300 {
        receive(&mut endpoint, at(4), peer(port), POST);
        assert!(endpoint.peers.len() <= 6);
    }
    for observer in [observers[0], observers[2], fifth] {
        let mut out = Outbox::default();
        endpoint.handle_notification(at(5), notification(observer, 1, 1), &mut out);
        assert_eq!(out.transmits().len(), 1);
    }
}
