//! Which sessions keep their keys expanded: those that are busy, a bounded number of them.
//!
//! An expanded key takes fifteen times the memory of the key, and expanding it costs less than
//! fetching so much from memory that is cold. So a session expands a key for each record, unless it is
//! among these:
//!
//! ```text
//! place   0      1      2    ...  PLACES-1      slot modulo PLACES
//!        owner  owner  [  ]       owner         keeps its expanded keys
//!        rival  [  ]   [  ]       rival         was heard since the owner was: the next time it takes the place
//! ```
//! So a fleet that is larger than the places, whose sessions take turns, makes nobody forget anything.

use crate::slab::Key;

/// Sessions with expanded keys that a shard keeps, unless its settings say otherwise: 1.4 MB.
pub const HOT_SESSIONS: usize = 1024;

/// The sessions whose keys stay expanded.
#[derive(Debug)]
pub(super) struct HotSessions {
    places: Box<[Place]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    owner: Option<Key>,
    rival: Option<Key>,
}

/// What is to be done with the expanded keys of a session that was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heat {
    /// They stay, and those of the session that was in its place before go.
    Hot(Option<Key>),
    /// It has none.
    Cold,
}

impl HotSessions {
    /// None yet, and never more than `places`, at least one.
    pub(super) fn new(places: usize) -> Self {
        Self {
            places: vec![Place::default(); places.max(1)].into(),
        }
    }

    /// Session `key` was heard.
    pub(super) fn note(&mut self, key: Key) -> Heat {
        let index = key.slot as usize % self.places.len();
        let Some(place) = self.places.get_mut(index) else {
            return Heat::Cold;
        };
        if place.owner == Some(key) {
            place.rival = None;
            return Heat::Hot(None);
        }
        if place.owner.is_some() && place.rival != Some(key) {
            place.rival = Some(key);
            return Heat::Cold;
        }
        place.rival = None;
        Heat::Hot(place.owner.replace(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(slot: u32, generation: u32) -> Key {
        Key { slot, generation }
    }

    #[test]
    fn a_session_gives_way_to_one_that_is_heard_twice_as_often() {
        let mut hot = HotSessions::new(4);
        assert_eq!(hot.note(key(1, 0)), Heat::Hot(None));
        assert_eq!(hot.note(key(2, 0)), Heat::Hot(None));
        assert_eq!(hot.note(key(1, 0)), Heat::Hot(None));
        assert_eq!(hot.note(key(5, 0)), Heat::Cold);
        assert_eq!(hot.note(key(5, 0)), Heat::Hot(Some(key(1, 0))));
        assert_eq!(hot.note(key(5, 1)), Heat::Cold, "another session");
        assert_eq!(hot.note(key(5, 1)), Heat::Hot(Some(key(5, 0))));
        assert_eq!(hot.note(key(2, 0)), Heat::Hot(None));
    }

    #[test]
    fn sessions_that_take_turns_push_out_nobody() {
        let mut hot = HotSessions::new(2);
        for _ in 0..3 {
            for slot in 0..6 {
                let heat = hot.note(key(slot, 0));
                let is_first = slot < 2;
                assert_eq!(heat == Heat::Hot(None), is_first, "{slot}");
            }
        }
    }
}
