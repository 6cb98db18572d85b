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

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use super::Endpoint;
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
    /// A peer of this shard.
    Peer(Key),
    /// Another shard, whether it knows the id or not.
    Shard(u16),
    /// Nobody that can be reached from here.
    Nobody(DropReason),
}

/// The connection ids of a shard's peers.
pub(super) struct ConnectionIds {
    /// By the first eight bytes of an id, which no two peers share.
    peers: HashMap<u64, Key, SecretHash>,
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
            peers: HashMap::with_hasher(SecretHash(u64::from_be_bytes(secret))),
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
            Some(shard) if shard == self.shard => match self.peers.get(&index_key(id)) {
                Some(&peer) => {
                    self.metrics.increment(Counter::CidLookupsHit);
                    Owner::Peer(peer)
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
            if !after.contains(&Some(gone)) && self.peers.get(&gone) == Some(&peer) {
                self.peers.remove(&gone);
            }
        }
        for id in after.into_iter().flatten() {
            self.peers.insert(id, peer);
        }
    }

    /// The peer with `ids` has another key from now on.
    pub(super) fn rekey(&mut self, ids: IndexKeys, peer: Key) {
        for id in ids.into_iter().flatten() {
            self.peers.insert(id, peer);
        }
    }

    pub(super) fn clear(&mut self) {
        self.peers.clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.peers.len()
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
            if !self.peers.contains_key(&index_key(&id)) {
                return Some(id);
            }
        }
        self.metrics.increment(Counter::CidExhausted);
        None
    }
}

/// Ids are ours and mostly random, so one multiplication spreads them; the secret keeps a client
/// from collecting ids that share a place in the table.
#[derive(Clone, Copy, Debug)]
struct SecretHash(u64);

impl BuildHasher for SecretHash {
    type Hasher = SecretHasher;

    fn build_hasher(&self) -> SecretHasher {
        SecretHasher(self.0)
    }
}

struct SecretHasher(u64);

impl Hasher for SecretHasher {
    fn write_u64(&mut self, value: u64) {
        const ODD: u128 = 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(value ^ self.0) * ODD;
        let [high, low] = [product >> 64, product & u128::from(u64::MAX)];
        self.0 = u64::try_from(high ^ low).unwrap_or(0);
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|&byte| self.write_u64(u64::from(byte)));
    }

    fn finish(&self) -> u64 {
        self.0
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
