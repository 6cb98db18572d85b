//! Settings: read once at start, checked, and handed on as typed fields.
//!
//! ```text
//! defaults (table) < --dev < --conf FILE (thingsboard.conf syntax) < environment
//!                     |
//!                 value texts, each with its origin -> parsers of the table -> Config
//! ```
//!
//! [`table::SETTINGS`] is the only list of settings: names, defaults, units and parsers come from
//! there, so do `tidegate check` and the reference. All wrong settings are found in one pass and
//! reported together; a password never appears in a message.

pub mod error;
pub mod file;
pub mod nearest;
mod resolve;
pub mod table;
mod typed;
pub mod value;

#[cfg(test)]
mod tests;

pub use error::{ConfigError, Problem};
pub use resolve::{EffectiveSetting, Origin};

use crate::auth::api::{RateLimitRefusal, ServerLimits};
use crate::config::value::{DriverChoice, LogFormat};
use crate::credentials::CredentialSettings;
use crate::crypto::suite::CipherSuite;
use crate::store::embedded::Retention;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// All settings of a server.
#[derive(Clone, Debug)]
pub struct Config {
    /// The CoAP layer and the plain port.
    pub coap: Coap,
    /// What devices are told, and when they were heard of.
    pub downlink: Downlink,
    /// The CoAPS port.
    pub dtls: Dtls,
    /// Client certificates and sessions.
    pub x509: X509,
    /// How uploads are read.
    pub json: Json,
    /// Devices that offer to be claimed.
    pub claiming: Claiming,
    /// How much may be sent.
    pub limits: Limits,
    /// Reload of the server's credentials.
    pub reload: Reload,
    /// What is ours.
    pub tidegate: Tidegate,
    /// Things to tell the operator once the log is open: unknown names and settings without effect.
    pub warnings: Vec<String>,
    effective: Vec<EffectiveSetting>,
}

/// The CoAP layer and the plain port.
#[derive(Clone, Debug)]
pub struct Coap {
    /// Whether the plain port is opened: `TIDEGATE_PLAIN_COAP`.
    pub enabled: bool,
    /// Whether plain peers are asked for an Echo: `TIDEGATE_PLAIN_COAP_ECHO`.
    pub echo: bool,
    /// `COAP_BIND_ADDRESS` and `COAP_BIND_PORT`; port 0 takes a free one.
    pub bind: SocketAddr,
    /// `COAP_PIGGYBACK_TIMEOUT`: how long a confirmable request waits for its answer before it is
    /// acknowledged empty. Zero: at once.
    pub piggyback_timeout: Duration,
}

/// What devices are told, and when they were heard of.
#[derive(Clone, Debug)]
pub struct Downlink {
    /// `COAP_TIMEOUT` or `CLIENT_SIDE_RPC_TIMEOUT`, whichever is shorter: how long a device's call
    /// waits for its answer.
    pub client_call_timeout: Duration,
    /// `COAP_PSM_ACTIVITY_TIMER`.
    pub psm_activity_timer: Duration,
    /// `COAP_PAGING_TRANSMISSION_WINDOW`.
    pub paging_transmission_window: Duration,
    /// `TB_TRANSPORT_SESSIONS_REPORT_TIMEOUT`: how often activity is reported.
    pub report_period: Duration,
    /// `DEFAULT_INACTIVITY_TIMEOUT`.
    pub inactivity_timeout: Duration,
    /// `MIN_SERVER_SIDE_RPC_TIMEOUT`.
    pub call_timeout_min: Duration,
    /// `DEFAULT_SERVER_SIDE_RPC_TIMEOUT`.
    pub call_timeout: Duration,
    /// `ACTORS_RPC_MAX_RETRIES`.
    pub call_retries_max: u32,
    /// `ACTORS_RPC_SUBMIT_STRATEGY_TYPE`, as written.
    pub submit_strategy: String,
    /// `ACTORS_RPC_RESPONSE_TIMEOUT_MS`.
    pub response_timeout: Duration,
    /// `ACTORS_RPC_CLOSE_SESSION_ON_RPC_DELIVERY_TIMEOUT`.
    pub close_on_delivery_timeout: bool,
}

/// The CoAPS port and its handshakes.
#[derive(Clone, Debug)]
pub struct Dtls {
    /// `COAP_DTLS_ENABLED`.
    pub enabled: bool,
    /// `COAP_DTLS_BIND_ADDRESS` and `COAP_DTLS_BIND_PORT`; port 0 takes a free one.
    pub bind: SocketAddr,
    /// `COAP_DTLS_RETRANSMISSION_TIMEOUT_MS`: the first timer of a flight.
    pub retransmission_timeout: Duration,
    /// `COAP_DTLS_CONNECTION_ID_LENGTH`, 0 to 255 bytes; `None`: no connection ids (RFC 9146).
    /// Zero: the peer's is used, none is handed out.
    pub connection_id_length: Option<u8>,
    /// `COAP_DTLS_MAX_TRANSMISSION_UNIT`: largest datagram of a handshake in bytes, 64 to 65535;
    /// `None`: that of the interface.
    pub max_transmission_unit: Option<u16>,
    /// `COAP_DTLS_MAX_FRAGMENT_LENGTH`: 512, 1024, 2048 or 4096 bytes; `None`: off.
    pub max_fragment_length: Option<u16>,
    /// `TIDEGATE_CIPHER_SUITES`: not empty, none twice.
    pub cipher_suites: Vec<CipherSuite>,
    /// Refuse clients that do not offer the extended master secret.
    pub require_extended_master_secret: bool,
    /// Where the server's certificate and key are.
    pub credentials: CredentialSettings,
    /// `TIDEGATE_TICKET_LIFETIME`, up to a week; `None`: no tickets.
    pub ticket_lifetime: Option<Duration>,
    /// `TIDEGATE_TICKET_KEYS_FILE`; `None`: our own keys in the data directory.
    pub ticket_keys_file: Option<PathBuf>,
    /// `TIDEGATE_SESSION_CACHE_SIZE`: sessions that can be resumed by id, over all shards.
    pub session_cache_size: usize,
}

/// Client certificates and idle sessions.
#[derive(Clone, Debug)]
pub struct X509 {
    /// `TB_COAP_X509_DTLS_SKIP_VALIDITY_CHECK_FOR_CLIENT_CERT`.
    pub skip_validity_check: bool,
    /// `TB_COAP_X509_DTLS_SESSION_INACTIVITY_TIMEOUT`: a session idle for this long is dropped.
    pub session_inactivity_timeout: Duration,
    /// `TB_COAP_X509_DTLS_SESSION_REPORT_TIMEOUT`: how often that is looked after.
    pub session_report_timeout: Duration,
}

/// How uploads are read.
#[derive(Clone, Copy, Debug)]
pub struct Json {
    /// `JSON_TYPE_CAST_ENABLED`: strings that look like numbers become numbers.
    pub type_cast: bool,
    /// `JSON_MAX_STRING_VALUE_LENGTH` in characters; `None`: no limit.
    pub max_string_value_length: Option<usize>,
}

/// Devices that offer to be claimed.
#[derive(Clone, Copy, Debug)]
pub struct Claiming {
    /// `SECURITY_CLAIM_ALLOW_CLAIMING_BY_DEFAULT`.
    pub allowed: bool,
    /// `SECURITY_CLAIM_DURATION`.
    pub duration_ms: u64,
}

/// How much may be sent.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `TIDEGATE_RATE_LIMIT_*`: of all devices together.
    pub server: ServerLimits,
    /// `TIDEGATE_RATE_LIMIT_RESPONSE`.
    pub refusal: RateLimitRefusal,
}

/// Reload of the server's credentials when their files change.
#[derive(Clone, Copy, Debug)]
pub struct Reload {
    /// `TB_TRANSPORT_SSL_CERTIFICATE_RELOAD_ENABLED`.
    pub enabled: bool,
    /// `TB_TRANSPORT_SSL_CERTIFICATE_RELOAD_CHECK_INTERVAL_SECONDS`.
    pub check_interval: Duration,
}

/// The settings that start with `TIDEGATE_`.
#[derive(Clone, Debug)]
pub struct Tidegate {
    /// `TIDEGATE_DATA_DIR`: registry, store, generated certificates, admin socket.
    pub data_dir: PathBuf,
    /// `TIDEGATE_RETENTION_DAYS` and `TIDEGATE_RETENTION_BYTES`.
    pub retention: Retention,
    /// `TIDEGATE_SHARDS`, 1 to 256.
    pub shards: u16,
    /// `TIDEGATE_AUTH_THREADS`, 1 to 256.
    pub auth_threads: u16,
    /// `TIDEGATE_DRIVER`.
    pub driver: DriverChoice,
    /// `TIDEGATE_ADMIN_BIND`; `None`: no TCP listener (the unix socket is always there).
    pub admin_bind: Option<SocketAddr>,
    /// `TIDEGATE_ADMIN_REMOTE_API`: whether the API is served where that is not loopback.
    pub admin_remote_api: bool,
    /// `TIDEGATE_LOG`: a filter of `tracing`, known to parse.
    pub log: String,
    /// `TIDEGATE_LOG_FORMAT`.
    pub log_format: LogFormat,
    /// `TIDEGATE_NODE_ID`: second byte of connection ids of 5 bytes and more.
    pub node_id: u8,
    /// `TIDEGATE_SESSIONS_MAX`: DTLS sessions held by the process, over all shards.
    pub sessions_max: usize,
    /// `TIDEGATE_HANDSHAKES_MAX`: handshakes in progress, over all shards.
    pub handshakes_max: usize,
    /// Handshakes that one address may start in a minute while others wait.
    pub handshakes_per_address: u32,
    /// Whether `--dev` was given.
    pub dev: bool,
}

/// Where settings are read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Names and values of the environment, of which names that are not ours are ignored.
    pub environment: Vec<(String, String)>,
    /// `--conf FILE`.
    pub file: Option<PathBuf>,
    /// `--dev`: DTLS on, with a certificate in the data directory when none is configured.
    pub dev: bool,
}

impl Sources {
    /// The process's environment and what the command line says.
    ///
    /// A value that is not Unicode is taken with U+FFFD in it, so that its parser refuses it (or
    /// the file is not found) rather than that it is ignored.
    pub fn of_process(file: Option<&Path>, dev: bool) -> Self {
        let environment = std::env::vars_os()
            .map(|(name, value)| {
                let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
                (text(name), text(value))
            })
            .collect();
        Self {
            environment,
            file: file.map(Path::to_owned),
            dev,
        }
    }
}

impl Config {
    /// Reads and checks all settings. Opens the file, resolves host names, and touches nothing
    /// else.
    ///
    /// # Errors
    ///
    /// All that is wrong, each with setting, value, origin and remedy.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let resolved = resolve::resolve(sources)?;
        typed::build(resolved, sources)
    }

    /// Every setting as it is in effect, in the order of the table, secrets masked.
    pub fn effective(&self) -> &[EffectiveSetting] {
        &self.effective
    }

    /// The admin socket.
    pub fn admin_socket(&self) -> PathBuf {
        self.tidegate.data_dir.join("admin.sock")
    }
}
