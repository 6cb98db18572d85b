//! A disk that fails or hangs, and completions that panic.

use super::*;

/// A disk that fails, or waits, when told.
#[derive(Clone, Default)]
struct Faults {
    append: Arc<std::sync::atomic::AtomicBool>,
    full: Arc<std::sync::atomic::AtomicBool>,
    /// As `full`, but for what the last block has room for.
    tight: Arc<std::sync::atomic::AtomicBool>,
    refused: Arc<std::sync::atomic::AtomicUsize>,
    sync: Arc<std::sync::atomic::AtomicBool>,
    stuck: Arc<Mutex<()>>,
}

struct FaultyFile {
    file: std::fs::File,
    faults: Faults,
}

impl segment::LogFile for FaultyFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        for (fault, kind) in [
            (&self.faults.append, io::ErrorKind::Other),
            (&self.faults.full, io::ErrorKind::StorageFull),
            (&self.faults.tight, io::ErrorKind::StorageFull),
        ] {
            let fits = bytes.len() < 200 && Arc::ptr_eq(fault, &self.faults.tight);
            if fault.load(Ordering::SeqCst) && !fits {
                self.faults.refused.fetch_add(1, Ordering::SeqCst);
                // As a full disk does it: a part is written.
                segment::LogFile::append(&mut self.file, &bytes[..bytes.len() / 2])?;
                return Err(io::Error::from(kind));
            }
        }
        segment::LogFile::append(&mut self.file, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        drop(self.faults.stuck.lock());
        if self.faults.sync.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk is gone"));
        }
        segment::LogFile::sync(&mut self.file)
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        segment::LogFile::cut(&mut self.file, length)
    }
}

impl Faults {
    fn open_file(&self) -> OpenFile {
        let faults = self.clone();
        Box::new(move |path| {
            let file = segment::write_options().open(path)?;
            let faults = faults.clone();
            Ok(Box::new(FaultyFile { file, faults }))
        })
    }

    fn open(&self, directory: &Path, settings: &StoreSettings) -> Opened {
        open_with(directory, settings, self.open_file()).unwrap()
    }
}

/// A head that the log fills at the start takes nothing, so no upload would have it flushed.
#[test]
fn a_full_head_is_flushed_right_after_a_start() {
    let patient = StoreSettings {
        flush_interval: Duration::from_secs(3600),
        ..settings()
    };
    let directory = TempDir::new().unwrap();
    let opened = open(directory.path(), &patient).unwrap();
    let text = "x".repeat(1000);
    for ts in 0..100 {
        append(
            &opened.store,
            readings(&[(ts, "k", ValueRef::String(&text))]),
        )
        .unwrap();
    }
    // As if the process had been killed: what is on disk now is opened elsewhere.
    let copy = TempDir::new().unwrap();
    copy_directory(directory.path(), copy.path());
    let small = StoreSettings {
        head_bytes_max: 10_000,
        ..patient
    };
    let recovered = open(copy.path(), &small).unwrap();
    wait_for_flush(&recovered.store);
    append(
        &recovered.store,
        readings(&[(100, "k", ValueRef::String(&text))]),
    )
    .unwrap();
}

#[test]
fn after_a_failed_write_or_sync_nothing_is_acknowledged() {
    for break_append in [true, false] {
        let directory = TempDir::new().unwrap();
        let faults = Faults::default();
        let opened = faults.open(directory.path(), &settings());
        let store = &opened.store;
        let reading = |ts| readings(&[(ts, "k", ValueRef::Long(ts))]);
        append(store, reading(1)).unwrap();
        assert_eq!(store.status().failure, None);
        let fault = if break_append {
            &faults.append
        } else {
            &faults.sync
        };
        fault.store(true, Ordering::SeqCst);
        let failed = append(store, reading(2)).unwrap_err();
        assert!(
            matches!(&failed, StoreError::Failed(reason) if reason.contains(".log")),
            "{failed}"
        );
        // The disk is well again, but what it holds is unknown.
        fault.store(false, Ordering::SeqCst);
        assert_eq!(append(store, reading(3)), Err(failed));
        assert!(store.status().failure.is_some());
        assert_eq!(history(store, ALL), [(1, 1)], "what was stored can be read");
        drop(opened);
        let reopened = open(directory.path(), &settings()).unwrap();
        let found = history(&reopened.store, ALL);
        // What was refused may be there after a failed sync, what was acknowledged must be.
        assert_eq!(found.first(), Some(&(1, 1)));
        assert!(!found.contains(&(3, 3)));
        append(&reopened.store, reading(4)).unwrap();
    }
}

/// In a segment that goes on, and where each group has a segment of its own.
#[test]
fn a_full_disk_refuses_uploads_until_it_has_room() {
    for segment_bytes in [1 << 20, 1] {
        let directory = TempDir::new().unwrap();
        let faults = Faults::default();
        let settings = StoreSettings {
            segment_bytes,
            ..settings()
        };
        let opened = faults.open(directory.path(), &settings);
        let store = &opened.store;
        let reading = |ts| readings(&[(ts, "k", ValueRef::Long(ts))]);
        append(store, reading(1)).unwrap();
        faults.full.store(true, Ordering::SeqCst);
        for ts in 2..5 {
            let refused = append(store, reading(ts)).unwrap_err();
            assert!(matches!(refused, StoreError::Full(_)), "{refused}");
        }
        let status = store.status();
        assert!(status.full.is_some_and(|why| why.contains("log")));
        assert_eq!((status.failure, status.pending_bytes), (None, 0));
        assert_eq!(history(store, ALL), [(1, 1)]);
        // A crash now costs nothing that was acknowledged, and brings back nothing that was refused.
        let copy = TempDir::new().unwrap();
        copy_directory(directory.path(), copy.path());
        let recovered = open(copy.path(), &settings).unwrap();
        assert_eq!(history(&recovered.store, ALL), [(1, 1)]);
        faults.full.store(false, Ordering::SeqCst);
        // The store finds out by itself, though nobody uploads.
        wait_until(store, "it goes on", |status| status.full.is_none());
        for ts in 5..8 {
            append(store, reading(ts)).unwrap();
        }
        let all = [(1, 1), (5, 5), (6, 6), (7, 7)];
        assert_eq!(history(store, ALL), all);
        let copy = TempDir::new().unwrap();
        copy_directory(directory.path(), copy.path());
        let recovered = open(copy.path(), &settings).unwrap();
        assert_eq!(history(&recovered.store, ALL), all);
    }
}

/// What is left of the log's last block is no room: nobody should be told that uploads are taken.
#[test]
fn a_full_disk_with_room_for_a_little_stays_full() {
    let directory = TempDir::new().unwrap();
    let faults = Faults::default();
    let opened = faults.open(directory.path(), &settings());
    let store = &opened.store;
    append(store, readings(&[(1, "k", ValueRef::Long(1))])).unwrap();
    faults.tight.store(true, Ordering::SeqCst);
    let text = "x".repeat(1000);
    let refused = append(store, readings(&[(2, "k", ValueRef::String(&text))])).unwrap_err();
    assert!(matches!(refused, StoreError::Full(_)), "{refused}");
    // An upload that fits would be taken, and the next one refused.
    let tried = faults.refused.load(Ordering::SeqCst);
    while faults.refused.load(Ordering::SeqCst) < tried + 2 {
        let refused = append(store, readings(&[(2, "k", ValueRef::Long(2))])).unwrap_err();
        assert!(matches!(refused, StoreError::Full(_)), "{refused}");
    }
    // Nor is it full no longer while nobody uploads.
    wait_until(store, "it was tried again", |status| {
        assert!(status.full.is_some());
        faults.refused.load(Ordering::SeqCst) > tried + 2
    });
    faults.tight.store(false, Ordering::SeqCst);
    wait_until(store, "it goes on", |status| status.full.is_none());
    append(store, readings(&[(3, "k", ValueRef::Long(3))])).unwrap();
    assert_eq!(history(store, ALL), [(1, 1), (3, 3)]);
    let copy = TempDir::new().unwrap();
    copy_directory(directory.path(), copy.path());
    let recovered = open(copy.path(), &settings()).unwrap();
    assert_eq!(history(&recovered.store, ALL), [(1, 1), (3, 3)]);
}

/// Old bytes of a spare that a full disk kept from becoming a segment must not lie behind the new ones,
/// where recovery would take them for damage; and a segment that is done can go meanwhile.
#[test]
fn a_spare_that_found_no_room_leaves_nothing_behind() {
    let directory = TempDir::new().unwrap();
    let faults = Faults::default();
    let mut log = segment::LogWriter::new(directory.path(), 1, 1, faults.open_file());
    log.begin_frame().extend_from_slice(b"first");
    assert!(log.commit(1).unwrap().is_none());
    let spare = directory.path().join("spare.new");
    std::fs::write(&spare, vec![0xaa; 10_000]).unwrap();
    *segment::lock(&log.spare()) = Some(segment::Spare {
        path: spare,
        length: 10_000,
    });
    faults.full.store(true, Ordering::SeqCst);
    log.begin_frame().extend_from_slice(b"second");
    let refused = log.commit(1).unwrap_err();
    assert!(
        matches!(refused, segment::CommitError::Full(_)),
        "{refused:?}"
    );
    assert_eq!(
        log.take_closed().map(|closed| closed.last_sequence),
        Some(1)
    );
    faults.full.store(false, Ordering::SeqCst);
    log.begin_frame().extend_from_slice(b"second");
    assert!(log.commit(1).unwrap().is_none());
    let files: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .collect();
    assert_eq!(files.len(), 2);
    assert!(files.iter().all(|&length| length < 100), "{files:?}");
}

#[test]
fn a_stuck_disk_refuses_instead_of_growing() {
    let directory = TempDir::new().unwrap();
    let faults = Faults::default();
    let small = StoreSettings {
        pending_bytes_max: 10_000,
        ..settings()
    };
    let opened = faults.open(directory.path(), &small);
    let stuck = faults.stuck.lock().unwrap();
    let (sender, receiver) = mpsc::channel();
    let text = "x".repeat(1000);
    let (mut taken, mut refused) = (0, 0);
    for ts in 0..50 {
        let batch = readings(&[(ts, "k", ValueRef::String(&text))]);
        let sender = sender.clone();
        let completion =
            move |result: Result<(), &StoreError>| sender.send(result.is_ok()).unwrap();
        match opened.store.append(batch, Box::new(completion)) {
            Ok(()) => taken += 1,
            Err(Overloaded(_)) => refused += 1,
        }
    }
    assert!((9..=10).contains(&taken), "{taken}");
    assert_eq!(opened.store.status().overloads, refused);
    assert!(opened.store.status().pending_bytes <= 10_000);
    drop(stuck);
    for _ in 0..taken {
        assert!(receiver.recv_timeout(WAIT).unwrap());
    }
    // There is room again, even for what is larger than all of it.
    let large = "x".repeat(100_000);
    append(
        &opened.store,
        readings(&[(99, "k", ValueRef::String(&large))]),
    )
    .unwrap();
}

#[test]
fn a_panicking_completion_harms_no_other() {
    let directory = TempDir::new().unwrap();
    let opened = open(directory.path(), &settings()).unwrap();
    let panics = |_: Result<(), &StoreError>| panic!("on purpose");
    let batch = readings(&[(1, "k", ValueRef::Long(1))]);
    opened.store.append(batch, Box::new(panics)).ok().unwrap();
    append(&opened.store, readings(&[(2, "k", ValueRef::Long(2))])).unwrap();
    assert_eq!(history(&opened.store, ALL).len(), 2);
}

/// Flushes after every group; one that fails is tried again soon.
fn resolute() -> StoreSettings {
    StoreSettings {
        flush_retry: Duration::from_millis(20),
        ..restless()
    }
}

fn wait_until(store: &EmbeddedStore, what: &str, is_so: impl Fn(&StoreStatus) -> bool) {
    let deadline = std::time::Instant::now() + WAIT;
    while !is_so(&store.status()) {
        let now = std::time::Instant::now();
        assert!(now < deadline, "{what}: {:?}", store.status());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Bytes of readings by the rows themselves.
fn bytes_of_rows(store: &EmbeddedStore) -> u64 {
    let bytes = |device| {
        let rows = store.tables.device_series_rows(DeviceId(device), 1000);
        let rows = rows.unwrap();
        rows.iter()
            .filter_map(|row| row.counted())
            .map(|(_, bytes)| bytes)
            .sum::<u64>()
    };
    (1..10).map(bytes).sum()
}

#[test]
fn a_checkpoint_that_cannot_be_written_is_told_and_made_up_for() {
    let directory = TempDir::new().unwrap();
    let opened = open(directory.path(), &resolute()).unwrap();
    let store = &opened.store;
    let in_the_way = directory.path().join("CHECKPOINT.new");
    std::fs::create_dir(&in_the_way).unwrap();
    append(store, readings(&[(1, "k", ValueRef::Long(1))])).unwrap();
    wait_until(store, "it fails", |status| status.flush_failures >= 3);
    let failure = store.status().flush_failure.unwrap();
    assert!(failure.contains("CHECKPOINT"), "{failure}");
    append(store, readings(&[(2, "k", ValueRef::Long(2))])).unwrap();
    assert_eq!(history(store, ALL), [(1, 1), (2, 2)]);
    std::fs::remove_dir(&in_the_way).unwrap();
    wait_until(store, "it recovers", |status| {
        status.flush_failure.is_none()
    });
    wait_for_flush(store);
    assert_eq!(history(store, ALL), [(1, 1), (2, 2)]);
    // What was written again is counted once.
    wait_until(store, "bytes", |status| {
        status.series_bytes == bytes_of_rows(store)
    });
}

/// Of three devices, by the order of the parts that they are in, the first is removed and comes again,
/// the second is removed, and of the third a block is damaged.
#[test]
fn what_a_failed_flush_removed_is_counted_once() {
    let (again, gone, damaged) = (DeviceId(1), DeviceId(2), DeviceId(3));
    let directory = TempDir::new().unwrap();
    let opened = open(directory.path(), &resolute()).unwrap();
    let store = &opened.store;
    let reading = |batch: &mut Batch, device, ts_ms| {
        let text = "x".repeat(100);
        let value = ValueRef::String(&text);
        batch.push_telemetry(device, ts_ms, "k", value).unwrap();
    };
    let mut first = Batch::new();
    for device in [again, gone, damaged] {
        reading(&mut first, device, 1);
    }
    append(store, first).unwrap();
    wait_for_flush(store);
    wait_until(store, "bytes", |status| {
        status.series_bytes == bytes_of_rows(store)
    });
    // A later row of the same bucket.
    let mut bad = series::bucket_prefix(&series_prefix(damaged, "k"), 0);
    bad.extend([0xff; 10]);
    store.tables.series.insert(bad.as_slice(), [9]).unwrap();
    let mut second = Batch::new();
    second.remove_device(again);
    reading(&mut second, again, 2);
    second.remove_device(gone);
    second.remove_telemetry(damaged, 1, "k").unwrap();
    reading(&mut second, damaged, 3);
    append(store, second).unwrap();
    wait_until(store, "it fails", |status| status.flush_failures >= 3);
    let failure = store.status().flush_failure.unwrap();
    assert!(failure.contains("damaged"), "{failure}");
    // What has come since belongs to the next flush, after a crash as well: one that took in more would
    // leave the rows of this one beside its own.
    append(store, readings(&[(9, "k", ValueRef::Long(9))])).unwrap();
    let crashed = TempDir::new().unwrap();
    copy_directory(directory.path(), crashed.path());
    let recovered = open(crashed.path(), &resolute()).unwrap();
    recovered
        .store
        .tables
        .series
        .remove(bad.as_slice())
        .unwrap();
    wait_for_flush(&recovered.store);
    let bytes_recovered = bytes_of_rows(&recovered.store);
    wait_until(&recovered.store, "bytes after a crash", |status| {
        status.series_bytes == bytes_recovered
    });
    store.tables.series.remove(bad.as_slice()).unwrap();
    wait_for_flush(store);
    let bytes = bytes_of_rows(store);
    assert_eq!(bytes, bytes_recovered);
    assert!(bytes > 200, "of two devices: {bytes}");
    wait_until(store, "bytes", |status| status.series_bytes == bytes);
    drop(opened);
    let reopened = open(directory.path(), &resolute()).unwrap();
    assert_eq!(reopened.store.tables.usage().unwrap().total(), bytes);
}

/// A time that cannot be added to another makes the thread panic where nothing of its own contains that.
#[test]
fn a_flushing_thread_that_panics_says_so_and_goes_on() {
    let directory = TempDir::new().unwrap();
    let settings = StoreSettings {
        retention: Retention {
            age: None,
            bytes: Some(1),
        },
        sweep_interval: Duration::MAX,
        flush_retry: Duration::from_secs(3600),
        ..restless()
    };
    let opened = open(directory.path(), &settings).unwrap();
    let store = &opened.store;
    append(store, readings(&[(1, "k", ValueRef::Long(1))])).unwrap();
    wait_until(store, "it is told", |status| status.flush_failure.is_some());
    let failure = store.status().flush_failure.unwrap();
    assert!(failure.contains("panicked"), "{failure}");
    assert_eq!(store.status().flushes, 1);
    append(store, readings(&[(2, "k", ValueRef::Long(2))])).unwrap();
    // The end flushes, as it says.
    store.close();
    let status = store.status();
    assert_eq!((status.flushes, status.checkpoint), (2, status.sequence));
    assert_eq!(status.flush_failure, None);
}
