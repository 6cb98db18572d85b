//! Operations on device profiles, and on what is set for single devices.

use super::{NewAttributes, OperationError};
use crate::registry::DeviceOptions;
use crate::registry::profile::ProfileSettings;
use crate::store::AttributeScope;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A profile as it is shown, and as it is added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileView {
    /// Its name: unique, 1 to 255 characters, no control characters.
    pub name: String,
    /// All else. In lists without the provisioning secret.
    #[serde(default)]
    pub settings: ProfileSettings,
}

/// The default profile and those that are defined, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileList {
    /// The profiles.
    pub profiles: Vec<ProfileView>,
}

/// How many devices a change was for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The devices.
    pub devices: u64,
}

/// What an administrator can do to profiles. A change is durable when a call returns, and holds for
/// the very next request.
pub trait ProfileOperations: Send + Sync {
    /// The default profile and all that are defined, without secrets.
    ///
    /// # Errors
    ///
    /// When the registry fails.
    fn profiles(&self) -> Result<ProfileList, OperationError> {
        Err(OperationError::not_offered())
    }

    /// A profile with its secret; the default one is always there.
    ///
    /// # Errors
    ///
    /// When there is none of that name, or the registry fails.
    fn profile(&self, name: &str) -> Result<ProfileView, OperationError> {
        let _ = name;
        Err(OperationError::not_offered())
    }

    /// Defines a profile.
    ///
    /// # Errors
    ///
    /// When the name is taken or the settings cannot be used, or the registry fails.
    fn add_profile(&self, profile: &ProfileView) -> Result<ProfileView, OperationError> {
        let _ = profile;
        Err(OperationError::not_offered())
    }

    /// Changes a profile's settings by a JSON merge patch (RFC 7396), as a whole or not at all.
    ///
    /// # Errors
    ///
    /// When there is none of that name, the result cannot be used, or the registry fails.
    fn change_profile(&self, name: &str, patch: &Value) -> Result<ProfileView, OperationError> {
        let _ = (name, patch);
        Err(OperationError::not_offered())
    }

    /// Removes a profile that no device has; of the default one, what was set in it.
    ///
    /// # Errors
    ///
    /// When there is none of that name, a device has it, or the registry fails.
    fn remove_profile(&self, name: &str) -> Result<(), OperationError> {
        let _ = name;
        Err(OperationError::not_offered())
    }

    /// Sets attributes of every device that has the profile; others of the scope stay. Those that
    /// observe them are told. Durable when it returns.
    ///
    /// # Errors
    ///
    /// When there is no such profile, a key or value cannot be stored, or the store fails: then some
    /// devices may have them.
    fn set_profile_attributes(
        &self,
        name: &str,
        scope: AttributeScope,
        attributes: &NewAttributes,
    ) -> Result<Changed, OperationError> {
        let _ = (name, scope, attributes);
        Err(OperationError::not_offered())
    }

    /// What is set for a device alone.
    ///
    /// # Errors
    ///
    /// When there is no such device, or the registry fails.
    fn options(&self, name: &str) -> Result<DeviceOptions, OperationError> {
        let _ = name;
        Err(OperationError::not_offered())
    }

    /// Changes it by a JSON merge patch: `powerSaving` and `provisioned`; the rest has operations
    /// of its own.
    ///
    /// # Errors
    ///
    /// When there is no such device, the result cannot be used, or the registry fails.
    fn change_options(&self, name: &str, patch: &Value) -> Result<DeviceOptions, OperationError> {
        let _ = (name, patch);
        Err(OperationError::not_offered())
    }
}
