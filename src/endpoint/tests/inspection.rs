//! What administrators see of a shard's sessions, and what was timed.

use std::sync::mpsc;

use super::secure::{Bench, credentials};
use super::*;
use crate::histogram::HistogramSum;
use crate::metrics::Latency;

fn list(
    bench: &mut Bench,
    first_slot: u32,
    limit: usize,
    identity: Option<Identity>,
) -> SessionPart {
    let (sender, receiver) = mpsc::channel();
    let question = Inspection::List {
        first_slot,
        limit,
        identity,
        answer: Box::new(move |part| sender.send(part).unwrap()),
    };
    let mut out = Outbox::default();
    bench.endpoint.inspect(bench.now, question, &mut out);
    assert!(out.is_sent(), "looking changes nothing");
    receiver.try_recv().expect("an answer at once")
}

fn close(bench: &mut Bench, key: Key, out: &mut Outbox) -> bool {
    let (sender, receiver) = mpsc::channel();
    let question = Inspection::Close {
        key,
        answer: Box::new(move |closed| sender.send(closed).unwrap()),
    };
    bench.endpoint.inspect(bench.now, question, out);
    receiver.try_recv().expect("an answer at once")
}

#[test]
fn sessions_are_listed_in_parts() {
    let mut bench = Bench::new(|_| ());
    let known = credentials();
    let mut devices: Vec<_> = (0..5).map(|n| bench.connect(10 + n, None)).collect();
    devices.push(bench.connect(20, Some(known)));
    // A plain peer has no session.
    receive(&mut bench.endpoint, bench.now, peer(7), POST);
    bench.sleep(Duration::from_secs(90));
    let upload = devices[2].seal(POST);
    let heard = devices[2].address;
    bench.deliver(heard, upload);
    bench.sleep(Duration::from_secs(5));

    let mut all = Vec::new();
    let mut first = 0;
    let mut parts = 0;
    loop {
        let part = list(&mut bench, first, 4, None);
        assert!(part.sessions.len() <= 4);
        all.extend(part.sessions);
        parts += 1;
        let Some(next) = part.next_slot else { break };
        first = next;
    }
    assert_eq!((all.len(), parts), (6, 2));
    let of = |address| all.iter().find(|found| found.address == address).unwrap();
    let quiet = of(devices[0].address);
    assert_eq!(quiet.identity, Identity::Anonymous);
    assert_eq!((quiet.age.as_secs(), quiet.idle.as_secs()), (95, 95));
    assert!(quiet.suite.starts_with("TLS_ECDHE_ECDSA_"), "{quiet:?}");
    assert!(!quiet.is_resumed);
    assert_eq!((of(heard).age.as_secs(), of(heard).idle.as_secs()), (95, 5));

    let certificate = of(devices[5].address).identity;
    assert!(matches!(certificate, Identity::Certificate(_)));
    let part = list(&mut bench, 0, 100, Some(certificate));
    assert_eq!(part.next_slot, None);
    let found: Vec<_> = part.sessions.iter().map(|found| found.address).collect();
    assert_eq!(found, [devices[5].address]);
    assert_eq!(list(&mut bench, 1000, 4, None), SessionPart::default());
}

#[test]
fn a_session_is_closed_once_and_its_peer_is_told() {
    let mut bench = Bench::new(|_| ());
    let mut device = bench.connect(10, None);
    let other = bench.connect(11, None);
    let found = list(&mut bench, 0, 100, None).sessions;
    let key = found
        .iter()
        .find(|found| found.address == device.address)
        .unwrap()
        .key;
    let stale = Key {
        generation: key.generation.wrapping_sub(1),
        ..key
    };
    let mut out = Outbox::default();
    assert!(!close(&mut bench, stale, &mut out));
    assert!(close(&mut bench, key, &mut out));
    bench.hand_over(&mut device, &out);
    assert!(device.connection.is_closed());
    assert!(
        !close(&mut bench, key, &mut Outbox::default()),
        "it is gone"
    );
    assert_eq!(bench.metrics.value(Counter::SessionsDismissed), 1);
    let left = list(&mut bench, 0, 100, None).sessions;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].address, other.address);
}

#[test]
fn requests_and_handshakes_are_timed() {
    let mut bench = Bench::new(|_| ());
    let config = crate::dtls::client::ClientConfig::default();
    let (mut device, hello) = bench.start(peer(10), config);
    // The client's last flight comes 200 ms after its second ClientHello.
    let mut datagrams = hello;
    for _ in 0..2 {
        let mut answers = Vec::new();
        for datagram in std::mem::take(&mut datagrams) {
            let out = bench.deliver(device.address, datagram);
            answers.extend(bench.hand_over(&mut device, &out));
        }
        datagrams = answers;
    }
    bench.sleep(Duration::from_millis(200));
    bench.talk(&mut device, datagrams);
    assert!(device.connection.is_established());
    let sum = |bench: &Bench, latency| HistogramSum::of([bench.metrics.histogram(latency)]);
    let handshakes = sum(&bench, Latency::Handshake);
    assert_eq!(
        (handshakes.count(), handshakes.total().as_millis()),
        (1, 200)
    );

    let upload = device.seal(POST);
    let request = bench.talk(&mut device, vec![upload]).pop().unwrap();
    bench.sleep(Duration::from_millis(3));
    let mut out = Outbox::default();
    // An answer that comes twice is counted once.
    for verdict in [answer(&request, 0x41), answer(&request, 0x41)] {
        bench.endpoint.handle_verdict(bench.now, verdict, &mut out);
    }
    let requests = sum(&bench, Latency::Request);
    assert_eq!((requests.count(), requests.total().as_micros()), (1, 3000));

    // A non-confirmable one is remembered for another time.
    let mut non = POST.to_vec();
    (non[0], non[3]) = (0x54, 0x35);
    let mut out = receive(&mut bench.endpoint, bench.now, peer(7), &non);
    let request = out.requests.pop().unwrap();
    bench.sleep(Duration::from_millis(7));
    let verdict = answer(&request, 0x41);
    bench.endpoint.handle_verdict(bench.now, verdict, &mut out);
    let requests = sum(&bench, Latency::Request);
    assert_eq!(
        (requests.count(), requests.total().as_micros()),
        (2, 10_000)
    );
}
