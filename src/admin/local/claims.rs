//! Claims on devices of this process's registry.

use super::{LocalOperations, now_ms};
use crate::admin::operations::claims::{Claim, ClaimOperations, ClaimState};
use crate::admin::operations::{ErrorKind, OperationError};
use crate::registry::claim::ClaimError;
use crate::registry::{DeviceOptions, RegistryError};

/// Longest name of a customer, in characters.
const CUSTOMER_CHARS_MAX: usize = 255;

impl ClaimOperations for LocalOperations {
    fn claim_state(&self, device: &str) -> Result<ClaimState, OperationError> {
        let device = self.find(device)?;
        let claims = self.claims.as_ref();
        Ok(ClaimState {
            customer: self.registry.options(device.id).customer.clone(),
            claimable_until_ms: claims
                .and_then(|claims| claims.offered_until_ms(device.id, now_ms())),
        })
    }

    fn claim(&self, device: &str, claim: &Claim) -> Result<ClaimState, OperationError> {
        let customer = checked(&claim.customer)?;
        let device = self.find(device)?;
        if let Some(owner) = &self.registry.options(device.id).customer {
            return Err(taken(owner));
        }
        let claims = self.claims.as_ref().ok_or_else(|| {
            let message = "devices offer themselves to a running server, and none runs";
            OperationError::new(ErrorKind::Failed, message, "start it with `tidegate serve`")
        })?;
        let assign = || {
            self.registry.change_options(&device.name, &mut |options| {
                if let Some(owner) = &options.customer {
                    let problem = format!("the device belongs to {owner:?} already");
                    return Err(RegistryError::Options(problem));
                }
                options.customer = Some(customer.to_owned());
                Ok(())
            })
        };
        let assigned = claims.claim(device.id, &claim.secret_key, now_ms(), || {
            assign().map_err(OperationError::from)
        })?;
        Ok(state(&assigned))
    }

    fn reclaim(&self, device: &str) -> Result<ClaimState, OperationError> {
        let device = self.find(device)?;
        let changed = self.registry.change_options(&device.name, &mut |options| {
            options.customer = None;
            Ok(())
        })?;
        if let Some(claims) = &self.claims {
            claims.withdraw(device.id);
        }
        Ok(state(&changed))
    }
}

fn state(options: &DeviceOptions) -> ClaimState {
    ClaimState {
        customer: options.customer.clone(),
        claimable_until_ms: None,
    }
}

/// Who has the device keeps it.
fn taken(owner: &str) -> OperationError {
    let message = format!("the device belongs to {owner:?} already");
    let remedy = "`tidegate claim release` takes it back";
    OperationError::new(ErrorKind::Conflict, message, remedy)
}

fn checked(customer: &str) -> Result<&str, OperationError> {
    let is_usable = !customer.trim().is_empty()
        && customer.chars().count() <= CUSTOMER_CHARS_MAX
        && !customer.chars().any(char::is_control);
    if is_usable {
        return Ok(customer);
    }
    let message = "the customer's name cannot be used";
    let remedy = "give it 1 to 255 characters, no control characters";
    Err(OperationError::new(ErrorKind::Invalid, message, remedy))
}

impl From<ClaimError> for OperationError {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::NotOffered => Self::new(
                ErrorKind::Conflict,
                "the device does not offer to be claimed, or no longer does",
                "let it post to its claim resource first",
            ),
            ClaimError::WrongSecret => Self::new(
                ErrorKind::Forbidden,
                "the secret is not the one that the device has posted",
                "after ten wrong ones the device must offer itself again",
            ),
        }
    }
}
