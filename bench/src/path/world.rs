//! A shard on datagrams in memory, devices with sessions, and a pool that says 2.01.
//!
//! ```text
//! devices --arrive--> [ memory driver ]  turn: endpoint --> [ request queue ] --worker's end--.
//!         <-take_sent-- [ memory driver ]  turn: endpoint <-- [ inbox ] <------2.01-------------'
//! ```
//!
//! The turns are those of a running shard, with its queues: only the kernel, the executor and the clocks
//! are missing. The functions named `counted_...` are what is measured, a turn of the shard each. They are
//! never inlined, so that their instructions can be told from those of the devices, the pool and the set-up.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tidegate::auth::request::{Request, Response};
use tidegate::coap::client::{RequestParts, RequestTemplate};
use tidegate::coap::code;
use tidegate::crypto::signature::SigningKey;
use tidegate::crypto::suite::CipherSuite;
use tidegate::dtls::client::{ClientConfig, ClientConnection, Context};
use tidegate::dtls::{CookieJar, Credentials, ServerConfig, Sessions, TicketKey, TicketKeys};
use tidegate::endpoint::{EndpointSettings, Port};
use tidegate::metrics::ShardMetrics;
use tidegate::queue::{Inbox, RequestQueues, WorkerQueues};
use tidegate::random::SeededRandom;
use tidegate::shard::clock::VirtualClock;
use tidegate::shard::memory::{MemoryDatagram, MemoryShard, MemoryShardParts};
use tidegate::time::{Duration, Instant, Now};

/// Datagrams of a turn, as many as a socket gives.
pub(super) const BATCH: usize = 64;
/// Some time in 2026.
const UNIX_MS: u64 = 1_790_000_000_000;
/// A reading of 40 bytes.
const PAYLOAD: &[u8; 40] = br#"{"temperature":21.523,"humidity":48.251}"#;
/// Between two requests of a device: enough that no Message ID is remembered when it comes again.
const BETWEEN_TURNS: Duration = Duration::from_millis(250);

/// One device with its session.
struct Device {
    address: SocketAddr,
    connection: ClientConnection,
    message_id: u16,
}

/// The shard, its devices and its pool.
pub(super) struct World {
    shard: MemoryShard,
    clock: Arc<VirtualClock>,
    now: Now,
    worker: WorkerQueues,
    inbox: Arc<Inbox>,
    /// What the worker took; its memory is used again.
    taken: Vec<Request>,
    random: SeededRandom,
    devices: Vec<Device>,
    template: RequestTemplate,
    client: Arc<ClientConfig>,
    /// The same with a certificate.
    client_with_certificate: Arc<ClientConfig>,
    /// Handshakes from addresses that no other one had.
    strangers: usize,
}

/// A full handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The client has no certificate.
    OneWay,
    /// Both have one.
    Mutual,
}

impl World {
    /// A shard with room for `sessions_max`, of which `hot_sessions` keep their keys expanded, and whose
    /// devices use `suite`.
    ///
    /// # Errors
    ///
    /// When a certificate cannot be made.
    pub(super) fn new(
        suite: CipherSuite,
        sessions_max: usize,
        hot_sessions: usize,
    ) -> Result<Self, String> {
        let now = Now {
            instant: Instant::from_micros(1_000_000),
            unix_ms: UNIX_MS,
        };
        let mut settings = EndpointSettings::new(CookieJar::new([7; 32]));
        settings
            .dtls
            .store(Some(Arc::new(ServerConfig::new(credentials()?))));
        settings.sessions = Sessions::new(None);
        let key = TicketKey::new([1; 16], [2; 32]);
        let keys = TicketKeys::new(vec![key], Duration::from_secs(86_400));
        settings.sessions.set_ticket_keys(Some(Arc::new(keys)));
        settings.sessions_max = sessions_max;
        settings.hot_sessions = hot_sessions;
        settings.handshakes_per_address = u32::MAX;
        let (queues, mut workers) = RequestQueues::new(1, settings.requests_max, 1);
        let inbox = Arc::new(Inbox::new(settings.requests_max));
        let clock = Arc::new(VirtualClock::at(now));
        let shard = MemoryShard::new(MemoryShardParts {
            index: 0,
            batch: BATCH,
            settings: Arc::new(settings),
            metrics: Arc::new(ShardMetrics::new()),
            queue: queues.shard(0).ok_or("there is no queue")?,
            inboxes: Arc::from([Arc::clone(&inbox)]),
            connection_ids: false,
            random: Box::new(SeededRandom::new(1)),
            clock: Arc::clone(&clock),
        });
        let template = RequestTemplate::new(&RequestParts {
            method: code::POST,
            path: &["api", "v1", "ABCDEFGHIJ0123456789", "telemetry"],
            content_format: Some(50),
            ..RequestParts::default()
        });
        let client = ClientConfig {
            cipher_suites: vec![suite],
            session_tickets: true,
            keep_session: true,
            ..ClientConfig::default()
        };
        Ok(Self {
            shard,
            clock,
            now,
            worker: workers.pop().ok_or("there is no worker")?,
            inbox,
            taken: Vec::new(),
            random: SeededRandom::new(2),
            devices: Vec::new(),
            template: template.ok_or("the request is too long")?,
            client_with_certificate: Arc::new(ClientConfig {
                credentials: Some(credentials()?),
                ..client.clone()
            }),
            client: Arc::new(client),
            strangers: BATCH,
        })
    }

    /// Adds devices until there are `count`, by full handshakes.
    ///
    /// # Errors
    ///
    /// When a handshake does not end.
    pub(super) fn connect(&mut self, count: usize) -> Result<(), String> {
        for index in self.devices.len()..count {
            let address = address(index);
            let (mut connection, mut waiting) = self.hello(&Arc::clone(&self.client));
            while !waiting.is_empty() {
                for bytes in waiting {
                    self.arrive(&[secure(address, bytes)]);
                    self.turn();
                }
                waiting = self.answers(&mut connection);
            }
            if !connection.is_established() {
                return Err("a handshake did not end".into());
            }
            self.devices.push(Device {
                address,
                connection,
                message_id: 0,
            });
        }
        Ok(())
    }

    /// A client's first datagrams.
    fn hello(&mut self, config: &Arc<ClientConfig>) -> (ClientConnection, Vec<Vec<u8>>) {
        let mut out = Vec::new();
        let mut context = Context {
            random: &mut self.random,
            out: &mut out,
            drops: &mut |_| {},
        };
        let connection = ClientConnection::new(self.now, Arc::clone(config), &mut context);
        (connection, out)
    }

    /// Hands what the shard sent to a client, and returns what the client sends then.
    fn answers(&mut self, connection: &mut ClientConnection) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        self.shard.take_sent(|_, _, bytes| {
            let mut context = Context {
                random: &mut self.random,
                out: &mut out,
                drops: &mut |_| {},
            };
            connection.handle_datagram(self.now, &mut bytes.to_vec(), &mut context);
        });
        out
    }

    /// One sealed request of each of [`BATCH`] devices, beginning with device `first`.
    pub(super) fn requests(&mut self, first: usize) -> Vec<MemoryDatagram> {
        let Self {
            devices, template, ..
        } = self;
        let count = devices.len();
        let mut message = Vec::new();
        (first..first + BATCH)
            .filter_map(|index| {
                let device = devices.get_mut(index % count)?;
                device.message_id = device.message_id.wrapping_add(1);
                template.encode(
                    true,
                    device.message_id,
                    &[1, 2, 3, 4],
                    PAYLOAD,
                    &mut message,
                );
                let (prefix, suffix) = device.connection.record_overhead();
                let mut record = vec![0; prefix];
                record.extend_from_slice(&message);
                record.resize(prefix + message.len() + suffix, 0);
                let sealed = device.connection.seal_application_data(&mut record);
                sealed.ok().map(|()| secure(device.address, record))
            })
            .collect()
    }

    /// First ClientHellos of [`BATCH`] strangers.
    pub(super) fn hellos(&mut self) -> Vec<MemoryDatagram> {
        (0..BATCH)
            .filter_map(|index| {
                let (_, datagrams) = self.hello(&Arc::clone(&self.client));
                Some(secure(stranger(index), datagrams.into_iter().next()?))
            })
            .collect()
    }

    /// The time between two turns passes.
    pub(super) fn pass_time(&mut self) {
        self.pass(BETWEEN_TURNS);
    }

    /// Time passes, until the shard has nothing to do; what was sent is gone.
    pub(super) fn pass(&mut self, time: Duration) {
        self.now.instant = self.now.instant + time;
        self.now.unix_ms += u64::try_from(time.as_millis()).unwrap_or(0);
        self.clock.set(self.now);
        while self.turn() {}
        self.take_sent();
    }

    /// Datagrams arrive: a kernel's part.
    pub(super) fn arrive(&mut self, datagrams: &[MemoryDatagram]) {
        for datagram in datagrams {
            self.shard.arrive(datagram);
        }
    }

    /// A worker of the pool takes the requests that wait and answers each by 2.01; returns how many.
    pub(super) fn answer_requests(&mut self) -> usize {
        let count = self.worker.take_now(&mut self.taken);
        for request in self.taken.drain(..) {
            let verdict = request.into_verdict(Response::empty(code::CREATED));
            self.inbox.push(verdict);
        }
        self.inbox.wake();
        count
    }

    /// Datagrams that the shard sent since the last call: a kernel's part.
    pub(super) fn take_sent(&mut self) -> usize {
        let mut count = 0;
        self.shard.take_sent(|_, _, _| count += 1);
        count
    }

    /// A turn of the shard; whether it had anything to do.
    fn turn(&mut self) -> bool {
        self.shard.turn().expect("there is no kernel to fail")
    }

    /// A request of each of [`BATCH`] devices, beginning with device `first`, and its answer, not measured:
    /// afterwards their keys are expanded and their peers have all that they keep.
    pub(super) fn warm_up(&mut self, first: usize) {
        let batch = self.requests(first);
        self.arrive(&batch);
        self.turn();
        self.answer_requests();
        self.turn();
        self.take_sent();
    }

    /// Measured: datagrams of established sessions in, requests in the queue to the pool.
    #[inline(never)]
    pub(super) fn counted_requests(&mut self) {
        // The compiler makes one function of two that are alike.
        std::hint::black_box("requests");
        self.turn();
    }

    /// Measured: verdicts in the inbox, datagrams out.
    #[inline(never)]
    pub(super) fn counted_answers(&mut self) {
        std::hint::black_box("answers");
        self.turn();
    }

    /// Measured: a turn that finds nothing to do.
    #[inline(never)]
    pub(super) fn counted_nothing(&mut self) {
        std::hint::black_box("nothing");
        self.turn();
    }

    /// Measured: ClientHellos without a cookie in, HelloVerifyRequests out.
    #[inline(never)]
    pub(super) fn counted_hellos(&mut self) {
        std::hint::black_box("hellos");
        self.turn();
    }

    /// Resumes the session of device `index` from an address that is new; measured is what the shard does
    /// in [`Self::counted_resumption`].
    ///
    /// # Errors
    ///
    /// When the server does not resume.
    pub(super) fn resume(
        &mut self,
        index: usize,
        measured: &mut dyn FnMut(&mut dyn FnMut()),
    ) -> Result<(), String> {
        let device = self.devices.get(index).ok_or("there is no such device")?;
        let session = device.connection.session().ok_or("no session was kept")?;
        let config = Arc::new(ClientConfig {
            resume: Some(Arc::new(session.clone())),
            ..ClientConfig::clone(&self.client)
        });
        let connection = self.handshake(&config, &mut |world| {
            measured(&mut || world.counted_resumption());
        });
        match connection.resumed() {
            Some(_) if connection.is_established() => Ok(()),
            _ => Err("the server did not resume a session".into()),
        }
    }

    /// A full handshake from an address that is new; measured is what the shard does in
    /// [`Self::counted_one_way`] or [`Self::counted_mutual`].
    ///
    /// # Errors
    ///
    /// When the handshake does not end.
    pub(super) fn full(
        &mut self,
        full: Full,
        measured: &mut dyn FnMut(&mut dyn FnMut()),
    ) -> Result<(), String> {
        let config = Arc::clone(match full {
            Full::OneWay => &self.client,
            Full::Mutual => &self.client_with_certificate,
        });
        let connection = self.handshake(&config, &mut |world| match full {
            Full::OneWay => measured(&mut || world.counted_one_way()),
            Full::Mutual => measured(&mut || world.counted_mutual()),
        });
        match connection.resumed() {
            None if connection.is_established() => Ok(()),
            _ => Err("a full handshake did not end".into()),
        }
    }

    /// A handshake from an address that is new, for each of whose datagrams `step` takes a turn.
    fn handshake(
        &mut self,
        config: &Arc<ClientConfig>,
        step: &mut dyn FnMut(&mut Self),
    ) -> ClientConnection {
        let from = stranger(self.strangers);
        self.strangers += 1;
        let (mut connection, mut waiting) = self.hello(config);
        while !waiting.is_empty() {
            for bytes in waiting {
                self.arrive(&[secure(from, bytes)]);
                step(self);
            }
            waiting = self.answers(&mut connection);
        }
        connection
    }

    /// Measured: a datagram of an abbreviated handshake.
    #[inline(never)]
    fn counted_resumption(&mut self) {
        std::hint::black_box("resumption");
        self.turn();
    }

    /// Measured: a datagram of a full handshake without a client certificate.
    #[inline(never)]
    fn counted_one_way(&mut self) {
        std::hint::black_box("one-way");
        self.turn();
    }

    /// Measured: a datagram of a full handshake with one.
    #[inline(never)]
    fn counted_mutual(&mut self) {
        std::hint::black_box("mutual");
        self.turn();
    }
}

/// A datagram to the secure port.
const fn secure(peer: SocketAddr, bytes: Vec<u8>) -> MemoryDatagram {
    MemoryDatagram {
        peer,
        port: Port::Secure,
        bytes,
    }
}

fn address(index: usize) -> SocketAddr {
    of_network(0x7f00_0001, index)
}

fn stranger(index: usize) -> SocketAddr {
    of_network(0x7f80_0001, index)
}

fn of_network(first: u32, index: usize) -> SocketAddr {
    let host = u32::try_from(index).unwrap_or(0);
    (Ipv4Addr::from_bits(first + host), 40_000).into()
}

fn credentials() -> Result<Arc<Credentials>, String> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
        .map_err(|error| error.to_string())?;
    let certificate = rcgen::CertificateParams::default()
        .self_signed(&key)
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(Credentials {
        chain: vec![certificate.der().to_vec()],
        key: SigningKey::from_der(&key.serialize_der()).map_err(|error| error.to_string())?,
    }))
}
