//! Calls to the devices of this process.

use super::LocalOperations;
use crate::admin::OperationError;
use crate::admin::operations::ErrorKind;
use crate::admin::operations::rpc::{RpcOperations, no_call, no_server};
use crate::auth::downlink::{Hub, NewRpc, RpcEnd, RpcRecord};
use crate::store::StoreError;
use std::sync::{Arc, mpsc};

impl RpcOperations for LocalOperations {
    fn hub(&self) -> Option<&Arc<Hub>> {
        Some(&self.hub)
    }

    fn call(&self, name: &str, call: &NewRpc) -> Result<RpcEnd, OperationError> {
        let device = self.find(name)?;
        if self.inboxes.is_none() && !call.persistent {
            return Err(no_server());
        }
        let (sender, receiver) = mpsc::sync_channel(1);
        let waiter = Box::new(move |end| {
            // Nobody listens any more once this process ends.
            let _ = sender.send(end);
        });
        self.hub.send_rpc(device.id, call, waiter)?;
        // The hub keeps every call's time.
        let end = receiver.recv().map_err(|_| {
            OperationError::new(ErrorKind::Failed, "the server stops", "try again later")
        })?;
        Ok(end?)
    }

    fn calls(&self, name: &str) -> Result<Vec<RpcRecord>, OperationError> {
        let device = self.find(name)?;
        Ok(self.hub.calls(device.id)?)
    }

    fn delete_call(&self, name: &str, id: i32) -> Result<(), OperationError> {
        let device = self.find(name)?;
        let (sender, receiver) = mpsc::sync_channel(1);
        let done = Box::new(move |result: Result<(), StoreError>| {
            // Nobody listens any more after the time-out.
            let _ = sender.send(result);
        });
        if !self.hub.delete_rpc(device.id, id, done)? {
            return Err(no_call());
        }
        let deleted = receiver.recv_timeout(super::WRITE_TIMEOUT);
        deleted.map_err(|_| {
            let message = "the deletion takes too long to become durable";
            OperationError::new(ErrorKind::Failed, message, "look at the disk")
        })??;
        Ok(())
    }
}
