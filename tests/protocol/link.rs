//! A client and a server on a virtual link: time, loss, duplication, reordering and corruption from
//! one seed, so that every run can be repeated.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use tidegate::crypto::pre_shared_key::PreSharedKey;
use tidegate::crypto::suite::CipherSuite;
use tidegate::drop_reason::DropReason;
use tidegate::dtls::client::{self, ClientConfig, ClientConnection};
use tidegate::dtls::{
    self, Accepted, AlertDescription, Association, CookieJar, CredentialLookup, Error,
    NoRevocations, PeerIdentity, RandomConnectionIds, Received, ResumedBy, Revocations,
    ServerConfig, Sessions,
};
use tidegate::random::{Random, SeededRandom};
use tidegate::time::{Duration, Instant, Now};

use crate::support::UNIX_MS;

/// The address of the client, as the server's caller would encode it.
pub(crate) const PEER: &[u8] = b"192.0.2.7:4711";

/// What goes wrong on the way, in chances of 1000.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) loss: u64,
    pub(crate) duplication: u64,
    pub(crate) corruption: u64,
    /// Delays differ by up to this much, so datagrams overtake each other.
    pub(crate) jitter_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Server,
    Client,
}

/// Application data that the server received, with the identity of its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) fingerprint: Option<[u8; 32]>,
    pub(crate) data: Vec<u8>,
}

/// Whoever has the pre-shared keys, at some distance.
#[derive(Debug, Default)]
pub(crate) struct Authenticator {
    /// By the SHA-256 of their identities.
    pub(crate) keys: HashMap<[u8; 32], Arc<PreSharedKey>>,
    /// Longest time that an answer takes; `None`: it never comes.
    pub(crate) delay: Option<Duration>,
    /// Questions for which there is no room, of 1000.
    pub(crate) refusals: u64,
    pub(crate) asked: usize,
    pub(crate) refused: usize,
    /// Answers under way.
    answers: BTreeMap<(Instant, usize), CredentialLookup>,
}

/// The server's end.
pub(crate) struct Server {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) cookies: CookieJar,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) revocations: Arc<dyn Revocations>,
    pub(crate) association: Option<Association>,
    pub(crate) authenticator: Authenticator,
    pub(crate) admit: bool,
    pub(crate) readings: Vec<Reading>,
    pub(crate) established: usize,
    pub(crate) resumed: Vec<ResumedBy>,
    pub(crate) failures: Vec<Error>,
    pub(crate) alerts: Vec<AlertDescription>,
    pub(crate) drops: BTreeMap<DropReason, usize>,
}

/// The client's end.
pub(crate) struct Client {
    pub(crate) connection: ClientConnection,
    pub(crate) received: Vec<Vec<u8>>,
    pub(crate) failures: Vec<Error>,
}

/// Both ends and the datagrams between them.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) unix_ms: u64,
    pub(crate) faults: Faults,
    /// Datagrams longer than this vanish.
    pub(crate) longest_datagram: usize,
    pub(crate) random: SeededRandom,
    pub(crate) server: Server,
    pub(crate) client: Client,
    /// In flight: when it arrives, a tie-breaker, where to, and the bytes.
    in_flight: BTreeMap<(Instant, u64), (To, Vec<u8>)>,
    sent: u64,
    client_cid_len: usize,
    /// Every datagram that each end sent, for a later look.
    pub(crate) log: Vec<(bool, Vec<u8>)>,
}

impl World {
    /// Both ends, and the client's first datagram on its way.
    pub(crate) fn new(seed: u64, server: ServerConfig, client: &Arc<ClientConfig>) -> Self {
        let mut random = SeededRandom::new(seed);
        let now = Instant::from_micros(1_000_000);
        let mut out: Vec<Vec<u8>> = vec![];
        let connection = start_client(now, client, &mut random, &mut out);
        let mut world = Self {
            now,
            unix_ms: UNIX_MS,
            faults: Faults::default(),
            longest_datagram: usize::MAX,
            server: Server {
                config: Arc::new(server),
                cookies: CookieJar::generate(&mut random),
                sessions: Arc::new(Sessions::new(None)),
                revocations: Arc::new(NoRevocations),
                association: None,
                authenticator: Authenticator::default(),
                admit: true,
                readings: vec![],
                established: 0,
                resumed: vec![],
                failures: vec![],
                alerts: vec![],
                drops: BTreeMap::new(),
            },
            client: Client {
                connection,
                received: vec![],
                failures: vec![],
            },
            random,
            in_flight: BTreeMap::new(),
            sent: 0,
            client_cid_len: client.connection_id.as_ref().map_or(0, Vec::len),
            log: vec![],
        };
        world.send_all(To::Server, out);
        world
    }

    /// A new client takes the old one's place at the same address.
    pub(crate) fn restart_client(&mut self, config: &Arc<ClientConfig>) {
        let mut out: Vec<Vec<u8>> = vec![];
        let connection = start_client(self.now, config, &mut self.random, &mut out);
        self.client = Client {
            connection,
            received: vec![],
            failures: vec![],
        };
        self.send_all(To::Server, out);
    }

    pub(crate) fn clock(&self) -> Now {
        Now {
            instant: self.now,
            unix_ms: self.unix_ms,
        }
    }

    fn send_all(&mut self, to: To, datagrams: Vec<Vec<u8>>) {
        for datagram in datagrams {
            self.log.push((to == To::Client, datagram.clone()));
            self.send(to, datagram);
        }
    }

    fn send(&mut self, to: To, mut datagram: Vec<u8>) {
        let Faults {
            loss,
            duplication,
            corruption,
            ..
        } = self.faults;
        if self.random.below(1000) < loss || datagram.len() > self.longest_datagram {
            return;
        }
        if self.random.below(1000) < duplication {
            self.put_in_flight(to, datagram.clone());
        }
        if self.random.below(1000) < corruption {
            for _ in 0..=self.random.below(3) {
                let at = self.random.below(datagram.len() as u64) as usize;
                datagram[at] ^= 1 << self.random.below(8);
            }
        }
        self.put_in_flight(to, datagram);
    }

    fn put_in_flight(&mut self, to: To, datagram: Vec<u8>) {
        let delay = 5_000 + self.random.below(self.faults.jitter_ms * 1000 + 1);
        self.sent += 1;
        let at = self.now + Duration::from_micros(delay);
        self.in_flight.insert((at, self.sent), (to, datagram));
    }

    /// Does the next thing that happens, at its time; `false` when nothing will.
    pub(crate) fn step(&mut self) -> bool {
        let arrival = self.in_flight.keys().next().map(|&(at, _)| at);
        let server = self
            .server
            .association
            .as_ref()
            .and_then(Association::next_timeout);
        let client = self.client.connection.next_timeout();
        let answers = &self.server.authenticator.answers;
        let answer = answers.keys().next().map(|&(at, _)| at);
        let due = [arrival, server, client, answer].into_iter().flatten();
        let Some(next) = due.min() else {
            return false;
        };
        self.unix_ms += next.saturating_duration_since(self.now).as_millis() as u64;
        self.now = self.now.max(next);
        if arrival == Some(next) {
            if let Some((_, (to, datagram))) = self.in_flight.pop_first() {
                match to {
                    To::Server => self.deliver_to_server(datagram),
                    To::Client => self.deliver_to_client(datagram),
                }
            }
        } else if answer == Some(next) {
            if let Some((_, lookup)) = self.server.authenticator.answers.pop_first() {
                self.answer(&lookup);
            }
        } else {
            self.fire_timers();
        }
        true
    }

    /// Asks for the key that the server's handshake waits for.
    fn ask(&mut self) {
        let Server {
            association,
            authenticator,
            ..
        } = &mut self.server;
        let Some(association) = association else {
            return;
        };
        let Some(lookup) = association.poll_lookup() else {
            return;
        };
        assert_eq!(association.poll_lookup(), None, "asked twice");
        if self.random.below(1000) < authenticator.refusals {
            authenticator.refused += 1;
            association.on_lookup_refused(&lookup);
            return;
        }
        authenticator.asked += 1;
        if let Some(delay) = authenticator.delay {
            let most = delay.as_micros() as u64;
            let at = self.now + Duration::from_micros(self.random.below(most + 1));
            let number = authenticator.asked;
            authenticator.answers.insert((at, number), lookup);
        }
    }

    /// The answer to a question comes.
    pub(crate) fn answer(&mut self, lookup: &CredentialLookup) {
        let key = self.server.authenticator.keys.get(&lookup.identity);
        let key = key.map(Arc::clone);
        let now = self.clock();
        let mut out: Vec<Vec<u8>> = vec![];
        let Server {
            config,
            cookies,
            sessions,
            revocations,
            association,
            drops,
            admit,
            ..
        } = &mut self.server;
        let mut count = |reason| *drops.entry(reason).or_default() += 1;
        let mut cx = dtls::Context {
            config,
            cookies,
            sessions,
            revocations: &**revocations,
            connection_ids: &RandomConnectionIds,
            admit_handshakes: *admit,
            random: &mut self.random,
            out: &mut out,
            drops: &mut count,
        };
        if let Some(association) = association {
            let received = association.handle_credential(now, lookup, key.as_deref(), &mut cx);
            self.note(&received);
        }
        self.send_all(To::Client, out);
    }

    /// What a step of the server came to.
    fn note(&mut self, received: &Received) {
        self.server.established += usize::from(received.established);
        self.server.resumed.extend(received.resumed);
        self.server.failures.extend(received.failure);
        self.server.alerts.extend(received.peer_alert);
        if received.closed {
            self.server.association = None;
        }
    }

    /// Steps until `done`, or until nothing happens any more, or `limit` of virtual time is over.
    pub(crate) fn run(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + limit;
        while !done(self) {
            if self.now > end || !self.step() {
                return done(self);
            }
        }
        true
    }

    /// Runs until both ends have a session.
    pub(crate) fn establish(&mut self) -> bool {
        self.run(Duration::from_secs(60), |world| {
            world.client.connection.is_established() && world.server.is_established()
        })
    }

    /// Runs until the link is empty.
    pub(crate) fn settle(&mut self) {
        while !self.in_flight.is_empty() {
            self.step();
        }
    }

    /// Forgets what is under way.
    pub(crate) fn cut(&mut self) {
        self.in_flight.clear();
    }

    fn fire_timers(&mut self) {
        let now = self.clock();
        let mut out: Vec<Vec<u8>> = vec![];
        let is_due = |due: Option<Instant>| due.is_some_and(|due| due <= now.instant);
        if is_due(self.client.connection.next_timeout()) {
            let mut cx = client::Context {
                random: &mut self.random,
                out: &mut out,
                drops: &mut |_| {},
            };
            if let Err(error) = self.client.connection.handle_timeout(now, &mut cx) {
                self.client.failures.push(error);
            }
        }
        self.send_all(To::Server, out);
        let mut out: Vec<Vec<u8>> = vec![];
        let Server {
            config,
            cookies,
            sessions,
            revocations,
            association,
            drops,
            admit,
            ..
        } = &mut self.server;
        let mut count = |reason| *drops.entry(reason).or_default() += 1;
        let mut cx = dtls::Context {
            config,
            cookies,
            sessions,
            revocations: &**revocations,
            connection_ids: &RandomConnectionIds,
            admit_handshakes: *admit,
            random: &mut self.random,
            out: &mut out,
            drops: &mut count,
        };
        if is_due(association.as_ref().and_then(Association::next_timeout)) {
            let alive = association
                .as_mut()
                .is_some_and(|a| a.handle_timeout(now, &mut cx));
            if !alive {
                *association = None;
            }
        }
        self.send_all(To::Client, out);
    }

    /// Hands a datagram to the server as if it had just arrived.
    pub(crate) fn deliver_to_server(&mut self, datagram: Vec<u8>) {
        let answers = self.deliver_from(PEER, datagram);
        self.send_all(To::Client, answers);
        self.ask();
    }

    /// The same from any address; the answers are not sent on but returned.
    pub(crate) fn deliver_from(&mut self, peer: &[u8], mut datagram: Vec<u8>) -> Vec<Vec<u8>> {
        let now = self.clock();
        let mut out: Vec<Vec<u8>> = vec![];
        let Server {
            config,
            cookies,
            sessions,
            revocations,
            association,
            drops,
            admit,
            ..
        } = &mut self.server;
        let mut count = |reason| *drops.entry(reason).or_default() += 1;
        let mut cx = dtls::Context {
            config,
            cookies,
            sessions,
            revocations: &**revocations,
            connection_ids: &RandomConnectionIds,
            admit_handshakes: *admit,
            random: &mut self.random,
            out: &mut out,
            drops: &mut count,
        };
        let length = datagram.len();
        let Some(present) = association else {
            match dtls::accept(now, peer, &mut datagram, &mut cx) {
                Accepted::Nothing => {
                    let sent: usize = out.iter().map(Vec::len).sum();
                    assert!(sent <= length, "the answer of the door amplifies");
                }
                Accepted::Refused(error) => self.server.failures.push(error),
                Accepted::New(new) => *association = Some(new),
            }
            return out;
        };
        let received = present.handle_datagram(now, peer, &mut datagram, &mut cx);
        let fingerprint = present.peer_fingerprint();
        for range in &received.plaintexts {
            let data = datagram[range].to_vec();
            self.server.readings.push(Reading { fingerprint, data });
        }
        self.note(&received);
        out
    }

    /// Hands a datagram to the client as if it had just arrived.
    pub(crate) fn deliver_to_client(&mut self, mut datagram: Vec<u8>) {
        let now = self.clock();
        let mut out: Vec<Vec<u8>> = vec![];
        let mut cx = client::Context {
            random: &mut self.random,
            out: &mut out,
            drops: &mut |_| {},
        };
        let received = self
            .client
            .connection
            .handle_datagram(now, &mut datagram, &mut cx);
        for range in &received.plaintexts {
            self.client.received.push(datagram[range].to_vec());
        }
        self.client.failures.extend(received.failure);
        self.send_all(To::Server, out);
    }

    /// The client sends application data.
    pub(crate) fn send_reading(&mut self, data: &[u8]) {
        let record = self.client.seal(data);
        self.send_all(To::Server, vec![record]);
    }

    /// The server sends application data.
    pub(crate) fn send_answer(&mut self, data: &[u8]) {
        let record = self.server.seal(data);
        self.send_all(To::Client, vec![record]);
    }

    /// The client says goodbye.
    pub(crate) fn close_client(&mut self) {
        let mut out: Vec<Vec<u8>> = vec![];
        let mut cx = client::Context {
            random: &mut self.random,
            out: &mut out,
            drops: &mut |_| {},
        };
        self.client.connection.close(&mut cx);
        self.send_all(To::Server, out);
    }

    /// No end used a sequence number of one epoch twice: with epoch 1 that would be a nonce. Only
    /// for worlds with one session.
    pub(crate) fn assert_no_sequence_number_twice(&self) {
        for from_server in [false, true] {
            let mut seen = HashSet::new();
            for (_, datagram) in self.log.iter().filter(|(by, _)| *by == from_server) {
                let cid_len = match from_server {
                    true => self.client_cid_len,
                    false => usize::from(self.server.config.connection_id_length.unwrap_or(0)),
                };
                let mut rest = &datagram[..];
                while !rest.is_empty() {
                    let at = if rest[0] == 25 { 11 + cid_len } else { 11 };
                    let length = at + 2 + usize::from(u16::from_be_bytes([rest[at], rest[at + 1]]));
                    let protected = rest[3..5] != [0, 0];
                    let fresh = seen.insert(rest[3..11].to_vec());
                    assert!(fresh || !protected, "number {:?} used twice", &rest[3..11]);
                    rest = &rest[length..];
                }
            }
        }
    }
}

impl Server {
    pub(crate) fn is_established(&self) -> bool {
        self.association
            .as_ref()
            .is_some_and(Association::is_established)
    }

    pub(crate) fn suite(&self) -> Option<CipherSuite> {
        self.association.as_ref().and_then(Association::suite)
    }

    pub(crate) fn fingerprint(&self) -> Option<[u8; 32]> {
        self.association
            .as_ref()
            .and_then(Association::peer_fingerprint)
    }

    pub(crate) fn identity(&self) -> PeerIdentity {
        let association = self.association.as_ref();
        association.map_or(PeerIdentity::Anonymous, Association::identity)
    }

    pub(crate) fn dropped(&self, reason: DropReason) -> usize {
        self.drops.get(&reason).copied().unwrap_or_default()
    }

    pub(crate) fn seal(&mut self, data: &[u8]) -> Vec<u8> {
        let association = self.association.as_mut().unwrap();
        let mut record = frame(association.record_overhead(), data);
        association.seal_application_data(&mut record).unwrap();
        record
    }
}

impl Client {
    pub(crate) fn seal(&mut self, data: &[u8]) -> Vec<u8> {
        let mut record = frame(self.connection.record_overhead(), data);
        self.connection.seal_application_data(&mut record).unwrap();
        record
    }
}

fn frame((prefix, suffix): (usize, usize), data: &[u8]) -> Vec<u8> {
    let mut record = vec![0; prefix];
    record.extend_from_slice(data);
    record.resize(record.len() + suffix, 0);
    record
}

fn start_client(
    now: Instant,
    config: &Arc<ClientConfig>,
    random: &mut SeededRandom,
    out: &mut Vec<Vec<u8>>,
) -> ClientConnection {
    let mut cx = client::Context {
        random,
        out,
        drops: &mut |_| {},
    };
    ClientConnection::new(
        Now {
            instant: now,
            unix_ms: UNIX_MS,
        },
        Arc::clone(config),
        &mut cx,
    )
}
