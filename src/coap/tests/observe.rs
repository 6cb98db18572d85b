//! Observe relations (RFC 7641).

use super::*;
use crate::auth::request::{Notification, PeerRef, RelationEnd, RelationEventKind, RelationId};

/// CON GET, Observe 0, token 77.
const REGISTER: &str = "410100017760";
/// The same as NON.
const REGISTER_NON: &str = "510100017760";
/// Message and token of an answer or notification with the Observe value 0 and on.
const PEER: PeerRef = PeerRef {
    shard: 0,
    slot: 0,
    generation: 0,
};

pub(super) fn opens(relation: u64, text: &str) -> Response {
    Response {
        relation: Some(RelationId(relation)),
        payload: text.as_bytes().to_vec(),
        ..Response::empty(0x45)
    }
}

pub(super) fn notification(relation: u64, delivery: u64, text: &str) -> Notification {
    Notification {
        peer: PEER,
        relation: RelationId(relation),
        delivery,
        response: Response {
            payload: text.as_bytes().to_vec(),
            ..Response::empty(0x45)
        },
        last: false,
    }
}

impl Peer {
    pub(super) fn notify(&mut self, notification: Notification) -> Result<(), DropReason> {
        self.run(|layer, now, cx| layer.notify(now, notification, cx))
    }

    pub(super) fn events(&mut self) -> Vec<(u64, RelationEventKind)> {
        let events = std::iter::from_fn(|| self.layer.next_event());
        events.map(|(relation, kind)| (relation.0, kind)).collect()
    }

    /// The messages that were sent, read.
    pub(super) fn seen(&mut self) -> Vec<Seen> {
        self.sent
            .drain(..)
            .map(|message| Seen::new(&message))
            .collect()
    }

    /// Opens relation 1 by a request; what was sent for it is forgotten.
    pub(super) fn observing(request: &str) -> Self {
        let mut peer = Self::new();
        let exchange = peer.request(request);
        peer.respond(exchange, &opens(1, "first")).unwrap();
        peer.sent.clear();
        peer
    }

    pub(super) fn acknowledge(&mut self, message_id: u16) -> Input {
        self.receive_hex(&format!("6000{message_id:04x}"))
    }

    pub(super) fn reset(&mut self, message_id: u16) -> Input {
        self.receive_hex(&format!("7000{message_id:04x}"))
    }
}

/// A message as its observer reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) kind: u8,
    pub(super) code: u8,
    pub(super) message_id: u16,
    pub(super) token: Vec<u8>,
    pub(super) observe: Option<u32>,
    pub(super) text: String,
}

impl Seen {
    fn new(message: &[u8]) -> Self {
        let packet = coap_lite::Packet::from_bytes(message).unwrap();
        let observe = packet.get_first_option(coap_lite::CoapOption::Observe);
        Self {
            kind: message[0] >> 4 & 3,
            code: message[1],
            message_id: packet.header.message_id,
            token: packet.get_token().to_vec(),
            observe: observe.map(|value| value.iter().fold(0, |n, &byte| n << 8 | u32::from(byte))),
            text: String::from_utf8(packet.payload.clone()).unwrap(),
        }
    }
}

pub(super) const CON: u8 = 0;
const NON: u8 = 1;
const ACK: u8 = 2;

pub(super) const fn sent_con(delivery: u64) -> RelationEventKind {
    RelationEventKind::Sent {
        delivery,
        confirmable: true,
    }
}

const fn sent_non(delivery: u64) -> RelationEventKind {
    RelationEventKind::Sent {
        delivery,
        confirmable: false,
    }
}

pub(super) const fn acknowledged(delivery: u64) -> RelationEventKind {
    RelationEventKind::Acknowledged { delivery }
}

pub(super) const fn ended(end: RelationEnd) -> RelationEventKind {
    RelationEventKind::Ended(end)
}

/// RFC 7641 section 3.1: the answer has an Observe option and the request's token; section 4.2: so
/// has each notification.
#[test]
fn the_answer_is_the_first_notification_and_counts_from_0() {
    let mut peer = Peer::new();
    let exchange = peer.request(REGISTER);
    peer.respond(exchange, &opens(1, "first")).unwrap();
    let [answer] = peer.seen().try_into().unwrap();
    assert_eq!(
        (answer.kind, answer.code, answer.message_id),
        (ACK, 0x45, 1)
    );
    assert_eq!((&answer.token[..], answer.observe), (&[0x77][..], Some(0)));
    assert_eq!(answer.text, "first");
    peer.notify(notification(1, 40, "second")).unwrap();
    let [second] = peer.seen().try_into().unwrap();
    assert_eq!((second.kind, second.code), (CON, 0x45));
    assert_eq!((&second.token[..], second.observe), (&[0x77][..], Some(1)));
    assert_eq!(peer.events(), [(1, sent_con(40))]);
    assert_eq!(peer.acknowledge(second.message_id), Input::Nothing);
    assert_eq!(peer.events(), [(1, acknowledged(40))]);
    assert_eq!(
        peer.acknowledge(second.message_id),
        Input::Dropped(DropReason::CoapUnmatched)
    );
    assert_eq!(
        (
            peer.layer.take_relation_change(),
            peer.layer.take_relation_change()
        ),
        (1, 0)
    );
}

/// RFC 7641 section 4.5.1: one is in flight. Section 4.5.2 allows a newer one to take the place of
/// one that waits; here all arrive, in order.
#[test]
fn notifications_wait_for_the_one_before_them() {
    let mut peer = Peer::observing(REGISTER);
    for delivery in 1..=10 {
        peer.notify(notification(1, delivery, &delivery.to_string()))
            .unwrap();
    }
    let mut observed = Vec::new();
    let mut events = Vec::new();
    for delivery in 1..=10 {
        let [sent] = peer.seen().try_into().unwrap();
        assert_eq!(sent.text, delivery.to_string());
        observed.push(sent.observe.unwrap());
        events.extend([(1, sent_con(delivery)), (1, acknowledged(delivery))]);
        // Lost once: sent again as it was (RFC 7252 section 4.2).
        let timeouts = peer.advance(3_000);
        assert_eq!(timeouts.retransmitted, 1);
        assert_eq!(peer.seen(), std::slice::from_ref(&sent));
        peer.acknowledge(sent.message_id);
    }
    assert_eq!(peer.events(), events);
    assert_eq!(observed, (1..=10).collect::<Vec<_>>());
    assert_eq!(peer.seen(), []);
    assert_eq!(peer.layer.relation_memory(), (1, 0, 0));
}

/// RFC 7641 section 4.5: after the last retransmission the observer is removed, with what waits.
#[test]
fn an_observer_that_never_acknowledges_is_removed() {
    let mut peer = Peer::observing(REGISTER);
    peer.notify(notification(1, 1, "one")).unwrap();
    peer.notify(notification(1, 2, "two")).unwrap();
    assert_eq!(peer.advance(93_000).retransmitted, 4);
    let sent = peer.seen();
    assert!(sent.len() == 5 && sent.iter().all(|sent| sent.text == "one"));
    assert_eq!(
        peer.events(),
        [(1, sent_con(1)), (1, ended(RelationEnd::TimedOut))]
    );
    assert_eq!(
        peer.notify(notification(1, 3, "three")),
        Err(DropReason::NotificationStale)
    );
    peer.advance(300_000);
    assert!(peer.layer.is_idle(peer.now) && peer.events().is_empty());
}

/// RFC 7641 sections 3.6 and 4.5: a Reset MUST end the relation; also one that answers a
/// non-confirmable notification, and not only the last of these.
#[test]
fn a_reset_ends_the_relation() {
    let mut peer = Peer::observing(REGISTER);
    peer.notify(notification(1, 1, "one")).unwrap();
    peer.notify(notification(1, 2, "two")).unwrap();
    let [sent] = peer.seen().try_into().unwrap();
    assert_eq!(peer.reset(sent.message_id), Input::Nothing);
    assert_eq!(
        peer.events(),
        [(1, sent_con(1)), (1, ended(RelationEnd::Reset))]
    );
    assert_eq!(
        (peer.seen(), peer.layer.relation_memory()),
        (vec![], (0, 0, 0))
    );

    let mut peer = Peer::observing(REGISTER_NON);
    for delivery in 1..=3 {
        peer.notify(notification(1, delivery, "x")).unwrap();
    }
    let sent = peer.seen();
    assert!(sent.iter().all(|sent| sent.kind == NON));
    assert_eq!(
        peer.acknowledge(sent[0].message_id),
        Input::Dropped(DropReason::CoapUnmatched)
    );
    assert_eq!(peer.reset(sent[0].message_id), Input::Nothing);
    assert_eq!(peer.events().last(), Some(&(1, ended(RelationEnd::Reset))));
}

/// RFC 7641 section 3.6: GET with Observe 1 and the same token; another token cancels nothing.
#[test]
fn the_observer_cancels_under_its_token() {
    let mut peer = Peer::observing(REGISTER);
    let other = peer.request("4101000278 6101");
    peer.respond(other, &Response::empty(0x45)).unwrap();
    assert_eq!(peer.events(), []);
    // Observe 1 in a POST is no cancellation (RFC 7641 section 2: GET only).
    let post = peer.request("4102000377 6101");
    peer.respond(post, &Response::empty(0x41)).unwrap();
    assert_eq!(peer.events(), []);
    peer.notify(notification(1, 9, "in flight")).unwrap();
    peer.sent.clear();
    let cancel = peer.request("4101000477 6101");
    assert_eq!(
        peer.events(),
        [(1, sent_con(9)), (1, ended(RelationEnd::Cancelled))]
    );
    peer.respond(cancel, &text_response(0x45, "now")).unwrap();
    let [answer] = peer.seen().try_into().unwrap();
    assert_eq!((answer.kind, answer.observe), (ACK, None));
    assert_eq!(peer.advance(100_000).retransmitted, 0);
}

/// RFC 7641 section 4.1: a second registration under the token replaces the first; section 4.4: its
/// numbers MUST be greater than those before, also after the relation has ended.
#[test]
fn a_registration_again_goes_on_counting() {
    let mut peer = Peer::observing(REGISTER);
    peer.notify(notification(1, 1, "one")).unwrap();
    let [one] = peer.seen().try_into().unwrap();
    assert_eq!(one.observe, Some(1));
    let again = peer.request("4101000277 60");
    peer.respond(again, &opens(2, "again")).unwrap();
    let [answer] = peer.seen().try_into().unwrap();
    assert_eq!(answer.observe, Some(2));
    assert_eq!(
        peer.events(),
        [(1, sent_con(1)), (1, ended(RelationEnd::Replaced))]
    );
    assert_eq!(
        peer.notify(notification(1, 2, "x")),
        Err(DropReason::NotificationStale)
    );
    // The notification of before is not sent again, and its ACK is nobody's.
    assert_eq!(peer.advance(10_000).retransmitted, 0);
    assert_eq!(
        peer.acknowledge(one.message_id),
        Input::Dropped(DropReason::CoapUnmatched)
    );

    let cancel = peer.request("4101000377 6101");
    peer.respond(cancel, &Response::empty(0x45)).unwrap();
    let third = peer.request("4101000477 60");
    peer.respond(third, &opens(3, "third")).unwrap();
    assert_eq!(peer.seen().pop().unwrap().observe, Some(3));
    // Under another token they count from 0.
    let other = peer.request("4101000578 60");
    peer.respond(other, &opens(4, "other")).unwrap();
    assert_eq!(peer.seen().pop().unwrap().observe, Some(0));
}

/// RFC 7641 section 4.4: 24 bits, counting on from 0 behind the last.
#[test]
fn numbers_wrap_at_24_bits() {
    let mut relations = crate::coap::observe::Relations::default();
    let token = message::Token::new(b"t").unwrap();
    relations.set_next_sequence(token, 0xff_ffff);
    let settings = Settings::default();
    let mut open = |id| relations.open(Instant::ZERO, RelationId(id), token, true, 6, &settings);
    assert_eq!((open(1), open(2)), (Some(0xff_ffff), Some(0)));
}

/// A registration that is answered without a relation ends the one under its token: the answer has
/// no Observe option, so the client does not observe any more (RFC 7641 section 3.1).
#[test]
fn a_registration_that_is_refused_ends_the_relation_of_before() {
    for refusal in [Response::empty(0x81), text_response(0x45, "no more")] {
        let mut peer = Peer::observing(REGISTER);
        let again = peer.request("4101000277 60");
        assert_eq!(peer.events(), []);
        peer.respond(again, &refusal).unwrap();
        assert_eq!(peer.seen()[0].observe, None);
        assert_eq!(peer.events(), [(1, ended(RelationEnd::Finished))]);
    }
    // An error that names a relation never opens it (RFC 7641 section 4.2).
    let mut peer = Peer::new();
    let exchange = peer.request(REGISTER);
    let response = Response {
        code: 0x84,
        ..opens(1, "")
    };
    peer.respond(exchange, &response).unwrap();
    assert_eq!(peer.sent(), ["6184000177"]);
    assert_eq!(peer.events(), [(1, ended(RelationEnd::Finished))]);
}

/// RFC 7252 section 5.2.2: a late answer goes by itself, and is then the notification in flight: its
/// Reset or its timeout ends the relation, and the next one waits for its ACK.
#[test]
fn an_answer_after_the_empty_ack_is_a_notification_in_flight() {
    let open_late = || {
        let mut peer = Peer::new();
        let exchange = peer.request(REGISTER);
        peer.advance(500);
        assert_eq!(peer.sent(), ["60000001"]);
        peer.respond(exchange, &opens(1, "late")).unwrap();
        let [answer] = peer.seen().try_into().unwrap();
        assert_eq!((answer.kind, answer.observe), (CON, Some(0)));
        peer.notify(notification(1, 5, "next")).unwrap();
        assert_eq!((peer.seen(), peer.events()), (vec![], vec![]));
        (peer, answer)
    };
    let (mut peer, answer) = open_late();
    peer.acknowledge(answer.message_id);
    assert_eq!(peer.seen()[0].observe, Some(1));
    assert_eq!(peer.events(), [(1, sent_con(5))]);
    let (mut peer, answer) = open_late();
    peer.reset(answer.message_id);
    assert_eq!(peer.events(), [(1, ended(RelationEnd::Reset))]);
    let (mut peer, _) = open_late();
    assert_eq!(peer.advance(93_000).retransmitted, 4);
    assert_eq!(peer.events(), [(1, ended(RelationEnd::TimedOut))]);
}

/// RFC 7641 section 4.2: the last one has no Observe option, and the relation ends with it.
#[test]
fn the_last_notification_has_no_observe_option() {
    let last = |code| Notification {
        last: code == 0x42,
        response: Response::empty(code),
        ..notification(1, 7, "")
    };
    for code in [0x42, 0x84] {
        let mut peer = Peer::observing(REGISTER);
        peer.notify(last(code)).unwrap();
        assert_eq!(
            peer.notify(notification(1, 8, "late")),
            Err(DropReason::NotificationStale)
        );
        let [sent] = peer.seen().try_into().unwrap();
        assert_eq!((sent.kind, sent.code, sent.observe), (CON, code, None));
        assert_eq!(peer.events(), [(1, sent_con(7))]);
        peer.acknowledge(sent.message_id);
        let expected = [(1, acknowledged(7)), (1, ended(RelationEnd::Finished))];
        assert_eq!(peer.events(), expected);

        let mut peer = Peer::observing(REGISTER_NON);
        peer.notify(last(code)).unwrap();
        assert_eq!(peer.seen()[0].kind, NON);
        assert_eq!(
            peer.events(),
            [(1, sent_non(7)), (1, ended(RelationEnd::Finished))]
        );
    }
}

/// RFC 7641 section 4.5: a server that sends NON MUST find out from time to time whether the client
/// is still there, at least every 24 hours.
#[test]
fn an_observer_of_non_is_probed() {
    // Every sixteenth.
    let mut peer = Peer::observing(REGISTER_NON);
    let mut kinds = Vec::new();
    for delivery in 0..32 {
        peer.advance(10_000);
        peer.notify(notification(1, delivery, "x")).unwrap();
        let [sent] = peer.seen().try_into().unwrap();
        kinds.push(sent.kind);
        if sent.kind == CON {
            peer.acknowledge(sent.message_id);
        }
    }
    let probes: Vec<_> = (0..32).filter(|&n| kinds[n] == CON).collect();
    assert_eq!(probes, [15, 31]);
    // The first one after five minutes, and it ends the relation of whoever is gone.
    let mut peer = Peer::observing(REGISTER_NON);
    peer.advance(299_000);
    peer.notify(notification(1, 1, "x")).unwrap();
    assert_eq!(peer.seen()[0].kind, NON);
    peer.advance(1_000);
    peer.notify(notification(1, 2, "x")).unwrap();
    assert_eq!(peer.seen()[0].kind, CON);
    peer.notify(notification(1, 3, "waits")).unwrap();
    assert_eq!(peer.advance(93_000).retransmitted, 4);
    assert_eq!(
        peer.events().last(),
        Some(&(1, ended(RelationEnd::TimedOut)))
    );
}

/// RFC 7641 section 4.5.1: without an estimate of the round trip SHOULD NOT more than one NON go out
/// every 3 seconds; what comes faster goes as CON, which waits for the peer.
#[test]
fn a_burst_to_an_observer_of_non_goes_at_its_pace() {
    let mut peer = Peer::observing(REGISTER_NON);
    for delivery in 0..7 {
        peer.notify(notification(1, delivery, &delivery.to_string()))
            .unwrap();
    }
    let sent = peer.seen();
    let kinds: Vec<_> = sent.iter().map(|sent| sent.kind).collect();
    assert_eq!(kinds, [NON, NON, NON, NON, CON]);
    peer.acknowledge(sent[4].message_id);
    let sent = peer.seen();
    assert_eq!((sent.len(), sent[0].kind, &sent[0].text[..]), (1, CON, "5"));
    // 3 s later one more may go as NON.
    peer.now = peer.now + Duration::from_millis(1_900);
    peer.acknowledge(sent[0].message_id);
    let sent = peer.seen();
    assert_eq!((sent.len(), sent[0].kind, &sent[0].text[..]), (1, CON, "6"));
    peer.now = peer.now + Duration::from_millis(1_100);
    peer.acknowledge(sent[0].message_id);
    peer.notify(notification(1, 7, "7")).unwrap();
    assert_eq!(peer.seen()[0].kind, NON);
}

/// RFC 7641 section 4.1: whoever cannot add the client answers without the option.
#[test]
fn relations_and_what_waits_for_them_are_bounded() {
    let mut peer = Peer::new();
    for number in 0..9_u8 {
        let exchange = peer.request(&format!("4101{number:04x}{number:02x}60"));
        peer.respond(exchange, &opens(number.into(), "")).unwrap();
        let observe = peer.seen()[0].observe;
        assert_eq!(observe, (number < 8).then_some(0));
    }
    assert_eq!(peer.events(), [(8, ended(RelationEnd::Limit))]);
    assert_eq!(peer.layer.take_relation_change(), 8);
    // One is in flight, sixteen wait, and the next would be lost: the relation is over instead.
    for delivery in 0..17 {
        peer.notify(notification(3, delivery, "x")).unwrap();
    }
    assert_eq!(
        peer.notify(notification(3, 17, "x")),
        Err(DropReason::NotificationOverflow)
    );
    assert_eq!(
        peer.events(),
        [(3, sent_con(0)), (3, ended(RelationEnd::Limit))]
    );
    // Neither do bytes go beyond their bound.
    let long = "x".repeat(1000);
    let taken =
        (0..).take_while(|n| peer.notify(notification(n % 2, *n, &long)).is_ok() && *n < 20);
    assert_eq!(taken.count(), 20);
    let (_, _, bytes) = peer.layer.relation_memory();
    assert!(bytes <= peer.settings.notification_bytes_max);
    peer.settings.notification_bytes_max = bytes + 999;
    assert_eq!(
        peer.notify(notification(0, 99, &long)),
        Err(DropReason::NotificationOverflow)
    );
    // The session ends: all of them do, once.
    peer.layer.end_relations(RelationEnd::SessionEnded);
    let over = peer
        .events()
        .into_iter()
        .filter(|(_, kind)| *kind == ended(RelationEnd::SessionEnded));
    assert_eq!(over.count(), 6);
    assert_eq!(
        (
            peer.layer.take_relation_change(),
            peer.layer.relation_memory()
        ),
        (-8, (0, 0, 0))
    );
}

/// A layer that observes is not idle, and keeps nothing else once all Message IDs are free again.
#[test]
fn a_relation_outlives_its_exchange() {
    let mut peer = Peer::observing(REGISTER);
    peer.advance(1_000_000);
    assert_eq!(
        (peer.layer.memory(), peer.layer.next_timeout()),
        ((0, 0, 0, 0), None)
    );
    assert!(!peer.layer.is_idle(peer.now));
    peer.notify(notification(1, 1, "still")).unwrap();
    let [sent] = peer.seen().try_into().unwrap();
    peer.reset(sent.message_id);
    assert!(!peer.layer.is_idle(peer.now), "its end was not told yet");
    peer.events();
    peer.advance(248_000);
    assert!(peer.layer.is_idle(peer.now) && peer.layer.next_timeout().is_none());
}

/// RFC 7967 section 2: the client wants no answer; it observes all the same.
#[test]
fn a_registration_may_decline_its_answer() {
    let mut peer = Peer::new();
    let exchange = peer.request("41010001 77 60 d1ef02");
    peer.respond(exchange, &opens(1, "unheard")).unwrap();
    assert_eq!(peer.sent(), ["60000001"]);
    peer.notify(notification(1, 1, "heard")).unwrap();
    assert_eq!(peer.seen()[0].observe, Some(1));
}

/// RFC 7252 section 4.4: with no Message ID free a notification waits, and is not lost.
#[test]
fn without_a_message_id_a_notification_waits() {
    let mut peer = Peer::observing(REGISTER);
    for delivery in 0..65_536 {
        peer.notify(notification(1, delivery, "")).unwrap();
        let [sent] = peer.seen().try_into().unwrap();
        peer.acknowledge(sent.message_id);
    }
    peer.events();
    peer.notify(notification(1, 99_999, "late")).unwrap();
    assert_eq!((peer.seen(), peer.events()), (vec![], vec![]));
    peer.advance(247_000);
    assert_eq!(peer.seen()[0].text, "late");
}
