//! What fuzzers call, one function per kind of bytes that a peer sends; feature `fuzzing` only.
//!
//! Each takes any bytes and panics when something that must always hold does not: a step that makes
//! no progress, memory beyond its bound, an answer to the unverified that is longer than its
//! question, a decoder that disagrees with its encoder. `tests/fuzz` holds the corpora.

#![allow(
    clippy::missing_panics_doc,
    clippy::cast_possible_truncation,
    reason = "panics are what these functions are for"
)]

use std::sync::{Arc, OnceLock};

use super::association::{Accepted, Association, accept};
use super::client::ClientConnection;
use super::config::{Context, Credentials, ServerConfig};
use super::connection_id::{ConnectionIds, RandomConnectionIds};
use super::cookie::{COOKIE_LEN, CookieJar};
use super::handshake::check_reassembly;
use super::identity::PeerIdentity;
use super::message::{
    Certificate, CertificateRequest, CertificateVerify, ClientHello, ClientKeyExchange, Fragment,
    FragmentHeader, HandshakeMessage, HandshakeType, HelloPrefix, HelloVerifyRequest,
    MESSAGE_HEADER_LEN, MESSAGE_LEN_MAX, PskClientKeyExchange, PskServerKeyExchange,
    ReceivedServerHello, ServerKeyExchange, emit_server_key_exchange,
};
use super::received::RECORDS_PER_DATAGRAM_MAX;
use super::record::protection::{Protection, TrafficKey};
use super::record::{ContentType, DTLS_1_2, HEADER_LEN, PLAINTEXT_MAX, RecordCursor, RecordHeader};
use super::revocation::Revocations;
use super::session::NO_SESSIONS;
use crate::crypto::certificate::LeafInfo;
use crate::crypto::signature::{SignatureScheme, SigningKey};
use crate::crypto::suite::CipherSuite;
use crate::drop_reason::DropReason;
use crate::random::SeededRandom;
use crate::time::{Duration, Instant, Now};
use crate::wire::{Reader, Write};

/// The suites whose records differ in layout.
const SUITES: [CipherSuite; 3] = [
    CipherSuite::EcdheEcdsaAes128Gcm,
    CipherSuite::EcdheEcdsaAes128Ccm8,
    CipherSuite::EcdheEcdsaChaCha20Poly1305,
];

/// A datagram: its records are cut one behind the other, none opens under keys that it was not
/// sealed with, and what is sealed opens once.
pub fn record(datagram: &[u8]) {
    let mut cursor = RecordCursor::default();
    let (mut end, mut count) = (0, 0);
    while let Some(record) = cursor.next(datagram) {
        count += 1;
        assert!(count <= RECORDS_PER_DATAGRAM_MAX + 1, "too many records");
        let Ok(record) = record else { continue };
        assert!(record.range.start >= end, "a record overlaps the last one");
        end = record.range.end;
        let bytes = &datagram[record.range];
        let header = record.header.encode(bytes.len() - HEADER_LEN);
        assert_eq!(bytes[..HEADER_LEN], header, "the header is not read back");
        for suite in SUITES {
            let (mut ours, _) = protections(suite, record.header.epoch);
            let opened = ours.open(record.header, &mut bytes.to_vec());
            assert!(opened.is_err(), "a record opens that nobody sealed");
        }
    }
    let Some((&first, plaintext)) = datagram.split_first() else {
        return;
    };
    let plaintext = &plaintext[..plaintext.len().min(PLAINTEXT_MAX)];
    for suite in SUITES {
        for cid_len in [0, 1 + usize::from(first) % 255] {
            seal_and_open(suite, content_type(first), plaintext, cid_len);
        }
    }
}

/// Both ends of one direction, keys in common.
fn protections(suite: CipherSuite, epoch: u16) -> (Protection, Protection) {
    let key = || TrafficKey::new(suite.aead(), &[1; 32], &[2; 12]);
    (
        Protection::new(suite, epoch, &key(), &key()),
        Protection::new(suite, epoch, &key(), &key()),
    )
}

/// Any byte as a kind of content.
fn content_type(byte: u8) -> ContentType {
    match byte % 4 {
        0 => ContentType::ChangeCipherSpec,
        1 => ContentType::Alert,
        2 => ContentType::Handshake,
        _ => ContentType::ApplicationData,
    }
}

/// Seals content of a kind that is not a client's to send, under the keys of its session; `None`
/// without a session.
pub fn seal_content(client: &mut ClientConnection, kind: u8, plaintext: &[u8]) -> Option<Vec<u8>> {
    client.seal_content(content_type(kind), plaintext)
}

/// Whether [`seal_content`] makes an alert of this kind, which can end the session.
pub fn is_alert(kind: u8) -> bool {
    content_type(kind) == ContentType::Alert
}

fn seal_and_open(suite: CipherSuite, content_type: ContentType, plaintext: &[u8], cid_len: usize) {
    let (sender, receiver) = protections(suite, 1);
    let id = vec![0xc1; cid_len];
    let mut sender = sender.with_connection_ids(ConnectionIds::new(&[], &id));
    let mut receiver = receiver.with_connection_ids(ConnectionIds::new(&id, &[]));
    let (prefix, suffix) = sender.overhead();
    let mut record = vec![0; prefix + plaintext.len() + suffix];
    record[prefix..prefix + plaintext.len()].copy_from_slice(plaintext);
    sender
        .seal(content_type, &mut record)
        .expect("a first sequence number");
    let cut = RecordCursor::new(u8::try_from(cid_len).expect("a short id"))
        .next(&record)
        .expect("a record")
        .expect("a good header");
    assert_eq!(cut.range, 0..record.len());
    let outer = match cid_len {
        0 => content_type,
        _ => ContentType::ConnectionId,
    };
    assert_eq!(cut.header.content_type, outer);
    // One bit of the fragment, chosen by the content.
    let header_len = HEADER_LEN + cid_len;
    let at = header_len + plaintext.len() % (record.len() - header_len);
    let mut forged = record.clone();
    forged[at] ^= 1;
    let refused = receiver.open(cut.header, &mut forged);
    assert_eq!(refused, Err(DropReason::RecordForged));
    let mut opened = record.clone();
    let found = receiver.open(cut.header, &mut opened).expect("our record");
    assert_eq!(found.content_type, content_type);
    assert_eq!(&opened[found.range], plaintext, "another plaintext");
    let again = receiver.open(cut.header, &mut record);
    assert_eq!(again, Err(DropReason::RecordReplayed));
}

/// The fragment of a handshake record, as both ends read it: pieces of messages, put together, each
/// message read by the decoder of its type.
pub fn handshake_message(content: &[u8]) {
    let mut reader = Reader::new(content);
    while !reader.is_empty() {
        let before = reader.remaining();
        let start = content.len() - before;
        let Ok(fragment) = Fragment::decode(&mut reader) else {
            break;
        };
        assert!(reader.remaining() < before, "no progress");
        let header = fragment.header;
        assert!(header.fragment_offset + header.fragment_length <= header.length);
        assert!(header.length <= MESSAGE_LEN_MAX);
        assert_eq!(fragment.body.len(), header.fragment_length);
        let encoded = &content[start..start + MESSAGE_HEADER_LEN];
        let mut expected = header.encode();
        if header.message_type == HandshakeType::Unknown {
            expected[0] = encoded[0];
        }
        assert_eq!(encoded, expected, "the header is not read back");
        if fragment.is_whole() {
            body(header.message_type, fragment.body);
        }
    }
    check_reassembly(content, |message: HandshakeMessage<'_>| {
        assert!(message.body.len() <= MESSAGE_LEN_MAX);
        body(message.message_type, message.body);
    });
}

/// Reads a body; what has an encoder comes out as it went in.
fn body(message_type: HandshakeType, body: &[u8]) {
    let mut out = Vec::new();
    match message_type {
        HandshakeType::ClientHello => {
            let _ = ClientHello::decode(body);
            return;
        }
        HandshakeType::ServerHello => {
            if let Ok(hello) = ReceivedServerHello::decode(body) {
                assert!(hello.session_id.len() <= 32);
            }
            return;
        }
        HandshakeType::HelloVerifyRequest => {
            let Ok(request) = HelloVerifyRequest::decode(body) else {
                return;
            };
            out.extend_from_slice(&body[..2]);
            out.put_vec8(|out| out.extend_from_slice(request.cookie));
        }
        HandshakeType::Certificate => {
            if let Ok(Certificate { leaf: Some(leaf) }) = Certificate::decode(body) {
                assert!(!leaf.is_empty());
                let _ = LeafInfo::parse(leaf);
            }
            return;
        }
        HandshakeType::ServerKeyExchange => {
            for with_ecdhe in [false, true] {
                let read = PskServerKeyExchange::decode(body, with_ecdhe);
                assert!(read.is_err() || read.is_ok_and(|m| m.parameters.is_some() == with_ecdhe));
            }
            let Ok(message) = ServerKeyExchange::decode(body) else {
                return;
            };
            let Some(scheme) = SignatureScheme::from_id(message.scheme) else {
                return;
            };
            emit_server_key_exchange(&mut out, &message.parameters, scheme, message.signature);
        }
        HandshakeType::CertificateRequest => {
            let _ = CertificateRequest::decode(body);
            return;
        }
        HandshakeType::CertificateVerify => {
            let Ok(message) = CertificateVerify::decode(body) else {
                return;
            };
            message.emit(&mut out);
        }
        HandshakeType::ClientKeyExchange => {
            for with_ecdhe in [false, true] {
                if let Ok(message) = PskClientKeyExchange::decode(body, with_ecdhe) {
                    message.emit(&mut out);
                    assert_eq!(out, body, "{message:?} does not come out as it went in");
                    out.clear();
                }
            }
            let Ok(message) = ClientKeyExchange::decode(body) else {
                return;
            };
            message.emit(&mut out);
        }
        _ => return,
    }
    assert_eq!(
        out, body,
        "{message_type:?} does not come out as it went in"
    );
}

/// The body of a ClientHello: at the door, where it gets a cookie and no state; then with that
/// cookie in it, repeated, and until its handshake is given up.
pub fn client_hello(body: &[u8]) {
    let decoded = ClientHello::decode(body);
    if let Ok(hello) = &decoded {
        assert!(hello.cipher_suites.iter().count() > 0);
        let _ = hello.secure_renegotiation();
        let groups = hello.extensions.supported_groups;
        assert!(groups.is_none_or(|groups| groups.iter().count() > 0));
    }
    let mut server = HelloServer::new();
    let question = hello_datagram(body);
    let accepted = server.accept(&question);
    assert!(
        matches!(accepted, Accepted::Nothing),
        "state for a stranger: {accepted:?}"
    );
    let answers = std::mem::take(&mut server.out);
    assert!(answers.len() <= 1, "{} answers", answers.len());
    let mut reader = Reader::new(body);
    let Ok(prefix) = HelloPrefix::decode(&mut reader) else {
        assert!(answers.is_empty(), "an answer to what is no ClientHello");
        assert!(decoded.is_err());
        return;
    };
    let Some(answer) = answers.first() else {
        assert!(body.len() > MESSAGE_LEN_MAX, "a ClientHello is not heard");
        return;
    };
    assert!(answer.len() <= question.len(), "an answer that amplifies");

    let mut with_cookie = Vec::new();
    with_cookie.put_u16(prefix.client_version);
    with_cookie.extend_from_slice(&prefix.random);
    with_cookie.put_vec8(|out| out.extend_from_slice(prefix.session_id));
    with_cookie.put_vec8(|out| out.extend_from_slice(&answer[answer.len() - COOKIE_LEN..]));
    with_cookie.extend_from_slice(reader.rest());
    if with_cookie.len() > MESSAGE_LEN_MAX {
        return;
    }
    let hello = hello_datagram(&with_cookie);
    match server.accept(&hello) {
        Accepted::Nothing => panic!("a valid cookie is not accepted"),
        Accepted::Refused(_) => {}
        Accepted::New(association) => {
            assert!(decoded.is_ok(), "a handshake from a malformed ClientHello");
            server.play(association, &hello);
        }
    }
}

/// A datagram with a ClientHello in one piece, or in pieces that fit records.
fn hello_datagram(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let pieces = body.chunks(PLAINTEXT_MAX - MESSAGE_HEADER_LEN);
    for (sequence, piece) in pieces.enumerate() {
        let header = RecordHeader {
            content_type: ContentType::Handshake,
            version: DTLS_1_2,
            epoch: 0,
            sequence: sequence as u64,
        };
        let fragment = FragmentHeader {
            fragment_offset: sequence * (PLAINTEXT_MAX - MESSAGE_HEADER_LEN),
            fragment_length: piece.len(),
            ..FragmentHeader::whole(HandshakeType::ClientHello, 0, body.len())
        };
        out.extend_from_slice(&header.encode(MESSAGE_HEADER_LEN + piece.len()));
        out.extend_from_slice(&fragment.encode());
        out.extend_from_slice(piece);
    }
    out
}

/// Some device has a pre-shared key, so that its suites are negotiated; no credential ends.
#[derive(Debug)]
pub struct KeysInUse;

impl Revocations for KeysInUse {
    fn is_revoked(&self, _: &PeerIdentity, _: u64) -> bool {
        false
    }

    fn has_pre_shared_keys(&self) -> bool {
        true
    }
}

/// A server that waits for a ClientHello.
struct HelloServer {
    config: Arc<ServerConfig>,
    cookies: CookieJar,
    random: SeededRandom,
    now: Now,
    out: Vec<Vec<u8>>,
}

impl HelloServer {
    fn new() -> Self {
        Self {
            config: server_config(),
            cookies: CookieJar::new([9; 32]),
            random: SeededRandom::new(1),
            now: Now {
                instant: Instant::from_micros(1),
                unix_ms: 1_790_000_000_000,
            },
            out: Vec::new(),
        }
    }

    fn with<R>(&mut self, step: impl FnOnce(Now, &mut Context<'_>) -> R) -> R {
        let mut context = Context {
            config: &self.config,
            cookies: &self.cookies,
            admit_handshakes: true,
            sessions: &NO_SESSIONS,
            revocations: &KeysInUse,
            connection_ids: &RandomConnectionIds,
            random: &mut self.random,
            out: &mut self.out,
            drops: &mut |_| {},
        };
        step(self.now, &mut context)
    }

    fn accept(&mut self, datagram: &[u8]) -> Accepted {
        self.with(|now, cx| accept(now, b"192.0.2.7:4711", &mut datagram.to_vec(), cx))
    }

    /// The handshake goes on with repetitions of its ClientHello and ends for want of more.
    fn play(&mut self, mut association: Association, hello: &[u8]) {
        let flight = std::mem::take(&mut self.out);
        assert!(!flight.is_empty(), "no ServerHello");
        let longest = flight.iter().map(Vec::len).max();
        assert!(longest <= Some(self.config.max_transmission_unit));
        self.with(|now, cx| {
            association.handle_datagram(now, b"192.0.2.7:4711", &mut hello.to_vec(), cx)
        });
        assert!(!association.is_established());
        for step in 0.. {
            assert!(step < 64, "a handshake without end");
            let Some(due) = association.next_timeout() else {
                panic!("a handshake without a deadline");
            };
            self.now.instant = self.now.instant.max(due);
            if !self.with(|now, cx| association.handle_timeout(now, cx)) {
                break;
            }
        }
        let elapsed = self.now.instant.saturating_duration_since(Instant::ZERO);
        assert!(elapsed <= self.config.handshake_timeout + Duration::from_secs(1));
    }
}

/// A server's configuration, one key for all executions.
pub fn server_config() -> Arc<ServerConfig> {
    static CONFIG: OnceLock<Arc<ServerConfig>> = OnceLock::new();
    let make = || {
        Arc::new(ServerConfig {
            connection_id_length: Some(6),
            ..ServerConfig::new(credentials("localhost"))
        })
    };
    Arc::clone(CONFIG.get_or_init(make))
}

/// A self-signed P-256 certificate with its key.
pub fn credentials(name: &str) -> Arc<Credentials> {
    let certified = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    let key = SigningKey::from_der(&certified.signing_key.serialize_der()).expect("a key");
    Arc::new(Credentials {
        chain: vec![certified.cert.der().to_vec()],
        key,
    })
}

/// The DER of a certificate.
pub fn certificate(der: &[u8]) {
    let mut message = Vec::new();
    if der.is_empty() || der.len() > MESSAGE_LEN_MAX {
        assert!(LeafInfo::parse(der).is_err());
        return;
    }
    message.put_vec24(|out| out.put_vec24(|out| out.extend_from_slice(der)));
    let decoded = Certificate::decode(&message).map(|message| message.leaf);
    assert_eq!(decoded, Ok(Some(der)));
    let Ok(leaf) = LeafInfo::parse(der) else {
        return;
    };
    assert!(der.windows(leaf.spki.len()).any(|part| part == leaf.spki));
    let key = leaf.verifying_key().expect("the key was looked at");
    assert_eq!(key.key_type(), leaf.key_type);
    for scheme in SignatureScheme::ALL {
        let verified = key.verify(*scheme, b"message", &der[..der.len().min(72)]);
        assert!(verified.is_err(), "a signature that nobody made");
    }
    assert_eq!(
        leaf.validity.is_valid_at(1_790_000_000_000),
        leaf.validity.not_before_unix_s <= 1_790_000_000
            && leaf.validity.not_after_unix_s >= 1_790_000_000
    );
}
