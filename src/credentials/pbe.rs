//! Password-based encryption as PKCS#8 and PKCS12 name it: PBES2, PBES1 (RFC 8018) and the schemes
//! of PKCS#12 (RFC 7292 appendix C).
//!
//! ```text
//! EncryptedPrivateKeyInfo = SEQUENCE { AlgorithmIdentifier, OCTET STRING ciphertext }
//! PBES2    = { OID, { { PBKDF2, { salt, iterations, length?, PRF? } } | { scrypt, .. }, { cipher, IV } } }
//! PBES1    = { OID of hash and cipher, { salt, iterations } }
//! ```
//!
//! Invariants: the iterations of one derivation and of all of one load are bounded, so a hostile
//! file costs seconds at most; a plaintext counts only if it has the structure it should have, as
//! one wrong password in 256 passes for the padding.

use std::num::NonZeroU32;

use zeroize::Zeroizing;

use super::Password;
use crate::crypto::der::{self, Elements};
use crate::crypto::password::{self, FileCipher, FileHash, Purpose};
use crate::wire::Truncated;

/// Most iterations of one key derivation.
pub(super) const ITERATIONS_MAX: u64 = 10_000_000;
/// Most iterations of all derivations of one load.
const ITERATIONS_TOTAL_MAX: u64 = 20_000_000;
/// Most work for scrypt: N * r * p.
const SCRYPT_COST_MAX: u64 = 1 << 22;
/// Most memory for scrypt: N * r, in units of 128 bytes.
const SCRYPT_MEMORY_MAX: u64 = 1 << 20;

const OID_PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d];
const OID_PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0c];
const OID_SCRYPT: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x04, 0x0b];
/// PKCS#5: 1.2.840.113549.1.5.n.
const OID_PKCS5: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05];
/// PKCS#12 schemes: 1.2.840.113549.1.12.1.n.
const OID_PKCS12_PBE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x01];
/// RSA's hashes and HMACs: 1.2.840.113549.2.n.
const OID_RSA_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02];
/// NIST's hashes: 2.16.840.1.101.3.4.2.n.
const OID_NIST_HASH: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
/// NIST's AES: 2.16.840.1.101.3.4.1.n.
const OID_NIST_AES: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01];
const OID_SHA1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];
const OID_DES_EDE3_CBC: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x03, 0x07];
const OID_DES_CBC: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x07];
/// RFC 9579.
const OID_PBMAC1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0e];

/// Why something encrypted could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DecodeError {
    /// The structure is not what it should be.
    Malformed(&'static str),
    /// The structure is sound, and the password does not open it.
    WrongPassword,
    /// A scheme that we do not have.
    Unsupported(String),
    /// More iterations than allowed.
    TooManyIterations(u64),
}

impl From<Truncated> for DecodeError {
    fn from(_: Truncated) -> Self {
        Self::Malformed("cut off or altered")
    }
}

/// What is left of the iterations of one load.
#[derive(Debug)]
pub(super) struct Budget(u64);

impl Budget {
    pub(super) const fn new() -> Self {
        Self(ITERATIONS_TOTAL_MAX)
    }

    /// Takes the cost of a derivation of `blocks` blocks.
    fn spend(&mut self, iterations: u64, blocks: usize) -> Result<NonZeroU32, DecodeError> {
        let number = u32::try_from(iterations)
            .ok()
            .filter(|_| iterations <= ITERATIONS_MAX)
            .ok_or(DecodeError::TooManyIterations(iterations))?;
        let cost = iterations.saturating_mul(blocks as u64);
        self.0 = self
            .0
            .checked_sub(cost)
            .ok_or(DecodeError::TooManyIterations(iterations))?;
        NonZeroU32::new(number).ok_or(DecodeError::Malformed("zero iterations"))
    }
}

/// Decrypts an EncryptedPrivateKeyInfo (RFC 5958 section 3) to its PrivateKeyInfo.
pub(super) fn decrypt_private_key(
    der: &[u8],
    password: &Password,
    budget: &mut Budget,
) -> Result<Zeroizing<Vec<u8>>, DecodeError> {
    let mut outer = der::sequence(der)?;
    let algorithm = outer.enter(der::SEQUENCE)?;
    let ciphertext = outer.expect(der::OCTET_STRING)?;
    decrypt(algorithm, ciphertext, password, budget)
}

/// Decrypts what is one DER sequence, with the content of an AlgorithmIdentifier.
pub(super) fn decrypt(
    mut algorithm: Elements<'_>,
    ciphertext: &[u8],
    password: &Password,
    budget: &mut Budget,
) -> Result<Zeroizing<Vec<u8>>, DecodeError> {
    let oid = algorithm.expect(der::OID)?;
    if oid == OID_PBES2 {
        return decrypt_pbes2(algorithm, ciphertext, password, budget);
    }
    if let Some((hash, cipher)) = pbes1_scheme(oid) {
        let (salt, iterations) = salt_and_iterations(algorithm)?;
        let iterations = budget.spend(iterations, 1)?;
        let derived = password::pbkdf1(hash, password.as_bytes(), salt, iterations);
        let (key, rest) = derived.split_at_checked(8).ok_or(Truncated)?;
        let iv = rest.get(..8).ok_or(Truncated)?;
        return open(cipher, key, iv, ciphertext);
    }
    if let Some(cipher) = pkcs12_scheme(oid) {
        let (salt, iterations) = salt_and_iterations(algorithm)?;
        let mut result = Err(DecodeError::WrongPassword);
        for text in password.bmp_variants() {
            let iterations = budget.spend(iterations, 3)?;
            let derive = |purpose, length| {
                let mut out = Zeroizing::new(vec![0; length]);
                password::pkcs12_kdf(FileHash::Sha1, &text, salt, purpose, iterations, &mut out);
                out
            };
            let key = derive(Purpose::EncryptionKey, cipher.key_len());
            let iv = derive(Purpose::Iv, cipher.block_len());
            result = open(cipher, &key, &iv, ciphertext);
            if result.is_ok() {
                break;
            }
        }
        return result;
    }
    Err(DecodeError::Unsupported(format!(
        "encryption scheme {}",
        scheme_name(oid)
    )))
}

/// Whether `tag` is the MAC of `content` under the password (RFC 7292 section 4, RFC 9579).
///
/// `mac_data` is the content of MacData.
pub(super) fn verify_mac(
    mut mac_data: Elements<'_>,
    content: &[u8],
    password: &Password,
    budget: &mut Budget,
) -> Result<bool, DecodeError> {
    let mut digest_info = mac_data.enter(der::SEQUENCE)?;
    let mut algorithm = digest_info.enter(der::SEQUENCE)?;
    let tag = digest_info.expect(der::OCTET_STRING)?;
    let oid = algorithm.expect(der::OID)?;
    if oid == OID_PBMAC1 {
        return verify_pbmac1(algorithm, content, tag, password, budget);
    }
    let hash = digest_hash(oid)
        .ok_or_else(|| DecodeError::Unsupported(format!("MAC digest {}", dotted(oid))))?;
    let salt = mac_data.expect(der::OCTET_STRING)?;
    let iterations = match mac_data.optional(der::INTEGER)? {
        Some(number) => der::unsigned(number)?,
        None => 1,
    };
    for text in password.bmp_variants() {
        let iterations = budget.spend(iterations, 1)?;
        let mut key = Zeroizing::new(vec![0; hash.output_len()]);
        password::pkcs12_kdf(hash, &text, salt, Purpose::MacKey, iterations, &mut key);
        if hash.verify_hmac(&key, content, tag) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn verify_pbmac1(
    mut algorithm: Elements<'_>,
    content: &[u8],
    tag: &[u8],
    password: &Password,
    budget: &mut Budget,
) -> Result<bool, DecodeError> {
    let mut parameters = algorithm.enter(der::SEQUENCE)?;
    let mut derivation = parameters.enter(der::SEQUENCE)?;
    let mut mac = parameters.enter(der::SEQUENCE)?;
    let hash = hmac_hash(mac.expect(der::OID)?)?;
    if derivation.expect(der::OID)? != OID_PBKDF2 {
        return Err(DecodeError::Unsupported("PBMAC1 without PBKDF2".to_owned()));
    }
    let derivation = Pbkdf2::parse(derivation.enter(der::SEQUENCE)?)?;
    // RFC 9579 section 5 requires the length.
    let length = derivation
        .key_len
        .filter(|length| (1..=64).contains(length))
        .ok_or(DecodeError::Malformed("PBMAC1 key length"))?;
    let key = derivation.derive(password, length, budget)?;
    Ok(hash.verify_hmac(&key, content, tag))
}

fn decrypt_pbes2(
    mut algorithm: Elements<'_>,
    ciphertext: &[u8],
    password: &Password,
    budget: &mut Budget,
) -> Result<Zeroizing<Vec<u8>>, DecodeError> {
    let mut parameters = algorithm.enter(der::SEQUENCE)?;
    let mut derivation = parameters.enter(der::SEQUENCE)?;
    let mut encryption = parameters.enter(der::SEQUENCE)?;
    let cipher = pbes2_cipher(encryption.expect(der::OID)?)?;
    let iv = encryption.expect(der::OCTET_STRING)?;
    if iv.len() != cipher.block_len() {
        return Err(DecodeError::Malformed(
            "length of the initialization vector",
        ));
    }
    let oid = derivation.expect(der::OID)?;
    let inner = derivation.enter(der::SEQUENCE)?;
    let key = match oid {
        OID_PBKDF2 => {
            let derivation = Pbkdf2::parse(inner)?;
            if derivation
                .key_len
                .is_some_and(|length| length != cipher.key_len())
            {
                return Err(DecodeError::Malformed("length of the derived key"));
            }
            derivation.derive(password, cipher.key_len(), budget)?
        }
        OID_SCRYPT => derive_scrypt(inner, password, cipher.key_len(), budget)?,
        _ => {
            return Err(DecodeError::Unsupported(format!(
                "key derivation {}",
                dotted(oid)
            )));
        }
    };
    open(cipher, &key, iv, ciphertext)
}

/// PBKDF2-params (RFC 8018 appendix A.2).
struct Pbkdf2<'a> {
    salt: &'a [u8],
    iterations: u64,
    key_len: Option<usize>,
    hash: FileHash,
}

impl<'a> Pbkdf2<'a> {
    fn parse(mut parameters: Elements<'a>) -> Result<Self, DecodeError> {
        let salt = parameters.expect(der::OCTET_STRING)?;
        let iterations = der::unsigned(parameters.expect(der::INTEGER)?)?;
        let key_len = match parameters.optional(der::INTEGER)? {
            Some(number) => Some(usize::try_from(der::unsigned(number)?).unwrap_or(usize::MAX)),
            None => None,
        };
        let hash = match parameters.optional(der::SEQUENCE)? {
            Some(algorithm) => hmac_hash(Elements::new(algorithm).expect(der::OID)?)?,
            None => FileHash::Sha1,
        };
        Ok(Self {
            salt,
            iterations,
            key_len,
            hash,
        })
    }

    fn derive(
        &self,
        password: &Password,
        length: usize,
        budget: &mut Budget,
    ) -> Result<Zeroizing<Vec<u8>>, DecodeError> {
        let blocks = length.div_ceil(self.hash.output_len());
        let iterations = budget.spend(self.iterations, blocks)?;
        let mut key = Zeroizing::new(vec![0; length]);
        let password = password.as_bytes();
        if password::pbkdf2(self.hash, password, self.salt, iterations, &mut key) {
            Ok(key)
        } else {
            Err(DecodeError::Unsupported("PBKDF2 with MD5".to_owned()))
        }
    }
}

/// scrypt-params (RFC 7914 section 7.1).
fn derive_scrypt(
    mut parameters: Elements<'_>,
    password: &Password,
    length: usize,
    budget: &mut Budget,
) -> Result<Zeroizing<Vec<u8>>, DecodeError> {
    let salt = parameters.expect(der::OCTET_STRING)?;
    let n = der::unsigned(parameters.expect(der::INTEGER)?)?;
    let r = der::unsigned(parameters.expect(der::INTEGER)?)?;
    let p = der::unsigned(parameters.expect(der::INTEGER)?)?;
    if let Some(stated) = parameters.optional(der::INTEGER)?
        && der::unsigned(stated)? != length as u64
    {
        return Err(DecodeError::Malformed("length of the derived key"));
    }
    if !n.is_power_of_two() || n < 2 || r == 0 || p == 0 {
        return Err(DecodeError::Malformed("scrypt parameters"));
    }
    let cost = n.saturating_mul(r).saturating_mul(p);
    let memory = n.saturating_add(p).saturating_mul(r);
    if cost > SCRYPT_COST_MAX || memory > SCRYPT_MEMORY_MAX {
        return Err(DecodeError::TooManyIterations(cost));
    }
    budget.spend(cost, 1)?;
    let malformed = DecodeError::Malformed("scrypt parameters");
    let (Ok(log_n), Ok(r), Ok(p)) = (u8::try_from(n.ilog2()), u32::try_from(r), u32::try_from(p))
    else {
        return Err(malformed);
    };
    let mut key = Zeroizing::new(vec![0; length]);
    if password::scrypt(password.as_bytes(), salt, (log_n, r, p), &mut key) {
        Ok(key)
    } else {
        Err(malformed)
    }
}

/// Decrypts, and takes the result for right only when it is one whole sequence.
pub(super) fn open(
    cipher: FileCipher,
    key: &[u8],
    iv: &[u8],
    ciphertext: &[u8],
) -> Result<Zeroizing<Vec<u8>>, DecodeError> {
    if ciphertext.is_empty() || !ciphertext.len().is_multiple_of(cipher.block_len()) {
        return Err(DecodeError::Malformed(
            "ciphertext is not made of whole blocks",
        ));
    }
    let plain = cipher
        .decrypt(key, iv, ciphertext)
        .map_err(|_| DecodeError::WrongPassword)?;
    match der::sequence(&plain) {
        Ok(_) => Ok(plain),
        Err(_) => Err(DecodeError::WrongPassword),
    }
}

fn salt_and_iterations(mut algorithm: Elements<'_>) -> Result<(&[u8], u64), DecodeError> {
    let mut parameters = algorithm.enter(der::SEQUENCE)?;
    let salt = parameters.expect(der::OCTET_STRING)?;
    let iterations = der::unsigned(parameters.expect(der::INTEGER)?)?;
    Ok((salt, iterations))
}

fn pbes1_scheme(oid: &[u8]) -> Option<(FileHash, FileCipher)> {
    match oid.strip_prefix(OID_PKCS5)? {
        [3] => Some((FileHash::Md5, FileCipher::Des)),
        [6] => Some((FileHash::Md5, FileCipher::Rc2Bits64)),
        [10] => Some((FileHash::Sha1, FileCipher::Des)),
        [11] => Some((FileHash::Sha1, FileCipher::Rc2Bits64)),
        _ => None,
    }
}

fn pkcs12_scheme(oid: &[u8]) -> Option<FileCipher> {
    match oid.strip_prefix(OID_PKCS12_PBE)? {
        [3] => Some(FileCipher::DesEde3),
        [4] => Some(FileCipher::DesEde2),
        [5] => Some(FileCipher::Rc2Bits128),
        [6] => Some(FileCipher::Rc2Bits40),
        _ => None,
    }
}

fn pbes2_cipher(oid: &[u8]) -> Result<FileCipher, DecodeError> {
    match (oid, oid.strip_prefix(OID_NIST_AES)) {
        (_, Some([2])) => Ok(FileCipher::Aes128),
        (_, Some([22])) => Ok(FileCipher::Aes192),
        (_, Some([42])) => Ok(FileCipher::Aes256),
        (OID_DES_EDE3_CBC, _) => Ok(FileCipher::DesEde3),
        (OID_DES_CBC, _) => Ok(FileCipher::Des),
        _ => Err(DecodeError::Unsupported(format!("cipher {}", dotted(oid)))),
    }
}

fn hmac_hash(oid: &[u8]) -> Result<FileHash, DecodeError> {
    match oid.strip_prefix(OID_RSA_DIGEST) {
        Some([7]) => Ok(FileHash::Sha1),
        Some([8]) => Ok(FileHash::Sha224),
        Some([9]) => Ok(FileHash::Sha256),
        Some([10]) => Ok(FileHash::Sha384),
        Some([11]) => Ok(FileHash::Sha512),
        _ => Err(DecodeError::Unsupported(format!("HMAC {}", dotted(oid)))),
    }
}

fn digest_hash(oid: &[u8]) -> Option<FileHash> {
    if oid == OID_SHA1 {
        return Some(FileHash::Sha1);
    }
    match oid.strip_prefix(OID_NIST_HASH)? {
        [1] => Some(FileHash::Sha256),
        [2] => Some(FileHash::Sha384),
        [3] => Some(FileHash::Sha512),
        [4] => Some(FileHash::Sha224),
        _ => None,
    }
}

fn scheme_name(oid: &[u8]) -> String {
    match oid.strip_prefix(OID_PKCS12_PBE) {
        Some([1]) => "pbeWithSHAAnd128BitRC4".to_owned(),
        Some([2]) => "pbeWithSHAAnd40BitRC4".to_owned(),
        _ => dotted(oid),
    }
}

/// An object identifier as people write it.
pub(super) fn dotted(oid: &[u8]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut number: u64 = 0;
    for &byte in oid {
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if parts.is_empty() {
                let first = (number / 40).min(2);
                parts.push(first.to_string());
                number -= first * 40;
            }
            parts.push(number.to_string());
            number = 0;
        }
    }
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_written_with_dots() {
        assert_eq!(dotted(OID_PBES2), "1.2.840.113549.1.5.13");
        assert_eq!(dotted(OID_SCRYPT), "1.3.6.1.4.1.11591.4.11");
        assert_eq!(dotted(OID_NIST_AES), "2.16.840.1.101.3.4.1");
        assert_eq!(dotted(&[]), "");
        assert_eq!(dotted(&[0xff; 30]), "");
    }

    #[test]
    fn iterations_are_bounded_one_by_one_and_in_all() {
        let mut budget = Budget::new();
        assert_eq!(
            budget.spend(ITERATIONS_MAX + 1, 1),
            Err(DecodeError::TooManyIterations(ITERATIONS_MAX + 1))
        );
        assert!(budget.spend(0, 1).is_err());
        assert!(budget.spend(ITERATIONS_MAX, 1).is_ok());
        assert!(budget.spend(ITERATIONS_MAX, 1).is_ok());
        assert!(budget.spend(1, 1).is_err());
        assert!(Budget::new().spend(ITERATIONS_MAX, 3).is_err());
        assert!(Budget::new().spend(u64::MAX, usize::MAX).is_err());
    }
}
