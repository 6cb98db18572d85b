//! Claims at a running server.

use super::{RemoteOperations, device_path};
use crate::admin::operations::OperationError;
use crate::admin::operations::claims::{Claim, ClaimOperations, ClaimState};
use hyper::Method;
use hyper::body::Bytes;

impl ClaimOperations for RemoteOperations {
    fn claim_state(&self, device: &str) -> Result<ClaimState, OperationError> {
        self.get(&path(device))
    }

    fn claim(&self, device: &str, claim: &Claim) -> Result<ClaimState, OperationError> {
        self.post(&path(device), claim)
    }

    fn reclaim(&self, device: &str) -> Result<ClaimState, OperationError> {
        let answer = self.exchange(Method::DELETE, &path(device), Bytes::new())?;
        self.read(&answer)
    }
}

fn path(device: &str) -> String {
    format!("{}/claim", device_path(device))
}
