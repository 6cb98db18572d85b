//! Handshake messages (RFC 5246 section 7.4, RFC 6347 section 4.2.2): bytes to meaning and back.
//!
//! ```text
//!  0      1        4             6                 9                 12
//! +------+--------+-------------+-----------------+-----------------+---------
//! | type | length | message_seq | fragment_offset | fragment_length | fragment
//! +------+--------+-------------+-----------------+-----------------+---------
//! ```
//!
//! Decoders borrow, check every length, consume the whole body and allocate nothing.

mod certificate;
mod certificate_request;
mod certificate_verify;
mod client_hello;
mod client_key_exchange;
mod extension;
mod hello_verify_request;
mod new_session_ticket;
mod pre_shared_key;
mod server_hello;
mod server_key_exchange;
#[cfg(test)]
mod tests;

pub(super) use certificate::{Certificate, emit_certificate};
#[cfg(any(test, feature = "client"))]
pub(super) use certificate_request::CertificateRequest;
pub(super) use certificate_request::emit_certificate_request;
pub(super) use certificate_verify::CertificateVerify;
#[cfg(any(test, feature = "client"))]
pub(super) use client_hello::emit_client_hello;
pub(super) use client_hello::{ClientHello, HelloPrefix};
pub(super) use client_key_exchange::ClientKeyExchange;
pub use extension::MaxFragmentLength;
pub(super) use extension::UNCOMPRESSED;
#[cfg(any(test, feature = "client"))]
pub(super) use hello_verify_request::HelloVerifyRequest;
pub(super) use hello_verify_request::encode_hello_verify_request;
#[cfg(any(test, feature = "client"))]
pub(super) use new_session_ticket::NewSessionTicket;
pub(super) use new_session_ticket::emit_new_session_ticket;
#[cfg(any(test, feature = "client"))]
pub(super) use pre_shared_key::PskServerKeyExchange;
pub(super) use pre_shared_key::{PskClientKeyExchange, emit_psk_server_key_exchange};
#[cfg(any(test, feature = "client"))]
pub(super) use server_hello::ReceivedServerHello;
pub(super) use server_hello::ServerHello;
#[cfg(any(test, feature = "client"))]
pub(super) use server_key_exchange::ServerKeyExchange;
pub(super) use server_key_exchange::{EcdhParameters, emit_server_key_exchange};

use crate::drop_reason::DropReason;
use crate::wire::{Reader, Truncated};

/// Length of a handshake message's header, which every fragment repeats.
pub(super) const MESSAGE_HEADER_LEN: usize = 12;
/// Longest handshake message that is put together, in bytes of body (TB 3.1).
pub(super) const MESSAGE_LEN_MAX: usize = 8192;
/// Length of the body of Finished (RFC 5246 section 7.4.9).
pub(super) const VERIFY_DATA_LEN: usize = 12;

/// The kind of a handshake message (RFC 5246 section 7.4, RFC 6347 section 4.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum HandshakeType {
    HelloRequest = 0,
    ClientHello = 1,
    ServerHello = 2,
    HelloVerifyRequest = 3,
    NewSessionTicket = 4,
    Certificate = 11,
    ServerKeyExchange = 12,
    CertificateRequest = 13,
    ServerHelloDone = 14,
    CertificateVerify = 15,
    ClientKeyExchange = 16,
    Finished = 20,
    /// Any other number: allowed nowhere (RFC 5246 section 7.4), which is said when its turn comes.
    Unknown = 255,
}

impl HandshakeType {
    pub(super) const fn from_code(code: u8) -> Self {
        match code {
            0 => Self::HelloRequest,
            1 => Self::ClientHello,
            2 => Self::ServerHello,
            3 => Self::HelloVerifyRequest,
            4 => Self::NewSessionTicket,
            11 => Self::Certificate,
            12 => Self::ServerKeyExchange,
            13 => Self::CertificateRequest,
            14 => Self::ServerHelloDone,
            15 => Self::CertificateVerify,
            16 => Self::ClientKeyExchange,
            20 => Self::Finished,
            _ => Self::Unknown,
        }
    }

    /// The epoch in which this message travels in a first handshake: only Finished is protected.
    pub(super) const fn epoch(self) -> u16 {
        matches!(self, Self::Finished) as u16
    }

    /// Whether this message may come in `epoch`; what must not come at all is not tied to one.
    pub(super) const fn fits(self, epoch: u16) -> bool {
        matches!(self, Self::Unknown) || self.epoch() == epoch
    }
}

/// The header of a message or of a fragment of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FragmentHeader {
    pub(super) message_type: HandshakeType,
    /// Length of the body of the whole message; 24 bits on the wire.
    pub(super) length: usize,
    pub(super) message_seq: u16,
    pub(super) fragment_offset: usize,
    pub(super) fragment_length: usize,
}

impl FragmentHeader {
    /// The header of a message in one piece.
    pub(super) const fn whole(
        message_type: HandshakeType,
        message_seq: u16,
        length: usize,
    ) -> Self {
        Self {
            message_type,
            length,
            message_seq,
            fragment_offset: 0,
            fragment_length: length,
        }
    }

    /// The 12 bytes on the wire.
    pub(super) fn encode(self) -> [u8; MESSAGE_HEADER_LEN] {
        let u24 = |value: usize| {
            debug_assert!(value < 1 << 24);
            let [.., a, b, c] = value.to_be_bytes();
            [a, b, c]
        };
        let [l0, l1, l2] = u24(self.length);
        let [s0, s1] = self.message_seq.to_be_bytes();
        let [o0, o1, o2] = u24(self.fragment_offset);
        let [f0, f1, f2] = u24(self.fragment_length);
        [
            self.message_type as u8,
            l0,
            l1,
            l2,
            s0,
            s1,
            o0,
            o1,
            o2,
            f0,
            f1,
            f2,
        ]
    }
}

/// A message or a piece of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fragment<'a> {
    pub(super) header: FragmentHeader,
    /// `fragment_length` bytes.
    pub(super) body: &'a [u8],
}

impl<'a> Fragment<'a> {
    /// Takes the next fragment of a record. The one place where offsets and lengths of fragments
    /// are checked: offset + fragment length <= length <= cap, and no empty piece of a message
    /// that is not empty (a loop in other stacks, CVE-2022-29190).
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Self, DropReason> {
        let (header, body) = read_fragment(reader).map_err(|_| DropReason::FragmentMalformed)?;
        let FragmentHeader {
            length,
            fragment_offset,
            fragment_length,
            ..
        } = header;
        let pointless = fragment_length == 0 && length != 0;
        if pointless || fragment_offset + fragment_length > length {
            return Err(DropReason::FragmentMalformed);
        }
        if length > MESSAGE_LEN_MAX {
            return Err(DropReason::FragmentBeyondLimit);
        }
        Ok(Self { header, body })
    }

    /// Whether this is the message in one piece.
    pub(super) const fn is_whole(&self) -> bool {
        self.header.fragment_length == self.header.length
    }
}

/// The fields without a check.
fn read_fragment<'a>(reader: &mut Reader<'a>) -> Result<(FragmentHeader, &'a [u8]), Truncated> {
    let message_type = HandshakeType::from_code(reader.u8()?);
    let length = reader.u24()? as usize;
    let message_seq = reader.u16()?;
    let fragment_offset = reader.u24()? as usize;
    let fragment_length = reader.u24()? as usize;
    let header = FragmentHeader {
        message_type,
        length,
        message_seq,
        fragment_offset,
        fragment_length,
    };
    Ok((header, reader.bytes(fragment_length)?))
}

/// A complete message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HandshakeMessage<'a> {
    pub(super) message_type: HandshakeType,
    pub(super) message_seq: u16,
    pub(super) body: &'a [u8],
}

/// A list of 16-bit numbers, not empty, as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct U16List<'a>(&'a [[u8; 2]]);

impl<'a> U16List<'a> {
    /// `None` when `bytes` is empty or of odd length.
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        let (pairs, rest) = bytes.as_chunks();
        (!pairs.is_empty() && rest.is_empty()).then_some(Self(pairs))
    }

    pub(super) fn iter(self) -> impl Iterator<Item = u16> + 'a {
        self.0.iter().map(|&pair| u16::from_be_bytes(pair))
    }

    pub(super) fn contains(self, value: u16) -> bool {
        self.0.contains(&value.to_be_bytes())
    }
}
