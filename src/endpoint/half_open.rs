//! The budget of half-open handshakes: so many, with so much memory, of one shard.
//!
//! ```text
//! start -> order: | oldest | ... | newest |    a new one with the budget spent: the oldest gives way,
//!            (30 s: `ServerConfig`)             unless it is younger than GRACE
//! ```
//!
//! Who has an address to receive at can begin handshakes without end, and leave them. Were their
//! places kept for the whole time that a handshake may take, three hundred ClientHellos a second
//! would keep every device out. So the places are for those who go on: a handshake that is left takes
//! its place from nobody for longer than [`GRACE`], once places are scarce.
//!
//! Memory counts as it is taken: what was put together of messages, the transcript, our flight. A
//! usual handshake takes some 5 KB; one that fills all that it may, six times as much.

use std::collections::{BTreeMap, VecDeque};

use super::Endpoint;
use super::peer::Peer;
use crate::metrics::Counter;
use crate::slab::Key;
use crate::time::{Duration, Instant, Now};

/// Time that a handshake has its place for, whatever comes.
const GRACE: Duration = Duration::from_secs(3);
/// Memory that each place stands for: all of them together may take so much.
const BYTES_PER_HANDSHAKE: usize = 8 << 10;
/// What one handshake may need that does nothing wrong, however few places there are.
const BYTES_MIN: usize = 64 << 10;
/// Handshakes that are looked at to find one that gives way.
const LOOKS: usize = 8;

/// The handshakes of a shard that are begun and not ended.
#[derive(Debug, Default)]
pub(super) struct HalfOpen {
    /// Those of the peers in these slots. What is taken off is what was put here, whatever became of
    /// the peer in between.
    counted: BTreeMap<u32, Counted>,
    /// Memory of all of them.
    bytes: usize,
    /// When they began, oldest first; those that ended meanwhile are still listed.
    order: VecDeque<(u32, Instant)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counted {
    start: Instant,
    bytes: usize,
}

impl HalfOpen {
    pub(super) fn count(&self) -> usize {
        self.counted.len()
    }

    /// The memory that `handshakes_max` handshakes may take.
    const fn bytes_max(handshakes_max: usize) -> usize {
        let bytes = handshakes_max.saturating_mul(BYTES_PER_HANDSHAKE);
        if bytes > BYTES_MIN { bytes } else { BYTES_MIN }
    }

    /// Whether another one may begin.
    pub(super) fn has_room(&self, handshakes_max: usize) -> bool {
        self.count() < handshakes_max && self.bytes < Self::bytes_max(handshakes_max)
    }

    /// Whether so many are there that not everybody may begin as many as it likes.
    pub(super) fn is_crowded(&self, handshakes_max: usize) -> bool {
        self.count() >= handshakes_max.div_ceil(2)
    }

    /// What is counted for the peer in `slot` is `now` from here on; returns what it was.
    fn count_as(&mut self, slot: u32, now: Option<Counted>) -> Option<Counted> {
        let before = match now {
            Some(counted) => self.counted.insert(slot, counted),
            None => self.counted.remove(&slot),
        };
        self.bytes += now.map_or(0, |counted| counted.bytes);
        self.bytes -= before.map_or(0, |counted| counted.bytes);
        before
    }

    fn is_listed(&self, (slot, start): (u32, Instant)) -> bool {
        let counted = self.counted.get(&slot);
        counted.is_some_and(|counted| counted.start == start)
    }

    /// Lists a handshake that begins.
    fn list(&mut self, slot: u32, start: Instant, handshakes_max: usize) {
        // Those that ended are sorted out when they are as many as there may be others.
        if self.order.len() >= handshakes_max.saturating_mul(2) {
            let mut order = std::mem::take(&mut self.order);
            order.retain(|&listed| self.is_listed(listed));
            self.order = order;
        }
        self.order.push_back((slot, start));
    }

    /// A peer goes, with its handshake if it is in one.
    pub(super) fn on_removed(&mut self, key: Key, peer: &Peer) {
        if peer.is_half_open {
            self.count_as(key.slot, None);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// What a peer's handshake counts for, if it is in one.
fn handshake_of(peer: &Peer) -> Option<Counted> {
    let association = peer.association.as_ref()?;
    Some(Counted {
        start: association.handshake_start()?,
        bytes: association.handshake_memory()?,
    })
}

impl Endpoint {
    /// Keeps the count of half-open handshakes in step with one peer, whatever happened to it.
    pub(super) fn count_handshake(&mut self, key: Key) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let now = handshake_of(peer);
        if now.is_none() && !peer.is_half_open {
            return;
        }
        peer.is_half_open = now.is_some();
        let before = self.half_open.count_as(key.slot, now);
        if let Some(Counted { start, .. }) = now
            && before.is_none_or(|before| before.start != start)
        {
            let handshakes_max = self.settings.handshakes_max;
            self.half_open.list(key.slot, start, handshakes_max);
        }
        if before.is_none() {
            self.metrics.increment(Counter::HandshakesStarted);
        }
        if before.is_some() != now.is_some() {
            self.publish_gauges();
        }
    }

    /// Makes room for a handshake when the budget is spent, if one has had its time.
    pub(super) fn make_room_for_handshake(&mut self, now: Now) {
        for _ in 0..LOOKS {
            if self.half_open.has_room(self.settings.handshakes_max) {
                return;
            }
            let Some((slot, start)) = self.half_open.order.pop_front() else {
                return;
            };
            if !self.half_open.is_listed((slot, start)) {
                continue;
            }
            if now.instant.saturating_duration_since(start) < GRACE {
                self.half_open.order.push_front((slot, start));
                return;
            }
            if let Some(key) = self.peers.key_of(slot) {
                self.displace_handshake(key);
            }
        }
    }

    /// Ends the handshake that a datagram just made too large for what is left of the memory.
    pub(super) fn keep_handshake_memory(&mut self, key: Key) {
        let is_over = self.half_open.bytes > HalfOpen::bytes_max(self.settings.handshakes_max);
        if is_over && self.peers.get(key).is_some_and(|peer| peer.is_half_open) {
            self.displace_handshake(key);
        }
    }

    /// Ends a handshake without a word: its client, if there is one, begins anew. A session beside it
    /// stays.
    fn displace_handshake(&mut self, key: Key) {
        let ids = self.index_keys_of(key);
        let peer = self.peers.get_mut(key);
        let Some(association) = peer.and_then(|peer| peer.association.as_mut()) else {
            return;
        };
        association.abandon_handshake();
        let is_over = !association.is_established();
        self.metrics.increment(Counter::HandshakesDisplaced);
        self.count_handshake(key);
        self.reindex(key, ids);
        if is_over {
            self.remove(key);
        }
    }
}
