//! The embedded store against SIGKILL: what was acknowledged is there, and nothing else.
//!
//! A child process (this test binary, started again) appends under load and prints what was
//! acknowledged. The parent kills it at a random moment, opens the data directory, compares, and
//! starts the next child on the same directory; the small head and segments put flushes, rotations
//! and removals of segments under the knife, and a child that dies early its recovery.

mod damage;
mod measure;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tidegate::random::{Random, SeededRandom};
use tidegate::registry::DeviceId;
use tidegate::store::embedded::{Opened, StoreSettings, open};
use tidegate::store::{
    AttributeScope, Batch, HistoryQuery, Order, Overloaded, Store, StoreError, Value, ValueRef,
};

const KILLS: usize = 40;
const DEVICES: u64 = 8;
const CHILD_DIRECTORY: &str = "TIDEGATE_TEST_STORE_CHILD";

fn settings() -> StoreSettings {
    StoreSettings {
        segment_bytes: 64 << 10,
        head_bytes_max: 128 << 10,
        flush_interval: Duration::from_millis(50),
        commit_interval: Duration::from_micros(500),
        ..StoreSettings::default()
    }
}

/// The text stored with number `n`: its length varies, so that groups end everywhere.
fn text(n: i64) -> String {
    let length = usize::try_from(n.rem_euclid(97)).unwrap();
    format!("{n}:{}", "x".repeat(length))
}

/// Not a test of its own: the child that is killed.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(CHILD_DIRECTORY) else {
        return;
    };
    let Opened { store, .. } = open(Path::new(&directory), &settings()).unwrap();
    let (acknowledge, acknowledged) = mpsc::channel::<(u64, i64)>();
    std::thread::spawn(move || {
        let mut out = std::io::stdout().lock();
        while let Ok((device, n)) = acknowledged.recv() {
            writeln!(out, "ack {device} {n}").unwrap();
            out.flush().unwrap();
        }
    });
    std::thread::scope(|scope| {
        for device in 0..DEVICES {
            let (store, acknowledge) = (&*store, acknowledge.clone());
            scope.spawn(move || append_for_ever(store, DeviceId(device), &acknowledge));
        }
    });
}

fn append_for_ever(store: &dyn Store, device: DeviceId, acknowledge: &mpsc::Sender<(u64, i64)>) {
    let newest = HistoryQuery {
        limit: 1,
        ..HistoryQuery::default()
    };
    let last = store.history(device, "text", newest).unwrap();
    let first = last.first().map_or(0, |point| point.ts_ms + 1);
    let in_flight = Arc::new(AtomicI64::new(0));
    for n in first.. {
        while in_flight.load(Ordering::SeqCst) >= 16 {
            std::thread::sleep(Duration::from_micros(200));
        }
        in_flight.fetch_add(1, Ordering::SeqCst);
        let mut batch = Batch::new();
        batch
            .push_telemetry(device, n, "n", ValueRef::Long(n))
            .unwrap();
        batch
            .push_telemetry(device, n, "text", ValueRef::String(&text(n)))
            .unwrap();
        let scope = AttributeScope::Client;
        batch
            .push_attribute(device, scope, "last", n, ValueRef::Long(n))
            .unwrap();
        let (done, acknowledge) = (Arc::clone(&in_flight), acknowledge.clone());
        let completion = move |result: Result<(), &StoreError>| {
            result.unwrap();
            done.fetch_sub(1, Ordering::SeqCst);
            acknowledge.send((device.0, n)).unwrap();
        };
        if let Err(Overloaded(_)) = store.append(batch, Box::new(completion)) {
            // Not taken: this number stays out, and is not acknowledged.
            in_flight.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn start_child(directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(CHILD_DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn what_was_acknowledged_survives_sigkill() {
    let directory = tempfile::TempDir::new().unwrap();
    let mut random = SeededRandom::new(7);
    let mut acknowledged: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
    let mut with_acknowledgements = 0;
    for kill in 0..KILLS {
        let mut child = start_child(directory.path());
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            let lines = stdout.lines().map_while(Result::ok);
            lines
                .filter_map(|line| {
                    let (device, n) = line.strip_prefix("ack ")?.split_once(' ')?;
                    Some((device.parse().ok()?, n.parse().ok()?))
                })
                .collect::<Vec<(u64, i64)>>()
        });
        // Some die while they open the directory, most in the middle of it all.
        let life = if kill < 3 || kill % 8 == 7 {
            random.below(30)
        } else {
            50 + random.below(400)
        };
        std::thread::sleep(Duration::from_millis(life));
        child.kill().unwrap();
        child.wait().unwrap();
        let new = reader.join().unwrap();
        with_acknowledgements += usize::from(!new.is_empty());
        for (device, n) in new {
            acknowledged.entry(device).or_default().push(n);
        }
        // Looking opens and closes the directory, which tidies it: not after every kill.
        if kill % 3 == 2 || kill + 1 == KILLS {
            check(directory.path(), &acknowledged, kill);
        }
    }
    let total: usize = acknowledged.values().map(Vec::len).sum();
    println!("{total} acknowledged over {KILLS} kills, {with_acknowledgements} with any");
    assert!(
        with_acknowledgements > KILLS / 2,
        "the children did too little: {with_acknowledgements}"
    );
}

fn check(directory: &Path, acknowledged: &BTreeMap<u64, Vec<i64>>, kill: usize) {
    let Opened { store, .. } = open(directory, &settings()).unwrap();
    for (&device, numbers) in acknowledged {
        let all = HistoryQuery {
            limit: usize::MAX,
            order: Order::Ascending,
            ..HistoryQuery::default()
        };
        let mut found: BTreeMap<i64, u8> = BTreeMap::new();
        for point in store.history(DeviceId(device), "n", all).unwrap() {
            assert_eq!(point.value, Value::Long(point.ts_ms), "kill {kill}");
            *found.entry(point.ts_ms).or_default() |= 1;
        }
        for point in store.history(DeviceId(device), "text", all).unwrap() {
            let expected = Value::String(text(point.ts_ms).into());
            assert_eq!(point.value, expected, "kill {kill}");
            *found.entry(point.ts_ms).or_default() |= 2;
        }
        for (n, parts) in &found {
            assert_eq!(
                *parts, 3,
                "kill {kill}: device {device} has half of upload {n}"
            );
        }
        for n in numbers {
            assert!(
                found.contains_key(n),
                "kill {kill}: device {device} lost {n}"
            );
        }
        let attributes = store
            .attributes(DeviceId(device), AttributeScope::Client, Some(&["last"]))
            .unwrap();
        let newest = found.last_key_value().map(|(n, _)| Value::Long(*n));
        assert_eq!(
            attributes.first().map(|a| a.value.clone()),
            newest,
            "kill {kill}"
        );
    }
}

#[test]
fn an_export_of_a_killed_store_ends() {
    let directory = tempfile::TempDir::new().unwrap();
    let mut child = start_child(directory.path());
    std::thread::sleep(Duration::from_millis(400));
    child.kill().unwrap();
    child.wait().unwrap();
    let Opened { store, .. } = open(directory.path(), &settings()).unwrap();
    for device in 0..DEVICES {
        let mut points = 0_u64;
        let export = store.export(DeviceId(device), &mut |_, _| {
            points += 1;
            ControlFlow::Continue(())
        });
        export.unwrap();
        assert_eq!(points % 2, 0, "uploads are whole");
    }
}
