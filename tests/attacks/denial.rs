//! Attacks that deny service, or use the server against others.

use std::sync::Arc;

use tidegate::dtls::Error;
use tidegate::dtls::client::ClientConfig;
use tidegate::endpoint::{Note, Outbox, Port};
use tidegate::metrics::Counter;
use tidegate::time::Duration;

use crate::link::{PEER, World};
use crate::site::{Site, address, post};
use crate::support::server_config;
use crate::wire::{assert_alive, is_hello_verify, plain};

fn config() -> Arc<ClientConfig> {
    Arc::new(ClientConfig::default())
}

/// Enable Security (2024): the first hello in the name of an address, whoever sent it, does not keep
/// that address's owner out, nor does one that comes between.
#[test]
fn a_stranger_s_hello_locks_nobody_out() {
    let mut stranger = World::new(2, server_config(), &config());
    let hello = stranger.log[0].1.clone();
    assert!(stranger.establish());
    let mut world = World::new(1, server_config(), &config());
    let answers = world.deliver_from(PEER, hello.clone());
    assert!(answers.len() == 1 && is_hello_verify(&answers[0]));
    while !world.client.connection.is_established() {
        world.deliver_from(PEER, hello.clone());
        assert!(world.step(), "the handshake stands still");
    }
    assert_alive(&mut world);
}

/// Citrix ADC (2020): before a cookie came back, no answer is longer than its question, and none is
/// sent twice.
#[test]
fn a_hello_without_a_cookie_is_no_amplifier() {
    let mut site = Site::new(|_| ());
    let hello = site.visit(address(5), &config()).sent.remove(0);
    for port in 100..1100 {
        let answers = site.deliver(address(port), Port::Secure, &hello);
        assert!(answers.len() == 1 && answers[0].1.len() <= hello.len());
    }
    assert_eq!(site.count(Counter::HandshakesStarted), 1);
    let unasked = site.wait(Duration::from_secs(600));
    assert!(unasked.iter().all(|(to, _)| *to == address(5)));
}

/// Guessing of connection ids: a record with an id that nobody has gets no answer, nor does one with
/// a cut id.
#[test]
fn an_unknown_connection_id_gets_no_answer() {
    const TLS12_CID: u8 = 25;
    let mut site = Site::new(|_| ());
    let mut visitor = site.visit(address(5), &config());
    for length in 0..60 {
        let mut record = plain(TLS12_CID, 1, 5, &[]);
        record.truncate(11);
        record.extend(std::iter::repeat_n(7, length));
        for port in [5, 6] {
            assert_eq!(site.deliver(address(port), Port::Secure, &record), []);
        }
    }
    assert!(site.serves(&mut visitor));
}

/// draft-irtf-t2trg-amplification-attacks: what anybody can ask over plain CoAP is answered once per
/// message, by less than twice its length where the path is long enough to matter, and by a
/// bounded length always.
#[test]
fn a_plain_answer_is_no_amplifier() {
    const LONGEST: usize = 160;
    let questions: [&[u8]; 6] = [
        // Ping, GET /, GET /.well-known/core, an unknown path, an unknown critical option, noise.
        b"\x40\x00\x00\x01",
        b"\x40\x01\x00\x02",
        b"\x40\x01\x00\x03\xbb.well-known\x04core",
        b"\x40\x01\x00\x04\xb1x",
        b"\x40\x01\x00\x05\x90",
        b"\x40\xff\x00\x06\x12\x34\x56",
    ];
    let mut site = Site::new(|_| ());
    for (port, question) in (100..).zip(questions) {
        let mut answers = site.deliver(address(port), Port::Plain, question);
        if let Some(request) = site.requests.pop() {
            answers.extend(site.answer(&request, 0x84));
        }
        assert!(answers.len() <= 1);
        let length: usize = answers.iter().map(|(_, answer)| answer.len()).sum();
        assert!(length <= LONGEST, "{length} bytes to {question:?}");
        let more = site.wait(Duration::from_secs(300));
        assert!(more.is_empty(), "more comes unasked: {more:?}");
    }
}

/// Who has no token observes nothing: one short answer without the option goes to the address that he
/// claims to have, and nothing follows.
#[test]
fn an_observation_without_a_token_is_not_registered() {
    let mut site = Site::new(|_| ());
    // CON GET with Observe 0 (option 6, empty) and a path.
    let observe = b"\x41\x01\x00\x09\x07\x60\x53api\x02v1\x01A\x0aattributes";
    assert!(site.deliver(address(5), Port::Plain, observe).is_empty());
    let request = site.requests.pop().expect("a request");
    assert_eq!(request.message.observe, Some(0));
    let answers = site.answer(&request, 0x81);
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].1, b"\x61\x81\x00\x09\x07", "no option");
    assert_eq!(site.wait(Duration::from_secs(600)), []);
}

/// Reuse of tokens across security contexts: an answer to a request of a session that another took
/// the place of goes to nobody, although address, message id and token are the same.
#[test]
fn an_answer_of_the_session_before_goes_to_nobody() {
    let mut site = Site::new(|_| ());
    let mut first = site.visit(address(5), &config());
    let request = first.seal(&post(7));
    site.deliver(address(5), Port::Secure, &request);
    let old = site.requests.pop().expect("a request");
    let mut second = site.visit(address(5), &config());
    let request = second.seal(&post(7));
    site.deliver(address(5), Port::Secure, &request);
    let new = site.requests.pop().expect("a request");
    assert_eq!(site.answer(&old, 0x41), [], "the old one's answer");
    assert_eq!(site.answer(&new, 0x41).len(), 1);
}

/// ThingsBoard's latch of 10 s: an authenticator that answers nobody keeps no one waiting. Sessions
/// are made, what is beyond the limit is told so, and all goes on once it answers.
#[test]
fn a_slow_authenticator_blocks_nobody() {
    const UNAVAILABLE: u8 = 0xa3;
    let mut site = Site::new(|settings| settings.requests_max = 4);
    let mut waiting = Vec::new();
    for port in 100..110 {
        let mut visitor = site.visit(address(port), &config());
        let request = visitor.seal(&post(1));
        let refused = site.deliver(address(port), Port::Secure, &request);
        waiting.append(&mut site.requests);
        assert_eq!(refused.is_empty(), waiting.len() <= 4 && port < 104);
    }
    assert_eq!(waiting.len(), 4);
    let plain = site.deliver(address(200), Port::Plain, &post(1));
    assert_eq!(plain[0].1[1], UNAVAILABLE);
    site.wait(Duration::from_secs(60));
    for request in waiting {
        assert_eq!(site.answer(&request, 0x41).len(), 1);
    }
    let mut visitor = site.visit(address(300), &config());
    assert!(site.serves(&mut visitor));
}

/// Handshake storm: what is beyond the budget of half-open handshakes is dropped without a word or
/// an operation with a key, and who has a session is served.
#[test]
fn a_storm_of_handshakes_leaves_sessions_alone() {
    let mut site = Site::new(|settings| settings.handshakes_max = 2);
    let mut served = site.visit(address(5), &config());
    let hellos: Vec<_> = (100..150)
        .map(|port| {
            let sent = site.visit(address(port), &config()).sent;
            (port, sent[1].clone())
        })
        .collect();
    // The same again at a server without those sessions: each hello is let in by its cookie.
    let mut site = Site::new(|settings| settings.handshakes_max = 2);
    served = site.visit(served.address, &config());
    let mut flights = 0;
    for (port, hello) in &hellos {
        flights += usize::from(!site.deliver(address(*port), Port::Secure, hello).is_empty());
        assert!(site.count(Counter::HandshakesOpen) <= 2);
    }
    assert_eq!(flights, 2);
    assert!(site.serves(&mut served));
}

/// Without a connection id a session has one address: its records from another, replayed or new,
/// are dropped, and answers go where they went.
#[test]
fn a_record_from_elsewhere_moves_nothing() {
    let mut site = Site::new(|_| ());
    let mut visitor = site.visit(address(5), &config());
    let (first, second) = (visitor.seal(&post(1)), visitor.seal(&post(2)));
    site.deliver(address(5), Port::Secure, &first);
    let request = site.requests.pop().expect("a request");
    for record in [&first, &second] {
        assert_eq!(site.deliver(address(6), Port::Secure, record), []);
    }
    assert!(site.requests.is_empty());
    let answers = site.answer(&request, 0x41);
    assert!(answers.iter().all(|(to, _)| *to == address(5)) && answers.len() == 1);
    site.deliver(address(5), Port::Secure, &second);
    assert_eq!(site.requests.len(), 1, "the record counts where it belongs");
}

/// What is logged of peers is bounded in each step, however many handshakes fail in it.
#[test]
fn notes_about_peers_are_few() {
    let mut out = Outbox::default();
    for _ in 0..1000 {
        out.note(Note::Failed(address(5), Error::TimedOut));
    }
    assert!(out.take_notes().count() <= 16);
}
