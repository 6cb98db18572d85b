//! Signatures of the handshake (RFC 5246 section 7.4.1.4.1, RFC 8422 section 5.4 and 5.8) and the
//! private and public keys that make and check them.
//!
//! SHA-256 and stronger only. Curves are known by name: a key that spells its curve out is refused,
//! whatever the curve is.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, KeyPair, ParsedPublicKey, RsaKeyPair, UnparsedPublicKey,
    VerificationAlgorithm,
};

use super::CryptoError;
use super::der::{self, Elements};
use super::hash::{Digest, Hash};

const OID_EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const OID_P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const OID_P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const OID_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// A hash and signature algorithm: on the wire the hash in the upper byte and the signature in the
/// lower (RFC 5246 section 7.4.1.4.1); the PSS ones are of RFC 8446 section 4.2.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum SignatureScheme {
    /// ECDSA on any curve.
    EcdsaSha256 = 0x0403,
    /// ECDSA on any curve.
    EcdsaSha384 = 0x0503,
    /// ECDSA on any curve.
    EcdsaSha512 = 0x0603,
    /// RSASSA-PKCS1-v1_5.
    RsaPkcs1Sha256 = 0x0401,
    /// RSASSA-PKCS1-v1_5.
    RsaPkcs1Sha384 = 0x0501,
    /// RSASSA-PSS with a key of type rsaEncryption.
    RsaPssRsaeSha256 = 0x0804,
    /// RSASSA-PSS with a key of type rsaEncryption.
    RsaPssRsaeSha384 = 0x0805,
}

impl SignatureScheme {
    /// All schemes that we check, the ones we like best first.
    pub const ALL: &'static [Self] = &[
        Self::EcdsaSha256,
        Self::EcdsaSha384,
        Self::EcdsaSha512,
        Self::RsaPkcs1Sha256,
        Self::RsaPkcs1Sha384,
        Self::RsaPssRsaeSha256,
        Self::RsaPssRsaeSha384,
    ];

    /// The scheme with this number on the wire.
    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|scheme| scheme.id() == id)
    }

    /// The number on the wire.
    pub const fn id(self) -> u16 {
        self as u16
    }

    /// The hash over the message.
    pub const fn hash(self) -> Hash {
        match self {
            Self::EcdsaSha256 | Self::RsaPkcs1Sha256 | Self::RsaPssRsaeSha256 => Hash::Sha256,
            Self::EcdsaSha384 | Self::RsaPkcs1Sha384 | Self::RsaPssRsaeSha384 => Hash::Sha384,
            Self::EcdsaSha512 => Hash::Sha512,
        }
    }
}

/// The kind of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// On secp256r1.
    EcdsaP256,
    /// On secp384r1.
    EcdsaP384,
    /// RSA of 2048 to 8192 bits.
    Rsa,
}

impl std::fmt::Display for KeyType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::EcdsaP256 => "ECDSA P-256",
            Self::EcdsaP384 => "ECDSA P-384",
            Self::Rsa => "RSA",
        })
    }
}

/// A private key that signs. Shareable between threads; the library wipes it when it is dropped.
pub struct SigningKey {
    key: PrivateKey,
    key_type: KeyType,
}

enum PrivateKey {
    Ecdsa(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl SigningKey {
    /// Reads an unencrypted key: PKCS#8 (RFC 5208), SEC 1 (RFC 5915) or PKCS#1 (RFC 8017).
    ///
    /// # Errors
    ///
    /// [`CryptoError::UnsupportedCurve`] and [`CryptoError::ExplicitCurve`] name their reason,
    /// [`CryptoError::Unsupported`] is another algorithm, [`CryptoError::InvalidPrivateKey`] a key
    /// that is no valid one of its kind (or RSA below 2048 bits), the rest is malformed.
    pub fn from_der(der: &[u8]) -> Result<Self, CryptoError> {
        let key_type = private_key_type(der)?;
        let key = match key_type {
            KeyType::EcdsaP256 => {
                EcdsaKeyPair::from_private_key_der(&signature::ECDSA_P256_SHA256_ASN1_SIGNING, der)
                    .map(PrivateKey::Ecdsa)
            }
            KeyType::EcdsaP384 => {
                EcdsaKeyPair::from_private_key_der(&signature::ECDSA_P384_SHA384_ASN1_SIGNING, der)
                    .map(PrivateKey::Ecdsa)
            }
            KeyType::Rsa => RsaKeyPair::from_pkcs8(der)
                .or_else(|_| RsaKeyPair::from_der(der))
                .map(PrivateKey::Rsa),
        };
        key.map(|key| Self { key, key_type })
            .map_err(|_| CryptoError::InvalidPrivateKey)
    }

    /// The kind of the key.
    pub const fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// What [`Self::sign`] can make, best first. A P-256 key signs with SHA-256 and a P-384 key
    /// with SHA-384 only, the hash of its own strength.
    pub const fn schemes(&self) -> &'static [SignatureScheme] {
        match self.key_type {
            KeyType::EcdsaP256 => &[SignatureScheme::EcdsaSha256],
            KeyType::EcdsaP384 => &[SignatureScheme::EcdsaSha384],
            KeyType::Rsa => &[
                SignatureScheme::RsaPkcs1Sha256,
                SignatureScheme::RsaPssRsaeSha256,
                SignatureScheme::RsaPkcs1Sha384,
                SignatureScheme::RsaPssRsaeSha384,
            ],
        }
    }

    /// Signs `message`. ECDSA signatures are DER, 70 to 72 or 102 to 104 bytes mostly; 16 us on
    /// P-256.
    ///
    /// # Errors
    ///
    /// When `scheme` is not one of [`Self::schemes`], or the library fails.
    pub fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
        if !self.schemes().contains(&scheme) {
            return Err(CryptoError::Unsupported);
        }
        let random = SystemRandom::new();
        match &self.key {
            PrivateKey::Ecdsa(key) => key
                .sign(&random, message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| CryptoError::Internal),
            PrivateKey::Rsa(key) => {
                let encoding: &dyn signature::RsaEncoding = match scheme {
                    SignatureScheme::RsaPkcs1Sha384 => &signature::RSA_PKCS1_SHA384,
                    SignatureScheme::RsaPssRsaeSha256 => &signature::RSA_PSS_SHA256,
                    SignatureScheme::RsaPssRsaeSha384 => &signature::RSA_PSS_SHA384,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut out = vec![0; key.public_modulus_len()];
                key.sign(encoding, &random, message, &mut out)
                    .map(|()| out)
                    .map_err(|_| CryptoError::Internal)
            }
        }
    }

    /// Whether this is the private key of the public key in `spki`, a SubjectPublicKeyInfo.
    pub fn public_key_matches(&self, spki: &[u8]) -> bool {
        let public = match &self.key {
            PrivateKey::Ecdsa(key) => key.public_key().as_ref(),
            PrivateKey::Rsa(key) => key.public_key().as_ref(),
        };
        VerifyingKey::from_spki(spki)
            .is_ok_and(|key| key.key_type == self.key_type && key.bytes() == public)
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.key_type)
    }
}

/// A public key that checks signatures. Clones share what was read of it.
#[derive(Clone, Debug)]
pub struct VerifyingKey {
    key_type: KeyType,
    /// For the scheme of [`usual_scheme`].
    parsed: Arc<ParsedPublicKey>,
}

impl VerifyingKey {
    /// Reads a SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7).
    ///
    /// # Errors
    ///
    /// When it is malformed, of a kind that we do not have, on a curve that we do not have or that
    /// is spelled out, or when the point is not a valid one.
    pub fn from_spki(spki: &[u8]) -> Result<Self, CryptoError> {
        let (key_type, bytes) = parse_spki(spki)?;
        if let Some(length) = point_len(key_type)
            && (bytes.len() != length || bytes.first() != Some(&4))
        {
            return Err(CryptoError::InvalidPublicKey);
        }
        let algorithm = verification(key_type, usual_scheme(key_type));
        let parsed = UnparsedPublicKey::new(algorithm.ok_or(CryptoError::Internal)?, bytes)
            .parse()
            .map_err(|_| CryptoError::InvalidPublicKey)?;
        Ok(Self {
            key_type,
            parsed: Arc::new(parsed),
        })
    }

    /// Uncompressed point, or RSAPublicKey in DER.
    fn bytes(&self) -> &[u8] {
        (*self.parsed).as_ref()
    }

    /// The kind of the key.
    pub const fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// Checks that `signature` is that of `message`; 52 us on P-256.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Unsupported`] when `scheme` is not for a key of this kind, so the scheme
    /// cannot be chosen to suit a forger; [`CryptoError::BadSignature`] otherwise.
    pub fn verify(
        &self,
        scheme: SignatureScheme,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        let algorithm = verification(self.key_type, scheme).ok_or(CryptoError::Unsupported)?;
        let verified = if scheme == usual_scheme(self.key_type) {
            self.parsed.verify_sig(message, signature)
        } else {
            UnparsedPublicKey::new(algorithm, self.bytes()).verify(message, signature)
        };
        verified.map_err(|_| CryptoError::BadSignature)
    }

    /// The same for a message that was hashed already, so that a running transcript need not be
    /// kept. `digest` must be one of `scheme.hash()`.
    ///
    /// # Errors
    ///
    /// As [`Self::verify`]; a digest of another hash is [`CryptoError::BadSignature`].
    pub fn verify_digest(
        &self,
        scheme: SignatureScheme,
        digest: &Digest,
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        let algorithm = verification(self.key_type, scheme).ok_or(CryptoError::Unsupported)?;
        let verified = if scheme == usual_scheme(self.key_type) {
            self.parsed.verify_digest_sig(&digest.0, signature)
        } else {
            UnparsedPublicKey::new(algorithm, self.bytes()).verify_digest(&digest.0, signature)
        };
        verified.map_err(|_| CryptoError::BadSignature)
    }
}

impl PartialEq for VerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        self.key_type == other.key_type && self.bytes() == other.bytes()
    }
}

impl Eq for VerifyingKey {}

/// The scheme that keys of a kind are mostly used with: for this one they are read only once.
const fn usual_scheme(key_type: KeyType) -> SignatureScheme {
    match key_type {
        KeyType::EcdsaP256 => SignatureScheme::EcdsaSha256,
        KeyType::EcdsaP384 => SignatureScheme::EcdsaSha384,
        KeyType::Rsa => SignatureScheme::RsaPkcs1Sha256,
    }
}

const fn point_len(key_type: KeyType) -> Option<usize> {
    match key_type {
        KeyType::EcdsaP256 => Some(65),
        KeyType::EcdsaP384 => Some(97),
        KeyType::Rsa => None,
    }
}

fn verification(
    key_type: KeyType,
    scheme: SignatureScheme,
) -> Option<&'static dyn VerificationAlgorithm> {
    use SignatureScheme as Scheme;
    Some(match (key_type, scheme) {
        (KeyType::EcdsaP256, Scheme::EcdsaSha256) => &signature::ECDSA_P256_SHA256_ASN1,
        (KeyType::EcdsaP256, Scheme::EcdsaSha384) => &signature::ECDSA_P256_SHA384_ASN1,
        (KeyType::EcdsaP256, Scheme::EcdsaSha512) => &signature::ECDSA_P256_SHA512_ASN1,
        (KeyType::EcdsaP384, Scheme::EcdsaSha256) => &signature::ECDSA_P384_SHA256_ASN1,
        (KeyType::EcdsaP384, Scheme::EcdsaSha384) => &signature::ECDSA_P384_SHA384_ASN1,
        (KeyType::EcdsaP384, Scheme::EcdsaSha512) => &signature::ECDSA_P384_SHA512_ASN1,
        (KeyType::Rsa, Scheme::RsaPkcs1Sha256) => &signature::RSA_PKCS1_2048_8192_SHA256,
        (KeyType::Rsa, Scheme::RsaPkcs1Sha384) => &signature::RSA_PKCS1_2048_8192_SHA384,
        (KeyType::Rsa, Scheme::RsaPssRsaeSha256) => &signature::RSA_PSS_2048_8192_SHA256,
        (KeyType::Rsa, Scheme::RsaPssRsaeSha384) => &signature::RSA_PSS_2048_8192_SHA384,
        _ => return None,
    })
}

/// SubjectPublicKeyInfo ::= SEQUENCE { SEQUENCE { OID, parameters }, BIT STRING }.
fn parse_spki(spki: &[u8]) -> Result<(KeyType, &[u8]), CryptoError> {
    let mut outer = der::sequence(spki)?;
    let key_type = algorithm_type(outer.enter(der::SEQUENCE)?)?;
    let bytes = der::bit_string(outer.expect(der::BIT_STRING)?)?;
    outer.expect_end()?;
    Ok((key_type, bytes))
}

/// The kind of key that an AlgorithmIdentifier names.
fn algorithm_type(mut algorithm: Elements<'_>) -> Result<KeyType, CryptoError> {
    match algorithm.expect(der::OID)? {
        OID_RSA => Ok(KeyType::Rsa),
        OID_EC_PUBLIC_KEY => curve_type(algorithm),
        _ => Err(CryptoError::Unsupported),
    }
}

/// The kind of key that ECParameters name; only namedCurve is allowed (RFC 5480 section 2.1.1).
fn curve_type(mut parameters: Elements<'_>) -> Result<KeyType, CryptoError> {
    let curve = parameters.next()?;
    match (curve.tag, curve.body) {
        (der::OID, OID_P256) => Ok(KeyType::EcdsaP256),
        (der::OID, OID_P384) => Ok(KeyType::EcdsaP384),
        (der::OID, _) => Err(CryptoError::UnsupportedCurve),
        (der::SEQUENCE, _) => Err(CryptoError::ExplicitCurve),
        _ => Err(CryptoError::Malformed),
    }
}

/// Looks at which of the three formats `der` is, and at which kind of key it holds.
fn private_key_type(der: &[u8]) -> Result<KeyType, CryptoError> {
    let mut outer = der::sequence(der)?;
    outer.expect(der::INTEGER)?;
    let second = outer.next()?;
    match second.tag {
        // PKCS#1: version, modulus, ...
        der::INTEGER => Ok(KeyType::Rsa),
        // PKCS#8: version, algorithm, octets.
        der::SEQUENCE => {
            let key_type = algorithm_type(Elements::new(second.body))?;
            let inner = outer.expect(der::OCTET_STRING)?;
            if key_type != KeyType::Rsa {
                let mut inner = der::sequence(inner)?;
                inner.expect(der::INTEGER)?;
                inner.expect(der::OCTET_STRING)?;
                if let Some(curve) = inner.optional(0xa0)?
                    && curve_type(Elements::new(curve))? != key_type
                {
                    return Err(CryptoError::InvalidPrivateKey);
                }
            }
            Ok(key_type)
        }
        // SEC 1: version, octets, optional [0] curve, optional [1] public key.
        der::OCTET_STRING => match outer.optional(0xa0)? {
            Some(curve) => curve_type(Elements::new(curve)),
            None => match second.body.len() {
                32 => Ok(KeyType::EcdsaP256),
                48 => Ok(KeyType::EcdsaP384),
                _ => Err(CryptoError::UnsupportedCurve),
            },
        },
        _ => Err(CryptoError::Malformed),
    }
}

impl From<crate::wire::Truncated> for CryptoError {
    fn from(_: crate::wire::Truncated) -> Self {
        Self::Malformed
    }
}

#[cfg(test)]
mod tests;
