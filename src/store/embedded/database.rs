//! The database beneath the head: its keyspaces, and reading from it.
//!
//! | keyspace | rows |
//! |---|---|
//! | `series` | blocks of points: see `series` |
//! | `attributes` | one per attribute: see `attributes` |
//! | `meta` | `checkpoint`: number of the last group that is wholly in here, u64 big-endian; `flush`: what it will be once the flush that was begun last is done; `usage`: see `retention` |
//! | `devices` | the registry's |

use super::attributes::{AttributeSet, row_key};
use super::retention::Usage;
use super::series::{
    after_series, bucket, bucket_prefix, decode_block, device_prefix, parse_row_key, row_sequence,
    series_prefix,
};
use super::{OpenError, StoreSettings};
use crate::registry::DeviceId;
use crate::store::{Order, StoreError, Value};
use fjall::{Database, Guard, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::path::Path;
use std::sync::Arc;

const CHECKPOINT: &str = "checkpoint";

const FLUSH: &str = "flush";

const USAGE: &str = "usage";

/// A row that each keyspace has from the start: behind the rows of every device.
pub(crate) const MARKER: [u8; 8] = [0xff; 8];

/// Handles of the database.
#[derive(Clone)]
pub(super) struct Tables {
    pub(super) database: Database,
    pub(super) series: Keyspace,
    pub(super) attributes: Keyspace,
    meta: Keyspace,
    devices: Keyspace,
}

impl Tables {
    /// Opens the database in `path`.
    pub(super) fn open(path: &Path, settings: &StoreSettings) -> Result<Self, OpenError> {
        match contained(path, || Self::try_open(path, settings)) {
            Ok(opened) => opened.map_err(|error| open_error(path, error)),
            Err(panic) => Err(damaged_database(path, panic)),
        }
    }

    fn try_open(path: &Path, settings: &StoreSettings) -> fjall::Result<Self> {
        let database = Database::builder(path)
            .cache_size(settings.block_cache_bytes)
            // Of several, the first passes compactions on through the queue, again and again, as
            // long as the others are busy: a core spent on nothing.
            .worker_threads(1)
            .max_journaling_size(256 << 20)
            .open()?;
        let keyspace = |name, memtable: u64| {
            let options = || KeyspaceCreateOptions::default().max_memtable_size(memtable);
            database.keyspace(name, options)
        };
        Ok(Self {
            series: keyspace("series", 32 << 20)?,
            attributes: keyspace("attributes", 8 << 20)?,
            meta: keyspace("meta", 1 << 20)?,
            devices: keyspace("devices", 8 << 20)?,
            database,
        })
    }

    /// Looks for the row that each keyspace has from the start, or writes it in a new directory. A
    /// keyspace without it has lost its rows: the database takes a missing file for an empty one.
    pub(super) fn check_markers(&self, is_new: bool) -> Result<(), String> {
        let text = |error: fjall::Error| error.to_string();
        let keyspaces = [&self.series, &self.attributes, &self.meta, &self.devices];
        if is_new {
            let mut batch = self.database.batch();
            for keyspace in keyspaces {
                batch.insert(keyspace, MARKER, []);
            }
            let batch = batch.durability(Some(PersistMode::SyncAll));
            return batch.commit().map_err(text);
        }
        for keyspace in keyspaces {
            if !keyspace.contains_key(MARKER).map_err(text)? {
                return Err(format!(
                    "the rows of its part {:?} are gone",
                    keyspace.name()
                ));
            }
        }
        Ok(())
    }

    /// Number of the last group that is wholly in the database; 0 at first.
    pub(super) fn checkpoint(&self) -> Result<u64, StoreError> {
        Ok(self.number(CHECKPOINT, "the checkpoint")?.unwrap_or(0))
    }

    /// Number of the last group of the flush that was begun last, finished or not; 0 at first.
    pub(super) fn flush_begun(&self) -> Result<u64, StoreError> {
        Ok(self.number(FLUSH, "the mark of a flush")?.unwrap_or(0))
    }

    /// Notes that a flush begins. The journal keeps the order: whatever rows of it are there after a
    /// crash, so is this.
    pub(super) fn note_flush(&self, sequence: u64) -> fjall::Result<()> {
        self.meta.insert(FLUSH, sequence.to_be_bytes())
    }

    fn number(&self, key: &str, what: &str) -> Result<Option<u64>, StoreError> {
        let row = self.meta.get(key).map_err(read_error)?;
        row.map(|bytes| bytes.as_ref().try_into().map(u64::from_be_bytes))
            .transpose()
            .map_err(|_| damaged(what))
    }

    /// Adds the checkpoint to a batch.
    pub(super) fn set_checkpoint(&self, batch: &mut OwnedWriteBatch, sequence: u64) {
        batch.insert(&self.meta, CHECKPOINT, sequence.to_be_bytes());
    }

    /// How many bytes of readings there are.
    pub(super) fn usage(&self) -> Result<Usage, StoreError> {
        match self.meta.get(USAGE).map_err(read_error)? {
            None => Ok(Usage::default()),
            Some(row) => Usage::decode(&row).ok_or_else(|| damaged("the count of bytes")),
        }
    }

    /// Adds the count of bytes to a batch.
    pub(super) fn set_usage(&self, batch: &mut OwnedWriteBatch, usage: &Usage) {
        batch.insert(&self.meta, USAGE, usage.encode());
    }

    /// Up to `limit` rows of a series of buckets before `end`, the oldest first: key and length.
    pub(super) fn rows_before(
        &self,
        series: &[u8],
        end: i64,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let range = bucket_prefix(series, i64::MIN)..bucket_prefix(series, end);
        let rows = self.series.range(range).take(limit);
        rows.map(|row| Row::new(row).map_err(read_error)).collect()
    }

    /// Removes rows of series, and what they count for.
    pub(super) fn remove_rows(&self, rows: &[Row], usage: &mut Usage) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut batch = self.database.batch();
        let mut left = usage.clone();
        for row in rows {
            if let Some((bucket, bytes)) = row.counted() {
                left.subtract(bucket, bytes);
            }
            row.remove(self, &mut batch);
        }
        self.set_usage(&mut batch, &left);
        batch.commit().map_err(read_error)?;
        *usage = left;
        Ok(())
    }

    /// Adds the points of the bucket `at` to `points`, as far as `range` and `points` want them.
    pub(super) fn read_bucket(
        &self,
        series: &[u8],
        at: i64,
        points: &mut Points,
    ) -> Result<(), StoreError> {
        // Rows of a bucket are in the order in which they were written.
        for row in self.series.prefix(bucket_prefix(series, at)) {
            let value = row.value().map_err(read_error)?;
            decode_block(at, &value, &mut |ts_ms, value| {
                points.add(ts_ms, || value.to_value());
            })
            .ok_or_else(|| damaged("a block of points"))?;
        }
        Ok(())
    }

    /// The rows of a bucket of a series and their blocks, in the order in which they were written.
    pub(super) fn bucket_rows(
        &self,
        series: &[u8],
        at: i64,
    ) -> Result<Vec<(Row, fjall::UserValue)>, StoreError> {
        let rows = self.series.prefix(bucket_prefix(series, at));
        rows.map(|row| Row::with_block(row).map_err(read_error))
            .collect()
    }

    /// The first bucket of a series at or behind `from` in the direction of `order`.
    pub(super) fn next_bucket(
        &self,
        series: &[u8],
        from: i64,
        order: Order,
    ) -> Result<Option<i64>, StoreError> {
        let row = match order {
            Order::Ascending => {
                let (start, end) = (bucket_prefix(series, from), after_series(series));
                self.series.range(start..end).next()
            }
            Order::Descending => {
                let end = after_series(&bucket_prefix(series, from));
                self.series.range(series.to_vec()..end).next_back()
            }
        };
        row.map(|row| row_bucket(row, |_, bucket| bucket))
            .transpose()
    }

    /// The keys of all series of a device, up to `limit`.
    pub(super) fn series_keys(
        &self,
        device: DeviceId,
        limit: usize,
        keys: &mut BTreeSet<Box<str>>,
    ) -> Result<(), StoreError> {
        let end = after_series(&device_prefix(device));
        let mut start = device_prefix(device).to_vec();
        // A seek per series instead of a walk over all its blocks.
        while keys.len() < limit {
            let Some(row) = self.series.range(start..end.clone()).next() else {
                return Ok(());
            };
            let key = row_bucket(row, |key, _| Box::<str>::from(key))?;
            start = after_series(&series_prefix(device, &key));
            keys.insert(key);
        }
        Ok(())
    }

    /// All attributes of a device.
    pub(super) fn attributes(&self, device: DeviceId) -> Result<AttributeSet, StoreError> {
        let mut set = AttributeSet::default();
        for row in self.attributes.prefix(device_prefix(device)) {
            let (key, value) = row.into_inner().map_err(read_error)?;
            set.insert_row(&key, &value)
                .ok_or_else(|| damaged("an attribute"))?;
        }
        Ok(set)
    }

    /// Adds an attribute's row, or its removal, to a batch.
    pub(super) fn put_attribute(
        &self,
        batch: &mut OwnedWriteBatch,
        device: DeviceId,
        (scope, key): (crate::store::AttributeScope, &str),
        updated_ms: i64,
        value: Option<&Value>,
    ) {
        let row = row_key(device, scope, key);
        match value {
            Some(value) => {
                let value = super::attributes::row_value(updated_ms, value);
                batch.insert(&self.attributes, row, value);
            }
            None => batch.remove(&self.attributes, row),
        }
    }

    /// Up to `limit` rows of a device in its series.
    pub(super) fn device_series_rows(
        &self,
        device: DeviceId,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let rows = self.series.prefix(device_prefix(device)).take(limit);
        rows.map(|row| Row::new(row).map_err(read_error)).collect()
    }

    /// Keys of up to `limit` rows of a device in its attributes.
    pub(super) fn device_attribute_rows(
        &self,
        device: DeviceId,
        limit: usize,
    ) -> Result<Vec<fjall::UserKey>, StoreError> {
        let rows = self.attributes.prefix(device_prefix(device)).take(limit);
        rows.map(|row| row.key().map_err(read_error)).collect()
    }
}

/// A row of a series that is to go.
pub(super) struct Row {
    key: fjall::UserKey,
    bytes: u64,
}

impl Row {
    fn new(row: Guard) -> fjall::Result<Self> {
        Self::with_block(row).map(|(row, _)| row)
    }

    fn with_block(row: Guard) -> fjall::Result<(Self, fjall::UserValue)> {
        let (key, value) = row.into_inner()?;
        let bytes = row_bytes(&key, &value);
        Ok((Self { key, bytes }, value))
    }

    /// Its key.
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// What it counts for: its bucket and bytes.
    pub(super) fn counted(&self) -> Option<(i64, u64)> {
        let (_, bucket) = parse_row_key(&self.key)?;
        Some((bucket, self.bytes))
    }

    /// Of which flush it is.
    pub(super) fn sequence(&self) -> Option<u64> {
        row_sequence(&self.key)
    }

    /// Adds the removal to a batch.
    pub(super) fn remove(&self, tables: &Tables, batch: &mut OwnedWriteBatch) {
        batch.remove(&tables.series, self.key.clone());
    }
}

/// What a row counts for.
pub(super) const fn row_bytes(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64
}

/// Points of one series that a query wants: one per time, no more than it asks for.
#[derive(Debug)]
pub(super) struct Points {
    from_ms: i64,
    to_ms: i64,
    limit: usize,
    order: Order,
    /// Most points held: more than `limit` while some are to be removed.
    room: usize,
    found: BTreeMap<i64, Value>,
}

impl Points {
    pub(super) fn new(from_ms: i64, to_ms: i64, limit: usize, order: Order) -> Self {
        Self {
            from_ms,
            to_ms,
            limit,
            order,
            room: limit,
            found: BTreeMap::new(),
        }
    }

    /// Adds a point written after all those added before. When there are more than wanted, the one
    /// at the far end goes: nothing that is added later can make it wanted again.
    pub(super) fn add(&mut self, ts_ms: i64, value: impl FnOnce() -> Value) {
        if !(self.from_ms..=self.to_ms).contains(&ts_ms) || self.limit == 0 {
            return;
        }
        if self.found.len() >= self.room && !self.found.contains_key(&ts_ms) {
            let (far, is_beyond) = match self.order {
                Order::Ascending => {
                    let far = self.found.last_key_value().map(|(ts, _)| *ts);
                    (far, far.is_some_and(|far| ts_ms > far))
                }
                Order::Descending => {
                    let far = self.found.first_key_value().map(|(ts, _)| *ts);
                    (far, far.is_some_and(|far| ts_ms < far))
                }
            };
            match far {
                Some(far) if !is_beyond => self.found.remove(&far),
                _ => return,
            };
        }
        self.found.insert(ts_ms, value());
    }

    /// Makes room for so many points that are to be removed again by [`Self::remove`], so that as many
    /// as wanted are left then.
    pub(super) fn expect_removals(&mut self, removals: usize) {
        self.room = self.limit.saturating_add(removals);
    }

    /// Removes the point of a time that was added before.
    pub(super) fn remove(&mut self, ts_ms: i64) {
        self.found.remove(&ts_ms);
    }

    /// Which points come first.
    pub(super) fn order(&self) -> Order {
        self.order
    }

    /// Whether there are as many as wanted.
    pub(super) fn is_full(&self) -> bool {
        self.found.len() >= self.room
    }

    /// The buckets to look into: the first and the last in the direction of the order.
    pub(super) fn buckets(&self) -> (i64, i64) {
        match self.order {
            Order::Ascending => (bucket(self.from_ms), bucket(self.to_ms)),
            Order::Descending => (bucket(self.to_ms), bucket(self.from_ms)),
        }
    }

    /// The points in order.
    pub(super) fn into_sorted(self) -> Vec<crate::store::Point> {
        let point = |(ts_ms, value)| crate::store::Point { ts_ms, value };
        match self.order {
            Order::Ascending => {
                let found = self.found.into_iter();
                found.take(self.limit).map(point).collect()
            }
            Order::Descending => {
                let found = self.found.into_iter().rev();
                found.take(self.limit).map(point).collect()
            }
        }
    }
}

fn row_bucket<T>(row: Guard, part: impl FnOnce(&str, i64) -> T) -> Result<T, StoreError> {
    let row = row.key().map_err(read_error)?;
    let (key, bucket) = parse_row_key(&row).ok_or_else(|| damaged("the key of a block"))?;
    Ok(part(key, bucket))
}

fn damaged(what: &str) -> StoreError {
    StoreError::Read(format!("{what} in the database is damaged"))
}

/// An error of the database while reading.
#[allow(
    clippy::needless_pass_by_value,
    reason = "used as a function to map errors with"
)]
pub(super) fn read_error(error: fjall::Error) -> StoreError {
    StoreError::Read(error.to_string())
}

/// Runs something of the database that may panic over a damaged file; gives the panic's message.
pub(super) fn unpanicked<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "the database panicked".to_owned())
    })
}

/// Runs the opening of the database in `path`, which panics over some damaged files, and over some
/// of those panics again while it unwinds: that ends the process whatever one does. So the error is
/// printed as soon as the first panic comes.
fn contained<T>(path: &Path, work: impl FnOnce() -> T) -> Result<T, String> {
    type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Send + Sync>;
    let before: Arc<Hook> = Arc::new(std::panic::take_hook());
    let (opening, hook) = (std::thread::current().id(), Arc::clone(&before));
    let file = path.to_owned();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().id() == opening {
            let what = info
                .payload_as_str()
                .unwrap_or("the database panicked")
                .to_owned();
            eprintln!("error: {}", damaged_database(&file, what));
        } else {
            hook(info);
        }
    }));
    let result = unpanicked(work);
    std::panic::set_hook(Box::new(move |info| before(info)));
    result
}

fn damaged_database(path: &Path, what: String) -> OpenError {
    OpenError::Corrupted {
        file: path.to_owned(),
        what,
        remedy: "restore the data directory from a backup",
    }
}

fn open_error(path: &Path, error: fjall::Error) -> OpenError {
    match error {
        fjall::Error::Io(source) => OpenError::Io {
            action: "opening database",
            file: path.to_owned(),
            source,
        },
        error => damaged_database(path, error.to_string()),
    }
}
