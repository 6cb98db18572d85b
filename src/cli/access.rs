//! The way to devices and data: through the running server, or directly.

use crate::admin::operations::ErrorKind;
use crate::admin::{LocalOperations, OperationError, Operations, RemoteOperations};
use crate::cli::arguments::Place;
use crate::cli::{Failure, load_config, output};
use crate::config::value::LogFormat;
use crate::logging::{self, LogGuard};
use crate::store::Store as _;
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
        let local = LocalOperations::new(
            Arc::clone(&opened.registry) as _,
            Arc::clone(&opened.store) as _,
        )
        .with_packages(Arc::clone(&opened.packages));
        Ok(Self {
            operations: Box::new(local),
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
