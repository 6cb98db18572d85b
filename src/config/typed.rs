//! From parsed values to the fields of [`Config`], and the rules that join several settings.

use crate::auth::api::{RateLimitRefusal, ServerLimits};
use crate::config::error::{ConfigError, Problem};
use crate::config::resolve::{EffectiveSetting, Resolved, ResolvedSetting, shown};
use crate::config::value::{DriverChoice, LogFormat, Value};
use crate::config::{
    Claiming, Coap, Config, Downlink, Dtls, Json, Limits, Reload, Sources, Tidegate, X509,
};
use crate::credentials::{CredentialSettings, CredentialsType};
use crate::crypto::suite::CipherSuite;
use crate::registry::profile::RateLimit;
use crate::store::embedded::Retention;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// The values by name. A name that is not in the table, or of another kind, is a defect of this
/// module, which the test that loads the defaults would show.
struct Values<'a>(&'a [ResolvedSetting]);

impl Values<'_> {
    fn find(&self, name: &str) -> &ResolvedSetting {
        self.0
            .iter()
            .find(|resolved| resolved.setting.name == name)
            .unwrap_or_else(|| unreachable!("{name} is not in the table"))
    }

    fn boolean(&self, name: &str) -> bool {
        match self.find(name).value {
            Value::Boolean(value) => value,
            ref other => unreachable!("{name} is {other:?}"),
        }
    }

    fn integer(&self, name: &str) -> i64 {
        match self.find(name).value {
            Value::Integer(value) => value,
            ref other => unreachable!("{name} is {other:?}"),
        }
    }

    /// The number as another type; the table's range makes it fit.
    fn number<T: TryFrom<i64>>(&self, name: &str) -> T {
        let value = self.integer(name);
        T::try_from(value).unwrap_or_else(|_| unreachable!("{name} is {value}"))
    }

    fn optional_number<T: TryFrom<i64>>(&self, name: &str) -> Option<T> {
        match self.find(name).value {
            Value::OptionalInteger(None) => None,
            Value::OptionalInteger(Some(value)) => {
                let number = T::try_from(value).ok();
                Some(number.unwrap_or_else(|| unreachable!("{name} is {value}")))
            }
            ref other => unreachable!("{name} is {other:?}"),
        }
    }

    /// Zero when negative.
    fn millis(&self, name: &str) -> Duration {
        Duration::from_millis(u64::try_from(self.integer(name)).unwrap_or(0))
    }

    fn bind(&self, address: &str, port: &str) -> SocketAddr {
        let ip: IpAddr = match self.find(address).value {
            Value::Address(ip) => ip,
            ref other => unreachable!("{address} is {other:?}"),
        };
        SocketAddr::new(ip, self.number(port))
    }

    fn text(&self, name: &str) -> String {
        match &self.find(name).value {
            Value::Text(value) => value.clone(),
            other => unreachable!("{name} is {other:?}"),
        }
    }

    fn rate_limit(&self, name: &str) -> RateLimit {
        match &self.find(name).value {
            Value::RateLimit(limit) => limit.clone(),
            other => unreachable!("{name} is {other:?}"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        match &self.find(name).value {
            Value::Path(value) => value.clone(),
            other => unreachable!("{name} is {other:?}"),
        }
    }

    fn problem(&self, name: &str, reason: &str, remedy: &str) -> Problem {
        let found = self.find(name);
        Problem {
            setting: name.to_owned(),
            value: Some(shown(found.setting, &found.text)),
            origin: found.origin.clone(),
            reason: reason.to_owned(),
            remedy: remedy.to_owned(),
        }
    }
}

pub(super) fn build(resolved: Resolved, sources: &Sources) -> Result<Config, ConfigError> {
    let values = Values(&resolved.settings);
    let coap = coap(&values);
    let dtls = dtls(&values, sources);
    let problems = contradictions(&values, &coap, &dtls);
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }
    let tidegate = tidegate(&values, sources);
    let mut warnings = resolved.warnings;
    warnings.extend(resolved.settings.iter().filter_map(|found| {
        let changed = found.text.trim() != found.setting.default;
        (changed && !found.setting.in_effect).then(|| {
            let (name, origin) = (found.setting.name, &found.origin);
            format!("{name} ({origin}) is accepted but has no effect in this version")
        })
    }));
    warnings.extend(short_connection_ids(&values, &tidegate, &dtls));
    let effective = effective(&resolved.settings, &tidegate, &dtls);
    Ok(Config {
        downlink: downlink(&values),
        x509: X509 {
            skip_validity_check: values
                .boolean("TB_COAP_X509_DTLS_SKIP_VALIDITY_CHECK_FOR_CLIENT_CERT"),
            session_inactivity_timeout: values
                .millis("TB_COAP_X509_DTLS_SESSION_INACTIVITY_TIMEOUT"),
            session_report_timeout: values.millis("TB_COAP_X509_DTLS_SESSION_REPORT_TIMEOUT"),
        },
        json: Json {
            type_cast: values.boolean("JSON_TYPE_CAST_ENABLED"),
            max_string_value_length: Some(values.number("JSON_MAX_STRING_VALUE_LENGTH"))
                .filter(|&length| length > 0),
        },
        claiming: Claiming {
            allowed: values.boolean("SECURITY_CLAIM_ALLOW_CLAIMING_BY_DEFAULT"),
            duration_ms: values.number("SECURITY_CLAIM_DURATION"),
        },
        limits: limits(&values),
        reload: Reload {
            enabled: values.boolean("TB_TRANSPORT_SSL_CERTIFICATE_RELOAD_ENABLED"),
            check_interval: Duration::from_secs(
                values.number("TB_TRANSPORT_SSL_CERTIFICATE_RELOAD_CHECK_INTERVAL_SECONDS"),
            ),
        },
        coap,
        dtls,
        tidegate,
        warnings,
        effective,
    })
}

fn coap(values: &Values<'_>) -> Coap {
    Coap {
        enabled: values.boolean("TIDEGATE_PLAIN_COAP"),
        echo: values.boolean("TIDEGATE_PLAIN_COAP_ECHO"),
        bind: values.bind("COAP_BIND_ADDRESS", "COAP_BIND_PORT"),
        piggyback_timeout: values.millis("COAP_PIGGYBACK_TIMEOUT"),
    }
}

fn downlink(values: &Values<'_>) -> Downlink {
    Downlink {
        client_call_timeout: values
            .millis("COAP_TIMEOUT")
            .min(values.millis("CLIENT_SIDE_RPC_TIMEOUT")),
        psm_activity_timer: values.millis("COAP_PSM_ACTIVITY_TIMER"),
        paging_transmission_window: values.millis("COAP_PAGING_TRANSMISSION_WINDOW"),
        report_period: values.millis("TB_TRANSPORT_SESSIONS_REPORT_TIMEOUT"),
        inactivity_timeout: Duration::from_secs(values.number("DEFAULT_INACTIVITY_TIMEOUT")),
        call_timeout_min: values.millis("MIN_SERVER_SIDE_RPC_TIMEOUT"),
        call_timeout: values.millis("DEFAULT_SERVER_SIDE_RPC_TIMEOUT"),
        call_retries_max: values.number("ACTORS_RPC_MAX_RETRIES"),
        submit_strategy: values.text("ACTORS_RPC_SUBMIT_STRATEGY_TYPE"),
        response_timeout: values.millis("ACTORS_RPC_RESPONSE_TIMEOUT_MS"),
        close_on_delivery_timeout: values
            .boolean("ACTORS_RPC_CLOSE_SESSION_ON_RPC_DELIVERY_TIMEOUT"),
    }
}

fn dtls(values: &Values<'_>, sources: &Sources) -> Dtls {
    let cipher_suites = match &values.find("TIDEGATE_CIPHER_SUITES").value {
        Value::Suites(suites) => suites.clone(),
        other => unreachable!("TIDEGATE_CIPHER_SUITES is {other:?}"),
    };
    let fragment_length = values.integer("COAP_DTLS_MAX_FRAGMENT_LENGTH");
    Dtls {
        enabled: values.boolean("COAP_DTLS_ENABLED"),
        bind: values.bind("COAP_DTLS_BIND_ADDRESS", "COAP_DTLS_BIND_PORT"),
        retransmission_timeout: values.millis("COAP_DTLS_RETRANSMISSION_TIMEOUT_MS"),
        connection_id_length: values.optional_number("COAP_DTLS_CONNECTION_ID_LENGTH"),
        max_transmission_unit: Some(values.number("COAP_DTLS_MAX_TRANSMISSION_UNIT"))
            .filter(|&bytes| bytes > 0),
        max_fragment_length: u16::try_from(fragment_length)
            .ok()
            .filter(|length| [512, 1024, 2048, 4096].contains(length)),
        cipher_suites,
        require_extended_master_secret: values.boolean("TIDEGATE_REQUIRE_EXTENDED_MASTER_SECRET"),
        credentials: credentials(values, sources),
        ticket_lifetime: values
            .optional_number("TIDEGATE_TICKET_LIFETIME")
            .filter(|&seconds| seconds > 0)
            .map(Duration::from_secs),
        ticket_keys_file: Some(values.text("TIDEGATE_TICKET_KEYS_FILE"))
            .filter(|file| !file.is_empty())
            .map(PathBuf::from),
        session_cache_size: values.number("TIDEGATE_SESSION_CACHE_SIZE"),
    }
}

fn limits(values: &Values<'_>) -> Limits {
    Limits {
        server: ServerLimits {
            messages: values.rate_limit("TIDEGATE_RATE_LIMIT_MESSAGES"),
            telemetry_messages: values.rate_limit("TIDEGATE_RATE_LIMIT_TELEMETRY_MESSAGES"),
            telemetry_data_points: values.rate_limit("TIDEGATE_RATE_LIMIT_TELEMETRY_DATA_POINTS"),
        },
        refusal: if values.text("TIDEGATE_RATE_LIMIT_RESPONSE") == "5.00" {
            RateLimitRefusal::InternalServerError
        } else {
            RateLimitRefusal::TooManyRequests
        },
    }
}

fn credentials(values: &Values<'_>, sources: &Sources) -> CredentialSettings {
    let is_keystore = values.text("COAP_DTLS_CREDENTIALS_TYPE") == "KEYSTORE";
    let file = |name| values.path(name).display().to_string();
    // ThingsBoard finds bare names in its configuration directory, where its file lies too.
    let beside_file = sources.file.as_deref().and_then(|file| file.parent());
    CredentialSettings {
        credentials_type: if is_keystore {
            CredentialsType::Keystore
        } else {
            CredentialsType::Pem
        },
        pem_cert: file("COAP_DTLS_PEM_CERT"),
        pem_key: file("COAP_DTLS_PEM_KEY"),
        pem_key_password: values.text("COAP_DTLS_PEM_KEY_PASSWORD").into(),
        key_store_type: values.text("COAP_DTLS_KEY_STORE_TYPE"),
        key_store: file("COAP_DTLS_KEY_STORE"),
        key_store_password: values.text("COAP_DTLS_KEY_STORE_PASSWORD").into(),
        key_alias: values.text("COAP_DTLS_KEY_ALIAS"),
        key_password: values.text("COAP_DTLS_KEY_PASSWORD").into(),
        second_pem_cert: values.text("TIDEGATE_SECOND_PEM_CERT"),
        second_pem_key: values.text("TIDEGATE_SECOND_PEM_KEY"),
        second_pem_key_password: values.text("TIDEGATE_SECOND_PEM_KEY_PASSWORD").into(),
        search_path: beside_file.map(PathBuf::from).into_iter().collect(),
    }
}

fn tidegate(values: &Values<'_>, sources: &Sources) -> Tidegate {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let shards = values
        .optional_number("TIDEGATE_SHARDS")
        .unwrap_or_else(|| u16::try_from(cpus.min(256)).unwrap_or(256));
    let json = values.text("TIDEGATE_LOG_FORMAT") == "json";
    Tidegate {
        data_dir: values.path("TIDEGATE_DATA_DIR"),
        retention: Retention {
            age: Some(values.number::<u64>("TIDEGATE_RETENTION_DAYS"))
                .filter(|&days| days > 0)
                .map(|days| Duration::from_secs(days * 86_400)),
            bytes: Some(values.number("TIDEGATE_RETENTION_BYTES")).filter(|&bytes| bytes > 0),
        },
        shards,
        auth_threads: values
            .optional_number("TIDEGATE_AUTH_THREADS")
            .unwrap_or_else(|| (shards / 2).max(1)),
        driver: match values.text("TIDEGATE_DRIVER").as_str() {
            "uring" => DriverChoice::Uring,
            "mmsg" => DriverChoice::Mmsg,
            _ => DriverChoice::Auto,
        },
        admin_bind: match values.find("TIDEGATE_ADMIN_BIND").value {
            Value::OptionalSocket(address) => address,
            ref other => unreachable!("TIDEGATE_ADMIN_BIND is {other:?}"),
        },
        admin_remote_api: values.boolean("TIDEGATE_ADMIN_REMOTE_API"),
        log: values.text("TIDEGATE_LOG"),
        log_format: if json {
            LogFormat::Json
        } else {
            LogFormat::Text
        },
        node_id: values.number("TIDEGATE_NODE_ID"),
        sessions_max: values.number("TIDEGATE_SESSIONS_MAX"),
        handshakes_max: values.number("TIDEGATE_HANDSHAKES_MAX"),
        handshakes_per_address: values.number("TIDEGATE_HANDSHAKES_PER_ADDRESS"),
        dev: sources.dev,
    }
}

/// Settings that are right one by one, but not together.
fn contradictions(values: &Values<'_>, coap: &Coap, dtls: &Dtls) -> Vec<Problem> {
    let mut problems = Vec::new();
    for name in [
        "TB_TRANSPORT_API_ENABLED",
        "COAP_SERVER_ENABLED",
        "COAP_ENABLED",
    ] {
        if !values.boolean(name) {
            let reason = "switches off all that this process serves";
            problems.push(values.problem(name, reason, "set it to true, or do not start tidegate"));
        }
    }
    if !coap.enabled && !dtls.enabled {
        let reason = "plain CoAP is off and so is DTLS: no port would be open";
        let remedy = "set COAP_DTLS_ENABLED=true, or TIDEGATE_PLAIN_COAP=true";
        problems.push(values.problem("TIDEGATE_PLAIN_COAP", reason, remedy));
    }
    let same_address = coap.bind.ip() == dtls.bind.ip()
        || coap.bind.ip().is_unspecified()
        || dtls.bind.ip().is_unspecified();
    let same_port = coap.bind.port() == dtls.bind.port() && coap.bind.port() != 0;
    if coap.enabled && dtls.enabled && same_address && same_port {
        let reason = "the same port as COAP_BIND_PORT";
        let remedy = "give each its own port (5683 and 5684 are the usual ones)";
        problems.push(values.problem("COAP_DTLS_BIND_PORT", reason, remedy));
    }
    problems
}

/// Connection ids that are too short for the sessions that a shard may hold: what finds none free
/// goes without one.
fn short_connection_ids(values: &Values<'_>, tidegate: &Tidegate, dtls: &Dtls) -> Option<String> {
    let length = dtls.connection_id_length.filter(|&length| length > 0)?;
    // Behind the bytes that name the shard and, from 5 bytes on, the node.
    let random_bytes = u32::from(if length < 5 { length - 1 } else { length - 2 });
    let ids = 256_usize.checked_pow(random_bytes)?;
    let sessions = tidegate.sessions_max.div_ceil(tidegate.shards.into());
    (dtls.enabled && ids / 2 < sessions).then(|| {
        let name = "COAP_DTLS_CONNECTION_ID_LENGTH";
        format!(
            "{name}={length} ({origin}) makes {ids} connection ids for each shard, which may hold \
             {sessions} sessions: sessions that find none free lose their peer when its address \
             changes; write 8",
            origin = values.find(name).origin,
        )
    })
}

fn effective(
    settings: &[ResolvedSetting],
    tidegate: &Tidegate,
    dtls: &Dtls,
) -> Vec<EffectiveSetting> {
    settings
        .iter()
        .map(|found| EffectiveSetting {
            name: found.setting.name,
            value: match found.setting.name {
                "TIDEGATE_SHARDS" => tidegate.shards.to_string(),
                "TIDEGATE_AUTH_THREADS" => tidegate.auth_threads.to_string(),
                "TIDEGATE_CIPHER_SUITES" => suite_names(&dtls.cipher_suites),
                _ => shown(found.setting, &found.text),
            },
            origin: found.origin.clone(),
            in_effect: found.setting.in_effect,
        })
        .collect()
}

fn suite_names(suites: &[CipherSuite]) -> String {
    let names: Vec<_> = suites.iter().map(|suite| suite.name()).collect();
    names.join(",")
}
