//! Numbered places for values, each place with a generation.
//!
//! A key names a slot and the generation that the slot had when the value came in. Removing a value
//! moves the generation on, so a key that outlived its value finds nothing, whoever took the slot.
//!
//! ```text
//! chunks   [ 256 entries ][ 256 entries ][ ...      never moved once allocated: growth copies nothing
//! entry    Occupied { generation, value }
//!          Free     { generation, next }    next: the free slot below in the stack, or NONE
//! ```
//!
//! Every operation is O(1); memory is `size_of::<T>()` and about eight bytes a slot, and is kept for
//! reuse. The free list is a stack, so a slot whose memory is warm is taken first.

/// Entries per chunk, a power of two.
const CHUNK: usize = 256;
/// End of the free list; therefore never a slot.
const NONE: u32 = u32::MAX;

/// Where a value is, and which value it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Index of the slot.
    pub slot: u32,
    /// How many values the slot had before, modulo 2^32.
    pub generation: u32,
}

/// The slab holds as many values as it may; the value comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full<T>(pub T);

/// Values of one type under [`Key`]s.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Vec<Vec<Entry<T>>>,
    /// Slots that were ever taken: all below are allocated.
    touched: u32,
    free: u32,
    len: u32,
    len_max: u32,
}

#[derive(Debug)]
enum Entry<T> {
    Free { generation: u32, next: u32 },
    Occupied { generation: u32, value: T },
}

impl<T> Slab<T> {
    /// An empty slab for at most `len_max` values (at most 2^32 - 1); allocates nothing yet.
    pub const fn new(len_max: u32) -> Self {
        Self {
            chunks: Vec::new(),
            touched: 0,
            free: NONE,
            len: 0,
            len_max,
        }
    }

    /// Values held.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether no value is held.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Slots that were ever taken: every key's slot is below.
    pub const fn slots(&self) -> u32 {
        self.touched
    }

    /// Values that can be held.
    pub const fn len_max(&self) -> u32 {
        self.len_max
    }

    /// Stores a value.
    ///
    /// # Errors
    ///
    /// Gives the value back when `len_max` values are held.
    pub fn insert(&mut self, value: T) -> Result<Key, Full<T>> {
        if self.len >= self.len_max {
            return Err(Full(value));
        }
        let slot = if self.free == NONE {
            self.push_entry()
        } else {
            self.free
        };
        let Some(entry) = self.entry_mut(slot) else {
            return Err(Full(value));
        };
        let &mut Entry::Free { generation, next } = entry else {
            unreachable!("a slot of the free list is free");
        };
        *entry = Entry::Occupied { generation, value };
        self.free = next;
        self.len += 1;
        Ok(Key { slot, generation })
    }

    /// Takes a value out; `None` when the key's value is gone.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let next = self.free;
        let entry = self.entry_mut(key.slot)?;
        match entry {
            Entry::Occupied { generation, .. } if *generation == key.generation => {}
            _ => return None,
        }
        let free = Entry::Free {
            generation: key.generation.wrapping_add(1),
            next,
        };
        let Entry::Occupied { value, .. } = std::mem::replace(entry, free) else {
            unreachable!("just seen occupied");
        };
        self.free = key.slot;
        self.len -= 1;
        Some(value)
    }

    /// The key's value; `None` when it is gone.
    pub fn get(&self, key: Key) -> Option<&T> {
        match self.entry(key.slot)? {
            Entry::Occupied { generation, value } if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// The key's value; `None` when it is gone.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.entry_mut(key.slot)? {
            Entry::Occupied { generation, value } if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// The key of the value that is in a slot now, if one is.
    pub fn key_of(&self, slot: u32) -> Option<Key> {
        match self.entry(slot)? {
            &Entry::Occupied { generation, .. } => Some(Key { slot, generation }),
            Entry::Free { .. } => None,
        }
    }

    /// Adds one free entry at the end and returns its slot; the caller has checked the limit.
    fn push_entry(&mut self) -> u32 {
        let slot = self.touched;
        if (slot as usize).is_multiple_of(CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.push(Entry::Free {
                generation: 0,
                next: NONE,
            });
            self.touched += 1;
        }
        slot
    }

    fn entry(&self, slot: u32) -> Option<&Entry<T>> {
        let slot = slot as usize;
        self.chunks.get(slot / CHUNK)?.get(slot % CHUNK)
    }

    fn entry_mut(&mut self, slot: u32) -> Option<&mut Entry<T>> {
        let slot = slot as usize;
        self.chunks.get_mut(slot / CHUNK)?.get_mut(slot % CHUNK)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_key_does_not_find_the_next_value_of_its_slot() {
        let mut slab = Slab::new(2);
        let first = slab.insert("a").unwrap();
        assert_eq!(slab.remove(first), Some("a"));
        let second = slab.insert("b").unwrap();
        assert_eq!(second.slot, first.slot);
        assert_ne!(second.generation, first.generation);
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(second), Some(&"b"));
        assert_eq!(slab.key_of(second.slot), Some(second));
        assert_eq!(slab.key_of(77), None);
    }

    #[test]
    fn a_full_slab_gives_the_value_back() {
        let mut slab = Slab::new(1);
        let key = slab.insert(1).unwrap();
        assert_eq!(slab.insert(2), Err(Full(2)));
        slab.remove(key);
        assert!(slab.insert(3).is_ok());
        assert_eq!(Slab::new(0).insert(()), Err(Full(())));
    }

    #[test]
    fn an_entry_costs_eight_bytes_over_its_value() {
        assert_eq!(size_of::<Entry<[u64; 4]>>(), 8 + 32);
    }

    proptest! {
        #[test]
        fn agrees_with_a_map(operations in prop::collection::vec((0u8..4, any::<prop::sample::Index>()), 0..2000)) {
            let mut slab = Slab::new(600);
            let mut oracle = BTreeMap::new();
            let mut keys = Vec::new();
            for (number, (operation, index)) in operations.into_iter().enumerate() {
                match operation {
                    0..=1 => match slab.insert(number) {
                        Ok(key) => {
                            prop_assert!(oracle.insert((key.slot, key.generation), number).is_none());
                            keys.push(key);
                        }
                        Err(Full(back)) => prop_assert_eq!((back, oracle.len()), (number, 600)),
                    },
                    _ if keys.is_empty() => {}
                    2 => {
                        let key = keys[index.index(keys.len())];
                        prop_assert_eq!(slab.remove(key), oracle.remove(&(key.slot, key.generation)));
                    }
                    _ => {
                        let key = keys[index.index(keys.len())];
                        prop_assert_eq!(slab.get(key), oracle.get(&(key.slot, key.generation)));
                        prop_assert_eq!(slab.get_mut(key).copied(), oracle.get(&(key.slot, key.generation)).copied());
                    }
                }
                prop_assert_eq!(slab.len() as usize, oracle.len());
            }
        }
    }
}
