//! From what a peer is found by to its slot: eight bytes a peer, whatever that is.
//!
//! ```text
//! hash --top bits--> one of TABLES tables --the rest--> { hash, slot }
//! ```
//!
//! The keys themselves lie with the peers. There are many small tables instead of a large one, as a
//! table that grows is copied: none of these is ever long, so none keeps the shard, and at no time
//! are all entries there twice.

use hashbrown::HashTable;

/// Tables, a power of two: with a million peers each has a thousand entries.
const TABLES: usize = 1 << TABLE_BITS;
const TABLE_BITS: u32 = 10;

/// Slots of peers by the hash of a key.
#[derive(Debug)]
pub(super) struct SlotIndex {
    tables: Box<[HashTable<Entry>]>,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u32,
    slot: u32,
}

impl Entry {
    /// The hash as a table wants it: it looks at the top bits and at the lowest ones.
    const fn spread(hash: u32) -> u64 {
        (hash as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

const _: () = assert!(size_of::<Entry>() == 8);

impl SlotIndex {
    /// An empty index.
    pub(super) fn new() -> Self {
        Self {
            tables: (0..TABLES).map(|_| HashTable::new()).collect(),
            len: 0,
        }
    }

    /// Entries.
    #[cfg(test)]
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The slot of an entry with this hash for which `is_it` says so.
    pub(super) fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let found = self.table(hash)?.find(Entry::spread(hash), |entry| {
            entry.hash == hash && is_it(entry.slot)
        });
        found.map(|entry| entry.slot)
    }

    /// Adds an entry, which must not be there.
    pub(super) fn insert(&mut self, hash: u32, slot: u32) {
        if let Some(table) = self.table_mut(hash) {
            table.insert_unique(Entry::spread(hash), Entry { hash, slot }, |entry| {
                Entry::spread(entry.hash)
            });
            self.len += 1;
        }
    }

    /// Removes an entry; whether it was there.
    pub(super) fn remove(&mut self, hash: u32, slot: u32) -> bool {
        let Some(table) = self.table_mut(hash) else {
            return false;
        };
        let found = table.find_entry(Entry::spread(hash), |entry| {
            entry.hash == hash && entry.slot == slot
        });
        let is_found = found.is_ok();
        if let Ok(entry) = found {
            entry.remove();
            self.len -= 1;
        }
        is_found
    }

    /// Removes all entries, and gives their memory back.
    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    fn table(&self, hash: u32) -> Option<&HashTable<Entry>> {
        self.tables.get((hash >> (u32::BITS - TABLE_BITS)) as usize)
    }

    fn table_mut(&mut self, hash: u32) -> Option<&mut HashTable<Entry>> {
        self.tables
            .get_mut((hash >> (u32::BITS - TABLE_BITS)) as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::random::{Random, SeededRandom};

    /// Against a set, with so few hashes that many entries share one.
    #[test]
    fn agrees_with_a_set() {
        let mut random = SeededRandom::new(1);
        let mut index = SlotIndex::new();
        let mut set = BTreeSet::new();
        for _ in 0..100_000 {
            let hash = (random.below(64) as u32).wrapping_mul(0x0888_8889);
            let slot = random.below(32) as u32;
            let known = set.contains(&(hash, slot));
            assert_eq!(index.find(hash, |found| found == slot).is_some(), known);
            assert_eq!(
                index.find(hash, |_| true).is_some(),
                set.range((hash, 0)..=(hash, u32::MAX)).next().is_some()
            );
            if known {
                assert_eq!(index.remove(hash, slot), set.remove(&(hash, slot)));
            } else if random.below(3) > 0 {
                assert!(!index.remove(hash, slot));
                index.insert(hash, slot);
                set.insert((hash, slot));
            }
            assert_eq!(index.len(), set.len());
        }
        index.clear();
        assert_eq!(index.len(), 0);
        assert_eq!(index.find(0, |_| true), None);
    }
}
