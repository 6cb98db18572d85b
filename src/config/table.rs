//! The table of settings.

use crate::config::value::Kind;

/// What a setting belongs to; the reference is grouped by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The CoAP layer and the plain port.
    Coap,
    /// What devices are told, and when they were heard of.
    Downlink,
    /// The CoAPS port.
    Dtls,
    /// The server's certificate and key.
    Credentials,
    /// Client certificates and sessions.
    X509,
    /// Uploads.
    Payload,
    /// Devices that offer to be claimed.
    Claiming,
    /// How much may be sent.
    Limits,
    /// Reload of credentials.
    Reload,
    /// Ours.
    Tidegate,
}

impl Group {
    /// The heading.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Coap => "CoAP",
            Self::Downlink => "Subscriptions, calls and activity",
            Self::Dtls => "CoAP over DTLS",
            Self::Credentials => "Server credentials",
            Self::X509 => "Client certificates and sessions",
            Self::Payload => "Uploads",
            Self::Claiming => "Claiming",
            Self::Limits => "Rate limits",
            Self::Reload => "Reload",
            Self::Tidegate => "Tidegate",
        }
    }
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The name of the environment variable, the same in the file.
    pub name: &'static str,
    /// What it belongs to.
    pub group: Group,
    /// How the text is read.
    pub kind: Kind,
    /// The text in effect when it is set nowhere. Empty for those whose default depends on the
    /// host; then `meaning` says on what.
    pub default: &'static str,
    /// The unit, or empty.
    pub unit: &'static str,
    /// One line.
    pub meaning: &'static str,
    /// Whether the server does what it says. One without effect is accepted, so that files of
    /// ThingsBoard keep working, and warned about when it is set to something else than its
    /// default.
    pub in_effect: bool,
}

impl Setting {
    /// The setting of that name.
    pub fn find(name: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.name == name)
    }

    /// Whether its value must not be shown.
    pub const fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Secret)
    }
}

const fn setting(
    group: Group,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    unit: &'static str,
    meaning: &'static str,
) -> Setting {
    Setting {
        name,
        group,
        kind,
        default,
        unit,
        meaning,
        in_effect: true,
    }
}

/// As [`setting`], for a feature that is not there.
const fn planned(
    group: Group,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    unit: &'static str,
    meaning: &'static str,
) -> Setting {
    Setting {
        in_effect: false,
        ..setting(group, name, kind, default, unit, meaning)
    }
}

use Group::{Claiming, Coap, Credentials, Downlink, Dtls, Limits, Payload, Reload, Tidegate, X509};

/// A positive number of milliseconds, up to a year.
const MILLIS: Kind = Kind::Integer {
    min: 1,
    max: YEAR_MS,
};
const YEAR_MS: i64 = 366 * 86_400_000;

/// All settings, grouped.
#[rustfmt::skip]
pub const SETTINGS: &[Setting] = &[
    setting(Coap, "TB_TRANSPORT_API_ENABLED", Kind::Boolean, "true", "", "Master switch; false stops the start"),
    setting(Coap, "COAP_SERVER_ENABLED", Kind::Boolean, "true", "", "CoAP server on or off; false stops the start"),
    setting(Coap, "COAP_ENABLED", Kind::Boolean, "true", "", "Device API (/api/v1) on or off; false stops the start"),
    setting(Coap, "COAP_BIND_ADDRESS", Kind::Host, "0.0.0.0", "", "Address of the plain CoAP port"),
    setting(Coap, "COAP_BIND_PORT", Kind::Port, "5683", "", "Plain CoAP port; 0 takes a free one"),
    setting(Coap, "COAP_PIGGYBACK_TIMEOUT", Kind::Integer { min: i64::MIN, max: YEAR_MS }, "500", "ms", "After this time without an answer an empty ACK is sent; 0 or less: at once"),
    setting(Downlink, "COAP_TIMEOUT", MILLIS, "10000", "ms", "How long a request waits for an answer from behind the server"),
    setting(Downlink, "COAP_PSM_ACTIVITY_TIMER", MILLIS, "10000", "ms", "How long a device in power saving mode stays awake after an uplink"),
    setting(Downlink, "COAP_PAGING_TRANSMISSION_WINDOW", MILLIS, "10000", "ms", "The same for eDRX"),
    setting(Downlink, "TB_TRANSPORT_SESSIONS_REPORT_TIMEOUT", MILLIS, "3000", "ms", "How often activity is reported"),
    setting(Downlink, "CLIENT_SIDE_RPC_TIMEOUT", MILLIS, "60000", "ms", "How long a device's call waits for its answer"),
    planned(Downlink, "TB_TRANSPORT_SESSIONS_INACTIVITY_TIMEOUT", MILLIS, "600000", "ms", "A subscription without activity is closed after this time; ThingsBoard never does so with CoAP observers"),
    planned(Downlink, "TB_TRANSPORT_ACTIVITY_REPORTING_STRATEGY", Kind::Choice(&["FIRST", "LAST", "FIRST_AND_LAST", "ALL"]), "LAST", "", "Which activity of a reporting period is reported; here always the last, and the page shows it at once"),
    setting(Downlink, "DEFAULT_INACTIVITY_TIMEOUT", Kind::Integer { min: 1, max: 366 * 86_400 }, "600", "s", "A device silent for this long is inactive; its server attribute inactivityTimeout (ms) wins"),
    setting(Downlink, "MIN_SERVER_SIDE_RPC_TIMEOUT", MILLIS, "5000", "ms", "Shortest time that a call to a device may take"),
    setting(Downlink, "DEFAULT_SERVER_SIDE_RPC_TIMEOUT", MILLIS, "10000", "ms", "How long a call to a device may take when its maker does not say"),
    setting(Downlink, "ACTORS_RPC_MAX_RETRIES", Kind::Integer { min: 0, max: 1000 }, "5", "", "Further attempts to deliver a persistent call"),
    setting(Downlink, "ACTORS_RPC_SUBMIT_STRATEGY_TYPE", Kind::Choice(&["BURST", "SEQUENTIAL_ON_ACK_FROM_DEVICE", "SEQUENTIAL_ON_RESPONSE_FROM_DEVICE"]), "BURST", "", "When the next persistent call goes out"),
    setting(Downlink, "ACTORS_RPC_RESPONSE_TIMEOUT_MS", MILLIS, "30000", "ms", "How long SEQUENTIAL_ON_RESPONSE_FROM_DEVICE waits for a response"),
    setting(Downlink, "ACTORS_RPC_CLOSE_SESSION_ON_RPC_DELIVERY_TIMEOUT", Kind::Boolean, "false", "", "End the subscription when a persistent call is not acknowledged in time"),
    setting(Dtls, "COAP_DTLS_ENABLED", Kind::LiteralTrue, "false", "", "Opens the CoAPS port"),
    setting(Dtls, "COAP_DTLS_BIND_ADDRESS", Kind::Host, "0.0.0.0", "", "Address of the CoAPS port"),
    setting(Dtls, "COAP_DTLS_BIND_PORT", Kind::Port, "5684", "", "CoAPS port; 0 takes a free one"),
    setting(Dtls, "COAP_DTLS_RETRANSMISSION_TIMEOUT_MS", Kind::Integer { min: 1, max: 3_600_000 }, "9000", "ms", "First retransmission timer of a handshake flight; doubles up to 60 s, 4 retransmissions"),
    setting(Dtls, "COAP_DTLS_CONNECTION_ID_LENGTH", Kind::OptionalInteger { min: 0, max: 255 }, "8", "bytes", "Length of our connection ids (RFC 9146); 0: use the peer's only; empty: off"),
    setting(Dtls, "COAP_DTLS_MAX_TRANSMISSION_UNIT", Kind::TransmissionUnit, "1024", "bytes", "Largest datagram of a handshake, 64 to 65535; 0: that of the interface"),
    planned(Dtls, "COAP_DTLS_MAX_FRAGMENT_LENGTH", Kind::Integer { min: i64::MIN, max: i64::MAX }, "1024", "bytes", "512, 1024, 2048 or 4096; anything else: off. ThingsBoard sizes its receive buffer by it; ours takes whole datagrams"),
    setting(Credentials, "COAP_DTLS_CREDENTIALS_TYPE", Kind::Choice(&["PEM", "KEYSTORE"]), "PEM", "", "PEM files or a Java keystore"),
    setting(Credentials, "COAP_DTLS_PEM_CERT", Kind::Path, "coapserver.pem", "", "Certificate chain, leaf first; may hold the key"),
    setting(Credentials, "COAP_DTLS_PEM_KEY", Kind::Path, "coapserver_key.pem", "", "Private key, when the certificate file has none"),
    setting(Credentials, "COAP_DTLS_PEM_KEY_PASSWORD", Kind::Secret, "server_key_password", "", "Password of an encrypted key"),
    setting(Credentials, "COAP_DTLS_KEY_STORE_TYPE", Kind::Choice(&["JKS", "PKCS12"]), "JKS", "", "Type of the keystore; its content decides"),
    setting(Credentials, "COAP_DTLS_KEY_STORE", Kind::Path, "coapserver.jks", "", "Keystore"),
    setting(Credentials, "COAP_DTLS_KEY_STORE_PASSWORD", Kind::Secret, "server_ks_password", "", "Password of the keystore"),
    setting(Credentials, "COAP_DTLS_KEY_ALIAS", Kind::Text, "serveralias", "", "Alias of the key; empty: the first private key"),
    setting(Credentials, "COAP_DTLS_KEY_PASSWORD", Kind::Secret, "server_key_password", "", "Password of the key in the keystore"),
    setting(X509, "TB_COAP_X509_DTLS_SKIP_VALIDITY_CHECK_FOR_CLIENT_CERT", Kind::Boolean, "false", "", "Accept client certificates before and after their validity"),
    setting(X509, "TB_COAP_X509_DTLS_SESSION_INACTIVITY_TIMEOUT", MILLIS, "86400000", "ms", "A DTLS session idle for this long is dropped"),
    setting(X509, "TB_COAP_X509_DTLS_SESSION_REPORT_TIMEOUT", MILLIS, "1800000", "ms", "Period of that clean-up"),
    setting(Payload, "JSON_TYPE_CAST_ENABLED", Kind::Boolean, "true", "", "Strings that look like numbers become numbers"),
    setting(Payload, "JSON_MAX_STRING_VALUE_LENGTH", Kind::Integer { min: 0, max: i32::MAX as i64 }, "0", "characters", "Longest string value; longer: 4.00. 0: no limit"),
    setting(Claiming, "SECURITY_CLAIM_ALLOW_CLAIMING_BY_DEFAULT", Kind::Boolean, "true", "", "Whether devices can offer to be claimed; false: only those with the server attribute claimingAllowed true"),
    setting(Claiming, "SECURITY_CLAIM_DURATION", MILLIS, "86400000", "ms", "How long such an offer lasts when the device does not say"),
    setting(Limits, "TIDEGATE_RATE_LIMIT_MESSAGES", Kind::RateLimit, "", "", "Messages without readings, of all devices together: COUNT:SECONDS[,COUNT:SECONDS...]; empty: any number. Limits of each device are in its profile"),
    setting(Limits, "TIDEGATE_RATE_LIMIT_TELEMETRY_MESSAGES", Kind::RateLimit, "", "", "The same of messages with readings or attributes"),
    setting(Limits, "TIDEGATE_RATE_LIMIT_TELEMETRY_DATA_POINTS", Kind::RateLimit, "", "", "The same of keys and values in them"),
    setting(Limits, "TIDEGATE_RATE_LIMIT_RESPONSE", Kind::Choice(&["4.29", "5.00"]), "4.29", "", "Answer beyond a limit: 4.29 with Max-Age (RFC 8516), or ThingsBoard's 5.00"),
    setting(Reload, "TB_TRANSPORT_SSL_CERTIFICATE_RELOAD_ENABLED", Kind::Boolean, "true", "", "Reload the server's certificate and key when their files change"),
    setting(Reload, "TB_TRANSPORT_SSL_CERTIFICATE_RELOAD_CHECK_INTERVAL_SECONDS", Kind::Integer { min: 1, max: 366 * 86_400 }, "60", "s", "How often the files are looked at"),
    setting(Tidegate, "TIDEGATE_DATA_DIR", Kind::Path, "./tidegate-data", "", "Registry, store, generated certificates and admin socket (mode 0700)"),
    setting(Tidegate, "TIDEGATE_RETENTION_DAYS", Kind::Integer { min: 0, max: 36_500 }, "0", "days", "Readings older than this are removed, but for the latest of each key; 0: kept for ever"),
    setting(Tidegate, "TIDEGATE_RETENTION_BYTES", Kind::Integer { min: 0, max: i64::MAX }, "0", "bytes", "Most bytes of readings, keys included, before compression; beyond, the oldest hours are removed. 0: no limit"),
    setting(Tidegate, "TIDEGATE_SHARDS", Kind::HostCount, "", "", "Executors, each pinned to a CPU; default: the number of CPUs allowed to the process"),
    setting(Tidegate, "TIDEGATE_AUTH_THREADS", Kind::HostCount, "", "", "Threads of the authenticator pool; default: half the shards, at least 1"),
    setting(Tidegate, "TIDEGATE_DRIVER", Kind::Choice(&["auto", "uring", "mmsg"]), "auto", "", "How datagrams travel: uring (an io_uring per shard, Linux 6.1 and newer), mmsg (recvmmsg and sendmmsg), or auto: the first where the kernel has it"),
    setting(Tidegate, "TIDEGATE_PLAIN_COAP", Kind::Boolean, "true", "", "Also open plain CoAP; false: DTLS only"),
    setting(Tidegate, "TIDEGATE_PLAIN_COAP_ECHO", Kind::Boolean, "false", "", "Plain CoAP: have devices repeat an Echo option (RFC 9175) before they observe, or get more than three times what they sent; off, as many clients know none. Without a token nobody gets as much in any case"),
    setting(Tidegate, "TIDEGATE_ADMIN_BIND", Kind::OptionalSocket, "127.0.0.1:5680", "", "Admin HTTP; empty: only the unix socket in the data directory"),
    setting(Tidegate, "TIDEGATE_ADMIN_REMOTE_API", Kind::Boolean, "false", "", "Serve the admin API, which needs the token in the file admin-token, on an address that is not loopback too; HTTP shows the token to everyone on the way"),
    setting(Tidegate, "TIDEGATE_LOG", Kind::LogFilter, "info", "", "Log filter: a level, or target=level pairs with commas"),
    setting(Tidegate, "TIDEGATE_LOG_FORMAT", Kind::Choice(&["text", "json"]), "text", "", "Log lines for people, or one JSON object a line"),
    setting(Tidegate, "TIDEGATE_CIPHER_SUITES", Kind::Suites, "", "", "IANA names with commas; default: all that are supported. The client's order wins"),
    setting(Tidegate, "TIDEGATE_TICKET_LIFETIME", Kind::OptionalInteger { min: 0, max: 7 * 86_400 }, "86400", "s", "How long after its full handshake a session can be resumed by a ticket (RFC 5077); 0 or empty: no tickets"),
    setting(Tidegate, "TIDEGATE_TICKET_KEYS_FILE", Kind::Text, "", "", "Keys for tickets that several nodes share, read again on SIGHUP; empty: our own, rotated, in the data directory"),
    setting(Tidegate, "TIDEGATE_SESSION_CACHE_SIZE", Kind::Integer { min: 0, max: 10_000_000 }, "20000", "sessions", "Sessions that clients without tickets can resume by id, for a day at most; 0: none"),
    setting(Tidegate, "TIDEGATE_NODE_ID", Kind::Integer { min: 0, max: 255 }, "0", "", "Second byte of connection ids of 5 bytes and more"),
    setting(Tidegate, "TIDEGATE_SECOND_PEM_CERT", Kind::Text, "", "", "Certificate chain with a key of another kind (RSA beside ECDSA); a device is shown the one that it can verify, the first when both"),
    setting(Tidegate, "TIDEGATE_SECOND_PEM_KEY", Kind::Text, "", "", "Its private key, when that file has none"),
    setting(Tidegate, "TIDEGATE_SECOND_PEM_KEY_PASSWORD", Kind::Secret, "", "", "Password of that key"),
    setting(Tidegate, "TIDEGATE_REQUIRE_EXTENDED_MASTER_SECRET", Kind::Boolean, "false", "", "Refuse devices without the extended master secret (RFC 7627); off, as old devices lack it, and without it no session is resumed"),
    setting(Tidegate, "TIDEGATE_SESSIONS_MAX", Kind::Integer { min: 1, max: 100_000_000 }, "1000000", "sessions", "DTLS sessions held by the process"),
    setting(Tidegate, "TIDEGATE_HANDSHAKES_MAX", Kind::Integer { min: 1, max: 10_000_000 }, "10000", "handshakes", "Handshakes in progress in the process, with 8 KiB of memory each on average; beyond, the oldest that is over 3 s old gives way"),
    setting(Tidegate, "TIDEGATE_HANDSHAKES_PER_ADDRESS", Kind::Integer { min: 1, max: 1_000_000_000 }, "6000", "per minute", "Handshakes that one address (IPv4, or IPv6 /64) may start while more wait than can be done at once; a NAT's crowd counts as one"),
];
