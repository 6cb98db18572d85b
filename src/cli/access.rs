//! The way to devices and data: through the running server, or directly.

use crate::admin::operations::ErrorKind;
use crate::admin::{LocalOperations, OperationError, Operations, RemoteOperations};
use crate::auth::downlink::{Hub, HubThread};
use crate::cli::arguments::Place;
use crate::cli::{Failure, load_config, output};
use crate::config::value::LogFormat;
use crate::logging::{self, LogGuard};
use crate::registry::Registry;
use crate::shard::clock::unix_ms;
use crate::store::Store;
use crate::store::embedded::{self, Opened, StoreSettings};
use std::path::Path;
use std::sync::Arc;

/// Whether a data directory that is not there is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// Yes: devices may be added before the first start.
    Create,
    /// No: there is nothing to see in it.
    Refuse,
}

/// Operations, and what must be closed after them.
pub(super) struct Access {
    operations: Box<dyn Operations>,
    /// Before what it writes to.
    hub_thread: Option<HubThread>,
    opened: Option<Opened>,
    /// What the store has to say goes to standard error.
    _log: Option<LogGuard>,
}

impl Access {
    /// Finds the data directory and the best way to it.
    pub(super) fn open(place: &Place, missing: Missing) -> Result<Self, Failure> {
        let config = load_config(place.conf.as_deref(), false)?;
        if let Some(remote) = RemoteOperations::connect(&config.admin_socket())? {
            return Ok(Self {
                operations: Box::new(remote),
                hub_thread: None,
                opened: None,
                _log: None,
            });
        }
        let directory = &config.tidegate.data_dir;
        if !directory.exists() {
            if missing == Missing::Refuse {
                return Err(no_data_directory(directory).into());
            }
            let note = format!("note: making the data directory {}", directory.display());
            output::complain(&note);
        }
        let log = logging::init("warn", LogFormat::Text).ok();
        let opened = embedded::open(directory, &StoreSettings::default()).map_err(Failure::new)?;
        let registry: Arc<dyn Registry> = opened.registry.clone();
        let store: Arc<dyn Store> = opened.store.clone();
        let clock = Box::new(unix_ms);
        let hub = Hub::without_shards(Arc::clone(&registry), Arc::clone(&store), clock);
        let hub_thread = HubThread::start(&hub).map_err(Failure::new)?;
        let local =
            LocalOperations::new(registry, store, hub).with_packages(Arc::clone(&opened.packages));
        Ok(Self {
            operations: Box::new(local),
            hub_thread: Some(hub_thread),
            opened: Some(opened),
            _log: log,
        })
    }
}

impl std::ops::Deref for Access {
    type Target = dyn Operations;

    fn deref(&self) -> &Self::Target {
        &*self.operations
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        if let Some(thread) = &mut self.hub_thread {
            thread.stop();
        }
        if let Some(opened) = &self.opened {
            opened.store.close();
        }
    }
}

fn no_data_directory(directory: &Path) -> OperationError {
    let message = format!("there is no data directory {}", directory.display());
    let remedy = "set TIDEGATE_DATA_DIR to the server's, or give its --conf FILE";
    OperationError::new(ErrorKind::NotFound, message, remedy)
}
