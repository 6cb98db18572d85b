//! From settings to a DTLS configuration, at the start and at every reload.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::StartError;
use crate::config::Config;
use crate::credentials;
use crate::crypto::chain::OfferedChains;
use crate::crypto::hash::{Digest, Hash, digest};
use crate::crypto::key_exchange::NamedGroup;
use crate::dtls;
use crate::shard::socket::DATAGRAM_MAX;

/// Handshake datagrams when `COAP_DTLS_MAX_TRANSMISSION_UNIT` leaves it to the interface: Ethernet's
/// MTU less the headers of IPv6 and UDP.
const INTERFACE_DATAGRAM: usize = 1500 - 40 - 8;

/// Plaintext that fits a record with the longest overhead of a suite, in the longest datagram that the
/// sockets take: 13 bytes of header, our connection id, 8 of nonce, the real type, 16 of tag.
fn record_size_limit(connection_id_length: Option<u8>) -> u16 {
    let overhead = 13 + usize::from(connection_id_length.unwrap_or(0)) + 8 + 1 + 16;
    u16::try_from(DATAGRAM_MAX - overhead).unwrap_or(u16::MAX)
}

/// Reads the credentials and makes the configuration of new handshakes.
///
/// # Errors
/// What is wrong with certificate, key or suites, and the remedy.
pub(super) fn dtls_config(
    config: &Config,
    client_chains: &Arc<OfferedChains>,
) -> Result<(Option<dtls::ServerConfig>, Option<CredentialWatch>), StartError> {
    if !config.dtls.enabled {
        return Ok((None, None));
    }
    let loaded = credentials::load(&config.dtls.credentials)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let server = dtls::ServerConfig {
        retransmission_timeout: config.dtls.retransmission_timeout,
        max_transmission_unit: config
            .dtls
            .max_transmission_unit
            .map_or(INTERFACE_DATAGRAM, usize::from),
        second_credentials: loaded.second.map(|second| {
            Arc::new(dtls::Credentials {
                chain: second.chain,
                key: second.key,
            })
        }),
        record_size_limit: record_size_limit(config.dtls.connection_id_length),
        require_extended_master_secret: config.dtls.require_extended_master_secret,
        skip_client_validity_check: config.x509.skip_validity_check,
        groups: NamedGroup::ALL.to_vec(),
        cipher_suites: config.dtls.cipher_suites.clone(),
        connection_id_length: config.dtls.connection_id_length,
        client_chains: Some(Arc::clone(client_chains)),
        #[cfg(feature = "keylog")]
        key_log: super::key_log::of_environment()?,
        ..dtls::ServerConfig::new(Arc::new(dtls::Credentials {
            chain: loaded.credentials.chain,
            key: loaded.credentials.key,
        }))
    };
    Ok((Some(server), Some(CredentialWatch::new(loaded.files))))
}

/// Tells when one of the credential files holds something else than before.
#[derive(Debug)]
pub(super) struct CredentialWatch {
    /// Content of each file by its digest, `None` while it cannot be read.
    seen: Mutex<BTreeMap<PathBuf, Option<Digest>>>,
}

impl CredentialWatch {
    fn new(files: Vec<PathBuf>) -> Self {
        let seen = files
            .into_iter()
            .map(|file| (file.clone(), content(&file)))
            .collect();
        Self {
            seen: Mutex::new(seen),
        }
    }

    /// Whether a file changed since the last call; a file that cannot be read is not a change.
    pub(super) fn changed(&self) -> bool {
        let mut seen = self
            .seen
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut changed = false;
        for (file, before) in seen.iter_mut() {
            let now = content(file);
            if now.is_some() && now != *before {
                *before = now;
                changed = true;
            }
        }
        changed
    }
}

fn content(file: &PathBuf) -> Option<Digest> {
    std::fs::read(file)
        .ok()
        .map(|bytes| digest(Hash::Sha256, &bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a device is told that it may send, it can send: with the longest connection id of ours too.
    #[test]
    fn the_longest_record_fits_a_datagram_with_any_connection_id() {
        for length in 0..=u8::MAX {
            let limit = usize::from(record_size_limit(Some(length)));
            let record = 13 + usize::from(length) + 8 + limit + 1 + 16;
            assert_eq!(record, DATAGRAM_MAX);
        }
        assert_eq!(record_size_limit(None), record_size_limit(Some(0)));
    }
}
