//! A shard without a kernel: its endpoint, devices with sessions, and a pool that says 2.01.
//!
//! The functions named `counted_...` are what is measured. They are never inlined, so that their
//! instructions can be told from those of the devices and of the set-up.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tidegate::auth::request::{Request, Response, Verdict};
use tidegate::coap::client::{RequestParts, RequestTemplate};
use tidegate::coap::code;
use tidegate::crypto::signature::SigningKey;
use tidegate::crypto::suite::CipherSuite;
use tidegate::dtls::client::{ClientConfig, ClientConnection, Context};
use tidegate::dtls::{CookieJar, Credentials, ServerConfig, Sessions, TicketKey, TicketKeys};
use tidegate::endpoint::{AHEAD, Endpoint, EndpointSettings, Outbox, Port};
use tidegate::metrics::ShardMetrics;
use tidegate::random::SeededRandom;
use tidegate::time::{Duration, Instant, Now};

/// Datagrams of a turn, as many as a socket gives.
pub(super) const BATCH: usize = 64;
/// Some time in 2026.
const UNIX_MS: u64 = 1_790_000_000_000;
/// A reading of 40 bytes.
const PAYLOAD: &[u8; 40] = br#"{"temperature":21.523,"humidity":48.251}"#;
/// Between two requests of a device: enough that no Message ID is remembered when it comes again.
const BETWEEN_TURNS: Duration = Duration::from_millis(250);

/// A datagram with the address that it comes from.
pub(super) type Arrival = (SocketAddr, Vec<u8>);

/// One device with its session.
struct Device {
    address: SocketAddr,
    connection: ClientConnection,
    message_id: u16,
}

/// The shard and its devices.
pub(super) struct World {
    endpoint: Endpoint,
    outbox: Outbox,
    now: Now,
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
    /// A shard with room for `sessions_max`, whose devices use `suite`.
    ///
    /// # Errors
    ///
    /// When a certificate cannot be made.
    pub(super) fn new(suite: CipherSuite, sessions_max: usize) -> Result<Self, String> {
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
        settings.handshakes_per_address = u32::MAX;
        let metrics = Arc::new(ShardMetrics::new());
        let random = Box::new(SeededRandom::new(1));
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
            endpoint: Endpoint::new(0, Arc::new(settings), metrics, random, now),
            outbox: Outbox::default(),
            now,
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
                for datagram in &mut waiting {
                    self.deliver(address, datagram);
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

    /// Hands a handshake datagram to the endpoint.
    fn deliver(&mut self, from: SocketAddr, datagram: &mut [u8]) {
        self.endpoint.begin_turn(false);
        self.endpoint
            .handle_datagram(self.now, from, Port::Secure, datagram, &mut self.outbox);
        self.endpoint.handle_all_waiting(self.now, &mut self.outbox);
    }

    /// Hands what the endpoint sent to a client, and returns what the client sends then.
    fn answers(&mut self, connection: &mut ClientConnection) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        for transmit in self.outbox.transmits() {
            let mut datagram = self.outbox.datagram(transmit).to_vec();
            let mut context = Context {
                random: &mut self.random,
                out: &mut out,
                drops: &mut |_| {},
            };
            connection.handle_datagram(self.now, &mut datagram, &mut context);
        }
        self.outbox.clear_transmits();
        out
    }

    /// One sealed request of each of [`BATCH`] devices, beginning with device `first`.
    pub(super) fn requests(&mut self, first: usize) -> Vec<Arrival> {
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
                sealed.ok().map(|()| (device.address, record))
            })
            .collect()
    }

    /// First ClientHellos of [`BATCH`] strangers.
    pub(super) fn hellos(&mut self) -> Vec<Arrival> {
        (0..BATCH)
            .filter_map(|index| {
                let (_, datagrams) = self.hello(&Arc::clone(&self.client));
                Some((stranger(index), datagrams.into_iter().next()?))
            })
            .collect()
    }

    /// Time passes, and what was sent is gone.
    pub(super) fn next_turn(&mut self) {
        self.now.instant = self.now.instant + BETWEEN_TURNS;
        self.now.unix_ms += u64::try_from(BETWEEN_TURNS.as_millis()).unwrap_or(0);
        self.outbox.clear_transmits();
        self.endpoint.begin_turn(false);
        while self.endpoint.next_timeout() <= self.now.instant {
            self.endpoint.handle_timeout(self.now, &mut self.outbox);
        }
    }

    /// Datagrams that wait to be sent.
    pub(super) fn sent(&self) -> usize {
        self.outbox.transmits().len()
    }

    /// Measured: datagrams of established sessions in, requests out.
    #[inline(never)]
    pub(super) fn counted_requests(&mut self, batch: &mut [Arrival]) {
        // The compiler makes one function of two that are alike.
        std::hint::black_box("requests");
        let Self {
            endpoint,
            outbox,
            now,
            ..
        } = self;
        for group in batch.chunks_mut(AHEAD) {
            endpoint.foresee(&mut group.iter().map(|(from, _)| (*from, Port::Secure)));
            for (from, datagram) in group {
                endpoint.handle_datagram(*now, *from, Port::Secure, datagram, outbox);
            }
        }
    }

    /// The requests that came, each answered by 2.01.
    pub(super) fn verdicts(&mut self) -> Vec<Verdict> {
        let answer = |request: Request| request.into_verdict(Response::empty(code::CREATED));
        self.outbox.requests.drain(..).map(answer).collect()
    }

    /// Measured: verdicts in, datagrams out.
    #[inline(never)]
    pub(super) fn counted_answers(&mut self, verdicts: &mut Vec<Verdict>) {
        for group in verdicts.chunks(AHEAD) {
            self.endpoint.foresee_verdicts(group);
        }
        for verdict in verdicts.drain(..) {
            self.endpoint
                .handle_verdict(self.now, verdict, &mut self.outbox);
        }
    }

    /// Measured: ClientHellos without a cookie in, HelloVerifyRequests out.
    #[inline(never)]
    pub(super) fn counted_hellos(&mut self, batch: &mut [Arrival]) {
        std::hint::black_box("hellos");
        for (from, datagram) in batch {
            self.endpoint.handle_datagram(
                self.now,
                *from,
                Port::Secure,
                datagram,
                &mut self.outbox,
            );
        }
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
        let connection = self.handshake(&config, &mut |world, from, datagram| {
            measured(&mut || world.counted_resumption(from, datagram));
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
        let connection = self.handshake(&config, &mut |world, from, datagram| match full {
            Full::OneWay => measured(&mut || world.counted_one_way(from, datagram)),
            Full::Mutual => measured(&mut || world.counted_mutual(from, datagram)),
        });
        match connection.resumed() {
            None if connection.is_established() => Ok(()),
            _ => Err("a full handshake did not end".into()),
        }
    }

    /// A handshake from an address that is new, each of whose datagrams `step` hands to the endpoint.
    fn handshake(
        &mut self,
        config: &Arc<ClientConfig>,
        step: &mut dyn FnMut(&mut Self, SocketAddr, &mut [u8]),
    ) -> ClientConnection {
        let from = stranger(self.strangers);
        self.strangers += 1;
        let (mut connection, mut waiting) = self.hello(config);
        while !waiting.is_empty() {
            for datagram in &mut waiting {
                self.endpoint.begin_turn(false);
                step(self, from, datagram);
            }
            waiting = self.answers(&mut connection);
        }
        connection
    }

    /// Measured: a datagram of an abbreviated handshake.
    #[inline(never)]
    fn counted_resumption(&mut self, from: SocketAddr, datagram: &mut [u8]) {
        std::hint::black_box("resumption");
        self.take(from, datagram);
    }

    /// Measured: a datagram of a full handshake without a client certificate.
    #[inline(never)]
    fn counted_one_way(&mut self, from: SocketAddr, datagram: &mut [u8]) {
        std::hint::black_box("one-way");
        self.take(from, datagram);
    }

    /// Measured: a datagram of a full handshake with one.
    #[inline(never)]
    fn counted_mutual(&mut self, from: SocketAddr, datagram: &mut [u8]) {
        std::hint::black_box("mutual");
        self.take(from, datagram);
    }

    /// A datagram, and all that waits for time.
    fn take(&mut self, from: SocketAddr, datagram: &mut [u8]) {
        self.endpoint
            .handle_datagram(self.now, from, Port::Secure, datagram, &mut self.outbox);
        self.endpoint.handle_all_waiting(self.now, &mut self.outbox);
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
