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
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    /// Whatever the machine does meanwhile, an operation takes no less than it burns, and all rounds no
    /// more than the thread did.
    #[test]
    fn an_operation_takes_what_it_burns() {
        const BURNT_NS: u64 = 20_000;
        let calls = Rc::new(Cell::new(0));
        let counted = Rc::clone(&calls);
        let burn = move || {
            counted.set(counted.get() + 1);
            let start = thread_cpu_ns();
            while thread_cpu_ns() - start < BURNT_NS {}
        };
        let mut calls_before = Vec::new();
        let start = thread_cpu_ns();
        let measured = measure(vec![Benchmark::new("g", "burn", burn)], 5, &mut |_| {
            calls_before.push(calls.get());
        });
        let thread_ns = (thread_cpu_ns() - start) as f64;
        let Measured {
            median,
            fastest,
            slowest,
            ..
        } = measured[0];
        assert!(BURNT_NS as f64 <= fastest && fastest <= median && median <= slowest);
        let calls = f64::from(calls.get() - calls_before[0]);
        assert!(fastest * calls <= thread_ns, "{fastest} of {calls} calls");
        assert_eq!(measured[0].name, "burn");
    }
}
