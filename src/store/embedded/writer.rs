//! What a flush writes: per device the blocks of its points and its attributes, in batches.

use super::database::{Row, Tables, row_bytes};
use super::head::DeviceHead;
use super::retention::Usage;
use super::series::{bucket, decode_block, encode_blocks, parse_row_key, series_prefix};
use crate::registry::DeviceId;
use crate::store::Value;
use crate::store::batch::{TelemetryItem, TelemetryItems};
use fjall::{OwnedWriteBatch, PersistMode};
use std::collections::{BTreeMap, BTreeSet};

/// Rows written to the database at a time.
const BATCH_ROWS: usize = 1000;

/// Bytes written to the database at a time.
const BATCH_BYTES: usize = 1 << 20;

/// Writes rows in batches.
pub(super) struct Writer<'a> {
    tables: &'a Tables,
    sequence: u64,
    /// With what this flush has written so far.
    usage: Usage,
    /// Without: a flush that fails is written again, and must not count twice. What it has removed
    /// is gone, and it will not find that again.
    settled: &'a mut Usage,
    /// Rows that the batch removes and that are in both: bucket and bytes.
    removed: Vec<(i64, u64)>,
    batch: OwnedWriteBatch,
    bytes: usize,
    /// Called after each little step.
    rest: &'a mut dyn FnMut(),
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        tables: &'a Tables,
        sequence: u64,
        settled: &'a mut Usage,
        rest: &'a mut dyn FnMut(),
    ) -> Self {
        Self {
            tables,
            sequence,
            usage: settled.clone(),
            settled,
            removed: Vec::new(),
            batch: tables.database.batch(),
            bytes: 0,
            rest,
        }
    }

    pub(super) fn write_device(
        &mut self,
        device: DeviceId,
        head: &DeviceHead,
    ) -> Result<(), Box<dyn std::error::Error>> {
        if head.removed {
            self.remove_device(device)?;
        }
        let mut series: BTreeMap<&str, Vec<TelemetryItem<'_>>> = BTreeMap::new();
        for body in head.readings() {
            for item in TelemetryItems(body) {
                series.entry(item.key).or_default().push(item);
            }
            (self.rest)();
        }
        for (key, mut points) in series {
            // Stable: of points with the same time the later one stays behind.
            points.sort_by_key(|point| point.ts_ms);
            if points.iter().any(|point| point.value.is_none()) {
                self.rewrite_series(device, key, &points)?;
            } else {
                let blocks = self.blocks(device, key, &points);
                self.write_blocks(blocks)?;
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

    fn blocks(
        &mut self,
        device: DeviceId,
        key: &str,
        points: &[TelemetryItem<'_>],
    ) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut blocks = Vec::new();
        encode_blocks(device, key, points, self.sequence, &mut |row, value| {
            blocks.push((row, value));
            (self.rest)();
        });
        blocks
    }

    fn write_blocks(&mut self, blocks: Vec<(Vec<u8>, Vec<u8>)>) -> fjall::Result<()> {
        for (row, value) in blocks {
            if let Some((_, bucket)) = parse_row_key(&row) {
                self.usage.add(bucket, row_bytes(&row, &value));
            }
            self.bytes += row.len() + value.len();
            self.batch.insert(&self.tables.series, row, value);
            self.commit_if_large()?;
        }
        Ok(())
    }

    /// Writes points of which some are removed: in the buckets of these, what stays of the rows that
    /// are there goes into new blocks, so that a removal needs no trace.
    ///
    /// The old rows go after the new ones have come: a crash between both leaves too much, and the
    /// removals are still in the log, but never too little.
    fn rewrite_series(
        &mut self,
        device: DeviceId,
        key: &str,
        points: &[TelemetryItem<'_>],
    ) -> Result<(), Box<dyn std::error::Error>> {
        let series = series_prefix(device, key);
        let removals = points.iter().filter(|point| point.value.is_none());
        let buckets: BTreeSet<i64> = removals.map(|point| bucket(point.ts_ms)).collect();
        let mut old = Vec::new();
        let mut staying: BTreeMap<i64, Value> = BTreeMap::new();
        for at in buckets {
            for (row, block) in self.tables.bucket_rows(&series, at)? {
                decode_block(at, &block, &mut |ts_ms, value| {
                    if points.binary_search_by_key(&ts_ms, |p| p.ts_ms).is_err() {
                        staying.insert(ts_ms, value.to_value());
                    }
                })
                .ok_or("a block of points is damaged")?;
                old.push(row);
            }
        }
        let mut merged = points.to_vec();
        merged.extend(staying.iter().map(|(&ts_ms, value)| TelemetryItem {
            ts_ms,
            key,
            value: Some(value.as_ref()),
        }));
        merged.sort_by_key(|point| point.ts_ms);
        let blocks = self.blocks(device, key, &merged);
        let new: BTreeSet<Vec<u8>> = blocks.iter().map(|(row, _)| row.clone()).collect();
        self.write_blocks(blocks)?;
        for row in old {
            // One of the same name is of this flush, when it was not finished: it is replaced already.
            if !new.contains(row.key()) {
                self.remove_row(&row);
                self.commit_if_large()?;
            }
        }
        Ok(())
    }

    /// Removes a device's rows, those of an unfinished flush of its new data included.
    fn remove_device(&mut self, device: DeviceId) -> Result<(), Box<dyn std::error::Error>> {
        loop {
            self.commit()?;
            let rows = self.tables.device_series_rows(device, BATCH_ROWS)?;
            let attributes = self.tables.device_attribute_rows(device, BATCH_ROWS)?;
            if rows.is_empty() && attributes.is_empty() {
                return Ok(());
            }
            for row in rows {
                self.remove_row(&row);
            }
            for row in attributes {
                self.batch.remove(&self.tables.attributes, row);
            }
        }
    }

    fn remove_row(&mut self, row: &Row) {
        // One of this flush, when it was not finished, was never counted.
        if row.sequence() != Some(self.sequence)
            && let Some((bucket, bytes)) = row.counted()
        {
            self.usage.subtract(bucket, bytes);
            self.removed.push((bucket, bytes));
        }
        row.remove(self.tables, &mut self.batch);
    }

    fn commit_if_large(&mut self) -> fjall::Result<()> {
        if self.batch.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES {
            self.commit()?;
        }
        (self.rest)();
        Ok(())
    }

    /// Writes the batch. What it removes no longer counts, whatever becomes of the flush.
    fn commit(&mut self) -> fjall::Result<()> {
        self.bytes = 0;
        let mut batch = std::mem::replace(&mut self.batch, self.tables.database.batch());
        if self.removed.is_empty() {
            return batch.commit();
        }
        let mut left = self.settled.clone();
        for (bucket, bytes) in self.removed.drain(..) {
            left.subtract(bucket, bytes);
        }
        self.tables.set_usage(&mut batch, &left);
        batch.commit()?;
        *self.settled = left;
        Ok(())
    }

    /// Writes what is left, with the checkpoint behind it, and makes everything durable: batches
    /// are in the database's journal in this order, so the checkpoint is there only if all is.
    pub(super) fn finish(mut self) -> Result<Usage, Box<dyn std::error::Error>> {
        // The last of the removals, so that the count behind them is that of all.
        if !self.removed.is_empty() {
            self.commit()?;
        }
        self.tables.set_checkpoint(&mut self.batch, self.sequence);
        self.tables.set_usage(&mut self.batch, &self.usage);
        self.commit()?;
        self.tables.database.persist(PersistMode::SyncAll)?;
        Ok(self.usage)
    }
}
