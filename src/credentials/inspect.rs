//! What `tidegate cert inspect` tells about a file of certificates.

use serde::Serialize;
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, ParsedExtension, X509Certificate};

use super::keystore;
use super::pem::{self, Kind};
use crate::crypto::fingerprint::{device_fingerprint, to_hex};
use crate::crypto::signature::{SignatureScheme, VerifyingKey};

/// Largest file that is looked at, in bytes.
pub const FILE_LENGTH_MAX: usize = 1 << 20;

/// Why a file could not be inspected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// More than [`FILE_LENGTH_MAX`] bytes.
    #[error("larger than {FILE_LENGTH_MAX} bytes, so this is no certificate file")]
    TooLarge,
    /// A Java keystore or PKCS12 file.
    #[error(
        "this is a keystore, which needs its password: list it with 'keytool -list -v -keystore \
         FILE', or write its certificates as PEM with 'keytool -exportcert -rfc'"
    )]
    Keystore,
    /// Neither PEM nor a certificate in DER.
    #[error("holds no certificate, neither in PEM nor in DER")]
    NoCertificate,
    /// The PEM framing is damaged.
    #[error("line {line}: {reason}")]
    BrokenPem {
        /// Line number, from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// A block that is no certificate.
    #[error("certificate {position}: damaged, not X.509")]
    BadCertificate {
        /// Position in the file, from 1.
        position: usize,
    },
}

/// How a certificate stands to the one after it in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// The next one issued it: the order is right, and the signature verifies.
    IssuedByNext,
    /// The next one has the issuer's name, and the signature is of a kind that we do not check.
    NamedByNext,
    /// The next one has the issuer's name, and the signature does not verify.
    SignatureWrong,
    /// The next one did not issue it: the order is wrong, or one is missing.
    NotIssuedByNext,
    /// It is the last, and issued itself.
    SelfSigned,
    /// It is the last, and its issuer is not in the file.
    Last,
}

/// One certificate of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateReport {
    /// Position in the file, from 1; the first is the leaf.
    pub position: usize,
    /// Whether it is the first, which identifies a device and authenticates a server.
    pub is_leaf: bool,
    /// Distinguished name.
    pub subject: String,
    /// Distinguished name.
    pub issuer: String,
    /// First second of validity, as `2026-11-23T18:26:54Z`.
    pub not_before: String,
    /// Last second of validity.
    pub not_after: String,
    /// The same as seconds since the UNIX epoch.
    pub not_before_unix_s: i64,
    /// The same as seconds since the UNIX epoch.
    pub not_after_unix_s: i64,
    /// As `ECDSA P-256`; or why the key cannot be used.
    pub key_type: String,
    /// Whether the key can be used in a handshake.
    pub key_is_supported: bool,
    /// Serial number in hexadecimal, bytes parted by colons.
    pub serial: String,
    /// Subject alternative names, as `DNS:localhost` and `IP:127.0.0.1`.
    pub alternative_names: Vec<String>,
    /// The credentials id of a device with this leaf: see `crypto::fingerprint`.
    pub device_fingerprint: String,
    /// How it stands to the next.
    pub link: Link,
}

/// Reports on the certificates in `content`, PEM or one certificate in DER, in the order of the file.
/// Private keys beside them are not looked at.
///
/// # Errors
///
/// When there is none, or one is damaged.
pub fn inspect(content: &[u8]) -> Result<Vec<CertificateReport>, InspectError> {
    if content.len() > FILE_LENGTH_MAX {
        return Err(InspectError::TooLarge);
    }
    if keystore::is_keystore(content) {
        return Err(InspectError::Keystore);
    }
    let ders = certificates(content)?;
    let mut parsed = Vec::new();
    for (position, der) in (1..).zip(&ders) {
        match X509Certificate::from_der(der) {
            Ok(([], certificate)) => parsed.push(certificate),
            _ => return Err(InspectError::BadCertificate { position }),
        }
    }
    let next = parsed.iter().skip(1).map(Some).chain([None]);
    Ok((1..)
        .zip(&parsed)
        .zip(next)
        .map(|((position, certificate), next)| report(position, certificate, next))
        .collect())
}

fn certificates(content: &[u8]) -> Result<Vec<Vec<u8>>, InspectError> {
    if content.first() == Some(&0x30) {
        return match X509Certificate::from_der(content) {
            Ok(([], _)) => Ok(vec![content.to_vec()]),
            // PFX begins with its version, 3.
            _ if content
                .get(..16)
                .is_some_and(|head| head.windows(3).any(|window| window == [2, 1, 3])) =>
            {
                Err(InspectError::Keystore)
            }
            _ => Err(InspectError::NoCertificate),
        };
    }
    let broken = |error: pem::PemError| InspectError::BrokenPem {
        line: error.line,
        reason: error.reason,
    };
    let ders: Vec<Vec<u8>> = pem::blocks(content)
        .map_err(broken)?
        .iter()
        .filter(|block| block.kind() == Kind::Certificate)
        .map(|block| block.decode_plain().map(|der| der.to_vec()).map_err(broken))
        .collect::<Result<_, _>>()?;
    if ders.is_empty() {
        return Err(InspectError::NoCertificate);
    }
    Ok(ders)
}

fn report(
    position: usize,
    certificate: &X509Certificate<'_>,
    next: Option<&X509Certificate<'_>>,
) -> CertificateReport {
    let validity = certificate.validity();
    let key = VerifyingKey::from_spki(certificate.tbs_certificate.subject_pki.raw);
    CertificateReport {
        position,
        is_leaf: position == 1,
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        not_before: time(validity.not_before),
        not_after: time(validity.not_after),
        not_before_unix_s: validity.not_before.timestamp(),
        not_after_unix_s: validity.not_after.timestamp(),
        key_type: match &key {
            Ok(key) => key.key_type().to_string(),
            Err(error) => error.to_string(),
        },
        key_is_supported: key.is_ok(),
        serial: certificate.tbs_certificate.raw_serial_as_string(),
        alternative_names: alternative_names(certificate),
        device_fingerprint: to_hex(&device_fingerprint(certificate.as_raw())),
        link: link(certificate, next),
    }
}

/// RFC 3339 in UTC.
fn time(time: ASN1Time) -> String {
    let time = time.to_datetime();
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let mut names = Vec::new();
    for extension in certificate.extensions() {
        if let ParsedExtension::SubjectAlternativeName(found) = extension.parsed_extension() {
            names.extend(found.general_names.iter().map(|name| match name {
                GeneralName::DNSName(name) => format!("DNS:{name}"),
                GeneralName::URI(uri) => format!("URI:{uri}"),
                GeneralName::RFC822Name(name) => format!("email:{name}"),
                GeneralName::IPAddress(bytes) => format!("IP:{}", address(bytes)),
                other => format!("{other:?}"),
            }));
        }
    }
    names
}

fn address(bytes: &[u8]) -> String {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return std::net::Ipv4Addr::from(bytes).to_string();
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(bytes) => std::net::Ipv6Addr::from(bytes).to_string(),
        Err(_) => to_hex(bytes),
    }
}

fn link(certificate: &X509Certificate<'_>, next: Option<&X509Certificate<'_>>) -> Link {
    let names =
        |issuer: &X509Certificate<'_>| certificate.issuer().as_raw() == issuer.subject().as_raw();
    match next {
        None if names(certificate) => Link::SelfSigned,
        None => Link::Last,
        Some(issuer) if !names(issuer) => Link::NotIssuedByNext,
        Some(issuer) => match signature_verifies(certificate, issuer) {
            Some(true) => Link::IssuedByNext,
            Some(false) => Link::SignatureWrong,
            None => Link::NamedByNext,
        },
    }
}

/// Whether `issuer` signed `certificate`; `None` when we do not have its kind of signature.
fn signature_verifies(
    certificate: &X509Certificate<'_>,
    issuer: &X509Certificate<'_>,
) -> Option<bool> {
    let scheme = match certificate
        .signature_algorithm
        .algorithm
        .to_id_string()
        .as_str()
    {
        "1.2.840.10045.4.3.2" => SignatureScheme::EcdsaSha256,
        "1.2.840.10045.4.3.3" => SignatureScheme::EcdsaSha384,
        "1.2.840.10045.4.3.4" => SignatureScheme::EcdsaSha512,
        "1.2.840.113549.1.1.11" => SignatureScheme::RsaPkcs1Sha256,
        "1.2.840.113549.1.1.12" => SignatureScheme::RsaPkcs1Sha384,
        _ => return None,
    };
    let key = VerifyingKey::from_spki(issuer.tbs_certificate.subject_pki.raw).ok()?;
    let signed = certificate.tbs_certificate.as_ref();
    Some(
        key.verify(scheme, signed, &certificate.signature_value.data)
            .is_ok(),
    )
}
