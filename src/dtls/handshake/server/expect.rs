//! The states of a server's handshake and their transitions.

use super::super::final_flight::{FinalFlight, FinalFlightParts};
use super::super::flight::RetransmissionTimer;
use super::super::key_schedule::{KeySchedule, MasterSecret, Randoms, Side};
use super::super::negotiation::{KeyExchange, Negotiated};
use super::super::transcript::Transcript;
use super::Core;
use super::connection_id::NegotiatedIds;
use super::pre_shared_key::{AwaitCredential, ExpectIdentity};
use super::resume::{ExpectResumedFinished, Proven, Resumability, resume};
use crate::crypto::CryptoError;
use crate::crypto::chain::OfferedChains;
use crate::crypto::key_exchange::{EphemeralKey, NamedGroup};
use crate::crypto::signature::{SignatureScheme, VerifyingKey};
use crate::crypto::suite::CipherSuite;
use crate::dtls::config::{Context, ServerConfig};
use crate::dtls::connection::{Connection, Established};
use crate::dtls::cookie::equal;
use crate::dtls::error::Error;
use crate::dtls::identity::PeerIdentity;
use crate::dtls::message::{
    Certificate, CertificateVerify, ClientHello, ClientKeyExchange, EcdhParameters,
    HandshakeMessage, HandshakeType, MaxFragmentLength, ServerHello, VERIFY_DATA_LEN,
    emit_certificate, emit_certificate_request, emit_psk_server_key_exchange,
    emit_server_key_exchange,
};
use crate::dtls::record::DTLS_1_2;
use crate::dtls::record::limit::RecordLimits;
use crate::dtls::record::protection::Protection;
use crate::time::Now;

/// The message that is awaited, with all that is known by then and nothing else.
#[derive(Debug)]
pub(super) enum Expect {
    ClientHello(ExpectClientHello),
    Certificate(ExpectCertificate),
    ClientKeyExchange(ExpectClientKeyExchange),
    /// ClientKeyExchange with pre-shared keys.
    Identity(ExpectIdentity),
    /// No message, but the answer of the authenticator.
    Credential(AwaitCredential),
    CertificateVerify(ExpectCertificateVerify),
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
    suite: CipherSuite,
    /// Of the key exchange, if there is an ephemeral one.
    group: Option<NamedGroup>,
    extended_master_secret: bool,
    max_fragment_length: Option<MaxFragmentLength>,
    record_limits: RecordLimits,
    pub(super) randoms: Randoms,
    pub(super) transcript: Transcript,
    resumability: Resumability,
    connection_ids: NegotiatedIds,
    /// Number of our next message.
    next_message_seq: u16,
}

#[derive(Debug)]
pub(super) struct ExpectClientHello;

#[derive(Debug)]
pub(super) struct ExpectCertificate {
    parameters: Parameters,
    key: EphemeralKey,
}

#[derive(Debug)]
pub(super) struct ExpectClientKeyExchange {
    parameters: Parameters,
    key: EphemeralKey,
    leaf: Option<Leaf>,
}

#[derive(Debug)]
pub(super) struct ExpectCertificateVerify {
    parameters: Parameters,
    master_secret: MasterSecret,
    leaf: Leaf,
}

#[derive(Debug)]
pub(super) struct ExpectFinished {
    parameters: Parameters,
    master_secret: MasterSecret,
    schedule: KeySchedule,
    pub(super) protection: Protection,
    /// Proven by CertificateVerify or to be by Finished itself, or nobody's.
    identity: PeerIdentity,
    /// When the client's certificate ends, if that counts.
    not_after_unix_ms: Option<u64>,
}

/// The client's leaf certificate, before its key is proven.
#[derive(Debug)]
pub(super) struct Leaf {
    key: VerifyingKey,
    fingerprint: [u8; 32],
    /// End of its validity, unless that is not looked at.
    not_after_unix_ms: Option<u64>,
    /// With those behind it, if somebody may want to know.
    chain: Vec<Vec<u8>>,
}

impl Expect {
    /// Takes the next message in order, by value: the old state is spent.
    pub(super) fn handle(
        self,
        message: &HandshakeMessage<'_>,
        core: &mut Core,
        now: Now,
        cx: &mut Context<'_>,
    ) -> Result<Next, Error> {
        match (self, message.message_type) {
            (Self::ClientHello(expect), HandshakeType::ClientHello) => {
                expect.handle(message, core, now, cx)
            }
            (Self::Certificate(expect), HandshakeType::Certificate) => {
                expect.handle(message, &core.config, now, cx)
            }
            (Self::ClientKeyExchange(expect), HandshakeType::ClientKeyExchange) => {
                expect.handle(message)
            }
            (Self::Identity(expect), HandshakeType::ClientKeyExchange) => {
                expect.handle(message, cx).map(Next::Expect)
            }
            (Self::CertificateVerify(expect), HandshakeType::CertificateVerify) => {
                expect.handle(message, &core.config)
            }
            (Self::Finished(expect), HandshakeType::Finished) => {
                expect.handle(message, core, now, cx)
            }
            (Self::ResumedFinished(expect), HandshakeType::Finished) => Ok(expect.finish(cx)),
            _ => Err(Error::UnexpectedMessage),
        }
    }

    /// Bytes of the transcript.
    pub(super) const fn memory(&self) -> usize {
        let transcript = match self {
            Self::ClientHello(_) | Self::Nothing => return 0,
            Self::Certificate(expect) => &expect.parameters.transcript,
            Self::ClientKeyExchange(expect) => &expect.parameters.transcript,
            Self::Identity(expect) => &expect.parameters.transcript,
            Self::Credential(expect) => &expect.parameters.transcript,
            Self::CertificateVerify(expect) => &expect.parameters.transcript,
            Self::Finished(expect) => &expect.parameters.transcript,
            Self::ResumedFinished(expect) => &expect.transcript,
        };
        transcript.memory()
    }

    /// The keys under which Finished is awaited, once there are any.
    pub(super) const fn protection(&mut self) -> Option<&mut Protection> {
        match self {
            Self::Finished(expect) => Some(&mut expect.protection),
            Self::ResumedFinished(expect) => Some(&mut expect.protection),
            _ => None,
        }
    }

    /// The keys, once our ChangeCipherSpec is out: all that follows is under them, alerts as well
    /// (RFC 5246 section 7.1).
    pub(super) const fn written_protection(&mut self) -> Option<&mut Protection> {
        match self {
            Self::ResumedFinished(expect) => Some(&mut expect.protection),
            _ => None,
        }
    }

    /// Whether nothing came yet of the flight that answers ours.
    pub(super) const fn awaits_flight(&self) -> bool {
        matches!(
            self,
            Self::Certificate(_) | Self::Identity(_) | Self::ResumedFinished(_)
        )
    }

    /// Whether messages have to wait, for something else than a message is awaited.
    pub(super) const fn takes_no_message(&self) -> bool {
        matches!(self, Self::Credential(_))
    }

    /// Whether the client's Finished alone is to prove it, by a key that both ends have.
    pub(super) const fn awaits_proof_of_key(&self) -> bool {
        matches!(
            self,
            Self::Finished(ExpectFinished {
                identity: PeerIdentity::PreSharedKey(_),
                ..
            })
        )
    }
}

/// Messages of a usual flight 4, and their bytes.
const FLIGHT_4_USUAL: (usize, usize) = (6, 1024);

impl ExpectClientHello {
    fn handle(
        self,
        message: &HandshakeMessage<'_>,
        core: &mut Core,
        now: Now,
        cx: &mut Context<'_>,
    ) -> Result<Next, Error> {
        let hello = ClientHello::decode(message.body)?;
        // The bytes at the door may have come in other pieces than these.
        if !core.hello.is_start_of(&hello.prefix) {
            return Err(Error::IllegalParameter);
        }
        if let Some(expect) = resume(&hello, message, core, now, cx)? {
            return Ok(Next::Expect(Expect::ResumedFinished(expect)));
        }
        let pre_shared_keys = cx.revocations.has_pre_shared_keys();
        let negotiated = Negotiated::choose(&hello, &core.config, pre_shared_keys)?;
        if let Some(name) = hello.host_name() {
            // Any name is ours: what a certificate is worth under it is the client's to judge.
            tracing::debug!(server_name = %name.escape_ascii(), "ClientHello");
        }
        let resumability = Resumability::choose(&hello, now, cx);
        let connection_ids = NegotiatedIds::choose(&hello, core, cx);
        core.plain.set_version(DTLS_1_2);
        let mut randoms = Randoms {
            client: hello.prefix.random,
            server: [0; 32],
        };
        cx.random.fill(&mut randoms.server);
        let group = negotiated.exchange.group();
        let key = group.map(EphemeralKey::generate).transpose()?;
        let hash = negotiated.suite.prf_hash();
        let mut transcript = match negotiated.exchange {
            KeyExchange::Certificate { .. } => Transcript::new(hash),
            KeyExchange::PreSharedKey { .. } => Transcript::without_signatures(hash),
        };
        transcript.add(message);
        let mut parameters = Parameters {
            suite: negotiated.suite,
            group,
            extended_master_secret: negotiated.extended_master_secret,
            max_fragment_length: negotiated.max_fragment_length,
            record_limits: RecordLimits::negotiated(
                core.config.record_size_limit,
                negotiated.record_size_limit,
            ),
            randoms,
            transcript,
            resumability,
            connection_ids,
            next_message_seq: message.message_seq,
        };
        parameters.build_flight_4(&negotiated, key.as_ref(), core)?;
        let config = &core.config;
        core.timer = Some(
            RetransmissionTimer::new(now.instant, config.retransmission_timeout)
                .retransmissions_max(config.retransmissions_max),
        );
        core.retransmit(None, cx)?;
        Ok(Next::Expect(match (negotiated.exchange, key) {
            (KeyExchange::PreSharedKey { .. }, key) => {
                Expect::Identity(ExpectIdentity::new(parameters, key))
            }
            (KeyExchange::Certificate { .. }, Some(key)) => {
                Expect::Certificate(ExpectCertificate { parameters, key })
            }
            // A certificate goes with a group always.
            (KeyExchange::Certificate { .. }, None) => return Err(Error::Internal),
        }))
    }
}

impl Parameters {
    fn build_flight_4(
        &mut self,
        negotiated: &Negotiated,
        key: Option<&EphemeralKey>,
        core: &mut Core,
    ) -> Result<(), Error> {
        let Core { config, flight, .. } = core;
        flight.reserve(FLIGHT_4_USUAL.0, FLIGHT_4_USUAL.1);
        flight.limit(negotiated.max_fragment_length);
        let ecdh = key.map(|key| EcdhParameters {
            group: key.group(),
            public_key: key.public_key(),
        });
        let server_hello = ServerHello {
            random: &self.randoms.server,
            session_id: self.resumability.session_id(),
            cipher_suite: self.suite.id(),
            server_name: negotiated.server_name,
            record_size_limit: negotiated
                .record_size_limit
                .map(|_| config.record_size_limit),
            session_ticket: self.resumability.ticket(),
            connection_id: self.connection_ids.answer(),
            return_routability_check: self.connection_ids.return_routability_check,
            secure_renegotiation: negotiated.secure_renegotiation,
            extended_master_secret: negotiated.extended_master_secret,
            point_formats: negotiated.point_formats,
            max_fragment_length: negotiated.max_fragment_length,
        };
        let randoms = self.randoms;
        let Self {
            transcript,
            next_message_seq,
            ..
        } = self;
        let mut push = |message_type, emit: &dyn Fn(&mut Vec<u8>)| {
            transcript.add_bytes(flight.push(message_type, *next_message_seq, emit));
            *next_message_seq += 1;
        };
        push(HandshakeType::ServerHello, &|out| server_hello.emit(out));
        match (negotiated.exchange, &ecdh) {
            (KeyExchange::Certificate { pair, scheme, .. }, Some(ecdh)) => {
                let credentials = config.pair(pair);
                let signed = ecdh.signed_bytes(&randoms.client, &randoms.server);
                let signature = credentials.key.sign(scheme, &signed)?;
                push(HandshakeType::Certificate, &|out| {
                    emit_certificate(out, &credentials.chain)
                });
                push(HandshakeType::ServerKeyExchange, &|out| {
                    emit_server_key_exchange(out, ecdh, scheme, &signature);
                });
                push(HandshakeType::CertificateRequest, &emit_certificate_request);
            }
            // RFC 4279 section 2: neither a certificate nor a request for one.
            (KeyExchange::PreSharedKey { .. }, Some(ecdh)) => {
                push(HandshakeType::ServerKeyExchange, &|out| {
                    emit_psk_server_key_exchange(out, ecdh);
                });
            }
            // RFC 4279 section 2: without a hint there is no ServerKeyExchange.
            (_, None) => {}
        }
        push(HandshakeType::ServerHelloDone, &|_| {});
        Ok(())
    }
}

impl Parameters {
    /// The master secret, once ClientKeyExchange is in the transcript.
    pub(super) fn master_secret(&self, premaster: &impl AsRef<[u8]>) -> MasterSecret {
        if self.extended_master_secret {
            MasterSecret::extended(self.suite, premaster, &self.transcript.digest())
        } else {
            MasterSecret::plain(self.suite, premaster, &self.randoms)
        }
    }
}

impl ExpectCertificate {
    fn handle(
        self,
        message: &HandshakeMessage<'_>,
        config: &ServerConfig,
        now: Now,
        cx: &Context<'_>,
    ) -> Result<Next, Error> {
        let Self {
            mut parameters,
            key,
        } = self;
        let leaf = match Certificate::decode(message.body)?.leaf {
            Some(der) => Some(Leaf {
                chain: match config.wants_chains() {
                    true => Certificate::chain(message.body, OfferedChains::LENGTH_MAX),
                    false => Vec::new(),
                },
                ..Leaf::read(der, config, now, cx)?
            }),
            None => None,
        };
        parameters.transcript.add(message);
        Ok(Next::Expect(Expect::ClientKeyExchange(
            ExpectClientKeyExchange {
                parameters,
                key,
                leaf,
            },
        )))
    }
}

impl Leaf {
    /// Reads the leaf. Any issuer, any name: only its key and its dates count (TB 3.2). Dates of
    /// the certificates behind it are not looked at, as nothing is concluded from these here.
    fn read(der: &[u8], config: &ServerConfig, now: Now, cx: &Context<'_>) -> Result<Self, Error> {
        let leaf = cx
            .sessions
            .leaves()
            .read(der)
            .map_err(|error| match error {
                CryptoError::Unsupported
                | CryptoError::UnsupportedCurve
                | CryptoError::ExplicitCurve => Error::UnsupportedCertificate,
                _ => Error::BadCertificate,
            })?;
        let is_judged = !config.skip_client_validity_check;
        if is_judged && !leaf.validity.is_valid_at(now.unix_ms) {
            return Err(Error::BadCertificate);
        }
        Ok(Self {
            chain: Vec::new(),
            not_after_unix_ms: is_judged.then(|| leaf.validity.end_unix_ms()),
            key: leaf.key,
            fingerprint: leaf.fingerprint,
        })
    }
}

impl ExpectClientKeyExchange {
    fn handle(self, message: &HandshakeMessage<'_>) -> Result<Next, Error> {
        let Self {
            mut parameters,
            key,
            leaf,
        } = self;
        let peer = ClientKeyExchange::decode(message.body)?;
        // RFC 8422 section 5.10: an invalid point ends the handshake.
        let premaster = key
            .agree(peer.public_key)
            .map_err(|_| Error::IllegalParameter)?;
        parameters.transcript.add(message);
        let master_secret = parameters.master_secret(&premaster);
        Ok(Next::Expect(match leaf {
            Some(leaf) => Expect::CertificateVerify(ExpectCertificateVerify {
                parameters,
                master_secret,
                leaf,
            }),
            None => Expect::Finished(ExpectFinished::new(
                parameters,
                master_secret,
                PeerIdentity::Anonymous,
                None,
            )),
        }))
    }
}

impl ExpectCertificateVerify {
    /// RFC 5246 section 7.4.8: the scheme must be one that was asked for, and the signature is over
    /// all messages before this one. The key's kind must fit the scheme (`VerifyingKey::verify`).
    fn handle(self, message: &HandshakeMessage<'_>, config: &ServerConfig) -> Result<Next, Error> {
        let Self {
            mut parameters,
            master_secret,
            leaf,
        } = self;
        let verify = CertificateVerify::decode(message.body)?;
        let scheme = SignatureScheme::from_id(verify.scheme).ok_or(Error::IllegalParameter)?;
        let digest = parameters.transcript.digest_with(scheme.hash());
        let digest = digest.ok_or(Error::Internal)?;
        leaf.key
            .verify_digest(scheme, &digest, verify.signature)
            .map_err(|error| match error {
                CryptoError::Unsupported => Error::IllegalParameter,
                _ => Error::BadSignature,
            })?;
        parameters.transcript.add(message);
        let identity = PeerIdentity::Certificate(leaf.fingerprint);
        if let Some(chains) = config
            .client_chains
            .as_ref()
            .filter(|_| !leaf.chain.is_empty())
        {
            chains.keep(leaf.fingerprint, leaf.chain);
        }
        let expect =
            ExpectFinished::new(parameters, master_secret, identity, leaf.not_after_unix_ms);
        Ok(Next::Expect(Expect::Finished(expect)))
    }
}

impl ExpectFinished {
    pub(super) fn new(
        parameters: Parameters,
        master_secret: MasterSecret,
        identity: PeerIdentity,
        not_after_unix_ms: Option<u64>,
    ) -> Self {
        let ids = parameters.connection_ids.ids.clone();
        let schedule = master_secret.prepare();
        let protection = schedule
            .protection(Side::Server, &parameters.randoms)
            .with_connection_ids(ids);
        Self {
            parameters,
            master_secret,
            schedule,
            protection,
            identity,
            not_after_unix_ms,
        }
    }

    fn handle(
        self,
        message: &HandshakeMessage<'_>,
        core: &mut Core,
        now: Now,
        cx: &mut Context<'_>,
    ) -> Result<Next, Error> {
        let Self {
            mut parameters,
            master_secret,
            schedule,
            mut protection,
            identity,
            not_after_unix_ms,
        } = self;
        #[cfg(feature = "keylog")]
        master_secret.log(&core.config, &parameters.randoms.client);
        let transcript = &mut parameters.transcript;
        let peer_verify_data = schedule.verify_data(Side::Client, &transcript.digest());
        let body: &[u8; VERIFY_DATA_LEN] = message.body.try_into().map_err(|_| Error::Malformed)?;
        if !equal(body, &peer_verify_data) {
            return Err(Error::BadFinished);
        }
        // The key may have been looked up just before it was removed or replaced. Whoever starts
        // now proves a certificate anew, and what that is worth is asked at every request.
        if matches!(identity, PeerIdentity::PreSharedKey(_))
            && cx.revocations.is_revoked(&identity, core.started_unix_ms)
        {
            return Err(Error::BadFinished);
        }
        transcript.add(message);
        let proven = Proven {
            master_secret: &master_secret,
            identity,
            group: parameters.group,
            max_fragment_length: parameters.max_fragment_length,
            not_after_unix_ms,
        };
        let ticket = parameters.resumability.new_session_ticket(&proven, now, cx);
        if let Some(body) = &ticket {
            transcript.add(&HandshakeMessage {
                message_type: HandshakeType::NewSessionTicket,
                message_seq: parameters.next_message_seq,
                body,
            });
        }
        let parts = FinalFlightParts {
            plain: core.plain,
            ticket,
            fragment_length: parameters.max_fragment_length,
            message_seq: parameters.next_message_seq,
            verify_data: schedule.verify_data(Side::Server, &transcript.digest()),
            peer_message_seq: message.message_seq,
            peer_verify_data,
            datagram_max: core.datagram_max(),
        };
        let final_flight = FinalFlight::send(now.instant, parts, &mut protection, cx.out)?;
        let session_tag = parameters.resumability.keep(&proven, now, cx);
        let mut hello_tag = [0; 8];
        hello_tag.copy_from_slice(&parameters.randoms.client[24..]);
        let established = Established {
            identity,
            group: parameters.group,
            extended_master_secret: parameters.extended_master_secret,
            max_fragment_length: parameters.max_fragment_length,
            hello_tag,
            session_tag,
            resumed: None,
            return_routability_check: parameters.connection_ids.return_routability_check,
        };
        Ok(Next::Established(Box::new(
            Connection::new(protection, established, Some(Box::new(final_flight)))
                .limited(parameters.record_limits),
        )))
    }
}
