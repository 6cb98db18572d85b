//! The server's handshake with a pre-shared key (RFC 4279, with ECDHE RFC 5489 and RFC 8442).
//!
//! ```text
//! ClientHello (cookie valid)  ExpectClientHello -------> flight 4: ServerHello, ServerKeyExchange
//!                                    v                   (with ECDHE only), ServerHelloDone
//! ClientKeyExchange           ExpectIdentity ----------> CredentialLookup, to the authenticator
//!                                    v
//! (the answer)                AwaitCredential   messages wait in the reassembly, Finished among the
//!                                    v          early records
//! Finished (epoch 1)          ExpectFinished ----------> flight 6: CCS, Finished; Connection
//! ```
//!
//! Nothing is sent between ClientKeyExchange and the verified Finished, and what is done there does
//! not depend on whether the identity is anybody's: a random key takes the place of the one that
//! does not exist, and the handshake fails as with a wrong key, at the same point and with the same
//! alert (RFC 4279 section 2 allows this, section 7.2 says why).
//!
//! A second look-up takes place only when the first was refused, not answered, and the client
//! repeats its ClientKeyExchange. What is answered has the handshake's name on it, so that an old
//! answer cannot bring a key that has been replaced since.

use super::expect::{Expect, ExpectFinished, Parameters};
use crate::crypto::key_exchange::{EphemeralKey, SharedSecret};
use crate::crypto::pre_shared_key::{PreSharedKey, psk_identity_hash};
use crate::dtls::config::Context;
use crate::dtls::credential_lookup::CredentialLookup;
use crate::dtls::error::Error;
use crate::dtls::identity::PeerIdentity;
use crate::dtls::message::{HandshakeMessage, PskClientKeyExchange};

/// Flight 4 is out; the client has to say who it is.
#[derive(Debug)]
pub(super) struct ExpectIdentity {
    pub(super) parameters: Parameters,
    /// With ECDHE.
    key: Option<EphemeralKey>,
}

/// The client has said who it is; its key is not known yet.
#[derive(Debug)]
pub(super) struct AwaitCredential {
    pub(super) parameters: Parameters,
    /// With ECDHE.
    shared: Option<SharedSecret>,
    lookup: CredentialLookup,
    progress: LookupProgress,
    /// The key of an identity that is nobody's. Made for every handshake, so that it costs all the
    /// same.
    decoy: PreSharedKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LookupProgress {
    Wanted,
    Asked,
    Refused,
}

impl ExpectIdentity {
    pub(super) const fn new(parameters: Parameters, key: Option<EphemeralKey>) -> Self {
        Self { parameters, key }
    }

    pub(super) fn handle(
        self,
        message: &HandshakeMessage<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Expect, Error> {
        let Self {
            mut parameters,
            key,
        } = self;
        let exchange = PskClientKeyExchange::decode(message.body, key.is_some())?;
        let shared = match (key, exchange.public_key) {
            // RFC 8422 section 5.10: an invalid point ends the handshake.
            (Some(key), Some(public_key)) => {
                Some(key.agree(public_key).map_err(|_| Error::IllegalParameter)?)
            }
            _ => None,
        };
        parameters.transcript.add(message);
        let [a, b, c, d, e, f, g, h, ..] = parameters.randoms.server;
        Ok(Expect::Credential(AwaitCredential {
            lookup: CredentialLookup {
                handshake: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
                identity: psk_identity_hash(exchange.identity),
            },
            parameters,
            shared,
            progress: LookupProgress::Wanted,
            decoy: PreSharedKey::random(cx.random),
        }))
    }
}

impl AwaitCredential {
    /// What is to be asked, once.
    pub(super) fn poll_lookup(&mut self) -> Option<CredentialLookup> {
        if self.progress != LookupProgress::Wanted {
            return None;
        }
        self.progress = LookupProgress::Asked;
        Some(self.lookup)
    }

    pub(super) fn on_refused(&mut self, lookup: &CredentialLookup) {
        if self.is_answered_by(lookup) && self.progress == LookupProgress::Asked {
            self.progress = LookupProgress::Refused;
        }
    }

    /// The client repeated its ClientKeyExchange.
    pub(super) fn on_repetition(&mut self) {
        if self.progress == LookupProgress::Refused {
            self.progress = LookupProgress::Wanted;
        }
    }

    pub(super) fn is_answered_by(&self, lookup: &CredentialLookup) -> bool {
        self.lookup == *lookup
    }

    /// Goes on with the key of the identity, if there is one.
    pub(super) fn handle(self, key: Option<&PreSharedKey>) -> ExpectFinished {
        let Self {
            parameters,
            shared,
            lookup,
            decoy,
            ..
        } = self;
        let premaster = key.unwrap_or(&decoy).premaster(shared.as_ref());
        let master_secret = parameters.master_secret(&premaster);
        let identity = PeerIdentity::PreSharedKey(lookup.identity);
        ExpectFinished::new(parameters, master_secret, identity, None)
    }
}
