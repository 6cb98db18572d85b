//! Profiles, and settings of single devices, as they are stored: JSON, so that a later version can
//! add to them.
//!
//! ```text
//! profiles: name -> version u8 = 1 | ProfileSettings as JSON
//! options:  id u64 big-endian -> version u8 = 1 | DeviceOptions as JSON
//! ```

use super::index::{Entry, Index};
use super::{
    ByName, DEFAULT_PROFILE, Device, DeviceId, DeviceOptions, EmbeddedRegistry, MARKER, Profile,
    ProfileSettings, Profiles, RegistryError, intern, record, storage, validate,
};
use crate::registry::profile::PROFILES_MAX;
use fjall::{Database, Keyspace, PersistMode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

const VERSION: u8 = 1;
/// In `meta`: the keyspaces here have had their markers. A data directory of an earlier version has
/// neither.
const KEPT: &str = "profiles-kept";

/// What is set for one device.
#[derive(Clone)]
pub(super) struct OptionsEntry {
    device: DeviceId,
    options: Arc<DeviceOptions>,
}

impl Entry for OptionsEntry {
    type Key = DeviceId;

    fn key(&self) -> &DeviceId {
        &self.device
    }
}

/// Looks for the row that each keyspace has from its first use: one without it has lost its rows.
pub(super) fn check_markers(
    database: &Database,
    meta: &Keyspace,
    keyspaces: [&Keyspace; 3],
) -> Result<(), String> {
    let text = |error: fjall::Error| error.to_string();
    if meta.contains_key(KEPT).map_err(text)? {
        for keyspace in keyspaces {
            if !keyspace.contains_key(MARKER).map_err(text)? {
                return Err(format!(
                    "the rows of its part {:?} are gone",
                    keyspace.name()
                ));
            }
        }
        return Ok(());
    }
    let mut batch = database.batch().durability(Some(PersistMode::SyncAll));
    for keyspace in keyspaces {
        // For packages this is the number of the next one.
        batch.insert(keyspace, MARKER, 1_u64.to_be_bytes());
    }
    batch.insert(meta, KEPT, []);
    batch.commit().map_err(text)
}

/// All stored profiles.
pub(super) fn read_profiles(keyspace: &Keyspace) -> Result<Profiles, String> {
    let mut all = HashMap::new();
    for entry in keyspace.iter() {
        let (key, value) = entry.into_inner().map_err(|e| e.to_string())?;
        if *key == MARKER {
            continue;
        }
        let damaged = || format!("the record of profile {key:?} is damaged");
        let name = std::str::from_utf8(&key).map_err(|_| damaged())?;
        let settings = decode(&value).ok_or_else(damaged)?;
        let profile = Profile::compile(name, settings).map_err(|error| error.to_string())?;
        all.insert(name.into(), Arc::new(profile));
    }
    Ok(Profiles::new(all))
}

/// What is set for single devices.
pub(super) fn read_options(keyspace: &Keyspace) -> Result<Index<OptionsEntry>, String> {
    let index = Index::new();
    for entry in keyspace.iter() {
        let (key, value) = entry.into_inner().map_err(|e| e.to_string())?;
        if *key == MARKER {
            continue;
        }
        let id = key.as_ref().try_into().ok().map(u64::from_be_bytes);
        let (device, options) = id
            .zip(decode(&value))
            .ok_or_else(|| format!("the settings of device {key:?} are damaged"))?;
        index.insert(OptionsEntry {
            device: DeviceId(device),
            options: Arc::new(options),
        });
    }
    Ok(index)
}

impl EmbeddedRegistry {
    pub(super) fn find_options(&self, device: DeviceId) -> Arc<DeviceOptions> {
        self.options
            .find(&device)
            .map(|entry| entry.options)
            .unwrap_or_default()
    }

    pub(super) fn find_package_user(&self, package: u64) -> Option<DeviceId> {
        let package = Some(package);
        let has = |entry: &OptionsEntry| {
            entry.options.firmware == package || entry.options.software == package
        };
        self.options.find_by(has).map(|entry| entry.device)
    }

    /// Stores what `make` makes of the profile that has the name now.
    pub(super) fn store_profile(
        &self,
        name: &str,
        make: &mut dyn FnMut(Option<&Profile>) -> Result<ProfileSettings, RegistryError>,
    ) -> Result<Arc<Profile>, RegistryError> {
        let writer = self.writer();
        let known = self.profiles.find(name);
        let profile = Profile::compile(name, make(known.as_deref())?)?;
        let refused =
            |problem: &str| Err(RegistryError::ProfileSettings(name.into(), problem.into()));
        if known.is_none() && self.profiles.list().len() >= PROFILES_MAX {
            return refused("there are as many profiles as there may be");
        }
        if let Some(key) = &profile.settings.provisioning.key
            && let Some(owner) = self.profiles.by_provision_key(key)
            && *owner.name != *name
        {
            return refused("its provisioning key belongs to another profile already");
        }
        let has_its_authority = |other: &Arc<Profile>| match (&other.chain, &profile.chain) {
            (Some(a), Some(b)) => *other.name != *name && a.authority.is_same(&b.authority),
            _ => false,
        };
        if self.profiles.with_chains().iter().any(has_its_authority) {
            return refused("its authority belongs to another profile already");
        }
        let record =
            encode(&profile.settings).map_err(|e| RegistryError::Storage(e.to_string()))?;
        let mut batch = writer
            .database
            .batch()
            .durability(Some(PersistMode::SyncAll));
        batch.insert(&writer.profiles, name, record);
        writer.commit(batch)?;
        let profile = Arc::new(profile);
        self.profiles.put(Arc::clone(&profile));
        Ok(profile)
    }

    pub(super) fn erase_profile(&self, name: &str) -> Result<(), RegistryError> {
        let writer = self.writer();
        if self.profiles.find(name).is_none() {
            return Err(RegistryError::UnknownProfile(name.into()));
        }
        // The default one can go: its devices have the built-in one then. Others' devices would
        // silently lose their limits and schemas.
        if name != DEFAULT_PROFILE
            && let Some(device) = self.device_with_profile(name)
        {
            let device = device.name.to_string();
            return Err(RegistryError::ProfileInUse(name.into(), device));
        }
        let mut batch = writer
            .database
            .batch()
            .durability(Some(PersistMode::SyncAll));
        batch.remove(&writer.profiles, name);
        writer.commit(batch)?;
        self.profiles.take(name);
        Ok(())
    }

    /// Gives a device another profile: its credential, and the sessions that it opened, stay.
    pub(super) fn store_device_profile(
        &self,
        name: &str,
        profile: &str,
    ) -> Result<Arc<Device>, RegistryError> {
        use crate::registry::Registry as _;
        validate::profile(profile)?;
        let mut writer = self.writer();
        let before = self
            .device_by_name(name)
            .ok_or_else(|| RegistryError::Unknown(name.into()))?;
        let key = before.id.0.to_be_bytes();
        let stored = writer.devices.get(key).map_err(storage)?;
        let certificate = stored
            .and_then(|bytes| record::decode(before.id, &bytes, &mut |name| name.into()))
            .map(|(_, certificate)| certificate)
            .ok_or_else(|| RegistryError::Storage(format!("the record of {name:?} is damaged")))?;
        let after = Arc::new(Device {
            profile: intern(&mut writer.profile_names, profile),
            ..Device::clone(&before)
        });
        let mut batch = writer
            .database
            .batch()
            .durability(Some(PersistMode::SyncAll));
        batch.insert(&writer.devices, key, record::encode(&after, &certificate));
        writer.commit(batch)?;
        self.by_id.insert(Arc::clone(&after));
        let mut names = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        names.replace(ByName(Arc::clone(&after)));
        Ok(after)
    }

    /// One of a profile's devices. Looks at all devices.
    fn device_with_profile(&self, profile: &str) -> Option<Arc<Device>> {
        self.names()
            .iter()
            .find(|ByName(device)| *device.profile == *profile)
            .map(|ByName(device)| Arc::clone(device))
    }

    pub(super) fn store_options(
        &self,
        name: &str,
        change: &mut dyn FnMut(&mut DeviceOptions) -> Result<(), RegistryError>,
    ) -> Result<Arc<DeviceOptions>, RegistryError> {
        use crate::registry::Registry as _;
        let writer = self.writer();
        let device = self
            .device_by_name(name)
            .ok_or_else(|| RegistryError::Unknown(name.into()))?
            .id;
        let mut options = DeviceOptions::clone(&self.find_options(device));
        change(&mut options)?;
        let mut batch = writer
            .database
            .batch()
            .durability(Some(PersistMode::SyncAll));
        let is_empty = options == DeviceOptions::default();
        if is_empty {
            batch.remove(&writer.options, device.0.to_be_bytes());
        } else {
            let record = encode(&options).map_err(|e| RegistryError::Storage(e.to_string()))?;
            batch.insert(&writer.options, device.0.to_be_bytes(), record);
        }
        writer.commit(batch)?;
        let options = Arc::new(options);
        if is_empty {
            self.options.remove(&device);
        } else {
            self.options.insert(OptionsEntry {
                device,
                options: Arc::clone(&options),
            });
        }
        Ok(options)
    }
}

fn encode(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut record = vec![VERSION];
    serde_json::to_writer(&mut record, value)?;
    Ok(record)
}

fn decode<T: DeserializeOwned>(record: &[u8]) -> Option<T> {
    let json = record.strip_prefix(&[VERSION])?;
    serde_json::from_slice(json).ok()
}
