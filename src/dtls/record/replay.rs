//! The anti-replay window (RFC 6347 section 4.1.2.6).

/// Which sequence numbers of an epoch were seen: the highest, and the 63 below it.
///
/// ```text
/// seen:  bit 63 ........ bit 1  bit 0
///        highest - 63    highest - 1  highest
/// ```
///
/// Asked before a record is authenticated, marked only afterwards, so a forged record moves
/// nothing. Plain data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::dtls) struct ReplayWindow {
    highest: u64,
    seen: u64,
}

impl ReplayWindow {
    /// Whether `sequence` is new: not marked, and not left of the window.
    pub(in crate::dtls) const fn is_new(&self, sequence: u64) -> bool {
        if sequence > self.highest {
            return true;
        }
        let age = self.highest - sequence;
        age < 64 && self.seen & (1 << age) == 0
    }

    /// The highest sequence number that is marked; 0 at first.
    pub(in crate::dtls) const fn highest(&self) -> u64 {
        self.highest
    }

    /// Marks the sequence number of a record that was authentic.
    pub(in crate::dtls) const fn mark(&mut self, sequence: u64) {
        if sequence > self.highest {
            let shift = sequence - self.highest;
            self.seen = if shift < 64 { self.seen << shift } else { 0 } | 1;
            self.highest = sequence;
        } else if self.highest - sequence < 64 {
            self.seen |= 1 << (self.highest - sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Random, SeededRandom};
    use std::collections::HashSet;

    #[test]
    fn edges_of_the_window() {
        let mut window = ReplayWindow::default();
        assert!(window.is_new(0));
        window.mark(0);
        assert!(!window.is_new(0));
        window.mark(63);
        assert!(!window.is_new(0) && window.is_new(1) && !window.is_new(63));
        window.mark(64);
        assert!(!window.is_new(0), "left of the window");
        assert!(window.is_new(1));
        window.mark(1000);
        assert!(!window.is_new(64) && !window.is_new(936) && window.is_new(937));
        window.mark((1 << 48) - 1);
        assert!(!window.is_new((1 << 48) - 1) && window.is_new((1 << 48) - 64));
    }

    /// Against a set that remembers everything: nothing is taken twice, and what is within 64 of
    /// the highest is taken once.
    #[test]
    fn agrees_with_a_set() {
        let mut random = SeededRandom::new(1);
        let mut window = ReplayWindow::default();
        let (mut seen, mut highest) = (HashSet::new(), 0);
        for _ in 0..100_000 {
            let sequence = (highest + random.below(8)).saturating_sub(random.below(80));
            let fresh = !seen.contains(&sequence) && sequence + 64 > highest;
            assert_eq!(window.is_new(sequence), fresh);
            if fresh && random.below(4) > 0 {
                window.mark(sequence);
                seen.insert(sequence);
                highest = highest.max(sequence);
            }
        }
    }
}
