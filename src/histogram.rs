//! Times taken: buckets that a shard counts in, and what a reader makes of them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Times in buckets that grow: four to each doubling, from 1 microsecond to 67 seconds, so that a
/// quantile is at most 25 % too high. Fixed size, single writer.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; Self::BUCKETS],
    sum_micros: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    const OCTAVES: usize = 26;
    const PER_OCTAVE: usize = 4;
    /// The last one holds all that took 2^26 microseconds or longer.
    const BUCKETS: usize = Self::OCTAVES * Self::PER_OCTAVE + 1;

    /// Empty.
    pub const fn new() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; Self::BUCKETS],
            sum_micros: AtomicU64::new(0),
        }
    }

    pub(crate) fn record(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        bump(&self.buckets[Self::index(micros)], 1);
        bump(&self.sum_micros, micros);
    }

    /// The bucket of `micros`: its power of two, and the two bits below the leading one.
    #[inline]
    fn index(micros: u64) -> usize {
        let micros = micros.max(1);
        let octave = micros.ilog2() as usize;
        if octave >= Self::OCTAVES {
            return Self::BUCKETS - 1;
        }
        let second_bit = octave.checked_sub(1).map_or(0, |bit| micros >> bit & 1);
        let third_bit = octave.checked_sub(2).map_or(0, |bit| micros >> bit & 1);
        octave * Self::PER_OCTAVE + usize::from(second_bit == 1) * 2 + usize::from(third_bit == 1)
    }

    /// The first number of microseconds that lies above the bucket; `None` for the last one.
    fn upper_bound_micros(index: usize) -> Option<u64> {
        let octave = index / Self::PER_OCTAVE;
        let quarter = (index % Self::PER_OCTAVE) as u64;
        (octave < Self::OCTAVES).then(|| ((5 + quarter) << octave).div_ceil(4))
    }
}

/// The sum of histograms, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistogramSum {
    buckets: [u64; Histogram::BUCKETS],
    sum_micros: u64,
}

impl Default for HistogramSum {
    /// Of none.
    fn default() -> Self {
        Self::of([])
    }
}

impl HistogramSum {
    /// Adds up `histograms`.
    pub fn of<'a>(histograms: impl IntoIterator<Item = &'a Histogram>) -> Self {
        let mut sum = Self {
            buckets: [0; Histogram::BUCKETS],
            sum_micros: 0,
        };
        for histogram in histograms {
            for (total, cell) in sum.buckets.iter_mut().zip(&histogram.buckets) {
                *total = total.wrapping_add(cell.load(Relaxed));
            }
            sum.sum_micros = sum
                .sum_micros
                .wrapping_add(histogram.sum_micros.load(Relaxed));
        }
        sum
    }

    /// How many times were recorded.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// What was recorded after `earlier`, a sum of the same histograms.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = self.clone();
        for (now, before) in difference.buckets.iter_mut().zip(&earlier.buckets) {
            *now = now.wrapping_sub(*before);
        }
        difference.sum_micros = self.sum_micros.wrapping_sub(earlier.sum_micros);
        difference
    }

    /// All times together.
    pub const fn total(&self) -> Duration {
        Duration::from_micros(self.sum_micros)
    }

    /// How many records there are up to each doubling, and above the one before; `None`: above all.
    pub(crate) fn octaves(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let octaves = self.buckets.chunks(Histogram::PER_OCTAVE);
        octaves.enumerate().map(|(octave, buckets)| {
            let last = octave * Histogram::PER_OCTAVE + buckets.len() - 1;
            let bound = Histogram::upper_bound_micros(last).map(Duration::from_micros);
            (bound, buckets.iter().sum())
        })
    }

    /// Upper bounds of the times that each of `quantiles` (0 to 1) of the records did not exceed, a
    /// bucket's width too high at most. `None` when there is no record, and for the bucket without bound.
    pub fn quantiles<const N: usize>(&self, quantiles: [f64; N]) -> [Option<Duration>; N] {
        /// Stands for the bucket without bound.
        const BEYOND: u64 = 1 << (Histogram::OCTAVES + 1);
        /// Far finer than the buckets, whose bounds are an eighth apart or more.
        const DIGITS: u8 = 3;
        let Ok(mut distribution) = hdrhistogram::Histogram::<u64>::new(DIGITS) else {
            return [None; N];
        };
        for (index, &count) in self
            .buckets
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
        {
            let micros = Histogram::upper_bound_micros(index).unwrap_or(BEYOND);
            // It grows by itself, so there is no value that it would not take.
            let _ = distribution.record_n(micros, count);
        }
        quantiles.map(|quantile| {
            let micros = distribution.value_at_quantile(quantile);
            let is_bounded = !distribution.is_empty() && micros < BEYOND;
            is_bounded.then(|| Duration::from_micros(micros))
        })
    }

    /// [`Self::quantiles`] of one.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let [time] = self.quantiles([quantile]);
        time
    }
}

/// Adds to a cell that this thread alone writes: no read-modify-write instruction is needed.
#[inline]
pub(crate) fn bump(cell: &AtomicU64, amount: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(amount), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_lies_below_the_bound_of_its_bucket_by_a_quarter_at_most() {
        let indices: Vec<_> = (0..100_000).map(Histogram::index).collect();
        assert!(indices.is_sorted());
        for micros in (0..100_000).chain((0..4000).map(|step| step * 16_777)) {
            let index = Histogram::index(micros);
            let Some(bound) = Histogram::upper_bound_micros(index) else {
                assert!(micros >= 1 << Histogram::OCTAVES);
                continue;
            };
            assert!(micros < bound, "{micros} in {index}");
            assert!(
                bound <= (micros + 1) * 5 / 4 + 1,
                "{micros} in {index}: {bound}"
            );
        }
        assert_eq!(Histogram::index(u64::MAX), Histogram::BUCKETS - 1);
        assert_eq!(Histogram::index((1 << 26) - 1), Histogram::BUCKETS - 2);
        assert_eq!(Histogram::index(1 << 26), Histogram::BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_upper_bounds() {
        let histograms = [Histogram::new(), Histogram::new()];
        let empty = HistogramSum::of(&histograms);
        assert_eq!((empty.count(), empty.quantile(0.5)), (0, None));
        for micros in 1..=1000 {
            histograms[micros % 2].record(Duration::from_micros(micros as u64));
        }
        let sum = HistogramSum::of(&histograms);
        assert_eq!(sum.count(), 1000);
        for (quantile, exact) in [(0.0, 1), (0.5, 500), (0.99, 990), (1.0, 1000)] {
            let found = sum.quantile(quantile).unwrap().as_micros();
            assert!(
                found > exact && found <= exact * 1251 / 1000 + 1,
                "{quantile}: {found}"
            );
        }
        let before = sum;
        histograms[1].record(Duration::from_micros(7000));
        let since = HistogramSum::of(&histograms).since(&before);
        assert_eq!((since.count(), since.total().as_micros()), (1, 7000));
        let only = since.quantiles([0.1, 0.5, 1.0]);
        assert!(only.iter().all(|found| *found == only[0]), "{only:?}");
        assert!((7000..8192 + 9).contains(&only[0].unwrap().as_micros()));
        histograms[0].record(Duration::MAX);
        let sum = HistogramSum::of(&histograms);
        assert_eq!(sum.quantile(1.0), None, "beyond the last bound");
    }
}
