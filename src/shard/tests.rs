//! Running shards, on real sockets.

mod panics;

use std::net::{SocketAddr, UdpSocket};
use std::thread::JoinHandle;
use std::time::Duration;

use super::*;
use crate::auth::request::Response;
use crate::crypto::random::SystemRandom;
use crate::crypto::signature::SigningKey;
use crate::drop_reason::DropReason;
use crate::dtls::client::{ClientConfig, ClientConnection, Context};
use crate::dtls::{CookieJar, Credentials, ServerConfig};
use crate::endpoint::Handover;
use crate::queue::RequestQueues;
use crate::time::Now;

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// Shards on one port, with a pool that answers every request by 2.01.
struct RunningShards {
    address: SocketAddr,
    metrics: Vec<Arc<ShardMetrics>>,
    inboxes: Arc<[Arc<Inbox>]>,
    queues: Arc<RequestQueues>,
    stop: Arc<AtomicBool>,
    shards: Vec<ExecutorJoinHandle<io::Result<()>>>,
    pool: JoinHandle<()>,
}

impl RunningShards {
    fn start(count: u16, port: Port, driver: DriverKind) -> Self {
        let address = "127.0.0.1:0".parse().unwrap();
        let sockets = Socket::bind_group(address, count.into()).unwrap();
        let address = sockets[0].local_addr().unwrap();
        let (queues, mut workers) = RequestQueues::new(count.into(), 64, 1);
        let inboxes: Arc<[_]> = (0..count).map(|_| Arc::new(Inbox::new(64))).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let settings = Arc::new(settings(count));
        let metrics: Vec<_> = (0..count).map(|_| Arc::new(ShardMetrics::new())).collect();
        let clock = Clock::start();
        let mut shards = Vec::new();
        for (index, socket) in sockets.into_iter().enumerate() {
            let (started, has_started) = mpsc::channel();
            let parts = ShardParts {
                index: u16::try_from(index).unwrap(),
                cpu: 0,
                sockets: vec![(port, socket)],
                driver,
                settings: Arc::clone(&settings),
                metrics: Arc::clone(&metrics[index]),
                queue: queues.shard(index).unwrap(),
                inbox: Arc::clone(&inboxes[index]),
                inboxes: Arc::clone(&inboxes),
                connection_ids: true,
                stop: Arc::clone(&stop),
                clock: clock.clone(),
                started,
            };
            shards.push(spawn(parts).unwrap());
            has_started.recv().unwrap();
        }
        let pool = std::thread::spawn({
            let inboxes = Arc::clone(&inboxes);
            move || {
                let mut requests = Vec::new();
                while workers[0].take(&mut requests) {
                    for request in requests.drain(..) {
                        let inbox = &inboxes[usize::from(request.peer.shard)];
                        inbox.push(request.into_verdict(Response::empty(0x41)));
                        inbox.wake();
                    }
                }
            }
        });
        Self {
            address,
            metrics,
            inboxes,
            queues,
            stop,
            shards,
            pool,
        }
    }

    /// The sum of a counter.
    fn count(&self, counter: Counter) -> u64 {
        self.metrics.iter().map(|shard| shard.value(counter)).sum()
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Release);
        for inbox in self.inboxes.iter() {
            inbox.wake_always();
        }
        for shard in self.shards {
            shard.join().unwrap().unwrap();
        }
        self.queues.close();
        self.pool.join().unwrap();
    }
}

fn settings(shards: u16) -> EndpointSettings {
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(["server".to_owned()]).unwrap();
    let credentials = Credentials {
        chain: vec![parameters.self_signed(&key).unwrap().der().to_vec()],
        key: SigningKey::from_der(&key.serialize_der()).unwrap(),
    };
    let dtls = ServerConfig {
        connection_id_length: Some(6),
        ..ServerConfig::new(Arc::new(credentials))
    };
    EndpointSettings {
        dtls: Some(Arc::new(dtls)).into(),
        shards,
        requests_max: 64,
        ..EndpointSettings::new(CookieJar::new([7; 32]))
    }
}

fn socket_to(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(server).unwrap();
    socket
}

const DRIVERS: [DriverKind; 2] = [DriverKind::Uring, DriverKind::Mmsg];

#[test]
fn what_another_shard_received_is_answered_from_the_own_socket_of_the_port() {
    DRIVERS.into_iter().for_each(answers_from_the_own_socket);
}

fn answers_from_the_own_socket(driver: DriverKind) {
    let shards = RunningShards::start(1, Port::Plain, driver);
    let client = socket_to(shards.address);
    let inbox = &shards.inboxes[0];
    let pings = 200_u16;
    for id in 0..pings {
        let [high, low] = id.to_be_bytes();
        // A ping: an empty confirmable message (RFC 7252 section 4.3).
        let handover = Handover {
            shard: 0,
            from: client.local_addr().unwrap(),
            local: Port::Plain.into(),
            datagram: Box::from([0x40, 0, high, low]),
        };
        inbox.hand_over(handover).unwrap();
        // Sometimes one by one and the shard asleep, sometimes many at a time.
        if id % 50 < 5 || id + 1 == pings {
            inbox.wake();
        }
        if id % 50 == 4 || id + 1 == pings {
            let mut answer = [0; 16];
            loop {
                let length = client.recv(&mut answer).expect("nobody woke the shard");
                assert_eq!((length, answer[0], answer[1]), (4, 0x70, 0));
                if answer[2..4] == [high, low] {
                    break;
                }
            }
        }
    }
    assert_eq!(shards.count(Counter::HandoversReceived), u64::from(pings));
    shards.stop();
}

/// A DTLS client with a connection id, without a clock: nothing is lost on loopback.
struct Device {
    socket: UdpSocket,
    connection: ClientConnection,
}

impl Device {
    fn connect(server: SocketAddr) -> Self {
        let config = Arc::new(ClientConfig {
            connection_id: Some(Vec::new()),
            ..ClientConfig::default()
        });
        let socket = socket_to(server);
        let mut out: Vec<Vec<u8>> = Vec::new();
        let connection = with_context(&mut out, |cx| {
            ClientConnection::new(Self::now(), config, cx)
        });
        let mut device = Self { socket, connection };
        device.send_all(out);
        while !device.connection.is_established() {
            device.receive();
        }
        device
    }

    fn now() -> Now {
        Now {
            instant: Instant::from_micros(1),
            unix_ms: 1_790_000_000_000,
        }
    }

    fn send_all(&self, datagrams: Vec<Vec<u8>>) {
        for datagram in datagrams {
            self.socket.send(&datagram).unwrap();
        }
    }

    /// The first message in the next datagram, if there is one.
    fn receive(&mut self) -> Option<Vec<u8>> {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("the server is silent");
        let mut out: Vec<Vec<u8>> = Vec::new();
        let datagram = &mut buffer[..length];
        let received = with_context(&mut out, |cx| {
            self.connection.handle_datagram(Self::now(), datagram, cx)
        });
        self.send_all(out);
        assert!(!received.closed, "{:?}", received.failure);
        let range = received.plaintexts.iter().next()?;
        Some(buffer[range].to_vec())
    }

    /// A POST without path or payload, in one record; returns its answer.
    fn request(&mut self, message_id: u16) -> Vec<u8> {
        let [high, low] = message_id.to_be_bytes();
        let message = [0x41, 0x02, high, low, 0xaa];
        let (prefix, suffix) = self.connection.record_overhead();
        let mut record = vec![0; prefix + message.len() + suffix];
        record[prefix..prefix + message.len()].copy_from_slice(&message);
        self.connection.seal_application_data(&mut record).unwrap();
        self.socket.send(&record).unwrap();
        loop {
            if let Some(answer) = self.receive() {
                return answer;
            }
        }
    }
}

fn with_context<T>(out: &mut Vec<Vec<u8>>, step: impl FnOnce(&mut Context<'_>) -> T) -> T {
    step(&mut Context {
        random: &mut SystemRandom,
        out,
        drops: &mut |_| {},
    })
}

/// Without the kernel's help: the program is not attached here.
#[test]
fn a_device_at_another_port_is_served_through_whichever_shard_the_kernel_chose() {
    DRIVERS.into_iter().for_each(serves_through_any_shard);
}

fn serves_through_any_shard(driver: DriverKind) {
    const CHANGES: u16 = 40;
    let shards = RunningShards::start(4, Port::Secure, driver);
    let mut device = Device::connect(shards.address);
    for message_id in 0..CHANGES {
        device.socket = socket_to(shards.address);
        let [high, low] = message_id.to_be_bytes();
        // 2.01 in the ACK (RFC 7252 section 5.2.1).
        let answer = device.request(message_id);
        assert_eq!(answer, [0x61, 0x41, high, low, 0xaa]);
    }
    assert_eq!(shards.count(Counter::HandshakesCompleted), 1);
    let elsewhere = shards.count(Counter::CidDatagramsElsewhere);
    // A fourth of them arrives right by chance; that 40 do so, or none, is out of reach.
    assert!((1..=u64::from(CHANGES)).contains(&elsewhere), "{elsewhere}");
    assert_eq!(shards.count(Counter::HandoversSent), elsewhere);
    assert_eq!(shards.count(Counter::HandoversReceived), elsewhere);
    let direct = shards.count(Counter::CidDatagramsDirect);
    assert!(direct + elsewhere >= u64::from(CHANGES));
    let lost: u64 = [DropReason::HandoverQueueFull, DropReason::HandoverAstray]
        .into_iter()
        .flat_map(|reason| shards.metrics.iter().map(move |shard| shard.drops(reason)))
        .sum();
    assert_eq!(lost, 0);
    shards.stop();
}

/// Waits until the shard has gone to sleep in its executor `times` times.
fn wait_until_idle(shards: &RunningShards, times: u64) {
    for _ in 0..PATIENCE.as_millis() {
        if shards.count(Counter::IdleSleeps) >= times {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("the shard does not come to rest");
}

#[test]
fn a_shard_that_fell_asleep_is_woken_by_datagrams_and_by_the_inbox() {
    DRIVERS.into_iter().for_each(wakes_a_sleeping_shard);
}

fn wakes_a_sleeping_shard(driver: DriverKind) {
    let shards = RunningShards::start(1, Port::Plain, driver);
    let client = socket_to(shards.address);
    for id in 0..3_u8 {
        wait_until_idle(&shards, u64::from(id) + 1);
        let ping = [0x40, 0, 0, id];
        if id == 1 {
            let handover = Handover {
                shard: 0,
                from: client.local_addr().unwrap(),
                local: Port::Plain.into(),
                datagram: Box::from(ping),
            };
            shards.inboxes[0].hand_over(handover).unwrap();
            shards.inboxes[0].wake();
        } else {
            client.send(&ping).unwrap();
        }
        let mut answer = [0; 16];
        let length = client.recv(&mut answer).expect("nobody woke the shard");
        assert_eq!(answer[..length], [0x70, 0, 0, id]);
    }
    // Asleep or not, it ends when told to.
    wait_until_idle(&shards, 4);
    shards.stop();
}
