//! Devices that register themselves (TB section 7.6).
//!
//! ```text
//! JSON object, else protobuf  --read-->  Asked
//!   key -> profile, secret compared   --> 4.00 NOT_FOUND
//!     strategy ALLOW_CREATE: a new device          --> 4.00 FAILURE when there is one of the name
//!     strategy CHECK_PRE_PROVISIONED: its credentials, once
//!       --> 2.01 with the credentials
//! ```
//!
//! Nobody is authenticated here, so guessing is limited: each peer may be wrong a few times a
//! minute, and each profile's secret may be missed only so often by all of them together (of DTLS, and of
//! plain CoAP). What is beyond is answered 4.29, right or wrong.
//!
//! The registry has made everything durable that counts before the answer. What the store is to have of it
//! is told to it before, too, but if that takes nothing at the moment the device gets its credentials
//! nevertheless: it is there, and would be refused them for good when it comes again.

mod answer;
mod guard;
mod read;

use guard::Asker;
pub(super) use guard::Guard;

use super::{Api, Outcome, code};
use crate::auth::pool::RETRY_AFTER_S;
use crate::auth::request::{Request, Response};
use crate::auth::tally::Tallied;
use crate::registry::packages::{PackageKind, announce};
use crate::registry::profile::{Profile, Strategy};
use crate::registry::{Credential, DEFAULT_PROFILE, Device, NewDevice, RegistryError};
use crate::store::{AttributeScope, Batch, Overloaded, ValueRef};
use answer::{Answer, Given};
use read::{Asked, Form};
use std::sync::{Arc, mpsc};

/// Why nothing was provisioned.
enum Refused {
    /// No such key, another secret, or switched off.
    NotFound,
    /// The device cannot be made, or had its credentials already.
    Failure,
    /// An answer of its own.
    With(Response),
}

impl Api {
    pub(super) fn provision(&self, request: &Request) -> Outcome {
        let (asked, form) = match read::read(request.message.payload()) {
            Ok(read) => read,
            Err(code) => return Outcome::Respond(Response::empty(code)),
        };
        let done = self.provision_asked(request, &asked);
        let tally = self.hub.tally();
        match &done {
            Ok(_) => tally.count(Tallied::Provisioned),
            Err(Refused::NotFound) => tally.count(Tallied::ProvisionNotFound),
            Err(Refused::Failure) => tally.count(Tallied::ProvisionFailed),
            Err(Refused::With(_)) => {}
        }
        match done {
            Ok(given) => Outcome::Respond(Answer::Success(&given).response(form)),
            Err(Refused::NotFound) => Outcome::Respond(Answer::NotFound.response(form)),
            Err(Refused::Failure) => Outcome::Respond(Answer::Failure.response(form)),
            Err(Refused::With(response)) => Outcome::Respond(response),
        }
    }

    fn provision_asked(&self, request: &Request, asked: &Asked) -> Result<Given, Refused> {
        let profile = self.provisioning_profile(request, asked)?;
        let device = match profile.settings.provisioning.strategy {
            // Chains are not asked for by a secret.
            Strategy::Disabled | Strategy::X509CertificateChain => return Err(Refused::NotFound),
            Strategy::AllowCreateNewDevices => self.create(asked, &profile)?,
            Strategy::CheckPreProvisionedDevices => self.pre_provisioned(asked, &profile)?,
        };
        let given = self.given(&device)?;
        let now_ms = i64::try_from(request.received_unix_ms).unwrap_or(i64::MAX);
        let mut batch = Batch::new();
        batch.begin();
        // The registry decides; this is for the operator, as in ThingsBoard.
        let state = ValueRef::String("provisioned");
        let scope = AttributeScope::Server;
        let _ = batch.push_attribute(device.id, scope, "provisionState", now_ms, state);
        if profile.settings.provisioning.strategy == Strategy::AllowCreateNewDevices {
            self.announce_packages(&device, now_ms, &mut batch);
        }
        self.store_beside(&device, batch);
        Ok(given)
    }

    /// The profile of the key, if the secret is its own.
    fn provisioning_profile(
        &self,
        request: &Request,
        asked: &Asked,
    ) -> Result<Arc<Profile>, Refused> {
        let now_ms = request.received_unix_ms;
        let asker = Asker {
            peer: request.peer,
            secure: request.secure,
        };
        let profile = self.registry.profiles().by_provision_key(&asked.key);
        let name = profile.as_ref().map(|profile| &*profile.name);
        self.provisioning
            .check(asker, name, now_ms)
            .map_err(|wait| {
                self.hub.tally().count(Tallied::ProvisionLimited);
                Refused::With(self.limiter.refuse(wait))
            })?;
        // Of an unknown key as well, so that the time does not tell which keys there are.
        let undefined;
        let candidate = match &profile {
            Some(profile) => profile,
            None => {
                undefined = self.registry.profiles().of(DEFAULT_PROFILE);
                &undefined
            }
        };
        let is_right = candidate.settings.provisioning.is_secret(&asked.secret);
        match profile {
            Some(profile) if is_right => Ok(profile),
            profile => {
                let name = profile.as_ref().map(|profile| &*profile.name);
                self.provisioning.count_failure(asker, name, now_ms);
                Err(Refused::NotFound)
            }
        }
    }

    fn create(&self, asked: &Asked, profile: &Profile) -> Result<Arc<Device>, Refused> {
        let added = self.registry.add(NewDevice {
            name: asked.name.clone(),
            profile: Some(profile.name.to_string()),
            credential: asked.credential.clone(),
        });
        let device = added.map_err(refused)?;
        self.mark_provisioned(&device)?;
        Ok(device)
    }

    /// A device of the profile that has not fetched its credentials yet.
    fn pre_provisioned(&self, asked: &Asked, profile: &Profile) -> Result<Arc<Device>, Refused> {
        let device = self
            .registry
            .device_by_name(&asked.name)
            .filter(|device| *device.profile == *profile.name)
            // Nothing shows a pre-shared key again.
            .filter(|device| !matches!(device.credential, Credential::PreSharedKey { .. }))
            .ok_or(Refused::Failure)?;
        self.mark_provisioned(&device)?;
        Ok(device)
    }

    /// Once for each device, whoever comes first.
    fn mark_provisioned(&self, device: &Device) -> Result<(), Refused> {
        let marked = self.registry.change_options(&device.name, &mut |options| {
            if options.provisioned {
                return Err(RegistryError::Options("provisioned already".to_owned()));
            }
            options.provisioned = true;
            Ok(())
        });
        marked.map(drop).map_err(refused)
    }

    fn given(&self, device: &Device) -> Result<Given, Refused> {
        match &device.credential {
            Credential::AccessToken(token) => Ok(Given::Token(token.to_string())),
            Credential::X509 { .. } => match self.registry.certificate(&device.name) {
                Ok(certificate) => Ok(Given::Certificate(certificate.unwrap_or_default())),
                Err(error) => Err(refused(error)),
            },
            Credential::MqttBasic(mqtt) => Ok(Given::Mqtt(mqtt.clone())),
            Credential::PreSharedKey { .. } => Err(Refused::Failure),
        }
    }

    /// Stores what goes with a device that was just registered, and waits for that.
    pub(super) fn store_beside(&self, device: &Device, batch: Batch) {
        if batch.is_empty() {
            return;
        }
        let (done, stored) = mpsc::sync_channel(1);
        let completion = move |result: Result<(), &_>| {
            // Somebody waits.
            let _ = done.send(result.is_ok());
        };
        let taken = self.store.append(batch, Box::new(completion));
        let is_stored = match taken {
            Ok(()) => stored.recv().unwrap_or(false),
            Err(Overloaded(_)) => false,
        };
        if !is_stored {
            tracing::warn!(device = %device.name, "attributes of a device that registered itself are not stored");
        }
    }

    /// Tells a new device of the packages of its profile.
    pub(super) fn announce_packages(&self, device: &Device, now_ms: i64, batch: &mut Batch) {
        for kind in PackageKind::ALL {
            let id = self.registry.assigned_package(device.id, kind);
            let package = id.and_then(|id| self.packages.as_ref()?.find(id));
            if let Some(package) = package {
                announce(&package, device.id, now_ms, batch);
            }
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "used to map errors with")]
fn refused(error: RegistryError) -> Refused {
    match error {
        RegistryError::Storage(reason) => {
            tracing::error!(%reason, "a device cannot be provisioned");
            Refused::With(Response {
                max_age: Some(RETRY_AFTER_S),
                ..Response::empty(code::SERVICE_UNAVAILABLE)
            })
        }
        _ => Refused::Failure,
    }
}

impl Form {
    const fn is_json(self) -> bool {
        matches!(self, Self::Json)
    }
}
