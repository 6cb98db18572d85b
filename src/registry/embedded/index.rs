//! A concurrent map from a part of a device to the device, without a copy of that part.

use super::{Credential, Device, DeviceId};
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, PoisonError, RwLock};

/// Tables under a lock of their own each: readers on different cores seldom meet.
const TABLES: usize = 64;

/// Devices by a key `K` that lies within them.
///
/// The hash is SipHash under a key drawn at random for each index: names and tokens come from
/// outside, and nobody outside can tell which of them meet in a bucket.
pub(super) struct Index<K: ?Sized> {
    hasher: RandomState,
    key: fn(&Device) -> Option<&K>,
    tables: Box<[RwLock<HashTable<Arc<Device>>>]>,
}

impl<K: Hash + Eq + ?Sized> Index<K> {
    /// An empty index; `key` finds the key within a device.
    pub(super) fn new(key: fn(&Device) -> Option<&K>) -> Self {
        Self {
            hasher: RandomState::new(),
            key,
            tables: (0..TABLES).map(|_| RwLock::default()).collect(),
        }
    }

    /// The device with that key.
    pub(super) fn find(&self, key: &K) -> Option<Arc<Device>> {
        let hash = self.hasher.hash_one(key);
        let table = self
            .table(hash)
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        table
            .find(hash, |device| (self.key)(device) == Some(key))
            .map(Arc::clone)
    }

    /// Adds a device, or puts it in the place of the one with the same key. One without a key is
    /// not added.
    pub(super) fn insert(&self, device: &Arc<Device>) {
        let Some(key) = (self.key)(device) else {
            return;
        };
        let hash = self.hasher.hash_one(key);
        let mut table = self
            .table(hash)
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        match table.find_mut(hash, |known| (self.key)(known) == Some(key)) {
            Some(known) => *known = Arc::clone(device),
            None => {
                table.insert_unique(hash, Arc::clone(device), |device| {
                    (self.key)(device).map_or(0, |key| self.hasher.hash_one(key))
                });
            }
        }
    }

    /// Removes the device with that key.
    pub(super) fn remove(&self, key: &K) {
        let hash = self.hasher.hash_one(key);
        let mut table = self
            .table(hash)
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if let Ok(entry) = table.find_entry(hash, |device| (self.key)(device) == Some(key)) {
            entry.remove();
        }
    }

    /// The table takes its own bits from both ends of the hash; these are from the middle.
    fn table(&self, hash: u64) -> &RwLock<HashTable<Arc<Device>>> {
        &self.tables[(hash >> 40) as usize % TABLES]
    }
}

pub(super) fn by_token(device: &Device) -> Option<&str> {
    match &device.credential {
        Credential::AccessToken(token) => Some(token),
        Credential::X509 { .. } => None,
    }
}

pub(super) fn by_fingerprint(device: &Device) -> Option<&[u8; 32]> {
    match &device.credential {
        Credential::AccessToken(_) => None,
        Credential::X509 { fingerprint } => Some(fingerprint),
    }
}

#[allow(
    clippy::unnecessary_wraps,
    reason = "the signature of every index's key"
)]
pub(super) fn by_id(device: &Device) -> Option<&DeviceId> {
    Some(&device.id)
}
