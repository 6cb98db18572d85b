//! Chains that clients have shown in handshakes, until somebody looks at them.
//!
//! A handshake keeps a chain here once the key of its leaf is proven, and only when one of its
//! certificates bears the name of an authority that is wanted: a chain of any other costs nothing. The
//! names say nothing yet. Bounded in number and bytes: the oldest makes room. No handshake waits: it
//! tries for a lock, which is held for moments, and without it the chain is not kept; the device comes
//! again.

use super::{CHAIN_LENGTH_MAX, issuers};
use arc_swap::ArcSwap;
use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

/// By their fingerprints, so that shards seldom meet.
const PARTS: usize = 16;
/// Most chains of a part.
const PART_CHAINS_MAX: usize = 256;
/// Most bytes of a part's certificates.
const PART_BYTES_MAX: usize = 512 << 10;
/// How often a lock is tried.
const TRIES: usize = 100;

/// A chain, leaf first.
type Chain = Arc<[Vec<u8>]>;

/// Chains by the fingerprints of their leaves.
#[derive(Debug, Default)]
pub struct OfferedChains {
    wanted: ArcSwap<HashSet<[u8; 32]>>,
    parts: [Mutex<Part>; PARTS],
    /// Of all parts: as long as it is zero, whoever looks for a chain takes no lock.
    kept: AtomicUsize,
}

#[derive(Debug, Default)]
struct Part {
    chains: VecDeque<([u8; 32], Chain)>,
    bytes: usize,
}

impl OfferedChains {
    /// Most certificates of a chain that is kept.
    pub const LENGTH_MAX: usize = CHAIN_LENGTH_MAX;

    /// Sets the names of the authorities whose chains are kept.
    pub fn want(&self, authorities: HashSet<[u8; 32]>) {
        self.wanted.store(Arc::new(authorities));
    }

    /// Whether chains of any authority are kept.
    pub fn wants_any(&self) -> bool {
        !self.wanted.load().is_empty()
    }

    /// Keeps a chain whose leaf has this fingerprint and whose key is proven, if it is wanted.
    pub fn keep(&self, fingerprint: [u8; 32], chain: Vec<Vec<u8>>) {
        let wanted = self.wanted.load();
        if !issuers(&chain).iter().any(|name| wanted.contains(name)) {
            return;
        }
        let Some(mut part) = self.try_part(&fingerprint) else {
            return;
        };
        let before = part.chains.len();
        part.remove(&fingerprint);
        part.push(fingerprint, chain.into());
        self.count(before, part.chains.len());
    }

    /// The chain of this leaf, if it is kept.
    pub fn get(&self, fingerprint: &[u8; 32]) -> Option<Chain> {
        if self.kept.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let part = self.part(fingerprint);
        let mut chains = part.chains.iter();
        let (_, chain) = chains.find(|(known, _)| known == fingerprint)?;
        Some(Arc::clone(chain))
    }

    /// Forgets the chain of this leaf.
    pub fn remove(&self, fingerprint: &[u8; 32]) {
        let mut part = self.part(fingerprint);
        let before = part.chains.len();
        part.remove(fingerprint);
        self.count(before, part.chains.len());
    }

    fn count(&self, before: usize, after: usize) {
        // Wraps around to the right number where there are fewer.
        self.kept
            .fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }

    fn place(&self, fingerprint: &[u8; 32]) -> &Mutex<Part> {
        let [first, ..] = fingerprint;
        &self.parts[usize::from(*first) % PARTS]
    }

    fn part(&self, fingerprint: &[u8; 32]) -> MutexGuard<'_, Part> {
        let part = self.place(fingerprint).lock();
        part.unwrap_or_else(PoisonError::into_inner)
    }

    fn try_part(&self, fingerprint: &[u8; 32]) -> Option<MutexGuard<'_, Part>> {
        for _ in 0..TRIES {
            match self.place(fingerprint).try_lock() {
                Ok(part) => return Some(part),
                Err(TryLockError::Poisoned(part)) => return Some(part.into_inner()),
                Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
            }
        }
        None
    }
}

impl Part {
    fn remove(&mut self, fingerprint: &[u8; 32]) {
        let mut chains = self.chains.iter();
        let at = chains.position(|(known, _)| known == fingerprint);
        if let Some((_, chain)) = at.and_then(|at| self.chains.remove(at)) {
            self.bytes -= bytes(&chain);
        }
    }

    fn push(&mut self, fingerprint: [u8; 32], chain: Chain) {
        let added = bytes(&chain);
        while self.chains.len() >= PART_CHAINS_MAX || self.bytes + added > PART_BYTES_MAX {
            match self.chains.pop_front() {
                Some((_, oldest)) => self.bytes -= bytes(&oldest),
                None => return,
            }
        }
        self.bytes += added;
        self.chains.push_back((fingerprint, chain));
    }
}

fn bytes(chain: &[Vec<u8>]) -> usize {
    chain.iter().map(Vec::len).sum()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Maker, chain_of};
    use super::*;

    fn wanting(authority: &Maker) -> OfferedChains {
        let offered = OfferedChains::default();
        assert!(!offered.wants_any());
        offered.want(HashSet::from([authority.authority().name_digest()]));
        assert!(offered.wants_any());
        offered
    }

    fn fingerprint(number: usize) -> [u8; 32] {
        let mut fingerprint = [0; 32];
        fingerprint[8..16].copy_from_slice(&number.to_be_bytes());
        fingerprint
    }

    #[test]
    fn only_chains_of_wanted_names_are_kept() {
        let (authority, stranger) = (Maker::root("CA"), Maker::root("other"));
        let offered = wanting(&authority);
        let chain = chain_of(&authority, "d-1");
        offered.keep([1; 32], chain_of(&stranger, "d-1"));
        let unknown = offered.get(&[1; 32]);
        assert_eq!(unknown, None, "an unknown authority costs nothing");
        offered.keep([1; 32], vec![b"no certificate".to_vec()]);
        offered.keep([1; 32], vec![chain[0].clone(); CHAIN_LENGTH_MAX + 1]);
        assert_eq!(offered.get(&[1; 32]), None);
        offered.keep([1; 32], chain.clone());
        offered.keep([1; 32], chain.clone());
        assert_eq!(offered.get(&[1; 32]).as_deref(), Some(&*chain));
        assert_eq!(offered.get(&[2; 32]), None);
        assert_eq!(offered.kept.load(Ordering::Relaxed), 1);
        offered.remove(&[2; 32]);
        offered.remove(&[1; 32]);
        assert_eq!(offered.get(&[1; 32]), None);
        assert_eq!(offered.kept.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn their_number_is_bounded_and_no_handshake_waits() {
        let authority = Maker::root("CA");
        let offered = wanting(&authority);
        let chain = chain_of(&authority, "d-1");
        for number in 0..=PART_CHAINS_MAX {
            offered.keep(fingerprint(number), chain.clone());
        }
        assert_eq!(offered.kept.load(Ordering::Relaxed), PART_CHAINS_MAX);
        let oldest = offered.get(&fingerprint(0));
        assert_eq!(oldest, None, "the oldest has made room");
        let held = offered.part(&fingerprint(0));
        offered.keep(fingerprint(0), chain);
        drop(held);
        assert_eq!(offered.get(&fingerprint(0)), None);
    }

    #[test]
    fn their_bytes_are_bounded() {
        let authority = Maker::root("CA");
        let offered = wanting(&authority);
        let mut chain = chain_of(&authority, "d-1");
        chain.push(vec![0; 8000]);
        for number in 0..PART_CHAINS_MAX {
            offered.keep(fingerprint(number), chain.clone());
        }
        let part = offered.part(&fingerprint(0));
        let sum: usize = part.chains.iter().map(|(_, chain)| bytes(chain)).sum();
        assert_eq!(part.bytes, sum);
        assert!(
            (PART_BYTES_MAX - 9000..=PART_BYTES_MAX).contains(&sum),
            "{sum}"
        );
    }
}
