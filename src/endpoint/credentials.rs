//! Pre-shared keys are looked up by the authenticator pool while their handshakes wait.
//!
//! ```text
//! ClientKeyExchange -> poll_lookup -> Outbox.credential_requests   ==> authenticator pool
//! handle_credential_verdict -> Association::handle_credential      <==
//! ```
//!
//! The shard holds a permit per look-up, so the answers always fit its inbox. Without a permit, or
//! with the queue full, the client's flight is dropped in silence: it sends it again.

use super::connection_id::index_keys;
use super::path::allowance;
use super::{Endpoint, Note, Outbox};
use crate::auth::request::{CredentialRequest, CredentialVerdict, PeerRef};
use crate::drop_reason::DropReason;
use crate::dtls::{self, CredentialLookup};
use crate::metrics::Counter;
use crate::slab::Key;
use crate::time::Now;

impl Endpoint {
    /// Asks for the key that the peer's handshake waits for, if it waits for one.
    pub(super) fn ask_credential(&mut self, key: Key, out: &mut Outbox) {
        let peer = self.peers.get_mut(key);
        let Some(association) = peer.and_then(|peer| peer.association.as_mut()) else {
            return;
        };
        let Some(lookup) = association.poll_lookup() else {
            return;
        };
        if self.lookups_in_work >= self.settings.credential_lookups_max {
            association.on_lookup_refused(&lookup);
            self.metrics.count_drop(DropReason::CredentialLookupBudget);
            return;
        }
        self.metrics.increment(Counter::CredentialLookups);
        let CredentialLookup {
            handshake,
            identity,
        } = lookup;
        let Key { slot, generation } = key;
        out.credential_requests.push(CredentialRequest {
            peer: PeerRef {
                shard: self.shard,
                slot,
                generation,
            },
            handshake,
            identity,
        });
        // With the look-up in the outbox, as for a request.
        self.lookups_in_work += 1;
    }

    /// Look-ups of pre-shared keys that the pool has not answered yet.
    pub const fn lookups_in_work(&self) -> usize {
        self.lookups_in_work
    }

    /// The queue to the pool was full.
    pub fn handle_credential_refusal(&mut self, request: &CredentialRequest) {
        self.lookups_in_work = self.lookups_in_work.saturating_sub(1);
        self.metrics.count_drop(DropReason::CredentialLookupBudget);
        let (key, lookup) = names(request);
        let peer = self.peers.get_mut(key);
        if let Some(association) = peer.and_then(|peer| peer.association.as_mut()) {
            association.on_lookup_refused(&lookup);
        }
    }

    /// Takes the pool's answer to a look-up of this shard: its handshake goes on.
    pub fn handle_credential_verdict(
        &mut self,
        now: Now,
        verdict: &CredentialVerdict,
        out: &mut Outbox,
    ) {
        self.lookups_in_work = self.lookups_in_work.saturating_sub(1);
        let (key, lookup) = names(&verdict.request);
        let config = self.settings.dtls.load();
        let (Some(peer), Some(config)) = (self.peers.get_mut(key), config.as_ref()) else {
            self.metrics.count_drop(DropReason::VerdictStale);
            return;
        };
        let address = peer.place();
        let Some(association) = peer.association.as_mut() else {
            self.metrics.count_drop(DropReason::VerdictStale);
            return;
        };
        let was_established = association.is_established();
        let handshake_start = association.handshake_start();
        let ids = index_keys(Some(association));
        let mut sink = out.limited(peer.address.into(), peer.local, allowance(&peer.path));
        let mut drops = |reason| self.metrics.count_drop(reason);
        let mut context = dtls::Context {
            config,
            cookies: &self.settings.cookies,
            sessions: &self.settings.sessions,
            revocations: &*self.settings.revocations,
            connection_ids: &self.connection_ids,
            admit_handshakes: false,
            random: &mut *self.random,
            out: &mut sink,
            drops: &mut drops,
        };
        let secret = verdict.key.as_deref();
        let received = association.handle_credential(now, &lookup, secret, &mut context);
        let (sent, refused) = (sink.sent(), sink.refused());
        if let Some(path) = &mut peer.path {
            path.on_sent(sent);
        }
        for _ in 0..refused {
            self.metrics.count_drop(DropReason::PathLimit);
        }
        if received.established {
            peer.last_activity = now.instant;
        }
        if let Some(error) = received.failure {
            self.note_failure(address, error, out);
        }
        if let Some(alert) = received.peer_alert {
            out.note(Note::Alert(address.address, alert));
        }
        if was_established && received.established {
            self.count_session_end(&received);
        }
        self.count_handshake(key);
        self.reindex(key, ids);
        let mut current = key;
        if received.established {
            let Some(renewed) = self.on_established(now, key, handshake_start, &received) else {
                return;
            };
            current = renewed;
        }
        if received.closed {
            self.remove(current);
        } else {
            self.rearm(now, current);
        }
    }
}

fn names(request: &CredentialRequest) -> (Key, CredentialLookup) {
    let CredentialRequest {
        peer: PeerRef {
            slot, generation, ..
        },
        handshake,
        identity,
    } = *request;
    let lookup = CredentialLookup {
        handshake,
        identity,
    };
    (Key { slot, generation }, lookup)
}
