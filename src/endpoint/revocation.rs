//! Live sessions whose credential has ended are found and dropped.
//!
//! No index from identities to sessions is kept: it would cost every idle session memory for what
//! happens rarely. Instead the shard's peers are gone through, a bounded number in a turn, and each
//! session's identity is looked up among the credentials that ended since the removal.
//!
//! A session that is made while the search runs may lie behind it. It is of a handshake with the
//! ended credential only if the handshake looked that up before; such a handshake is refused when
//! it would end (pre-shared keys), or ends as a device that nobody knows (certificates).

use std::sync::Arc;

use super::path::allowance;
use super::{Endpoint, Outbox};
use crate::dtls::{self, PeerIdentity};
use crate::metrics::Counter;
use crate::slab::Key;

/// A search through all peers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search {
    /// Credentials that ended at this time of UNIX, in ms, or later.
    since_unix_ms: u64,
    next_slot: u32,
    /// What came while the search ran: it begins again from there.
    again_since_ms: Option<u64>,
}

impl Endpoint {
    /// Begins to drop the sessions whose credentials ended at `since_unix_ms` or later;
    /// [`Self::drop_revoked`] does it.
    pub fn revoke_since(&mut self, since_unix_ms: u64) {
        match &mut self.revocation_search {
            Some(search) if search.next_slot > 0 => {
                let again = search.again_since_ms.get_or_insert(since_unix_ms);
                *again = since_unix_ms.min(*again);
            }
            Some(search) => search.since_unix_ms = since_unix_ms.min(search.since_unix_ms),
            None => {
                self.revocation_search = Some(Search {
                    since_unix_ms,
                    next_slot: 0,
                    again_since_ms: None,
                });
            }
        }
    }

    /// Looks at the next `slots_max` peers; returns whether there is more to do.
    pub fn drop_revoked(&mut self, slots_max: u32, out: &mut Outbox) -> bool {
        let Some(mut search) = self.revocation_search else {
            return false;
        };
        let end = self
            .peers
            .slots()
            .min(search.next_slot.saturating_add(slots_max));
        let revocations = Arc::clone(&self.settings.revocations);
        for slot in search.next_slot..end {
            let Some(key) = self.peers.key_of(slot) else {
                continue;
            };
            let identity = self
                .peers
                .get(key)
                .and_then(|peer| peer.association.as_ref())
                .map_or(PeerIdentity::Anonymous, dtls::Association::identity);
            if identity != PeerIdentity::Anonymous
                && revocations.is_revoked(&identity, search.since_unix_ms)
            {
                self.drop_session(key, out);
            }
        }
        search.next_slot = end;
        if end < self.peers.slots() {
            self.revocation_search = Some(search);
            return true;
        }
        self.revocation_search = search.again_since_ms.map(|since_unix_ms| Search {
            since_unix_ms,
            next_slot: 0,
            again_since_ms: None,
        });
        self.revocation_search.is_some()
    }

    /// Ends one peer's live session; a handshake beside it goes on.
    fn drop_session(&mut self, key: Key, out: &mut Outbox) {
        let config = self.settings.dtls.load();
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let (Some(association), Some(config)) = (&mut peer.association, config.as_ref()) else {
            return;
        };
        let ids = super::connection_id::index_keys(Some(association));
        let is_empty = association.revoke(&mut dtls::Context {
            config,
            cookies: &self.settings.cookies,
            sessions: &self.settings.sessions,
            revocations: &*self.settings.revocations,
            connection_ids: &self.connection_ids,
            admit_handshakes: false,
            random: &mut *self.random,
            out: &mut out.limited(peer.address.into(), peer.local, allowance(&peer.path)),
            drops: &mut |reason| self.metrics.count_drop(reason),
        });
        // Requests in work, observations, what was acknowledged: all of it was the session's.
        let layer = peer.coap.take();
        peer.path = None;
        self.end_layer(key, layer);
        self.metrics.increment(Counter::SessionsRevoked);
        self.reindex(key, ids);
        if is_empty {
            self.remove(key);
        }
    }
}
