//! Comparing secrets without telling by the time how much of a guess was right.

use super::hash::{Hash, digest};
use subtle::ConstantTimeEq as _;

/// Whether two secrets are the same. They are compared by their digests, so that the time depends
/// on the lengths alone.
pub fn is_equal(a: &[u8], b: &[u8]) -> bool {
    let (a, b) = (digest(Hash::Sha256, a), digest(Hash::Sha256, b));
    a.as_ref().ct_eq(b.as_ref()).into()
}

#[cfg(test)]
mod tests {
    use super::is_equal;

    #[test]
    fn equal_means_every_byte() {
        assert!(is_equal(b"", b""));
        assert!(is_equal(b"secret", b"secret"));
        for other in [&b""[..], b"secre", b"secret ", b"Secret", b"secrex"] {
            assert!(!is_equal(b"secret", other));
        }
    }
}
