//! Message IDs of our own towards one peer (RFC 7252 section 4.4).
//!
//! A counter from a random start. The same ID MUST NOT be used again within EXCHANGE_LIFETIME, so a
//! half of the number space is entered again only when it was left that long ago.

use crate::random::Random;
use crate::time::{Duration, Instant};

const HALF: u16 = 1 << 15;

#[derive(Clone, Debug)]
pub(super) struct MessageIds {
    next: u16,
    /// How many of the current half were given out.
    used: u16,
    /// When the current half was entered; `None`: it is the first.
    entered: Option<Instant>,
}

impl MessageIds {
    pub(super) fn new(random: &mut dyn Random) -> Self {
        let [low, high, ..] = random.next_u64().to_le_bytes();
        Self {
            next: u16::from_le_bytes([low, high]),
            used: 0,
            entered: None,
        }
    }

    /// A Message ID for a message that is sent now; `None` when none is free yet.
    pub(super) fn take(&mut self, now: Instant, exchange_lifetime: Duration) -> Option<u16> {
        if self.used == HALF {
            // The half ahead was left when the current one was entered.
            if self
                .entered
                .is_some_and(|entered| now < entered + exchange_lifetime)
            {
                return None;
            }
            self.entered = Some(now);
            self.used = 0;
        }
        self.used += 1;
        let id = self.next;
        self.next = id.wrapping_add(1);
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::random::SeededRandom;

    /// RFC 7252 section 4.4: an ID MUST NOT be reused within EXCHANGE_LIFETIME.
    #[test]
    fn no_id_comes_twice_within_the_lifetime() {
        let lifetime = Duration::from_secs(247);
        let mut random = SeededRandom::new(1);
        let mut ids = MessageIds::new(&mut random);
        let mut last_use = BTreeMap::new();
        let (mut now, mut given, mut refused) = (Instant::ZERO, 0, 0);
        for _ in 0..400_000 {
            now = now + Duration::from_micros(random.below(4_000));
            let Some(id) = ids.take(now, lifetime) else {
                refused += 1;
                continue;
            };
            given += 1;
            if let Some(before) = last_use.insert(id, now) {
                assert!(now >= before + lifetime);
            }
        }
        // 800 s: all IDs at first, then at least one half per lifetime.
        assert!(given >= 65_536 + 2 * 32_768, "{given}");
        assert!(refused > 0);
    }
}
