//! Device profiles: what the devices of one kind have in common.
//!
//! ```text
//! operator: ProfileSettings (JSON) --Profile::compile--> Profile (schemas, limits, patterns ready)
//! registry: one writer, durable --> Profiles, an immutable map that is swapped as a whole
//! request:  Profiles::of(name): one atomic load, one hash
//! ```
//!
//! A profile whose name nobody has defined is that of [`ProfileSettings::default`]: JSON, no limits.

mod chain;
mod power;
mod provisioning;
mod rate_limit;
mod schema;

pub use chain::ChainRule;
pub use power::{PowerMode, PowerSaving};
pub use provisioning::{Provisioning, Strategy};
pub use rate_limit::{RateLimit, Window};
pub use schema::{Schema, SchemaError};

use super::{DEFAULT_PROFILE, RegistryError};
use crate::crypto::chain::OfferedChains;
use arc_swap::{ArcSwap, Guard};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};

/// Most profiles: each change copies the map of them.
pub const PROFILES_MAX: usize = 10_000;

/// How devices write what they send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum PayloadType {
    /// ThingsBoard's JSON.
    #[default]
    Json,
    /// Protocol buffers by the profile's schemas.
    Protobuf,
}

/// Which API the devices speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum DeviceType {
    /// `/api/v1`.
    #[default]
    Default,
    /// `/efento`: sensors of Efento.
    Efento,
}

/// Texts in proto3; the last message of each is the one that counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ProtoSchemas {
    /// Of `telemetry`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub telemetry: Option<String>,
    /// Of `attributes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<String>,
    /// Of calls to the device; ThingsBoard's when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpc_request: Option<String>,
    /// Of the device's replies; ThingsBoard's when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpc_response: Option<String>,
}

/// How much one device may send: `count:seconds[,count:seconds...]`, empty: any amount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RateLimits {
    /// Messages that hold no readings.
    pub messages: String,
    /// Messages that hold readings or attributes.
    pub telemetry_messages: String,
    /// Keys and values in them.
    pub telemetry_data_points: String,
}

/// A profile as the operator writes it and as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ProfileSettings {
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// How devices write.
    pub payload_type: PayloadType,
    /// Which API they speak.
    pub device_type: DeviceType,
    /// For protobuf.
    pub proto_schemas: ProtoSchemas,
    /// When they can be reached.
    pub power_saving: PowerSaving,
    /// How much each may send.
    pub rate_limits: RateLimits,
    /// How they may register themselves.
    pub provisioning: Provisioning,
    /// Number of the firmware package for devices without one of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<u64>,
    /// The same of software.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub software: Option<u64>,
}

/// A profile, ready for use.
#[derive(Debug)]
pub struct Profile {
    /// Its name.
    pub name: Box<str>,
    /// What was written.
    pub settings: ProfileSettings,
    /// Messages without readings.
    pub messages: RateLimit,
    /// Messages with readings or attributes.
    pub telemetry_messages: RateLimit,
    /// Keys and values in them.
    pub telemetry_data_points: RateLimit,
    /// Of `telemetry`, in protobuf profiles.
    pub telemetry: Option<Schema>,
    /// Of `attributes`, in protobuf profiles.
    pub attributes: Option<Schema>,
    /// Of calls to the device, in protobuf profiles.
    pub rpc_request: Option<Schema>,
    /// Of its replies, in protobuf profiles.
    pub rpc_response: Option<Schema>,
    /// Of certificate chains by which devices register themselves.
    pub chain: Option<ChainRule>,
}

impl Profile {
    /// Reads the texts in `settings`.
    ///
    /// # Errors
    ///
    /// Says which of them cannot be used, and why.
    pub fn compile(name: &str, settings: ProfileSettings) -> Result<Self, RegistryError> {
        let invalid = |field: &str, problem: &dyn std::fmt::Display| {
            RegistryError::ProfileSettings(name.to_owned(), format!("{field}: {problem}"))
        };
        let limit = |field, text: &str| RateLimit::parse(text).map_err(|p| invalid(field, &p));
        let limits = &settings.rate_limits;
        let messages = limit("rateLimits.messages", &limits.messages)?;
        let telemetry_messages = limit("rateLimits.telemetryMessages", &limits.telemetry_messages)?;
        let telemetry_data_points = limit(
            "rateLimits.telemetryDataPoints",
            &limits.telemetry_data_points,
        )?;
        settings
            .power_saving
            .check()
            .map_err(|p| invalid("powerSaving", &p))?;
        settings
            .provisioning
            .check()
            .map_err(|p| invalid("provisioning", &p))?;
        let chain = ChainRule::compile(&settings.provisioning)
            .map_err(|(field, problem)| invalid(field, &problem))?;
        let protobuf = settings.payload_type == PayloadType::Protobuf;
        let schema = |field, text: Option<&str>| {
            let compiled = text.filter(|_| protobuf).map(Schema::compile).transpose();
            compiled.map_err(|problem| invalid(field, &problem))
        };
        let texts = &settings.proto_schemas;
        let telemetry = schema("protoSchemas.telemetry", texts.telemetry.as_deref())?;
        let attributes = schema("protoSchemas.attributes", texts.attributes.as_deref())?;
        if protobuf && (telemetry.is_none() || attributes.is_none()) {
            let problem = "PROTOBUF needs protoSchemas.telemetry and protoSchemas.attributes";
            return Err(invalid("payloadType", &problem));
        }
        if protobuf && settings.device_type == DeviceType::Efento {
            let problem = "EFENTO devices have a protocol of their own; payloadType must be JSON";
            return Err(invalid("deviceType", &problem));
        }
        let or = |text: &Option<String>, default: &'static str| {
            Some(text.clone().unwrap_or_else(|| default.to_owned()))
        };
        let request = or(&texts.rpc_request, schema::RPC_REQUEST);
        let rpc_request = schema("protoSchemas.rpcRequest", request.as_deref())?;
        let response = or(&texts.rpc_response, schema::RPC_RESPONSE);
        let rpc_response = schema("protoSchemas.rpcResponse", response.as_deref())?;
        Ok(Self {
            name: name.into(),
            messages,
            telemetry_messages,
            telemetry_data_points,
            telemetry,
            attributes,
            rpc_request,
            rpc_response,
            chain,
            settings,
        })
    }

    /// The limits in the order messages, telemetry messages, data points.
    pub fn limits(&self) -> [&RateLimit; 3] {
        [
            &self.messages,
            &self.telemetry_messages,
            &self.telemetry_data_points,
        ]
    }

    /// Whether requests of its devices are handled as if there were no profile.
    fn is_plain(&self) -> bool {
        self.limits().iter().all(|limit| limit.is_unlimited())
            && self.settings.payload_type == PayloadType::Json
            && self.settings.device_type == DeviceType::Default
    }
}

/// All profiles at one moment.
struct Snapshot {
    by_name: HashMap<Box<str>, Arc<Profile>>,
    by_provision_key: HashMap<Box<str>, Arc<Profile>>,
    /// Those that take certificate chains, in the order of their names.
    with_chains: Vec<Arc<Profile>>,
    /// What a name that nobody defined stands for.
    undefined: Arc<Profile>,
    is_plain: bool,
}

impl Snapshot {
    fn new(by_name: HashMap<Box<str>, Arc<Profile>>) -> Self {
        let undefined = ProfileSettings::default();
        let takes_chains = |profile: &&Arc<Profile>| profile.chain.is_some();
        let mut with_chains: Vec<_> = by_name.values().filter(takes_chains).cloned().collect();
        with_chains.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            with_chains,
            by_provision_key: by_name
                .values()
                .filter_map(|profile| {
                    let key = profile.settings.provisioning.key.as_deref()?;
                    Some((key.into(), Arc::clone(profile)))
                })
                .collect(),
            is_plain: by_name.values().all(|profile| profile.is_plain()),
            undefined: Arc::new(
                Profile::compile(DEFAULT_PROFILE, undefined)
                    .unwrap_or_else(|error| unreachable!("{error}")),
            ),
            by_name,
        }
    }
}

impl Snapshot {
    fn authorities(&self) -> HashSet<[u8; 32]> {
        let rules = self
            .with_chains
            .iter()
            .filter_map(|profile| profile.chain.as_ref());
        rules.map(|rule| rule.authority.name_digest()).collect()
    }
}

/// The profiles, for any number of readers.
pub struct Profiles {
    snapshot: ArcSwap<Snapshot>,
    offered: Arc<OfferedChains>,
}

impl Profiles {
    /// These profiles, by name.
    pub(super) fn new(by_name: HashMap<Box<str>, Arc<Profile>>) -> Self {
        let snapshot = Snapshot::new(by_name);
        let offered = Arc::new(OfferedChains::default());
        offered.want(snapshot.authorities());
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            offered,
        }
    }

    /// Without any profile: what a registry that knows none offers.
    pub(super) fn none() -> &'static Self {
        static NONE: LazyLock<Profiles> = LazyLock::new(|| Profiles::new(HashMap::new()));
        &NONE
    }

    fn current(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Whether no profile changes how a request is handled: then nobody needs to look for it.
    pub fn are_plain(&self) -> bool {
        self.current().is_plain
    }

    /// The profile of this name, defined or not.
    pub fn of(&self, name: &str) -> Arc<Profile> {
        let current = self.current();
        Arc::clone(current.by_name.get(name).unwrap_or(&current.undefined))
    }

    /// The profile of this name, if it is defined.
    pub fn find(&self, name: &str) -> Option<Arc<Profile>> {
        self.current().by_name.get(name).map(Arc::clone)
    }

    /// The profile with this provisioning key.
    pub fn by_provision_key(&self, key: &str) -> Option<Arc<Profile>> {
        self.current().by_provision_key.get(key).map(Arc::clone)
    }

    /// Chains that clients have shown in handshakes, of the authorities of all profiles.
    pub fn offered_chains(&self) -> &Arc<OfferedChains> {
        &self.offered
    }

    /// The profiles that take certificate chains.
    pub fn with_chains(&self) -> Vec<Arc<Profile>> {
        self.current().with_chains.clone()
    }

    /// All defined profiles, in the order of their names.
    pub fn list(&self) -> Vec<Arc<Profile>> {
        let mut all: Vec<_> = self.current().by_name.values().map(Arc::clone).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Puts a profile in the place of the one of its name. Only one thread writes at a time.
    pub(super) fn put(&self, profile: Arc<Profile>) {
        self.change(|all| {
            all.insert(profile.name.clone(), profile);
        });
    }

    /// Takes a profile away. Only one thread writes at a time.
    pub(super) fn take(&self, name: &str) {
        self.change(|all| {
            all.remove(name);
        });
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<Box<str>, Arc<Profile>>)) {
        let mut all = self.current().by_name.clone();
        change(&mut all);
        let snapshot = Snapshot::new(all);
        let authorities = snapshot.authorities();
        self.snapshot.store(Arc::new(snapshot));
        self.offered.want(authorities);
    }
}

impl std::fmt::Debug for Profiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profiles")
            .field("defined", &self.current().by_name.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
