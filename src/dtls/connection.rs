//! An established connection: live keys with one peer (RFC 6347 section 4.1).
//!
//! Small, as a server holds many of them idle: plain data, the expanded keys of busy ones behind a
//! pointer, and for a while after the handshake what is needed to repeat the last flight. Nothing
//! on the way of application data allocates, but for the expansion of keys that were forgotten.

use std::ops::Range;

use super::alert::{Alert, AlertDescription};
use super::cookie::equal;
use super::error::Error;
use super::handshake::FinalFlight;
use super::identity::PeerIdentity;
use super::message::{Fragment, HandshakeType, MaxFragmentLength};
use super::record::forgery::ForgeryWatch;
use super::record::limit::RecordLimits;
use super::record::protection::{Opened, Protection};
use super::record::{ContentType, PLAINTEXT_MAX, RecordHeader};
use super::routability::{PathCookie, ROUTABILITY_LEN, RoutabilityMessage};
use super::session::ResumedBy;
use crate::crypto::key_exchange::NamedGroup;
use crate::crypto::suite::CipherSuite;
use crate::drop_reason::DropReason;
use crate::time::Instant;
use crate::wire::{DatagramSink, Reader};

/// The plaintext could not be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No handshake was completed yet, or the connection was closed.
    #[error("no session")]
    NotEstablished,
    /// Shorter than the overhead, or more plaintext than 2^14 bytes or than the peer takes.
    #[error("a record cannot have this length")]
    Length,
    /// The sequence numbers are used up: only a new handshake helps (RFC 6347 section 4.1).
    #[error("the record sequence numbers are used up")]
    SequenceExhausted,
}

/// What the handshake settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Established {
    pub(super) identity: PeerIdentity,
    /// Of the key exchange, if there was one.
    pub(super) group: Option<NamedGroup>,
    pub(super) extended_master_secret: bool,
    /// The most plaintext that a record of ours may carry, if the client asked for a limit.
    pub(super) max_fragment_length: Option<MaxFragmentLength>,
    /// The end of the ClientHello's random, to know a late repetition of it.
    pub(super) hello_tag: [u8; 8],
    /// By which the session can be forgotten (`SessionCache::forget`); zero when it is not kept.
    pub(super) session_tag: u64,
    /// What the session was found by, if it was resumed.
    pub(super) resumed: Option<ResumedBy>,
    /// Both ends know the return routability check (RFC 9853 section 3).
    pub(super) return_routability_check: bool,
}

/// Live keys with one peer.
#[derive(Debug)]
pub(super) struct Connection {
    protection: Protection,
    established: Established,
    limits: RecordLimits,
    forgeries: ForgeryWatch,
    /// Until the peer is known to have got it, or long enough has passed.
    final_flight: Option<Box<FinalFlight>>,
}

const _: () = assert!(size_of::<Connection>() <= 176);

/// What one record led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RecordOutcome {
    /// Application data at this place of the record.
    Plaintext(Range<usize>),
    /// Nothing for the caller.
    Nothing,
    /// The peer said something that does not end the connection.
    Alert(AlertDescription),
    /// The peer answered a path_challenge.
    PathResponse(PathCookie),
    /// The connection is over; the keys must not be used again.
    Closed(Option<Error>),
}

impl Connection {
    pub(super) fn new(
        protection: Protection,
        established: Established,
        final_flight: Option<Box<FinalFlight>>,
    ) -> Self {
        Self {
            protection,
            established,
            limits: RecordLimits::NONE,
            forgeries: ForgeryWatch::default(),
            final_flight,
        }
    }

    /// The same with what record_size_limit settled.
    pub(super) const fn limited(mut self, limits: RecordLimits) -> Self {
        self.limits = limits;
        self
    }

    pub(super) const fn established(&self) -> &Established {
        &self.established
    }

    pub(super) const fn suite(&self) -> CipherSuite {
        self.protection.suite()
    }

    pub(super) const fn epoch(&self) -> u16 {
        self.protection.epoch()
    }

    /// The connection id in records to us; empty when they have none.
    pub(super) fn local_connection_id(&self) -> &[u8] {
        self.protection.local_connection_id()
    }

    /// The connection id in records to the peer; empty when they have none.
    #[cfg(any(test, feature = "client"))]
    pub(super) fn peer_connection_id(&self) -> &[u8] {
        self.protection.peer_connection_id()
    }

    /// The highest sequence number of an authentic record so far.
    pub(super) const fn highest_read_sequence(&self) -> u64 {
        self.protection.highest_read_sequence()
    }

    pub(super) fn overhead(&self) -> (usize, usize) {
        self.protection.overhead()
    }

    /// Looks at the memory of the session; what comes out means nothing.
    pub(super) fn touch(&self) -> u64 {
        self.established.session_tag ^ self.protection.touch()
    }

    pub(super) fn touch_keys(&self) -> u64 {
        self.protection.touch_keys()
    }

    #[cfg(test)]
    pub(super) const fn has_expanded_keys(&self) -> bool {
        self.protection.has_expanded_keys()
    }

    pub(super) fn keep_expanded_keys(&mut self) {
        self.protection.keep_expanded_keys();
    }

    pub(super) fn forget_expanded_keys(&mut self) {
        self.protection.forget_expanded_keys();
    }

    /// Takes a record of the connection's epoch and opens it in place.
    pub(super) fn handle_record(
        &mut self,
        now: Instant,
        header: RecordHeader,
        record: &mut [u8],
        out: &mut dyn DatagramSink,
        drops: &mut dyn FnMut(DropReason),
    ) -> RecordOutcome {
        let highest = self.protection.highest_read_sequence();
        if !self.forgeries.is_plausible(now, header.sequence, highest) {
            drops(DropReason::RecordImplausible);
            return RecordOutcome::Nothing;
        }
        let Opened {
            content_type,
            range,
        } = match self.protection.open(header, record) {
            Ok(opened) => opened,
            Err(reason) => {
                drops(reason);
                if reason == DropReason::RecordForged {
                    self.forgeries.on_forgery(now);
                    if self.protection.is_worn() {
                        return self.give_up(out);
                    }
                }
                return RecordOutcome::Nothing;
            }
        };
        if range.len() > self.limits.received() {
            drops(DropReason::RecordMalformed);
            return RecordOutcome::Nothing;
        }
        let plaintext = record.get(range.clone()).unwrap_or_default();
        match content_type {
            ContentType::ApplicationData => {
                // The peer sends data only after our Finished.
                self.final_flight = None;
                RecordOutcome::Plaintext(range)
            }
            ContentType::Alert => self.handle_alert(plaintext, out, drops),
            ContentType::Handshake => {
                self.handle_handshake(now, plaintext, out, drops);
                RecordOutcome::Nothing
            }
            ContentType::ReturnRoutabilityCheck if self.established.return_routability_check => {
                self.handle_routability(plaintext, out, drops)
            }
            ContentType::ChangeCipherSpec
            | ContentType::ConnectionId
            | ContentType::ReturnRoutabilityCheck => {
                drops(DropReason::RecordType);
                RecordOutcome::Nothing
            }
        }
    }

    /// RFC 9853 section 5: a challenge is answered once, at once, and to where it came from.
    fn handle_routability(
        &mut self,
        plaintext: &[u8],
        out: &mut dyn DatagramSink,
        drops: &mut dyn FnMut(DropReason),
    ) -> RecordOutcome {
        match RoutabilityMessage::decode(plaintext) {
            Some(RoutabilityMessage::Challenge(cookie)) => {
                self.send_routability(&RoutabilityMessage::response(&cookie), out);
            }
            Some(RoutabilityMessage::Response(cookie)) => {
                return RecordOutcome::PathResponse(cookie);
            }
            // The enhanced check, which asks at the old address, is not made.
            Some(RoutabilityMessage::Drop(_) | RoutabilityMessage::Unknown) => {}
            None => drops(DropReason::RecordMalformed),
        }
        RecordOutcome::Nothing
    }

    /// Asks the peer to prove that it receives where this is sent to.
    pub(super) fn send_path_challenge(&mut self, cookie: &PathCookie, out: &mut dyn DatagramSink) {
        self.send_routability(&RoutabilityMessage::challenge(cookie), out);
    }

    fn send_routability(&mut self, message: &[u8; ROUTABILITY_LEN], out: &mut dyn DatagramSink) {
        self.send_small(ContentType::ReturnRoutabilityCheck, message, out);
    }

    /// Alerts count only here, where they are authentic and within the replay window.
    fn handle_alert(
        &mut self,
        plaintext: &[u8],
        out: &mut dyn DatagramSink,
        drops: &mut dyn FnMut(DropReason),
    ) -> RecordOutcome {
        match Alert::decode(plaintext) {
            // RFC 5246 section 7.2.1: answered in kind.
            Some(Alert {
                description: AlertDescription::CloseNotify,
                ..
            }) => {
                self.close(out);
                RecordOutcome::Closed(None)
            }
            Some(alert) if alert.ends_connection() => {
                RecordOutcome::Closed(Some(Error::PeerAlert(alert.description)))
            }
            Some(alert) => RecordOutcome::Alert(alert.description),
            None => {
                drops(DropReason::RecordMalformed);
                RecordOutcome::Nothing
            }
        }
    }

    /// A handshake message under the keys: the peer's Finished again, or the wish to renegotiate.
    fn handle_handshake(
        &mut self,
        now: Instant,
        plaintext: &[u8],
        out: &mut dyn DatagramSink,
        drops: &mut dyn FnMut(DropReason),
    ) {
        let fragment = match Fragment::decode(&mut Reader::new(plaintext)) {
            Ok(fragment) => fragment,
            Err(reason) => return drops(reason),
        };
        match fragment.header.message_type {
            HandshakeType::Finished => {
                drops(DropReason::FragmentRepeated);
                if let Some(flight) = &mut self.final_flight {
                    flight.on_peer_finished(now, &fragment, &mut self.protection, out);
                }
            }
            // RFC 5746 section 4.2 and RFC 5246 section 7.2.2: no renegotiation.
            HandshakeType::ClientHello | HandshakeType::HelloRequest => {
                self.send_alert(Alert::warning(AlertDescription::NoRenegotiation), out);
            }
            _ => drops(DropReason::FragmentRepeated),
        }
    }

    /// Seals application data in place; see `Association::seal_application_data`.
    pub(super) fn seal_application_data(&mut self, record: &mut [u8]) -> Result<(), SealError> {
        let (prefix, suffix) = self.overhead();
        let plaintext_len = record.len().checked_sub(prefix + suffix);
        if plaintext_len.is_none_or(|length| length > self.plaintext_max()) {
            return Err(SealError::Length);
        }
        let sealed = self.protection.seal(ContentType::ApplicationData, record);
        sealed.map_err(|_| SealError::SequenceExhausted)
    }

    /// Most plaintext that a record of ours may carry, as the client asked.
    pub(super) fn plaintext_max(&self) -> usize {
        let limit = self.established.max_fragment_length;
        let plaintext_max = limit.map_or(PLAINTEXT_MAX, MaxFragmentLength::bytes);
        plaintext_max.min(self.limits.sent())
    }

    /// Seals content of any kind, as a peer that holds the keys could.
    #[cfg(feature = "fuzzing")]
    pub(super) fn seal_content(&mut self, content_type: ContentType, plaintext: &[u8]) -> Vec<u8> {
        let (prefix, suffix) = self.overhead();
        let mut record = vec![0; prefix];
        record.extend_from_slice(plaintext);
        record.resize(record.len() + suffix, 0);
        let sealed = self.protection.seal(content_type, &mut record);
        sealed.expect("a sequence number is left");
        record
    }

    /// Sends close_notify. Nothing may be sent afterwards (RFC 5246 section 7.2.1).
    pub(super) fn close(&mut self, out: &mut dyn DatagramSink) {
        self.send_alert(Alert::warning(AlertDescription::CloseNotify), out);
    }

    /// Tells the peer that it may not go on. Nothing may be sent afterwards.
    pub(super) fn deny(&mut self, out: &mut dyn DatagramSink) {
        self.send_alert(Alert::fatal(AlertDescription::AccessDenied), out);
    }

    /// Ends a connection whose keys were attacked too often.
    fn give_up(&mut self, out: &mut dyn DatagramSink) -> RecordOutcome {
        let error = Error::TooManyForgeries;
        if let Some(description) = error.alert() {
            self.send_alert(Alert::fatal(description), out);
        }
        RecordOutcome::Closed(Some(error))
    }

    fn send_alert(&mut self, alert: Alert, out: &mut dyn DatagramSink) {
        self.send_small(ContentType::Alert, &alert.encode(), out);
    }

    /// Sends a few bytes as a datagram of their own. Without a sequence number they stay unsaid; the
    /// peer's own timers end it.
    fn send_small(
        &mut self,
        content_type: ContentType,
        content: &[u8],
        out: &mut dyn DatagramSink,
    ) {
        self.protection.send_small(content_type, content, out);
    }

    /// When the last flight may be forgotten.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.final_flight.as_ref().map(|flight| flight.expires())
    }

    /// Forgets the last flight when it is time.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.next_timeout().is_some_and(|due| now >= due) {
            self.final_flight = None;
        }
    }

    /// Whether `client_random` is that of the handshake that made this connection.
    pub(super) fn is_of_hello(&self, client_random: &[u8; 32]) -> bool {
        equal(&self.established.hello_tag, &client_random[24..])
    }
}
