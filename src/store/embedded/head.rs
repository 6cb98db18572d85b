//! The head: what is durable in the log and not yet in the database, per device, in memory; and the
//! attributes that were read lately.
//!
//! ```text
//! apply --> active --begin_flush--> flushing --(database written, checkpoint)--> end_flush
//! ```
//!
//! A device's readings stay in the bytes of the log, so that applying a group is a hash lookup and a
//! copy per record; who reads parses. Attributes are a map, as only the last value counts.
//!
//! Invariant: what was written is in `active`, in `flushing` or in the database, at every moment.
//! A reader that looks into the head first and into the database afterwards misses nothing.

use super::attributes::{AttributeChange, AttributeSet, Changes};
use crate::registry::DeviceId;
use crate::store::batch::{AttributeItems, Record, Records};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Parts with a lock each. Device numbers are consecutive, so they spread by themselves.
pub(super) const PARTS: usize = 64;

/// Readings of a device are closed into a piece of about this many bytes, which readers share
/// instead of copying.
const PIECE_BYTES: usize = 32 << 10;

/// Memory that a device costs beside its data, roughly: the map's entry and two vectors.
const DEVICE_BYTES: usize = 160;

/// What was written for one device since the last flush.
#[derive(Debug, Default)]
pub(super) struct DeviceHead {
    /// Everything before this was removed with the device.
    pub(super) removed: bool,
    pieces: Vec<Arc<[u8]>>,
    open: Vec<u8>,
    pub(super) attributes: Changes,
}

pub(super) type Devices = HashMap<DeviceId, DeviceHead, hashbrown::DefaultHashBuilder>;

#[derive(Default)]
struct Part {
    active: Devices,
    flushing: Arc<Devices>,
    /// Whole attribute sets, as they are now.
    cached: HashMap<DeviceId, AttributeSet, hashbrown::DefaultHashBuilder>,
    cached_bytes: usize,
    /// How often `flushing` was emptied: whoever read the database before cannot trust it.
    flushes: u64,
}

/// The head of all devices.
pub(super) struct Head {
    parts: Box<[Mutex<Part>]>,
    active_bytes: AtomicUsize,
    flushing_bytes: AtomicUsize,
    cached_bytes_max: usize,
}

/// Readings as they are in the head: bodies of telemetry records, oldest first.
#[derive(Debug, Default)]
pub(super) struct HeadReadings {
    /// What the database holds of this device is of before its removal.
    pub(super) hides_database: bool,
    pub(super) pieces: Vec<Arc<[u8]>>,
}

impl Head {
    /// An empty head that keeps up to `cached_bytes_max` bytes of attributes for reading.
    pub(super) fn new(cached_bytes_max: usize) -> Self {
        Self {
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            active_bytes: AtomicUsize::new(0),
            flushing_bytes: AtomicUsize::new(0),
            cached_bytes_max: cached_bytes_max / PARTS,
        }
    }

    /// Bytes in it, those being flushed included.
    pub(super) fn bytes(&self) -> usize {
        self.active_bytes() + self.flushing_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of attributes kept for reading.
    #[cfg(test)]
    pub(super) fn cached_bytes(&self) -> usize {
        self.parts.iter().map(|part| lock(part).cached_bytes).sum()
    }

    /// Bytes that the next flush would take.
    pub(super) fn active_bytes(&self) -> usize {
        self.active_bytes.load(Ordering::Relaxed)
    }

    /// Applies the records of a group. `None` when `bytes` are no records; those before are applied.
    pub(super) fn apply(&self, bytes: &[u8]) -> Option<()> {
        let mut grown = 0;
        let result = Records(bytes).try_for_each(|record| {
            grown += self.apply_record(record?);
            Some(())
        });
        self.active_bytes.fetch_add(grown, Ordering::Relaxed);
        result
    }

    /// Applies one record; returns by how many bytes the head grew.
    fn apply_record(&self, record: Record<'_>) -> usize {
        match record {
            Record::Telemetry(device, body) => {
                let mut part = self.part(device);
                let (head, grown) = part.device(device);
                head.push_readings(body);
                grown + body.len()
            }
            Record::Attributes(device, body) => {
                let mut part = self.part(device);
                let mut grown = 0;
                for item in AttributeItems(body) {
                    let change = AttributeChange::from(&item);
                    part.change_cached(device, &change);
                    let (head, new) = part.device(device);
                    grown += new + head.attributes.insert(change);
                }
                grown
            }
            Record::DeviceRemoved(device) => {
                let mut part = self.part(device);
                part.forget_cached(device);
                let (head, grown) = part.device(device);
                *head = DeviceHead {
                    removed: true,
                    ..DeviceHead::default()
                };
                grown
            }
        }
    }

    /// Moves everything aside to be flushed; `false` when there is nothing.
    ///
    /// The caller sees to it that no group is applied meanwhile, and that the flush before ended.
    pub(super) fn begin_flush(&self) -> bool {
        for part in &self.parts {
            let mut part = lock(part);
            part.flushing = Arc::new(std::mem::take(&mut part.active));
        }
        let bytes = self.active_bytes.swap(0, Ordering::Relaxed);
        self.flushing_bytes.store(bytes, Ordering::Relaxed);
        bytes > 0
    }

    /// What is being flushed, part by part.
    pub(super) fn flushing(&self) -> impl Iterator<Item = Arc<Devices>> {
        self.parts
            .iter()
            .map(|part| Arc::clone(&lock(part).flushing))
    }

    /// Forgets what was flushed: the database has it.
    pub(super) fn end_flush(&self) {
        for part in &self.parts {
            let flushed = {
                let mut part = lock(part);
                part.flushes += 1;
                std::mem::take(&mut part.flushing)
            };
            // Freed here, outside of the lock.
            drop(flushed);
        }
        self.flushing_bytes.store(0, Ordering::Relaxed);
    }

    /// The readings of a device in the head.
    pub(super) fn readings(&self, device: DeviceId) -> HeadReadings {
        let part = self.part(device);
        let mut readings = HeadReadings::default();
        for head in [part.flushing.get(&device), part.active.get(&device)]
            .into_iter()
            .flatten()
        {
            if head.removed {
                readings.hides_database = true;
                readings.pieces.clear();
            }
            readings.pieces.extend(head.pieces.iter().map(Arc::clone));
            if !head.open.is_empty() {
                readings.pieces.push(head.open.as_slice().into());
            }
        }
        readings
    }

    /// Lets `read` look at all attributes of a device. `load` gets those in the database; it may run
    /// more than once, without a lock.
    pub(super) fn attributes<T, E>(
        &self,
        device: DeviceId,
        load: impl Fn() -> Result<AttributeSet, E>,
        read: impl FnOnce(&AttributeSet) -> T,
    ) -> Result<T, E> {
        let mut part = self.part(device);
        if let Some(cached) = part.cached.get(&device) {
            return Ok(read(cached));
        }
        loop {
            let flushes = part.flushes;
            drop(part);
            let loaded = load()?;
            part = self.part(device);
            if part.flushes != flushes {
                // What was in the head may have moved to the database after it was read.
                continue;
            }
            let mut set = loaded;
            for head in [part.flushing.get(&device), part.active.get(&device)]
                .into_iter()
                .flatten()
            {
                if head.removed {
                    set = AttributeSet::default();
                }
                head.attributes.apply_to(&mut set);
            }
            let result = read(&set);
            part.cache(device, set, self.cached_bytes_max);
            return Ok(result);
        }
    }

    fn part(&self, device: DeviceId) -> MutexGuard<'_, Part> {
        let part = usize::try_from(device.0 % PARTS as u64).unwrap_or_default();
        lock(&self.parts[part])
    }
}

/// A panic while the lock was held is a defect elsewhere; the data is whole at every step.
fn lock(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

impl DeviceHead {
    fn push_readings(&mut self, body: &[u8]) {
        if self.open.len() + body.len() > PIECE_BYTES && !self.open.is_empty() {
            self.pieces.push(std::mem::take(&mut self.open).into());
        }
        self.open.extend_from_slice(body);
    }

    /// The bodies of its telemetry records, oldest first.
    pub(super) fn readings(&self) -> impl Iterator<Item = &[u8]> {
        let pieces = self.pieces.iter().map(|piece| &**piece);
        pieces.chain(std::iter::once(self.open.as_slice()))
    }
}

impl Part {
    /// The device's head, and by how many bytes this made the whole grow.
    fn device(&mut self, device: DeviceId) -> (&mut DeviceHead, usize) {
        match self.active.entry(device) {
            std::collections::hash_map::Entry::Occupied(entry) => (entry.into_mut(), 0),
            std::collections::hash_map::Entry::Vacant(entry) => {
                (entry.insert(DeviceHead::default()), DEVICE_BYTES)
            }
        }
    }

    fn change_cached(&mut self, device: DeviceId, change: &AttributeChange) {
        if let Some(cached) = self.cached.get_mut(&device) {
            let before = cached.bytes();
            cached.apply(change);
            self.cached_bytes = self.cached_bytes + cached.bytes() - before;
        }
    }

    fn forget_cached(&mut self, device: DeviceId) {
        if let Some(forgotten) = self.cached.remove(&device) {
            self.cached_bytes -= forgotten.bytes();
        }
    }

    /// Keeps a set, and when it becomes too much lets every other one go, whichever comes first.
    fn cache(&mut self, device: DeviceId, set: AttributeSet, bytes_max: usize) {
        if set.bytes() > bytes_max / 4 {
            return;
        }
        self.cached_bytes += set.bytes();
        if let Some(before) = self.cached.insert(device, set) {
            self.cached_bytes -= before.bytes();
        }
        while self.cached_bytes > bytes_max {
            let mut keep = false;
            let mut freed = 0;
            self.cached.retain(|_, set| {
                keep = !keep;
                if !keep {
                    freed += set.bytes();
                }
                keep
            });
            self.cached_bytes -= freed;
            if self.cached.len() <= 1 {
                break;
            }
        }
    }
}
