//! Cryptography behind names of our own: the only module that names a crypto crate.
//!
//! aws-lc-rs does all of it but AES-CCM, which it lacks with the 12-byte nonce of RFC 6655, and SHA-256
//! of a few bytes at a time; these come from the `ccm`, `aes` and `sha2` crates. Named curves only, no
//! SHA-1 and no CBC on the wire: `password` has them for key files alone.
//!
//! Invariants: whatever the peer sent ends in an error value, never in a panic; secrets are wiped
//! when dropped; comparisons of tags and MACs take the same time whatever they compare.

pub mod aead;
pub mod certificate;
pub mod chain;
pub mod cookie_mac;
pub(crate) mod der;
pub mod fingerprint;
pub mod hash;
pub mod key_exchange;
pub(crate) mod password;
pub mod pre_shared_key;
pub mod prf;
pub mod random;
pub mod sealing;
pub mod secret;
mod sha256;
pub mod signature;
pub mod suite;

/// Why a key, signature or certificate was refused. It says nothing that depends on a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// The bytes do not have the structure of what they should be.
    #[error("malformed encoding")]
    Malformed,
    /// More bytes than we are willing to look at.
    #[error("longer than the limit")]
    TooLong,
    /// A kind of key or signature that we do not have.
    #[error("unsupported kind of key or signature")]
    Unsupported,
    /// An elliptic curve other than P-256 and P-384.
    #[error("unsupported elliptic curve: only P-256 and P-384 are supported")]
    UnsupportedCurve,
    /// A curve written out with its parameters instead of by name.
    #[error("elliptic curve given by explicit parameters instead of by name")]
    ExplicitCurve,
    /// A public key that is not a valid one: compressed, infinity, off the curve, of small order.
    #[error("invalid public key")]
    InvalidPublicKey,
    /// A private key that is not a valid one, or does not fit the public key beside it.
    #[error("invalid private key")]
    InvalidPrivateKey,
    /// The signature is not that of the message under this key.
    #[error("signature does not verify")]
    BadSignature,
    /// The library failed where it should not.
    #[error("internal failure of the cryptographic library")]
    Internal,
}

/// Whether `a` and `b` are the same bytes; takes the same time whichever of them differ.
pub(crate) fn verify_equal(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}

#[cfg(test)]
mod tests {
    /// The bytes of hexadecimal `text`.
    pub(super) fn from_hex(text: &str) -> Vec<u8> {
        assert!(text.len().is_multiple_of(2));
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }
}
