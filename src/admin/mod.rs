//! Administration: what can be done to devices and asked about their data, and the HTTP server
//! that offers it.
//!
//! ```text
//! tidegate device ..., data ...  -->  Operations  --+-- LocalOperations: registry and store
//!                                                   +-- RemoteOperations: HTTP over DIR/admin.sock
//!                                                               |
//! curl, Prometheus  -->  TIDEGATE_ADMIN_BIND  -->  HTTP server (spawn), one thread
//!                                                               |
//!                                             Operations (local) and StatusSource
//! ```
//!
//! Who may do what:
//!
//! | Listener | `/metrics`, `/healthz`, `/readyz`, `/` | `/api` |
//! |---|---|---|
//! | unix socket (mode 0600 in a directory of mode 0700) | yes | yes |
//! | TCP on a loopback address | yes | with the token of the data directory ([`AdminToken`]) |
//! | TCP on another address | yes | the same, if TIDEGATE_ADMIN_REMOTE_API is set |
//!
//! Web pages of other origins are kept out everywhere.

mod api;
mod crowd;
mod glance;
mod guard;
mod listen;
mod local;
mod long_request;
pub mod operations;
mod pages;
mod remote;
mod server;
pub mod timestamp;
mod token;

pub use listen::AdminError;
pub(crate) use local::patched;
pub use local::{LocalOperations, certificate_der};
pub use operations::{OperationError, Operations};
pub use remote::RemoteOperations;
pub use server::{Admin, spawn};
pub use token::{AdminToken, TOKEN_FILE, TokenError};

use crate::metrics::{Encoder, ShardMetrics};
use crate::store::StoreStatus;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// What the server tells of itself.
pub trait StatusSource: Send + Sync {
    /// The counters of each shard, by index.
    fn shards(&self) -> Vec<Arc<ShardMetrics>>;

    /// Whether devices are served now; otherwise why not, in a few words.
    ///
    /// # Errors
    ///
    /// The reason.
    fn ready(&self) -> Result<(), String>;

    /// Whether the process is of any use; otherwise why a restart is the remedy.
    ///
    /// # Errors
    ///
    /// The reason.
    fn healthy(&self) -> Result<(), String> {
        Ok(())
    }

    /// Adds metrics that no shard counts (pool, store, credentials). Names start with `tidegate_`.
    fn encode(&self, encoder: &mut Encoder) {
        let _ = encoder;
    }

    /// Lines for the status page: names and values.
    fn facts(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Registered devices.
    fn devices(&self) -> usize {
        0
    }

    /// Requests of each shard that wait for the authenticator pool, by index.
    fn queues(&self) -> Vec<usize> {
        Vec::new()
    }

    /// How the store is doing.
    fn store(&self) -> StoreStatus {
        StoreStatus::default()
    }
}

/// Where the admin server listens.
#[derive(Clone, Debug)]
pub struct AdminSettings {
    /// TCP; `None`: not.
    pub bind: Option<SocketAddr>,
    /// Unix socket; `None`: not.
    pub socket: Option<PathBuf>,
    /// Opens `/api` over TCP.
    pub token: AdminToken,
    /// Whether `/api` is served on a TCP address that is not loopback, too.
    pub remote_api: bool,
}

#[cfg(test)]
mod tests;
