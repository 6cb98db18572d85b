//! The flush: what is in the head goes into the database, and the log before it goes away.
//!
//! ```text
//! pause commits, move the head aside, note the last group, go on
//!   -> per device: remove what was removed, blocks of points, attributes
//!   -> checkpoint in the last batch, sync -> checkpoint in its file -> forget what was moved aside
//!   -> remove old segments
//! ```
//! Only this thread writes to the series and attributes of the database, and no other one waits for
//! it. A flush that fails is tried again: its rows have the same content, whichever are there.

#![expect(
    clippy::disallowed_methods,
    reason = "the pace of flushes is this thread's own"
)]

use super::committer::Commits;
use super::database::{Tables, unpanicked};
use super::directory::DataDirectory;
use super::head::{DeviceHead, Head};
use super::series::encode_blocks;
use super::spare::SpareMaker;
use crate::registry::DeviceId;
use crate::store::batch::{TelemetryItem, TelemetryItems};
use fjall::{OwnedWriteBatch, PersistMode};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Rows written to the database at a time.
const BATCH_ROWS: usize = 1000;

/// Bytes written to the database at a time.
const BATCH_BYTES: usize = 1 << 20;

/// How long to wait after a flush that failed.
const RETRY: Duration = Duration::from_secs(5);

/// What the flushing thread works with.
pub(super) struct Flusher {
    head: Arc<Head>,
    commits: Arc<Commits>,
    tables: Tables,
    directory: Arc<DataDirectory>,
    bytes_max: usize,
    interval: Duration,
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
}

/// Totals since the start.
#[derive(Debug, Default)]
pub(super) struct FlushCounts {
    pub(super) flushes: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) checkpoint: AtomicU64,
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
    pub(super) fn run(&self) {
        let mut unfinished = None;
        let mut due = Instant::now() + self.interval;
        loop {
            let close = match self.wait(due) {
                Wanted::Spare => {
                    self.spares.make();
                    continue;
                }
                Wanted::Flush => false,
                Wanted::LastFlush => true,
            };
            self.asked.store(false, Ordering::Relaxed);
            match self.flush(&mut unfinished) {
                Ok(()) => {
                    due = Instant::now() + self.interval;
                    self.lock().failure = None;
                }
                Err(error) => {
                    self.counts.failures.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(%error, "readings stay in the log: the database takes none");
                    due = Instant::now() + RETRY;
                    let mut request = self.lock();
                    request.failure = Some(error);
                    // Do not spin on a request that cannot be served.
                    request.flush = false;
                }
            }
            if close {
                return;
            }
        }
    }

    /// Waits until something is due or asked for.
    fn wait(&self, due: Instant) -> Wanted {
        let mut request = self.lock();
        loop {
            let early = due.saturating_duration_since(Instant::now());
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
            request = self
                .requested
                .wait_timeout(request, early)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Flushes once. `unfinished` is the number of the last group of a flush that failed before.
    fn flush(&self, unfinished: &mut Option<u64>) -> Result<(), String> {
        let sequence = match *unfinished {
            Some(sequence) => sequence,
            None => {
                let applied = self.commits.pause();
                // Groups can be empty: then there is nothing to write but how far the log is done.
                let is_done = *applied == self.counts.checkpoint.load(Ordering::Relaxed);
                if !self.head.begin_flush() && is_done {
                    return Ok(());
                }
                *unfinished = Some(*applied);
                *applied
            }
        };
        unpanicked(|| self.write(sequence))?.map_err(|error| error.to_string())?;
        self.directory
            .set_checkpoint(sequence)
            .map_err(|error| error.to_string())?;
        *unfinished = None;
        self.head.end_flush();
        self.counts.flushes.fetch_add(1, Ordering::Relaxed);
        self.counts.checkpoint.store(sequence, Ordering::Relaxed);
        self.remove_segments(sequence);
        Ok(())
    }

    fn write(&self, sequence: u64) -> Result<(), Box<dyn std::error::Error>> {
        let mut writer = Writer::new(&self.tables, sequence);
        for devices in self.head.flushing() {
            for (&device, head) in devices.iter() {
                writer.write_device(device, head)?;
            }
        }
        writer.finish()
    }

    /// Removes the segments that hold nothing behind `checkpoint`.
    fn remove_segments(&self, checkpoint: u64) {
        let mut segments = self.commits.closed_segments();
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
    }

    fn lock(&self) -> MutexGuard<'_, Request> {
        self.request.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes rows in batches.
struct Writer<'a> {
    tables: &'a Tables,
    sequence: u64,
    batch: OwnedWriteBatch,
    bytes: usize,
}

impl<'a> Writer<'a> {
    fn new(tables: &'a Tables, sequence: u64) -> Self {
        Self {
            tables,
            sequence,
            batch: tables.database.batch(),
            bytes: 0,
        }
    }

    fn write_device(
        &mut self,
        device: DeviceId,
        head: &DeviceHead,
    ) -> Result<(), Box<dyn std::error::Error>> {
        if head.removed {
            self.remove_device(device)?;
        }
        let mut series: BTreeMap<&str, Vec<TelemetryItem<'_>>> = BTreeMap::new();
        for item in head.readings().flat_map(TelemetryItems) {
            series.entry(item.key).or_default().push(item);
        }
        for (key, mut points) in series {
            // Stable: of points with the same time the later one stays behind.
            points.sort_by_key(|point| point.ts_ms);
            let mut rows = Vec::new();
            encode_blocks(device, key, &points, self.sequence, &mut |row, value| {
                rows.push((row, value));
            });
            for (row, value) in rows {
                self.bytes += row.len() + value.len();
                self.batch.insert(&self.tables.series, row, value);
                self.commit_if_large()?;
            }
        }
        for (scope, key, updated_ms, value) in head.attributes.iter() {
            let at = (scope, key);
            self.tables
                .put_attribute(&mut self.batch, device, at, updated_ms, value);
            self.commit_if_large()?;
        }
        Ok(())
    }

    /// Removes a device's rows, those of an unfinished flush of its new data included.
    fn remove_device(&mut self, device: DeviceId) -> Result<(), Box<dyn std::error::Error>> {
        loop {
            self.commit()?;
            let rows = self.tables.device_rows(device, BATCH_ROWS)?;
            if rows.is_empty() {
                return Ok(());
            }
            for (keyspace, row) in rows {
                self.batch.remove(&keyspace, row);
            }
        }
    }

    fn commit_if_large(&mut self) -> fjall::Result<()> {
        if self.batch.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES {
            self.commit()?;
        }
        Ok(())
    }

    fn commit(&mut self) -> fjall::Result<()> {
        self.bytes = 0;
        std::mem::replace(&mut self.batch, self.tables.database.batch()).commit()
    }

    /// Writes what is left, with the checkpoint behind it, and makes everything durable: batches
    /// are in the database's journal in this order, so the checkpoint is there only if all is.
    fn finish(mut self) -> Result<(), Box<dyn std::error::Error>> {
        self.tables.set_checkpoint(&mut self.batch, self.sequence);
        self.commit()?;
        self.tables.database.persist(PersistMode::SyncAll)?;
        Ok(())
    }
}
