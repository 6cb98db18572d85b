//! Pre-shared keys (RFC 4279): one device's secret, and the premaster secret that comes of it.

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::hash::{Hash, digest};
use super::key_exchange::SharedSecret;
use crate::random::Random;

/// Longest key in bytes: what RFC 4279 section 5.3 demands of an implementation.
pub const PRE_SHARED_KEY_LEN_MAX: usize = 64;
/// Length of keys made here.
const RANDOM_LEN: u8 = 32;

/// The key of one device, of 1 to 64 bytes. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct PreSharedKey {
    bytes: [u8; PRE_SHARED_KEY_LEN_MAX],
    length: u8,
}

impl PreSharedKey {
    /// The key of these bytes; `None` when they are none, or too many.
    pub fn new(key: &[u8]) -> Option<Self> {
        let length = u8::try_from(key.len()).ok().filter(|&length| length > 0)?;
        let mut bytes = [0; PRE_SHARED_KEY_LEN_MAX];
        bytes.get_mut(..key.len())?.copy_from_slice(key);
        let made = Self { bytes, length };
        bytes.zeroize();
        Some(made)
    }

    /// A random key of 32 bytes.
    pub fn random(random: &mut dyn Random) -> Self {
        let mut bytes = [0; PRE_SHARED_KEY_LEN_MAX];
        random.fill(&mut bytes[..usize::from(RANDOM_LEN)]);
        let made = Self {
            bytes,
            length: RANDOM_LEN,
        };
        bytes.zeroize();
        made
    }

    /// The bytes of the key.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }

    /// The premaster secret of a handshake (RFC 4279 section 2).
    ///
    /// ```text
    /// length u16 | other secret | length u16 | key
    /// ```
    ///
    /// The other secret is what an ECDHE exchange gave (RFC 5489 section 2); without one it is as
    /// many zeros as the key is long.
    pub fn premaster(&self, shared: Option<&SharedSecret>) -> Zeroizing<Vec<u8>> {
        const ZEROS: [u8; PRE_SHARED_KEY_LEN_MAX] = [0; PRE_SHARED_KEY_LEN_MAX];
        let key = self.as_bytes();
        let other = match shared {
            Some(shared) => shared.as_ref(),
            None => ZEROS.get(..key.len()).unwrap_or_default(),
        };
        // Never grown, so that no copy is left behind.
        let mut premaster = Zeroizing::new(Vec::with_capacity(2 + other.len() + 2 + key.len()));
        for part in [other, key] {
            // Neither has more than 64 bytes.
            premaster.extend_from_slice(&[0, u8::try_from(part.len()).unwrap_or_default()]);
            premaster.extend_from_slice(part);
        }
        premaster
    }
}

impl PartialEq for PreSharedKey {
    /// Takes the same time whichever bytes differ.
    fn eq(&self, other: &Self) -> bool {
        super::verify_equal(self.as_bytes(), other.as_bytes())
    }
}

impl Eq for PreSharedKey {}

impl std::fmt::Debug for PreSharedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PreSharedKey")
    }
}

/// What a PSK identity is known by: SHA-256 of its bytes, of one length whatever a peer says.
pub fn psk_identity_hash(identity: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(Hash::Sha256, identity).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::super::key_exchange::{EphemeralKey, NamedGroup};
    use super::*;
    use crate::random::SeededRandom;

    /// RFC 4279 section 5.3: keys of up to 64 bytes.
    #[test]
    fn keys_have_their_bounds_and_say_nothing_in_messages() {
        assert_eq!(PreSharedKey::new(&[]), None);
        assert_eq!(PreSharedKey::new(&[7; 65]), None);
        for length in [1, 16, 64] {
            let key = PreSharedKey::new(&vec![0xab; length]).unwrap();
            assert_eq!(key.as_bytes(), vec![0xab; length]);
            assert_eq!(format!("{key:?}"), "PreSharedKey");
        }
        let random = PreSharedKey::random(&mut SeededRandom::new(1));
        assert_eq!(random.as_bytes().len(), 32);
        assert_ne!(random, PreSharedKey::random(&mut SeededRandom::new(2)));
        assert_ne!(PreSharedKey::new(&[1; 16]), PreSharedKey::new(&[1; 17]));
    }

    /// RFC 4279 section 2, RFC 5489 section 2.
    #[test]
    fn the_premaster_secret_has_both_parts_with_their_lengths() {
        let key = PreSharedKey::new(&[0xaa, 0xbb, 0xcc]).unwrap();
        let plain = [0, 3, 0, 0, 0, 0, 3, 0xaa, 0xbb, 0xcc];
        assert_eq!(key.premaster(None)[..], plain);
        let ours = EphemeralKey::generate(NamedGroup::Secp384r1).unwrap();
        let theirs = EphemeralKey::generate(NamedGroup::Secp384r1).unwrap();
        let shared = ours.agree(theirs.public_key()).unwrap();
        let premaster = key.premaster(Some(&shared));
        assert_eq!(premaster[..2], [0, 48]);
        assert_eq!(&premaster[2..50], shared.as_ref());
        assert_eq!(premaster[50..], [0, 3, 0xaa, 0xbb, 0xcc]);
    }

    #[test]
    fn identities_are_known_by_their_sha_256() {
        let hash = super::super::fingerprint::to_hex(&psk_identity_hash(b"abc"));
        assert!(hash.starts_with("ba7816bf8f01cfea"), "{hash}");
    }
}
