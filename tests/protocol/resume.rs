//! Resumption by id and by ticket (RFC 5246 section 7.3, RFC 5077), and everything that must not be
//! resumed.

use std::sync::{Arc, Mutex};

use tidegate::crypto::fingerprint::device_fingerprint;
use tidegate::crypto::key_exchange::NamedGroup;
use tidegate::crypto::suite::{Authentication, CipherSuite};
use tidegate::drop_reason::DropReason;
use tidegate::dtls::client::{ClientConfig, ResumableSession};
use tidegate::dtls::{
    Credentials, Error, MaxFragmentLength, NoRevocations, PeerIdentity, ResumedBy,
    ResumptionRefusal, Revocations, ServerConfig, SessionCache, Sessions, TicketKey, TicketKeys,
};
use tidegate::random::{Random, SeededRandom};
use tidegate::time::Duration;

use crate::faults::for_each_seed;
use crate::link::{Faults, World};
use crate::support::{UNIX_MS, certificate, credentials, server_config};

const HOUR: Duration = Duration::from_secs(3600);
const WAYS: [ResumedBy; 2] = [ResumedBy::SessionId, ResumedBy::Ticket];

/// What a process keeps: a cache, and ticket keys by their numbers, the sealing one first.
fn sessions(keys: &[u8]) -> Arc<Sessions> {
    let sessions = Sessions::new(Some(SessionCache::new(1000, HOUR)));
    sessions.set_ticket_keys(ticket_keys(keys));
    Arc::new(sessions)
}

fn ticket_keys(keys: &[u8]) -> Option<Arc<TicketKeys>> {
    let key = |&key: &u8| TicketKey::new([key; 16], [key; 32]);
    let keys: Vec<_> = keys.iter().map(key).collect();
    (!keys.is_empty()).then(|| Arc::new(TicketKeys::new(keys, HOUR)))
}

/// A server with its sessions, and a device with its certificate.
struct Fleet {
    server: ServerConfig,
    device: Arc<Credentials>,
    sessions: Arc<Sessions>,
    revocations: Arc<dyn Revocations>,
    seed: u64,
    /// Wall clock since the start.
    later_ms: u64,
}

impl Fleet {
    fn new() -> Self {
        Self {
            server: server_config(),
            device: credentials(&rcgen::PKCS_ECDSA_P256_SHA256),
            sessions: sessions(&[1]),
            revocations: Arc::new(NoRevocations),
            seed: 0,
            later_ms: 0,
        }
    }

    fn client(&self, by: ResumedBy) -> ClientConfig {
        ClientConfig {
            credentials: Some(Arc::clone(&self.device)),
            session_tickets: by == ResumedBy::Ticket,
            keep_session: true,
            ..ClientConfig::default()
        }
    }

    /// A device that wakes up: a server's shard that knows nothing of it but the sessions.
    fn world(&mut self, client: &ClientConfig) -> World {
        self.seed += 1;
        let mut world = World::new(self.seed, self.server.clone(), &Arc::new(client.clone()));
        world.server.sessions = Arc::clone(&self.sessions);
        world.server.revocations = Arc::clone(&self.revocations);
        world.unix_ms += self.later_ms;
        world
    }

    /// A full handshake and what it leaves to the client.
    fn first(&mut self, client: &ClientConfig) -> ResumableSession {
        let mut world = self.world(client);
        assert!(world.establish());
        world.settle();
        assert_eq!(world.client.connection.resumed(), None);
        world
            .client
            .connection
            .session()
            .expect("a session")
            .clone()
    }

    /// A handshake that offers `session`.
    fn again(&mut self, client: &ClientConfig, session: ResumableSession) -> World {
        let client = ClientConfig {
            resume: Some(Arc::new(session)),
            ..client.clone()
        };
        let mut world = self.world(&client);
        assert!(world.establish(), "{:?}", world.client.failures);
        world.settle();
        assert!(world.client.failures.is_empty() && world.server.failures.is_empty());
        world
    }

    /// The session is refused for this reason, and a full handshake takes place at once.
    fn assert_refused(
        &mut self,
        client: &ClientConfig,
        session: ResumableSession,
        why: ResumptionRefusal,
    ) {
        let before = self.sessions.refused(why);
        let mut world = self.again(client, session);
        assert_full(&mut world);
        assert_eq!(self.sessions.refused(why), before + 1, "{why:?}");
    }
}

/// The handshake messages in the clear, in the order in which they were sent: (by server, type).
fn plain_messages(world: &World) -> Vec<(bool, u8)> {
    let mut messages = vec![];
    for (by_server, datagram) in &world.log {
        let mut rest = &datagram[..];
        while !rest.is_empty() {
            let length = 13 + usize::from(u16::from_be_bytes([rest[11], rest[12]]));
            let is_first_fragment = || rest[19..22] == [0, 0, 0];
            if rest[0] == 22 && rest[3..5] == [0, 0] && is_first_fragment() {
                messages.push((*by_server, rest[13]));
            }
            rest = &rest[length..];
        }
    }
    messages
}

const CLIENT_HELLO: (bool, u8) = (false, 1);
const SERVER_HELLO: (bool, u8) = (true, 2);
const HELLO_VERIFY_REQUEST: (bool, u8) = (true, 3);

/// RFC 5246 section 7.3: hellos and Finished, no certificate and no key exchange; and the cookie
/// comes first, as in every handshake.
fn assert_resumed(world: &mut World, by: ResumedBy) {
    assert_eq!(world.server.resumed, [by]);
    assert_eq!(world.client.connection.resumed(), Some(by));
    let hello = [
        CLIENT_HELLO,
        HELLO_VERIFY_REQUEST,
        CLIENT_HELLO,
        SERVER_HELLO,
    ];
    assert_eq!(plain_messages(world), hello);
    assert_data_flows(world);
    world.assert_no_sequence_number_twice();
}

/// The session was not resumed: cookie, then the full handshake in the same flight.
fn assert_full(world: &mut World) {
    assert_eq!(world.server.established, 1);
    assert_eq!(world.server.resumed, []);
    assert_eq!(world.client.connection.resumed(), None);
    let messages = plain_messages(world);
    let hello = [
        CLIENT_HELLO,
        HELLO_VERIFY_REQUEST,
        CLIENT_HELLO,
        SERVER_HELLO,
    ];
    assert_eq!(messages[..4], hello, "no further round trip");
    assert_eq!(messages[4], (true, 11), "a certificate");
    assert_data_flows(world);
}

fn assert_data_flows(world: &mut World) {
    world.send_reading(b"reading");
    world.settle();
    assert_eq!(world.server.readings.last().unwrap().data, b"reading");
    world.send_answer(b"answer");
    world.settle();
    assert_eq!(world.client.received.last().unwrap(), b"answer");
}

#[test]
fn every_suite_is_resumed_with_its_identity() {
    let ecdsa = Fleet::new();
    let rsa = credentials(&rcgen::PKCS_RSA_SHA256);
    let with_certificates = CipherSuite::ALL
        .iter()
        .filter(|suite| suite.authentication() != Authentication::PreSharedKey);
    for &suite in with_certificates {
        for by in WAYS {
            let mut fleet = Fleet::new();
            fleet.device = Arc::clone(&ecdsa.device);
            fleet.server = ecdsa.server.clone();
            if suite.name().contains("_RSA_") {
                fleet.server = ServerConfig::new(Arc::clone(&rsa));
            }
            let mut client = fleet.client(by);
            client.cipher_suites = vec![suite];
            let session = fleet.first(&client);
            assert_eq!(session.suite(), suite);
            assert_eq!(session.ticket().is_empty(), by == ResumedBy::SessionId);
            let mut world = fleet.again(&client, session);
            assert_resumed(&mut world, by);
            assert_eq!(world.server.suite(), Some(suite));
            let fingerprint = device_fingerprint(&fleet.device.chain[0]);
            assert_eq!(world.server.fingerprint(), Some(fingerprint));
            assert_eq!(fleet.sessions.resumed(by), 1);
        }
    }
}

#[test]
fn a_session_is_resumed_again_and_again_by_anonymous_clients_as_well() {
    let mut fleet = Fleet::new();
    for by in WAYS {
        let client = ClientConfig {
            credentials: None,
            max_fragment_length: Some(MaxFragmentLength::Bytes512),
            server_name: Some("gate.example.org".into()),
            ..fleet.client(by)
        };
        let mut session = fleet.first(&client);
        for _ in 0..5 {
            let mut world = fleet.again(&client, session);
            assert_resumed(&mut world, by);
            let association = world.server.association.as_ref().unwrap();
            assert_eq!(association.identity(), PeerIdentity::Anonymous);
            assert!(association.extended_master_secret());
            session = world.client.connection.session().unwrap().clone();
        }
    }
}

/// RFC 5077: the server keeps nothing, so a ticket outlives it; an id does not.
#[test]
fn a_ticket_outlives_the_server_and_an_id_does_not() {
    let mut fleet = Fleet::new();
    for by in WAYS {
        let client = fleet.client(by);
        let session = fleet.first(&client);
        fleet.sessions = sessions(&[1]);
        match by {
            ResumedBy::Ticket => assert_resumed(&mut fleet.again(&client, session), by),
            ResumedBy::SessionId => {
                fleet.assert_refused(&client, session, ResumptionRefusal::UnknownSession);
            }
        }
    }
}

#[test]
fn an_old_key_opens_and_a_removed_one_does_not() {
    let mut fleet = Fleet::new();
    let client = fleet.client(ResumedBy::Ticket);
    let session = fleet.first(&client);
    fleet.sessions.set_ticket_keys(ticket_keys(&[2, 1]));
    let mut world = fleet.again(&client, session.clone());
    assert_resumed(&mut world, ResumedBy::Ticket);
    fleet.sessions.set_ticket_keys(ticket_keys(&[3, 2]));
    fleet.assert_refused(&client, session.clone(), ResumptionRefusal::UnknownKey);
    // Without keys the extension is not known at all.
    fleet.sessions.set_ticket_keys(None);
    let mut world = fleet.again(&client, session);
    assert_full(&mut world);
    assert!(
        !world
            .client
            .connection
            .session()
            .unwrap()
            .session_id()
            .is_empty()
    );
    assert_eq!(world.client.connection.session().unwrap().ticket(), b"");
}

/// RFC 5077 section 5.2 and 5.3: forged or cut tickets lead to a full handshake.
#[test]
fn a_tampered_or_truncated_ticket_is_refused() {
    let mut fleet = Fleet::new();
    let client = fleet.client(ResumedBy::Ticket);
    let session = fleet.first(&client);
    let ticket = session.ticket().to_vec();
    for at in [16, 40, 60, 100, 150, ticket.len() - 1] {
        let mut forged = ticket.clone();
        forged[at] ^= 0x20;
        let session = session.clone().with_ticket(forged);
        fleet.assert_refused(&client, session.clone(), ResumptionRefusal::BadTicket);
        let session = session.with_ticket(ticket[..at].to_vec());
        fleet.assert_refused(&client, session, ResumptionRefusal::BadTicket);
    }
    let mut renamed = ticket;
    renamed[0] ^= 1;
    let session = session.with_ticket(renamed);
    fleet.assert_refused(&client, session, ResumptionRefusal::UnknownKey);
}

/// RFC 6066 section 3: a session MUST NOT be resumed under another server name. Section 4: the
/// limit of the fragments is the session's.
#[test]
fn what_the_client_changed_is_not_resumed() {
    type Change = fn(&mut ClientConfig);
    let changes: [(Change, Change); 6] = [
        (
            |c| c.server_name = Some("a".into()),
            |c| c.server_name = None,
        ),
        (
            |c| c.server_name = None,
            |c| c.server_name = Some("a".into()),
        ),
        (
            |c| c.server_name = Some("a.example".into()),
            |c| c.server_name = Some("b.example".into()),
        ),
        (
            |_| {},
            |c| c.max_fragment_length = Some(MaxFragmentLength::Bytes1024),
        ),
        (
            |c| c.cipher_suites = vec![CipherSuite::EcdheEcdsaAes128Gcm],
            |c| c.cipher_suites = vec![CipherSuite::EcdheEcdsaAes128Ccm8],
        ),
        (
            |c| c.groups = vec![NamedGroup::X25519, NamedGroup::Secp256r1],
            |c| c.groups = vec![NamedGroup::Secp256r1],
        ),
    ];
    let mut fleet = Fleet::new();
    for by in WAYS {
        for (before, after) in changes {
            let mut client = fleet.client(by);
            before(&mut client);
            let session = fleet.first(&client);
            assert_resumed(&mut fleet.again(&client, session.clone()), by);
            after(&mut client);
            fleet.assert_refused(&client, session, ResumptionRefusal::Changed);
        }
    }
}

#[test]
fn a_suite_that_is_no_longer_configured_is_not_resumed() {
    let mut fleet = Fleet::new();
    for by in WAYS {
        fleet.server.cipher_suites = CipherSuite::ALL.to_vec();
        let mut client = fleet.client(by);
        client.cipher_suites = vec![
            CipherSuite::EcdheEcdsaAes256Gcm,
            CipherSuite::EcdheEcdsaAes128Gcm,
        ];
        let session = fleet.first(&client);
        fleet.server.cipher_suites = vec![CipherSuite::EcdheEcdsaAes128Gcm];
        fleet.assert_refused(&client, session, ResumptionRefusal::Changed);
    }
}

/// RFC 5246 appendix F.1.4: sessions have a lifetime. It runs from the full handshake, however often
/// the session is resumed.
#[test]
fn an_expired_session_is_not_resumed() {
    for by in WAYS {
        let mut fleet = Fleet::new();
        fleet.later_ms = 100_000;
        let client = fleet.client(by);
        let mut session = fleet.first(&client);
        for _ in 0..2 {
            fleet.later_ms += 1_799_000;
            let mut world = fleet.again(&client, session);
            assert_resumed(&mut world, by);
            session = world.client.connection.session().unwrap().clone();
        }
        fleet.later_ms += 3_000;
        fleet.assert_refused(&client, session.clone(), ResumptionRefusal::Expired);
        // Nor one from the future: a clock was set back.
        fleet.later_ms = 0;
        fleet.assert_refused(&client, session, ResumptionRefusal::Expired);
    }
}

/// A session stands for the client's certificate and ends with it, unless nobody looks at that.
#[test]
fn a_session_does_not_outlive_the_certificate() {
    // The first of January 2027.
    const END_MS: u64 = 1_798_761_600_000;
    for by in WAYS {
        for skip in [false, true] {
            let mut fleet = Fleet::new();
            fleet.device = certificate(&rcgen::PKCS_ECDSA_P256_SHA256, (2020, 2027));
            fleet.server.skip_client_validity_check = skip;
            fleet.later_ms = END_MS - UNIX_MS - 60_000;
            let client = fleet.client(by);
            let session = fleet.first(&client);
            fleet.later_ms += 30_000;
            assert_resumed(&mut fleet.again(&client, session.clone()), by);
            fleet.later_ms += 31_000;
            if skip {
                assert_resumed(&mut fleet.again(&client, session), by);
                continue;
            }
            let client = ClientConfig {
                resume: Some(Arc::new(session)),
                ..client
            };
            let mut world = fleet.world(&client);
            assert!(!world.establish());
            assert_eq!(world.server.failures, [Error::BadCertificate]);
            assert_eq!(fleet.sessions.refused(ResumptionRefusal::Expired), 1);
        }
    }
}

/// RFC 7627 section 5.3: the session has an extended master secret and the ClientHello does not
/// offer it: the server MUST abort.
#[test]
fn a_client_that_drops_the_extended_master_secret_is_turned_away() {
    for by in WAYS {
        let mut fleet = Fleet::new();
        let client = fleet.client(by);
        let session = fleet.first(&client);
        let client = ClientConfig {
            extended_master_secret: false,
            resume: Some(Arc::new(session)),
            ..client
        };
        let mut world = fleet.world(&client);
        assert!(!world.establish());
        assert_eq!(world.server.failures, [Error::NoExtendedMasterSecret]);
        let alert = Error::PeerAlert(tidegate::dtls::AlertDescription::HandshakeFailure);
        assert_eq!(world.client.failures, [alert]);
        let why = ResumptionRefusal::NoExtendedMasterSecret;
        assert_eq!(fleet.sessions.refused(why), 1);
    }
}

/// RFC 7627 section 5.3: without an extended master secret there is nothing to resume, so the other
/// three cases of that section end in full handshakes.
#[test]
fn a_session_without_extended_master_secret_is_not_kept() {
    for by in WAYS {
        let mut fleet = Fleet::new();
        let client = ClientConfig {
            extended_master_secret: false,
            ..fleet.client(by)
        };
        let mut world = fleet.world(&client);
        assert!(world.establish());
        assert!(world.client.connection.session().is_none());
        assert_eq!(fleet.sessions.cached(), 0);
        assert_eq!(fleet.sessions.tickets_issued(), 0);
    }
}

/// One credential that was changed at some time.
#[derive(Debug)]
struct ChangedAt(PeerIdentity, Mutex<Option<u64>>);

impl Revocations for ChangedAt {
    fn is_revoked(&self, identity: &PeerIdentity, since_unix_ms: u64) -> bool {
        let at = *self.1.lock().unwrap();
        *identity == self.0 && at.is_some_and(|at| at >= since_unix_ms)
    }
}

fn changes(fleet: &mut Fleet) -> Arc<ChangedAt> {
    let identity = PeerIdentity::Certificate(device_fingerprint(&fleet.device.chain[0]));
    let changes = Arc::new(ChangedAt(identity, Mutex::new(None)));
    fleet.revocations = Arc::clone(&changes) as _;
    changes
}

#[test]
fn the_session_of_a_revoked_identity_is_not_resumed() {
    for by in WAYS {
        let mut fleet = Fleet::new();
        let changes = changes(&mut fleet);
        let client = fleet.client(by);
        let session = fleet.first(&client);
        *changes.1.lock().unwrap() = Some(UNIX_MS - 61_000);
        assert_resumed(&mut fleet.again(&client, session.clone()), by);
        // By a clock that was put back since, or another node's.
        *changes.1.lock().unwrap() = Some(UNIX_MS - 59_000);
        fleet.assert_refused(&client, session.clone(), ResumptionRefusal::Revoked);
        *changes.1.lock().unwrap() = Some(UNIX_MS + 1000);
        fleet.later_ms = 2000;
        fleet.assert_refused(&client, session, ResumptionRefusal::Revoked);
        // What was proven since is good.
        fleet.later_ms = 62_000;
        let session = fleet.first(&client);
        assert_resumed(&mut fleet.again(&client, session), by);
    }
}

#[test]
fn a_credential_that_ends_during_the_resumption_ends_it() {
    let mut fleet = Fleet::new();
    let changes = changes(&mut fleet);
    let client = fleet.client(ResumedBy::Ticket);
    let session = fleet.first(&client);
    let client = ClientConfig {
        resume: Some(Arc::new(session)),
        ..client
    };
    let mut world = fleet.world(&client);
    assert!(world.run(Duration::from_secs(9), |world| {
        plain_messages(world).ends_with(&[SERVER_HELLO])
    }));
    *changes.1.lock().unwrap() = Some(UNIX_MS + 60_000);
    world.settle();
    assert_eq!(world.server.failures, [Error::CredentialRevoked]);
    assert!(!world.server.is_established());
}

/// Whoever knows the id but not the master secret gets no session, and does the session no harm.
#[test]
fn an_id_alone_is_worth_nothing() {
    let mut fleet = Fleet::new();
    let client = fleet.client(ResumedBy::SessionId);
    let session = fleet.first(&client);
    let impostor = fleet.first(&client);
    let stolen = impostor.with_session_id(session.session_id().to_vec());
    let stealing = ClientConfig {
        resume: Some(Arc::new(stolen)),
        ..client.clone()
    };
    let mut world = fleet.world(&stealing);
    assert!(!world.establish());
    assert_eq!(world.server.established, 0);
    assert_eq!(world.server.fingerprint(), None);
    assert_resumed(&mut fleet.again(&client, session), ResumedBy::SessionId);
}

/// RFC 5077 section 3.4: with a ticket the session id MUST NOT be looked up.
#[test]
fn a_session_id_beside_a_bad_ticket_is_not_looked_up() {
    let mut fleet = Fleet::new();
    let client = fleet.client(ResumedBy::SessionId);
    let session = fleet.first(&client);
    // The id of a kept session is what the client would choose for this ticket.
    let by_ticket = session.clone().with_ticket(vec![7; 200]);
    assert_ne!(by_ticket.session_id(), session.session_id());
    fleet.assert_refused(&client, by_ticket, ResumptionRefusal::UnknownKey);
    assert_eq!(fleet.sessions.refused(ResumptionRefusal::UnknownSession), 0);
    assert_resumed(&mut fleet.again(&client, session), ResumedBy::SessionId);
}

/// RFC 6347 section 4.2.4: whatever is lost, doubled or reordered for the first seconds, both ends
/// resume in the end, with the right identity, and no sequence number is used twice.
#[test]
fn resumptions_survive_loss_duplication_and_reordering() {
    let mut fleet = Fleet::new();
    let clients = WAYS.map(|by| fleet.client(by));
    let left = clients.clone().map(|client| fleet.first(&client));
    let fleet = Mutex::new(fleet);
    for_each_seed(400, |seed| {
        let mut fleet = fleet
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        fleet.seed = seed * 7;
        let mut dice = SeededRandom::new(seed ^ 0x5e55);
        let way = dice.below(2) as usize;
        let client = ClientConfig {
            resume: Some(Arc::new(left[way].clone())),
            max_transmission_unit: 128 + dice.below(1200) as usize,
            ..clients[way].clone()
        };
        fleet.server.max_transmission_unit = 64 + dice.below(1200) as usize;
        let mut world = fleet.world(&client);
        world.faults = Faults {
            loss: dice.below(400),
            duplication: dice.below(300),
            corruption: 0,
            jitter_ms: dice.below(400),
        };
        world.run(Duration::from_secs(6), |world| {
            world.client.connection.is_established() && world.server.is_established()
        });
        world.faults = Faults {
            jitter_ms: 20,
            ..Faults::default()
        };
        assert!(
            world.establish(),
            "{:?} {:?}",
            world.client.failures,
            world.server.failures
        );
        world.settle();
        assert_eq!(world.server.resumed, [WAYS[way]]);
        let fingerprint = device_fingerprint(&fleet.device.chain[0]);
        assert_eq!(world.server.fingerprint(), Some(fingerprint));
        assert!(world.client.failures.is_empty() && world.server.failures.is_empty());
        assert_data_flows(&mut world);
        world.assert_no_sequence_number_twice();
    });
}

/// RFC 5077 section 3.3: the ticket is part of the handshake, so it is repeated with the last flight
/// and comes unharmed however often that is lost.
#[test]
fn tickets_survive_loss_duplication_and_reordering() {
    let fleet = Mutex::new(Fleet::new());
    for_each_seed(200, |seed| {
        let mut fleet = fleet
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        fleet.seed = seed * 7;
        let mut dice = SeededRandom::new(seed ^ 0x71c7);
        let client = fleet.client(ResumedBy::Ticket);
        fleet.server.max_transmission_unit = 64 + dice.below(1200) as usize;
        let mut world = fleet.world(&client);
        world.faults = Faults {
            loss: dice.below(400),
            duplication: dice.below(300),
            corruption: 0,
            jitter_ms: dice.below(400),
        };
        world.run(Duration::from_secs(6), |world| {
            world.client.connection.is_established() && world.server.is_established()
        });
        world.faults = Faults::default();
        assert!(world.establish());
        let session = world.client.connection.session().unwrap().clone();
        assert_resumed(&mut fleet.again(&client, session), ResumedBy::Ticket);
    });
}

/// RFC 6347 section 4.2.4: in an abbreviated handshake the client speaks last. Its flight is lost
/// several times: the server repeats its own by time, and the client answers with its own.
#[test]
fn the_client_repeats_its_last_flight_when_the_server_repeats_its_own() {
    let mut fleet = Fleet::new();
    let client = fleet.client(ResumedBy::Ticket);
    let session = fleet.first(&client);
    let client = ClientConfig {
        resume: Some(Arc::new(session)),
        ..client
    };
    let mut world = fleet.world(&client);
    for _ in 0..3 {
        let sent = world.log.len();
        assert!(world.run(Duration::from_secs(9), |world| {
            let is_client = |(by_server, _): &(bool, Vec<u8>)| !by_server;
            world.client.connection.is_established() && world.log[sent..].iter().any(is_client)
        }));
        // What the client just sent is lost.
        world.cut();
        assert!(!world.server.is_established());
    }
    assert!(world.establish());
    assert_eq!(world.server.resumed, [ResumedBy::Ticket]);
    assert_data_flows(&mut world);
}

/// The client's Finished is lost, and its data shows that it does not know: the server's flight comes
/// again at once, not when its timer runs out. The data itself is not believed.
#[test]
fn data_before_the_clients_finished_is_dropped_and_asks_for_it() {
    let mut fleet = Fleet::new();
    fleet.server.retransmission_timeout = Duration::from_secs(9);
    let client = fleet.client(ResumedBy::Ticket);
    let session = fleet.first(&client);
    let client = ClientConfig {
        resume: Some(Arc::new(session)),
        ..client
    };
    let mut world = fleet.world(&client);
    assert!(world.run(Duration::from_secs(9), |world| {
        world.client.connection.is_established()
    }));
    world.cut();
    let lost = world.now;
    world.now = world.now + Duration::from_millis(300);
    world.send_reading(b"too early");
    assert!(world.establish());
    assert!(world.now.saturating_duration_since(lost) < Duration::from_secs(1));
    assert_eq!(world.server.readings, []);
    assert_eq!(world.server.dropped(DropReason::EarlyApplicationData), 1);
    assert_data_flows(&mut world);
}
