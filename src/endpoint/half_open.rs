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

use std::collections::VecDeque;

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
    count: usize,
    /// Memory of all of them.
    bytes: usize,
    /// When they began, oldest first; those that ended meanwhile are still listed.
    order: VecDeque<(Key, Instant)>,
}

impl HalfOpen {
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// The memory that `handshakes_max` handshakes may take.
    const fn bytes_max(handshakes_max: usize) -> usize {
        let bytes = handshakes_max.saturating_mul(BYTES_PER_HANDSHAKE);
        if bytes > BYTES_MIN { bytes } else { BYTES_MIN }
    }

    /// Whether another one may begin.
    pub(super) const fn has_room(&self, handshakes_max: usize) -> bool {
        self.count < handshakes_max && self.bytes < Self::bytes_max(handshakes_max)
    }

    /// Whether so many are there that not everybody may begin as many as it likes.
    pub(super) const fn is_crowded(&self, handshakes_max: usize) -> bool {
        self.count >= handshakes_max.div_ceil(2)
    }

    /// The memory of one peer's handshake was `before` and is `after`; `None` without one.
    pub(super) fn count_change(&mut self, before: Option<usize>, after: Option<usize>) {
        self.count -= usize::from(before.is_some());
        self.count += usize::from(after.is_some());
        let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
        self.bytes = self.bytes.saturating_sub(before) + after;
    }

    /// A peer goes, with its handshake if it is in one.
    pub(super) fn on_removed(&mut self, peer: &Peer) {
        self.count_change(handshake_memory(Some(peer)), None);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The memory of the handshake of a peer, if it is in one.
pub(super) fn handshake_memory(peer: Option<&Peer>) -> Option<usize> {
    peer?.association.as_ref()?.handshake_memory()
}

impl Endpoint {
    /// Keeps the count of half-open handshakes in step with one peer's change; `before` is what
    /// [`handshake_memory`] said.
    pub(super) fn count_handshake(&mut self, key: Key, before: Option<usize>) {
        let after = handshake_memory(self.peers.get(key));
        if before == after {
            return;
        }
        self.half_open.count_change(before, after);
        match (before, after) {
            (None, Some(_)) => {
                self.metrics.increment(Counter::HandshakesStarted);
                self.note_half_open(key);
            }
            (Some(_), Some(_)) => return,
            _ => {}
        }
        self.publish_gauges();
    }

    /// Lists a handshake that begins.
    pub(super) fn note_half_open(&mut self, key: Key) {
        let Some(start) = self.handshake_start(key) else {
            return;
        };
        // Those that ended are sorted out when they are as many as there may be others.
        if self.half_open.order.len() >= self.settings.handshakes_max.saturating_mul(2) {
            let mut order = std::mem::take(&mut self.half_open.order);
            order.retain(|&(key, start)| self.handshake_start(key) == Some(start));
            self.half_open.order = order;
        }
        self.half_open.order.push_back((key, start));
    }

    fn handshake_start(&self, key: Key) -> Option<Instant> {
        let association = self.peers.get(key)?.association.as_ref()?;
        association.handshake_start()
    }

    /// Makes room for a handshake when the budget is spent, if one has had its time.
    pub(super) fn make_room_for_handshake(&mut self, now: Now) {
        for _ in 0..LOOKS {
            if self.half_open.has_room(self.settings.handshakes_max) {
                return;
            }
            let Some((key, listed)) = self.half_open.order.pop_front() else {
                return;
            };
            let Some(start) = self.handshake_start(key) else {
                continue;
            };
            if start != listed {
                // The peer has begun anew since.
                self.half_open.order.push_back((key, start));
            } else if now.instant.saturating_duration_since(start) < GRACE {
                self.half_open.order.push_front((key, start));
                return;
            } else {
                self.displace_handshake(key);
            }
        }
    }

    /// Ends the handshake that a datagram just made too large for what is left of the memory.
    pub(super) fn keep_handshake_memory(&mut self, key: Key) {
        let is_over = self.half_open.bytes > HalfOpen::bytes_max(self.settings.handshakes_max);
        if is_over && handshake_memory(self.peers.get(key)).is_some() {
            self.displace_handshake(key);
        }
    }

    /// Ends a handshake without a word: its client, if there is one, begins anew. A session beside it
    /// stays.
    fn displace_handshake(&mut self, key: Key) {
        let before = handshake_memory(self.peers.get(key));
        let ids = self.index_keys_of(key);
        let peer = self.peers.get_mut(key);
        let Some(association) = peer.and_then(|peer| peer.association.as_mut()) else {
            return;
        };
        association.abandon_handshake();
        let is_over = !association.is_established();
        self.metrics.increment(Counter::HandshakesDisplaced);
        self.count_handshake(key, before);
        self.reindex(key, ids);
        if is_over {
            self.remove(key);
        }
    }
}
