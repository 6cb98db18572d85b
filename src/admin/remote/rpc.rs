//! Calls to devices by way of a running server.

use super::{ANSWER_TIMEOUT, RemoteOperations, device_path};
use crate::admin::OperationError;
use crate::admin::api::rpc::{CALL_TIMEOUT_MAX_MS, Kept};
use crate::admin::operations::ErrorKind;
use crate::admin::operations::rpc::RpcOperations;
use crate::auth::downlink::{CallAnswer, NewRpc, OfferedCall, RpcEnd, RpcMode, RpcRecord};
use hyper::Method;
use hyper::body::Bytes;
use std::time::Duration;

impl RpcOperations for RemoteOperations {
    fn call(&self, name: &str, call: &NewRpc) -> Result<RpcEnd, OperationError> {
        let body = serde_json::to_vec(call).map_err(|error| {
            OperationError::new(ErrorKind::Invalid, error.to_string(), String::new())
        })?;
        let target = format!("{}/rpc", device_path(name));
        // The server keeps the call's time; this only ends what it does not.
        let timeout = ANSWER_TIMEOUT + Duration::from_millis(CALL_TIMEOUT_MAX_MS);
        let answer = self.exchange_within(timeout, Method::POST, &target, body.into())?;
        if call.persistent {
            let kept: Kept = self.read(&answer)?;
            return Ok(RpcEnd::Kept(kept.rpc_id));
        }
        Ok(match call.mode {
            RpcMode::OneWay => RpcEnd::Gone,
            RpcMode::TwoWay => RpcEnd::Answer(String::from_utf8_lossy(&answer).into_owned()),
        })
    }

    fn calls(&self, name: &str) -> Result<Vec<RpcRecord>, OperationError> {
        self.get(&format!("{}/rpc", device_path(name)))
    }

    fn delete_call(&self, name: &str, id: i32) -> Result<(), OperationError> {
        let target = format!("{}/rpc/{id}", device_path(name));
        self.exchange(Method::DELETE, &target, Bytes::new())
            .map(drop)
    }

    fn wait_for_calls(&self, timeout: Duration) -> Result<Vec<OfferedCall>, OperationError> {
        let timeout_ms = timeout
            .as_millis()
            .min(CALL_TIMEOUT_MAX_MS.into())
            .to_string();
        let target = format!("/api/rpc/requests?timeoutMs={timeout_ms}");
        let longest = ANSWER_TIMEOUT + timeout;
        let answer = self.exchange_within(longest, Method::GET, &target, Bytes::new())?;
        self.read(&answer)
    }

    fn answer_call(&self, id: u64, answer: &CallAnswer) -> Result<(), OperationError> {
        let target = format!("/api/rpc/requests/{id}");
        self.send_only(Method::POST, &target, answer).map(drop)
    }
}
