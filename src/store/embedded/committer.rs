//! The group commit: one thread writes what everybody appended, syncs once, and tells everybody.
//!
//! ```text
//! append: lock, push batch, unlock        (any thread; a bounded queue)
//! commit: take all -> one frame -> write, sync -> head -> completions      (this thread)
//! ```
//! While one sync runs the next group gathers by itself. Besides, syncs begin at least
//! [`super::StoreSettings::commit_interval`] apart, as each costs some 100 us of CPU time: a group
//! after a quiet time goes at once, under load the wait fills the groups.
//!
//! Invariants: a completion hears `Ok` only after the sync of its group and after the head has it,
//! so that a device reads what it was told is stored. After a failed write or sync nothing is
//! written any more, as what the disk holds is unknown: the store is failed until a restart. Only a
//! disk that says beforehand that it is full is known not to hold the group: what comes is refused
//! then, and a second later it is tried again, with an empty group if nothing came.

#![expect(
    clippy::disallowed_methods,
    reason = "the pace of commits is this thread's own"
)]

use super::head::Head;
use super::segment::{ClosedSegment, CommitError, LogWriter};
use crate::histogram::Histogram;
use crate::store::{Batch, Completion, Overloaded, StoreError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A group that has this many bytes when the one before is done does not wait for the interval.
const IMPATIENT_BYTES: usize = 1 << 20;

/// How long all groups are refused once the disk was full.
const FULL_PAUSE: Duration = Duration::from_secs(1);

/// Bytes that must find room on a disk that was full, at least; at most [`IMPATIENT_BYTES`], as a
/// group of unusual size must not keep all others out.
const PROBE_BYTES: usize = 64 << 10;

type Waiting = (Batch, Box<dyn Completion>);

/// What is between those who append and the committing thread.
pub(super) struct Commits {
    queue: Mutex<Queue>,
    arrived: Condvar,
    bytes_max: usize,
    /// Held while a group is applied to the head: its number is that of the last one applied.
    applied: Mutex<u64>,
    closed_segments: Mutex<Vec<ClosedSegment>>,
    pub(super) counts: Counts,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// Of those waiting and of those being written.
    bytes: usize,
    state: State,
    /// Why groups are refused for now.
    full: Option<String>,
    /// The committing thread waits for the first batch.
    idle: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// What waits is still written.
    Closing,
    Ended(StoreError),
}

/// Totals since the start; one writer each, read by anybody.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) records: AtomicU64,
    pub(super) record_bytes: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) overloads: AtomicU64,
    pub(super) syncs: Histogram,
    pub(super) sequence: AtomicU64,
}

impl Commits {
    /// An empty queue of up to `bytes_max` bytes; `applied` is the number of the last group in the
    /// head.
    pub(super) fn new(bytes_max: usize, applied: u64) -> Self {
        let counts = Counts::default();
        counts.sequence.store(applied, Ordering::Relaxed);
        Self {
            queue: Mutex::default(),
            arrived: Condvar::new(),
            bytes_max,
            applied: Mutex::new(applied),
            closed_segments: Mutex::default(),
            counts,
        }
    }

    /// Takes a batch, or gives its completion back when there is no room. A batch that is larger
    /// than all the room is taken when nothing else waits.
    pub(super) fn append(
        &self,
        batch: Batch,
        completion: Box<dyn Completion>,
    ) -> Result<(), Overloaded> {
        let mut queue = self.lock();
        if let State::Ended(error) = &queue.state {
            let error = error.clone();
            drop(queue);
            completion.complete(Err(&error));
            return Ok(());
        }
        if queue.state == State::Closing {
            drop(queue);
            completion.complete(Err(&StoreError::Closed));
            return Ok(());
        }
        let length = batch.as_bytes().len();
        if queue.bytes > 0 && queue.bytes + length > self.bytes_max {
            drop(queue);
            return Err(self.overloaded(completion));
        }
        queue.bytes += length;
        queue.waiting.push((batch, completion));
        let wake = std::mem::take(&mut queue.idle);
        drop(queue);
        if wake {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Counts a refusal.
    pub(super) fn overloaded(&self, completion: Box<dyn Completion>) -> Overloaded {
        self.counts.overloads.fetch_add(1, Ordering::Relaxed);
        Overloaded(completion)
    }

    /// Lets the committing thread end once everything that waits is written.
    pub(super) fn close(&self) {
        let mut queue = self.lock();
        if queue.state == State::Open {
            queue.state = State::Closing;
        }
        drop(queue);
        self.arrived.notify_all();
    }

    /// Bytes accepted and not durable yet.
    pub(super) fn pending_bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Why nothing is taken any more, unless that was asked for.
    pub(super) fn failure(&self) -> Option<String> {
        match &self.lock().state {
            State::Ended(StoreError::Failed(reason)) => Some(reason.clone()),
            _ => None,
        }
    }

    /// Why groups are refused for now: the disk is full.
    pub(super) fn full(&self) -> Option<String> {
        self.lock().full.clone()
    }

    /// Keeps groups from being applied, and tells the number of the last one that was.
    pub(super) fn pause(&self) -> MutexGuard<'_, u64> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The segments that are no longer written to.
    pub(super) fn closed_segments(&self) -> MutexGuard<'_, Vec<ClosedSegment>> {
        self.closed_segments
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The committing thread: runs until closed, or until the log fails. `on_commit` is called after
    /// each group.
    pub(super) fn run(
        &self,
        mut log: LogWriter,
        head: &Head,
        interval: Duration,
        on_commit: &dyn Fn(),
    ) {
        let mut group = Vec::new();
        let run = AssertUnwindSafe(|| {
            self.commit_groups(&mut group, &mut log, head, interval, on_commit)
        });
        let end = match catch_unwind(run) {
            Ok(end) => end,
            Err(_) => StoreError::Failed("the committing thread panicked".into()),
        };
        let mut queue = self.lock();
        queue.state = State::Ended(end.clone());
        queue.bytes = 0;
        let waiting = std::mem::take(&mut queue.waiting);
        drop(queue);
        complete(group, Err(&end));
        complete(waiting, Err(&end));
    }

    fn commit_groups(
        &self,
        group: &mut Vec<Waiting>,
        log: &mut LogWriter,
        head: &Head,
        interval: Duration,
        on_commit: &dyn Fn(),
    ) -> StoreError {
        let mut earliest = Instant::now();
        let mut full: Option<Full> = None;
        while self.gather(group, earliest, full.as_ref().map(|full| full.retry_at)) {
            let started = Instant::now();
            earliest = started + interval;
            if let Some(full) = &full
                && started < full.retry_at
            {
                self.refuse(group, &full.reason);
                continue;
            }
            let frame = log.begin_frame();
            let mut records = 0_u32;
            for (batch, _) in &*group {
                frame.extend_from_slice(batch.as_bytes());
                records = records.saturating_add(batch.records());
            }
            let length = frame.len() as u64;
            let sequence = log.next_sequence();
            let sync_started = Instant::now();
            let room = full.as_ref().map_or(Ok(()), |f| log.try_room(f.wanted));
            match room.and_then(|()| log.commit(records)) {
                Ok(closed) => self.closed_segments().extend(closed),
                Err(CommitError::Full(error)) => {
                    let reason = format!("writing {}: {error}", log.path().display());
                    if full.is_none() {
                        tracing::error!(%reason, "the disk is full: uploads are refused until it has room");
                    }
                    self.closed_segments().extend(log.take_closed());
                    self.refuse(group, &reason);
                    let refused = usize::try_from(length).unwrap_or(usize::MAX);
                    full = Some(Full {
                        reason,
                        wanted: full
                            .map_or(PROBE_BYTES, |full| full.wanted)
                            .max(refused)
                            .min(IMPATIENT_BYTES),
                        retry_at: Instant::now() + FULL_PAUSE,
                    });
                    continue;
                }
                Err(CommitError::Failed(error)) => {
                    let reason = format!("writing {}: {error}", log.path().display());
                    tracing::error!(%reason, "the store has failed: nothing is taken until tidegate is restarted");
                    return StoreError::Failed(reason);
                }
            }
            if full.take().is_some() {
                self.lock().full = None;
                tracing::info!("the disk has room again: uploads are taken");
            }
            let counts = &self.counts;
            counts.syncs.record(sync_started.elapsed());
            add(&counts.records, u64::from(records));
            add(&counts.record_bytes, length);
            add(&counts.commits, 1);
            counts.sequence.store(sequence, Ordering::Relaxed);
            self.apply(group, sequence, head);
            let bytes: usize = group.iter().map(|(batch, _)| batch.as_bytes().len()).sum();
            self.lock().bytes -= bytes;
            complete(group.drain(..), Ok(()));
            on_commit();
        }
        StoreError::Closed
    }

    /// Refuses a group for want of room.
    fn refuse(&self, group: &mut Vec<Waiting>, reason: &str) {
        let bytes: usize = group.iter().map(|(batch, _)| batch.as_bytes().len()).sum();
        let mut queue = self.lock();
        queue.bytes -= bytes;
        if queue.full.is_none() {
            queue.full = Some(reason.to_owned());
        }
        drop(queue);
        complete(group.drain(..), Err(&StoreError::Full(reason.to_owned())));
    }

    /// Waits for batches and for the time to write them; `false` when closed and none is left. At
    /// `look_at` the group may be empty: the disk was full, and is to be tried.
    fn gather(
        &self,
        group: &mut Vec<Waiting>,
        earliest: Instant,
        look_at: Option<Instant>,
    ) -> bool {
        let mut queue = self.lock();
        loop {
            if queue.waiting.is_empty() {
                if queue.state != State::Open {
                    return false;
                }
                let look_in = look_at.map(|at| at.saturating_duration_since(Instant::now()));
                if look_in == Some(Duration::ZERO) {
                    return true;
                }
                queue.idle = true;
                queue = match look_in {
                    None => self.arrived.wait(queue),
                    Some(time) => match self.arrived.wait_timeout(queue, time) {
                        Ok((queue, _)) => Ok(queue),
                        Err(poisoned) => Err(PoisonError::new(poisoned.into_inner().0)),
                    },
                }
                .unwrap_or_else(PoisonError::into_inner);
                queue.idle = false;
                continue;
            }
            let early = earliest.saturating_duration_since(Instant::now());
            if early.is_zero() || queue.bytes >= IMPATIENT_BYTES || queue.state != State::Open {
                std::mem::swap(&mut queue.waiting, group);
                return true;
            }
            // Nobody notifies while `idle` is false, except to close.
            queue = self
                .arrived
                .wait_timeout(queue, early)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn apply(&self, group: &[Waiting], sequence: u64, head: &Head) {
        let mut applied = self.pause();
        for (batch, _) in group {
            // Records of our own making: `Batch` cannot hold others.
            let whole = head.apply(batch.as_bytes());
            debug_assert!(whole.is_some());
        }
        *applied = sequence;
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A disk without room.
struct Full {
    reason: String,
    /// Bytes that must find room before anything is taken.
    wanted: usize,
    /// Until then nothing is tried.
    retry_at: Instant,
}

/// Calls the completions. One that panics takes no other with it.
fn complete(group: impl IntoIterator<Item = Waiting>, result: Result<(), &StoreError>) {
    for (batch, completion) in group {
        drop(batch);
        let call = AssertUnwindSafe(|| completion.complete(result));
        if catch_unwind(call).is_err() {
            tracing::error!("a completion of the store panicked");
        }
    }
}

/// Adds to a counter that this thread alone writes.
fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
}
