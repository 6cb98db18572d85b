//! The client, for the load generator and the tests.

use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;

use super::config::Credentials;
use super::connection::{Connection, RecordOutcome, SealError};
use super::error::Error;
use super::handshake::client::ClientHandshake;
use super::handshake::{Progress, RETRANSMISSIONS_MAX};
use super::message::MaxFragmentLength;
use super::received::Received;
#[cfg(feature = "fuzzing")]
use super::record::ContentType;
use super::record::{HEADER_LEN, RecordCursor, RecordHeader, RecordSlice};
pub use super::session::ResumableSession;
use super::session::ResumedBy;
use crate::crypto::key_exchange::NamedGroup;
use crate::crypto::pre_shared_key::PreSharedKey;
use crate::crypto::suite::{Authentication, CipherSuite};
use crate::drop_reason::DropReason;
use crate::random::Random;
use crate::time::{Duration, Instant, Now};
use crate::wire::DatagramSink;

/// How the server's certificate is judged.
#[derive(Clone, Debug)]
pub enum ServerVerification {
    /// Any certificate whose key the server proves. For load and tests only.
    None,
    /// Any certificate, and the signature by which the server proves its key is verified in one
    /// handshake of so many: those that the client's random chooses. For load only, where verifying
    /// would cost the client more than signing costs the server.
    OneIn(NonZeroU32),
    /// A leaf that equals one of these, in DER.
    Certificates(Vec<Vec<u8>>),
}

/// A client's pre-shared key, with the identity by which the server finds it.
#[derive(Debug)]
pub struct ClientPreSharedKey {
    /// At most 65535 bytes; servers take 128 and more (RFC 4279 section 5.3).
    pub identity: Vec<u8>,
    /// The key.
    pub key: PreSharedKey,
}

/// Settings of a client.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The client's certificate; without one the client answers a request by an empty one.
    pub credentials: Option<Arc<Credentials>>,
    /// The client's pre-shared key; without one, suites that need one are not offered.
    pub pre_shared_key: Option<Arc<ClientPreSharedKey>>,
    /// Suites to offer, best first.
    pub cipher_suites: Vec<CipherSuite>,
    /// Groups to offer, best first.
    pub groups: Vec<NamedGroup>,
    /// How the server is judged.
    pub verification: ServerVerification,
    /// Offer the extended master secret (RFC 7627).
    pub extended_master_secret: bool,
    /// Ask for records of no more plaintext than this (RFC 6066 section 4).
    pub max_fragment_length: Option<MaxFragmentLength>,
    /// Take records of no more plaintext than this, and ask the server for its limit (RFC 8449); 64
    /// at least.
    pub record_size_limit: Option<u16>,
    /// The server's name, to be told to it (RFC 6066 section 3); at most 255 bytes of ASCII.
    pub server_name: Option<String>,
    /// Offer connection ids, and this one for records to us, up to 255 bytes; empty when only the
    /// server's is to be used (RFC 9146 section 3).
    pub connection_id: Option<Vec<u8>>,
    /// With [`Self::connection_id`]: offer the return routability check (RFC 9853).
    pub return_routability_check: bool,
    /// Offer this session; the server may decide for a full handshake.
    pub resume: Option<Arc<ResumableSession>>,
    /// Ask for a ticket (RFC 5077), for [`ClientConnection::session`].
    pub session_tickets: bool,
    /// Keep the session for [`ClientConnection::session`], a few hundred bytes.
    pub keep_session: bool,
    /// First retransmission of a flight; it doubles up to 60 s.
    pub retransmission_timeout: Duration,
    /// Retransmissions of a flight before the handshake is given up.
    pub retransmissions_max: u8,
    /// Longest datagram of a handshake in bytes of UDP payload; at least 64.
    pub max_transmission_unit: usize,
    /// Time from the first ClientHello to Finished.
    pub handshake_timeout: Duration,
}

impl ServerVerification {
    /// Whether the server's signature is verified in the handshake of this client random.
    pub(super) fn includes(&self, client_random: &[u8; 32]) -> bool {
        match self {
            Self::None | Self::Certificates(_) => true,
            Self::OneIn(every) => {
                let [.., a, b, c, d] = *client_random;
                u32::from_be_bytes([a, b, c, d]).is_multiple_of(every.get())
            }
        }
    }
}

impl Default for ClientConfig {
    /// Every suite and group, no certificate, any server, 1 s to the first retransmission.
    fn default() -> Self {
        Self {
            credentials: None,
            pre_shared_key: None,
            cipher_suites: CipherSuite::ALL.to_vec(),
            groups: NamedGroup::ALL.to_vec(),
            verification: ServerVerification::None,
            extended_master_secret: true,
            max_fragment_length: None,
            record_size_limit: None,
            server_name: None,
            connection_id: None,
            return_routability_check: false,
            resume: None,
            session_tickets: false,
            keep_session: false,
            retransmission_timeout: Duration::from_secs(1),
            retransmissions_max: RETRANSMISSIONS_MAX,
            max_transmission_unit: 1200,
            handshake_timeout: Duration::from_secs(30),
        }
    }
}

impl ClientConfig {
    /// Whether the ClientHello has that suite.
    pub(super) fn offers(&self, suite: CipherSuite) -> bool {
        let is_usable =
            suite.authentication() != Authentication::PreSharedKey || self.pre_shared_key.is_some();
        is_usable && self.cipher_suites.contains(&suite)
    }

    /// Whether the ClientHello has the session_ticket extension.
    pub(super) fn offers_session_ticket(&self) -> bool {
        let has_ticket = |session: &Arc<ResumableSession>| !session.ticket().is_empty();
        self.session_tickets || self.resume.as_ref().is_some_and(has_ticket)
    }
}

/// What the caller lends to each step of a client.
pub struct Context<'a> {
    /// Source of client randoms.
    pub random: &'a mut dyn Random,
    /// Takes datagrams for the server.
    pub out: &'a mut dyn DatagramSink,
    /// Counts what is discarded.
    pub drops: &'a mut dyn FnMut(DropReason),
}

/// One client's connection to a server.
#[derive(Debug)]
pub struct ClientConnection {
    state: State,
    /// To be offered the next time.
    session: Option<Box<ResumableSession>>,
    retransmissions: u64,
    /// Length of the connection id in records to us.
    cid_len: u8,
}

#[derive(Debug)]
enum State {
    Handshake(Box<ClientHandshake>),
    Established(Connection),
    Closed,
}

impl ClientConnection {
    /// Starts a handshake: the first ClientHello goes out.
    pub fn new(now: Now, config: Arc<ClientConfig>, cx: &mut Context<'_>) -> Self {
        let cid_len = config.connection_id.as_ref().map_or(0, Vec::len);
        // With a fresh record sequence a first flight cannot fail.
        let state = match ClientHandshake::new(now.instant, config, cx) {
            Ok(handshake) => State::Handshake(Box::new(handshake)),
            Err(_) => State::Closed,
        };
        Self {
            state,
            session: None,
            retransmissions: 0,
            cid_len: u8::try_from(cid_len).unwrap_or(u8::MAX),
        }
    }

    /// Takes one datagram of the server and decrypts its records in place.
    pub fn handle_datagram(
        &mut self,
        now: Now,
        datagram: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Received {
        let mut received = Received::default();
        let mut cursor = RecordCursor::new(self.cid_len);
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
            if let Some(plaintext) = self.handle_record(now, header, record, cx, &mut received) {
                received
                    .plaintexts
                    .push(&(start + plaintext.start..start + plaintext.end));
            }
        }
        received.closed = self.is_closed();
        received
    }

    fn handle_record(
        &mut self,
        now: Now,
        header: RecordHeader,
        record: &mut [u8],
        cx: &mut Context<'_>,
        received: &mut Received,
    ) -> Option<Range<usize>> {
        match &mut self.state {
            State::Handshake(handshake) => {
                let progress = if header.epoch == 0 {
                    let body = record.get(HEADER_LEN..).unwrap_or_default();
                    handshake.handle_plain_record(now, header, body, cx)
                } else {
                    handshake.handle_protected_record(now, header, record, cx)
                };
                match progress {
                    Ok(Progress::Pending | Progress::NotMine) => {}
                    Ok(Progress::Established(connection)) => {
                        received.established = true;
                        received.resumed = connection.established().resumed;
                        self.session = handshake.take_session().map(Box::new);
                        self.establish(*connection);
                    }
                    Err(error) => {
                        if let Error::PeerAlert(description) = error {
                            received.peer_alert = Some(description);
                        }
                        handshake.send_alert(error, cx);
                        received.failure = Some(error);
                        self.state = State::Closed;
                    }
                }
            }
            State::Established(connection) if header.epoch == connection.epoch() => {
                match connection.handle_record(now.instant, header, record, cx.out, cx.drops) {
                    RecordOutcome::Plaintext(range) => return Some(range),
                    RecordOutcome::Nothing => {}
                    RecordOutcome::PathResponse(cookie) => received.path_response = Some(cookie),
                    RecordOutcome::Alert(description) => received.peer_alert = Some(description),
                    RecordOutcome::Closed(error) => {
                        if let Some(Error::PeerAlert(description)) = error {
                            received.peer_alert = Some(description);
                        }
                        received.failure = error;
                        self.state = State::Closed;
                    }
                }
            }
            State::Established(_) => (cx.drops)(DropReason::RecordEpoch),
            State::Closed => (cx.drops)(DropReason::NoSession),
        }
        None
    }

    /// Does what is due.
    ///
    /// # Errors
    ///
    /// Why the handshake failed, once; the connection is closed then.
    pub fn handle_timeout(&mut self, now: Now, cx: &mut Context<'_>) -> Result<(), Error> {
        if let State::Handshake(handshake) = &mut self.state {
            match handshake.handle_timeout(now.instant, cx) {
                Ok(retransmitted) => self.retransmissions += u64::from(retransmitted),
                Err(error) => {
                    self.state = State::Closed;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// When [`Self::handle_timeout`] is due; `None` once there is no handshake.
    pub fn next_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Handshake(handshake) => Some(handshake.next_timeout()),
            State::Established(_) | State::Closed => None,
        }
    }

    /// Flights that were sent again because time ran out.
    pub const fn retransmissions(&self) -> u64 {
        self.retransmissions
    }

    /// Whether application data can be sent.
    pub const fn is_established(&self) -> bool {
        matches!(self.state, State::Established(_))
    }

    /// Whether it is over: the handshake failed, or either end closed.
    pub const fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    fn connection(&self) -> Option<&Connection> {
        match &self.state {
            State::Established(connection) => Some(connection),
            State::Handshake(_) | State::Closed => None,
        }
    }

    /// The suite that the server chose, once established.
    pub fn suite(&self) -> Option<CipherSuite> {
        self.connection().map(Connection::suite)
    }

    /// What can be offered to the server the next time: with [`ClientConfig::keep_session`], once
    /// established, when the server gave an id or a ticket.
    pub fn session(&self) -> Option<&ResumableSession> {
        self.session.as_deref()
    }

    /// How the session was resumed, once established; `None` after a full handshake.
    pub fn resumed(&self) -> Option<ResumedBy> {
        self.connection()
            .and_then(|connection| connection.established().resumed)
    }

    /// The group of the key exchange, once established.
    pub fn group(&self) -> Option<NamedGroup> {
        self.connection()
            .and_then(|connection| connection.established().group)
    }

    /// Whether the master secret is the extended one (RFC 7627), once established.
    pub fn extended_master_secret(&self) -> bool {
        self.connection()
            .is_some_and(|connection| connection.established().extended_master_secret)
    }

    /// The id that the server wants in our records; empty when it wants none, or none was agreed.
    pub fn peer_connection_id(&self) -> &[u8] {
        self.connection()
            .map_or(&[], Connection::peer_connection_id)
    }

    /// Whether both ends know the return routability check (RFC 9853), once established.
    pub fn return_routability_check(&self) -> bool {
        self.connection()
            .is_some_and(|connection| connection.established().return_routability_check)
    }

    /// Bytes before and behind the plaintext in a record; (0, 0) before it is established.
    pub fn record_overhead(&self) -> (usize, usize) {
        self.connection().map_or((0, 0), Connection::overhead)
    }

    /// Seals application data in place: `record` is `prefix | plaintext | suffix` with the lengths
    /// of [`Self::record_overhead`], and is a complete datagram afterwards.
    ///
    /// # Errors
    ///
    /// [`SealError`]; `record` must not be sent then.
    pub fn seal_application_data(&mut self, record: &mut [u8]) -> Result<(), SealError> {
        match &mut self.state {
            State::Established(connection) => connection.seal_application_data(record),
            State::Handshake(_) | State::Closed => Err(SealError::NotEstablished),
        }
    }

    /// Seals content of any kind, as a hostile client would; `None` without a session.
    #[cfg(feature = "fuzzing")]
    pub(super) fn seal_content(
        &mut self,
        content_type: ContentType,
        plaintext: &[u8],
    ) -> Option<Vec<u8>> {
        match &mut self.state {
            State::Established(connection) => {
                Some(connection.seal_content(content_type, plaintext))
            }
            State::Handshake(_) | State::Closed => None,
        }
    }

    /// A client has one session, or a few: its keys stay expanded.
    fn establish(&mut self, mut connection: Connection) {
        connection.keep_expanded_keys();
        self.state = State::Established(connection);
    }

    /// Sends close_notify and forgets everything.
    pub fn close(&mut self, cx: &mut Context<'_>) {
        if let State::Established(connection) = &mut self.state {
            connection.close(cx.out);
        }
        self.state = State::Closed;
    }
}
