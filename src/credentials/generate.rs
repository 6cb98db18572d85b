//! Certificates to start with: self-signed, on P-256, for a server or for a device.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, date_time_ymd,
};
use zeroize::Zeroizing;

use super::Password;
use crate::crypto::der;
use crate::crypto::password::{FileHash, encrypt_aes_256, pbkdf2};
use crate::crypto::random::SystemRandom;
use crate::random::Random;

/// Longest validity, in days.
pub const DAYS_MAX: u32 = 36_500;
/// Iterations for a key with a password: some 50 ms at start.
const ITERATIONS: u32 = 100_000;
/// Longest common name (RFC 5280 appendix A.1, ub-common-name).
const COMMON_NAME_LENGTH_MAX: usize = 64;

/// Why no certificate was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// The common name is empty or too long.
    #[error("common name '{0}': must have 1 to {COMMON_NAME_LENGTH_MAX} characters")]
    CommonName(String),
    /// An alternative name is neither an address nor a host name.
    #[error("alternative name '{0}': neither an IP address nor a host name")]
    AlternativeName(String),
    /// The validity is out of range.
    #[error("validity of {0} days: must be 1 to {DAYS_MAX}")]
    Days(u32),
    /// The library failed.
    #[error("cannot make the certificate: {0}")]
    Internal(String),
    /// The file is there, and is not overwritten.
    #[error("{path} exists: move it away first, it may hold a private key in use", path = .0.display())]
    Exists(PathBuf),
    /// The file cannot be written.
    #[error("{path}: cannot be written: {source}", path = .path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// What a server certificate shall say.
#[derive(Clone, Debug)]
pub struct ServerRequest {
    /// Common name of subject and issuer.
    pub common_name: String,
    /// Names that clients reach the server by: host names and addresses.
    pub alternative_names: Vec<String>,
    /// Validity from now, 1 to [`DAYS_MAX`].
    pub days: u32,
    /// Password for the key; `None` for a key without.
    pub password: Option<Password>,
}

/// A certificate and its key.
pub struct Generated {
    /// The certificate in DER.
    pub certificate_der: Vec<u8>,
    /// The certificate in PEM.
    pub certificate_pem: String,
    /// The key as PKCS#8 in PEM.
    pub key_pem: Zeroizing<String>,
}

/// Makes a self-signed certificate for a server.
///
/// # Errors
///
/// When a name or the validity is not one.
pub fn server(request: &ServerRequest) -> Result<Generated, GenerateError> {
    let mut parameters = parameters(&request.common_name, request.days)?;
    for name in &request.alternative_names {
        parameters.subject_alt_names.push(alternative_name(name)?);
    }
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    self_sign(&parameters, request.password.as_ref())
}

/// Makes a self-signed certificate for a device.
///
/// # Errors
///
/// When the name or the validity is not one.
pub fn client(common_name: &str, days: u32) -> Result<Generated, GenerateError> {
    let mut parameters = parameters(common_name, days)?;
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    self_sign(&parameters, None)
}

/// Writes certificate and key to `directory`, which is made when it is missing: the certificate for
/// all to read, the key with mode 0600. Returns both paths.
///
/// # Errors
///
/// When a file of that name exists, which is left alone, or when one cannot be written.
pub fn write(
    generated: &Generated,
    directory: &Path,
    certificate_name: &str,
    key_name: &str,
) -> Result<(PathBuf, PathBuf), GenerateError> {
    let certificate = directory.join(certificate_name);
    let key = directory.join(key_name);
    fs::create_dir_all(directory).map_err(|source| GenerateError::Unwritable {
        path: directory.to_owned(),
        source,
    })?;
    for path in [&certificate, &key] {
        if path.symlink_metadata().is_ok() {
            return Err(GenerateError::Exists(path.clone()));
        }
    }
    // The key first: a certificate alone would look complete.
    write_new(&key, generated.key_pem.as_bytes(), 0o600)?;
    write_new(&certificate, generated.certificate_pem.as_bytes(), 0o644)?;
    Ok((certificate, key))
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<(), GenerateError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        })
        .map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => GenerateError::Exists(path.to_owned()),
            _ => GenerateError::Unwritable {
                path: path.to_owned(),
                source,
            },
        })
}

#[expect(
    clippy::disallowed_methods,
    reason = "certificates are made outside of the loops that are handed the time"
)]
fn parameters(common_name: &str, days: u32) -> Result<CertificateParams, GenerateError> {
    let length = common_name.chars().count();
    if !(1..=COMMON_NAME_LENGTH_MAX).contains(&length) || common_name.contains('\0') {
        return Err(GenerateError::CommonName(common_name.to_owned()));
    }
    if !(1..=DAYS_MAX).contains(&days) {
        return Err(GenerateError::Days(days));
    }
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(Duration::ZERO, |now| Duration::from_secs(now.as_secs()));
    let day = Duration::from_secs(86_400);
    // Devices' clocks run behind: valid since yesterday.
    let now = date_time_ymd(1970, 1, 1) + now;
    parameters.not_before = now - day;
    parameters.not_after = now + day * days;
    parameters.is_ca = IsCa::ExplicitNoCa;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    Ok(parameters)
}

fn alternative_name(name: &str) -> Result<SanType, GenerateError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let valid = !name.is_empty()
        && name.len() <= 253
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._*".contains(&byte));
    name.try_into()
        .ok()
        .filter(|_| valid)
        .map(SanType::DnsName)
        .ok_or_else(|| GenerateError::AlternativeName(name.to_owned()))
}

fn self_sign(
    parameters: &CertificateParams,
    password: Option<&Password>,
) -> Result<Generated, GenerateError> {
    let internal = |error: rcgen::Error| GenerateError::Internal(error.to_string());
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(internal)?;
    let certificate = parameters.self_signed(&key).map_err(internal)?;
    let der = Zeroizing::new(key.serialize_der());
    let key_pem = match password {
        None => pem("PRIVATE KEY", &der),
        Some(password) => {
            let sealed = encrypt(&der, password)
                .ok_or_else(|| GenerateError::Internal("encryption failed".to_owned()))?;
            pem("ENCRYPTED PRIVATE KEY", &sealed)
        }
    };
    Ok(Generated {
        certificate_der: certificate.der().to_vec(),
        certificate_pem: String::clone(&pem("CERTIFICATE", certificate.der())),
        key_pem,
    })
}

/// EncryptedPrivateKeyInfo with PBES2, PBKDF2 with HMAC-SHA-256, AES-256-CBC (RFC 8018).
fn encrypt(plain: &[u8], password: &Password) -> Option<Vec<u8>> {
    const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d];
    const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0c];
    const HMAC_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, 0x09];
    const AES_256_CBC: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a];
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    SystemRandom.fill(&mut salt);
    SystemRandom.fill(&mut iv);
    let mut key = Zeroizing::new([0; 32]);
    let iterations = ITERATIONS.try_into().ok()?;
    if !pbkdf2(
        FileHash::Sha256,
        password.as_bytes(),
        &salt,
        iterations,
        &mut *key,
    ) {
        return None;
    }
    let ciphertext = encrypt_aes_256(&key, &iv, plain)?;
    let sequence = |parts: &[&[u8]]| der::encode(der::SEQUENCE, parts);
    let oid = |bytes| der::encode(der::OID, &[bytes]);
    let octets = |bytes| der::encode(der::OCTET_STRING, &[bytes]);
    // The upper byte of the number is below 0x80, so it is not negative.
    let number = der::encode(der::INTEGER, &[&ITERATIONS.to_be_bytes()[1..]]);
    let prf = sequence(&[&oid(HMAC_SHA256), &[5, 0]]);
    let derivation = sequence(&[&oid(PBKDF2), &sequence(&[&octets(&salt), &number, &prf])]);
    let cipher = sequence(&[&oid(AES_256_CBC), &octets(&iv)]);
    let algorithm = sequence(&[&oid(PBES2), &sequence(&[&derivation, &cipher])]);
    Some(sequence(&[&algorithm, &octets(&ciphertext)]))
}

fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(STANDARD.encode(der));
    let mut text = Zeroizing::new(String::with_capacity(base64.len() * 2 + 128));
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = tail;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_days_out_of_range_are_refused() {
        let days = |days| client("dev", days).err();
        assert!(matches!(days(0), Some(GenerateError::Days(0))));
        assert!(matches!(days(DAYS_MAX + 1), Some(GenerateError::Days(_))));
        assert!(days(DAYS_MAX).is_none());
        for name in ["", "a\0b", &"x".repeat(65)] {
            assert!(matches!(client(name, 1), Err(GenerateError::CommonName(_))));
        }
        let request = |name: &str| ServerRequest {
            common_name: "localhost".to_owned(),
            alternative_names: vec![name.to_owned()],
            days: 1,
            password: None,
        };
        for name in ["localhost", "127.0.0.1", "::1", "*.example.org"] {
            assert!(server(&request(name)).is_ok(), "{name}");
        }
        for name in ["", "a b", "h\u{f6}st", "http://x"] {
            assert!(server(&request(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn files_are_written_once_and_the_key_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let made = client("dev", 1).unwrap();
        let out = dir.path().join("a/b");
        let (certificate, key) = write(&made, &out, "client.pem", "client_key.pem").unwrap();
        assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            fs::read_to_string(&certificate).unwrap(),
            made.certificate_pem
        );
        let again = write(
            &client("dev", 1).unwrap(),
            &out,
            "client.pem",
            "client_key.pem",
        );
        assert!(matches!(again, Err(GenerateError::Exists(_))));
        assert_eq!(fs::read_to_string(&key).unwrap(), *made.key_pem);
    }
}
