//! How a device's datagrams leave: by a socket of its own, or by a hub.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};

use tidegate::wire::DatagramSink;

use super::batch::Batch;
use super::hub::Hub;
use crate::stats::Counters;

/// A device's place on the network.
#[derive(Debug)]
pub(crate) enum Way {
    /// A socket of its own, connected.
    Own(UdpSocket),
    /// An address at a hub of its thread.
    Shared {
        /// The hub's index.
        hub: usize,
        /// The device's address.
        source: Ipv4Addr,
    },
}

/// The hubs of one thread, with the memory of their system calls.
#[derive(Debug)]
pub(crate) struct Hubs {
    pub(super) hubs: Vec<Hub>,
    pub(super) batch: Batch,
}

impl Hubs {
    pub(crate) fn new() -> Self {
        Self {
            hubs: Vec::new(),
            batch: Batch::new(),
        }
    }

    fn push(&mut self, hub: usize, source: Ipv4Addr, datagram: &[u8], counters: &mut Counters) {
        let Some(hub) = self.hubs.get_mut(hub) else {
            return;
        };
        hub.push(source, datagram);
        if hub.is_full() {
            hub.flush(&mut self.batch, counters);
        }
    }

    /// Sends what waits at any hub.
    pub(crate) fn flush(&mut self, counters: &mut Counters) {
        for hub in &mut self.hubs {
            hub.flush(&mut self.batch, counters);
        }
    }

    /// Takes what is there for a hub, at most a batch; returns how many datagrams.
    pub(crate) fn receive(&mut self, hub: usize, counters: &mut Counters) -> usize {
        match self.hubs.get(hub) {
            Some(hub) => hub.receive(&mut self.batch, counters),
            None => 0,
        }
    }

    /// Copies datagram number `index` of the last [`Self::receive`] into `buffer`; returns which of the
    /// hub's devices it is for, and its length.
    pub(crate) fn take(
        &mut self,
        hub: usize,
        index: usize,
        buffer: &mut [u8],
    ) -> Option<(usize, usize)> {
        let (address, datagram) = self.batch.datagram(index)?;
        let place = buffer.get_mut(..datagram.len())?;
        place.copy_from_slice(datagram);
        let offset = self.hubs.get(hub)?.offset_of(address)?;
        Some((offset, place.len()))
    }
}

/// A device's way for the length of one step, with the counters of what happens on it.
pub(crate) struct Wire<'a> {
    pub(crate) way: &'a Way,
    pub(crate) hubs: &'a mut Hubs,
    pub(crate) counters: &'a mut Counters,
}

impl DatagramSink for Wire<'_> {
    /// Sends; a datagram that cannot be sent is lost and counted, as on any network.
    fn push_datagram(&mut self, datagram: &[u8]) {
        match self.way {
            Way::Own(socket) => send(socket, datagram, self.counters),
            &Way::Shared { hub, source } => self.hubs.push(hub, source, datagram, self.counters),
        }
    }
}

/// Sends on a connected socket.
pub(crate) fn send(socket: &UdpSocket, datagram: &[u8], counters: &mut Counters) {
    for _ in 0..2 {
        match socket.send(datagram) {
            Ok(_) => return,
            // The answer to an earlier datagram; this one was not sent yet.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => counters.refused += 1,
            Err(_) => break,
        }
    }
    counters.unsent_datagrams += 1;
}
