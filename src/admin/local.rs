//! Operations on a registry and a store of this process.

mod attributes;
mod claims;
mod ota;
mod profiles;
mod rpc;
mod sessions;

pub(crate) use profiles::patched;

use crate::admin::operations::{
    Added, Attributes, CredentialsType, Deleted, DevicePage, DeviceView, ErrorKind, KeyText,
    Latest, NewAttributes, NewCredentials, NewDevice, OperationError, Operations, Reading,
};
use crate::auth::downlink::Hub;
use crate::crypto::certificate::{CERTIFICATE_LENGTH_MAX, LeafInfo};
use crate::crypto::fingerprint::to_hex;
use crate::queue::Inbox;
use crate::registry::claim::Claims;
use crate::registry::packages::{PackageKind, Packages};
use crate::registry::{
    self, Credential, Device, NewCredential, Registry, RegistryError, pre_shared_key_of_hex,
};
use crate::store::{
    AttributeScope, Batch, HistoryQuery, Order, Overloaded, Store, StoreError, Value,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::value::RawValue;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Longest certificate text that is read, in bytes: a chain in PEM, of which the first counts.
const CERTIFICATE_TEXT_MAX: usize = 64 << 10;

/// Readings deleted at a time.
const DELETIONS_MAX: usize = 5000;

/// How long a change of stored data may take to become durable.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// Operations on what this process holds open.
#[derive(Clone)]
pub struct LocalOperations {
    registry: Arc<dyn Registry>,
    store: Arc<dyn Store>,
    hub: Arc<Hub>,
    packages: Option<Arc<Packages>>,
    claims: Option<Arc<Claims>>,
    /// Of the shards, when this process is a server.
    inboxes: Option<Arc<[Arc<Inbox>]>>,
}

impl LocalOperations {
    /// Works on these; `hub` works on the same ones.
    pub fn new(registry: Arc<dyn Registry>, store: Arc<dyn Store>, hub: Arc<Hub>) -> Self {
        Self {
            registry,
            store,
            hub,
            packages: None,
            claims: None,
            inboxes: None,
        }
    }

    /// The same with packages for devices.
    #[must_use]
    pub fn with_packages(mut self, packages: Arc<Packages>) -> Self {
        self.packages = Some(packages);
        self
    }

    /// The same with the offers that devices make to the server which runs.
    #[must_use]
    pub fn with_claims(mut self, claims: Arc<Claims>) -> Self {
        self.claims = Some(claims);
        self
    }

    /// The same with the shards of a running server, by their inboxes.
    #[must_use]
    pub fn with_shards(mut self, inboxes: Arc<[Arc<Inbox>]>) -> Self {
        self.inboxes = Some(inboxes);
        self
    }

    fn find(&self, name: &str) -> Result<Arc<Device>, OperationError> {
        let found = self.registry.device_by_name(name);
        found.ok_or_else(|| RegistryError::Unknown(name.to_owned()).into())
    }

    /// Stores what `fill` puts into a batch, and waits until it is durable.
    fn write(&self, fill: impl Fn(&mut Batch)) -> Result<(), String> {
        // The store takes no more while it is behind; a change may wait for that a little.
        const ATTEMPTS: u32 = 50;
        const PAUSE: Duration = Duration::from_millis(20);
        for _ in 0..ATTEMPTS {
            let (sender, receiver) = mpsc::sync_channel(1);
            let completion = move |result: Result<(), &StoreError>| {
                // Nobody listens any more after the time-out.
                let _ = sender.send(result.map_err(ToString::to_string));
            };
            let mut batch = Batch::new();
            fill(&mut batch);
            match self.store.append(batch, Box::new(completion)) {
                Ok(()) => {
                    return receiver
                        .recv_timeout(WRITE_TIMEOUT)
                        .unwrap_or_else(|_| Err("it takes too long".to_owned()));
                }
                Err(Overloaded(_)) => std::thread::sleep(PAUSE),
            }
        }
        Err("too much waits to be written".to_owned())
    }
}

impl Operations for LocalOperations {
    fn devices(&self, after: Option<&str>, limit: usize) -> Result<DevicePage, OperationError> {
        let found = self.registry.list(after, limit);
        let full = found.len() == limit;
        Ok(DevicePage {
            next_after: found
                .last()
                .filter(|_| full)
                .map(|device| device.name.to_string()),
            devices: found
                .iter()
                .map(|device| DeviceView {
                    credentials_id: None,
                    active: (self.inboxes.as_ref()).map(|_| self.hub.is_active(device.id)),
                    ..view(device)
                })
                .collect(),
        })
    }

    fn device(&self, name: &str) -> Result<DeviceView, OperationError> {
        let device = self.find(name)?;
        Ok(DeviceView {
            activity: Some(self.hub.activity(device.id)?),
            ..view(&device)
        })
    }

    fn add(&self, device: &NewDevice) -> Result<DeviceView, OperationError> {
        let added = self.registry.add(new_device(device)?)?;
        self.tell_new(std::slice::from_ref(&added))?;
        Ok(view_once(&added, device.psk.is_some()))
    }

    fn add_all(&self, devices: &[NewDevice]) -> Result<Vec<Added>, OperationError> {
        let mut outcomes = Vec::with_capacity(devices.len());
        let mut accepted = Vec::new();
        for device in devices {
            outcomes.push(new_device(device).map(|device| accepted.push(device)));
        }
        let results = self.registry.add_many(accepted);
        let added: Vec<_> = results.iter().flatten().cloned().collect();
        self.tell_new(&added)?;
        let mut results = results.into_iter();
        for outcome in outcomes.iter_mut().filter(|outcome| outcome.is_ok()) {
            let result = results.next().unwrap_or_else(|| {
                let reason = "the registry gave no answer".to_owned();
                Err(RegistryError::Storage(reason))
            });
            *outcome = result.map(drop).map_err(Into::into);
        }
        Ok(outcomes)
    }

    fn remove(&self, name: &str) -> Result<(), OperationError> {
        let device = self.registry.remove(name)?;
        let removed = self.write(|batch| batch.remove_device(device.id));
        removed.map_err(|reason| {
            let message = format!(
                "device {name:?} is removed and its credentials have ended, but its readings were \
                 not removed: {reason}"
            );
            OperationError::new(ErrorKind::Failed, message, "")
        })
    }

    fn set_credentials(
        &self,
        name: &str,
        credentials: &NewCredentials,
    ) -> Result<DeviceView, OperationError> {
        let credential = new_credential(credentials)?;
        let device = self.registry.set_credential(name, credential)?;
        Ok(view_once(&device, credentials.psk.is_some()))
    }

    fn set_profile(&self, name: &str, profile: &str) -> Result<DeviceView, OperationError> {
        let before = self.find(name)?;
        let package = |kind| self.registry.assigned_package(before.id, kind);
        let had = PackageKind::ALL.map(|kind| (kind, package(kind)));
        let device = self.registry.set_profile(name, profile)?;
        for (kind, before) in had {
            if before != package(kind) {
                self.tell(std::slice::from_ref(&device), kind)?;
            }
        }
        Ok(view(&device))
    }

    fn delete_telemetry(
        &self,
        name: &str,
        key: &str,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Deleted, OperationError> {
        let device = self.find(name)?;
        let mut query = HistoryQuery {
            from_ms,
            to_ms,
            limit: DELETIONS_MAX,
            order: Order::Ascending,
        };
        let mut done = Deleted::default();
        loop {
            let points = self.store.history(device.id, key, query)?;
            let Some(last) = points.last().map(|point| point.ts_ms) else {
                return Ok(done);
            };
            let deleted = self.write(|batch| {
                for point in &points {
                    // A key under which readings are stored is not too long.
                    let _ = batch.remove_telemetry(device.id, point.ts_ms, key);
                }
            });
            deleted.map_err(|reason| {
                let message = format!("{} readings were deleted, then: {reason}", done.deleted);
                OperationError::new(ErrorKind::Failed, message, "")
            })?;
            done.deleted += points.len() as u64;
            match last.checked_add(1) {
                Some(next) if next <= to_ms => query.from_ms = next,
                _ => return Ok(done),
            }
        }
    }

    fn latest(&self, name: &str) -> Result<Latest, OperationError> {
        let device = self.find(name)?;
        let latest = self.store.latest(device.id)?;
        Ok(latest
            .into_iter()
            .map(|(key, point)| (key.into(), reading(point.ts_ms, &point.value)))
            .collect())
    }

    fn history(
        &self,
        name: &str,
        key: &str,
        query: HistoryQuery,
    ) -> Result<Vec<Reading>, OperationError> {
        let device = self.find(name)?;
        let points = self.store.history(device.id, key, query)?;
        Ok(points
            .iter()
            .map(|point| reading(point.ts_ms, &point.value))
            .collect())
    }

    fn attributes(&self, name: &str) -> Result<Attributes, OperationError> {
        self.read_attributes(name)
    }

    fn set_attributes(
        &self,
        name: &str,
        scope: AttributeScope,
        attributes: &NewAttributes,
    ) -> Result<(), OperationError> {
        self.write_attributes(name, scope, attributes)
    }

    fn delete_attributes(
        &self,
        name: &str,
        scope: AttributeScope,
        keys: &[String],
    ) -> Result<(), OperationError> {
        self.remove_attributes(name, scope, keys)
    }
}

fn view(device: &Device) -> DeviceView {
    let (credentials_type, credentials_id) = match &device.credential {
        Credential::AccessToken(token) => (CredentialsType::AccessToken, token.to_string()),
        Credential::X509 { fingerprint, .. } => {
            (CredentialsType::X509Certificate, to_hex(fingerprint))
        }
        Credential::MqttBasic(mqtt) => (CredentialsType::MqttBasic, mqtt.id()),
        Credential::PreSharedKey { identity, .. } => {
            (CredentialsType::PreSharedKey, identity.to_string())
        }
    };
    DeviceView {
        id: device.id.0,
        name: device.name.to_string(),
        profile: device.profile.to_string(),
        created_ms: device.created_unix_ms,
        credentials_type,
        credentials_id: Some(credentials_id),
        activity: None,
        active: None,
        psk: None,
    }
}

fn reading(ts: i64, value: &Value) -> Reading {
    let mut text = String::new();
    value.write_json(&mut text);
    let value = RawValue::from_string(text).unwrap_or_else(|_| {
        // Stored JSON that no longer reads as such is shown as the text it is.
        let text = match value {
            Value::Json(text) | Value::String(text) => text,
            _ => "",
        };
        let quoted = serde_json::Value::from(text).to_string();
        RawValue::from_string(quoted).unwrap_or_default()
    });
    Reading { ts, value }
}

/// A device as it is shown to who gave it its credential: with a pre-shared key that was made at
/// random, as nobody is shown it later.
fn view_once(device: &Device, is_key_known: bool) -> DeviceView {
    let mut view = view(device);
    if let (Credential::PreSharedKey { key, .. }, false) = (&device.credential, is_key_known) {
        view.psk = Some(KeyText(to_hex(key.as_bytes())));
    }
    view
}

fn new_device(device: &NewDevice) -> Result<registry::NewDevice, OperationError> {
    Ok(registry::NewDevice {
        name: device.name.clone(),
        profile: device.profile.clone(),
        credential: new_credential(&NewCredentials {
            token: device.token.clone(),
            certificate: device.certificate.clone(),
            psk_identity: device.psk_identity.clone(),
            psk: device.psk.clone(),
        })?,
    })
}

fn new_credential(new: &NewCredentials) -> Result<NewCredential, OperationError> {
    let invalid = |message, remedy| Err(OperationError::new(ErrorKind::Invalid, message, remedy));
    match (&new.token, &new.certificate, &new.psk_identity) {
        (Some(token), None, None) => Ok(NewCredential::AccessToken(token.clone())),
        (None, Some(text), None) => Ok(NewCredential::Certificate(certificate_der(text)?)),
        (None, None, Some(identity)) => {
            let key = new.psk.as_ref();
            Ok(NewCredential::PreSharedKey {
                identity: identity.clone(),
                key: key
                    .map(|KeyText(text)| pre_shared_key_of_hex(text))
                    .transpose()?,
            })
        }
        (None, None, None) if new.psk.is_some() => invalid(
            "a pre-shared key is given, but no identity",
            "give the identity by which the device will name it",
        ),
        (None, None, None) => Ok(NewCredential::RandomToken),
        _ => invalid(
            "more than one of token, certificate and pre-shared key is given",
            "give one of them: a device has one credential",
        ),
    }
}

/// The DER of the first certificate in a PEM text, or of the base64 that a text is.
///
/// # Errors
///
/// There is none, or it cannot be the certificate of a device.
pub fn certificate_der(text: &str) -> Result<Vec<u8>, OperationError> {
    let invalid = |message: String| {
        let remedy =
            "give the device's own certificate in PEM form, with a P-256, P-384 or RSA key";
        OperationError::new(ErrorKind::Invalid, message, remedy)
    };
    if text.len() > CERTIFICATE_TEXT_MAX {
        return Err(invalid("the certificate is longer than 64 KiB".to_owned()));
    }
    let der = if text.contains("-----BEGIN") {
        match rustls_pemfile::certs(&mut text.as_bytes()).next() {
            Some(Ok(der)) => der.to_vec(),
            Some(Err(error)) => return Err(invalid(format!("the PEM cannot be read: {error}"))),
            None => return Err(invalid("there is no certificate in the PEM".to_owned())),
        }
    } else {
        let bare: String = text.split_ascii_whitespace().collect();
        BASE64
            .decode(bare)
            .map_err(|_| invalid("the certificate is neither PEM nor base64".to_owned()))?
    };
    if der.len() > CERTIFICATE_LENGTH_MAX {
        let message = format!("the certificate is longer than {CERTIFICATE_LENGTH_MAX} bytes");
        return Err(invalid(message));
    }
    LeafInfo::parse(&der).map_err(|_| invalid("the certificate cannot be used".to_owned()))?;
    Ok(der)
}

impl From<RegistryError> for OperationError {
    fn from(error: RegistryError) -> Self {
        let (kind, remedy) = match &error {
            RegistryError::Unknown(_) => (
                ErrorKind::NotFound,
                "`tidegate device list` shows those there are",
            ),
            RegistryError::UnknownProfile(_) => (
                ErrorKind::NotFound,
                "`tidegate profile list` shows those there are",
            ),
            RegistryError::ProfileTaken(_) => (
                ErrorKind::Conflict,
                "choose another name, or change that profile",
            ),
            RegistryError::ProfileInUse(..) => (ErrorKind::Conflict, "remove its devices first"),
            RegistryError::NameTaken(_) => (
                ErrorKind::Conflict,
                "choose another name, or remove that device first",
            ),
            RegistryError::TokenTaken
            | RegistryError::MqttBasicTaken(_)
            | RegistryError::CertificateTaken(_)
            | RegistryError::PskIdentityTaken(_) => (
                ErrorKind::Conflict,
                "give each device a credential of its own",
            ),
            RegistryError::Storage(_) => {
                (ErrorKind::Failed, "look at the disk of TIDEGATE_DATA_DIR")
            }
            RegistryError::Name(..)
            | RegistryError::Profile(..)
            | RegistryError::ProfileSettings(..)
            | RegistryError::Options(_)
            | RegistryError::Token(_)
            | RegistryError::PskIdentity(..)
            | RegistryError::PreSharedKey(_)
            | RegistryError::MqttBasic(_)
            | RegistryError::Certificate(_) => (ErrorKind::Invalid, ""),
        };
        Self::new(kind, error.to_string(), remedy)
    }
}

impl From<StoreError> for OperationError {
    fn from(error: StoreError) -> Self {
        let remedy = "look at the disk of TIDEGATE_DATA_DIR";
        Self::new(ErrorKind::Failed, error.to_string(), remedy)
    }
}

/// The time of an administrator's change.
#[expect(
    clippy::disallowed_methods,
    reason = "an administrator acts by the clock"
)]
pub(super) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
