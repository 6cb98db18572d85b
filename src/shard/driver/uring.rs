//! Datagrams on an io_uring of our own, inside the shard's executor.
//!
//! ```text
//! receive   a multishot recvmsg per port -> provided buffers -> handled in place -> buffers back
//! send      the outbox's arena moves into a flight -> a send per datagram -> all completed: arena free
//! wake      a read of the shard's event descriptor, armed again after each
//!
//! one io_uring_enter per turn: submits the turn's sends and rearmed operations, runs the kernel's
//! part of what arrived, and posts its completions
//! ```
//!
//! Bounds: [`RingSizes::buffers`] datagrams received and not handled, [`memory::FLIGHTS`] outboxes being sent.
//! Without a buffer the kernel ends the multishot (ENOBUFS) and keeps what comes in the socket's own
//! buffer; the operation is armed again once buffers are back. The completion queue holds what all
//! buffers and a full submission queue can complete; should it overflow, the kernel keeps the rest
//! until the next enter. Both are counted.
//!
//! A kernel that has no memory to keep them in drops completions, and says so (EBADR) to whoever waits.
//! Nobody knows then which operations have ended and which buffers were filled: all operations are
//! ended and all buffers taken back, and the ring begins anew ([`RingDriver::recover`]).
//!
//! # Memory that the kernel uses
//!
//! All of it is in [`memory::Memory`]: the buffers, the flights, the header and the value of the event. It is
//! freed only after every operation has completed ([`RingDriver::quiesce`]); when the kernel does not
//! say so within a second, it is left allocated, as nothing else is safe then.
//!
//! DEFER_TASKRUN: the kernel does its part of an operation when the shard enters this ring, and at no
//! other time, so that a shard that gathers ([`crate::pace`]) is not woken by each datagram, as it is with
//! COOP_TASKRUN. While the shard sleeps in the executor's ring, the event descriptor tells of work that
//! waits for an enter as well as of completions.

#![allow(unsafe_code)]

mod memory;
mod recovery;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::mem::{self, ManuallyDrop};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};

use self::memory::{Memory, parse, sender};
use super::{Counts, Handler, Received};
use crate::endpoint::{AHEAD, Local, Outbox, Port};
use crate::shard::clock::Clock;
use crate::shard::local_addresses::LocalAddresses;
use crate::shard::socket::{BATCH, Socket, event_descriptor};
use crate::shard::wake::Wake;
use crate::time::Instant;

/// The one group of provided buffers.
const GROUP: u16 = 0;
/// Looks at the kernel's work in one turn: a run of it brings some 32 datagrams of a port at most, and the
/// next run has to be asked for.
const LOOKS_MAX: usize = 4;
/// How long a shard rests at most while receiving on a port has failed, before it asks again.
const DEAF_PAUSE: Duration = Duration::from_millis(10);

/// How much a ring holds; all powers of two.
#[derive(Clone, Copy, Debug)]
pub(super) struct RingSizes {
    /// Datagrams received and not handled yet.
    pub(super) buffers: u16,
    /// Entries of the submission queue.
    pub(super) submissions: u32,
    /// Entries of the completion queue.
    pub(super) completions: u32,
}

impl Default for RingSizes {
    /// Four batches of datagrams, about a MiB.
    fn default() -> Self {
        Self {
            buffers: 256,
            submissions: 256,
            completions: 1024,
        }
    }
}

/// What an operation is, in its user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Receive { port: u8 },
    Send { port: u8, flight: u8 },
    Wake,
}

impl Operation {
    const fn encode(self) -> u64 {
        let bytes = match self {
            Self::Receive { port } => [0, port, 0],
            Self::Send { port, flight } => [1, port, flight],
            Self::Wake => [2, 0, 0],
        };
        u64::from_le_bytes([bytes[0], bytes[1], bytes[2], 0, 0, 0, 0, 0])
    }

    const fn decode(user_data: u64) -> Option<Self> {
        match user_data.to_le_bytes() {
            [0, port, ..] => Some(Self::Receive { port }),
            [1, port, flight, ..] => Some(Self::Send { port, flight }),
            [2, ..] => Some(Self::Wake),
            _ => None,
        }
    }
}

/// A datagram in a provided buffer.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    port: u8,
    buffer: u16,
    length: usize,
}

/// One of a shard's sockets, which the ring holds; its place in the list is its number there.
struct RingPort {
    port: Port,
    local_addresses: Option<Arc<LocalAddresses>>,
    armed: bool,
    /// When receiving failed last.
    failed_at: Option<Instant>,
}

/// A shard's sockets on a ring.
pub(in crate::shard) struct RingDriver {
    ring: IoUring,
    ports: Vec<RingPort>,
    memory: ManuallyDrop<Memory>,
    arrivals: VecDeque<Arrival>,
    /// Operations that the kernel has, or will have with the next enter, and not completed.
    under_way: usize,
    /// The ring's own event descriptor, written by the kernel while [`Self::prepare_idle`] says so.
    event: File,
    clock: Clock,
    wake: Arc<Wake>,
    wake_armed: bool,
    closing: bool,
    send_flags: i32,
    counts: Counts,
    /// The completion queue was full when it was looked at last.
    is_overflowing: bool,
    /// Completions that the kernel has said it dropped, as far as they have been seen to.
    dropped_known: u32,
    /// Times that completions were lost.
    losses: u64,
}

impl RingDriver {
    /// A ring for these sockets. Call on the thread that uses it.
    ///
    /// # Errors
    /// What the kernel lacks or refuses.
    pub(super) fn open(
        ports: Vec<(Port, Socket)>,
        wake: Arc<Wake>,
        sizes: RingSizes,
    ) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(sizes.completions)
            .build(sizes.submissions)?;
        let files: Vec<_> = ports.iter().map(|(_, socket)| socket.as_raw_fd()).collect();
        ring.submitter().register_files(&files)?;
        let event = event_descriptor()?;
        ring.submitter().register_eventfd(event.as_raw_fd())?;
        let mut driver = Self {
            ring,
            ports: ports
                .into_iter()
                .map(|(port, socket)| RingPort {
                    port,
                    local_addresses: socket.local_addresses().cloned(),
                    armed: false,
                    failed_at: None,
                })
                .collect(),
            memory: ManuallyDrop::new(Memory::new(sizes.buffers)),
            arrivals: VecDeque::with_capacity(sizes.buffers.into()),
            under_way: 0,
            event,
            clock: Clock::start(),
            wake,
            wake_armed: false,
            closing: false,
            send_flags: libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            counts: Counts::default(),
            is_overflowing: false,
            dropped_known: 0,
            losses: 0,
        };
        driver.ring.completion().disable_eventfd();
        driver.begin()?;
        Ok(driver)
    }

    /// Lends the kernel all buffers that hold no datagram, and begins the operations that are always
    /// under way. None is when this is called, and no buffers are registered.
    fn begin(&mut self) -> io::Result<()> {
        let buffers = &mut self.memory.buffers;
        // SAFETY: the ring of entries is page-aligned, as long as said, and stays where it is until it
        // is unregistered or, with `Memory`, never freed.
        unsafe {
            self.ring.submitter().register_buf_ring_with_flags(
                buffers.entries.as_ptr() as u64,
                buffers.count,
                GROUP,
                0,
            )?;
        }
        buffers.take_back();
        for id in 0..buffers.count {
            if !self.arrivals.iter().any(|arrival| arrival.buffer == id) {
                buffers.give(id);
            }
        }
        buffers.publish();
        self.arm();
        self.enter_once(0, None).map(drop)
    }

    /// The descriptor that becomes readable with the next completion, between
    /// [`Self::prepare_idle`] and [`Self::end_idle`].
    pub(super) const fn event(&self) -> &File {
        &self.event
    }

    /// What was done since the last call.
    pub(super) fn take_counts(&mut self) -> Counts {
        mem::take(&mut self.counts)
    }

    /// Gives the datagrams that arrived, at most a batch, to `handler`.
    pub(super) fn receive(&mut self, handler: &mut dyn Handler) -> io::Result<Received> {
        self.reap();
        let mut looks = 0;
        while self.arrivals.len() < BATCH && looks < LOOKS_MAX && self.has_kernel_work() {
            self.enter(0, None)?;
            looks += 1;
        }
        // A port that is not received from may have anything in its socket.
        let is_drained = looks < LOOKS_MAX && self.hears();
        let mut received = Received {
            datagrams: 0,
            is_empty: is_drained && self.arrivals.len() < BATCH,
        };
        while received.datagrams < BATCH && !self.arrivals.is_empty() {
            received.datagrams += self.receive_group(handler);
        }
        if received.datagrams > 0 {
            self.memory.buffers.publish();
        }
        self.arm();
        Ok(received)
    }

    /// Gives the next few datagrams to `handler`; returns how many.
    fn receive_group(&mut self, handler: &mut dyn Handler) -> usize {
        let Self {
            ports,
            memory,
            arrivals,
            ..
        } = self;
        let buffers = &mut memory.buffers;
        let port_of = |arrival: &Arrival| {
            let port = ports.get(usize::from(arrival.port))?;
            Some((port.port, port.local_addresses.as_deref()))
        };
        let count = arrivals.len().min(AHEAD);
        let mut senders = arrivals.iter().take(count).filter_map(|arrival| {
            let (port, known) = port_of(arrival)?;
            let (from, address) = sender(buffers.bytes(arrival.buffer, arrival.length), known)?;
            Some((from, Local { port, address }))
        });
        handler.foresee(&mut senders);
        for arrival in arrivals.drain(..count) {
            if let Some((port, known)) = port_of(&arrival)
                && let Some(datagram) = parse(buffers.bytes(arrival.buffer, arrival.length), known)
            {
                handler.handle(port, datagram);
            }
            buffers.give(arrival.buffer);
        }
        count
    }

    /// Whether an enter would bring something: entries to submit, or work that waits for one.
    fn has_kernel_work(&mut self) -> bool {
        let submissions = self.ring.submission();
        !submissions.is_empty() || submissions.taskrun() || submissions.cq_overflow()
    }

    /// Sends the outbox's datagrams and empties it.
    pub(super) fn send(&mut self, outbox: &mut Outbox) -> io::Result<()> {
        if outbox.is_sent() {
            return Ok(());
        }
        let mut free = self.memory.free_flight();
        if free.is_none() {
            self.enter(0, None)?;
            free = self.memory.free_flight();
        }
        let Some(number) = free else {
            // The kernel has not completed four outboxes: as for any datagram that is lost, the
            // retransmission of whoever misses it is the remedy.
            self.counts.refused += outbox.transmits().len() as u64;
            outbox.clear_transmits();
            return Ok(());
        };
        let ports = &self.ports;
        self.memory.flights[number].load(outbox, |transmit| {
            let Local { port, address } = transmit.local;
            let port = ports.iter().find(|known| known.port == port)?;
            let known = port.local_addresses.as_ref()?;
            known.source(address, transmit.to.ip())
        });
        for index in 0..self.memory.flights[number].transmits.len() {
            if self.ring.submission().is_full() {
                self.enter(0, None)?;
            }
            let flight = &mut self.memory.flights[number];
            let transmit = &flight.transmits[index];
            let port = self
                .ports
                .iter()
                .position(|p| p.port == transmit.local.port);
            let Some(port) = port.and_then(|port| u8::try_from(port).ok()) else {
                self.counts.refused += 1;
                continue;
            };
            let entry = flight
                .entry(index, port, self.send_flags)
                .user_data(send(port, number).encode());
            // SAFETY: payload, address and control message lie in the flight, which is not touched before
            // all its sends have completed, and is part of `Memory`.
            let pushed = unsafe { self.ring.submission().push(&entry) };
            if pushed.is_ok() {
                self.memory.flights[number].under_way += 1;
                self.under_way += 1;
            } else {
                self.counts.refused += 1;
            }
        }
        self.enter(0, None)
    }

    /// Sleeps until something completes, at most `time`.
    pub(super) fn wait(&mut self, time: Duration) -> io::Result<()> {
        self.wait_for(1, time)
    }

    /// Sleeps for `time`, or until half a batch has completed. A socket counts once, however much is in
    /// it, so that it is mostly the time.
    pub(super) fn gather(&mut self, time: Duration) -> io::Result<()> {
        self.wait_for(BATCH / 2, time)
    }

    fn wait_for(&mut self, completions: usize, time: Duration) -> io::Result<()> {
        self.reap();
        // A wake-up may have come already, with whatever system call was the last.
        if !self.arrivals.is_empty() || !self.wake_armed {
            return Ok(());
        }
        let time = if self.hears() {
            time
        } else {
            time.min(DEAF_PAUSE)
        };
        self.enter(completions, Some(time))
    }

    /// Whether the kernel receives on every port.
    fn hears(&self) -> bool {
        self.ports.iter().all(|port| port.armed)
    }

    /// Lets the kernel write the event descriptor from now on. `false`: there is something already.
    pub(super) fn prepare_idle(&mut self) -> io::Result<bool> {
        self.enter(0, None)?;
        if !self.hears() {
            if self.arrivals.is_empty() {
                self.enter(1, Some(DEAF_PAUSE))?;
            }
            return Ok(false);
        }
        self.ring.completion().enable_eventfd();
        self.reap();
        let is_armed = self.wake_armed && self.hears();
        let is_idle = self.arrivals.is_empty() && is_armed && !self.has_kernel_work();
        if !is_idle {
            self.end_idle();
        }
        Ok(is_idle)
    }

    /// Takes back [`Self::prepare_idle`].
    pub(super) fn end_idle(&mut self) {
        self.ring.completion().disable_eventfd();
    }

    /// Queues what must always be under way and is not.
    fn arm(&mut self) {
        if self.closing {
            return;
        }
        for (number, port) in (0_u8..).zip(&mut self.ports) {
            // Asked for again at once, it might fail without end.
            let is_paused = port
                .failed_at
                .is_some_and(|at| self.clock.instant().saturating_duration_since(at) < DEAF_PAUSE);
            if port.armed || is_paused {
                continue;
            }
            let header = &raw const *self.memory.header;
            let entry = opcode::RecvMsgMulti::new(Fixed(number.into()), header, GROUP)
                .build()
                .user_data(Operation::Receive { port: number }.encode());
            // SAFETY: the header is part of `Memory`; the buffers come from the registered ring.
            let pushed = unsafe { self.ring.submission().push(&entry) };
            port.armed = pushed.is_ok();
            self.under_way += usize::from(port.armed);
        }
        if !self.wake_armed {
            let event = Fd(self.wake.event().as_raw_fd());
            let value = (&raw mut *self.memory.wake_value).cast();
            let entry = opcode::Read::new(event, value, 8)
                .build()
                .user_data(Operation::Wake.encode());
            // SAFETY: the eight bytes are part of `Memory`, and nobody else looks at them.
            let pushed = unsafe { self.ring.submission().push(&entry) };
            self.wake_armed = pushed.is_ok();
            self.under_way += usize::from(self.wake_armed);
        }
    }

    /// Enters the kernel once: submits what is queued, and waits for `want` completions or `time`.
    fn enter(&mut self, want: usize, time: Option<Duration>) -> io::Result<()> {
        let entered = self.enter_once(want, time)?;
        // Whoever does not wait is not told, and finds the count only.
        if entered == Entered::Lost || self.dropped() > 0 {
            self.recover()?;
        }
        Ok(())
    }

    fn enter_once(&mut self, want: usize, time: Option<Duration>) -> io::Result<Entered> {
        let is_overflowing = self.ring.submission().cq_overflow();
        if is_overflowing && !self.is_overflowing {
            // The kernel has kept them, and posts them now.
            self.counts.completions_overflowed += 1;
        }
        self.is_overflowing = is_overflowing;
        let submitter = self.ring.submitter();
        let entered = match time {
            None => submitter.submit_and_wait(want),
            Some(time) => {
                let time = Timespec::from(time);
                submitter.submit_with_args(want, &SubmitArgs::new().timespec(&time))
            }
        };
        self.reap();
        outcome(entered)
    }

    /// Takes all completions that are there.
    fn reap(&mut self) {
        let mut completions = self.ring.completion();
        for completion in &mut completions {
            let flags = completion.flags();
            if !cqueue::more(flags) {
                self.under_way = self.under_way.saturating_sub(1);
            }
            let result = completion.result();
            match Operation::decode(completion.user_data()) {
                Some(Operation::Receive { port }) => {
                    if let Some(buffer) = cqueue::buffer_select(flags) {
                        let length = usize::try_from(result).unwrap_or(0);
                        self.arrivals.push_back(Arrival {
                            port,
                            buffer,
                            length,
                        });
                    }
                    match -result {
                        libc::ENOBUFS => self.counts.buffers_exhausted += 1,
                        libc::ECANCELED => {}
                        error if error > 0 => self.counts.receive_errors += 1,
                        _ => {}
                    }
                    if !cqueue::more(flags)
                        && let Some(port) = self.ports.get_mut(usize::from(port))
                    {
                        port.armed = false;
                        let is_failure = !matches!(-result, libc::ENOBUFS | libc::ECANCELED);
                        port.failed_at = (result < 0 && is_failure).then(|| self.clock.instant());
                    }
                }
                Some(Operation::Send { port, flight }) => {
                    self.memory.end_send(flight.into());
                    let port = self.ports.get(usize::from(port)).map(|port| port.port);
                    match (u64::try_from(result), port) {
                        (Ok(bytes), Some(port)) => self.counts.add_sent(port, 1, bytes),
                        _ => self.counts.refused += 1,
                    }
                }
                Some(Operation::Wake) => self.wake_armed = false,
                None => {}
            }
        }
    }
}

/// How an enter went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entered {
    Well,
    /// Completions were lost.
    Lost,
}

fn outcome(entered: io::Result<usize>) -> io::Result<Entered> {
    match entered {
        Ok(_) => Ok(Entered::Well),
        Err(error) => match error.raw_os_error() {
            // Time is over, or the kernel is short of something: what is queued stays queued.
            Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(Entered::Well),
            Some(libc::EBADR) => Ok(Entered::Lost),
            _ => Err(error),
        },
    }
}

impl Drop for RingDriver {
    fn drop(&mut self) {
        if self.quiesce() {
            // SAFETY: dropped once, here, and not used afterwards; no operation of the kernel is
            // left that could use it.
            unsafe { ManuallyDrop::drop(&mut self.memory) };
        } else {
            tracing::warn!(
                operations = self.under_way,
                "the kernel holds operations of a ring that ends: its memory stays allocated"
            );
        }
    }
}

fn send(port: u8, flight: usize) -> Operation {
    // A place in an array of four.
    let flight = u8::try_from(flight).unwrap_or(u8::MAX);
    Operation::Send { port, flight }
}

#[cfg(test)]
mod tests;
