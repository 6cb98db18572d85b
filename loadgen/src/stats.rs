//! What is counted, per thread and in sum.

use hdrhistogram::Histogram;
use tidegate::time::{Duration, Instant};

/// Longest latency that is told apart, microseconds; longer ones count as this.
const LATENCY_US_MAX: u64 = 200_000_000;

/// Events counted. Each is a number of events since the start of the run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) handshakes_started: u64,
    pub(crate) handshakes_completed: u64,
    pub(crate) handshakes_failed: u64,
    /// Those of the completed that resumed a session.
    pub(crate) handshakes_resumed: u64,
    /// Completed before the measured time ended.
    pub(crate) handshakes_in_time: u64,
    /// Requests, without retransmissions.
    pub(crate) sent: u64,
    pub(crate) ok: u64,
    /// Answered before the measured time ended.
    pub(crate) ok_in_time: u64,
    /// Requests sent, for the first time or again, while it was measured.
    pub(crate) offered_in_time: u64,
    /// Everything that was to be sent and did not end well; timeouts included.
    pub(crate) failed: u64,
    pub(crate) timeouts: u64,
    pub(crate) retransmissions: u64,
    /// Answered by a reset.
    pub(crate) resets: u64,
    /// Lost because the session ended under them.
    pub(crate) sessions_lost: u64,
    /// Never sent: the device's backlog was full, or not worked off in time.
    pub(crate) not_sent: u64,
    /// Times that a device had to wait for a Message ID.
    pub(crate) stalls: u64,
    /// Messages that no correct server sends.
    pub(crate) wrong: u64,
    /// Datagrams received.
    pub(crate) datagrams: u64,
    /// ICMP errors: nothing listens there.
    pub(crate) refused: u64,
    /// Datagrams that the host had no room for.
    pub(crate) unsent_datagrams: u64,
    /// Records and messages that were of no use, for instance because they came twice.
    pub(crate) drops: u64,
    /// Handshakes of devices that had a session before, in the scenario rebind: there should be none.
    pub(crate) reconnects: u64,
    /// Changes of a device's source port.
    pub(crate) rebinds: u64,
    /// Those whose first request was answered by a success.
    pub(crate) rebinds_ok: u64,
    /// Devices whose registration as observers was taken, in the scenario observe. There `sent` are
    /// the notifications that were to come, and `ok` those that did.
    pub(crate) observers: u64,
    /// Notifications that came more than once.
    pub(crate) repeated: u64,
    /// Notifications of something older than what the device knew already.
    pub(crate) disordered: u64,
    /// Observations that the server ended.
    pub(crate) observations_ended: u64,
    /// ClientHellos of strangers without a cookie.
    pub(crate) hellos: u64,
    /// ClientHellos of strangers with a valid one.
    pub(crate) hellos_with_cookie: u64,
    /// Answers that were not a success, by code byte.
    pub(crate) codes: Vec<(u8, u64)>,
    /// Alerts of the server that ended a session or handshake, by name.
    pub(crate) alerts: Vec<(String, u64)>,
    /// Reasons for failed handshakes.
    pub(crate) handshake_errors: Vec<(String, u64)>,
}

impl Counters {
    /// Operations that did not end well.
    pub(crate) const fn errors(&self) -> u64 {
        self.failed + self.handshakes_failed + self.reconnects + self.disordered
    }

    fn add(&mut self, other: &Self) {
        self.handshakes_started += other.handshakes_started;
        self.handshakes_completed += other.handshakes_completed;
        self.handshakes_failed += other.handshakes_failed;
        self.handshakes_resumed += other.handshakes_resumed;
        self.handshakes_in_time += other.handshakes_in_time;
        self.sent += other.sent;
        self.ok += other.ok;
        self.ok_in_time += other.ok_in_time;
        self.offered_in_time += other.offered_in_time;
        self.failed += other.failed;
        self.timeouts += other.timeouts;
        self.retransmissions += other.retransmissions;
        self.resets += other.resets;
        self.sessions_lost += other.sessions_lost;
        self.not_sent += other.not_sent;
        self.stalls += other.stalls;
        self.wrong += other.wrong;
        self.datagrams += other.datagrams;
        self.refused += other.refused;
        self.unsent_datagrams += other.unsent_datagrams;
        self.drops += other.drops;
        self.reconnects += other.reconnects;
        self.rebinds += other.rebinds;
        self.rebinds_ok += other.rebinds_ok;
        self.observers += other.observers;
        self.repeated += other.repeated;
        self.disordered += other.disordered;
        self.observations_ended += other.observations_ended;
        self.hellos += other.hellos;
        self.hellos_with_cookie += other.hellos_with_cookie;
        merge(&mut self.codes, &other.codes);
        merge(&mut self.alerts, &other.alerts);
        merge(&mut self.handshake_errors, &other.handshake_errors);
    }
}

/// Counts one more `key`; the lists are short.
pub(crate) fn tally<K: PartialEq>(list: &mut Vec<(K, u64)>, key: K) {
    match list.iter_mut().find(|(known, _)| *known == key) {
        Some((_, count)) => *count += 1,
        None => list.push((key, 1)),
    }
}

fn merge<K: PartialEq + Clone>(list: &mut Vec<(K, u64)>, other: &[(K, u64)]) {
    for (key, count) in other {
        match list.iter_mut().find(|(known, _)| known == key) {
            Some((_, sum)) => *sum += count,
            None => list.push((key.clone(), *count)),
        }
    }
}

/// Counters and latencies of a thread or of the fleet, over some time.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) counters: Counters,
    /// From the intended send time to the answer, microseconds.
    pub(crate) latency: Histogram<u64>,
    /// From the first actual sending to the answer, microseconds; of the open loop.
    pub(crate) service: Histogram<u64>,
    /// As [`Self::latency`], before the storm, of answers that came before it.
    pub(crate) quiet: Histogram<u64>,
    /// From the intended start to the end of the handshake, microseconds.
    pub(crate) handshake: Histogram<u64>,
    /// How late the generator itself sent, microseconds.
    pub(crate) lag: Histogram<u64>,
    /// When the server's last datagram came.
    pub(crate) last_datagram: Option<Instant>,
    /// When it was last seen that nothing listens there.
    pub(crate) last_refusal: Option<Instant>,
}

impl Sample {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            counters: Counters::default(),
            latency: histogram(),
            service: histogram(),
            quiet: histogram(),
            handshake: histogram(),
            lag: histogram(),
            last_datagram: None,
            last_refusal: None,
        }
    }

    /// Adds what `other` holds.
    pub(crate) fn add(&mut self, other: &Self) {
        self.counters.add(&other.counters);
        self.last_datagram = self.last_datagram.max(other.last_datagram);
        self.last_refusal = self.last_refusal.max(other.last_refusal);
        for (own, other) in [
            (&mut self.latency, &other.latency),
            (&mut self.service, &other.service),
            (&mut self.quiet, &other.quiet),
            (&mut self.handshake, &other.handshake),
            (&mut self.lag, &other.lag),
        ] {
            if !other.is_empty() {
                own.add(other).expect("histograms of the same bounds");
            }
        }
    }

    /// Back to nothing; keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.counters = Counters::default();
        self.last_datagram = None;
        self.last_refusal = None;
        let Self {
            latency,
            service,
            quiet,
            handshake,
            lag,
            ..
        } = self;
        for histogram in [latency, service, quiet, handshake, lag] {
            if !histogram.is_empty() {
                histogram.reset();
            }
        }
    }
}

/// 1 us to 200 s with three significant digits: about 150 KB.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("bounds are in order")
}

/// Records a duration; beyond the bounds it counts as the longest.
pub(crate) fn record(histogram: &mut Histogram<u64>, duration: Duration) {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    histogram.saturating_record(micros.max(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_add_up_and_clear() {
        let (mut sum, mut part) = (Sample::new(), Sample::new());
        part.counters.sent = 3;
        part.counters.handshakes_failed = 1;
        tally(&mut part.counters.codes, 0x81);
        tally(&mut part.counters.codes, 0x81);
        record(&mut part.latency, Duration::from_micros(100));
        record(&mut part.latency, Duration::from_secs(10_000));
        sum.add(&part);
        sum.add(&part);
        assert_eq!((sum.counters.sent, sum.counters.errors()), (6, 2));
        assert_eq!(sum.counters.codes, [(0x81, 4)]);
        assert_eq!(sum.latency.len(), 4);
        assert!(sum.latency.max() >= LATENCY_US_MAX);
        part.clear();
        assert_eq!(part.counters, Counters::default());
        assert_eq!(part.latency.len(), 0);
    }
}
