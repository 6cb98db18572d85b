//! The data directory: its layout, its lock, its format.
//!
//! ```text
//! DIR/            0700 when made here
//!   FORMAT        "tidegate-data 1\n"; written once all else is there
//!   CHECKPOINT    number of the last group for which the database is answerable: text
//!   LOCK          locked (flock) while a process has the directory; holds its pid
//!   log/          0700: segments of the log, see `segment`
//!   db/           0700: the database (fjall)
//!   packages/     0700: firmware and software for devices, made with the first
//! ```

use super::OpenError;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const FORMAT: &str = "tidegate-data 1";

/// A data directory that is ours alone while this lives.
#[derive(Debug)]
pub(super) struct DataDirectory {
    path: PathBuf,
    is_new: bool,
    /// The kernel lets go of the lock when this closes, however the process ends.
    _lock: File,
}

impl DataDirectory {
    /// Makes the directory if need be and locks it.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        make_directory(path)?;
        let lock = lock(path)?;
        let directory = Self {
            is_new: check_format(path)?,
            path: path.to_owned(),
            _lock: lock,
        };
        if directory.is_new {
            make_directory(&directory.log())?;
            make_directory(&directory.database())?;
            sync_directory(path)?;
        }
        Ok(directory)
    }

    /// Whether nothing was ever kept in it: no start before this one came as far as
    /// [`Self::complete`].
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    /// States the format, once everything in the directory is there.
    pub(super) fn complete(&self) -> Result<(), OpenError> {
        if self.is_new {
            replace_file(&self.path, "FORMAT", &format!("{FORMAT}\n"))?;
        }
        Ok(())
    }

    /// Number of the last group whose place in the log was given up as the database has it; 0 at
    /// first. A database that knows less than this has lost something.
    pub(super) fn checkpoint(&self) -> Result<u64, OpenError> {
        let path = self.path.join("CHECKPOINT");
        match std::fs::read_to_string(&path) {
            Ok(text) => text.trim_end().parse().map_err(|_| OpenError::Corrupted {
                file: path,
                what: "it holds no number".into(),
                remedy: "restore the data directory from a backup",
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(io_error("reading", &path)(error)),
        }
    }

    /// Writes what [`Self::checkpoint`] reads, durably.
    pub(super) fn set_checkpoint(&self, sequence: u64) -> Result<(), OpenError> {
        replace_file(&self.path, "CHECKPOINT", &format!("{sequence}\n"))
    }

    /// Where the log's segments are.
    pub(super) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Where packages for devices are.
    pub(super) fn packages(&self) -> PathBuf {
        self.path.join("packages")
    }

    /// Where the database is.
    pub(super) fn database(&self) -> PathBuf {
        self.path.join("db")
    }
}

/// An [`OpenError`] for a file and what was tried with it.
pub(super) fn io_error(action: &'static str, file: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let file = file.to_owned();
    move |source| OpenError::Io {
        action,
        file,
        source,
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(path: &Path) -> Result<(), OpenError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(io_error("syncing directory", path))
}

fn make_directory(path: &Path) -> Result<(), OpenError> {
    match DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Ok(()) => {
            let metadata = path.metadata().map_err(io_error("reading", path))?;
            if metadata.mode() & 0o077 != 0 {
                tracing::warn!(
                    directory = %path.display(),
                    "other users may enter the data directory; chmod 0700 closes it"
                );
            }
            Ok(())
        }
        Err(error) => Err(io_error("creating directory", path)(error)),
    }
}

fn lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join("LOCK");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io_error("opening", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.take(20).read_to_string(&mut pid);
            let pid = pid.trim();
            return Err(OpenError::Locked {
                directory: directory.to_owned(),
                pid: if pid.is_empty() { "unknown" } else { pid }.to_owned(),
            });
        }
        Err(TryLockError::Error(error)) => return Err(io_error("locking", &path)(error)),
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(io_error("writing", &path))?;
    Ok(file)
}

/// Whether the directory is new: it has no format, and nothing that would need one.
fn check_format(directory: &Path) -> Result<bool, OpenError> {
    let path = directory.join("FORMAT");
    match std::fs::read(&path) {
        Ok(found) => {
            let found = String::from_utf8_lossy(&found);
            if found.trim_end() == FORMAT {
                return Ok(false);
            }
            let found: String = found.chars().take(40).collect();
            Err(OpenError::Format {
                file: path,
                found: found.trim_end().to_owned(),
                expected: FORMAT,
                remedy: "use the version of tidegate that wrote the directory, or an empty one",
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let log = std::fs::read_dir(directory.join("log"));
            if directory.join("CHECKPOINT").exists()
                || log.is_ok_and(|mut log| log.next().is_some())
            {
                return Err(OpenError::Corrupted {
                    file: path,
                    what: "it is missing, but there is data beside it".into(),
                    remedy: "restore the directory from a backup, or use an empty one",
                });
            }
            Ok(true)
        }
        Err(error) => Err(io_error("reading", &path)(error)),
    }
}

/// Writes a file under another name first, so that it is there wholly or not at all.
fn replace_file(directory: &Path, name: &str, content: &str) -> Result<(), OpenError> {
    let path = directory.join(name);
    let new = directory.join(format!("{name}.new"));
    File::create(&new)
        .and_then(|mut file| {
            file.write_all(content.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&new, &path))
        .map_err(io_error("writing", &path))?;
    sync_directory(directory)
}
