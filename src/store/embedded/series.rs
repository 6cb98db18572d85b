//! Series in the database: blocks of points.
//!
//! ```text
//! row key:   device u64 | key length u8 | key | bucket i64 | sequence u64 | part u16   (big-endian)
//! row value: version u8 = 1 | point*       point: time varint | value
//! ```
//! A bucket is an hour: the bucket of a time is the time divided by [`BUCKET_MS`], rounded down; its
//! sign bit is flipped so that rows sort by time. No block reaches beyond its bucket, so the points
//! of a time span are found by its buckets. The sequence is that of the last group in the flush that
//! wrote the block. Times are in order within a block: the first as the distance from the bucket's
//! start, the others from the one before.
//!
//! A time may occur in several blocks of a bucket: a device sent it again, or a flush was repeated
//! after a crash. The block with the higher sequence and part was written later and counts.

use crate::registry::DeviceId;
use crate::store::ValueRef;
use crate::store::batch::TelemetryItem;
use crate::store::value::take;

/// Milliseconds of a bucket.
pub(super) const BUCKET_MS: i64 = 3_600_000;

/// A block is closed at this many bytes.
const BLOCK_BYTES: usize = 64 << 10;

const VERSION: u8 = 1;

/// Bytes of a row key behind the series.
pub(super) const SUFFIX_LEN: usize = 8 + 8 + 2;

/// The bucket of a time.
pub(super) fn bucket(ts_ms: i64) -> i64 {
    ts_ms.div_euclid(BUCKET_MS)
}

/// The beginning of the row keys of a device.
pub(super) fn device_prefix(device: DeviceId) -> [u8; 8] {
    device.0.to_be_bytes()
}

/// The beginning of the row keys of a series.
pub(super) fn series_prefix(device: DeviceId, key: &str) -> Vec<u8> {
    let mut row = Vec::with_capacity(9 + key.len() + SUFFIX_LEN);
    row.extend_from_slice(&device_prefix(device));
    // Keys are at most 255 bytes long: `Batch` sees to it.
    row.push(u8::try_from(key.len()).unwrap_or(u8::MAX));
    row.extend_from_slice(key.as_bytes());
    row
}

/// The beginning of the row keys of a bucket.
pub(super) fn bucket_prefix(series: &[u8], bucket: i64) -> Vec<u8> {
    let mut row = series.to_vec();
    row.extend_from_slice(&(bucket ^ i64::MIN).to_be_bytes());
    row
}

/// A key above all rows of a series.
pub(super) fn after_series(series: &[u8]) -> Vec<u8> {
    let mut row = series.to_vec();
    row.extend_from_slice(&[0xff; SUFFIX_LEN + 1]);
    row
}

/// The key of the series that a row belongs to, and its bucket; `None` when it is no row key.
pub(super) fn parse_row_key(row: &[u8]) -> Option<(&str, i64)> {
    let (&length, rest) = row.get(8..)?.split_first()?;
    let (key, suffix) = rest.split_at_checked(usize::from(length))?;
    let suffix: &[u8; SUFFIX_LEN] = suffix.try_into().ok()?;
    let bucket = i64::from_be_bytes(*suffix.first_chunk()?) ^ i64::MIN;
    Some((std::str::from_utf8(key).ok()?, bucket))
}

/// Which flush wrote a row, by the number in its key; `None` when it is no row key.
pub(super) fn row_sequence(row: &[u8]) -> Option<u64> {
    parse_row_key(row)?;
    let (_, suffix) = row.split_last_chunk::<SUFFIX_LEN>()?;
    suffix
        .get(8..)?
        .first_chunk()
        .copied()
        .map(u64::from_be_bytes)
}

/// Makes blocks of the points of one series, in the order of time and of arrival within a time, and
/// hands row key and value of each to `write`. Of a time that was removed last nothing is written.
pub(super) fn encode_blocks(
    device: DeviceId,
    key: &str,
    points: &[TelemetryItem<'_>],
    sequence: u64,
    write: &mut dyn FnMut(Vec<u8>, Vec<u8>),
) {
    let series = series_prefix(device, key);
    let mut part = 0_u16;
    let mut block: Option<(i64, i64, Vec<u8>)> = None;
    let mut close = |bucket: i64, value: Vec<u8>| {
        let mut row = bucket_prefix(&series, bucket);
        row.extend_from_slice(&sequence.to_be_bytes());
        row.extend_from_slice(&part.to_be_bytes());
        // Only within a bucket must parts differ and grow; a flush has far fewer blocks of one.
        part = part.wrapping_add(1);
        write(row, value);
    };
    for (at, point) in points.iter().enumerate() {
        // Of points with the same time the last one counts.
        if points
            .get(at + 1)
            .is_some_and(|next| next.ts_ms == point.ts_ms)
        {
            continue;
        }
        let Some(point_value) = point.value else {
            continue;
        };
        let own_bucket = bucket(point.ts_ms);
        let (mut last, mut value) = match block.take() {
            Some((open, last, value)) if open == own_bucket && value.len() < BLOCK_BYTES => {
                (last, value)
            }
            other => {
                if let Some((open, _, value)) = other {
                    close(open, value);
                }
                // The start of the first bucket of all lies below the smallest number.
                (own_bucket.saturating_mul(BUCKET_MS), vec![VERSION])
            }
        };
        encode_varint(point.ts_ms.wrapping_sub(last).cast_unsigned(), &mut value);
        last = point.ts_ms;
        point_value.encode(&mut value);
        block = Some((own_bucket, last, value));
    }
    if let Some((open, _, value)) = block {
        close(open, value);
    }
}

/// Hands the points of a block to `visit`, in the order of time. `None` when it is no block.
pub(super) fn decode_block(
    bucket: i64,
    mut bytes: &[u8],
    visit: &mut dyn FnMut(i64, ValueRef<'_>),
) -> Option<()> {
    let bytes = &mut bytes;
    if take(bytes)? != [VERSION] {
        return None;
    }
    let mut ts_ms = bucket.saturating_mul(BUCKET_MS);
    while !bytes.is_empty() {
        ts_ms = ts_ms.wrapping_add(decode_varint(bytes)?.cast_signed());
        visit(ts_ms, ValueRef::decode(bytes)?);
    }
    Some(())
}

fn encode_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

fn decode_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let [byte] = take(bytes)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(ts_ms: i64, value: i64) -> TelemetryItem<'static> {
        TelemetryItem {
            ts_ms,
            key: "k",
            value: Some(ValueRef::Long(value)),
        }
    }

    fn blocks(points: &[TelemetryItem<'_>]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut blocks = Vec::new();
        encode_blocks(DeviceId(7), "k", points, 5, &mut |row, value| {
            blocks.push((row, value))
        });
        blocks
    }

    #[test]
    fn blocks_keep_points_and_sort_by_time() {
        let times = [
            i64::MIN,
            -1,
            0,
            1,
            BUCKET_MS - 1,
            BUCKET_MS,
            1_700_000_000_000,
            i64::MAX,
        ];
        let points: Vec<_> = (0..).zip(times).map(|(i, ts)| point(ts, i)).collect();
        let blocks = blocks(&points);
        assert!(blocks.is_sorted(), "rows sort as their times do");
        let mut found = Vec::new();
        for (row, value) in &blocks {
            assert!(row.starts_with(&series_prefix(DeviceId(7), "k")));
            let (key, bucket) = parse_row_key(row).unwrap();
            assert_eq!(key, "k");
            decode_block(bucket, value, &mut |ts, value| {
                found.push((ts, value.to_value()))
            })
            .unwrap();
        }
        let expected: Vec<_> = points
            .iter()
            .map(|p| (p.ts_ms, p.value.unwrap().to_value()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_last_of_a_time_counts_and_long_series_are_split() {
        let blocks_of_two = blocks(&[point(1, 1), point(1, 2), point(2, 3)]);
        let mut found = Vec::new();
        decode_block(0, &blocks_of_two[0].1, &mut |ts, value| {
            found.push((ts, value.to_value()))
        });
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].1, ValueRef::Long(2).to_value());

        let many: Vec<_> = (0..20_000).map(|i| point(i, i)).collect();
        let blocks = blocks(&many);
        assert!(blocks.len() > 2 && blocks.is_sorted());
        assert!(
            blocks
                .iter()
                .all(|(_, value)| value.len() < BLOCK_BYTES + 64)
        );
    }

    #[test]
    fn damaged_blocks_are_noticed() {
        let (_, value) = blocks(&[point(1, 1), point(2, 2)]).remove(0);
        for cut in 0..value.len() {
            let whole = decode_block(0, &value[..cut], &mut |_, _| ());
            // A block may end behind any of its points.
            assert_eq!(whole.is_some(), cut == 1 || cut == 11, "{cut}");
        }
        assert_eq!(decode_block(0, &[VERSION, 0xff], &mut |_, _| ()), None);
        assert_eq!(parse_row_key(&[0; 20]), None);
    }
}
