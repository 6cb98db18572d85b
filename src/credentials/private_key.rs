//! A private key from a PEM block, with or without password.

use zeroize::Zeroizing;

use super::Password;
use super::pbe::{self, Budget, DecodeError};
use super::pem::{Block, Kind, PemError};
use crate::crypto::CryptoError;
use crate::crypto::password::{self, FileCipher};
use crate::crypto::signature::SigningKey;

/// Why a block gave no private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyError {
    Framing(PemError),
    Decode(DecodeError),
    Key(CryptoError),
}

impl From<PemError> for KeyError {
    fn from(error: PemError) -> Self {
        Self::Framing(error)
    }
}

impl From<DecodeError> for KeyError {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

/// The key in `block`, which is one of the key kinds.
pub(super) fn from_block(
    block: &Block,
    password: &Password,
    budget: &mut Budget,
) -> Result<SigningKey, KeyError> {
    let der = match block.kind() {
        Kind::EncryptedKey => pbe::decrypt_private_key(&block.decode()?, password, budget)?,
        Kind::LegacyEncryptedKey => decrypt_legacy(block, password)?,
        _ => block.decode_plain()?,
    };
    SigningKey::from_der(&der).map_err(KeyError::Key)
}

/// Decrypts the old OpenSSL format: the cipher and the IV are in `DEK-Info`, the first 8 bytes of
/// the IV are the salt (RFC 1421 section 4.6.1.3, and OpenSSL's `PEM_write_bio`).
fn decrypt_legacy(block: &Block, password: &Password) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let encrypted = block
        .header("Proc-Type")
        .is_some_and(|value| value.replace(' ', "") == "4,ENCRYPTED");
    if !encrypted {
        return Err(DecodeError::Malformed("Proc-Type header is not '4,ENCRYPTED'").into());
    }
    let (name, iv) = block
        .header("DEK-Info")
        .and_then(|value| value.split_once(','))
        .ok_or(DecodeError::Malformed(
            "DEK-Info header is missing or damaged",
        ))?;
    let name = name.trim();
    let cipher = match name {
        "AES-128-CBC" => FileCipher::Aes128,
        "AES-192-CBC" => FileCipher::Aes192,
        "AES-256-CBC" => FileCipher::Aes256,
        "DES-EDE3-CBC" => FileCipher::DesEde3,
        "DES-CBC" => FileCipher::Des,
        _ => return Err(DecodeError::Unsupported(format!("cipher {name}")).into()),
    };
    let iv = from_hex(iv.trim())
        .filter(|iv| iv.len() == cipher.block_len())
        .ok_or(DecodeError::Malformed("DEK-Info header has a damaged IV"))?;
    let mut key = Zeroizing::new(vec![0; cipher.key_len()]);
    password::openssl_kdf(password.as_bytes(), &iv[..8], &mut key);
    Ok(pbe::open(cipher, &key, &iv, &block.decode()?)?)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2).map(|pair| match *pair {
        [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
        _ => None,
    });
    pairs.collect()
}
