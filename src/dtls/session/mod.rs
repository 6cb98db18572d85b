//! What can be resumed (RFC 5246 section 7.3, RFC 5077): the state of a session, apart from the
//! connections that use it.
//!
//! ```text
//! full handshake  -> Session --> by id:     kept in the `SessionCache`
//!                           '--> by ticket: sealed, the client keeps it
//! ClientHello     -> id or ticket -> Session, looked at again, or a full handshake
//! ```
//!
//! Invariants: a session is complete or does not exist, and never changes; it has an extended master
//! secret (RFC 7627 section 5.3); its time runs from the full handshake, however often it is
//! resumed, and never beyond the client certificate's.

mod cache;
#[cfg(any(test, feature = "client"))]
mod resumable;
#[cfg(test)]
mod tests;
mod ticket;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwapOption;
use zeroize::Zeroizing;

pub use self::cache::SessionCache;
#[cfg(any(test, feature = "client"))]
pub use self::resumable::ResumableSession;
pub(super) use self::ticket::TICKET_LEN;
pub use self::ticket::{TICKET_KEYS_MAX, TicketKey, TicketKeys};
use super::handshake::MasterSecret;
use super::identity::PeerIdentity;
use super::leaf_cache::LeafCache;
use super::message::MaxFragmentLength;
use crate::crypto::key_exchange::NamedGroup;
use crate::crypto::suite::CipherSuite;
use crate::wire::{Reader, Truncated, Write};

/// Length of a session id of ours.
pub(super) const SESSION_ID_LEN: usize = 32;
/// How far another node's clock, or ours before it was set, may be ahead.
const CLOCK_SKEW_MS: u64 = 60_000;

/// The id of a session that is kept (RFC 5246 section 7.4.1.3); random.
pub(super) type SessionId = [u8; SESSION_ID_LEN];

/// The state of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) master_secret: MasterSecret,
    /// Proven in the full handshake.
    pub(super) identity: PeerIdentity,
    /// Of the key exchange, if there was one.
    pub(super) group: Option<NamedGroup>,
    pub(super) max_fragment_length: Option<MaxFragmentLength>,
    /// Whether connection ids were negotiated.
    pub(super) connection_id: bool,
    /// Hash of the client's server_name, if it sent one.
    pub(super) server_name: Option<Box<[u8; 32]>>,
    /// When the full handshake began; credentials that changed since end the session.
    pub(super) issued_unix_ms: u64,
    /// When it can no longer be resumed.
    pub(super) expires_unix_ms: u64,
}

/// The layout of [`Session::encode`]; another one is not read.
const FORM: u8 = 1;
/// Flags of the layout. The extended master secret is always there.
const EXTENDED_MASTER_SECRET: u8 = 1;
const CONNECTION_ID: u8 = 2;
const SERVER_NAME: u8 = 4;
/// Length of [`Session::encode`], whatever the session: the length tells nothing.
const ENCODED_LEN: usize = 1 + 2 + 1 + 1 + 2 + 8 + 8 + 1 + 32 + 32 + 48;

impl Session {
    pub(super) const fn suite(&self) -> CipherSuite {
        self.master_secret.suite()
    }

    /// Whether it can be resumed at `unix_ms`, as far as time goes. One from the future cannot be
    /// judged.
    pub(super) const fn is_current(&self, unix_ms: u64) -> bool {
        unix_ms < self.expires_unix_ms
            && self.issued_unix_ms <= unix_ms.saturating_add(CLOCK_SKEW_MS)
    }

    /// From when on the end of its credential ends it: earlier than it was issued, as the end may be told
    /// by another node's clock, or by ours after it was put back.
    pub(super) const fn revoked_since_unix_ms(&self) -> u64 {
        self.issued_unix_ms.saturating_sub(CLOCK_SKEW_MS)
    }

    /// The bytes of the session, for sealing.
    ///
    /// ```text
    ///  0      1       3       4       5       7        15        23            24         56            88
    /// +------+-------+-------+-------+-------+--------+---------+-------------+----------+-------------+--------+
    /// | form | suite | flags | limit | group | issued | expires | identity is | identity | server name | master |
    /// +------+-------+-------+-------+-------+--------+---------+-------------+----------+-------------+--------+
    /// ```
    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(ENCODED_LEN));
        out.push(FORM);
        out.put_u16(self.suite().id());
        let mut flags = EXTENDED_MASTER_SECRET;
        if self.connection_id {
            flags |= CONNECTION_ID;
        }
        if self.server_name.is_some() {
            flags |= SERVER_NAME;
        }
        out.push(flags);
        out.push(self.max_fragment_length.map_or(0, |length| length as u8));
        out.put_u16(self.group.map_or(0, NamedGroup::id));
        out.extend_from_slice(&self.issued_unix_ms.to_be_bytes());
        out.extend_from_slice(&self.expires_unix_ms.to_be_bytes());
        let (kind, identity) = match &self.identity {
            PeerIdentity::Anonymous => (0, &[0; 32]),
            PeerIdentity::Certificate(fingerprint) => (1, fingerprint),
            PeerIdentity::PreSharedKey(identity) => (2, identity),
        };
        out.push(kind);
        out.extend_from_slice(identity);
        out.extend_from_slice(self.server_name.as_deref().unwrap_or(&[0; 32]));
        out.extend_from_slice(self.master_secret.bytes());
        debug_assert_eq!(out.len(), ENCODED_LEN);
        out
    }

    /// Reads what [`Self::encode`] wrote. `None` for anything that is not complete and known: it
    /// may be of another version, although its seal is right.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        Self::read(&mut Reader::new(bytes)).ok().flatten()
    }

    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Truncated> {
        let form = reader.u8()?;
        let suite = CipherSuite::from_id(reader.u16()?);
        let flags = reader.u8()?;
        let limit = reader.u8()?;
        let group = reader.u16()?;
        let issued_unix_ms = u64::from_be_bytes(reader.array()?);
        let expires_unix_ms = u64::from_be_bytes(reader.array()?);
        let kind = reader.u8()?;
        let identity = reader.array()?;
        let server_name = reader.array()?;
        let master = Zeroizing::new(reader.array()?);
        reader.expect_end()?;
        let max_fragment_length = MaxFragmentLength::from_code(limit);
        let known_group = NamedGroup::from_id(group);
        let identity = match kind {
            0 => PeerIdentity::Anonymous,
            1 => PeerIdentity::Certificate(identity),
            2 => PeerIdentity::PreSharedKey(identity),
            _ => return Ok(None),
        };
        let is_known = form == FORM
            && flags & !(CONNECTION_ID | SERVER_NAME) == EXTENDED_MASTER_SECRET
            && (limit == 0 || max_fragment_length.is_some())
            && (group == 0 || known_group.is_some())
            && *master != [0; 48];
        let Some(suite) = suite.filter(|_| is_known) else {
            return Ok(None);
        };
        Ok(Some(Self {
            master_secret: MasterSecret::from_bytes(suite, &master),
            identity,
            group: known_group,
            max_fragment_length,
            connection_id: flags & CONNECTION_ID != 0,
            server_name: (flags & SERVER_NAME != 0).then(|| Box::new(server_name)),
            issued_unix_ms,
            expires_unix_ms,
        }))
    }
}

/// What a session was found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumedBy {
    /// The session id (RFC 5246 section 7.3).
    SessionId,
    /// A ticket (RFC 5077).
    Ticket,
}

/// Why an offered session was not resumed and a full handshake took place instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum ResumptionRefusal {
    /// No session of that id is kept.
    UnknownSession,
    /// The ticket is sealed by a key that is not ours, or no longer.
    UnknownKey,
    /// The ticket was tampered with, is cut off, or is of another version.
    BadTicket,
    /// Its time is over.
    Expired,
    /// The client asks for something else than the session has, or the suite is no longer allowed.
    Changed,
    /// The client's credential was removed or changed since.
    Revoked,
    /// The session has an extended master secret and the ClientHello does not offer it: aborted,
    /// as RFC 7627 section 5.3 demands.
    NoExtendedMasterSecret,
}

impl ResumptionRefusal {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::UnknownSession,
        Self::UnknownKey,
        Self::BadTicket,
        Self::Expired,
        Self::Changed,
        Self::Revoked,
        Self::NoExtendedMasterSecret,
    ];

    /// The value of the `reason` label in the metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::UnknownSession => "unknown_session",
            Self::UnknownKey => "unknown_key",
            Self::BadTicket => "bad_ticket",
            Self::Expired => "expired",
            Self::Changed => "changed",
            Self::Revoked => "revoked",
            Self::NoExtendedMasterSecret => "no_extended_master_secret",
        }
    }
}

/// All that sessions are kept in and resumed from; one for all shards, so that a resumption may
/// land on another shard than the full handshake. Touched by handshakes only, and never waited for.
#[derive(Debug)]
pub struct Sessions {
    cache: Option<SessionCache>,
    /// Certificates of those who made full handshakes.
    leaves: LeafCache,
    ticket_keys: ArcSwapOption<TicketKeys>,
    by_id: AtomicU64,
    by_ticket: AtomicU64,
    tickets_issued: AtomicU64,
    refused: [AtomicU64; ResumptionRefusal::ALL.len()],
}

/// No session is kept, no ticket is given: every handshake is a full one.
pub static NO_SESSIONS: Sessions = Sessions::new(None);

impl Sessions {
    /// Sessions by id in `cache`, or none; no tickets until there are keys for them.
    pub const fn new(cache: Option<SessionCache>) -> Self {
        Self {
            cache,
            leaves: LeafCache::new(),
            ticket_keys: ArcSwapOption::const_empty(),
            by_id: AtomicU64::new(0),
            by_ticket: AtomicU64::new(0),
            tickets_issued: AtomicU64::new(0),
            refused: [const { AtomicU64::new(0) }; ResumptionRefusal::ALL.len()],
        }
    }

    /// From now on these keys seal and open tickets; `None`: no tickets.
    pub fn set_ticket_keys(&self, keys: Option<Arc<TicketKeys>>) {
        self.ticket_keys.store(keys);
    }

    pub(super) const fn cache(&self) -> Option<&SessionCache> {
        self.cache.as_ref()
    }

    pub(super) const fn leaves(&self) -> &LeafCache {
        &self.leaves
    }

    pub(super) fn ticket_keys(&self) -> Option<Arc<TicketKeys>> {
        self.ticket_keys.load_full()
    }

    /// Forgets the session with this tag of the [`SessionCache`].
    pub(super) fn forget(&self, tag: u64) {
        if let Some(cache) = &self.cache {
            cache.forget(tag);
        }
    }

    pub(super) fn count_refused(&self, why: ResumptionRefusal) {
        if let Some(count) = self.refused.get(why as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn count_resumed(&self, by: ResumedBy) {
        let count = match by {
            ResumedBy::SessionId => &self.by_id,
            ResumedBy::Ticket => &self.by_ticket,
        };
        count.fetch_add(1, Relaxed);
    }

    pub(super) fn count_ticket(&self) {
        self.tickets_issued.fetch_add(1, Relaxed);
    }

    /// Handshakes that resumed a session found by `by`.
    pub fn resumed(&self, by: ResumedBy) -> u64 {
        match by {
            ResumedBy::SessionId => self.by_id.load(Relaxed),
            ResumedBy::Ticket => self.by_ticket.load(Relaxed),
        }
    }

    /// Offered sessions that were not resumed for this reason.
    pub fn refused(&self, why: ResumptionRefusal) -> u64 {
        self.refused
            .get(why as usize)
            .map_or(0, |count| count.load(Relaxed))
    }

    /// Tickets given to clients.
    pub fn tickets_issued(&self) -> u64 {
        self.tickets_issued.load(Relaxed)
    }

    /// Sessions kept for resumption by id.
    pub fn cached(&self) -> usize {
        self.cache.as_ref().map_or(0, SessionCache::len)
    }
}
