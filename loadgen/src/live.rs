//! The line that tells how the run goes, each second: in place on a terminal, else line by line.

use std::io::{IsTerminal, Write, stderr};

use tidegate::time::{Duration, Instant};

use crate::arguments::Scenario;
use crate::clock::Clock;
use crate::report::per_second;
use crate::stats::Sample;
use crate::text::{grouped, micros, rate};

/// Writes to the standard error stream.
#[derive(Debug)]
pub(crate) struct Live {
    terminal: bool,
    open_line: bool,
    clock: Clock,
    /// When the last step was told.
    told: Instant,
}

/// Between two lines of something that goes on by itself.
const STEP_EVERY: Duration = Duration::from_secs(1);

impl Live {
    /// Finds out whether the stream is a terminal.
    pub(crate) fn new() -> Self {
        let clock = Clock::start();
        Self {
            terminal: stderr().is_terminal(),
            open_line: false,
            clock,
            told: clock.instant(),
        }
    }

    /// The same as [`Self::progress`], at most once a second.
    pub(crate) fn step(&mut self, line: impl FnOnce() -> String) {
        let now = self.clock.instant();
        if now.saturating_duration_since(self.told) >= STEP_EVERY {
            self.told = now;
            self.progress(&line());
        }
    }

    /// A line that the next one replaces, where that is possible.
    pub(crate) fn progress(&mut self, line: &str) {
        let mut stream = stderr().lock();
        // Nobody can be told when the terminal is gone.
        let _ = if self.terminal {
            self.open_line = true;
            write!(stream, "\r\x1b[K{line}").and_then(|()| stream.flush())
        } else {
            writeln!(stream, "{line}")
        };
    }

    /// A line that stays.
    pub(crate) fn note(&mut self, line: &str) {
        self.finish();
        let _ = writeln!(stderr(), "{line}");
    }

    /// Ends a line that is open.
    pub(crate) fn finish(&mut self) {
        if std::mem::take(&mut self.open_line) {
            let _ = writeln!(stderr());
        }
    }
}

/// The line of one interval. Rate and percentiles are of the interval, errors and retransmissions of
/// the run so far.
pub(crate) fn line(
    what: &str,
    elapsed: Duration,
    scenario: Scenario,
    interval: &Sample,
    total: &Sample,
    length: Duration,
) -> String {
    let counters = &interval.counters;
    let (count, histogram, unit) = if scenario.sends_requests() {
        let latency = match interval.latency.is_empty() {
            true => &interval.quiet,
            false => &interval.latency,
        };
        let unit = match scenario {
            Scenario::Observe => "notifications/s",
            _ => "requests/s",
        };
        (counters.ok, latency, unit)
    } else {
        let completed = counters.handshakes_completed;
        (completed, &interval.handshake, "handshakes/s")
    };
    let quantile = |quantile| match histogram.is_empty() {
        true => "-".to_owned(),
        false => micros(histogram.value_at_quantile(quantile)),
    };
    format!(
        "{what} {:>3} s  {:>9} {unit}  p50 {:>8}  p99 {:>8}  errors {}  retransmissions {}",
        elapsed.as_secs(),
        rate(per_second(count, length)),
        quantile(0.5),
        quantile(0.99),
        grouped(total.counters.errors()),
        grouped(total.counters.retransmissions),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_rate_percentiles_errors_and_retransmissions() {
        let (mut interval, mut total) = (Sample::new(), Sample::new());
        let second = Duration::from_secs(1);
        let empty = line(
            "running",
            second,
            Scenario::Telemetry,
            &interval,
            &total,
            second,
        );
        assert!(empty.contains("p50        -"), "{empty}");
        interval.counters.ok = 2500;
        interval.latency.record(180).unwrap();
        total.counters.failed = 3;
        total.counters.retransmissions = 4;
        let line = line(
            "running",
            second * 7,
            Scenario::Telemetry,
            &interval,
            &total,
            second / 2,
        );
        assert_eq!(
            line,
            "running   7 s      5 000 requests/s  p50   180 us  p99   180 us  errors 3  retransmissions 4"
        );
    }
}
