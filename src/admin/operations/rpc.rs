//! Calls to devices, and calls of devices.

use super::{ErrorKind, OperationError};
use crate::auth::downlink::{
    CallAnswer, Hub, NewRpc, OfferedCall, RpcEnd, RpcRecord, RpcRefusal, RpcState,
};
use std::sync::Arc;
use std::time::Duration;

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

    /// Waits for calls of devices; none when the time is over first. Each is handed out once.
    ///
    /// # Errors
    ///
    /// When too many wait already.
    fn wait_for_calls(&self, timeout: Duration) -> Result<Vec<OfferedCall>, OperationError> {
        let _ = timeout;
        Err(not_serving())
    }

    /// Answers the call of a device.
    ///
    /// # Errors
    ///
    /// When the device does not wait for it, or no longer.
    fn answer_call(&self, id: u64, answer: &CallAnswer) -> Result<(), OperationError> {
        let _ = (id, answer);
        Err(not_serving())
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

/// A device has not answered a call that had come so far.
pub(crate) fn unanswered(state: RpcState) -> OperationError {
    let (message, remedy) = match state {
        RpcState::Queued => (
            "the device did not take the call in time: it does not observe its calls, or sleeps",
            "`tidegate device show` says what it observes; a persistent call waits for it",
        ),
        RpcState::Delivered => (
            "the call has gone to the device, which did not answer in time",
            "give it more time, or make the call one-way or persistent",
        ),
        _ => (
            "the device did not acknowledge the call in time",
            "see whether it is connected; a persistent call is tried again",
        ),
    };
    OperationError::new(ErrorKind::Unanswered, message, remedy)
}

/// Nothing of this process reaches devices.
pub(in crate::admin) fn no_server() -> OperationError {
    OperationError::new(
        ErrorKind::Unavailable,
        "no server runs on this data directory, so no device can be called",
        "start it with `tidegate serve`, or make the call persistent: it waits for the device then",
    )
}

/// No device calls this process.
fn not_serving() -> OperationError {
    OperationError::new(
        ErrorKind::Unavailable,
        "no server runs on this data directory, so no device can call",
        "start it with `tidegate serve`",
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
