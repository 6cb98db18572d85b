//! Leaf certificates that were read lately: devices come again, and so do their certificates.
//!
//! ```text
//! SHA-256 of the DER --> place: the newest certificate that belongs there, or none
//! ```
//!
//! What is kept is what reading the same bytes again would give: the key, the dates, the fingerprint.
//! Whether the peer has the key is found out in every handshake, and whether the dates are right. One
//! cache serves all shards; as with the sessions, a lock that is taken is not waited for.

use std::sync::{Mutex, TryLockError};

use crate::crypto::CryptoError;
use crate::crypto::certificate::{LeafInfo, Validity};
use crate::crypto::fingerprint::device_fingerprint;
use crate::crypto::hash::{Hash, digest};
use crate::crypto::signature::VerifyingKey;

/// Parts with a lock of their own.
const PARTS: usize = 16;
/// Certificates of a part: about a kilobyte each, most of it the library's form of the key.
const PART_PLACES: usize = 128;

/// What a handshake needs to know of a leaf certificate.
#[derive(Clone, Debug)]
pub(super) struct ReadLeaf {
    pub(super) key: VerifyingKey,
    pub(super) fingerprint: [u8; 32],
    pub(super) validity: Validity,
}

impl ReadLeaf {
    fn new(der: &[u8]) -> Result<Self, CryptoError> {
        let (info, key) = LeafInfo::parse_with_key(der)?;
        Ok(Self {
            key,
            fingerprint: device_fingerprint(der),
            validity: info.validity,
        })
    }
}

/// Leaf certificates by their digests.
#[derive(Debug)]
pub(super) struct LeafCache {
    parts: [Mutex<Part>; PARTS],
}

/// Places by a part of the digest; without memory until the first certificate comes.
#[derive(Debug)]
struct Part(Vec<Option<Box<Known>>>);

#[derive(Debug)]
struct Known {
    digest: [u8; 32],
    leaf: ReadLeaf,
}

impl LeafCache {
    pub(super) const fn new() -> Self {
        Self {
            parts: [const { Mutex::new(Part(Vec::new())) }; PARTS],
        }
    }

    /// Reads the leaf `der`, or finds it read.
    ///
    /// # Errors
    ///
    /// As [`LeafInfo::parse`].
    pub(super) fn read(&self, der: &[u8]) -> Result<ReadLeaf, CryptoError> {
        let mut key = [0; 32];
        key.copy_from_slice(digest(Hash::Sha256, der).as_ref());
        if let Some(leaf) = self.with_place(&key, |place| place.as_ref()?.leaf_of(&key)) {
            return Ok(leaf);
        }
        let leaf = ReadLeaf::new(der)?;
        let known = Box::new(Known {
            digest: key,
            leaf: leaf.clone(),
        });
        // What was there before is dropped when the lock is free again.
        drop(self.with_place(&key, |place| place.replace(known)));
        Ok(leaf)
    }

    /// Does `work` with the place of a digest, unless somebody else is at that part.
    fn with_place<T>(
        &self,
        digest: &[u8; 32],
        work: impl FnOnce(&mut Option<Box<Known>>) -> Option<T>,
    ) -> Option<T> {
        let [part, place, ..] = *digest;
        let part = match self.parts.get(usize::from(part) % PARTS)?.try_lock() {
            Ok(part) => part,
            // Whoever panicked left whole certificates or none.
            Err(TryLockError::Poisoned(part)) => part.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let mut part = part;
        if part.0.is_empty() {
            part.0.resize_with(PART_PLACES, || None);
        }
        work(part.0.get_mut(usize::from(place) % PART_PLACES)?)
    }
}

impl Known {
    /// The leaf, if it is the one with this digest. Digests are public.
    fn leaf_of(&self, digest: &[u8; 32]) -> Option<ReadLeaf> {
        (self.digest == *digest).then(|| self.leaf.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(name: &str) -> Vec<u8> {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        made.cert.der().to_vec()
    }

    fn kept(cache: &LeafCache) -> usize {
        let of_part = |part: &Mutex<Part>| part.lock().unwrap().0.iter().flatten().count();
        cache.parts.iter().map(of_part).sum()
    }

    #[test]
    fn a_leaf_is_the_same_whether_it_was_known_or_not() {
        let cache = LeafCache::new();
        let leaves: Vec<_> = (0..20).map(|n| certificate(&format!("d{n}"))).collect();
        for _ in 0..2 {
            for der in &leaves {
                let leaf = cache.read(der).unwrap();
                let (info, key) = LeafInfo::parse_with_key(der).unwrap();
                assert_eq!((leaf.key, leaf.validity), (key, info.validity));
                assert_eq!(leaf.fingerprint, device_fingerprint(der));
            }
        }
        assert!((1..=20).contains(&kept(&cache)));
        // One changed byte is another certificate.
        let mut other = leaves[0].clone();
        *other.last_mut().unwrap() ^= 1;
        assert_ne!(
            cache.read(&other).unwrap().fingerprint,
            cache.read(&leaves[0]).unwrap().fingerprint
        );
    }

    #[test]
    fn what_cannot_be_read_is_not_kept_and_a_lock_that_is_taken_is_passed_by() {
        let cache = LeafCache::new();
        assert_eq!(cache.read(b"nothing").err(), Some(CryptoError::Malformed));
        assert_eq!(kept(&cache), 0);
        let der = certificate("d");
        let locks: Vec<_> = cache
            .parts
            .iter()
            .map(|part| part.lock().unwrap())
            .collect();
        assert_eq!(
            cache.read(&der).unwrap().fingerprint,
            device_fingerprint(&der)
        );
        drop(locks);
        assert_eq!(kept(&cache), 0);
    }
}
