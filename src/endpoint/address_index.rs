//! Which peer is at an address.
//!
//! Addresses are what peers choose, so they are hashed with a secret key (std's SipHash). A peer is
//! listed at its own address or nowhere: what the index does not hold, the peer does.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::PeerKey;
use super::peer::Peer;
use super::peer_address::PackedAddress;
use super::slot_index::SlotIndex;
use crate::slab::{Key, Slab};

/// Peers by their address and ours.
#[derive(Debug)]
pub(super) struct AddressIndex {
    slots: SlotIndex,
    hasher: RandomState,
}

impl AddressIndex {
    pub(super) fn new() -> Self {
        Self {
            slots: SlotIndex::new(),
            hasher: RandomState::new(),
        }
    }

    /// The peer that is listed at `place`.
    pub(super) fn find(&self, place: &PeerKey, peers: &Slab<Peer>) -> Option<Key> {
        let address = PackedAddress::from(place.address);
        let mut found = None;
        self.slots.find(self.hash(place), |slot| {
            found = peers.key_of(slot).filter(|&key| {
                let peer = peers.get(key);
                peer.is_some_and(|peer| peer.address == address && peer.local == place.local)
            });
            found.is_some()
        })?;
        found
    }

    /// The slot of the peer that is listed at `place`, or of one whose place has the same hash.
    pub(super) fn guess(&self, place: &PeerKey) -> Option<u32> {
        self.slots.find(self.hash(place), |_| true)
    }

    /// Lists the peer in `slot` at `place`, where nobody is listed.
    pub(super) fn insert(&mut self, place: &PeerKey, slot: u32) {
        self.slots.insert(self.hash(place), slot);
    }

    /// Takes the peer in `slot` off the list, if it is the one that is listed at `place`.
    pub(super) fn remove(&mut self, place: &PeerKey, slot: u32) {
        self.slots.remove(self.hash(place), slot);
    }

    pub(super) fn clear(&mut self) {
        self.slots.clear();
    }

    #[cfg(test)]
    pub(super) const fn len(&self) -> usize {
        self.slots.len()
    }

    fn hash(&self, place: &PeerKey) -> u32 {
        let address = PackedAddress::from(place.address);
        let mut hasher = self.hasher.build_hasher();
        hasher.write(&address.to_bytes(place.local));
        let hash = hasher.finish();
        // Half of it is as good.
        u32::try_from(hash & u64::from(u32::MAX)).unwrap_or(0)
    }
}
