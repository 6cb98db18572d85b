//! The last flight of a handshake, kept for a peer that did not get it (RFC 6347 section 4.2.4): the
//! server's in a full one, the client's in an abbreviated one.

use super::flight::{Flight, PlainWriter, Repetitions};
use crate::dtls::cookie::equal;
use crate::dtls::error::Error;
use crate::dtls::message::{
    Fragment, HandshakeType, MESSAGE_HEADER_LEN, MaxFragmentLength, VERIFY_DATA_LEN,
};
use crate::dtls::record::protection::Protection;
use crate::time::{Duration, Instant};
use crate::wire::DatagramSink;

/// How long it is kept at most: twice the maximum segment lifetime (RFC 6347 section 4.2.4). It goes
/// earlier when the client sends data.
const LIFETIME: Duration = Duration::from_secs(240);

/// ChangeCipherSpec and Finished, a ticket before them perhaps, and the peer's Finished that asks for
/// them.
#[derive(Debug)]
pub(in crate::dtls) struct FinalFlight {
    plain: PlainWriter,
    repetitions: Repetitions,
    expires: Instant,
    ticket: Option<Box<[u8]>>,
    fragment_length: Option<MaxFragmentLength>,
    message_seq: u16,
    verify_data: [u8; VERIFY_DATA_LEN],
    peer_message_seq: u16,
    peer_verify_data: [u8; VERIFY_DATA_LEN],
    datagram_max: u16,
}

/// Each session has one for a while.
const _: () = assert!(size_of::<FinalFlight>() <= 96);

/// What a [`FinalFlight`] is made of.
#[derive(Clone, Debug)]
pub(super) struct FinalFlightParts {
    pub(super) plain: PlainWriter,
    /// The body of a NewSessionTicket.
    pub(super) ticket: Option<Vec<u8>>,
    pub(super) fragment_length: Option<MaxFragmentLength>,
    /// Of the first message.
    pub(super) message_seq: u16,
    pub(super) verify_data: [u8; VERIFY_DATA_LEN],
    pub(super) peer_message_seq: u16,
    pub(super) peer_verify_data: [u8; VERIFY_DATA_LEN],
    pub(super) datagram_max: usize,
}

impl FinalFlight {
    /// Sends the flight for the first time.
    pub(super) fn send(
        now: Instant,
        parts: FinalFlightParts,
        protection: &mut Protection,
        out: &mut dyn DatagramSink,
    ) -> Result<Self, Error> {
        let mut this = Self {
            plain: parts.plain,
            repetitions: Repetitions::new(now),
            expires: now + LIFETIME,
            ticket: parts.ticket.map(Vec::into_boxed_slice),
            fragment_length: parts.fragment_length,
            message_seq: parts.message_seq,
            verify_data: parts.verify_data,
            peer_message_seq: parts.peer_message_seq,
            peer_verify_data: parts.peer_verify_data,
            datagram_max: u16::try_from(parts.datagram_max).unwrap_or(u16::MAX),
        };
        this.emit(protection, out)?;
        Ok(this)
    }

    /// When the client's time to ask is over.
    pub(in crate::dtls) const fn expires(&self) -> Instant {
        self.expires
    }

    /// The peer sent a Finished again, in a new authentic record: repeats the flight if it is the
    /// very same Finished, at a limited rate.
    pub(in crate::dtls) fn on_peer_finished(
        &mut self,
        now: Instant,
        fragment: &Fragment<'_>,
        protection: &mut Protection,
        out: &mut dyn DatagramSink,
    ) {
        let same = fragment.is_whole()
            && fragment.header.message_seq == self.peer_message_seq
            && equal(fragment.body, &self.peer_verify_data);
        if same && self.repetitions.allow(now) {
            // Out of sequence numbers: nothing can be sent any more, nor need it be.
            let _ = self.emit(protection, out);
        }
    }

    fn emit(
        &mut self,
        protection: &mut Protection,
        out: &mut dyn DatagramSink,
    ) -> Result<(), Error> {
        let mut flight = Flight::default();
        let ticket_len = self.ticket.as_ref().map_or(0, |ticket| ticket.len());
        let bytes = 2 * MESSAGE_HEADER_LEN + ticket_len + VERIFY_DATA_LEN;
        flight.reserve(3, bytes);
        flight.limit(self.fragment_length);
        let mut message_seq = self.message_seq;
        if let Some(ticket) = &self.ticket {
            flight.push(HandshakeType::NewSessionTicket, message_seq, |out| {
                out.extend_from_slice(ticket);
            });
            message_seq = message_seq.saturating_add(1);
        }
        flight.push_change_cipher_spec();
        let body = self.verify_data;
        flight.push(HandshakeType::Finished, message_seq, |out| {
            out.extend_from_slice(&body);
        });
        flight.emit(
            self.datagram_max.into(),
            &mut self.plain,
            Some(protection),
            out,
        )
    }
}
