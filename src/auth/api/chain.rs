//! Devices that register themselves by their certificate chain (TB section 4.1, there for MQTT only).
//!
//! ```text
//! handshake: leaf's key proven, a wanted authority's name in the chain -> OfferedChains (bounded)
//! request:   leaf is nobody's -> its chain is taken -> verified to the profile's authority
//!            -> name by the profile's pattern -> device of that name: its certificate is replaced
//!                                            \-> no such device: made, if the profile allows it
//! ```
//!
//! The handshake waits for nothing of this: the first request of the session that nothing else tells
//! the device of does. Unlike ThingsBoard, which trusts any chain that has the authority's certificate
//! in it, the signatures, dates and constraints of all certificates are verified, and a certificate does
//! not take the place of one that was made after it: who has got hold of an old key gains nothing once
//! the device has a new one.

use super::{Api, Request};
use crate::auth::request::Identity;
use crate::auth::tally::Tallied;
use crate::crypto::certificate::LeafInfo;
use crate::crypto::chain::issuers;
use crate::crypto::fingerprint::to_hex;
use crate::registry::profile::Profile;
use crate::registry::{Credential, Device, DeviceId, NewCredential, NewDevice};
use crate::store::Batch;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::sync::{Arc, PoisonError};

/// What a verified chain says.
struct Proven {
    profile: Arc<Profile>,
    name: String,
    may_create: bool,
}

impl Api {
    /// Whether handling the request may register a device.
    pub(super) fn may_register(&self, request: &Request) -> bool {
        match &request.identity {
            Identity::Certificate(fingerprint) if request.secure => {
                let chains = self.registry.profiles().offered_chains();
                chains.get(fingerprint).is_some()
                    && self.registry.identify_fingerprint(fingerprint).is_none()
            }
            _ => false,
        }
    }

    /// The device of a leaf that was nobody's, by the chain that was shown with it.
    pub(super) fn register(&self, request: &Request) -> Option<DeviceId> {
        let Identity::Certificate(fingerprint) = &request.identity else {
            return None;
        };
        let chains = self.registry.profiles().offered_chains();
        if !request.secure || !chains.wants_any() {
            return None;
        }
        let Some(chain) = chains.get(fingerprint) else {
            // Another request of the session may have been faster.
            return self.registry.identify_fingerprint(fingerprint);
        };
        let Some(proven) = self.proven(&chain, fingerprint, request.received_unix_ms) else {
            chains.remove(fingerprint);
            self.hub.tally().count(Tallied::ProvisionFailed);
            return None;
        };
        let _one_after_the_other = self
            .registering
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = self.registry.identify_fingerprint(fingerprint);
        let device = known.or_else(|| {
            let leaf = chain.first()?;
            self.register_proven(&proven, leaf, request.received_unix_ms)
        });
        if device.is_none() {
            self.hub.tally().count(Tallied::ProvisionFailed);
        }
        chains.remove(fingerprint);
        device
    }

    /// Verifies the chain to the authority of a profile. Who operates the server is told why one is
    /// refused: the device learns 4.01 only. Each costs its sender a handshake.
    fn proven(&self, chain: &[Vec<u8>], fingerprint: &[u8; 32], now_ms: u64) -> Option<Proven> {
        let issuers = issuers(chain);
        for profile in self.registry.profiles().with_chains() {
            let Some(rule) = &profile.chain else { continue };
            if !issuers.contains(&rule.authority.name_digest()) {
                continue;
            }
            if let Err(reason) = rule.authority.verify(chain, now_ms) {
                tracing::info!(fingerprint = %to_hex(fingerprint), profile = %profile.name, %reason, "a certificate chain was refused");
                continue;
            }
            // No other profile has the same authority.
            let Some(name) = rule.device_name(chain.first()?) else {
                tracing::info!(fingerprint = %to_hex(fingerprint), profile = %profile.name,
                    "a certificate chain was refused: its leaf does not match certificateRegExPattern");
                return None;
            };
            let may_create = rule.may_create;
            return Some(Proven {
                profile,
                name,
                may_create,
            });
        }
        None
    }

    fn register_proven(&self, proven: &Proven, leaf: &[u8], now_ms: u64) -> Option<DeviceId> {
        let Proven { profile, name, .. } = proven;
        let credential = NewCredential::Certificate(leaf.to_vec());
        let known = self.registry.device_by_name(name);
        let is_new = known.is_none();
        let registered = match known {
            Some(device) if !self.may_renew(&device, profile, leaf) => {
                tracing::info!(device = ?name, profile = %profile.name,
                    "a certificate chain was refused: the device has another profile, another kind of credential, or a newer certificate");
                return None;
            }
            Some(_) => self.registry.set_credential(name, credential),
            None if proven.may_create => self.registry.add(NewDevice {
                name: name.clone(),
                profile: Some(profile.name.to_string()),
                credential,
            }),
            None => {
                tracing::info!(device = ?name, profile = %profile.name,
                    "a certificate chain was refused: there is no such device, and the profile makes none");
                return None;
            }
        };
        let logged = registered.inspect_err(|error| {
            tracing::warn!(device = ?name, %error, "a device cannot be registered by its chain");
        });
        let device = logged.ok()?;
        tracing::info!(device = %name, profile = %profile.name, "registered by its certificate chain");
        self.hub.tally().count(Tallied::Provisioned);
        if is_new {
            self.store_announcements(&device, now_ms);
        }
        Some(device.id)
    }

    /// Whether a chain of the profile may replace the device's certificate by this one.
    fn may_renew(&self, device: &Device, profile: &Profile, leaf: &[u8]) -> bool {
        let begin = |der: &[u8]| {
            let leaf = LeafInfo::parse(der).ok()?;
            Some(leaf.validity.not_before_unix_s)
        };
        let is_older = || {
            let text = self.registry.certificate(&device.name).ok()??;
            let current = STANDARD.decode(text).ok()?;
            Some(begin(leaf)? < begin(&current)?)
        };
        *device.profile == *profile.name
            && matches!(device.credential, Credential::X509 { .. })
            && !is_older().unwrap_or(false)
    }

    /// Tells the new device of its profile's packages, before the request that made it is answered: it
    /// may ask for them.
    fn store_announcements(&self, device: &Device, now_ms: u64) {
        let mut batch = Batch::new();
        batch.begin();
        let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        self.announce_packages(device, now_ms, &mut batch);
        self.store_beside(device, batch);
    }
}
