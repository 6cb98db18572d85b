//! All DTLS state of one peer address: the live connection, and a handshake beside it.
//!
//! ```text
//!                  ClientHello with a valid cookie          Finished right
//!   (no state) ------------------------------> handshake ------------------> connection
//!                                                  ^                             |
//!                                                  +--- beside it, the same -----+
//! ```
//!
//! A handshake never touches the connection beside it. It takes the connection's place only when
//! the peer's Finished was right; a datagram's plaintexts of the old session are dropped then, so
//! that no data is attributed to the wrong identity. A forged ClientHello, alert or record changes
//! nothing.

use std::ops::Range;
use std::sync::Arc;

use super::alert::Alert;
use super::config::Context;
use super::connection::{Connection, RecordOutcome, SealError};
use super::credential_lookup::CredentialLookup;
use super::door::{self, Knock};
use super::error::Error;
use super::handshake::server::ServerHandshake;
use super::handshake::{EARLY_RECORD_MAX, Progress};
use super::identity::PeerIdentity;
use super::received::Received;
use super::record::{CID_OFFSET, ContentType, HEADER_LEN, RecordCursor, RecordHeader, RecordSlice};
use super::routability::PathCookie;
use super::session::ResumedBy;
use crate::crypto::key_exchange::NamedGroup;
use crate::crypto::pre_shared_key::PreSharedKey;
use crate::crypto::suite::CipherSuite;
use crate::drop_reason::DropReason;
use crate::time::{Instant, Now};
use crate::wire::DatagramSink;

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

/// All DTLS state of one peer address.
#[derive(Debug, Default)]
pub struct Association {
    connection: Option<Connection>,
    handshake: Option<Box<ServerHandshake>>,
}

const _: () = assert!(size_of::<Association>() <= 184);

/// Takes a datagram of an address without an association; nothing is stored unless it brings a
/// valid cookie. `peer` is the address and port, in an encoding that is always the same for the
/// same peer.
pub fn accept(now: Now, peer: &[u8], datagram: &mut [u8], cx: &mut Context<'_>) -> Accepted {
    let refusal = match door::read(datagram) {
        Knock::Hello(_) => None,
        Knock::Unreadable(reason) => Some(reason),
        Knock::Other => Some(DropReason::NoSession),
    };
    if let Some(reason) = refusal {
        (cx.drops)(reason);
        return Accepted::Nothing;
    }
    let mut association = Association::default();
    let received = association.handle_datagram(now, peer, datagram, cx);
    match (received.failure, association.is_handshaking()) {
        (Some(error), _) => Accepted::Refused(error),
        (None, true) => Accepted::New(association),
        (None, false) => Accepted::Nothing,
    }
}

impl Association {
    /// Takes one datagram of the peer and decrypts its records in place.
    ///
    /// What cannot be used is counted and dropped. No memory is allocated unless a handshake is
    /// concerned, or the keys were forgotten.
    pub fn handle_datagram(
        &mut self,
        now: Now,
        peer: &[u8],
        datagram: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Received {
        let mut received = Received::default();
        if !self.pass_door(now, peer, datagram, cx) {
            return received;
        }
        let mut cursor = RecordCursor::new(self.cid_len());
        while let Some(record) = cursor.next(datagram) {
            let RecordSlice { header, range } = match record {
                Ok(record) => record,
                Err(reason) => {
                    (cx.drops)(reason);
                    continue;
                }
            };
            let start = range.start;
            let Some(record) = datagram.get_mut(range) else {
                break;
            };
            if header.epoch == 0 {
                self.handle_plain_record(now, header, record, cx, &mut received);
            } else if let Some(plaintext) =
                self.handle_protected_record(now, header, record, cx, &mut received)
            {
                received.sender = self.identity();
                received
                    .plaintexts
                    .push(&(start + plaintext.start..start + plaintext.end));
            }
        }
        received
    }

    /// Length of the connection ids in records to us. That of the handshake and of the connection
    /// are the same but where the configuration changed between.
    fn cid_len(&self) -> u8 {
        let longest = self.local_connection_ids().map(<[u8]>::len).max();
        u8::try_from(longest.unwrap_or(0)).unwrap_or(u8::MAX)
    }

    /// Looks at the memory of the live session; what comes out means nothing.
    pub fn touch(&self) -> u64 {
        self.connection.as_ref().map_or(0, Connection::touch)
    }

    /// Looks at the memory of its expanded keys, if there are any.
    pub fn touch_keys(&self) -> u64 {
        self.connection.as_ref().map_or(0, Connection::touch_keys)
    }

    /// The connection ids by which the peer's records are to be found: that of the live session and
    /// that of the handshake, as far as there are any.
    pub fn local_connection_ids(&self) -> impl Iterator<Item = &[u8]> {
        let connection = self.connection.as_ref();
        let handshake = self.handshake.as_ref();
        connection
            .map(Connection::local_connection_id)
            .into_iter()
            .chain(handshake.map(|handshake| handshake.local_connection_id()))
            .filter(|id| !id.is_empty())
    }

    /// Looks for a ClientHello of a new handshake; `false` when the datagram is done with.
    fn pass_door(&mut self, now: Now, peer: &[u8], datagram: &[u8], cx: &mut Context<'_>) -> bool {
        // The usual datagram of an established peer is seen not to be one by its first byte.
        let hello = match door::read(datagram) {
            Knock::Hello(hello) => hello,
            Knock::Other | Knock::Unreadable(_) => return true,
        };
        let current = self.handshake.as_ref();
        if current.is_some_and(|handshake| handshake.is_of_hello(hello.random())) {
            return true;
        }
        let Some(verified) = hello.verify(now, peer, cx) else {
            return false;
        };
        let live = self.connection.as_ref();
        if live.is_some_and(|connection| connection.is_of_hello(verified.random())) {
            // A late copy of the ClientHello that made the live connection.
            (cx.drops)(DropReason::FragmentRepeated);
            return false;
        }
        if !cx.admit_handshakes {
            (cx.drops)(DropReason::HandshakeBudget);
            return false;
        }
        let config = Arc::clone(cx.config);
        // The newest client at this address to prove itself wins over one that has not finished.
        self.handshake = Some(Box::new(ServerHandshake::new(now, verified, config)));
        true
    }

    fn handle_plain_record(
        &mut self,
        now: Now,
        header: RecordHeader,
        record: &[u8],
        cx: &mut Context<'_>,
        received: &mut Received,
    ) {
        let body = record.get(HEADER_LEN..).unwrap_or_default();
        let Some(handshake) = &mut self.handshake else {
            (cx.drops)(match header.content_type {
                ContentType::Alert => DropReason::AlertUnauthenticated,
                ContentType::ApplicationData => DropReason::EarlyApplicationData,
                ContentType::Handshake | ContentType::ChangeCipherSpec => DropReason::RecordEpoch,
                ContentType::ConnectionId | ContentType::ReturnRoutabilityCheck => {
                    DropReason::RecordType
                }
            });
            return;
        };
        let is_alert = header.content_type == ContentType::Alert;
        if let Some(alert) = Alert::decode(body).filter(|_| is_alert) {
            received.peer_alert = Some(alert.description);
            handshake.on_unauthenticated_alert(now.instant, alert);
        }
        let progress = handshake.handle_plain_record(now, header, body, cx);
        self.on_progress(progress, cx, received);
    }

    /// Tries the keys of the handshake, then those of the connection: both are of epoch 1.
    fn handle_protected_record(
        &mut self,
        now: Now,
        header: RecordHeader,
        record: &mut [u8],
        cx: &mut Context<'_>,
        received: &mut Received,
    ) -> Option<Range<usize>> {
        if header.content_type == ContentType::ConnectionId {
            return self.handle_connection_id_record(now, header, record, cx, received);
        }
        if header.content_type != ContentType::ApplicationData
            && self.try_handshake(now, header, record, cx, received)
        {
            return None;
        }
        let live = self.connection.as_ref();
        if live.is_none_or(|connection| connection.epoch() != header.epoch) {
            let is_early = header.content_type == ContentType::ApplicationData
                && header.epoch == 1
                && self.handshake.is_some();
            (cx.drops)(if is_early {
                DropReason::EarlyApplicationData
            } else {
                DropReason::RecordEpoch
            });
            if is_early && self.connection.is_none() {
                self.on_early_application_data(now, header, record, cx, received);
            }
            return None;
        }
        self.handle_live_record(now, header, record, cx, received)
    }

    /// A record with a connection id: that names the handshake or the connection.
    fn handle_connection_id_record(
        &mut self,
        now: Now,
        header: RecordHeader,
        record: &mut [u8],
        cx: &mut Context<'_>,
        received: &mut Received,
    ) -> Option<Range<usize>> {
        let id = record.get(CID_OFFSET..).unwrap_or_default();
        let names = |local: &[u8]| !local.is_empty() && id.starts_with(local);
        let live = self.connection.as_ref();
        let is_live = live.is_some_and(|connection| names(connection.local_connection_id()));
        if is_live && live.is_some_and(|connection| connection.epoch() == header.epoch) {
            return self.handle_live_record(now, header, record, cx, received);
        }
        let handshake = self.handshake.as_mut();
        match handshake.filter(|handshake| names(handshake.local_connection_id())) {
            Some(handshake) if header.epoch == 1 => {
                let progress = handshake.handle_protected_record(now, header, record, cx);
                if matches!(progress, Ok(Progress::NotMine)) {
                    // Too early, which it may have been kept for, or forged.
                    (cx.drops)(DropReason::RecordEpoch);
                }
                self.on_progress(progress, cx, received);
            }
            Some(_) => (cx.drops)(DropReason::RecordEpoch),
            None if is_live => (cx.drops)(DropReason::RecordEpoch),
            None => (cx.drops)(DropReason::ConnectionIdUnknown),
        }
        None
    }

    /// A record of the live connection's epoch.
    fn handle_live_record(
        &mut self,
        now: Now,
        header: RecordHeader,
        record: &mut [u8],
        cx: &mut Context<'_>,
        received: &mut Received,
    ) -> Option<Range<usize>> {
        let connection = self.connection.as_mut()?;
        let highest = connection.highest_read_sequence();
        let outcome = connection.handle_record(now.instant, header, record, cx.out, cx.drops);
        received.newest |= connection.highest_read_sequence() > highest;
        match outcome {
            RecordOutcome::Plaintext(range) => return Some(range),
            RecordOutcome::Nothing => {}
            RecordOutcome::PathResponse(cookie) => received.path_response = Some(cookie),
            RecordOutcome::Alert(description) => received.peer_alert = Some(description),
            RecordOutcome::Closed(error) => {
                if let Some(Error::PeerAlert(description)) = error {
                    received.peer_alert = Some(description);
                }
                if error.is_some() {
                    // RFC 5246 section 7.2.2: not to be resumed after a fatal alert.
                    let tag = connection.established().session_tag;
                    cx.sessions.forget(tag);
                }
                received.failure = error;
                self.connection = None;
                received.closed = self.handshake.is_none();
            }
        }
        None
    }

    /// The data is dropped, but may say that the peer is further than we are.
    fn on_early_application_data(
        &mut self,
        now: Now,
        header: RecordHeader,
        record: &mut [u8],
        cx: &mut Context<'_>,
        received: &mut Received,
    ) {
        if let Some(handshake) = &mut self.handshake {
            let progress = handshake.on_early_application_data(now.instant, header, record, cx);
            self.on_progress(progress, cx, received);
        }
    }

    /// Hands a record of epoch 1 to the handshake; whether it was for it. The record is copied, as
    /// a failed opening destroys it and it may be the connection's.
    fn try_handshake(
        &mut self,
        now: Now,
        header: RecordHeader,
        record: &[u8],
        cx: &mut Context<'_>,
        received: &mut Received,
    ) -> bool {
        let Some(handshake) = &mut self.handshake else {
            return false;
        };
        let mut copy = [0; EARLY_RECORD_MAX];
        let copy = copy.get_mut(..record.len()).filter(|_| header.epoch == 1);
        let Some(copy) = copy else { return false };
        copy.copy_from_slice(record);
        let progress = handshake.handle_protected_record(now, header, copy, cx);
        if matches!(progress, Ok(Progress::NotMine)) {
            return false;
        }
        self.on_progress(progress, cx, received);
        true
    }

    fn on_progress(
        &mut self,
        progress: Result<Progress, Error>,
        cx: &mut Context<'_>,
        received: &mut Received,
    ) {
        match progress {
            Ok(Progress::Pending | Progress::NotMine) => {}
            Ok(Progress::Established(connection)) => {
                // What was read before belongs to the old session and its identity.
                received.plaintexts.clear();
                received.established = true;
                received.newest = true;
                received.resumed = connection.established().resumed;
                received.closed = false;
                self.connection = Some(*connection);
                self.handshake = None;
            }
            Err(error) => {
                if let Some(handshake) = &mut self.handshake {
                    handshake.send_alert(error, cx);
                }
                if let Error::PeerAlert(description) = error {
                    received.peer_alert = Some(description);
                }
                self.handshake = None;
                received.failure = Some(error);
                received.closed = self.connection.is_none();
            }
        }
    }

    /// The pre-shared key that the handshake waits for, if it was not given out here before: to be
    /// asked after each step, and answered by [`Self::handle_credential`] or
    /// [`Self::on_lookup_refused`].
    pub fn poll_lookup(&mut self) -> Option<CredentialLookup> {
        self.handshake.as_mut()?.poll_lookup()
    }

    /// `lookup` cannot be answered now. The client will repeat its flight, and then it can be asked
    /// for again.
    pub fn on_lookup_refused(&mut self, lookup: &CredentialLookup) {
        if let Some(handshake) = &mut self.handshake {
            handshake.on_lookup_refused(lookup);
        }
    }

    /// Takes the answer to `lookup`: the key, or `None` when the identity is nobody's. The handshake
    /// goes on with what came meanwhile; an unknown identity fails as a wrong key does. An answer
    /// that nobody waits for any more is dropped and counted.
    pub fn handle_credential(
        &mut self,
        now: Now,
        lookup: &CredentialLookup,
        key: Option<&PreSharedKey>,
        cx: &mut Context<'_>,
    ) -> Received {
        let mut received = Received::default();
        let Some(handshake) = &mut self.handshake else {
            (cx.drops)(DropReason::VerdictStale);
            return received;
        };
        let progress = handshake.handle_credential(now, lookup, key, cx);
        self.on_progress(progress, cx, &mut received);
        received
    }

    /// Does what is due; `false` when nothing is left and the association is to be forgotten.
    #[must_use]
    pub fn handle_timeout(&mut self, now: Now, cx: &mut Context<'_>) -> bool {
        if let Some(handshake) = &mut self.handshake
            && let Err(error) = handshake.handle_timeout(now.instant, cx)
        {
            handshake.send_alert(error, cx);
            self.handshake = None;
        }
        if let Some(connection) = &mut self.connection {
            connection.handle_timeout(now.instant);
        }
        self.connection.is_some() || self.handshake.is_some()
    }

    /// When [`Self::handle_timeout`] is due; `None` when nothing is.
    pub fn next_timeout(&self) -> Option<Instant> {
        let handshake = self
            .handshake
            .as_ref()
            .map(|handshake| handshake.next_timeout());
        let connection = self.connection.as_ref().and_then(Connection::next_timeout);
        handshake.into_iter().chain(connection).min()
    }

    /// Whether application data can be sent.
    pub const fn is_established(&self) -> bool {
        self.connection.is_some()
    }

    /// Whether a handshake is running, first or parallel.
    pub const fn is_handshaking(&self) -> bool {
        self.handshake.is_some()
    }

    /// Bytes of memory that the handshake that runs takes; `None` when none runs.
    pub fn handshake_memory(&self) -> Option<usize> {
        let handshake = self.handshake.as_ref();
        handshake.map(|handshake| handshake.memory())
    }

    /// Drops the handshake that runs, without a word to the peer; a live session goes on.
    pub fn abandon_handshake(&mut self) {
        self.handshake = None;
    }

    /// When the handshake that runs was started.
    pub fn handshake_start(&self) -> Option<Instant> {
        let handshake = self.handshake.as_ref();
        handshake.map(|handshake| handshake.start())
    }

    /// Whether the handshake that runs was started by the ClientHello with this random.
    pub(super) fn is_of_running_hello(&self, random: &[u8; 32]) -> bool {
        let handshake = self.handshake.as_ref();
        handshake.is_some_and(|handshake| handshake.is_of_hello(random))
    }

    /// Device fingerprint of the leaf whose key the peer proved in the live session.
    pub fn peer_fingerprint(&self) -> Option<[u8; 32]> {
        self.identity().fingerprint()
    }

    /// Who the peer of the live session is; nobody without one.
    pub fn identity(&self) -> PeerIdentity {
        let established = self.connection.as_ref().map(Connection::established);
        established.map_or(PeerIdentity::Anonymous, |established| established.identity)
    }

    /// Cipher suite of the live session.
    pub fn suite(&self) -> Option<CipherSuite> {
        self.connection.as_ref().map(Connection::suite)
    }

    /// What the live session was found by, if it was resumed.
    pub fn resumed(&self) -> Option<ResumedBy> {
        let established = self.connection.as_ref().map(Connection::established);
        established.and_then(|established| established.resumed)
    }

    /// Group of the key exchange of the live session, or of the full handshake before it.
    pub fn group(&self) -> Option<NamedGroup> {
        self.connection
            .as_ref()
            .and_then(|connection| connection.established().group)
    }

    /// Whether the master secret of the live session is the extended one (RFC 7627).
    pub fn extended_master_secret(&self) -> bool {
        let established = self.connection.as_ref().map(Connection::established);
        established.is_some_and(|established| established.extended_master_secret)
    }

    /// Bytes before and behind the plaintext in a record of the live session; (0, 0) without one.
    pub fn record_overhead(&self) -> (usize, usize) {
        self.connection
            .as_ref()
            .map_or((0, 0), Connection::overhead)
    }

    /// Most bytes that [`Self::seal_application_data`] takes for one record; none without a live session.
    pub fn plaintext_max(&self) -> usize {
        self.connection
            .as_ref()
            .map_or(0, Connection::plaintext_max)
    }

    /// Seals application data in place: `record` is `prefix | plaintext | suffix` with the lengths
    /// of [`Self::record_overhead`], and is a complete datagram afterwards.
    ///
    /// # Errors
    ///
    /// [`SealError`]; `record` must not be sent then.
    pub fn seal_application_data(&mut self, record: &mut [u8]) -> Result<(), SealError> {
        let connection = self.connection.as_mut().ok_or(SealError::NotEstablished)?;
        connection.seal_application_data(record)
    }

    /// Whether the peer of the live session knows the return routability check (RFC 9853).
    pub fn return_routability_check(&self) -> bool {
        let established = self.connection.as_ref().map(Connection::established);
        established.is_some_and(|established| established.return_routability_check)
    }

    /// Asks the peer of the live session to prove that it receives where `out` sends to (RFC 9853
    /// section 5). `cookie` must be random, and is used once.
    pub fn send_path_challenge(&mut self, cookie: &PathCookie, out: &mut dyn DatagramSink) {
        if let Some(connection) = &mut self.connection {
            connection.send_path_challenge(cookie, out);
        }
    }

    /// Whether the keys of the live session stay expanded.
    #[cfg(test)]
    pub(crate) fn has_expanded_keys(&self) -> bool {
        let connection = self.connection.as_ref();
        connection.is_some_and(Connection::has_expanded_keys)
    }

    /// Keeps the keys of the live session expanded, several hundred bytes: each record of another
    /// session expands the one that it needs.
    pub fn keep_expanded_keys(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.keep_expanded_keys();
        }
    }

    /// Drops the expanded keys. For sessions that others are busier than.
    pub fn forget_expanded_keys(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.forget_expanded_keys();
        }
    }

    /// Ends the live session because the credential behind it has ended: a fatal access_denied (RFC
    /// 5246 section 7.2.2: the session must not be resumed). A handshake beside it goes on.
    ///
    /// Returns whether nothing is left and the association is to be forgotten.
    #[must_use]
    pub fn revoke(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(mut connection) = self.connection.take() {
            cx.sessions.forget(connection.established().session_tag);
            connection.deny(cx.out);
        }
        self.handshake.is_none()
    }

    /// Sends close_notify (RFC 5246 section 7.2.1) and forgets everything.
    pub fn close(&mut self, cx: &mut Context<'_>) {
        if let Some(mut connection) = self.connection.take() {
            connection.close(cx.out);
        }
        self.handshake = None;
    }
}
