//! Datagrams by recvmmsg and sendmmsg: a system call per batch and direction, on any kernel.

use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use super::{Counts, Handler, Received};
use crate::endpoint::{AHEAD, Local, Outbox, Port};
use crate::shard::socket::{BATCH, ReceiveBatch, Socket, wait_readable};
use crate::shard::wake::Wake;

/// A shard's sockets.
pub(in crate::shard) struct MmsgDriver {
    ports: Vec<(Port, Socket)>,
    batch: ReceiveBatch,
    wake: Arc<Wake>,
    /// What [`Self::wait`] waits on: the event first, then the sockets.
    descriptors: Vec<libc::pollfd>,
    counts: Counts,
}

impl MmsgDriver {
    pub(super) fn new(ports: Vec<(Port, Socket)>, wake: Arc<Wake>) -> Self {
        let sockets = ports.iter().map(|(_, socket)| socket.as_raw_fd());
        let descriptors = std::iter::once(wake.event().as_raw_fd()).chain(sockets);
        let descriptors = descriptors.map(|fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        });
        Self {
            descriptors: descriptors.collect(),
            ports,
            batch: ReceiveBatch::default(),
            wake,
            counts: Counts::default(),
        }
    }

    pub(super) fn sockets(&self) -> impl Iterator<Item = &Socket> {
        self.ports.iter().map(|(_, socket)| socket)
    }

    /// What was done since the last call.
    pub(super) fn take_counts(&mut self) -> Counts {
        mem::take(&mut self.counts)
    }

    /// Gives the datagrams that arrived, at most a batch of each port, to `handler`.
    pub(super) fn receive(&mut self, handler: &mut dyn Handler) -> Received {
        let mut received = Received {
            datagrams: 0,
            is_empty: true,
        };
        for (port, socket) in &self.ports {
            let Ok(count) = socket.receive(&mut self.batch) else {
                self.counts.receive_errors += 1;
                continue;
            };
            received.datagrams += count;
            received.is_empty &= count < BATCH;
            for start in (0..count).step_by(AHEAD) {
                let group = start..count.min(start + AHEAD);
                let senders = self.batch.senders(group.clone());
                handler.foresee(&mut senders.map(|(from, address)| {
                    let port = *port;
                    (from, Local { port, address })
                }));
                for datagram in self.batch.datagrams(group) {
                    handler.handle(*port, datagram);
                }
            }
        }
        received
    }

    /// Sends the outbox's datagrams and empties it.
    pub(super) fn send(&mut self, outbox: &mut Outbox) {
        for (port, socket) in &self.ports {
            send(*port, socket, outbox, &mut self.counts);
        }
        outbox.clear_transmits();
    }

    /// Sleeps until a datagram is there or the shard is woken, at most `time`.
    pub(super) fn wait(&mut self, time: Duration) -> io::Result<()> {
        // An interrupted wait may leave the last one's.
        self.descriptors[0].revents = 0;
        wait_readable(&mut self.descriptors, time)?;
        if self.descriptors[0].revents != 0 {
            self.wake.clear();
        }
        Ok(())
    }
}

fn send(port: Port, socket: &Socket, outbox: &Outbox, counts: &mut Counts) {
    let mut pending = outbox.transmits().iter().filter(|t| t.local.port == port);
    loop {
        let batch = pending
            .clone()
            .take(BATCH)
            .map(|t| (t.to, t.local.address, outbox.datagram(t)));
        let (offered, sent) = match socket.send(batch) {
            Ok(sent) => (sent.max(1), sent),
            Err(_) => (1, 0),
        };
        let mut any = false;
        for (index, transmit) in pending.by_ref().take(offered).enumerate() {
            any = true;
            if index < sent {
                counts.add_sent(port, 1, transmit.range.len() as u64);
            } else {
                // Not taken, for whatever reason. As for any datagram that is lost, the
                // retransmission of whoever misses it is the remedy.
                counts.refused += 1;
            }
        }
        if !any {
            return;
        }
    }
}
