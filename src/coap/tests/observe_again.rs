//! Notifications that are not acknowledged: sent again, and then anew (see `observe::in_flight`).

use super::observe::{CON, Seen, acknowledged, ended, notification, opens, sent_con};
use super::*;
use crate::auth::request::RelationEnd;

/// CON GET, Observe 0, token 77.
const REGISTER: &str = "410100017760";

/// Sends one notification and lets all of its transmissions go unanswered but for the time of the last
/// one.
fn all_transmissions(peer: &mut Peer) -> Vec<Seen> {
    peer.notify(notification(1, 1, "one")).unwrap();
    while peer.sent.len() < 5 {
        let at = peer.layer.next_timeout().expect("a retransmission");
        peer.now = at;
        peer.run(|layer, now, cx| layer.handle_timeout(now, cx));
    }
    peer.events();
    peer.seen()
}

/// RFC 7252 section 4.2 for the first retransmission; RFC 7641 section 4.5.2 for those after it: a new
/// message, in the time and by the counter of the old one. The Observe value stays (section 3.4).
#[test]
fn the_second_retransmission_is_a_new_message() {
    for seed in 0..20 {
        let mut peer = Peer::observing(REGISTER);
        peer.random = SeededRandom::new(seed);
        let began = peer.now;
        let sent = all_transmissions(&mut peer);
        let ids: Vec<u16> = sent.iter().map(|sent| sent.message_id).collect();
        assert_eq!(ids[0], ids[1], "the first retransmission is one");
        let first = ids[0];
        let following = [1, 2, 3].map(|step| first.wrapping_add(step));
        assert_eq!(ids[2..], following, "seed {seed}");
        for one in &sent {
            assert_eq!((one.kind, one.observe), (CON, Some(1)));
            assert_eq!((&one.token[..], &one.text[..]), (&[0x77][..], "one"));
        }
        // T + 2T + 4T + 8T, T from 2 to 3 s.
        let took = peer.now.saturating_duration_since(began).as_millis();
        assert!((30_000..=45_000).contains(&took), "{took} ms");
        peer.advance(48_000);
        assert_eq!(peer.events(), [(1, ended(RelationEnd::TimedOut))]);
    }
}

/// Whichever copy it is that is acknowledged, or rejected: it is this notification.
#[test]
fn every_message_id_of_a_notification_counts() {
    for copy in 0..5 {
        let mut peer = Peer::observing(REGISTER);
        let sent = all_transmissions(&mut peer);
        peer.notify(notification(1, 2, "two")).unwrap();
        assert_eq!(peer.seen(), []);
        assert_eq!(peer.acknowledge(sent[copy].message_id), Input::Nothing);
        assert_eq!(peer.events(), [(1, acknowledged(1)), (1, sent_con(2))]);
        let [two] = peer.seen().try_into().unwrap();
        assert_eq!((two.observe, &two.text[..]), (Some(2), "two"));
        // The other copies are nobody's any more, and the next one has its own attempts.
        for other in &sent {
            let input = peer.acknowledge(other.message_id);
            assert_eq!(input, Input::Dropped(DropReason::CoapUnmatched));
        }
        assert_eq!(peer.advance(2_999).retransmitted, 1);
        assert_eq!(peer.seen()[0].message_id, two.message_id);

        let mut peer = Peer::observing(REGISTER);
        let sent = all_transmissions(&mut peer);
        assert_eq!(peer.reset(sent[copy].message_id), Input::Nothing);
        assert_eq!(peer.events(), [(1, ended(RelationEnd::Reset))]);
        assert_eq!(peer.layer.relation_memory(), (0, 0, 0));
    }
}

/// An answer that goes by itself opens its relation, and is sent again in the same way.
#[test]
fn a_late_first_answer_is_sent_anew_too() {
    let mut peer = Peer::new();
    let exchange = peer.request(REGISTER);
    peer.advance(500);
    peer.sent.clear();
    peer.respond(exchange, &opens(1, "late")).unwrap();
    peer.advance(20_000);
    let ids: Vec<u16> = peer.seen().iter().map(|sent| sent.message_id).collect();
    // T + 2T have passed for sure, T being 2 to 3 s, and perhaps T + 2T + 4T.
    assert!(ids.len() == 3 || ids.len() == 4, "{ids:?}");
    assert!(ids[0] == ids[1] && ids[1] != ids[2]);
    assert_eq!(peer.acknowledge(ids[0]), Input::Nothing);
    assert_eq!(peer.advance(100_000).retransmitted, 0);
}

/// RFC 7252 section 4.4: no Message ID comes again within EXCHANGE_LIFETIME; with none free the
/// notification goes out under its own.
#[test]
fn without_a_message_id_the_old_one_serves() {
    let mut peer = Peer::observing(REGISTER);
    for delivery in 0..65_535 {
        peer.notify(notification(1, delivery, "")).unwrap();
        let [sent] = peer.seen().try_into().unwrap();
        peer.acknowledge(sent.message_id);
    }
    let sent = all_transmissions(&mut peer);
    assert!(sent.iter().all(|one| one.message_id == sent[0].message_id));
    peer.acknowledge(sent[0].message_id);
    assert_eq!(peer.events(), [(1, acknowledged(1))]);
}
