//! Sealing of small secrets that leave the process, with a key of its own for each.
//!
//! ```text
//! sealed = salt[32] | ciphertext | tag[16]
//! key    = HMAC-SHA-256(secret; "tidegate sealing" | salt)        AES-256-GCM, nonce 0
//! ```
//!
//! The salt is random, so a key is used twice only when two salts of 256 bits are equal: no count
//! of uses has to be kept, none has to outlive a restart, and several processes can share a secret.

use zeroize::{Zeroize, Zeroizing};

use super::aead::{AeadAlgorithm, AeadKey, OpenError};
use super::sha256::HmacSha256;
use crate::random::Random;

/// Length of the salt.
const SALT_LEN: usize = 32;
/// Length of the tag.
const TAG_LEN: usize = 16;
/// Every key seals once.
const NONCE: [u8; 12] = [0; 12];

/// A secret from which the keys are derived. Sealing or opening costs about a microsecond.
pub struct SealingKey(HmacSha256);

impl SealingKey {
    /// Bytes that sealing adds.
    pub const OVERHEAD: usize = SALT_LEN + TAG_LEN;

    /// Prepares `secret`, which must be random.
    ///
    /// # Panics
    ///
    /// When `secret` is all zero: one that was never drawn.
    pub fn new(mut secret: [u8; 32]) -> Self {
        assert_ne!(secret, [0; 32], "the secret for sealing was not drawn");
        let key = HmacSha256::new(&secret);
        secret.zeroize();
        Self(key)
    }

    fn derive(&self, salt: &[u8]) -> AeadKey {
        let key = Zeroizing::new(self.0.mac(&[b"tidegate sealing", salt]));
        AeadKey::new(AeadAlgorithm::Aes256Gcm, key.as_slice())
    }

    /// Appends `plaintext` in sealed form to `out`; `associated` must be the same to open it.
    pub fn seal(
        &self,
        associated: &[u8],
        plaintext: &[u8],
        random: &mut dyn Random,
        out: &mut Vec<u8>,
    ) {
        let mut salt = [0; SALT_LEN];
        random.fill(&mut salt);
        out.extend_from_slice(&salt);
        let start = out.len();
        out.extend_from_slice(plaintext);
        let mut tag = [0; TAG_LEN];
        let sealed = out.get_mut(start..).unwrap_or_default();
        self.derive(&salt)
            .seal_in_place(&NONCE, associated, sealed, &mut tag);
        out.extend_from_slice(&tag);
    }

    /// Opens what [`Self::seal`] made, in place, and returns the plaintext.
    ///
    /// # Errors
    ///
    /// When it is not of this key and `associated`; no plaintext is left in `sealed` then.
    pub fn open<'a>(
        &self,
        associated: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], OpenError> {
        let (salt, ciphertext) = sealed.split_at_mut_checked(SALT_LEN).ok_or(OpenError)?;
        self.derive(salt)
            .open_in_place(&NONCE, associated, ciphertext)
    }
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SeededRandom;

    #[test]
    fn what_is_sealed_opens_under_the_same_key_and_data_only() {
        let key = SealingKey::new([7; 32]);
        let mut random = SeededRandom::new(1);
        let mut sealed = vec![];
        key.seal(b"name", b"secret", &mut random, &mut sealed);
        assert_eq!(sealed.len(), 6 + SealingKey::OVERHEAD);
        assert_eq!(key.open(b"name", &mut sealed.clone()).unwrap(), b"secret");
        assert!(key.open(b"eman", &mut sealed.clone()).is_err());
        let other = SealingKey::new([8; 32]);
        assert!(other.open(b"name", &mut sealed.clone()).is_err());
        for at in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[at] ^= 1;
            assert!(key.open(b"name", &mut forged).is_err());
            assert!(key.open(b"name", &mut sealed.clone()[..at]).is_err());
        }
    }

    #[test]
    fn the_same_secret_never_looks_the_same() {
        let key = SealingKey::new([7; 32]);
        let mut random = SeededRandom::new(1);
        let (mut a, mut b) = (vec![], vec![]);
        key.seal(b"", b"secret", &mut random, &mut a);
        key.seal(b"", b"secret", &mut random, &mut b);
        assert!(a[..32] != b[..32] && a[32..38] != b[32..38]);
    }

    #[test]
    #[should_panic(expected = "was not drawn")]
    fn a_secret_that_was_never_drawn_is_refused() {
        SealingKey::new([0; 32]);
    }
}
