//! Packages for devices: firmware and software (TB section 7.10).
//!
//! ```text
//! database, keyspace "packages": number u64 big-endian -> version u8 = 1 | Package as JSON
//! DIR/packages/NUMBER: its bytes; NUMBER.part while it is being written
//! ```
//!
//! Descriptions are in memory, bytes on disk: a device is sent a piece at a time, read where it
//! lies. A file that is removed stays readable for who reads it.

mod announce;
mod checksum;

pub use announce::{announce, announcement, withdrawal, write_state};
pub use checksum::ChecksumAlgorithm;

use super::writes::Writes;
use crate::store::embedded::MARKER;
use arc_swap::ArcSwap;
use checksum::Checksum;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Largest package, bytes: ThingsBoard's largest body.
pub const PACKAGE_BYTES_MAX: u64 = 256 << 20;
/// Most packages; each keeps a file open.
const PACKAGES_MAX: usize = 1000;
/// Longest title, version, tag, URL, bytes.
const TEXT_BYTES_MAX: usize = 255;
const URL_BYTES_MAX: usize = 2048;
const VERSION: u8 = 1;

/// What a package is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum PackageKind {
    /// `/fw`, attributes `fw_*`.
    Firmware,
    /// `/sw`, attributes `sw_*`.
    Software,
}

impl PackageKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Firmware, Self::Software];

    /// What the names of its attributes and its path begin with.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Firmware => "fw",
            Self::Software => "sw",
        }
    }
}

/// A package's description.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Package {
    /// Its number, never given again.
    pub id: u64,
    /// What it is for.
    #[serde(rename = "type")]
    pub kind: PackageKind,
    /// Its title.
    pub title: String,
    /// Its version: unique with kind and title.
    pub version: String,
    /// A label of the operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// When it was added, milliseconds since the UNIX epoch.
    pub created_ms: u64,
    /// Where devices fetch it themselves; then there are no bytes here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Bytes; 0 with a URL.
    pub size: u64,
    /// How the checksum is computed.
    pub algorithm: ChecksumAlgorithm,
    /// Lower-case hexadecimal; empty with a URL.
    pub checksum: String,
}

/// A package to be added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewPackage {
    /// What it is for.
    #[serde(rename = "type")]
    pub kind: PackageKind,
    /// Its title.
    pub title: String,
    /// Its version.
    pub version: String,
    /// A label of the operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Where devices fetch it themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// How the checksum is computed; SHA256 when absent.
    #[serde(default)]
    pub algorithm: ChecksumAlgorithm,
    /// What the checksum must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
}

/// Why a package was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackageError {
    /// Its description cannot be used.
    #[error("the package cannot be used: {0}")]
    Invalid(String),
    /// There is one of that kind, title and version.
    #[error("package {0} has this type, title and version already")]
    Taken(u64),
    /// There is none of that number.
    #[error("there is no package {0}")]
    Unknown(u64),
    /// The disk refused.
    #[error("packages cannot be read or written: {0}")]
    Storage(String),
}

/// A package and its bytes.
struct Stored {
    package: Arc<Package>,
    file: Option<File>,
}

type ByNumber = BTreeMap<u64, Arc<Stored>>;

/// All packages.
pub struct Packages {
    directory: PathBuf,
    all: ArcSwap<ByNumber>,
    writer: Mutex<Writer>,
    /// Keeps the data directory locked.
    _lock: Arc<dyn Send + Sync>,
}

struct Writer {
    database: Database,
    packages: Keyspace,
    next: u64,
    writes: Writes,
}

impl Writer {
    fn commit(&self, batch: OwnedWriteBatch) -> Result<(), PackageError> {
        self.writes
            .note(batch.commit())
            .map_err(PackageError::Storage)
    }
}

impl Packages {
    /// Reads the descriptions and opens the files.
    ///
    /// # Errors
    ///
    /// Something is damaged or cannot be read: the text says what.
    pub(crate) fn open(
        database: &Database,
        directory: &Path,
        lock: Arc<dyn Send + Sync>,
        writes: &Writes,
    ) -> Result<Self, String> {
        let text = |error: fjall::Error| error.to_string();
        let options = || KeyspaceCreateOptions::default().max_memtable_size(1 << 20);
        let packages = database.keyspace("packages", options).map_err(text)?;
        let mut all = ByNumber::new();
        let mut next = 1;
        for entry in packages.iter() {
            let (key, value) = entry.into_inner().map_err(text)?;
            if *key == MARKER {
                next = read_next(&value).ok_or("the number of the next package is damaged")?;
                continue;
            }
            let package: Package = value
                .strip_prefix(&[VERSION])
                .and_then(|json| serde_json::from_slice(json).ok())
                .ok_or_else(|| format!("the record of package {key:?} is damaged"))?;
            let path = directory.join(package.id.to_string());
            let file = match package.url {
                Some(_) => None,
                None => Some(open_file(&path, package.size)?),
            };
            let package = Arc::new(package);
            all.insert(package.id, Arc::new(Stored { package, file }));
        }
        remove_strangers(directory, &all);
        Ok(Self {
            directory: directory.to_owned(),
            all: ArcSwap::from_pointee(all),
            writer: Mutex::new(Writer {
                database: database.clone(),
                packages,
                next,
                writes: writes.clone(),
            }),
            _lock: lock,
        })
    }

    /// All packages, oldest first.
    pub fn list(&self) -> Vec<Arc<Package>> {
        let all = self.all.load();
        all.values()
            .map(|found| Arc::clone(&found.package))
            .collect()
    }

    /// The package of that number.
    pub fn find(&self, id: u64) -> Option<Arc<Package>> {
        self.all
            .load()
            .get(&id)
            .map(|found| Arc::clone(&found.package))
    }

    /// Up to `length` bytes of a package from `offset` on: fewer at its end, none beyond it.
    ///
    /// # Errors
    ///
    /// There is no such package, it has no bytes here, or the disk refuses.
    pub fn read(&self, id: u64, offset: u64, length: usize) -> Result<Vec<u8>, PackageError> {
        let found = self.all.load().get(&id).map(Arc::clone);
        let found = found.ok_or(PackageError::Unknown(id))?;
        let file = found.file.as_ref().ok_or(PackageError::Unknown(id))?;
        let left = found.package.size.saturating_sub(offset);
        let length = usize::try_from(left).map_or(length, |left| left.min(length));
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, offset).map_err(storage)?;
        Ok(bytes)
    }

    /// Adds a package: `source` is read to its end, unless there is a URL. Durable when it returns.
    ///
    /// # Errors
    ///
    /// The description cannot be used or is taken, the checksum is another, the bytes are too many
    /// or none, or the disk refuses.
    pub fn add(
        &self,
        new: &NewPackage,
        source: &mut dyn Read,
        now_ms: u64,
    ) -> Result<Arc<Package>, PackageError> {
        new.check()?;
        // The bytes come without the lock: another upload need not wait for a slow one.
        let id = {
            let mut writer = self.writer();
            self.check_free(new)?;
            let id = writer.next;
            writer.next += 1;
            id
        };
        let written = match new.url {
            Some(_) => None,
            None => Some(Written::take(&self.directory, id, new.algorithm, source)?),
        };
        let (size, checksum) = written.as_ref().map_or((0, String::new()), |written| {
            (written.size, written.checksum.clone())
        });
        if let Some(expected) = &new.checksum
            && new.url.is_none()
            && !expected.eq_ignore_ascii_case(&checksum)
        {
            return Err(PackageError::Invalid(format!(
                "its {} checksum is {checksum}, not {expected}",
                new.algorithm.name()
            )));
        }
        let package = Arc::new(Package {
            id,
            kind: new.kind,
            title: new.title.clone(),
            version: new.version.clone(),
            tag: new.tag.clone(),
            created_ms: now_ms,
            url: new.url.clone(),
            size,
            algorithm: new.algorithm,
            checksum,
        });
        let mut record = vec![VERSION];
        serde_json::to_writer(&mut record, &*package).map_err(storage)?;
        let writer = self.writer();
        // Another upload may have been faster.
        self.check_free(new)?;
        let file = written.map(Written::keep).transpose()?;
        let mut batch = writer
            .database
            .batch()
            .durability(Some(PersistMode::SyncAll));
        batch.insert(&writer.packages, id.to_be_bytes(), record);
        batch.insert(&writer.packages, MARKER, writer.next.to_be_bytes());
        writer.commit(batch)?;
        let mut all = ByNumber::clone(&self.all.load());
        let stored = Stored {
            package: Arc::clone(&package),
            file,
        };
        all.insert(id, Arc::new(stored));
        self.all.store(Arc::new(all));
        Ok(package)
    }

    /// Removes a package and its bytes.
    ///
    /// # Errors
    ///
    /// There is no such package, or the disk refuses.
    pub fn remove(&self, id: u64) -> Result<(), PackageError> {
        let writer = self.writer();
        if self.find(id).is_none() {
            return Err(PackageError::Unknown(id));
        }
        let mut batch = writer
            .database
            .batch()
            .durability(Some(PersistMode::SyncAll));
        batch.remove(&writer.packages, id.to_be_bytes());
        writer.commit(batch)?;
        let mut all = ByNumber::clone(&self.all.load());
        all.remove(&id);
        self.all.store(Arc::new(all));
        // What stays behind is removed at the next start.
        let _ = fs::remove_file(self.directory.join(id.to_string()));
        Ok(())
    }

    fn check_free(&self, new: &NewPackage) -> Result<(), PackageError> {
        let all = self.all.load();
        if all.len() >= PACKAGES_MAX {
            let problem = format!("there are {PACKAGES_MAX} packages already; remove some");
            return Err(PackageError::Invalid(problem));
        }
        let same = all.values().map(|found| &found.package).find(|package| {
            (package.kind, &package.title, &package.version) == (new.kind, &new.title, &new.version)
        });
        same.map_or(Ok(()), |same| Err(PackageError::Taken(same.id)))
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Packages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packages")
            .field("packages", &self.all.load().len())
            .finish_non_exhaustive()
    }
}

impl NewPackage {
    fn check(&self) -> Result<(), PackageError> {
        let invalid = |problem: String| Err(PackageError::Invalid(problem));
        let texts = [
            ("title", Some(&self.title), TEXT_BYTES_MAX),
            ("version", Some(&self.version), TEXT_BYTES_MAX),
            ("tag", self.tag.as_ref(), TEXT_BYTES_MAX),
            ("url", self.url.as_ref(), URL_BYTES_MAX),
        ];
        for (name, text, longest) in texts {
            let Some(text) = text else { continue };
            if text.trim().is_empty() || text.len() > longest {
                return invalid(format!("{name} must have 1 to {longest} bytes"));
            }
            if text.chars().any(char::is_control) {
                return invalid(format!("{name} holds control characters"));
            }
        }
        Ok(())
    }
}

/// Bytes on their way into the directory; what is not kept is removed.
struct Written {
    part: PathBuf,
    path: PathBuf,
    file: Option<File>,
    size: u64,
    checksum: String,
}

impl Written {
    /// Reads `source` to its end into a file.
    fn take(
        directory: &Path,
        id: u64,
        algorithm: ChecksumAlgorithm,
        source: &mut dyn Read,
    ) -> Result<Self, PackageError> {
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory);
        made.map_err(storage)?;
        let part = directory.join(format!("{id}.part"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&part)
            .map_err(storage)?;
        let mut written = Self {
            part,
            path: directory.join(id.to_string()),
            file: Some(file),
            size: 0,
            checksum: String::new(),
        };
        let mut checksum = Checksum::new(algorithm);
        let mut piece = vec![0; 64 << 10];
        loop {
            let length = match source.read(&mut piece) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(storage(error)),
            };
            written.size += length as u64;
            if written.size > PACKAGE_BYTES_MAX {
                let problem = format!("it is larger than {PACKAGE_BYTES_MAX} bytes");
                return Err(PackageError::Invalid(problem));
            }
            checksum.update(&piece[..length]);
            if let Some(file) = &mut written.file {
                file.write_all(&piece[..length]).map_err(storage)?;
            }
        }
        if written.size == 0 {
            return Err(PackageError::Invalid("it is empty".to_owned()));
        }
        written.checksum = checksum.finish();
        Ok(written)
    }

    /// Makes the file durable under its name.
    fn keep(mut self) -> Result<File, PackageError> {
        let file = self
            .file
            .take()
            .ok_or_else(|| storage("the file is gone"))?;
        file.sync_all().map_err(storage)?;
        fs::rename(&self.part, &self.path).map_err(storage)?;
        if let Some(directory) = self.path.parent() {
            File::open(directory)
                .and_then(|directory| directory.sync_all())
                .map_err(storage)?;
        }
        Ok(file)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = fs::remove_file(&self.part);
        }
    }
}

fn read_next(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_be_bytes)
}

fn open_file(path: &Path, size: u64) -> Result<File, String> {
    let failed = |problem: &dyn std::fmt::Display| format!("{}: {problem}", path.display());
    let file = File::open(path).map_err(|error| failed(&error))?;
    let length = file.metadata().map_err(|error| failed(&error))?.len();
    if length == size {
        Ok(file)
    } else {
        Err(failed(&format!("it has {length} bytes, not {size}")))
    }
}

/// Removes what a stop in the middle of an upload or a removal left.
fn remove_strangers(directory: &Path, all: &ByNumber) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok());
        if number.is_none_or(|number| !all.contains_key(&number)) {
            tracing::info!(file = %entry.path().display(), "removing what is no package");
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "used to map errors with")]
fn storage(error: impl std::fmt::Display) -> PackageError {
    PackageError::Storage(error.to_string())
}

#[cfg(test)]
mod tests;
