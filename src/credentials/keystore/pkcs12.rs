//! The PKCS12 format of keystores (RFC 7292).
//!
//! ```text
//! PFX          = { 3, authSafe: data { AuthenticatedSafe }, MacData? }
//! AuthenticatedSafe = { (data { SafeContents } | encryptedData { SafeContents }) * }
//! SafeContents = { bag * },  bag = { kind, [0] value, attributes? }
//! kinds        = key | key with password | certificate | .. ;  attributes = friendlyName, localKeyID
//! ```
//! The store's password opens the encrypted parts and keys the MAC; a key has a password of its own,
//! which keytool and OpenSSL make the same.
//!
//! Some writers (Bouncy Castle among them) use BER, with indefinite lengths and strings in pieces:
//! [`to_der`] turns each layer into DER before it is read. The MAC is over the content as written.

use zeroize::Zeroizing;

use super::super::Password;
use super::super::pbe::{self, Budget, DecodeError};
use super::{CertificateEntry, Chain, KeyEntry, LockedKey, Store};
use crate::crypto::der::{self, Elements};
use crate::crypto::signature::SigningKey;
use crate::wire::Reader;
use x509_parser::prelude::{FromDer, X509Certificate};

const OID_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
const OID_ENCRYPTED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x06];
/// 1.2.840.113549.1.12.10.1.n.
const OID_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01];
const OID_X509: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x16, 0x01];
const OID_FRIENDLY_NAME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x14];
const OID_LOCAL_KEY_ID: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x15];

const SET: u8 = 0x31;
const BMP_STRING: u8 = 0x1e;
/// `[0]`, constructed.
const CONTEXT_0: u8 = 0xa0;
/// Deepest nesting that is followed.
const DEPTH_MAX: usize = 16;
/// Longest chain that is put together.
const CHAIN_MAX: usize = 16;

/// Reads the store, checking its MAC first.
pub(super) fn parse(
    content: &[u8],
    password: &Password,
    budget: &mut Budget,
) -> Result<Store, DecodeError> {
    let content = to_der(content)?;
    let mut pfx = der::sequence(&content)?;
    if pfx.expect(der::INTEGER)? != [3] {
        return Err(DecodeError::Malformed("not a PKCS12 file of version 3"));
    }
    let mut auth_safe = pfx.enter(der::SEQUENCE)?;
    if auth_safe.expect(der::OID)? != OID_DATA {
        return Err(DecodeError::Unsupported(
            "a PKCS12 file with a signature instead of a password".to_owned(),
        ));
    }
    let safe = auth_safe.enter(CONTEXT_0)?.expect(der::OCTET_STRING)?;
    // The structure comes first, so that a damaged file is not taken for a wrong password.
    let authenticated = to_der(safe)?;
    let mut parts = der::sequence(&authenticated)?;
    let mac_data = pfx.optional(der::SEQUENCE)?;
    pfx.expect_end()?;
    if let Some(mac_data) = mac_data
        && !pbe::verify_mac(Elements::new(mac_data), safe, password, budget)?
    {
        return Err(DecodeError::WrongPassword);
    }
    let mut store = Store::default();
    while !parts.is_empty() {
        let mut part = parts.enter(der::SEQUENCE)?;
        let oid = part.expect(der::OID)?;
        let mut inner = part.enter(CONTEXT_0)?;
        match oid {
            OID_DATA => safe_contents(inner.expect(der::OCTET_STRING)?, &mut store, DEPTH_MAX)?,
            OID_ENCRYPTED_DATA => {
                let plain = decrypt_part(inner.enter(der::SEQUENCE)?, password, budget)?;
                safe_contents(&plain, &mut store, DEPTH_MAX)?;
            }
            _ => {
                return Err(DecodeError::Unsupported(
                    "a part encrypted for a public key".to_owned(),
                ));
            }
        }
    }
    Ok(store)
}

/// `EncryptedData = { version, { data, AlgorithmIdentifier, [0] ciphertext } }` (RFC 5652).
fn decrypt_part(
    mut encrypted: Elements<'_>,
    password: &Password,
    budget: &mut Budget,
) -> Result<Zeroizing<Vec<u8>>, DecodeError> {
    encrypted.expect(der::INTEGER)?;
    let mut info = encrypted.enter(der::SEQUENCE)?;
    info.expect(der::OID)?;
    let algorithm = info.enter(der::SEQUENCE)?;
    let ciphertext = info.next()?;
    match ciphertext.tag {
        0x80 => pbe::decrypt(algorithm, ciphertext.body, password, budget),
        CONTEXT_0 => {
            let whole = joined(ciphertext.body, DEPTH_MAX)?;
            pbe::decrypt(algorithm, &whole, password, budget)
        }
        _ => Err(DecodeError::Malformed("encrypted part without content")),
    }
}

fn safe_contents(content: &[u8], store: &mut Store, depth: usize) -> Result<(), DecodeError> {
    let depth = depth
        .checked_sub(1)
        .ok_or(DecodeError::Malformed("nested too deeply"))?;
    let content = Zeroizing::new(to_der(content)?);
    let mut bags = der::sequence(&content)?;
    while !bags.is_empty() {
        let mut bag = bags.enter(der::SEQUENCE)?;
        let kind = bag.expect(der::OID)?.strip_prefix(OID_BAG);
        let value = bag.expect(CONTEXT_0)?;
        let attributes = Attributes::parse(bag.optional(SET)?)?;
        match kind {
            Some([1]) => {
                let key = LockedKey::Plain(Zeroizing::new(value.to_vec()));
                push_key(store, key, attributes);
            }
            Some([2]) => push_key(store, LockedKey::Pkcs8(value.to_vec()), attributes),
            Some([3]) => push_certificate(store, value, attributes)?,
            Some([6]) => safe_contents(value, store, depth)?,
            // Revocation lists, secret keys, and what came later.
            _ => {}
        }
    }
    Ok(())
}

/// A key without a name gets its number, as in Java.
fn push_key(store: &mut Store, key: LockedKey, attributes: Attributes) {
    let unnamed = store
        .keys
        .iter()
        .filter(|entry| entry.alias.parse::<u32>().is_ok())
        .count();
    store.keys.push(KeyEntry {
        alias: attributes
            .friendly_name
            .unwrap_or_else(|| (unnamed + 1).to_string()),
        key,
        chain: Chain::Among(attributes.local_key_id),
    });
}

/// `CertBag = { x509Certificate, [0] OCTET STRING }`.
fn push_certificate(
    store: &mut Store,
    value: &[u8],
    attributes: Attributes,
) -> Result<(), DecodeError> {
    let mut bag = der::sequence(value)?;
    if bag.expect(der::OID)? == OID_X509 {
        let der = bag.enter(CONTEXT_0)?.expect(der::OCTET_STRING)?.to_vec();
        store.certificates.push(CertificateEntry {
            alias: attributes.friendly_name,
            local_key_id: attributes.local_key_id,
            der,
        });
    }
    Ok(())
}

#[derive(Default)]
struct Attributes {
    friendly_name: Option<String>,
    local_key_id: Option<Vec<u8>>,
}

impl Attributes {
    /// `SET OF { OID, SET OF value }`; others are passed over.
    fn parse(set: Option<&[u8]>) -> Result<Self, DecodeError> {
        let mut found = Self::default();
        let mut attributes = Elements::new(set.unwrap_or_default());
        while !attributes.is_empty() {
            let mut attribute = attributes.enter(der::SEQUENCE)?;
            let oid = attribute.expect(der::OID)?;
            let mut values = attribute.enter(SET)?;
            match oid {
                OID_FRIENDLY_NAME => {
                    if let Some(name) = values.optional(BMP_STRING)? {
                        let units: Vec<u16> = name
                            .chunks_exact(2)
                            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
                            .collect();
                        found.friendly_name = Some(String::from_utf16_lossy(&units));
                    }
                }
                OID_LOCAL_KEY_ID => {
                    found.local_key_id = values.optional(der::OCTET_STRING)?.map(<[u8]>::to_vec);
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

/// The chain of `key`: the certificate that names the key's identifier, or else one with its public
/// key; then issuer after issuer, as far as the store has them.
pub(super) fn chain(
    certificates: &[CertificateEntry],
    local_key_id: Option<&[u8]>,
    key: &SigningKey,
) -> Vec<Vec<u8>> {
    let parsed: Vec<X509Certificate<'_>> = certificates
        .iter()
        .filter_map(|entry| X509Certificate::from_der(&entry.der).ok())
        .map(|(_, certificate)| certificate)
        .collect();
    let named = certificates
        .iter()
        .find(|entry| local_key_id.is_some() && entry.local_key_id.as_deref() == local_key_id)
        .map(|entry| entry.der.as_slice());
    let matching = parsed
        .iter()
        .find(|certificate| key.public_key_matches(certificate.tbs_certificate.subject_pki.raw))
        .map(X509Certificate::as_raw);
    let Some(leaf) = matching.or(named) else {
        return Vec::new();
    };
    let mut chain = vec![leaf.to_vec()];
    let mut last = parsed
        .iter()
        .find(|certificate| certificate.as_raw() == leaf);
    while let Some(certificate) = last.filter(|_| chain.len() < CHAIN_MAX) {
        last = parsed.iter().find(|issuer| {
            issuer.subject().as_raw() == certificate.issuer().as_raw()
                && !chain.iter().any(|der| der == issuer.as_raw())
        });
        chain.extend(last.map(|issuer| issuer.as_raw().to_vec()));
    }
    chain
}

/// Turns the one element that `bytes` begin with from BER into DER, as far as definite lengths and
/// whole strings go. Zero bytes may follow it, anything else may not.
fn to_der(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut out = Vec::with_capacity(bytes.len() + 16);
    element(&mut reader, &mut out, DEPTH_MAX)?;
    if reader.rest().iter().any(|&byte| byte != 0) {
        return Err(DecodeError::Malformed("bytes after the end"));
    }
    Ok(out)
}

/// Rewrites one element.
fn element(reader: &mut Reader<'_>, out: &mut Vec<u8>, depth: usize) -> Result<(), DecodeError> {
    let depth = depth
        .checked_sub(1)
        .ok_or(DecodeError::Malformed("nested too deeply"))?;
    let tag = reader.u8()?;
    let constructed = tag & 0x20 != 0;
    if tag & 0x1f == 0x1f {
        return Err(DecodeError::Malformed("unknown kind of element"));
    }
    let length = match reader.u8()? {
        short @ 0..=0x7f => Some(usize::from(short)),
        0x80 if constructed => None,
        long @ 0x81..=0x84 => {
            let digits = reader.bytes(usize::from(long & 0x7f))?;
            Some(
                digits
                    .iter()
                    .fold(0, |length, &digit| length << 8 | usize::from(digit)),
            )
        }
        _ => return Err(DecodeError::Malformed("length of an element")),
    };
    let mut body = Zeroizing::new(Vec::new());
    match length {
        Some(length) if !constructed => {
            let content = reader.bytes(length)?;
            out.extend_from_slice(&der::encode(tag, &[content]));
            return Ok(());
        }
        Some(length) => {
            let mut inner = Reader::new(reader.bytes(length)?);
            while !inner.is_empty() {
                element(&mut inner, &mut body, depth)?;
            }
        }
        None => {
            while !end_of_contents(reader)? {
                element(reader, &mut body, depth)?;
            }
        }
    }
    if tag == der::OCTET_STRING | 0x20 {
        let whole = Zeroizing::new(joined(&body, depth)?);
        out.extend_from_slice(&der::encode(der::OCTET_STRING, &[&whole]));
    } else {
        out.extend_from_slice(&der::encode(tag, &[&body]));
    }
    Ok(())
}

/// Takes the two zero bytes that end an indefinite length, if they are next.
fn end_of_contents(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
    let mut ahead = *reader;
    if ahead.array::<2>()? == [0, 0] {
        *reader = ahead;
        return Ok(true);
    }
    Ok(false)
}

/// The octet strings in `body`, joined.
fn joined(body: &[u8], depth: usize) -> Result<Vec<u8>, DecodeError> {
    let mut parts = Elements::new(body);
    let mut whole = Vec::with_capacity(body.len());
    while !parts.is_empty() && depth > 0 {
        whole.extend_from_slice(parts.expect(der::OCTET_STRING)?);
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ber_becomes_der() {
        // SEQUENCE of indefinite length { INTEGER 3, OCTET STRING in two pieces }.
        let ber = [
            0x30, 0x80, 2, 1, 3, 0x24, 0x80, 4, 2, 1, 2, 4, 0x81, 1, 3, 0, 0, 0, 0,
        ];
        assert_eq!(to_der(&ber).unwrap(), [0x30, 8, 2, 1, 3, 4, 3, 1, 2, 3]);
        let der = [0x30, 3, 2, 1, 3];
        assert_eq!(to_der(&der).unwrap(), der);
        assert_eq!(to_der(&[0x30, 3, 2, 1, 3, 0, 0]).unwrap(), der);
    }

    #[test]
    fn what_is_no_ber_is_refused() {
        for bad in [
            &[][..],
            &[0x30, 0x80],
            &[0x30, 0x80, 0],
            &[0x04, 0x80, 0, 0],
            &[0x30, 3, 2, 1],
            &[0x30, 0, 1],
            &[0x30, 0x85, 0, 0, 0, 0, 0],
            &[0x1f, 0x81, 0],
            &[0x24, 3, 2, 1, 3],
        ] {
            assert!(to_der(bad).is_err(), "{bad:02x?}");
        }
        assert!(to_der(&[0x30, 0x80].repeat(1000)).is_err());
    }
}
