//! Sessions by id (RFC 5246 section 7.3): bounded in number and age, the oldest goes first.
//!
//! ```text
//! id   = tag[8] | rest[24], all random
//! part = tag mod 64, each with a lock of its own:  tag -> session,  tags in the order of coming
//! ```
//!
//! One cache serves all shards. Its locks are held for a few hundred nanoseconds, at handshakes
//! only, and are tried, never waited for: a session that cannot be had at once is not resumed, one
//! that cannot be put away at once gets no second chance. No operation looks at more than two
//! sessions. Secrets are wiped when their session goes.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, TryLockError};

use hashbrown::HashTable;

use super::{SESSION_ID_LEN, Session, SessionId};
use crate::dtls::cookie::equal;
use crate::time::Duration;

/// Parts with a lock of their own; so many that two shards seldom meet.
const PARTS: usize = 64;
/// Tries for a lock whose holder was interrupted, perhaps.
const TRIES: usize = 64;

/// Sessions that can be resumed by id.
#[derive(Debug)]
pub struct SessionCache {
    parts: Vec<Mutex<Part>>,
    part_max: usize,
    lifetime: Duration,
}

#[derive(Debug, Default)]
struct Part {
    /// Boxed, so that a growing table copies no secrets. By the tags, which we drew.
    sessions: HashTable<Box<Kept>>,
    /// Oldest first; those that were forgotten are still listed.
    order: VecDeque<u64>,
}

#[derive(Debug)]
struct Kept {
    id: SessionId,
    session: Session,
}

impl Kept {
    fn tag(&self) -> u64 {
        SessionCache::tag(&self.id)
    }
}

/// What 176 bytes of the allocator have room for.
const _: () = assert!(size_of::<Kept>() <= 168);

impl Part {
    fn get(&self, tag: u64) -> Option<&Kept> {
        let found = self.sessions.find(spread(tag), |kept| kept.tag() == tag);
        found.map(|kept| &**kept)
    }

    fn insert(&mut self, kept: Box<Kept>) {
        self.remove(kept.tag());
        let hash = spread(kept.tag());
        self.sessions
            .insert_unique(hash, kept, |kept| spread(kept.tag()));
    }

    fn remove(&mut self, tag: u64) {
        let found = self
            .sessions
            .find_entry(spread(tag), |kept| kept.tag() == tag);
        if let Ok(entry) = found {
            entry.remove();
        }
    }
}

/// Tags are random, but those of one part are alike in their last bits.
const fn spread(tag: u64) -> u64 {
    (tag ^ (tag >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl SessionCache {
    /// At most `sessions_max` sessions (rounded up to a multiple of 64), each for `lifetime` at
    /// most.
    pub fn new(sessions_max: usize, lifetime: Duration) -> Self {
        Self {
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            part_max: sessions_max.div_ceil(PARTS).max(1),
            lifetime,
        }
    }

    /// How long a session is kept at most.
    pub(in crate::dtls) const fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// The tag by which the session of `id` can be forgotten.
    pub(in crate::dtls) fn tag(id: &SessionId) -> u64 {
        id.first_chunk().copied().map_or(0, u64::from_be_bytes)
    }

    fn part(&self, tag: u64) -> Option<MutexGuard<'_, Part>> {
        let part = self.parts.get(usize::try_from(tag % PARTS as u64).ok()?)?;
        for _ in 0..TRIES {
            match part.try_lock() {
                Ok(part) => return Some(part),
                // Whoever panicked left whole sessions or none.
                Err(TryLockError::Poisoned(part)) => return Some(part.into_inner()),
                Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
            }
        }
        None
    }

    /// Keeps `session` under `id`, which must be random and new.
    pub(in crate::dtls) fn insert(&self, now_unix_ms: u64, id: SessionId, session: Session) {
        let tag = Self::tag(&id);
        let Some(mut part) = self.part(tag) else {
            return;
        };
        let part = &mut *part;
        // Two for one, so that what expired makes room without a scan.
        for _ in 0..2 {
            let Some(&oldest) = part.order.front() else {
                break;
            };
            let is_over = part
                .get(oldest)
                .is_none_or(|kept| !kept.session.is_current(now_unix_ms));
            let is_full = part.order.len() >= self.part_max;
            if !is_full && !is_over {
                break;
            }
            part.order.pop_front();
            part.remove(oldest);
        }
        part.order.push_back(tag);
        part.insert(Box::new(Kept { id, session }));
    }

    /// A copy of the session of `id`, if it is kept.
    pub(in crate::dtls) fn lookup(&self, id: &[u8]) -> Option<Session> {
        let id: &[u8; SESSION_ID_LEN] = id.try_into().ok()?;
        let tag = Self::tag(id);
        let part = self.part(tag)?;
        let kept = part.get(tag)?;
        equal(&kept.id, id).then(|| kept.session.clone())
    }

    /// Forgets the session with this tag: its connection ended by a fatal alert, after which it
    /// must not be resumed (RFC 5246 section 7.2.2).
    pub(in crate::dtls) fn forget(&self, tag: u64) {
        if let Some(mut part) = self.part(tag) {
            part.remove(tag);
        }
    }

    /// Sessions that are kept. For readers of metrics, which may wait.
    pub(in crate::dtls) fn len(&self) -> usize {
        let len = |part: &Mutex<Part>| {
            let part = part.lock();
            let part = part.unwrap_or_else(std::sync::PoisonError::into_inner);
            part.sessions.len()
        };
        self.parts.iter().map(len).sum()
    }
}
