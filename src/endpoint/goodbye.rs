//! Sessions that end because we want it, and peers that are told so.

use super::path::allowance;
use super::{Endpoint, Outbox};
use crate::dtls;
use crate::metrics::Counter;
use crate::slab::Key;

impl Endpoint {
    /// Counts the end of a session by what came from its peer.
    pub(super) fn count_session_end(&self, received: &dtls::Received) {
        self.metrics.increment(match received.failure {
            _ if received.established => Counter::SessionsReplaced,
            None | Some(dtls::Error::PeerAlert(_)) => Counter::SessionsClosed,
            Some(_) => Counter::SessionsExhausted,
        });
    }

    /// Says goodbye to the peers in the slots of `slots` (close_notify, RFC 5246 section 7.2.1);
    /// returns whether there are slots after these. For the end of the server.
    pub fn close_peers(&mut self, slots: std::ops::Range<u32>, out: &mut Outbox) -> bool {
        let more = slots.end < self.peers.slots();
        for key in slots
            .filter_map(|slot| self.peers.key_of(slot))
            .collect::<Vec<_>>()
        {
            self.close_peer(key, out);
        }
        more
    }

    /// Says goodbye to one peer, if it has a session, and forgets it.
    pub(super) fn close_peer(&mut self, key: Key, out: &mut Outbox) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let config = self.settings.dtls.load();
        if let (Some(association), Some(config)) = (&mut peer.association, config.as_ref()) {
            association.close(&mut dtls::Context {
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
        }
        self.remove(key);
    }
}
