//! The states of a client's handshake and their transitions.

use std::sync::Arc;

use super::super::flight::Flight;
use super::super::key_schedule::{MasterSecret, Randoms, Side};
use super::super::transcript::Transcript;
use super::Core;
use super::pre_shared_key::{Exchange, ExpectPskKeyExchange};
use super::resume::{ExpectResumedFinished, read_ticket, resumed, session_of};
use crate::crypto::CryptoError;
use crate::crypto::certificate::LeafInfo;
use crate::crypto::key_exchange::NamedGroup;
use crate::crypto::signature::{KeyType, SignatureScheme, VerifyingKey};
use crate::crypto::suite::{Authentication, CipherSuite};
use crate::dtls::client::{ClientConfig, Context, ServerVerification};
use crate::dtls::config::Credentials;
use crate::dtls::connection::{Connection, Established};
use crate::dtls::connection_id::ConnectionIds;
use crate::dtls::cookie::equal;
use crate::dtls::error::Error;
use crate::dtls::identity::PeerIdentity;
use crate::dtls::message::{
    Certificate, CertificateRequest, CertificateVerify, HandshakeMessage, HandshakeType,
    HelloVerifyRequest, MaxFragmentLength, ReceivedServerHello, ServerKeyExchange, VERIFY_DATA_LEN,
    emit_certificate, emit_client_hello,
};
use crate::dtls::record::DTLS_1_2;
use crate::dtls::record::limit::RecordLimits;
use crate::dtls::record::protection::Protection;
use crate::time::Instant;

/// HelloVerifyRequests that are followed: the first, and one more after a change of secrets each.
const HELLO_VERIFY_REQUESTS_MAX: u8 = 3;

/// The message that is awaited, with all that is known by then and nothing else.
#[derive(Debug)]
pub(super) enum Expect {
    ServerHello(ExpectServerHello),
    Certificate(ExpectCertificate),
    ServerKeyExchange(ExpectServerKeyExchange),
    PskKeyExchange(ExpectPskKeyExchange),
    CertificateRequest(ExpectCertificateRequest),
    ServerHelloDone(ExpectServerHelloDone),
    Finished(ExpectFinished),
    ResumedFinished(ExpectResumedFinished),
    /// The handshake is over.
    Nothing,
}

/// Where a message led.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "moved a few times per handshake, never stored"
)]
pub(super) enum Next {
    Expect(Expect),
    Established(Box<Connection>),
}

/// What both hellos settled, and the transcript since.
#[derive(Debug)]
pub(super) struct Parameters {
    pub(super) suite: CipherSuite,
    extended_master_secret: bool,
    pub(super) max_fragment_length: Option<MaxFragmentLength>,
    pub(super) record_limits: RecordLimits,
    pub(super) randoms: Randoms,
    pub(super) transcript: Transcript,
    /// The server's name for the session; empty when it has none.
    session_id: Vec<u8>,
    pub(super) ticket: Ticket,
    pub(super) connection_ids: ConnectionIds,
    pub(super) return_routability_check: bool,
}

/// A NewSessionTicket comes if and only if the ServerHello announced it (RFC 5077 section 3.3).
#[derive(Debug, Default)]
pub(super) enum Ticket {
    #[default]
    NotAnnounced,
    Announced,
    /// Empty, or there.
    Received(Option<Vec<u8>>),
}

impl Ticket {
    pub(super) fn take(&mut self, message: &HandshakeMessage<'_>) -> Result<(), Error> {
        match self {
            Self::Announced => *self = Self::Received(read_ticket(message.body)?),
            Self::NotAnnounced | Self::Received(_) => return Err(Error::UnexpectedMessage),
        }
        Ok(())
    }

    /// The server has finished: nothing may be missing.
    pub(super) fn finish(self) -> Result<Option<Vec<u8>>, Error> {
        match self {
            Self::NotAnnounced => Ok(None),
            Self::Announced => Err(Error::UnexpectedMessage),
            Self::Received(ticket) => Ok(ticket),
        }
    }
}

#[derive(Debug)]
pub(super) struct ExpectServerHello {
    /// The last ClientHello with its header, for the transcript.
    hello: Vec<u8>,
    hello_verify_requests: u8,
}

#[derive(Debug)]
pub(super) struct ExpectCertificate {
    parameters: Parameters,
}

#[derive(Debug)]
pub(super) struct ExpectServerKeyExchange {
    parameters: Parameters,
    server_key: VerifyingKey,
}

#[derive(Debug)]
pub(super) struct ExpectCertificateRequest {
    parameters: Parameters,
    group: NamedGroup,
    server_public_key: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct ExpectServerHelloDone {
    pub(super) parameters: Parameters,
    /// The server's half of an ECDHE exchange, if there is one.
    pub(super) server_key: Option<(NamedGroup, Vec<u8>)>,
    pub(super) answer: Answer,
}

/// What the client says to a CertificateRequest.
#[derive(Debug)]
pub(super) enum Answer {
    /// There was none.
    NotAsked,
    /// No certificate that would do.
    Empty,
    Certificate(Arc<Credentials>, SignatureScheme),
}

#[derive(Debug)]
pub(super) struct ExpectFinished {
    parameters: Parameters,
    group: Option<NamedGroup>,
    master_secret: MasterSecret,
    pub(super) protection: Protection,
}

impl Expect {
    /// Takes the next message in order, by value.
    pub(super) fn handle(
        self,
        message: &HandshakeMessage<'_>,
        core: &mut Core,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Result<Next, Error> {
        let next = match (self, message.message_type) {
            (Self::ServerHello(expect), HandshakeType::HelloVerifyRequest) => {
                Self::ServerHello(expect.handle_verify_request(message, core, now, cx)?)
            }
            (Self::ServerHello(expect), HandshakeType::ServerHello) => {
                expect.handle(message, core)?
            }
            (Self::Certificate(expect), HandshakeType::Certificate) => {
                Self::ServerKeyExchange(expect.handle(message, &core.config)?)
            }
            (Self::ServerKeyExchange(expect), HandshakeType::ServerKeyExchange) => {
                Self::CertificateRequest(expect.handle(message, &core.config)?)
            }
            (Self::PskKeyExchange(expect), HandshakeType::ServerKeyExchange) => {
                Self::ServerHelloDone(expect.handle(message, &core.config)?)
            }
            (Self::PskKeyExchange(expect), HandshakeType::ServerHelloDone) => {
                Self::Finished(expect.without_message()?.handle(message, core, now, cx)?)
            }
            (Self::CertificateRequest(expect), HandshakeType::CertificateRequest) => {
                Self::ServerHelloDone(expect.handle(message, &core.config)?)
            }
            (Self::CertificateRequest(expect), HandshakeType::ServerHelloDone) => {
                Self::Finished(expect.not_asked().handle(message, core, now, cx)?)
            }
            (Self::ServerHelloDone(expect), HandshakeType::ServerHelloDone) => {
                Self::Finished(expect.handle(message, core, now, cx)?)
            }
            (Self::Finished(expect), HandshakeType::NewSessionTicket) => {
                Self::Finished(expect.handle_ticket(message)?)
            }
            (Self::Finished(expect), HandshakeType::Finished) => {
                return Ok(Next::Established(Box::new(expect.handle(message, core)?)));
            }
            (Self::ResumedFinished(expect), HandshakeType::NewSessionTicket) => {
                Self::ResumedFinished(expect.handle_ticket(message)?)
            }
            (Self::ResumedFinished(expect), HandshakeType::Finished) => {
                let connection = expect.handle(message, core, now, cx)?;
                return Ok(Next::Established(Box::new(connection)));
            }
            _ => return Err(Error::UnexpectedMessage),
        };
        Ok(Next::Expect(next))
    }

    /// Whether a message can be taken, as far as the keys depend on it: an alert behind our
    /// ChangeCipherSpec is sent under them, so they must not be spent on a message that is refused.
    pub(super) fn check(&self, message: &HandshakeMessage<'_>) -> Result<(), Error> {
        let Self::Finished(expect) = self else {
            return Ok(());
        };
        match message.message_type {
            HandshakeType::NewSessionTicket => read_ticket(message.body).map(drop),
            HandshakeType::Finished => expect.check(message),
            _ => Err(Error::UnexpectedMessage),
        }
    }

    /// The keys under which Finished is awaited, once there are any.
    pub(super) const fn protection(&mut self) -> Option<&mut Protection> {
        match self {
            Self::Finished(expect) => Some(&mut expect.protection),
            Self::ResumedFinished(expect) => Some(&mut expect.protection),
            _ => None,
        }
    }
}

impl ExpectServerHello {
    /// Sends flight 1 or 3.
    pub(super) fn send_hello(
        core: &mut Core,
        now: Instant,
        cookie: &[u8],
        hello_verify_requests: u8,
        cx: &mut Context<'_>,
    ) -> Result<Self, Error> {
        let mut flight = Flight::default();
        let message_seq = core.take_message_seq();
        let Core { config, random, .. } = &*core;
        let hello = flight.push(HandshakeType::ClientHello, message_seq, |out| {
            emit_client_hello(out, config, random, cookie);
        });
        let this = Self {
            hello: hello.to_vec(),
            hello_verify_requests,
        };
        core.send_flight(flight, now, None, cx)?;
        Ok(this)
    }

    fn handle_verify_request(
        self,
        message: &HandshakeMessage<'_>,
        core: &mut Core,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Result<Self, Error> {
        if self.hello_verify_requests == HELLO_VERIFY_REQUESTS_MAX {
            return Err(Error::UnexpectedMessage);
        }
        let request = HelloVerifyRequest::decode(message.body)?;
        Self::send_hello(
            core,
            now,
            request.cookie,
            self.hello_verify_requests + 1,
            cx,
        )
    }

    fn handle(self, message: &HandshakeMessage<'_>, core: &mut Core) -> Result<Expect, Error> {
        let hello = ReceivedServerHello::decode(message.body)?;
        if hello.server_version != DTLS_1_2 {
            return Err(Error::NoCommonVersion);
        }
        core.plain.set_version(DTLS_1_2);
        let config = &core.config;
        let suite = CipherSuite::from_id(hello.cipher_suite)
            .filter(|suite| config.offers(*suite))
            .ok_or(Error::IllegalParameter)?;
        // RFC 5246 section 7.4.1.4: only what was offered may be answered.
        let extensions = hello.extensions;
        let not_offered = extensions.unknown
            || extensions.supported_groups.is_some()
            || (extensions.server_name.is_some() && config.server_name.is_none())
            || (extensions.record_size_limit.is_some() && config.record_size_limit.is_none())
            || (extensions.session_ticket.is_some() && !config.offers_session_ticket())
            || (extensions.connection_id.is_some() && config.connection_id.is_none())
            // RFC 9853 section 3: not without connection_id.
            || (extensions.return_routability_check
                && (!config.return_routability_check || extensions.connection_id.is_none()))
            || extensions.signature_algorithms.is_some()
            || (extensions.extended_master_secret && !config.extended_master_secret)
            || (extensions.max_fragment_length.is_some()
                && extensions.max_fragment_length != config.max_fragment_length);
        if not_offered {
            return Err(Error::UnsupportedExtension);
        }
        // RFC 8449 section 5: a server must not answer both.
        if extensions.record_size_limit.is_some() && extensions.max_fragment_length.is_some() {
            return Err(Error::IllegalParameter);
        }
        // RFC 5746 section 3.4: empty in a first handshake.
        if extensions
            .renegotiation_info
            .is_some_and(|info| !info.is_empty())
        {
            return Err(Error::NoCommonParameters);
        }
        let ticket = match extensions.session_ticket {
            None => Ticket::NotAnnounced,
            Some([]) => Ticket::Announced,
            Some(_) => return Err(Error::Malformed),
        };
        let session = resumed(&hello, suite, config)?;
        let mut transcript = Transcript::new(suite.prf_hash());
        transcript.add_bytes(&self.hello);
        transcript.add(message);
        let parameters = Parameters {
            suite,
            extended_master_secret: extensions.extended_master_secret,
            max_fragment_length: extensions.max_fragment_length,
            record_limits: RecordLimits::negotiated(
                config.record_size_limit.unwrap_or_default(),
                extensions.record_size_limit,
            ),
            randoms: Randoms {
                client: core.random,
                server: hello.random,
            },
            transcript,
            session_id: hello.session_id.to_vec(),
            ticket,
            connection_ids: match (&config.connection_id, extensions.connection_id) {
                (Some(local), Some(peer)) => ConnectionIds::new(local, peer),
                _ => ConnectionIds::default(),
            },
            return_routability_check: extensions.return_routability_check,
        };
        Ok(match session {
            Some(session) => {
                Expect::ResumedFinished(ExpectResumedFinished::new(parameters, session))
            }
            None if suite.authentication() == Authentication::PreSharedKey => {
                Expect::PskKeyExchange(ExpectPskKeyExchange::new(parameters))
            }
            None => Expect::Certificate(ExpectCertificate { parameters }),
        })
    }
}

impl ExpectCertificate {
    fn handle(
        self,
        message: &HandshakeMessage<'_>,
        config: &ClientConfig,
    ) -> Result<ExpectServerKeyExchange, Error> {
        let Self { mut parameters } = self;
        let leaf = Certificate::decode(message.body)?
            .leaf
            .ok_or(Error::BadCertificate)?;
        if let ServerVerification::Certificates(trusted) = &config.verification
            && !trusted.iter().any(|trusted| trusted == leaf)
        {
            return Err(Error::UntrustedCertificate);
        }
        let parsed = LeafInfo::parse_with_key(leaf);
        let (info, server_key) = parsed.map_err(|_| Error::BadCertificate)?;
        let authentication = match info.key_type {
            KeyType::EcdsaP256 | KeyType::EcdsaP384 => Authentication::Ecdsa,
            KeyType::Rsa => Authentication::Rsa,
        };
        if authentication != parameters.suite.authentication() {
            return Err(Error::UnsupportedCertificate);
        }
        parameters.transcript.add(message);
        Ok(ExpectServerKeyExchange {
            parameters,
            server_key,
        })
    }
}

impl ExpectServerKeyExchange {
    fn handle(
        self,
        message: &HandshakeMessage<'_>,
        config: &ClientConfig,
    ) -> Result<ExpectCertificateRequest, Error> {
        let Self {
            mut parameters,
            server_key,
        } = self;
        let ServerKeyExchange {
            parameters: ecdh,
            scheme,
            signature,
        } = ServerKeyExchange::decode(message.body)?;
        if !config.groups.contains(&ecdh.group) {
            return Err(Error::IllegalParameter);
        }
        let scheme = SignatureScheme::from_id(scheme).ok_or(Error::IllegalParameter)?;
        let Randoms { client, server } = &parameters.randoms;
        if config.verification.includes(client) {
            let signed = ecdh.signed_bytes(client, server);
            let verified = server_key.verify(scheme, &signed, signature);
            verified.map_err(|error| match error {
                CryptoError::Unsupported => Error::IllegalParameter,
                _ => Error::BadSignature,
            })?;
        }
        parameters.transcript.add(message);
        let server_public_key = ecdh.public_key.to_vec();
        Ok(ExpectCertificateRequest {
            parameters,
            group: ecdh.group,
            server_public_key,
        })
    }
}

impl ExpectCertificateRequest {
    fn handle(
        mut self,
        message: &HandshakeMessage<'_>,
        config: &ClientConfig,
    ) -> Result<ExpectServerHelloDone, Error> {
        let request = CertificateRequest::decode(message.body)?;
        self.parameters.transcript.add(message);
        let scheme = |credentials: &Credentials| {
            let mut schemes = credentials.key.schemes().iter().copied();
            schemes.find(|scheme| request.signature_algorithms.contains(scheme.id()))
        };
        let answer = config
            .credentials
            .as_ref()
            .and_then(|credentials| Some((Arc::clone(credentials), scheme(credentials)?)))
            .map_or(Answer::Empty, |(credentials, scheme)| {
                Answer::Certificate(credentials, scheme)
            });
        Ok(ExpectServerHelloDone {
            answer,
            ..self.not_asked()
        })
    }

    fn not_asked(self) -> ExpectServerHelloDone {
        let Self {
            parameters,
            group,
            server_public_key,
        } = self;
        ExpectServerHelloDone {
            parameters,
            server_key: Some((group, server_public_key)),
            answer: Answer::NotAsked,
        }
    }
}

impl ExpectServerHelloDone {
    pub(super) fn handle(
        self,
        message: &HandshakeMessage<'_>,
        core: &mut Core,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Result<ExpectFinished, Error> {
        let Self {
            mut parameters,
            server_key,
            answer,
        } = self;
        if !message.body.is_empty() {
            return Err(Error::Malformed);
        }
        parameters.transcript.add(message);
        let config = Arc::clone(&core.config);
        let exchange = Exchange::make(parameters.suite, server_key.as_ref(), &config)?;
        let mut flight = Flight::default();
        flight.limit(parameters.max_fragment_length);
        let Parameters {
            suite,
            randoms,
            transcript,
            extended_master_secret,
            connection_ids,
            ..
        } = &mut parameters;
        let mut push = |transcript: &mut Transcript, message_type, emit: &dyn Fn(&mut Vec<u8>)| {
            let bytes = flight.push(message_type, core.take_message_seq(), emit);
            transcript.add_bytes(bytes);
        };
        let chain: Option<&[Vec<u8>]> = match &answer {
            Answer::NotAsked => None,
            Answer::Empty => Some(&[]),
            Answer::Certificate(credentials, _) => Some(&credentials.chain),
        };
        if let Some(chain) = chain {
            push(transcript, HandshakeType::Certificate, &|out| {
                emit_certificate(out, chain)
            });
        }
        push(transcript, HandshakeType::ClientKeyExchange, &|out| {
            exchange.emit(*suite, &config, out);
        });
        let master_secret = if *extended_master_secret {
            MasterSecret::extended(*suite, &exchange.premaster, &transcript.digest())
        } else {
            MasterSecret::plain(*suite, &exchange.premaster, randoms)
        };
        if let Answer::Certificate(credentials, scheme) = &answer {
            let signature = credentials.key.sign(*scheme, transcript.bytes())?;
            push(transcript, HandshakeType::CertificateVerify, &|out| {
                CertificateVerify {
                    scheme: scheme.id(),
                    signature: &signature,
                }
                .emit(out);
            });
        }
        let mut protection = master_secret
            .prepare()
            .protection(Side::Client, randoms)
            .with_connection_ids(connection_ids.clone());
        let verify_data = master_secret
            .prepare()
            .verify_data(Side::Client, &transcript.digest());
        flight.push_change_cipher_spec();
        let finished = flight.push(HandshakeType::Finished, core.take_message_seq(), |out| {
            out.extend_from_slice(&verify_data);
        });
        transcript.add_bytes(finished);
        core.send_flight(flight, now, Some(&mut protection), cx)?;
        Ok(ExpectFinished {
            parameters,
            group: server_key.map(|(group, _)| group),
            master_secret,
            protection,
        })
    }
}

impl ExpectFinished {
    fn handle_ticket(mut self, message: &HandshakeMessage<'_>) -> Result<Self, Error> {
        self.parameters.ticket.take(message)?;
        self.parameters.transcript.add(message);
        Ok(self)
    }

    fn check(&self, message: &HandshakeMessage<'_>) -> Result<(), Error> {
        let hash = self.parameters.transcript.digest();
        let expected = self
            .master_secret
            .prepare()
            .verify_data(Side::Server, &hash);
        let body: &[u8; VERIFY_DATA_LEN] = message.body.try_into().map_err(|_| Error::Malformed)?;
        if equal(body, &expected) {
            Ok(())
        } else {
            Err(Error::BadFinished)
        }
    }

    fn handle(self, message: &HandshakeMessage<'_>, core: &mut Core) -> Result<Connection, Error> {
        self.check(message)?;
        let Self {
            parameters,
            group,
            master_secret,
            protection,
        } = self;
        let ticket = parameters.ticket.finish()?;
        if core.config.keep_session {
            core.session = session_of(
                parameters.session_id,
                ticket,
                master_secret,
                group,
                parameters.extended_master_secret,
                parameters.max_fragment_length,
            );
        }
        let established = Established {
            identity: PeerIdentity::Anonymous,
            group,
            extended_master_secret: parameters.extended_master_secret,
            max_fragment_length: parameters.max_fragment_length,
            hello_tag: [0; 8],
            session_tag: 0,
            resumed: None,
            return_routability_check: parameters.return_routability_check,
        };
        Ok(Connection::new(protection, established, None).limited(parameters.record_limits))
    }
}
