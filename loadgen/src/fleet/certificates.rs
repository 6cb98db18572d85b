//! Device certificates made on the fly: P-256, self-signed, keys in memory only.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use tidegate::crypto::signature::SigningKey;
use tidegate::dtls::Credentials;
use tidegate::time::Duration;

use super::Identity;
use crate::live::Live;
use crate::text::grouped;

/// A certificate with its key.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) pem: String,
    credentials: Credentials,
}

impl Made {
    pub(super) fn identity(self) -> Identity {
        Identity {
            credentials: Some(Arc::new(self.credentials)),
            ..Identity::default()
        }
    }
}

/// Makes a certificate for each name, in their order, on so many threads.
///
/// # Errors
///
/// When the library fails.
pub(super) fn make(names: &[String], threads: usize, live: &mut Live) -> Result<Vec<Made>, String> {
    let done = AtomicUsize::new(0);
    let part = names.len().div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        let makers: Vec<_> = names
            .chunks(part)
            .map(|names| scope.spawn(|| make_part(names, &done)))
            .collect();
        while !makers.iter().all(|maker| maker.is_finished()) {
            live.step(|| {
                let done = grouped(done.load(Relaxed) as u64);
                format!("certificates {done} of {}", grouped(names.len() as u64))
            });
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut all = Vec::with_capacity(names.len());
        for maker in makers {
            let part = maker
                .join()
                .map_err(|_| "a thread that makes certificates ended")?;
            all.extend(part?);
        }
        live.finish();
        Ok(all)
    })
}

fn make_part(names: &[String], done: &AtomicUsize) -> Result<Vec<Made>, String> {
    names
        .iter()
        .map(|name| {
            let made = make_one(name);
            done.fetch_add(1, Relaxed);
            made.map_err(|error| format!("the certificate of {name} cannot be made: {error}"))
        })
        .collect()
}

fn make_one(name: &str) -> Result<Made, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    let certificate = parameters.self_signed(&key)?;
    let signing = SigningKey::from_der(&key.serialize_der())
        .map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
    Ok(Made {
        pem: certificate.pem(),
        credentials: Credentials {
            chain: vec![certificate.der().to_vec()],
            key: signing,
        },
    })
}
