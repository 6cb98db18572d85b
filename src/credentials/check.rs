//! Whether chain and key fit each other and the purpose (RFC 5280 sections 4.1 and 4.2.1).

use std::time::{SystemTime, UNIX_EPOCH};

use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

use super::error::CredentialError;
use super::{Source, file};
use crate::crypto::CryptoError;
use crate::crypto::signature::VerifyingKey;

/// Checks `source` and appends what is worth a warning.
pub(super) fn check(source: &Source, warnings: &mut Vec<String>) -> Result<(), CredentialError> {
    let mut chain = Vec::new();
    for (position, der) in (1..).zip(&source.chain) {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| bad(source, position, "not X.509"))?;
        if !rest.is_empty() {
            return Err(bad(source, position, "bytes after its end"));
        }
        chain.push(certificate);
    }
    let Some(leaf) = chain.first() else {
        return Err(bad(source, 1, "missing"));
    };
    check_key(source, leaf)?;
    check_purpose(source, leaf)?;
    warn_of_validity(source, &chain, warnings);
    warn_of_order(source, &chain, warnings);
    if file::is_world_readable(&source.key_origin.path) {
        warnings.push(format!(
            "{}: holds a private key and every user of this host may read it. chmod 600 mends it",
            source.key_origin
        ));
    }
    Ok(())
}

fn bad(source: &Source, position: usize, reason: &str) -> CredentialError {
    CredentialError::BadCertificate {
        origin: source.chain_origin.clone(),
        position,
        reason: reason.to_owned(),
        remedy: "Restore the file from its source",
    }
}

fn check_key(source: &Source, leaf: &X509Certificate<'_>) -> Result<(), CredentialError> {
    let spki = leaf.tbs_certificate.subject_pki.raw;
    if let Err(error) = VerifyingKey::from_spki(spki) {
        return Err(CredentialError::BadCertificate {
            origin: source.chain_origin.clone(),
            position: 1,
            reason: error.to_string(),
            remedy: match error {
                CryptoError::Unsupported
                | CryptoError::UnsupportedCurve
                | CryptoError::ExplicitCurve => {
                    "Have a certificate issued for a P-256 key (openssl ecparam -name prime256v1 \
                     -genkey -noout)"
                }
                _ => "Restore the file from its source",
            },
        });
    }
    if source.key.public_key_matches(spki) {
        Ok(())
    } else {
        Err(CredentialError::KeyMismatch {
            certificate: source.chain_origin.clone(),
            key: source.key_origin.clone(),
        })
    }
}

/// KeyUsage and ExtendedKeyUsage, where there are any, must allow a server to sign a handshake.
fn check_purpose(source: &Source, leaf: &X509Certificate<'_>) -> Result<(), CredentialError> {
    let refuse = |reason| {
        Err(CredentialError::NotForServers {
            origin: source.chain_origin.clone(),
            reason,
        })
    };
    match leaf.key_usage() {
        Ok(Some(usage)) if !usage.value.digital_signature() => {
            return refuse("its keyUsage has no digitalSignature");
        }
        Ok(_) => {}
        Err(_) => return Err(bad(source, 1, "its keyUsage is damaged")),
    }
    match leaf.extended_key_usage() {
        Ok(Some(usage)) if !usage.value.server_auth && !usage.value.any => {
            refuse("its extendedKeyUsage has no serverAuth")
        }
        Ok(_) => Ok(()),
        Err(_) => Err(bad(source, 1, "its extendedKeyUsage is damaged")),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "credentials are loaded outside of the loops that are handed the time"
)]
fn warn_of_validity(source: &Source, chain: &[X509Certificate<'_>], warnings: &mut Vec<String>) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|now| i64::try_from(now.as_secs()).ok())
        .unwrap_or(0);
    for (position, certificate) in (1..).zip(chain) {
        let validity = certificate.validity();
        let mut warn = |what, time: ASN1Time| {
            warnings.push(format!(
                "{}: certificate {position} {what} {time}; devices that check it will refuse the \
                 handshake. Renew it, or check the clock of this host",
                source.chain_origin
            ));
        };
        if now < validity.not_before.timestamp() {
            warn("is not valid before", validity.not_before);
        } else if now > validity.not_after.timestamp() {
            warn("expired on", validity.not_after);
        }
    }
}

/// RFC 5246 section 7.4.2: each certificate must certify the one before it.
fn warn_of_order(source: &Source, chain: &[X509Certificate<'_>], warnings: &mut Vec<String>) {
    for (position, pair) in (1..).zip(chain.windows(2)) {
        if let [subject, issuer] = pair
            && subject.issuer().as_raw() != issuer.subject().as_raw()
        {
            warnings.push(format!(
                "{}: certificate {} did not issue certificate {position}; order the file leaf \
                 first, then each issuer",
                source.chain_origin,
                position + 1
            ));
        }
    }
}
