//! The fuzz targets without a fuzzer: their corpora, and a fixed number of changes to them that a
//! seed decides. `make fuzz` runs the same targets under libFuzzer.

#![allow(
    clippy::cast_possible_truncation,
    reason = "small numbers of a test's dice"
)]

mod live;
mod mutate;
mod seeds;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use tidegate::random::SeededRandom;

use mutate::mutate;

type Target = fn(&[u8]);

/// Each target with the number of changed inputs that a plain test run tries.
const TARGETS: [(&str, Target, usize); 6] = [
    ("record", tidegate::dtls::fuzzing::record, 10_000),
    (
        "handshake_message",
        tidegate::dtls::fuzzing::handshake_message,
        30_000,
    ),
    ("client_hello", tidegate::dtls::fuzzing::client_hello, 5000),
    ("certificate", tidegate::dtls::fuzzing::certificate, 20_000),
    ("coap_message", tidegate::coap::fuzzing::message, 30_000),
    ("datagrams", live::datagrams, 2000),
];

/// Bounds of a committed corpus.
const FILES_MAX: usize = 200;
const BYTES_MAX: usize = 200_000;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(target)
}

/// The corpus of a target, in the order of the file names.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = folder(target);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| {
            let path = entry.expect("a directory entry").path();
            let bytes = fs::read(&path).expect("a readable file");
            (path.display().to_string(), bytes)
        })
        .collect();
    files.sort();
    assert!(files.len() >= 8, "{target} has no corpus");
    files
}

/// Runs one input, and prints it when it fails.
fn execute(name: &str, target: Target, input: &[u8], origin: &str) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        eprintln!("{name} failed on {origin}: {hex}");
        resume_unwind(panic);
    }
}

#[test]
fn every_corpus_is_replayed() {
    for (name, target, _) in TARGETS {
        let files = corpus(name);
        let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(
            files.len() <= FILES_MAX && bytes <= BYTES_MAX,
            "{name} has {} files and {bytes} bytes: minimise it",
            files.len()
        );
        for (path, input) in &files {
            execute(name, target, input, path);
        }
    }
}

/// The same number of executions with the same inputs everywhere; `TIDEGATE_FUZZ_SEED` chooses
/// others, `TIDEGATE_FUZZ_FACTOR` more of them.
#[test]
fn changed_inputs_break_nothing() {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let seed = number("TIDEGATE_FUZZ_SEED", 1);
    let factor = number("TIDEGATE_FUZZ_FACTOR", 1) as usize;
    for (name, target, executions) in TARGETS {
        let files = corpus(name);
        let mut random = SeededRandom::new(seed);
        for execution in 0..executions * factor {
            let input = mutate(&files, &mut random);
            execute(name, target, &input, &format!("seed {seed}, {execution}"));
        }
    }
}

/// Writes the first inputs of each corpus: what our own ends say to each other. Run by hand when the
/// protocol grows: `cargo test --test fuzz -- --ignored`; the fuzzer does the rest.
#[test]
#[ignore = "writes into the source tree"]
fn write_seeds() {
    for (target, name, bytes) in seeds::all() {
        fs::create_dir_all(folder(target)).expect("a folder");
        fs::write(folder(target).join(name), bytes).expect("a file");
    }
}
