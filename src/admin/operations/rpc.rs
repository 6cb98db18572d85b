//! Calls to devices, and calls of devices.

use super::{ErrorKind, OperationError};
use crate::auth::downlink::{Hub, NewRpc, RpcEnd, RpcRecord, RpcRefusal};
use std::sync::Arc;

/// What an administrator can do with calls. What is not said otherwise is refused, as it takes a
/// server that runs.
pub trait RpcOperations: Send + Sync {
    /// Where calls are under way, if that is in this process: for those who wait without blocking.
    fn hub(&self) -> Option<&Arc<Hub>> {
        None
    }

    /// Calls a device and waits until it is known how that ended.
    ///
    /// # Errors
    ///
    /// When there is no such device, the call makes no sense, or it cannot be taken.
    fn call(&self, name: &str, call: &NewRpc) -> Result<RpcEnd, OperationError> {
        let _ = (name, call);
        Err(no_server())
    }

    /// The calls of a device: those under way, and those that are kept, oldest first.
    ///
    /// # Errors
    ///
    /// When there is no such device, or the store fails.
    fn calls(&self, name: &str) -> Result<Vec<RpcRecord>, OperationError> {
        let _ = name;
        Err(no_server())
    }

    /// Deletes a call, done or not. Durable when it returns.
    ///
    /// # Errors
    ///
    /// When there is no such device or call, or the store fails.
    fn delete_call(&self, name: &str, id: i32) -> Result<(), OperationError> {
        let _ = (name, id);
        Err(no_server())
    }
}

/// The call of that number among `calls`.
///
/// # Errors
///
/// There is none.
pub fn find_call(calls: Vec<RpcRecord>, id: i32) -> Result<RpcRecord, OperationError> {
    let mut calls = calls.into_iter();
    calls.find(|call| call.id == id).ok_or_else(no_call)
}

/// There is no call of that number.
pub(in crate::admin) fn no_call() -> OperationError {
    let remedy = "`tidegate rpc list DEVICE` shows those there are";
    OperationError::new(ErrorKind::NotFound, "the device has no such call", remedy)
}

/// Nothing of this process reaches devices.
pub(in crate::admin) fn no_server() -> OperationError {
    OperationError::new(
        ErrorKind::Unavailable,
        "no server runs on this data directory, so no device can be called",
        "start it with `tidegate serve`, or make the call persistent: it waits for the device then",
    )
}

impl From<RpcRefusal> for OperationError {
    fn from(refusal: RpcRefusal) -> Self {
        let (kind, remedy) = match &refusal {
            RpcRefusal::Invalid(_) => (ErrorKind::Invalid, ""),
            RpcRefusal::TooMany => (
                ErrorKind::Unavailable,
                "wait until the device has taken some, or delete some",
            ),
            RpcRefusal::NoDevice => (ErrorKind::NotFound, ""),
            RpcRefusal::Store(_) => (ErrorKind::Failed, "look at the disk of TIDEGATE_DATA_DIR"),
        };
        Self::new(kind, refusal.to_string(), remedy)
    }
}
