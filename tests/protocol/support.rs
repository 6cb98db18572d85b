//! Certificates and configurations for the tests.

use std::sync::Arc;

use tidegate::crypto::signature::SigningKey;
use tidegate::dtls::{Credentials, ServerConfig};

/// Some time in 2026.
pub(crate) const UNIX_MS: u64 = 1_790_000_000_000;

/// A self-signed certificate with its key, by the algorithm of its key.
pub(crate) fn credentials(algorithm: &'static rcgen::SignatureAlgorithm) -> Arc<Credentials> {
    certificate(algorithm, (2020, 2100))
}

/// The same with the years between which it is valid.
pub(crate) fn certificate(
    algorithm: &'static rcgen::SignatureAlgorithm,
    years: (i32, i32),
) -> Arc<Credentials> {
    certificate_for(algorithm, years, vec!["localhost".to_owned()])
}

/// A P-256 certificate of more than 2000 bytes, as it has many names.
pub(crate) fn long_certificate() -> Arc<Credentials> {
    let names = (0..100)
        .map(|number| format!("host-{number}.example.org"))
        .collect();
    certificate_for(&rcgen::PKCS_ECDSA_P256_SHA256, (2020, 2100), names)
}

fn certificate_for(
    algorithm: &'static rcgen::SignatureAlgorithm,
    years: (i32, i32),
    names: Vec<String>,
) -> Arc<Credentials> {
    let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    let mut parameters = rcgen::CertificateParams::new(names).unwrap();
    parameters.not_before = rcgen::date_time_ymd(years.0, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(years.1, 1, 1);
    let leaf = parameters.self_signed(&key).unwrap().der().to_vec();
    let key = SigningKey::from_der(&key.serialize_der()).unwrap();
    Arc::new(Credentials {
        chain: vec![leaf],
        key,
    })
}

/// A P-256 certificate behind which the chain is padded so that the Certificate message has a body
/// of `length` bytes.
pub(crate) fn padded_credentials(length: usize) -> Arc<Credentials> {
    let credentials = credentials(&rcgen::PKCS_ECDSA_P256_SHA256);
    let mut credentials = Arc::into_inner(credentials).unwrap();
    let padding = length - 3 - 3 - credentials.chain[0].len() - 3;
    credentials.chain.push(vec![0x30; padding]);
    Arc::new(credentials)
}

/// A server with a P-256 certificate and a first retransmission after a second.
pub(crate) fn server_config() -> ServerConfig {
    let mut config = ServerConfig::new(credentials(&rcgen::PKCS_ECDSA_P256_SHA256));
    config.retransmission_timeout = std::time::Duration::from_secs(1);
    config
}

/// A certificate of each kind of key.
pub(crate) struct Keys {
    pub(crate) p256: Arc<Credentials>,
    pub(crate) p384: Arc<Credentials>,
    pub(crate) rsa: Arc<Credentials>,
}

impl Keys {
    pub(crate) fn generate() -> Self {
        Self {
            p256: credentials(&rcgen::PKCS_ECDSA_P256_SHA256),
            p384: credentials(&rcgen::PKCS_ECDSA_P384_SHA384),
            rsa: credentials(&rcgen::PKCS_RSA_SHA256),
        }
    }
}
