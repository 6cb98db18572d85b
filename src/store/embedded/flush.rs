//! The flush: what is in the head goes into the database, and the log before it goes away.
//!
//! ```text
//! pause commits, move the head aside, note the last group, go on
//!   -> per device: remove what was removed, blocks of points, attributes
//!   -> checkpoint in the last batch, sync -> checkpoint in its file -> forget what was moved aside
//!   -> remove old segments
//! ```
//! Between flushes the same thread removes what is not to be kept any longer: see `retention`.
//!
//! Only this thread writes to the series and attributes of the database, and no other one waits for
//! it. A flush that fails is tried again: its rows have the same content, whichever are there.

#![expect(
    clippy::disallowed_methods,
    reason = "the pace of flushes is this thread's own"
)]

use super::committer::Commits;
use super::database::{Tables, unpanicked};
use super::directory::DataDirectory;
use super::head::Head;
use super::retention::{Retention, Step, Sweep, Usage};
use super::spare::SpareMaker;
use super::writer::Writer;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// After a step of a sweep the thread rests this many times as long as the step took.
const SWEEP_REST: u32 = 4;

/// A flush rests for as long as it worked, whenever it has worked for this long: a processor that it
/// shares with uploads is theirs for half of the time.
const FLUSH_STINT: Duration = Duration::from_millis(2);

/// Waiting for a slow disk is no work.
const FLUSH_REST_MAX: Duration = Duration::from_millis(20);

/// What the flushing thread works with.
pub(super) struct Flusher {
    head: Arc<Head>,
    commits: Arc<Commits>,
    tables: Tables,
    directory: Arc<DataDirectory>,
    bytes_max: usize,
    interval: Duration,
    retention: Retention,
    sweep_interval: Duration,
    /// How long to wait after a flush that failed.
    retry: Duration,
    spares: SpareMaker,
    request: Mutex<Request>,
    requested: Condvar,
    /// Set while a flush is asked for, so that each commit need not take the lock.
    asked: AtomicBool,
    pub(super) counts: FlushCounts,
}

#[derive(Default)]
struct Request {
    flush: bool,
    spare: bool,
    close: bool,
    /// Why the last flush failed, if it did.
    failure: Option<String>,
}

/// What the thread is to do next.
enum Wanted {
    Flush,
    LastFlush,
    Spare,
    Sweep,
}

/// What the thread has in hand.
pub(super) struct Work {
    /// The flush that failed, or that a crash cut short, and is to be done again.
    unfinished: Option<Unfinished>,
    /// Bytes of readings in the database.
    usage: Usage,
    /// The sweep under way, and when its next step is due.
    sweep: Option<(Sweep, Instant)>,
    /// When the next sweep may start.
    sweep_at: Instant,
    /// Bytes before the cutoff of the last sweep that stayed: they are the latest of their keys.
    latest_bytes: u64,
}

impl Work {
    /// At the start: with what the database holds, and the last group of a flush that a crash cut short.
    pub(super) fn new(usage: Usage, unfinished: Option<u64>) -> Self {
        Self {
            unfinished: unfinished.map(|sequence| Unfinished {
                sequence,
                is_written: false,
            }),
            usage,
            sweep: None,
            sweep_at: Instant::now(),
            latest_bytes: 0,
        }
    }
}

/// A flush under way.
#[derive(Clone, Copy)]
struct Unfinished {
    /// Number of its last group.
    sequence: u64,
    /// The database has it all, and the count of its bytes.
    is_written: bool,
}

/// Totals since the start.
#[derive(Debug, Default)]
pub(super) struct FlushCounts {
    pub(super) flushes: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) checkpoint: AtomicU64,
    /// Bytes of readings in the database; no total.
    pub(super) series_bytes: AtomicU64,
    pub(super) swept_rows: AtomicU64,
}

impl Flusher {
    pub(super) fn new(
        head: Arc<Head>,
        commits: Arc<Commits>,
        tables: Tables,
        directory: Arc<DataDirectory>,
        settings: &super::StoreSettings,
        spares: SpareMaker,
        checkpoint: u64,
    ) -> Self {
        Self {
            head,
            commits,
            tables,
            directory,
            bytes_max: settings.head_bytes_max,
            interval: settings.flush_interval,
            retention: settings.retention,
            sweep_interval: settings.sweep_interval,
            retry: settings.flush_retry,
            spares,
            request: Mutex::default(),
            requested: Condvar::new(),
            asked: AtomicBool::new(false),
            counts: FlushCounts {
                checkpoint: AtomicU64::new(checkpoint),
                ..FlushCounts::default()
            },
        }
    }

    /// Asks for a flush if the head has grown enough; called after each group.
    pub(super) fn on_commit(&self) {
        if self.head.active_bytes() >= self.bytes_max && !self.asked.swap(true, Ordering::Relaxed) {
            self.lock().flush = true;
            self.requested.notify_one();
        }
        if self.spares.is_wanted() {
            self.lock().spare = true;
            self.requested.notify_one();
        }
    }

    /// Lets the thread flush once more and end.
    pub(super) fn close(&self) {
        self.spares.stop();
        self.lock().close = true;
        self.requested.notify_one();
    }

    /// Why the last flush failed.
    pub(super) fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    /// The flushing thread: runs until closed.
    pub(super) fn run(&self, mut work: Work) {
        let mut due = Instant::now() + self.interval;
        if work.unfinished.is_some() || self.head.active_bytes() >= self.bytes_max {
            // What the log gave back at the start fills it: nothing is taken, so no commit would ask.
            due = Instant::now();
        }
        let mut is_first = true;
        loop {
            let step = || {
                if std::mem::take(&mut is_first) {
                    self.look_for_old(&mut work);
                }
                self.step(&mut work, &mut due)
            };
            match unpanicked(step) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => return,
                Err(panic) => {
                    // A defect of ours. What is in hand is whole at every step, and is tried again.
                    due = self.on_failure(format!("flushing panicked: {panic}"));
                    if let Some((_, sweep_due)) = &mut work.sweep {
                        *sweep_due = due;
                    }
                    if self.lock().close {
                        return;
                    }
                }
            }
        }
    }

    /// Does the next thing that is due or asked for.
    fn step(&self, work: &mut Work, due: &mut Instant) -> ControlFlow<()> {
        let close = match self.wait(*due, work.sweep.as_ref().map(|(_, due)| *due)) {
            Wanted::Spare => {
                self.spares.make();
                return ControlFlow::Continue(());
            }
            Wanted::Sweep => {
                self.sweep(work);
                return ControlFlow::Continue(());
            }
            Wanted::Flush => false,
            Wanted::LastFlush => true,
        };
        self.asked.store(false, Ordering::Relaxed);
        match self.flush(work) {
            Ok(()) => {
                *due = Instant::now() + self.interval;
                if self.lock().failure.take().is_some() {
                    tracing::info!("the database takes readings again");
                }
                if !close {
                    self.look_for_old(work);
                }
            }
            Err(error) => *due = self.on_failure(error),
        }
        if close {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Notes why a flush failed, for whoever asks; returns when the next one is due.
    fn on_failure(&self, error: String) -> Instant {
        self.counts.failures.fetch_add(1, Ordering::Relaxed);
        tracing::error!(
            %error,
            "readings stay in the log: the database takes none; if that lasts though the disk has room, \
             restart tidegate"
        );
        let mut request = self.lock();
        request.failure = Some(error);
        // Do not spin on a request that cannot be served.
        request.flush = false;
        Instant::now() + self.retry
    }

    /// Starts a sweep when there are readings that are not to be kept, and none is under way.
    fn look_for_old(&self, work: &mut Work) {
        self.counts
            .series_bytes
            .store(work.usage.total(), Ordering::Relaxed);
        let now = Instant::now();
        if work.sweep.is_some() || now < work.sweep_at {
            return;
        }
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        let unix_ms = unix.map_or(0, |unix| {
            u64::try_from(unix.as_millis()).unwrap_or(u64::MAX)
        });
        let cutoff = self.retention.cutoff(&work.usage, unix_ms);
        if let Some(cutoff) = cutoff.filter(|&at| work.usage.before(at) > work.latest_bytes) {
            work.sweep = Some((Sweep::new(cutoff), now));
            work.sweep_at = now + self.sweep_interval;
        }
    }

    /// One step of the sweep under way.
    fn sweep(&self, work: &mut Work) {
        let Some((sweep, due)) = &mut work.sweep else {
            return;
        };
        let started = Instant::now();
        let before = sweep.removed_rows;
        let stepped = unpanicked(|| sweep.step(&self.tables, &mut work.usage));
        let ended = Instant::now();
        let removed = sweep.removed_rows - before;
        self.counts.swept_rows.fetch_add(removed, Ordering::Relaxed);
        match stepped {
            Ok(Ok(Step::More)) => *due = ended + (ended - started) * SWEEP_REST,
            Ok(Ok(Step::Done)) => {
                tracing::debug!(rows = sweep.removed_rows, "swept old readings");
                work.latest_bytes = work.usage.before(sweep.cutoff);
                work.sweep = None;
                self.look_for_old(work);
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "old readings cannot be removed");
                *due = ended + self.retry;
            }
            Err(error) => {
                tracing::error!(error, "old readings cannot be removed");
                *due = ended + self.retry;
            }
        }
    }

    /// Waits until something is due or asked for: a flush at `due` at the latest, a step of a sweep
    /// at `sweep_due`.
    fn wait(&self, due: Instant, sweep_due: Option<Instant>) -> Wanted {
        let mut request = self.lock();
        loop {
            let now = Instant::now();
            let early = due.saturating_duration_since(now);
            if request.close {
                return Wanted::LastFlush;
            }
            if request.flush || early.is_zero() {
                request.flush = false;
                return Wanted::Flush;
            }
            if std::mem::take(&mut request.spare) {
                return Wanted::Spare;
            }
            let early = match sweep_due.map(|due| due.saturating_duration_since(now)) {
                Some(Duration::ZERO) => return Wanted::Sweep,
                Some(rest) => early.min(rest),
                None => early,
            };
            request = self
                .requested
                .wait_timeout(request, early)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Flushes once.
    fn flush(&self, work: &mut Work) -> Result<(), String> {
        let Unfinished {
            sequence,
            is_written,
        } = match work.unfinished {
            Some(unfinished) => unfinished,
            None => {
                let applied = self.commits.pause();
                // Groups can be empty: then there is nothing to write but how far the log is done.
                let is_done = *applied == self.counts.checkpoint.load(Ordering::Relaxed);
                if !self.head.begin_flush() && is_done {
                    return Ok(());
                }
                *work.unfinished.insert(Unfinished {
                    sequence: *applied,
                    is_written: false,
                })
            }
        };
        if !is_written {
            let written = unpanicked(|| self.write(sequence, &mut work.usage))?;
            work.usage = written.map_err(|error| error.to_string())?;
            work.unfinished = Some(Unfinished {
                sequence,
                is_written: true,
            });
        }
        self.directory
            .set_checkpoint(sequence)
            .map_err(|error| error.to_string())?;
        work.unfinished = None;
        self.head.end_flush();
        self.counts.flushes.fetch_add(1, Ordering::Relaxed);
        self.counts.checkpoint.store(sequence, Ordering::Relaxed);
        self.remove_segments(sequence);
        Ok(())
    }

    /// Writes what was moved aside; returns what there is in the database then. Should it fail, `usage`
    /// is what there is without this flush.
    fn write(&self, sequence: u64, usage: &mut Usage) -> Result<Usage, Box<dyn std::error::Error>> {
        let mut began = Instant::now();
        let mut rest = || {
            let worked = began.elapsed();
            if worked >= FLUSH_STINT {
                if self.has_time() {
                    std::thread::sleep(worked.min(FLUSH_REST_MAX));
                }
                began = Instant::now();
            }
        };
        self.tables.note_flush(sequence)?;
        let mut writer = Writer::new(&self.tables, sequence, usage, &mut rest);
        for devices in self.head.flushing() {
            for (&device, head) in devices.iter() {
                writer.write_device(device, head)?;
            }
        }
        writer.finish()
    }

    /// Whether a flush can leave the processor to the uploads now and then: nobody waits for its end,
    /// and the next one is far from due.
    fn has_time(&self) -> bool {
        !self.lock().close && self.head.active_bytes() < self.bytes_max / 2
    }

    /// Removes the segments that hold nothing behind `checkpoint`.
    fn remove_segments(&self, checkpoint: u64) {
        // Taken out, as commits need the list, and a file of this size takes its time to go.
        let mut segments = std::mem::take(&mut *self.commits.closed_segments());
        segments.retain(|segment| {
            if segment.last_sequence > checkpoint {
                return true;
            }
            match self.spares.recycle(&segment.path) {
                Ok(()) => false,
                Err(error) => {
                    let file = segment.path.display();
                    tracing::warn!(%file, %error, "a segment of the log that is done cannot be removed");
                    error.kind() != std::io::ErrorKind::NotFound
                }
            }
        });
        self.commits.closed_segments().append(&mut segments);
    }

    fn lock(&self) -> MutexGuard<'_, Request> {
        self.request.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
