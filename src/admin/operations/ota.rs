//! Operations on packages for devices, and on which device is to have which.

use super::OperationError;
use crate::registry::packages::{NewPackage, Package, PackageKind};
use serde::{Deserialize, Serialize};
use std::io::Read;

/// All packages, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageList {
    /// The packages.
    pub packages: Vec<Package>,
}

/// Which package a device, or each device of a profile, is to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Assignment {
    /// Which of its packages is meant.
    #[serde(rename = "type")]
    pub kind: PackageKind,
    /// The package; `None`: none, or of a device its profile's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<u64>,
    /// The device; this or a profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
}

/// What came of an assignment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// Devices that were told.
    pub devices: u64,
}

/// What an administrator can do with packages.
pub trait OtaOperations: Send + Sync {
    /// All packages.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    fn packages(&self) -> Result<PackageList, OperationError> {
        Err(OperationError::not_offered())
    }

    /// Adds a package; its bytes are read from `source` unless it has a URL.
    ///
    /// # Errors
    ///
    /// When it cannot be used or is taken, or the disk refuses.
    fn add_package(
        &self,
        package: &NewPackage,
        source: &mut dyn Read,
    ) -> Result<Package, OperationError> {
        let _ = (package, source);
        Err(OperationError::not_offered())
    }

    /// Removes a package that no profile and no device has.
    ///
    /// # Errors
    ///
    /// When there is none of that number, it is in use, or the disk refuses.
    fn remove_package(&self, id: u64) -> Result<(), OperationError> {
        let _ = id;
        Err(OperationError::not_offered())
    }

    /// Assigns a package, and tells the devices.
    ///
    /// # Errors
    ///
    /// When there is no such package, device or profile, or the change could not be stored.
    fn assign_package(&self, assignment: &Assignment) -> Result<Assigned, OperationError> {
        let _ = assignment;
        Err(OperationError::not_offered())
    }
}
