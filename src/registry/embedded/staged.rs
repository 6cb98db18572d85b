//! Devices that are added in one call must not take each other's names and credentials.

use super::{Credential, Device, RegistryError};
use std::collections::HashMap;

/// What the devices before it in the same call take.
#[derive(Default)]
pub(super) struct Staged {
    names: HashMap<Box<str>, ()>,
    tokens: HashMap<Box<str>, ()>,
    fingerprints: HashMap<[u8; 32], Box<str>>,
    psk_identities: HashMap<Box<str>, Box<str>>,
    mqtt: HashMap<String, Box<str>>,
}

impl Staged {
    pub(super) fn check(&self, name: &str, credential: &Credential) -> Result<(), RegistryError> {
        if self.names.contains_key(name) {
            return Err(RegistryError::NameTaken(name.into()));
        }
        match credential {
            Credential::AccessToken(token) if self.tokens.contains_key(token) => {
                Err(RegistryError::TokenTaken)
            }
            Credential::X509 { fingerprint } => match self.fingerprints.get(fingerprint) {
                Some(owner) => Err(RegistryError::CertificateTaken(owner.to_string())),
                None => Ok(()),
            },
            Credential::PreSharedKey { identity, .. } => match self.psk_identities.get(identity) {
                Some(owner) => Err(RegistryError::PskIdentityTaken(owner.to_string())),
                None => Ok(()),
            },
            Credential::MqttBasic(mqtt) => match self.mqtt.get(&mqtt.id()) {
                Some(owner) => Err(RegistryError::MqttBasicTaken(owner.to_string())),
                None => Ok(()),
            },
            Credential::AccessToken(_) => Ok(()),
        }
    }

    pub(super) fn insert(&mut self, device: &Device) {
        self.names.insert(device.name.clone(), ());
        match &device.credential {
            Credential::AccessToken(token) => {
                self.tokens.insert(token.clone(), ());
            }
            Credential::X509 { fingerprint } => {
                self.fingerprints.insert(*fingerprint, device.name.clone());
            }
            Credential::MqttBasic(mqtt) => {
                self.mqtt.insert(mqtt.id(), device.name.clone());
            }
            Credential::PreSharedKey { identity, .. } => {
                let owner = device.name.clone();
                self.psk_identities.insert(identity.clone(), owner);
            }
        }
    }
}
