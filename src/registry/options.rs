//! What is set for a single device beside its credential. Few devices have any of it.

use super::profile::PowerSaving;
use serde::{Deserialize, Serialize};

/// Settings of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct DeviceOptions {
    /// In the place of its profile's, when it has a mode.
    pub power_saving: PowerSaving,
    /// Number of its own firmware package, in the place of its profile's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<u64>,
    /// The same of software.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub software: Option<u64>,
    /// The customer who has claimed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// Whether it has fetched its credentials by provisioning, which it may once.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub provisioned: bool,
}
