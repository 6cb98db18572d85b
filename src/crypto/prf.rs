//! The pseudorandom function of TLS 1.2 (RFC 5246 section 5).

use aws_lc_rs::tls_prf::{self, Algorithm, P_SHA384, P_SHA512};
use zeroize::Zeroizing;

use super::hash::Hash;
use super::sha256::{DIGEST_LEN, HmacSha256};

/// A secret from which a handshake derives more than once, prepared. Wiped when dropped.
pub struct PrfSecret(Inner);

enum Inner {
    /// That of most suites.
    Sha256(HmacSha256),
    Other(&'static Algorithm, Zeroizing<Vec<u8>>),
}

impl PrfSecret {
    /// Prepares `secret` for PRFs based on HMAC with `hash`.
    ///
    /// # Panics
    ///
    /// When `secret` is empty: a handshake has a premaster secret before it derives anything.
    pub fn new(hash: Hash, secret: &[u8]) -> Self {
        assert!(!secret.is_empty(), "no secret to derive from");
        let other = |algorithm| Inner::Other(algorithm, Zeroizing::new(secret.to_vec()));
        Self(match hash {
            Hash::Sha256 => Inner::Sha256(HmacSha256::new(secret)),
            Hash::Sha384 => other(&P_SHA384),
            Hash::Sha512 => other(&P_SHA512),
        })
    }

    /// Fills `out` with PRF(secret, `label`, `seed`).
    ///
    /// # Panics
    ///
    /// When the library fails, which memory alone can cause.
    pub fn derive(&self, label: &[u8], seed: &[u8], out: &mut [u8]) {
        if out.is_empty() {
            return;
        }
        match &self.0 {
            Inner::Sha256(key) => p_sha256(key, label, seed, out),
            Inner::Other(algorithm, secret) => {
                let derived = tls_prf::Secret::new(algorithm, secret)
                    .and_then(|secret| secret.derive(label, seed, out.len()))
                    .expect("the PRF has no input that it refuses");
                out.copy_from_slice(derived.as_ref());
            }
        }
    }
}

impl std::fmt::Debug for PrfSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrfSecret")
    }
}

/// ```text
/// A(0) = label | seed          A(i) = HMAC(secret; A(i-1))
/// out  = HMAC(secret; A(1) | label | seed) | HMAC(secret; A(2) | label | seed) | ...
/// ```
fn p_sha256(key: &HmacSha256, label: &[u8], seed: &[u8], out: &mut [u8]) {
    let mut a = Zeroizing::new(key.mac(&[label, seed]));
    let mut pieces = out.chunks_mut(DIGEST_LEN).peekable();
    while let Some(piece) = pieces.next() {
        let block = Zeroizing::new(key.mac(&[&*a, label, seed]));
        piece.copy_from_slice(&block[..piece.len()]);
        if pieces.peek().is_some() {
            a = Zeroizing::new(key.mac(&[&*a]));
        }
    }
}

/// Fills `out` with PRF(`secret`, `label`, `seed`) based on HMAC with `hash`.
///
/// # Panics
///
/// As [`PrfSecret::new`] and [`PrfSecret::derive`].
pub fn prf(hash: Hash, secret: &[u8], label: &[u8], seed: &[u8], out: &mut [u8]) {
    PrfSecret::new(hash, secret).derive(label, seed, out);
}

#[cfg(test)]
mod tests {
    use super::super::fingerprint::to_hex;
    use super::super::tests::from_hex;
    use super::*;

    fn check(hash: Hash, secret: &str, seed: &str, expected: &str) {
        let (secret, seed) = (from_hex(secret), from_hex(seed));
        let mut out = vec![0; expected.len() / 2];
        prf(hash, &secret, b"test label", &seed, &mut out);
        assert_eq!(to_hex(&out), expected);
        let mut start = [0; 13];
        prf(hash, &secret, b"test label", &seed, &mut start);
        assert_eq!(start[..], out[..13]);
    }

    /// The vectors that the TLS working group's list circulated for P_SHA256, P_SHA384, P_SHA512.
    #[test]
    fn known_outputs() {
        check(
            Hash::Sha256,
            "9bbe436ba940f017b17652849a71db35",
            "a0ba9f936cda311827a6f796ffd5198c",
            "e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791e90d35c9\
             c9a46b4e14baf9af0fa022f7077def17abfd3797c0564bab4fbc91666e9def9b97fce34f796789ba\
             a48082d122ee42c5a72e5a5110fff70187347b66",
        );
        check(
            Hash::Sha384,
            "b80b733d6ceefcdc71566ea48e5567df",
            "cd665cf6a8447dd6ff8b27555edb7465",
            "7b0c18e9ced410ed1804f2cfa34a336a1c14dffb4900bb5fd7942107e81c83cde9ca0faa60be9fe3\
             4f82b1233c9146a0e534cb400fed2700884f9dc236f80edd8bfa961144c9e8d792eca722a7b32fc3\
             d416d473ebc2c5fd4abfdad05d9184259b5bf8cd4d90fa0d31e2dec479e4f1a26066f2eea9a69236\
             a3e52655c9e9aee691c8f3a26854308d5eaa3be85e0990703d73e56f",
        );
        check(
            Hash::Sha512,
            "b0323523c1853599584d88568bbb05eb",
            "d4640e12e4bcdbfb437f03e6ae418ee5",
            "1261f588c798c5c201ff036e7a9cb5edcd7fe3f94c669a122a4638d7d508b283042df6789875c714\
             7e906d868bc75c45e20eb40c1cf4a1713b27371f68432592f7dc8ea8ef223e12ea8507841311bf68\
             653d0cfc4056d811f025c45ddfa6e6fec702f054b409d6f28dd0a3233e498da41a3e75c5630eedbe\
             22fe254e33a1b0e9f6b9826675bec7d01a845658dc9c397545401d40b9f46c7a400ee1b8f81ca0a6\
             0d1a397a1028bff5d2ef5066126842fb8da4197632bdb54ff6633f86bbc836e640d4d898",
        );
    }

    #[test]
    fn no_output_is_asked_for() {
        prf(Hash::Sha256, b"secret", b"label", b"seed", &mut []);
    }
}
