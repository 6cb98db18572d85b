//! The client's abbreviated handshake (RFC 5246 section 7.3, RFC 5077 section 3).
//!
//! ```text
//! flight 3: ClientHello with an id or a ticket     ExpectServerHello
//! ServerHello with the same id                            |
//! NewSessionTicket, if announced                   ExpectResumedFinished --+
//! CCS, Finished (epoch 1)                                 |  <-------------+
//!                                                         '-> CCS, Finished; Connection
//! ```
//!
//! The client speaks last: it keeps its flight for a server that repeats its own.

use super::super::final_flight::{FinalFlight, FinalFlightParts};
use super::super::key_schedule::{MasterSecret, Side};
use super::Core;
use super::expect::Parameters;
use crate::crypto::key_exchange::NamedGroup;
use crate::crypto::suite::CipherSuite;
use crate::dtls::client::{ClientConfig, Context};
use crate::dtls::connection::{Connection, Established};
use crate::dtls::cookie::equal;
use crate::dtls::error::Error;
use crate::dtls::identity::PeerIdentity;
use crate::dtls::message::{HandshakeMessage, MaxFragmentLength, VERIFY_DATA_LEN};
use crate::dtls::message::{NewSessionTicket, ReceivedServerHello};
use crate::dtls::record::protection::Protection;
use crate::dtls::session::{ResumableSession, ResumedBy};
use crate::time::Instant;

/// The server resumes: its Finished is awaited.
#[derive(Debug)]
pub(super) struct ExpectResumedFinished {
    parameters: Parameters,
    session: ResumableSession,
    pub(super) protection: Protection,
}

/// The session that the server says goes on.
pub(super) fn resumed(
    hello: &ReceivedServerHello<'_>,
    suite: CipherSuite,
    config: &ClientConfig,
) -> Result<Option<ResumableSession>, Error> {
    let session = config
        .resume
        .as_deref()
        .filter(|session| !session.session_id.is_empty() && session.session_id == hello.session_id);
    let Some(session) = session else {
        return Ok(None);
    };
    // RFC 5246 section 7.4.1.3: the suite is the session's; RFC 6066 section 4: and so is the limit.
    if suite != session.suite()
        || hello.extensions.max_fragment_length != session.max_fragment_length
    {
        return Err(Error::IllegalParameter);
    }
    // RFC 7627 section 5.3: in both directions the client MUST abort.
    if hello.extensions.extended_master_secret != session.extended_master_secret {
        return Err(Error::NoExtendedMasterSecret);
    }
    Ok(Some(session.clone()))
}

impl ExpectResumedFinished {
    pub(super) fn new(parameters: Parameters, session: ResumableSession) -> Self {
        let protection = session
            .master_secret
            .prepare()
            .protection(Side::Client, &parameters.randoms)
            .with_connection_ids(parameters.connection_ids.clone());
        Self {
            parameters,
            session,
            protection,
        }
    }

    /// Takes a new ticket for the session.
    pub(super) fn handle_ticket(mut self, message: &HandshakeMessage<'_>) -> Result<Self, Error> {
        self.parameters.ticket.take(message)?;
        self.parameters.transcript.add(message);
        Ok(self)
    }

    /// Takes the server's Finished and sends ours.
    pub(super) fn handle(
        self,
        message: &HandshakeMessage<'_>,
        core: &mut Core,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Result<Connection, Error> {
        let Self {
            mut parameters,
            session,
            mut protection,
        } = self;
        let transcript = &mut parameters.transcript;
        let secret = &session.master_secret;
        let expected = secret
            .prepare()
            .verify_data(Side::Server, &transcript.digest());
        let body: &[u8; VERIFY_DATA_LEN] = message.body.try_into().map_err(|_| Error::Malformed)?;
        if !equal(body, &expected) {
            return Err(Error::BadFinished);
        }
        let fresh_ticket = parameters.ticket.finish()?;
        transcript.add(message);
        let parts = FinalFlightParts {
            plain: core.plain,
            ticket: None,
            fragment_length: parameters.max_fragment_length,
            message_seq: core.take_message_seq(),
            verify_data: secret
                .prepare()
                .verify_data(Side::Client, &transcript.digest()),
            peer_message_seq: message.message_seq,
            peer_verify_data: expected,
            datagram_max: core.timer.datagram_max(core.config.max_transmission_unit),
        };
        let final_flight = FinalFlight::send(now, parts, &mut protection, cx.out)?;
        let by = if session.ticket.is_empty() {
            ResumedBy::SessionId
        } else {
            ResumedBy::Ticket
        };
        let established = Established {
            identity: PeerIdentity::Anonymous,
            group: session.group,
            extended_master_secret: session.extended_master_secret,
            max_fragment_length: session.max_fragment_length,
            hello_tag: [0; 8],
            session_tag: 0,
            resumed: Some(by),
            return_routability_check: parameters.return_routability_check,
        };
        if core.config.keep_session {
            core.session = Some(match fresh_ticket {
                Some(ticket) => session.with_ticket(ticket),
                None => session,
            });
        }
        Ok(
            Connection::new(protection, established, Some(Box::new(final_flight)))
                .limited(parameters.record_limits),
        )
    }
}

/// What a full handshake leaves for the next one: the session by the server's ticket, or else by
/// its id. `None` when the server gave neither.
pub(super) fn session_of(
    session_id: Vec<u8>,
    ticket: Option<Vec<u8>>,
    master_secret: MasterSecret,
    group: Option<NamedGroup>,
    extended_master_secret: bool,
    max_fragment_length: Option<MaxFragmentLength>,
) -> Option<ResumableSession> {
    let session = ResumableSession {
        session_id,
        ticket: Vec::new(),
        master_secret,
        group,
        extended_master_secret,
        max_fragment_length,
    };
    match ticket {
        // RFC 5077 section 3.4: the client discards the id then.
        Some(ticket) => Some(session.with_ticket(ticket)),
        None => Some(session).filter(|session| !session.session_id.is_empty()),
    }
}

/// The body of a NewSessionTicket: the ticket, `None` when it is empty.
pub(super) fn read_ticket(body: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    let NewSessionTicket { ticket, .. } = NewSessionTicket::decode(body)?;
    Ok(Some(ticket.to_vec()).filter(|ticket| !ticket.is_empty()))
}
