//! The runner's flags. Their names are the runner's; one that asks for what we do not have ends the
//! shim with "not implemented", and so does one that is not known.
//!
//! Flags come for all connections of a test, or with `-on-initial` or `-on-resume` before their
//! names for the first one and those after it.

use std::fs;
use std::sync::Arc;

use tidegate::crypto::key_exchange::NamedGroup;
use tidegate::crypto::pre_shared_key::{PreSharedKey, psk_identity_hash};
use tidegate::crypto::random::SystemRandom;
use tidegate::crypto::signature::{SignatureScheme, SigningKey};
use tidegate::crypto::suite::CipherSuite;
use tidegate::dtls::client::{ClientConfig, ClientPreSharedKey, ServerVerification};
use tidegate::dtls::{Credentials, ServerConfig, SessionCache, Sessions, TicketKey, TicketKeys};
use tidegate::random::Random;
use tidegate::time::Duration;

/// DTLS 1.2 on the wire.
const DTLS_1_2: u16 = 0xfefd;
/// Longer than any test: the runner's clock, not ours, ends a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// What the runner takes for the first interval unless it sets one.
const RETRANSMISSION_TIMEOUT: Duration = Duration::from_millis(400);
/// What BoringSSL grants a session.
const SESSION_LIFETIME: Duration = Duration::from_secs(7200);
/// The runner lets the thirteenth timeout end a handshake.
const RETRANSMISSIONS_MAX: u8 = 12;
/// What the runner takes for granted unless it sets a size.
const MAX_TRANSMISSION_UNIT: usize = 1472;

/// How the shim ends but for success.
#[derive(Debug)]
pub(crate) enum Outcome {
    Unimplemented(String),
    Failed(String),
}

impl Outcome {
    pub(crate) fn unimplemented(what: &str) -> Self {
        Self::Unimplemented(what.to_owned())
    }
}

/// All flags of one test.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    pub(crate) port: u16,
    pub(crate) ipv6: bool,
    pub(crate) shim_id: u64,
    pub(crate) server: bool,
    dtls: bool,
    pub(crate) resume_count: u32,
    pub(crate) initial: Settings,
    pub(crate) resume: Settings,
}

/// What may differ between the connections of one test.
#[derive(Debug)]
pub(crate) struct Settings {
    certificate_file: Option<String>,
    key_file: Option<String>,
    pre_shared_key: Option<String>,
    psk_identity: String,
    groups: Vec<NamedGroup>,
    suites: Vec<CipherSuite>,
    retransmission_timeout: Duration,
    max_transmission_unit: usize,
    refuse_peer: bool,
    server_name: Option<String>,
    no_tickets: bool,
    expect_verify_result: bool,
    pub(crate) resumption_delay: Duration,
    pub(crate) expect_session_miss: bool,
    pub(crate) expect_session_id: Option<bool>,
    pub(crate) expect_no_session: bool,
    pub(crate) expect_ticket_renewal: bool,
    pub(crate) writes_first: bool,
    pub(crate) initial_write: String,
    pub(crate) initial_writes: u32,
    pub(crate) shuts_down: bool,
    pub(crate) check_close_notify: bool,
    pub(crate) expect_cipher: Option<u16>,
    pub(crate) expect_group: Option<u16>,
    pub(crate) expect_extended_master_secret: bool,
    pub(crate) expect_peer_certificate: Option<String>,
    pub(crate) expect_no_peer_certificate: bool,
    pub(crate) require_client_certificate: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            certificate_file: None,
            key_file: None,
            pre_shared_key: None,
            psk_identity: String::new(),
            groups: Vec::new(),
            suites: Vec::new(),
            retransmission_timeout: RETRANSMISSION_TIMEOUT,
            max_transmission_unit: MAX_TRANSMISSION_UNIT,
            refuse_peer: false,
            server_name: None,
            no_tickets: false,
            expect_verify_result: false,
            resumption_delay: Duration::ZERO,
            expect_session_miss: false,
            expect_session_id: None,
            expect_no_session: false,
            expect_ticket_renewal: false,
            writes_first: false,
            initial_write: "hello".to_owned(),
            initial_writes: 1,
            shuts_down: false,
            check_close_notify: false,
            expect_cipher: None,
            expect_group: None,
            expect_extended_master_secret: false,
            expect_peer_certificate: None,
            expect_no_peer_certificate: false,
            require_client_certificate: false,
        }
    }
}

/// Flags without a value that need nothing of us: they choose among BoringSSL's interfaces, or turn
/// off what we do not have, or say what is always so.
const IGNORED: &[&str] = &[
    "async",
    "expect-no-hrr",
    "expect-secure-renegotiation",
    "handshake-twice",
    "implicit-handshake",
    "install-ddos-callback",
    "no-op-extra-handshake",
    "no-tls1",
    "no-tls11",
    "no-tls13",
    "use-custom-verify-callback",
    "use-early-callback",
    "use-old-client-cert-callback",
    "verify-peer",
];

/// The values that follow a flag's name.
struct Values<'a> {
    name: &'a str,
    rest: std::slice::Iter<'a, String>,
}

impl<'a> Values<'a> {
    fn text(&mut self) -> Result<&'a str, Outcome> {
        let value = self.rest.next();
        let missing = || Outcome::Failed(format!("-{} lacks its value", self.name));
        value.map(String::as_str).ok_or_else(missing)
    }

    fn number<T: std::str::FromStr>(&mut self) -> Result<T, Outcome> {
        let text = self.text()?;
        let wrong = |_| Outcome::Unimplemented(format!("-{} {text}", self.name));
        text.parse().map_err(wrong)
    }
}

impl Flags {
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, Outcome> {
        let mut flags = Self::default();
        let mut values = Values {
            name: "",
            rest: arguments.iter(),
        };
        while let Some(argument) = values.rest.next() {
            let name = argument.trim_start_matches('-');
            values.name = name;
            flags.set(name, &mut values)?;
        }
        if !flags.dtls {
            return Err(Outcome::unimplemented("TLS and QUIC"));
        }
        Ok(flags)
    }

    fn set(&mut self, name: &str, values: &mut Values<'_>) -> Result<(), Outcome> {
        match name {
            "port" => self.port = values.number()?,
            "ipv6" => self.ipv6 = true,
            "shim-id" => self.shim_id = values.number()?,
            "server" => self.server = true,
            "dtls" => self.dtls = true,
            "resume-count" => self.resume_count = values.number()?,
            _ => {
                if let Some(name) = name.strip_prefix("on-initial-") {
                    return self.initial.set(name, values);
                }
                if let Some(name) = name.strip_prefix("on-resume-") {
                    return self.resume.set(name, values);
                }
                let mut again = Values {
                    name: values.name,
                    rest: values.rest.clone(),
                };
                self.initial.set(name, &mut again)?;
                self.resume.set(name, values)?;
            }
        }
        Ok(())
    }
}

impl Settings {
    fn set(&mut self, name: &str, values: &mut Values<'_>) -> Result<(), Outcome> {
        match name {
            _ if IGNORED.contains(&name) => {}
            // Which root it has does not matter to us: leaves are compared.
            "trust-cert" => drop(values.text()?),
            "cert-file" => self.certificate_file = Some(values.text()?.to_owned()),
            "key-file" => self.key_file = Some(values.text()?.to_owned()),
            "psk" => self.pre_shared_key = Some(values.text()?.to_owned()),
            "psk-identity" => self.psk_identity = values.text()?.to_owned(),
            "curves" => {
                let id = values.number()?;
                let group = NamedGroup::from_id(id);
                let missing = || Outcome::Unimplemented(format!("group {id}"));
                self.groups.push(group.ok_or_else(missing)?);
            }
            "cipher" => self.suites = suites(values.text()?)?,
            "signing-prefs" | "verify-prefs" | "expect-peer-signature-algorithm" => {
                let id = values.number()?;
                if SignatureScheme::from_id(id).is_none() {
                    return Err(Outcome::Unimplemented(format!("scheme {id:#06x}")));
                }
            }
            "mtu" => self.max_transmission_unit = values.number()?,
            "initial-timeout-duration-ms" => {
                self.retransmission_timeout = Duration::from_millis(values.number()?);
            }
            "min-version" => check_version(values.number()?, |minimum| minimum >= DTLS_1_2)?,
            "max-version" => check_version(values.number()?, |maximum| maximum <= DTLS_1_2)?,
            "expect-version" => check_version(values.number()?, |version| version == DTLS_1_2)?,
            "expect-total-renegotiations" => {
                check_version(values.number()?, |count| count == 0)?;
            }
            "host-name" => self.server_name = Some(values.text()?.to_owned()),
            "verify-fail" => self.refuse_peer = true,
            "expect-verify-result" => self.expect_verify_result = true,
            "no-ticket" => self.no_tickets = true,
            "resumption-delay" => {
                self.resumption_delay = Duration::from_secs(values.number()?);
            }
            "expect-session-miss" => self.expect_session_miss = true,
            "expect-session-id" => self.expect_session_id = Some(true),
            "expect-no-session-id" => self.expect_session_id = Some(false),
            "expect-ticket-renewal" => self.expect_ticket_renewal = true,
            "expect-no-session" => self.expect_no_session = true,
            "shim-writes-first" => self.writes_first = true,
            "shim-initial-write" => self.initial_write = values.text()?.to_owned(),
            "repeat-shim-initial-write" => self.initial_writes = values.number()?,
            "shim-shuts-down" => self.shuts_down = true,
            "check-close-notify" => self.check_close_notify = true,
            "expect-cipher" | "expect-cipher-aes" => self.expect_cipher = Some(values.number()?),
            "expect-curve-id" => self.expect_group = Some(values.number()?),
            "expect-extended-master-secret" => self.expect_extended_master_secret = true,
            "expect-peer-cert-file" => {
                self.expect_peer_certificate = Some(values.text()?.to_owned());
            }
            "expect-no-peer-cert" => self.expect_no_peer_certificate = true,
            "require-any-client-certificate" => self.require_client_certificate = true,
            _ => return Err(Outcome::Unimplemented(format!("-{}", values.name))),
        }
        Ok(())
    }

    fn credentials(&self) -> Result<Option<Arc<Credentials>>, Outcome> {
        let (Some(certificate), Some(key)) = (&self.certificate_file, &self.key_file) else {
            return Ok(None);
        };
        let chain = read_certificates(certificate)?;
        let unreadable = || Outcome::Failed(format!("{key}: no private key"));
        let pem = fs::read(key).map_err(|_| unreadable())?;
        let der = rustls_pemfile::private_key(&mut &*pem)
            .ok()
            .flatten()
            .ok_or_else(unreadable)?;
        let key = SigningKey::from_der(der.secret_der())
            .map_err(|error| Outcome::Unimplemented(format!("this kind of key: {error:?}")))?;
        Ok(Some(Arc::new(Credentials { chain, key })))
    }

    /// The key that both ends are to have in common.
    pub(crate) fn pre_shared_key(&self) -> Option<PreSharedKey> {
        PreSharedKey::new(self.pre_shared_key.as_ref()?.as_bytes())
    }

    /// Whether a client's identity, by its SHA-256, is the one that has the key.
    pub(crate) fn is_psk_identity(&self, hash: &[u8; 32]) -> bool {
        psk_identity_hash(self.psk_identity.as_bytes()) == *hash
    }

    /// What a server keeps, and seals with keys of its own.
    pub(crate) fn sessions(&self) -> Sessions {
        let sessions = Sessions::new(Some(SessionCache::new(16, SESSION_LIFETIME)));
        if !self.no_tickets {
            let (mut name, mut secret) = ([0; 16], [0; 32]);
            SystemRandom.fill(&mut name);
            SystemRandom.fill(&mut secret);
            let keys = TicketKeys::new(vec![TicketKey::new(name, secret)], SESSION_LIFETIME);
            sessions.set_ticket_keys(Some(Arc::new(keys)));
        }
        sessions
    }

    /// Of a server; one that only resumes needs no opinion about certificates.
    pub(crate) fn server_config(&self, resumes: bool) -> Result<ServerConfig, Outcome> {
        if self.refuse_peer && !resumes {
            return Err(Outcome::unimplemented("refusing clients in the handshake"));
        }
        let credentials = match self.credentials()? {
            Some(credentials) => credentials,
            // Ours has one always; with a pre-shared key it is not shown.
            None if self.pre_shared_key.is_some() => some_certificate()?,
            None => return Err(Outcome::unimplemented("a server without a certificate")),
        };
        let mut config = ServerConfig::new(credentials);
        config.retransmission_timeout = self.retransmission_timeout;
        config.max_transmission_unit = self.max_transmission_unit;
        config.retransmissions_max = RETRANSMISSIONS_MAX;
        config.handshake_timeout = HANDSHAKE_TIMEOUT;
        choose(&mut config.groups, &self.groups);
        choose(&mut config.cipher_suites, &self.suites);
        Ok(config)
    }

    pub(crate) fn client_config(&self) -> Result<ClientConfig, Outcome> {
        if self.refuse_peer && self.expect_verify_result {
            return Err(Outcome::unimplemented(
                "going on with a server that is not trusted",
            ));
        }
        let verification = match &self.expect_peer_certificate {
            _ if self.refuse_peer => ServerVerification::Certificates(Vec::new()),
            Some(file) => ServerVerification::Certificates(read_certificates(file)?),
            None => ServerVerification::None,
        };
        let pre_shared_key = self.pre_shared_key().map(|key| {
            let identity = self.psk_identity.clone().into_bytes();
            Arc::new(ClientPreSharedKey { identity, key })
        });
        let mut config = ClientConfig {
            credentials: self.credentials()?,
            pre_shared_key,
            verification,
            server_name: self.server_name.clone(),
            session_tickets: !self.no_tickets,
            keep_session: true,
            retransmission_timeout: self.retransmission_timeout,
            retransmissions_max: RETRANSMISSIONS_MAX,
            max_transmission_unit: self.max_transmission_unit,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            ..ClientConfig::default()
        };
        choose(&mut config.groups, &self.groups);
        choose(&mut config.cipher_suites, &self.suites);
        Ok(config)
    }
}

/// A certificate that is nobody's in particular.
fn some_certificate() -> Result<Arc<Credentials>, Outcome> {
    let failed = |error: &dyn std::fmt::Display| Outcome::Failed(error.to_string());
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
    let made = made.map_err(|error| failed(&error))?;
    let key = SigningKey::from_der(&made.signing_key.serialize_der());
    Ok(Arc::new(Credentials {
        chain: vec![made.cert.der().to_vec()],
        key: key.map_err(|error| failed(&error))?,
    }))
}

/// Replaces `all` by what the runner asked for, if it did.
fn choose<T: Clone>(all: &mut Vec<T>, wanted: &[T]) {
    if !wanted.is_empty() {
        *all = wanted.to_vec();
    }
}

fn check_version(value: u16, fits: impl Fn(u16) -> bool) -> Result<(), Outcome> {
    if fits(value) {
        Ok(())
    } else {
        Err(Outcome::Unimplemented(format!("value {value:#06x}")))
    }
}

/// Suites by their IANA names, between colons.
fn suites(list: &str) -> Result<Vec<CipherSuite>, Outcome> {
    let suite = |name| {
        let missing = || Outcome::Unimplemented(format!("suite {name}"));
        CipherSuite::from_name(name).ok_or_else(missing)
    };
    list.split(':').map(suite).collect()
}

/// The certificates of a PEM file, in DER, leaf first.
pub(crate) fn read_certificates(file: &str) -> Result<Vec<Vec<u8>>, Outcome> {
    let unreadable = || Outcome::Failed(format!("{file}: no certificate"));
    let pem = fs::read(file).map_err(|_| unreadable())?;
    rustls_pemfile::certs(&mut &*pem)
        .map(|certificate| certificate.map(|der| der.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|_| unreadable())
}
