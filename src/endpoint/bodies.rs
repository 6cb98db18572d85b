//! Memory for bodies in blocks (RFC 7959): who does not go on gives way.
//!
//! ```text
//! first block --> unproven --its turn, and no block since--> given up
//!                    |  ^ '--a block came--> back in the queue
//!                    '-- answered 2.xx --> proven, whose turn comes when no unproven one is left
//! ```
//!
//! An upload begins before anybody has looked at a token, so a stranger can begin many of them, each from
//! another address, and leave them. Were their memory kept for EXCHANGE_LIFETIME, a second of such blocks would
//! refuse those of every device for four minutes. So with little of the shard's budget left, peers are asked in
//! turn: those give way to whom no block came since they were asked last, and of these first the ones
//! that were never answered 2.xx.

use std::collections::VecDeque;

use super::Endpoint;
use crate::coap::{MessageLayer, Review};
use crate::metrics::Counter;
use crate::slab::Key;

/// Peers that are asked at a time.
const LOOKS: usize = 64;
/// As many are listed before those are looked for that hold nothing any more.
const TIDY_MIN: usize = 1024;

/// The peers of a shard that hold bodies in blocks; those that hold none any more are listed until
/// somebody looks.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    unproven: VecDeque<Key>,
    proven: VecDeque<Key>,
    tidy_at: usize,
}

impl Bodies {
    pub(super) fn len(&self) -> usize {
        self.unproven.len() + self.proven.len()
    }

    fn push(&mut self, key: Key, is_proven: bool) {
        match is_proven {
            true => self.proven.push_back(key),
            false => self.unproven.push_back(key),
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Endpoint {
    /// Lists a peer that has begun to hold bodies, and makes room if there is little.
    pub(super) fn bound_bodies(&mut self, key: Key, begins: bool) {
        if begins {
            self.tidy_bodies();
            let peer = self.peers.get(key);
            self.bodies
                .push(key, peer.is_some_and(|peer| peer.is_proven));
        }
        if self.buffers.is_scarce() {
            self.make_room_for_bodies();
        }
    }

    fn make_room_for_bodies(&mut self) {
        for _ in 0..LOOKS {
            let unproven = self.bodies.unproven.pop_front();
            let Some(key) = unproven.or_else(|| self.bodies.proven.pop_front()) else {
                return;
            };
            let Some(peer) = self.peers.get_mut(key) else {
                continue;
            };
            let layer = peer.coap.as_mut();
            let review = layer.map(|layer| layer.review_bodies(&mut self.buffers));
            match review {
                None | Some(Review::Nothing) => {}
                Some(Review::GoesOn) => self.bodies.push(key, peer.is_proven),
                Some(Review::GivenUp) => {
                    self.metrics.increment(Counter::BodiesDisplaced);
                    if !self.buffers.is_scarce() {
                        return;
                    }
                }
            }
        }
    }

    /// Forgets those that hold nothing any more, once there may be as many of them as of the others.
    fn tidy_bodies(&mut self) {
        if self.bodies.len() < self.bodies.tidy_at.max(TIDY_MIN) {
            return;
        }
        let peers = &mut self.peers;
        let mut holds = |key: &Key| {
            let layer = peers.get_mut(*key).and_then(|peer| peer.coap.as_mut());
            layer.is_some_and(|layer: &mut Box<MessageLayer>| layer.still_holds_bodies())
        };
        self.bodies.unproven.retain(&mut holds);
        self.bodies.proven.retain(&mut holds);
        self.bodies.tidy_at = 2 * self.bodies.len();
    }
}
