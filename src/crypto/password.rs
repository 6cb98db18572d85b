//! Primitives of password-protected key files: key derivation, and ciphers in CBC mode.
//!
//! | derivation | of | used by |
//! |---|---|---|
//! | [`pbkdf2`] | RFC 8018 section 5.2 | PKCS#8 and PKCS12 with PBES2 |
//! | [`scrypt()`] | RFC 7914 | PKCS#8 with PBES2 |
//! | [`pbkdf1`] | RFC 8018 section 5.1 | PKCS#8 with PBES1 |
//! | [`pkcs12_kdf`] | RFC 7292 appendix B.2 | PKCS12 encryption and MAC |
//! | [`openssl_kdf`] | `EVP_BytesToKey` of OpenSSL | PEM with `DEK-Info` |
//!
//! Old hashes and ciphers are here because files that use them exist. None of this meets a peer.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{
    self as aws, DecryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey,
    UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{digest, hmac, pbkdf2 as aws_pbkdf2};
use md5::{Digest as _, Md5};
use rc2::Rc2;
use rc2::cipher::BlockCipherDecrypt;
use zeroize::{Zeroize, Zeroizing};

/// A hash that key files name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileHash {
    Md5,
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl FileHash {
    /// Lengths of the digest and of the block that is compressed at a time, in bytes.
    const fn lengths(self) -> (usize, usize) {
        match self {
            Self::Md5 => (16, 64),
            Self::Sha1 => (20, 64),
            Self::Sha224 => (28, 64),
            Self::Sha256 => (32, 64),
            Self::Sha384 => (48, 128),
            Self::Sha512 => (64, 128),
        }
    }

    /// Length of the digest in bytes.
    pub(crate) const fn output_len(self) -> usize {
        self.lengths().0
    }

    /// The digest of `parts`, one after the other.
    pub(crate) fn digest(self, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
        let algorithm = match self {
            Self::Md5 => {
                let mut context = Md5::new();
                parts.iter().for_each(|part| context.update(part));
                return Zeroizing::new(context.finalize().to_vec());
            }
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha224 => &digest::SHA224,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        };
        let mut context = digest::Context::new(algorithm);
        parts.iter().for_each(|part| context.update(part));
        Zeroizing::new(context.finish().as_ref().to_vec())
    }

    const fn hmac(self) -> Option<hmac::Algorithm> {
        match self {
            Self::Md5 => None,
            Self::Sha1 => Some(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
            Self::Sha224 => Some(hmac::HMAC_SHA224),
            Self::Sha256 => Some(hmac::HMAC_SHA256),
            Self::Sha384 => Some(hmac::HMAC_SHA384),
            Self::Sha512 => Some(hmac::HMAC_SHA512),
        }
    }

    /// Whether `tag` is the HMAC of `message`, compared in constant time; never for MD5.
    pub(crate) fn verify_hmac(self, key: &[u8], message: &[u8], tag: &[u8]) -> bool {
        self.hmac().is_some_and(|algorithm| {
            hmac::verify(&hmac::Key::new(algorithm, key), message, tag).is_ok()
        })
    }
}

/// Fills `out` with the key of PBKDF2; false for MD5, which no file uses here.
pub(crate) fn pbkdf2(
    hash: FileHash,
    password: &[u8],
    salt: &[u8],
    iterations: NonZeroU32,
    out: &mut [u8],
) -> bool {
    let algorithm = match hash {
        FileHash::Md5 => return false,
        FileHash::Sha224 => {
            pbkdf2_sha224(password, salt, iterations, out);
            return true;
        }
        FileHash::Sha1 => aws_pbkdf2::PBKDF2_HMAC_SHA1,
        FileHash::Sha256 => aws_pbkdf2::PBKDF2_HMAC_SHA256,
        FileHash::Sha384 => aws_pbkdf2::PBKDF2_HMAC_SHA384,
        FileHash::Sha512 => aws_pbkdf2::PBKDF2_HMAC_SHA512,
    };
    aws_pbkdf2::derive(algorithm, iterations, salt, password, out);
    true
}

/// The one hash that aws-lc-rs has no PBKDF2 for.
fn pbkdf2_sha224(password: &[u8], salt: &[u8], iterations: NonZeroU32, out: &mut [u8]) {
    let key = hmac::Key::new(hmac::HMAC_SHA224, password);
    for (number, chunk) in (1_u32..).zip(out.chunks_mut(28)) {
        let mut context = hmac::Context::with_key(&key);
        context.update(salt);
        context.update(&number.to_be_bytes());
        let mut last = context.sign();
        let mut sum = Zeroizing::new(last.as_ref().to_vec());
        for _ in 1..iterations.get() {
            last = hmac::sign(&key, last.as_ref());
            for (sum, byte) in sum.iter_mut().zip(last.as_ref()) {
                *sum ^= byte;
            }
        }
        chunk.copy_from_slice(&sum[..chunk.len()]);
    }
}

/// Fills `out` with the key of scrypt with cost 2^`log_n`; false when the parameters are not ones
/// of scrypt. The caller bounds them: memory is 128 * r * (2^log_n + p) bytes.
pub(crate) fn scrypt(
    password: &[u8],
    salt: &[u8],
    (log_n, r, p): (u8, u32, u32),
    out: &mut [u8],
) -> bool {
    scrypt::Params::new(log_n, r, p)
        .is_ok_and(|params| scrypt::scrypt(password, salt, &params, out).is_ok())
}

/// The derived key of PBKDF1: as long as the hash's output.
pub(crate) fn pbkdf1(
    hash: FileHash,
    password: &[u8],
    salt: &[u8],
    iterations: NonZeroU32,
) -> Zeroizing<Vec<u8>> {
    let mut key = hash.digest(&[password, salt]);
    for _ in 1..iterations.get() {
        key = hash.digest(&[&key]);
    }
    key
}

/// What [`pkcs12_kdf`] derives: the diversifier of RFC 7292 appendix B.3.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(crate) enum Purpose {
    EncryptionKey = 1,
    Iv = 2,
    MacKey = 3,
}

/// Fills `out` with key material of the PKCS#12 derivation. `password` is UTF-16 in big-endian
/// order with a terminating zero, two bytes a character (RFC 7292 appendix B.1).
pub(crate) fn pkcs12_kdf(
    hash: FileHash,
    password: &[u8],
    salt: &[u8],
    purpose: Purpose,
    iterations: NonZeroU32,
    out: &mut [u8],
) {
    let (digest_len, block_len) = hash.lengths();
    let fill = |text: &[u8]| -> Vec<u8> {
        let length = text.len().next_multiple_of(block_len);
        text.iter().copied().cycle().take(length).collect()
    };
    let diversifier = [purpose as u8; 128];
    let mut input = Zeroizing::new(fill(salt));
    input.extend_from_slice(&Zeroizing::new(fill(password)));
    for chunk in out.chunks_mut(digest_len) {
        let mut key = hash.digest(&[&diversifier[..block_len], &input]);
        for _ in 1..iterations.get() {
            key = hash.digest(&[&key]);
        }
        chunk.copy_from_slice(&key[..chunk.len()]);
        // Every block of the input is increased by the key, repeated to a block, plus one.
        for block in input.chunks_mut(block_len) {
            let mut carry = 1;
            for (at, byte) in block.iter_mut().enumerate().rev() {
                carry += u16::from(*byte) + u16::from(key[at % digest_len]);
                *byte = carry.to_be_bytes()[1];
                carry >>= 8;
            }
        }
    }
}

/// Fills `out` with the key that OpenSSL's `EVP_BytesToKey` makes with MD5 and one iteration.
pub(crate) fn openssl_kdf(password: &[u8], salt: &[u8], out: &mut [u8]) {
    let mut last = Zeroizing::new(Vec::new());
    for chunk in out.chunks_mut(16) {
        last = FileHash::Md5.digest(&[&last, password, salt]);
        chunk.copy_from_slice(&last[..chunk.len()]);
    }
}

/// A block cipher in CBC mode with the padding of PKCS#7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileCipher {
    Aes128,
    Aes192,
    Aes256,
    Des,
    DesEde2,
    DesEde3,
    /// Key of 5 bytes, 40 effective bits.
    Rc2Bits40,
    /// Key of 8 bytes, 64 effective bits.
    Rc2Bits64,
    /// Key of 16 bytes, 128 effective bits.
    Rc2Bits128,
}

/// The ciphertext did not end in a valid padding, or key or IV have another length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotDecrypted;

impl FileCipher {
    /// Length of the key in bytes.
    pub(crate) const fn key_len(self) -> usize {
        match self {
            Self::Rc2Bits40 => 5,
            Self::Des | Self::Rc2Bits64 => 8,
            Self::Aes128 | Self::DesEde2 | Self::Rc2Bits128 => 16,
            Self::Aes192 | Self::DesEde3 => 24,
            Self::Aes256 => 32,
        }
    }

    /// Length of a block and of the IV in bytes.
    pub(crate) const fn block_len(self) -> usize {
        match self {
            Self::Aes128 | Self::Aes192 | Self::Aes256 => 16,
            _ => 8,
        }
    }

    /// Decrypts `bytes` and takes the padding off.
    pub(crate) fn decrypt(
        self,
        key: &[u8],
        iv: &[u8],
        bytes: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, NotDecrypted> {
        if key.len() != self.key_len() || bytes.is_empty() {
            return Err(NotDecrypted);
        }
        match self {
            Self::Rc2Bits40 | Self::Rc2Bits64 | Self::Rc2Bits128 => decrypt_rc2(key, iv, bytes),
            _ => self.decrypt_aws(key, iv, bytes),
        }
    }

    fn decrypt_aws(
        self,
        key: &[u8],
        iv: &[u8],
        bytes: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, NotDecrypted> {
        #[expect(deprecated, reason = "files with DES keys exist")]
        let algorithm = match self {
            Self::Aes128 => &aws::AES_128,
            Self::Aes192 => &aws::AES_192,
            Self::Aes256 => &aws::AES_256,
            Self::Des => &aws::DES_FOR_LEGACY_USE_ONLY,
            Self::DesEde2 => &aws::DES_EDE_FOR_LEGACY_USE_ONLY,
            _ => &aws::DES_EDE3_FOR_LEGACY_USE_ONLY,
        };
        let context = match self.block_len() {
            16 => DecryptionContext::Iv128(FixedLength::from(
                <[u8; 16]>::try_from(iv).map_err(|_| NotDecrypted)?,
            )),
            _ => DecryptionContext::Iv64(FixedLength::from(
                <[u8; 8]>::try_from(iv).map_err(|_| NotDecrypted)?,
            )),
        };
        let mut buffer = Zeroizing::new(bytes.to_vec());
        let length = UnboundCipherKey::new(algorithm, key)
            .and_then(PaddedBlockDecryptingKey::cbc_pkcs7)
            .and_then(|key| key.decrypt(&mut buffer, context).map(|plain| plain.len()))
            .map_err(|_| NotDecrypted)?;
        buffer.truncate(length);
        Ok(buffer)
    }
}

fn decrypt_rc2(key: &[u8], iv: &[u8], bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, NotDecrypted> {
    if !bytes.len().is_multiple_of(8) {
        return Err(NotDecrypted);
    }
    let cipher = Rc2::new_with_eff_key_len(key, key.len() * 8);
    let mut last = <[u8; 8]>::try_from(iv).map_err(|_| NotDecrypted)?;
    let mut plain = Zeroizing::new(bytes.to_vec());
    for block in plain.chunks_exact_mut(8) {
        let mut work = [0; 8];
        work.copy_from_slice(block);
        let sealed = work;
        let mut array = work.into();
        cipher.decrypt_block(&mut array);
        for ((out, byte), last) in block.iter_mut().zip(&array).zip(&last) {
            *out = byte ^ last;
        }
        array.zeroize();
        last = sealed;
    }
    let padding = plain.last().map_or(0, |&byte| usize::from(byte));
    let length = plain.len().checked_sub(padding).ok_or(NotDecrypted)?;
    let valid = (1..=8).contains(&padding)
        && plain
            .get(length..)
            .is_some_and(|tail| tail.iter().all(|&byte| usize::from(byte) == padding));
    if !valid {
        return Err(NotDecrypted);
    }
    plain.truncate(length);
    Ok(plain)
}

/// Encrypts with AES-256-CBC and the padding of PKCS#7; `None` when the library fails.
pub(crate) fn encrypt_aes_256(key: &[u8; 32], iv: &[u8; 16], plain: &[u8]) -> Option<Vec<u8>> {
    let mut buffer = plain.to_vec();
    let context = aws::EncryptionContext::Iv128(FixedLength::from(*iv));
    UnboundCipherKey::new(&aws::AES_256, key)
        .and_then(PaddedBlockEncryptingKey::cbc_pkcs7)
        .and_then(|key| key.less_safe_encrypt(&mut buffer, context))
        .ok()?;
    Some(buffer)
}

#[cfg(test)]
mod tests {
    use super::super::fingerprint::to_hex;
    use super::super::tests::from_hex;
    use super::*;

    const ONE: NonZeroU32 = NonZeroU32::MIN;

    fn iterations(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    /// RFC 6070 for SHA-1; the others made with OpenSSL 3.0.
    #[test]
    fn pbkdf2_vectors() {
        for (hash, expected) in [
            (FileHash::Sha1, "4b007901b765489abead49d926f721d065a429c1"),
            (FileHash::Sha224, PBKDF2_SHA224),
            (
                FileHash::Sha256,
                "c5e478d59288c841aa530db6845c4c8d962893a001ce4e11a4963873aa98134a",
            ),
        ] {
            let mut out = vec![0; expected.len() / 2];
            assert!(pbkdf2(
                hash,
                b"password",
                b"salt",
                iterations(4096),
                &mut out
            ));
            assert_eq!(to_hex(&out), expected, "{hash:?}");
        }
        assert!(!pbkdf2(
            FileHash::Md5,
            b"password",
            b"salt",
            ONE,
            &mut [0; 16]
        ));
    }

    /// Forty bytes, so more than one block: made with Python's hashlib.
    const PBKDF2_SHA224: &str =
        "218c453bf90635bd0a21a75d172703ff6108ef603f65bb821aedade1d6961683ba8f67877d2a3f73";

    /// RFC 7914 section 12.
    #[test]
    fn scrypt_vector() {
        let mut out = [0; 64];
        assert!(scrypt(b"password", b"NaCl", (10, 8, 16), &mut out));
        assert_eq!(
            to_hex(&out),
            "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b3731622eaf30d92e22a3886ff10927\
             9d9830dac727afb94a83ee6d8360cbdfa2cc0640"
        );
    }

    /// The vectors of the PKCS#12 derivation that circulate since its first implementations.
    #[test]
    fn pkcs12_vectors() {
        let smeg = from_hex("0073006d006500670000");
        let queeg = from_hex("007100750065006500670000");
        for (password, salt, purpose, count, expected) in [
            (
                &smeg,
                "0a58cf64530d823f",
                Purpose::EncryptionKey,
                1,
                "8aaae6297b6cb04642ab5b077851284eb7128f1a2a7fbca3",
            ),
            (
                &smeg,
                "0a58cf64530d823f",
                Purpose::Iv,
                1,
                "79993dfe048d3b76",
            ),
            (
                &smeg,
                "3d83c0e4546ac140",
                Purpose::MacKey,
                1,
                "8d967d88f6caa9d714800ab3d48051d63f73a312",
            ),
            (
                &queeg,
                "05dec959acff72f7",
                Purpose::EncryptionKey,
                1000,
                "ed2034e36328830ff09df1e1a07dd357185dac0d4f9eb3d4",
            ),
            (
                &queeg,
                "05dec959acff72f7",
                Purpose::Iv,
                1000,
                "11dedad7758d4860",
            ),
            (
                &queeg,
                "263216fcc2fab31c",
                Purpose::MacKey,
                1000,
                "5ec4c7a80df652294c3925b6489a7ab857c83476",
            ),
        ] {
            let mut out = vec![0; expected.len() / 2];
            let salt = from_hex(salt);
            pkcs12_kdf(
                FileHash::Sha1,
                password,
                &salt,
                purpose,
                iterations(count),
                &mut out,
            );
            assert_eq!(to_hex(&out), expected);
        }
    }

    /// RFC 2268 section 5.
    #[test]
    fn rc2_vector() {
        let key = from_hex("88bca90e90875a7f0f79c384627bafb2");
        let cipher = Rc2::new_with_eff_key_len(&key, 128);
        let mut block = <[u8; 8]>::try_from(from_hex("2269552ab0f85ca6"))
            .unwrap()
            .into();
        cipher.decrypt_block(&mut block);
        assert_eq!(to_hex(&block), "0000000000000000");
    }

    #[test]
    fn a_wrong_key_or_a_broken_ciphertext_is_an_error() {
        let sealed = encrypt_aes_256(&[1; 32], &[2; 16], b"plain text").unwrap();
        let open = |key: &[u8], iv: &[u8], bytes: &[u8]| FileCipher::Aes256.decrypt(key, iv, bytes);
        assert_eq!(*open(&[1; 32], &[2; 16], &sealed).unwrap(), b"plain text");
        for (key, iv, bytes) in [
            (&[1; 32][..], &[2; 16][..], &sealed[..15]),
            (&[1; 32], &[2; 16], &[]),
            (&[1; 31], &[2; 16], &sealed),
            (&[1; 32], &[2; 15], &sealed),
        ] {
            assert_eq!(open(key, iv, bytes), Err(NotDecrypted));
        }
        for cipher in [
            FileCipher::Rc2Bits40,
            FileCipher::Rc2Bits128,
            FileCipher::Des,
        ] {
            let key = vec![7; cipher.key_len()];
            for length in 0..20 {
                let _ = cipher.decrypt(&key, &[0; 8], &vec![9; length]);
            }
        }
    }
}
