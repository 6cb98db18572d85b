//! Devices and their credentials: who may speak, and as whom.
//!
//! [`Registry`] is what the authenticator pool and the commands see. The default implementation,
//! [`embedded::EmbeddedRegistry`], keeps everything in memory for reading and in the data directory
//! for good; others (ThingsBoard's tables in PostgreSQL) can take its place.
//!
//! Invariants: a name, an access token, a certificate fingerprint and a PSK identity each belong to
//! one device at most; a [`DeviceId`] is never given twice, so readings of a removed device never reappear under
//! a new one.

pub mod claim;
pub mod embedded;
pub mod import;
mod mqtt;
mod options;
pub mod packages;
pub mod profile;
pub mod revocation;
mod validate;
mod writes;

use crate::crypto::pre_shared_key::{PRE_SHARED_KEY_LEN_MAX, PreSharedKey, psk_identity_hash};
pub use mqtt::MqttBasic;
pub use options::DeviceOptions;
use packages::PackageKind;
use profile::{Profile, ProfileSettings, Profiles};
use revocation::{RevocationList, SessionIdentity};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// A device's number, given by the registry, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub u64);

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a device proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A token in the path of each request; compared exactly, case included.
    AccessToken(Box<str>),
    /// The key of a certificate, proven in the DTLS handshake.
    X509 {
        /// SHA3-256 over the base64 text (TB section 4). The text itself stays on disk: see
        /// [`Registry::certificate`].
        fingerprint: [u8; 32],
    },
    /// A key that device and server have in common, proven in the DTLS handshake (RFC 4279).
    PreSharedKey {
        /// What the device says that it is.
        identity: Box<str>,
        /// The secret; wiped once nobody holds it any more.
        key: Arc<PreSharedKey>,
    },
    /// Of MQTT: kept and shown, and nobody proves it here.
    MqttBasic(Box<MqttBasic>),
}

impl Credential {
    /// Who a DTLS session proves to be by it; `None` of one that each request proves anew.
    pub fn session_identity(&self) -> Option<SessionIdentity> {
        match self {
            Self::AccessToken(_) | Self::MqttBasic(_) => None,
            Self::X509 { fingerprint } => Some(SessionIdentity::Certificate(*fingerprint)),
            Self::PreSharedKey { identity, .. } => Some(SessionIdentity::PreSharedKey(
                psk_identity_hash(identity.as_bytes()),
            )),
        }
    }
}

/// A registered device. A change makes a new one: what a reader holds stays as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The registry's number for it.
    pub id: DeviceId,
    /// Unique name.
    pub name: Box<str>,
    /// Name of its profile.
    pub profile: Arc<str>,
    /// When it was added, milliseconds since the UNIX epoch.
    pub created_unix_ms: u64,
    /// How it proves who it is.
    pub credential: Credential,
    /// How often the credential was changed.
    pub credential_generation: u64,
}

/// The credential that a device is to get.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NewCredential {
    /// A token of 20 random alphanumeric characters.
    #[default]
    RandomToken,
    /// This access token.
    AccessToken(String),
    /// The holder of the key of this certificate (DER, not parsed here).
    Certificate(Vec<u8>),
    /// Of MQTT.
    MqttBasic(Box<MqttBasic>),
    /// The same, as the text that is hashed: base64 of the DER, without line breaks. A text that is
    /// something else is kept, and nobody can prove it.
    CertificateText(String),
    /// The holder of a pre-shared key.
    PreSharedKey {
        /// What the device says that it is.
        identity: String,
        /// The secret; a random one of 32 bytes when there is none.
        key: Option<Arc<PreSharedKey>>,
    },
}

/// A device to be added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewDevice {
    /// Unique name.
    pub name: String,
    /// Name of its profile; [`DEFAULT_PROFILE`] when none is given.
    pub profile: Option<String>,
    /// How it will prove who it is.
    pub credential: NewCredential,
}

/// The profile of a device for which none was named.
pub const DEFAULT_PROFILE: &str = "default";

/// Why a change of the registry was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// The name is empty, too long or holds control characters.
    #[error("device name {0:?} is not usable: {1}")]
    Name(String, &'static str),
    /// The profile's name is not usable.
    #[error("profile name {0:?} is not usable: {1}")]
    Profile(String, &'static str),
    /// The token is not usable; it is a secret, so not part of the message.
    #[error("the access token is not usable: {0}")]
    Token(&'static str),
    /// The identity of a pre-shared key is not usable.
    #[error("the PSK identity {0:?} is not usable: {1}")]
    PskIdentity(String, &'static str),
    /// The pre-shared key is not usable; it is a secret, so not part of the message.
    #[error("the pre-shared key is not usable: {0}")]
    PreSharedKey(&'static str),
    /// The certificate is not usable.
    #[error("the certificate is not usable: {0}")]
    Certificate(&'static str),
    /// The name belongs to a device already.
    #[error("a device named {0:?} exists already")]
    NameTaken(String),
    /// The token belongs to a device already.
    #[error("the access token belongs to another device already")]
    TokenTaken,
    /// The certificate belongs to a device already.
    #[error("the certificate belongs to device {0:?} already")]
    CertificateTaken(String),
    /// The identity of a pre-shared key belongs to a device already.
    #[error("the PSK identity belongs to device {0:?} already")]
    PskIdentityTaken(String),
    /// There is no such device.
    #[error("there is no device named {0:?}")]
    Unknown(String),
    /// A profile cannot be used as it was written: its name, and what is wrong.
    #[error("profile {0:?}: {1}")]
    ProfileSettings(String, String),
    /// There is no such profile.
    #[error("there is no profile named {0:?}")]
    UnknownProfile(String),
    /// The name belongs to a profile already.
    #[error("a profile named {0:?} exists already")]
    ProfileTaken(String),
    /// The profile has devices: its name, and one of them.
    #[error("profile {0:?} is in use, by device {1:?} for one")]
    ProfileInUse(String, String),
    /// The MQTT credentials are not usable.
    #[error("the MQTT credentials are not usable: {0}")]
    MqttBasic(&'static str),
    /// Client id and user name belong to a device already.
    #[error("the MQTT client id and user name belong to device {0:?} already")]
    MqttBasicTaken(String),
    /// What was to be changed cannot be changed so.
    #[error("{0}")]
    Options(String),
    /// The disk refused; a change was not made.
    #[error("the registry cannot be read or written: {0}")]
    Storage(String),
}

/// What happened to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChange {
    /// It has another credential.
    Credential,
    /// It is gone.
    Removed,
}

/// Who is told of changes of devices.
pub type DeviceObserver = Box<dyn Fn(DeviceId, DeviceChange) + Send + Sync>;

/// The pre-shared key that a text of hexadecimal digits is.
///
/// # Errors
///
/// It is something else, or no key that anybody may have: too short, too long, or a pattern.
pub fn pre_shared_key_of_hex(text: &str) -> Result<Arc<PreSharedKey>, RegistryError> {
    const NOT_HEX: RegistryError =
        RegistryError::PreSharedKey("it is not an even number of hexadecimal digits");
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(NOT_HEX);
    }
    let mut bytes = Zeroizing::new([0; PRE_SHARED_KEY_LEN_MAX]);
    let length = text.len() / 2;
    let room = bytes.get_mut(..length).ok_or(RegistryError::PreSharedKey(
        "it is longer than 64 bytes (128 hexadecimal digits)",
    ))?;
    for (byte, at) in room.iter_mut().zip((0..).step_by(2)) {
        let digits = text.get(at..at + 2).ok_or(NOT_HEX)?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| NOT_HEX)?;
    }
    let key = PreSharedKey::new(room).ok_or(RegistryError::PreSharedKey("it is empty"))?;
    validate::pre_shared_key(&key)?;
    Ok(Arc::new(key))
}

/// Devices and credentials. Reading is cheap and never waits for the disk; a change returns once it
/// is durable, and holds for the very next request.
pub trait Registry: Send + Sync {
    /// Whose access token this is (exact, case-sensitive). What every request asks, so the cheapest
    /// way to know.
    fn identify_token(&self, token: &str) -> Option<DeviceId> {
        self.device_by_token(token).map(|device| device.id)
    }

    /// Whose certificate has this fingerprint.
    fn identify_fingerprint(&self, fingerprint: &[u8; 32]) -> Option<DeviceId> {
        self.device_by_fingerprint(fingerprint)
            .map(|device| device.id)
    }

    /// Whose PSK identity has this SHA-256.
    fn identify_psk_identity(&self, identity_hash: &[u8; 32]) -> Option<DeviceId>;

    /// The pre-shared key of the device whose PSK identity has this SHA-256.
    fn pre_shared_key(&self, identity_hash: &[u8; 32]) -> Option<Arc<PreSharedKey>>;

    /// Whether any device has a pre-shared key. Asked at every handshake.
    fn has_pre_shared_keys(&self) -> bool;

    /// The device with this access token (exact, case-sensitive).
    fn device_by_token(&self, token: &str) -> Option<Arc<Device>>;

    /// The device whose certificate has this fingerprint.
    fn device_by_fingerprint(&self, fingerprint: &[u8; 32]) -> Option<Arc<Device>>;

    /// The device of this name.
    fn device_by_name(&self, name: &str) -> Option<Arc<Device>>;

    /// The device of this number.
    fn device(&self, id: DeviceId) -> Option<Arc<Device>>;

    /// Number of devices.
    fn len(&self) -> usize;

    /// Whether there is no device.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Up to `limit` devices whose names come after `after`, in the order of their names' bytes.
    fn list(&self, after: Option<&str>, limit: usize) -> Vec<Arc<Device>>;

    /// The certificate of a device that has one: base64 of its DER, standard alphabet, padded, one
    /// line. Reads from disk.
    ///
    /// # Errors
    ///
    /// There is no such device, or the disk cannot be read.
    fn certificate(&self, name: &str) -> Result<Option<String>, RegistryError>;

    /// Adds a device.
    ///
    /// # Errors
    ///
    /// Says what of it is not usable or taken, or that it could not be stored.
    fn add(&self, device: NewDevice) -> Result<Arc<Device>, RegistryError> {
        self.add_many(vec![device])
            .pop()
            .unwrap_or_else(|| Err(RegistryError::Storage("nothing was added".into())))
    }

    /// Why no change can be made any more, if that is so: what is known of devices stays as it is until a
    /// restart.
    fn write_failure(&self) -> Option<String> {
        None
    }

    /// Adds devices, each for itself, made durable together. One result per device, in order.
    fn add_many(&self, devices: Vec<NewDevice>) -> Vec<Result<Arc<Device>, RegistryError>>;

    /// The credentials that ended: recorded before the call that ended them returns.
    fn revocations(&self) -> &Arc<RevocationList>;

    /// Sets who is told that a device was removed or got another credential: once nobody finds the old
    /// one any more, and before the call that changed it returns. Only the first call counts; a
    /// registry that tells nobody ignores it.
    fn set_observer(&self, observer: DeviceObserver) {
        drop(observer);
    }

    /// Removes a device; its credential ends at once. Its readings are the store's to remove.
    ///
    /// # Errors
    ///
    /// There is no such device, or the change could not be stored.
    fn remove(&self, name: &str) -> Result<Arc<Device>, RegistryError>;

    /// The profiles. A registry that knows none has the default alone.
    fn profiles(&self) -> &Profiles {
        Profiles::none()
    }

    /// The profile of a device, if there is such a device.
    fn profile_of(&self, device: DeviceId) -> Option<Arc<Profile>> {
        let device = self.device(device)?;
        Some(self.profiles().of(&device.profile))
    }

    /// What is set for this device alone; cheap, as few devices have any of it.
    fn options(&self, device: DeviceId) -> Arc<DeviceOptions> {
        let _ = device;
        Arc::default()
    }

    /// Number of the package that a device is to have: its own, else its profile's.
    fn assigned_package(&self, device: DeviceId, kind: PackageKind) -> Option<u64> {
        let own = self.options(device);
        let profile = || self.profile_of(device);
        match kind {
            PackageKind::Firmware => own.firmware.or_else(|| profile()?.settings.firmware),
            PackageKind::Software => own.software.or_else(|| profile()?.settings.software),
        }
    }

    /// A device that has this package of its own. Looks at all devices that have settings.
    fn device_with_package(&self, package: u64) -> Option<DeviceId> {
        let _ = package;
        None
    }

    /// When a device can be reached: by its own settings, else by its profile's.
    fn power_saving(&self, device: DeviceId) -> profile::PowerSaving {
        let own = self.options(device).power_saving;
        match self.profile_of(device) {
            Some(profile) => own.or(profile.settings.power_saving),
            None => own,
        }
    }

    /// Defines a profile.
    ///
    /// # Errors
    ///
    /// Says what of it is not usable or taken, or that it could not be stored.
    fn add_profile(
        &self,
        name: &str,
        settings: ProfileSettings,
    ) -> Result<Arc<Profile>, RegistryError> {
        let _ = settings;
        Err(no_profiles(name))
    }

    /// Changes a profile as a whole: `change` gets its settings and gives the new ones, and nobody
    /// changes it meanwhile. The default profile can be changed without being defined before.
    ///
    /// # Errors
    ///
    /// There is no such profile, `change` refuses, the result is not usable or not stored.
    fn change_profile(
        &self,
        name: &str,
        change: &mut dyn FnMut(&ProfileSettings) -> Result<ProfileSettings, RegistryError>,
    ) -> Result<Arc<Profile>, RegistryError> {
        let _ = change;
        Err(no_profiles(name))
    }

    /// Removes a profile that no device has.
    ///
    /// # Errors
    ///
    /// There is no such profile, a device has it, or the change could not be stored.
    fn remove_profile(&self, name: &str) -> Result<(), RegistryError> {
        Err(no_profiles(name))
    }

    /// Changes what is set for a device alone; nobody changes it meanwhile.
    ///
    /// # Errors
    ///
    /// There is no such device, `change` refuses, or the change could not be stored.
    fn change_options(
        &self,
        name: &str,
        change: &mut dyn FnMut(&mut DeviceOptions) -> Result<(), RegistryError>,
    ) -> Result<Arc<DeviceOptions>, RegistryError> {
        let _ = change;
        Err(RegistryError::Unknown(name.into()))
    }

    /// Gives a device another profile.
    ///
    /// # Errors
    ///
    /// There is no such device, the name cannot be a profile's, or the change could not be stored.
    fn set_profile(&self, name: &str, profile: &str) -> Result<Arc<Device>, RegistryError> {
        let _ = profile;
        Err(no_profiles(name))
    }

    /// Replaces a device's credential; the old one ends at once.
    ///
    /// # Errors
    ///
    /// As [`Self::add`] and [`Self::remove`].
    fn set_credential(
        &self,
        name: &str,
        credential: NewCredential,
    ) -> Result<Arc<Device>, RegistryError>;
}

fn no_profiles(name: &str) -> RegistryError {
    RegistryError::ProfileSettings(name.into(), "this registry keeps no profiles".into())
}

/// 20 random alphanumeric characters: a token, or a name for who brings none.
pub fn random_token() -> String {
    validate::random_token(&mut crate::crypto::random::SystemRandom)
}
