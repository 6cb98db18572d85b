//! The embedded store and registry in the data directory.

use crate::registry::DeviceId;
use crate::registry::embedded::EmbeddedRegistry;
use crate::store::{
    Attribute, AttributeScope, Batch, Completion, HistoryQuery, Overloaded, Point, Store,
    StoreError, StoreStatus,
};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Sizes and times of the embedded store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// A log segment is closed once it is this long, bytes.
    pub segment_bytes: u64,
    /// Most bytes that may wait for their commit; beyond, batches are refused.
    pub pending_bytes_max: usize,
    /// From this many bytes on the head is flushed; at twice as many, batches are refused.
    pub head_bytes_max: usize,
    /// The head is flushed at least this often.
    pub flush_interval: Duration,
    /// Bytes of attributes kept in memory for reading.
    pub attribute_cache_bytes: usize,
    /// Bytes of the queryable part's blocks kept in memory.
    pub block_cache_bytes: u64,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            pending_bytes_max: 16 << 20,
            head_bytes_max: 128 << 20,
            flush_interval: Duration::from_secs(60),
            attribute_cache_bytes: 32 << 20,
            block_cache_bytes: 64 << 20,
        }
    }
}

/// Why the data directory could not be opened. Each message names the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "the data directory {directory} is in use by process {pid}: stop it, or use its admin \
         interface, or choose another TIDEGATE_DATA_DIR",
        directory = directory.display()
    )]
    Locked {
        /// The data directory.
        directory: PathBuf,
        /// The process as it wrote itself into the lock file; "unknown" if it did not.
        pid: String,
    },
    /// Written by a version that this one does not understand.
    #[error("{file} says {found:?}, this version understands {expected:?}: {remedy}",
        file = file.display())]
    Format {
        /// The file that states the format.
        file: PathBuf,
        /// What it says.
        found: String,
        /// What would be understood.
        expected: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A file is damaged.
    #[error("{file} is damaged ({what}): {remedy}", file = file.display())]
    Corrupted {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A file could not be created, read or written.
    #[error("{action} {file} failed: {source}", file = file.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        file: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// What a data directory holds.
#[derive(Clone)]
pub struct Opened {
    /// Devices and credentials.
    pub registry: Arc<EmbeddedRegistry>,
    /// Readings and attributes.
    pub store: Arc<EmbeddedStore>,
}

/// Opens a data directory, creating it (mode 0700) when it does not exist, and replays the log.
///
/// # Errors
///
/// Another process has it, it is of another version or damaged, or the disk refuses.
pub fn open(directory: &Path, settings: &StoreSettings) -> Result<Opened, OpenError> {
    let _ = (directory, settings);
    unimplemented!()
}

/// The embedded store.
pub struct EmbeddedStore {}

impl Store for EmbeddedStore {
    fn append(&self, _: Batch, _: Box<dyn Completion>) -> Result<(), Overloaded> {
        unimplemented!()
    }
    fn latest(&self, _: DeviceId) -> Result<Vec<(Box<str>, Point)>, StoreError> {
        unimplemented!()
    }
    fn history(&self, _: DeviceId, _: &str, _: HistoryQuery) -> Result<Vec<Point>, StoreError> {
        unimplemented!()
    }
    fn export(
        &self,
        _: DeviceId,
        _: &mut dyn FnMut(&str, Point) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        unimplemented!()
    }
    fn attributes(
        &self,
        _: DeviceId,
        _: AttributeScope,
        _: Option<&[&str]>,
    ) -> Result<Vec<Attribute>, StoreError> {
        unimplemented!()
    }
    fn status(&self) -> StoreStatus {
        unimplemented!()
    }
    fn close(&self) {
        unimplemented!()
    }
}
