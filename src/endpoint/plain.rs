//! Plain CoAP peers: whoever sends a message takes a place, so there is a bounded number of them, and
//! the oldest one makes room.
//!
//! ```text
//! new --> peers (in order of arrival) --its turn to go--> observers, up to a half of all places
//!            ^                                 |                  | place is wanted by another
//!            '----- observes nothing more -----|------------------'
//!                                              '--> gone
//! ```
//!
//! Source addresses cost nothing, and a flood of them must not end what devices observe: for a relation
//! the device API has looked at a token. So observers stay, as long as they are not too many.

use std::collections::VecDeque;

use super::{Endpoint, PeerKey};
use crate::metrics::Counter;
use crate::slab::Key;
use crate::time::Now;

/// Observers that are looked at to find one that is none any more.
const OBSERVERS_LOOKED_AT: usize = 8;

/// The places of plain peers. Those that left on their own are listed until their turn comes.
#[derive(Debug, Default)]
pub(super) struct PlainPeers {
    /// In the order in which they came.
    peers: VecDeque<Key>,
    /// Those that observed something when their turn came.
    observers: VecDeque<Key>,
}

impl PlainPeers {
    pub(super) fn clear(&mut self) {
        self.peers.clear();
        self.observers.clear();
    }

    fn len(&self) -> usize {
        self.peers.len() + self.observers.len()
    }
}

impl Endpoint {
    /// Makes a plain peer; the oldest one gives way when their number is at its limit.
    pub(super) fn insert_plain(&mut self, key: PeerKey, now: Now) -> Option<Key> {
        while self.plain_peers.len() >= self.settings.plain_peers_max {
            self.make_room_for_plain()?;
        }
        let peer = self.insert(key, None, now)?;
        self.plain_peers.peers.push_back(peer);
        Some(peer)
    }

    /// Gives up the oldest peer, or moves it out of the way. Each peer moves twice at most for each
    /// time that it begins to observe.
    fn make_room_for_plain(&mut self) -> Option<()> {
        let Some(oldest) = self.plain_peers.peers.pop_front() else {
            let observer = self.plain_peers.observers.pop_front()?;
            self.evict(observer);
            return Some(());
        };
        if !self.is_observer(oldest) {
            self.evict(oldest);
            return Some(());
        }
        let is_full = self.plain_peers.observers.len() >= self.settings.plain_peers_max / 2;
        if is_full && !self.release_observer() {
            self.evict(oldest);
            return Some(());
        }
        self.plain_peers.observers.push_back(oldest);
        Some(())
    }

    /// Moves a peer that observes nothing any more back to the others; looks at a few of them.
    fn release_observer(&mut self) -> bool {
        for _ in 0..OBSERVERS_LOOKED_AT {
            let Some(first) = self.plain_peers.observers.pop_front() else {
                return false;
            };
            if !self.is_observer(first) {
                self.plain_peers.peers.push_back(first);
                return true;
            }
            self.plain_peers.observers.push_back(first);
        }
        false
    }

    fn is_observer(&self, key: Key) -> bool {
        let layer = self.peers.get(key).and_then(|peer| peer.coap.as_ref());
        layer.is_some_and(|layer| layer.is_observed())
    }

    fn evict(&mut self, key: Key) {
        if self.peers.get(key).is_some() {
            self.metrics.increment(Counter::PlainPeersEvicted);
            self.remove(key);
        }
    }
}
