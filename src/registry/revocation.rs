//! Identities whose credential has ended, and when.
//!
//! A device that is removed, or gets another credential, must lose its live sessions, and whatever
//! could bring one back without proving the credential anew. So the end of a credential is noted
//! here, for as long as anything that was made with it could still be presented:
//!
//! ```text
//! registry (one writer) --record--> buckets[of the identity's bytes]   an immutable list each
//!                       --publish-> observer: tells the shards
//! shards, at a handshake ----------> is_revoked: one atomic load, one search in a short list
//! ```
//!
//! Reading takes no lock and waits for nobody. A write copies one bucket of `BUCKETS`.

use arc_swap::ArcSwap;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// How long the end of a credential is remembered: longer than RFC 8446 section 4.6.1 allows any
/// ticket to live (seven days), in milliseconds.
pub const REMEMBERED_MS: u64 = 8 * 86_400_000;
/// How many are remembered at most, at some 100 bytes each; the oldest make room.
pub const REMEMBERED_MAX: usize = 1 << 20;
/// Old ones given up in one call of [`RevocationList::record`] at most.
const FORGOTTEN_PER_CALL: usize = 64;
/// Lists that the identities are spread over: with a million remembered, a write copies 40 KiB.
const BUCKETS: usize = 1024;

/// Who a session can have proven to be by a credential of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SessionIdentity {
    /// The holder of the key of the certificate with this device fingerprint.
    Certificate([u8; 32]),
    /// The holder of a pre-shared key: SHA-256 of the PSK identity's bytes.
    PreSharedKey([u8; 32]),
}

/// One credential's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Who could prove it.
    pub identity: SessionIdentity,
    /// When, in milliseconds since the UNIX epoch.
    pub unix_ms: u64,
}

type Observer = Box<dyn Fn(u64) + Send + Sync>;

/// What is known of credentials that ended.
pub struct RevocationList {
    /// Each in the order of identities.
    buckets: Box<[ArcSwap<Vec<Revocation>>]>,
    /// What ended then, or earlier, may have been forgotten.
    forgotten_until_ms: AtomicU64,
    /// The same revocations in the order in which they came.
    order: Mutex<VecDeque<Revocation>>,
    observer: OnceLock<Observer>,
}

impl SessionIdentity {
    const CERTIFICATE: u8 = 1;
    const PRE_SHARED_KEY: u8 = 2;

    /// Kind and value in 33 bytes, for a database.
    pub fn encode(&self) -> [u8; 33] {
        let (kind, value) = match self {
            Self::Certificate(value) => (Self::CERTIFICATE, value),
            Self::PreSharedKey(value) => (Self::PRE_SHARED_KEY, value),
        };
        let mut bytes = [kind; 33];
        bytes[1..].copy_from_slice(value);
        bytes
    }

    /// Reads what [`Self::encode`] wrote; `None` when it is something else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&kind, value) = bytes.split_first()?;
        let value = value.try_into().ok()?;
        match kind {
            Self::CERTIFICATE => Some(Self::Certificate(value)),
            Self::PRE_SHARED_KEY => Some(Self::PreSharedKey(value)),
            _ => None,
        }
    }

    /// Fingerprints and hashes are spread evenly, and only an administrator's reach the list.
    fn bucket(&self) -> usize {
        let (Self::Certificate([a, b, ..]) | Self::PreSharedKey([a, b, ..])) = *self;
        usize::from(u16::from_be_bytes([a, b])) % BUCKETS
    }
}

impl Default for RevocationList {
    fn default() -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| ArcSwap::default()).collect(),
            forgotten_until_ms: AtomicU64::new(0),
            order: Mutex::default(),
            observer: OnceLock::new(),
        }
    }
}

impl RevocationList {
    /// Whether the credential of `identity` ended at or after `since_unix_ms`, as far as is known:
    /// of a time so long ago that ends may have been forgotten, the answer is yes.
    pub fn is_revoked(&self, identity: &SessionIdentity, since_unix_ms: u64) -> bool {
        let Some(bucket) = self.buckets.get(identity.bucket()) else {
            return true;
        };
        let bucket = bucket.load();
        let found = bucket.binary_search_by_key(identity, |known| known.identity);
        let known = found.ok().and_then(|index| bucket.get(index));
        if known.is_some_and(|known| known.unix_ms >= since_unix_ms) {
            return true;
        }
        // After the search: what is given up meanwhile is marked here before it is taken away.
        let forgotten = self.forgotten_until_ms.load(Ordering::Acquire);
        forgotten > 0 && since_unix_ms <= forgotten
    }

    /// Notes that a credential ended. Returns what was given up for it, being too old or too many.
    pub fn record(&self, revocation: Revocation) -> Vec<Revocation> {
        let mut order = self.order();
        self.put(revocation);
        order.push_back(revocation);
        let mut forgotten = Vec::new();
        while forgotten.len() < FORGOTTEN_PER_CALL {
            let is_spare = |oldest: &Revocation| {
                order.len() > REMEMBERED_MAX
                    || oldest.unix_ms.saturating_add(REMEMBERED_MS) < revocation.unix_ms
            };
            if !order.front().is_some_and(is_spare) {
                break;
            }
            let Some(oldest) = order.pop_front() else {
                break;
            };
            // Before it is taken away, so that no reader finds neither.
            self.forgotten_until_ms
                .fetch_max(oldest.unix_ms, Ordering::AcqRel);
            if self.take(oldest) {
                forgotten.push(oldest);
            }
        }
        forgotten
    }

    /// Fills the list at the start; the order does not matter.
    pub fn load(&self, revocations: impl IntoIterator<Item = Revocation>) {
        let mut revocations: Vec<_> = revocations.into_iter().collect();
        revocations.sort_by_key(|revocation| revocation.unix_ms);
        let mut order = self.order();
        for revocation in revocations {
            self.put(revocation);
            order.push_back(revocation);
        }
    }

    /// Revocations remembered.
    pub fn len(&self) -> usize {
        self.order().len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sets who is told of each revocation, with its time; only the first call counts.
    pub fn set_observer(&self, observer: impl Fn(u64) + Send + Sync + 'static) {
        let _ = self.observer.set(Box::new(observer));
    }

    /// Tells the observer of a revocation that was recorded, once nobody finds the credential any
    /// more.
    pub fn publish(&self, unix_ms: u64) {
        if let Some(observer) = self.observer.get() {
            observer(unix_ms);
        }
    }

    /// Adds a revocation to its bucket, in the place of an earlier one of the same identity.
    fn put(&self, revocation: Revocation) {
        let Some(bucket) = self.buckets.get(revocation.identity.bucket()) else {
            return;
        };
        let mut entries = Vec::clone(&bucket.load());
        match entries.binary_search_by_key(&revocation.identity, |known| known.identity) {
            Ok(index) => entries[index] = revocation,
            Err(index) => entries.insert(index, revocation),
        }
        bucket.store(Arc::new(entries));
    }

    /// Takes a revocation out of its bucket, unless a later one took its place.
    fn take(&self, revocation: Revocation) -> bool {
        let Some(bucket) = self.buckets.get(revocation.identity.bucket()) else {
            return false;
        };
        let mut entries = Vec::clone(&bucket.load());
        let before = entries.len();
        entries.retain(|known| *known != revocation);
        let is_taken = entries.len() < before;
        if is_taken {
            bucket.store(Arc::new(entries));
        }
        is_taken
    }

    fn order(&self) -> MutexGuard<'_, VecDeque<Revocation>> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for RevocationList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationList")
            .field("remembered", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(number: u64) -> SessionIdentity {
        let mut value = [0; 32];
        value[..8].copy_from_slice(&number.to_le_bytes());
        SessionIdentity::Certificate(value)
    }

    fn revocation(number: u64, unix_ms: u64) -> Revocation {
        Revocation {
            identity: certificate(number),
            unix_ms,
        }
    }

    #[test]
    fn what_came_before_the_end_of_a_credential_is_revoked_and_nothing_else() {
        let list = RevocationList::default();
        assert!(list.record(revocation(1, 1000)).is_empty());
        assert!(list.is_revoked(&certificate(1), 999));
        assert!(list.is_revoked(&certificate(1), 1000), "in the same moment");
        assert!(!list.is_revoked(&certificate(1), 1001));
        assert!(!list.is_revoked(&certificate(2), 0));
        let SessionIdentity::Certificate(value) = certificate(1) else {
            unreachable!()
        };
        assert!(!list.is_revoked(&SessionIdentity::PreSharedKey(value), 0));
        // A second end of the same identity takes the place of the first.
        list.record(revocation(1, 3000));
        assert!(list.is_revoked(&certificate(1), 2000));
        assert!(!list.is_revoked(&certificate(1), 3001));
    }

    #[test]
    fn what_may_have_been_forgotten_counts_as_revoked() {
        let list = RevocationList::default();
        list.record(revocation(1, 1000));
        let late = 1001 + REMEMBERED_MS;
        assert_eq!(list.record(revocation(2, late)), [revocation(1, 1000)]);
        assert_eq!(list.len(), 1);
        assert!(list.is_revoked(&certificate(1), 1000));
        assert!(list.is_revoked(&certificate(7), 1000), "nobody knows");
        assert!(!list.is_revoked(&certificate(7), 1001));
        assert!(list.is_revoked(&certificate(2), late));
    }

    #[test]
    fn a_renewed_revocation_outlives_its_first_record() {
        let list = RevocationList::default();
        list.record(revocation(1, 1000));
        list.record(revocation(1, 5000));
        let forgotten = list.record(revocation(2, 1001 + REMEMBERED_MS));
        assert!(forgotten.is_empty(), "{forgotten:?}");
        assert!(list.is_revoked(&certificate(1), 4000));
    }

    #[test]
    fn identities_are_stored_and_read_back() {
        for identity in [certificate(5), SessionIdentity::PreSharedKey([9; 32])] {
            assert_eq!(SessionIdentity::decode(&identity.encode()), Some(identity));
        }
        assert_eq!(SessionIdentity::decode(&[3; 33]), None);
        assert_eq!(SessionIdentity::decode(&[1; 32]), None);
        assert_eq!(SessionIdentity::decode(&[]), None);
    }

    #[test]
    fn many_are_remembered_within_bounds() {
        let list = RevocationList::default();
        list.load((0..20_000).map(|number| revocation(number, 10_000 + number)));
        assert_eq!(list.len(), 20_000);
        assert!((0..20_000).all(|number| list.is_revoked(&certificate(number), 10_000)));
        assert!(!list.is_revoked(&certificate(20_000), 1));
    }
}
