//! Readings go by age and by size, and nothing else does.

use super::*;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

const HOUR_MS: i64 = 3_600_000;

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

fn keeping(retention: Retention) -> StoreSettings {
    StoreSettings {
        retention,
        sweep_interval: Duration::ZERO,
        ..restless()
    }
}

fn days(days: u64) -> Retention {
    Retention {
        age: Some(Duration::from_secs(days * 86_400)),
        bytes: None,
    }
}

fn wait_until(store: &EmbeddedStore, what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + WAIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: {:?}", store.status());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Hourly readings of the last ten days, the newest now: `(time, value)`.
fn ten_days(now_ms: i64) -> Vec<(i64, i64)> {
    (0..240)
        .rev()
        .map(|hour| (now_ms - hour * HOUR_MS, hour))
        .collect()
}

fn write(store: &EmbeddedStore, points: &[(i64, i64)]) {
    let points: Vec<_> = points
        .iter()
        .map(|&(ts_ms, value)| (ts_ms, "k", ValueRef::Long(value)))
        .collect();
    append(store, readings(&points)).unwrap();
    wait_for_flush(store);
}

#[test]
fn old_readings_go_and_young_ones_stay() {
    let directory = TempDir::new().unwrap();
    let opened = open(directory.path(), &keeping(days(3))).unwrap();
    let now_ms = now_ms();
    let points = ten_days(now_ms);
    write(&opened.store, &points);
    let oldest = || history(&opened.store, ALL).first().map(|&(ts_ms, _)| ts_ms);
    let limit = now_ms - 73 * HOUR_MS;
    wait_until(&opened.store, "old ones go", || oldest() >= Some(limit));
    let left = history(&opened.store, ALL);
    // Whole hours go, so one more than three days have may be there.
    assert!((72..=73).contains(&left.len()), "{}", left.len());
    assert_eq!(left, points[points.len() - left.len()..]);
}

/// More hours than are counted one by one.
#[test]
fn readings_of_more_than_half_a_year_go_by_age() {
    let directory = TempDir::new().unwrap();
    let opened = open(directory.path(), &keeping(days(200))).unwrap();
    let now_ms = now_ms();
    let hours = (0..6000).rev();
    let points: Vec<_> = hours.map(|h| (now_ms - h * HOUR_MS, h)).collect();
    write(&opened.store, &points);
    let swept = || opened.store.status().swept_rows;
    wait_until(&opened.store, "old ones go", || swept() >= 1199);
    let left = history(&opened.store, ALL);
    assert!((4800..=4801).contains(&left.len()), "{}", left.len());
    assert_eq!(left, points[points.len() - left.len()..]);
}

#[test]
fn the_latest_reading_of_a_key_stays_whatever_its_age() {
    let directory = TempDir::new().unwrap();
    let opened = open(directory.path(), &keeping(days(1))).unwrap();
    let long_ago = now_ms() - 1000 * HOUR_MS;
    write(
        &opened.store,
        &[(long_ago, 1), (long_ago + 50 * HOUR_MS, 2)],
    );
    let left = || history(&opened.store, ALL);
    wait_until(&opened.store, "all but the latest go", || left().len() == 1);
    assert_eq!(left(), [(long_ago + 50 * HOUR_MS, 2)]);
    assert_eq!(opened.store.latest(DEVICE).unwrap().len(), 1);
}

#[test]
fn beyond_so_many_bytes_the_oldest_readings_go() {
    let directory = TempDir::new().unwrap();
    let points = ten_days(now_ms());
    let all = {
        let opened = open(directory.path(), &restless()).unwrap();
        write(&opened.store, &points);
        opened.store.status().series_bytes
    };
    assert!(all > 240 * 10, "{all}");
    let half = Retention {
        age: None,
        bytes: Some(all / 2),
    };
    // What is there from before counts after a restart.
    let opened = open(directory.path(), &keeping(half)).unwrap();
    let bytes = || opened.store.status().series_bytes;
    wait_until(&opened.store, "half of it goes", || {
        (1..=all / 2).contains(&bytes())
    });
    let left = history(&opened.store, ALL);
    assert!((100..=120).contains(&left.len()), "{}", left.len());
    assert_eq!(left, points[points.len() - left.len()..]);
    assert_eq!(opened.store.status().swept_rows, 240 - left.len() as u64);
}

#[test]
fn bytes_are_counted_down_to_nothing_when_devices_go() {
    let directory = TempDir::new().unwrap();
    let opened = open(directory.path(), &restless()).unwrap();
    write(&opened.store, &ten_days(now_ms()));
    assert!(opened.store.status().series_bytes > 0);
    let mut batch = Batch::new();
    batch.remove_device(DEVICE);
    append(&opened.store, batch).unwrap();
    wait_for_flush(&opened.store);
    let bytes = || opened.store.status().series_bytes;
    wait_until(&opened.store, "nothing is left", || bytes() == 0);
}

#[test]
fn a_sweep_over_many_series_goes_on_between_flushes() {
    let directory = TempDir::new().unwrap();
    let opened = open(directory.path(), &keeping(days(1))).unwrap();
    let (old, new) = (now_ms() - 100 * HOUR_MS, now_ms());
    let mut batch = Batch::new();
    // More than a step looks at, and one series with more rows than a step removes.
    for device in 0..600 {
        for ts_ms in [old, new] {
            let value = ValueRef::Long(ts_ms);
            batch
                .push_telemetry(DeviceId(device), ts_ms, "k", value)
                .unwrap();
        }
    }
    for hour in 0..2500 {
        let ts_ms = old - hour * HOUR_MS;
        batch
            .push_telemetry(DEVICE, ts_ms, "long", ValueRef::Long(hour))
            .unwrap();
    }
    batch
        .push_telemetry(DEVICE, new, "long", ValueRef::Long(0))
        .unwrap();
    append(&opened.store, batch).unwrap();
    let swept = || opened.store.status().swept_rows;
    wait_until(&opened.store, "all go", || swept() == 600 + 2500);
    for device in [0, 300, 599] {
        let left = opened.store.history(DeviceId(device), "k", ALL).unwrap();
        assert_eq!(longs(left), [(new, new)]);
    }
}
