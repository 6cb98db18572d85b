//! Retention: readings go by age, and the oldest first when there are too many bytes of them.
//!
//! ```text
//! usage:  bytes of rows per bucket, kept with every flush
//! cutoff: the first bucket that stays, by age and by size, whichever is later
//! sweep:  series by series, rows of buckets before the cutoff are removed, a few at a time
//! ```
//! Both limits come down to one cutoff, so there is one way for readings to go. The newest bucket of
//! a series stays whatever its age, as its latest value is what the device last said (ThingsBoard,
//! too, keeps latest values apart from its time series). Sizes count keys and values of rows before
//! compression, which the disk's depend on: they are known exactly, and at once.
//!
//! A sweep finds its rows with one look per series and reads none that stay. It runs on the flushing
//! thread between flushes, in steps, and rests between these: no upload waits for it.

use super::database::{Tables, read_error};
use super::series::{SUFFIX_LEN, after_series, bucket, parse_row_key};
use crate::store::{Order, StoreError};
use std::collections::BTreeMap;
use std::time::Duration;

/// Series looked at in one step of a sweep.
const STEP_SERIES: usize = 256;

/// Rows removed in one step of a sweep.
const STEP_ROWS: usize = 1000;

/// Entries of a usage: half a year of hours. Beyond, neighbours are joined that hold little.
const USAGE_ENTRIES_MAX: usize = 4400;

/// Entries are joined as long as they hold no more than one of so many parts of all bytes. Two
/// neighbours that stay hold more, so half of the entries at most do.
const USAGE_PARTS: u64 = USAGE_ENTRIES_MAX as u64 / 4;

/// When there is too much, it is brought down by this part more, so that not each flush sweeps.
const SIZE_SLACK: u64 = 20;

/// Which readings stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Readings of a time longer ago go; `None`: none does for its age.
    pub age: Option<Duration>,
    /// Most bytes of readings, keys included, before compression; `None`: no limit.
    pub bytes: Option<u64>,
}

impl Retention {
    /// The first bucket that stays; everything does when there is none.
    pub(super) fn cutoff(&self, usage: &Usage, now_unix_ms: u64) -> Option<i64> {
        let by_age = self.age.map(|age| {
            let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            // Whole buckets go: one goes when its youngest reading is too old.
            bucket(now_unix_ms.cast_signed().saturating_sub_unsigned(age_ms))
        });
        by_age.max(self.bytes.and_then(|bytes| usage.cutoff(bytes)))
    }
}

/// Bytes of the rows of all series, by bucket.
///
/// ```text
/// as a row: version u8 = 1 | (bucket i64 | bytes u64)*       big-endian, by bucket
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// An entry is about its bucket and, where it was joined, those before it down to the next entry.
    /// So of the rows from any bucket on, the entries from there on count all, and maybe older ones.
    entries: BTreeMap<i64, u64>,
    total: u64,
}

const USAGE_VERSION: u8 = 1;

impl Usage {
    /// Counts a row that was written.
    pub(super) fn add(&mut self, bucket: i64, bytes: u64) {
        *self.entries.entry(bucket).or_default() += bytes;
        self.total += bytes;
        if self.entries.len() > USAGE_ENTRIES_MAX {
            self.join_small();
        }
    }

    /// Joins neighbours that hold little, wherever they are: a fleet's hours stay apart from those of a
    /// device with a wrong clock, and what goes at once for want of room is little of it all.
    fn join_small(&mut self) {
        let part = self.total / USAGE_PARTS;
        for (bucket, bytes) in std::mem::take(&mut self.entries) {
            let joined = match self.entries.last_entry() {
                Some(before) if *before.get() + bytes <= part => before.remove() + bytes,
                _ => bytes,
            };
            self.entries.insert(bucket, joined);
        }
    }

    /// Counts a row that was removed. An entry that holds less took over a bucket that was joined
    /// into a later one: the rest is there.
    pub(super) fn subtract(&mut self, bucket: i64, bytes: u64) {
        let mut left = bytes;
        while left > 0
            && let Some((&at, entry)) = self.entries.range_mut(bucket..).next()
        {
            let counted = left.min(*entry);
            *entry -= counted;
            left -= counted;
            self.total -= counted;
            if *entry == 0 {
                self.entries.remove(&at);
            }
        }
    }

    /// Bytes of all rows.
    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// Bytes of the rows of buckets before `cutoff`.
    pub(super) fn before(&self, cutoff: i64) -> u64 {
        self.entries.range(..cutoff).map(|(_, bytes)| bytes).sum()
    }

    /// The first bucket that stays so that what stays fits into `bytes`; `None` while all does.
    fn cutoff(&self, bytes: u64) -> Option<i64> {
        if self.total <= bytes {
            return None;
        }
        let target = bytes - bytes / SIZE_SLACK;
        let mut left = self.total;
        for (&bucket, entry) in &self.entries {
            left -= entry;
            if left <= target {
                return bucket.checked_add(1);
            }
        }
        None
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(1 + 16 * self.entries.len());
        row.push(USAGE_VERSION);
        for (bucket, bytes) in &self.entries {
            row.extend_from_slice(&bucket.to_be_bytes());
            row.extend_from_slice(&bytes.to_be_bytes());
        }
        row
    }

    /// `None` when the row is damaged.
    pub(super) fn decode(row: &[u8]) -> Option<Self> {
        let (&version, rest) = row.split_first()?;
        let (entries, []) = rest.as_chunks::<16>() else {
            return None;
        };
        if version != USAGE_VERSION {
            return None;
        }
        let mut usage = Self::default();
        for entry in entries {
            let (bucket, bytes) = entry.split_first_chunk::<8>()?;
            let bytes = u64::from_be_bytes(bytes.try_into().ok()?);
            usage.total = usage.total.checked_add(bytes)?;
            usage.entries.insert(i64::from_be_bytes(*bucket), bytes);
        }
        Some(usage)
    }
}

/// A walk over all series that removes what lies before its cutoff.
#[derive(Debug)]
pub(super) struct Sweep {
    pub(super) cutoff: i64,
    /// Where the next step goes on: a row key, or a place between two.
    next: Vec<u8>,
    pub(super) removed_rows: u64,
}

/// What a step of a sweep came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There is more to look at.
    More,
    /// The sweep is over.
    Done,
}

impl Sweep {
    pub(super) const fn new(cutoff: i64) -> Self {
        Self {
            cutoff,
            next: Vec::new(),
            removed_rows: 0,
        }
    }

    /// Looks at some series, and removes some rows. A step that failed can be done again.
    pub(super) fn step(&mut self, tables: &Tables, usage: &mut Usage) -> Result<Step, StoreError> {
        let mut rows = Vec::new();
        let mut next = self.next.clone();
        let mut step = Step::More;
        for _ in 0..STEP_SERIES {
            let Some((first, oldest)) = first_row(tables, &next)? else {
                step = Step::Done;
                break;
            };
            let series = first.get(..first.len() - SUFFIX_LEN).unwrap_or_default();
            if oldest < self.cutoff {
                // What the device said last stays.
                let newest = tables.next_bucket(series, i64::MAX, Order::Descending)?;
                let end = newest.map_or(self.cutoff, |newest| newest.min(self.cutoff));
                let room = STEP_ROWS - rows.len();
                rows.extend(tables.rows_before(series, end, room)?);
                if rows.len() >= STEP_ROWS {
                    break;
                }
            }
            next = after_series(series);
        }
        tables.remove_rows(&rows, usage)?;
        self.removed_rows += rows.len() as u64;
        self.next = next;
        Ok(step)
    }
}

/// The key and bucket of the first row of a series at or behind `from`.
fn first_row(tables: &Tables, from: &[u8]) -> Result<Option<(Vec<u8>, i64)>, StoreError> {
    let Some(row) = tables.series.range(from..).next() else {
        return Ok(None);
    };
    let key = row.key().map_err(read_error)?;
    // Behind the rows of all devices is the keyspace's own.
    Ok(parse_row_key(&key).map(|(_, bucket)| (key.to_vec(), bucket)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    fn usage(entries: &[(i64, u64)]) -> Usage {
        let mut usage = Usage::default();
        for &(bucket, bytes) in entries {
            usage.add(bucket, bytes);
        }
        usage
    }

    #[test]
    fn the_later_of_both_limits_counts() {
        let usage = usage(&[(10, 100), (11, 100), (12, 100)]);
        let cutoff = |age_hours: Option<u64>, bytes| {
            let age = age_hours.map(|hours| Duration::from_secs(hours * 3600));
            Retention { age, bytes }.cutoff(&usage, 20 * HOUR_MS + 1)
        };
        assert_eq!(cutoff(None, None), None);
        assert_eq!(cutoff(Some(5), None), Some(15));
        assert_eq!(cutoff(None, Some(300)), None, "all fits");
        assert_eq!(cutoff(None, Some(250)), Some(11), "the oldest goes");
        assert_eq!(cutoff(None, Some(200)), Some(12), "and a twentieth more");
        assert_eq!(cutoff(Some(5), Some(250)), Some(15));
        assert_eq!(cutoff(Some(10), Some(200)), Some(12));
        assert_eq!(
            cutoff(Some(u64::MAX / 3600), None),
            Some(i64::MIN / 3_600_000 - 1)
        );
    }

    #[test]
    fn bytes_are_counted_and_come_back_from_a_row() {
        let mut usage = usage(&[(5, 10), (5, 10), (-7, 1), (i64::MAX, 2)]);
        assert_eq!(usage.total(), 23);
        assert_eq!(Usage::decode(&usage.encode()).as_ref(), Some(&usage));
        usage.subtract(5, 15);
        usage.subtract(-7, 1);
        assert_eq!((usage.total(), usage.entries.len()), (7, 2));
        for damaged in [&[][..], &[2], &[1, 0]] {
            assert_eq!(Usage::decode(damaged), None);
        }
    }

    /// A fleet that writes as much each hour.
    fn fleet(hours: i64) -> Usage {
        let mut usage = Usage::default();
        for bucket in 0..hours {
            usage.add(bucket, 1_000_000);
        }
        usage
    }

    #[test]
    fn entries_are_few_and_what_goes_for_want_of_room_is_little() {
        let hours = 300 * 24;
        let usage = fleet(hours);
        assert!(usage.entries.len() <= USAGE_ENTRIES_MAX);
        assert_eq!(usage.total(), hours.cast_unsigned() * 1_000_000);
        // A twentieth and no more than one joined entry.
        let cutoff = usage.cutoff(usage.total() - 1).unwrap();
        assert!((hours / 20..=hours / 20 + 10).contains(&cutoff), "{cutoff}");
    }

    #[test]
    fn readings_older_than_half_a_year_go_by_age() {
        let hours = 200 * 24;
        let usage = fleet(hours);
        let age = Some(Duration::from_secs(190 * 24 * 3600));
        let retention = Retention { age, bytes: None };
        let now = hours.cast_unsigned() * HOUR_MS;
        let cutoff = retention.cutoff(&usage, now).unwrap();
        assert_eq!(cutoff, 10 * 24);
        let before = usage.before(cutoff);
        assert!((230_000_000..=240_000_000).contains(&before), "{before}");
    }

    #[test]
    fn a_device_with_a_wrong_clock_leaves_the_hours_of_the_fleet_apart() {
        let mut usage = fleet(1000);
        // Microseconds taken for milliseconds: each reading has an hour of its own.
        for reading in 0..20_000 {
            usage.add(1_000_000 + reading, 50);
        }
        assert!(usage.entries.len() <= USAGE_ENTRIES_MAX);
        assert_eq!(usage.before(500), 500 * 1_000_000);
        assert_eq!(usage.cutoff(usage.total() - 1), Some(51));
    }

    #[test]
    fn what_was_joined_is_found_when_it_goes() {
        let mut usage = fleet(5000);
        let joined = (0..5000)
            .find(|at| !usage.entries.contains_key(at))
            .unwrap();
        // Written to again, and then all of it removed.
        usage.add(joined, 10);
        usage.subtract(joined, 1_000_010);
        assert_eq!(usage.total(), 4999 * 1_000_000);
        for bucket in (0..5000).filter(|&at| at != joined) {
            usage.subtract(bucket, 1_000_000);
        }
        assert_eq!((usage.total(), usage.entries.len()), (0, 0));
    }
}
