//! A host of several addresses: a peer is answered from the one that it asked.

use super::connection_id::{bench_with, connect, post, verdict, with_check, with_id};
use super::secure::{Bench, credentials};
use super::*;
use crate::dtls::client::ClientConfig;

fn at_address(port: Port, number: u8) -> Local {
    Local {
        port,
        address: LocalAddress(number),
    }
}

fn left_from(out: &Outbox) -> Vec<Local> {
    out.transmits().iter().map(|t| t.local).collect()
}

/// RFC 7252 section 5.3.2: the source of a response is the destination of its request. That of its
/// empty acknowledgement and of its repetitions, too.
#[test]
fn a_plain_peer_is_answered_from_where_it_asked_and_is_another_peer_elsewhere() {
    let mut endpoint = endpoint(|_| {});
    let ask = |endpoint: &mut Endpoint, local| {
        let mut out = Outbox::default();
        endpoint.handle_datagram(at(1), peer(7), local, &mut POST.to_vec(), &mut out);
        out.requests.pop().expect("a request of its own")
    };
    let locals = [1, 2].map(|number| at_address(Port::Plain, number));
    let requests = locals.map(|local| ask(&mut endpoint, local));
    assert_eq!(endpoint.peers.len(), 2);
    let mut out = Outbox::default();
    endpoint.handle_timeout(at(2), &mut out);
    let mut acknowledged = left_from(&out);
    acknowledged.sort_by_key(|local| local.address.0);
    assert_eq!(acknowledged, locals);
    for (request, local) in requests.iter().zip(locals) {
        let mut out = Outbox::default();
        endpoint.handle_verdict(at(3), answer(request, 0x41), &mut out);
        assert_eq!(left_from(&out), [local]);
    }
    let mut out = Outbox::default();
    endpoint.handle_timeout(at(7), &mut out);
    assert!(locals.iter().all(|local| left_from(&out).contains(local)));
    // Who is forgotten is the one that was meant.
    endpoint.forget(peer(7), locals[0]);
    assert_eq!(endpoint.peers.len(), 1);
}

#[test]
fn a_session_is_where_its_handshake_was() {
    let mut bench = Bench::new(|_| {});
    bench.local = at_address(Port::Secure, 2);
    // Every datagram of the handshake is looked at by the bench; those that come by time as well.
    let config = ClientConfig {
        credentials: Some(credentials()),
        ..ClientConfig::default()
    };
    let (mut device, hello) = bench.start(peer(7), config);
    let out = bench.deliver(device.address, hello[0].clone());
    let hello = bench.hand_over(&mut device, &out).remove(0);
    bench.deliver(device.address, hello);
    bench.sleep(Duration::from_secs(20));
    let mut out = Outbox::default();
    bench.endpoint.handle_timeout(bench.now, &mut out);
    assert!(!out.is_sent());
    let flight = bench.hand_over(&mut device, &out);
    bench.talk(&mut device, flight);
    assert!(device.connection.is_established());

    let record = device.seal(&post(1));
    bench.local = at_address(Port::Secure, 1);
    let out = bench.deliver(device.address, record.clone());
    assert!(
        out.is_sent() && out.requests.is_empty(),
        "it is unknown here"
    );
    bench.local = Port::Secure.into();
    let out = bench.deliver(device.address, record.clone());
    assert!(out.is_sent() && out.requests.is_empty());
    bench.local = at_address(Port::Secure, 2);
    let request = bench.talk(&mut device, vec![record]).pop().unwrap();
    let out = verdict(&mut bench, &request, 10);
    bench.hand_over(&mut device, &out);
    assert_eq!(device.received.len(), 1);
}

/// RFC 9146 section 6: with a connection id only the newest authentic record says where a peer is, and so
/// it is with our end.
#[test]
fn a_session_with_an_id_is_answered_from_where_its_newest_record_came() {
    for config in [with_id(b""), with_check()] {
        let mut bench = bench_with(8);
        bench.local = at_address(Port::Secure, 1);
        let mut device = connect(&mut bench, 7, config);
        let [older, newer] = [1, 2].map(|number| device.seal(&post(number)));
        bench.local = at_address(Port::Secure, 2);
        let mut altered = newer.clone();
        *altered.last_mut().unwrap() ^= 1;
        bench.deliver(device.address, altered);
        let first = bench.endpoint.peers.key_of(0).unwrap();
        let local = bench.endpoint.peers.get(first).unwrap().local;
        assert_eq!(local, at_address(Port::Secure, 1), "a forgery moves nobody");
        let first = bench.talk(&mut device, vec![newer]).pop().unwrap();
        // One that was overtaken is served, and moves nobody back.
        bench.local = at_address(Port::Secure, 1);
        let second = bench.deliver(device.address, older).requests.pop().unwrap();
        bench.local = at_address(Port::Secure, 2);
        for request in [first, second] {
            let out = verdict(&mut bench, &request, 10);
            assert_eq!(left_from(&out), [bench.local]);
            bench.hand_over(&mut device, &out);
        }
        assert_eq!(device.received.len(), 2);
        // Its own address is the same, so that there is nothing to be shown.
        assert_eq!(bench.metrics.value(Counter::AddressChanges), 0);
        // Without its id it is found there now, for a new handshake.
        let place = PeerKey {
            address: device.address,
            local: bench.local,
        };
        assert!(
            bench
                .endpoint
                .by_address
                .find(&place, &bench.endpoint.peers)
                .is_some()
        );
        assert_eq!(bench.endpoint.by_address.len(), 1);
    }
}
