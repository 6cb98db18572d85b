//! How often provisioning may go wrong.

use crate::auth::api::limits::{Bucket, Wait};
use crate::auth::request::PeerRef;
use crate::registry::profile::Window;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// Wrong ones of a peer.
const OF_A_PEER: Window = Window {
    count: 10,
    period_us: 60_000_000,
};
/// Wrong secrets of a profile, by everybody who asks over DTLS, and by everybody else: source addresses
/// without DTLS cost nothing, and whoever makes them up must not keep those out who have one.
const OF_A_PROFILE: Window = Window {
    count: 1000,
    period_us: 60_000_000,
};
/// Peers that are remembered; an old one makes room for a new one.
const PEERS_MAX: usize = 4096;
/// Profiles that are remembered: as many as there can be.
const PROFILES_MAX: usize = crate::registry::profile::PROFILES_MAX;

/// What went wrong lately.
#[derive(Default)]
pub(in crate::auth::api) struct Guard {
    peers: Mutex<HashMap<PeerRef, Bucket>>,
    /// Of plain CoAP, and of DTLS.
    profiles: [Mutex<HashMap<Box<str>, Bucket>>; 2],
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    pub(super) peer: PeerRef,
    pub(super) secure: bool,
}

impl Guard {
    /// Whether one more may go wrong, of this peer and of this profile.
    pub(super) fn check(
        &self,
        asker: Asker,
        profile: Option<&str>,
        now_ms: u64,
    ) -> Result<(), Wait> {
        check(&self.peers, &asker.peer, &OF_A_PEER, now_ms)?;
        profile.map_or(Ok(()), |profile| {
            check(self.profiles(asker), profile, &OF_A_PROFILE, now_ms)
        })
    }

    /// One went wrong.
    pub(super) fn count_failure(&self, asker: Asker, profile: Option<&str>, now_ms: u64) {
        count(&self.peers, asker.peer, &OF_A_PEER, PEERS_MAX, now_ms);
        if let Some(profile) = profile {
            count(
                self.profiles(asker),
                profile.into(),
                &OF_A_PROFILE,
                PROFILES_MAX,
                now_ms,
            );
        }
    }

    fn profiles(&self, asker: Asker) -> &Mutex<HashMap<Box<str>, Bucket>> {
        let [plain, secure] = &self.profiles;
        if asker.secure { secure } else { plain }
    }
}

fn check<K, Q>(
    buckets: &Mutex<HashMap<K, Bucket>>,
    key: &Q,
    window: &Window,
    now_ms: u64,
) -> Result<(), Wait>
where
    K: Eq + Hash + std::borrow::Borrow<Q>,
    Q: Eq + Hash + ?Sized,
{
    let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
    match buckets.get_mut(key) {
        None => Ok(()),
        Some(bucket) => bucket.check(window, 1.0, now_ms.saturating_mul(1000)),
    }
}

fn count<K: Eq + Hash + Clone>(
    buckets: &Mutex<HashMap<K, Bucket>>,
    key: K,
    window: &Window,
    most: usize,
    now_ms: u64,
) {
    let now_us = now_ms.saturating_mul(1000);
    let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
    if buckets.len() >= most && !buckets.contains_key(&key) {
        buckets.retain(|_, bucket| !bucket.is_full(window, now_us));
        if buckets.len() >= most
            && let Some(any) = buckets.keys().next().cloned()
        {
            buckets.remove(&any);
        }
    }
    let bucket = buckets.entry(key);
    bucket
        .or_insert_with(|| Bucket::full(window, now_us))
        .take(1.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(slot: u32) -> Asker {
        let peer = PeerRef {
            shard: 0,
            slot,
            generation: 0,
        };
        Asker {
            peer,
            secure: false,
        }
    }

    #[test]
    fn a_peer_is_stopped_and_may_come_back() {
        let guard = Guard::default();
        for _ in 0..10 {
            assert!(guard.check(peer(1), Some("p"), 0).is_ok());
            guard.count_failure(peer(1), Some("p"), 0);
        }
        assert!(guard.check(peer(1), Some("p"), 5_999).is_err());
        assert!(guard.check(peer(2), Some("p"), 5_999).is_ok());
        assert!(guard.check(peer(1), Some("p"), 6_000).is_ok());
    }

    #[test]
    fn many_peers_do_not_guess_one_secret() {
        let guard = Guard::default();
        for slot in 0..1000 {
            assert!(guard.check(peer(slot), Some("p"), 0).is_ok());
            guard.count_failure(peer(slot), Some("p"), 0);
        }
        assert!(guard.check(peer(5000), Some("p"), 0).is_err());
        assert!(guard.check(peer(5000), Some("other"), 0).is_ok());
        let over_dtls = Asker {
            secure: true,
            ..peer(5000)
        };
        assert!(guard.check(over_dtls, Some("p"), 0).is_ok());
        for slot in 0..2 * u32::try_from(PEERS_MAX).unwrap() {
            guard.count_failure(peer(slot), None, 0);
        }
        assert_eq!(guard.peers.lock().unwrap().len(), PEERS_MAX);
    }
}
