use super::super::segment::{LogWriter, SEGMENT_HEADER_LEN, disk};
use super::*;
use crate::registry::DeviceId;
use crate::store::batch::TelemetryItems;
use crate::store::{Batch, ValueRef};
use std::path::PathBuf;
use tempfile::TempDir;

const DEVICE: DeviceId = DeviceId(1);

/// Writes groups `from..=to`, one reading each whose time is the group's number; gives the length
/// of the first segment after each.
fn write(directory: &Path, from: u64, to: u64, segment_bytes: u64) -> Vec<u64> {
    let mut log = LogWriter::new(directory, from, segment_bytes, disk());
    let first = directory.join(format!("{from:020}.log"));
    (from..=to)
        .map(|sequence| {
            let mut batch = Batch::new();
            let ts = i64::try_from(sequence).unwrap();
            batch
                .push_telemetry(DEVICE, ts, "key", ValueRef::String("value"))
                .unwrap();
            log.begin_frame().extend_from_slice(batch.as_bytes());
            log.commit(batch.records()).unwrap();
            first.metadata().unwrap().len()
        })
        .collect()
}

/// Replays; gives the number of the last group and the times found.
fn replayed(directory: &Path, checkpoint: u64) -> Result<(u64, Vec<i64>), String> {
    let head = Head::new(0);
    let recovered = replay(directory, checkpoint, 0, &head).map_err(|error| error.to_string())?;
    let pieces = head.readings(DEVICE).pieces;
    let times = pieces
        .iter()
        .flat_map(|piece| TelemetryItems(piece))
        .map(|item| item.ts_ms);
    Ok((recovered.last_sequence, times.collect()))
}

fn files(directory: &Path) -> Vec<PathBuf> {
    segment::list(directory)
        .unwrap()
        .into_iter()
        .map(|(_, path)| path)
        .collect()
}

#[test]
fn groups_behind_the_checkpoint_come_back_in_order() {
    for segment_bytes in [1, 200, 1 << 20] {
        for checkpoint in [0, 1, 7, 20] {
            let directory = TempDir::new().unwrap();
            write(directory.path(), 1, 20, segment_bytes);
            let first = i64::try_from(checkpoint).unwrap() + 1;
            let expected: Vec<_> = (first..=20).collect();
            for _ in 0..2 {
                // Again, as after a crash right behind the recovery.
                let found = replayed(directory.path(), checkpoint);
                assert_eq!(found, Ok((20, expected.clone())));
            }
            if checkpoint == 20 {
                assert!(
                    files(directory.path()).is_empty(),
                    "nothing of it is needed"
                );
            }
            // The log goes on behind it.
            write(directory.path(), 21, 22, segment_bytes);
            let more: Vec<_> = (first..=22).collect();
            assert_eq!(replayed(directory.path(), checkpoint), Ok((22, more)));
        }
    }
}

#[test]
fn an_empty_log_goes_on_behind_the_checkpoint() {
    let directory = TempDir::new().unwrap();
    assert_eq!(replayed(directory.path(), 41), Ok((41, vec![])));
    // A start that was killed before its first group, and one while it made a segment.
    write(directory.path(), 42, 42, 1000);
    let path = &files(directory.path())[0];
    std::fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|file| file.set_len(SEGMENT_HEADER_LEN as u64))
        .unwrap();
    std::fs::write(directory.path().join(format!("{:020}.new", 42)), b"TIDE").unwrap();
    assert_eq!(replayed(directory.path(), 41), Ok((41, vec![])));
    assert!(
        std::fs::read_dir(directory.path())
            .unwrap()
            .next()
            .is_none()
    );
}

#[test]
fn a_log_cut_anywhere_keeps_every_whole_group() {
    let original = TempDir::new().unwrap();
    let ends = write(original.path(), 1, 5, 1 << 20);
    let bytes = std::fs::read(&files(original.path())[0]).unwrap();
    for length in SEGMENT_HEADER_LEN..=bytes.len() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join(format!("{:020}.log", 1));
        std::fs::write(&path, &bytes[..length]).unwrap();
        let whole = ends.iter().filter(|&&end| end <= length as u64).count();
        let times: Vec<_> = (1..=i64::try_from(whole).unwrap()).collect();
        let expected = Ok((whole as u64, times));
        assert_eq!(replayed(directory.path(), 0), expected, "cut at {length}");
        // Cut off for good, and writable behind.
        write(directory.path(), whole as u64 + 1, 9, 1 << 20);
        assert_eq!(replayed(directory.path(), 0), Ok((9, (1..=9).collect())));
    }
}

#[test]
fn a_flipped_bit_is_an_error_or_costs_the_last_group_only() {
    let original = TempDir::new().unwrap();
    let ends = write(original.path(), 1, 3, 1 << 20);
    let bytes = std::fs::read(&files(original.path())[0]).unwrap();
    let last_frame = usize::try_from(ends[1]).unwrap();
    for at in 0..bytes.len() {
        for bit in [0, 3, 7] {
            let directory = TempDir::new().unwrap();
            let path = directory.path().join(format!("{:020}.log", 1));
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            std::fs::write(&path, &flipped).unwrap();
            match replayed(directory.path(), 0) {
                Ok(found) => {
                    assert!(
                        at >= last_frame,
                        "byte {at}: damage among acknowledged groups"
                    );
                    assert_eq!(found, (2, vec![1, 2]));
                }
                Err(error) => {
                    assert!(at < last_frame, "byte {at}: {error}");
                    assert!(error.contains(&path.display().to_string()), "{error}");
                    assert!(error.contains("backup"), "{error}");
                }
            }
        }
    }
}

#[test]
fn garbage_behind_the_end_is_cut_off() {
    let directory = TempDir::new().unwrap();
    let ends = write(directory.path(), 1, 3, 1 << 20);
    let path = &files(directory.path())[0];
    let mut bytes = std::fs::read(path).unwrap();
    // What an older segment may have left on the disk: a frame, but under another salt.
    let other = TempDir::new().unwrap();
    write(other.path(), 4, 5, 1 << 20);
    let stale = std::fs::read(&files(other.path())[0]).unwrap();
    bytes.extend_from_slice(&stale[SEGMENT_HEADER_LEN..]);
    bytes.extend_from_slice(&[0; 100]);
    std::fs::write(path, bytes).unwrap();
    assert_eq!(replayed(directory.path(), 0), Ok((3, vec![1, 2, 3])));
    assert_eq!(path.metadata().unwrap().len(), ends[2]);
}

#[test]
fn a_missing_or_foreign_segment_is_named() {
    let directory = TempDir::new().unwrap();
    write(directory.path(), 1, 9, 200);
    let all = files(directory.path());
    assert!(all.len() > 3);
    let hidden = directory.path().join("hidden");
    std::fs::rename(&all[1], &hidden).unwrap();
    let error = replayed(directory.path(), 0).unwrap_err();
    assert!(
        error.contains(&all[2].display().to_string()) && error.contains("missing"),
        "{error}"
    );
    std::fs::rename(&hidden, &all[1]).unwrap();
    // The first is missing, and the checkpoint does not cover it.
    std::fs::rename(&all[0], &hidden).unwrap();
    let error = replayed(directory.path(), 0).unwrap_err();
    assert!(error.contains(&all[1].display().to_string()), "{error}");
    // A segment under another's name.
    std::fs::copy(&all[1], &all[0]).unwrap();
    let error = replayed(directory.path(), 0).unwrap_err();
    assert!(error.contains("does not fit its name"), "{error}");
    // Torn, but not the last.
    std::fs::rename(&hidden, &all[0]).unwrap();
    let bytes = std::fs::read(&all[0]).unwrap();
    std::fs::write(&all[0], &bytes[..bytes.len() - 1]).unwrap();
    let error = replayed(directory.path(), 0).unwrap_err();
    assert!(error.contains(&all[0].display().to_string()), "{error}");
}

#[test]
fn any_bytes_in_place_of_a_segment_are_an_error() {
    use crate::random::{Random, SeededRandom};
    let mut random = SeededRandom::new(1);
    for length in 0..200 {
        let directory = TempDir::new().unwrap();
        let mut bytes = vec![0; length];
        random.fill(&mut bytes);
        std::fs::write(directory.path().join(format!("{:020}.log", 1)), bytes).unwrap();
        let error = replayed(directory.path(), 0).unwrap_err();
        assert!(error.contains("header"), "{error}");
    }
}

#[test]
fn a_spare_that_is_gone_does_not_stop_the_log() {
    let directory = TempDir::new().unwrap();
    let mut log = LogWriter::new(directory.path(), 1, 1 << 20, disk());
    *segment::lock(&log.spare()) = Some(segment::Spare {
        path: directory.path().join("spare.new"),
        length: 1 << 20,
    });
    let mut batch = Batch::new();
    batch
        .push_telemetry(DEVICE, 1, "key", ValueRef::String("value"))
        .unwrap();
    log.begin_frame().extend_from_slice(batch.as_bytes());
    log.commit(batch.records()).unwrap();
    assert_eq!(replayed(directory.path(), 0), Ok((1, vec![1])));
}
