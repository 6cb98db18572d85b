//! What a stored reading costs: run by hand, optimized, and read the output.
//!
//! ```text
//! CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo test --test store measure -- --ignored --nocapture --test-threads=1
//! ```

#![allow(
    clippy::disallowed_methods,
    reason = "deadlines of the tests themselves"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tidegate::auth::api::{Api, ApiSettings};
use tidegate::auth::downlink::Hub;
use tidegate::auth::pool::Pool;
use tidegate::auth::request::{Identity, PeerRef, Request, RequestMessage};
use tidegate::queue::{Inbox, RequestQueues};
use tidegate::registry::{DeviceId, NewCredential, NewDevice, Registry};
use tidegate::store::embedded::{Opened, StoreSettings, open};
use tidegate::store::{Batch, Overloaded, Store, StoreError, ValueRef};

const DEVICES: u64 = 10_000;
const TIME: Duration = Duration::from_secs(8);

/// CPU time of each thread so far, by name, in milliseconds.
fn threads_cpu_ms() -> std::collections::BTreeMap<String, f64> {
    let mut sums = std::collections::BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let Ok(stat) = std::fs::read_to_string(task.path().join("schedstat")) else {
            continue;
        };
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let ns: f64 = stat
            .split(' ')
            .next()
            .and_then(|ns| ns.parse().ok())
            .unwrap_or(0.0);
        let name = name
            .trim()
            .trim_end_matches(|c: char| c.is_ascii_digit())
            .to_owned();
        *sums.entry(name).or_insert(0.0) += ns / 1e6;
    }
    sums
}

fn report(
    what: &str,
    count: u64,
    elapsed: Duration,
    before: &std::collections::BTreeMap<String, f64>,
) {
    println!(
        "{what}: {:.0} a second",
        count as f64 / elapsed.as_secs_f64()
    );
    for (name, ms) in threads_cpu_ms() {
        let used = ms - before.get(&name).copied().unwrap_or(0.0);
        if used > 1.0 {
            println!("  {name:16} {:7.3} us CPU each", used * 1e3 / count as f64);
        }
    }
}

#[test]
#[ignore = "a measurement"]
fn measure_store_alone() {
    let directory = tempfile::TempDir::new_in("target").unwrap();
    let Opened { store, .. } = open(directory.path(), &StoreSettings::default()).unwrap();
    let before = threads_cpu_ms();
    let durable = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let (mut n, mut refused) = (0_u64, 0_u64);
    while started.elapsed() < TIME {
        let mut batch = Batch::with_capacity(4096);
        for _ in 0..64 {
            let device = DeviceId(n.wrapping_mul(7919) % DEVICES);
            let ts = i64::try_from(1_700_000_000_000 + n / DEVICES * 1000).unwrap();
            batch
                .push_telemetry(device, ts, "temperature", ValueRef::Double(21.5))
                .unwrap();
            n += 1;
        }
        let durable = Arc::clone(&durable);
        let done = move |result: Result<(), &StoreError>| {
            result.unwrap();
            durable.fetch_add(64, Ordering::Relaxed);
        };
        if let Err(Overloaded(_)) = store.append(batch, Box::new(done)) {
            refused += 64;
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let count = durable.load(Ordering::Relaxed);
    report("readings stored", count, started.elapsed(), &before);
    println!("  refused {refused}; {:?}", store.status());
}

/// What a million readings take on disk, by how they come: one key of 10 000 devices, a double each.
#[test]
#[ignore = "a measurement"]
fn measure_disk_growth() {
    const READINGS: u64 = 4_000_000;
    for interval_ms in [1000, 60_000, 3_600_000] {
        let directory = tempfile::TempDir::new_in("target").unwrap();
        let Opened { store, .. } = open(directory.path(), &StoreSettings::default()).unwrap();
        let before = threads_cpu_ms();
        let started = Instant::now();
        for round in 0..READINGS / DEVICES {
            let ts = i64::try_from(1_700_000_000_000 + round * interval_ms).unwrap();
            for group in (0..DEVICES).collect::<Vec<_>>().chunks(1000) {
                let mut batch = Batch::with_capacity(64 << 10);
                for &device in group {
                    let value = ValueRef::Double(20.0 + ((device + round) % 100) as f64 / 10.0);
                    batch
                        .push_telemetry(DeviceId(device), ts, "temperature", value)
                        .unwrap();
                }
                let mut batch = Some(batch);
                while let Some(next) = batch.take() {
                    if store
                        .append(next.clone(), Box::new(|_: Result<(), &StoreError>| ()))
                        .is_err()
                    {
                        std::thread::sleep(Duration::from_millis(1));
                        batch = Some(next);
                    }
                }
            }
        }
        store.close();
        report("readings", READINGS, started.elapsed(), &before);
        let bytes = store.status().series_bytes;
        let disk = disk_bytes(&directory.path().join("db"));
        println!(
            "  every {} s: {} bytes of rows and {} on disk for a million",
            interval_ms / 1000,
            bytes / (READINGS / 1_000_000),
            disk / (READINGS / 1_000_000)
        );
    }
}

fn disk_bytes(path: &std::path::Path) -> u64 {
    let metadata = std::fs::symlink_metadata(path).unwrap();
    if !metadata.is_dir() {
        return std::os::unix::fs::MetadataExt::blocks(&metadata) * 512;
    }
    std::fs::read_dir(path)
        .unwrap()
        .map(|entry| disk_bytes(&entry.unwrap().path()))
        .sum()
}

#[test]
#[ignore = "a measurement"]
fn measure_api_alone() {
    for devices in [1000, 10_000, 1_000_000] {
        let directory = tempfile::TempDir::new_in("target").unwrap();
        let opened = open(directory.path(), &StoreSettings::default()).unwrap();
        add_devices(&*opened.registry, devices);
        let store: Arc<dyn Store> = opened.store.clone();
        let hub = Hub::without_shards(opened.registry.clone(), store.clone(), Box::new(|| 1));
        let api = Api::new(opened.registry.clone(), store, hub, ApiSettings::default());
        let requests: Vec<_> = (0..100_000).map(|n| request(0, n, devices)).collect();
        let mut batch = Batch::with_capacity(1 << 20);
        for _ in 0..3 {
            let before = threads_cpu_ms();
            let started = Instant::now();
            for chunk in requests.chunks(64) {
                let mark = batch.begin();
                for request in chunk {
                    std::hint::black_box(api.handle(request, &mut batch));
                }
                batch.rollback(mark);
            }
            report(
                &format!("handled, {devices} devices"),
                100_000,
                started.elapsed(),
                &before,
            );
        }
    }
}

fn add_devices(registry: &dyn Registry, devices: u64) {
    for group in (0..devices).collect::<Vec<_>>().chunks(10_000) {
        let devices = group.iter().map(|i| NewDevice {
            name: format!("device-{i}"),
            profile: None,
            credential: NewCredential::AccessToken(format!("TOKEN{i:015}")),
        });
        registry.add_many(devices.collect());
    }
}

/// What a million devices cost to add, to load and to look up.
#[test]
#[ignore = "a measurement"]
fn measure_registry() {
    const COUNT: u64 = 1_000_000;
    let directory = tempfile::TempDir::new_in("target").unwrap();
    {
        let opened = open(directory.path(), &StoreSettings::default()).unwrap();
        let started = Instant::now();
        add_devices(&*opened.registry, COUNT);
        println!("added in {:?}", started.elapsed());
    }
    let started = Instant::now();
    let opened = open(directory.path(), &StoreSettings::default()).unwrap();
    println!("loaded in {:?}", started.elapsed());
    let tokens: Vec<_> = (0..1_000_000_u64)
        .map(|n| format!("TOKEN{:015}", n.wrapping_mul(7919) % COUNT))
        .collect();
    for _ in 0..3 {
        let started = Instant::now();
        let found = tokens
            .iter()
            .filter(|token| opened.registry.identify_token(token).is_some());
        let count = found.count();
        println!(
            "{count} tokens found at {:?} each",
            started.elapsed() / 1_000_000
        );
    }
}

/// `window` requests in work, from one thread that plays both shards.
#[test]
#[ignore = "a measurement"]
fn measure_pool_and_store() {
    for window in [500, 4000] {
        let directory = tempfile::TempDir::new_in("target").unwrap();
        let opened = open(directory.path(), &StoreSettings::default()).unwrap();
        add_devices(&*opened.registry, DEVICES);
        let (queues, workers) = RequestQueues::new(2, 4096, 1);
        let inboxes: Arc<[Arc<Inbox>]> = (0..2).map(|_| Arc::new(Inbox::new(8192))).collect();
        let store: Arc<dyn Store> = opened.store.clone();
        let hub = Hub::without_shards(opened.registry.clone(), store.clone(), Box::new(|| 1));
        let api = Api::new(
            opened.registry.clone(),
            Arc::clone(&store),
            hub,
            ApiSettings::default(),
        );
        let pool = Pool::start(
            Arc::clone(&queues),
            workers,
            Arc::clone(&inboxes),
            Arc::new(api),
            store,
        )
        .unwrap();
        let shards = [queues.shard(0).unwrap(), queues.shard(1).unwrap()];
        let before = threads_cpu_ms();
        let started = Instant::now();
        let (mut sent, mut done) = (0_u64, 0_u64);
        while started.elapsed() < TIME {
            for (shard, queue) in shards.iter().enumerate() {
                let mut some = false;
                while sent - done < window && !(some && sent % 32 == 0) {
                    queue.submit(request(shard, sent, DEVICES)).unwrap();
                    sent += 1;
                    some = true;
                }
                if some {
                    queue.notify();
                }
                while let Some(verdict) = inboxes[shard].pop() {
                    assert_eq!(verdict.response.code, 0x41);
                    done += 1;
                }
            }
            if sent - done >= window {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
        report(
            &format!("requests, {window} in work"),
            done,
            started.elapsed(),
            &before,
        );
        println!("  {:?}", opened.store.status());
        pool.stop();
    }
}

fn request(shard: usize, n: u64, devices: u64) -> Request {
    let token = format!("TOKEN{:015}", n.wrapping_mul(7919) % devices);
    Request {
        peer: PeerRef {
            shard: u16::try_from(shard).unwrap(),
            slot: 0,
            generation: 0,
        },
        exchange: 0,
        identity: Identity::Anonymous,
        secure: true,
        received_unix_ms: 1_700_000_000_000 + n / 10,
        message: RequestMessage::new(2)
            .with_path(["api", "v1", &token, "telemetry"])
            .with_payload(r#"{"temperature":21.5,"humidity":40}"#),
    }
}
