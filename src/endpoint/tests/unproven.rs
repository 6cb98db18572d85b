//! A full table, and whose sessions give way.

use super::secure::{Bench, credentials};
use super::*;

const PLACES: u16 = 20;

/// Strangers get sessions as anybody does, with certificates of their own making too. Once theirs fill
/// the table devices still get in, and what a device has stays its own.
#[test]
fn sessions_that_strangers_never_use_keep_no_device_out() {
    let mut bench = Bench::new(|settings| {
        settings.sessions_max = PLACES.into();
        settings.handshakes_max = 100;
    });
    let mut device = bench.connect(1, None);
    let asked = device.seal(POST);
    let request = bench.talk(&mut device, vec![asked]).pop().unwrap();
    bench
        .endpoint
        .handle_verdict(bench.now, answer(&request, 0x41), &mut Outbox::default());
    // A wrong token is no proof.
    let mut stranger = bench.connect(2, Some(credentials()));
    let asked = stranger.seal(POST);
    let request = bench.talk(&mut stranger, vec![asked]).pop().unwrap();
    bench
        .endpoint
        .handle_verdict(bench.now, answer(&request, 0x81), &mut Outbox::default());
    // Neither is what anybody may ask, such as which resources there are.
    for port in 3..=PLACES {
        let mut stranger = bench.connect(port, None);
        let asked = stranger.seal(POST);
        let request = bench.talk(&mut stranger, vec![asked]).pop().unwrap();
        let public = Response {
            is_public: true,
            ..Response::empty(0x45)
        };
        let verdict = request.into_verdict(public);
        bench
            .endpoint
            .handle_verdict(bench.now, verdict, &mut Outbox::default());
    }
    // Whoever has just come may be about to send.
    let (mut early, hello) = bench.start(peer(50), crate::dtls::client::ClientConfig::default());
    bench.talk(&mut early, hello);
    assert!(!early.connection.is_established());
    for round in 0..5 {
        bench.sleep(Duration::from_secs(61));
        bench
            .endpoint
            .handle_timeout(bench.now, &mut Outbox::default());
        for port in 0..PLACES / 2 {
            bench.connect(100 * (round + 1) + port, None);
        }
        assert_eq!(bench.metrics.value(Counter::Sessions), u64::from(PLACES));
    }
    let displaced = u64::from(5 * (PLACES / 2));
    assert_eq!(bench.metrics.value(Counter::SessionsDisplaced), displaced);
    let mut again = POST.to_vec();
    again[3] ^= 1;
    let asked = device.seal(&again);
    assert_eq!(bench.talk(&mut device, vec![asked]).len(), 1);
}

/// What devices have stays theirs, however idle; that there is no room for others is told once a minute.
#[test]
fn a_table_full_of_devices_is_told_of_and_changes_for_nobody() {
    let mut bench = Bench::new(|settings| settings.sessions_max = 3);
    let mut devices: Vec<_> = (1..=3).map(|port| bench.connect(port, None)).collect();
    for device in &mut devices {
        let asked = device.seal(POST);
        let request = bench.talk(device, vec![asked]).pop().unwrap();
        let verdict = answer(&request, 0x41);
        let now = bench.now;
        bench
            .endpoint
            .handle_verdict(now, verdict, &mut Outbox::default());
    }
    let mut notes = Vec::new();
    for number in 0..10 {
        // Half a minute apart.
        bench.sleep(Duration::from_secs(30));
        let config = crate::dtls::client::ClientConfig::default();
        let (mut late, hello) = bench.start(peer(50 + number), config);
        let mut waiting = hello;
        for _ in 0..2 {
            let mut next = Vec::new();
            for datagram in waiting {
                let mut out = bench.deliver(late.address, datagram);
                notes.extend(out.take_notes());
                next.extend(bench.hand_over(&mut late, &out));
            }
            waiting = next;
        }
        assert!(!late.connection.is_established());
    }
    assert_eq!(notes, [Note::SessionsFull(3); 5]);
    assert_eq!(bench.metrics.value(Counter::SessionsDisplaced), 0);
    assert_eq!(bench.metrics.value(Counter::Sessions), 3);
}
