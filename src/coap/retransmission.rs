//! The timer of one confirmable message (RFC 7252 section 4.2).
//!
//! ```text
//! sent --T--> again --2T--> again --4T--> again --8T--> again --16T--> given up
//! T = ACK_TIMEOUT x random(1 .. ACK_RANDOM_FACTOR); MAX_RETRANSMIT = 4
//! ```

use super::Settings;
use crate::random::Random;
use crate::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retransmission {
    at: Instant,
    timeout: Duration,
    left: u8,
}

/// What to do when the timer has run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    SendAgain,
    GiveUp,
}

impl Retransmission {
    /// The timer of a message that is sent now.
    pub(super) fn start(now: Instant, settings: &Settings, random: &mut dyn Random) -> Self {
        let base = u64::try_from(settings.ack_timeout.as_micros()).unwrap_or(u64::MAX);
        let spread_percent = u64::from(settings.ack_random_percent.saturating_sub(100));
        let spread = base.saturating_mul(spread_percent) / 100;
        let extra = random.below(spread.saturating_add(1));
        let timeout = Duration::from_micros(base.saturating_add(extra));
        Self {
            at: now + timeout,
            timeout,
            left: settings.max_retransmit,
        }
    }

    /// When it runs out.
    pub(super) const fn at(&self) -> Instant {
        self.at
    }

    /// Goes on after it has run out.
    pub(super) fn expire(&mut self, now: Instant) -> Expiry {
        let Some(left) = self.left.checked_sub(1) else {
            return Expiry::GiveUp;
        };
        self.left = left;
        self.timeout = self.timeout.saturating_mul(2);
        self.at = now + self.timeout;
        Expiry::SendAgain
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SeededRandom;

    /// RFC 7252 section 4.2: the first timeout lies between ACK_TIMEOUT and ACK_TIMEOUT times
    /// ACK_RANDOM_FACTOR, each further one is twice the last; section 4.8.2: MAX_TRANSMIT_WAIT 93 s.
    #[test]
    fn doubles_four_times_and_gives_up() {
        let settings = Settings::default();
        let (mut low, mut high) = (u64::MAX, 0);
        for seed in 0..500 {
            let mut timer =
                Retransmission::start(Instant::ZERO, &settings, &mut SeededRandom::new(seed));
            let first = timer.at().as_micros();
            (low, high) = (low.min(first), high.max(first));
            for factor in [3, 7, 15, 31] {
                assert_eq!(timer.expire(timer.at()), Expiry::SendAgain);
                assert_eq!(timer.at().as_micros(), first * factor);
            }
            assert_eq!(timer.expire(timer.at()), Expiry::GiveUp);
            assert!(timer.at().as_micros() <= 93_000_000);
        }
        assert!((2_000_000..2_020_000).contains(&low), "{low}");
        assert!((2_980_000..=3_000_000).contains(&high), "{high}");
    }
}
