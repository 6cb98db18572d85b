//! A registry in memory: the embedded one keeps threads of its own, which a seed does not rule.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate::crypto::fingerprint::device_fingerprint;
use tidegate::crypto::pre_shared_key::PreSharedKey;
use tidegate::dtls::{PeerIdentity, Revocations};
use tidegate::registry::revocation::{Revocation, RevocationList, SessionIdentity};
use tidegate::registry::{
    Credential, Device, DeviceId, NewCredential, NewDevice, Registry, RegistryError,
};

/// Devices by name; few, so searching does.
#[derive(Default)]
pub(crate) struct TestRegistry {
    devices: Mutex<BTreeMap<Box<str>, Arc<Device>>>,
    revocations: Arc<RevocationList>,
}

impl TestRegistry {
    fn devices(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Arc<Device>>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, is_it: impl Fn(&Device) -> bool) -> Option<Arc<Device>> {
        self.devices()
            .values()
            .find(|device| is_it(device))
            .cloned()
    }

    /// Removes a device at a time of the virtual clock.
    pub(crate) fn remove_at(&self, name: &str, unix_ms: u64) {
        let device = self.devices().remove(name).expect("a device of this name");
        if let Some(identity) = device.credential.session_identity() {
            self.revocations.record(Revocation { identity, unix_ms });
            self.revocations.publish(unix_ms);
        }
    }
}

impl Registry for TestRegistry {
    fn device_by_token(&self, token: &str) -> Option<Arc<Device>> {
        self.find(
            |device| matches!(&device.credential, Credential::AccessToken(own) if **own == *token),
        )
    }

    fn device_by_fingerprint(&self, fingerprint: &[u8; 32]) -> Option<Arc<Device>> {
        self.find(|device| match &device.credential {
            Credential::X509 { fingerprint: own } => own == fingerprint,
            _ => false,
        })
    }

    fn identify_psk_identity(&self, identity_hash: &[u8; 32]) -> Option<DeviceId> {
        self.find(|device| is_of(device, identity_hash))
            .map(|device| device.id)
    }

    fn pre_shared_key(&self, identity_hash: &[u8; 32]) -> Option<Arc<PreSharedKey>> {
        let device = self.find(|device| is_of(device, identity_hash))?;
        match &device.credential {
            Credential::PreSharedKey { key, .. } => Some(Arc::clone(key)),
            _ => None,
        }
    }

    fn has_pre_shared_keys(&self) -> bool {
        let has_key =
            |device: &Device| matches!(device.credential, Credential::PreSharedKey { .. });
        self.find(has_key).is_some()
    }

    fn device_by_name(&self, name: &str) -> Option<Arc<Device>> {
        self.devices().get(name).cloned()
    }

    fn device(&self, id: DeviceId) -> Option<Arc<Device>> {
        self.find(|device| device.id == id)
    }

    fn len(&self) -> usize {
        self.devices().len()
    }

    fn list(&self, _: Option<&str>, _: usize) -> Vec<Arc<Device>> {
        self.devices().values().cloned().collect()
    }

    fn certificate(&self, name: &str) -> Result<Option<String>, RegistryError> {
        Err(RegistryError::Unknown(name.into()))
    }

    fn add_many(&self, devices: Vec<NewDevice>) -> Vec<Result<Arc<Device>, RegistryError>> {
        let add = |new: NewDevice| {
            let mut devices = self.devices();
            let device = Arc::new(Device {
                id: DeviceId(1 + devices.len() as u64),
                name: new.name.into(),
                profile: "default".into(),
                created_unix_ms: 0,
                credential: match new.credential {
                    NewCredential::AccessToken(token) => Credential::AccessToken(token.into()),
                    NewCredential::Certificate(der) => Credential::X509 {
                        fingerprint: device_fingerprint(&der),
                    },
                    NewCredential::PreSharedKey {
                        identity,
                        key: Some(key),
                    } => Credential::PreSharedKey {
                        identity: identity.into(),
                        key,
                    },
                    other => panic!("not used by the simulation: {other:?}"),
                },
                credential_generation: 0,
            });
            devices.insert(device.name.clone(), Arc::clone(&device));
            Ok(device)
        };
        devices.into_iter().map(add).collect()
    }

    fn revocations(&self) -> &Arc<RevocationList> {
        &self.revocations
    }

    fn remove(&self, name: &str) -> Result<Arc<Device>, RegistryError> {
        Err(RegistryError::Unknown(name.into()))
    }

    fn set_credential(&self, name: &str, _: NewCredential) -> Result<Arc<Device>, RegistryError> {
        Err(RegistryError::Unknown(name.into()))
    }
}

fn is_of(device: &Device, identity_hash: &[u8; 32]) -> bool {
    let identity = SessionIdentity::PreSharedKey(*identity_hash);
    device.credential.session_identity() == Some(identity)
}

/// The registry, as handshakes ask it.
pub(crate) struct Ended(pub(crate) Arc<TestRegistry>);

impl std::fmt::Debug for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ended")
    }
}

impl Revocations for Ended {
    fn is_revoked(&self, identity: &PeerIdentity, since_unix_ms: u64) -> bool {
        let identity = match *identity {
            PeerIdentity::Anonymous => return false,
            PeerIdentity::Certificate(fingerprint) => SessionIdentity::Certificate(fingerprint),
            PeerIdentity::PreSharedKey(identity) => SessionIdentity::PreSharedKey(identity),
        };
        self.0.revocations.is_revoked(&identity, since_unix_ms)
    }

    fn has_pre_shared_keys(&self) -> bool {
        self.0.has_pre_shared_keys()
    }
}
