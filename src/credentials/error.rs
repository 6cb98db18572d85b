//! Why credentials could not be loaded: each text names setting, file, fault and remedy.

use std::fmt;
use std::path::{Path, PathBuf};

use super::file::FILE_LENGTH_MAX;
use super::pbe::ITERATIONS_MAX;
use crate::crypto::CryptoError;

/// A file and the setting that led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Name of the setting, as `COAP_DTLS_PEM_CERT`.
    pub setting: &'static str,
    /// The file that was found for its value.
    pub path: PathBuf,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (file {})", self.setting, self.path.display())
    }
}

/// Why credentials could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The setting names no file that exists.
    #[error("{setting}='{name}': {}. Correct the setting, or put the file there", not_found(.searched))]
    NotFound {
        /// The setting.
        setting: &'static str,
        /// Its value.
        name: String,
        /// Where the file was looked for.
        searched: Vec<PathBuf>,
    },
    /// PEM was asked for, and neither that file nor the keystore exists.
    #[error(
        "neither a PEM certificate (COAP_DTLS_PEM_CERT='{pem_cert}') nor a keystore \
         (COAP_DTLS_KEY_STORE='{key_store}') was found: {}. Set one of them to an existing file; \
         'tidegate cert self-signed --out DIR' makes one to start with", not_found(.searched)
    )]
    NothingFound {
        /// Value of `COAP_DTLS_PEM_CERT`.
        pem_cert: String,
        /// Value of `COAP_DTLS_KEY_STORE`.
        key_store: String,
        /// Where the files were looked for.
        searched: Vec<PathBuf>,
    },
    /// The file cannot be read.
    #[error("{origin}: cannot be read: {source}. Check its owner and mode")]
    Unreadable {
        /// The file.
        origin: Origin,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The name is that of a directory, a device or the like.
    #[error("{origin}: is not a regular file. Set {} to the file itself", .origin.setting)]
    NotAFile {
        /// The file.
        origin: Origin,
    },
    /// The file is larger than any credentials.
    #[error(
        "{origin}: larger than {FILE_LENGTH_MAX} bytes, so these are no credentials. Correct the \
         setting"
    )]
    TooLarge {
        /// The file.
        origin: Origin,
    },
    /// `COAP_DTLS_KEY_STORE_TYPE` has an unknown value.
    #[error("COAP_DTLS_KEY_STORE_TYPE='{value}': unknown type. Set it to JKS or PKCS12")]
    UnknownStoreType {
        /// The value.
        value: String,
    },
    /// The PEM framing is damaged.
    #[error("{origin}: line {line}: {reason}. Restore the file from its source")]
    BrokenPem {
        /// The file.
        origin: Origin,
        /// Line number, from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// The file holds no certificate.
    #[error("{origin}: holds no certificate. {remedy}")]
    NoCertificate {
        /// The file.
        origin: Origin,
        /// What to do.
        remedy: String,
    },
    /// A certificate cannot be used.
    #[error("{origin}: certificate {position}: {reason}. {remedy}")]
    BadCertificate {
        /// The file.
        origin: Origin,
        /// Position in the file, from 1.
        position: usize,
        /// What is wrong.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The leaf may not be used to authenticate a server.
    #[error(
        "{origin}: the first certificate is not for servers: {reason}. Have it issued with \
         keyUsage digitalSignature and extendedKeyUsage serverAuth"
    )]
    NotForServers {
        /// The file.
        origin: Origin,
        /// The extension that says so.
        reason: &'static str,
    },
    /// There is no private key in the file.
    #[error("{origin}: holds no private key. {remedy}")]
    NoPrivateKey {
        /// The file.
        origin: Origin,
        /// What to do.
        remedy: String,
    },
    /// The private key is damaged or of a kind that cannot be used.
    #[error("{origin}: private key{}: {reason}. {remedy}", in_quotes(.alias))]
    BadPrivateKey {
        /// The file.
        origin: Origin,
        /// Its alias, in a keystore.
        alias: Option<String>,
        /// What is wrong.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A password does not fit.
    #[error("{origin}: {what}: wrong password. {remedy}")]
    WrongPassword {
        /// The file.
        origin: Origin,
        /// What it should have opened.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// An encryption, or a keystore format, that is not supported.
    #[error("{origin}: {what} is not supported. {remedy}")]
    Unsupported {
        /// The file.
        origin: Origin,
        /// Its name.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// The file asks for more work than is reasonable to derive a key from the password.
    #[error(
        "{origin}: the key derivation asks for {iterations} iterations, more than the \
         {ITERATIONS_MAX} allowed. Write the file anew with fewer"
    )]
    TooManyIterations {
        /// The file.
        origin: Origin,
        /// What it asks for; for scrypt N * r * p.
        iterations: u64,
    },
    /// The keystore is damaged.
    #[error("{origin}: not a sound keystore: {reason}. Restore the file from its source")]
    BrokenStore {
        /// The file.
        origin: Origin,
        /// What is wrong.
        reason: String,
    },
    /// The keystore has no such key.
    #[error(
        "{origin}: no private key with alias '{alias}'{}. Correct COAP_DTLS_KEY_ALIAS, or set it \
         to nothing for the first key; the private keys are: {}",
        if *.is_certificate { " (that entry is a certificate alone)" } else { "" },
        list_or_none(.aliases)
    )]
    UnknownAlias {
        /// The file.
        origin: Origin,
        /// Value of `COAP_DTLS_KEY_ALIAS`.
        alias: String,
        /// Whether a trusted certificate has it.
        is_certificate: bool,
        /// The aliases that there are.
        aliases: Vec<String>,
    },
    /// The private key is not that of the leaf.
    #[error(
        "the private key in {key} does not belong to the first certificate in {certificate}. Give \
         the two files that were made together, leaf certificate first"
    )]
    KeyMismatch {
        /// Where the certificate is.
        certificate: Origin,
        /// Where the key is.
        key: Origin,
    },
}

impl CredentialError {
    /// The error for a private key that the crypto library refused.
    pub(super) fn bad_key(origin: &Origin, alias: Option<&str>, error: CryptoError) -> Self {
        let remedy = match error {
            CryptoError::ExplicitCurve => {
                "Name the curve: openssl ec -in KEY -param_enc named_curve -out NEW"
            }
            CryptoError::UnsupportedCurve | CryptoError::Unsupported => {
                "Make a P-256 key (openssl ecparam -name prime256v1 -genkey -noout) and a \
                 certificate for it"
            }
            _ => "Restore the file from its source, or make a new key and certificate",
        };
        Self::BadPrivateKey {
            origin: origin.clone(),
            alias: alias.map(str::to_owned),
            reason: error.to_string(),
            remedy,
        }
    }
}

fn not_found(searched: &[PathBuf]) -> String {
    let mut paths = searched.iter().map(|path| Path::display(path).to_string());
    match paths.next() {
        None => "the setting is empty".to_owned(),
        Some(first) => paths.fold(format!("no file {first}"), |text, path| {
            text + ", nor " + &path
        }),
    }
}

fn in_quotes(alias: &Option<String>) -> String {
    alias
        .as_ref()
        .map_or_else(String::new, |alias| format!(" '{alias}'"))
}

fn list_or_none(aliases: &[String]) -> String {
    if aliases.is_empty() {
        "none".to_owned()
    } else {
        aliases.join(", ")
    }
}
