//! Damaged files of the database: every start ends in data as they were or in an error that names
//! the directory and the remedy. A child process opens them, as the database ends the process over
//! some of them.

use crate::settings;
use std::path::{Path, PathBuf};
use std::process::Command;
use tidegate::random::{Random, SeededRandom};
use tidegate::registry::{DeviceId, NewDevice, Registry};
use tidegate::store::embedded::{Opened, open};
use tidegate::store::{Batch, HistoryQuery, Order, Store, StoreError, Value, ValueRef};

const OPENED_DIRECTORY: &str = "TIDEGATE_TEST_STORE_OPENED";
const POINTS: i64 = 3000;

/// Not a test of its own: opens a directory and says what it found.
#[test]
fn opener() {
    let Some(directory) = std::env::var_os(OPENED_DIRECTORY) else {
        return;
    };
    let Opened {
        store, registry, ..
    } = match open(Path::new(&directory), &settings()) {
        Ok(opened) => opened,
        Err(error) => {
            eprintln!("error: {error}");
            std::process::exit(1);
        }
    };
    let all = HistoryQuery {
        limit: usize::MAX,
        order: Order::Ascending,
        ..HistoryQuery::default()
    };
    let found = store
        .history(DeviceId(1), "k", all)
        .unwrap_or_else(|error| {
            eprintln!("error: {error}");
            std::process::exit(1);
        });
    let whole = registry.len() == 50
        && found.len() == usize::try_from(POINTS).unwrap()
        && (0..)
            .zip(&found)
            .all(|(ts, point)| point.ts_ms == ts && point.value == Value::Long(ts));
    println!(
        "found {} devices, {} points: {whole}",
        registry.len(),
        found.len()
    );
}

fn fill(directory: &Path) {
    let Opened {
        store, registry, ..
    } = open(directory, &settings()).unwrap();
    for i in 0..50 {
        let device = NewDevice {
            name: format!("device {i}"),
            ..NewDevice::default()
        };
        registry.add(device).unwrap();
    }
    for group in 0..POINTS / 10 {
        let mut batch = Batch::new();
        for ts in group * 10..group * 10 + 10 {
            batch
                .push_telemetry(DeviceId(1), ts, "k", ValueRef::Long(ts))
                .unwrap();
        }
        let (sender, receiver) = std::sync::mpsc::channel();
        let done = move |result: Result<(), &StoreError>| sender.send(result.is_ok()).unwrap();
        store.append(batch, Box::new(done)).ok().unwrap();
        assert!(receiver.recv().unwrap());
    }
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            files.extend(files_below(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files.sort();
    files
}

fn copy_directory(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy_directory(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_damaged_database_is_data_or_a_clear_error() {
    let original = tempfile::TempDir::new().unwrap();
    fill(original.path());
    // Once more, so that what the journal held is in tables as well.
    drop(open(original.path(), &settings()).unwrap());
    let mut random = SeededRandom::new(3);
    let (mut errors, mut rounds) = (0, 0);
    for file in files_below(&original.path().join("db")) {
        let relative = file.strip_prefix(original.path()).unwrap();
        for damage in 0..5 {
            let copy = tempfile::TempDir::new().unwrap();
            copy_directory(original.path(), copy.path());
            if !apply(damage, &copy.path().join(relative), &mut random) {
                continue;
            }
            rounds += 1;
            let output = Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "damage::opener",
                    "--nocapture",
                    "--test-threads=1",
                ])
                .env(OPENED_DIRECTORY, copy.path())
                .output()
                .unwrap();
            let (out, err) = (
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr),
            );
            let what = format!("{} with damage {damage}: {out}{err}", relative.display());
            match out.lines().find(|line| line.contains("found ")) {
                Some(found) => assert!(found.ends_with("true"), "{what}"),
                None => {
                    errors += 1;
                    let named = err.contains(&copy.path().display().to_string())
                        || err.contains("stored data cannot be read");
                    assert!(err.contains("error: ") && named, "{what}");
                }
            }
        }
    }
    println!("{errors} errors in {rounds} rounds");
    assert!(errors > rounds / 5, "{errors} of {rounds}");
}

/// Damages a file; `false` when there is nothing to damage.
fn apply(damage: u32, file: &Path, random: &mut SeededRandom) -> bool {
    let mut bytes = std::fs::read(file).unwrap();
    if bytes.is_empty() && damage != 1 {
        return false;
    }
    let mut below = |length: usize| usize::try_from(random.below(length as u64)).unwrap();
    match damage {
        0 => bytes.clear(),
        1 => return std::fs::remove_file(file).is_ok(),
        2 => bytes.truncate(below(bytes.len())),
        _ => {
            let at = below(bytes.len());
            bytes[at] ^= 1 << below(8);
        }
    }
    std::fs::write(file, bytes).unwrap();
    true
}
