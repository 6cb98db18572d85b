//! Chains of client certificates, verified to a certificate authority that the operator has named
//! (RFC 5280 section 6, as far as devices need it).
//!
//! ```text
//! leaf <-signed by- intermediate <- ... <-signed by- authority (named beforehand, never sent for it)
//! ```
//!
//! Of each certificate: the dates, the signature by the next one, names that fit, no critical extension
//! that is not understood. Of each but the leaf: that it may sign certificates (basicConstraints,
//! keyUsage), those of clients (extendedKeyUsage), and how many below it (pathLenConstraint). Of the
//! leaf: that it may prove a client. What restricts names or policies is refused, critical or not, as
//! it is not looked at. There is no revocation list: a device that is to stay out is removed, and its
//! profile's authority changed.
//!
//! Signatures come last and from the authority down: the first that is forged is the last to be looked
//! at.

mod offered;

pub use offered::OfferedChains;

use super::CryptoError;
use super::certificate::{CERTIFICATE_LENGTH_MAX, Validity};
use super::der::{self, Elements};
use super::hash::{Hash, digest};
use super::signature::{KeyType, SignatureScheme, VerifyingKey};
use crate::wire::Truncated;
use x509_parser::oid_registry::{OID_X509_EXT_NAME_CONSTRAINTS, OID_X509_EXT_POLICY_CONSTRAINTS};
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate, X509Extension};

/// Most certificates of a chain, the leaf included.
pub const CHAIN_LENGTH_MAX: usize = 6;

/// Object identifiers of signatures (RFC 5758, RFC 8017), each with the scheme and the kind of key.
const SIGNATURES: &[(&str, SignatureScheme, bool)] = &[
    ("1.2.840.10045.4.3.2", SignatureScheme::EcdsaSha256, false),
    ("1.2.840.10045.4.3.3", SignatureScheme::EcdsaSha384, false),
    ("1.2.840.10045.4.3.4", SignatureScheme::EcdsaSha512, false),
    (
        "1.2.840.113549.1.1.11",
        SignatureScheme::RsaPkcs1Sha256,
        true,
    ),
    (
        "1.2.840.113549.1.1.12",
        SignatureScheme::RsaPkcs1Sha384,
        true,
    ),
];

/// Why a chain proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// One of the certificates cannot be read, or its key or signature is of a kind that we lack.
    #[error("a certificate cannot be read: {0}")]
    Certificate(#[from] CryptoError),
    /// More certificates than are looked at, or none.
    #[error("the chain has no certificate, or more than {CHAIN_LENGTH_MAX}")]
    Length,
    /// It does not lead to the authority.
    #[error("the chain does not lead to the authority")]
    UnknownIssuer,
    /// The time is outside the validity of one of them.
    #[error("a certificate is not valid at this time")]
    Dates,
    /// One that signed another may not.
    #[error("a certificate that is no authority's has signed another")]
    NotAnAuthority,
    /// An authority has signed longer chains than it may.
    #[error("the chain is longer than an authority in it allows")]
    PathLength,
    /// The leaf may not prove a client, or an authority not certify any.
    #[error("a certificate is not for clients")]
    Usage,
    /// An extension that is not understood and matters (RFC 5280 section 4.2).
    #[error("a certificate has an extension that is not understood and must not be ignored")]
    Extension,
}

/// A certificate authority that the operator trusts.
#[derive(Debug)]
pub struct Authority {
    subject: Box<[u8]>,
    name_digest: [u8; 32],
    key: VerifyingKey,
    path_length_max: Option<u32>,
    validity: Validity,
}

/// What of a certificate matters here.
struct Link<'a> {
    certificate: X509Certificate<'a>,
    validity: Validity,
    /// `None`: not an authority. Else how many intermediate ones may be below it.
    authority: Option<Option<u32>>,
}

impl<'a> Link<'a> {
    fn read(der: &'a [u8]) -> Result<Self, ChainError> {
        if der.len() > CERTIFICATE_LENGTH_MAX {
            return Err(CryptoError::TooLong.into());
        }
        let malformed = ChainError::Certificate(CryptoError::Malformed);
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| malformed)?;
        let tbs = &certificate.tbs_certificate;
        if !is_only_encoding(der, tbs.as_ref(), &certificate.signature_value.data) {
            return Err(malformed);
        }
        let mut extensions = tbs.extensions().iter();
        if !extensions.all(may_be_ignored_or_is_known) {
            return Err(ChainError::Extension);
        }
        let constraints = tbs.basic_constraints().map_err(|_| malformed)?;
        let usage = tbs.key_usage().map_err(|_| malformed)?;
        let may_sign = usage.is_none_or(|usage| usage.value.key_cert_sign());
        let authority = constraints
            .filter(|constraints| constraints.value.ca && may_sign)
            .map(|constraints| constraints.value.path_len_constraint);
        let validity = Validity {
            not_before_unix_s: tbs.validity.not_before.timestamp(),
            not_after_unix_s: tbs.validity.not_after.timestamp(),
        };
        Ok(Self {
            certificate,
            validity,
            authority,
        })
    }

    fn subject(&self) -> &[u8] {
        self.certificate.tbs_certificate.subject.as_raw()
    }

    fn issuer(&self) -> &[u8] {
        self.certificate.tbs_certificate.issuer.as_raw()
    }

    fn key(&self) -> Result<VerifyingKey, CryptoError> {
        VerifyingKey::from_spki(self.certificate.tbs_certificate.subject_pki.raw)
    }

    fn is_signed_by(&self, key: &VerifyingKey) -> Result<(), CryptoError> {
        let algorithm = self
            .certificate
            .signature_algorithm
            .algorithm
            .to_id_string();
        let is_rsa = key.key_type() == KeyType::Rsa;
        let mut known = SIGNATURES.iter();
        let (_, scheme, _) = known
            .find(|(id, _, of_rsa)| *id == algorithm && *of_rsa == is_rsa)
            .ok_or(CryptoError::Unsupported)?;
        let message = self.certificate.tbs_certificate.as_ref();
        key.verify(*scheme, message, &self.certificate.signature_value.data)
    }

    /// Whether the leaf may prove a client by a signature (RFC 5280 sections 4.2.1.3 and 4.2.1.12).
    fn check_client(&self) -> Result<(), ChainError> {
        let malformed = ChainError::Certificate(CryptoError::Malformed);
        let tbs = &self.certificate.tbs_certificate;
        let usage = tbs.key_usage().map_err(|_| malformed)?;
        if usage.is_none_or(|usage| usage.value.digital_signature()) {
            self.check_purpose()
        } else {
            Err(ChainError::Usage)
        }
    }

    /// Whether it is for clients: an authority that has purposes certifies for no others.
    fn check_purpose(&self) -> Result<(), ChainError> {
        let malformed = ChainError::Certificate(CryptoError::Malformed);
        let tbs = &self.certificate.tbs_certificate;
        let purposes = tbs.extended_key_usage().map_err(|_| malformed)?;
        if purposes.is_none_or(|purposes| purposes.value.client_auth || purposes.value.any) {
            Ok(())
        } else {
            Err(ChainError::Usage)
        }
    }
}

impl Authority {
    /// Reads the certificate of an authority.
    ///
    /// # Errors
    ///
    /// It cannot be read, or may not sign certificates.
    pub fn read(der: &[u8]) -> Result<Self, ChainError> {
        let link = Link::read(der)?;
        Ok(Self {
            path_length_max: link.authority.ok_or(ChainError::NotAnAuthority)?,
            name_digest: name_digest(link.subject()),
            subject: link.subject().into(),
            key: link.key()?,
            validity: link.validity,
        })
    }

    /// The digest of its name, as [`issuers`] has it.
    pub fn name_digest(&self) -> [u8; 32] {
        self.name_digest
    }

    /// Whether it is the same authority: name and key.
    pub fn is_same(&self, other: &Self) -> bool {
        self.subject == other.subject && self.key == other.key
    }

    /// Verifies a chain, leaf first, each signed by the next; the authority's own certificate may be
    /// its end, or be left out. A public-key operation for each certificate of a good chain.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it.
    pub fn verify(&self, chain: &[Vec<u8>], unix_ms: u64) -> Result<(), ChainError> {
        let links = self.path(chain, unix_ms)?;
        let mut issuer = None;
        for link in links.iter().rev() {
            link.is_signed_by(issuer.as_ref().unwrap_or(&self.key))?;
            issuer = Some(link.key()?);
        }
        Ok(())
    }

    /// The certificates from the leaf to the one that names this authority as its issuer, with all
    /// but their signatures checked.
    fn path<'a>(&self, chain: &'a [Vec<u8>], unix_ms: u64) -> Result<Vec<Link<'a>>, ChainError> {
        if chain.len() > CHAIN_LENGTH_MAX {
            return Err(ChainError::Length);
        }
        let mut certificates = chain.iter();
        let mut current = Link::read(certificates.next().ok_or(ChainError::Length)?)?;
        current.check_client()?;
        if !self.validity.is_valid_at(unix_ms) {
            return Err(ChainError::Dates);
        }
        let mut links = Vec::with_capacity(chain.len());
        loop {
            if !current.validity.is_valid_at(unix_ms) {
                return Err(ChainError::Dates);
            }
            // As many as are between the leaf and whoever has issued this one.
            let intermediates = links.len();
            if current.issuer() == &*self.subject {
                check_length(self.path_length_max, intermediates)?;
                links.push(current);
                return Ok(links);
            }
            let next = Link::read(certificates.next().ok_or(ChainError::UnknownIssuer)?)?;
            if next.subject() != current.issuer() {
                return Err(ChainError::UnknownIssuer);
            }
            check_length(
                next.authority.ok_or(ChainError::NotAnAuthority)?,
                intermediates,
            )?;
            next.check_purpose()?;
            links.push(std::mem::replace(&mut current, next));
        }
    }
}

fn check_length(max: Option<u32>, intermediates: usize) -> Result<(), ChainError> {
    let intermediates = u32::try_from(intermediates).unwrap_or(u32::MAX);
    if max.is_some_and(|max| intermediates > max) {
        return Err(ChainError::PathLength);
    }
    Ok(())
}

/// The common name of a certificate's subject, if it has exactly one.
pub fn common_name(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let mut names = certificate.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?.to_owned();
    names.next().is_none().then_some(name)
}

/// The digests of the names of all issuers in a chain; nothing is proven by them. None of one that is
/// too long.
pub fn issuers(chain: &[Vec<u8>]) -> Vec<[u8; 32]> {
    let is_short = |der: &Vec<u8>| der.len() <= CERTIFICATE_LENGTH_MAX;
    if chain.len() > CHAIN_LENGTH_MAX || !chain.iter().all(is_short) {
        return Vec::new();
    }
    chain
        .iter()
        .filter_map(|der| X509Certificate::from_der(der).ok())
        .map(|(_, certificate)| name_digest(certificate.issuer().as_raw()))
        .collect()
}

/// Whether `der` is what RFC 5280 section 4.1 says, to the byte, of the signed part and the signature
/// in it.
///
/// What is around the signed part no signature protects, and parsers are lenient: they take other tags
/// and longer lengths. Whoever has a certificate could make others of it, each with a fingerprint of
/// its own.
fn is_only_encoding(der: &[u8], signed: &[u8], signature: &[u8]) -> bool {
    let algorithm = || -> Result<_, Truncated> {
        /// Of the version, which is the first element of all but the oldest certificates.
        const VERSION: u8 = 0xa0;
        let mut elements = Elements::new(signed).enter(der::SEQUENCE)?;
        elements.optional(VERSION)?;
        elements.expect(der::INTEGER)?;
        elements.expect(der::SEQUENCE)
    };
    // RFC 5280 section 4.1.1.2: both places name the same algorithm.
    algorithm().is_ok_and(|algorithm| {
        let algorithm = der::encode(der::SEQUENCE, &[algorithm]);
        let signature = der::encode(der::BIT_STRING, &[&[0], signature]);
        der == der::encode(der::SEQUENCE, &[signed, &algorithm, &signature])
    })
}

/// What is critical has to be understood (RFC 5280 section 4.2). What restricts names and policies has
/// to be critical, which not every authority knows.
fn may_be_ignored_or_is_known(extension: &X509Extension<'_>) -> bool {
    match extension.parsed_extension() {
        ParsedExtension::BasicConstraints(_)
        | ParsedExtension::KeyUsage(_)
        | ParsedExtension::ExtendedKeyUsage(_)
        | ParsedExtension::SubjectAlternativeName(_) => true,
        // Whether it can be read or not.
        _ if extension.oid == OID_X509_EXT_NAME_CONSTRAINTS => false,
        _ if extension.oid == OID_X509_EXT_POLICY_CONSTRAINTS => false,
        _ => !extension.critical,
    }
}

fn name_digest(name: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(Hash::Sha256, name).as_ref());
    bytes
}

#[cfg(test)]
pub(crate) mod tests;
