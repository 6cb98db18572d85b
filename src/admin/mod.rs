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
//! | TCP on a loopback address | yes | yes, unless a web page of another origin asks |
//! | TCP on another address | yes | no: there is no authentication yet |

mod api;
mod guard;
mod listen;
mod local;
pub mod operations;
mod pages;
mod remote;
mod server;
pub mod timestamp;

pub use listen::AdminError;
pub(crate) use local::patched;
pub use local::{LocalOperations, certificate_der};
pub use operations::{OperationError, Operations};
pub use remote::RemoteOperations;
pub use server::{Admin, spawn};

use crate::metrics::{Encoder, ShardMetrics};
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
}

/// Where the admin server listens.
#[derive(Clone, Debug)]
pub struct AdminSettings {
    /// TCP; `None`: not.
    pub bind: Option<SocketAddr>,
    /// Unix socket; `None`: not.
    pub socket: Option<PathBuf>,
}

#[cfg(test)]
mod tests;
