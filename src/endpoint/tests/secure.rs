//! An endpoint and DTLS clients that talk to it without a network.

use super::*;
use crate::crypto::signature::SigningKey;
use crate::dtls::client::{ClientConfig, ClientConnection, Context};
use crate::dtls::{Credentials, ServerConfig};

/// Some time in 2026.
pub(super) const UNIX_MS: u64 = 1_790_000_000_000;

/// A self-signed P-256 certificate and its key.
pub(super) fn credentials() -> Arc<Credentials> {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(["device".to_owned()]).unwrap();
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2100, 1, 1);
    Arc::new(Credentials {
        chain: vec![parameters.self_signed(&key).unwrap().der().to_vec()],
        key: SigningKey::from_der(&key.serialize_der()).unwrap(),
    })
}

/// An endpoint with a clock of its own.
pub(super) struct Bench {
    pub(super) endpoint: Endpoint,
    pub(super) metrics: Arc<ShardMetrics>,
    pub(super) now: Now,
    pub(super) random: SeededRandom,
    /// Where what is delivered arrives, and where answers have to come from.
    pub(super) local: Local,
}

/// A client and its address.
pub(super) struct Device {
    pub(super) address: SocketAddr,
    pub(super) connection: ClientConnection,
    /// Plaintexts that came for it.
    pub(super) received: Vec<Vec<u8>>,
    pub(super) alert: Option<dtls::AlertDescription>,
}

impl Bench {
    pub(super) fn new(change: impl FnOnce(&mut EndpointSettings)) -> Self {
        Self::on_shard(0, change)
    }

    pub(super) fn on_shard(shard: u16, change: impl FnOnce(&mut EndpointSettings)) -> Self {
        let now = Now {
            instant: Instant::from_micros(1_000_000),
            unix_ms: UNIX_MS,
        };
        let settings = settings(|settings| {
            settings.dtls = ArcSwapOption::from_pointee(ServerConfig::new(credentials()));
            change(settings);
        });
        let metrics = Arc::new(ShardMetrics::new());
        let random = Box::new(SeededRandom::new(1));
        let endpoint = Endpoint::new(shard, Arc::new(settings), Arc::clone(&metrics), random, now);
        Self {
            endpoint,
            metrics,
            now,
            random: SeededRandom::new(2),
            local: Port::Secure.into(),
        }
    }

    pub(super) fn sleep(&mut self, time: Duration) {
        self.now.instant = self.now.instant + time;
        self.now.unix_ms += u64::try_from(time.as_millis()).unwrap();
    }

    /// Starts a client; its first ClientHello is returned, not delivered.
    pub(super) fn start(
        &mut self,
        address: SocketAddr,
        config: ClientConfig,
    ) -> (Device, Vec<Vec<u8>>) {
        let mut out = Vec::new();
        let mut context = Context {
            random: &mut self.random,
            out: &mut out,
            drops: &mut |_| {},
        };
        let connection = ClientConnection::new(self.now, Arc::new(config), &mut context);
        let device = Device {
            address,
            connection,
            received: Vec::new(),
            alert: None,
        };
        (device, out)
    }

    /// A client whose handshake is done.
    pub(super) fn connect(&mut self, port: u16, credentials: Option<Arc<Credentials>>) -> Device {
        let config = ClientConfig {
            credentials,
            ..ClientConfig::default()
        };
        let (mut device, hello) = self.start(peer(port), config);
        self.talk(&mut device, hello);
        assert!(device.connection.is_established(), "the handshake ended");
        device
    }

    /// Hands one datagram to the endpoint.
    pub(super) fn deliver(&mut self, from: SocketAddr, mut datagram: Vec<u8>) -> Outbox {
        let mut out = Outbox::default();
        self.endpoint
            .handle_datagram(self.now, from, self.local, &mut datagram, &mut out);
        self.endpoint.handle_all_waiting(self.now, &mut out);
        out
    }

    /// Delivers datagrams of a device and what follows from them, until both are silent. Returns
    /// the requests that reached the pool.
    pub(super) fn talk(&mut self, device: &mut Device, datagrams: Vec<Vec<u8>>) -> Vec<Request> {
        let mut requests = Vec::new();
        let mut waiting = datagrams;
        while !waiting.is_empty() {
            let mut next = Vec::new();
            for datagram in waiting {
                let mut out = self.deliver(device.address, datagram);
                requests.append(&mut out.requests);
                next.extend(self.hand_over(device, &out));
            }
            waiting = next;
        }
        requests
    }

    /// Gives a device what the endpoint sent to it; returns its answers.
    pub(super) fn hand_over(&mut self, device: &mut Device, out: &Outbox) -> Vec<Vec<u8>> {
        let mut answers = Vec::new();
        let is_from_there = |transmit: &Transmit| transmit.local == self.local;
        assert!(out.transmits().iter().all(is_from_there));
        for (to, mut datagram) in sent(out) {
            if to != device.address {
                continue;
            }
            let mut context = Context {
                random: &mut self.random,
                out: &mut answers,
                drops: &mut |_| {},
            };
            let received = device
                .connection
                .handle_datagram(self.now, &mut datagram, &mut context);
            device.alert = device.alert.or(received.peer_alert);
            for range in &received.plaintexts {
                device.received.push(datagram[range].to_vec());
            }
        }
        answers
    }
}

impl Device {
    /// A record of application data.
    pub(super) fn seal(&mut self, plaintext: &[u8]) -> Vec<u8> {
        let (prefix, suffix) = self.connection.record_overhead();
        let mut record = vec![0; prefix + plaintext.len() + suffix];
        record[prefix..prefix + plaintext.len()].copy_from_slice(plaintext);
        self.connection.seal_application_data(&mut record).unwrap();
        record
    }
}

/// What came before a close_notify in its datagram is still its sender's: the device's, not nobody's.
#[test]
fn a_reading_before_close_notify_in_one_datagram_has_its_sender() {
    let mut bench = Bench::new(|_| ());
    let mut device = bench.connect(10, Some(credentials()));
    let mut datagram = device.seal(POST);
    let mut close: Vec<Vec<u8>> = Vec::new();
    device.connection.close(&mut Context {
        random: &mut bench.random,
        out: &mut close,
        drops: &mut |_| {},
    });
    datagram.extend_from_slice(&close[0]);
    let requests = bench.talk(&mut device, vec![datagram]);
    assert_eq!(requests.len(), 1);
    assert!(matches!(requests[0].identity, Identity::Certificate(_)));
    assert_eq!(bench.metrics.value(Counter::Sessions), 0);
}

/// RFC 6066 section 4: a client with small records gets its answer in blocks that fit (RFC 7959
/// section 2.3).
#[test]
fn answers_fit_the_records_of_their_client() {
    let mut bench = Bench::new(|_| ());
    let config = ClientConfig {
        max_fragment_length: Some(dtls::MaxFragmentLength::Bytes512),
        ..ClientConfig::default()
    };
    let (mut device, hello) = bench.start(peer(7), config);
    bench.talk(&mut device, hello);
    let asked = device.seal(b"\x41\x01\x00\x01\x77\xb1a");
    let request = bench.talk(&mut device, vec![asked]).pop().unwrap();
    let verdict = request.into_verdict(Response {
        payload: vec![b'x'; 1000],
        ..Response::empty(0x45)
    });
    let mut out = Outbox::default();
    bench.endpoint.handle_verdict(bench.now, verdict, &mut out);
    bench.hand_over(&mut device, &out);
    let [answer] = std::mem::take(&mut device.received).try_into().unwrap();
    let packet = coap_lite::Packet::from_bytes(&answer).unwrap();
    assert_eq!(packet.payload.len(), 256);
    let block2 = packet.get_first_option(coap_lite::CoapOption::Block2);
    assert_eq!(block2, Some(&vec![0x0c]));
}
