//! Sessions whose keys are expanded when they are needed.

use super::secure::{Bench, Device};
use super::*;

fn ask(bench: &mut Bench, device: &mut Device, message_id: u16) {
    let mut message = POST.to_vec();
    message[2..4].copy_from_slice(&message_id.to_be_bytes());
    let asked = device.seal(&message);
    let requests = bench.talk(device, vec![asked]);
    let [request] = requests.try_into().expect("one request");
    let mut out = Outbox::default();
    bench
        .endpoint
        .handle_verdict(bench.now, answer(&request, 0x41), &mut out);
    bench.hand_over(device, &out);
}

fn hot(bench: &Bench) -> usize {
    let peers = &bench.endpoint.peers;
    let keys = (0..peers.slots()).filter_map(|slot| peers.key_of(slot));
    keys.filter_map(|key| peers.get(key)?.association.as_ref())
        .filter(|association| association.has_expanded_keys())
        .count()
}

/// However many sessions there are, and whoever speaks: no more than the limit keep expanded keys,
/// and each is heard and answered as if it had kept them. No nonce is used again by that: a device
/// would not open a record with a sequence number that it has seen (RFC 6347 section 4.1.2.6).
#[test]
fn sessions_beyond_the_limit_keep_no_keys_and_go_on() {
    let mut bench = Bench::new(|settings| {
        settings.hot_sessions = 3;
        settings.sessions_max = 8;
    });
    let mut devices: Vec<Device> = (1..=8).map(|port| bench.connect(port, None)).collect();
    assert_eq!(hot(&bench), 0, "a handshake is no sign of a busy session");
    for message_id in 0..4 {
        for device in &mut devices {
            ask(&mut bench, device, message_id);
            assert_eq!(device.received.len(), 1 + usize::from(message_id));
            assert!(hot(&bench) <= 3);
        }
        assert_eq!(hot(&bench), 3);
    }
    // One that is busier than the owner of its place takes that.
    for device in &mut devices[3..6] {
        for message_id in 4..6 {
            ask(&mut bench, device, message_id);
            assert_eq!(hot(&bench), 3);
        }
    }
    let before = bench.metrics.value(Counter::Verdicts);
    for message_id in 6..20 {
        ask(&mut bench, &mut devices[0], message_id);
        ask(&mut bench, &mut devices[1], message_id);
    }
    assert_eq!(bench.metrics.value(Counter::Verdicts), before + 28);
    // A renewed session has the place of the old one.
    let mut renewed = bench.connect(1, None);
    ask(&mut bench, &mut renewed, 1);
    assert!(hot(&bench) <= 3);
}

/// The timer of a slow session is moved with its answer, so that it does not call for nothing; that of a
/// busy one is left to call.
#[test]
fn a_session_that_is_heard_now_and_then_is_called_by_no_timer_in_vain() {
    let timers_in = |pause: Duration| {
        let mut bench = Bench::new(|_| {});
        let mut device = bench.connect(1, None);
        // What the handshake leaves is over.
        bench.sleep(Duration::from_secs(400));
        for message_id in 0..3 {
            ask(&mut bench, &mut device, message_id);
            bench.sleep(pause);
        }
        let soon = bench.now.instant + Duration::from_secs(1);
        bench.endpoint.next_timeout() < soon
    };
    assert!(timers_in(Duration::from_millis(1)));
    assert!(!timers_in(Duration::from_millis(600)));
}
