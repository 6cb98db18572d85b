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

    /// Sends this port's datagrams of `outbox`.
    pub(super) fn send(&self, outbox: &Outbox) -> Sent {
        let mut pending = outbox.transmits().iter().filter(|t| t.port == self.port);
        let mut result = Sent::default();
        loop {
            let batch = pending
                .clone()
                .take(BATCH)
                .map(|t| (t.to, outbox.datagram(t)));
            let (offered, sent) = match self.socket.send(batch) {
                Ok(sent) => (sent.max(1), sent),
                Err(_) => (1, 0),
            };
            let mut any = false;
            for (index, transmit) in pending.by_ref().take(offered).enumerate() {
                any = true;
                if index < sent {
                    result.datagrams += 1;
                    result.bytes += transmit.range.len() as u64;
                } else {
                    // Not taken, for whatever reason. As for any datagram that is lost, the
                    // retransmission of whoever misses it is the remedy.
                    result.refused += 1;
                }
            }
            if !any {
                return result;
            }
        }
    }

    /// What waits for the socket on the executor's ring. Call within the executor.
    pub(super) fn waiter(&self) -> io::Result<Waiter> {
        let descriptor: OwnedFd = self.socket.try_clone()?.into();
        // SAFETY: the descriptor is a UDP socket, open, and given up by its owner here.
        Ok(Waiter(unsafe {
            UdpSocket::from_raw_fd(descriptor.into_raw_fd())
        }))
    }
}

/// What became of an outbox's datagrams.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) datagrams: u64,
    pub(super) bytes: u64,
    /// Datagrams that the kernel did not take.
    pub(super) refused: u64,
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
