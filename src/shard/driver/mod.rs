//! How a shard gets and gives datagrams: a batch in, a batch out.
//!
//! glommio's own UDP path makes a system call per datagram, so the datagrams travel beside it:
//! [`uring`] on a ring of our own, [`mmsg`] by recvmmsg and sendmmsg where the kernel has no such ring.
//! Both sleep in two ways: [`Driver::wait`] in one system call, for a shard that will soon be needed,
//! and [`idle`] in the executor, for one that is idle. [`memory`] is for a shard that runs without a
//! kernel: its owner brings the datagrams, and takes its turns.

mod idle;
mod memory;
mod mmsg;
#[cfg(test)]
mod tests;
mod uring;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub(super) use self::idle::Sleeper;
pub use self::memory::MemoryDatagram;
pub(super) use self::memory::MemoryDriver;
use self::mmsg::MmsgDriver;
use self::uring::{RingDriver, RingSizes};
use super::socket::{Datagram, Socket};
use super::wake::Wake;
use crate::endpoint::{Local, Outbox, Port};

/// How long the probe waits for its own datagram, in steps of ten milliseconds.
const PROBE_STEPS: u32 = 100;
const PROBE_STEP: Duration = Duration::from_millis(10);

/// The ways in which datagrams can travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverKind {
    /// On an io_uring of our own.
    Uring,
    /// By recvmmsg and sendmmsg.
    Mmsg,
}

impl DriverKind {
    /// The name in settings, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Mmsg => "mmsg",
        }
    }

    /// Sends a datagram to itself on a small ring, with all that [`Self::Uring`] needs.
    ///
    /// # Errors
    /// What the kernel lacks or refuses.
    pub fn probe_uring() -> io::Result<()> {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
        let own = socket.local_addr()?;
        let ports = vec![(Port::Plain, Socket::from(socket))];
        let wake = Arc::new(Wake::new()?);
        let sizes = RingSizes {
            buffers: 2,
            submissions: 8,
            completions: 16,
        };
        let mut driver = RingDriver::open(ports, wake, sizes)?;
        let mut outbox = Outbox::default();
        outbox.push(own, Port::Plain, b"probe");
        driver.send(&mut outbox)?;
        for _ in 0..PROBE_STEPS {
            let mut probe = Probe::default();
            driver.receive(&mut probe)?;
            let counts = driver.take_counts();
            if counts.receive_errors + counts.refused > 0 {
                return Err(io::ErrorKind::Unsupported.into());
            }
            if probe.is_there {
                return Ok(());
            }
            driver.wait(PROBE_STEP)?;
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

/// Waits for the probe's own datagram.
#[derive(Default)]
struct Probe {
    is_there: bool,
}

impl Handler for Probe {
    fn foresee(&mut self, _arrivals: &mut dyn Iterator<Item = (SocketAddr, Local)>) {}

    fn handle(&mut self, _port: Port, datagram: Datagram<'_>) {
        self.is_there |= datagram.bytes == b"probe";
    }
}

/// What a look at the sockets brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) datagrams: usize,
    /// Nothing was left behind.
    pub(super) is_empty: bool,
}

/// What a driver gives its datagrams to.
pub(super) trait Handler {
    /// The next datagrams, at most [`crate::endpoint::AHEAD`], come from these, in this order.
    fn foresee(&mut self, arrivals: &mut dyn Iterator<Item = (SocketAddr, Local)>);

    /// Takes a datagram, whose bytes may be changed.
    fn handle(&mut self, port: Port, datagram: Datagram<'_>);
}

/// What a driver did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Datagrams that the kernel took, plain and secure.
    pub(super) sent: [u64; 2],
    /// Their bytes.
    pub(super) sent_bytes: [u64; 2],
    /// Datagrams that the kernel did not take.
    pub(super) refused: u64,
    /// Times that receiving failed.
    pub(super) receive_errors: u64,
    /// Times that all receive buffers were full; what came waited in the socket's.
    pub(super) buffers_exhausted: u64,
    /// Times that the completion queue was full; what completed waited in the kernel, or was lost.
    pub(super) completions_overflowed: u64,
}

impl Counts {
    fn add_sent(&mut self, port: Port, datagrams: u64, bytes: u64) {
        self.sent[port as usize] += datagrams;
        self.sent_bytes[port as usize] += bytes;
    }
}

/// A shard's sockets.
pub(super) enum Driver {
    Uring(Box<RingDriver>),
    Mmsg(Box<MmsgDriver>),
    /// Nothing comes while this one waits: it never does.
    Memory(Box<MemoryDriver>),
}

impl Driver {
    /// Takes the sockets. Call on the shard's own thread.
    ///
    /// # Errors
    /// When the kernel refuses the ring.
    pub(super) fn open(
        kind: DriverKind,
        ports: Vec<(Port, Socket)>,
        wake: Arc<Wake>,
    ) -> io::Result<Self> {
        match kind {
            DriverKind::Uring => RingDriver::open(ports, wake, RingSizes::default())
                .map(|driver| Self::Uring(Box::new(driver))),
            DriverKind::Mmsg => Ok(Self::Mmsg(Box::new(MmsgDriver::new(ports, wake)))),
        }
    }

    /// Gives the datagrams that arrived to `handler`, at most [`super::socket::BATCH`] of each port.
    ///
    /// # Errors
    /// When the ring is broken. A socket's errors are counted only.
    pub(super) fn receive(&mut self, handler: &mut dyn Handler) -> io::Result<Received> {
        match self {
            Self::Uring(driver) => driver.receive(handler),
            Self::Mmsg(driver) => Ok(driver.receive(handler)),
            Self::Memory(driver) => Ok(driver.receive(handler)),
        }
    }

    /// Sends the outbox's datagrams and empties it. What the kernel does not take is counted.
    ///
    /// # Errors
    /// When the ring is broken.
    pub(super) fn send(&mut self, outbox: &mut Outbox) -> io::Result<()> {
        match self {
            Self::Uring(driver) => driver.send(outbox)?,
            Self::Mmsg(driver) => driver.send(outbox),
            Self::Memory(driver) => driver.send(outbox),
        }
        Ok(())
    }

    /// What was done since the last call.
    pub(super) fn take_counts(&mut self) -> Counts {
        match self {
            Self::Uring(driver) => driver.take_counts(),
            Self::Mmsg(driver) => driver.take_counts(),
            Self::Memory(driver) => driver.take_counts(),
        }
    }

    /// Sleeps in the kernel until there may be something to do, at most `time`.
    ///
    /// # Errors
    /// When the ring is broken.
    pub(super) fn wait(&mut self, time: Duration) -> io::Result<()> {
        match self {
            Self::Uring(driver) => driver.wait(time),
            Self::Mmsg(driver) => driver.wait(time),
            Self::Memory(_) => Ok(()),
        }
    }

    /// Sleeps until some of what may come is there, at most `time`, which is short.
    ///
    /// # Errors
    /// When the ring is broken.
    pub(super) fn gather(&mut self, time: Duration) -> io::Result<()> {
        match self {
            Self::Uring(driver) => driver.gather(time),
            Self::Mmsg(_) => {
                // What comes waits in the sockets, and the wake-up on its descriptor.
                std::thread::sleep(time);
                Ok(())
            }
            Self::Memory(_) => Ok(()),
        }
    }

    /// What the shard sleeps with in the executor, between [`Self::prepare_idle`] and
    /// [`Self::end_idle`]. Call within the executor.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub(super) fn sleeper(&self) -> io::Result<Sleeper> {
        match self {
            Self::Uring(driver) => Sleeper::on_event(driver.event()),
            Self::Mmsg(driver) => Sleeper::on_sockets(driver.sockets()),
            Self::Memory(_) => Sleeper::on_sockets(std::iter::empty()),
        }
    }

    /// Makes datagrams end the sleeper's sleep from now on. `false`: some are there already.
    ///
    /// # Errors
    /// When the ring is broken.
    pub(super) fn prepare_idle(&mut self) -> io::Result<bool> {
        match self {
            Self::Uring(driver) => driver.prepare_idle(),
            Self::Mmsg(_) | Self::Memory(_) => Ok(true),
        }
    }

    /// Takes back [`Self::prepare_idle`].
    pub(super) fn end_idle(&mut self) {
        if let Self::Uring(driver) = self {
            driver.end_idle();
        }
    }
}
