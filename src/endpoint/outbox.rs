//! What a step of the endpoint produced: datagrams to send and requests to submit.
//!
//! The shard lends one `Outbox` to every step and empties it afterwards; its memory is reused, so a
//! busy shard allocates nothing here. Datagrams lie back to back in one buffer:
//!
//! ```text
//! bytes:     | datagram 0 | datagram 1 | datagram 2 ...
//! transmits:   {to, local, 0..a} {to, local, a..b} ...
//! ```

use std::net::SocketAddr;
use std::ops::Range;

use super::Local;
use crate::auth::request::{CredentialRequest, Request};
use crate::dtls;
use crate::wire::DatagramSink;

/// One datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The peer.
    pub to: SocketAddr,
    /// The socket that sends it, and the address that it is sent from.
    pub local: Local,
    /// Where its bytes lie in the outbox.
    pub range: Range<usize>,
}

/// A datagram for another shard: its connection id says that it is that shard's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// The shard that owns the connection id.
    pub shard: u16,
    /// Who sent the datagram.
    pub from: SocketAddr,
    /// The socket and the address that it came to.
    pub local: Local,
    /// Its bytes, as they came.
    pub datagram: Box<[u8]>,
}

/// Something about a peer that an operator may want to read in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// A handshake or connection ended with an error.
    Failed(SocketAddr, dtls::Error),
    /// The peer sent an alert: for example unknown_ca, of a client that does not trust the server.
    Alert(SocketAddr, dtls::AlertDescription),
    /// The shard holds as many sessions as it may, this many, and none was found to give way to a new device.
    SessionsFull(usize),
}

/// Notes kept of one step: a peer can cause them, so it cannot cause many.
const NOTES_MAX: usize = 8;

/// Output of the endpoint, lent by the shard.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    transmits: Vec<Transmit>,
    notes: Vec<Note>,
    /// Requests for the authenticator pool, in order of arrival.
    pub requests: Vec<Request>,
    /// Look-ups of pre-shared keys for the authenticator pool.
    pub credential_requests: Vec<CredentialRequest>,
    /// Datagrams for other shards.
    pub handovers: Vec<Handover>,
}

impl Outbox {
    /// Datagrams not yet sent.
    pub fn transmits(&self) -> &[Transmit] {
        &self.transmits
    }

    /// Bytes of a datagram listed in [`Self::transmits`].
    pub fn datagram(&self, transmit: &Transmit) -> &[u8] {
        &self.bytes[transmit.range.clone()]
    }

    /// Whether nothing is waiting to be sent.
    pub fn is_sent(&self) -> bool {
        self.transmits.is_empty()
    }

    /// Gives the datagrams away, with the memory that they lie in, for the memory given: a transmit's
    /// range counts from the start of `bytes` then.
    pub fn swap_transmits(&mut self, bytes: &mut Vec<u8>, transmits: &mut Vec<Transmit>) {
        std::mem::swap(&mut self.bytes, bytes);
        std::mem::swap(&mut self.transmits, transmits);
        self.clear_transmits();
    }

    /// Forgets the datagrams, keeping the memory.
    pub fn clear_transmits(&mut self) {
        self.bytes.clear();
        self.transmits.clear();
    }

    /// Adds a datagram of `length` zero bytes and lets `write` fill it.
    ///
    /// # Errors
    /// An error of `write` takes the datagram back and is handed on.
    pub fn push_with<E>(
        &mut self,
        to: SocketAddr,
        local: impl Into<Local>,
        length: usize,
        write: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.bytes.len();
        self.bytes.resize(start + length, 0);
        match write(&mut self.bytes[start..]) {
            Ok(()) => {
                self.transmits.push(Transmit {
                    to,
                    local: local.into(),
                    range: start..start + length,
                });
                Ok(())
            }
            Err(error) => {
                self.bytes.truncate(start);
                Err(error)
            }
        }
    }

    /// Adds a finished datagram.
    pub fn push(&mut self, to: SocketAddr, local: impl Into<Local>, datagram: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(datagram);
        self.transmits.push(Transmit {
            to,
            local: local.into(),
            range: start..self.bytes.len(),
        });
    }

    /// Adds a note, unless there are enough of this step; whether it did.
    pub fn note(&mut self, note: Note) -> bool {
        let has_room = self.notes.len() < NOTES_MAX;
        if has_room {
            self.notes.push(note);
        }
        has_room
    }

    /// Takes the notes.
    pub fn take_notes(&mut self) -> impl Iterator<Item = Note> + '_ {
        self.notes.drain(..)
    }

    /// A sink whose datagrams all go to one peer.
    pub fn to(&mut self, to: SocketAddr, local: Local) -> PeerSink<'_> {
        self.limited(to, local, usize::MAX)
    }

    /// The same, for no more than `allowance` bytes: a datagram that is too long is refused.
    pub fn limited(&mut self, to: SocketAddr, local: Local, allowance: usize) -> PeerSink<'_> {
        PeerSink {
            outbox: self,
            to,
            local,
            allowance,
            sent: 0,
            refused: 0,
        }
    }
}

/// Sends every datagram to one peer.
#[derive(Debug)]
pub struct PeerSink<'a> {
    outbox: &'a mut Outbox,
    to: SocketAddr,
    local: Local,
    allowance: usize,
    sent: usize,
    refused: u32,
}

impl PeerSink<'_> {
    /// Bytes that went out.
    pub const fn sent(&self) -> usize {
        self.sent
    }

    /// Datagrams beyond the allowance.
    pub const fn refused(&self) -> u32 {
        self.refused
    }
}

impl DatagramSink for PeerSink<'_> {
    fn push_datagram(&mut self, datagram: &[u8]) {
        if datagram.len() > self.allowance - self.sent {
            self.refused += 1;
            return;
        }
        self.sent += datagram.len();
        self.outbox.push(self.to, self.local, datagram);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Port;
    use super::*;

    #[test]
    fn datagrams_keep_their_bytes_and_a_failed_write_leaves_no_trace() {
        let to = "127.0.0.1:7".parse().unwrap();
        let mut outbox = Outbox::default();
        outbox.push(to, Port::Plain, b"one");
        assert_eq!(
            outbox.push_with(to, Port::Secure, 9, |_| Err("no")),
            Err("no")
        );
        outbox
            .push_with(to, Port::Secure, 2, |bytes| {
                bytes.copy_from_slice(b"2!");
                Ok::<(), ()>(())
            })
            .unwrap();
        let sent: Vec<_> = outbox
            .transmits()
            .iter()
            .map(|t| (t.local.port, outbox.datagram(t)))
            .collect();
        assert_eq!(
            sent,
            [(Port::Plain, &b"one"[..]), (Port::Secure, &b"2!"[..])]
        );
        let (mut bytes, mut transmits) = (b"old".to_vec(), Vec::new());
        outbox.swap_transmits(&mut bytes, &mut transmits);
        assert!(outbox.is_sent());
        assert_eq!(&bytes[transmits[1].range.clone()], b"2!");
        outbox.push(to, Port::Plain, b"3");
        assert_eq!(outbox.transmits()[0].range, 0..1);
        outbox.clear_transmits();
        assert!(outbox.is_sent());
    }
}
