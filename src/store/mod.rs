//! Readings and attributes: durable when answered, queryable afterwards.
//!
//! [`Store`] is what the authenticator pool and the commands see; [`embedded::EmbeddedStore`] is the
//! default implementation, in the data directory. A [`Batch`] gathers what several requests write;
//! [`Store::append`] takes it and calls its [`Completion`] once all of it is durable, or never will
//! be. Nothing is acknowledged before.

pub mod batch;
pub mod embedded;
pub mod value;

pub use batch::Batch;
pub use value::{Value, ValueRef};

use crate::histogram::HistogramSum;
use crate::registry::DeviceId;
use std::ops::ControlFlow;

/// Whose an attribute is, and who may see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum AttributeScope {
    /// Reported by the device.
    Client = 0,
    /// Set on the server, visible to the device.
    Shared = 1,
    /// Set on the server, not visible to the device.
    Server = 2,
    /// No attributes of anybody: the calls to the device that are kept until it answers, one a key.
    Rpc = 3,
}

impl AttributeScope {
    /// All scopes.
    pub const ALL: [Self; 4] = [Self::Client, Self::Shared, Self::Server, Self::Rpc];

    /// Its name in paths and commands.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Shared => "shared",
            Self::Server => "server",
            Self::Rpc => "rpc",
        }
    }

    /// The scope of attributes of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        let scopes = [Self::Client, Self::Shared, Self::Server];
        scopes.into_iter().find(|scope| scope.name() == name)
    }
}

/// A value at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Milliseconds since the UNIX epoch; a device may send any, negative ones included.
    pub ts_ms: i64,
    /// The value.
    pub value: Value,
}

/// An attribute as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// Its key, unique within scope and device.
    pub key: Box<str>,
    /// When it was written last, milliseconds since the UNIX epoch.
    pub updated_ms: i64,
    /// The value.
    pub value: Value,
}

impl Attribute {
    /// Memory that it takes beside its key and text, roughly.
    const OWN_BYTES: usize = 80;

    /// Memory that it takes, roughly, in bytes.
    pub fn bytes(&self) -> usize {
        let text = match &self.value {
            Value::String(text) | Value::Json(text) => text.len(),
            Value::Bool(_) | Value::Long(_) | Value::Double(_) => 0,
        };
        Self::OWN_BYTES + self.key.len() + text
    }
}

/// In which order a history comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Newest first.
    #[default]
    Descending,
    /// Oldest first.
    Ascending,
}

/// Which part of a series is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryQuery {
    /// First time, inclusive, milliseconds since the UNIX epoch.
    pub from_ms: i64,
    /// Last time, inclusive.
    pub to_ms: i64,
    /// Most points returned.
    pub limit: usize,
    /// Which end comes first, and is kept when there are more than `limit`.
    pub order: Order,
}

impl Default for HistoryQuery {
    /// The newest 100 points.
    fn default() -> Self {
        Self {
            from_ms: i64::MIN,
            to_ms: i64::MAX,
            limit: 100,
            order: Order::Descending,
        }
    }
}

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A write or sync failed before: nothing is taken any more until a restart.
    #[error("the store has failed and takes no more: {0}")]
    Failed(String),
    /// The disk has no room: ask again later.
    #[error("the disk is full: {0}")]
    Full(String),
    /// Too much waits: ask again later. What [`Overloaded`] gives back can be completed with it.
    #[error("the store is overloaded")]
    Overloaded,
    /// The store is being closed.
    #[error("the store is closed")]
    Closed,
    /// Stored data could not be read.
    #[error("stored data cannot be read: {0}")]
    Read(String),
}

/// The batch was not taken, as too much waits already: ask again later. Nothing of it is stored,
/// and the completion, given back, was not called.
pub struct Overloaded(pub Box<dyn Completion>);

/// What happens once the fate of a [`Batch`] is known.
pub trait Completion: Send {
    /// Called once: with `Ok` when everything in the batch is durable, otherwise with the reason.
    /// It runs on the committing thread, so it must be quick and must not wait.
    fn complete(self: Box<Self>, result: Result<(), &StoreError>);
}

impl<F: FnOnce(Result<(), &StoreError>) + Send> Completion for F {
    fn complete(self: Box<Self>, result: Result<(), &StoreError>) {
        self(result);
    }
}

/// How a store is doing. Sizes in bytes; totals since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStatus {
    /// Why it takes nothing any more; `None` while it is well.
    pub failure: Option<String>,
    /// Why nothing is taken for now: the disk is full. It is tried again each second, and `None` once
    /// there is room.
    pub full: Option<String>,
    /// Why the last flush into the queryable part failed; nothing is lost, but the log grows until
    /// batches are refused. `None` while it is well.
    pub flush_failure: Option<String>,
    /// Records (a request's readings or attributes for one device) made durable.
    pub records: u64,
    /// Bytes of records made durable.
    pub record_bytes: u64,
    /// Group commits.
    pub commits: u64,
    /// Batches refused as [`Overloaded`].
    pub overloads: u64,
    /// How long writing and syncing each group took.
    pub syncs: HistogramSum,
    /// Bytes accepted and not durable yet.
    pub pending_bytes: u64,
    /// Bytes durable and not yet in the queryable part on disk.
    pub head_bytes: u64,
    /// Number of the last durable group.
    pub sequence: u64,
    /// Number up to which the log is no longer needed.
    pub checkpoint: u64,
    /// Flushes into the queryable part.
    pub flushes: u64,
    /// Flushes that failed and are tried again.
    pub flush_failures: u64,
    /// Bytes of readings in the queryable part, before compression; what retention by size limits.
    pub series_bytes: u64,
    /// Rows (blocks of readings) removed because of their age, or because there were too many.
    pub swept_rows: u64,
}

/// Telemetry and attributes of all devices.
pub trait Store: Send + Sync {
    /// Takes a batch. `completion` is called exactly once when the batch is accepted.
    ///
    /// Never waits for the disk. An empty batch completes with the next group.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] gives the completion back when too much waits. A failed or closed store
    /// accepts the batch and completes it with the error.
    fn append(&self, batch: Batch, completion: Box<dyn Completion>) -> Result<(), Overloaded>;

    /// The newest point of every series of a device, in the order of their keys.
    ///
    /// # Errors
    ///
    /// Stored data could not be read.
    fn latest(&self, device: DeviceId) -> Result<Vec<(Box<str>, Point)>, StoreError>;

    /// Points of one series; one per time, the one written last.
    ///
    /// # Errors
    ///
    /// Stored data could not be read.
    fn history(
        &self,
        device: DeviceId,
        key: &str,
        query: HistoryQuery,
    ) -> Result<Vec<Point>, StoreError>;

    /// Hands every point of a device to `sink`, series by series, oldest first, until it breaks.
    ///
    /// # Errors
    ///
    /// Stored data could not be read.
    fn export(
        &self,
        device: DeviceId,
        sink: &mut dyn FnMut(&str, Point) -> ControlFlow<()>,
    ) -> Result<(), StoreError>;

    /// Attributes of a device in one scope, in the order of their keys: those named in `keys`, or
    /// all when it is `None`. Unknown keys are left out.
    ///
    /// # Errors
    ///
    /// Stored data could not be read.
    fn attributes(
        &self,
        device: DeviceId,
        scope: AttributeScope,
        keys: Option<&[&str]>,
    ) -> Result<Vec<Attribute>, StoreError>;

    /// What the attributes of a device in one scope take of memory when they are read, roughly, in
    /// bytes.
    ///
    /// # Errors
    ///
    /// Stored data could not be read.
    fn attributes_bytes(
        &self,
        device: DeviceId,
        scope: AttributeScope,
    ) -> Result<usize, StoreError> {
        let all = self.attributes(device, scope, None)?;
        Ok(all.iter().map(Attribute::bytes).sum())
    }

    /// How the store is doing.
    fn status(&self) -> StoreStatus;

    /// Makes everything accepted durable, stops the store's threads and ends it. Later appends
    /// complete with [`StoreError::Closed`].
    fn close(&self);
}
