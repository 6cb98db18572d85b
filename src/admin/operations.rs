//! What an administrator can do, wherever the registry and the store are.

pub mod claims;
pub mod ota;
pub mod profiles;
pub mod rpc;
pub mod sessions;

use crate::auth::downlink::ActivityView;
use crate::crypto::fingerprint::to_hex;
use crate::registry::{self, NewCredential};
use crate::store::{AttributeScope, HistoryQuery};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use claims::ClaimOperations;
use ota::OtaOperations;
use profiles::ProfileOperations;
use rpc::RpcOperations;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sessions::SessionOperations;
use std::collections::BTreeMap;
use std::fmt;
use zeroize::Zeroize;

/// A device to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewDevice {
    /// Its name: unique, 1 to 255 characters, no control characters.
    pub name: String,
    /// Its access token; one is made at random when there is no other credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Its certificate, which becomes the credential: PEM text, of which the first certificate
    /// counts, or the base64 of its DER.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The identity of its pre-shared key (RFC 4279), which becomes the credential: up to 128
    /// characters.
    #[serde(
        default,
        rename = "pskIdentity",
        skip_serializing_if = "Option::is_none"
    )]
    pub psk_identity: Option<String>,
    /// The pre-shared key, 16 to 64 bytes; one is made at random when there is only the identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psk: Option<KeyText>,
    /// Its device profile; `default` when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
}

/// A device as an import reads it.
impl From<registry::NewDevice> for NewDevice {
    fn from(device: registry::NewDevice) -> Self {
        let mut new = Self {
            name: device.name,
            profile: device.profile,
            ..Self::default()
        };
        match device.credential {
            NewCredential::RandomToken => {}
            NewCredential::AccessToken(token) => new.token = Some(token),
            NewCredential::Certificate(der) => new.certificate = Some(STANDARD.encode(der)),
            NewCredential::CertificateText(text) => new.certificate = Some(text),
            NewCredential::PreSharedKey { identity, key } => {
                new.psk_identity = Some(identity);
                new.psk = key.map(|key| KeyText(to_hex(key.as_bytes())));
            }
            // Only devices that provision themselves make one.
            NewCredential::MqttBasic(_) => {}
        }
        new
    }
}

/// A pre-shared key in hexadecimal digits. Wiped when dropped, and not shown in messages.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyText(pub String);

impl Drop for KeyText {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyText")
    }
}

/// The credential that takes the place of a device's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewCredentials {
    /// An access token; one is made at random when there is no other credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// A certificate, as in [`NewDevice`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The identity of a pre-shared key, as in [`NewDevice`].
    #[serde(
        default,
        rename = "pskIdentity",
        skip_serializing_if = "Option::is_none"
    )]
    pub psk_identity: Option<String>,
    /// The pre-shared key, as in [`NewDevice`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psk: Option<KeyText>,
}

/// How a device proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CredentialsType {
    /// A token in the path.
    #[serde(rename = "ACCESS_TOKEN")]
    AccessToken,
    /// The key of a certificate.
    #[serde(rename = "X509_CERTIFICATE")]
    X509Certificate,
    /// A key in common.
    #[serde(rename = "PRE_SHARED_KEY")]
    PreSharedKey,
    /// Client id, user and password of MQTT, which nobody proves here.
    #[serde(rename = "MQTT_BASIC")]
    MqttBasic,
}

/// A device as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceView {
    /// The registry's number for it, never given again.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its device profile.
    pub profile: String,
    /// When it was added, milliseconds since the UNIX epoch.
    pub created_ms: u64,
    /// How it proves who it is.
    pub credentials_type: CredentialsType,
    /// The token, the certificate's fingerprint (TB section 4), or the PSK identity. `None` in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_id: Option<String>,
    /// When it was heard of. `None` in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity: Option<ActivityView>,
    /// Whether it is active; only in lists of a server that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    /// The pre-shared key, if it was made at random and the device has just been added: it is not
    /// shown again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psk: Option<KeyText>,
}

/// Part of the list of devices, in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DevicePage {
    /// The devices.
    pub devices: Vec<DeviceView>,
    /// The name after which the next page starts; `None` on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_after: Option<String>,
}

/// What was stored under a key at a time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reading {
    /// Milliseconds since the UNIX epoch.
    pub ts: i64,
    /// A string, boolean, whole number, number with fraction, or JSON: its text as stored.
    pub value: Box<RawValue>,
}

/// What came of a deletion of readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// How many readings there were.
    pub deleted: u64,
}

/// The newest reading of each key.
pub type Latest = BTreeMap<String, Reading>;

/// Attributes by scope and key.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Attributes {
    /// Set by the device.
    pub client: BTreeMap<String, Reading>,
    /// Set for the device, which may read them.
    pub shared: BTreeMap<String, Reading>,
    /// Set for the server; the device does not see them.
    pub server: BTreeMap<String, Reading>,
}

/// Values of attributes that are to be set: no value may be null.
pub type NewAttributes = serde_json::Map<String, serde_json::Value>;

/// What became of one device of many.
pub type Added = Result<(), OperationError>;

/// Why an operation was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// No such device.
    NotFound,
    /// A device of that name, or with those credentials, is there already.
    Conflict,
    /// What was asked makes no sense.
    Invalid,
    /// Not without the token.
    Unauthenticated,
    /// Not for this asker.
    Forbidden,
    /// Only a running server can do it, or it cannot just now.
    Unavailable,
    /// The device did not answer in time, or was not there.
    Unanswered,
    /// The registry or the store failed, or the server cannot be reached.
    Failed,
}

/// An operation that was not done, for the administrator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationError {
    /// What sort.
    pub kind: ErrorKind,
    /// What is wrong.
    pub message: String,
    /// What to do; may be empty.
    pub remedy: String,
}

impl OperationError {
    /// An error of that sort.
    pub fn new(kind: ErrorKind, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            remedy: remedy.into(),
        }
    }
}

impl OperationError {
    /// Of an implementation that lacks the operation.
    pub(crate) fn not_offered() -> Self {
        Self::new(ErrorKind::Failed, "this is not offered here", "")
    }
}

impl fmt::Display for OperationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if self.remedy.is_empty() {
            Ok(())
        } else {
            write!(f, "; {}", self.remedy)
        }
    }
}

impl std::error::Error for OperationError {}

/// What an administrator can do. Calls block; none is for a shard's thread.
pub trait Operations:
    ProfileOperations
    + OtaOperations
    + ClaimOperations
    + RpcOperations
    + SessionOperations
    + Send
    + Sync
{
    /// Up to `limit` devices whose names come after `after` (from the first when `None`).
    ///
    /// # Errors
    ///
    /// When the registry fails.
    fn devices(&self, after: Option<&str>, limit: usize) -> Result<DevicePage, OperationError>;

    /// A device, with its credentials.
    ///
    /// # Errors
    ///
    /// When there is none of that name, or the registry fails.
    fn device(&self, name: &str) -> Result<DeviceView, OperationError>;

    /// Adds a device; gives it with its credentials. Durable when it returns.
    ///
    /// # Errors
    ///
    /// When the name or the credentials are taken or not acceptable, or the registry fails.
    fn add(&self, device: &NewDevice) -> Result<DeviceView, OperationError>;

    /// Adds devices; one outcome for each. Durable when it returns.
    ///
    /// # Errors
    ///
    /// When the registry fails as a whole.
    fn add_all(&self, devices: &[NewDevice]) -> Result<Vec<Added>, OperationError>;

    /// Removes a device and its data.
    ///
    /// # Errors
    ///
    /// When there is none of that name, or the registry fails.
    fn remove(&self, name: &str) -> Result<(), OperationError>;

    /// Replaces a device's credential; the old one ends at once, live sessions included. Durable
    /// when it returns.
    ///
    /// # Errors
    ///
    /// As [`Self::add`], and when there is no such device.
    fn set_credentials(
        &self,
        name: &str,
        credentials: &NewCredentials,
    ) -> Result<DeviceView, OperationError>;

    /// Gives a device another profile, whether it is defined or not; it holds for the very next
    /// request. Durable when it returns.
    ///
    /// # Errors
    ///
    /// When there is no such device, the name cannot be a profile's, or the registry fails.
    fn set_profile(&self, name: &str, profile: &str) -> Result<DeviceView, OperationError>;

    /// Deletes the readings of a key from `from_ms` to `to_ms`, both included. Durable when it returns.
    ///
    /// # Errors
    ///
    /// When there is no such device, or the store fails: some readings may be gone then.
    fn delete_telemetry(
        &self,
        name: &str,
        key: &str,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Deleted, OperationError>;

    /// The newest reading of each key: `{"temperature":{"ts":1700000000000,"value":42}}`.
    ///
    /// # Errors
    ///
    /// When there is no such device, or the store fails.
    fn latest(&self, name: &str) -> Result<Latest, OperationError>;

    /// Readings of a key.
    ///
    /// # Errors
    ///
    /// When there is no such device, or the store fails. A key without readings is no error.
    fn history(
        &self,
        name: &str,
        key: &str,
        query: HistoryQuery,
    ) -> Result<Vec<Reading>, OperationError>;

    /// The attributes.
    ///
    /// # Errors
    ///
    /// When there is no such device, or the store fails.
    fn attributes(&self, name: &str) -> Result<Attributes, OperationError>;

    /// Sets attributes; others of the scope stay. Durable when it returns.
    ///
    /// # Errors
    ///
    /// When there is no such device, a key or value cannot be stored, or the store fails.
    fn set_attributes(
        &self,
        name: &str,
        scope: AttributeScope,
        attributes: &NewAttributes,
    ) -> Result<(), OperationError>;

    /// Deletes attributes, as far as they are there. Durable when it returns.
    ///
    /// # Errors
    ///
    /// When there is no such device, or the store fails.
    fn delete_attributes(
        &self,
        name: &str,
        scope: AttributeScope,
        keys: &[String],
    ) -> Result<(), OperationError>;
}
