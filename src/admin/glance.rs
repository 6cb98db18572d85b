//! The fleet at a glance: a sample of the counters each second, for the status page's curves.
//!
//! The samples of the last minutes are kept here, so that a page that is opened has its curves at
//! once, and any number of open pages costs the shards nothing: their counters are read once a second.

use crate::admin::StatusSource;
use crate::histogram::HistogramSum;
use crate::metrics::{Counter, Latency, ShardMetrics};
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};

/// Time between samples.
const PERIOD: Duration = Duration::from_secs(1);
/// Samples kept: five minutes.
const SAMPLES_MAX: usize = 300;

/// The latest samples.
#[derive(Debug, Default)]
pub(super) struct Glance(Mutex<VecDeque<Sample>>);

/// What happened in a second. Rates are per second.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sample {
    /// Counts up by one with each sample.
    pub(super) sequence: u64,
    /// Requests handed to the authenticator pool.
    pub(super) requests: f64,
    /// Handshakes completed, resumed ones included.
    pub(super) handshakes: f64,
    /// The resumed ones.
    pub(super) resumptions: f64,
    /// Input discarded.
    pub(super) drops: f64,
    /// Responses of classes 4 and 5.
    pub(super) refusals: f64,
    /// DTLS sessions held, by shard.
    pub(super) sessions: Vec<u64>,
    /// Requests that wait for the pool, by shard.
    pub(super) queues: Vec<usize>,
    /// Time from a request's datagram to its answer, in microseconds; `None` without requests.
    pub(super) request_us: Option<Percentiles>,
    /// Time of a handshake, the same.
    pub(super) handshake_us: Option<Percentiles>,
    /// Records made durable.
    pub(super) stored: f64,
}

/// Upper bounds in microseconds; `None`: longer than can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Percentiles {
    pub(super) p50: Option<u64>,
    pub(super) p99: Option<u64>,
    pub(super) p999: Option<u64>,
}

impl Percentiles {
    /// Of `sum`; `None` when nothing was recorded.
    pub(super) fn of(sum: &HistogramSum) -> Option<Self> {
        if sum.count() == 0 {
            return None;
        }
        let micros = |time: Option<Duration>| time.and_then(|t| u64::try_from(t.as_micros()).ok());
        let [p50, p99, p999] = sum.quantiles([0.5, 0.99, 0.999]).map(micros);
        Some(Self { p50, p99, p999 })
    }
}

impl Glance {
    /// Takes a sample each second, for ever.
    pub(super) async fn watch(&self, status: &dyn StatusSource) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = Reading::of(status, ticks.tick().await);
        loop {
            let now = Reading::of(status, ticks.tick().await);
            self.push(&before, &now, status);
            before = now;
        }
    }

    fn push(&self, before: &Reading, now: &Reading, status: &dyn StatusSource) {
        let mut samples = self.samples();
        let sequence = samples.back().map_or(1, |latest| latest.sequence + 1);
        let sample = now.since(before, sequence, status);
        if samples.len() == SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// Number of the latest sample; 0 before the first.
    pub(super) fn sequence(&self) -> u64 {
        self.samples().back().map_or(0, |latest| latest.sequence)
    }

    /// The samples after number `sequence`, oldest first.
    pub(super) fn after(&self, sequence: u64) -> Vec<Sample> {
        let samples = self.samples();
        let newer = samples.iter().filter(|sample| sample.sequence > sequence);
        newer.cloned().collect()
    }

    fn samples(&self) -> MutexGuard<'_, VecDeque<Sample>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The counters at one time.
struct Reading {
    at: Instant,
    requests: u64,
    handshakes: u64,
    resumptions: u64,
    drops: u64,
    refusals: u64,
    stored: u64,
    request_times: HistogramSum,
    handshake_times: HistogramSum,
}

impl Reading {
    fn of(status: &dyn StatusSource, at: Instant) -> Self {
        let shards = status.shards();
        let sum = |counters: &[Counter]| total(&shards, counters);
        let drops = shards.iter().map(|shard| shard.drops_total()).sum();
        let times = |latency| HistogramSum::of(shards.iter().map(|s| s.histogram(latency)));
        Self {
            at,
            requests: sum(&[Counter::RequestsCoap, Counter::RequestsCoaps]),
            handshakes: sum(&[Counter::HandshakesCompleted, Counter::HandshakesResumed]),
            resumptions: sum(&[Counter::HandshakesResumed]),
            drops,
            refusals: sum(&[Counter::ResponsesClientError, Counter::ResponsesServerError]),
            stored: status.store().records,
            request_times: times(Latency::Request),
            handshake_times: times(Latency::Handshake),
        }
    }

    fn since(&self, before: &Self, sequence: u64, status: &dyn StatusSource) -> Sample {
        let seconds = self.at.duration_since(before.at).as_secs_f64().max(1e-3);
        #[expect(clippy::cast_precision_loss, reason = "drawn, not counted")]
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        Sample {
            sequence,
            requests: rate(self.requests, before.requests),
            handshakes: rate(self.handshakes, before.handshakes),
            resumptions: rate(self.resumptions, before.resumptions),
            drops: rate(self.drops, before.drops),
            refusals: rate(self.refusals, before.refusals),
            sessions: status
                .shards()
                .iter()
                .map(|shard| shard.value(Counter::Sessions))
                .collect(),
            queues: status.queues(),
            request_us: Percentiles::of(&self.request_times.since(&before.request_times)),
            handshake_us: Percentiles::of(&self.handshake_times.since(&before.handshake_times)),
            stored: rate(self.stored, before.stored),
        }
    }
}

/// The sum of counters over all shards.
pub(super) fn total(shards: &[Arc<ShardMetrics>], counters: &[Counter]) -> u64 {
    let of_shard = |shard: &Arc<ShardMetrics>| -> u64 {
        counters.iter().map(|&counter| shard.value(counter)).sum()
    };
    shards.iter().map(of_shard).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drop_reason::DropReason;

    struct OneShard(Arc<ShardMetrics>);

    impl StatusSource for OneShard {
        fn shards(&self) -> Vec<Arc<ShardMetrics>> {
            vec![Arc::clone(&self.0)]
        }

        fn ready(&self) -> Result<(), String> {
            Ok(())
        }

        fn queues(&self) -> Vec<usize> {
            vec![3]
        }
    }

    #[test]
    fn a_sample_is_the_difference_of_two_readings() {
        let status = OneShard(Arc::new(ShardMetrics::new()));
        let shard = &status.0;
        shard.add(Counter::RequestsCoaps, 1000);
        shard.record(Latency::Request, Duration::from_secs(1));
        let start = Instant::now();
        let before = Reading::of(&status, start);
        shard.add(Counter::RequestsCoaps, 30);
        shard.add(Counter::RequestsCoap, 10);
        shard.add(Counter::HandshakesResumed, 2);
        shard.add(Counter::HandshakesCompleted, 4);
        shard.set(Counter::Sessions, 6);
        shard.count_drop(DropReason::RecordForged);
        shard.count_drop(DropReason::CoapMalformed);
        for _ in 0..100 {
            shard.record(Latency::Request, Duration::from_micros(150));
        }
        let now = Reading::of(&status, start + Duration::from_secs(2));
        let glance = Glance::default();
        glance.push(&before, &now, &status);
        let [sample] = &glance.after(0)[..] else {
            panic!("one sample");
        };
        let expected = Sample {
            sequence: 1,
            requests: 20.0,
            handshakes: 3.0,
            resumptions: 1.0,
            drops: 1.0,
            refusals: 0.0,
            sessions: vec![6],
            queues: vec![3],
            request_us: Some(Percentiles {
                p50: Some(160),
                p99: Some(160),
                p999: Some(160),
            }),
            handshake_us: None,
            stored: 0.0,
        };
        assert_eq!(*sample, expected);
        assert_eq!((glance.sequence(), glance.after(1)), (1, vec![]));
    }

    #[test]
    fn only_the_last_minutes_are_kept() {
        let status = OneShard(Arc::new(ShardMetrics::new()));
        let reading = Reading::of(&status, Instant::now());
        let glance = Glance::default();
        for _ in 0..SAMPLES_MAX + 5 {
            glance.push(&reading, &reading, &status);
        }
        let kept = glance.after(0);
        assert_eq!(kept.len(), SAMPLES_MAX);
        assert_eq!(kept[0].sequence, 6);
        assert_eq!(glance.after(SAMPLES_MAX as u64).len(), 5);
    }
}
