//! PEM: text cut into blocks (RFC 7468, and the headers of RFC 1421 that OpenSSL still writes).
//!
//! ```text
//! -----BEGIN label-----
//! Proc-Type: 4,ENCRYPTED          headers, with an encrypted key of the old kind only
//! DEK-Info: AES-256-CBC,0102..
//!                                 an empty line after headers
//! base64
//! -----END label-----
//! ```
//!
//! The cutting is ours because rustls-pemfile takes no headers and passes over encrypted keys; what
//! is plain is then read by rustls-pemfile.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, Zeroizing};

/// One block of a PEM file.
pub(super) struct Block {
    /// What stands after BEGIN.
    pub(super) label: String,
    /// Line of BEGIN, from 1.
    pub(super) line: usize,
    headers: Vec<(String, String)>,
    base64: Zeroizing<String>,
}

/// A fault of the framing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PemError {
    /// Line of the fault, from 1.
    pub(super) line: usize,
    pub(super) reason: String,
}

/// What a block is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Certificate,
    /// A private key without password.
    PlainKey,
    /// PKCS#8 with a password.
    EncryptedKey,
    /// SEC 1 or PKCS#1 with a password and headers.
    LegacyEncryptedKey,
    Other,
}

/// Cuts `text` into its blocks; what stands between them is passed over.
pub(super) fn blocks(text: &[u8]) -> Result<Vec<Block>, PemError> {
    let separator = if text.contains(&b'\n') { b'\n' } else { b'\r' };
    let mut lines = (1..).zip(text.split(|&byte| byte == separator));
    let mut blocks = Vec::new();
    while let Some((line, content)) = lines.next() {
        let content = content.trim_ascii();
        let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
        if let Some(label) = label(content, b"-----BEGIN ") {
            blocks.push(block(label, line, &mut lines)?);
        } else if content.starts_with(b"-----BEGIN") {
            return Err(error(line, "BEGIN line is damaged"));
        } else if content.starts_with(b"-----END") {
            return Err(error(line, "END line without a BEGIN line"));
        }
    }
    Ok(blocks)
}

fn block<'a>(
    name: String,
    begin: usize,
    lines: &mut impl Iterator<Item = (usize, &'a [u8])>,
) -> Result<Block, PemError> {
    let mut block = Block {
        label: name,
        line: begin,
        headers: Vec::new(),
        // Room for all at once, so that no copy of a key stays behind when it grows.
        base64: Zeroizing::new(String::with_capacity(16 * 1024)),
    };
    for (line, raw) in lines {
        let content = raw.trim_ascii();
        if let Some(end) = label(content, b"-----END ") {
            if end != block.label {
                return Err(error(line, "END line does not fit the BEGIN line"));
            }
            return Ok(block);
        }
        if content.starts_with(b"-----") {
            return Err(error(line, "a block begins before the one before it ended"));
        }
        if let Some(colon) = content.iter().position(|&byte| byte == b':') {
            let (name, value) = content.split_at(colon);
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes.trim_ascii()).into_owned();
            block.headers.push((text(name), text(&value[1..])));
        } else if let Some((_, value)) = block.headers.last_mut().filter(|_| {
            raw.first()
                .is_some_and(|&byte| byte == b' ' || byte == b'\t')
        }) {
            value.push_str(&String::from_utf8_lossy(content));
        } else {
            let valid = |&byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
            let text = std::str::from_utf8(content)
                .ok()
                .filter(|_| content.iter().all(valid))
                .ok_or_else(|| error(line, "a character that is not of base64"))?;
            block.base64.push_str(text);
        }
    }
    Err(error(begin, "the block that begins here has no END line"))
}

/// The label between `prefix` and five hyphens.
fn label(line: &[u8], prefix: &[u8]) -> Option<String> {
    let label = line.strip_prefix(prefix)?.strip_suffix(b"-----")?;
    let valid = !label.is_empty() && label.iter().all(|byte| (0x20..0x7f).contains(byte));
    valid.then(|| String::from_utf8_lossy(label).into_owned())
}

fn error(line: usize, reason: impl Into<String>) -> PemError {
    PemError {
        line,
        reason: reason.into(),
    }
}

impl Block {
    /// What the block is to us.
    pub(super) fn kind(&self) -> Kind {
        match self.label.as_str() {
            "CERTIFICATE" | "X509 CERTIFICATE" => Kind::Certificate,
            "ENCRYPTED PRIVATE KEY" => Kind::EncryptedKey,
            "EC PRIVATE KEY" | "RSA PRIVATE KEY" if self.header("Proc-Type").is_some() => {
                Kind::LegacyEncryptedKey
            }
            "PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY" => Kind::PlainKey,
            _ => Kind::Other,
        }
    }

    /// The value of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(header, _)| header == name)
            .map(|(_, value)| value.as_str())
    }

    /// The bytes, whatever they are.
    pub(super) fn decode(&self) -> Result<Zeroizing<Vec<u8>>, PemError> {
        STANDARD
            .decode(self.base64.as_bytes())
            .map(Zeroizing::new)
            .map_err(|_| error(self.line, "the base64 in this block is damaged"))
    }

    /// The bytes of a certificate or a key without password, as rustls-pemfile reads them.
    pub(super) fn decode_plain(&self) -> Result<Zeroizing<Vec<u8>>, PemError> {
        let label = match self.kind() {
            Kind::Certificate => "CERTIFICATE",
            _ => &self.label,
        };
        let mut text = Zeroizing::new(String::with_capacity(self.base64.len() + 128));
        for part in [
            "-----BEGIN ",
            label,
            "-----\n",
            &self.base64,
            "\n-----END ",
            label,
            "-----\n",
        ] {
            text.push_str(part);
        }
        let damaged = || error(self.line, "the base64 in this block is damaged");
        let (item, _) = rustls_pemfile::read_one_from_slice(text.as_bytes())
            .map_err(|_| damaged())?
            .ok_or_else(damaged)?;
        Ok(Zeroizing::new(match item {
            rustls_pemfile::Item::X509Certificate(der) => der.to_vec(),
            rustls_pemfile::Item::Pkcs8Key(mut key) => take(&mut key, |key| key.secret_pkcs8_der()),
            rustls_pemfile::Item::Sec1Key(mut key) => take(&mut key, |key| key.secret_sec1_der()),
            rustls_pemfile::Item::Pkcs1Key(mut key) => take(&mut key, |key| key.secret_pkcs1_der()),
            _ => return Err(error(self.line, "neither a certificate nor a private key")),
        }))
    }
}

/// Copies the bytes out of a key and wipes it.
fn take<K: Zeroize>(key: &mut K, bytes: impl Fn(&K) -> &[u8]) -> Vec<u8> {
    let copy = bytes(key).to_vec();
    key.zeroize();
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "Bag Attributes\r\n-----BEGIN CERTIFICATE-----\r\nAQID\r\nBA==\r\n\
        -----END CERTIFICATE-----\r\n\r\n-----BEGIN EC PRIVATE KEY-----\r\n\
        Proc-Type: 4,ENCRYPTED\r\nDEK-Info: AES-128-CBC,\r\n 0011\r\n\r\nBQY=\r\n\
        -----END EC PRIVATE KEY-----\r\n";

    #[test]
    fn blocks_and_headers_are_cut_out() {
        for text in [
            TWO.to_owned(),
            TWO.replace("\r\n", "\n"),
            TWO.replace("\r\n", "\r"),
        ] {
            let found = blocks(text.as_bytes()).unwrap();
            assert_eq!(found.len(), 2);
            assert_eq!(found[0].kind(), Kind::Certificate);
            assert_eq!(*found[0].decode_plain().unwrap(), [1, 2, 3, 4]);
            assert_eq!(found[1].kind(), Kind::LegacyEncryptedKey);
            assert_eq!(found[1].header("DEK-Info"), Some("AES-128-CBC,0011"));
            assert_eq!(*found[1].decode().unwrap(), [5, 6]);
        }
        assert_eq!(blocks(TWO.as_bytes()).unwrap()[1].line, 7);
    }

    #[test]
    fn a_byte_order_mark_and_spaces_do_no_harm() {
        let text = "\u{feff}-----BEGIN CERTIFICATE-----  \n  AQIDBA==\t\n-----END CERTIFICATE-----";
        assert_eq!(
            *blocks(text.as_bytes()).unwrap()[0].decode_plain().unwrap(),
            [1, 2, 3, 4]
        );
    }

    #[test]
    fn faults_are_reported_with_their_line() {
        for (text, line) in [
            ("\n-----BEGIN CERTIFICATE-----\nAQID\n", 2),
            (
                "-----BEGIN CERTIFICATE-----\nAQ!D\n-----END CERTIFICATE-----",
                2,
            ),
            (
                "-----BEGIN CERTIFICATE-----\nAQID\n-----END PRIVATE KEY-----",
                3,
            ),
            (
                "-----BEGIN CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\n",
                2,
            ),
            ("-----BEGIN CERTIFICATE----\nAQID\n", 1),
            ("x\n-----END CERTIFICATE-----\n", 2),
        ] {
            assert_eq!(
                blocks(text.as_bytes()).err().map(|error| error.line),
                Some(line),
                "{text}"
            );
        }
        let short = "-----BEGIN CERTIFICATE-----\nAQIDB\n-----END CERTIFICATE-----";
        let block = &blocks(short.as_bytes()).unwrap()[0];
        assert_eq!(block.decode_plain().unwrap_err().line, 1);
        assert_eq!(block.decode().unwrap_err().line, 1);
    }
}
