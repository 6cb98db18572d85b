//! How devices register themselves (TB sections 4.1 and 7.6).

use crate::crypto::secret::is_equal;
use serde::{Deserialize, Serialize};

/// Longest key or secret, bytes.
const SECRET_BYTES_MAX: usize = 255;

/// What a device that knows key and secret may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Strategy {
    /// Nothing.
    #[default]
    Disabled,
    /// Become a new device.
    AllowCreateNewDevices,
    /// Fetch, once, the credentials of a device that is there already.
    CheckPreProvisionedDevices,
    /// Show a certificate chain that leads to the profile's authority: the common name of its leaf
    /// tells the device.
    #[serde(rename = "X509_CERTIFICATE_CHAIN")]
    X509CertificateChain,
}

/// A profile's provisioning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Provisioning {
    /// What they may do.
    pub strategy: Strategy,
    /// `provisionDeviceKey`: names the profile, so no two profiles have the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `provisionDeviceSecret`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Of chains: the authority's certificate, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Of chains: a regular expression that is looked for in the leaf's common name; its first group is
    /// the device's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_reg_ex_pattern: Option<String>,
    /// Of chains: whether a device that is not there yet is made.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_create_new_devices_by_x509_certificate: bool,
}

impl Provisioning {
    /// Whether the parts fit together.
    ///
    /// # Errors
    ///
    /// Says what does not.
    pub fn check(&self) -> Result<(), String> {
        for (name, text) in [("key", &self.key), ("secret", &self.secret)] {
            let Some(text) = text else { continue };
            if text.is_empty() || text.len() > SECRET_BYTES_MAX {
                return Err(format!("{name} must have 1 to {SECRET_BYTES_MAX} bytes"));
            }
        }
        let by_secret = matches!(
            self.strategy,
            Strategy::AllowCreateNewDevices | Strategy::CheckPreProvisionedDevices
        );
        if by_secret && (self.key.is_none() || self.secret.is_none()) {
            return Err("the strategy needs key and secret".to_owned());
        }
        Ok(())
    }

    /// Whether a device that offers `secret` knows the secret; in a time that says nothing about it.
    pub fn is_secret(&self, secret: &str) -> bool {
        let own = self.secret.as_deref();
        is_equal(own.unwrap_or_default().as_bytes(), secret.as_bytes()) && own.is_some()
    }
}
