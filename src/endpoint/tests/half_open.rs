//! Handshakes that are begun and left, and the room that they take.

use super::flood::{deliver_only, knock};
use super::secure::{Bench, Device};
use super::*;

const PLACES: usize = 8;

fn bench() -> Bench {
    Bench::new(|settings| {
        settings.sessions_max = 1000;
        settings.handshakes_max = PLACES;
    })
}

/// A stranger's address: each has one of its own.
fn stranger(number: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, u8::try_from(number).unwrap()], 5000))
}

/// Begins a handshake, and leaves it at that. Returns the client with what it would go on with.
fn begin(bench: &mut Bench, address: SocketAddr) -> (Device, Vec<Vec<u8>>) {
    let (mut device, hello) = knock(bench, address);
    let out = bench.deliver(address, hello);
    let flight_5 = bench.hand_over(&mut device, &out);
    (device, flight_5)
}

/// Who has real addresses could begin handshakes and leave them: a few hundred a second would hold all
/// places for the 30 s that a handshake may take.
#[test]
fn handshakes_that_were_left_keep_nobody_out() {
    let mut bench = bench();
    let mut served = bench.connect(1, None);
    for round in 0..20 {
        for number in 0..PLACES {
            begin(&mut bench, stranger(round * PLACES + number));
        }
        assert!(bench.metrics.value(Counter::HandshakesOpen) <= PLACES as u64);
        // As long as they may just be slow, their places are theirs.
        if round == 0 {
            let (_, flight_5) = begin(&mut bench, peer(2));
            assert!(flight_5.is_empty(), "let in beyond the budget");
        }
        bench.sleep(Duration::from_millis(3100));
        bench.connect(100 + u16::try_from(round).unwrap(), None);
        bench.sleep(Duration::from_millis(3100));
    }
    let displaced = bench.metrics.value(Counter::HandshakesDisplaced);
    assert!(displaced >= 100, "{displaced} gave way");
    assert!(bench.endpoint.by_address.len() <= 21 + PLACES);
    let asked = served.seal(POST);
    assert_eq!(bench.talk(&mut served, vec![asked]).len(), 1);
    // All that is left of them goes with their time.
    bench.sleep(Duration::from_secs(31));
    bench
        .endpoint
        .handle_timeout(bench.now, &mut Outbox::default());
    assert_eq!(bench.metrics.value(Counter::HandshakesOpen), 0);
    assert_eq!(bench.metrics.value(Counter::Sessions), 21);
}

/// A peer that begins anew again and again is as old as its last beginning, and does not keep those
/// behind it from giving way. A session stays when the handshake beside it goes.
#[test]
fn the_oldest_gives_way_and_takes_no_session_along() {
    let mut bench = bench();
    let mut busy = bench.connect(1, None);
    begin(&mut bench, busy.address);
    for number in 1..PLACES {
        begin(&mut bench, stranger(number));
    }
    bench.sleep(Duration::from_millis(2900));
    let (mut slow, flight_5) = begin(&mut bench, stranger(1));
    bench.sleep(Duration::from_millis(200));
    // The one beside the session goes first, then the stranger's that was never touched again.
    bench.connect(2, None);
    assert_eq!(bench.metrics.value(Counter::HandshakesDisplaced), 1);
    let (_, hello) = knock(&mut bench, peer(3));
    assert!(!bench.deliver(peer(3), hello).is_sent(), "a flight 4");
    let (_, hello) = knock(&mut bench, peer(4));
    assert!(!bench.deliver(peer(4), hello).is_sent(), "a flight 4");
    assert_eq!(bench.metrics.value(Counter::HandshakesDisplaced), 2);
    bench.talk(&mut slow, flight_5);
    assert!(slow.connection.is_established(), "it began anew just now");
    let asked = busy.seal(POST);
    assert_eq!(bench.talk(&mut busy, vec![asked]).len(), 1);
}

/// From half of the places on, one address has no more of them than its share.
#[test]
fn an_address_that_begins_many_gets_not_all_places() {
    let mut bench = Bench::new(|settings| {
        settings.sessions_max = 1000;
        settings.handshakes_max = 100;
        settings.handshakes_per_address = 60;
    });
    let mut flights = 0;
    for port in 1..=200 {
        let address = SocketAddr::from(([10, 0, 0, 1], port));
        let (_, hello) = knock(&mut bench, address);
        flights += usize::from(!bench.deliver(address, hello).is_sent());
    }
    assert_eq!(flights, 60);
    assert_eq!(bench.metrics.drops(DropReason::AddressLimit), 140);
    bench.connect(7, None);
}

/// Memory counts, too: announcing long messages and sending little of them fills no more than the
/// budget, and costs nobody else anything.
#[test]
fn the_memory_of_handshakes_has_a_budget() {
    // Certificate of 8192 bytes with message_seq 2, of which one byte comes.
    let fragment = |sequence: u8, message_seq: u8, length: [u8; 2]| {
        let mut record = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, sequence, 0, 13];
        record.extend_from_slice(&[
            11,
            0,
            length[0],
            length[1],
            0,
            message_seq,
            0,
            0,
            0,
            0,
            0,
            1,
            7,
        ]);
        record
    };
    let mut bench = Bench::new(|settings| {
        settings.sessions_max = 1000;
        settings.handshakes_max = 100;
    });
    let mut served = bench.connect(1, None);
    for number in 0..100 {
        begin(&mut bench, stranger(number));
        for (sequence, length) in [(9, [0x20, 0]), (10, [0x08, 0])] {
            let datagram = fragment(sequence, sequence - 7, length);
            deliver_only(&mut bench, stranger(number), &datagram);
        }
        bench
            .endpoint
            .handle_all_waiting(bench.now, &mut Outbox::default());
    }
    // 100 places of 8 KiB: of those who take twice as much not all can stay.
    let open = bench.metrics.value(Counter::HandshakesOpen);
    assert!((30..60).contains(&open), "{open} stayed");
    assert!(bench.metrics.value(Counter::HandshakesDisplaced) >= 1);
    bench.sleep(Duration::from_millis(3100));
    for port in 10..20 {
        bench.connect(port, None);
    }
    let asked = served.seal(POST);
    assert_eq!(bench.talk(&mut served, vec![asked]).len(), 1);
}

/// A session that is ended by us takes the handshake beside it along, and its place in the budget.
#[test]
fn a_session_that_is_closed_gives_back_the_place_of_the_handshake_beside_it() {
    let mut bench = bench();
    for _ in 0..2 * PLACES {
        let device = bench.connect(1, None);
        begin(&mut bench, device.address);
        assert_eq!(bench.metrics.value(Counter::HandshakesOpen), 1);
        let key = bench.endpoint.peers.key_of(0).unwrap();
        bench.endpoint.close_peer(key, &mut Outbox::default());
        assert_eq!(bench.metrics.value(Counter::HandshakesOpen), 0);
        assert_eq!(bench.metrics.value(Counter::Sessions), 0);
    }
}
