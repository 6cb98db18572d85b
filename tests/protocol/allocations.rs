//! The way of application data allocates nothing.

#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;

use tidegate::auth::request::{Request, Response};
use tidegate::coap::client::{RequestParts, RequestTemplate};
use tidegate::coap::code;
use tidegate::crypto::suite::CipherSuite;
use tidegate::dtls::client::{self, ClientConfig, ClientConnection};
use tidegate::dtls::{Context, CookieJar, NoRevocations, RandomConnectionIds, ServerConfig};
use tidegate::endpoint::{Endpoint, EndpointSettings, Outbox, Port};
use tidegate::metrics::ShardMetrics;
use tidegate::random::SeededRandom;
use tidegate::time::{Duration, Instant, Now};
use tidegate::wire::DatagramSink;

use crate::link::{PEER, World};
use crate::support::{UNIX_MS, server_config};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, with a count per thread.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to `System` with the arguments as they came; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`; the block came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Allocations of this thread while `work` runs.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

/// Takes datagrams and keeps nothing.
struct Discard;

impl DatagramSink for Discard {
    fn push_datagram(&mut self, datagram: &[u8]) {
        black_box(datagram);
    }
}

/// Records in and out of an established session, forged and replayed ones too, and the stateless
/// door: no allocation by us. (What the cryptographic library does in C is not seen here.)
#[test]
fn neither_data_nor_noise_allocates() {
    assert_eq!(
        allocations(|| drop(black_box(Box::new(1)))),
        1,
        "the count works"
    );
    let kinds = [
        (None, false),
        (None, true),
        (Some(b"a connection id of the device".to_vec()), true),
    ];
    for (&suite, (id, is_hot)) in CipherSuite::ALL[..7]
        .iter()
        .flat_map(|suite| kinds.iter().map(move |kind| (suite, kind)))
    {
        if !is_hot && !expands_in_place() {
            continue;
        }
        let config = ClientConfig {
            cipher_suites: vec![suite],
            connection_id: id.clone(),
            ..ClientConfig::default()
        };
        let server = ServerConfig {
            connection_id_length: Some(8),
            ..server_config()
        };
        let mut world = World::new(1, server.clone(), &Arc::new(config));
        let hello = world.log[0].1.clone();
        assert!(world.establish());
        let mut datagrams: Vec<Vec<u8>> = (0..10).map(|_| world.client.seal(b"reading")).collect();
        let mut association = world.server.association.take().unwrap();
        let config = Arc::new(server);
        let cookies = CookieJar::new([1; 32]);
        let mut cx = Context {
            config: &config,
            cookies: &cookies,
            sessions: &tidegate::dtls::NO_SESSIONS,
            revocations: &NoRevocations,
            connection_ids: &RandomConnectionIds,
            admit_handshakes: true,
            random: &mut SeededRandom::new(1),
            out: &mut Discard,
            drops: &mut |_| {},
        };
        let now = world.clock();
        if *is_hot {
            association.keep_expanded_keys();
        }
        // The first record frees the last flight.
        association.handle_datagram(now, PEER, &mut datagrams[0], &mut cx);
        let (prefix, suffix) = association.record_overhead();
        let mut answer = vec![0; prefix + 40 + suffix];
        let mut forged = datagrams[9].clone();
        *forged.last_mut().unwrap() ^= 1;
        let mut read = 0;
        let count = allocations(|| {
            for datagram in &mut datagrams {
                read += association
                    .handle_datagram(now, PEER, datagram, &mut cx)
                    .plaintexts
                    .len();
                association.seal_application_data(&mut answer).unwrap();
            }
            association.handle_datagram(now, PEER, &mut forged, &mut cx);
        });
        assert_eq!((read, count), (9, 0), "{suite:?} {id:?} {is_hot}");
        let mut hello = hello;
        let count = allocations(|| {
            tidegate::dtls::accept(now, PEER, &mut hello, &mut cx);
        });
        assert_eq!(count, 0, "the door");
    }
}

/// Whether a key that is expanded for one record needs no memory for that; else CCM's is on the heap.
fn expands_in_place() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// Requests that a device sends at once.
const REQUESTS: u16 = 8;
/// Turns until what is remembered of a device has its full size: `dedup_max` requests.
const WARM_UP: u16 = 10;

/// A shard without its executor, and one device.
struct Shard {
    endpoint: Endpoint,
    outbox: Outbox,
    /// What the pool took, and gives back.
    requests: Vec<Request>,
    now: Now,
    device: ClientConnection,
    template: RequestTemplate,
    message_id: u16,
}

impl Shard {
    const ADDRESS: ([u8; 4], u16) = ([192, 0, 2, 7], 5000);

    /// The device's handshake is done.
    fn new(suite: CipherSuite) -> Self {
        let mut settings = EndpointSettings::new(CookieJar::new([1; 32]));
        settings.dtls.store(Some(Arc::new(server_config())));
        settings.sessions_max = 4;
        let now = Now {
            instant: Instant::from_micros(1_000_000),
            unix_ms: UNIX_MS,
        };
        let config = ClientConfig {
            cipher_suites: vec![suite],
            ..ClientConfig::default()
        };
        let mut sent = Vec::new();
        let device = ClientConnection::new(
            now,
            Arc::new(config),
            &mut client::Context {
                random: &mut SeededRandom::new(2),
                out: &mut sent,
                drops: &mut |_| {},
            },
        );
        let template = RequestTemplate::new(&RequestParts {
            method: code::POST,
            path: &["api", "v1", "ABCDEFGHIJ0123456789", "telemetry"],
            queries: &["a=b"],
            content_format: Some(50),
            ..RequestParts::default()
        });
        let metrics = Arc::new(ShardMetrics::new());
        let random = Box::new(SeededRandom::new(1));
        let mut shard = Self {
            endpoint: Endpoint::new(0, Arc::new(settings), metrics, random, now),
            outbox: Outbox::default(),
            requests: Vec::new(),
            now,
            device,
            template: template.unwrap(),
            message_id: 0,
        };
        while !sent.is_empty() {
            shard.deliver(&mut sent);
            shard.endpoint.handle_all_waiting(now, &mut shard.outbox);
            sent = shard.hand_over();
        }
        assert!(shard.device.is_established());
        shard
    }

    fn deliver(&mut self, datagrams: &mut [Vec<u8>]) {
        for datagram in datagrams {
            self.endpoint.begin_turn(false);
            let from = Self::ADDRESS.into();
            self.endpoint
                .handle_datagram(self.now, from, Port::Secure, datagram, &mut self.outbox);
        }
    }

    /// Gives the device what was sent; its answers.
    fn hand_over(&mut self) -> Vec<Vec<u8>> {
        let mut answers = Vec::new();
        for transmit in self.outbox.transmits() {
            let mut datagram = self.outbox.datagram(transmit).to_vec();
            let mut cx = client::Context {
                random: &mut SeededRandom::new(2),
                out: &mut answers,
                drops: &mut |_| {},
            };
            self.device
                .handle_datagram(self.now, &mut datagram, &mut cx);
        }
        self.outbox.clear_transmits();
        answers
    }

    /// The device's next requests, sealed.
    fn records(&mut self) -> Vec<Vec<u8>> {
        let (prefix, suffix) = self.device.record_overhead();
        let mut message = Vec::new();
        (0..REQUESTS)
            .map(|_| {
                self.message_id += 1;
                let payload = br#"{"temperature":21.523,"humidity":48.251}"#;
                self.template
                    .encode(true, self.message_id, &[1, 2, 3, 4], payload, &mut message);
                let mut record = vec![0; prefix];
                record.extend_from_slice(&message);
                record.resize(prefix + message.len() + suffix, 0);
                self.device.seal_application_data(&mut record).unwrap();
                record
            })
            .collect()
    }

    /// One turn: requests in, to the pool and back, answers out. Returns the shard's allocations.
    fn turn(&mut self, response: &Response) -> usize {
        self.now.instant = self.now.instant + Duration::from_millis(250);
        let mut records = self.records();
        let mut verdicts = Vec::with_capacity(records.len());
        let mut count = allocations(|| {
            self.deliver(&mut records);
            self.requests.append(&mut self.outbox.requests);
        });
        assert_eq!(self.requests.len(), records.len());
        for request in self.requests.drain(..) {
            verdicts.push(request.into_verdict(response.clone()));
        }
        count += allocations(|| {
            for verdict in verdicts {
                self.endpoint
                    .handle_verdict(self.now, verdict, &mut self.outbox);
            }
            while self.endpoint.next_timeout() <= self.now.instant {
                self.endpoint.handle_timeout(self.now, &mut self.outbox);
            }
        });
        assert_eq!(self.outbox.transmits().len(), records.len());
        self.hand_over();
        count
    }
}

/// The whole way of a request through a shard that has warmed up: record in, DTLS, CoAP, over to the
/// pool, and the verdict's way back. Nothing is allocated for it.
#[test]
fn a_request_and_its_answer_allocate_nothing_on_the_shard() {
    for &suite in &CipherSuite::ALL[..7] {
        let mut shard = Shard::new(suite);
        let created = Response::empty(code::CREATED);
        for _ in 0..WARM_UP {
            shard.turn(&created);
        }
        for _ in 0..50 {
            assert_eq!(shard.turn(&created), 0, "{suite:?}");
        }
        // An answer with options or a payload is encoded by coap-lite: these are its allocations
        // (token, option list, values, payload, message), and one of ours that keeps the message
        // for a repetition of the request.
        let mut content = Response::empty(code::CONTENT);
        content.content_format = Some(50);
        content.payload = b"{}".to_vec();
        for _ in 0..WARM_UP {
            shard.turn(&content);
        }
        let each = shard.turn(&content) / usize::from(REQUESTS);
        assert!((1..=12).contains(&each), "{each} for {suite:?}");
    }
}
