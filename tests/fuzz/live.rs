//! A live endpoint under a program of datagrams: three devices with sessions, strangers, time.
//!
//! The input is a list of steps. Each starts with a byte: who acts in its upper three bits, what
//! happens in its lower five. Bytes are passed with their length before them in 16 bits.
//!
//! What must hold: no stranger gets more than it sent, or three times that of records with a connection
//! id, which may have moved their session there; no stranger has a request; a request has the
//! identity of the device that sent it; permits balance; a session that its own device did not end
//! still answers afterwards, and one whose credential ended does not.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use tidegate::auth::request::{CredentialVerdict, Identity, Request, Response};
use tidegate::crypto::fingerprint::device_fingerprint;
use tidegate::crypto::pre_shared_key::{PreSharedKey, psk_identity_hash};
use tidegate::crypto::suite::CipherSuite;
use tidegate::dtls::client::{ClientConfig, ClientConnection, ClientPreSharedKey, Context};
use tidegate::dtls::{
    CookieJar, PeerIdentity, Revocations, SessionCache, Sessions, TicketKey, TicketKeys, fuzzing,
};
use tidegate::endpoint::{Endpoint, EndpointSettings, Outbox, Port};
use tidegate::metrics::{Counter, ShardMetrics};
use tidegate::random::SeededRandom;
use tidegate::time::{Duration, Instant, Now};
use tidegate::wire::Reader;

/// Steps of one program; what comes behind them is not looked at.
const STEPS_MAX: usize = 48;
const SESSIONS_MAX: usize = 6;
const HANDSHAKES_MAX: usize = 4;
const REQUESTS_MAX: usize = 6;
/// Datagrams of one flight, and more.
const DATAGRAMS_MAX: usize = 64;

/// Content type of a record with a connection id (RFC 9146 section 4).
const CONNECTION_ID: u8 = 25;

/// Bytes that an address may get for a datagram without having returned a cookie: as many, or three
/// times as many for one that can move a session (RFC 9853 section 5).
fn worth(datagram: &[u8]) -> usize {
    match datagram.first() {
        Some(&CONNECTION_ID) => 3 * datagram.len(),
        _ => datagram.len(),
    }
}

/// A CoAP ping (RFC 7252 section 4.3).
const PING: [u8; 4] = [0x40, 0, 0xbe, 0xef];

/// Runs the program.
pub(crate) fn datagrams(program: &[u8]) {
    let mut world = World::new();
    let mut program = Reader::new(program);
    for _ in 0..STEPS_MAX {
        if world.step(&mut program).is_none() {
            break;
        }
        world.check();
    }
    world.end();
}

/// A device: a client with a session, and the one of a handshake beside it.
struct Device {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    identity: Identity,
    connection: ClientConnection,
    renewal: Option<ClientConnection>,
    /// Datagrams that the device wants to send.
    pending: VecDeque<Vec<u8>>,
    /// Datagrams that it sent last.
    sent: VecDeque<Vec<u8>>,
    /// Plaintexts that it got last.
    received: VecDeque<Vec<u8>>,
    /// Whether it did anything that may have ended its session.
    gone: bool,
}

struct World {
    endpoint: Endpoint,
    metrics: Arc<ShardMetrics>,
    out: Outbox,
    random: SeededRandom,
    devices: Vec<Device>,
    requests: VecDeque<Request>,
    revoked: Arc<Revoked>,
    /// Handshake datagrams are left waiting.
    busy: bool,
    now: Now,
    /// What strangers sent to the secure port, and what it sent to them.
    strangers: (usize, usize),
}

/// Whether the credentials of all devices that their sessions prove have ended.
#[derive(Debug, Default)]
struct Revoked(AtomicBool);

impl Revocations for Revoked {
    fn is_revoked(&self, _identity: &PeerIdentity, _since_unix_ms: u64) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn has_pre_shared_keys(&self) -> bool {
        true
    }
}

/// Whose pre-shared key it is, and the key.
const PSK: (&[u8], &[u8]) = (b"device", b"sixteen bytes or");

/// Identity and key as a client has them.
pub(crate) fn pre_shared_key() -> Arc<ClientPreSharedKey> {
    let (identity, key) = PSK;
    Arc::new(ClientPreSharedKey {
        identity: identity.to_vec(),
        key: PreSharedKey::new(key).expect("a key"),
    })
}

/// The devices' configurations: one without a certificate, on GCM; one with, on CCM_8 and with a
/// connection id; one with a pre-shared key.
fn configs() -> &'static [(Arc<ClientConfig>, Identity); 3] {
    static CONFIGS: OnceLock<[(Arc<ClientConfig>, Identity); 3]> = OnceLock::new();
    CONFIGS.get_or_init(|| {
        let credentials = fuzzing::credentials("device");
        let fingerprint = device_fingerprint(&credentials.chain[0]);
        let anonymous = ClientConfig {
            cipher_suites: vec![CipherSuite::EcdheEcdsaAes128Gcm],
            keep_session: true,
            ..ClientConfig::default()
        };
        let certificate = ClientConfig {
            cipher_suites: vec![CipherSuite::EcdheEcdsaAes128Ccm8],
            credentials: Some(credentials),
            keep_session: true,
            session_tickets: true,
            connection_id: Some(b"id".to_vec()),
            return_routability_check: true,
            ..ClientConfig::default()
        };
        let with_key = ClientConfig {
            cipher_suites: vec![CipherSuite::EcdhePskAes128Ccm8],
            pre_shared_key: Some(pre_shared_key()),
            keep_session: true,
            ..ClientConfig::default()
        };
        let identity = psk_identity_hash(PSK.0);
        [
            (Arc::new(anonymous), Identity::Anonymous),
            (Arc::new(certificate), Identity::Certificate(fingerprint)),
            (Arc::new(with_key), Identity::PreSharedKey(identity)),
        ]
    })
}

impl World {
    fn new() -> Self {
        let revoked = Arc::<Revoked>::default();
        let lifetime = Duration::from_secs(600);
        let sessions = Sessions::new(Some(SessionCache::new(64, lifetime)));
        let keys = vec![TicketKey::new([1; 16], [2; 32])];
        sessions.set_ticket_keys(Some(Arc::new(TicketKeys::new(keys, lifetime))));
        let settings = EndpointSettings {
            sessions,
            revocations: Arc::clone(&revoked) as Arc<dyn Revocations>,
            dtls: ArcSwapOption::new(Some(fuzzing::server_config())),
            session_inactivity_timeout: Duration::from_secs(1 << 30),
            session_report_timeout: Duration::from_secs(1 << 20),
            sessions_max: SESSIONS_MAX,
            handshakes_max: HANDSHAKES_MAX,
            plain_peers_max: 2,
            requests_max: REQUESTS_MAX,
            ..EndpointSettings::new(CookieJar::new([7; 32]))
        };
        let metrics = Arc::new(ShardMetrics::new());
        let now = Now {
            instant: Instant::from_micros(1),
            unix_ms: 1_790_000_000_000,
        };
        let endpoint = Endpoint::new(
            0,
            Arc::new(settings),
            Arc::clone(&metrics),
            Box::new(SeededRandom::new(1)),
            now,
        );
        let mut random = SeededRandom::new(2);
        let mut devices = Vec::new();
        for (number, (config, identity)) in (1..).zip(configs()) {
            let mut hello = Vec::new();
            let connection = start(now, config, &mut random, &mut hello);
            devices.push(Device {
                address: SocketAddr::from(([192, 0, 2, number], 5000)),
                config: Arc::clone(config),
                identity: *identity,
                connection,
                renewal: None,
                pending: hello.into(),
                sent: VecDeque::new(),
                received: VecDeque::new(),
                gone: false,
            });
        }
        let mut world = Self {
            endpoint,
            metrics,
            out: Outbox::default(),
            random,
            devices,
            requests: VecDeque::new(),
            revoked,
            busy: false,
            now,
            strangers: (0, 0),
        };
        for who in 0..world.devices.len() {
            world.deliver_all(who);
            let device = &world.devices[who];
            assert!(device.connection.is_established(), "no session");
        }
        world
    }

    /// One step; `None` when the program is over.
    fn step(&mut self, program: &mut Reader<'_>) -> Option<()> {
        let step = program.u8().ok()?;
        let who = usize::from(step >> 5) % self.devices.len();
        match step & 31 {
            // A stranger, or somebody in a device's name, says anything.
            0 => {
                let bytes = program.vec16().ok()?;
                let address = SocketAddr::from(([203, 0, 113, step >> 5], 4000));
                self.strangers.0 += worth(bytes);
                self.receive(address, Port::Secure, bytes, None);
            }
            1 => {
                let bytes = program.vec16().ok()?;
                let address = SocketAddr::from(([203, 0, 113, step >> 5], 4000));
                self.receive(address, Port::Plain, bytes, None);
            }
            2 => {
                let bytes = program.vec16().ok()?;
                self.receive(self.devices[who].address, Port::Secure, bytes, Some(who));
            }
            // The device says something under its keys: a message, or what is no message.
            3 => {
                let bytes = program.vec16().ok()?;
                self.seal(who, 3, bytes);
            }
            4 => {
                let kind = program.u8().ok()?;
                let bytes = program.vec16().ok()?;
                self.seal(who, kind, bytes);
            }
            // One of its datagrams again, changed or not, from where it came or elsewhere.
            5 => {
                let [which, at, change] = program.array().ok()?;
                self.repeat(who, which, at, change, self.devices[who].address);
            }
            6 => {
                let [which, at, change] = program.array().ok()?;
                let address = SocketAddr::from(([203, 0, 113, 9], 4001));
                self.repeat(who, which, at, change, address);
            }
            7 => {
                let millis = program.u16().ok()?;
                self.advance(Duration::from_millis(u64::from(millis)));
            }
            8 => {
                let [code, content, length] = program.array().ok()?;
                self.answer(code, content, usize::from(length) * 8);
            }
            9 => {
                if let Some(request) = self.requests.pop_front() {
                    self.endpoint
                        .handle_refusal(self.now, request, &mut self.out);
                    self.collect(None);
                }
            }
            10 => self.renew(who, true),
            11 => {
                let [at, change] = program.array().ok()?;
                self.deliver_next(who, at, change);
            }
            12 => {
                self.devices[who].pending.pop_front();
            }
            13 => self.deliver_all(who),
            14 => self.renew(who, false),
            // The shard has no time for handshakes, or has it again.
            15 => self.busy = !self.busy,
            16 => self.serve_one(),
            17 => self.endpoint.begin_turn(step >> 5 != 0),
            18 => self.revoke(),
            // The device's address has changed, or somebody was faster with a copy of its record.
            19 => {
                let bytes = program.vec16().ok()?;
                let content = &bytes[..bytes.len().min(4096)];
                let connection = &mut self.devices[who].connection;
                if let Some(record) = fuzzing::seal_content(connection, 3, content) {
                    let address = SocketAddr::from(([203, 0, 113, 9], 4002));
                    self.strangers.0 += worth(&record);
                    self.receive(address, Port::Secure, &record, Some(who));
                }
            }
            _ => {
                // An idle moment.
                self.advance(Duration::from_millis(u64::from(step & 31)));
            }
        }
        Some(())
    }

    fn context<'a>(
        random: &'a mut SeededRandom,
        out: &'a mut Vec<Vec<u8>>,
        drops: &'a mut dyn FnMut(tidegate::drop_reason::DropReason),
    ) -> Context<'a> {
        Context { random, out, drops }
    }

    /// The endpoint takes a datagram; `sender` is the device whose keys or name it uses.
    fn receive(&mut self, from: SocketAddr, port: Port, bytes: &[u8], sender: Option<usize>) {
        let mut bytes = bytes.to_vec();
        self.endpoint
            .handle_datagram(self.now, from, port, &mut bytes, &mut self.out);
        self.endpoint.handle_all_waiting(self.now, &mut self.out);
        self.collect(sender);
        while !self.busy && self.endpoint.has_waiting() {
            self.serve_one();
        }
    }

    /// One handshake datagram that waited is handled.
    fn serve_one(&mut self) {
        if let Some(mut datagram) = self.endpoint.next_waiting(self.now) {
            let from = datagram.from();
            let sender = self
                .devices
                .iter()
                .position(|device| device.address == from);
            self.endpoint
                .handle_waiting(self.now, &mut datagram, &mut self.out);
            self.collect(sender);
        }
    }

    /// The devices' certificates and keys end, and come back: their sessions are gone then.
    fn revoke(&mut self) {
        self.revoked.0.store(true, Ordering::Relaxed);
        self.endpoint.revoke_since(self.now.unix_ms);
        for round in 0.. {
            assert!(round < 100, "a search without end");
            if !self.endpoint.drop_revoked(2, &mut self.out) {
                break;
            }
            self.collect_from(None, true);
        }
        self.collect_from(None, true);
        for who in 0..self.devices.len() {
            if self.devices[who].identity == Identity::Anonymous {
                continue;
            }
            self.devices[who].received.clear();
            self.seal(who, 3, &PING);
            let device = &mut self.devices[who];
            assert!(
                device.received.is_empty(),
                "a session outlives its credential"
            );
            device.gone = true;
        }
        self.revoked.0.store(false, Ordering::Relaxed);
    }

    /// Takes what a step of the endpoint produced to whom it concerns.
    fn collect(&mut self, sender: Option<usize>) {
        self.collect_from(sender, false);
    }

    /// The same; `may_close` when the server has reason to end sessions.
    fn collect_from(&mut self, sender: Option<usize>, may_close: bool) {
        assert!(self.out.transmits().len() <= DATAGRAMS_MAX);
        for request in std::mem::take(&mut self.out.credential_requests) {
            let is_known = request.identity == psk_identity_hash(PSK.0);
            let key = PreSharedKey::new(PSK.1).filter(|_| is_known).map(Arc::new);
            let verdict = CredentialVerdict { request, key };
            self.endpoint
                .handle_credential_verdict(self.now, &verdict, &mut self.out);
        }
        for request in self.out.requests.drain(..) {
            if request.secure {
                let sender = sender.expect("a request over DTLS has a sender");
                assert_eq!(
                    request.identity, self.devices[sender].identity,
                    "a request in another's name"
                );
            } else {
                assert_eq!(request.identity, Identity::Anonymous);
            }
            self.requests.push_back(request);
        }
        let sent: Vec<_> = self
            .out
            .transmits()
            .iter()
            .map(|transmit| {
                let datagram = self.out.datagram(transmit).to_vec();
                (transmit.to, transmit.local.port, datagram)
            })
            .collect();
        self.out.clear_transmits();
        self.out.take_notes().for_each(drop);
        for (to, port, mut datagram) in sent {
            let Some(device) = self.devices.iter_mut().find(|device| device.address == to) else {
                if port == Port::Secure {
                    self.strangers.1 += datagram.len();
                }
                continue;
            };
            let named = device.identity != Identity::Anonymous;
            device.gone |= may_close && named;
            device.take(self.now, &mut datagram, &mut self.random);
        }
    }

    fn seal(&mut self, who: usize, kind: u8, content: &[u8]) {
        let content = &content[..content.len().min(4096)];
        let device = &mut self.devices[who];
        if let Some(record) = fuzzing::seal_content(&mut device.connection, kind, content) {
            device.gone |= fuzzing::is_alert(kind);
            device.remember(&record);
            self.receive(self.devices[who].address, Port::Secure, &record, Some(who));
        }
    }

    fn repeat(&mut self, who: usize, which: u8, at: u8, change: u8, from: SocketAddr) {
        let sent = &self.devices[who].sent;
        if let Some(datagram) = sent.get(usize::from(which) % sent.len().max(1)) {
            let datagram = changed(datagram, at, change);
            if from != self.devices[who].address {
                self.strangers.0 += worth(&datagram);
                // By its id it is the device's, wherever it comes from.
                let sender = (datagram.first() == Some(&CONNECTION_ID)).then_some(who);
                self.receive(from, Port::Secure, &datagram, sender);
            } else {
                self.receive(from, Port::Secure, &datagram, Some(who));
            }
        }
    }

    fn advance(&mut self, time: Duration) {
        self.now.instant = self.now.instant + time;
        self.now.unix_ms += u64::try_from(time.as_millis()).unwrap_or(0);
        for round in 0.. {
            assert!(round < 100, "timers without end");
            if self.endpoint.next_timeout() > self.now.instant {
                break;
            }
            self.endpoint.handle_timeout(self.now, &mut self.out);
            self.collect(None);
        }
        for device in &mut self.devices {
            device.fire(self.now, &mut self.random);
        }
    }

    fn answer(&mut self, code: u8, content: u8, length: usize) {
        if let Some(request) = self.requests.pop_front() {
            let verdict = request.into_verdict(Response {
                code,
                content_format: (content & 1 != 0).then_some(50),
                max_age: (content & 2 != 0).then_some(5),
                payload: vec![content; length],
                ..Response::default()
            });
            self.endpoint
                .handle_verdict(self.now, verdict, &mut self.out);
            self.collect(None);
        }
    }

    /// The device starts a handshake beside its session, or offers that session again.
    fn renew(&mut self, who: usize, resume: bool) {
        let device = &mut self.devices[who];
        let mut config = Arc::clone(&device.config);
        if let Some(session) = device.connection.session().filter(|_| resume) {
            config = Arc::new(ClientConfig {
                resume: Some(Arc::new(session.clone())),
                ..(*config).clone()
            });
        }
        let mut hello = Vec::new();
        device.renewal = Some(start(self.now, &config, &mut self.random, &mut hello));
        device.pending = hello.into();
        // From now on the server may have gone over to the new keys without the device.
        device.gone = true;
    }

    fn deliver_next(&mut self, who: usize, at: u8, change: u8) {
        let device = &mut self.devices[who];
        if let Some(datagram) = device.pending.pop_front() {
            device.remember(&datagram);
            let datagram = changed(&datagram, at, change);
            let address = device.address;
            self.receive(address, Port::Secure, &datagram, Some(who));
        }
    }

    fn deliver_all(&mut self, who: usize) {
        for round in 0.. {
            assert!(round < DATAGRAMS_MAX, "a conversation without end");
            if self.devices[who].pending.is_empty() {
                break;
            }
            self.deliver_next(who, 0, 0);
        }
    }

    fn check(&self) {
        assert!(
            self.strangers.1 <= self.strangers.0,
            "strangers may get {} bytes and got {}",
            self.strangers.0,
            self.strangers.1
        );
        assert_eq!(self.endpoint.requests_in_work(), self.requests.len());
        assert_eq!(self.endpoint.lookups_in_work(), 0);
        assert!(self.requests.len() <= REQUESTS_MAX);
        assert!(self.metrics.value(Counter::Sessions) <= SESSIONS_MAX as u64);
        assert!(self.metrics.value(Counter::HandshakesOpen) <= HANDSHAKES_MAX as u64);
    }

    /// Sessions that no device ended answer a ping (RFC 7252 section 4.3).
    fn end(&mut self) {
        for who in 0..self.devices.len() {
            if self.devices[who].gone {
                continue;
            }
            self.devices[who].received.clear();
            self.seal(who, 3, &PING);
            let device = &self.devices[who];
            assert_eq!(
                device.received.back().map(Vec::as_slice),
                Some(&[0x70, 0, 0xbe, 0xef][..]),
                "a session of device {who} was lost"
            );
        }
        while !self.requests.is_empty() {
            self.answer(0x41, 0, 0);
        }
        self.check();
    }
}

impl Device {
    /// Takes a datagram of the server; what the device answers is pending then.
    fn take(&mut self, now: Now, datagram: &mut [u8], random: &mut SeededRandom) {
        let mut out = Vec::new();
        let mut drops = |_| {};
        let mut copy = datagram.to_vec();
        let received = self.connection.handle_datagram(
            now,
            &mut copy,
            &mut World::context(random, &mut out, &mut drops),
        );
        assert!(
            !received.closed || self.gone,
            "the server ended a session: {:?}",
            received.failure
        );
        // What the server says under these keys proves that it has them.
        self.gone &= received.plaintexts.is_empty() || self.renewal.is_some();
        let plaintexts = received.plaintexts.iter();
        self.received
            .extend(plaintexts.filter_map(|range| copy.get(range).map(<[u8]>::to_vec)));
        if let Some(renewal) = &mut self.renewal {
            let received = renewal.handle_datagram(
                now,
                datagram,
                &mut World::context(random, &mut out, &mut drops),
            );
            if received.established
                && let Some(renewal) = self.renewal.take()
            {
                // A resumed handshake ends with the device's Finished, which may get lost.
                self.gone = received.resumed.is_some();
                self.connection = renewal;
            } else if received.closed {
                self.renewal = None;
            }
        }
        self.pending.extend(out);
        self.pending.truncate(DATAGRAMS_MAX / 2);
    }

    fn fire(&mut self, now: Now, random: &mut SeededRandom) {
        let mut out = Vec::new();
        let mut drops = |_| {};
        let mut context = World::context(random, &mut out, &mut drops);
        let failed = self
            .renewal
            .as_mut()
            .is_some_and(|renewal| renewal.handle_timeout(now, &mut context).is_err());
        if failed {
            self.renewal = None;
        }
        self.pending.extend(out);
        self.pending.truncate(DATAGRAMS_MAX / 2);
    }

    fn remember(&mut self, datagram: &[u8]) {
        if self.sent.len() == 16 {
            self.sent.pop_front();
        }
        self.sent.push_back(datagram.to_vec());
    }
}

fn start(
    now: Now,
    config: &Arc<ClientConfig>,
    random: &mut SeededRandom,
    out: &mut Vec<Vec<u8>>,
) -> ClientConnection {
    let mut drops = |_| {};
    let mut context = World::context(random, out, &mut drops);
    ClientConnection::new(now, Arc::clone(config), &mut context)
}

/// A copy with one byte changed, or cut short.
fn changed(datagram: &[u8], at: u8, change: u8) -> Vec<u8> {
    let mut copy = datagram.to_vec();
    if change == 0xff {
        copy.truncate(usize::from(at));
    } else if let Some(byte) = copy.get_mut(usize::from(at)) {
        *byte ^= change;
    }
    copy
}
