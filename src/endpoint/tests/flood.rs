//! Floods of handshakes, and what they must not touch.

use super::secure::{Bench, Device, credentials};
use super::*;
use crate::dtls::client::ClientConfig;

/// A device whose second ClientHello, with a valid cookie, is on its way.
pub(super) fn knock(bench: &mut Bench, address: SocketAddr) -> (Device, Vec<u8>) {
    let (mut device, hello) = bench.start(address, ClientConfig::default());
    let out = deliver_only(bench, address, &hello[0]);
    let mut answers = bench.hand_over(&mut device, &out);
    assert_eq!(answers.len(), 1, "a ClientHello with the cookie");
    (device, answers.remove(0))
}

/// Hands a datagram over without letting the handshakes that wait have any time.
pub(super) fn deliver_only(bench: &mut Bench, from: SocketAddr, datagram: &[u8]) -> Outbox {
    let mut out = Outbox::default();
    let mut datagram = datagram.to_vec();
    bench
        .endpoint
        .handle_datagram(bench.now, from, Port::Secure, &mut datagram, &mut out);
    out
}

fn bench() -> Bench {
    Bench::new(|settings| {
        settings.sessions_max = 100_000;
        settings.handshakes_max = 10_000;
    })
}

#[test]
fn established_peers_are_served_while_handshakes_wait() {
    let mut bench = bench();
    let mut device = bench.connect(1, None);
    let (_, hello) = knock(&mut bench, peer(1000));
    for _ in 0..50 {
        assert!(deliver_only(&mut bench, peer(1000), &hello).is_sent());
        let asked = device.seal(POST);
        let out = deliver_only(&mut bench, device.address, &asked);
        // Each message has another record, but one message id: only the first is a request.
        assert_eq!(
            bench.metrics.value(Counter::RequestsCoaps),
            1,
            "{:?}",
            out.transmits()
        );
    }
    assert!(bench.endpoint.has_waiting());
    assert_eq!(bench.metrics.value(Counter::HandshakesStarted), 1);
}

/// RFC 6347 section 4.2.1: no state, and no public-key work, for addresses that proved nothing.
#[test]
fn a_flood_from_forged_addresses_leaves_nothing_and_is_answered_less_under_pressure() {
    let mut bench = bench();
    let (_, hello) = bench.start(peer(1), ClientConfig::default());
    bench.endpoint.begin_turn(true);
    let mut answers = 0;
    for port in 1..=64 {
        let out = deliver_only(&mut bench, peer(port), &hello[0]);
        let sent: usize = sent(&out).iter().map(|(_, datagram)| datagram.len()).sum();
        assert!(sent <= hello[0].len());
        answers += out.transmits().len();
    }
    assert_eq!(answers, 16);
    assert_eq!(bench.metrics.drops(DropReason::HelloVerifyBudget), 48);
    assert!(!bench.endpoint.has_waiting());
    assert_eq!(bench.metrics.value(Counter::HandshakesStarted), 0);
    // The next turn without pressure answers everyone.
    bench.endpoint.begin_turn(false);
    for port in 1..=64 {
        assert!(!deliver_only(&mut bench, peer(port), &hello[0]).is_sent());
    }
    assert_eq!(bench.metrics.value(Counter::HelloVerifyRequests), 80);
}

#[test]
fn what_waits_is_bounded_and_a_running_handshake_comes_first() {
    let mut bench = bench();
    // One handshake is under way: its flight 5 will come.
    let (mut running, hello) = knock(&mut bench, peer(1));
    let out = bench.deliver(peer(1), hello);
    let flight_5 = bench.hand_over(&mut running, &out);
    assert!(!flight_5.is_empty());
    // Thousands of others knock with valid cookies, each from an address of its own.
    let mut knocked = 0;
    for index in 0..5000_u32 {
        let [_, _, a, b] = index.to_be_bytes();
        let address = SocketAddr::from(([10, 0, a, b], 5000));
        let (_, hello) = knock(&mut bench, address);
        assert!(deliver_only(&mut bench, address, &hello).is_sent());
        knocked += 1;
        if index == 4999 {
            for datagram in &flight_5 {
                deliver_only(&mut bench, peer(1), datagram);
            }
        }
    }
    // A few of so many may share the counters of busier ones: the hash has another key each time.
    let limited = bench.metrics.drops(DropReason::AddressLimit);
    assert!(limited <= 10, "{limited}");
    let beyond = knocked - 4096 - limited;
    assert_eq!(bench.metrics.drops(DropReason::HandshakeBudget), beyond);
    // A peer cannot fill the room of the others with what looks like its handshake.
    for _ in 0..100 {
        deliver_only(&mut bench, peer(1), &flight_5[0]);
    }
    let dropped = bench.metrics.drops(DropReason::HandshakeBudget) - beyond;
    assert!(dropped >= 100 - 16, "{dropped}");
    // The first bit of time goes to the handshake that can be finished.
    let mut out = Outbox::default();
    for _ in 0..flight_5.len() {
        let mut waiting = bench.endpoint.next_waiting(bench.now).unwrap();
        assert_eq!(waiting.from(), peer(1));
        let now = bench.now;
        bench.endpoint.handle_waiting(now, &mut waiting, &mut out);
    }
    bench.hand_over(&mut running, &out);
    assert!(running.connection.is_established());
    // What waited too long has been sent again by then.
    bench.sleep(Duration::from_secs(3));
    assert!(bench.endpoint.next_waiting(bench.now).is_none());
    assert!(!bench.endpoint.has_waiting());
}

/// A valid cookie can be used again for a minute or two: not for work without end while others wait.
#[test]
fn an_address_that_starts_many_stands_back_while_others_wait() {
    let mut bench = bench();
    let start = |bench: &mut Bench, address| {
        let (_, hello) = knock(bench, address);
        deliver_only(bench, address, &hello);
    };
    for _ in 0..300 {
        // Nobody else is there: as many as it likes.
        start(&mut bench, peer(7));
    }
    let limited = bench.metrics.drops(DropReason::AddressLimit);
    assert!((30..=44).contains(&limited), "from the crowd on: {limited}");
    start(&mut bench, SocketAddr::from(([10, 0, 0, 1], 7)));
    assert_eq!(bench.metrics.drops(DropReason::AddressLimit), limited);
    start(&mut bench, peer(7));
    assert_eq!(bench.metrics.drops(DropReason::AddressLimit), limited + 1);
}

/// Counters that leak with every failure would end in dropping everything.
#[test]
fn a_storm_of_failing_handshakes_leaks_no_budget() {
    let mut bench = Bench::new(|settings| {
        settings.handshakes_max = 8;
        settings.sessions_max = 16;
    });
    let identity = credentials();
    for round in 0..60_u16 {
        for index in 0..8_u16 {
            let address = peer(1000 + (round * 8 + index) % 40);
            let config = ClientConfig {
                credentials: (index % 2 == 0).then(|| Arc::clone(&identity)),
                ..ClientConfig::default()
            };
            let (mut device, hello) = bench.start(address, config);
            let out = bench.deliver(address, hello[0].clone());
            let hello = bench.hand_over(&mut device, &out);
            let out = bench.deliver(address, hello[0].clone());
            let flight_5 = bench.hand_over(&mut device, &out);
            match index % 4 {
                // Silence, a Finished that does not fit, a flight cut off, a fatal alert.
                0 => {}
                1 => {
                    for mut datagram in flight_5 {
                        let at = datagram.len() / 2;
                        datagram[at] ^= 1;
                        bench.deliver(address, datagram);
                    }
                }
                2 => {
                    let mut datagram = flight_5[0].clone();
                    datagram.truncate(datagram.len() / 2);
                    bench.deliver(address, datagram);
                }
                _ => {
                    let alert = b"\x15\xfe\xfd\0\0\0\0\0\0\0\x09\0\x02\x02\x28";
                    bench.deliver(address, alert.to_vec());
                }
            }
        }
        bench.sleep(Duration::from_secs(31));
        let mut out = Outbox::default();
        for _ in 0..4 {
            bench.endpoint.handle_timeout(bench.now, &mut out);
        }
    }
    assert_eq!(bench.metrics.value(Counter::HandshakesCompleted), 0);
    assert_eq!(bench.metrics.value(Counter::HandshakesStarted), 480);
    assert_eq!(bench.metrics.value(Counter::HandshakesOpen), 0);
    assert_eq!(bench.metrics.value(Counter::Sessions), 0);
    // Every place can be taken: sixteen sessions, eight handshakes.
    for port in 1..=16 {
        bench.connect(port, None);
    }
}
