//! Datagrams in memory: the shard's owner brings them, and takes what was sent.
//!
//! Bytes are copied where a kernel would copy them, into memory that is used again: a turn on this
//! driver allocates nothing of its own once its buffers have grown, so that whatever is allocated in a
//! turn is the shard's.

use std::collections::VecDeque;
use std::mem;
use std::net::SocketAddr;

use super::{Counts, Handler, Received};
use crate::endpoint::{AHEAD, LocalAddress, Outbox, Port};
use crate::shard::socket::{DATAGRAM_MAX, Datagram};

/// A datagram that arrives, with the other end's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryDatagram {
    /// Who sent it.
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
    /// Buffers of datagrams that were received: as many as ever waited together.
    spare: Vec<Vec<u8>>,
    /// Copies of what was sent.
    sent: Outbox,
    counts: Counts,
}

impl MemoryDriver {
    /// Gives at most `batch` datagrams at a time.
    pub(in crate::shard) fn new(batch: usize) -> Self {
        Self {
            batch,
            arrived: VecDeque::new(),
            spare: Vec::new(),
            sent: Outbox::default(),
            counts: Counts::default(),
        }
    }

    /// A datagram arrives, and waits until it is received.
    pub(in crate::shard) fn arrive(&mut self, datagram: &MemoryDatagram) {
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(&datagram.bytes);
        self.arrived
            .push_back(MemoryDatagram { bytes, ..*datagram });
    }

    /// Datagrams that wait.
    pub(in crate::shard) fn waiting(&self) -> usize {
        self.arrived.len()
    }

    /// Gives what was sent since the last call to `take`: the receiver, our port, the bytes.
    pub(in crate::shard) fn take_sent(&mut self, mut take: impl FnMut(SocketAddr, Port, &[u8])) {
        for transmit in self.sent.transmits() {
            take(
                transmit.to,
                transmit.local.port,
                self.sent.datagram(transmit),
            );
        }
        self.sent.clear_transmits();
    }

    pub(super) fn take_counts(&mut self) -> Counts {
        mem::take(&mut self.counts)
    }

    /// Gives the datagrams that arrived, at most a batch, to `handler`.
    pub(super) fn receive(&mut self, handler: &mut dyn Handler) -> Received {
        let datagrams = self.batch.min(self.arrived.len());
        for start in (0..datagrams).step_by(AHEAD) {
            let group = AHEAD.min(datagrams - start);
            let senders = self.arrived.iter().take(group);
            handler.foresee(&mut senders.map(|datagram| (datagram.peer, datagram.port.into())));
            for mut datagram in self.arrived.drain(..group) {
                let truncated = datagram.bytes.len() > DATAGRAM_MAX;
                datagram.bytes.truncate(DATAGRAM_MAX);
                let arrival = Datagram {
                    from: datagram.peer,
                    at: LocalAddress::ANY,
                    bytes: &mut datagram.bytes,
                    truncated,
                };
                handler.handle(datagram.port, arrival);
                self.spare.push(datagram.bytes);
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
            self.counts
                .add_sent(transmit.local.port, 1, bytes.len() as u64);
            self.sent.push(transmit.to, transmit.local, bytes);
        }
        outbox.clear_transmits();
    }
}
