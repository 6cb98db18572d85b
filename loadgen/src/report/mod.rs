//! What is said and written when the load is over.

mod hgrm;
pub(crate) mod hints;
mod html;
mod json;
mod table;

pub(crate) use hgrm::hgrm;
pub(crate) use html::{Interval, html};
pub(crate) use json::json;
pub(crate) use table::table;

use hdrhistogram::Histogram;
use tidegate::time::Duration;

use crate::arguments::{Load, Plan, Scenario};
use crate::stats::Sample;

/// What the server used, per operation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ServerUse {
    /// 0 when no request was answered.
    pub(crate) cpu_us_per_request: f64,
    /// 0 when no handshake was completed.
    pub(crate) cpu_us_per_handshake: f64,
    /// Resident memory at the end of the load, before the sessions close.
    pub(crate) rss_bytes: u64,
    /// Growth of resident memory per session while the fleet connected; 0 where it did not.
    pub(crate) rss_bytes_per_session: f64,
}

/// How a server that answered was heard at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hearing {
    /// From its last datagram to the end, when nothing was waited for any more.
    pub(crate) silence: Duration,
    /// The part of it until the end of the measured time.
    pub(crate) silence_measured: Duration,
    /// Whether the host said since then that nothing listens there.
    pub(crate) refused: bool,
}

/// A whole run.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) plan: &'a Plan,
    /// Devices of the fleet.
    pub(crate) devices: usize,
    pub(crate) threads: usize,
    pub(crate) total: Sample,
    /// The reconnecting fleet and the strangers, in the scenario storm.
    pub(crate) storm: Option<Sample>,
    /// From each call of the interface that told observers something to its answer, microseconds.
    pub(crate) calls: Option<Histogram<u64>>,
    /// How long the fleet connected; zero where it did not.
    pub(crate) connecting: Duration,
    /// How long was measured.
    pub(crate) measured: Duration,
    /// `None` when no datagram of the server came.
    pub(crate) hearing: Option<Hearing>,
    pub(crate) server: Option<ServerUse>,
    /// The server's CPU time per operation by the names of its threads, microseconds.
    pub(crate) server_threads: Vec<(String, f64)>,
    /// CPU time of this process from the start of the measured time to the last answer.
    pub(crate) own_cpu: Duration,
    /// Resident memory of this process at the end of the load.
    pub(crate) own_rss_bytes: u64,
}

impl Report<'_> {
    /// Requests answered per second of the measured time.
    pub(crate) fn requests_per_s(&self) -> f64 {
        per_second(self.total.counters.ok_in_time, self.measured)
    }

    /// Requests sent per second, for the first time or again.
    pub(crate) fn offered_per_s(&self) -> f64 {
        per_second(self.total.counters.offered_in_time, self.measured)
    }

    /// Handshakes completed per second: of the measured time, or while the fleet connected.
    pub(crate) fn handshakes_per_s(&self) -> f64 {
        let counters = &self.total.counters;
        if self.connecting.is_zero() {
            per_second(counters.handshakes_in_time, self.measured)
        } else {
            let connected = counters.handshakes_completed - counters.handshakes_in_time;
            per_second(connected, self.connecting)
        }
    }

    /// How long the operations took: requests where the scenario has some, else handshakes.
    pub(crate) const fn operations(&self) -> &Histogram<u64> {
        match self.plan.scenario.sends_requests() {
            true => &self.total.latency,
            false => &self.total.handshake,
        }
    }

    /// A rate of the storm.
    pub(crate) fn storm_per_s(&self, count: u64) -> f64 {
        let quiet = self.plan.storm.map_or(Duration::ZERO, |storm| storm.quiet);
        per_second(count, self.measured.saturating_sub(quiet))
    }

    /// The fleet's latency at p99 under the storm, over that before it; 0 when there is none.
    #[expect(clippy::cast_precision_loss, reason = "times are far below 2^53 us")]
    pub(crate) fn p99_to_quiet(&self) -> f64 {
        let total = &self.total;
        if total.quiet.is_empty() || total.latency.is_empty() {
            return 0.0;
        }
        let p99 = |histogram: &Histogram<u64>| histogram.value_at_quantile(0.99) as f64;
        p99(&total.latency) / p99(&total.quiet)
    }

    /// What the latencies count and what they do not.
    pub(crate) const fn honesty(&self) -> &'static str {
        match self.plan.load {
            Load::Closed if matches!(self.plan.scenario, Scenario::Observe) => {
                "Latency counts from the call that sets the attribute of all devices to the notification at \
                 each device."
            }
            Load::Open { .. } => {
                "Latency counts from the intended send time, so what a slow server delays is in it. It is that of \
                 successes: errors and time-outs are counted apart."
            }
            Load::Closed | Load::Turns { .. } => {
                "Latency counts from the actual send time: a device asks again only when it has its answer, so \
                 what a slow server kept from being asked is not in it (coordinated omission). --rate counts that. It is \
                 that of successes: errors and time-outs are counted apart."
            }
        }
    }

    /// Whether all went as it should: no wrong answer, and no more errors than allowed.
    pub(crate) const fn is_success(&self) -> bool {
        let counters = &self.total.counters;
        counters.wrong == 0 && counters.errors() <= self.plan.max_errors
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub(crate) fn per_second(count: u64, time: Duration) -> f64 {
    if time.is_zero() {
        0.0
    } else {
        count as f64 / time.as_secs_f64()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::stats::record;

    /// A report of 1000 answers of 100 to 1099 us, in 2 s.
    pub(crate) fn example(plan: &Plan) -> Report<'_> {
        let mut total = Sample::new();
        total.counters.sent = 1000;
        total.counters.ok = 1000;
        total.counters.ok_in_time = 1000;
        for us in 100..1100 {
            record(&mut total.latency, Duration::from_micros(us));
        }
        Report {
            plan,
            devices: 10,
            threads: 1,
            total,
            storm: None,
            calls: None,
            connecting: Duration::ZERO,
            measured: Duration::from_secs(2),
            hearing: None,
            server: None,
            server_threads: Vec::new(),
            own_cpu: Duration::from_millis(5),
            own_rss_bytes: 20 << 20,
        }
    }

    #[test]
    fn rates_are_of_the_time_they_belong_to_and_errors_decide() {
        let plan = crate::arguments::tests::example();
        let mut report = example(&plan);
        assert!((report.requests_per_s() - 500.0).abs() < 1e-9);
        report.total.counters.handshakes_completed = 50;
        report.connecting = Duration::from_secs(5);
        assert!((report.handshakes_per_s() - 10.0).abs() < 1e-9);
        assert!(report.is_success());
        report.total.counters.failed = 1;
        assert!(!report.is_success());
        let lenient = Plan {
            max_errors: 1,
            ..plan.clone()
        };
        report.plan = &lenient;
        assert!(report.is_success());
        report.total.counters.wrong = 1;
        assert!(!report.is_success());
    }
}
