//! What a thread lends to each of its devices for a step, and what all devices have in common.

use tidegate::coap;
use tidegate::random::SeededRandom;
use tidegate::time::{Duration, Instant, Now};

use crate::arguments::{Load, Scenario, Storm};
use crate::control::{Control, Phase};
use crate::sockets::{Hubs, Sockets};
use crate::stats::Sample;

/// What devices do; the same for all.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) scenario: Scenario,
    pub(crate) load: Load,
    /// How often a device changes its source port.
    pub(crate) rebind_every: Option<Duration>,
    /// What comes over the devices in the measured time.
    pub(crate) storm: Option<Storm>,
    /// Whether devices share sockets.
    pub(crate) shared_sockets: bool,
    pub(crate) payload: Vec<u8>,
    pub(crate) answer_timeout: Duration,
    pub(crate) coap: coap::Settings,
}

/// One thread's state beside its devices.
pub(crate) struct Kit<'a> {
    pub(crate) work: &'a Work,
    pub(crate) control: &'a Control,
    /// Opens sockets, also in place of others.
    pub(crate) sockets: Sockets,
    /// What devices share of them.
    pub(crate) hubs: Hubs,
    /// Spreads retransmissions; nothing secret.
    pub(crate) random: SeededRandom,
    pub(crate) sample: Sample,
    /// Memory for records.
    pub(crate) scratch: Vec<u8>,
    /// The wall clock, read once per round of the loop.
    pub(crate) unix_ms: u64,
    /// The phase, read once per round of the loop.
    pub(crate) phase: Phase,
    /// The end of the measured time.
    pub(crate) end: Instant,
    /// When the storm begins, if one does.
    pub(crate) storm_at: Option<Instant>,
    /// Operations due or begun, and not ended.
    pub(crate) outstanding: u64,
    /// Devices whose first handshake ended.
    pub(crate) settled: u64,
}

impl Kit<'_> {
    /// Both clocks.
    pub(crate) const fn clocks(&self, instant: Instant) -> Now {
        Now {
            instant,
            unix_ms: self.unix_ms,
        }
    }

    /// Whether devices only observe.
    pub(crate) fn observes(&self) -> bool {
        self.work.scenario == Scenario::Observe
    }

    /// Whether what ends at `now` counts for the rates.
    pub(crate) fn is_measured(&self, now: Instant) -> bool {
        self.phase == Phase::Run && now <= self.end
    }

    /// Whether `now` is before the storm that is to come.
    pub(crate) fn is_quiet(&self, now: Instant) -> bool {
        self.storm_at.is_some_and(|at| now < at)
    }

    /// Whether a device of the closed loop goes on with another operation; if so it must.
    pub(crate) fn wants_another(&self, now: Instant) -> bool {
        self.work.load == Load::Closed
            && !self.observes()
            && self.phase == Phase::Run
            && now < self.end
            && self.control.begin_operation()
    }

    /// Counts an operation that was due and never begun.
    pub(crate) const fn count_not_begun(&mut self) {
        let counters = &mut self.sample.counters;
        counters.not_sent += 1;
        if self.work.scenario.sends_requests() {
            counters.failed += 1;
        } else {
            counters.handshakes_failed += 1;
        }
    }
}
