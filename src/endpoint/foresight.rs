//! A look ahead at the peers whose turn comes next.
//!
//! What is kept of a peer lies in half a dozen places: index, slot, timer, message layer, its ring, keys. With
//! many peers they are cold, and each tells where the next one is, so that a datagram that is handled
//! by itself waits for one after the other. Looked at beforehand, for several peers step by step, the
//! places do not depend on each other, and the processor fetches many at a time:
//!
//! ```text
//! step 1   address -> index -> slot        of all that come next
//! step 2   slot, timer                     of all
//! step 3   message layer, ring, keys,
//!          timers beside that              of all
//! then     the datagrams, one by one       find it all in the cache
//! ```
//!
//! Nothing changes by a look, and what it found is a guess: whoever uses it looks whether it is right.

use std::hint::black_box;
use std::net::SocketAddr;

use super::peer::Peer;
use super::peer_address::{PackedAddress, canonical};
use super::{Endpoint, Local, PeerKey};
use crate::auth::request::Verdict;
use crate::slab::Key;

/// Peers looked at together: more than a processor fetches at a time, and few enough to be in its
/// cache still when their turn comes.
pub const AHEAD: usize = 16;

/// The guesses of the last look.
#[derive(Debug, Default)]
pub(super) struct Foresight {
    /// In order of arrival.
    guesses: [Option<(PeerKey, Option<Key>)>; AHEAD],
    next: usize,
}

impl Foresight {
    /// What was guessed for the datagram that comes now from `place`, if it was foreseen.
    pub(super) fn take(&mut self, place: &PeerKey) -> Option<Key> {
        let (foreseen, key) = (*self.guesses.get(self.next)?)?;
        self.next += 1;
        key.filter(|_| foreseen == *place)
    }
}

impl Endpoint {
    /// Looks at the peers of the datagrams that come next, in this order, at most [`AHEAD`] of them.
    pub fn foresee(&mut self, arrivals: &mut dyn Iterator<Item = (SocketAddr, Local)>) {
        let Self {
            foresight,
            by_address,
            peers,
            timers,
            ..
        } = self;
        *foresight = Foresight::default();
        let mut slots = [None; AHEAD];
        let guesses = foresight.guesses.iter_mut();
        for (((from, local), guess), slot) in arrivals.zip(guesses).zip(&mut slots) {
            let place = PeerKey {
                address: canonical(from),
                local,
            };
            *slot = by_address.guess(&place);
            *guess = Some((place, None));
        }
        let mut sum = 0;
        for (guess, slot) in foresight.guesses.iter_mut().flatten().zip(slots) {
            let key = slot.and_then(|slot| peers.key_of(slot));
            sum ^= key.and_then(|key| peers.get(key)).map_or(0, Peer::touch);
            sum ^= slot.map_or(0, |slot| timers.touch(slot));
            guess.1 = key;
        }
        for (_, key) in foresight.guesses.iter().flatten() {
            let peer = key.and_then(|key| peers.get(key));
            sum ^= peer.map_or(0, Peer::touch_parts);
            sum ^= key.map_or(0, |key| timers.touch_neighbours(key.slot));
        }
        black_box(sum);
    }

    /// Looks at the peers of the verdicts that come next.
    pub fn foresee_verdicts(&self, verdicts: &[Verdict]) {
        let peers = || {
            let keys = verdicts.iter().map(|verdict| Key {
                slot: verdict.peer.slot,
                generation: verdict.peer.generation,
            });
            keys.filter_map(|key| self.peers.get(key))
        };
        let slots = peers().fold(0, |sum, peer| sum ^ peer.touch());
        let parts = peers().fold(0, |sum, peer| sum ^ peer.touch_parts());
        black_box(slots ^ parts);
    }

    /// The peer that is listed at `place`; `guess` says who that may be.
    pub(super) fn find_guessed(&self, place: &PeerKey, guess: Option<Key>) -> Option<Key> {
        let is_there = |key: &Key| {
            self.peers.get(*key).is_some_and(|peer| {
                peer.local == place.local && peer.address == PackedAddress::from(place.address)
            })
        };
        guess
            .filter(is_there)
            .or_else(|| self.by_address.find(place, &self.peers))
    }
}
