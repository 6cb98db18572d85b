#![allow(
    clippy::disallowed_methods,
    reason = "deadlines of the tests themselves"
)]

mod failures;
mod removal;
mod retention;

use super::*;
use crate::registry::{NewCredential, NewDevice, Registry};
use crate::store::{Value, ValueRef};
use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc;
use tempfile::TempDir;

const DEVICE: DeviceId = DeviceId(7);
const WAIT: Duration = Duration::from_secs(30);

fn settings() -> StoreSettings {
    StoreSettings {
        commit_interval: Duration::ZERO,
        ..StoreSettings::default()
    }
}

/// Flushes after every group, in small segments.
fn restless() -> StoreSettings {
    StoreSettings {
        head_bytes_max: 1 << 20,
        flush_interval: Duration::from_millis(20),
        segment_bytes: 4096,
        ..settings()
    }
}

fn readings(points: &[(i64, &str, ValueRef<'_>)]) -> Batch {
    let mut batch = Batch::new();
    for &(ts_ms, key, value) in points {
        batch.push_telemetry(DEVICE, ts_ms, key, value).unwrap();
    }
    batch
}

/// Appends and waits for the completion.
fn append(store: &EmbeddedStore, batch: Batch) -> Result<(), StoreError> {
    let (sender, receiver) = mpsc::channel();
    let completion = move |result: Result<(), &StoreError>| {
        sender.send(result.map_err(StoreError::clone)).unwrap();
    };
    match store.append(batch, Box::new(completion)) {
        Ok(()) => receiver
            .recv_timeout(WAIT)
            .expect("every batch is completed"),
        Err(Overloaded(_)) => Err(StoreError::Overloaded),
    }
}

fn wait_for_flush(store: &EmbeddedStore) {
    let deadline = std::time::Instant::now() + WAIT;
    while store.status().checkpoint != store.status().sequence {
        assert!(std::time::Instant::now() < deadline, "{:?}", store.status());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn longs(points: Vec<Point>) -> Vec<(i64, i64)> {
    points
        .into_iter()
        .map(|point| match point.value {
            Value::Long(value) => (point.ts_ms, value),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn history(store: &EmbeddedStore, query: HistoryQuery) -> Vec<(i64, i64)> {
    longs(store.history(DEVICE, "k", query).unwrap())
}

const ALL: HistoryQuery = HistoryQuery {
    from_ms: i64::MIN,
    to_ms: i64::MAX,
    limit: usize::MAX,
    order: Order::Ascending,
};

fn log_files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(directory.join("log"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

#[test]
fn values_of_every_type_come_back_from_head_log_and_database() {
    let directory = TempDir::new().unwrap();
    let values = [
        ("b", ValueRef::Bool(true)),
        ("d", ValueRef::Double(25.5)),
        ("j", ValueRef::Json("{\"a\":[1]}")),
        ("l", ValueRef::Long(-7)),
        ("s", ValueRef::String("ä\n")),
        ("ä\u{0}", ValueRef::Bool(false)),
    ];
    let check = |store: &EmbeddedStore| {
        let latest = store.latest(DEVICE).unwrap();
        let found: Vec<_> = latest
            .iter()
            .map(|(key, point)| (&**key, point.ts_ms, point.value.as_ref()))
            .collect();
        let expected: Vec<_> = values
            .iter()
            .map(|(key, value)| (*key, 5, *value))
            .collect();
        assert_eq!(found, expected);
    };
    {
        let opened = open(directory.path(), &settings()).unwrap();
        let points = values.map(|(key, value)| (5, key, value));
        append(&opened.store, readings(&points)).unwrap();
        check(&opened.store);
        // As if the process had been killed: what is on disk now is opened elsewhere.
        let copy = TempDir::new().unwrap();
        copy_directory(directory.path(), copy.path());
        let recovered = open(copy.path(), &settings()).unwrap();
        check(&recovered.store);
    }
    let reopened = open(directory.path(), &settings()).unwrap();
    assert_eq!(reopened.store.status().head_bytes, 0, "closing flushes");
    check(&reopened.store);
    assert!(reopened.store.latest(DeviceId(8)).unwrap().is_empty());
}

#[test]
fn history_joins_head_and_database_in_order_and_within_bounds() {
    let directory = TempDir::new().unwrap();
    let hour = 3_600_000_i64;
    let times = [
        i64::MIN,
        -hour - 1,
        -1,
        0,
        1,
        hour - 1,
        hour,
        5 * hour,
        99 * hour,
        i64::MAX,
    ];
    let opened = open(directory.path(), &restless()).unwrap();
    let store = &opened.store;
    // Every second one into the database first, the rest stays in the head.
    for parity in [0, 1] {
        for (index, ts) in (0..).zip(times) {
            if index % 2 == parity {
                append(store, readings(&[(ts, "k", ValueRef::Long(index))])).unwrap();
            }
        }
        if parity == 0 {
            wait_for_flush(store);
        }
    }
    let all: Vec<_> = times.into_iter().zip(0..).collect();
    assert_eq!(history(store, ALL), all);
    for order in [Order::Ascending, Order::Descending] {
        for limit in 0..=times.len() + 1 {
            for (from_ms, to_ms) in [
                (i64::MIN, i64::MAX),
                (-1, hour),
                (2, 3),
                (1, 0),
                (hour, hour),
            ] {
                let query = HistoryQuery {
                    from_ms,
                    to_ms,
                    limit,
                    order,
                };
                let mut expected: Vec<_> = all
                    .iter()
                    .copied()
                    .filter(|(ts, _)| (from_ms..=to_ms).contains(ts))
                    .collect();
                if order == Order::Descending {
                    expected.reverse();
                }
                expected.truncate(limit);
                assert_eq!(history(store, query), expected, "{query:?}");
            }
        }
    }
    assert!(store.history(DEVICE, "other", ALL).unwrap().is_empty());
}

#[test]
fn a_time_sent_again_replaces_the_value_wherever_it_is() {
    let directory = TempDir::new().unwrap();
    let opened = open(directory.path(), &restless()).unwrap();
    for value in 0..5 {
        append(&opened.store, readings(&[(10, "k", ValueRef::Long(value))])).unwrap();
        assert_eq!(history(&opened.store, ALL), [(10, value)]);
        wait_for_flush(&opened.store);
        assert_eq!(history(&opened.store, ALL), [(10, value)]);
    }
}

#[test]
fn an_export_pages_through_every_series() {
    let directory = TempDir::new().unwrap();
    let opened = open(directory.path(), &settings()).unwrap();
    let count = i64::try_from(EXPORT_PAGE).unwrap() * 2 + 1;
    let mut batch = Batch::new();
    for ts in 0..count {
        batch
            .push_telemetry(DEVICE, ts, "k", ValueRef::Long(ts))
            .unwrap();
    }
    batch
        .push_telemetry(DEVICE, 3, "z", ValueRef::Bool(true))
        .unwrap();
    append(&opened.store, batch).unwrap();
    let mut found = BTreeMap::<String, Vec<i64>>::new();
    let export = opened.store.export(DEVICE, &mut |key, point| {
        found.entry(key.into()).or_default().push(point.ts_ms);
        ControlFlow::Continue(())
    });
    export.unwrap();
    assert_eq!(found["k"], (0..count).collect::<Vec<_>>());
    assert_eq!(found["z"], [3]);
    let mut seen = 0;
    let stopped = opened.store.export(DEVICE, &mut |_, _| {
        seen += 1;
        if seen == 10 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    stopped.unwrap();
    assert_eq!(seen, 10);
}

#[test]
fn attributes_are_read_by_scope_and_key_from_anywhere() {
    let directory = TempDir::new().unwrap();
    let set = |scope, key: &str, ts, value| {
        let mut batch = Batch::new();
        batch.push_attribute(DEVICE, scope, key, ts, value).unwrap();
        batch
    };
    let texts = |store: &EmbeddedStore, scope, keys: Option<&[&str]>| -> String {
        let mut out = String::new();
        for attribute in store.attributes(DEVICE, scope, keys).unwrap() {
            out += &format!("{}@{}=", attribute.key, attribute.updated_ms);
            attribute.value.write_json(&mut out);
            out.push(' ');
        }
        out
    };
    let (client, shared) = (AttributeScope::Client, AttributeScope::Shared);
    {
        let opened = open(directory.path(), &restless()).unwrap();
        let store = &opened.store;
        assert_eq!(texts(store, client, None), "");
        append(store, set(client, "b", 1, ValueRef::Long(1))).unwrap();
        append(store, set(client, "a", 2, ValueRef::Double(42.0))).unwrap();
        append(store, set(shared, "a", 3, ValueRef::Bool(true))).unwrap();
        assert_eq!(texts(store, client, None), "a@2=42.0 b@1=1 ");
        wait_for_flush(store);
        append(store, set(client, "b", 4, ValueRef::String("x"))).unwrap();
        assert_eq!(texts(store, client, None), "a@2=42.0 b@4=\"x\" ");
        assert_eq!(
            texts(store, client, Some(&["b", "nope", "b", "a"])),
            "a@2=42.0 b@4=\"x\" "
        );
        assert_eq!(texts(store, client, Some(&["b"])), "b@4=\"x\" ");
        assert_eq!(texts(store, client, Some(&[])), "");
        assert_eq!(texts(store, shared, None), "a@3=true ");
        assert_eq!(texts(store, AttributeScope::Server, None), "");
        let mut removal = Batch::new();
        removal.remove_attribute(DEVICE, client, "a", 5).unwrap();
        append(store, removal).unwrap();
        assert_eq!(texts(store, client, None), "b@4=\"x\" ");
    }
    let reopened = open(directory.path(), &settings()).unwrap();
    assert_eq!(texts(&reopened.store, client, None), "b@4=\"x\" ");
    assert_eq!(texts(&reopened.store, shared, Some(&["a"])), "a@3=true ");
}

#[test]
fn the_attribute_cache_stays_within_its_bounds() {
    let directory = TempDir::new().unwrap();
    let cache = StoreSettings {
        attribute_cache_bytes: 64 * 4096,
        ..restless()
    };
    let opened = open(directory.path(), &cache).unwrap();
    for device in 0..5000 {
        let mut batch = Batch::new();
        let value = ValueRef::Long(i64::try_from(device).unwrap());
        batch
            .push_attribute(DeviceId(device), AttributeScope::Client, "k", 1, value)
            .unwrap();
        opened
            .store
            .append(batch, Box::new(|_: Result<(), &StoreError>| ()))
            .ok()
            .unwrap();
    }
    append(&opened.store, readings(&[(1, "k", ValueRef::Bool(true))])).unwrap();
    for round in 0..2 {
        for device in 0..5000 {
            let found = opened
                .store
                .attributes(DeviceId(device), AttributeScope::Client, None)
                .unwrap();
            let value = Value::Long(i64::try_from(device).unwrap());
            assert_eq!(
                found.first().map(|a| &a.value),
                Some(&value),
                "{round} {device}"
            );
        }
        assert!(opened.store.head.cached_bytes() <= 64 * 4096);
        assert!(opened.store.head.cached_bytes() > 64 * 1024);
        wait_for_flush(&opened.store);
    }
}

#[test]
fn a_removed_device_leaves_nothing() {
    let directory = TempDir::new().unwrap();
    let reading = || readings(&[(1, "k", ValueRef::Long(1))]);
    let removal = || {
        let mut batch = Batch::new();
        batch.remove_device(DEVICE);
        batch
    };
    {
        let opened = open(directory.path(), &restless()).unwrap();
        let store = &opened.store;
        let mut batch = reading();
        let scope = AttributeScope::Client;
        batch
            .push_attribute(DEVICE, scope, "a", 1, ValueRef::Long(1))
            .unwrap();
        append(store, batch).unwrap();
        wait_for_flush(store);
        assert_eq!(store.attributes(DEVICE, scope, None).unwrap().len(), 1);
        append(store, removal()).unwrap();
        assert!(store.latest(DEVICE).unwrap().is_empty());
        assert!(store.attributes(DEVICE, scope, None).unwrap().is_empty());
        append(store, readings(&[(2, "k", ValueRef::Long(2))])).unwrap();
        assert_eq!(history(store, ALL), [(2, 2)]);
        wait_for_flush(store);
        assert_eq!(history(store, ALL), [(2, 2)]);
        assert!(store.attributes(DEVICE, scope, None).unwrap().is_empty());
        append(store, removal()).unwrap();
    }
    let reopened = open(directory.path(), &settings()).unwrap();
    assert!(reopened.store.latest(DEVICE).unwrap().is_empty());
    let tables = &reopened.store.tables;
    let rows = tables.device_series_rows(DEVICE, 10).unwrap();
    assert!(rows.is_empty(), "nothing is left in the database");
    assert!(tables.device_attribute_rows(DEVICE, 10).unwrap().is_empty());
}

#[test]
fn segments_go_once_the_database_has_them() {
    let directory = TempDir::new().unwrap();
    let opened = open(directory.path(), &restless()).unwrap();
    let text = "x".repeat(1000);
    for ts in 0..400 {
        append(
            &opened.store,
            readings(&[(ts, "k", ValueRef::String(&text))]),
        )
        .unwrap();
    }
    wait_for_flush(&opened.store);
    append(&opened.store, readings(&[(400, "k", ValueRef::Bool(true))])).unwrap();
    wait_for_flush(&opened.store);
    let files = log_files(directory.path());
    assert!(
        files.len() <= 2,
        "100 kB in segments of 4 kB, yet: {files:?}"
    );
    assert_eq!(opened.store.latest(DEVICE).unwrap()[0].1.ts_ms, 400);
    let all = opened.store.history(DEVICE, "k", ALL).unwrap();
    assert_eq!(all.len(), 401);
}

#[test]
fn a_second_opener_is_told_who_has_the_directory() {
    let directory = TempDir::new().unwrap();
    let opened = open(directory.path(), &settings()).unwrap();
    let refused = open(directory.path(), &settings())
        .map(drop)
        .unwrap_err()
        .to_string();
    let pid = std::process::id();
    assert!(
        refused.contains(&format!("in use by process {pid}")),
        "{refused}"
    );
    assert!(refused.contains(&directory.path().display().to_string()));
    // The registry alone keeps the directory, and so do the packages.
    let Opened {
        registry,
        store,
        packages,
    } = opened;
    drop(store);
    assert!(open(directory.path(), &settings()).is_err());
    drop(registry);
    assert!(open(directory.path(), &settings()).is_err());
    drop(packages);
    open(directory.path(), &settings()).unwrap();
}

#[test]
fn a_directory_of_another_format_is_left_alone() {
    let directory = TempDir::new().unwrap();
    {
        let opened = open(directory.path(), &settings()).unwrap();
        append(&opened.store, readings(&[(1, "k", ValueRef::Long(1))])).unwrap();
    }
    let format = directory.path().join("FORMAT");
    std::fs::write(&format, "tidegate-data 99\n").unwrap();
    let refused = open(directory.path(), &settings())
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("tidegate-data 99") && refused.contains("FORMAT"),
        "{refused}"
    );
    std::fs::remove_file(&format).unwrap();
    let refused = open(directory.path(), &settings())
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(refused.contains("is missing"), "{refused}");
}

#[test]
fn the_directory_is_closed_to_others() {
    use std::os::unix::fs::PermissionsExt;
    let parent = TempDir::new().unwrap();
    let directory = parent.path().join("a/b");
    drop(open(&directory, &settings()).unwrap());
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&directory.join("log")), 0o700);
    assert_eq!(mode(&directory.join("LOCK")), 0o600);
}

#[test]
fn a_closed_store_says_so() {
    let directory = TempDir::new().unwrap();
    let opened = open(directory.path(), &settings()).unwrap();
    opened.store.close();
    opened.store.close();
    let batch = readings(&[(1, "k", ValueRef::Long(1))]);
    assert_eq!(append(&opened.store, batch), Err(StoreError::Closed));
    assert_eq!(opened.store.status().failure, None);
}

#[test]
fn registry_and_store_share_the_directory() {
    let directory = TempDir::new().unwrap();
    let added = {
        let opened = open(directory.path(), &settings()).unwrap();
        let device = NewDevice {
            name: "a".into(),
            profile: None,
            credential: NewCredential::AccessToken("T".into()),
        };
        opened.registry.add(device).unwrap()
    };
    let reopened = open(directory.path(), &settings()).unwrap();
    assert_eq!(reopened.registry.device_by_token("T"), Some(added));
}

/// What a random series of operations must leave, across flushes and restarts, is what a map would
/// hold.
/// A group without records moves the checkpoint as well, so that its segment of the log can go.
#[test]
fn an_empty_group_does_not_hold_the_checkpoint_back() {
    let directory = TempDir::new().unwrap();
    let opened = open(directory.path(), &restless()).unwrap();
    for points in [1, 0] {
        let mut batch = Batch::new();
        for ts in 0..points {
            batch
                .push_telemetry(DEVICE, ts, "k", ValueRef::Long(ts))
                .unwrap();
        }
        append(&opened.store, batch).unwrap();
        wait_for_flush(&opened.store);
    }
    assert_eq!(opened.store.status().checkpoint, 2);
}

#[test]
fn random_operations_agree_with_a_model() {
    use crate::random::{Random, SeededRandom};
    let mut random = SeededRandom::new(42);
    let directory = TempDir::new().unwrap();
    let mut model: BTreeMap<(u64, String, i64), i64> = BTreeMap::new();
    let mut opened = Some(open(directory.path(), &restless()).unwrap());
    for step in 0..600 {
        let store = &opened.as_ref().unwrap().store;
        let device = random.below(4);
        match random.below(100) {
            0..90 => {
                let mut batch = Batch::new();
                for _ in 0..random.below(20) {
                    let key = ["k", "key", "ä", "k2"][usize::try_from(random.below(4)).unwrap()];
                    let ts = i64::try_from(random.below(40)).unwrap() * 900_000 - 5_000_000;
                    let value = ValueRef::Long(step);
                    batch
                        .push_telemetry(DeviceId(device), ts, key, value)
                        .unwrap();
                    model.insert((device, key.into(), ts), step);
                }
                append(store, batch).unwrap();
            }
            90..94 => {
                let mut batch = Batch::new();
                batch.remove_device(DeviceId(device));
                append(store, batch).unwrap();
                model.retain(|(of, _, _), _| *of != device);
            }
            94..97 => wait_for_flush(store),
            _ => {
                drop(opened.take());
                opened = Some(open(directory.path(), &restless()).unwrap());
            }
        }
        if step % 10 == 0 {
            let store = &opened.as_ref().unwrap().store;
            let mut found = BTreeMap::new();
            for device in 0..4 {
                let export = store.export(DeviceId(device), &mut |key, point| {
                    let Value::Long(value) = point.value else {
                        panic!("{point:?}")
                    };
                    found.insert((device, key.to_owned(), point.ts_ms), value);
                    ControlFlow::Continue(())
                });
                export.unwrap();
            }
            assert_eq!(found, model, "step {step}");
        }
    }
}

fn copy_directory(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy_directory(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
