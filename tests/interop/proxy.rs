//! A bad link: a UDP proxy that loses, doubles, delays and swaps datagrams, by their number. It stands
//! for Mbed TLS' `udp_proxy`, which no package has.
//!
//! What happens to a datagram depends on a seed, on its direction and on how many went that way
//! before it, so a client meets the same faults whenever it sends the same datagrams.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tidegate::random::{Random, SeededRandom};

/// Of ten datagrams (and `calm` more) of one direction each: what the link does to how many of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) loss: usize,
    pub(crate) duplication: usize,
    /// Held back until the next one went by.
    pub(crate) reordering: usize,
    /// More datagrams among those ten that pass: a better link.
    pub(crate) calm: usize,
}

/// The proxy, for one client at a time; it ends when dropped.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    seen: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Passes,
    IsLost,
    ComesTwice,
    ComesLate,
}

struct Direction {
    random: SeededRandom,
    /// The fates of the next datagrams, last one first.
    fates: Vec<Fate>,
    held: Option<Vec<u8>>,
}

impl Direction {
    /// Fates are dealt ten at a time, like cards.
    fn next_fate(&mut self, faults: Faults) -> Fate {
        if self.fates.is_empty() {
            self.fates.resize(faults.loss, Fate::IsLost);
            let doubled = self.fates.len() + faults.duplication;
            self.fates.resize(doubled, Fate::ComesTwice);
            let late = self.fates.len() + faults.reordering;
            self.fates.resize(late, Fate::ComesLate);
            self.fates.resize(10 + faults.calm, Fate::Passes);
            for last in (1..self.fates.len()).rev() {
                let other = self.random.below(last as u64 + 1) as usize;
                self.fates.swap(last, other);
            }
        }
        self.fates.pop().unwrap_or(Fate::Passes)
    }
}

/// How long the proxy waits for a datagram before it lets go of one that it holds.
const PATIENCE: Duration = Duration::from_millis(20);

impl Proxy {
    /// Opens a port before the server's port.
    pub(crate) fn start(server_port: u16, faults: Faults, seed: u64) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let port = socket.local_addr().expect("an address").port();
        let (seen, lost) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let stop = Arc::<AtomicBool>::default();
        let mut link = Link {
            faults,
            socket,
            server: SocketAddr::from(([127, 0, 0, 1], server_port)),
            client: None,
            directions: [0, 1].map(|direction| Direction {
                random: SeededRandom::new(seed * 2 + direction),
                fates: Vec::new(),
                held: None,
            }),
            seen: Arc::clone(&seen),
            lost: Arc::clone(&lost),
        };
        let ended = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                link.step();
            }
        });
        Self {
            port,
            seen,
            lost,
            stop,
            thread: Some(thread),
        }
    }

    /// Datagrams that came to the proxy, and those that it lost.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (
            self.seen.load(Ordering::Relaxed),
            self.lost.load(Ordering::Relaxed),
        )
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Link {
    faults: Faults,
    socket: UdpSocket,
    server: SocketAddr,
    client: Option<SocketAddr>,
    /// To the server, to the client.
    directions: [Direction; 2],
    seen: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
}

impl Link {
    fn step(&mut self) {
        self.socket
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout");
        let mut buffer = [0; 4096];
        let Ok((length, from)) = self.socket.recv_from(&mut buffer) else {
            self.let_go(0);
            self.let_go(1);
            return;
        };
        let direction = usize::from(from == self.server);
        if direction == 0 {
            self.client = Some(from);
        }
        self.seen.fetch_add(1, Ordering::Relaxed);
        let datagram = &buffer[..length];
        match self.directions[direction].next_fate(self.faults) {
            Fate::IsLost => {
                self.lost.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Fate::ComesLate if self.directions[direction].held.is_none() => {
                self.directions[direction].held = Some(datagram.to_vec());
                return;
            }
            Fate::ComesTwice => {
                self.send(direction, datagram);
                self.send(direction, datagram);
            }
            Fate::Passes | Fate::ComesLate => self.send(direction, datagram),
        }
        self.let_go(direction);
    }

    fn let_go(&mut self, direction: usize) {
        if let Some(held) = self.directions[direction].held.take() {
            self.send(direction, &held);
        }
    }

    fn send(&self, direction: usize, datagram: &[u8]) {
        let to = if direction == 0 {
            Some(self.server)
        } else {
            self.client
        };
        if let Some(to) = to {
            let _ = self.socket.send_to(datagram, to);
        }
    }
}
