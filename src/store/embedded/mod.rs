//! The embedded store and registry in the data directory.
//!
//! ```text
//! append -> committer -> log (durable) -> head (memory) -> flush -> database (fjall)
//!                            \-> completion                            ^
//! read:  head first, then the database --------------------------------/
//! ```
//! `directory` holds the layout and the lock, `segment` the log's format, `committer` the group
//! commit, `head` what is not flushed yet, `flush` and `writer` the way into the database, `series`
//! and `attributes` the rows there, `retention` how they go, `recovery` what is done at start.
//!
//! Invariants: what was completed with `Ok` is in the log or in the database, both synced; the log
//! is removed only up to the checkpoint, which the database holds durably behind all that it covers;
//! the database is never touched on the way from a request to its answer, except to read attributes
//! that are not in memory.

mod attributes;
mod committer;
mod database;
mod directory;
mod flush;
mod head;
mod recovery;
mod retention;
mod segment;
mod series;
mod spare;
mod writer;

use crate::histogram::HistogramSum;
use crate::registry::DeviceId;
use crate::registry::embedded::EmbeddedRegistry;
use crate::registry::packages::Packages;
use crate::store::batch::TelemetryItems;
use crate::store::{
    Attribute, AttributeScope, Batch, Completion, HistoryQuery, Order, Overloaded, Point, Store,
    StoreError, StoreStatus,
};
use committer::Commits;
pub(crate) use database::MARKER;
use database::{Points, Tables, unpanicked};
use directory::{DataDirectory, io_error};
use flush::{Flusher, Work};
use head::{Head, HeadReadings};
pub use retention::Retention;
use segment::{LogWriter, OpenFile};
use series::series_prefix;
use spare::SpareMaker;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Most series of a device that are looked at: what one device makes up must not fill the memory.
const SERIES_MAX: usize = 10_000;

/// Points read at a time for an export.
const EXPORT_PAGE: usize = 10_000;

/// Sizes and times of the embedded store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// A log segment is closed once it is this long, bytes.
    pub segment_bytes: u64,
    /// Most bytes that may wait for their commit; beyond, batches are refused.
    pub pending_bytes_max: usize,
    /// From this many bytes on the head is flushed; at twice as many, batches are refused.
    pub head_bytes_max: usize,
    /// The head is flushed at least this often.
    pub flush_interval: Duration,
    /// A flush that failed is tried again after this time.
    pub flush_retry: Duration,
    /// Syncs of the log begin at least this far apart.
    pub commit_interval: Duration,
    /// Bytes of attributes kept in memory for reading.
    pub attribute_cache_bytes: usize,
    /// Bytes of the queryable part's blocks kept in memory.
    pub block_cache_bytes: u64,
    /// Which readings stay.
    pub retention: Retention,
    /// Sweeps of those that do not begin at least this far apart.
    pub sweep_interval: Duration,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            pending_bytes_max: 16 << 20,
            head_bytes_max: 128 << 20,
            flush_interval: Duration::from_secs(60),
            flush_retry: Duration::from_secs(5),
            commit_interval: Duration::from_millis(4),
            attribute_cache_bytes: 32 << 20,
            block_cache_bytes: 64 << 20,
            retention: Retention::default(),
            sweep_interval: Duration::from_secs(600),
        }
    }
}

/// Why the data directory could not be opened. Each message names the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "the data directory {directory} is in use by process {pid}: stop it, or use its admin \
         interface, or choose another TIDEGATE_DATA_DIR",
        directory = directory.display()
    )]
    Locked {
        /// The data directory.
        directory: PathBuf,
        /// The process as it wrote itself into the lock file; "unknown" if it did not.
        pid: String,
    },
    /// Written by a version that this one does not understand.
    #[error("{file} says {found:?}, this version understands {expected:?}: {remedy}",
        file = file.display())]
    Format {
        /// The file that states the format.
        file: PathBuf,
        /// What it says.
        found: String,
        /// What would be understood.
        expected: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A file is damaged.
    #[error("{file} is damaged ({what}): {remedy}", file = file.display())]
    Corrupted {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A file could not be created, read or written.
    #[error("{action} {file} failed: {source}", file = file.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        file: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// What a data directory holds.
#[derive(Clone)]
pub struct Opened {
    /// Devices and credentials.
    pub registry: Arc<EmbeddedRegistry>,
    /// Readings and attributes.
    pub store: Arc<EmbeddedStore>,
    /// Firmware and software for devices.
    pub packages: Arc<Packages>,
}

/// Opens a data directory, creating it (mode 0700) when it does not exist, and replays the log.
///
/// # Errors
///
/// Another process has it, it is of another version or damaged, or the disk refuses.
pub fn open(directory: &Path, settings: &StoreSettings) -> Result<Opened, OpenError> {
    open_with(directory, settings, segment::disk())
}

fn open_with(
    path: &Path,
    settings: &StoreSettings,
    open_file: OpenFile,
) -> Result<Opened, OpenError> {
    let directory = Arc::new(DataDirectory::open(path)?);
    let tables = Tables::open(&directory.database(), settings)?;
    let damaged = |what: String| OpenError::Corrupted {
        file: directory.database(),
        what,
        remedy: "restore the data directory from a backup",
    };
    tables.check_markers(directory.is_new()).map_err(damaged)?;
    directory.complete()?;
    let checkpoint = tables
        .checkpoint()
        .map_err(|error| damaged(error.to_string()))?;
    let flush_begun = tables
        .flush_begun()
        .map_err(|error| damaged(error.to_string()))?;
    let usage = tables.usage().map_err(|error| damaged(error.to_string()))?;
    let answerable = directory.checkpoint()?;
    if checkpoint < answerable {
        return Err(damaged(format!(
            "it knows groups up to {checkpoint} only, but had them up to {answerable}"
        )));
    }
    let registry = unpanicked(|| EmbeddedRegistry::open(&tables.database, directory.clone()))
        .and_then(|opened| opened)
        .map_err(damaged)?;
    let packages = Packages::open(
        &tables.database,
        &directory.packages(),
        directory.clone(),
        registry.writes(),
    )
    .map_err(damaged)?;
    let head = Head::new(settings.attribute_cache_bytes);
    let recovered = recovery::replay(&directory.log(), checkpoint, flush_begun, &head)?;
    let next_sequence = recovered.last_sequence + 1;
    let log = LogWriter::new(
        &directory.log(),
        next_sequence,
        settings.segment_bytes,
        open_file,
    );
    let commits = Commits::new(settings.pending_bytes_max, recovered.last_sequence);
    commits.closed_segments().extend(recovered.segments);
    let work = Work::new(usage, recovered.unfinished);
    let at = (checkpoint, work);
    let store = EmbeddedStore::start(settings, directory, tables, head, commits, log, at)
        .map_err(io_error("starting a thread for", path))?;
    Ok(Opened {
        registry: Arc::new(registry),
        store: Arc::new(store),
        packages: Arc::new(packages),
    })
}

/// The embedded store.
pub struct EmbeddedStore {
    head: Arc<Head>,
    commits: Arc<Commits>,
    flusher: Arc<Flusher>,
    tables: Tables,
    head_bytes_max: usize,
    threads: Mutex<Option<Threads>>,
    /// Last, so that the lock outlives everything that uses the directory.
    _directory: Arc<DataDirectory>,
}

struct Threads {
    committer: JoinHandle<()>,
    flusher: JoinHandle<()>,
}

impl EmbeddedStore {
    fn start(
        settings: &StoreSettings,
        directory: Arc<DataDirectory>,
        tables: Tables,
        head: Head,
        commits: Commits,
        log: LogWriter,
        (checkpoint, work): (u64, Work),
    ) -> std::io::Result<Self> {
        let (head, commits) = (Arc::new(head), Arc::new(commits));
        let flusher = Arc::new(Flusher::new(
            Arc::clone(&head),
            Arc::clone(&commits),
            tables.clone(),
            Arc::clone(&directory),
            settings,
            SpareMaker::new(&directory.log(), settings.segment_bytes, log.spare()),
            checkpoint,
        ));
        let flusher_thread = {
            let flusher = Arc::clone(&flusher);
            std::thread::Builder::new()
                .name("store-flush".into())
                .spawn(move || flusher.run(work))?
        };
        let committer_thread = {
            let (head, commits) = (Arc::clone(&head), Arc::clone(&commits));
            let (flusher, interval) = (Arc::clone(&flusher), settings.commit_interval);
            std::thread::Builder::new()
                .name("store-commit".into())
                .spawn(move || commits.run(log, &head, interval, &|| flusher.on_commit()))?
        };
        Ok(Self {
            head,
            commits,
            flusher,
            tables,
            head_bytes_max: settings.head_bytes_max,
            threads: Mutex::new(Some(Threads {
                committer: committer_thread,
                flusher: flusher_thread,
            })),
            _directory: directory,
        })
    }

    /// Looks up one series: first what of it is in the head, then the database.
    fn points(
        &self,
        device: DeviceId,
        key: &str,
        readings: &HeadReadings,
        mut points: Points,
    ) -> Result<Vec<Point>, StoreError> {
        let items = readings
            .pieces
            .iter()
            .flat_map(|piece| TelemetryItems(piece));
        let items: Vec<_> = items.filter(|item| item.key == key).collect();
        points.expect_removals(items.iter().filter(|item| item.value.is_none()).count());
        if !readings.hides_database {
            let series = series_prefix(device, key);
            let order = points.order();
            let (mut from, last) = points.buckets();
            while let Some(bucket) = self.tables.next_bucket(&series, from, order)? {
                let beyond = match order {
                    Order::Ascending => bucket > last,
                    Order::Descending => bucket < last,
                };
                if beyond || points.is_full() {
                    break;
                }
                self.tables.read_bucket(&series, bucket, &mut points)?;
                let next = match order {
                    Order::Ascending => bucket.checked_add(1),
                    Order::Descending => bucket.checked_sub(1),
                };
                let Some(next) = next else { break };
                from = next;
            }
        }
        // Written after everything in the database, so it counts where times are the same.
        for item in items {
            match item.value {
                Some(value) => points.add(item.ts_ms, || value.to_value()),
                None => points.remove(item.ts_ms),
            }
        }
        Ok(points.into_sorted())
    }

    fn read_latest(&self, device: DeviceId) -> Result<Vec<(Box<str>, Point)>, StoreError> {
        let readings = self.head.readings(device);
        let mut latest = Vec::new();
        for key in self.keys(device, &readings)? {
            let points = Points::new(i64::MIN, i64::MAX, 1, Order::Descending);
            let found = self.points(device, &key, &readings, points)?;
            latest.extend(found.into_iter().next().map(|point| (key, point)));
        }
        Ok(latest)
    }

    /// The keys of a device's series, in order.
    fn keys(
        &self,
        device: DeviceId,
        readings: &HeadReadings,
    ) -> Result<BTreeSet<Box<str>>, StoreError> {
        let mut keys = BTreeSet::new();
        if !readings.hides_database {
            self.tables.series_keys(device, SERIES_MAX, &mut keys)?;
        }
        for item in readings
            .pieces
            .iter()
            .flat_map(|piece| TelemetryItems(piece))
        {
            if keys.len() < SERIES_MAX && !keys.contains(item.key) {
                keys.insert(item.key.into());
            }
        }
        Ok(keys)
    }
}

/// Runs a read; the database may panic over a damaged file.
fn contained<T>(read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    unpanicked(read).unwrap_or_else(|panic| Err(StoreError::Read(panic)))
}

impl Store for EmbeddedStore {
    fn append(&self, batch: Batch, completion: Box<dyn Completion>) -> Result<(), Overloaded> {
        // The flush cannot keep up: the log must not grow for ever either.
        if self.head.bytes() >= self.head_bytes_max.saturating_mul(2) {
            return Err(self.commits.overloaded(completion));
        }
        self.commits.append(batch, completion)
    }

    fn latest(&self, device: DeviceId) -> Result<Vec<(Box<str>, Point)>, StoreError> {
        contained(|| self.read_latest(device))
    }

    fn history(
        &self,
        device: DeviceId,
        key: &str,
        query: HistoryQuery,
    ) -> Result<Vec<Point>, StoreError> {
        contained(|| {
            let readings = self.head.readings(device);
            let points = Points::new(query.from_ms, query.to_ms, query.limit, query.order);
            self.points(device, key, &readings, points)
        })
    }

    fn export(
        &self,
        device: DeviceId,
        sink: &mut dyn FnMut(&str, Point) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let keys = contained(|| self.keys(device, &self.head.readings(device)))?;
        for key in keys {
            let mut from_ms = i64::MIN;
            loop {
                let page = contained(|| {
                    let readings = self.head.readings(device);
                    let points = Points::new(from_ms, i64::MAX, EXPORT_PAGE, Order::Ascending);
                    self.points(device, &key, &readings, points)
                })?;
                let next = page
                    .last()
                    .filter(|_| page.len() == EXPORT_PAGE)
                    .and_then(|point| point.ts_ms.checked_add(1));
                for point in page {
                    if sink(&key, point).is_break() {
                        return Ok(());
                    }
                }
                let Some(next) = next else { break };
                from_ms = next;
            }
        }
        Ok(())
    }

    fn attributes(
        &self,
        device: DeviceId,
        scope: AttributeScope,
        keys: Option<&[&str]>,
    ) -> Result<Vec<Attribute>, StoreError> {
        let load = || self.tables.attributes(device);
        contained(|| {
            self.head
                .attributes(device, load, |set| set.select(scope, keys))
        })
    }

    fn attributes_bytes(
        &self,
        device: DeviceId,
        scope: AttributeScope,
    ) -> Result<usize, StoreError> {
        let load = || self.tables.attributes(device);
        contained(|| {
            self.head
                .attributes(device, load, |set| set.bytes_of(scope))
        })
    }

    fn status(&self) -> StoreStatus {
        let (commits, flushes) = (&self.commits.counts, &self.flusher.counts);
        StoreStatus {
            failure: self.commits.failure(),
            full: self.commits.full(),
            flush_failure: self.flusher.failure(),
            records: commits.records.load(Ordering::Relaxed),
            record_bytes: commits.record_bytes.load(Ordering::Relaxed),
            commits: commits.commits.load(Ordering::Relaxed),
            overloads: commits.overloads.load(Ordering::Relaxed),
            syncs: HistogramSum::of([&commits.syncs]),
            pending_bytes: self.commits.pending_bytes() as u64,
            head_bytes: self.head.bytes() as u64,
            sequence: commits.sequence.load(Ordering::Relaxed),
            checkpoint: flushes.checkpoint.load(Ordering::Relaxed),
            flushes: flushes.flushes.load(Ordering::Relaxed),
            flush_failures: flushes.failures.load(Ordering::Relaxed),
            series_bytes: flushes.series_bytes.load(Ordering::Relaxed),
            swept_rows: flushes.swept_rows.load(Ordering::Relaxed),
        }
    }

    fn close(&self) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(threads) = threads.take() else {
            return;
        };
        self.commits.close();
        // Nothing but panics could be learned here, and both contain theirs.
        let _ = threads.committer.join();
        self.flusher.close();
        let _ = threads.flusher.join();
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedStore")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
