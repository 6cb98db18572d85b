//! Hash functions: SHA-2 for the handshake transcript and the PRF, SHA3-256 for fingerprints.

use aws_lc_rs::digest;

use super::sha256::Sha256;

/// A hash function of TLS 1.2 (RFC 5246 section 7.4.1.4.1, SHA-2 only).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hash {
    /// 32 bytes.
    Sha256,
    /// 48 bytes.
    Sha384,
    /// 64 bytes.
    Sha512,
}

impl Hash {
    /// Length of the digest in bytes.
    pub const fn output_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    const fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }
}

/// The result of a hash, up to 64 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Digest(pub(super) digest::Digest);

impl AsRef<[u8]> for Digest {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref()
    }
}

impl PartialEq for Digest {
    /// Not constant in time: for MACs use [`super::cookie_mac`].
    fn eq(&self, other: &Self) -> bool {
        self.as_ref() == other.as_ref()
    }
}

impl Eq for Digest {}

/// A hash that is being fed; a clone goes on by itself, as a transcript needs.
#[derive(Clone)]
pub struct HashContext(Context);

#[derive(Clone)]
enum Context {
    /// That of most suites, without memory of its own.
    Sha256(Sha256),
    Other(digest::Context),
}

impl HashContext {
    /// Nothing hashed yet.
    pub fn new(hash: Hash) -> Self {
        Self(match hash {
            Hash::Sha256 => Context::Sha256(Sha256::new()),
            Hash::Sha384 | Hash::Sha512 => Context::Other(digest::Context::new(hash.algorithm())),
        })
    }

    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Context::Sha256(context) => context.update(bytes),
            Context::Other(context) => context.update(bytes),
        }
    }

    /// The digest of all bytes taken.
    ///
    /// # Panics
    ///
    /// Never: a digest has the length of its hash.
    pub fn finish(self) -> Digest {
        Digest(match self.0 {
            Context::Sha256(context) => {
                digest::Digest::import_less_safe(&context.finish(), &digest::SHA256)
                    .expect("a digest has the length of its hash")
            }
            Context::Other(context) => context.finish(),
        })
    }
}

/// The digest of `bytes`.
pub fn digest(hash: Hash, bytes: &[u8]) -> Digest {
    Digest(digest::digest(hash.algorithm(), bytes))
}

/// SHA3-256 (FIPS 202, not the older Keccak padding) of `bytes`.
pub fn sha3_256(bytes: &[u8]) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA3_256, bytes);
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::super::fingerprint::to_hex;
    use super::*;

    #[test]
    fn abc_gives_the_digests_of_fips_180_and_202() {
        assert_eq!(
            to_hex(digest(Hash::Sha256, b"abc").as_ref()),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            to_hex(digest(Hash::Sha384, b"abc").as_ref()),
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed\
             8086072ba1e7cc2358baeca134c825a7"
        );
        assert_eq!(
            to_hex(digest(Hash::Sha512, b"abc").as_ref()),
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
        );
        assert_eq!(
            to_hex(&sha3_256(b"abc")),
            "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"
        );
    }

    #[test]
    fn a_clone_goes_on_by_itself() {
        let mut context = HashContext::new(Hash::Sha256);
        context.update(b"a");
        let clone = context.clone();
        context.update(b"bc");
        assert_eq!(context.finish(), digest(Hash::Sha256, b"abc"));
        assert_eq!(clone.finish(), digest(Hash::Sha256, b"a"));
    }

    #[test]
    fn lengths_are_as_stated() {
        for hash in [Hash::Sha256, Hash::Sha384, Hash::Sha512] {
            assert_eq!(digest(hash, b"").as_ref().len(), hash.output_len());
        }
    }
}
