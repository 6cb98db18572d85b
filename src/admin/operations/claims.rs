//! Operations on devices that offer to be claimed.

use super::OperationError;
use serde::{Deserialize, Serialize};

/// Whose a device is, and whether it can be claimed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimState {
    /// The customer who has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// Until when it can be claimed, milliseconds since the UNIX epoch; `None`: it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimable_until_ms: Option<u64>,
}

/// A claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Claim {
    /// Who is to have the device: 1 to 255 characters.
    pub customer: String,
    /// The secret that the device has posted; empty when it posted none.
    #[serde(default)]
    pub secret_key: String,
}

/// What an administrator can do about claims.
pub trait ClaimOperations: Send + Sync {
    /// Whose a device is, and whether it can be claimed.
    ///
    /// # Errors
    ///
    /// When there is no such device, or the registry fails.
    fn claim_state(&self, device: &str) -> Result<ClaimState, OperationError> {
        let _ = device;
        Err(OperationError::not_offered())
    }

    /// Assigns a device that offers itself to a customer.
    ///
    /// # Errors
    ///
    /// When there is no such device, it has a customer, it does not offer itself, the secret is
    /// another, or the change could not be stored.
    fn claim(&self, device: &str, claim: &Claim) -> Result<ClaimState, OperationError> {
        let _ = (device, claim);
        Err(OperationError::not_offered())
    }

    /// Takes a device back from its customer; an open offer ends.
    ///
    /// # Errors
    ///
    /// When there is no such device, or the change could not be stored.
    fn reclaim(&self, device: &str) -> Result<ClaimState, OperationError> {
        let _ = device;
        Err(OperationError::not_offered())
    }
}
