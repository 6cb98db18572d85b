//! What an administrator asks of a shard: which sessions it holds, and to close one.
//!
//! Sessions are looked at a bounded number at a time, in the order of their slots; no index is kept
//! for it. A session that comes or goes between two looks may be missed or seen twice, as in any list
//! of what changes.

use std::fmt;
use std::net::SocketAddr;

use super::{Endpoint, Outbox, peer};
use crate::auth::request::Identity;
use crate::dtls::Association;
use crate::metrics::Counter;
use crate::slab::Key;
use crate::time::{Duration, Now};

/// Most sessions in one [`SessionPart`].
pub const SESSIONS_MAX: usize = 256;
/// Most slots looked at for one: a few hundred microseconds.
const SLOTS_MAX: u32 = 4096;

/// A live session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// Its place in the shard.
    pub key: Key,
    /// Where its peer is.
    pub address: SocketAddr,
    /// Who the peer has proven to be.
    pub identity: Identity,
    /// IANA's name of its cipher suite.
    pub suite: &'static str,
    /// The connection id in records to us; empty when they have none.
    pub connection_id: Box<[u8]>,
    /// Whether it was resumed.
    pub is_resumed: bool,
    /// Time since its handshake, to a second.
    pub age: Duration,
    /// Time since its peer last sent anything.
    pub idle: Duration,
}

/// Sessions of a shard, and where the rest begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionPart {
    /// In the order of their slots.
    pub sessions: Vec<SessionInfo>,
    /// The first slot that was not looked at; `None` when all were.
    pub next_slot: Option<u32>,
}

/// A question to a shard. Its answer is given on the shard's thread, so giving it must not wait.
pub enum Inspection {
    /// The sessions from a slot on.
    List {
        /// The first slot to look at.
        first_slot: u32,
        /// Most sessions wanted, at most [`SESSIONS_MAX`].
        limit: usize,
        /// Only those of this identity.
        identity: Option<Identity>,
        /// Takes the answer.
        answer: Box<dyn FnOnce(SessionPart) + Send>,
    },
    /// Ends a session with close_notify (RFC 5246 section 7.2.1).
    Close {
        /// Which one.
        key: Key,
        /// Told whether there was such a session.
        answer: Box<dyn FnOnce(bool) + Send>,
    },
}

impl fmt::Debug for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::List { .. } => "List",
            Self::Close { .. } => "Close",
        })
    }
}

impl Endpoint {
    /// Answers a question; bounded work.
    pub fn inspect(&mut self, now: Now, inspection: Inspection, out: &mut Outbox) {
        match inspection {
            Inspection::List {
                first_slot,
                limit,
                identity,
                answer,
            } => answer(self.sessions(now, first_slot, limit, identity)),
            Inspection::Close { key, answer } => answer(self.close_session(key, out)),
        }
    }

    fn sessions(
        &self,
        now: Now,
        first_slot: u32,
        limit: usize,
        identity: Option<Identity>,
    ) -> SessionPart {
        let limit = limit.min(SESSIONS_MAX);
        let end = self.peers.slots().min(first_slot.saturating_add(SLOTS_MAX));
        let mut part = SessionPart::default();
        for slot in first_slot..end {
            if part.sessions.len() == limit {
                part.next_slot = Some(slot);
                return part;
            }
            let found = self
                .peers
                .key_of(slot)
                .and_then(|key| self.session(now, key));
            let wanted = |found: &SessionInfo| identity.is_none_or(|one| one == found.identity);
            part.sessions.extend(found.filter(wanted));
        }
        part.next_slot = (end < self.peers.slots()).then_some(end);
        part
    }

    /// What is known of a peer's session; `None` without a live one.
    fn session(&self, now: Now, key: Key) -> Option<SessionInfo> {
        let peer = self.peers.get(key)?;
        let association = peer.association.as_ref()?;
        let suite = association.suite()?;
        Some(SessionInfo {
            key,
            address: peer.address.into(),
            identity: peer::request_identity(association.identity()),
            suite: suite.name(),
            connection_id: association
                .local_connection_ids()
                .next()
                .unwrap_or_default()
                .into(),
            is_resumed: association.resumed().is_some(),
            age: now.instant.saturating_duration_since(peer.since()),
            idle: now.instant.saturating_duration_since(peer.last_activity),
        })
    }

    fn close_session(&mut self, key: Key, out: &mut Outbox) -> bool {
        let peer = self.peers.get(key);
        let association = peer.and_then(|peer| peer.association.as_ref());
        if !association.is_some_and(Association::is_established) {
            return false;
        }
        self.close_peer(key, out);
        self.metrics.increment(Counter::SessionsDismissed);
        true
    }
}
