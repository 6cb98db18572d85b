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
//! than 350 plain digits are 4.00, as a 2.01 here means *stored*; client attributes beyond a mebibyte of
//! memory for a device are 4.13.
//!
//! # What is observed
//!
//! Attributes and calls ([`Hub::observe`]). An Observe option with another value than 0 asks for
//! nothing but an answer; that it ends a relation when it is 1 is the shard's business (RFC 7641
//! section 3.6). Any request of a device shows that it is there ([`Hub::uplink`]), except the
//! download of a package.

mod chain;
mod claim;
pub mod code;
mod efento;
mod limits;
mod ota;
mod payload;
pub(in crate::auth) mod proto;
mod provision;
mod read;
mod route;
mod upload;

pub use limits::{Refusal as RateLimitRefusal, ServerLimits};

use crate::auth::downlink::{Hub, Topic};
use crate::auth::request::{Identity, Request, Response};
use crate::auth::tally::Tallied;
use crate::crypto::pre_shared_key::PreSharedKey;
use crate::registry::claim::Claims;
use crate::registry::packages::Packages;
use crate::registry::profile::{DeviceType, PayloadType, Profile};
use crate::registry::{DeviceId, Registry};
use crate::store::{Batch, Store};
use limits::{Limiter, Load};
use provision::Guard;
use route::{Action, Route, Segments};
use std::sync::{Arc, Mutex};

/// Observe that registers (RFC 7641 section 2).
const REGISTER: u32 = 0;

/// What of the device API can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiSettings {
    /// `JSON_TYPE_CAST_ENABLED`: strings that look like numbers become numbers.
    pub type_cast: bool,
    /// `JSON_MAX_STRING_VALUE_LENGTH`: most characters of a string value; 0 = any number.
    pub string_value_length_max: usize,
    /// Limits of all devices together.
    pub server_limits: ServerLimits,
    /// `TIDEGATE_RATE_LIMIT_RESPONSE`: the answer beyond a limit.
    pub rate_limit_refusal: RateLimitRefusal,
    /// `SECURITY_CLAIM_ALLOW_CLAIMING_BY_DEFAULT`: whether devices may offer to be claimed without
    /// the server attribute `claimingAllowed`.
    pub claiming_allowed: bool,
    /// `SECURITY_CLAIM_DURATION`: how long an offer without a duration lasts, milliseconds.
    pub claim_duration_ms: u64,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            type_cast: true,
            string_value_length_max: 0,
            server_limits: ServerLimits::default(),
            rate_limit_refusal: RateLimitRefusal::default(),
            claiming_allowed: true,
            claim_duration_ms: 86_400_000,
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
    limiter: Limiter,
    provisioning: Guard,
    /// Held while a device is registered by its chain: requests of one session come at a time.
    registering: Mutex<()>,
    claims: Arc<Claims>,
    packages: Option<Arc<Packages>>,
}

/// A request whose device is known.
struct Asked<'a> {
    request: &'a Request,
    device: DeviceId,
    /// `None`: no profile changes how requests are handled.
    profile: Option<Arc<Profile>>,
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
            limiter: Limiter::new(settings.server_limits.clone(), settings.rate_limit_refusal),
            provisioning: Guard::default(),
            registering: Mutex::default(),
            claims: Arc::default(),
            packages: None,
            settings,
        }
    }

    /// The same with packages for devices to download.
    #[must_use]
    pub fn with_packages(self, packages: Arc<Packages>) -> Self {
        Self {
            packages: Some(packages),
            ..self
        }
    }

    /// What devices observe and are told.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Where devices offer to be claimed.
    pub fn claims(&self) -> &Arc<Claims> {
        &self.claims
    }

    /// Answers a request. What it writes is added to `batch`, which is left as it was unless the
    /// outcome is [`Outcome::Durable`].
    pub fn handle(&self, request: &Request, batch: &mut Batch) -> Outcome {
        let segments = Segments::of(&request.message);
        let response = match route::route(&request.message, segments.as_slice()) {
            Route::Refused(code) => Response::empty(code),
            Route::Root => read::root(),
            Route::WellKnownCore => read::well_known_core(),
            Route::Provision => return self.provision(request),
            Route::Efento(upload) => return self.efento(request, upload, batch),
            Route::EfentoTime => efento::current_time(request.received_unix_ms),
            Route::Device { action, token } => {
                let known = self.authenticate(request, token);
                match known.or_else(|| self.register(request)) {
                    Some(device) => {
                        return self.device_request(request, action, token, device, batch);
                    }
                    None => Response::empty(code::UNAUTHORIZED),
                }
            }
        };
        Outcome::Respond(response)
    }

    /// Whether handling `request` may wait for the disk.
    pub fn may_block(&self, request: &Request) -> bool {
        const POST: u8 = 2;
        // They write to the registry, or look at attributes or kept calls first.
        const FEATURES: [&[u8]; 5] = [b"provision", b"attributes", b"rpc", b"claim", b"efento"];
        // A path of one option has slashes inside.
        let ends_with = |segment: &[u8], feature: &[u8]| {
            let start = segment.len().saturating_sub(feature.len());
            segment
                .get(start..)
                .is_some_and(|end| end.eq_ignore_ascii_case(feature))
        };
        let may = |segment: &[u8]| FEATURES.iter().any(|feature| ends_with(segment, feature));
        request.message.method != POST
            || request.message.path().any(may)
            || self.may_register(request)
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
        if !matches!(action, Action::Ota(_)) {
            self.hub.uplink(device, request.received_unix_ms);
        }
        // As long as no profile says anything of importance, nobody looks for it.
        let profile = (!self.registry.profiles().are_plain())
            .then(|| self.registry.profile_of(device))
            .flatten();
        let asked = Asked {
            request,
            device,
            profile,
        };
        let refusal = match action {
            // Uploads count by what is in them. The way of packages is nobody's standard path, and is
            // not limited (TB section 6).
            Action::PostTelemetry | Action::PostAttributes | Action::Ota(_) => None,
            _ if asked.is_efento() => Some(Response::empty(code::BAD_REQUEST)),
            _ => self.admit(&asked, Load::Message).err(),
        };
        let registers = request.message.observe == Some(REGISTER);
        let answer = match action {
            Action::Ota(kind) => Some(self.download(&asked, kind)),
            _ if refusal.is_some() => refusal,
            _ if asked.is_efento() => Some(Response::empty(code::BAD_REQUEST)),
            Action::PostTelemetry => {
                return self.upload(&asked, upload::Target::Telemetry, batch);
            }
            Action::PostAttributes => {
                return self.upload(&asked, upload::Target::Attributes, batch);
            }
            Action::ReadAttributes if registers => self.observe(&asked, token, Topic::Attributes),
            Action::ObserveRpc if registers => self.observe(&asked, token, Topic::Rpc),
            Action::ReadAttributes => {
                let later = self.hub.long_body(Topic::Attributes, device, request);
                Some(later.unwrap_or_else(|| self.read_attributes(&asked)))
            }
            Action::ObserveRpc => {
                let later = self.hub.long_body(Topic::Rpc, device, request);
                let code = match request.message.observe {
                    Some(_) => code::CONTENT,
                    None => code::BAD_REQUEST,
                };
                Some(later.unwrap_or_else(|| Response::empty(code)))
            }
            Action::Call => self.hub.client_call(device, request),
            Action::Reply(id) => self.hub.reply(device, id, request),
            Action::Claim => Some(self.claim(&asked)),
        };
        answer.map_or(Outcome::Elsewhere, Outcome::Respond)
    }

    /// Opens a relation; `None`: the hub answers.
    fn observe(&self, asked: &Asked<'_>, token: Option<&[u8]>, topic: Topic) -> Option<Response> {
        let (device, request) = (asked.device, asked.request);
        let may = || self.authenticate(request, token) == Some(device);
        self.hub.observe(topic, device, request, &may).err()
    }

    fn read_attributes(&self, asked: &Asked<'_>) -> Response {
        let read = read::attributes(
            &*self.store,
            asked.device,
            &asked.request.message,
            asked.is_protobuf(),
        );
        read.unwrap_or_else(|error| {
            tracing::error!(%error, device = %asked.device, "attributes cannot be read");
            Response::empty(code::INTERNAL_SERVER_ERROR)
        })
    }

    /// Lets a message pass, or gives the answer to one beyond a rate limit.
    fn admit(&self, asked: &Asked<'_>, load: Load) -> Result<(), Response> {
        if asked.profile.is_none() && self.limiter.is_unlimited() {
            return Ok(());
        }
        let now_ms = asked.request.received_unix_ms;
        self.limiter
            .admit(asked.device, asked.profile.as_deref(), load, now_ms)
            .map_err(|wait| {
                self.hub.tally().count(Tallied::RateLimited);
                self.limiter.refuse(wait)
            })
    }
}

impl Asked<'_> {
    fn is_protobuf(&self) -> bool {
        let settings = self.profile.as_ref().map(|profile| &profile.settings);
        settings.is_some_and(|settings| settings.payload_type == PayloadType::Protobuf)
    }

    fn is_efento(&self) -> bool {
        let settings = self.profile.as_ref().map(|profile| &profile.settings);
        settings.is_some_and(|settings| settings.device_type == DeviceType::Efento)
    }

    fn received_ms(&self) -> i64 {
        i64::try_from(self.request.received_unix_ms).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests;
