//! Readings that are removed.

use super::*;
use crate::store::embedded::series::BUCKET_MS;

fn removals(times: impl IntoIterator<Item = i64>) -> Batch {
    let mut batch = Batch::new();
    for ts_ms in times {
        batch.remove_telemetry(DEVICE, ts_ms, "k").unwrap();
    }
    batch
}

fn series(times: impl IntoIterator<Item = i64>) -> Batch {
    let mut batch = Batch::new();
    for ts_ms in times {
        let value = ValueRef::Long(ts_ms);
        batch.push_telemetry(DEVICE, ts_ms, "k", value).unwrap();
    }
    batch
}

fn times(store: &EmbeddedStore, query: HistoryQuery) -> Vec<i64> {
    let found = history(store, query);
    found.into_iter().map(|(ts_ms, _)| ts_ms).collect()
}

/// Removed readings are gone wherever they are, others stay, and limits count what is left.
fn check(store: &EmbeddedStore) {
    assert_eq!(times(store, ALL), [0, 3, 4, BUCKET_MS + 1, BUCKET_MS + 9]);
    for limit in 1..=5 {
        let ascending = HistoryQuery { limit, ..ALL };
        assert_eq!(times(store, ascending), times(store, ALL)[..limit]);
        let order = Order::Descending;
        let newest: Vec<_> = times(store, HistoryQuery { order, ..ALL })[..limit].to_vec();
        let descending = HistoryQuery {
            limit,
            order,
            ..ALL
        };
        assert_eq!(times(store, descending), newest, "{limit}");
    }
    let latest = store.latest(DEVICE).unwrap();
    assert_eq!(latest.len(), 1, "{latest:?}");
    assert_eq!(latest[0].1.ts_ms, BUCKET_MS + 9);
}

fn fill(store: &EmbeddedStore) -> Batch {
    let times = (0..5).chain([BUCKET_MS + 1, BUCKET_MS + 5, BUCKET_MS + 9, BUCKET_MS + 10]);
    append(store, series(times)).unwrap();
    let other = readings(&[(1, "gone", ValueRef::Bool(true))]);
    append(store, other).unwrap();
    let mut removed = removals([1, 2, BUCKET_MS + 5, BUCKET_MS + 10, 77]);
    removed.remove_telemetry(DEVICE, 1, "gone").unwrap();
    removed
}

#[test]
fn removed_readings_are_gone_from_head_log_and_database() {
    let directory = TempDir::new().unwrap();
    let opened = open(directory.path(), &settings()).unwrap();
    let removed = fill(&opened.store);
    append(&opened.store, removed).unwrap();
    check(&opened.store);
    // The end of a store flushes; the log is read where there was no end.
    drop(opened);
    let opened = open(directory.path(), &settings()).unwrap();
    check(&opened.store);
}

#[test]
fn what_is_in_the_database_already_is_removed_from_it() {
    let directory = TempDir::new().unwrap();
    let opened = open(directory.path(), &restless()).unwrap();
    let removed = fill(&opened.store);
    wait_for_flush(&opened.store);
    let before = opened.store.status().series_bytes;
    append(&opened.store, removed.clone()).unwrap();
    check(&opened.store);
    wait_for_flush(&opened.store);
    check(&opened.store);
    // Twice is once.
    append(&opened.store, removed).unwrap();
    wait_for_flush(&opened.store);
    check(&opened.store);
    // A row of what is left for each bucket, and none of the key that has nothing any more.
    let rows = opened.store.tables.device_series_rows(DEVICE, 100).unwrap();
    assert_eq!(rows.len(), 2);
    drop(opened);
    let opened = open(directory.path(), &restless()).unwrap();
    check(&opened.store);
    append(&opened.store, series([2])).unwrap();
    wait_for_flush(&opened.store);
    assert_eq!(
        times(&opened.store, ALL)[..2],
        [0, 2],
        "a removed time can come again"
    );
    assert!(opened.store.status().series_bytes < before);
}

#[test]
fn a_reading_that_comes_after_its_removal_stays() {
    let directory = TempDir::new().unwrap();
    let opened = open(directory.path(), &restless()).unwrap();
    append(&opened.store, series([1, 2])).unwrap();
    wait_for_flush(&opened.store);
    let mut both = removals([1, 2]);
    both.push_telemetry(DEVICE, 2, "k", ValueRef::Long(5))
        .unwrap();
    append(&opened.store, both).unwrap();
    assert_eq!(history(&opened.store, ALL), [(2, 5)]);
    wait_for_flush(&opened.store);
    assert_eq!(history(&opened.store, ALL), [(2, 5)]);
}
