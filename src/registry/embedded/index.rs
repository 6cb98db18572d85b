//! Concurrent maps from what identifies a device to the device.
//!
//! A request costs one look-up, and with a million devices that is a few cache misses and nothing
//! else, so the entries hold their keys themselves: one miss for the control bytes, one for the
//! entry, none for the device.

use super::{Device, DeviceId};
use crate::crypto::pre_shared_key::PreSharedKey;
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, PoisonError, RwLock};

/// Tables under a lock of their own each: readers on different cores seldom meet.
const TABLES: usize = 64;

/// What an [`Index`] holds.
pub(super) trait Entry: Clone {
    /// What it is found by.
    type Key: Hash + Eq + ?Sized;

    /// Its key.
    fn key(&self) -> &Self::Key;
}

/// Entries by their keys.
///
/// The hash is SipHash under a key drawn at random for each index: names and tokens come from
/// outside, and nobody outside can tell which of them meet in a bucket.
pub(super) struct Index<E> {
    hasher: RandomState,
    tables: Box<[RwLock<HashTable<E>>]>,
}

impl<E: Entry> Index<E> {
    /// An empty index.
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            tables: (0..TABLES).map(|_| RwLock::default()).collect(),
        }
    }

    /// The entry with that key.
    pub(super) fn find(&self, key: &E::Key) -> Option<E> {
        let hash = self.hasher.hash_one(key);
        let table = self
            .table(hash)
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        table.find(hash, |entry| entry.key() == key).cloned()
    }

    /// Any entry that passes the test. Looks at all.
    pub(super) fn find_by(&self, test: impl Fn(&E) -> bool) -> Option<E> {
        self.tables.iter().find_map(|table| {
            let table = table.read().unwrap_or_else(PoisonError::into_inner);
            table.iter().find(|entry| test(entry)).cloned()
        })
    }

    /// Adds an entry, or puts it in the place of the one with the same key.
    pub(super) fn insert(&self, entry: E) {
        let hash = self.hasher.hash_one(entry.key());
        let mut table = self
            .table(hash)
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        match table.find_mut(hash, |known| known.key() == entry.key()) {
            Some(known) => *known = entry,
            None => {
                table.insert_unique(hash, entry, |entry| self.hasher.hash_one(entry.key()));
            }
        }
    }

    /// Removes the entry with that key.
    pub(super) fn remove(&self, key: &E::Key) {
        let hash = self.hasher.hash_one(key);
        let mut table = self
            .table(hash)
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if let Ok(entry) = table.find_entry(hash, |entry| entry.key() == key) {
            entry.remove();
        }
    }

    /// Hashbrown takes its own bits from both ends of the hash; these are from the middle.
    fn table(&self, hash: u64) -> &RwLock<HashTable<E>> {
        &self.tables[(hash >> 40) as usize % TABLES]
    }
}

/// The device of an access token.
#[derive(Clone)]
pub(super) struct TokenEntry {
    token: ShortText,
    pub(super) device: DeviceId,
}

impl TokenEntry {
    pub(super) fn new(token: &str, device: DeviceId) -> Self {
        Self {
            token: ShortText::new(token.as_bytes()),
            device,
        }
    }
}

impl Entry for TokenEntry {
    type Key = [u8];

    fn key(&self) -> &[u8] {
        self.token.as_bytes()
    }
}

/// The device of a certificate's fingerprint.
#[derive(Clone)]
pub(super) struct FingerprintEntry {
    pub(super) fingerprint: [u8; 32],
    pub(super) device: DeviceId,
}

impl Entry for FingerprintEntry {
    type Key = [u8; 32];

    fn key(&self) -> &[u8; 32] {
        &self.fingerprint
    }
}

/// The device and the key of a PSK identity, by the identity's SHA-256.
#[derive(Clone)]
pub(super) struct PskEntry {
    pub(super) identity_hash: [u8; 32],
    pub(super) device: DeviceId,
    pub(super) key: Arc<PreSharedKey>,
}

impl Entry for PskEntry {
    type Key = [u8; 32];

    fn key(&self) -> &[u8; 32] {
        &self.identity_hash
    }
}

/// A device by its number.
impl Entry for Arc<Device> {
    type Key = DeviceId;

    fn key(&self) -> &DeviceId {
        &self.id
    }
}

/// Text that is stored in place up to 22 bytes: the tokens that ThingsBoard and this server make
/// have 20.
#[derive(Clone)]
enum ShortText {
    InPlace {
        length: u8,
        bytes: [u8; Self::IN_PLACE_MAX],
    },
    Apart(Box<[u8]>),
}

const _: () = assert!(size_of::<TokenEntry>() == 32);

impl ShortText {
    const IN_PLACE_MAX: usize = 22;

    fn new(text: &[u8]) -> Self {
        let mut bytes = [0; Self::IN_PLACE_MAX];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(room), Ok(length)) => {
                room.copy_from_slice(text);
                Self::InPlace { length, bytes }
            }
            _ => Self::Apart(text.into()),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::InPlace { length, bytes } => {
                bytes.get(..usize::from(*length)).unwrap_or_default()
            }
            Self::Apart(bytes) => bytes,
        }
    }
}
