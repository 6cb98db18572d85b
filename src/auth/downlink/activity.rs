//! When each device was last heard of: a table that every request writes one number into.
//!
//! ```text
//! request --record: one store--> entry of the device
//! hub's thread, each period ---> chunks with news -> those entries -> server attributes (`report`)
//! ```
//!
//! Device numbers count up, so the number is the index: three steps down a tree of fixed shape, whose
//! parts are made when first needed. Reading and writing take no lock.
//!
//! A chunk is marked after its entry is written, and is looked at for two periods after it was marked
//! last. So what a core has written late, by at most a period, is not missed.

use crate::registry::DeviceId;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

const CHUNK: usize = 512;
const CHUNKS: usize = 512;
/// For a billion device numbers; those beyond, which no registry reaches, are not tracked.
const GROUPS: usize = 4096;

/// Periods for which a chunk is looked at after an entry was written.
const NEWS: u8 = 2;

/// What is known of a device, in memory.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// The last uplink, ms of UNIX; 0: none since the start.
    last_ms: AtomicU64,
    /// The last uplink that was reported. Written by the hub's thread alone.
    reported_ms: AtomicU64,
    flags: AtomicU32,
    /// Its `inactivityTimeout` in seconds, at least 1; 0: it has none.
    timeout_s: AtomicU32,
}

/// Something waits until the device is awake: the hub wants to hear of its next uplink.
pub(super) const ATTENTION: u32 = 1;
/// Its attributes were looked at since the start.
pub(super) const KNOWN: u32 = 2;
/// It counts as active.
pub(super) const ACTIVE: u32 = 4;

struct Chunk {
    news: AtomicU8,
    entries: [Entry; CHUNK],
}

type Group = [OnceLock<Box<Chunk>>; CHUNKS];

/// The entries of all devices.
pub(super) struct Activity {
    groups: Box<[OnceLock<Box<Group>>]>,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            groups: (0..GROUPS).map(|_| OnceLock::new()).collect(),
        }
    }

    /// Notes an uplink; tells whether the hub wants to hear of it.
    pub(super) fn record(&self, device: DeviceId, now_ms: u64) -> bool {
        let Some((chunk, entry)) = self.chunk(device) else {
            return false;
        };
        entry.last_ms.store(now_ms, Ordering::Relaxed);
        if chunk.news.load(Ordering::Relaxed) != NEWS {
            chunk.news.store(NEWS, Ordering::Relaxed);
        }
        entry.has(ATTENTION)
    }

    /// The device's entry; `None` beyond the numbers that are tracked.
    pub(super) fn entry(&self, device: DeviceId) -> Option<&Entry> {
        self.chunk(device).map(|(_, entry)| entry)
    }

    fn chunk(&self, device: DeviceId) -> Option<(&Chunk, &Entry)> {
        let index = usize::try_from(device.0).ok()?;
        let group = self.groups.get(index / (CHUNK * CHUNKS))?;
        let group = group.get_or_init(|| Box::new([const { OnceLock::new() }; CHUNKS]));
        let chunk = group.get(index / CHUNK % CHUNKS)?;
        let chunk = chunk.get_or_init(Chunk::new);
        Some((chunk, chunk.entries.get(index % CHUNK)?))
    }

    /// Hands every entry with a report outstanding to `visit`; only one thread may do so at a time.
    pub(super) fn news(&self, mut visit: impl FnMut(DeviceId, &Entry)) {
        for (first, chunk) in self.chunks() {
            let news = chunk.news.load(Ordering::Relaxed);
            if news == 0 {
                continue;
            }
            chunk.news.store(news - 1, Ordering::Relaxed);
            for (device, entry) in chunk.devices(first) {
                if entry.last_ms() > entry.reported_ms.load(Ordering::Relaxed) {
                    visit(device, entry);
                }
            }
        }
    }

    /// Has the device's report looked for again: it could not be written.
    pub(super) fn again(&self, device: DeviceId) {
        if let Some((chunk, _)) = self.chunk(device) {
            chunk.news.store(NEWS, Ordering::Relaxed);
        }
    }

    /// Hands every device that counts as active to `visit`.
    pub(super) fn active(&self, mut visit: impl FnMut(DeviceId, &Entry)) {
        for (first, chunk) in self.chunks() {
            for (device, entry) in chunk.devices(first) {
                if entry.has(ACTIVE) {
                    visit(device, entry);
                }
            }
        }
    }

    fn chunks(&self) -> impl Iterator<Item = (usize, &Chunk)> {
        let groups = self.groups.iter().enumerate();
        groups
            .filter_map(|(at, group)| Some((at * CHUNKS, group.get()?)))
            .flat_map(|(at, group)| {
                let chunks = group.iter().enumerate();
                chunks.filter_map(move |(next, chunk)| Some(((at + next) * CHUNK, &**chunk.get()?)))
            })
    }
}

impl Chunk {
    fn new() -> Box<Self> {
        Box::new(Self {
            news: AtomicU8::new(0),
            entries: std::array::from_fn(|_| Entry::default()),
        })
    }

    fn devices(&self, first: usize) -> impl Iterator<Item = (DeviceId, &Entry)> {
        let entries = self.entries.iter().enumerate();
        entries.map(move |(at, entry)| (DeviceId((first + at) as u64), entry))
    }
}

impl Entry {
    /// The last uplink, ms of UNIX; 0: none since the start.
    pub(super) fn last_ms(&self) -> u64 {
        self.last_ms.load(Ordering::Relaxed)
    }

    /// What was known of the last uplink before the start; a later one stays.
    pub(super) fn restore(&self, last_ms: u64) {
        self.last_ms.fetch_max(last_ms, Ordering::Relaxed);
        self.reported_ms.fetch_max(last_ms, Ordering::Relaxed);
    }

    pub(super) fn reported(&self, last_ms: u64) {
        self.reported_ms.store(last_ms, Ordering::Relaxed);
    }

    pub(super) fn has(&self, flag: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & flag != 0
    }

    /// Sets a flag; `true` when it was not set.
    pub(super) fn set(&self, flag: u32) -> bool {
        self.flags.fetch_or(flag, Ordering::Relaxed) & flag == 0
    }

    pub(super) fn clear(&self, flag: u32) {
        if self.has(flag) {
            self.flags.fetch_and(!flag, Ordering::Relaxed);
        }
    }

    /// Its own time-out in ms, if it has one.
    pub(super) fn timeout_ms(&self) -> Option<u64> {
        let seconds = self.timeout_s.load(Ordering::Relaxed);
        (seconds > 0).then(|| u64::from(seconds) * 1000)
    }

    /// Sets its own time-out, or none.
    pub(super) fn set_timeout_ms(&self, timeout_ms: Option<u64>) {
        let seconds =
            timeout_ms.map_or(0, |ms| u32::try_from(ms.div_ceil(1000)).unwrap_or(u32::MAX));
        self.timeout_s.store(seconds, Ordering::Relaxed);
    }

    /// Forgets a device that is gone.
    pub(super) fn reset(&self) {
        self.flags.store(0, Ordering::Relaxed);
        self.timeout_s.store(0, Ordering::Relaxed);
        self.reported_ms.store(0, Ordering::Relaxed);
        self.last_ms.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(activity: &Activity) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        activity.news(|device, entry| {
            found.push((device.0, entry.last_ms()));
            entry.reported(entry.last_ms());
        });
        found
    }

    #[test]
    fn each_device_is_reported_once_for_its_last_uplink() {
        let activity = Activity::new();
        let far = (CHUNK * CHUNKS * 3 + 7) as u64;
        for (device, now_ms) in [(5, 100), (far, 101), (5, 102), (700, 103)] {
            assert!(!activity.record(DeviceId(device), now_ms));
        }
        assert_eq!(news(&activity), [(5, 102), (700, 103), (far, 101)]);
        assert_eq!(news(&activity), []);
        activity.record(DeviceId(700), 200);
        assert_eq!(news(&activity), [(700, 200)]);
    }

    #[test]
    fn what_was_not_taken_comes_again() {
        let activity = Activity::new();
        activity.record(DeviceId(1), 10);
        for _ in 0..4 {
            let mut seen = 0;
            activity.news(|device, _| {
                seen += 1;
                activity.again(device);
            });
            assert_eq!(seen, 1);
        }
    }

    #[test]
    fn attention_is_told_with_the_uplink() {
        let activity = Activity::new();
        let device = DeviceId(9);
        let entry = activity.entry(device).unwrap();
        assert!(entry.set(ATTENTION));
        assert!(!entry.set(ATTENTION));
        assert!(activity.record(device, 1));
        entry.clear(ATTENTION);
        assert!(!activity.record(device, 2));
    }

    #[test]
    fn a_restart_does_not_move_a_device_back() {
        let activity = Activity::new();
        let entry = activity.entry(DeviceId(1)).unwrap();
        activity.record(DeviceId(1), 50);
        entry.restore(40);
        assert_eq!(entry.last_ms(), 50);
        entry.set_timeout_ms(Some(1500));
        assert_eq!(entry.timeout_ms(), Some(2000));
        entry.reset();
        assert_eq!((entry.last_ms(), entry.timeout_ms()), (0, None));
    }

    #[test]
    fn numbers_beyond_the_table_are_not_tracked() {
        let activity = Activity::new();
        assert!(!activity.record(DeviceId(u64::MAX), 1));
        assert!(activity.entry(DeviceId(u64::MAX)).is_none());
    }
}
