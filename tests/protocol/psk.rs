//! Pre-shared keys (RFC 4279, RFC 5489, RFC 8442): every suite, slow and missing answers of whoever
//! has the keys, and that nobody learns which identities exist.

use std::sync::Arc;

use tidegate::crypto::key_exchange::NamedGroup;
use tidegate::crypto::pre_shared_key::{PreSharedKey, psk_identity_hash};
use tidegate::crypto::suite::{Authentication, CipherSuite};
use tidegate::drop_reason::DropReason;
use tidegate::dtls::client::{ClientConfig, ClientPreSharedKey};
use tidegate::dtls::{
    AlertDescription, CredentialLookup, Error, PeerIdentity, ResumedBy, Revocations, SessionCache,
    Sessions, TicketKey, TicketKeys,
};
use tidegate::random::{Random, SeededRandom};
use tidegate::time::Duration;

use crate::faults::for_each_seed;
use crate::link::{Faults, World};
use crate::support::server_config;

const IDENTITY: &[u8] = b"thermometer-1";
const KEY: [u8; 16] = *b"\x01a key of 16 by\xff";

/// There are pre-shared keys, and one of them may have ended.
#[derive(Debug, Default)]
struct Keys {
    revoked: Option<PeerIdentity>,
}

impl Revocations for Keys {
    fn is_revoked(&self, identity: &PeerIdentity, _: u64) -> bool {
        self.revoked == Some(*identity)
    }

    fn has_pre_shared_keys(&self) -> bool {
        true
    }
}

fn psk_suites() -> impl Iterator<Item = CipherSuite> {
    let all = CipherSuite::ALL.iter().copied();
    all.filter(|suite| suite.authentication() == Authentication::PreSharedKey)
}

fn client(identity: &[u8], key: &[u8]) -> ClientConfig {
    ClientConfig {
        pre_shared_key: Some(Arc::new(ClientPreSharedKey {
            identity: identity.to_vec(),
            key: PreSharedKey::new(key).unwrap(),
        })),
        cipher_suites: psk_suites().collect(),
        ..ClientConfig::default()
    }
}

fn identity(identity: &[u8]) -> PeerIdentity {
    PeerIdentity::PreSharedKey(psk_identity_hash(identity))
}

/// A server with the key of `IDENTITY`, whose answers come at once.
fn world(seed: u64, client: &ClientConfig) -> World {
    let mut world = World::new(seed, server_config(), &Arc::new(client.clone()));
    world.server.revocations = Arc::new(Keys::default());
    give(&mut world, IDENTITY, &KEY);
    world.server.authenticator.delay = Some(Duration::ZERO);
    world
}

fn give(world: &mut World, identity: &[u8], key: &[u8]) {
    let key = Arc::new(PreSharedKey::new(key).unwrap());
    let keys = &mut world.server.authenticator.keys;
    keys.insert(psk_identity_hash(identity), key);
}

/// Types of the handshake messages in the clear that the server sent.
fn messages(world: &World) -> Vec<u8> {
    let mut types = vec![];
    for (_, datagram) in world.log.iter().filter(|(by_server, _)| *by_server) {
        let mut rest = &datagram[..];
        // Behind records with a connection id (25) nothing is in the clear.
        while !rest.is_empty() && rest[0] != 25 {
            let length = 13 + usize::from(u16::from_be_bytes([rest[11], rest[12]]));
            if rest[0] == 22 && rest[3..5] == [0, 0] {
                types.push(rest[13]);
            }
            rest = &rest[length..];
        }
    }
    types
}

/// RFC 4279 section 2: ServerKeyExchange only where there is something in it, neither Certificate
/// nor CertificateRequest. Section 5.3: identities of 128 bytes and keys of 64 MUST do.
#[test]
fn every_suite_and_group_with_keys_and_identities_of_every_length() {
    const HELLO_VERIFY_REQUEST: u8 = 3;
    const SERVER_HELLO: u8 = 2;
    const KEY_EXCHANGE: u8 = 12;
    const HELLO_DONE: u8 = 14;
    let mut handshakes = 0;
    for suite in psk_suites() {
        for &group in NamedGroup::ALL {
            for (identity_len, key_len) in [(1, 16), (13, 32), (128, 64), (512, 17)] {
                let (name, key) = (vec![b'i'; identity_len], vec![0x5a; key_len]);
                let config = ClientConfig {
                    cipher_suites: vec![suite],
                    groups: vec![group],
                    extended_master_secret: handshakes % 2 == 0,
                    connection_id: (handshakes % 3 == 0).then(|| vec![7; 4]),
                    ..client(&name, &key)
                };
                let mut server = server_config();
                server.connection_id_length = Some(5);
                let mut world = World::new(handshakes, server, &Arc::new(config));
                world.server.revocations = Arc::new(Keys::default());
                world.server.authenticator.delay = Some(Duration::ZERO);
                give(&mut world, &name, &key);
                assert!(world.establish(), "{suite:?} {group:?} {key_len}");
                assert_eq!(world.server.identity(), identity(&name));
                assert_eq!(world.server.suite(), Some(suite));
                assert_eq!(world.client.connection.suite(), Some(suite));
                let association = world.server.association.as_ref().unwrap();
                let expected = suite.is_ephemeral().then_some(group);
                assert_eq!(association.group(), expected);
                assert_eq!(world.client.connection.group(), expected);
                assert_eq!(association.extended_master_secret(), handshakes % 2 == 0);
                let mut flight = vec![HELLO_VERIFY_REQUEST, SERVER_HELLO];
                flight.extend(suite.is_ephemeral().then_some(KEY_EXCHANGE));
                flight.push(HELLO_DONE);
                assert_eq!(messages(&world), flight);
                world.send_reading(b"reading");
                world.send_answer(b"answer");
                world.settle();
                assert_eq!(world.server.readings.len(), 1);
                assert_eq!(world.client.received, [b"answer"]);
                assert_eq!(world.server.authenticator.asked, 1);
                world.assert_no_sequence_number_twice();
                handshakes += 1;
            }
        }
    }
    assert_eq!(handshakes, 7 * 3 * 4);
}

/// Without any device that has a key, such suites are as unknown as they were (TB vector 17).
#[test]
fn without_any_key_in_use_the_suites_are_not_known() {
    let mut world = world(1, &client(IDENTITY, &KEY));
    world.server.revocations = Arc::new(tidegate::dtls::NoRevocations);
    world.settle();
    assert_eq!(world.server.failures, [Error::NoCommonParameters]);
    let alert = AlertDescription::HandshakeFailure;
    assert_eq!(world.client.failures, [Error::PeerAlert(alert)]);
    assert_eq!(world.server.authenticator.asked, 0);
}

/// What anybody can see of a handshake: who sent when how many bytes of which kind.
fn shape(world: &World) -> Vec<(bool, Vec<(u8, usize)>)> {
    let records = |mut rest: &[u8]| {
        let mut records = vec![];
        while !rest.is_empty() {
            let length = 13 + usize::from(u16::from_be_bytes([rest[11], rest[12]]));
            records.push((rest[0], length));
            rest = &rest[length..];
        }
        records
    };
    let log = world.log.iter();
    log.map(|(by_server, datagram)| (*by_server, records(datagram)))
        .collect()
}

/// RFC 4279 section 2: a server that hides which identities exist goes on as if the key were wrong,
/// and answers decrypt_error. Nothing differs: not the number, kind, length or time of what is sent,
/// nor what the authenticator is asked.
#[test]
fn an_unknown_identity_is_a_wrong_key() {
    for suite in psk_suites() {
        for delay_ms in [0, 3000] {
            let failed = |name: &[u8], key: &[u8]| {
                let config = ClientConfig {
                    cipher_suites: vec![suite],
                    ..client(name, key)
                };
                let mut world = world(5, &config);
                world.server.authenticator.delay = Some(Duration::from_millis(delay_ms));
                let started = world.now;
                while world.step() {}
                assert_eq!(world.server.failures, [Error::BadFinished]);
                let alert = AlertDescription::DecryptError;
                assert_eq!(world.client.failures, [Error::PeerAlert(alert)]);
                assert!(world.server.association.is_none());
                assert_eq!(world.server.established, 0);
                let took = world.now.saturating_duration_since(started);
                let asked = world.server.authenticator.asked;
                (shape(&world), took, asked, world.server.drops.clone())
            };
            let wrong_key = failed(IDENTITY, b"another 16 bytes");
            let unknown = failed(b"thermometer-2", &KEY);
            assert_eq!(wrong_key, unknown, "{suite:?}");
            assert_eq!(wrong_key.2, 1);
            // A key of another length is no more than another wrong key.
            let longer = failed(IDENTITY, &[9; 64]);
            assert_eq!(longer, unknown);
        }
    }
}

/// While the answer is under way the client repeats its flight again and again: one question.
#[test]
fn a_repeated_flight_asks_no_second_time() {
    let mut world = world(2, &client(IDENTITY, &KEY));
    world.server.authenticator.delay = None;
    world.run(Duration::from_secs(8), |_| false);
    assert_eq!(world.server.authenticator.asked, 1);
    assert!(world.client.connection.retransmissions() >= 3);
    assert!(world.server.dropped(DropReason::FragmentRepeated) > 0);
    assert!(world.server.failures.is_empty() && world.client.failures.is_empty());

    let mut late = self::world(2, &client(IDENTITY, &KEY));
    late.server.authenticator.delay = Some(Duration::from_secs(5));
    late.run(Duration::from_secs(60), |world| {
        world.server.is_established() && world.client.connection.is_established()
    });
    assert_eq!(late.server.identity(), identity(IDENTITY));
    assert_eq!(late.server.authenticator.asked, 1);
}

/// An answer that never comes ends with the handshake's own time, and leaves nothing.
#[test]
fn an_answer_that_never_comes_ends_by_time() {
    let mut world = world(3, &client(IDENTITY, &KEY));
    world.server.authenticator.delay = None;
    let started = world.now;
    while world.step() {}
    assert!(world.server.association.is_none());
    assert!(world.server.failures.is_empty());
    let took = world.now.saturating_duration_since(started);
    assert!(took <= Duration::from_secs(31), "{took:?}");
    assert_eq!(world.server.established, 0);
}

/// No room for the question: silence, and the client's repetition is the next occasion.
#[test]
fn a_refused_question_is_asked_again_when_the_client_repeats_itself() {
    let mut world = world(4, &client(IDENTITY, &KEY));
    world.server.authenticator.refusals = 1000;
    while world.server.authenticator.refused < 3 {
        assert!(world.step());
    }
    assert_eq!(world.server.authenticator.asked, 0);
    assert!(world.client.failures.is_empty() && world.server.failures.is_empty());
    world.server.authenticator.refusals = 0;
    assert!(world.establish());
    assert_eq!(world.server.authenticator.asked, 1);
    assert_eq!(world.server.identity(), identity(IDENTITY));
}

/// RFC 6347 section 4.2.4: whatever is lost, doubled or reordered, and however long the answers take
/// or are refused, the handshake completes once the link works.
#[test]
fn handshakes_survive_bad_links_and_slow_answers() {
    for_each_seed(400, |seed| {
        let mut dice = SeededRandom::new(seed ^ 0x9514);
        let suites: Vec<_> = psk_suites().collect();
        let suite = suites[dice.below(suites.len() as u64) as usize];
        let config = ClientConfig {
            cipher_suites: vec![suite],
            max_transmission_unit: 96 + dice.below(1200) as usize,
            ..client(IDENTITY, &KEY)
        };
        let mut world = world(seed, &config);
        world.faults = Faults {
            loss: dice.below(400),
            duplication: dice.below(300),
            corruption: 0,
            jitter_ms: dice.below(400),
        };
        world.server.authenticator.refusals = dice.below(600);
        world.server.authenticator.delay = Some(Duration::from_millis(dice.below(3000)));
        let is_done = |world: &World| {
            world.client.connection.is_established() && world.server.is_established()
        };
        world.run(Duration::from_secs(6), is_done);
        world.faults = Faults {
            jitter_ms: 20,
            ..Faults::default()
        };
        world.server.authenticator.refusals = 0;
        assert!(world.establish(), "{:?}", world.client.failures);
        assert_eq!(world.server.identity(), identity(IDENTITY));
        assert!(world.client.failures.is_empty() && world.server.failures.is_empty());
        assert_eq!(world.server.authenticator.asked, 1);
        world.send_reading(b"reading");
        world.settle();
        assert_eq!(world.server.readings.len(), 1);
        world.assert_no_sequence_number_twice();
    });
}

/// One record with a whole handshake message.
fn handshake_record(sequence: u8, message_type: u8, message_seq: u16, body: &[u8]) -> Vec<u8> {
    let length = u8::try_from(body.len()).unwrap();
    let mut record = vec![
        22,
        0xfe,
        0xfd,
        0,
        0,
        0,
        0,
        0,
        0,
        1,
        sequence,
        0,
        12 + length,
    ];
    record.extend_from_slice(&[message_type, 0, 0, length]);
    record.extend_from_slice(&message_seq.to_be_bytes());
    record.extend_from_slice(&[0, 0, 0, 0, 0, length]);
    record.extend_from_slice(body);
    record
}

/// Steps until the question is out.
fn ask(world: &mut World) {
    while world.server.authenticator.asked == 0 {
        assert!(world.step());
    }
}

/// Messages that come while the answer is under way wait, in bounded memory, and are judged after it.
#[test]
fn messages_wait_for_the_answer() {
    let mut world = world(6, &client(IDENTITY, &KEY));
    world.server.authenticator.delay = Some(Duration::from_secs(2));
    ask(&mut world);
    // The one after ClientKeyExchange, and others far ahead.
    for message_seq in 3..40 {
        let record = handshake_record(message_seq as u8, 15, message_seq, b"certificate verify");
        assert!(world.deliver_from(crate::link::PEER, record).is_empty());
    }
    assert!(world.server.failures.is_empty(), "judged before the answer");
    assert_eq!(world.server.dropped(DropReason::FragmentBeyondLimit), 29);
    while world.server.failures.is_empty() {
        assert!(world.step());
    }
    assert_eq!(world.server.failures, [Error::UnexpectedMessage]);
    assert_eq!(world.server.established, 0);
}

/// A handshake that took the place of another gets nothing of the other's answer.
#[test]
fn an_answer_is_for_the_handshake_that_asked() {
    let mut world = world(7, &client(b"thermometer-9", b"one more 16 byte"));
    give(&mut world, b"thermometer-9", b"one more 16 byte");
    world.server.authenticator.delay = Some(Duration::from_secs(3));
    ask(&mut world);
    world.restart_client(&Arc::new(client(IDENTITY, &KEY)));
    assert!(world.establish());
    assert_eq!(world.server.identity(), identity(IDENTITY));
    while world.step() {}
    assert_eq!(world.server.identity(), identity(IDENTITY));
    assert_eq!(world.server.authenticator.asked, 2);

    // The same identity in another handshake is another question, too.
    let mut again = self::world(8, &client(IDENTITY, &KEY));
    again.server.authenticator.delay = None;
    ask(&mut again);
    let lookup = CredentialLookup {
        handshake: 1,
        identity: psk_identity_hash(IDENTITY),
    };
    again.answer(&lookup);
    assert_eq!(again.server.dropped(DropReason::VerdictStale), 1);
    again.run(Duration::from_secs(5), |_| false);
    assert!(!again.server.is_established());
}

/// The key was looked up, and ended before Finished came: no session, by the alert of a wrong key.
#[test]
fn a_key_that_ended_since_it_was_looked_up_is_a_wrong_key() {
    let mut world = world(9, &client(IDENTITY, &KEY));
    let revoked = Some(identity(IDENTITY));
    world.server.revocations = Arc::new(Keys { revoked });
    while world.step() {}
    assert_eq!(world.server.failures, [Error::BadFinished]);
    let alert = AlertDescription::DecryptError;
    assert_eq!(world.client.failures, [Error::PeerAlert(alert)]);
    assert_eq!(world.server.established, 0);
}

/// Who does not have the key gets nowhere beside a live session, and does not end it.
#[test]
fn a_wrong_key_does_not_touch_the_live_session() {
    let mut world = world(10, &client(IDENTITY, &KEY));
    assert!(world.establish());
    let mut device = std::mem::replace(
        &mut world.client.connection,
        self::world(11, &client(IDENTITY, &KEY)).client.connection,
    );
    world.restart_client(&Arc::new(client(IDENTITY, b"another 16 bytes")));
    world.run(Duration::from_secs(10), |world| {
        !world.client.failures.is_empty()
    });
    assert_eq!(world.server.failures, [Error::BadFinished]);
    assert_eq!(world.server.identity(), identity(IDENTITY));
    std::mem::swap(&mut world.client.connection, &mut device);
    world.send_reading(b"still here");
    world.settle();
    assert_eq!(world.server.readings.last().unwrap().data, b"still here");
}

/// RFC 5077, RFC 5246 section 7.3: a resumption has the identity of the full handshake, and asks for
/// no key.
#[test]
fn sessions_are_resumed_with_their_identity() {
    for suite in psk_suites() {
        for by in [ResumedBy::SessionId, ResumedBy::Ticket] {
            let lifetime = Duration::from_secs(3600);
            let sessions = Arc::new(Sessions::new(Some(SessionCache::new(16, lifetime))));
            let keys = TicketKeys::new(vec![TicketKey::new([1; 16], [2; 32])], lifetime);
            sessions.set_ticket_keys(Some(Arc::new(keys)));
            let mut config = ClientConfig {
                cipher_suites: vec![suite],
                session_tickets: by == ResumedBy::Ticket,
                keep_session: true,
                ..client(IDENTITY, &KEY)
            };
            let mut world = world(12, &config);
            world.server.sessions = Arc::clone(&sessions);
            assert!(world.establish());
            let session = world.client.connection.session().unwrap().clone();
            assert_eq!(session.suite(), suite);
            config.resume = Some(Arc::new(session));
            world.restart_client(&Arc::new(config.clone()));
            world.run(Duration::from_secs(10), |world| {
                !world.server.resumed.is_empty()
            });
            assert_eq!(world.server.resumed, [by], "{suite:?}");
            assert_eq!(world.server.identity(), identity(IDENTITY));
            assert_eq!(world.server.authenticator.asked, 1);

            // With the credential ends what could be resumed by it.
            let revoked = Some(identity(IDENTITY));
            world.server.revocations = Arc::new(Keys { revoked });
            world.restart_client(&Arc::new(config));
            while world.step() {}
            assert_eq!(world.server.resumed, [by]);
            assert_eq!(world.server.failures, [Error::BadFinished]);
        }
    }
}
