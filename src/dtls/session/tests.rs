use super::*;
use crate::random::{Random, SeededRandom};
use crate::time::Duration;

const NOW_MS: u64 = 1_790_000_000_000;
const HOUR: Duration = Duration::from_secs(3600);

fn session(master: u8) -> Session {
    Session {
        master_secret: MasterSecret::from_bytes(CipherSuite::EcdheEcdsaAes256Gcm, &[master; 48]),
        identity: PeerIdentity::Certificate([3; 32]),
        group: Some(NamedGroup::X25519),
        max_fragment_length: Some(MaxFragmentLength::Bytes1024),
        connection_id: true,
        server_name: Some(Box::new([4; 32])),
        issued_unix_ms: NOW_MS,
        expires_unix_ms: NOW_MS + 3_600_000,
    }
}

fn plain_session() -> Session {
    Session {
        identity: PeerIdentity::Anonymous,
        group: None,
        max_fragment_length: None,
        connection_id: false,
        server_name: None,
        ..session(9)
    }
}

fn key(name: u8) -> TicketKey {
    TicketKey::new([name; 16], [name; 32])
}

fn id(random: &mut SeededRandom) -> SessionId {
    let mut id = [0; SESSION_ID_LEN];
    random.fill(&mut id);
    id
}

#[test]
fn a_session_is_read_as_it_was_written() {
    let shared = Session {
        identity: PeerIdentity::PreSharedKey([5; 32]),
        ..session(1)
    };
    for session in [session(1), plain_session(), shared] {
        let bytes = session.encode();
        assert_eq!(bytes.len(), ENCODED_LEN);
        assert_eq!(Session::decode(&bytes).as_ref(), Some(&session));
    }
}

/// Nothing that is incomplete, unknown or zero becomes a session, although its seal was right.
#[test]
fn an_incomplete_or_unknown_state_is_no_session() {
    let bytes = session(1).encode();
    for end in 0..bytes.len() {
        assert_eq!(Session::decode(&bytes[..end]), None);
    }
    let mut long = bytes.to_vec();
    long.push(0);
    assert_eq!(Session::decode(&long), None);
    let changed = |at: usize, value: u8| {
        let mut changed = bytes.to_vec();
        changed[at] = value;
        Session::decode(&changed)
    };
    assert!(changed(0, 2).is_none(), "another form");
    assert!(changed(1, 0x13).is_none(), "another suite");
    assert!(changed(3, 6).is_none(), "no extended master secret");
    assert!(changed(3, 0x0f).is_none(), "a flag that is not known");
    assert!(changed(4, 5).is_none(), "a limit that is not known");
    assert!(changed(5, 0x77).is_none(), "a group that is not known");
    assert!(
        changed(23, 3).is_none(),
        "a kind of identity that is not known"
    );
    let mut zero = bytes.to_vec();
    zero[ENCODED_LEN - 48..].fill(0);
    assert_eq!(Session::decode(&zero), None, "a master secret of zeros");
}

#[test]
fn a_session_has_its_time() {
    let session = session(1);
    assert!(session.is_current(NOW_MS));
    assert!(session.is_current(NOW_MS + 3_599_999));
    assert!(!session.is_current(NOW_MS + 3_600_000));
    assert!(session.is_current(NOW_MS - CLOCK_SKEW_MS), "another clock");
    assert!(!session.is_current(NOW_MS - CLOCK_SKEW_MS - 1));
}

/// RFC 5077 section 4: the integrity of a ticket must be protected; what does not verify is no
/// ticket.
#[test]
fn a_ticket_that_was_changed_or_cut_is_refused() {
    let mut random = SeededRandom::new(1);
    let keys = TicketKeys::new(vec![key(1)], HOUR);
    let ticket = keys.seal(&session(1), &mut random);
    assert_eq!(ticket.len(), TICKET_LEN_SEEN);
    assert_eq!(keys.open(&ticket), Ok(session(1)));
    assert_eq!(keys.seal(&plain_session(), &mut random).len(), ticket.len());
    for at in 0..ticket.len() {
        let mut forged = ticket.clone();
        forged[at] ^= 1;
        let expected = if at < 16 {
            ResumptionRefusal::UnknownKey
        } else {
            ResumptionRefusal::BadTicket
        };
        assert_eq!(keys.open(&forged), Err(expected));
        assert!(keys.open(&ticket[..at]).is_err());
    }
    let mut long = ticket.clone();
    long.push(0);
    assert_eq!(keys.open(&long), Err(ResumptionRefusal::BadTicket));
}

const TICKET_LEN_SEEN: usize = 16 + 32 + 136 + 16;

#[test]
fn an_old_key_opens_until_it_is_gone() {
    let mut random = SeededRandom::new(1);
    let ticket = TicketKeys::new(vec![key(1)], HOUR).seal(&session(1), &mut random);
    let rotated = TicketKeys::new(vec![key(2), key(1)], HOUR);
    assert_eq!(rotated.open(&ticket), Ok(session(1)));
    let fresh = rotated.seal(&session(2), &mut random);
    assert_eq!(fresh[..16], [2; 16], "the first key seals");
    let later = TicketKeys::new(vec![key(3), key(2)], HOUR);
    assert_eq!(later.open(&ticket), Err(ResumptionRefusal::UnknownKey));
    assert_eq!(later.open(&fresh), Ok(session(2)));
}

#[test]
fn the_cache_is_bounded_and_the_oldest_goes_first() {
    let mut random = SeededRandom::new(1);
    let cache = SessionCache::new(64 * 4, HOUR);
    let ids: Vec<_> = (0..5000).map(|_| id(&mut random)).collect();
    for id in &ids {
        cache.insert(NOW_MS, *id, session(1));
        assert!(cache.len() <= 64 * 4);
    }
    assert_eq!(cache.len(), 64 * 4);
    assert_eq!(cache.lookup(&ids[4999]), Some(session(1)));
    assert_eq!(cache.lookup(&ids[0]), None);
    // Of each part the last four are there, so none is older than one that went.
    for part in 0..64 {
        let of_part: Vec<_> = ids
            .iter()
            .filter(|id| SessionCache::tag(id) % 64 == part)
            .collect();
        let kept = of_part.iter().filter(|id| cache.lookup(&id[..]).is_some());
        assert_eq!(kept.count(), 4);
        let last = of_part.iter().rev().take(4);
        assert!(last.into_iter().all(|id| cache.lookup(&id[..]).is_some()));
    }
}

#[test]
fn only_the_whole_id_finds_a_session() {
    let mut random = SeededRandom::new(1);
    let cache = SessionCache::new(1000, HOUR);
    let id = id(&mut random);
    cache.insert(NOW_MS, id, session(1));
    assert_eq!(cache.lookup(&id), Some(session(1)));
    assert_eq!(cache.lookup(&id), Some(session(1)), "it can be had again");
    for at in 0..id.len() {
        let mut other = id;
        other[at] ^= 1;
        assert_eq!(cache.lookup(&other), None);
        assert_eq!(cache.lookup(&id[..at]), None);
    }
}

/// RFC 5246 section 7.2.2: a session whose connection ended by a fatal alert MUST NOT be resumed.
#[test]
fn a_session_can_be_forgotten() {
    let mut random = SeededRandom::new(1);
    let cache = SessionCache::new(1000, HOUR);
    let (one, other) = (id(&mut random), id(&mut random));
    cache.insert(NOW_MS, one, session(1));
    cache.insert(NOW_MS, other, session(2));
    cache.forget(SessionCache::tag(&one));
    assert_eq!(cache.lookup(&one), None);
    assert_eq!(cache.lookup(&other), Some(session(2)));
}

#[test]
fn what_expired_makes_room() {
    let mut random = SeededRandom::new(1);
    let cache = SessionCache::new(100_000, HOUR);
    for _ in 0..640 {
        cache.insert(NOW_MS, id(&mut random), session(1));
    }
    let later = NOW_MS + 3_600_000;
    for _ in 0..3200 {
        let session = Session {
            expires_unix_ms: later + 1000,
            ..session(1)
        };
        cache.insert(later, id(&mut random), session);
    }
    assert_eq!(cache.len(), 3200, "of the first 640 none is left");
}

#[test]
fn refusals_are_told_apart() {
    let sessions = Sessions::new(None);
    for (at, &why) in ResumptionRefusal::ALL.iter().enumerate() {
        assert_eq!(why as usize, at);
        assert_eq!(sessions.refused(why), 0);
        sessions.count_refused(why);
        assert_eq!(sessions.refused(why), 1);
    }
}
