//! The client's handshake (RFC 5246 section 7.3, RFC 6347 section 4.2.4), for load and tests.
//!
//! ```text
//! flight 1: ClientHello           ExpectServerHello <---+
//! HelloVerifyRequest                     |   |          | flight 3: ClientHello with the cookie
//! ServerHello                            |   +----------+   (that resumes: see `resume`)
//! Certificate                     ExpectCertificate
//! ServerKeyExchange               ExpectServerKeyExchange
//! CertificateRequest, or not      ExpectCertificateRequest
//! ServerHelloDone                 ExpectServerHelloDone --> flight 5: [Certificate,]
//!                                        |                  ClientKeyExchange, [CertificateVerify,]
//!                                        v                  CCS, Finished
//! NewSessionTicket, if announced  ExpectFinished ---+
//! Finished (epoch 1)                     |  <-------+ ----> Connection
//! ```
//!
//! With a pre-shared key ServerHello is followed by ExpectPskKeyExchange (`pre_shared_key`), which
//! takes ServerKeyExchange, or ServerHelloDone where there is nothing to exchange.
//!
//! The messages that a suite demands cannot be left out by the server: each state takes one kind.
//! An alert in the clear ends the handshake at once, as a load generator wants to know.

mod expect;
mod pre_shared_key;
mod resume;

use std::sync::Arc;

use self::expect::{Expect, ExpectServerHello, Next};
use super::early::EarlyRecords;
use super::flight::{Flight, PlainWriter, RetransmissionTimer, TimerAction};
use super::reassembly::Reassembly;
use super::{Progress, may_be_dtls_1_0};
use crate::drop_reason::DropReason;
use crate::dtls::alert::Alert;
use crate::dtls::client::{ClientConfig, Context};
use crate::dtls::error::Error;
use crate::dtls::message::{Fragment, HandshakeMessage};
use crate::dtls::record::protection::Protection;
use crate::dtls::record::{ContentType, DTLS_1_0, DTLS_1_2, RecordCursor, RecordHeader};
use crate::dtls::session::ResumableSession;
use crate::time::{Instant, Now};
use crate::wire::Reader;

/// A handshake with a server.
#[derive(Debug)]
pub(in crate::dtls) struct ClientHandshake {
    expect: Expect,
    reassembly: Reassembly,
    early: EarlyRecords,
    change_cipher_spec: bool,
    core: Core,
}

/// What all states use.
#[derive(Debug)]
struct Core {
    config: Arc<ClientConfig>,
    random: [u8; 32],
    plain: PlainWriter,
    /// The last flight that was sent, with its timer.
    flight: Flight,
    timer: RetransmissionTimer,
    deadline: Instant,
    next_message_seq: u16,
    /// For the next time, once the server's Finished was right.
    session: Option<ResumableSession>,
}

impl ClientHandshake {
    /// Sends flight 1.
    pub(in crate::dtls) fn new(
        now: Instant,
        config: Arc<ClientConfig>,
        cx: &mut Context<'_>,
    ) -> Result<Self, Error> {
        let mut random = [0; 32];
        cx.random.fill(&mut random);
        let mut core = Core {
            random,
            // RFC 6347 section 4.2.1: DTLS 1.0 in the record until the version is settled.
            plain: PlainWriter::new(0, DTLS_1_0),
            flight: Flight::default(),
            timer: RetransmissionTimer::new(now, config.retransmission_timeout),
            deadline: now + config.handshake_timeout,
            next_message_seq: 0,
            session: None,
            config,
        };
        let expect = ExpectServerHello::send_hello(&mut core, now, &[], 0, cx)?;
        Ok(Self {
            expect: Expect::ServerHello(expect),
            reassembly: Reassembly::new(0),
            early: EarlyRecords::default(),
            change_cipher_spec: false,
            core,
        })
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
            ContentType::ChangeCipherSpec if body == [1] && !self.change_cipher_spec => {
                self.change_cipher_spec = true;
                self.handle_early_records(now, cx)
            }
            ContentType::Alert => match Alert::decode(body) {
                Some(alert) if alert.ends_connection() => Err(Error::PeerAlert(alert.description)),
                _ => Ok(Progress::Pending),
            },
            ContentType::ChangeCipherSpec
            | ContentType::ApplicationData
            | ContentType::ConnectionId
            | ContentType::ReturnRoutabilityCheck => {
                (cx.drops)(DropReason::RecordType);
                Ok(Progress::Pending)
            }
        }
    }

    /// Takes a record of epoch 1 and opens it in place.
    pub(in crate::dtls) fn handle_protected_record(
        &mut self,
        now: Now,
        header: RecordHeader,
        record: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Result<Progress, Error> {
        let ready = self.change_cipher_spec;
        let protection = match self.expect.protection() {
            Some(protection) if ready && header.epoch == 1 => protection,
            _ => {
                let may_be_finished = matches!(
                    header.content_type,
                    ContentType::Handshake | ContentType::ConnectionId
                );
                if !may_be_finished || !self.early.keep(record) {
                    (cx.drops)(DropReason::RecordEpoch);
                }
                return Ok(Progress::Pending);
            }
        };
        if header.content_type == ContentType::ApplicationData {
            (cx.drops)(DropReason::EarlyApplicationData);
            return Ok(Progress::Pending);
        }
        let opened = match protection.open(header, record) {
            Ok(opened) => opened,
            Err(reason) => {
                (cx.drops)(reason);
                return Ok(Progress::Pending);
            }
        };
        let plaintext = record.get(opened.range).unwrap_or_default();
        match opened.content_type {
            ContentType::Handshake => self.handle_fragments(now, 1, plaintext, cx),
            ContentType::Alert => match Alert::decode(plaintext) {
                Some(alert) if alert.ends_connection() => Err(Error::PeerAlert(alert.description)),
                _ => Ok(Progress::Pending),
            },
            ContentType::ChangeCipherSpec
            | ContentType::ApplicationData
            | ContentType::ConnectionId
            | ContentType::ReturnRoutabilityCheck => {
                (cx.drops)(DropReason::RecordType);
                Ok(Progress::Pending)
            }
        }
    }

    fn handle_early_records(&mut self, now: Now, cx: &mut Context<'_>) -> Result<Progress, Error> {
        if self.expect.protection().is_none() {
            return Ok(Progress::Pending);
        }
        for mut record in self.early.take() {
            let cid_len = self.core.config.connection_id.as_ref().map_or(0, Vec::len);
            let mut cursor = RecordCursor::new(u8::try_from(cid_len).unwrap_or(u8::MAX));
            let Some(Ok(slice)) = cursor.next(&record) else {
                continue;
            };
            let progress = self.handle_protected_record(now, slice.header, &mut record, cx)?;
            if matches!(progress, Progress::Established(_)) {
                return Ok(progress);
            }
        }
        Ok(Progress::Pending)
    }

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
                    (cx.drops)(reason);
                    break;
                }
            };
            if !fragment.header.message_type.fits(epoch) {
                (cx.drops)(DropReason::RecordEpoch);
                continue;
            }
            let progress = self.handle_fragment(now, &fragment, cx)?;
            if matches!(progress, Progress::Established(_)) {
                return Ok(progress);
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
        let whole = match self.reassembly.insert(fragment) {
            Ok(whole) => whole,
            Err(reason) => {
                (cx.drops)(reason);
                // The server repeats flight 4: it did not get flight 5 (RFC 6347 section 4.2.4).
                if reason == DropReason::FragmentRepeated
                    && matches!(self.expect, Expect::Finished(_))
                    && self.core.timer.on_peer_repetition(now.instant)
                {
                    self.retransmit(cx)?;
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
        while let Some(partial) = self.reassembly.pop() {
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

    fn handle_message(
        &mut self,
        now: Now,
        message: &HandshakeMessage<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Progress, Error> {
        self.expect.check(message)?;
        let expect = std::mem::replace(&mut self.expect, Expect::Nothing);
        match expect.handle(message, &mut self.core, now.instant, cx)? {
            Next::Expect(next) => {
                self.expect = next;
                Ok(Progress::Pending)
            }
            Next::Established(connection) => Ok(Progress::Established(connection)),
        }
    }

    fn retransmit(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        self.core.emit(self.expect.protection(), cx)
    }

    /// What can be offered the next time, once established.
    pub(in crate::dtls) const fn take_session(&mut self) -> Option<ResumableSession> {
        self.core.session.take()
    }

    /// Tells the server why the handshake ends, if there is a way to tell it.
    pub(in crate::dtls) fn send_alert(&mut self, error: Error, cx: &mut Context<'_>) {
        if let Some(description) = error.alert() {
            let alert = Alert::fatal(description).encode();
            // Behind our ChangeCipherSpec everything is protected (RFC 5246 section 7.1).
            let _ = match &mut self.expect {
                Expect::Finished(expect) => {
                    expect.protection.send(ContentType::Alert, &alert, cx.out)
                }
                _ => self.core.plain.send(ContentType::Alert, &alert, cx.out),
            };
        }
    }

    /// When [`Self::handle_timeout`] is due.
    pub(in crate::dtls) fn next_timeout(&self) -> Instant {
        self.core
            .timer
            .due()
            .map_or(self.core.deadline, |due| due.min(self.core.deadline))
    }

    /// Retransmits when it is time; whether it did.
    pub(in crate::dtls) fn handle_timeout(
        &mut self,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Result<bool, Error> {
        if now >= self.core.deadline {
            return Err(Error::TimedOut);
        }
        match self.core.timer.handle_timeout(now) {
            TimerAction::Retransmit => self.retransmit(cx).map(|()| true),
            TimerAction::GiveUp => Err(Error::TimedOut),
            TimerAction::Wait => Ok(false),
        }
    }
}

impl Core {
    /// Sends a new flight and starts its timer.
    fn send_flight(
        &mut self,
        flight: Flight,
        now: Instant,
        protection: Option<&mut Protection>,
        cx: &mut Context<'_>,
    ) -> Result<(), Error> {
        self.flight = flight;
        self.timer = RetransmissionTimer::new(now, self.config.retransmission_timeout)
            .retransmissions_max(self.config.retransmissions_max);
        self.emit(protection, cx)
    }

    fn emit(
        &mut self,
        protection: Option<&mut Protection>,
        cx: &mut Context<'_>,
    ) -> Result<(), Error> {
        let datagram_max = self.timer.datagram_max(self.config.max_transmission_unit);
        self.flight
            .emit(datagram_max, &mut self.plain, protection, cx.out)
    }

    fn take_message_seq(&mut self) -> u16 {
        let message_seq = self.next_message_seq;
        self.next_message_seq = message_seq.saturating_add(1);
        message_seq
    }
}
