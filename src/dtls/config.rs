//! What a DTLS server is set up with, and what one step of it is lent.

use std::sync::Arc;

use super::connection_id::ConnectionIdSource;
use super::cookie::CookieJar;
use super::handshake::RETRANSMISSIONS_MAX;
use super::revocation::Revocations;
use super::session::Sessions;
use crate::crypto::chain::OfferedChains;
use crate::crypto::key_exchange::NamedGroup;
use crate::crypto::signature::SigningKey;
use crate::crypto::suite::CipherSuite;
use crate::drop_reason::DropReason;
use crate::random::Random;
use crate::time::Duration;
use crate::wire::DatagramSink;

/// A certificate chain with the private key of its leaf.
#[derive(Debug)]
pub struct Credentials {
    /// DER, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// The private key of the leaf.
    pub key: SigningKey,
}

/// Which of a server's certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pair {
    /// `ServerConfig::credentials`.
    First,
    /// `ServerConfig::second_credentials`.
    Second,
}

/// Settings of a server. A handshake keeps the configuration that it started with.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The server's identity.
    pub credentials: Arc<Credentials>,
    /// The same with another kind of key: the client gets the one that it can verify, the first
    /// when it can verify both.
    pub second_credentials: Option<Arc<Credentials>>,
    /// Suites that may be used; the client's order decides among them (TB 3.1).
    pub cipher_suites: Vec<CipherSuite>,
    /// Groups that may be used; the client's order decides among them.
    pub groups: Vec<NamedGroup>,
    /// First retransmission of a flight; it doubles up to 60 s.
    pub retransmission_timeout: Duration,
    /// Retransmissions of a flight before the handshake is given up.
    pub retransmissions_max: u8,
    /// Longest datagram of a handshake in bytes of UDP payload; at least 64.
    pub max_transmission_unit: usize,
    /// Accept client certificates before and after their validity.
    pub skip_client_validity_check: bool,
    /// Most plaintext in a record that we take, said to clients that ask (RFC 8449): 64 at least.
    pub record_size_limit: u16,
    /// Refuse clients that do not offer the extended master secret (RFC 7627 section 5.3). Off by
    /// default: devices of ThingsBoard may lack it.
    pub require_extended_master_secret: bool,
    /// Time from a valid cookie to Finished.
    pub handshake_timeout: Duration,
    /// Length of our connection ids in bytes (RFC 9146). `Some(0)`: the peer's is used, none is
    /// asked for; `None`: the extension is not answered.
    pub connection_id_length: Option<u8>,
    /// Where chains of clients go whose authority somebody wants to know.
    pub client_chains: Option<Arc<OfferedChains>>,
    /// Is told the secrets of all handshakes.
    #[cfg(feature = "keylog")]
    pub key_log: Option<Arc<dyn super::KeyLog>>,
}

impl ServerConfig {
    /// The defaults with the server identity `credentials`: every suite and group, 9 s to the
    /// first retransmission, datagrams of 1024 bytes, 30 s for a handshake, no
    /// connection ids.
    pub fn new(credentials: Arc<Credentials>) -> Self {
        Self {
            credentials,
            second_credentials: None,
            cipher_suites: CipherSuite::ALL.to_vec(),
            groups: NamedGroup::ALL.to_vec(),
            retransmission_timeout: Duration::from_secs(9),
            retransmissions_max: RETRANSMISSIONS_MAX,
            max_transmission_unit: 1024,
            skip_client_validity_check: false,
            record_size_limit: 1 << 14,
            require_extended_master_secret: false,
            handshake_timeout: Duration::from_secs(30),
            connection_id_length: None,
            client_chains: None,
            #[cfg(feature = "keylog")]
            key_log: None,
        }
    }

    /// Whether somebody wants chains of clients.
    pub(super) fn wants_chains(&self) -> bool {
        let chains = self.client_chains.as_ref();
        chains.is_some_and(|chains| chains.wants_any())
    }

    /// The pair in that place; the first when there is no second.
    pub(super) fn pair(&self, place: Pair) -> &Credentials {
        match (place, &self.second_credentials) {
            (Pair::Second, Some(second)) => second,
            _ => &self.credentials,
        }
    }
}

/// What the caller lends to each step of a server.
pub struct Context<'a> {
    /// The configuration for handshakes that start in this step.
    pub config: &'a Arc<ServerConfig>,
    /// Secrets of the cookies, common to all shards.
    pub cookies: &'a CookieJar,
    /// Sessions that can be resumed, common to all shards.
    pub sessions: &'a Sessions,
    /// Tells which credentials have ended, common to all shards.
    pub revocations: &'a dyn Revocations,
    /// Gives out connection ids.
    pub connection_ids: &'a dyn ConnectionIdSource,
    /// Whether a handshake may start in this step. When a budget is spent, a ClientHello with a
    /// valid cookie is dropped and counted; the client's own timer is the retry.
    pub admit_handshakes: bool,
    /// Source of server randoms.
    pub random: &'a mut dyn Random,
    /// Takes datagrams for the peer.
    pub out: &'a mut dyn DatagramSink,
    /// Counts what is discarded.
    pub drops: &'a mut dyn FnMut(DropReason),
}
