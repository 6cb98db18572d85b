//! The embedded registry: everything to look up is in memory, everything to keep is in the database.
//!
//! ```text
//! devices:  id u64 big-endian -> device record (see `record`)
//! profiles: name -> settings (see `profiles`)
//! options:  id u64 big-endian -> what is set for a device alone
//! meta:     "next-device" -> u64 big-endian, above every id given so far
//!           "revoked" | identity[33] -> u64 big-endian, when its credential ended
//! ```
//!
//! Reading takes one of many reader locks for the length of a hash lookup. Changes are made one at
//! a time: checked, written, synced, and only then visible. A credential that ends does so before
//! it is written: the time of its end is that from which nobody finds it any more.

mod index;
mod profiles;
mod record;
mod staged;

use super::profile::{Profile, ProfileSettings, Profiles};
use super::revocation::{Revocation, RevocationList, SessionIdentity};
use super::writes::Writes;
use super::{
    Credential, DEFAULT_PROFILE, Device, DeviceChange, DeviceId, DeviceObserver, DeviceOptions,
    MqttBasic, NewCredential, NewDevice, Registry, RegistryError, validate,
};
use crate::crypto::fingerprint::{device_fingerprint, text_fingerprint, to_hex};
use crate::crypto::pre_shared_key::{PreSharedKey, psk_identity_hash};
use crate::crypto::random::SystemRandom;
use crate::store::embedded::MARKER;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};
use index::{FingerprintEntry, Index, PskEntry, TokenEntry};
use profiles::OptionsEntry;
use staged::Staged;
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::{SystemTime, UNIX_EPOCH};

const NEXT_DEVICE: &str = "next-device";
const REVOKED: &[u8] = b"revoked";

/// Devices and credentials in the data directory.
pub struct EmbeddedRegistry {
    by_token: Index<TokenEntry>,
    by_fingerprint: Index<FingerprintEntry>,
    by_psk_identity: Index<PskEntry>,
    /// Nobody is found by it; it sees to it that no two devices have the same.
    by_mqtt: Index<TokenEntry>,
    /// Entries in it.
    pre_shared_keys: AtomicUsize,
    by_id: Index<Arc<Device>>,
    by_name: RwLock<BTreeSet<ByName>>,
    revocations: Arc<RevocationList>,
    observer: OnceLock<DeviceObserver>,
    profiles: Profiles,
    options: Index<OptionsEntry>,
    /// Held by whoever changes something.
    writer: Mutex<Writer>,
    writes: Writes,
    /// Keeps the data directory locked as long as the database may be in use.
    _directory: Arc<dyn Send + Sync>,
}

/// What changes are written with.
struct Writer {
    database: Database,
    devices: Keyspace,
    profiles: Keyspace,
    options: Keyspace,
    meta: Keyspace,
    next_device: u64,
    /// One text for each profile in use.
    profile_names: HashMap<Box<str>, Arc<str>>,
    writes: Writes,
}

impl Writer {
    fn commit(&self, batch: OwnedWriteBatch) -> Result<(), RegistryError> {
        self.writes
            .note(batch.commit())
            .map_err(RegistryError::Storage)
    }
}

/// A device in the order of names.
struct ByName(Arc<Device>);

impl EmbeddedRegistry {
    /// Reads all devices of `database` into memory. `directory` is kept until the registry goes.
    ///
    /// # Errors
    ///
    /// The database cannot be read, or holds something that is no device: the text says what.
    pub(crate) fn open(
        database: &Database,
        directory: Arc<dyn Send + Sync>,
    ) -> Result<Self, String> {
        let keyspace = |name| {
            let options = || KeyspaceCreateOptions::default().max_memtable_size(8 << 20);
            database.keyspace(name, options).map_err(|e| e.to_string())
        };
        let (devices, meta) = (keyspace("devices")?, keyspace("meta")?);
        let (profiles, options) = (keyspace("profiles")?, keyspace("options")?);
        let packages = keyspace("packages")?;
        profiles::check_markers(database, &meta, [&profiles, &options, &packages])?;
        let writes = Writes::default();
        let next = meta.get(NEXT_DEVICE).map_err(|e| e.to_string())?;
        let registry = Self {
            by_token: Index::new(),
            by_fingerprint: Index::new(),
            by_psk_identity: Index::new(),
            by_mqtt: Index::new(),
            pre_shared_keys: AtomicUsize::new(0),
            by_id: Index::new(),
            by_name: RwLock::default(),
            revocations: Arc::default(),
            observer: OnceLock::new(),
            profiles: profiles::read_profiles(&profiles)?,
            options: profiles::read_options(&options)?,
            writer: Mutex::new(Writer {
                database: database.clone(),
                devices,
                profiles,
                options,
                meta,
                next_device: next
                    .map_or(Some(1), |bytes| {
                        bytes.as_ref().try_into().ok().map(u64::from_be_bytes)
                    })
                    .ok_or("the number of the next device is damaged")?,
                profile_names: HashMap::new(),
                writes: writes.clone(),
            }),
            writes,
            _directory: directory,
        };
        let mut guard = registry.writer();
        let writer = &mut *guard;
        registry.revocations.load(read_revocations(&writer.meta)?);
        let next_device = writer.next_device;
        for entry in writer.devices.iter() {
            let (key, value) = entry.into_inner().map_err(|e| e.to_string())?;
            if *key == MARKER {
                continue;
            }
            let id = key.as_ref().try_into().map(u64::from_be_bytes);
            let mut profile = |name: &str| intern(&mut writer.profile_names, name);
            let device = id
                .ok()
                .filter(|&id| id < next_device)
                .and_then(|id| record::decode(DeviceId(id), &value, &mut profile))
                .ok_or_else(|| format!("the record of device {key:?} is damaged"))?;
            registry.insert(Arc::new(device.0));
        }
        drop(guard);
        Ok(registry)
    }

    /// What becomes of writes, for others who write into the same database.
    pub(crate) fn writes(&self) -> &Writes {
        &self.writes
    }

    /// A panic while the lock was held changed nothing: what is written is either whole or absent.
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn names(&self) -> RwLockReadGuard<'_, BTreeSet<ByName>> {
        self.by_name.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a device visible; it replaces the one of the same id.
    fn insert(&self, device: Arc<Device>) {
        // Whoever finds the number finds the device.
        self.by_id.insert(Arc::clone(&device));
        match device.credential {
            Credential::AccessToken(ref token) => {
                self.by_token.insert(TokenEntry::new(token, device.id));
            }
            Credential::X509 { fingerprint } => self.by_fingerprint.insert(FingerprintEntry {
                fingerprint,
                device: device.id,
            }),
            Credential::MqttBasic(ref mqtt) => {
                self.by_mqtt.insert(TokenEntry::new(&mqtt.id(), device.id));
            }
            Credential::PreSharedKey {
                ref identity,
                ref key,
            } => {
                self.by_psk_identity.insert(PskEntry {
                    identity_hash: psk_identity_hash(identity.as_bytes()),
                    device: device.id,
                    key: Arc::clone(key),
                });
                self.pre_shared_keys.fetch_add(1, Relaxed);
            }
        }
        let mut names = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        names.replace(ByName(device));
    }

    /// Ends a device's credential.
    fn end_credential(&self, device: &Device) {
        match &device.credential {
            Credential::AccessToken(token) => self.by_token.remove(token.as_bytes()),
            Credential::X509 { fingerprint } => self.by_fingerprint.remove(fingerprint),
            Credential::MqttBasic(mqtt) => self.by_mqtt.remove(mqtt.id().as_bytes()),
            Credential::PreSharedKey { identity, .. } => {
                let hash = psk_identity_hash(identity.as_bytes());
                self.by_psk_identity.remove(&hash);
                self.pre_shared_keys.fetch_sub(1, Relaxed);
            }
        }
    }

    /// Ends a device's credential and adds that to the batch which makes it durable. Returns when
    /// it was, if sessions can have been made with it.
    fn revoke(&self, device: &Device, writer: &Writer, batch: &mut OwnedWriteBatch) -> Option<u64> {
        self.end_credential(device);
        let identity = device.credential.session_identity()?;
        // Whoever looked the credential up did so before this moment.
        let unix_ms = unix_ms();
        let forgotten = self.revocations.record(Revocation { identity, unix_ms });
        batch.insert(&writer.meta, revoked_key(identity), unix_ms.to_be_bytes());
        for old in forgotten {
            batch.remove(&writer.meta, revoked_key(old.identity));
        }
        Some(unix_ms)
    }

    fn tell(&self, device: DeviceId, change: DeviceChange) {
        if let Some(observer) = self.observer.get() {
            observer(device, change);
        }
    }

    /// Makes a credential of what was asked for; the certificate's text is what is stored of it.
    fn credential(&self, new: &NewCredential) -> Result<(Credential, String), RegistryError> {
        match new {
            NewCredential::RandomToken => {
                let token = validate::random_token(&mut SystemRandom);
                Ok((Credential::AccessToken(token.into()), String::new()))
            }
            NewCredential::AccessToken(token) => {
                validate::token(token)?;
                Ok((
                    Credential::AccessToken(token.as_str().into()),
                    String::new(),
                ))
            }
            NewCredential::Certificate(der) => {
                validate::certificate(der)?;
                let fingerprint = device_fingerprint(der);
                Ok((Credential::X509 { fingerprint }, STANDARD.encode(der)))
            }
            NewCredential::CertificateText(text) => {
                validate::certificate_text(text)?;
                let fingerprint = text_fingerprint(text);
                Ok((Credential::X509 { fingerprint }, text.clone()))
            }
            NewCredential::MqttBasic(mqtt) => {
                mqtt.check().map_err(RegistryError::MqttBasic)?;
                Ok((Credential::MqttBasic(mqtt.clone()), String::new()))
            }
            NewCredential::PreSharedKey { identity, key } => {
                validate::psk_identity(identity)?;
                let key = match key {
                    Some(key) => Arc::clone(key),
                    None => Arc::new(PreSharedKey::random(&mut SystemRandom)),
                };
                validate::pre_shared_key(&key)?;
                let identity = identity.as_str().into();
                let credential = Credential::PreSharedKey { identity, key };
                Ok((credential, String::new()))
            }
        }
    }

    /// Refuses a credential that belongs to a device other than `owner`.
    fn check_free(
        &self,
        credential: &Credential,
        owner: Option<DeviceId>,
    ) -> Result<(), RegistryError> {
        let other = |found: Option<Arc<Device>>| found.filter(|device| Some(device.id) != owner);
        match credential {
            Credential::AccessToken(token) => match other(self.device_by_token(token)) {
                Some(_) => Err(RegistryError::TokenTaken),
                None => Ok(()),
            },
            Credential::X509 { fingerprint } => {
                match other(self.device_by_fingerprint(fingerprint)) {
                    Some(device) => Err(RegistryError::CertificateTaken(device.name.to_string())),
                    None => Ok(()),
                }
            }
            Credential::MqttBasic(mqtt) => {
                let found = self.by_mqtt.find(mqtt.id().as_bytes());
                match other(found.and_then(|entry| self.device(entry.device))) {
                    Some(device) => Err(RegistryError::MqttBasicTaken(device.name.to_string())),
                    None => Ok(()),
                }
            }
            Credential::PreSharedKey { identity, .. } => {
                let found = self.identify_psk_identity(&psk_identity_hash(identity.as_bytes()));
                match other(found.and_then(|id| self.device(id))) {
                    Some(device) => Err(RegistryError::PskIdentityTaken(device.name.to_string())),
                    None => Ok(()),
                }
            }
        }
    }

    /// Prepares a device to be added, and adds it to `batch`.
    fn prepare(
        &self,
        new: &NewDevice,
        writer: &mut Writer,
        batch: &mut OwnedWriteBatch,
        staged: &mut Staged,
    ) -> Result<Arc<Device>, RegistryError> {
        validate::name(&new.name)?;
        let profile = new.profile.as_deref().unwrap_or(DEFAULT_PROFILE);
        validate::profile(profile)?;
        let (credential, certificate) = self.credential(&new.credential)?;
        if self.device_by_name(&new.name).is_some() {
            return Err(RegistryError::NameTaken(new.name.clone()));
        }
        self.check_free(&credential, None)?;
        staged.check(&new.name, &credential)?;
        let device = Device {
            id: DeviceId(writer.next_device),
            name: new.name.as_str().into(),
            profile: intern(&mut writer.profile_names, profile),
            created_unix_ms: unix_ms(),
            credential,
            credential_generation: 0,
        };
        writer.next_device += 1;
        batch.insert(
            &writer.devices,
            device.id.0.to_be_bytes(),
            record::encode(&device, &certificate),
        );
        staged.insert(&device);
        Ok(Arc::new(device))
    }
}

impl Registry for EmbeddedRegistry {
    fn identify_token(&self, token: &str) -> Option<DeviceId> {
        self.by_token
            .find(token.as_bytes())
            .map(|entry| entry.device)
    }

    fn identify_fingerprint(&self, fingerprint: &[u8; 32]) -> Option<DeviceId> {
        self.by_fingerprint
            .find(fingerprint)
            .map(|entry| entry.device)
    }

    fn identify_psk_identity(&self, identity_hash: &[u8; 32]) -> Option<DeviceId> {
        let found = self.by_psk_identity.find(identity_hash);
        found.map(|entry| entry.device)
    }

    fn pre_shared_key(&self, identity_hash: &[u8; 32]) -> Option<Arc<PreSharedKey>> {
        self.by_psk_identity
            .find(identity_hash)
            .map(|entry| entry.key)
    }

    fn has_pre_shared_keys(&self) -> bool {
        self.pre_shared_keys.load(Relaxed) > 0
    }

    fn device_by_token(&self, token: &str) -> Option<Arc<Device>> {
        self.device(self.identify_token(token)?)
    }

    fn device_by_fingerprint(&self, fingerprint: &[u8; 32]) -> Option<Arc<Device>> {
        self.device(self.identify_fingerprint(fingerprint)?)
    }

    fn device_by_name(&self, name: &str) -> Option<Arc<Device>> {
        self.names().get(name).map(|found| Arc::clone(&found.0))
    }

    fn device(&self, id: DeviceId) -> Option<Arc<Device>> {
        self.by_id.find(&id)
    }

    fn len(&self) -> usize {
        self.names().len()
    }

    fn list(&self, after: Option<&str>, limit: usize) -> Vec<Arc<Device>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.names()
            .range::<str, _>((from, Bound::Unbounded))
            .take(limit)
            .map(|found| Arc::clone(&found.0))
            .collect()
    }

    fn certificate(&self, name: &str) -> Result<Option<String>, RegistryError> {
        let device = self
            .device_by_name(name)
            .ok_or_else(|| RegistryError::Unknown(name.into()))?;
        let writer = self.writer();
        let stored = writer
            .devices
            .get(device.id.0.to_be_bytes())
            .map_err(storage)?;
        let certificate = stored.and_then(|bytes| {
            let (_, certificate) = record::decode(device.id, &bytes, &mut |name| name.into())?;
            (!certificate.is_empty()).then_some(certificate)
        });
        Ok(certificate)
    }

    fn add_many(&self, devices: Vec<NewDevice>) -> Vec<Result<Arc<Device>, RegistryError>> {
        let mut writer = self.writer();
        let mut batch = writer
            .database
            .batch()
            .durability(Some(PersistMode::SyncAll));
        let mut staged = Staged::default();
        let mut results: Vec<_> = devices
            .iter()
            .map(|new| self.prepare(new, &mut writer, &mut batch, &mut staged))
            .collect();
        if batch.is_empty() {
            return results;
        }
        batch.insert(&writer.meta, NEXT_DEVICE, writer.next_device.to_be_bytes());
        let committed = writer.commit(batch);
        for result in &mut results {
            match (&committed, &result) {
                (Ok(()), Ok(device)) => self.insert(Arc::clone(device)),
                (Err(error), Ok(_)) => *result = Err(error.clone()),
                (_, Err(_)) => {}
            }
        }
        results
    }

    fn revocations(&self) -> &Arc<RevocationList> {
        &self.revocations
    }

    fn set_observer(&self, observer: DeviceObserver) {
        let _ = self.observer.set(observer);
    }

    fn remove(&self, name: &str) -> Result<Arc<Device>, RegistryError> {
        let writer = self.writer();
        let device = self
            .device_by_name(name)
            .ok_or_else(|| RegistryError::Unknown(name.into()))?;
        let mut batch = writer
            .database
            .batch()
            .durability(Some(PersistMode::SyncAll));
        batch.remove(&writer.devices, device.id.0.to_be_bytes());
        batch.remove(&writer.options, device.id.0.to_be_bytes());
        let revoked = self.revoke(&device, &writer, &mut batch);
        if let Err(error) = writer.commit(batch) {
            self.insert(device);
            return Err(error);
        }
        self.by_id.remove(&device.id);
        self.options.remove(&device.id);
        let mut names = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        names.remove(name);
        drop(names);
        drop(writer);
        self.tell(device.id, DeviceChange::Removed);
        if let Some(unix_ms) = revoked {
            self.revocations.publish(unix_ms);
        }
        Ok(device)
    }

    fn profiles(&self) -> &Profiles {
        &self.profiles
    }

    fn write_failure(&self) -> Option<String> {
        self.writes.failure()
    }

    fn options(&self, device: DeviceId) -> Arc<DeviceOptions> {
        self.find_options(device)
    }

    fn device_with_package(&self, package: u64) -> Option<DeviceId> {
        self.find_package_user(package)
    }

    fn add_profile(
        &self,
        name: &str,
        settings: ProfileSettings,
    ) -> Result<Arc<Profile>, RegistryError> {
        validate::profile(name)?;
        self.store_profile(name, &mut |known| match known {
            None => Ok(settings.clone()),
            Some(_) => Err(RegistryError::ProfileTaken(name.into())),
        })
    }

    fn change_profile(
        &self,
        name: &str,
        change: &mut dyn FnMut(&ProfileSettings) -> Result<ProfileSettings, RegistryError>,
    ) -> Result<Arc<Profile>, RegistryError> {
        self.store_profile(name, &mut |known| match known {
            Some(profile) => change(&profile.settings),
            None if name == DEFAULT_PROFILE => change(&ProfileSettings::default()),
            None => Err(RegistryError::UnknownProfile(name.into())),
        })
    }

    fn remove_profile(&self, name: &str) -> Result<(), RegistryError> {
        self.erase_profile(name)
    }

    fn change_options(
        &self,
        name: &str,
        change: &mut dyn FnMut(&mut DeviceOptions) -> Result<(), RegistryError>,
    ) -> Result<Arc<DeviceOptions>, RegistryError> {
        self.store_options(name, change)
    }

    fn set_profile(&self, name: &str, profile: &str) -> Result<Arc<Device>, RegistryError> {
        self.store_device_profile(name, profile)
    }

    fn set_credential(
        &self,
        name: &str,
        credential: NewCredential,
    ) -> Result<Arc<Device>, RegistryError> {
        let writer = self.writer();
        let before = self
            .device_by_name(name)
            .ok_or_else(|| RegistryError::Unknown(name.into()))?;
        let (credential, certificate) = self.credential(&credential)?;
        self.check_free(&credential, Some(before.id))?;
        let after = Arc::new(Device {
            credential,
            credential_generation: before.credential_generation + 1,
            ..Device::clone(&before)
        });
        let mut batch = writer
            .database
            .batch()
            .durability(Some(PersistMode::SyncAll));
        let record = record::encode(&after, &certificate);
        batch.insert(&writer.devices, after.id.0.to_be_bytes(), record);
        let revoked = self.revoke(&before, &writer, &mut batch);
        if let Err(error) = writer.commit(batch) {
            self.insert(before);
            return Err(error);
        }
        self.insert(Arc::clone(&after));
        drop(writer);
        self.tell(after.id, DeviceChange::Credential);
        if let Some(unix_ms) = revoked {
            self.revocations.publish(unix_ms);
        }
        Ok(after)
    }
}

impl std::fmt::Debug for EmbeddedRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedRegistry")
            .field("devices", &self.len())
            .finish_non_exhaustive()
    }
}

impl Borrow<str> for ByName {
    fn borrow(&self) -> &str {
        &self.0.name
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for ByName {}

impl PartialOrd for ByName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.name.cmp(&other.0.name)
    }
}

fn revoked_key(identity: SessionIdentity) -> Vec<u8> {
    [REVOKED, &identity.encode()].concat()
}

/// The credentials that ended, as far as they are stored.
fn read_revocations(meta: &Keyspace) -> Result<Vec<Revocation>, String> {
    let mut revocations = Vec::new();
    for entry in meta.prefix(REVOKED) {
        let (key, value) = entry.into_inner().map_err(|e| e.to_string())?;
        let identity = key.strip_prefix(REVOKED).and_then(SessionIdentity::decode);
        let unix_ms = value.as_ref().try_into().ok().map(u64::from_be_bytes);
        let (identity, unix_ms) = identity
            .zip(unix_ms)
            .ok_or_else(|| format!("the record of an ended credential, {key:?}, is damaged"))?;
        revocations.push(Revocation { identity, unix_ms });
    }
    Ok(revocations)
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "used as a function to map errors with"
)]
fn storage(error: fjall::Error) -> RegistryError {
    RegistryError::Storage(error.to_string())
}

fn intern(profiles: &mut HashMap<Box<str>, Arc<str>>, name: &str) -> Arc<str> {
    if let Some(known) = profiles.get(name) {
        return Arc::clone(known);
    }
    let profile: Arc<str> = name.into();
    profiles.insert(name.into(), Arc::clone(&profile));
    profile
}

#[expect(
    clippy::disallowed_methods,
    reason = "the time at which an administrator adds a device"
)]
fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A fingerprint as administrators write it: 64 hexadecimal digits.
pub fn fingerprint_text(fingerprint: &[u8; 32]) -> String {
    to_hex(fingerprint)
}

#[cfg(test)]
mod tests;
