//! What a handshake needs to know of a certificate: the key, the validity (RFC 5280 section 4.1).

use x509_parser::prelude::{FromDer, X509Certificate};

use super::CryptoError;
use super::signature::{KeyType, VerifyingKey};

/// Longest certificate that we parse, in bytes.
pub const CERTIFICATE_LENGTH_MAX: usize = 8192;

/// The leaf certificate of a peer, read but not verified: any issuer, any name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeafInfo<'a> {
    /// The SubjectPublicKeyInfo in DER.
    pub spki: &'a [u8],
    /// When it is valid.
    pub validity: Validity,
    /// The kind of key.
    pub key_type: KeyType,
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first second, since the UNIX epoch.
    pub not_before_unix_s: i64,
    /// The last second, since the UNIX epoch.
    pub not_after_unix_s: i64,
}

impl Validity {
    /// Whether `unix_ms` is within; both ends are (RFC 5280 section 4.1.2.5).
    pub fn is_valid_at(self, unix_ms: u64) -> bool {
        let unix_s = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
        (self.not_before_unix_s..=self.not_after_unix_s).contains(&unix_s)
    }

    /// The first millisecond after it; 0 when that was before the UNIX epoch.
    pub fn end_unix_ms(self) -> u64 {
        let end_s = self.not_after_unix_s.saturating_add(1);
        u64::try_from(end_s).unwrap_or(0).saturating_mul(1000)
    }
}

impl<'a> LeafInfo<'a> {
    /// Reads the DER of one X.509 certificate of any version.
    ///
    /// # Errors
    ///
    /// [`CryptoError::TooLong`] above [`CERTIFICATE_LENGTH_MAX`], before anything is parsed;
    /// otherwise what is wrong with the structure or with the key, as [`VerifyingKey::from_spki`].
    pub fn parse(der: &'a [u8]) -> Result<Self, CryptoError> {
        Self::parse_with_key(der).map(|(leaf, _)| leaf)
    }

    /// The same with the leaf's public key, which has to be read anyway.
    ///
    /// # Errors
    ///
    /// As [`Self::parse`].
    pub fn parse_with_key(der: &'a [u8]) -> Result<(Self, VerifyingKey), CryptoError> {
        if der.len() > CERTIFICATE_LENGTH_MAX {
            return Err(CryptoError::TooLong);
        }
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| CryptoError::Malformed)?;
        if !rest.is_empty() {
            return Err(CryptoError::Malformed);
        }
        let tbs = &certificate.tbs_certificate;
        let spki = tbs.subject_pki.raw;
        let key = VerifyingKey::from_spki(spki)?;
        let leaf = Self {
            spki,
            validity: Validity {
                not_before_unix_s: tbs.validity.not_before.timestamp(),
                not_after_unix_s: tbs.validity.not_after.timestamp(),
            },
            key_type: key.key_type(),
        };
        Ok((leaf, key))
    }

    /// The leaf's public key.
    ///
    /// # Errors
    ///
    /// None after [`Self::parse`]; the type allows for it.
    pub fn verifying_key(&self) -> Result<VerifyingKey, CryptoError> {
        VerifyingKey::from_spki(self.spki)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> Vec<u8> {
        rcgen::generate_simple_self_signed(["dev-0001".to_owned()])
            .unwrap()
            .cert
            .der()
            .to_vec()
    }

    #[test]
    fn a_leaf_is_read() {
        let mut parameters = rcgen::CertificateParams::new(["dev".to_owned()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(2024, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2300, 1, 1);
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let der = parameters.self_signed(&key).unwrap().der().to_vec();
        let leaf = LeafInfo::parse(&der).unwrap();
        assert_eq!(leaf.key_type, KeyType::EcdsaP384);
        assert_eq!(leaf.validity.not_before_unix_s, 1_704_067_200);
        assert_eq!(leaf.validity.not_after_unix_s, 10_413_792_000);
        assert!(!leaf.validity.is_valid_at(1_704_067_199_999));
        assert!(leaf.validity.is_valid_at(1_704_067_200_000));
        assert!(leaf.validity.is_valid_at(10_413_792_000_999));
        assert!(!leaf.validity.is_valid_at(10_413_792_001_000));
        assert_eq!(leaf.validity.end_unix_ms(), 10_413_792_001_000);
        assert!(!leaf.validity.is_valid_at(u64::MAX));
        assert!(leaf.verifying_key().is_ok());
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let der = certificate();
        assert_eq!(LeafInfo::parse(&[]), Err(CryptoError::Malformed));
        let mut long = der.clone();
        long.push(0);
        assert_eq!(LeafInfo::parse(&long), Err(CryptoError::Malformed));
        long.resize(CERTIFICATE_LENGTH_MAX + 1, 0);
        assert_eq!(LeafInfo::parse(&long), Err(CryptoError::TooLong));
        for end in 0..der.len() {
            assert!(LeafInfo::parse(&der[..end]).is_err());
        }
    }

    #[test]
    fn no_changed_byte_panics() {
        let der = certificate();
        for at in 0..der.len() {
            for value in [0, 1, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = der.clone();
                changed[at] = value;
                let _ = LeafInfo::parse(&changed);
            }
        }
    }
}
