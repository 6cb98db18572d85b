//! The server's certificate chain and private key, from the files that ThingsBoard takes.
//!
//! ```text
//! COAP_DTLS_CREDENTIALS_TYPE=PEM      -> COAP_DTLS_PEM_CERT exists -> PEM
//!                                     -> else the keystore, with a warning
//! COAP_DTLS_CREDENTIALS_TYPE=KEYSTORE -> the keystore only
//! ```
//! A PEM file is read block by block, every certificate joins the chain in the order of the file
//! with the leaf first, and the last private key found counts; the key file is read only when the
//! certificate file holds no key. A keystore is JKS or PKCS12, whichever it is by its first bytes.
//!
//! Unlike ThingsBoard, the key is compared with the leaf, keys in encrypted PKCS#8 are read, and what
//! a leaf may be used for is looked at. A leaf out of its validity is a warning: devices decide.
//!
//! Invariants: whatever a file holds ends in a [`CredentialError`], never in a panic; files, work for
//! key derivation and nesting are bounded; passwords and keys are wiped after use and never printed.

mod check;
mod error;
mod file;
pub mod generate;
pub mod inspect;
mod keystore;
mod pbe;
mod pem;
mod pem_files;
mod private_key;
mod ticket_keys;

use std::path::PathBuf;
use std::str::FromStr;

use zeroize::Zeroizing;

pub use error::{CredentialError, Origin};
use pem_files::PemFiles;
pub use ticket_keys::{TicketKeyring, TicketKeysError};

use crate::crypto::signature::SigningKey;

const PEM_CERT: &str = "COAP_DTLS_PEM_CERT";
const KEY_STORE: &str = "COAP_DTLS_KEY_STORE";

/// What a handshake shows and signs with.
#[derive(Debug)]
pub struct ServerCredentials {
    /// Certificates in DER, leaf first; never empty.
    pub chain: Vec<Vec<u8>>,
    /// The private key of the leaf.
    pub key: SigningKey,
}

/// The kind of files: `COAP_DTLS_CREDENTIALS_TYPE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CredentialsType {
    /// PEM files, or the keystore when there are none.
    #[default]
    Pem,
    /// A Java keystore.
    Keystore,
}

impl FromStr for CredentialsType {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().to_ascii_uppercase().as_str() {
            "PEM" => Ok(Self::Pem),
            "KEYSTORE" => Ok(Self::Keystore),
            _ => Err("must be PEM or KEYSTORE"),
        }
    }
}

/// A password: wiped when dropped, and shown as stars.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Whether it has no character.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// UTF-8, as OpenSSL and PBKDF2 take it.
    fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// UTF-16 with the upper byte first, as JKS takes it.
    fn utf16_be(&self) -> Zeroizing<Vec<u8>> {
        // Exact room, so that no copy stays behind when it grows.
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * self.0.len() + 2));
        for unit in self.0.encode_utf16() {
            bytes.extend_from_slice(&unit.to_be_bytes());
        }
        bytes
    }

    /// The forms that PKCS#12 takes: with a zero character at the end, and an empty password also
    /// as nothing at all, for writers differ there.
    fn bmp_variants(&self) -> Vec<Zeroizing<Vec<u8>>> {
        let mut terminated = self.utf16_be();
        terminated.extend_from_slice(&[0, 0]);
        let mut variants = vec![terminated];
        if self.is_empty() {
            variants.push(Zeroizing::default());
        }
        variants
    }
}

impl From<&str> for Password {
    fn from(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }
}

impl From<String> for Password {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_empty() { "(empty)" } else { "***" })
    }
}

/// The settings that say where the credentials are; the defaults are ThingsBoard's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialSettings {
    /// `COAP_DTLS_CREDENTIALS_TYPE`.
    pub credentials_type: CredentialsType,
    /// `COAP_DTLS_PEM_CERT`: chain, leaf first; may hold the key.
    pub pem_cert: String,
    /// `COAP_DTLS_PEM_KEY`: read when that file holds no key.
    pub pem_key: String,
    /// `COAP_DTLS_PEM_KEY_PASSWORD`: of no effect on a key without password.
    pub pem_key_password: Password,
    /// `COAP_DTLS_KEY_STORE_TYPE`: JKS or PKCS12; the file's first bytes decide.
    pub key_store_type: String,
    /// `COAP_DTLS_KEY_STORE`.
    pub key_store: String,
    /// `COAP_DTLS_KEY_STORE_PASSWORD`.
    pub key_store_password: Password,
    /// `COAP_DTLS_KEY_ALIAS`: without case; empty is the first usable private key.
    pub key_alias: String,
    /// `COAP_DTLS_KEY_PASSWORD`: empty is the store's password.
    pub key_password: Password,
    /// `TIDEGATE_SECOND_PEM_CERT`: a certificate with another kind of key; empty for none.
    pub second_pem_cert: String,
    /// `TIDEGATE_SECOND_PEM_KEY`: read when that file holds no key.
    pub second_pem_key: String,
    /// `TIDEGATE_SECOND_PEM_KEY_PASSWORD`: of no effect on a key without password.
    pub second_pem_key_password: Password,
    /// Directories that stand for the class path: where names are looked for after the working
    /// directory, and names with `classpath:` only.
    pub search_path: Vec<PathBuf>,
}

impl Default for CredentialSettings {
    fn default() -> Self {
        Self {
            credentials_type: CredentialsType::Pem,
            pem_cert: "coapserver.pem".to_owned(),
            pem_key: "coapserver_key.pem".to_owned(),
            pem_key_password: "server_key_password".into(),
            key_store_type: "JKS".to_owned(),
            key_store: "coapserver.jks".to_owned(),
            key_store_password: "server_ks_password".into(),
            key_alias: "serveralias".to_owned(),
            key_password: "server_key_password".into(),
            second_pem_cert: String::new(),
            second_pem_key: String::new(),
            second_pem_key_password: Password::default(),
            search_path: Vec::new(),
        }
    }
}

/// What [`load`] found.
#[derive(Debug)]
pub struct Loaded {
    /// Ready for use.
    pub credentials: ServerCredentials,
    /// The certificate with another kind of key, if one is set.
    pub second: Option<ServerCredentials>,
    /// What an operator should know, a sentence each.
    pub warnings: Vec<String>,
    /// The files that were read, to be watched for changes.
    pub files: Vec<PathBuf>,
}

/// Loads the server's credentials. Reads files and the clock; a derivation from a password may take
/// seconds at worst.
///
/// # Errors
///
/// Names the setting, the file, what is wrong with it, and the remedy.
pub fn load(settings: &CredentialSettings) -> Result<Loaded, CredentialError> {
    let mut warnings = Vec::new();
    let (source, mut files) = match settings.credentials_type {
        CredentialsType::Keystore => {
            let path = find(KEY_STORE, &settings.key_store, &settings.search_path)?;
            load_key_store(settings, path, &mut warnings)?
        }
        CredentialsType::Pem => match file::resolve(&settings.pem_cert, &settings.search_path) {
            Ok(path) => pem_files::load(&PemFiles::first(settings), path)?,
            Err(mut searched) => match file::resolve(&settings.key_store, &settings.search_path) {
                Ok(path) => {
                    warnings.push(format!(
                        "{PEM_CERT}='{}': no such file, so the keystore {} is used instead. \
                             Set COAP_DTLS_CREDENTIALS_TYPE=KEYSTORE if that is meant",
                        settings.pem_cert,
                        path.display()
                    ));
                    load_key_store(settings, path, &mut warnings)?
                }
                Err(more) => {
                    searched.extend(more);
                    return Err(CredentialError::NothingFound {
                        pem_cert: settings.pem_cert.clone(),
                        key_store: settings.key_store.clone(),
                        searched,
                    });
                }
            },
        },
    };
    check::check(&source, &mut warnings)?;
    let second = load_second(settings, &source, &mut warnings, &mut files)?;
    Ok(Loaded {
        credentials: source.into(),
        second,
        warnings,
        files,
    })
}

/// Loads the certificate with another kind of key, if one is set.
fn load_second(
    settings: &CredentialSettings,
    first: &Source,
    warnings: &mut Vec<String>,
    files: &mut Vec<PathBuf>,
) -> Result<Option<ServerCredentials>, CredentialError> {
    if settings.second_pem_cert.is_empty() {
        return Ok(None);
    }
    let pem = PemFiles::second(settings);
    let path = find(pem.cert_setting, pem.cert, &settings.search_path)?;
    let (second, more) = pem_files::load(&pem, path)?;
    check::check(&second, warnings)?;
    files.extend(more);
    if second.key.key_type() == first.key.key_type() {
        warnings.push(format!(
            "{}: its key is of the same kind as the first certificate's, so no device is shown it. \
             Set it to a certificate with a key of another kind, such as RSA beside P-256",
            second.chain_origin
        ));
    }
    Ok(Some(second.into()))
}

/// Credentials with the places that they are from.
struct Source {
    chain: Vec<Vec<u8>>,
    key: SigningKey,
    chain_origin: Origin,
    key_origin: Origin,
}

impl From<Source> for ServerCredentials {
    fn from(source: Source) -> Self {
        Self {
            chain: source.chain,
            key: source.key,
        }
    }
}

fn find(
    setting: &'static str,
    name: &str,
    search_path: &[PathBuf],
) -> Result<PathBuf, CredentialError> {
    file::resolve(name, search_path).map_err(|searched| CredentialError::NotFound {
        setting,
        name: name.to_owned(),
        searched,
    })
}

fn load_key_store(
    settings: &CredentialSettings,
    path: PathBuf,
    warnings: &mut Vec<String>,
) -> Result<(Source, Vec<PathBuf>), CredentialError> {
    let known = ["JKS", "PKCS12"]
        .iter()
        .any(|name| settings.key_store_type.trim().eq_ignore_ascii_case(name));
    if !known {
        return Err(CredentialError::UnknownStoreType {
            value: settings.key_store_type.clone(),
        });
    }
    let origin = Origin {
        setting: KEY_STORE,
        path,
    };
    let content = file::read(&origin)?;
    let access = keystore::Access {
        store_password: &settings.key_store_password,
        key_password: &settings.key_password,
        alias: settings.key_alias.trim(),
    };
    let unlocked = keystore::unlock(&content, &origin, &access)?;
    warnings.extend(unlocked.warning);
    let files = vec![origin.path.clone()];
    let source = Source {
        chain: unlocked.chain,
        key: unlocked.key,
        chain_origin: origin.clone(),
        key_origin: origin,
    };
    Ok((source, files))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_printed() {
        let settings = CredentialSettings::default();
        let text = format!("{settings:?}");
        assert!(!text.contains("server_ks_password") && !text.contains("server_key_password"));
        assert!(text.contains("***"));
    }

    #[test]
    fn types_are_read_without_case() {
        assert_eq!("pem".parse(), Ok(CredentialsType::Pem));
        assert_eq!("KeyStore".parse(), Ok(CredentialsType::Keystore));
        assert!("P12".parse::<CredentialsType>().is_err());
    }

    #[test]
    fn passwords_are_utf_16_where_java_has_them_so() {
        let password = Password::from("a\u{fc}\u{1f511}");
        assert_eq!(
            *password.utf16_be(),
            [0, b'a', 0, 0xfc, 0xd8, 0x3d, 0xdd, 0x11]
        );
        assert_eq!(password.bmp_variants().len(), 1);
        let empty = Password::default().bmp_variants();
        assert_eq!(empty.len(), 2);
        assert_eq!(*empty[0], [0, 0]);
        assert!(empty[1].is_empty());
    }
}
