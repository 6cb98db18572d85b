//! Peers that are found by their connection id (RFC 9146) and move (RFC 9853).

use super::secure::{Bench, Device, credentials};
use super::*;
use crate::dtls::ServerConfig;
use crate::dtls::client::ClientConfig;

/// A server on shard 2 of 4, node 9, that gives out ids of `length` bytes.
pub(super) fn bench_with(length: u8) -> Bench {
    Bench::on_shard(2, |settings| {
        settings.shards = 4;
        settings.node_id = 9;
        settings.dtls = ArcSwapOption::from_pointee(ServerConfig {
            connection_id_length: Some(length),
            ..ServerConfig::new(credentials())
        });
    })
}

pub(super) fn with_id(id: &[u8]) -> ClientConfig {
    ClientConfig {
        connection_id: Some(id.to_vec()),
        ..ClientConfig::default()
    }
}

pub(super) fn with_check() -> ClientConfig {
    ClientConfig {
        return_routability_check: true,
        ..with_id(b"")
    }
}

pub(super) fn connect(bench: &mut Bench, port: u16, config: ClientConfig) -> Device {
    let (mut device, hello) = bench.start(peer(port), config);
    bench.talk(&mut device, hello);
    assert!(device.connection.is_established(), "the handshake ended");
    device
}

/// A CON POST with a Message ID of its own.
pub(super) fn post(message_id: u16) -> Vec<u8> {
    let mut message = POST.to_vec();
    message[2..4].copy_from_slice(&message_id.to_be_bytes());
    message
}

pub(super) fn verdict(bench: &mut Bench, request: &Request, payload: usize) -> Outbox {
    let mut out = Outbox::default();
    let verdict = Verdict {
        response: Response {
            payload: vec![b'x'; payload],
            ..Response::empty(0x45)
        },
        ..answer(request, 0x45)
    };
    bench.endpoint.handle_verdict(bench.now, verdict, &mut out);
    out
}

fn timeout(bench: &mut Bench) -> Outbox {
    let mut out = Outbox::default();
    bench.endpoint.handle_timeout(bench.now, &mut out);
    out
}

/// RFC 9146 section 6: the session goes on from any address, with its identity, its requests in work
/// and no handshake.
#[test]
fn a_session_survives_ten_address_changes() {
    let mut bench = bench_with(8);
    let certificate = credentials();
    let config = ClientConfig {
        credentials: Some(certificate),
        ..with_id(b"its own id")
    };
    let mut device = connect(&mut bench, 1000, config);
    let id = device.connection.peer_connection_id().to_vec();
    assert_eq!((id.len(), &id[..2]), (8, &[2, 9][..]), "shard and node");
    let asked = device.seal(&post(1));
    let mut waiting = bench.talk(&mut device, vec![asked]).pop().unwrap();
    let identity = waiting.identity;
    assert!(matches!(identity, Identity::Certificate(_)));
    for change in 1..=10 {
        device.address = peer(1000 + change);
        let asked = device.seal(&post(1 + change));
        let request = bench.talk(&mut device, vec![asked]).pop().unwrap();
        assert_eq!((request.peer, request.identity), (waiting.peer, identity));
        // What was asked from the address before is answered at the one of now.
        let out = verdict(&mut bench, &waiting, 0);
        assert_eq!(sent(&out)[0].0, device.address);
        bench.hand_over(&mut device, &out);
        assert_eq!(device.received.len(), usize::from(change));
        waiting = request;
    }
    let count = |counter| bench.metrics.value(counter);
    assert_eq!(count(Counter::AddressChanges), 10);
    assert_eq!(count(Counter::HandshakesCompleted), 1);
    assert_eq!(count(Counter::CidLookupsMissed), 0);
    assert_eq!(bench.endpoint.by_address.len(), 1);
    assert_eq!(bench.endpoint.connection_ids.len(), 1);
}

/// RFC 9146 section 6: "newer in terms of both epoch and sequence number", and authentic. (The case
/// of a CID address redirect.)
#[test]
fn a_replayed_an_old_or_a_forged_record_moves_nobody() {
    let mut bench = bench_with(8);
    let mut device = connect(&mut bench, 7, with_id(b""));
    let [first, overtaken, third] = [post(1), post(2), post(3)].map(|m| device.seal(&m));
    bench.deliver(device.address, first.clone());
    let third_came = bench.deliver(device.address, third.clone());
    assert_eq!(third_came.requests.len(), 1);

    let stranger = peer(666);
    assert!(bench.deliver(stranger, first).requests.is_empty());
    assert!(bench.deliver(stranger, third).requests.is_empty());
    let mut forged = device.seal(&post(4));
    *forged.last_mut().unwrap() ^= 1;
    assert!(bench.deliver(stranger, forged).is_sent());
    assert_eq!(bench.metrics.drops(DropReason::RecordReplayed), 2);
    assert_eq!(bench.metrics.drops(DropReason::RecordForged), 1);
    // Overtaken, but authentic and new: read, and answered where the peer is.
    let mut request = bench.deliver(stranger, overtaken).requests;
    let out = verdict(&mut bench, &request.pop().unwrap(), 0);
    assert_eq!(sent(&out)[0].0, device.address);
    assert_eq!(bench.metrics.value(Counter::AddressChanges), 0);
}

/// A CID that is guessed, of another node, or that names no shard is dropped in silence.
#[test]
fn an_unknown_id_is_never_answered() {
    let mut bench = bench_with(8);
    let mut device = connect(&mut bench, 7, with_id(b""));
    let record = device.seal(&post(1));
    let changed = |at: usize, to: u8| {
        let mut record = record.clone();
        record[at] = to;
        record
    };
    let guess = record[18] ^ 1;
    for (datagram, reason) in [
        (changed(18, guess), DropReason::ConnectionIdUnknown),
        (changed(12, 8), DropReason::ConnectionIdNode),
        (changed(11, 4), DropReason::ConnectionIdUnknown),
        (changed(11, 255), DropReason::ConnectionIdUnknown),
    ] {
        let before = bench.metrics.drops(reason);
        for from in [device.address, peer(666)] {
            let out = bench.deliver(from, datagram.clone());
            assert!(out.is_sent() && out.handovers.is_empty());
        }
        assert_eq!(bench.metrics.drops(reason), before + 2);
    }
    assert_eq!(bench.metrics.value(Counter::CidLookupsMissed), 2);
    // Cut before the end of the id: no session, as any other noise.
    assert!(bench.deliver(peer(666), record[..15].to_vec()).is_sent());
    assert_eq!(bench.talk(&mut device, vec![record]).len(), 1);
}

/// RFC 9146 section 3: a record without the id that was agreed on is invalid, and so is one with an
/// id where none was.
#[test]
fn the_other_format_is_dropped_from_the_right_address_too() {
    let mut bench = bench_with(8);
    let mut with = connect(&mut bench, 7, with_id(b""));
    let mut without = connect(&mut bench, 8, ClientConfig::default());
    let plain = without.seal(&post(1));
    assert!(
        bench
            .deliver(with.address, plain.clone())
            .requests
            .is_empty()
    );
    assert_eq!(bench.metrics.drops(DropReason::ConnectionIdMissing), 1);
    let tagged = with.seal(&post(1));
    // The id is looked up first: from another's address it is still the first device's.
    let out = bench.deliver(without.address, tagged);
    assert_eq!(out.requests.len(), 1);
    with.address = without.address;
    assert_eq!(bench.metrics.value(Counter::AddressChanges), 1);
    // Both are at one address now; each is found in its own way.
    let out = bench.deliver(without.address, plain);
    assert_eq!(out.requests.len(), 1);
    let again = with.seal(&post(2));
    assert_eq!(bench.talk(&mut with, vec![again]).len(), 1);
    // The one with the id leaves, and the other's place is untouched.
    let mut goodbye = Vec::new();
    with.connection.close(&mut crate::dtls::client::Context {
        random: &mut SeededRandom::new(3),
        out: &mut goodbye,
        drops: &mut |_| {},
    });
    bench.talk(&mut with, goodbye);
    assert_eq!(bench.endpoint.connection_ids.len(), 0);
    let last = without.seal(&post(2));
    assert_eq!(bench.talk(&mut without, vec![last]).len(), 1);
}

#[test]
fn a_datagram_of_another_shard_is_handed_over_once() {
    let mut owner = bench_with(8);
    let mut device = connect(&mut owner, 7, with_id(b""));
    let mut other = Bench::on_shard(1, |settings| {
        settings.shards = 4;
        settings.node_id = 9;
        settings.dtls = ArcSwapOption::from_pointee(ServerConfig {
            connection_id_length: Some(8),
            ..ServerConfig::new(credentials())
        });
    });
    let record = device.seal(&post(1));
    let mut out = other.deliver(device.address, record.clone());
    let expected = Handover {
        shard: 2,
        from: device.address,
        local: Port::Secure.into(),
        datagram: record.into(),
    };
    assert_eq!(out.handovers, [expected]);
    assert!(out.is_sent() && out.requests.is_empty());
    let handover = out.handovers.pop().unwrap();
    let out = owner.deliver(handover.from, handover.datagram.into_vec());
    assert_eq!((out.requests.len(), out.handovers.len()), (1, 0));
}

/// The ids of a peer come and go with its handshakes and sessions.
#[test]
fn the_index_holds_the_ids_of_live_peers_and_no_others() {
    let mut bench = bench_with(8);
    let mut device = connect(&mut bench, 7, with_id(b""));
    let first = device.connection.peer_connection_id().to_vec();
    let asked = device.seal(&post(1));
    let request = bench.talk(&mut device, vec![asked]).pop().unwrap();
    // A new session takes the place of the old one, id and all.
    let mut device = connect(&mut bench, 7, with_id(b""));
    assert_ne!(device.connection.peer_connection_id(), first);
    assert_eq!(bench.endpoint.connection_ids.len(), 1);
    assert!(
        verdict(&mut bench, &request, 0).is_sent(),
        "of the old session"
    );
    let asked = device.seal(&post(1));
    assert_eq!(bench.talk(&mut device, vec![asked]).len(), 1);

    // A handshake that stays half open has an id of its own, until its time is over.
    let (mut half, hello) = bench.start(peer(8), with_id(b""));
    let out = bench.deliver(half.address, hello[0].clone());
    let hello = bench.hand_over(&mut half, &out).remove(0);
    bench.deliver(half.address, hello);
    assert_eq!(bench.endpoint.connection_ids.len(), 2);
    bench.sleep(Duration::from_secs(31));
    timeout(&mut bench);
    assert_eq!(bench.endpoint.connection_ids.len(), 1);

    bench.endpoint.forget(device.address, Port::Secure);
    assert_eq!(bench.endpoint.connection_ids.len(), 0);
}

/// A panic is the fault of the peer that the datagram's id names, not of who is at its source.
#[test]
fn the_peer_in_work_is_the_one_that_is_forgotten() {
    let mut bench = bench_with(8);
    let mut first = connect(&mut bench, 7, with_id(b""));
    let mut second = connect(&mut bench, 8, with_id(b""));
    let overtaken = first.seal(&post(1));
    let asked = first.seal(&post(2));
    bench.talk(&mut first, vec![asked]);
    bench.deliver(second.address, overtaken);
    bench.endpoint.forget(second.address, Port::Secure);
    let asked = second.seal(&post(1));
    assert_eq!(bench.talk(&mut second, vec![asked]).len(), 1);
    let asked = first.seal(&post(3));
    assert!(bench.talk(&mut first, vec![asked]).is_empty());
}

/// With a length of 1 a shard has one id: whoever comes second goes without, and is served.
#[test]
fn without_a_free_id_the_handshake_goes_on_without_one() {
    let mut bench = bench_with(1);
    let first = connect(&mut bench, 7, with_id(b""));
    assert_eq!(first.connection.peer_connection_id(), [2]);
    let mut second = connect(&mut bench, 8, with_check());
    assert_eq!(second.connection.peer_connection_id(), b"");
    assert!(!second.connection.return_routability_check());
    assert_eq!(bench.metrics.value(Counter::CidExhausted), 1);
    let asked = second.seal(&post(1));
    assert_eq!(bench.talk(&mut second, vec![asked]).len(), 1);
}

/// Length 0: the peer's id is used, none is asked for (RFC 9146 section 3).
#[test]
fn an_empty_id_of_ours_leaves_the_peer_s_in_use() {
    let mut bench = bench_with(0);
    let mut device = connect(&mut bench, 7, with_id(b"device"));
    assert_eq!(device.connection.peer_connection_id(), b"");
    let asked = device.seal(&post(1));
    assert_eq!(asked[0], 23);
    let request = bench.talk(&mut device, vec![asked]).pop().unwrap();
    let out = verdict(&mut bench, &request, 0);
    let (_, datagram) = &sent(&out)[0];
    assert_eq!((datagram[0], &datagram[11..17]), (25, &b"device"[..]));
    bench.hand_over(&mut device, &out);
    assert_eq!(device.received.len(), 1);
}

/// RFC 9853 section 5: three times the bytes that came, retransmissions included.
#[test]
fn an_address_that_is_not_confirmed_gets_three_times_what_came_from_it() {
    let mut bench = bench_with(8);
    let mut device = connect(&mut bench, 7, with_id(b""));
    device.address = peer(8);
    let asked = device.seal(&post(1));
    let limit = 3 * asked.len();
    let request = bench.talk(&mut device, vec![asked]).pop().unwrap();
    let out = verdict(&mut bench, &request, 1000);
    assert!(out.is_sent(), "1000 bytes for {}", limit / 3);
    assert_eq!(bench.metrics.drops(DropReason::PathLimit), 1);
    // The device asks again, with the same Message ID, until the limit has grown.
    let mut got = 0;
    let mut came = limit / 3;
    for _ in 0..8 {
        let asked = device.seal(&post(1));
        came += asked.len();
        let out = bench.deliver(device.address, asked);
        got += sent(&out)
            .iter()
            .map(|(_, datagram)| datagram.len())
            .sum::<usize>();
        assert!(got <= 3 * came, "{got} bytes for {came}");
    }
    assert!(got > 1000, "the limit does not grow");
    assert_eq!(bench.metrics.value(Counter::PathsConfirmed), 0);
    // Back where it was confirmed nothing is limited.
    device.address = peer(7);
    let asked = device.seal(&post(2));
    let request = bench.talk(&mut device, vec![asked]).pop().unwrap();
    assert!(!verdict(&mut bench, &request, 1000).is_sent());
}

/// Without RFC 9853: the ACK of a message that was first sent to the new address.
#[test]
fn an_acknowledgement_from_the_new_address_confirms_it() {
    let mut bench = bench_with(8);
    let mut device = connect(&mut bench, 7, with_id(b""));
    // A confirmable answer that was sent before the move proves nothing when it is sent again.
    let asked = device.seal(&post(1));
    let request = bench.talk(&mut device, vec![asked]).pop().unwrap();
    bench.sleep(Duration::from_secs(2));
    timeout(&mut bench);
    let before = sent_to(&mut bench, &mut device, &request);
    device.address = peer(8);
    let asked = device.seal(&post(2));
    let request = bench.talk(&mut device, vec![asked]).pop().unwrap();
    let acknowledge = |id: &[u8]| [&[0x60, 0][..], id].concat();
    let ack = device.seal(&acknowledge(&before[2..4]));
    bench.deliver(device.address, ack);
    assert_eq!(bench.metrics.value(Counter::PathsConfirmed), 0);

    bench.sleep(Duration::from_secs(2));
    timeout(&mut bench);
    let after = sent_to(&mut bench, &mut device, &request);
    assert_eq!(after[0] >> 4, 4, "confirmable");
    let ack = device.seal(&acknowledge(&after[2..4]));
    bench.deliver(device.address, ack);
    assert_eq!(bench.metrics.value(Counter::PathsConfirmed), 1);
    let asked = device.seal(&post(3));
    let request = bench.talk(&mut device, vec![asked]).pop().unwrap();
    assert!(!verdict(&mut bench, &request, 1000).is_sent(), "no limit");
}

/// The message of an answer that comes late.
fn sent_to(bench: &mut Bench, device: &mut Device, request: &Request) -> Vec<u8> {
    let out = verdict(bench, request, 0);
    bench.hand_over(device, &out);
    device.received.last().unwrap().clone()
}

/// RFC 9853 section 5.1.
#[test]
fn a_peer_that_knows_the_check_confirms_its_new_address_at_once() {
    let mut bench = bench_with(8);
    for (port, config) in [
        (7, with_check()),
        (
            1007,
            ClientConfig {
                connection_id: Some(b"id".to_vec()),
                ..with_check()
            },
        ),
    ] {
        let confirmed = bench.metrics.value(Counter::PathsConfirmed);
        let mut device = connect(&mut bench, port, config);
        assert!(device.connection.return_routability_check());
        device.address = peer(port + 1);
        let asked = device.seal(&post(1));
        let request = bench.talk(&mut device, vec![asked]).pop().unwrap();
        assert_eq!(bench.metrics.value(Counter::PathsConfirmed), confirmed + 1);
        assert!(!verdict(&mut bench, &request, 1000).is_sent(), "no limit");
    }
    assert_eq!(bench.metrics.value(Counter::PathsUnconfirmed), 0);
}

/// RFC 9853 section 6: the newest record, copied and sent on with a forged source before the original
/// is there. The victim answers no challenge, gets little, and the address goes back.
#[test]
fn a_victim_that_cannot_answer_is_left_alone() {
    let mut bench = bench_with(8);
    let mut device = connect(&mut bench, 7, with_check());
    let victim = peer(666);
    let copied = device.seal(&post(1));
    let limit = 3 * copied.len();
    let mut out = bench.deliver(victim, copied.clone());
    let challenge = sent(&out);
    assert_eq!((challenge.len(), challenge[0].0), (1, victim));
    let mut got = challenge[0].1.len();
    // The original is a replay now, and moves nothing.
    assert!(bench.deliver(device.address, copied).requests.is_empty());
    let request = out.requests.pop().unwrap();
    got += sent(&verdict(&mut bench, &request, 0))[0].1.len();
    let mut challenges = vec![challenge[0].1.clone()];
    for _ in 0..80 {
        bench.sleep(Duration::from_millis(100));
        for (to, datagram) in sent(&timeout(&mut bench)) {
            assert_eq!(to, victim);
            got += datagram.len();
            challenges.push(datagram);
        }
    }
    assert_eq!(challenges.len(), 3);
    assert!(got <= limit, "{got} bytes for {}", limit / 3);
    assert_eq!(bench.metrics.value(Counter::PathsUnconfirmed), 1);
    let asked = device.seal(&post(2));
    let request = bench.talk(&mut device, vec![asked]).pop().unwrap();
    let out = verdict(&mut bench, &request, 1000);
    assert_eq!(sent(&out)[0].0, device.address);
    // A late answer to a challenge of then confirms nothing of now.
    let mut late = Outbox::default();
    late.push(device.address, Port::Secure, &challenges[0]);
    let response = bench.hand_over(&mut device, &late);
    assert_eq!(response.len(), 1, "answered once, at once");
    bench.deliver(victim, response[0].clone());
    assert_eq!(bench.metrics.value(Counter::PathsConfirmed), 0);
}

/// RFC 9853 section 5: a response counts from where the challenge was sent to, and with its cookie.
#[test]
fn a_response_from_elsewhere_or_of_another_check_confirms_nothing() {
    let mut bench = bench_with(8);
    let mut device = connect(&mut bench, 7, with_check());
    let moved = device.seal(&post(1));
    let out = bench.deliver(peer(8), moved);
    device.address = peer(8);
    let response = bench.hand_over(&mut device, &out).remove(0);
    // It comes from a third address: that is where the peer is now, and has to be confirmed.
    let out = bench.deliver(peer(9), response.clone());
    assert_eq!(bench.metrics.value(Counter::AddressChanges), 2);
    assert_eq!(bench.metrics.value(Counter::PathsConfirmed), 0);
    assert_eq!(sent(&out)[0].0, peer(9));
    assert!(bench.deliver(peer(8), response).is_sent(), "a replay");
    device.address = peer(9);
    let response = bench.hand_over(&mut device, &out).remove(0);
    bench.deliver(peer(9), response);
    assert_eq!(bench.metrics.value(Counter::PathsConfirmed), 1);
}

/// A handshake at an address that is not confirmed is a peer's of its own: who is there may have copied
/// the record that moved the session, and gets no hold of it. The new session has nothing to do with
/// the check of the old one: it gets whole flights, and stays where it is when that check's time is over.
#[test]
fn a_handshake_at_an_unconfirmed_address_leaves_the_moved_session_alone() {
    for check in [true, false] {
        let mut bench = bench_with(8);
        let certificate = Some(credentials());
        let config = ClientConfig {
            credentials: certificate,
            return_routability_check: check,
            ..with_id(b"")
        };
        let mut victim = connect(&mut bench, 7, config);
        let copied = victim.seal(&post(1));
        bench.deliver(peer(8), copied);
        assert_eq!(bench.metrics.value(Counter::AddressChanges), 1);
        let mut thief = connect(&mut bench, 8, ClientConfig::default());
        let count = |bench: &Bench, counter| bench.metrics.value(counter);
        assert_eq!(count(&bench, Counter::SessionsReplaced), 0);
        assert_eq!(count(&bench, Counter::Sessions), 2);
        for _ in 0..80 {
            bench.sleep(Duration::from_millis(100));
            timeout(&mut bench);
        }
        assert_eq!(count(&bench, Counter::PathsUnconfirmed), u64::from(check));
        let asked = thief.seal(&post(2));
        let request = bench.talk(&mut thief, vec![asked]).pop().unwrap();
        assert_eq!(request.identity, Identity::Anonymous);
        let out = verdict(&mut bench, &request, 1000);
        assert_eq!(sent(&out)[0].0, thief.address);
        // The victim's next record brings its session back, with its identity.
        let asked = victim.seal(&post(3));
        let request = bench.talk(&mut victim, vec![asked]).pop().unwrap();
        assert!(matches!(request.identity, Identity::Certificate(_)));
        let out = verdict(&mut bench, &request, 0);
        assert_eq!(sent(&out)[0].0, victim.address);
        assert_eq!(bench.endpoint.by_address.len(), 2);
    }
}

/// The last flight of a handshake can come from elsewhere, under the id of the session to be: as a copy
/// with a forged source can. It is no proof of the address that it comes from.
#[test]
fn a_finished_from_elsewhere_proves_no_address() {
    let mut bench = bench_with(8);
    let (mut device, hello) = bench.start(peer(7), with_id(b""));
    let out = bench.deliver(peer(7), hello[0].clone());
    let hello = bench.hand_over(&mut device, &out).remove(0);
    let out = bench.deliver(peer(7), hello);
    let flight_5 = bench.hand_over(&mut device, &out).concat();
    // ClientKeyExchange and ChangeCipherSpec in the clear, then Finished with the id.
    let mut at = 0;
    while flight_5[at] != 25 {
        at += 13 + usize::from(u16::from_be_bytes([flight_5[at + 11], flight_5[at + 12]]));
    }
    let (clear, finished) = flight_5.split_at(at);
    bench.deliver(peer(7), clear.to_vec());
    let out = bench.deliver(peer(666), finished.to_vec());
    let got: usize = sent(&out).iter().map(|(_, datagram)| datagram.len()).sum();
    assert!((1..=3 * finished.len()).contains(&got), "{got}");
    device.address = peer(666);
    bench.hand_over(&mut device, &out);
    assert!(device.connection.is_established());
    let asked = device.seal(&post(1));
    let request = bench.talk(&mut device, vec![asked]).pop().unwrap();
    assert!(
        verdict(&mut bench, &request, 1000).is_sent(),
        "to the victim"
    );
    assert_eq!(bench.metrics.drops(DropReason::PathLimit), 1);
    // At home, where the cookie was, nothing is limited.
    device.address = peer(7);
    let asked = device.seal(&post(2));
    let request = bench.talk(&mut device, vec![asked]).pop().unwrap();
    assert!(!verdict(&mut bench, &request, 1000).is_sent());
}

/// Somebody with a session of his own says that he is where a device is about to make one: neither the
/// handshake nor the session that comes of it follows him when he goes on.
#[test]
fn nobody_takes_a_handshake_along_from_an_address_that_he_forged() {
    let mut bench = bench_with(8);
    let mut stranger = connect(&mut bench, 666, with_id(b""));
    let forged = stranger.seal(&post(1));
    bench.deliver(peer(8), forged);
    // The device's handshake is half done when the stranger moves on.
    let (mut device, hello) = bench.start(peer(8), with_id(b""));
    let out = bench.deliver(peer(8), hello[0].clone());
    let hello = bench.hand_over(&mut device, &out).remove(0);
    let out = bench.deliver(peer(8), hello);
    let flight_5 = bench.hand_over(&mut device, &out);
    let elsewhere = stranger.seal(&post(2));
    bench.deliver(peer(667), elsewhere);
    bench.talk(&mut device, flight_5);
    assert!(device.connection.is_established());
    let asked = device.seal(&post(1));
    assert_eq!(bench.talk(&mut device, vec![asked]).len(), 1);
}

/// The last word to a peer counts as any other: where it may not be, it gets three times what came.
#[test]
fn a_goodbye_stays_within_the_limit_of_an_unconfirmed_address() {
    let mut bench = bench_with(8);
    let mut device = connect(&mut bench, 7, with_id(b""));
    let victim = peer(666);
    // Nearly all that may be sent there is sent.
    let copied = device.seal(&post(1));
    let limit = 3 * copied.len();
    let request = bench.deliver(victim, copied).requests.pop().unwrap();
    let payload = limit - 60;
    let mut got = sent(&verdict(&mut bench, &request, payload))[0].1.len();
    assert!(got > limit - 35, "{got} of {limit}");
    let mut out = Outbox::default();
    let slots = 0..bench.endpoint.peers.slots();
    bench.endpoint.close_peers(slots, &mut out);
    got += sent(&out)
        .iter()
        .map(|(_, datagram)| datagram.len())
        .sum::<usize>();
    assert!(got <= limit, "{got} bytes for {}", limit / 3);
    assert_eq!(bench.metrics.value(Counter::Sessions), 0);
}
