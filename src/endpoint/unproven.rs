//! Sessions of nobody in particular give way when the table is full.
//!
//! Whoever asks gets a session, for who a device is shows later: by a token in its requests, or by
//! what the registry says of its certificate. So strangers could fill the table with sessions that do
//! nothing, and keep every device out until they are swept as idle. A session has proven its worth
//! when a request on it was answered 2.xx (by what not anybody gets); one that has not, and is a minute old, gives way to a new
//! handshake when there is no room otherwise.
//!
//! Sessions of devices are never among them, however long they have been idle: whoever knows one valid
//! token could have his own sessions push out those of every device that sleeps. A table that is full
//! of such is one that is too small, which the operator is told once a minute.

use super::Endpoint;
use crate::endpoint::{Note, Outbox};
use crate::metrics::Counter;
use crate::slab::Key;
use crate::time::{Duration, Now};

/// Time that a device has for its first request.
const GRACE: Duration = Duration::from_secs(60);
/// How often a full table is told of.
const FULL_NOTE_PERIOD: Duration = Duration::from_secs(60);
/// Slots that are looked at, at random, for one. Where such sessions are few it takes a few ClientHellos;
/// where they are a flood it is one of theirs at once.
const SAMPLES: usize = 32;

impl Endpoint {
    /// Makes room for a session when the table is full, if one in it has shown nothing for itself.
    pub(super) fn make_room_for_session(&mut self, now: Now, out: &mut Outbox) {
        if self.secure_peers < self.settings.sessions_max {
            return;
        }
        for _ in 0..SAMPLES {
            let slot = self.random.below(self.peers.slots().into());
            let key = u32::try_from(slot)
                .ok()
                .and_then(|slot| self.peers.key_of(slot));
            if let Some(key) = key.filter(|&key| self.is_unproven(now, key)) {
                self.close_peer(key, out);
                self.metrics.increment(Counter::SessionsDisplaced);
                return;
            }
        }
        if now.instant >= self.full_note_due && out.note(Note::SessionsFull(self.secure_peers)) {
            self.full_note_due = now.instant + FULL_NOTE_PERIOD;
        }
    }

    fn is_unproven(&self, now: Now, key: Key) -> bool {
        self.peers.get(key).is_some_and(|peer| {
            let association = peer.association.as_ref();
            let is_at_rest = association.is_some_and(|association| {
                association.is_established() && !association.is_handshaking()
            });
            let age = now.instant.saturating_duration_since(peer.since());
            is_at_rest && !peer.is_proven && age >= GRACE
        })
    }
}
