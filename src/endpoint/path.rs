//! A peer's address moves, and is confirmed.
//!
//! ```text
//!             newest authentic record      path_response, or the
//!             from another address         ACK of a message sent there
//! confirmed ------------------> unconfirmed -------------------> confirmed
//! (anything may                 (3 x what came                   at the new address
//!  be sent)                      from there)
//!     ^                              |
//!     +--- the check's time is over -+   only with RFC 9853
//! ```
//!
//! RFC 9146 section 6: a replayed or an overtaken record moves nothing, as only the newest does. A
//! copy that overtakes its original with a forged source does, so the new address gets at most
//! three times the bytes that came from it until the peer has shown that it receives there.
//!
//! - A peer that knows the return routability check (RFC 9853) is asked by path_challenge: the basic
//!   check, as after a rebinding of a NAT nobody answers at the old address, and the enhanced one
//!   would cost each device that time. Three challenges, after 0, 1 and 3 s; after 7 s the address
//!   is the old one again, until a newer record comes from elsewhere.
//! - Any other peer stays limited until it acknowledges a confirmable message that was first sent to
//!   the new address. The limit grows with all that comes, so that ordinary requests, which are
//!   larger than their answers, never meet it.
//!
//! Another peer at the new address keeps its place there: what has no connection id goes to it. It
//! is usually a dead session of the same NAT. The moved peer is found by its id. And a handshake at an
//! address that is not confirmed is a peer's of its own: who is there may be somebody else, whose
//! session must not end the moved one, and whose handshake must not go where that goes next.

use std::net::SocketAddr;

use super::foresight::Foresight;
use super::{Endpoint, Outbox, PeerKey};
use crate::drop_reason::DropReason;
use crate::dtls::{Association, PathCookie};
use crate::metrics::Counter;
use crate::slab::Key;
use crate::time::{Duration, Instant, Now};

/// What may be sent to an address for each byte that came from it (RFC 9853 section 2).
pub(super) const AMPLIFICATION_MAX: usize = 3;
/// When a challenge is given up after it was sent, and the next one follows.
const CHALLENGE_INTERVALS: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// An address that is not confirmed yet.
#[derive(Debug)]
pub(super) struct Path {
    /// The last one that was.
    previous: PeerKey,
    received: usize,
    sent: usize,
    /// A confirmable message that was first sent here.
    unacknowledged: Option<u16>,
    check: Option<Check>,
}

/// A return routability check.
#[derive(Debug)]
struct Check {
    cookies: [PathCookie; CHALLENGE_INTERVALS.len()],
    sent: usize,
    due: Instant,
}

impl Path {
    /// Bytes that may still be sent.
    pub(super) const fn allowance(&self) -> usize {
        let limit = self.received.saturating_mul(AMPLIFICATION_MAX);
        limit.saturating_sub(self.sent)
    }

    /// Counts what was sent.
    pub(super) const fn on_sent(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(bytes);
    }

    /// Counts an authentic datagram.
    pub(super) const fn on_received(&mut self, bytes: usize) {
        self.received = self.received.saturating_add(bytes);
    }

    /// Remembers a CoAP message that was sent here for the first time, if it is to be acknowledged
    /// (RFC 7252 section 3: type 0).
    pub(super) fn on_message(&mut self, message: &[u8]) {
        if let Some((0, message_id)) = type_and_id(message) {
            self.unacknowledged = Some(message_id);
        }
    }

    /// Whether a CoAP message from here proves that ours arrived: its ACK or Reset (RFC 7252 section
    /// 3: types 2 and 3).
    fn is_proven_by(&self, message: &[u8]) -> bool {
        match type_and_id(message) {
            Some((2 | 3, message_id)) => self.unacknowledged == Some(message_id),
            _ => false,
        }
    }

    fn knows(&self, cookie: &PathCookie) -> bool {
        let sent = self
            .check
            .as_ref()
            .map(|check| (&check.cookies, check.sent));
        sent.is_some_and(|(cookies, sent)| cookies.iter().take(sent).any(|c| c == cookie))
    }

    /// When the check goes on, if there is one.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.check.as_ref().map(|check| check.due)
    }
}

/// Bytes that may be sent to where a peer with this path is.
pub(super) fn allowance(path: &Option<Box<Path>>) -> usize {
    path.as_ref().map_or(usize::MAX, |path| path.allowance())
}

fn type_and_id(message: &[u8]) -> Option<(u8, u16)> {
    let (&first, rest) = message.split_first()?;
    let id = rest.get(1..)?.first_chunk()?;
    Some((first >> 4 & 3, u16::from_be_bytes(*id)))
}

/// What an authentic datagram says about where its peer is.
pub(super) struct Arrival<'a> {
    pub(super) from: PeerKey,
    /// Its length, and that of what it was answered with so far.
    pub(super) received: usize,
    pub(super) sent: usize,
    pub(super) path_response: Option<&'a PathCookie>,
}

impl Endpoint {
    /// The newest record of a peer came: moves the peer there, or counts for where it is.
    pub(super) fn on_newest(
        &mut self,
        now: Now,
        key: Key,
        arrival: &Arrival<'_>,
        out: &mut Outbox,
    ) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let from = arrival.from;
        let current = peer.place();
        if current.address == from.address {
            if current.local != from.local {
                // It asks at another address of ours, and is to be answered from there.
                self.readdress(key, from);
            }
            let Some(peer) = self.peers.get_mut(key) else {
                return;
            };
            let Some(path) = &mut peer.path else { return };
            path.on_received(arrival.received);
            path.on_sent(arrival.sent);
            let cookie = arrival.path_response;
            if cookie.is_some_and(|cookie| path.knows(cookie)) {
                self.confirm(key);
            }
            return;
        }
        let confirmed = match peer.path.take() {
            Some(path) => path.previous,
            None => current,
        };
        self.metrics.increment(Counter::AddressChanges);
        self.readdress(key, from);
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        // Back where it was confirmed before: nothing to be shown.
        if from.address == confirmed.address {
            return;
        }
        peer.path = Some(Box::new(Path {
            previous: confirmed,
            received: arrival.received,
            sent: arrival.sent,
            unacknowledged: None,
            check: None,
        }));
        let association = peer.association.as_ref();
        if association.is_some_and(Association::return_routability_check) {
            self.challenge(now, key, out);
        }
    }

    /// Whether a CoAP message shows that the peer receives where it came from.
    pub(super) fn on_message_from(&mut self, key: Key, from: SocketAddr, message: &[u8]) {
        let Some(peer) = self.peers.get(key) else {
            return;
        };
        let path = peer.path.as_ref().filter(|_| peer.address == from.into());
        if path.is_some_and(|path| path.is_proven_by(message)) {
            self.confirm(key);
        }
    }

    fn confirm(&mut self, key: Key) {
        if let Some(peer) = self.peers.get_mut(key) {
            peer.path = None;
            self.metrics.increment(Counter::PathsConfirmed);
        }
    }

    /// Goes on with a check whose time has come.
    pub(super) fn handle_path_timeout(&mut self, now: Now, key: Key, out: &mut Outbox) {
        let path = self.peers.get(key).and_then(|peer| peer.path.as_ref());
        let Some(path) = path else { return };
        let Some(check) = path.check.as_ref().filter(|check| check.due <= now.instant) else {
            return;
        };
        if check.sent < check.cookies.len() {
            return self.challenge(now, key, out);
        }
        // RFC 9853 section 5.1: the binding is not updated.
        let previous = path.previous;
        if let Some(peer) = self.peers.get_mut(key) {
            peer.path = None;
        }
        self.readdress(key, previous);
        self.metrics.increment(Counter::PathsUnconfirmed);
    }

    /// Sends a path_challenge of its own cookie, as far as the limit allows.
    fn challenge(&mut self, now: Now, key: Key, out: &mut Outbox) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let (Some(path), Some(association)) = (&mut peer.path, &mut peer.association) else {
            return;
        };
        let check = path.check.get_or_insert_with(|| Check {
            cookies: Default::default(),
            sent: 0,
            due: now.instant,
        });
        let next = check.cookies.get_mut(check.sent);
        let (Some(cookie), Some(&interval)) = (next, CHALLENGE_INTERVALS.get(check.sent)) else {
            return;
        };
        self.random.fill(cookie);
        let cookie = *cookie;
        check.sent += 1;
        check.due = now.instant + interval;
        let mut sink = out.limited(peer.address.into(), peer.local, path.allowance());
        association.send_path_challenge(&cookie, &mut sink);
        let (sent, refused) = (sink.sent(), sink.refused());
        path.on_sent(sent);
        for _ in 0..refused {
            self.metrics.count_drop(DropReason::PathLimit);
        }
    }

    /// A handshake begins at `place`: a peer that may not be there makes way, and is found by its id.
    pub(super) fn unlist_unconfirmed(&mut self, place: &PeerKey) {
        let Some(key) = self.by_address.find(place, &self.peers) else {
            return;
        };
        let is_unconfirmed = self.peers.get(key).is_some_and(|peer| peer.path.is_some());
        if is_unconfirmed {
            self.by_address.remove(place, key.slot);
            // It has this address still: whoever was foreseen here may be the wrong one.
            self.guess = None;
            self.foresight = Foresight::default();
        }
    }

    /// Gives a peer another place, in the index too.
    fn readdress(&mut self, key: Key, place: PeerKey) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        self.by_address.remove(&peer.place(), key.slot);
        peer.address = place.address.into();
        peer.local = place.local;
        self.list(&place, key);
    }
}
