//! Flights and their retransmission (RFC 6347 section 4.2.4): the only place that retransmits.
//!
//! ```text
//! flight 1  ClientHello                     -->
//! flight 2                                  <--  HelloVerifyRequest   (stateless, never repeated)
//! flight 3  ClientHello + cookie            -->
//! flight 4                                  <--  ServerHello .. ServerHelloDone      (timer)
//! flight 5  [Certificate] ClientKeyExchange
//!           [CertificateVerify] CCS Finished -->                              (client's timer)
//! flight 6                                  <--  CCS Finished     (on the peer's repetition only)
//! ```
//!
//! A flight keeps its messages, not its records: every transmission cuts them anew, with fresh
//! record sequence numbers, to the size that is thought to get through.

use crate::dtls::error::Error;
use crate::dtls::message::{FragmentHeader, HandshakeType, MESSAGE_HEADER_LEN, MaxFragmentLength};
use crate::dtls::record::protection::{OVERHEAD_MAX, Protection};
use crate::dtls::record::{ContentType, HEADER_LEN, PLAINTEXT_MAX, RecordHeader, SEQUENCE_MAX};
use crate::time::{Duration, Instant};
use crate::wire::DatagramSink;

/// Retransmissions of a flight before the handshake is given up, unless a configuration says
/// otherwise (RFC 6347 section 4.2.4.1 leaves the number open; Californium's default).
pub(in crate::dtls) const RETRANSMISSIONS_MAX: u8 = 4;
/// Longest time between two of them (RFC 6347 section 4.2.4.1: no less than 60 s).
const INTERVAL_MAX: Duration = Duration::from_secs(60);
/// After this many the path may be one that swallows large datagrams.
const RETRANSMISSIONS_BEFORE_SMALL: u8 = 2;
/// Size of datagrams from then on (RFC 6347 section 4.1.1.1: back off when it does not get through).
const SMALL_DATAGRAM: usize = 512;
/// Smallest datagram size that can be set.
const DATAGRAM_MIN: usize = 64;
/// A message is not cut into smaller pieces than this but at its end; the smallest datagram has
/// room for it behind the headers of a protected record.
const PIECE_MIN: usize = 15;
/// A flight is repeated for the peer's sake at most this often ...
const REPETITION_SPACING: Duration = Duration::from_millis(200);
/// ... and this many times.
const REPETITIONS_MAX: u8 = 16;

/// The sender of epoch 0.
#[derive(Clone, Copy, Debug)]
pub(in crate::dtls) struct PlainWriter {
    next_sequence: u64,
    version: u16,
}

impl PlainWriter {
    /// Starts at `next_sequence`, with `version` in the headers.
    pub(in crate::dtls) const fn new(next_sequence: u64, version: u16) -> Self {
        Self {
            next_sequence,
            version,
        }
    }

    /// From now on `version` is in the headers.
    pub(in crate::dtls) const fn set_version(&mut self, version: u16) {
        self.version = version;
    }

    fn next_header(&mut self, content_type: ContentType) -> Result<RecordHeader, Error> {
        let sequence = self.next_sequence;
        if sequence > SEQUENCE_MAX {
            return Err(Error::SequenceExhausted);
        }
        self.next_sequence = sequence + 1;
        Ok(RecordHeader {
            content_type,
            version: self.version,
            epoch: 0,
            sequence,
        })
    }

    /// One record that is a datagram of its own, for alerts.
    pub(in crate::dtls) fn send(
        &mut self,
        content_type: ContentType,
        body: &[u8],
        out: &mut dyn DatagramSink,
    ) -> Result<(), Error> {
        let header = self.next_header(content_type)?;
        out.push_datagram(&[&header.encode(body.len()), body].concat());
        Ok(())
    }
}

#[cfg(any(test, feature = "client"))]
impl Protection {
    /// One record that is a datagram of its own, for alerts.
    pub(in crate::dtls) fn send(
        &mut self,
        content_type: ContentType,
        body: &[u8],
        out: &mut dyn DatagramSink,
    ) -> Result<(), Error> {
        let (prefix, suffix) = self.overhead();
        let mut record = vec![0; prefix];
        record.extend_from_slice(body);
        record.resize(record.len() + suffix, 0);
        self.seal(content_type, &mut record)
            .map_err(|_| Error::SequenceExhausted)?;
        out.push_datagram(&record);
        Ok(())
    }
}

/// What a flight is made of.
#[derive(Clone, Debug)]
enum Item {
    /// A message with its header of one piece, in `Flight::bytes`.
    Message {
        message_type: HandshakeType,
        message_seq: u16,
        body: std::ops::Range<usize>,
    },
    ChangeCipherSpec,
}

/// The messages of one flight of ours.
#[derive(Clone, Debug, Default)]
pub(in crate::dtls) struct Flight {
    items: Vec<Item>,
    bytes: Vec<u8>,
    fragment_length: Option<MaxFragmentLength>,
}

impl Flight {
    /// Appends a message and returns its bytes with the header of one piece, for the transcript.
    pub(in crate::dtls) fn push(
        &mut self,
        message_type: HandshakeType,
        message_seq: u16,
        emit: impl FnOnce(&mut Vec<u8>),
    ) -> &[u8] {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; MESSAGE_HEADER_LEN]);
        emit(&mut self.bytes);
        let body = start + MESSAGE_HEADER_LEN..self.bytes.len();
        let header = FragmentHeader::whole(message_type, message_seq, body.len()).encode();
        self.bytes[start..body.start].copy_from_slice(&header);
        self.items.push(Item::Message {
            message_type,
            message_seq,
            body,
        });
        &self.bytes[start..]
    }

    /// Makes room at once for so many messages and their bytes.
    pub(in crate::dtls) fn reserve(&mut self, messages: usize, bytes: usize) {
        self.items.reserve_exact(messages);
        self.bytes.reserve_exact(bytes);
    }

    /// Bytes of memory of its messages.
    pub(in crate::dtls) const fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// No record gets more plaintext than this, the ServerHello's included (RFC 6066 section 4).
    pub(in crate::dtls) const fn limit(&mut self, fragment_length: Option<MaxFragmentLength>) {
        self.fragment_length = fragment_length;
    }

    /// Appends a ChangeCipherSpec.
    pub(in crate::dtls) fn push_change_cipher_spec(&mut self) {
        self.items.push(Item::ChangeCipherSpec);
    }

    /// Sends the whole flight in datagrams of at most `datagram_max` bytes.
    ///
    /// Records are packed; a message that fits a datagram of its own is never cut, as small stacks
    /// cannot put fragments together. Finished is sealed by `protection`, which must be there then.
    pub(in crate::dtls) fn emit(
        &self,
        datagram_max: usize,
        plain: &mut PlainWriter,
        mut protection: Option<&mut Protection>,
        out: &mut dyn DatagramSink,
    ) -> Result<(), Error> {
        let plaintext_max = self
            .fragment_length
            .map_or(PLAINTEXT_MAX, MaxFragmentLength::bytes);
        let mut packer = Packer::new(datagram_max.max(DATAGRAM_MIN), plaintext_max, out);
        for item in &self.items {
            match item {
                Item::ChangeCipherSpec => {
                    packer.reserve(HEADER_LEN + 1);
                    let header = plain.next_header(ContentType::ChangeCipherSpec)?;
                    packer.push(&[&header.encode(1), &[1]]);
                }
                Item::Message {
                    message_type,
                    message_seq,
                    body,
                } => {
                    let body = &self.bytes[body.clone()];
                    let header = FragmentHeader::whole(*message_type, *message_seq, body.len());
                    let protection = match message_type.epoch() {
                        0 => None,
                        _ => Some(protection.as_deref_mut().ok_or(Error::Internal)?),
                    };
                    emit_message(&mut packer, header, body, plain, protection)?;
                }
            }
        }
        packer.flush();
        Ok(())
    }
}

/// Sends one message, cut where it must be.
fn emit_message(
    packer: &mut Packer<'_>,
    header: FragmentHeader,
    body: &[u8],
    plain: &mut PlainWriter,
    mut protection: Option<&mut Protection>,
) -> Result<(), Error> {
    let (prefix, suffix) = protection
        .as_deref()
        .map_or((HEADER_LEN, 0), Protection::overhead);
    let overhead = prefix + MESSAGE_HEADER_LEN + suffix;
    let piece_max = packer.plaintext_max.saturating_sub(MESSAGE_HEADER_LEN);
    if overhead + body.len() <= packer.datagram_max && body.len() <= piece_max {
        packer.reserve(overhead + body.len());
    }
    let mut offset = 0;
    loop {
        // Always room for a few bytes, so that the loop ends soon.
        packer.reserve(overhead + body.len().saturating_sub(offset).min(PIECE_MIN));
        // A long connection id may leave the smallest datagrams none: they grow by it then.
        let room = packer.room().saturating_sub(overhead).min(piece_max);
        let end = body.len().min(offset + room.max(PIECE_MIN));
        let piece = &body[offset.min(end)..end];
        let fragment = FragmentHeader {
            fragment_offset: offset,
            fragment_length: piece.len(),
            ..header
        };
        match protection.as_deref_mut() {
            None => {
                let record = plain.next_header(ContentType::Handshake)?;
                let length = MESSAGE_HEADER_LEN + piece.len();
                packer.push(&[&record.encode(length), &fragment.encode(), piece]);
            }
            Some(protection) => {
                let record = packer.push(&[
                    &[0; OVERHEAD_MAX.0][..prefix],
                    &fragment.encode(),
                    piece,
                    &[0; OVERHEAD_MAX.1][..suffix],
                ]);
                let sealed = protection.seal(ContentType::Handshake, record);
                sealed.map_err(|_| Error::SequenceExhausted)?;
            }
        }
        offset = end;
        if offset == body.len() {
            return Ok(());
        }
    }
}

/// Packs records into datagrams.
struct Packer<'a> {
    datagram: Vec<u8>,
    datagram_max: usize,
    plaintext_max: usize,
    out: &'a mut dyn DatagramSink,
}

impl<'a> Packer<'a> {
    fn new(datagram_max: usize, plaintext_max: usize, out: &'a mut dyn DatagramSink) -> Self {
        Self {
            datagram: Vec::with_capacity(datagram_max.min(2048)),
            datagram_max,
            plaintext_max,
            out,
        }
    }

    fn room(&self) -> usize {
        self.datagram_max.saturating_sub(self.datagram.len())
    }

    /// Starts a new datagram unless `length` more bytes fit this one.
    fn reserve(&mut self, length: usize) {
        if length > self.room() {
            self.flush();
        }
    }

    fn push(&mut self, parts: &[&[u8]]) -> &mut [u8] {
        let start = self.datagram.len();
        parts
            .iter()
            .for_each(|part| self.datagram.extend_from_slice(part));
        &mut self.datagram[start..]
    }

    fn flush(&mut self) {
        if !self.datagram.is_empty() {
            self.out.push_datagram(&self.datagram);
            self.datagram.clear();
        }
    }
}

/// What is to be done when a timer may have expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dtls) enum TimerAction {
    Wait,
    Retransmit,
    GiveUp,
}

/// When the last flight is sent again: by time, doubling, and when the peer repeats its own.
#[derive(Clone, Copy, Debug)]
pub(in crate::dtls) struct RetransmissionTimer {
    interval: Duration,
    /// `None` once the peer is thought to be gone; the handshake's deadline remains.
    due: Option<Instant>,
    retransmissions: u8,
    retransmissions_max: u8,
    repetitions: Repetitions,
}

/// Limits how often a flight is repeated because the peer repeated its own.
#[derive(Clone, Copy, Debug)]
pub(in crate::dtls) struct Repetitions {
    last_sent: Instant,
    count: u8,
}

impl Repetitions {
    /// Of a flight that is sent now.
    pub(in crate::dtls) const fn new(now: Instant) -> Self {
        Self {
            last_sent: now,
            count: 0,
        }
    }

    /// Whether the flight is to be sent again.
    pub(in crate::dtls) fn allow(&mut self, now: Instant) -> bool {
        let recent = now.saturating_duration_since(self.last_sent) < REPETITION_SPACING;
        if recent || self.count == REPETITIONS_MAX {
            return false;
        }
        self.count += 1;
        self.last_sent = now;
        true
    }
}

impl RetransmissionTimer {
    /// For a flight that is sent now, with the first interval.
    pub(in crate::dtls) fn new(now: Instant, interval: Duration) -> Self {
        Self {
            interval,
            due: Some(now + interval),
            retransmissions: 0,
            retransmissions_max: RETRANSMISSIONS_MAX,
            repetitions: Repetitions::new(now),
        }
    }

    /// Gives up after so many retransmissions.
    pub(in crate::dtls) const fn retransmissions_max(mut self, count: u8) -> Self {
        self.retransmissions_max = count;
        self
    }

    /// When [`Self::handle_timeout`] is due.
    pub(in crate::dtls) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Counts a retransmission that is due and doubles the interval.
    pub(in crate::dtls) fn handle_timeout(&mut self, now: Instant) -> TimerAction {
        if self.due.is_none_or(|due| now < due) {
            return TimerAction::Wait;
        }
        if self.retransmissions >= self.retransmissions_max {
            return TimerAction::GiveUp;
        }
        self.retransmissions += 1;
        self.interval = (self.interval * 2).min(INTERVAL_MAX);
        self.due = Some(now + self.interval);
        self.repetitions.last_sent = now;
        TimerAction::Retransmit
    }

    /// Whether the flight is to be sent again because the peer repeated its own (RFC 6347 section
    /// 4.2.4: the other end lost it). The timer starts anew then.
    pub(in crate::dtls) fn on_peer_repetition(&mut self, now: Instant) -> bool {
        let allowed = self.repetitions.allow(now);
        if allowed && self.due.is_some() {
            self.due = Some(now + self.interval);
        }
        allowed
    }

    /// The peer seems to be gone: no more retransmissions of our own accord. Returns how long it
    /// still has, should that not have been its word.
    pub(in crate::dtls) const fn stop(&mut self) -> Duration {
        self.due = None;
        self.interval
    }

    /// The size of datagrams, `datagram_max` or less after retransmissions without an answer.
    pub(in crate::dtls) fn datagram_max(&self, datagram_max: usize) -> usize {
        if self.retransmissions < RETRANSMISSIONS_BEFORE_SMALL {
            datagram_max
        } else {
            datagram_max.min(SMALL_DATAGRAM)
        }
    }
}

#[cfg(test)]
mod tests;
