//! The client's part of a key exchange, with pre-shared keys (RFC 4279, RFC 5489) and without.

use zeroize::Zeroizing;

use super::expect::{Answer, ExpectServerHelloDone, Parameters};
use crate::crypto::key_exchange::{EphemeralKey, NamedGroup};
use crate::crypto::suite::{Authentication, CipherSuite};
use crate::dtls::client::ClientConfig;
use crate::dtls::error::Error;
use crate::dtls::message::{
    ClientKeyExchange, HandshakeMessage, PskClientKeyExchange, PskServerKeyExchange,
};

/// ServerKeyExchange is awaited, or without ECDHE perhaps ServerHelloDone at once.
#[derive(Debug)]
pub(super) struct ExpectPskKeyExchange {
    parameters: Parameters,
}

impl ExpectPskKeyExchange {
    pub(super) const fn new(parameters: Parameters) -> Self {
        Self { parameters }
    }

    pub(super) fn handle(
        self,
        message: &HandshakeMessage<'_>,
        config: &ClientConfig,
    ) -> Result<ExpectServerHelloDone, Error> {
        let Self { mut parameters } = self;
        let exchange = PskServerKeyExchange::decode(message.body, parameters.suite.is_ephemeral())?;
        let server_key = match exchange.parameters {
            Some(ecdh) if config.groups.contains(&ecdh.group) => {
                Some((ecdh.group, ecdh.public_key.to_vec()))
            }
            Some(_) => return Err(Error::IllegalParameter),
            None => None,
        };
        parameters.transcript.add(message);
        Ok(ExpectServerHelloDone {
            parameters,
            server_key,
            answer: Answer::NotAsked,
        })
    }

    /// The server has no hint, and without ECDHE nothing else to say.
    pub(super) fn without_message(self) -> Result<ExpectServerHelloDone, Error> {
        let Self { parameters } = self;
        if parameters.suite.is_ephemeral() {
            return Err(Error::UnexpectedMessage);
        }
        Ok(ExpectServerHelloDone {
            parameters,
            server_key: None,
            answer: Answer::NotAsked,
        })
    }
}

/// The client's half of the key exchange, and what both halves give.
pub(super) struct Exchange {
    /// With ECDHE.
    public_key: Option<Vec<u8>>,
    pub(super) premaster: Zeroizing<Vec<u8>>,
}

impl Exchange {
    /// `server_key` is there with ECDHE.
    pub(super) fn make(
        suite: CipherSuite,
        server_key: Option<&(NamedGroup, Vec<u8>)>,
        config: &ClientConfig,
    ) -> Result<Self, Error> {
        let (mut public_key, mut shared) = (None, None);
        if let Some((group, server_key)) = server_key {
            let key = EphemeralKey::generate(*group)?;
            public_key = Some(key.public_key().to_vec());
            shared = Some(key.agree(server_key).map_err(|_| Error::IllegalParameter)?);
        }
        let premaster = match (suite.authentication(), &config.pre_shared_key) {
            (Authentication::PreSharedKey, Some(own)) => own.key.premaster(shared.as_ref()),
            // Not offered without a key.
            (Authentication::PreSharedKey, None) => return Err(Error::Internal),
            _ => Zeroizing::new(shared.ok_or(Error::Internal)?.as_ref().to_vec()),
        };
        Ok(Self {
            public_key,
            premaster,
        })
    }

    /// Appends the body of ClientKeyExchange.
    pub(super) fn emit(&self, suite: CipherSuite, config: &ClientConfig, out: &mut Vec<u8>) {
        let public_key = self.public_key.as_deref();
        match &config.pre_shared_key {
            Some(own) if suite.authentication() == Authentication::PreSharedKey => {
                PskClientKeyExchange {
                    identity: &own.identity,
                    public_key,
                }
                .emit(out);
            }
            _ => ClientKeyExchange {
                public_key: public_key.unwrap_or_default(),
            }
            .emit(out),
        }
    }
}
