//! When it pays to wait a little before looking: the moderation of wake-ups.
//!
//! Whoever is woken for each item pays for a wake-up and a sleep per item, on both sides, which costs
//! more than the item. When items come so briskly that several come within [`GATHER`], one who sleeps
//! on for that long and then takes them all pays once, and nobody has to wake him. When they do not,
//! nothing would be gained and each item would be late: then the first one wakes.

use crate::time::{Duration, Instant};

/// How long to gather: a part of the time that a group commit takes anyway.
pub const GATHER: Duration = Duration::from_millis(1);
/// Items within [`GATHER`] from which on it pays.
const ENOUGH: u64 = 2;
/// Time over which items are counted: long enough for a steady figure, short enough to follow.
const WINDOW: Duration = Duration::from_millis(4);

/// How many items came lately.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    since: Instant,
    items: u64,
    is_brisk: bool,
}

impl Pace {
    /// Items came.
    pub fn add(&mut self, items: usize) {
        self.items += items as u64;
    }

    /// Whether it pays to gather at `now`, which must not run backwards.
    pub fn is_brisk(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since);
        if passed >= WINDOW {
            let gathers = passed.as_micros() / GATHER.as_micros();
            self.is_brisk = u128::from(self.items) >= gathers * u128::from(ENOUGH);
            self.items = 0;
            self.since = now;
        }
        self.is_brisk
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a pace of an item each `micros` counts as brisk after a second.
    fn is_brisk(micros: u64) -> bool {
        let mut pace = Pace::default();
        let mut brisk = false;
        for at in (micros..1_000_000).step_by(usize::try_from(micros).unwrap()) {
            pace.add(1);
            brisk = pace.is_brisk(Instant::from_micros(at));
        }
        brisk
    }

    #[test]
    fn two_items_in_a_gathering_are_brisk_and_one_is_not() {
        assert!(is_brisk(10) && is_brisk(400));
        assert!(!is_brisk(600) && !is_brisk(1000) && !is_brisk(100_000));
    }

    #[test]
    fn a_pace_ends_when_nothing_comes_any_more() {
        let mut pace = Pace::default();
        pace.add(1000);
        assert!(pace.is_brisk(Instant::from_micros(5_000)));
        assert!(pace.is_brisk(Instant::from_micros(6_000)));
        // The first item after a quiet time is not made to wait.
        pace.add(1);
        assert!(!pace.is_brisk(Instant::from_micros(1_000_000)));
    }
}
