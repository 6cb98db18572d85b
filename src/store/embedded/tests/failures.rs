//! A disk that fails or hangs, and completions that panic.

use super::*;

/// A disk that fails, or waits, when told.
#[derive(Clone, Default)]
struct Faults {
    append: Arc<std::sync::atomic::AtomicBool>,
    sync: Arc<std::sync::atomic::AtomicBool>,
    stuck: Arc<Mutex<()>>,
}

struct FaultyFile {
    file: std::fs::File,
    faults: Faults,
}

impl segment::LogFile for FaultyFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.faults.append.load(Ordering::SeqCst) {
            // As a full disk does it: a part is written.
            segment::LogFile::append(&mut self.file, &bytes[..bytes.len() / 2])?;
            return Err(io::Error::from(io::ErrorKind::StorageFull));
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
    fn open(&self, directory: &Path, settings: &StoreSettings) -> Opened {
        let faults = self.clone();
        let open_file: OpenFile = Box::new(move |path| {
            let file = segment::write_options().open(path)?;
            let faults = faults.clone();
            Ok(Box::new(FaultyFile { file, faults }))
        });
        open_with(directory, settings, open_file).unwrap()
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
