//! Secrets of a TLS 1.2 handshake (RFC 5246 section 6.3, 7.4.9 and 8.1, RFC 7627 section 4).

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::crypto::hash::Digest;
use crate::crypto::prf::{PrfSecret, prf};
use crate::crypto::suite::CipherSuite;
use crate::dtls::cookie::equal;
use crate::dtls::message::VERIFY_DATA_LEN;
use crate::dtls::record::protection::{Protection, TrafficKey};

/// Both hello randoms of a handshake.
#[derive(Clone, Copy, Debug)]
pub(in crate::dtls) struct Randoms {
    pub(in crate::dtls) client: [u8; 32],
    pub(in crate::dtls) server: [u8; 32],
}

impl Randoms {
    fn concat(first: &[u8; 32], second: &[u8; 32]) -> [u8; 64] {
        let mut out = [0; 64];
        out[..32].copy_from_slice(first);
        out[32..].copy_from_slice(second);
        out
    }
}

/// Which end of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dtls) enum Side {
    Client,
    Server,
}

/// The master secret with the suite that it is for. Wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(in crate::dtls) struct MasterSecret {
    bytes: [u8; 48],
    #[zeroize(skip)]
    suite: CipherSuite,
}

impl MasterSecret {
    /// RFC 7627 section 4: from the premaster secret and the hash of the handshake up to and
    /// including ClientKeyExchange.
    pub(in crate::dtls) fn extended(
        suite: CipherSuite,
        premaster: &impl AsRef<[u8]>,
        session_hash: &Digest,
    ) -> Self {
        Self::derive(
            suite,
            premaster.as_ref(),
            b"extended master secret",
            session_hash.as_ref(),
        )
    }

    /// RFC 5246 section 8.1, for peers without RFC 7627.
    pub(in crate::dtls) fn plain(
        suite: CipherSuite,
        premaster: &impl AsRef<[u8]>,
        randoms: &Randoms,
    ) -> Self {
        let seed = Randoms::concat(&randoms.client, &randoms.server);
        Self::derive(suite, premaster.as_ref(), b"master secret", &seed)
    }

    /// That of a session that is resumed.
    pub(in crate::dtls) const fn from_bytes(suite: CipherSuite, bytes: &[u8; 48]) -> Self {
        Self {
            bytes: *bytes,
            suite,
        }
    }

    /// For a session that is kept.
    pub(in crate::dtls) const fn bytes(&self) -> &[u8; 48] {
        &self.bytes
    }

    /// The suite that it is for.
    pub(in crate::dtls) const fn suite(&self) -> CipherSuite {
        self.suite
    }

    fn derive(suite: CipherSuite, premaster: &[u8], label: &[u8], seed: &[u8]) -> Self {
        let mut bytes = [0; 48];
        prf(suite.prf_hash(), premaster, label, seed, &mut bytes);
        Self { bytes, suite }
    }

    /// Prepares it for what follows from it.
    pub(in crate::dtls) fn prepare(&self) -> KeySchedule {
        KeySchedule {
            secret: PrfSecret::new(self.suite.prf_hash(), &self.bytes),
            suite: self.suite,
        }
    }

    /// Tells the key log, if there is one: whoever reads it can read the session.
    #[cfg(feature = "keylog")]
    pub(in crate::dtls) fn log(
        &self,
        config: &crate::dtls::config::ServerConfig,
        client_random: &[u8; 32],
    ) {
        if let Some(log) = &config.key_log {
            log.log(client_random, &self.bytes);
        }
    }
}

/// A master secret, prepared for all that is derived of it. Wiped when dropped.
#[derive(Debug)]
pub(in crate::dtls) struct KeySchedule {
    secret: PrfSecret,
    suite: CipherSuite,
}

impl KeySchedule {
    /// The record state of epoch 1 for `side` (RFC 5246 section 6.3; no MAC keys with an AEAD).
    ///
    /// ```text
    /// client_write_key | server_write_key | client_write_IV | server_write_IV
    /// ```
    pub(in crate::dtls) fn protection(&self, side: Side, randoms: &Randoms) -> Protection {
        let aead = self.suite.aead();
        let (key_len, iv_len) = (aead.key_len(), aead.fixed_iv_len());
        let mut block = [0; 2 * (32 + 12)];
        let used = &mut block[..2 * (key_len + iv_len)];
        let seed = Randoms::concat(&randoms.server, &randoms.client);
        self.secret.derive(b"key expansion", &seed, used);
        let (client_key, rest) = used.split_at(key_len);
        let (server_key, rest) = rest.split_at(key_len);
        let (client_iv, server_iv) = rest.split_at(iv_len);
        let client = TrafficKey::new(aead, client_key, client_iv);
        let server = TrafficKey::new(aead, server_key, server_iv);
        block.zeroize();
        let (read, write) = match side {
            Side::Client => (&server, &client),
            Side::Server => (&client, &server),
        };
        Protection::new(self.suite, 1, read, write)
    }

    /// The body of the Finished of `side` after a handshake with this hash.
    pub(in crate::dtls) fn verify_data(
        &self,
        side: Side,
        handshake_hash: &Digest,
    ) -> [u8; VERIFY_DATA_LEN] {
        let label: &[u8] = match side {
            Side::Client => b"client finished",
            Side::Server => b"server finished",
        };
        let mut out = [0; VERIFY_DATA_LEN];
        self.secret.derive(label, handshake_hash.as_ref(), &mut out);
        out
    }
}

impl PartialEq for MasterSecret {
    fn eq(&self, other: &Self) -> bool {
        self.suite == other.suite && equal(&self.bytes, &other.bytes)
    }
}

impl Eq for MasterSecret {}

impl std::fmt::Debug for MasterSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MasterSecret({:?})", self.suite)
    }
}
