//! The device API: telemetry and attributes (TB sections 5 to 7).
//!
//! ```text
//! path, method --route--> 4.04, 4.05, 4.00, or an action
//!     --authenticate--> 4.01, or a device
//!         --payload--> 4.00, 4.13, 5.00, or values in the batch -> 2.01 once durable
//! ```
//!
//! # Who asks
//!
//! On a secure session whose peer has proven the key of a *registered* certificate, or a pre-shared
//! key, that certificate's or key's device asks, whatever token the path holds (TB section 3.6).
//! Otherwise the token
//! in the path tells. The registry is asked at every request, so a credential that was removed or
//! replaced ends with the next one, on live sessions too.
//!
//! A token is looked up in a hash map under a key drawn at start, and only an entry with the same
//! 64-bit hash is compared with it. Without the key nobody can aim a guess at an entry, so the time
//! that the lookup takes says nothing about how much of a guess was right.
//!
//! # Where codes are chosen
//!
//! TB section 6 with its recommendations, except where section 10 states a code: a timestamp that
//! is not a number is 5.00 (vector 6). An empty array of telemetry is 2.01. Beyond ThingsBoard, which
//! answers 2.01 and stores nothing: an empty key, a key of more than 255 bytes and a number of more
//! than 350 plain digits are 4.00, as a 2.01 here means *stored*. What is not there yet (claiming,
//! provisioning, OTA, Efento) is 5.01, after the checks of path and credential.
//!
//! # What is observed
//!
//! Attributes and calls ([`Hub::observe`]). An Observe option with another value than 0 asks for
//! nothing but an answer; that it ends a relation when it is 1 is the shard's business (RFC 7641
//! section 3.6). Any accepted request of a device shows that it is there ([`Hub::uplink`]).

pub mod code;
mod payload;
mod read;
mod route;

use crate::auth::downlink::{Hub, Topic};
use crate::auth::request::{Identity, Request, Response};
use crate::crypto::pre_shared_key::PreSharedKey;
use crate::registry::{DeviceId, Registry};
use crate::store::{Batch, Store};
use route::{Action, Route, Segments};
use std::sync::Arc;

/// Observe that registers (RFC 7641 section 2).
const REGISTER: u32 = 0;

/// What of the device API can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiSettings {
    /// `JSON_TYPE_CAST_ENABLED`: strings that look like numbers become numbers.
    pub type_cast: bool,
    /// `JSON_MAX_STRING_VALUE_LENGTH`: most characters of a string value; 0 = any number.
    pub string_value_length_max: usize,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            type_cast: true,
            string_value_length_max: 0,
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The answer, at once.
    Respond(Response),
    /// The answer once what was added to the batch is durable.
    Durable(Response),
    /// The answer comes, or has come, from the hub.
    Elsewhere,
}

/// The device API: from a request to its answer.
pub struct Api {
    registry: Arc<dyn Registry>,
    store: Arc<dyn Store>,
    hub: Arc<Hub>,
    settings: ApiSettings,
}

impl Api {
    /// The API on this registry and store; `hub` works on the same ones.
    pub fn new(
        registry: Arc<dyn Registry>,
        store: Arc<dyn Store>,
        hub: Arc<Hub>,
        settings: ApiSettings,
    ) -> Self {
        Self {
            registry,
            store,
            hub,
            settings,
        }
    }

    /// What devices observe and are told.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Answers a request. What it writes is added to `batch`, which is left as it was unless the
    /// outcome is [`Outcome::Durable`].
    pub fn handle(&self, request: &Request, batch: &mut Batch) -> Outcome {
        let segments = Segments::of(&request.message);
        let response = match route::route(&request.message, segments.as_slice()) {
            Route::Refused(code) => Response::empty(code),
            Route::Root => read::root(),
            Route::WellKnownCore => read::well_known_core(),
            Route::Provision | Route::Efento => Response::empty(code::NOT_IMPLEMENTED),
            Route::Device { action, token } => match self.authenticate(request, token) {
                Some(device) => {
                    return self.device_request(request, action, token, device, batch);
                }
                None => Response::empty(code::UNAUTHORIZED),
            },
        };
        Outcome::Respond(response)
    }

    /// Whether handling `request` may wait for the disk.
    pub fn may_block(request: &Request) -> bool {
        const POST: u8 = 2;
        request.message.method != POST
    }

    /// The key of the device whose PSK identity has this SHA-256.
    pub fn pre_shared_key(&self, identity: &[u8; 32]) -> Option<Arc<PreSharedKey>> {
        self.registry.pre_shared_key(identity)
    }

    fn authenticate(&self, request: &Request, token: Option<&[u8]>) -> Option<DeviceId> {
        let by_session = match &request.identity {
            Identity::Certificate(fingerprint) => self.registry.identify_fingerprint(fingerprint),
            Identity::PreSharedKey(identity) => self.registry.identify_psk_identity(identity),
            Identity::Anonymous => None,
        };
        if let Some(device) = by_session.filter(|_| request.secure) {
            return Some(device);
        }
        let token = std::str::from_utf8(token?).ok()?;
        self.registry.identify_token(token)
    }

    fn device_request(
        &self,
        request: &Request,
        action: Action,
        token: Option<&[u8]>,
        device: DeviceId,
        batch: &mut Batch,
    ) -> Outcome {
        let message = &request.message;
        let received_ms = i64::try_from(request.received_unix_ms).unwrap_or(i64::MAX);
        if action != Action::Ota {
            self.hub.uplink(device, request.received_unix_ms);
        }
        let observe = |topic| {
            let may = || self.authenticate(request, token) == Some(device);
            match self.hub.observe(topic, device, request, &may) {
                Ok(()) => Outcome::Elsewhere,
                Err(refusal) => Outcome::Respond(refusal),
            }
        };
        let upload = match action {
            Action::PostTelemetry => payload::telemetry,
            Action::PostAttributes => payload::attributes,
            Action::ReadAttributes if message.observe == Some(REGISTER) => {
                return observe(Topic::Attributes);
            }
            Action::ObserveRpc if message.observe == Some(REGISTER) => {
                return observe(Topic::Rpc);
            }
            Action::ObserveRpc => {
                let later = self.hub.long_body(Topic::Rpc, device, request);
                let code = match message.observe {
                    Some(_) => code::CONTENT,
                    None => code::BAD_REQUEST,
                };
                return Outcome::Respond(later.unwrap_or_else(|| Response::empty(code)));
            }
            Action::Call => {
                return self
                    .hub
                    .client_call(device, request)
                    .map_or(Outcome::Elsewhere, Outcome::Respond);
            }
            Action::Reply(id) => {
                return self
                    .hub
                    .reply(device, id, request)
                    .map_or(Outcome::Elsewhere, Outcome::Respond);
            }
            Action::ReadAttributes => {
                if let Some(later) = self.hub.long_body(Topic::Attributes, device, request) {
                    return Outcome::Respond(later);
                }
                let read = read::attributes(&*self.store, device, message);
                return Outcome::Respond(read.unwrap_or_else(|error| {
                    tracing::error!(%error, %device, "attributes cannot be read");
                    Response::empty(code::INTERNAL_SERVER_ERROR)
                }));
            }
            Action::Claim | Action::Ota => {
                return Outcome::Respond(Response::empty(code::NOT_IMPLEMENTED));
            }
        };
        let mark = batch.begin();
        let uploaded = upload(
            message.payload(),
            device,
            received_ms,
            &self.settings,
            batch,
        );
        match uploaded {
            Err(refusal) => {
                batch.rollback(mark);
                Outcome::Respond(Response::empty(refusal.0))
            }
            // Nothing to store: nothing to wait for.
            Ok(()) if batch.mark() == mark => Outcome::Respond(Response::empty(code::CREATED)),
            Ok(()) => Outcome::Durable(Response::empty(code::CREATED)),
        }
    }
}

#[cfg(test)]
mod tests;
