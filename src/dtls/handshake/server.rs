//! The server's handshake (RFC 5246 section 7.3, RFC 6347 section 4.2.4), a state per awaited
//! message, handed on by value so that nothing can be used before it exists or after it is spent.
//!
//! ```text
//! ClientHello (cookie valid)  ExpectClientHello ------> a session is resumed: see `resume`; else
//!                                    |                  flight 4: ServerHello, Certificate,
//!                                    |                  ServerKeyExchange, CertificateRequest,
//!                                    v                  ServerHelloDone
//! Certificate, maybe empty    ExpectCertificate
//!                                    v
//! ClientKeyExchange           ExpectClientKeyExchange
//!                    certificate |       | none
//!                                v       |
//! CertificateVerify  ExpectCertificateVerify
//!                                v       v
//! Finished (epoch 1)          ExpectFinished ----------> flight 6: CCS, Finished; Connection
//!
//! with a pre-shared key: see `pre_shared_key`
//! ```
//!
//! Any other message in a state is fatal. ChangeCipherSpec is no handshake message and has no place
//! in their order; it is noted once flight 4 is out, and no record of epoch 1 is read before both
//! it and the keys are there. The identity exists only in `Connection`, hence only after
//! CertificateVerify and Finished.

mod connection_id;
mod expect;
mod pre_shared_key;
mod resume;

use std::sync::Arc;

use self::expect::{Expect, ExpectClientHello, Next};
use super::early::EarlyRecords;
use super::flight::{Flight, PlainWriter, RetransmissionTimer, TimerAction};
use super::reassembly::Reassembly;
use super::{Progress, may_be_dtls_1_0};
use crate::crypto::pre_shared_key::PreSharedKey;
use crate::drop_reason::DropReason;
use crate::dtls::alert::Alert;
use crate::dtls::config::{Context, ServerConfig};
use crate::dtls::credential_lookup::CredentialLookup;
use crate::dtls::door::VerifiedHello;
use crate::dtls::error::Error;
use crate::dtls::message::{Fragment, HandshakeMessage, HandshakeType};
use crate::dtls::record::protection::Protection;
use crate::dtls::record::{ContentType, DTLS_1_2, RecordCursor, RecordHeader};
use crate::time::{Instant, Now};
use crate::wire::Reader;

/// A handshake whose client has proven its address.
#[derive(Debug)]
pub(in crate::dtls) struct ServerHandshake {
    expect: Expect,
    reassembly: Reassembly,
    early: EarlyRecords,
    change_cipher_spec: bool,
    /// Records that may have been a Finished under a pre-shared key, and were not.
    unreadable: u8,
    core: Core,
}

/// What all states use.
#[derive(Debug)]
struct Core {
    config: Arc<ServerConfig>,
    hello: VerifiedHello,
    plain: PlainWriter,
    /// Flight 4, or that of a resumption, once it is out, with its timer.
    flight: Flight,
    timer: Option<RetransmissionTimer>,
    deadline: Instant,
    start: Instant,
    /// The connection id in records of epoch 1 to us, once it is settled; empty when they have none.
    local_connection_id: Box<[u8]>,
    /// When the handshake started, in ms of UNIX: what it looks up is looked up later.
    started_unix_ms: u64,
}

impl ServerHandshake {
    /// Starts with the ClientHello whose first piece passed the door; the records that carry it are
    /// to be handed in afterwards.
    pub(in crate::dtls) fn new(now: Now, hello: VerifiedHello, config: Arc<ServerConfig>) -> Self {
        let record = hello.record();
        Self {
            expect: Expect::ClientHello(ExpectClientHello),
            reassembly: Reassembly::new(hello.message_seq()),
            early: EarlyRecords::default(),
            change_cipher_spec: false,
            unreadable: 0,
            core: Core {
                deadline: now.instant + config.handshake_timeout,
                start: now.instant,
                started_unix_ms: now.unix_ms,
                // RFC 6347 section 4.2.1: the ServerHello's record repeats the sequence number of
                // the ClientHello's, and later ones count from there.
                plain: PlainWriter::new(record.sequence, record.version),
                flight: Flight::default(),
                timer: None,
                local_connection_id: Box::default(),
                config,
                hello,
            },
        }
    }

    /// When the ClientHello came whose cookie was valid.
    pub(in crate::dtls) const fn start(&self) -> Instant {
        self.core.start
    }

    /// Bytes of memory, of the parts whose size the peer decides on exactly.
    pub(in crate::dtls) fn memory(&self) -> usize {
        size_of::<Self>()
            + self.reassembly.memory()
            + self.early.memory()
            + self.core.flight.memory()
            + self.expect.memory()
    }

    /// Whether `random` is that of the ClientHello which started this handshake.
    pub(in crate::dtls) fn is_of_hello(&self, random: &[u8; 32]) -> bool {
        self.core.hello.random() == random
    }

    /// The connection id in records of epoch 1 to us; empty when they have none.
    pub(in crate::dtls) fn local_connection_id(&self) -> &[u8] {
        &self.core.local_connection_id
    }

    /// Takes a record of epoch 0; `body` is what follows its header.
    pub(in crate::dtls) fn handle_plain_record(
        &mut self,
        now: Now,
        header: RecordHeader,
        body: &[u8],
        cx: &mut Context<'_>,
    ) -> Result<Progress, Error> {
        if header.version != DTLS_1_2 && !may_be_dtls_1_0(header.content_type, body) {
            (cx.drops)(DropReason::RecordVersion);
            return Ok(Progress::Pending);
        }
        match header.content_type {
            ContentType::Handshake => self.handle_fragments(now, 0, body, cx),
            ContentType::ChangeCipherSpec => {
                // RFC 5246 section 7.1: a single byte of value 1; ignored unless expected.
                if body != [1] || self.core.timer.is_none() || self.change_cipher_spec {
                    (cx.drops)(DropReason::RecordType);
                    return Ok(Progress::Pending);
                }
                self.change_cipher_spec = true;
                self.handle_early_records(now, cx)
            }
            ContentType::Alert => {
                (cx.drops)(DropReason::AlertUnauthenticated);
                Ok(Progress::Pending)
            }
            ContentType::ApplicationData => {
                (cx.drops)(DropReason::EarlyApplicationData);
                Ok(Progress::Pending)
            }
            ContentType::ConnectionId | ContentType::ReturnRoutabilityCheck => {
                (cx.drops)(DropReason::RecordType);
                Ok(Progress::Pending)
            }
        }
    }

    /// Takes a record of epoch 1 that is no application data as far as can be seen, and opens it in
    /// place.
    pub(in crate::dtls) fn handle_protected_record(
        &mut self,
        now: Now,
        header: RecordHeader,
        record: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Result<Progress, Error> {
        let ready = self.change_cipher_spec;
        let Some(protection) = self.expect.protection().filter(|_| ready) else {
            self.keep_early(header, record);
            return Ok(Progress::NotMine);
        };
        let opened = match protection.open(header, record) {
            Ok(opened) => opened,
            Err(_) if protection.is_worn() => return Err(Error::TooManyForgeries),
            Err(DropReason::RecordForged) => return self.on_unreadable(header),
            Err(_) => return Ok(Progress::NotMine),
        };
        let plaintext = record.get(opened.range).unwrap_or_default();
        match opened.content_type {
            ContentType::Handshake => self.handle_fragments(now, 1, plaintext, cx),
            ContentType::Alert => match Alert::decode(plaintext) {
                Some(alert) if alert.ends_connection() => Err(Error::PeerAlert(alert.description)),
                _ => Ok(Progress::Pending),
            },
            ContentType::ApplicationData => {
                (cx.drops)(DropReason::EarlyApplicationData);
                self.repeat_resumption(now.instant, cx)
            }
            ContentType::ChangeCipherSpec
            | ContentType::ConnectionId
            | ContentType::ReturnRoutabilityCheck => {
                (cx.drops)(DropReason::RecordType);
                Ok(Progress::Pending)
            }
        }
    }

    /// A record that the keys do not open. Who has another key is told so, but not for the first:
    /// that may be of an older connection, or anybody's.
    fn on_unreadable(&mut self, header: RecordHeader) -> Result<Progress, Error> {
        if self.expect.awaits_proof_of_key() && may_be_finished(header) {
            self.unreadable += 1;
            if self.unreadable >= UNREADABLE_MAX {
                // RFC 4279 section 2: decrypt_error, of a wrong key and of an unknown identity.
                return Err(Error::BadFinished);
            }
        }
        Ok(Progress::NotMine)
    }

    fn keep_early(&mut self, header: RecordHeader, record: &[u8]) {
        // Before flight 4 is out the client cannot have any keys.
        if may_be_finished(header) && self.core.timer.is_some() {
            self.early.keep(record);
        }
    }

    /// Takes the fragments of one record.
    fn handle_fragments(
        &mut self,
        now: Now,
        epoch: u16,
        body: &[u8],
        cx: &mut Context<'_>,
    ) -> Result<Progress, Error> {
        let mut reader = Reader::new(body);
        while !reader.is_empty() {
            let fragment = match Fragment::decode(&mut reader) {
                Ok(fragment) => fragment,
                Err(reason) => {
                    // What follows in the record cannot be delimited.
                    (cx.drops)(reason);
                    break;
                }
            };
            // A resumption awaits nothing but Finished; what is in the clear then is the ClientHello
            // again, or anybody's.
            let is_strange = epoch == 0
                && matches!(self.expect, Expect::ResumedFinished(_))
                && fragment.header.message_seq > self.core.hello.message_seq();
            if is_strange || !fragment.header.message_type.fits(epoch) {
                (cx.drops)(DropReason::RecordEpoch);
                continue;
            }
            if let Progress::Established(connection) = self.handle_fragment(now, &fragment, cx)? {
                return Ok(Progress::Established(connection));
            }
        }
        Ok(Progress::Pending)
    }

    fn handle_fragment(
        &mut self,
        now: Now,
        fragment: &Fragment<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Progress, Error> {
        let inserted = if self.expect.takes_no_message() {
            self.reassembly.keep(fragment).map(|()| None)
        } else {
            self.reassembly.insert(fragment)
        };
        let whole = match inserted {
            Ok(whole) => whole,
            Err(reason) => {
                (cx.drops)(reason);
                if reason == DropReason::FragmentRepeated {
                    self.on_repetition(now.instant, fragment, cx)?;
                }
                return Ok(Progress::Pending);
            }
        };
        if let Some(message) = whole {
            let progress = self.handle_message(now, &message, cx)?;
            if matches!(progress, Progress::Established(_)) {
                return Ok(progress);
            }
        }
        self.handle_kept(now, cx)
    }

    /// Handles what is complete, as far as the state takes it.
    fn handle_kept(&mut self, now: Now, cx: &mut Context<'_>) -> Result<Progress, Error> {
        while !self.expect.takes_no_message()
            && let Some(partial) = self.reassembly.pop()
        {
            let progress = self.handle_message(now, &partial.message(), cx)?;
            if matches!(progress, Progress::Established(_)) {
                return Ok(progress);
            }
        }
        if self.change_cipher_spec {
            return self.handle_early_records(now, cx);
        }
        Ok(Progress::Pending)
    }

    /// Hands a complete message to the state, by value.
    fn handle_message(
        &mut self,
        now: Now,
        message: &HandshakeMessage<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Progress, Error> {
        // An error ends the handshake, so the state need not be put back then.
        if let Expect::ResumedFinished(expect) = &self.expect {
            // Looked at before the state is taken apart: the alert needs its keys.
            expect.check(message, cx)?;
        }
        let expect = std::mem::replace(&mut self.expect, Expect::Nothing);
        match expect.handle(message, &mut self.core, now, cx)? {
            Next::Expect(next) => {
                self.expect = next;
                Ok(Progress::Pending)
            }
            Next::Established(connection) => Ok(Progress::Established(connection)),
        }
    }

    /// Reads the records of epoch 1 that came too early, now that they can be read.
    fn handle_early_records(&mut self, now: Now, cx: &mut Context<'_>) -> Result<Progress, Error> {
        if self.expect.protection().is_none() {
            return Ok(Progress::Pending);
        }
        for mut record in self.early.take() {
            let cid_len = u8::try_from(self.core.local_connection_id.len()).unwrap_or(u8::MAX);
            let mut cursor = RecordCursor::new(cid_len);
            let Some(Ok(slice)) = cursor.next(&record) else {
                continue;
            };
            match self.handle_protected_record(now, slice.header, &mut record, cx)? {
                Progress::Established(connection) => {
                    return Ok(Progress::Established(connection));
                }
                Progress::NotMine => (cx.drops)(DropReason::RecordForged),
                Progress::Pending => {}
            }
        }
        Ok(Progress::Pending)
    }

    /// The client repeated its ClientHello and sent nothing of flight 5: flight 4 was lost (RFC 6347
    /// section 4.2.4).
    fn on_repetition(
        &mut self,
        now: Instant,
        fragment: &Fragment<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), Error> {
        if let Expect::Credential(expect) = &mut self.expect
            && fragment.header.message_type == HandshakeType::ClientKeyExchange
        {
            expect.on_repetition();
        }
        let waits_for_flight_5 = self.expect.awaits_flight();
        let is_hello = fragment.header.message_type == HandshakeType::ClientHello
            && fragment.header.message_seq == self.core.hello.message_seq();
        let timer = self
            .core
            .timer
            .as_mut()
            .filter(|_| waits_for_flight_5 && is_hello);
        if timer.is_some_and(|timer| timer.on_peer_repetition(now)) {
            self.core.retransmit(self.expect.protection(), cx)?;
        }
        Ok(())
    }

    /// The key that the handshake waits for, if nobody was asked for it yet.
    pub(in crate::dtls) fn poll_lookup(&mut self) -> Option<CredentialLookup> {
        match &mut self.expect {
            Expect::Credential(expect) => expect.poll_lookup(),
            _ => None,
        }
    }

    /// Nobody could be asked: the client's repetition of its flight is the next occasion.
    pub(in crate::dtls) fn on_lookup_refused(&mut self, lookup: &CredentialLookup) {
        if let Expect::Credential(expect) = &mut self.expect {
            expect.on_refused(lookup);
        }
    }

    /// Takes the answer to `lookup`: the key, or `None` when the identity is nobody's.
    pub(in crate::dtls) fn handle_credential(
        &mut self,
        now: Now,
        lookup: &CredentialLookup,
        key: Option<&PreSharedKey>,
        cx: &mut Context<'_>,
    ) -> Result<Progress, Error> {
        self.expect = match std::mem::replace(&mut self.expect, Expect::Nothing) {
            Expect::Credential(expect) if expect.is_answered_by(lookup) => {
                Expect::Finished(expect.handle(key))
            }
            // Of a handshake that this one took the place of.
            other => {
                (cx.drops)(DropReason::VerdictStale);
                self.expect = other;
                return Ok(Progress::Pending);
            }
        };
        self.handle_kept(now, cx)
    }

    /// Application data under the keys, but before the client's Finished. In a resumption the client
    /// is done then, and its Finished was lost or overtaken: our flight makes it send that again
    /// (RFC 6347 section 4.2.4), long before the timer would. The data cannot be trusted yet and is
    /// lost, as the section allows; who sent it repeats it.
    pub(in crate::dtls) fn on_early_application_data(
        &mut self,
        now: Instant,
        header: RecordHeader,
        record: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Result<Progress, Error> {
        let Expect::ResumedFinished(expect) = &mut self.expect else {
            return Ok(Progress::Pending);
        };
        let protection = &mut expect.protection;
        if protection.open(header, record).is_err() {
            if protection.is_worn() {
                return Err(Error::TooManyForgeries);
            }
            return Ok(Progress::Pending);
        }
        self.repeat_resumption(now, cx)
    }

    /// The client has finished a resumption, and its Finished is not there: our flight again.
    fn repeat_resumption(&mut self, now: Instant, cx: &mut Context<'_>) -> Result<Progress, Error> {
        if !matches!(self.expect, Expect::ResumedFinished(_)) {
            return Ok(Progress::Pending);
        }
        let timer = self.core.timer.as_mut();
        if timer.is_some_and(|timer| timer.on_peer_repetition(now)) {
            self.core.retransmit(self.expect.protection(), cx)?;
        }
        Ok(Progress::Pending)
    }

    /// The peer, or someone in its name, said that it gives up. A hint: nothing is sent any more,
    /// and the client has only until the next retransmission would have come to prove it wrong.
    pub(in crate::dtls) fn on_unauthenticated_alert(&mut self, now: Instant, alert: Alert) {
        if !alert.ends_connection() {
            return;
        }
        let grace = match &mut self.core.timer {
            Some(timer) => timer.stop(),
            None => self.core.config.retransmission_timeout,
        };
        self.core.deadline = self.core.deadline.min(now + grace);
    }

    /// Tells the peer why the handshake ends, if there is a way to tell it.
    pub(in crate::dtls) fn send_alert(&mut self, error: Error, cx: &mut Context<'_>) {
        if let Some(description) = error.alert() {
            let alert = Alert::fatal(description).encode();
            if let Some(protection) = self.expect.written_protection() {
                protection.send_small(ContentType::Alert, &alert, cx.out);
                return;
            }
            // Without a sequence number it stays unsaid.
            let _ = self.core.plain.send(ContentType::Alert, &alert, cx.out);
        }
    }

    /// When [`Self::handle_timeout`] is due.
    pub(in crate::dtls) fn next_timeout(&self) -> Instant {
        let due = self.core.timer.as_ref().and_then(RetransmissionTimer::due);
        due.map_or(self.core.deadline, |due| due.min(self.core.deadline))
    }

    /// Retransmits when it is time.
    pub(in crate::dtls) fn handle_timeout(
        &mut self,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Result<(), Error> {
        if now >= self.core.deadline {
            return Err(Error::TimedOut);
        }
        match self
            .core
            .timer
            .as_mut()
            .map(|timer| timer.handle_timeout(now))
        {
            Some(TimerAction::Retransmit) => self.core.retransmit(self.expect.protection(), cx),
            Some(TimerAction::GiveUp) => Err(Error::TimedOut),
            Some(TimerAction::Wait) | None => Ok(()),
        }
    }
}

/// Records that a Finished under a pre-shared key may not have been, before the handshake ends.
const UNREADABLE_MAX: u8 = 2;

fn may_be_finished(header: RecordHeader) -> bool {
    matches!(
        header.content_type,
        ContentType::Handshake | ContentType::ConnectionId
    )
}

impl Core {
    fn datagram_max(&self) -> usize {
        let configured = self.config.max_transmission_unit;
        self.timer
            .as_ref()
            .map_or(configured, |timer| timer.datagram_max(configured))
    }

    /// Sends our flight, for the first time or again. That of a resumption needs the keys.
    fn retransmit(
        &mut self,
        protection: Option<&mut Protection>,
        cx: &mut Context<'_>,
    ) -> Result<(), Error> {
        let datagram_max = self.datagram_max();
        self.flight
            .emit(datagram_max, &mut self.plain, protection, cx.out)
    }
}

/// One handshake in work, without what hangs on it; with flight 4 and the transcript it is some
/// kilobytes.
const _: () = assert!(size_of::<ServerHandshake>() <= 1536);
