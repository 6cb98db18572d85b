//! The abbreviated handshake (RFC 5246 section 7.3, RFC 5077 section 3), and what a full one leaves
//! behind for it.
//!
//! ```text
//! ClientHello (cookie valid)   with the id or the ticket of a session that fits
//!         |                            v
//!         |                    flight: ServerHello, CCS, Finished            (timer)
//!         |                            v
//!         | none that fits     ExpectResumedFinished
//!         v                            v
//! the full handshake           Finished (epoch 1) ----> Connection
//! ```
//!
//! Here the client speaks last: our flight is repeated by time until its Finished is there, and the
//! client repeats its own when ours comes again (RFC 6347 section 4.2.4). No public key operation
//! takes place. The identity of the session is the connection's only after the client's Finished,
//! which proves that it has the master secret.
//!
//! Whatever does not fit leads to the full handshake in the same flight. The one exception is a
//! ClientHello without the extended master secret of its session (RFC 7627 section 5.3: MUST
//! abort). Sessions without it are not kept at all, so these clients get full handshakes.

use super::super::flight::RetransmissionTimer;
use super::super::key_schedule::{KeySchedule, MasterSecret, Randoms, Side};
use super::super::negotiation::check_hello;
use super::super::transcript::Transcript;
use super::Core;
use super::connection_id::NegotiatedIds;
use super::expect::Next;
use crate::crypto::hash::{Hash, digest};
use crate::crypto::key_exchange::NamedGroup;
use crate::dtls::config::{Context, ServerConfig};
use crate::dtls::connection::{Connection, Established};
use crate::dtls::cookie::equal;
use crate::dtls::error::Error;
use crate::dtls::identity::PeerIdentity;
use crate::dtls::message::{
    ClientHello, HandshakeMessage, HandshakeType, MaxFragmentLength, ServerHello, VERIFY_DATA_LEN,
    emit_new_session_ticket,
};
use crate::dtls::record::DTLS_1_2;
use crate::dtls::record::limit::RecordLimits;
use crate::dtls::record::protection::Protection;
use crate::dtls::session::{
    ResumedBy, ResumptionRefusal, SESSION_ID_LEN, Session, SessionCache, SessionId, TICKET_LEN,
};
use crate::time::Now;

/// The keys are there, our Finished is out, the client's is awaited.
#[derive(Debug)]
pub(super) struct ExpectResumedFinished {
    session: Session,
    schedule: KeySchedule,
    by: ResumedBy,
    /// Of the session if it is kept here, else zero.
    session_tag: u64,
    randoms: Randoms,
    pub(super) transcript: Transcript,
    return_routability_check: bool,
    record_limits: RecordLimits,
    pub(super) protection: Protection,
}

/// What stands before the ticket in a NewSessionTicket.
const NEW_SESSION_TICKET_PREFIX: usize = 4 + 2;
/// Messages of a usual flight of ours, ChangeCipherSpec among them, and their bytes.
const FLIGHT_USUAL: (usize, usize) = (3, 192);

/// Resumes the session that `hello` offers; `None` when there is none that fits.
pub(super) fn resume(
    hello: &ClientHello<'_>,
    message: &HandshakeMessage<'_>,
    core: &mut Core,
    now: Now,
    cx: &mut Context<'_>,
) -> Result<Option<ExpectResumedFinished>, Error> {
    let (session, by) = match find(hello, cx).transpose() {
        None => return Ok(None),
        Some(found) => match found.and_then(|(session, by)| {
            check(&session, hello, &core.config, now, cx).map(|()| (session, by))
        }) {
            Ok(found) => found,
            Err(why) => {
                cx.sessions.count_refused(why);
                // RFC 7627 section 5.3: the server MUST abort the handshake.
                return match why {
                    ResumptionRefusal::NoExtendedMasterSecret => Err(Error::NoExtendedMasterSecret),
                    _ => Ok(None),
                };
            }
        },
    };
    let expect = ExpectResumedFinished::send(session, by, hello, message, core, now, cx)?;
    Ok(Some(expect))
}

/// Looks for the session. Neither id nor ticket, or nothing to look in: `None`.
fn find(
    hello: &ClientHello<'_>,
    cx: &Context<'_>,
) -> Result<Option<(Session, ResumedBy)>, ResumptionRefusal> {
    let id = hello.prefix.session_id;
    match hello.extensions.session_ticket {
        // RFC 5077 section 3.4: with a ticket the session id MUST NOT be looked up.
        Some(ticket) if !ticket.is_empty() => {
            let Some(keys) = cx.sessions.ticket_keys() else {
                return Ok(None);
            };
            keys.open(ticket)
                .map(|session| Some((session, ResumedBy::Ticket)))
        }
        _ if id.is_empty() => Ok(None),
        _ => {
            let Some(cache) = cx.sessions.cache() else {
                return Ok(None);
            };
            let session = cache.lookup(id).ok_or(ResumptionRefusal::UnknownSession)?;
            Ok(Some((session, ResumedBy::SessionId)))
        }
    }
}

/// Whether the session may go on under this ClientHello.
fn check(
    session: &Session,
    hello: &ClientHello<'_>,
    config: &ServerConfig,
    now: Now,
    cx: &Context<'_>,
) -> Result<(), ResumptionRefusal> {
    if !session.is_current(now.unix_ms) {
        return Err(ResumptionRefusal::Expired);
    }
    if cx
        .revocations
        .is_revoked(&session.identity, session.revoked_since_unix_ms())
    {
        return Err(ResumptionRefusal::Revoked);
    }
    if !hello.extensions.extended_master_secret {
        return Err(ResumptionRefusal::NoExtendedMasterSecret);
    }
    let suite = session.suite();
    let group_fits = session.group.is_none_or(|group| {
        let offered = hello.extensions.supported_groups;
        config.groups.contains(&group) && offered.is_none_or(|offered| offered.contains(group.id()))
    });
    let fits = hello.cipher_suites.contains(suite.id())
        && config.cipher_suites.contains(&suite)
        && group_fits
        // RFC 6066 section 3: another name MUST NOT be resumed; section 4: the limit is the
        // session's.
        && session.server_name.as_deref() == server_name_hash(hello).as_ref()
        && session.max_fragment_length == hello.extensions.max_fragment_length
        && session.connection_id == hello.extensions.connection_id.is_some();
    if fits {
        Ok(())
    } else {
        Err(ResumptionRefusal::Changed)
    }
}

/// The names count by their bytes: another spelling costs a full handshake.
fn server_name_hash(hello: &ClientHello<'_>) -> Option<[u8; 32]> {
    let names = hello.extensions.server_name?;
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(Hash::Sha256, names).as_ref());
    Some(hash)
}

impl ExpectResumedFinished {
    /// Sends ServerHello, ChangeCipherSpec and Finished.
    fn send(
        session: Session,
        by: ResumedBy,
        hello: &ClientHello<'_>,
        message: &HandshakeMessage<'_>,
        core: &mut Core,
        now: Now,
        cx: &mut Context<'_>,
    ) -> Result<Self, Error> {
        let secure_renegotiation = check_hello(hello, &core.config)?;
        let connection_ids = NegotiatedIds::choose(hello, core, cx);
        core.plain.set_version(DTLS_1_2);
        let mut randoms = Randoms {
            client: hello.prefix.random,
            server: [0; 32],
        };
        cx.random.fill(&mut randoms.server);
        let mut transcript = Transcript::without_signatures(session.suite().prf_hash());
        transcript.add(message);
        let server_hello = ServerHello {
            random: &randoms.server,
            // RFC 5246 section 7.4.1.3 and RFC 5077 section 3.4: the client's id says that its
            // session goes on.
            session_id: hello.prefix.session_id,
            cipher_suite: session.suite().id(),
            // RFC 6066 section 3: not in a resumption.
            server_name: false,
            // RFC 8449 section 4: of the connection, not of the session.
            record_size_limit: hello
                .extensions
                .record_size_limit
                .map(|_| core.config.record_size_limit),
            // The ticket stays as good as it is until its time is over.
            session_ticket: false,
            connection_id: connection_ids.answer(),
            return_routability_check: connection_ids.return_routability_check,
            secure_renegotiation,
            extended_master_secret: true,
            point_formats: false,
            max_fragment_length: session.max_fragment_length,
        };
        #[cfg(feature = "keylog")]
        session.master_secret.log(&core.config, &randoms.client);
        let return_routability_check = connection_ids.return_routability_check;
        let schedule = session.master_secret.prepare();
        let mut protection = schedule
            .protection(Side::Server, &randoms)
            .with_connection_ids(connection_ids.ids.clone());
        let flight = &mut core.flight;
        flight.reserve(FLIGHT_USUAL.0, FLIGHT_USUAL.1);
        flight.limit(session.max_fragment_length);
        let message_seq = message.message_seq;
        transcript.add_bytes(flight.push(HandshakeType::ServerHello, message_seq, |out| {
            server_hello.emit(out);
        }));
        let verify_data = schedule.verify_data(Side::Server, &transcript.digest());
        flight.push_change_cipher_spec();
        transcript.add_bytes(
            flight.push(HandshakeType::Finished, message_seq + 1, |out| {
                out.extend_from_slice(&verify_data);
            }),
        );
        let config = &core.config;
        core.timer = Some(
            RetransmissionTimer::new(now.instant, config.retransmission_timeout)
                .retransmissions_max(config.retransmissions_max),
        );
        core.retransmit(Some(&mut protection), cx)?;
        let session_tag = match by {
            ResumedBy::SessionId => hello
                .prefix
                .session_id
                .try_into()
                .map_or(0, SessionCache::tag),
            ResumedBy::Ticket => 0,
        };
        Ok(Self {
            session,
            schedule,
            by,
            session_tag,
            randoms,
            transcript,
            return_routability_check,
            record_limits: RecordLimits::negotiated(
                core.config.record_size_limit,
                hello.extensions.record_size_limit,
            ),
            protection,
        })
    }

    /// Whether this is the client's Finished, and its session good: it has the master secret then,
    /// hence it is who the session says.
    pub(super) fn check(
        &self,
        message: &HandshakeMessage<'_>,
        cx: &Context<'_>,
    ) -> Result<(), Error> {
        if message.message_type != HandshakeType::Finished {
            return Err(Error::UnexpectedMessage);
        }
        let digest = self.transcript.digest();
        let expected = self.schedule.verify_data(Side::Client, &digest);
        let body: &[u8; VERIFY_DATA_LEN] = message.body.try_into().map_err(|_| Error::Malformed)?;
        if !equal(body, &expected) {
            return Err(Error::BadFinished);
        }
        // The credential may have changed while the client made up its mind.
        let session = &self.session;
        if cx
            .revocations
            .is_revoked(&session.identity, session.revoked_since_unix_ms())
        {
            return Err(Error::CredentialRevoked);
        }
        Ok(())
    }

    /// Goes on after [`Self::check`].
    pub(super) fn finish(self, cx: &mut Context<'_>) -> Next {
        let Self {
            session,
            schedule: _,
            by,
            session_tag,
            randoms,
            transcript: _,
            return_routability_check,
            record_limits,
            protection,
        } = self;
        cx.sessions.count_resumed(by);
        let mut hello_tag = [0; 8];
        hello_tag.copy_from_slice(&randoms.client[24..]);
        let established = Established {
            identity: session.identity,
            group: session.group,
            extended_master_secret: true,
            max_fragment_length: session.max_fragment_length,
            hello_tag,
            session_tag,
            resumed: Some(by),
            return_routability_check,
        };
        let connection = Connection::new(protection, established, None);
        Next::Established(Box::new(connection.limited(record_limits)))
    }
}

/// How the session of a full handshake will be offered again: settled with the ServerHello, used
/// only once the client's Finished was right.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Resumability {
    /// The id in the ServerHello.
    session_id: Option<SessionId>,
    /// The ServerHello announces a ticket, so one has to come (RFC 5077 section 3.3: MUST).
    ticket: bool,
    server_name: Option<[u8; 32]>,
    connection_id: bool,
    issued_unix_ms: u64,
}

/// What a full handshake has proven, for its session.
pub(super) struct Proven<'a> {
    pub(super) master_secret: &'a MasterSecret,
    pub(super) identity: PeerIdentity,
    pub(super) group: Option<NamedGroup>,
    pub(super) max_fragment_length: Option<MaxFragmentLength>,
    /// When the client's certificate ends, if that counts.
    pub(super) not_after_unix_ms: Option<u64>,
}

impl Resumability {
    /// A ticket when the client takes tickets, else an id, if there is anything to give them by.
    pub(super) fn choose(hello: &ClientHello<'_>, now: Now, cx: &mut Context<'_>) -> Self {
        if !hello.extensions.extended_master_secret {
            return Self::default();
        }
        let ticket =
            hello.extensions.session_ticket.is_some() && cx.sessions.ticket_keys().is_some();
        // RFC 5077 section 3.4: a server that is going to issue a ticket SHOULD send no id.
        let session_id = (!ticket && cx.sessions.cache().is_some()).then(|| {
            let mut id = [0; SESSION_ID_LEN];
            cx.random.fill(&mut id);
            id
        });
        Self {
            session_id,
            ticket,
            server_name: server_name_hash(hello),
            connection_id: hello.extensions.connection_id.is_some(),
            issued_unix_ms: now.unix_ms,
        }
    }

    /// The session_id of the ServerHello.
    pub(super) fn session_id(&self) -> &[u8] {
        self.session_id.as_ref().map_or(&[], |id| id)
    }

    /// Whether the ServerHello has the session_ticket extension.
    pub(super) const fn ticket(&self) -> bool {
        self.ticket
    }

    fn session(&self, proven: &Proven<'_>, lifetime_ms: u64) -> Session {
        let expires_unix_ms = self.issued_unix_ms.saturating_add(lifetime_ms);
        Session {
            master_secret: proven.master_secret.clone(),
            identity: proven.identity,
            group: proven.group,
            max_fragment_length: proven.max_fragment_length,
            connection_id: self.connection_id,
            server_name: self.server_name.map(Box::new),
            issued_unix_ms: self.issued_unix_ms,
            // A resumed session must not outlive the certificate that it stands for.
            expires_unix_ms: proven
                .not_after_unix_ms
                .map_or(expires_unix_ms, |end| end.min(expires_unix_ms)),
        }
    }

    /// Keeps the session under the id of the ServerHello. Returns the tag by which it can be
    /// forgotten, zero for none. To be called after the client's Finished was right.
    pub(super) fn keep(&self, proven: &Proven<'_>, now: Now, cx: &Context<'_>) -> u64 {
        let (Some(id), Some(cache)) = (self.session_id, cx.sessions.cache()) else {
            return 0;
        };
        let lifetime_ms = u64::try_from(cache.lifetime().as_millis()).unwrap_or(u64::MAX);
        cache.insert(now.unix_ms, id, self.session(proven, lifetime_ms));
        SessionCache::tag(&id)
    }

    /// The body of NewSessionTicket, if the ServerHello announced one. To be called after the
    /// client's Finished was right (RFC 5077 section 3.3). The ticket is empty when there is no key
    /// any more.
    pub(super) fn new_session_ticket(
        &self,
        proven: &Proven<'_>,
        now: Now,
        cx: &mut Context<'_>,
    ) -> Option<Vec<u8>> {
        if !self.ticket {
            return None;
        }
        let mut body = Vec::with_capacity(NEW_SESSION_TICKET_PREFIX + TICKET_LEN);
        let Some(keys) = cx.sessions.ticket_keys() else {
            emit_new_session_ticket(&mut body, 0, &[]);
            return Some(body);
        };
        let lifetime_ms = u64::try_from(keys.lifetime().as_millis()).unwrap_or(u64::MAX);
        let session = self.session(proven, lifetime_ms);
        let left_s = session.expires_unix_ms.saturating_sub(now.unix_ms) / 1000;
        // A hint of 0 says nothing (RFC 5077 section 3.3).
        let hint = u32::try_from(left_s.max(1)).unwrap_or(u32::MAX);
        let ticket = keys.seal(&session, cx.random);
        emit_new_session_ticket(&mut body, hint, &ticket);
        cx.sessions.count_ticket();
        Some(body)
    }
}
