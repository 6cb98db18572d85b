//! Datagrams in memory: the shard's owner brings them, and takes what was sent.

use std::collections::VecDeque;
use std::mem;
use std::net::SocketAddr;

use super::{Counts, Handler, Received};
use crate::endpoint::{AHEAD, Outbox, Port};
use crate::shard::socket::{DATAGRAM_MAX, Datagram};

/// A datagram, with the other end's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryDatagram {
    /// Who sent it, or is to get it.
    pub peer: SocketAddr,
    /// The port of ours.
    pub port: Port,
    /// What it carries.
    pub bytes: Vec<u8>,
}

/// A shard's sockets that are none.
#[derive(Debug)]
pub(in crate::shard) struct MemoryDriver {
    /// Datagrams of one look.
    batch: usize,
    arrived: VecDeque<MemoryDatagram>,
    sent: Vec<MemoryDatagram>,
    counts: Counts,
}

impl MemoryDriver {
    /// Gives at most `batch` datagrams at a time.
    pub(in crate::shard) fn new(batch: usize) -> Self {
        Self {
            batch,
            arrived: VecDeque::new(),
            sent: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// A datagram arrives, and waits until it is received.
    pub(in crate::shard) fn arrive(&mut self, datagram: MemoryDatagram) {
        self.arrived.push_back(datagram);
    }

    /// Datagrams that wait.
    pub(in crate::shard) fn waiting(&self) -> usize {
        self.arrived.len()
    }

    /// What was sent since the last call.
    pub(in crate::shard) fn take_sent(&mut self) -> Vec<MemoryDatagram> {
        mem::take(&mut self.sent)
    }

    pub(super) fn take_counts(&mut self) -> Counts {
        mem::take(&mut self.counts)
    }

    /// Gives the datagrams that arrived, at most a batch, to `handler`.
    pub(super) fn receive(&mut self, handler: &mut dyn Handler) -> Received {
        let datagrams = self.batch.min(self.arrived.len());
        let mut taken = self.arrived.drain(..datagrams);
        loop {
            let mut group: Vec<_> = taken.by_ref().take(AHEAD).collect();
            if group.is_empty() {
                break;
            }
            handler.foresee(&mut group.iter().map(|datagram| (datagram.peer, datagram.port)));
            for datagram in &mut group {
                let truncated = datagram.bytes.len() > DATAGRAM_MAX;
                datagram.bytes.truncate(DATAGRAM_MAX);
                let arrival = Datagram {
                    from: datagram.peer,
                    bytes: &mut datagram.bytes,
                    truncated,
                };
                handler.handle(datagram.port, arrival);
            }
        }
        Received {
            datagrams,
            // As of a socket: a full batch says nothing of what is behind it.
            is_empty: datagrams < self.batch,
        }
    }

    /// Sends the outbox's datagrams and empties it.
    pub(super) fn send(&mut self, outbox: &mut Outbox) {
        for transmit in outbox.transmits() {
            let bytes = outbox.datagram(transmit);
            self.counts.add_sent(transmit.port, 1, bytes.len() as u64);
            self.sent.push(MemoryDatagram {
                peer: transmit.to,
                port: transmit.port,
                bytes: bytes.to_vec(),
            });
        }
        outbox.clear_transmits();
    }
}
