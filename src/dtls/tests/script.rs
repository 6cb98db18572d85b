//! A client that says what a test tells it to say, right or wrong, to a real server.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::crypto::key_exchange::{EphemeralKey, NamedGroup};
use crate::crypto::signature::{SignatureScheme, SigningKey};
use crate::crypto::suite::CipherSuite;
use crate::drop_reason::DropReason;
use crate::dtls::alert::Alert;
use crate::dtls::client::ClientConfig;
use crate::dtls::handshake::script::{
    Flight, MasterSecret, PlainWriter, Randoms, Side, Transcript,
};
use crate::dtls::message::{
    CertificateVerify, ClientKeyExchange, Fragment, HandshakeType, HelloVerifyRequest,
    ReceivedServerHello, ServerKeyExchange, VERIFY_DATA_LEN, emit_certificate, emit_client_hello,
};
use crate::dtls::record::protection::Protection;
use crate::dtls::record::{ContentType, DTLS_1_2, HEADER_LEN, RecordCursor};
use crate::dtls::{
    Accepted, AlertDescription, Association, Context, CookieJar, Credentials, Error, NoRevocations,
    RandomConnectionIds, ServerConfig, Sessions, accept,
};
use crate::random::SeededRandom;
use crate::time::{Duration, Instant, Now};
use crate::wire::Reader;

const PEER: &[u8] = b"peer";
/// Some time in 2026.
pub(super) const UNIX_MS: u64 = 1_790_000_000_000;

/// A self-signed certificate that is valid from the first of January of one year to that of the
/// other, with its key.
pub(super) fn credentials_between(years: (i32, i32)) -> Arc<Credentials> {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(["device".to_owned()]).unwrap();
    parameters.not_before = rcgen::date_time_ymd(years.0, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(years.1, 1, 1);
    let leaf = parameters.self_signed(&key).unwrap().der().to_vec();
    let key = SigningKey::from_der(&key.serialize_der()).unwrap();
    Arc::new(Credentials {
        chain: vec![leaf],
        key,
    })
}

pub(super) fn credentials() -> Arc<Credentials> {
    credentials_between((2020, 2100))
}

/// The server under test and the scripted client.
pub(super) struct Script {
    pub(super) now: Now,
    random: SeededRandom,
    pub(super) config: Arc<ServerConfig>,
    cookies: CookieJar,
    pub(super) sessions: Sessions,
    pub(super) association: Option<Association>,
    pub(super) drops: BTreeMap<DropReason, usize>,
    pub(super) failure: Option<Error>,
    pub(super) established: usize,
    pub(super) readings: Vec<Vec<u8>>,
    /// Datagrams of the server that were not looked at yet.
    pub(super) answers: Vec<Vec<u8>>,

    pub(super) client: ClientConfig,
    pub(super) client_random: [u8; 32],
    plain: PlainWriter,
    pub(super) message_seq: u16,
    pub(super) transcript: Transcript,
    randoms: Randoms,
    extended_master_secret: bool,
    pub(super) suite: CipherSuite,
    /// Of the ServerHello.
    pub(super) session_id: Vec<u8>,
    server_public_key: Vec<u8>,
    group: NamedGroup,
    master_secret: Option<MasterSecret>,
    pub(super) protection: Option<Protection>,
    pub(super) last_finished: Option<(u16, [u8; VERIFY_DATA_LEN])>,
}

impl Script {
    pub(super) fn new(config: ServerConfig) -> Self {
        let mut random = SeededRandom::new(11);
        Self {
            now: Now {
                instant: Instant::from_micros(1_000_000),
                unix_ms: UNIX_MS,
            },
            cookies: CookieJar::generate(&mut random),
            sessions: Sessions::new(None),
            random,
            config: Arc::new(config),
            association: None,
            drops: BTreeMap::new(),
            failure: None,
            established: 0,
            readings: vec![],
            answers: vec![],
            client: ClientConfig::default(),
            client_random: [0x42; 32],
            plain: PlainWriter::new(0, DTLS_1_2),
            message_seq: 0,
            transcript: Transcript::new(crate::crypto::hash::Hash::Sha256),
            randoms: Randoms {
                client: [0x42; 32],
                server: [0; 32],
            },
            extended_master_secret: false,
            suite: CipherSuite::EcdheEcdsaAes128Gcm,
            session_id: vec![],
            server_public_key: vec![],
            group: NamedGroup::Secp256r1,
            master_secret: None,
            protection: None,
            last_finished: None,
        }
    }

    /// With a P-256 server and otherwise defaults.
    pub(super) fn with_defaults() -> Self {
        Self::new(ServerConfig::new(credentials()))
    }

    /// With the server's identity given, which is slow to make.
    pub(super) fn with_defaults_of(server: &Arc<Credentials>) -> Self {
        Self::new(ServerConfig::new(Arc::clone(server)))
    }

    /// Lets time pass.
    pub(super) fn sleep(&mut self, duration: Duration) {
        self.now.instant = self.now.instant + duration;
    }

    /// Hands a datagram to the server.
    pub(super) fn deliver(&mut self, mut datagram: Vec<u8>) {
        let drops = &mut self.drops;
        let mut count = |reason| *drops.entry(reason).or_default() += 1;
        let mut cx = Context {
            config: &self.config,
            cookies: &self.cookies,
            sessions: &self.sessions,
            revocations: &NoRevocations,
            connection_ids: &RandomConnectionIds,
            admit_handshakes: true,
            random: &mut self.random,
            out: &mut self.answers,
            drops: &mut count,
        };
        let Some(association) = &mut self.association else {
            match accept(self.now, PEER, &mut datagram, &mut cx) {
                Accepted::Nothing => {}
                Accepted::Refused(error) => self.failure = Some(error),
                Accepted::New(association) => self.association = Some(association),
            }
            return;
        };
        let received = association.handle_datagram(self.now, PEER, &mut datagram, &mut cx);
        self.readings.extend(
            (&received.plaintexts)
                .into_iter()
                .map(|r| datagram[r].to_vec()),
        );
        self.established += usize::from(received.established);
        self.failure = self.failure.or(received.failure);
        if received.closed {
            self.association = None;
        }
    }

    /// One record of epoch 0 with this content.
    pub(super) fn plain_record(&mut self, content_type: ContentType, body: &[u8]) -> Vec<u8> {
        let mut out: Vec<Vec<u8>> = vec![];
        self.plain.send(content_type, body, &mut out).unwrap();
        out.concat()
    }

    /// One record of epoch 1 with this content.
    pub(super) fn protected_record(&mut self, content_type: ContentType, body: &[u8]) -> Vec<u8> {
        let protection = self.protection.as_mut().unwrap();
        let (prefix, suffix) = protection.overhead();
        let mut record = vec![0; prefix];
        record.extend_from_slice(body);
        record.resize(record.len() + suffix, 0);
        protection.seal(content_type, &mut record).unwrap();
        record
    }

    /// A message with its header in one piece, counted and added to the transcript.
    pub(super) fn message(
        &mut self,
        message_type: HandshakeType,
        emit: impl FnOnce(&mut Vec<u8>),
    ) -> Vec<u8> {
        let bytes = Flight::default()
            .push(message_type, self.message_seq, emit)
            .to_vec();
        self.message_seq += 1;
        self.transcript.add_bytes(&bytes);
        bytes
    }

    /// Sends a message in the clear.
    pub(super) fn send(&mut self, message_type: HandshakeType, emit: impl FnOnce(&mut Vec<u8>)) {
        let bytes = self.message(message_type, emit);
        let record = self.plain_record(ContentType::Handshake, &bytes);
        self.deliver(record);
    }

    /// The body of the client's ClientHello with this cookie.
    pub(super) fn hello_body(&self, cookie: &[u8]) -> Vec<u8> {
        let mut out = vec![];
        emit_client_hello(&mut out, &self.client, &self.client_random, cookie);
        out
    }

    /// Both ClientHellos, whose body `body` makes of the cookie; then reads flight 4 if it comes.
    pub(super) fn hello_with(&mut self, body: impl Fn(&Self, &[u8]) -> Vec<u8>) {
        let cookie = self.cookie_for(&body);
        self.transcript = Transcript::new(self.suite.prf_hash());
        let second = body(self, &cookie);
        self.send(HandshakeType::ClientHello, |out| {
            out.extend_from_slice(&second)
        });
        self.read_flight_4();
    }

    /// Sends a first ClientHello and returns the cookie.
    pub(super) fn cookie_for(&mut self, body: &impl Fn(&Self, &[u8]) -> Vec<u8>) -> Vec<u8> {
        let first = body(self, &[]);
        self.send(HandshakeType::ClientHello, |out| {
            out.extend_from_slice(&first)
        });
        let answer = self.answers.pop().expect("a HelloVerifyRequest");
        let fragment = Fragment::decode(&mut Reader::new(&answer[HEADER_LEN..])).unwrap();
        HelloVerifyRequest::decode(fragment.body)
            .unwrap()
            .cookie
            .to_vec()
    }

    /// A ClientHello as it should be, up to the server's flight 4.
    pub(super) fn hello(&mut self) {
        self.client.cipher_suites = vec![self.suite];
        self.hello_with(Self::hello_body);
    }

    /// Comes again from an address of its own and resumes the session by its id, up to the server's
    /// flight.
    pub(super) fn resume(&mut self) {
        self.association = None;
        self.answers.clear();
        self.client_random = [0x5a; 32];
        self.message_seq = 0;
        self.plain = PlainWriter::new(0, DTLS_1_2);
        let id = self.session_id.clone();
        self.hello_with(|script, cookie| {
            let mut body = script.hello_body(cookie);
            assert_eq!(body[34], 0, "the place of the session id");
            body[34] = 32;
            body.splice(35..35, id.iter().copied());
            body
        });
        assert_eq!(self.session_id, id, "the session was not resumed");
        let secret = self.master_secret.as_ref().expect("a session");
        let mut protection = secret.prepare().protection(Side::Client, &self.randoms);
        for mut datagram in self.answers.clone() {
            let mut cursor = RecordCursor::default();
            while let Some(Ok(record)) = cursor.next(&datagram) {
                if record.header.epoch == 1 {
                    let bytes = &mut datagram[record.range];
                    let finished = protection.open(record.header, bytes).unwrap();
                    self.transcript.add_bytes(&bytes[finished.range]);
                }
            }
        }
        self.protection = Some(secret.prepare().protection(Side::Client, &self.randoms));
    }

    fn read_flight_4(&mut self) {
        self.randoms.client = self.client_random;
        for datagram in &self.answers {
            let mut cursor = RecordCursor::default();
            while let Some(record) = cursor.next(datagram) {
                let record = record.unwrap();
                // Of a resumption, Finished comes in this flight, under keys that are not there yet.
                if record.header.content_type != ContentType::Handshake || record.header.epoch > 0 {
                    continue;
                }
                let bytes = &datagram[record.range][HEADER_LEN..];
                let fragment = Fragment::decode(&mut Reader::new(bytes)).unwrap();
                assert!(fragment.is_whole());
                self.transcript.add_bytes(bytes);
                match fragment.header.message_type {
                    HandshakeType::ServerHello => {
                        let hello = ReceivedServerHello::decode(fragment.body).unwrap();
                        self.randoms.server = hello.random;
                        self.session_id = hello.session_id.to_vec();
                        self.extended_master_secret = hello.extensions.extended_master_secret;
                    }
                    HandshakeType::ServerKeyExchange => {
                        let exchange = ServerKeyExchange::decode(fragment.body).unwrap();
                        self.server_public_key = exchange.parameters.public_key.to_vec();
                        self.group = exchange.parameters.group;
                    }
                    _ => {}
                }
            }
        }
    }

    pub(super) fn certificate(&mut self, chain: &[Vec<u8>]) {
        self.send(HandshakeType::Certificate, |out| {
            emit_certificate(out, chain)
        });
    }

    /// ClientKeyExchange, after which the script has keys.
    pub(super) fn client_key_exchange(&mut self) {
        let key = EphemeralKey::generate(self.group).unwrap();
        let public_key = key.public_key().to_vec();
        self.client_key_exchange_with(&public_key);
        let Ok(premaster) = key.agree(&self.server_public_key) else {
            return;
        };
        let master_secret = if self.extended_master_secret {
            MasterSecret::extended(self.suite, &premaster, &self.transcript.digest())
        } else {
            MasterSecret::plain(self.suite, &premaster, &self.randoms)
        };
        self.protection = Some(
            master_secret
                .prepare()
                .protection(Side::Client, &self.randoms),
        );
        self.master_secret = Some(master_secret);
    }

    pub(super) fn client_key_exchange_with(&mut self, public_key: &[u8]) {
        self.send(HandshakeType::ClientKeyExchange, |out| {
            ClientKeyExchange { public_key }.emit(out);
        });
    }

    /// CertificateVerify by `key` over the transcript.
    pub(super) fn certificate_verify(&mut self, key: &SigningKey) {
        let scheme = SignatureScheme::EcdsaSha256;
        let signature = key.sign(scheme, self.transcript.bytes()).unwrap();
        self.certificate_verify_with(scheme.id(), &signature);
    }

    pub(super) fn certificate_verify_with(&mut self, scheme: u16, signature: &[u8]) {
        self.send(HandshakeType::CertificateVerify, |out| {
            CertificateVerify { scheme, signature }.emit(out);
        });
    }

    pub(super) fn change_cipher_spec(&mut self) {
        let record = self.plain_record(ContentType::ChangeCipherSpec, &[1]);
        self.deliver(record);
    }

    /// The right content of Finished now; zeros while there are no keys.
    pub(super) fn verify_data(&self) -> [u8; VERIFY_DATA_LEN] {
        self.master_secret
            .as_ref()
            .map_or([0; VERIFY_DATA_LEN], |secret| {
                secret
                    .prepare()
                    .verify_data(Side::Client, &self.transcript.digest())
            })
    }

    /// A right Finished, under the keys, or in the clear as long as there are none.
    pub(super) fn finished(&mut self) {
        let verify_data = self.verify_data();
        self.finished_with(&verify_data);
    }

    pub(super) fn finished_with(&mut self, verify_data: &[u8]) {
        self.last_finished = verify_data
            .try_into()
            .ok()
            .map(|data| (self.message_seq, data));
        let bytes = self.message(HandshakeType::Finished, |out| {
            out.extend_from_slice(verify_data)
        });
        let record = match self.protection {
            Some(_) => self.protected_record(ContentType::Handshake, &bytes),
            None => self.plain_record(ContentType::Handshake, &bytes),
        };
        self.deliver(record);
    }

    /// A whole handshake, anonymous or with a certificate.
    pub(super) fn establish(&mut self, credentials: Option<&Credentials>) {
        self.hello();
        self.certificate(credentials.map_or(&[], |credentials| &credentials.chain));
        self.client_key_exchange();
        if let Some(credentials) = credentials {
            self.certificate_verify(&credentials.key);
        }
        self.change_cipher_spec();
        self.finished();
    }

    /// Whether there is a session.
    pub(super) fn is_established(&self) -> bool {
        self.association
            .as_ref()
            .is_some_and(Association::is_established)
    }

    /// The alerts in the clear that the server sent and that were not looked at yet; forgets its
    /// other datagrams.
    pub(super) fn take_alerts(&mut self) -> Vec<AlertDescription> {
        let answers = std::mem::take(&mut self.answers);
        let alert = |datagram: &Vec<u8>| {
            let record = RecordCursor::default().next(datagram)?.ok()?;
            let is_plain_alert =
                record.header.content_type == ContentType::Alert && record.header.epoch == 0;
            let body = &datagram[record.range][HEADER_LEN..];
            is_plain_alert.then(|| Alert::decode(body).unwrap().description)
        };
        answers.iter().filter_map(alert).collect()
    }

    /// Opens the server's protected records that were not looked at yet.
    pub(super) fn take_protected(&mut self) -> Vec<(ContentType, Vec<u8>)> {
        let mut read = vec![];
        for mut datagram in std::mem::take(&mut self.answers) {
            let mut cursor = RecordCursor::default();
            while let Some(Ok(record)) = cursor.next(&datagram) {
                if record.header.epoch == 1 {
                    let bytes = &mut datagram[record.range];
                    let protection = self.protection.as_mut().unwrap();
                    let opened = protection.open(record.header, bytes).unwrap();
                    read.push((opened.content_type, bytes[opened.range].to_vec()));
                }
            }
        }
        read
    }

    /// The server's timers.
    pub(super) fn handle_timeout(&mut self) {
        let mut cx = Context {
            config: &self.config,
            cookies: &self.cookies,
            sessions: &self.sessions,
            revocations: &NoRevocations,
            connection_ids: &RandomConnectionIds,
            admit_handshakes: true,
            random: &mut self.random,
            out: &mut self.answers,
            drops: &mut |_| {},
        };
        let alive = self
            .association
            .as_mut()
            .is_some_and(|a| a.handle_timeout(self.now, &mut cx));
        if !alive {
            self.association = None;
        }
    }

    pub(super) fn dropped(&self, reason: DropReason) -> usize {
        self.drops.get(&reason).copied().unwrap_or_default()
    }
}
