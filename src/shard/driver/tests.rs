//! Both drivers on real sockets: the same tests over both.

use super::*;
use crate::endpoint::{AHEAD, LocalAddress};
use crate::shard::clock::Clock;
use crate::shard::socket::{BATCH, DATAGRAM_MAX};
use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, UdpSocket};

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);
const DRIVERS: [DriverKind; 2] = [DriverKind::Uring, DriverKind::Mmsg];
const HOSTS: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];

/// A clock, and when patience ends.
fn patience() -> (Clock, crate::time::Instant) {
    let clock = Clock::start();
    let deadline = clock.instant() + PATIENCE;
    (clock, deadline)
}

struct Opened {
    driver: Driver,
    wake: Arc<Wake>,
    plain: SocketAddr,
    secure: SocketAddr,
}

fn open(kind: DriverKind, host: &str) -> Opened {
    let mut sockets = [Port::Plain, Port::Secure].map(|port| {
        (
            port,
            Socket::bind_group(host.parse().unwrap(), 1)
                .unwrap()
                .remove(0),
        )
    });
    let [plain, secure] = [0, 1].map(|port: usize| sockets[port].1.local_addr().unwrap());
    // The order in which the ports are given must not matter.
    sockets.reverse();
    let wake = Arc::new(Wake::new().unwrap());
    let driver = Driver::open(kind, sockets.into(), Arc::clone(&wake)).unwrap();
    Opened {
        driver,
        wake,
        plain,
        secure,
    }
}

fn client(host: &str, server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(host).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A handler that does this with each datagram.
pub(super) fn each(handle: impl FnMut(Port, Datagram<'_>)) -> impl Handler {
    struct Each<F>(F);
    impl<F: FnMut(Port, Datagram<'_>)> Handler for Each<F> {
        fn foresee(&mut self, arrivals: &mut dyn Iterator<Item = (SocketAddr, Local)>) {
            assert!((1..=AHEAD).contains(&arrivals.count()));
        }

        fn handle(&mut self, port: Port, datagram: Datagram<'_>) {
            (self.0)(port, datagram);
        }
    }
    Each(handle)
}

/// What arrives until there are `count` datagrams: port, sender, bytes, whether cut off.
fn receive(driver: &mut Driver, count: usize) -> Vec<(Port, SocketAddr, Vec<u8>, bool)> {
    let mut all = Vec::new();
    let (clock, end) = patience();
    while all.len() < count {
        assert!(clock.instant() < end, "{} of {count}", all.len());
        let received = driver
            .receive(&mut each(|port, datagram| {
                let bytes = datagram.bytes.to_vec();
                // A driver's memory is the handler's while it has it.
                datagram.bytes.fill(0xff);
                all.push((port, datagram.from, bytes, datagram.truncated));
            }))
            .unwrap();
        assert!(received.datagrams <= 2 * BATCH);
        if received.datagrams == 0 {
            driver.wait(Duration::from_millis(100)).unwrap();
        }
    }
    all
}

#[test]
fn datagrams_come_with_port_and_sender_and_answers_reach_them() {
    for (kind, host) in DRIVERS
        .into_iter()
        .flat_map(|kind| HOSTS.map(|host| (kind, host)))
    {
        let mut opened = open(kind, host);
        let clients: Vec<_> = (0_u8..40)
            .map(|number| {
                let is_plain = number % 3 == 0;
                let (port, server) = if is_plain {
                    (Port::Plain, opened.plain)
                } else {
                    (Port::Secure, opened.secure)
                };
                (number, port, client(host, server))
            })
            .collect();
        // More than once through all buffers, and more than a submission queue of answers.
        for round in 0..10_u8 {
            for (number, _, socket) in &clients {
                socket
                    .send(&vec![*number; usize::from(round) * 100 + 1])
                    .unwrap();
                socket.send(&[round; 7]).unwrap();
            }
            let arrived = receive(&mut opened.driver, 80);
            assert_eq!(arrived.len(), 80);
            let mut outbox = Outbox::default();
            for (port, from, bytes, truncated) in &arrived {
                let (number, at, _) = clients
                    .iter()
                    .find(|(_, _, socket)| socket.local_addr().unwrap() == *from)
                    .unwrap();
                assert_eq!((port, truncated), (at, &false));
                let whole = vec![*number; usize::from(round) * 100 + 1];
                assert!(*bytes == whole || *bytes == [round; 7]);
                outbox.push(*from, *port, bytes);
            }
            opened.driver.send(&mut outbox).unwrap();
            assert!(outbox.is_sent());
            for (number, _, socket) in &clients {
                let mut buffer = [0; DATAGRAM_MAX];
                let lengths = [0, 1].map(|_| socket.recv(&mut buffer).unwrap());
                assert_eq!(lengths, [usize::from(round) * 100 + 1, 7], "{number}");
            }
        }
        // Completions of sends are seen with the next look.
        receive(&mut opened.driver, 0);
        opened.driver.wait(Duration::ZERO).unwrap();
        let counts = opened.driver.take_counts();
        let plain = clients.iter().filter(|c| c.1 == Port::Plain).count() as u64;
        assert_eq!(counts.sent, [plain * 20, (40 - plain) * 20], "{kind:?}");
        assert_eq!(counts.sent_bytes[0], plain * (4510 + 70));
        assert_eq!((counts.refused, counts.receive_errors), (0, 0));
    }
}

/// A server that is bound to all addresses: each client gets its answer from the one that it asked, and
/// would take it from no other.
#[test]
fn an_answer_leaves_from_the_address_that_was_asked() {
    let asked = ["127.0.0.1", "127.0.0.2", "127.1.2.3", "::1"];
    for (kind, host) in DRIVERS
        .into_iter()
        .flat_map(|kind| ["0.0.0.0:0", "[::]:0"].map(|host| (kind, host)))
    {
        let mut opened = open(kind, host);
        let is_dual = opened.secure.is_ipv6();
        let clients: Vec<_> = asked
            .iter()
            .map(|ip| SocketAddr::new(ip.parse().unwrap(), opened.secure.port()))
            .filter(|server| is_dual || server.is_ipv4())
            .map(|server| client(if server.is_ipv4() { HOSTS[0] } else { HOSTS[1] }, server))
            .collect();
        let mut numbers = HashMap::new();
        for round in 0..3 {
            let mut outbox = Outbox::default();
            for client in &clients {
                client.send(b"asked").unwrap();
                // Alone, so that it is known whose it is.
                let (clock, end) = patience();
                let mut arrived = None;
                while arrived.is_none() {
                    assert!(clock.instant() < end);
                    opened.driver.wait(Duration::from_millis(100)).unwrap();
                    let mut take = |port, datagram: Datagram<'_>| {
                        let address = datagram.at;
                        arrived = Some((datagram.from, Local { port, address }));
                    };
                    opened.driver.receive(&mut each(&mut take)).unwrap();
                }
                let (from, local) = arrived.unwrap();
                let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                assert_eq!(from, client.local_addr().unwrap());
                let server = client.peer_addr().unwrap().ip();
                let number = *numbers.entry(server).or_insert(local.address);
                assert_eq!((local.port, local.address), (Port::Secure, number));
                assert_ne!(number, LocalAddress::ANY);
                outbox.push(from, local, format!("round {round}").as_bytes());
            }
            opened.driver.send(&mut outbox).unwrap();
            for client in &clients {
                let mut buffer = [0; 16];
                let length = client.recv(&mut buffer).unwrap();
                assert_eq!(&buffer[..length], format!("round {round}").as_bytes());
            }
        }
        let different: HashSet<_> = numbers.values().collect();
        assert_eq!(different.len(), clients.len(), "{kind:?} {host}");
        // Where nothing is known of it, the kernel chooses.
        let mut outbox = Outbox::default();
        outbox.push(clients[0].local_addr().unwrap(), Port::Secure, b"any");
        let unknown = Local {
            port: Port::Secure,
            address: LocalAddress(200),
        };
        outbox.push(clients[0].local_addr().unwrap(), unknown, b"unknown");
        opened.driver.send(&mut outbox).unwrap();
        for expected in ["any", "unknown"] {
            let mut buffer = [0; 16];
            let length = clients[0].recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], expected.as_bytes());
        }
        opened.driver.wait(Duration::ZERO).unwrap();
        assert_eq!(opened.driver.take_counts().refused, 0);
    }
}

#[test]
fn a_datagram_that_is_too_long_says_so() {
    for kind in DRIVERS {
        let mut opened = open(kind, HOSTS[0]);
        let client = client(HOSTS[0], opened.secure);
        client.send(&[1; DATAGRAM_MAX]).unwrap();
        client.send(&[2; DATAGRAM_MAX + 1]).unwrap();
        client.send(&[]).unwrap();
        let arrived = receive(&mut opened.driver, 3);
        let lengths: Vec<_> = arrived.iter().map(|a| (a.2.len(), a.3)).collect();
        let expected = [(DATAGRAM_MAX, false), (DATAGRAM_MAX, true), (0, false)];
        assert_eq!(lengths, expected, "{kind:?}");
    }
}

#[test]
fn a_datagram_that_cannot_be_sent_is_counted_and_holds_up_no_other() {
    for kind in DRIVERS {
        let mut opened = open(kind, HOSTS[0]);
        let client = client(HOSTS[0], opened.secure);
        let to = client.local_addr().unwrap();
        let mut outbox = Outbox::default();
        outbox.push(to, Port::Secure, b"before");
        // Longer than UDP carries.
        outbox.push(to, Port::Secure, &vec![0; 70_000]);
        outbox.push(to, Port::Secure, b"after");
        opened.driver.send(&mut outbox).unwrap();
        for expected in ["before", "after"] {
            let mut buffer = [0; 16];
            let length = client.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], expected.as_bytes());
        }
        opened.driver.wait(Duration::ZERO).unwrap();
        let counts = opened.driver.take_counts();
        assert_eq!((counts.sent, counts.refused), ([0, 2], 1), "{kind:?}");
    }
}

#[test]
fn a_wake_up_ends_the_wait_whether_it_came_before_or_after() {
    for kind in DRIVERS {
        let mut opened = open(kind, HOSTS[0]);
        for _ in 0..3 {
            opened.wake.wake();
            let (clock, end) = patience();
            opened.driver.wait(PATIENCE).unwrap();
            assert!(clock.instant() < end);
            // Its operation is armed again by a turn.
            receive(&mut opened.driver, 0);
            opened.driver.receive(&mut each(|_, _| {})).unwrap();
        }
        let waker = std::thread::spawn({
            let wake = Arc::clone(&opened.wake);
            move || wake.wake()
        });
        let (clock, end) = patience();
        opened.driver.wait(PATIENCE).unwrap();
        assert!(clock.instant() < end);
        waker.join().unwrap();
    }
}

#[test]
fn the_probe_finds_the_ring_of_this_kernel() {
    DriverKind::probe_uring().unwrap();
}
