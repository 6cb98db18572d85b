//! A device: our own DTLS client and CoAP client, and the habits of a device in the field.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use tidegate::buffer::SpareBuffers;
use tidegate::coap::client::{
    ClientExchange, ClientInput, ClientTimeout, RequestParts, RequestTemplate,
};
use tidegate::coap::{self, code};
use tidegate::crypto::key_exchange::NamedGroup;
use tidegate::crypto::pre_shared_key::PreSharedKey;
use tidegate::crypto::signature::SigningKey;
use tidegate::crypto::suite::CipherSuite;
use tidegate::dtls::Credentials;
use tidegate::dtls::client::{
    self, ClientConfig, ClientConnection, ClientPreSharedKey, ResumableSession,
};
use tidegate::random::{Random, SeededRandom};
use tidegate::registry::NewCredential;
use tidegate::time::{Duration, Instant, Now};

use crate::plan::{DevicePlan, Kind, Resumption, between, one_in};

/// Values of one device lie in a range of their own.
pub(crate) const VALUES_PER_DEVICE: u64 = 1_000_000;
/// The most devices of a seed.
const DEVICES_MAX: usize = 5;

/// Certificates of the devices, common to all seeds.
static CERTIFICATES: LazyLock<Vec<Arc<Credentials>>> =
    LazyLock::new(|| (0..DEVICES_MAX).map(|_| certificate("device")).collect());
static COAP: LazyLock<coap::Settings> = LazyLock::new(coap::Settings::default);

/// What a request was, so that its answer can be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To store this value, which no other request carries.
    Store(u64),
    /// To read attributes.
    Read(u64),
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Answer(u8),
    Reset,
    TimedOut,
    /// The session went, or the device started over.
    Abandoned,
}

/// What a step of a device came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Began(Asked),
    Ended(Asked, End),
    /// A handshake ended well; whether it was an abbreviated one.
    Established(bool),
    HandshakeFailed,
}

/// Datagrams and events of one step.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) datagrams: Vec<Vec<u8>>,
    pub(crate) events: Vec<Event>,
}

/// One device.
pub(crate) struct Device {
    pub(crate) index: usize,
    pub(crate) plan: DevicePlan,
    pub(crate) address: SocketAddr,
    /// Connections so far: each has keys of its own.
    pub(crate) connections: u64,
    connection: Option<ClientConnection>,
    established: bool,
    kept: Option<Arc<ResumableSession>>,
    config: ClientConfig,
    exchange: ClientExchange,
    asked: Option<Asked>,
    store: RequestTemplate,
    read: RequestTemplate,
    next_action: Instant,
    pause: Duration,
    values: u64,
    /// Whether it sends anything of its own accord.
    pub(crate) active: bool,
}

impl Device {
    pub(crate) fn new(
        index: usize,
        plan: DevicePlan,
        pause: Duration,
        dice: &mut SeededRandom,
    ) -> Self {
        let token = token(index);
        let path = |leaf: &'static str| -> RequestTemplate {
            let path = match plan.kind {
                Kind::Certificate | Kind::PreSharedKey => vec!["api", "v1", leaf],
                Kind::Plain | Kind::Token => vec!["api", "v1", &token, leaf],
            };
            let method = if leaf == "telemetry" {
                code::POST
            } else {
                code::GET
            };
            let parts = RequestParts {
                method,
                path: &path,
                ..RequestParts::default()
            };
            RequestTemplate::new(&parts).expect("a short path")
        };
        let suites = match plan.kind {
            Kind::PreSharedKey if one_in(dice, 2) => {
                [CipherSuite::PskAes128Gcm, CipherSuite::PskAes128Ccm8]
            }
            Kind::PreSharedKey => [
                CipherSuite::EcdhePskAes128Gcm,
                CipherSuite::EcdhePskAes128Ccm8,
            ],
            _ => [
                CipherSuite::EcdheEcdsaAes128Gcm,
                CipherSuite::EcdheEcdsaAes128Ccm8,
            ],
        };
        // The server's certificate is on P-256, so that is always offered (RFC 8422 section 5.1).
        let mut groups = vec![NamedGroup::X25519, NamedGroup::Secp256r1];
        if one_in(dice, 2) {
            groups.reverse();
        }
        let suite = suites[usize::from(one_in(dice, 2))];
        Self {
            index,
            plan,
            address: address(index, 0),
            connections: 0,
            connection: None,
            established: false,
            kept: None,
            config: ClientConfig {
                credentials: (plan.kind == Kind::Certificate)
                    .then(|| Arc::clone(&CERTIFICATES[index])),
                pre_shared_key: (plan.kind == Kind::PreSharedKey).then(|| {
                    Arc::new(ClientPreSharedKey {
                        identity: token.clone().into_bytes(),
                        key: key(index),
                    })
                }),
                cipher_suites: vec![suite],
                groups,
                session_tickets: plan.resumption == Resumption::ByTicket,
                keep_session: plan.resumption != Resumption::Never,
                retransmission_timeout: Duration::from_millis(between(dice, 500, 3000)),
                max_transmission_unit: plan.max_transmission_unit,
                ..ClientConfig::default()
            },
            exchange: ClientExchange::new(dice),
            asked: None,
            store: path("telemetry"),
            read: path("attributes"),
            next_action: Instant::from_micros(1 + dice.below(2_000_000)),
            pause,
            values: 0,
            active: true,
        }
    }

    /// What proves the device.
    pub(crate) fn credential(&self) -> NewCredential {
        match self.plan.kind {
            Kind::Plain | Kind::Token => NewCredential::AccessToken(token(self.index)),
            Kind::Certificate => {
                NewCredential::Certificate(CERTIFICATES[self.index].chain[0].clone())
            }
            Kind::PreSharedKey => NewCredential::PreSharedKey {
                identity: token(self.index),
                key: Some(Arc::new(key(self.index))),
            },
        }
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.plan.kind != Kind::Plain
    }

    /// Whether no request is open.
    pub(crate) fn is_idle(&self) -> bool {
        self.asked.is_none()
    }

    /// When [`Self::step`] has something to do.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let connection = self
            .connection
            .as_ref()
            .and_then(ClientConnection::next_timeout);
        let action = (self.active && self.is_ready()).then_some(self.next_action);
        [connection, self.exchange.next_timeout(), action]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether the next thing to happen is of the device's own accord.
    fn is_ready(&self) -> bool {
        let handshaking = self
            .connection
            .as_ref()
            .is_some_and(|connection| connection.next_timeout().is_some());
        self.asked.is_none() && !handshaking
    }

    /// Puts off what the device would do.
    pub(crate) fn sleep_until(&mut self, at: Instant) {
        self.next_action = self.next_action.max(at);
    }

    /// From now on the device pauses briefly.
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.pause = Duration::from_millis(500);
        self.plan.non_confirmable = 0;
        self.plan.response_timeout = Duration::from_secs(10);
        self.next_action = self.next_action.min(now + self.pause);
    }

    /// Forgets its session and its open request, as when the battery is changed.
    pub(crate) fn restart(&mut self, now: Instant, dice: &mut SeededRandom) -> Output {
        let mut output = Output::default();
        self.disconnect(&mut output);
        if one_in(dice, 2) {
            self.kept = None;
        }
        self.exchange = ClientExchange::new(dice);
        self.next_action = now + Duration::from_millis(dice.below(1000));
        output
    }

    /// Does what is due.
    pub(crate) fn step(&mut self, now: Now, dice: &mut SeededRandom) -> Output {
        let mut output = Output::default();
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now.instant);
        if due(self
            .connection
            .as_ref()
            .and_then(ClientConnection::next_timeout))
        {
            self.with_connection(dice, &mut output, |connection, cx| {
                // A failure shows as a closed connection below.
                let _ = connection.handle_timeout(now, cx);
            });
            self.notice(now.instant, &mut output, dice);
        }
        if due(self.exchange.next_timeout()) {
            let mut messages = Vec::new();
            let mut push = |message: &[u8]| messages.push(message.to_vec());
            let end = self.exchange.handle_timeout(
                now.instant,
                &mut coap_context(&mut push, dice, &mut SpareBuffers::default()),
            );
            self.send(&messages, &mut output);
            if end == ClientTimeout::TimedOut {
                self.end(now.instant, End::TimedOut, &mut output, dice);
                // Nobody answers: the session may be gone at the other end.
                self.disconnect(&mut output);
            }
        }
        if self.active && self.is_ready() && self.next_action <= now.instant {
            self.act(now, &mut output, dice);
        }
        output
    }

    fn act(&mut self, now: Now, output: &mut Output, dice: &mut SeededRandom) {
        let connected = self
            .connection
            .as_ref()
            .is_some_and(ClientConnection::is_established);
        if self.is_secure() && !connected {
            self.connect(now, output, dice);
            return;
        }
        self.values += 1;
        let value = u64::try_from(self.index).expect("small") * VALUES_PER_DEVICE + self.values;
        let (asked, template, payload) = if one_in(dice, 8) {
            (Asked::Read(value), &self.read, String::new())
        } else {
            (
                Asked::Store(value),
                &self.store,
                format!("{{\"v\":{value}}}"),
            )
        };
        let confirmable = dice.below(1000) >= self.plan.non_confirmable;
        let mut messages = Vec::new();
        let mut push = |message: &[u8]| messages.push(message.to_vec());
        let started = self.exchange.start(
            now.instant,
            template,
            confirmable,
            payload.as_bytes(),
            self.plan.response_timeout,
            &mut coap_context(&mut push, dice, &mut SpareBuffers::default()),
        );
        assert_eq!(started, Ok(()), "the exchange is idle");
        self.asked = Some(asked);
        output.events.push(Event::Began(asked));
        self.send(&messages, output);
    }

    fn connect(&mut self, now: Now, output: &mut Output, dice: &mut SeededRandom) {
        self.connections += 1;
        self.established = false;
        let config = Arc::new(ClientConfig {
            resume: self.kept.clone(),
            connection_id: self
                .plan
                .connection_id
                .then(|| connection_id(self.index, self.connections).to_vec()),
            return_routability_check: self.plan.routability_check,
            ..self.config.clone()
        });
        let mut cx = client::Context {
            random: dice,
            out: &mut output.datagrams,
            drops: &mut |_| {},
        };
        self.connection = Some(ClientConnection::new(now, config, &mut cx));
    }

    /// Takes a datagram that arrived for it.
    pub(crate) fn receive(
        &mut self,
        now: Now,
        mut bytes: Vec<u8>,
        dice: &mut SeededRandom,
    ) -> Output {
        let mut output = Output::default();
        if !self.is_secure() {
            self.handle_message(now.instant, &bytes, &mut output, dice);
            return output;
        }
        let mut messages: Vec<Vec<u8>> = Vec::new();
        self.with_connection(dice, &mut output, |connection, cx| {
            let received = connection.handle_datagram(now, &mut bytes, cx);
            messages.extend(
                received
                    .plaintexts
                    .iter()
                    .map(|range| bytes[range].to_vec()),
            );
        });
        self.notice(now.instant, &mut output, dice);
        for message in messages {
            self.handle_message(now.instant, &message, &mut output, dice);
        }
        output
    }

    /// Sees whether the connection came to be or ended.
    fn notice(&mut self, now: Instant, output: &mut Output, dice: &mut SeededRandom) {
        let Some(connection) = &self.connection else {
            return;
        };
        if connection.is_established() && !self.established {
            self.established = true;
            output
                .events
                .push(Event::Established(connection.resumed().is_some()));
            self.next_action = now;
        }
        if let Some(session) = connection.session() {
            self.kept = Some(Arc::new(session.clone()));
        }
        if connection.is_closed() {
            if !self.established {
                output.events.push(Event::HandshakeFailed);
                self.kept = None;
                self.next_action = now + Duration::from_millis(500 + dice.below(2500));
            }
            self.disconnect(output);
        }
    }

    fn handle_message(
        &mut self,
        now: Instant,
        message: &[u8],
        output: &mut Output,
        dice: &mut SeededRandom,
    ) {
        let mut messages = Vec::new();
        let mut push = |message: &[u8]| messages.push(message.to_vec());
        let input = self.exchange.handle_message(
            message,
            &mut coap_context(&mut push, dice, &mut SpareBuffers::default()),
        );
        self.send(&messages, output);
        match input {
            ClientInput::Answer { code, .. } => self.end(now, End::Answer(code), output, dice),
            ClientInput::Reset => self.end(now, End::Reset, output, dice),
            ClientInput::Acknowledged
            | ClientInput::Notification { .. }
            | ClientInput::Dropped(_) => {}
        }
    }

    fn end(&mut self, now: Instant, end: End, output: &mut Output, dice: &mut SeededRandom) {
        let asked = self
            .asked
            .take()
            .expect("an end belongs to an open request");
        output.events.push(Event::Ended(asked, end));
        let pause = u64::try_from(self.pause.as_millis()).expect("a short time");
        self.next_action = now + Duration::from_millis(1 + dice.below(pause + 1));
    }

    /// Drops the session, and with it the open request.
    fn disconnect(&mut self, output: &mut Output) {
        if self.is_secure() {
            self.connection = None;
        }
        if let Some(asked) = self.asked.take() {
            self.exchange.abandon();
            output.events.push(Event::Ended(asked, End::Abandoned));
        }
    }

    fn with_connection(
        &mut self,
        dice: &mut SeededRandom,
        output: &mut Output,
        step: impl FnOnce(&mut ClientConnection, &mut client::Context<'_>),
    ) {
        if let Some(connection) = &mut self.connection {
            let mut cx = client::Context {
                random: dice,
                out: &mut output.datagrams,
                drops: &mut |_| {},
            };
            step(connection, &mut cx);
        }
    }

    fn send(&mut self, messages: &[Vec<u8>], output: &mut Output) {
        for message in messages {
            if !self.is_secure() {
                output.datagrams.push(message.clone());
                continue;
            }
            let Some(connection) = &mut self.connection else {
                continue;
            };
            let (prefix, suffix) = connection.record_overhead();
            let mut record = vec![0; prefix];
            record.extend_from_slice(message);
            record.resize(record.len() + suffix, 0);
            if connection.seal_application_data(&mut record).is_ok() {
                output.datagrams.push(record);
            }
        }
    }
}

/// The pre-shared key of a device.
fn key(index: usize) -> PreSharedKey {
    let seed = u64::try_from(index).expect("few devices");
    PreSharedKey::random(&mut SeededRandom::new(seed))
}

/// The access token of a device, or the identity of its pre-shared key.
pub(crate) fn token(index: usize) -> String {
    format!("TOKEN{index}")
}

/// Length of the connection ids of devices.
pub(crate) const DEVICE_ID_LEN: usize = 5;

/// The connection id of a device's connection: each has one of its own, so that the records to it can
/// be told from all others.
fn connection_id(index: usize, connection: u64) -> [u8; DEVICE_ID_LEN] {
    let [.., a, b, c, d] = connection.to_be_bytes();
    [u8::try_from(index).expect("few devices"), a, b, c, d]
}

/// The address of a device after it moved `moves` times.
pub(crate) fn address(index: usize, moves: u16) -> SocketAddr {
    let host = u8::try_from(index + 1).expect("few devices");
    SocketAddr::from(([192, 0, 2, host], 5000 + 13 * moves + u16::from(host)))
}

/// Whether a device has, had or may have this address.
pub(crate) fn is_address(address: SocketAddr) -> bool {
    matches!(address, SocketAddr::V4(v4) if v4.ip().octets()[..3] == [192, 0, 2])
}

fn coap_context<'a>(
    out: &'a mut dyn FnMut(&[u8]),
    dice: &'a mut SeededRandom,
    buffers: &'a mut SpareBuffers,
) -> coap::Context<'a> {
    coap::Context {
        settings: &COAP,
        random: dice,
        out,
        buffers,
    }
}

/// A certificate of a key on P-256 that is valid through all of the simulation's time.
pub(crate) fn certificate(name: &str) -> Arc<Credentials> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let mut parameters = rcgen::CertificateParams::new(vec![name.into()]).expect("a name");
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2100, 1, 1);
    let leaf = parameters.self_signed(&key).expect("a signature");
    let key = SigningKey::from_der(&key.serialize_der()).expect("a usable key");
    Arc::new(Credentials {
        chain: vec![leaf.der().to_vec()],
        key,
    })
}
