//! The name under which a device certificate is known: SHA3-256 over the text of its base64.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::hash::sha3_256;

/// The fingerprint of a certificate: SHA3-256 over the padded one-line base64 of `der`, as
/// ThingsBoard keys its X.509 device credentials. Not over the DER, not over the PEM text.
pub fn device_fingerprint(der: &[u8]) -> [u8; 32] {
    sha3_256(STANDARD.encode(der).as_bytes())
}

/// The fingerprint of a certificate whose base64 is `text`.
pub fn text_fingerprint(text: &str) -> [u8; 32] {
    sha3_256(text.as_bytes())
}

/// Lower-case hexadecimal of `bytes`.
pub fn to_hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEV_0001: &str = "\
MIIBfTCCASOgAwIBAgIUKS7GPjMYjrzC7DkmvZuKzjDkDvEwCgYIKoZIzj0EAwIwEzERMA8GA1UEAwwIZGV2LTAwMDEwIBcNMjYxMTIzMTgyNjU0\
WhgPMjEyNjEwMzAxODI2NTRaMBMxETAPBgNVBAMMCGRldi0wMDAxMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEd/GqrcLMshHzCQJtBN8PiW89\
1BmkflhysLXdJwp7+jqAEAmgwANCQZo5wmILOHafoOvmNRNjLS3f0G3k6Ne64aNTMFEwHQYDVR0OBBYEFKohwzuppr4YKS+Xx8+2ADU6YWk7MB8G\
A1UdIwQYMBaAFKohwzuppr4YKS+Xx8+2ADU6YWk7MA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIgFSTIerYuBcRFBB42h4L3RIvW\
GbmJ3AqpgGMceIX5vKICIQDRTiUu5ES8PvksLal5thoKPtiG+5KiSnZ/YygL28VKCg==";

    #[test]
    fn four_bytes() {
        assert_eq!(
            to_hex(&device_fingerprint(&[1, 2, 3, 4])),
            "dbe6388565b742584479d8062b370d1725f1d0709f2003550b3126a10735cf25"
        );
    }

    #[test]
    fn the_text_is_what_is_hashed() {
        assert_eq!(
            to_hex(&sha3_256(b"testHash")),
            "57f6600424d6553263f1f32e0117012894a36fbf07e3e9c3c556272f86b7d985"
        );
    }

    #[test]
    fn a_device_certificate() {
        let der = STANDARD.decode(DEV_0001).unwrap();
        assert_eq!(der.len(), 385);
        assert_eq!(
            to_hex(&device_fingerprint(&der)),
            "0ff2ce13bf17fd132c07aedaab3b17d45994ff36e826fb93ae15f5d52ac0658d"
        );
    }
}
