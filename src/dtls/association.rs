//! All DTLS state of one peer address.

use super::config::Context;
use super::error::Error;
use super::received::Received;
use crate::crypto::key_exchange::NamedGroup;
use crate::crypto::suite::CipherSuite;
use crate::time::{Instant, Now};

/// What the stateless door made of a datagram.
#[derive(Debug)]
pub enum Accepted {
    /// No state: dropped, or answered by a HelloVerifyRequest.
    Nothing,
    /// The cookie was valid, but the handshake failed at once; the peer was told.
    Refused(Error),
    /// The cookie was valid and a handshake runs.
    New(Association),
}

/// The plaintext could not be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No handshake was completed yet, or the connection was closed.
    #[error("no session")]
    NotEstablished,
    /// Shorter than the overhead, or more plaintext than 2^14 bytes.
    #[error("a record cannot have this length")]
    Length,
    /// The sequence numbers are used up: only a new handshake helps (RFC 6347 section 4.1).
    #[error("the record sequence numbers are used up")]
    SequenceExhausted,
}

/// All DTLS state of one peer address: the live connection, and a handshake beside it.
#[derive(Debug)]
pub struct Association {}

/// Takes a datagram of an address without an association; nothing is stored unless it brings a
/// valid cookie. `peer` is the address and port in a fixed encoding.
pub fn accept(_now: Now, _peer: &[u8], _datagram: &mut [u8], _cx: &mut Context<'_>) -> Accepted {
    Accepted::Nothing
}

impl Association {
    /// Takes one datagram of the peer and decrypts its records in place.
    pub fn handle_datagram(
        &mut self,
        _now: Now,
        _peer: &[u8],
        _datagram: &mut [u8],
        _cx: &mut Context<'_>,
    ) -> Received {
        Received::default()
    }

    /// Does what is due; `false` when nothing is left and the association is to be forgotten.
    #[must_use]
    pub fn handle_timeout(&mut self, _now: Now, _cx: &mut Context<'_>) -> bool {
        true
    }

    /// When [`Self::handle_timeout`] is due; `None` when nothing is.
    pub fn next_timeout(&self) -> Option<Instant> {
        None
    }

    /// Whether application data can be sent.
    pub fn is_established(&self) -> bool {
        false
    }

    /// Whether a handshake is running, first or parallel.
    pub fn is_handshaking(&self) -> bool {
        false
    }

    /// Device fingerprint of the leaf whose key the peer proved in the live session.
    pub fn peer_fingerprint(&self) -> Option<[u8; 32]> {
        None
    }

    /// Cipher suite of the live session.
    pub fn suite(&self) -> Option<CipherSuite> {
        None
    }

    /// Group of the key exchange of the live session.
    pub fn group(&self) -> Option<NamedGroup> {
        None
    }

    /// Bytes before and behind the plaintext in a record of the live session; (0, 0) without one.
    pub fn record_overhead(&self) -> (usize, usize) {
        (0, 0)
    }

    /// Seals application data in place: `record` is `prefix | plaintext | suffix` with the lengths
    /// of [`Self::record_overhead`], and is a complete datagram afterwards.
    ///
    /// # Errors
    ///
    /// [`SealError`]; `record` must not be sent then.
    pub fn seal_application_data(&mut self, _record: &mut [u8]) -> Result<(), SealError> {
        Err(SealError::NotEstablished)
    }

    /// Drops the expanded keys, several hundred bytes; they come back by themselves, at the price
    /// of a key expansion. For sessions that have been silent for a while.
    pub fn forget_expanded_keys(&mut self) {}

    /// Sends close_notify (RFC 5246 section 7.2.1) and forgets everything.
    pub fn close(&mut self, _cx: &mut Context<'_>) {}
}
