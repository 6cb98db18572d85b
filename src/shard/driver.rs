//! How a shard gets and gives datagrams: a batch in, a batch out.
//!
//! glommio's own UDP path makes a system call per datagram, so the datagrams themselves travel by
//! recvmmsg and sendmmsg; glommio's socket only waits, on the executor's ring, for the next one.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use glommio::net::UdpSocket;

use super::socket::{BATCH, ReceiveBatch, Socket};
use crate::endpoint::{Outbox, Port};

/// One of a shard's sockets, with its waiter.
pub(super) struct BoundPort {
    pub(super) port: Port,
    socket: Socket,
}

impl BoundPort {
    pub(super) fn new(port: Port, socket: Socket) -> Self {
        Self { port, socket }
    }

    /// Takes what has arrived, up to a batch.
    pub(super) fn receive(&self, batch: &mut ReceiveBatch) -> io::Result<usize> {
        self.socket.receive(batch)
    }

    /// Sends this port's datagrams of `outbox`; returns how many the kernel refused.
    pub(super) fn send(&self, outbox: &Outbox) -> u64 {
        let mut pending = outbox.transmits().iter().filter(|t| t.port == self.port).peekable();
        let mut refused = 0;
        while pending.peek().is_some() {
            let batch = pending.clone().take(BATCH).map(|t| (t.to, outbox.datagram(t)));
            let sent = match self.socket.send(batch) {
                Ok(sent) if sent > 0 => sent,
                // The first one was not taken, for whatever reason: its sender's retransmission is
                // the remedy, as for any datagram that is lost.
                _ => {
                    refused += 1;
                    1
                }
            };
            pending.by_ref().take(sent).for_each(drop);
        }
        refused
    }

    /// What waits for the socket on the executor's ring. Call within the executor.
    pub(super) fn waiter(&self) -> io::Result<Waiter> {
        let descriptor: OwnedFd = self.socket.try_clone()?.into();
        // SAFETY: the descriptor is a UDP socket, open, and given up by its owner here.
        Ok(Waiter(unsafe { UdpSocket::from_raw_fd(descriptor.into_raw_fd()) }))
    }
}

/// Waits for datagrams on the executor's ring without taking them.
pub(super) struct Waiter(UdpSocket);

impl Waiter {
    /// Returns once a datagram, or a socket error, is there.
    ///
    /// An error (such as a port unreachable that came back) has been consumed by the wait.
    pub(super) async fn readable(&self) {
        let _ = self.0.peek_from(&mut [0; 1]).await;
    }
}
