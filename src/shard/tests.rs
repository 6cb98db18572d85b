//! A running shard, on real sockets.

use std::net::UdpSocket;
use std::time::Duration;

use super::*;
use crate::dtls::CookieJar;
use crate::endpoint::Handover;
use crate::queue::RequestQueues;

/// A shard that serves a plain port of its own.
struct RunningShard {
    port: std::net::SocketAddr,
    metrics: Arc<ShardMetrics>,
    inbox: Arc<Inbox>,
    stop: Arc<AtomicBool>,
    handle: ExecutorJoinHandle<io::Result<()>>,
}

impl RunningShard {
    fn start() -> Self {
        let address = "127.0.0.1:0".parse().unwrap();
        let socket = Socket::bind_group(address, 1).unwrap().remove(0);
        let port = socket.local_addr().unwrap();
        let (queues, _workers) = RequestQueues::new(1, 64, 1);
        let inbox = Arc::new(Inbox::new(64));
        let metrics = Arc::new(ShardMetrics::new());
        let stop = Arc::new(AtomicBool::new(false));
        let (started, has_started) = mpsc::channel();
        let handle = spawn(ShardParts {
            index: 0,
            cpu: 0,
            sockets: vec![(Port::Plain, socket)],
            settings: Arc::new(settings()),
            metrics: Arc::clone(&metrics),
            queue: queues.shard(0).unwrap(),
            inbox: Arc::clone(&inbox),
            inboxes: [Arc::clone(&inbox)].into(),
            connection_ids: true,
            stop: Arc::clone(&stop),
            clock: Clock::start(),
            started,
        })
        .unwrap();
        has_started.recv().unwrap();
        Self {
            port,
            metrics,
            inbox,
            stop,
            handle,
        }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.inbox.wake_always();
        self.handle.join().unwrap().unwrap();
    }
}

fn settings() -> EndpointSettings {
    EndpointSettings {
        session_inactivity_timeout: Duration::from_secs(60),
        session_report_timeout: Duration::from_secs(60),
        sessions_max: 10,
        handshakes_max: 10,
        plain_peers_max: 1000,
        requests_max: 64,
        ..EndpointSettings::new(CookieJar::new([7; 32]))
    }
}

#[test]
fn what_another_shard_received_is_answered_from_the_own_socket_of_the_port() {
    let shard = RunningShard::start();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    client.connect(shard.port).unwrap();
    let pings = 200_u16;
    for id in 0..pings {
        let [high, low] = id.to_be_bytes();
        // A ping: an empty confirmable message (RFC 7252 section 4.3).
        let handover = Handover {
            shard: 0,
            from: client.local_addr().unwrap(),
            port: Port::Plain,
            datagram: Box::from([0x40, 0, high, low]),
        };
        shard.inbox.hand_over(handover).unwrap();
        // Sometimes one by one and the shard asleep, sometimes many at a time.
        if id % 50 < 5 || id + 1 == pings {
            shard.inbox.wake();
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
    assert_eq!(
        shard.metrics.value(Counter::HandoversReceived),
        u64::from(pings)
    );
    shard.stop();
}
