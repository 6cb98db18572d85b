//! Which peer a connection id of ours belongs to, and which id a new peer gets.
//!
//! ```text
//! byte 0    shard that gave it out: the kernel delivers by it
//! byte 1    node, in ids of 5 bytes and more
//! the rest  random
//! ```
//!
//! An id authenticates nothing. Who guesses or sees one can make the shard try one decryption, as a
//! forged source address could; what is nobody's is dropped and never answered.

use std::sync::Arc;

use super::Endpoint;
use super::slot_index::SlotIndex;
use crate::drop_reason::DropReason;
use crate::dtls::{Association, ConnectionIdSource};
use crate::metrics::{Counter, ShardMetrics};
use crate::random::Random;
use crate::slab::Key;

/// Ids of this length and longer have the node in their second byte.
const NODE_LEN_MIN: usize = 5;
/// Tries to find an id that is free: with two random bytes and half of them taken, one in 65 536
/// handshakes goes without.
const TRIES_MAX: usize = 16;

/// Whose a connection id is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The peer in this slot, as far as can be said before its id is compared.
    Peer(u32),
    /// Another shard, whether it knows the id or not.
    Shard(u16),
    /// Nobody that can be reached from here.
    Nobody(DropReason),
}

/// The connection ids of a shard's peers.
pub(super) struct ConnectionIds {
    /// By a hash of the first eight bytes of an id. No two ids have the same hash, so that it need not
    /// be compared here: that of the record is compared with that of the session anyway.
    slots: SlotIndex,
    /// Keeps a client from collecting ids that share a place in the table.
    secret: u64,
    shard: u16,
    shards: u16,
    node_id: u8,
    metrics: Arc<ShardMetrics>,
}

/// Where the ids of one peer are found: that of its session and that of its handshake.
pub(super) type IndexKeys = [Option<u64>; 2];

/// The index keys of an association's ids.
pub(super) fn index_keys(association: Option<&Association>) -> IndexKeys {
    let mut keys = [None; 2];
    if let Some(association) = association {
        let ids = association.local_connection_ids().map(index_key);
        keys.iter_mut()
            .zip(ids)
            .for_each(|(key, id)| *key = Some(id));
    }
    keys
}

fn index_key(id: &[u8]) -> u64 {
    let mut key = [0; 8];
    key.iter_mut()
        .zip(id)
        .for_each(|(byte, &from)| *byte = from);
    u64::from_be_bytes(key)
}

impl ConnectionIds {
    /// No ids yet. `random` decides the order of the table.
    pub(super) fn new(
        shard: u16,
        shards: u16,
        node_id: u8,
        metrics: Arc<ShardMetrics>,
        random: &mut dyn Random,
    ) -> Self {
        let mut secret = [0; 8];
        random.fill(&mut secret);
        Self {
            slots: SlotIndex::new(),
            secret: u64::from_be_bytes(secret),
            shard,
            shards,
            node_id,
            metrics,
        }
    }

    /// Looks an id of the configured length up.
    pub(super) fn owner_of(&self, id: &[u8]) -> Owner {
        let node = id.get(1).filter(|_| id.len() >= NODE_LEN_MIN);
        if node.is_some_and(|&node| node != self.node_id) {
            return Owner::Nobody(DropReason::ConnectionIdNode);
        }
        let shard = id.first().map(|&shard| u16::from(shard));
        match shard {
            Some(shard) if shard == self.shard => match self.slot_of(index_key(id)) {
                Some(slot) => {
                    self.metrics.increment(Counter::CidLookupsHit);
                    Owner::Peer(slot)
                }
                None => {
                    self.metrics.increment(Counter::CidLookupsMissed);
                    Owner::Nobody(DropReason::ConnectionIdUnknown)
                }
            },
            Some(shard) if shard < self.shards => Owner::Shard(shard),
            _ => Owner::Nobody(DropReason::ConnectionIdUnknown),
        }
    }

    /// A peer's ids have changed from `before` to `after`.
    pub(super) fn update(&mut self, peer: Key, before: IndexKeys, after: IndexKeys) {
        if before == after {
            return;
        }
        for gone in before.into_iter().flatten() {
            if !after.contains(&Some(gone)) {
                self.slots.remove(self.hash(gone), peer.slot);
            }
        }
        self.rekey(after, peer);
    }

    /// The peer with `ids` is in its slot from now on.
    pub(super) fn rekey(&mut self, ids: IndexKeys, peer: Key) {
        for id in ids.into_iter().flatten() {
            let hash = self.hash(id);
            if let Some(slot) = self.slot_of(id) {
                if slot == peer.slot {
                    continue;
                }
                self.slots.remove(hash, slot);
            }
            self.slots.insert(hash, peer.slot);
        }
    }

    pub(super) fn clear(&mut self) {
        self.slots.clear();
    }

    #[cfg(test)]
    pub(super) const fn len(&self) -> usize {
        self.slots.len()
    }

    fn slot_of(&self, id: u64) -> Option<u32> {
        self.slots.find(self.hash(id), |_| true)
    }

    /// Ids are ours and mostly random, so one multiplication spreads them.
    fn hash(&self, id: u64) -> u32 {
        const ODD: u128 = 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(id ^ self.secret) * ODD;
        let folded = (product >> 64) ^ product;
        u32::try_from((folded >> 32) & u128::from(u32::MAX)).unwrap_or(0)
    }
}

impl ConnectionIdSource for ConnectionIds {
    fn fresh(&self, length: u8, random: &mut dyn Random) -> Option<Box<[u8]>> {
        let mut id = vec![0; usize::from(length)].into_boxed_slice();
        for _ in 0..TRIES_MAX {
            random.fill(&mut id);
            if let Some(shard) = id.first_mut() {
                // No shard beyond 255 is started with connection ids.
                *shard = u8::try_from(self.shard).ok()?;
            }
            if let Some(node) = id
                .get_mut(1)
                .filter(|_| usize::from(length) >= NODE_LEN_MIN)
            {
                *node = self.node_id;
            }
            if self.slot_of(index_key(&id)).is_none() {
                return Some(id);
            }
        }
        self.metrics.increment(Counter::CidExhausted);
        None
    }
}

impl Endpoint {
    /// Index keys of a peer's connection ids.
    pub(super) fn index_keys_of(&self, key: Key) -> IndexKeys {
        let peer = self.peers.get(key);
        index_keys(peer.and_then(|peer| peer.association.as_ref()))
    }

    /// Keeps the index in step with a peer whose ids were `before`.
    pub(super) fn reindex(&mut self, key: Key, before: IndexKeys) {
        let after = self.index_keys_of(key);
        self.connection_ids.update(key, before, after);
    }
}
