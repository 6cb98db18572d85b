//! How a nanosecond per operation is measured.
//!
//! Thread CPU time, not wall time: what else runs on the machine then costs caches and clock speed,
//! but not its own time. Rounds go over all benchmarks, and each benchmark reports the median of
//! its rounds, so that a clock speed that changes from minute to minute reaches all of them alike:
//! compare numbers of one run, and do not quote them across runs.

use rustix::time::{ClockId, clock_gettime};

/// CPU time of one round of one benchmark, nanoseconds.
const ROUND_NS: u64 = 10_000_000;

/// Something to measure.
pub(crate) struct Benchmark {
    pub(crate) group: &'static str,
    pub(crate) name: String,
    /// Does the operation so many times.
    run: Box<dyn FnMut(u64)>,
}

impl Benchmark {
    /// A benchmark of `operation`; what it returns is computed for good.
    pub(crate) fn new<T>(
        group: &'static str,
        name: impl Into<String>,
        mut operation: impl FnMut() -> T + 'static,
    ) -> Self {
        Self {
            group,
            name: name.into(),
            run: Box::new(move |times| {
                for _ in 0..times {
                    std::hint::black_box(operation());
                }
            }),
        }
    }

    fn time(&mut self, times: u64) -> u64 {
        let start = thread_cpu_ns();
        (self.run)(times);
        thread_cpu_ns().saturating_sub(start)
    }

    /// How often the operation fits into a round.
    fn calibrate(&mut self) -> u64 {
        let mut times = 1;
        loop {
            let ns = self.time(times);
            if ns >= ROUND_NS / 4 {
                return (times * ROUND_NS / ns.max(1)).max(1);
            }
            times *= 2;
        }
    }
}

/// What was measured of one benchmark, nanoseconds per operation.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) group: &'static str,
    pub(crate) name: String,
    pub(crate) median: f64,
    pub(crate) fastest: f64,
    pub(crate) slowest: f64,
}

/// Measures all benchmarks in `rounds` rounds. `told` hears of each round.
pub(crate) fn measure(
    mut benchmarks: Vec<Benchmark>,
    rounds: usize,
    told: &mut dyn FnMut(usize),
) -> Vec<Measured> {
    let times: Vec<u64> = benchmarks.iter_mut().map(Benchmark::calibrate).collect();
    let mut results = vec![Vec::with_capacity(rounds); benchmarks.len()];
    for round in 0..rounds {
        told(round);
        for ((benchmark, &times), results) in benchmarks.iter_mut().zip(&times).zip(&mut results) {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            results.push(benchmark.time(times) as f64 / times as f64);
        }
    }
    benchmarks
        .into_iter()
        .zip(results)
        .filter_map(|(benchmark, mut results)| {
            results.sort_by(f64::total_cmp);
            Some(Measured {
                group: benchmark.group,
                name: benchmark.name,
                median: *results.get(results.len() / 2)?,
                fastest: *results.first()?,
                slowest: *results.last()?,
            })
        })
        .collect()
}

/// CPU time of this thread.
pub(crate) fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + nanos
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_the_work_takes_about_twice_the_time() {
        let work = |times: u64| move || (0..times).fold(1_u64, |a, b| std::hint::black_box(a ^ b));
        let benchmarks = vec![
            Benchmark::new("g", "one", work(2000)),
            Benchmark::new("g", "two", work(4000)),
        ];
        let measured = measure(benchmarks, 5, &mut |_| {});
        let ratio = measured[1].median / measured[0].median;
        assert!((1.5..2.7).contains(&ratio), "{ratio}");
        assert!(
            measured
                .iter()
                .all(|m| m.fastest <= m.median && m.median <= m.slowest)
        );
    }
}
