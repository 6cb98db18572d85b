//! Ephemeral elliptic curve Diffie-Hellman (RFC 8422 section 5.10).
//!
//! On the wire a public key is an uncompressed point `04 | x | y` for the NIST curves and the 32
//! bytes of RFC 7748 for X25519.

use aws_lc_rs::agreement::{self, PrivateKey, PublicKey, UnparsedPublicKey};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::CryptoError;

/// A group for the key exchange (RFC 8422 section 5.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum NamedGroup {
    /// NIST P-256.
    Secp256r1 = 23,
    /// NIST P-384.
    Secp384r1 = 24,
    /// Curve25519.
    X25519 = 29,
}

impl NamedGroup {
    /// All groups, in the order of our documents.
    pub const ALL: &'static [Self] = &[Self::Secp256r1, Self::X25519, Self::Secp384r1];

    /// The group with this number on the wire.
    pub const fn from_id(id: u16) -> Option<Self> {
        match id {
            23 => Some(Self::Secp256r1),
            24 => Some(Self::Secp384r1),
            29 => Some(Self::X25519),
            _ => None,
        }
    }

    /// The number on the wire.
    pub const fn id(self) -> u16 {
        self as u16
    }

    /// Length of a public key in bytes: 65, 97 or 32.
    pub const fn public_key_len(self) -> usize {
        match self {
            Self::Secp256r1 => 65,
            Self::Secp384r1 => 97,
            Self::X25519 => 32,
        }
    }

    const fn algorithm(self) -> &'static agreement::Algorithm {
        match self {
            Self::Secp256r1 => &agreement::ECDH_P256,
            Self::Secp384r1 => &agreement::ECDH_P384,
            Self::X25519 => &agreement::X25519,
        }
    }
}

/// A key pair for one handshake.
pub struct EphemeralKey {
    group: NamedGroup,
    private: PrivateKey,
    public: PublicKey,
}

impl EphemeralKey {
    /// A new key pair; 8 us on P-256.
    ///
    /// # Errors
    ///
    /// When the library fails, which memory alone can cause.
    pub fn generate(group: NamedGroup) -> Result<Self, CryptoError> {
        PrivateKey::generate(group.algorithm())
            .ok()
            .and_then(|private| Self::from_private(group, private))
            .ok_or(CryptoError::Internal)
    }

    fn from_private(group: NamedGroup, private: PrivateKey) -> Option<Self> {
        let public = private.compute_public_key().ok()?;
        Some(Self {
            group,
            private,
            public,
        })
    }

    /// The group of the pair.
    pub const fn group(&self) -> NamedGroup {
        self.group
    }

    /// Our public key as it goes on the wire.
    pub fn public_key(&self) -> &[u8] {
        self.public.as_ref()
    }

    /// The secret shared with the owner of `peer`, the peer's public key as it came.
    ///
    /// # Errors
    ///
    /// When `peer` is not a valid point: of another length, compressed, infinity, off the curve
    /// (RFC 8422 section 5.10, SEC 1 section 3.2.2), or one that gives an all-zero X25519 secret
    /// (RFC 7748 section 6.1).
    pub fn agree(self, peer: &[u8]) -> Result<SharedSecret, CryptoError> {
        let uncompressed = self.group == NamedGroup::X25519 || peer.first() == Some(&4);
        if peer.len() != self.group.public_key_len() || !uncompressed {
            return Err(CryptoError::InvalidPublicKey);
        }
        let peer = UnparsedPublicKey::new(self.group.algorithm(), peer);
        agreement::agree(
            &self.private,
            peer,
            CryptoError::InvalidPublicKey,
            |secret| {
                let mut shared = SharedSecret {
                    bytes: [0; 48],
                    length: secret.len(),
                };
                let room = shared.bytes.get_mut(..secret.len());
                room.ok_or(CryptoError::Internal)?.copy_from_slice(secret);
                if secret.iter().fold(0, |any, byte| any | byte) == 0 {
                    return Err(CryptoError::InvalidPublicKey);
                }
                Ok(shared)
            },
        )
    }
}

impl std::fmt::Debug for EphemeralKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EphemeralKey({:?})", self.group)
    }
}

/// What both ends know after the exchange: the premaster secret, 32 or 48 bytes, leading zeros
/// kept (RFC 8422 section 5.10). Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SharedSecret {
    bytes: [u8; 48],
    length: usize,
}

impl AsRef<[u8]> for SharedSecret {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length.min(48)]
    }
}

impl std::fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedSecret")
    }
}

#[cfg(test)]
mod tests {
    use super::super::fingerprint::to_hex;
    use super::super::tests::from_hex;
    use super::*;

    fn key(group: NamedGroup, private: &str) -> EphemeralKey {
        let private = PrivateKey::from_private_key(group.algorithm(), &from_hex(private)).unwrap();
        EphemeralKey::from_private(group, private).unwrap()
    }

    /// RFC 7748 section 6.1.
    #[test]
    fn x25519_vector() {
        let alice = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a";
        let bob = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb";
        let alice = key(NamedGroup::X25519, alice);
        let bob = key(NamedGroup::X25519, bob);
        assert_eq!(
            to_hex(alice.public_key()),
            "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
        );
        let secret = alice.agree(bob.public_key()).unwrap();
        assert_eq!(
            to_hex(secret.as_ref()),
            "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
        );
    }

    /// The first P-256 vector of NIST's CAVP for ECC CDH.
    #[test]
    fn p256_vector() {
        let key = key(
            NamedGroup::Secp256r1,
            "7d7dc5f71eb29ddaf80d6214632eeae03d9058af1fb6d22ed80badb62bc1a534",
        );
        let peer = from_hex(
            "04700c48f77f56584c5cc632ca65640db91b6bacce3a4df6b42ce7cc838833d287\
             db71e509e3fd9b060ddb20ba5c51dcc5948d46fbf640dfe0441782cab85fa4ac",
        );
        assert_eq!(
            to_hex(key.agree(&peer).unwrap().as_ref()),
            "46fc62106420ff012e54a434fbdd2d25ccc5852060561e68040dd7778997bd7b"
        );
    }

    #[test]
    fn both_ends_agree() {
        for &group in NamedGroup::ALL {
            assert_eq!(NamedGroup::from_id(group.id()), Some(group));
            let ours = EphemeralKey::generate(group).unwrap();
            let theirs = EphemeralKey::generate(group).unwrap();
            assert_eq!(ours.public_key().len(), group.public_key_len());
            let (our_public, their_public) =
                (ours.public_key().to_vec(), theirs.public_key().to_vec());
            assert_ne!(our_public, their_public);
            let secret = ours.agree(&their_public).unwrap();
            assert_eq!(secret.as_ref(), theirs.agree(&our_public).unwrap().as_ref());
        }
        assert_eq!(NamedGroup::from_id(25), None);
    }

    /// RFC 8422 section 5.10 with SEC 1 section 3.2.2: invalid points are refused.
    #[test]
    fn invalid_points_are_refused() {
        for group in [NamedGroup::Secp256r1, NamedGroup::Secp384r1] {
            let point = EphemeralKey::generate(group).unwrap().public_key().to_vec();
            let half = point.len() / 2 + 1;
            let mut compressed = point[..half].to_vec();
            compressed[0] = 2 | point.last().unwrap() & 1;
            let mut hybrid = point.clone();
            hybrid[0] = 6 | point.last().unwrap() & 1;
            let mut padded_compressed = compressed.clone();
            padded_compressed.resize(point.len(), 0);
            let mut off_curve = point.clone();
            *off_curve.last_mut().unwrap() ^= 1;
            let mut beyond_field = vec![0xff; point.len()];
            beyond_field[0] = 4;
            let mut origin = vec![0; point.len()];
            origin[0] = 4;
            let mut long = point.clone();
            long.push(0);
            for bad in [
                compressed,
                hybrid,
                padded_compressed,
                off_curve,
                beyond_field,
                origin,
                long,
                point[..point.len() - 1].to_vec(),
                vec![0],
                vec![0; point.len()],
                vec![],
            ] {
                let key = EphemeralKey::generate(group).unwrap();
                assert_eq!(
                    key.agree(&bad).err(),
                    Some(CryptoError::InvalidPublicKey),
                    "{bad:02x?}"
                );
            }
        }
    }

    /// RFC 7748 section 6.1: points of small order, whose secret is all zero, are refused.
    #[test]
    fn x25519_small_order_points_are_refused() {
        let mut one = [0; 32];
        one[0] = 1;
        let order_8 = from_hex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800");
        let p = from_hex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");
        for bad in [&[0; 32][..], &one, &order_8, &p, &[9; 31], &[9; 33], &[]] {
            let key = EphemeralKey::generate(NamedGroup::X25519).unwrap();
            assert_eq!(
                key.agree(bad).err(),
                Some(CryptoError::InvalidPublicKey),
                "{bad:02x?}"
            );
        }
    }
}
