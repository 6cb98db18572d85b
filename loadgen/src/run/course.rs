//! The course of the measured time, in intervals as long as the run asks for.
//!
//! Threads publish at the same moments of the measured time ([`PUBLISH_EVERY`]), so an interval that ends
//! at one of them, and is collected a little later, holds what happened in it, and no more.

use tidegate::time::{Duration, Instant};

use crate::arguments::Scenario;
use crate::report::{Interval, per_second};
use crate::stats::Sample;
use crate::worker::PUBLISH_EVERY;

/// Runs of up to this length are drawn as finely as threads publish.
const SHORT_RUN: Duration = Duration::from_secs(10);
/// Most intervals of a run, about; a page is no wider.
const INTERVALS_MAX: u64 = 1000;
/// How late threads may publish.
const PUBLISH_SLACK: Duration = Duration::from_millis(25);

/// What has been drawn of a run so far.
pub(super) struct Course {
    every: Duration,
    start: Instant,
    /// Where the interval that is under way began.
    from: Instant,
    sample: Sample,
    pub(super) intervals: Vec<Interval>,
}

impl Course {
    /// Of a run of that length, which has not begun.
    pub(super) fn of(total: Duration) -> Self {
        Self {
            every: interval_for(total),
            start: Instant::ZERO,
            from: Instant::ZERO,
            sample: Sample::new(),
            intervals: Vec::new(),
        }
    }

    /// The measured time begins; what happened before is forgotten.
    pub(super) fn begin(&mut self, start: Instant) {
        self.start = start;
        self.from = start;
        self.sample.clear();
    }

    /// Whether an interval is over, and all of it published.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.from + self.every + PUBLISH_SLACK
    }

    /// Adds what was published.
    pub(super) fn add(&mut self, published: &Sample) {
        self.sample.add(published);
    }

    /// Ends the interval under way, whose length is a multiple of what is usual where `now` is late.
    pub(super) fn end_interval(&mut self, now: Instant, scenario: Scenario) {
        let late = now.saturating_duration_since(self.from + PUBLISH_SLACK);
        let times = (late.as_micros() / self.every.as_micros().max(1)).max(1);
        let times = u32::try_from(times).unwrap_or(u32::MAX);
        self.push(self.from + self.every * times, scenario);
    }

    /// The measured time is over: what is left is an interval, too, unless it is too short to tell a rate.
    pub(super) fn end(&mut self, end: Instant, scenario: Scenario) {
        let left = end.saturating_duration_since(self.from);
        if left >= self.every / 2 || (self.intervals.is_empty() && !left.is_zero()) {
            self.push(end, scenario);
        }
    }

    fn push(&mut self, to: Instant, scenario: Scenario) {
        let sample = &self.sample;
        let counters = &sample.counters;
        let (done, histogram) = match scenario.sends_requests() {
            true if sample.latency.is_empty() => (counters.ok, &sample.quiet),
            true => (counters.ok, &sample.latency),
            false => (counters.handshakes_completed, &sample.handshake),
        };
        let quantile = |quantile| match histogram.is_empty() {
            true => 0,
            false => histogram.value_at_quantile(quantile),
        };
        let length = to.saturating_duration_since(self.from);
        let at = |instant: Instant| {
            let since = instant.saturating_duration_since(self.start);
            since.as_secs_f64()
        };
        self.intervals.push(Interval {
            from: at(self.from),
            to: at(to),
            per_s: per_second(done, length),
            errors_per_s: per_second(counters.errors(), length),
            p50: quantile(0.5),
            p99: quantile(0.99),
            max: quantile(1.0),
        });
        self.from = to;
        self.sample.clear();
    }
}

/// How long the intervals of a run of that length are.
fn interval_for(total: Duration) -> Duration {
    if total <= SHORT_RUN {
        return PUBLISH_EVERY;
    }
    Duration::from_secs(total.as_secs().div_ceil(INTERVALS_MAX).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_runs_are_drawn_finely_and_long_ones_within_bounds() {
        for (seconds, millis) in [(1, 200), (10, 200), (60, 1000), (3600, 4000)] {
            let every = interval_for(Duration::from_secs(seconds));
            assert_eq!(every.as_millis(), millis, "{seconds} s");
        }
        let month = Duration::from_secs(31 * 86_400);
        assert!(month.as_secs() / interval_for(month).as_secs() <= INTERVALS_MAX);
    }

    #[test]
    fn intervals_join_and_count_what_happened_in_them() {
        let start = Instant::from_micros(5_000_000);
        let at = |millis| start + Duration::from_millis(millis);
        let mut published = Sample::new();
        published.counters.ok = 100;
        let mut course = Course::of(Duration::from_secs(3));
        course.add(&published);
        // What was before does not count.
        course.begin(start);
        assert!(!course.is_due(at(200)) && course.is_due(at(230)));
        course.add(&published);
        course.end_interval(at(230), Scenario::Telemetry);
        // The leader was away for a while.
        course.add(&published);
        course.end_interval(at(810), Scenario::Telemetry);
        course.end(at(990), Scenario::Telemetry);
        let intervals = course.intervals;
        let ends: Vec<_> = intervals.iter().map(|one| (one.from, one.to)).collect();
        assert_eq!(ends, [(0.0, 0.2), (0.2, 0.6), (0.6, 0.99)]);
        let rates: Vec<_> = intervals.iter().map(|one| one.per_s.round()).collect();
        assert_eq!(rates, [500.0, 250.0, 0.0]);
    }

    #[test]
    fn a_run_shorter_than_an_interval_has_one() {
        let mut course = Course::of(Duration::from_secs(30));
        course.begin(Instant::ZERO);
        course.end(Instant::from_micros(300_000), Scenario::Telemetry);
        assert_eq!(course.intervals.len(), 1);
        // And a remainder that is too short has none.
        course.end(Instant::from_micros(310_000), Scenario::Telemetry);
        assert_eq!(course.intervals.len(), 1);
    }
}
