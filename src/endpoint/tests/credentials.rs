//! Look-ups of pre-shared keys: one per handshake, permits, and answers that come late.

use super::secure::{Bench, Device};
use super::*;
use crate::auth::request::{CredentialRequest, CredentialVerdict};
use crate::crypto::pre_shared_key::{PreSharedKey, psk_identity_hash};
use crate::crypto::suite::CipherSuite;
use crate::dtls::client::{ClientConfig, ClientPreSharedKey};
use crate::dtls::{AlertDescription, PeerIdentity, Revocations};

const KEY: &[u8] = b"sixteen bytes or";

/// Some device has a pre-shared key.
#[derive(Debug)]
struct Keys;

impl Revocations for Keys {
    fn is_revoked(&self, _: &PeerIdentity, _: u64) -> bool {
        false
    }

    fn has_pre_shared_keys(&self) -> bool {
        true
    }
}

fn bench(lookups_max: usize) -> Bench {
    Bench::new(|settings| {
        settings.revocations = Arc::new(Keys);
        settings.credential_lookups_max = lookups_max;
    })
}

fn config(identity: &str) -> ClientConfig {
    ClientConfig {
        pre_shared_key: Some(Arc::new(ClientPreSharedKey {
            identity: identity.into(),
            key: PreSharedKey::new(KEY).unwrap(),
        })),
        cipher_suites: vec![CipherSuite::EcdhePskAes128Ccm8],
        ..ClientConfig::default()
    }
}

/// Delivers datagrams until both are silent; returns the look-ups.
fn talk(bench: &mut Bench, device: &mut Device, datagrams: Vec<Vec<u8>>) -> Vec<CredentialRequest> {
    let mut lookups = Vec::new();
    let mut waiting = datagrams;
    while !waiting.is_empty() {
        let mut next = Vec::new();
        for datagram in waiting {
            let mut out = bench.deliver(device.address, datagram);
            lookups.append(&mut out.credential_requests);
            next.extend(bench.hand_over(device, &out));
        }
        waiting = next;
    }
    lookups
}

fn answer(bench: &mut Bench, device: &mut Device, request: CredentialRequest, key: &[u8]) {
    let verdict = CredentialVerdict {
        request,
        key: PreSharedKey::new(key).map(Arc::new),
    };
    let mut out = Outbox::default();
    let now = bench.now;
    bench
        .endpoint
        .handle_credential_verdict(now, &verdict, &mut out);
    assert!(bench.hand_over(device, &out).is_empty());
}

#[test]
fn a_handshake_goes_on_with_the_answer_and_its_session_is_the_devices() {
    let mut bench = bench(10);
    let (mut device, hello) = bench.start(peer(10), config("meter"));
    let lookups = talk(&mut bench, &mut device, hello);
    let [lookup] = lookups[..] else {
        panic!("{lookups:?}")
    };
    assert_eq!(lookup.peer.shard, bench.endpoint.shard);
    assert_eq!(lookup.identity, psk_identity_hash(b"meter"));
    assert_eq!(bench.endpoint.lookups_in_work, 1);
    assert_eq!(bench.metrics.value(Counter::HandshakesOpen), 1);
    answer(&mut bench, &mut device, lookup, KEY);
    assert!(device.connection.is_established());
    assert_eq!(bench.endpoint.lookups_in_work, 0);
    assert_eq!(bench.metrics.value(Counter::HandshakesOpen), 0);
    assert_eq!(bench.metrics.value(Counter::HandshakesCompleted), 1);
    let reading = device.seal(POST);
    let requests = bench.talk(&mut device, vec![reading]);
    let identity = Identity::PreSharedKey(lookup.identity);
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].identity, identity);
    // The same answer once more is nobody's: the session has a new generation.
    answer(&mut bench, &mut device, lookup, KEY);
    assert_eq!(bench.metrics.drops(DropReason::VerdictStale), 1);
}

#[test]
fn an_unknown_identity_ends_at_its_finished_and_is_forgotten() {
    let mut bench = bench(10);
    let (mut device, hello) = bench.start(peer(10), config("nobody"));
    let lookups = talk(&mut bench, &mut device, hello);
    answer(&mut bench, &mut device, lookups[0], b"");
    assert!(!device.connection.is_closed(), "told before its second try");
    bench.sleep(Duration::from_secs(1));
    let mut flight = Vec::new();
    let mut context = crate::dtls::client::Context {
        random: &mut bench.random,
        out: &mut flight,
        drops: &mut |_| {},
    };
    device
        .connection
        .handle_timeout(bench.now, &mut context)
        .unwrap();
    assert!(talk(&mut bench, &mut device, flight).is_empty());
    assert!(device.connection.is_closed());
    assert_eq!(device.alert, Some(AlertDescription::DecryptError));
    assert_eq!(bench.metrics.value(Counter::HandshakesRefused), 1);
    assert_eq!(bench.metrics.value(Counter::Sessions), 0);
    assert_eq!(bench.metrics.value(Counter::HandshakesOpen), 0);
}

/// Without a permit, or with the queue full, nothing is said and nothing is held.
#[test]
fn look_ups_have_their_permits() {
    let mut bench = bench(1);
    let (mut first, hello) = bench.start(peer(10), config("a"));
    let lookups = talk(&mut bench, &mut first, hello);
    let (mut second, hello) = bench.start(peer(11), config("b"));
    assert!(talk(&mut bench, &mut second, hello).is_empty());
    assert_eq!(bench.metrics.drops(DropReason::CredentialLookupBudget), 1);
    assert!(!second.connection.is_closed());
    // The queue did not take it either: the permit is free again.
    bench.endpoint.handle_credential_refusal(&lookups[0]);
    assert_eq!(bench.endpoint.lookups_in_work, 0);
    assert_eq!(bench.metrics.drops(DropReason::CredentialLookupBudget), 2);
    for device in [&mut first, &mut second] {
        bench.sleep(Duration::from_secs(1));
        let mut flight = Vec::new();
        let mut context = crate::dtls::client::Context {
            random: &mut bench.random,
            out: &mut flight,
            drops: &mut |_| {},
        };
        device
            .connection
            .handle_timeout(bench.now, &mut context)
            .unwrap();
        let lookups = talk(&mut bench, device, flight);
        assert_eq!(lookups.len(), 1);
        answer(&mut bench, device, lookups[0], KEY);
        assert!(device.connection.is_established());
    }
}
