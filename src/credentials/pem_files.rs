//! Chain and key from PEM files: what the blocks of a file mean, and what to say when they are not
//! there.

use std::path::PathBuf;

use zeroize::Zeroizing;

use super::error::{CredentialError, Origin};
use super::pbe::{Budget, DecodeError};
use super::pem::{self, Block, Kind};
use super::private_key::{self, KeyError};
use super::{CredentialSettings, PEM_CERT, Password, Source, file, find, keystore};
use crate::crypto::signature::SigningKey;

/// The settings of one certificate with its key: their names, for what is said of them, and values.
pub(super) struct PemFiles<'a> {
    /// Name of the setting of the certificate file.
    pub(super) cert_setting: &'static str,
    key_setting: &'static str,
    password_setting: &'static str,
    /// Name of the certificate file.
    pub(super) cert: &'a str,
    key: &'a str,
    password: &'a Password,
    search_path: &'a [PathBuf],
}

impl<'a> PemFiles<'a> {
    /// The server's certificate.
    pub(super) fn first(settings: &'a CredentialSettings) -> Self {
        Self {
            cert_setting: PEM_CERT,
            key_setting: "COAP_DTLS_PEM_KEY",
            password_setting: "COAP_DTLS_PEM_KEY_PASSWORD",
            cert: &settings.pem_cert,
            key: &settings.pem_key,
            password: &settings.pem_key_password,
            search_path: &settings.search_path,
        }
    }

    /// The one with another kind of key.
    pub(super) fn second(settings: &'a CredentialSettings) -> Self {
        Self {
            cert_setting: "TIDEGATE_SECOND_PEM_CERT",
            key_setting: "TIDEGATE_SECOND_PEM_KEY",
            password_setting: "TIDEGATE_SECOND_PEM_KEY_PASSWORD",
            cert: &settings.second_pem_cert,
            key: &settings.second_pem_key,
            password: &settings.second_pem_key_password,
            search_path: &settings.search_path,
        }
    }
}

/// Loads certificates from the file at `path`, and the key from there or from its own file.
pub(super) fn load(
    settings: &PemFiles<'_>,
    path: PathBuf,
) -> Result<(Source, Vec<PathBuf>), CredentialError> {
    let mut budget = Budget::new();
    let chain_origin = Origin {
        setting: settings.cert_setting,
        path,
    };
    let mut files = vec![chain_origin.path.clone()];
    let (blocks, content) = read_pem(&chain_origin)?;
    let mut chain = Vec::new();
    for block in blocks
        .iter()
        .filter(|block| block.kind() == Kind::Certificate)
    {
        let der = block
            .decode_plain()
            .map_err(|error| broken_pem(&chain_origin, error))?;
        chain.push(der.to_vec());
    }
    if chain.is_empty() {
        return Err(CredentialError::NoCertificate {
            remedy: no_certificate_remedy(&content, &chain_origin),
            origin: chain_origin,
        });
    }
    let in_certificate_file = last_key(&blocks, &chain_origin, settings, &mut budget)?;
    let (key, key_origin) = match in_certificate_file {
        Some(key) => (key, chain_origin.clone()),
        None => {
            let found = key_file(settings, &mut budget)?;
            files.push(found.1.path.clone());
            found
        }
    };
    let source = Source {
        chain,
        key,
        chain_origin,
        key_origin,
    };
    Ok((source, files))
}

/// The key in the file of its own.
fn key_file(
    settings: &PemFiles<'_>,
    budget: &mut Budget,
) -> Result<(SigningKey, Origin), CredentialError> {
    let origin = Origin {
        setting: settings.key_setting,
        path: find(settings.key_setting, settings.key, settings.search_path)?,
    };
    let (blocks, _) = read_pem(&origin)?;
    match last_key(&blocks, &origin, settings, budget)? {
        Some(key) => Ok((key, origin)),
        None => Err(CredentialError::NoPrivateKey {
            remedy: no_key_remedy(&blocks),
            origin,
        }),
    }
}

fn read_pem(origin: &Origin) -> Result<(Vec<Block>, Zeroizing<Vec<u8>>), CredentialError> {
    let content = file::read(origin)?;
    let blocks = pem::blocks(&content).map_err(|error| broken_pem(origin, error))?;
    Ok((blocks, content))
}

fn broken_pem(origin: &Origin, error: pem::PemError) -> CredentialError {
    CredentialError::BrokenPem {
        origin: origin.clone(),
        line: error.line,
        reason: error.reason,
    }
}

/// The last private key among `blocks`; every one must be readable.
fn last_key(
    blocks: &[Block],
    origin: &Origin,
    settings: &PemFiles<'_>,
    budget: &mut Budget,
) -> Result<Option<SigningKey>, CredentialError> {
    let mut last = None;
    for block in blocks {
        if !matches!(block.kind(), Kind::Certificate | Kind::Other) {
            let key = private_key::from_block(block, settings.password, budget)
                .map_err(|error| key_error(error, block, origin, settings.password_setting))?;
            last = Some(key);
        }
    }
    Ok(last)
}

fn key_error(
    error: KeyError,
    block: &Block,
    origin: &Origin,
    password_setting: &str,
) -> CredentialError {
    let path = origin.path.display();
    match error {
        KeyError::Framing(error) => broken_pem(origin, error),
        KeyError::Key(error) => CredentialError::bad_key(origin, None, error),
        KeyError::Decode(DecodeError::Malformed(reason)) => CredentialError::BrokenPem {
            origin: origin.clone(),
            line: block.line,
            reason: format!("the private key is damaged: {reason}"),
        },
        KeyError::Decode(DecodeError::WrongPassword) => CredentialError::WrongPassword {
            origin: origin.clone(),
            what: "the private key".to_owned(),
            remedy: format!(
                "Correct {password_setting}; 'openssl pkey -in {path} -noout' tries a \
                 password"
            ),
        },
        KeyError::Decode(DecodeError::Unsupported(what)) => CredentialError::Unsupported {
            remedy: format!("Encrypt the key anew: openssl pkcs8 -topk8 -in {path} -out NEW"),
            origin: origin.clone(),
            what,
        },
        KeyError::Decode(DecodeError::TooManyIterations(iterations)) => {
            CredentialError::TooManyIterations {
                origin: origin.clone(),
                iterations,
            }
        }
    }
}

fn no_certificate_remedy(content: &[u8], origin: &Origin) -> String {
    let path = origin.path.display();
    if keystore::is_keystore(content) {
        return "It is a Java keystore: set COAP_DTLS_CREDENTIALS_TYPE=KEYSTORE and \
                COAP_DTLS_KEY_STORE to this file"
            .to_owned();
    }
    if content.first() == Some(&0x30) {
        return format!(
            "It looks like DER or PKCS12 instead of PEM. Convert a certificate in DER with \
             'openssl x509 -inform DER -in {path} -out NEW.pem'; for PKCS12 set \
             COAP_DTLS_CREDENTIALS_TYPE=KEYSTORE and COAP_DTLS_KEY_STORE to this file"
        );
    }
    "It needs a block that begins with '-----BEGIN CERTIFICATE-----'".to_owned()
}

fn no_key_remedy(blocks: &[Block]) -> String {
    let others: Vec<&str> = blocks
        .iter()
        .filter(|block| block.kind() == Kind::Other && block.label.contains("PRIVATE KEY"))
        .map(|block| block.label.as_str())
        .collect();
    let needed = "It needs a block PRIVATE KEY, ENCRYPTED PRIVATE KEY, EC PRIVATE KEY or RSA \
                  PRIVATE KEY";
    match others.first() {
        Some(&"OPENSSH PRIVATE KEY") => format!(
            "{needed}; OPENSSH PRIVATE KEY is not one of them, 'ssh-keygen -p -m PKCS8 -f FILE' \
             converts it"
        ),
        Some(other) => format!("{needed}; {other} is not one of them"),
        None => needed.to_owned(),
    }
}
