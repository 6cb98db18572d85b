//! When many records of a session do not verify: which ones are worth another try.
//!
//! Whoever knows a peer's address can send records in its name. Each costs an attempt at its tag, and
//! with CCM_8 the attempts are counted for the life of the session (`Protection::is_worn`), so that
//! 65536 datagrams would end it. Nothing may be dropped here that the true peer can have sent: it
//! would be shut out by whoever forges fast enough. But the true peer counts its records from the
//! last one that came, and who cannot see its traffic does not know how far it is. So after
//! [`FORGERIES_MAX`] forgeries in [`PERIOD`], and until it is over, only records near that number are
//! opened:
//!
//! ```text
//! sequence   ... | window | highest |<--- AHEAD_MAX --->| not opened, not counted
//! ```
//!
//! A record costs less to open (0.2 us) than to receive, so this is not about the shard's time.

use crate::time::{Duration, Instant};

/// Forgeries in one period from which on a session is wary.
const FORGERIES_MAX: u8 = 64;
/// The length of a period.
const PERIOD: Duration = Duration::from_secs(10);
/// How far ahead of the highest number the peer's next record may be, then: so many records of its
/// own in a row must be lost before the true peer is not heard, until the period is over.
const AHEAD_MAX: u64 = 1024;

/// Forgeries of the current period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::dtls) struct ForgeryWatch {
    period: u16,
    forged: u8,
}

impl ForgeryWatch {
    /// Whether a record with this number is worth its opening; `highest` is that of the last
    /// authentic one.
    pub(in crate::dtls) fn is_plausible(self, now: Instant, sequence: u64, highest: u64) -> bool {
        let is_wary = self.forged >= FORGERIES_MAX && self.period == period(now);
        !is_wary || sequence <= highest.saturating_add(AHEAD_MAX)
    }

    /// A record did not verify.
    pub(in crate::dtls) fn on_forgery(&mut self, now: Instant) {
        let period = period(now);
        if self.period != period {
            *self = Self { period, forged: 0 };
        }
        self.forged = self.forged.saturating_add(1);
    }
}

/// The number of the period, modulo 2^16: the same again after a week, when nothing is lost by it.
fn period(now: Instant) -> u16 {
    // A literal of this file, in range.
    #[allow(clippy::cast_possible_truncation)]
    const PERIOD_US: u64 = PERIOD.as_micros() as u64;
    #[allow(clippy::cast_possible_truncation)]
    let number = (now.as_micros() / PERIOD_US) as u16;
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn under_attack_the_peers_next_records_are_opened_and_guesses_are_not() {
        let at = |seconds: u64| Instant::from_micros(seconds * 1_000_000);
        let mut watch = ForgeryWatch::default();
        for _ in 0..64 {
            assert!(watch.is_plausible(at(101), 1 << 40, 7));
            watch.on_forgery(at(101));
        }
        // The peer goes on where it was; a thousand records in a row may even be lost.
        assert!(watch.is_plausible(at(109), 8, 7));
        assert!(watch.is_plausible(at(109), 7 + 1024, 7));
        assert!(watch.is_plausible(at(109), 3, 7), "late ones as well");
        assert!(!watch.is_plausible(at(109), 7 + 1025, 7));
        assert!(!watch.is_plausible(at(109), (1 << 48) - 1, 7));
        // Nobody is shut out for good.
        assert!(watch.is_plausible(at(110), 1 << 40, 7));
        watch.on_forgery(at(110));
        assert!(watch.is_plausible(at(110), 1 << 40, 7));
    }
}
