//! A shard's endpoint without its executor, and clients that speak with it over a perfect network.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate::auth::request::{Request, Response};
use tidegate::dtls::client::{self, ClientConfig, ClientConnection};
use tidegate::dtls::{CookieJar, SessionCache, Sessions, TicketKey, TicketKeys};
use tidegate::endpoint::{Endpoint, EndpointSettings, Outbox, Port};
use tidegate::metrics::{Counter, ShardMetrics};
use tidegate::random::SeededRandom;
use tidegate::time::{Duration, Instant, Now};

use crate::support::{UNIX_MS, server_config};

/// Randomness that nobody else has, as of another process or another device.
fn fresh_random() -> SeededRandom {
    static SEEDS: AtomicU64 = AtomicU64::new(1);
    SeededRandom::new(SEEDS.fetch_add(1, Ordering::Relaxed))
}

/// A shard.
pub(crate) struct Site {
    pub(crate) endpoint: Endpoint,
    pub(crate) metrics: Arc<ShardMetrics>,
    pub(crate) now: Instant,
    pub(crate) requests: Vec<Request>,
}

/// A client and where it is.
pub(crate) struct Visitor {
    pub(crate) address: SocketAddr,
    pub(crate) connection: ClientConnection,
    /// Datagrams that it sent in its handshake.
    pub(crate) sent: Vec<Vec<u8>>,
}

impl Site {
    pub(crate) fn new(change: impl FnOnce(&mut EndpointSettings)) -> Self {
        let mut settings = EndpointSettings::new(CookieJar::new([7; 32]));
        settings.dtls.store(Some(Arc::new(server_config())));
        let lifetime = Duration::from_secs(3600);
        settings.sessions = Sessions::new(Some(SessionCache::new(64, lifetime)));
        let keys = TicketKeys::new(vec![TicketKey::new([1; 16], [2; 32])], lifetime);
        settings.sessions.set_ticket_keys(Some(Arc::new(keys)));
        change(&mut settings);
        let metrics = Arc::new(ShardMetrics::new());
        let now = Instant::from_micros(1_000_000);
        let random = Box::new(fresh_random());
        Self {
            endpoint: Endpoint::new(
                0,
                Arc::new(settings),
                Arc::clone(&metrics),
                random,
                wall(now),
            ),
            metrics,
            now,
            requests: Vec::new(),
        }
    }

    /// Hands a datagram in; what the endpoint sends, and to whom.
    pub(crate) fn deliver(
        &mut self,
        from: SocketAddr,
        port: Port,
        datagram: &[u8],
    ) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut out = Outbox::default();
        let mut datagram = datagram.to_vec();
        let now = wall(self.now);
        self.endpoint.begin_turn(false);
        self.endpoint
            .handle_datagram(now, from, port, &mut datagram, &mut out);
        self.endpoint.handle_all_waiting(now, &mut out);
        self.take(out)
    }

    /// Lets time pass, with the timers that fall due; what the endpoint sends.
    pub(crate) fn wait(&mut self, duration: Duration) -> Vec<(SocketAddr, Vec<u8>)> {
        let end = self.now + duration;
        let mut sent = Vec::new();
        while self.endpoint.next_timeout() <= end {
            self.now = self.now.max(self.endpoint.next_timeout());
            let mut out = Outbox::default();
            self.endpoint.handle_timeout(wall(self.now), &mut out);
            sent.extend(self.take(out));
        }
        self.now = end;
        sent
    }

    /// Answers a request with a code.
    pub(crate) fn answer(&mut self, request: &Request, code: u8) -> Vec<(SocketAddr, Vec<u8>)> {
        let verdict = request.clone().into_verdict(Response::empty(code));
        let mut out = Outbox::default();
        self.endpoint
            .handle_verdict(wall(self.now), verdict, &mut out);
        self.take(out)
    }

    fn take(&mut self, mut out: Outbox) -> Vec<(SocketAddr, Vec<u8>)> {
        self.requests.append(&mut out.requests);
        let datagrams = out.transmits().iter();
        datagrams
            .map(|transmit| (transmit.to, out.datagram(transmit).to_vec()))
            .collect()
    }

    /// A handshake over a perfect network, as far as it gets.
    pub(crate) fn visit(&mut self, address: SocketAddr, config: &Arc<ClientConfig>) -> Visitor {
        let mut random = fresh_random();
        let mut out: Vec<Vec<u8>> = Vec::new();
        let mut cx = client::Context {
            random: &mut random,
            out: &mut out,
            drops: &mut |_| {},
        };
        let mut connection = ClientConnection::new(wall(self.now), Arc::clone(config), &mut cx);
        let mut sent = Vec::new();
        while !out.is_empty() {
            let mut answers = Vec::new();
            for datagram in out.drain(..) {
                answers.extend(self.deliver(address, Port::Secure, &datagram));
                sent.push(datagram);
            }
            for (to, mut answer) in answers {
                assert_eq!(to, address);
                let mut cx = client::Context {
                    random: &mut random,
                    out: &mut out,
                    drops: &mut |_| {},
                };
                connection.handle_datagram(wall(self.now), &mut answer, &mut cx);
            }
        }
        Visitor {
            address,
            connection,
            sent,
        }
    }

    /// A visitor posts a reading; whether it reached the pool.
    pub(crate) fn serves(&mut self, visitor: &mut Visitor) -> bool {
        let before = self.requests.len();
        let message_id = visitor.next_message_id();
        let message = visitor.seal(&post(message_id));
        self.deliver(visitor.address, Port::Secure, &message);
        self.requests.len() == before + 1
    }

    pub(crate) fn count(&self, counter: Counter) -> u64 {
        self.metrics.value(counter)
    }
}

impl Visitor {
    pub(crate) fn seal(&mut self, message: &[u8]) -> Vec<u8> {
        let (prefix, suffix) = self.connection.record_overhead();
        let mut record = vec![0; prefix];
        record.extend_from_slice(message);
        record.resize(record.len() + suffix, 0);
        self.connection
            .seal_application_data(&mut record)
            .expect("a session");
        record
    }

    /// A message id that was not used: records are counted, and each carries one message.
    fn next_message_id(&mut self) -> u16 {
        let record = self.seal(b"");
        u16::from_be_bytes([record[9], record[10]])
    }
}

/// CON POST /api/v1/A/telemetry with a reading.
pub(crate) fn post(message_id: u16) -> Vec<u8> {
    let mut message = vec![0x44, 0x02];
    message.extend_from_slice(&message_id.to_be_bytes());
    message.extend_from_slice(b"\xde\xad\xbe\xef\xb3api\x02v1\x01A\x09telemetry\xff{\"a\":1}");
    message
}

/// The address with this port of a network that is for documentation.
pub(crate) fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

fn wall(instant: Instant) -> Now {
    Now {
        instant,
        unix_ms: UNIX_MS + instant.as_micros() / 1000,
    }
}
