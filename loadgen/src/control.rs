//! What the threads of a run share: the phase, the measured time, and what was counted.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidegate::time::Instant;

use crate::stats::Sample;

/// What the fleet is doing, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Opening sockets.
    Prepare,
    /// Making sessions.
    Connect,
    /// Operations, measured.
    Run,
    /// Only waiting for answers.
    Drain,
    /// The end: what is outstanding is lost.
    Stop,
}

impl Phase {
    const ALL: [Self; 5] = [
        Self::Prepare,
        Self::Connect,
        Self::Run,
        Self::Drain,
        Self::Stop,
    ];
}

/// One thread's part.
#[derive(Debug)]
pub(crate) struct Shared {
    sample: Mutex<Sample>,
    /// Operations begun or due and not ended.
    pub(crate) outstanding: AtomicU64,
    /// Devices whose sockets are open.
    pub(crate) prepared: AtomicU64,
    /// Devices whose first handshake ended, well or not.
    pub(crate) settled: AtomicU64,
    /// The phase that the thread is in.
    seen: AtomicU8,
}

impl Shared {
    fn new() -> Self {
        Self {
            sample: Mutex::new(Sample::new()),
            outstanding: AtomicU64::new(0),
            prepared: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            seen: AtomicU8::new(Phase::Prepare as u8),
        }
    }

    /// Says how far the thread is, at the end of a round that knew the phase.
    pub(crate) fn report(&self, phase: Phase, outstanding: u64, settled: u64) {
        self.outstanding.store(outstanding, Relaxed);
        self.settled.store(settled, Relaxed);
        // Release: whoever sees the phase sees what was outstanding in it.
        self.seen
            .store(phase as u8, std::sync::atomic::Ordering::Release);
    }

    /// Whether the thread has come to a phase.
    pub(crate) fn saw(&self, phase: Phase) -> bool {
        self.seen.load(std::sync::atomic::Ordering::Acquire) >= phase as u8
    }

    /// The sample that was published and not collected yet.
    pub(crate) fn sample(&self) -> MutexGuard<'_, Sample> {
        self.sample.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Common to all threads of a run.
#[derive(Debug)]
pub(crate) struct Control {
    phase: AtomicU8,
    start_us: AtomicU64,
    end_us: AtomicU64,
    /// Operations begun, when their number is limited.
    begun: AtomicU64,
    count_max: Option<u64>,
    failure: Mutex<Option<String>>,
    /// When each update was issued, in the scenario observe; 0: it was not yet.
    updates_us: Box<[AtomicU64]>,
    pub(crate) threads: Vec<Shared>,
}

impl Control {
    /// For `threads` threads that may begin `count_max` operations together.
    pub(crate) fn new(threads: usize, count_max: Option<u64>) -> Self {
        Self {
            phase: AtomicU8::new(Phase::Prepare as u8),
            start_us: AtomicU64::new(0),
            end_us: AtomicU64::new(u64::MAX),
            begun: AtomicU64::new(0),
            count_max,
            failure: Mutex::new(None),
            updates_us: Box::default(),
            threads: (0..threads).map(|_| Shared::new()).collect(),
        }
    }

    /// The same, with room for so many updates.
    pub(crate) fn with_updates(self, updates: usize) -> Self {
        Self {
            updates_us: (0..updates).map(|_| AtomicU64::new(0)).collect(),
            ..self
        }
    }

    /// Says that an update is issued, before it is; they count from 1. `false` when there is no room.
    pub(crate) fn issue_update(&self, number: u64, now: Instant) -> bool {
        let slot = self.update_slot(number);
        if let Some(slot) = slot {
            slot.store(now.as_micros().max(1), Relaxed);
        }
        slot.is_some()
    }

    /// When an update was issued; `None` when it was not.
    pub(crate) fn update_issued(&self, number: u64) -> Option<Instant> {
        let micros = self.update_slot(number)?.load(Relaxed);
        (micros > 0).then(|| Instant::from_micros(micros))
    }

    fn update_slot(&self, number: u64) -> Option<&AtomicU64> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        self.updates_us.get(index)
    }

    /// The phase now.
    pub(crate) fn phase(&self) -> Phase {
        // Acquire: whoever sees a phase sees its times.
        let index = self.phase.load(std::sync::atomic::Ordering::Acquire);
        Phase::ALL
            .get(usize::from(index))
            .copied()
            .unwrap_or(Phase::Stop)
    }

    /// Goes on to a phase; never back.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase
            .fetch_max(phase as u8, std::sync::atomic::Ordering::Release);
    }

    /// Says when the measured time begins and ends, before it does.
    pub(crate) fn set_times(&self, start: Instant, end: Instant) {
        self.start_us.store(start.as_micros(), Relaxed);
        self.end_us.store(end.as_micros(), Relaxed);
    }

    /// When the measured time begins and ends.
    pub(crate) fn times(&self) -> (Instant, Instant) {
        let load = |micros: &AtomicU64| Instant::from_micros(micros.load(Relaxed));
        (load(&self.start_us), load(&self.end_us))
    }

    /// Asks for one more operation; `false` when there were as many as are wanted.
    pub(crate) fn begin_operation(&self) -> bool {
        self.count_max.is_none_or(|max| {
            self.begun.load(Relaxed) < max && self.begun.fetch_add(1, Relaxed) < max
        })
    }

    /// Whether the wanted number of operations was begun.
    pub(crate) fn is_count_reached(&self) -> bool {
        self.count_max
            .is_some_and(|max| self.begun.load(Relaxed) >= max)
    }

    /// Ends the run with a message.
    pub(crate) fn fail(&self, message: String) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(message);
        drop(failure);
        self.enter(Phase::Stop);
    }

    /// Why the run ended early, if it did.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A sum over the threads.
    pub(crate) fn sum(&self, part: impl Fn(&Shared) -> &AtomicU64) -> u64 {
        self.threads
            .iter()
            .map(|shared| part(shared).load(Relaxed))
            .sum()
    }

    /// Takes what all threads published since the last time into `interval`.
    pub(crate) fn collect(&self, interval: &mut Sample) {
        interval.clear();
        for shared in &self.threads {
            let mut sample = shared.sample();
            interval.add(&sample);
            sample.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_go_forward_only_and_a_failure_ends_the_run() {
        let control = Control::new(1, None);
        control.enter(Phase::Run);
        control.enter(Phase::Connect);
        assert_eq!(control.phase(), Phase::Run);
        control.fail("first".into());
        control.fail("second".into());
        assert_eq!(control.failure().as_deref(), Some("first"));
        assert_eq!(control.phase(), Phase::Stop);
    }

    #[test]
    fn as_many_operations_begin_as_are_wanted() {
        let control = Control::new(1, Some(3));
        let begun = (0..10).filter(|_| control.begin_operation()).count();
        assert_eq!((begun, control.is_count_reached()), (3, true));
        let unlimited = Control::new(1, None);
        assert!((0..10).all(|_| unlimited.begin_operation()) && !unlimited.is_count_reached());
    }

    #[test]
    fn updates_are_known_from_the_moment_they_are_issued() {
        let control = Control::new(1, None).with_updates(2);
        assert_eq!(control.update_issued(1), None);
        assert!(control.issue_update(1, Instant::from_micros(7)));
        assert_eq!(control.update_issued(1), Some(Instant::from_micros(7)));
        assert!(!control.issue_update(3, Instant::ZERO) && !control.issue_update(0, Instant::ZERO));
        assert_eq!(control.update_issued(0), None);
    }

    #[test]
    fn samples_are_collected_once() {
        let control = Control::new(2, None);
        let mut interval = Sample::new();
        for shared in &control.threads {
            shared.sample().counters.sent = 2;
            shared.outstanding.store(5, Relaxed);
        }
        control.collect(&mut interval);
        assert_eq!(interval.counters.sent, 4);
        assert_eq!(control.sum(|shared| &shared.outstanding), 10);
        control.collect(&mut interval);
        assert_eq!(interval.counters.sent, 0);
    }
}
