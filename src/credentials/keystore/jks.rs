//! The JKS format of Java's keystores.
//!
//! ```text
//! store = FEEDFEED | version u32 (1, 2) | count u32 | entry * count | SHA-1 (20 bytes)
//! entry = tag u32 | alias UTF | date u64 | key entry (tag 1) or certificate (tag 2)
//! key   = length u32, EncryptedPrivateKeyInfo | count u32 | certificate * count, leaf first
//! certificate = [version 2: type UTF] | length u32, DER
//! UTF   = length u16, modified UTF-8
//! ```
//! The SHA-1 is over the store's password in UTF-16, the text "Mighty Aphrodite" and all before it.
//! A key is sealed under an algorithm of Sun's own, with UTF-16 of its password P:
//!
//! ```text
//! salt (20) | key XOR stream | SHA-1(P | key),  stream = SHA-1(P | salt), SHA-1(P | last 20), ..
//! ```

use zeroize::Zeroizing;

use super::super::Password;
use super::super::pbe::DecodeError;
use super::{CertificateEntry, Chain, KeyEntry, LockedKey, Store};
use crate::crypto::der;
use crate::crypto::password::FileHash;
use crate::crypto::verify_equal;
use crate::wire::Reader;

/// First bytes of a JKS file.
pub(super) const MAGIC: [u8; 4] = [0xfe, 0xed, 0xfe, 0xed];
/// First bytes of a JCEKS file.
pub(super) const MAGIC_JCEKS: [u8; 4] = [0xce, 0xce, 0xce, 0xce];

const CHECK_LEN: usize = 20;
const OID_KEY_PROTECTOR: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x2a, 0x02, 0x11, 0x01, 0x01];

/// Reads the store; its structure first, so that a damaged file is not taken for a wrong password.
pub(super) fn parse(content: &[u8], password: &Password) -> Result<Store, DecodeError> {
    let body_len = content
        .len()
        .checked_sub(CHECK_LEN)
        .ok_or(DecodeError::Malformed("cut off"))?;
    let (body, check) = content.split_at(body_len);
    let mut reader = Reader::new(body);
    reader.bytes(MAGIC.len())?;
    let version = reader.u32()?;
    if !(1..=2).contains(&version) {
        return Err(DecodeError::Malformed("unknown version of JKS"));
    }
    let mut store = Store::default();
    for _ in 0..reader.u32()? {
        entry(&mut reader, version, &mut store)?;
    }
    reader.expect_end()?;
    let password = password.utf16_be();
    let digest = FileHash::Sha1.digest(&[&password, b"Mighty Aphrodite", body]);
    if verify_equal(&digest, check) {
        Ok(store)
    } else {
        Err(DecodeError::WrongPassword)
    }
}

fn entry(reader: &mut Reader<'_>, version: u32, store: &mut Store) -> Result<(), DecodeError> {
    let tag = reader.u32()?;
    let alias = text(reader.vec16()?)?;
    reader.array::<8>()?;
    match tag {
        1 => {
            let sealed = vec32(reader)?.to_vec();
            let mut chain = Vec::new();
            for _ in 0..reader.u32()? {
                chain.push(certificate(reader, version)?);
            }
            store.keys.push(KeyEntry {
                alias,
                key: LockedKey::Jks(sealed),
                chain: Chain::Given(chain),
            });
        }
        2 => store.certificates.push(CertificateEntry {
            alias: Some(alias),
            local_key_id: None,
            der: certificate(reader, version)?,
        }),
        _ => return Err(DecodeError::Malformed("unknown kind of entry")),
    }
    Ok(())
}

fn certificate(reader: &mut Reader<'_>, version: u32) -> Result<Vec<u8>, DecodeError> {
    if version == 2 {
        reader.vec16()?;
    }
    vec32(reader).map(<[u8]>::to_vec)
}

fn vec32<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    let length = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
    Ok(reader.bytes(length)?)
}

/// Java's modified UTF-8: each UTF-16 unit by itself in 1 to 3 bytes, zero in 2.
fn text(bytes: &[u8]) -> Result<String, DecodeError> {
    const MALFORMED: DecodeError = DecodeError::Malformed("an alias is no text");
    let mut units = Vec::with_capacity(bytes.len());
    let mut bytes = bytes.iter().map(|&byte| u16::from(byte));
    while let Some(first) = bytes.next() {
        let mut low_bits = || match bytes.next() {
            Some(byte @ 0x80..=0xbf) => Ok(byte & 0x3f),
            _ => Err(MALFORMED),
        };
        units.push(match first {
            0x01..=0x7f => first,
            0xc0..=0xdf => (first & 0x1f) << 6 | low_bits()?,
            0xe0..=0xef => (first & 0x0f) << 12 | low_bits()? << 6 | low_bits()?,
            _ => return Err(MALFORMED),
        });
    }
    String::from_utf16(&units).map_err(|_| MALFORMED)
}

/// Opens a key; `sealed` is an EncryptedPrivateKeyInfo.
pub(super) fn decrypt(
    sealed: &[u8],
    password: &Password,
) -> Result<Zeroizing<Vec<u8>>, DecodeError> {
    let mut outer = der::sequence(sealed)?;
    let oid = outer.enter(der::SEQUENCE)?.expect(der::OID)?;
    if oid != OID_KEY_PROTECTOR {
        return Err(DecodeError::Unsupported(format!(
            "key protection {}",
            super::super::pbe::dotted(oid)
        )));
    }
    let body = outer.expect(der::OCTET_STRING)?;
    let mut reader = Reader::new(body);
    let salt = reader.bytes(CHECK_LEN)?;
    let length = reader.remaining().saturating_sub(CHECK_LEN);
    let ciphertext = reader.bytes(length)?;
    let check = reader.bytes(CHECK_LEN)?;
    let password = password.utf16_be();
    let mut plain = Zeroizing::new(ciphertext.to_vec());
    let mut stream = Zeroizing::new(salt.to_vec());
    for chunk in plain.chunks_mut(CHECK_LEN) {
        stream = FileHash::Sha1.digest(&[&password, &stream]);
        for (byte, mask) in chunk.iter_mut().zip(stream.iter()) {
            *byte ^= mask;
        }
    }
    let digest = FileHash::Sha1.digest(&[&password, &plain]);
    if verify_equal(&digest, check) {
        Ok(plain)
    } else {
        Err(DecodeError::WrongPassword)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modified_utf_8_is_read() {
        assert_eq!(text(b"server").unwrap(), "server");
        assert_eq!(text(&[0xc3, 0xbc, 0xc0, 0x80]).unwrap(), "\u{fc}\0");
        assert_eq!(text("\u{20ac}".as_bytes()).unwrap(), "\u{20ac}");
        // U+1F511 as two surrogates.
        let key = [0xed, 0xa0, 0xbd, 0xed, 0xb4, 0x91];
        assert_eq!(text(&key).unwrap(), "\u{1f511}");
        for bad in [
            &[0][..],
            &[0x80],
            &[0xc3],
            &[0xe2, 0x82],
            &[0xf0, 0x9f, 0x94, 0x91],
        ] {
            assert!(text(bad).is_err(), "{bad:02x?}");
        }
        assert!(text(&key[..3]).is_err(), "half a pair of surrogates");
    }

    #[test]
    fn counts_that_the_file_does_not_hold_are_refused_at_once() {
        let mut store = MAGIC.to_vec();
        store.extend_from_slice(&[0, 0, 0, 2, 0xff, 0xff, 0xff, 0xff]);
        store.extend_from_slice(&[0; 20]);
        assert!(parse(&store, &Password::from("x")).is_err());
    }
}
