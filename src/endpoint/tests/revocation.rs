//! Sessions end with the credential behind them.

use std::sync::Mutex;

use super::secure::{Bench, UNIX_MS, credentials};
use super::*;
use crate::dtls::{AlertDescription, PeerIdentity, Revocations};

/// One identity whose credential ended, once there is one.
#[derive(Debug, Default)]
struct Ended(Mutex<Option<(PeerIdentity, u64)>>);

impl Revocations for Ended {
    fn is_revoked(&self, identity: &PeerIdentity, since_unix_ms: u64) -> bool {
        let ended = self.0.lock().unwrap();
        ended.is_some_and(|(ended, at)| ended == *identity && at >= since_unix_ms)
    }
}

fn fingerprint(credentials: &dtls::Credentials) -> PeerIdentity {
    PeerIdentity::Certificate(crate::crypto::fingerprint::device_fingerprint(
        &credentials.chain[0],
    ))
}

#[test]
fn the_sessions_of_a_removed_device_end_and_no_others() {
    let ended = Arc::new(Ended::default());
    let mut bench = Bench::new(|settings| {
        settings.revocations = Arc::clone(&ended) as _;
        settings.sessions_max = 100;
    });
    let removed = credentials();
    let mut others: Vec<_> = (0..5).map(|n| bench.connect(10 + n, None)).collect();
    others.push(bench.connect(20, Some(credentials())));
    let mut first = bench.connect(30, Some(Arc::clone(&removed)));
    let mut second = bench.connect(31, Some(Arc::clone(&removed)));
    let asked = first.seal(POST);
    let requests = bench.talk(&mut first, vec![asked]);
    assert_eq!(requests.len(), 1);

    *ended.0.lock().unwrap() = Some((fingerprint(&removed), UNIX_MS + 5));
    bench.endpoint.revoke_since(UNIX_MS + 5);
    // RFC 6347 has no order for it: a few peers in a turn, and every datagram has its turn between.
    let mut turns = 0;
    loop {
        let mut out = Outbox::default();
        let more = bench.endpoint.drop_revoked(3, &mut out);
        for device in [&mut first, &mut second] {
            bench.hand_over(device, &out);
        }
        turns += 1;
        if !more {
            break;
        }
    }
    assert_eq!(turns, 3, "eight peers, three in a turn");
    for device in [&first, &second] {
        assert!(device.connection.is_closed());
        assert_eq!(device.alert, Some(AlertDescription::AccessDenied));
    }
    assert_eq!(bench.metrics.value(Counter::SessionsRevoked), 2);
    assert_eq!(bench.metrics.value(Counter::Sessions), 6);
    // The answer to a request of the lost session finds nobody.
    let mut out = Outbox::default();
    let verdict = answer(&requests[0], 0x41);
    bench.endpoint.handle_verdict(bench.now, verdict, &mut out);
    assert!(out.is_sent());
    assert_eq!(bench.metrics.drops(DropReason::VerdictStale), 1);
    for device in &mut others {
        let asked = device.seal(POST);
        assert_eq!(bench.talk(device, vec![asked]).len(), 1);
    }
    // The same certificate proves its key anew, and the registry says what that is worth.
    let mut again = bench.connect(32, Some(removed));
    let asked = again.seal(POST);
    let requests = bench.talk(&mut again, vec![asked]);
    assert!(matches!(requests[0].identity, Identity::Certificate(_)));
}

#[test]
fn what_is_revoked_during_a_search_is_searched_for_from_the_start() {
    let ended = Arc::new(Ended::default());
    let mut bench = Bench::new(|settings| settings.revocations = Arc::clone(&ended) as _);
    let removed = credentials();
    let mut device = bench.connect(10, Some(Arc::clone(&removed)));
    for port in 11..15 {
        bench.connect(port, None);
    }
    let mut out = Outbox::default();
    bench.endpoint.revoke_since(UNIX_MS);
    assert!(bench.endpoint.drop_revoked(2, &mut out));
    // The search has passed the device's slot when its credential ends.
    *ended.0.lock().unwrap() = Some((fingerprint(&removed), UNIX_MS + 7));
    bench.endpoint.revoke_since(UNIX_MS + 7);
    while bench.endpoint.drop_revoked(2, &mut out) {}
    bench.hand_over(&mut device, &out);
    assert!(device.connection.is_closed());
    assert!(
        !bench.endpoint.drop_revoked(2, &mut out),
        "nothing is left to do"
    );
}

#[test]
fn a_token_device_has_no_session_of_its_own_to_lose() {
    // Its token is looked up at every request: the pool refuses the next one.
    let credential = crate::registry::Credential::AccessToken("T".into());
    assert_eq!(credential.session_identity(), None);
    let ended = Arc::new(Ended(Mutex::new(Some((PeerIdentity::Anonymous, u64::MAX)))));
    let mut bench = Bench::new(|settings| settings.revocations = ended);
    let mut device = bench.connect(10, None);
    let mut out = Outbox::default();
    bench.endpoint.revoke_since(0);
    assert!(!bench.endpoint.drop_revoked(100, &mut out));
    let asked = device.seal(POST);
    assert_eq!(bench.talk(&mut device, vec![asked]).len(), 1);
}
