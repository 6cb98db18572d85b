//! The MAC of stateless cookies (RFC 6347 section 4.2.1): HMAC-SHA-256 over parts of known length.

use aws_lc_rs::{constant_time, hmac};
use zeroize::Zeroize;

/// A key for cookies, prepared so that one MAC costs about 0.3 us.
pub struct CookieKey(hmac::Key);

impl CookieKey {
    /// Prepares `secret`.
    pub fn new(mut secret: [u8; 32]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        secret.zeroize();
        Self(key)
    }

    /// The MAC of `parts`. Each part counts with its length, so moving bytes from one part to the
    /// next gives another MAC.
    pub fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut mac = [0; 32];
        mac.copy_from_slice(context.sign().as_ref());
        mac
    }

    /// Whether `mac` is the MAC of `parts`; takes the same time whatever bytes differ.
    pub fn verify(&self, parts: &[&[u8]], mac: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(&self.mac(parts), mac).is_ok()
    }
}

impl std::fmt::Debug for CookieKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CookieKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_belongs_to_its_key_and_its_parts() {
        let key = CookieKey::new([7; 32]);
        let mac = key.mac(&[b"ab", b"c"]);
        assert!(key.verify(&[b"ab", b"c"], &mac));
        assert!(!key.verify(&[b"a", b"bc"], &mac));
        assert!(!key.verify(&[b"ab", b"c", b""], &mac));
        assert!(!key.verify(&[b"ab", b"c"], &mac[..31]));
        assert!(!key.verify(&[b"ab", b"c"], &[]));
        assert!(!CookieKey::new([8; 32]).verify(&[b"ab", b"c"], &mac));
        let mut forged = mac;
        forged[31] ^= 1;
        assert!(!key.verify(&[b"ab", b"c"], &forged));
    }
}
