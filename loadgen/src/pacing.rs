//! When requests are meant to be sent: the open loop's schedule.
//!
//! Arrivals form a Poisson process: the gaps are exponential, drawn from the seed, with the mean
//! that the rate asks for. Each arrival goes to the next device of a shuffled round, so every
//! device sends once per round, as a fleet of periodic reporters does. The schedule never looks at
//! answers: what a slow server delays stays due at its time, and latency counts from there.

use tidegate::random::{Random, SeededRandom};
use tidegate::time::Instant;

/// The schedule of one thread's devices.
#[derive(Debug)]
pub(crate) struct Arrivals {
    random: SeededRandom,
    mean_gap_us: f64,
    /// Microseconds on the clock, with fraction, so that rounding does not add up.
    next_us: f64,
    end: Instant,
    round: Vec<u32>,
    position: usize,
}

/// One arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// When the request is meant to be sent.
    pub(crate) at: Instant,
    /// The device that sends it.
    pub(crate) device: u32,
}

impl Arrivals {
    /// A schedule from `start` to `end` of `rate` arrivals a second over `devices`.
    ///
    /// Without devices, or with a rate of 0, nothing arrives.
    pub(crate) fn new(
        seed: u64,
        rate: f64,
        devices: Vec<u32>,
        start: Instant,
        end: Instant,
    ) -> Self {
        let mut random = SeededRandom::new(seed);
        let mut round = devices;
        shuffle(&mut round, &mut random);
        let mut arrivals = Self {
            random,
            mean_gap_us: 1e6 / rate,
            next_us: micros(start),
            end: if round.is_empty() || rate <= 0.0 {
                start
            } else {
                end
            },
            round,
            position: 0,
        };
        arrivals.advance();
        arrivals
    }

    /// The arrival that is next, when it is before the end.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        let at = self.current();
        (at < self.end).then_some(at)
    }

    /// Takes the next arrival if it is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Arrival> {
        let at = self.next_at().filter(|&at| at <= now)?;
        let device = *self.round.get(self.position)?;
        self.position = (self.position + 1) % self.round.len();
        self.advance();
        Some(Arrival { at, device })
    }

    fn advance(&mut self) {
        self.next_us += self.mean_gap_us * exponential(&mut self.random);
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a time on the clock: positive, and far below 2^53 us"
    )]
    fn current(&self) -> Instant {
        Instant::from_micros(self.next_us as u64)
    }
}

/// An exponentially distributed number with mean 1.
fn exponential(random: &mut SeededRandom) -> f64 {
    // 53 random bits: a number in [0, 1) in steps of 2^-53.
    #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
    let unit = (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    -(1.0 - unit).ln()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a time on the clock, far below 2^53 us"
)]
fn micros(instant: Instant) -> f64 {
    instant.as_micros() as f64
}

/// Fisher-Yates.
pub(crate) fn shuffle(items: &mut [u32], random: &mut dyn Random) {
    for last in (1..items.len()).rev() {
        let other = random.below(last as u64 + 1);
        items.swap(last, usize::try_from(other).unwrap_or(last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate::time::Duration;

    fn all(seed: u64, rate: f64, devices: u32, seconds: u64) -> Vec<Arrival> {
        let start = Instant::from_micros(1_000_000);
        let end = start + Duration::from_secs(seconds);
        let mut arrivals = Arrivals::new(seed, rate, (0..devices).collect(), start, end);
        let late = end + Duration::from_secs(5);
        std::iter::from_fn(|| arrivals.pop_due(late)).collect()
    }

    #[test]
    fn the_rate_and_the_spread_are_those_of_a_poisson_process() {
        let arrivals = all(7, 10_000.0, 100, 10);
        let count = arrivals.len();
        // The standard deviation of the count is its root, 316; of the gaps it is their mean.
        assert!((98_500..101_500).contains(&count), "{count}");
        let gaps: Vec<f64> = arrivals
            .windows(2)
            .map(|pair| micros(pair[1].at) - micros(pair[0].at))
            .collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((99.0..101.0).contains(&mean), "{mean}");
        assert!((97.0..103.0).contains(&variance.sqrt()), "{variance}");
    }

    #[test]
    fn a_seed_repeats_and_each_round_visits_each_device_once() {
        let arrivals = all(3, 1000.0, 10, 2);
        assert_eq!(arrivals, all(3, 1000.0, 10, 2));
        assert_ne!(arrivals, all(4, 1000.0, 10, 2));
        for round in arrivals.chunks_exact(10) {
            let mut devices: Vec<u32> = round.iter().map(|arrival| arrival.device).collect();
            devices.sort_unstable();
            assert_eq!(devices, (0..10).collect::<Vec<_>>());
        }
    }

    #[test]
    fn nothing_arrives_before_its_time_nor_after_the_end() {
        let start = Instant::from_micros(1_000_000);
        let end = start + Duration::from_secs(1);
        let mut arrivals = Arrivals::new(1, 100.0, vec![5], start, end);
        let first = arrivals.next_at().unwrap();
        assert!(first >= start);
        assert_eq!(
            arrivals.pop_due(Instant::from_micros(first.as_micros() - 1)),
            None
        );
        assert_eq!(
            arrivals.pop_due(first),
            Some(Arrival {
                at: first,
                device: 5
            })
        );
        let rest = std::iter::from_fn(|| arrivals.pop_due(end + Duration::from_secs(9)));
        assert!(rest.into_iter().all(|arrival| arrival.at < end));
        assert_eq!(arrivals.next_at(), None);
        let mut none = Arrivals::new(1, 100.0, Vec::new(), start, end);
        assert_eq!(none.pop_due(end), None);
    }
}
