//! Which sessions keep their keys expanded: the last ones that were used, a bounded number of them.
//!
//! An expanded key takes fifteen times the memory of the key, and expanding it costs less than
//! fetching so much from memory that is cold. So keys are expanded when they are needed, and stay so
//! while their session is among these:
//!
//! ```text
//! place   0     1     2    ...  PLACES-1      slot modulo PLACES: a session in the same place
//!        [key] [key] [   ]      [key]           makes the other forget its expanded keys
//! ```

use crate::slab::Key;

/// Sessions with expanded keys that a shard keeps, unless its settings say otherwise: 1.4 MB.
pub const HOT_SESSIONS: usize = 1024;

/// The sessions whose keys are expanded.
#[derive(Debug)]
pub(super) struct HotSessions {
    places: Box<[Option<Key>]>,
}

impl HotSessions {
    /// None yet, and never more than `places`, at least one.
    pub(super) fn new(places: usize) -> Self {
        Self {
            places: vec![None; places.max(1)].into(),
        }
    }

    /// The keys of session `key` are expanded; returns the session that has to forget its own.
    pub(super) fn note(&mut self, key: Key) -> Option<Key> {
        let place = key.slot as usize % self.places.len();
        let place = self.places.get_mut(place)?;
        if *place == Some(key) {
            return None;
        }
        place.replace(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_gives_way_to_the_next_in_its_place() {
        let key = |slot, generation| Key { slot, generation };
        let mut hot = HotSessions::new(4);
        assert_eq!(hot.note(key(1, 0)), None);
        assert_eq!(hot.note(key(2, 0)), None);
        assert_eq!(hot.note(key(1, 0)), None);
        assert_eq!(hot.note(key(5, 0)), Some(key(1, 0)));
        assert_eq!(hot.note(key(5, 1)), Some(key(5, 0)), "another session");
        assert_eq!(hot.note(key(2, 0)), None);
    }
}
