//! The AEADs of our cipher suites, keyed once and used in place.
//!
//! | algorithm | key | fixed IV | explicit nonce | tag | RFC |
//! |---|---|---|---|---|---|
//! | AES-GCM | 16, 32 | 4 | 8 | 16 | 5288 |
//! | AES-CCM | 16, 32 | 4 | 8 | 16 | 6655 |
//! | AES-CCM_8 | 16, 32 | 4 | 8 | 8 | 6655 |
//! | ChaCha20-Poly1305 | 32 | 12 | 0 | 16 | 7905 |
//!
//! The nonce is 12 bytes in every one; how it is made of its parts is the record layer's to say.

mod ccm;
#[cfg(target_arch = "x86_64")]
mod ccm_aesni;

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroize;

use self::ccm::CcmKey;

/// An AEAD with its tag length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AeadAlgorithm {
    /// RFC 5288.
    Aes128Gcm,
    /// RFC 5288.
    Aes256Gcm,
    /// RFC 7905.
    ChaCha20Poly1305,
    /// RFC 6655.
    Aes128Ccm,
    /// RFC 6655.
    Aes256Ccm,
    /// RFC 6655 with a tag of 8 bytes.
    Aes128Ccm8,
    /// RFC 6655 with a tag of 8 bytes.
    Aes256Ccm8,
}

impl AeadAlgorithm {
    /// Length of the key in bytes: 16 or 32.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Aes128Ccm | Self::Aes128Ccm8 => 16,
            Self::Aes256Gcm | Self::Aes256Ccm | Self::Aes256Ccm8 | Self::ChaCha20Poly1305 => 32,
        }
    }

    /// Length of the part of the nonce that the key block gives: 4, or 12 for ChaCha20-Poly1305.
    pub const fn fixed_iv_len(self) -> usize {
        match self {
            Self::ChaCha20Poly1305 => 12,
            _ => 4,
        }
    }

    /// Length of the part of the nonce that a record carries: 8, or 0 for ChaCha20-Poly1305.
    pub const fn explicit_nonce_len(self) -> usize {
        match self {
            Self::ChaCha20Poly1305 => 0,
            _ => 8,
        }
    }

    /// Length of the tag: 8 for CCM_8, else 16.
    pub const fn tag_len(self) -> usize {
        match self {
            Self::Aes128Ccm8 | Self::Aes256Ccm8 => 8,
            _ => 16,
        }
    }
}

/// The tag did not verify, or there was no room for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenError;

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("authentication tag does not verify")
    }
}

impl std::error::Error for OpenError {}

/// A key that is ready for use: 256 bytes here, and for some algorithms several hundred on the heap.
/// Wiped when dropped.
pub struct AeadKey {
    key: Key,
    tag_len: u8,
}

#[allow(
    clippy::large_enum_variant,
    reason = "a short-lived key in place costs no allocation"
)]
enum Key {
    AwsLc(LessSafeKey),
    Ccm(CcmKey),
}

const _: () = assert!(size_of::<AeadKey>() <= 272);

impl AeadKey {
    /// Expands `key`.
    ///
    /// # Panics
    ///
    /// When `key` is not `algorithm.key_len()` bytes long.
    pub fn new(algorithm: AeadAlgorithm, key: &[u8]) -> Self {
        const LENGTH: &str = "a key has the length of its algorithm";
        let aws_lc = |algorithm| {
            Key::AwsLc(LessSafeKey::new(
                UnboundKey::new(algorithm, key).expect(LENGTH),
            ))
        };
        let expanded = match algorithm {
            AeadAlgorithm::Aes128Gcm => aws_lc(&aead::AES_128_GCM),
            AeadAlgorithm::Aes256Gcm => aws_lc(&aead::AES_256_GCM),
            AeadAlgorithm::ChaCha20Poly1305 => aws_lc(&aead::CHACHA20_POLY1305),
            AeadAlgorithm::Aes128Ccm
            | AeadAlgorithm::Aes256Ccm
            | AeadAlgorithm::Aes128Ccm8
            | AeadAlgorithm::Aes256Ccm8 => {
                assert!(key.len() == algorithm.key_len(), "{LENGTH}");
                Key::Ccm(CcmKey::new(key, algorithm.tag_len()).expect(LENGTH))
            }
        };
        Self {
            key: expanded,
            tag_len: if algorithm.tag_len() == 8 { 8 } else { 16 },
        }
    }

    /// Length of the tag in bytes.
    pub fn tag_len(&self) -> usize {
        usize::from(self.tag_len)
    }

    /// Encrypts `in_out` and writes the tag. A nonce must never be used twice with one key.
    ///
    /// # Panics
    ///
    /// When `tag` is not `tag_len` bytes long, or `in_out` is 16 MiB or more.
    pub fn seal_in_place(&self, nonce: &[u8; 12], aad: &[u8], in_out: &mut [u8], tag: &mut [u8]) {
        const LENGTH: &str = "a record is shorter than the AEAD's limit";
        match &self.key {
            Key::AwsLc(key) => {
                let nonce = Nonce::assume_unique_for_key(*nonce);
                let sealed = key
                    .seal_in_place_separate_tag(nonce, Aad::from(aad), in_out)
                    .expect(LENGTH);
                tag.copy_from_slice(sealed.as_ref());
            }
            Key::Ccm(key) => key.seal(nonce, aad, in_out, tag).expect(LENGTH),
        }
    }

    /// Decrypts `in_out`, which is ciphertext and tag, and returns the plaintext.
    ///
    /// # Errors
    ///
    /// When the tag does not verify; no plaintext is left in `in_out` then.
    pub fn open_in_place<'a>(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        in_out: &'a mut [u8],
    ) -> Result<&'a mut [u8], OpenError> {
        let length = in_out.len().checked_sub(self.tag_len()).ok_or(OpenError)?;
        let opened = match &self.key {
            Key::AwsLc(key) => {
                let nonce = Nonce::assume_unique_for_key(*nonce);
                key.open_in_place(nonce, Aad::from(aad), in_out).is_ok()
            }
            Key::Ccm(key) => {
                let (text, tag) = in_out.split_at_mut(length);
                key.open(nonce, aad, text, tag).is_some()
            }
        };
        if opened {
            in_out.get_mut(..length).ok_or(OpenError)
        } else {
            in_out.zeroize();
            Err(OpenError)
        }
    }
}

impl std::fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AeadKey")
    }
}

#[cfg(test)]
mod tests;
