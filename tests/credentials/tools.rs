//! Running the tools, and checking what was loaded.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use tidegate::credentials::{self, CredentialError, CredentialSettings, CredentialsType, Loaded};
use tidegate::crypto::certificate::LeafInfo;

/// A directory of one test, with the tools at hand.
pub(crate) struct Bench {
    directory: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// The path of a file of this test.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The same as text, for settings.
    pub(crate) fn name(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    /// Joins files to one.
    pub(crate) fn concatenate(&self, parts: &[&str], to: &str) {
        let content: Vec<u8> = parts.iter().flat_map(|part| self.read(part)).collect();
        self.write(to, content);
    }

    /// Runs `openssl` with arguments parted by spaces.
    pub(crate) fn openssl(&self, arguments: &str) {
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        self.run("openssl", "openssl", &arguments);
    }

    /// Runs `keytool` with arguments parted by spaces.
    pub(crate) fn keytool(&self, arguments: &str) {
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        self.run("keytool", "default-jdk-headless", &arguments);
    }

    /// Runs a program in the test's directory; it must be there and succeed.
    pub(crate) fn run(&self, program: &str, package: &str, arguments: &[&str]) {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| {
                panic!("these tests need '{program}' ({error}): apt-get install {package}")
            });
        assert!(
            output.status.success(),
            "{program} {arguments:?} failed:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// A P-256 key as SEC 1 in `key.pem`, and its certificate in `cert.pem`.
    pub(crate) fn make_pair(&self) {
        self.openssl("ecparam -name prime256v1 -genkey -noout -out key.pem");
        self.certify("key.pem", "cert.pem");
    }

    /// A self-signed certificate for `key`.
    pub(crate) fn certify(&self, key: &str, certificate: &str) {
        self.openssl(&format!(
            "req -x509 -key {key} -out {certificate} -days 30 -subj /CN=localhost"
        ));
    }

    /// Settings for PEM files of this test.
    pub(crate) fn pem(&self, certificate: &str, key: &str, password: &str) -> CredentialSettings {
        CredentialSettings {
            pem_cert: self.name(certificate),
            pem_key: self.name(key),
            pem_key_password: password.into(),
            key_store: self.name("absent.jks"),
            ..CredentialSettings::default()
        }
    }

    /// Settings for a keystore of this test.
    pub(crate) fn key_store(
        &self,
        file: &str,
        store_password: &str,
        alias: &str,
        key_password: &str,
    ) -> CredentialSettings {
        CredentialSettings {
            credentials_type: CredentialsType::Keystore,
            key_store: self.name(file),
            key_store_password: store_password.into(),
            key_alias: alias.to_owned(),
            key_password: key_password.into(),
            ..CredentialSettings::default()
        }
    }
}

/// Loads, and checks that the key signs what the leaf verifies.
pub(crate) fn load(settings: &CredentialSettings) -> Loaded {
    let loaded =
        credentials::load(settings).unwrap_or_else(|error| panic!("{error}\nwith {settings:#?}"));
    let credentials = &loaded.credentials;
    let leaf = LeafInfo::parse(&credentials.chain[0]).unwrap();
    let verifying = leaf.verifying_key().unwrap();
    let scheme = credentials.key.schemes()[0];
    let signature = credentials.key.sign(scheme, b"message").unwrap();
    verifying.verify(scheme, b"message", &signature).unwrap();
    loaded
}

/// Loads what must not load; the message must name all of `mentioned`.
pub(crate) fn refuse(settings: &CredentialSettings, mentioned: &[&str]) -> CredentialError {
    let Err(error) = credentials::load(settings) else {
        panic!("loaded, though it should not: {settings:#?}");
    };
    let text = error.to_string();
    for part in mentioned {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
    for secret in [
        "right-password",
        "wrong-password",
        "store-password",
        "key-password",
    ] {
        assert!(!text.contains(secret), "a password is in: {text}");
    }
    error
}

/// The subject's common name of a certificate in DER.
pub(crate) fn common_name(der: &[u8]) -> String {
    let pem = to_pem(der);
    let report = credentials::inspect::inspect(pem.as_bytes()).unwrap();
    report[0].subject.clone()
}

/// PEM of a certificate, by another writer than ours.
pub(crate) fn to_pem(der: &[u8]) -> String {
    use base64::Engine;
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        base64::engine::general_purpose::STANDARD.encode(der)
    )
}

/// Whether `path` is among the files to watch.
pub(crate) fn watches(loaded: &Loaded, path: &Path) -> bool {
    loaded.files.iter().any(|file| file == path)
}
