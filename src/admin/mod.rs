//! Administration: what can be done to devices and asked about their data, and the HTTP server
//! that offers it.
//!
//! ```text
//! tidegate device ..., data ...  -->  Operations  --+-- local: registry and store, opened here
//!                                                   +-- remote: HTTP over DIR/admin.sock
//!                                                               |
//! curl, Prometheus  -->  TIDEGATE_ADMIN_BIND  -->  HTTP server (admin::spawn), one thread
//!                                                               |
//!                                             Operations (local) and StatusSource
//! ```

pub mod operations;

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

    /// Adds metrics that no shard counts (pool, store, credentials). Names start with `tidegate_`.
    fn encode(&self, encoder: &mut Encoder) {
        let _ = encoder;
    }

    /// Lines for the status page, `name: value`.
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
