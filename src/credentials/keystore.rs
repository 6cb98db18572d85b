//! Java keystores: which format a file has, and the private key that an alias names.
//!
//! The format is told by the first bytes and never by the setting: keytool writes PKCS12 by default
//! while ThingsBoard's default type is JKS, and Java opens either as either.
//!
//! | first bytes | format | |
//! |---|---|---|
//! | `FE ED FE ED` | JKS | [`jks`] |
//! | `30` | PKCS12 | [`pkcs12`] |
//! | `CE CE CE CE` | JCEKS | refused, with the command that converts it |
//!
//! Both readers are our own. For JKS the only crate reserves whatever length a file states and fails
//! on passwords beyond ASCII. For PKCS12 the only crate that reads today's files knows one password,
//! while `COAP_DTLS_KEY_PASSWORD` may differ from `COAP_DTLS_KEY_STORE_PASSWORD`, and it brings some
//! hundred crates, pre-releases among them; what PKCS12 needs beyond the encryption of PKCS#8 keys,
//! which is here anyway, is small.

mod jks;
mod pkcs12;

use zeroize::Zeroizing;

use super::Password;
use super::error::{CredentialError, Origin};
use super::pbe::{self, Budget, DecodeError};
use crate::crypto::der;
use crate::crypto::signature::SigningKey;

/// What a keystore holds, keys still locked.
#[derive(Default)]
struct Store {
    keys: Vec<KeyEntry>,
    certificates: Vec<CertificateEntry>,
}

struct KeyEntry {
    alias: String,
    key: LockedKey,
    chain: Chain,
}

struct CertificateEntry {
    alias: Option<String>,
    local_key_id: Option<Vec<u8>>,
    der: Vec<u8>,
}

/// A private key as it lies in the store.
enum LockedKey {
    /// Under the scheme of JKS.
    Jks(Vec<u8>),
    /// As an EncryptedPrivateKeyInfo.
    Pkcs8(Vec<u8>),
    /// Without password.
    Plain(Zeroizing<Vec<u8>>),
}

/// Where the certificates of a key are.
enum Chain {
    /// Beside it, leaf first.
    Given(Vec<Vec<u8>>),
    /// Among the store's certificates; the leaf has this identifier.
    Among(Option<Vec<u8>>),
}

/// A key with its certificates, leaf first.
pub(super) struct Unlocked {
    pub(super) key: SigningKey,
    pub(super) chain: Vec<Vec<u8>>,
    /// What an operator should know.
    pub(super) warning: Option<String>,
}

/// Which key, and how to open it.
pub(super) struct Access<'a> {
    /// Of the store.
    pub(super) store_password: &'a Password,
    /// Of the key; the store's when empty.
    pub(super) key_password: &'a Password,
    /// Compared without case, as Java does; the first usable key when empty.
    pub(super) alias: &'a str,
}

/// Whether `content` begins as a keystore does.
pub(super) fn is_keystore(content: &[u8]) -> bool {
    content.starts_with(&jks::MAGIC) || content.starts_with(&jks::MAGIC_JCEKS)
}

/// Opens the keystore `content` and takes the key that `access` names.
pub(super) fn unlock(
    content: &[u8],
    origin: &Origin,
    access: &Access<'_>,
) -> Result<Unlocked, CredentialError> {
    let mut budget = Budget::new();
    let store = parse(content, origin, access.store_password, &mut budget)?;
    if access.alias.is_empty() {
        return first_usable(&store, origin, access, &mut budget);
    }
    let wanted = access.alias.to_lowercase();
    let entry = store
        .keys
        .iter()
        .find(|entry| entry.alias.to_lowercase() == wanted);
    match entry {
        Some(entry) => unlock_entry(&store, entry, origin, access, &mut budget),
        None => Err(CredentialError::UnknownAlias {
            origin: origin.clone(),
            alias: access.alias.to_owned(),
            is_certificate: store.certificates.iter().any(|certificate| {
                certificate
                    .alias
                    .as_ref()
                    .is_some_and(|alias| alias.to_lowercase() == wanted)
            }),
            aliases: store.keys.into_iter().map(|entry| entry.alias).collect(),
        }),
    }
}

/// The first key that opens; when none does, what was wrong with the first.
fn first_usable(
    store: &Store,
    origin: &Origin,
    access: &Access<'_>,
    budget: &mut Budget,
) -> Result<Unlocked, CredentialError> {
    let mut first_error = None;
    for entry in &store.keys {
        match unlock_entry(store, entry, origin, access, budget) {
            Ok(unlocked) => return Ok(unlocked),
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    Err(
        first_error.unwrap_or_else(|| CredentialError::NoPrivateKey {
            origin: origin.clone(),
            remedy: "Import the private key with its certificate, not the certificate alone"
                .to_owned(),
        }),
    )
}

fn parse(
    content: &[u8],
    origin: &Origin,
    password: &Password,
    budget: &mut Budget,
) -> Result<Store, CredentialError> {
    let path = origin.path.display();
    let unsupported = |what: &str, remedy| CredentialError::Unsupported {
        origin: origin.clone(),
        what: what.to_owned(),
        remedy,
    };
    let store = if content.starts_with(&jks::MAGIC) {
        jks::parse(content, password)
    } else if content.starts_with(&jks::MAGIC_JCEKS) {
        return Err(unsupported(
            "the keystore format JCEKS",
            format!(
                "Convert it: keytool -importkeystore -srckeystore {path} -srcstoretype JCEKS \
                 -destkeystore NEW.p12 -deststoretype PKCS12"
            ),
        ));
    } else if content.trim_ascii_start().starts_with(b"-----BEGIN") {
        return Err(unsupported(
            "PEM text as a keystore",
            "Set COAP_DTLS_CREDENTIALS_TYPE=PEM and COAP_DTLS_PEM_CERT to this file".to_owned(),
        ));
    } else if content.first() == Some(&der::SEQUENCE) {
        pkcs12::parse(content, password, budget)
    } else {
        return Err(CredentialError::BrokenStore {
            origin: origin.clone(),
            reason: "it begins neither as JKS nor as PKCS12 does".to_owned(),
        });
    };
    store.map_err(|error| match error {
        DecodeError::WrongPassword => CredentialError::WrongPassword {
            origin: origin.clone(),
            what: "the keystore".to_owned(),
            remedy:
                "Correct COAP_DTLS_KEY_STORE_PASSWORD. If it is right, the file was altered: its \
                     structure is sound, and only the checksum disagrees"
                    .to_owned(),
        },
        error => store_error(error, origin),
    })
}

fn store_error(error: DecodeError, origin: &Origin) -> CredentialError {
    let origin = origin.clone();
    match error {
        DecodeError::Malformed(reason) => CredentialError::BrokenStore {
            origin,
            reason: reason.to_owned(),
        },
        DecodeError::WrongPassword => CredentialError::WrongPassword {
            origin,
            what: "the private key".to_owned(),
            remedy: "Correct COAP_DTLS_KEY_PASSWORD".to_owned(),
        },
        DecodeError::Unsupported(what) => CredentialError::Unsupported {
            remedy: format!(
                "Write the keystore anew: keytool -importkeystore -srckeystore {} -destkeystore \
                 NEW.p12 -deststoretype PKCS12",
                origin.path.display()
            ),
            origin,
            what,
        },
        DecodeError::TooManyIterations(iterations) => {
            CredentialError::TooManyIterations { origin, iterations }
        }
    }
}

fn unlock_entry(
    store: &Store,
    entry: &KeyEntry,
    origin: &Origin,
    access: &Access<'_>,
    budget: &mut Budget,
) -> Result<Unlocked, CredentialError> {
    let (der, warning) = open_key(entry, origin, access, budget)?;
    let bad_key = |error| CredentialError::bad_key(origin, Some(&entry.alias), error);
    let key = SigningKey::from_der(&der).map_err(bad_key)?;
    let chain = match &entry.chain {
        Chain::Given(chain) => chain.clone(),
        Chain::Among(local_key_id) => {
            pkcs12::chain(&store.certificates, local_key_id.as_deref(), &key)
        }
    };
    if chain.is_empty() {
        return Err(CredentialError::NoCertificate {
            origin: origin.clone(),
            remedy: format!(
                "Import the certificate of key '{}' together with the key",
                entry.alias
            ),
        });
    }
    Ok(Unlocked {
        key,
        chain,
        warning,
    })
}

/// Decrypts the key of `entry`.
///
/// keytool gives a key in PKCS12 the password of the store, whatever it was told: ThingsBoard's own
/// script asks for two and gets one. So the store's password is tried too, and a warning tells.
fn open_key(
    entry: &KeyEntry,
    origin: &Origin,
    access: &Access<'_>,
    budget: &mut Budget,
) -> Result<(Zeroizing<Vec<u8>>, Option<String>), CredentialError> {
    let key_password = if access.key_password.is_empty() {
        access.store_password
    } else {
        access.key_password
    };
    match decrypt(&entry.key, key_password, budget) {
        Ok(der) => return Ok((der, None)),
        Err(DecodeError::WrongPassword) => {}
        Err(error) => return Err(store_error(error, origin)),
    }
    let same = decrypt(&entry.key, access.store_password, budget).ok();
    let remedy = if same.is_some() {
        "It opens with the keystore's password: set COAP_DTLS_KEY_PASSWORD to the value of \
         COAP_DTLS_KEY_STORE_PASSWORD"
    } else {
        "Correct COAP_DTLS_KEY_PASSWORD"
    };
    let wrong = CredentialError::WrongPassword {
        origin: origin.clone(),
        what: format!("the private key '{}'", entry.alias),
        remedy: remedy.to_owned(),
    };
    match (same, &entry.key) {
        (Some(der), LockedKey::Pkcs8(_)) => Ok((der, Some(wrong.to_string()))),
        _ => Err(wrong),
    }
}

fn decrypt(
    key: &LockedKey,
    password: &Password,
    budget: &mut Budget,
) -> Result<Zeroizing<Vec<u8>>, DecodeError> {
    match key {
        LockedKey::Jks(sealed) => jks::decrypt(sealed, password),
        LockedKey::Pkcs8(sealed) => pbe::decrypt_private_key(sealed, password, budget),
        LockedKey::Plain(der) => Ok(der.clone()),
    }
}
