//! The client, for the load generator and the tests.

use std::sync::Arc;

use super::config::Credentials;
use super::connection::SealError;
use super::error::Error;
use super::received::Received;
use crate::crypto::key_exchange::NamedGroup;
use crate::crypto::suite::CipherSuite;
use crate::drop_reason::DropReason;
use crate::random::Random;
use crate::time::{Duration, Instant, Now};
use crate::wire::DatagramSink;

/// How the server's certificate is judged.
#[derive(Clone, Debug)]
pub enum ServerVerification {
    /// Any certificate whose key the server proves. For load and tests only.
    None,
    /// A leaf that equals one of these, in DER.
    Certificates(Vec<Vec<u8>>),
}

/// Settings of a client.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The client's certificate; without one the client answers a request by an empty one.
    pub credentials: Option<Arc<Credentials>>,
    /// Suites to offer, best first.
    pub cipher_suites: Vec<CipherSuite>,
    /// Groups to offer, best first.
    pub groups: Vec<NamedGroup>,
    /// How the server is judged.
    pub verification: ServerVerification,
    /// Offer the extended master secret (RFC 7627).
    pub extended_master_secret: bool,
    /// First retransmission of a flight; it doubles up to 60 s, four times at most.
    pub retransmission_timeout: Duration,
    /// Longest datagram of a handshake in bytes of UDP payload; at least 64.
    pub max_transmission_unit: usize,
    /// Time from the first ClientHello to Finished.
    pub handshake_timeout: Duration,
}

impl Default for ClientConfig {
    /// Every suite and group, no certificate, any server, 1 s to the first retransmission.
    fn default() -> Self {
        Self {
            credentials: None,
            cipher_suites: CipherSuite::ALL.to_vec(),
            groups: NamedGroup::ALL.to_vec(),
            verification: ServerVerification::None,
            extended_master_secret: true,
            retransmission_timeout: Duration::from_secs(1),
            max_transmission_unit: 1200,
            handshake_timeout: Duration::from_secs(30),
        }
    }
}

/// What the caller lends to each step of a client.
pub struct Context<'a> {
    /// Source of client randoms.
    pub random: &'a mut dyn Random,
    /// Takes datagrams for the server.
    pub out: &'a mut dyn DatagramSink,
    /// Counts what is discarded.
    pub drops: &'a mut dyn FnMut(DropReason),
}

/// One client's connection to a server.
#[derive(Debug)]
pub struct ClientConnection {}

impl ClientConnection {
    /// Starts a handshake: the first ClientHello goes out.
    pub fn new(_now: Now, _config: Arc<ClientConfig>, _cx: &mut Context<'_>) -> Self {
        Self {}
    }

    /// Takes one datagram of the server and decrypts its records in place.
    pub fn handle_datagram(
        &mut self,
        _now: Now,
        _datagram: &mut [u8],
        _cx: &mut Context<'_>,
    ) -> Received {
        Received::default()
    }

    /// Does what is due; `Err` when the handshake failed.
    ///
    /// # Errors
    ///
    /// Why the handshake failed, once.
    pub fn handle_timeout(&mut self, _now: Now, _cx: &mut Context<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        None
    }

    /// Whether application data can be sent.
    pub fn is_established(&self) -> bool {
        false
    }

    /// The suite that the server chose, once established.
    pub fn suite(&self) -> Option<CipherSuite> {
        None
    }

    /// The group of the key exchange, once established.
    pub fn group(&self) -> Option<NamedGroup> {
        None
    }

    /// Whether the master secret is the extended one (RFC 7627), once established.
    pub fn extended_master_secret(&self) -> bool {
        false
    }

    /// Bytes before and behind the plaintext in a record; (0, 0) before it is established.
    pub fn record_overhead(&self) -> (usize, usize) {
        (0, 0)
    }

    /// Seals application data in place: `record` is `prefix | plaintext | suffix`.
    ///
    /// # Errors
    ///
    /// [`SealError`]; `record` must not be sent then.
    pub fn seal_application_data(&mut self, _record: &mut [u8]) -> Result<(), SealError> {
        Err(SealError::NotEstablished)
    }

    /// Sends close_notify and forgets everything.
    pub fn close(&mut self, _cx: &mut Context<'_>) {}
}
