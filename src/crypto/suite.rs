//! The cipher suites of our profile: ECDHE with ECDSA, with RSA when the server key is RSA, and
//! pre-shared keys with and without ECDHE.
//!
//! RFC 5289 (GCM), RFC 7905 (ChaCha20-Poly1305), RFC 7251 (CCM), RFC 5487, RFC 6655 and RFC 8442
//! (pre-shared keys).

use super::aead::AeadAlgorithm;
use super::hash::Hash;

/// The kind of key that authenticates the server in a suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Authentication {
    /// An elliptic curve key.
    Ecdsa,
    /// An RSA key.
    Rsa,
    /// A key that client and server have in common: it authenticates both.
    PreSharedKey,
}

macro_rules! suites {
    ($($(#[doc = $text:literal])+ $variant:ident = $id:literal, $name:literal, $authentication:ident, $aead:ident, $hash:ident;)+) => {
        /// A cipher suite.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum CipherSuite {
            $($(#[doc = $text])+ $variant = $id,)+
        }

        impl CipherSuite {
            /// All suites, in the order of our documents.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The suite with this number on the wire.
            pub const fn from_id(id: u16) -> Option<Self> {
                match id { $($id => Some(Self::$variant),)+ _ => None }
            }

            /// The number on the wire.
            pub const fn id(self) -> u16 {
                self as u16
            }

            /// The name in IANA's registry.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// The AEAD that protects records.
            pub const fn aead(self) -> AeadAlgorithm {
                match self { $(Self::$variant => AeadAlgorithm::$aead),+ }
            }

            /// The hash of the PRF and of the transcript (RFC 5246 section 5).
            pub const fn prf_hash(self) -> Hash {
                match self { $(Self::$variant => Hash::$hash),+ }
            }

            /// The kind of server key that it needs.
            pub const fn authentication(self) -> Authentication {
                match self { $(Self::$variant => Authentication::$authentication),+ }
            }
        }
    };
}

suites! {
    /// RFC 5289.
    EcdheEcdsaAes128Gcm = 0xc02b, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", Ecdsa, Aes128Gcm, Sha256;
    /// RFC 5289.
    EcdheEcdsaAes256Gcm = 0xc02c, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", Ecdsa, Aes256Gcm, Sha384;
    /// RFC 7905.
    EcdheEcdsaChaCha20Poly1305 = 0xcca9, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", Ecdsa, ChaCha20Poly1305, Sha256;
    /// RFC 7251.
    EcdheEcdsaAes128Ccm8 = 0xc0ae, "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8", Ecdsa, Aes128Ccm8, Sha256;
    /// RFC 7251.
    EcdheEcdsaAes256Ccm8 = 0xc0af, "TLS_ECDHE_ECDSA_WITH_AES_256_CCM_8", Ecdsa, Aes256Ccm8, Sha256;
    /// RFC 7251.
    EcdheEcdsaAes128Ccm = 0xc0ac, "TLS_ECDHE_ECDSA_WITH_AES_128_CCM", Ecdsa, Aes128Ccm, Sha256;
    /// RFC 7251.
    EcdheEcdsaAes256Ccm = 0xc0ad, "TLS_ECDHE_ECDSA_WITH_AES_256_CCM", Ecdsa, Aes256Ccm, Sha256;
    /// RFC 5289.
    EcdheRsaAes128Gcm = 0xc02f, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", Rsa, Aes128Gcm, Sha256;
    /// RFC 5289.
    EcdheRsaAes256Gcm = 0xc030, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", Rsa, Aes256Gcm, Sha384;
    /// RFC 7905.
    EcdheRsaChaCha20Poly1305 = 0xcca8, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", Rsa, ChaCha20Poly1305, Sha256;
    /// RFC 8442.
    EcdhePskAes128Gcm = 0xd001, "TLS_ECDHE_PSK_WITH_AES_128_GCM_SHA256", PreSharedKey, Aes128Gcm, Sha256;
    /// RFC 8442.
    EcdhePskAes128Ccm8 = 0xd003, "TLS_ECDHE_PSK_WITH_AES_128_CCM_8_SHA256", PreSharedKey, Aes128Ccm8, Sha256;
    /// RFC 8442.
    EcdhePskAes128Ccm = 0xd005, "TLS_ECDHE_PSK_WITH_AES_128_CCM_SHA256", PreSharedKey, Aes128Ccm, Sha256;
    /// RFC 7905.
    EcdhePskChaCha20Poly1305 = 0xccac, "TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256", PreSharedKey, ChaCha20Poly1305, Sha256;
    /// RFC 5487.
    PskAes128Gcm = 0x00a8, "TLS_PSK_WITH_AES_128_GCM_SHA256", PreSharedKey, Aes128Gcm, Sha256;
    /// RFC 6655.
    PskAes128Ccm8 = 0xc0a8, "TLS_PSK_WITH_AES_128_CCM_8", PreSharedKey, Aes128Ccm8, Sha256;
    /// RFC 6655.
    PskAes128Ccm = 0xc0a4, "TLS_PSK_WITH_AES_128_CCM", PreSharedKey, Aes128Ccm, Sha256;
}

impl CipherSuite {
    /// The suite with this name in IANA's registry, whatever the case of its letters.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|suite| suite.name().eq_ignore_ascii_case(name))
    }

    /// Whether an ephemeral key exchange takes place, so that who learns a long-term key later cannot
    /// read what was recorded before.
    pub const fn is_ephemeral(self) -> bool {
        !matches!(
            self,
            Self::PskAes128Gcm | Self::PskAes128Ccm8 | Self::PskAes128Ccm
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_lead_back() {
        assert_eq!(CipherSuite::ALL.len(), 17);
        for &suite in CipherSuite::ALL {
            assert_eq!(CipherSuite::from_id(suite.id()), Some(suite));
            assert_eq!(CipherSuite::from_name(suite.name()), Some(suite));
            assert_eq!(
                suite.name().contains("_ECDSA_"),
                suite.authentication() == Authentication::Ecdsa
            );
            assert_eq!(
                suite.name().contains("PSK_"),
                suite.authentication() == Authentication::PreSharedKey
            );
            assert_eq!(suite.name().contains("_ECDHE_"), suite.is_ephemeral());
            assert_eq!(
                suite.name().ends_with("SHA384"),
                suite.prf_hash() == Hash::Sha384
            );
        }
        assert_eq!(CipherSuite::from_id(0xc023), None);
        assert_eq!(CipherSuite::from_name("TLS_NULL_WITH_NULL_NULL"), None);
    }
}
