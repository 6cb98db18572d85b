//! Questions to the shards of this process.

use super::LocalOperations;
use crate::admin::OperationError;
use crate::admin::operations::ErrorKind;
use crate::admin::operations::sessions::{
    SessionIdentityKind, SessionOperations, SessionPage, SessionQuery, SessionView,
};
use crate::auth::request::Identity;
use crate::crypto::fingerprint::to_hex;
use crate::endpoint::{Inspection, SESSIONS_MAX, SessionInfo};
use crate::queue::Inbox;
use crate::registry::Registry;
use crate::registry::revocation::SessionIdentity;
use crate::slab::Key;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

/// How long a shard may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Questions to shards for one part of a list: with few wanted sessions among many, the asker goes
/// on from there.
const QUESTIONS_MAX: usize = 64;

impl SessionOperations for LocalOperations {
    fn sessions(&self, query: &SessionQuery) -> Result<SessionPage, OperationError> {
        let inboxes = self.inboxes()?;
        let identity = match &query.device {
            None => None,
            Some(name) => match self.find(name)?.credential.session_identity() {
                Some(SessionIdentity::Certificate(identity)) => {
                    Some(Identity::Certificate(identity))
                }
                Some(SessionIdentity::PreSharedKey(identity)) => {
                    Some(Identity::PreSharedKey(identity))
                }
                // Its sessions are anonymous: it is known by what it observes.
                None => return self.observing_sessions(name),
            },
        };
        let mut place = query
            .after
            .as_deref()
            .map_or_else(|| Ok(Place::default()), Place::parse)?;
        let mut page = SessionPage::default();
        for _ in 0..QUESTIONS_MAX {
            let Some(inbox) = inboxes.get(usize::from(place.shard)) else {
                return Ok(page);
            };
            let left = query.limit.saturating_sub(page.sessions.len());
            if left == 0 {
                break;
            }
            let part = ask(inbox, |answer| Inspection::List {
                first_slot: place.slot,
                limit: left.min(SESSIONS_MAX),
                identity,
                answer,
            })?;
            let views = part.sessions.iter();
            page.sessions
                .extend(views.map(|found| view(place.shard, found, &*self.registry)));
            place = match part.next_slot {
                Some(slot) => Place { slot, ..place },
                None => Place {
                    shard: place.shard.saturating_add(1),
                    slot: 0,
                },
            };
        }
        if usize::from(place.shard) < inboxes.len() {
            page.next_after = Some(format!("{}-{}", place.shard, place.slot));
        }
        Ok(page)
    }

    fn close_session(&self, id: &str) -> Result<(), OperationError> {
        let inboxes = self.inboxes()?;
        let (shard, key) = parse_id(id).ok_or_else(|| {
            let remedy = "`tidegate session list` shows those there are";
            OperationError::new(ErrorKind::Invalid, "that is no session's id", remedy)
        })?;
        let closed = match inboxes.get(usize::from(shard)) {
            Some(inbox) => ask(inbox, |answer| Inspection::Close { key, answer })?,
            None => false,
        };
        if closed {
            Ok(())
        } else {
            let remedy = "it has ended already, or was never there";
            let message = format!("there is no session {id}");
            Err(OperationError::new(ErrorKind::NotFound, message, remedy))
        }
    }
}

impl LocalOperations {
    /// The sessions in which a device observes something.
    fn observing_sessions(&self, name: &str) -> Result<SessionPage, OperationError> {
        let inboxes = self.inboxes()?;
        let mut page = SessionPage::default();
        for peer in self.hub.observers(self.find(name)?.id) {
            let Some(inbox) = inboxes.get(usize::from(peer.shard)) else {
                continue;
            };
            let part = ask(inbox, |answer| Inspection::List {
                first_slot: peer.slot,
                limit: 1,
                identity: None,
                answer,
            })?;
            // Peers of plain CoAP are no sessions, and a session that has ended is not another one.
            let is_it = |found: &&SessionInfo| {
                found.key.slot == peer.slot && found.key.generation == peer.generation
            };
            let found = part.sessions.iter().find(is_it);
            page.sessions.extend(found.map(|found| SessionView {
                device: Some(name.to_owned()),
                ..view(peer.shard, found, &*self.registry)
            }));
        }
        Ok(page)
    }

    fn inboxes(&self) -> Result<&[std::sync::Arc<Inbox>], OperationError> {
        self.inboxes.as_deref().ok_or_else(|| {
            OperationError::new(
                ErrorKind::Unavailable,
                "no server runs on this data directory, so there are no sessions",
                "start it with `tidegate serve`",
            )
        })
    }
}

/// Asks a shard and waits for its answer.
fn ask<T: Send + 'static>(
    inbox: &Inbox,
    question: impl FnOnce(Box<dyn FnOnce(T) + Send>) -> Inspection,
) -> Result<T, OperationError> {
    let busy = || {
        let message = "a shard is too busy to answer";
        OperationError::new(ErrorKind::Unavailable, message, "try again")
    };
    let (sender, receiver): (_, Receiver<T>) = sync_channel(1);
    let answer = move |answer| {
        // There is room, and nobody listens any more after the time-out.
        let _ = sender.try_send(answer);
    };
    inbox
        .inspect(question(Box::new(answer)))
        .map_err(|_| busy())?;
    receiver.recv_timeout(ANSWER_TIMEOUT).map_err(|_| busy())
}

/// Where a part of the list starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    shard: u16,
    slot: u32,
}

impl Place {
    fn parse(text: &str) -> Result<Self, OperationError> {
        let parts = text.split_once('-');
        let place = parts.and_then(|(shard, slot)| {
            Some(Self {
                shard: shard.parse().ok()?,
                slot: slot.parse().ok()?,
            })
        });
        place.ok_or_else(|| {
            let remedy = "give `nextAfter` of the part before";
            OperationError::new(
                ErrorKind::Invalid,
                "after is not a place in the list",
                remedy,
            )
        })
    }
}

/// `SHARD-SLOT-GENERATION`.
fn parse_id(id: &str) -> Option<(u16, Key)> {
    let mut parts = id.split('-');
    let shard = parts.next()?.parse().ok()?;
    let slot = parts.next()?.parse().ok()?;
    let generation = parts.next()?.parse().ok()?;
    let key = Key { slot, generation };
    parts.next().is_none().then_some((shard, key))
}

fn view(shard: u16, session: &SessionInfo, registry: &dyn Registry) -> SessionView {
    let Key { slot, generation } = session.key;
    let (identity, id) = match &session.identity {
        Identity::Anonymous => (SessionIdentityKind::Anonymous, None),
        Identity::Certificate(fingerprint) => (
            SessionIdentityKind::Certificate,
            registry.identify_fingerprint(fingerprint),
        ),
        Identity::PreSharedKey(hash) => (
            SessionIdentityKind::PreSharedKey,
            registry.identify_psk_identity(hash),
        ),
    };
    let device = id.and_then(|id| registry.device(id));
    SessionView {
        id: format!("{shard}-{slot}-{generation}"),
        shard,
        peer: session.address.to_string(),
        identity,
        device: device.map(|device| device.name.to_string()),
        suite: session.suite.to_owned(),
        connection_id: to_hex(&session.connection_id),
        resumed: session.is_resumed,
        age_s: session.age.as_secs(),
        idle_s: session.idle.as_secs(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_places_are_read_strictly() {
        let key = |slot, generation| Key { slot, generation };
        assert_eq!(parse_id("1-2-3"), Some((1, key(2, 3))));
        for wrong in [
            "",
            "1",
            "1-2",
            "1-2-3-4",
            "1-2--3",
            "a-2-3",
            "65536-0-0",
            "1-2-4294967296",
        ] {
            assert_eq!(parse_id(wrong), None, "{wrong}");
        }
        assert_eq!(Place::parse("3-4"), Ok(Place { shard: 3, slot: 4 }));
        for wrong in ["", "3", "3-", "3-4-5", "x"] {
            assert!(Place::parse(wrong).is_err(), "{wrong}");
        }
    }
}
