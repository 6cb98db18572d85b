//! One socket for many devices: each has an address of 127.0.0.0/8 of its own, all have one port.
//!
//! ```text
//! device 0  127.1.0.1 --.                         .-- sendmmsg, each from its device's address
//! device 1  127.1.0.2 ---+-- 0.0.0.0:PORT, a hub --+
//! device 2  127.1.0.3 --'                         '-- recvmmsg, the address tells the device
//! ```
//!
//! To the server they are as many peers as with a socket each, and 64 of them cost one system call.
//! A hub has no more devices than its receive buffer has room for the datagrams of, so none is lost
//! here that a socket each would have kept.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::ops::Range;

use super::batch::{self, BATCH, Batch};
use crate::stats::Counters;

/// Room in the receive buffer for one device: a flight of a handshake in two datagrams, as the kernel
/// counts them.
const BYTES_PER_DEVICE: usize = 4608;
const RECEIVE_BUFFER_BYTES: i32 = 32 << 20;
/// Devices of one hub, even where the buffer has less room: the handshakes of a fleet that connects
/// are limited, and answers to requests are short.
pub(super) const DEVICES_MIN: usize = 64;
/// Addresses from 127.1.0.1 on; those from 127.64.0.0 on are strangers'.
const FIRST_ADDRESS: u32 = 0x7f01_0001;
const ADDRESSES: u32 = 0x003e_0000;

/// A socket with its devices' datagrams.
#[derive(Debug)]
pub(crate) struct Hub {
    socket: UdpSocket,
    target: SocketAddrV4,
    /// Of its first device.
    first_address: u32,
    bytes: Vec<u8>,
    /// Datagrams to be sent: from where, and where they are in `bytes`.
    waiting: Vec<(Ipv4Addr, Range<usize>)>,
}

impl Hub {
    /// A hub for devices from the fleet's number `first` on, and how many it has room for.
    pub(super) fn open(target: SocketAddrV4, first: usize) -> io::Result<(Self, usize)> {
        let socket = UdpSocket::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?;
        socket.set_nonblocking(true)?;
        batch::set_up(&socket)?;
        let granted = batch::grow_receive_buffer(&socket, RECEIVE_BUFFER_BYTES)?;
        let hub = Self {
            socket,
            target,
            first_address: address_of(first).to_bits(),
            bytes: Vec::new(),
            waiting: Vec::new(),
        };
        // Two devices of one hub never have one address.
        let until_wrap = (FIRST_ADDRESS + ADDRESSES - hub.first_address) as usize;
        let room = (granted / BYTES_PER_DEVICE).max(DEVICES_MIN);
        Ok((hub, room.min(until_wrap)))
    }

    pub(super) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Adds a datagram of the device with address `source`.
    pub(super) fn push(&mut self, source: Ipv4Addr, datagram: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(datagram);
        self.waiting.push((source, start..self.bytes.len()));
    }

    /// Whether a batch waits to be sent.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= BATCH
    }

    /// Sends what waits. What the host has no room for is lost and counted, as on any network.
    pub(super) fn flush(&mut self, batch: &mut Batch, counters: &mut Counters) {
        let Self {
            socket,
            target,
            bytes,
            waiting,
            ..
        } = self;
        let mut rest = &waiting[..];
        let mut again = true;
        while !rest.is_empty() {
            let done = match batch.send(socket, *target, bytes, rest) {
                Ok(sent) => {
                    again = true;
                    sent
                }
                // The answer to an earlier datagram; this one was not sent yet.
                Err(error) if again && error.kind() == ErrorKind::ConnectionRefused => {
                    counters.refused += batch::take_errors(socket).max(1);
                    again = false;
                    0
                }
                Err(_) => {
                    counters.unsent_datagrams += 1;
                    1
                }
            };
            rest = rest.get(done..).unwrap_or_default();
        }
        bytes.clear();
        waiting.clear();
    }

    /// Takes what is there, at most a batch; returns how many datagrams.
    pub(super) fn receive(&self, batch: &mut Batch, counters: &mut Counters) -> usize {
        match batch.receive(&self.socket) {
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // What woke us was an error, if anything.
                counters.refused += batch::take_errors(&self.socket);
                0
            }
            Err(_) => {
                counters.refused += batch::take_errors(&self.socket);
                0
            }
        }
    }

    /// Which of the hub's devices has an address.
    pub(super) fn offset_of(&self, address: Ipv4Addr) -> Option<usize> {
        let offset = address.to_bits().checked_sub(self.first_address)?;
        usize::try_from(offset).ok()
    }
}

/// The address of the fleet's device number `number`.
pub(super) fn address_of(number: usize) -> Ipv4Addr {
    let number = u32::try_from(number % ADDRESSES as usize).unwrap_or(0);
    Ipv4Addr::from_bits(FIRST_ADDRESS + number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_of_a_hub_have_addresses_and_get_their_own_datagrams() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let SocketAddr::V4(target) = server.local_addr().unwrap() else {
            panic!("of IPv4");
        };
        let (mut hub, room) = Hub::open(target, 1000).unwrap();
        assert!(room >= DEVICES_MIN);
        let (mut batch, mut counters) = (Batch::new(), Counters::default());
        for device in 1000..1100 {
            hub.push(address_of(device), format!("from {device}").as_bytes());
        }
        assert!(hub.is_full());
        hub.flush(&mut batch, &mut counters);
        let mut buffer = [0; 100];
        for device in 1000..1100 {
            let (length, from) = server.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], format!("from {device}").as_bytes());
            assert_eq!(from.ip(), address_of(device));
            server.send_to(&buffer[..length], from).unwrap();
        }
        let mut next = 0;
        while next < 100 {
            let received = hub.receive(&mut batch, &mut counters);
            assert!(received > 0);
            for index in 0..received {
                let (to, bytes) = batch.datagram(index).unwrap();
                assert_eq!(bytes, format!("from {}", 1000 + next).as_bytes());
                assert_eq!(hub.offset_of(to), Some(next));
                next += 1;
            }
            assert!(batch.datagram(received).is_none());
        }
        assert_eq!(counters, Counters::default());
        assert_eq!(hub.offset_of(Ipv4Addr::LOCALHOST), None);
    }

    #[test]
    fn that_nobody_listens_is_noticed() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let SocketAddr::V4(target) = server.local_addr().unwrap() else {
            panic!("of IPv4");
        };
        drop(server);
        let (mut hub, _) = Hub::open(target, 0).unwrap();
        let (mut batch, mut counters) = (Batch::new(), Counters::default());
        hub.push(address_of(0), b"x");
        hub.flush(&mut batch, &mut counters);
        assert_eq!(hub.receive(&mut batch, &mut counters), 0);
        assert_eq!((counters.refused, counters.unsent_datagrams), (1, 0));
    }

    #[test]
    fn addresses_stay_clear_of_strangers_and_repeat_late() {
        assert_eq!(address_of(0).to_string(), "127.1.0.1");
        let last = ADDRESSES as usize - 1;
        assert!(address_of(last).octets()[1] < 64);
        assert_eq!(address_of(last + 1), address_of(0));
    }
}
