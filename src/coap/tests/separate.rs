//! Empty ACKs, separate answers and their retransmission (RFC 7252 sections 4.2, 4.3, 5.2).

use super::*;

const REQUEST: &str = "4102123477";

/// A peer whose request got its empty ACK; the request's exchange.
fn acknowledged() -> (Peer, u32) {
    let mut peer = Peer::new();
    let exchange = peer.request(REQUEST);
    peer.advance(499);
    assert_eq!(peer.sent(), [""; 0]);
    peer.advance(1);
    assert_eq!(peer.sent(), ["60001234"]);
    (peer, exchange)
}

/// The same, with its answer on the way; the answer's bytes.
fn answered_separately() -> (Peer, String) {
    let (mut peer, exchange) = acknowledged();
    peer.respond(exchange, &text_response(0x45, "late"))
        .unwrap();
    let [sent] = peer.sent().try_into().unwrap();
    (peer, sent)
}

#[test]
fn a_quick_answer_rides_on_the_ack() {
    let mut peer = Peer::new();
    let exchange = peer.request(REQUEST);
    peer.advance(499);
    peer.respond(exchange, &Response::empty(0x41)).unwrap();
    assert_eq!(peer.sent(), ["6141123477"]);
    peer.advance(200_000);
    assert_eq!(peer.sent(), [""; 0]);
}

/// `COAP_PIGGYBACK_TIMEOUT` of zero or less.
#[test]
fn without_piggybacking_the_ack_goes_at_once() {
    let settings = Settings {
        piggyback_timeout: Duration::ZERO,
        ..Settings::default()
    };
    let mut peer = Peer::with(settings);
    let exchange = peer.request(REQUEST);
    assert_eq!(peer.sent(), ["60001234"]);
    peer.respond(exchange, &Response::empty(0x41)).unwrap();
    let [sent] = peer.sent().try_into().unwrap();
    assert_eq!((&sent[..4], &sent[8..]), ("4141", "77"));
    peer.request("5102123577");
    assert_eq!(peer.sent(), [""; 0]);
}

/// RFC 7252 section 5.2.2: the separate answer is a CON of its own with the request's token, and the
/// repeated request gets the empty ACK again.
#[test]
fn a_late_answer_goes_by_itself() {
    let (mut peer, sent) = answered_separately();
    assert_eq!((&sent[..4], &sent[8..]), ("4145", "77c0ff6c617465"));
    peer.receive_hex(REQUEST);
    assert_eq!(peer.sent(), ["60001234"]);
    assert_eq!(
        peer.receive_hex(&format!("6000{}", &sent[4..8])),
        Input::Nothing
    );
    assert_eq!(peer.layer.memory(), (1, 0, 0, 0));
    peer.receive_hex(REQUEST);
    assert_eq!(peer.sent(), ["60001234"]);
    assert_eq!(peer.advance(246_000), Timeouts::default());
}

/// RFC 7252 section 4.2: MAX_RETRANSMIT 4, then it is given up.
#[test]
fn it_is_sent_five_times_and_given_up() {
    let (mut peer, sent) = answered_separately();
    let start = peer.now;
    let mut times = Vec::new();
    while peer.layer.memory().2 > 0 {
        peer.now = peer.layer.next_timeout().unwrap();
        let timeouts = peer.run(|layer, now, cx| layer.handle_timeout(now, cx));
        times.push(peer.now.saturating_duration_since(start).as_millis());
        let given_up = times.len() == 5;
        assert_eq!(timeouts.abandoned, u32::from(given_up));
        assert_eq!(peer.sent(), vec![sent.clone(); usize::from(!given_up)]);
    }
    assert!((2_000..=3_000).contains(&times[0]));
    assert!((60_000..=93_000).contains(&times[4]), "{times:?}");
    assert_eq!(peer.layer.memory().3, 0);
}

/// RFC 7252 section 4.2: a RST ends the retransmission as an ACK does; another Message ID, or an ACK
/// that is not empty, does not.
#[test]
fn only_a_matching_empty_ack_or_reset_ends_it() {
    let unmatched = Input::Dropped(DropReason::CoapUnmatched);
    let (mut peer, sent) = answered_separately();
    let id = &sent[4..8];
    let other = format!(
        "{:04x}",
        u16::from_str_radix(id, 16).unwrap().wrapping_add(1)
    );
    assert_eq!(peer.receive_hex(&format!("6000{other}")), unmatched);
    assert_eq!(peer.receive_hex(&format!("6045{id}")), unmatched);
    assert_eq!(
        peer.receive_hex(&format!("6001{id}")),
        Input::Dropped(DropReason::CoapCode)
    );
    assert_eq!(
        peer.receive_hex(&format!("60e1{id}")),
        Input::Dropped(DropReason::CoapCode)
    );
    assert_eq!(
        peer.receive_hex(&format!("6000{id}00")),
        Input::Dropped(DropReason::CoapMalformed)
    );
    assert_eq!(peer.layer.memory().2, 1);
    assert_eq!(peer.receive_hex(&format!("7000{id}")), Input::Nothing);
    assert_eq!(peer.layer.memory().2, 0);
    assert_eq!(peer.receive_hex(&format!("7000{id}")), unmatched);
    assert_eq!(peer.advance(100_000), Timeouts::default());
    assert_eq!(peer.sent(), [""; 0]);
}

/// RFC 7252 section 5.2.3: NON is answered by NON, with a Message ID of our own and no ACK.
#[test]
fn a_non_is_answered_by_a_non() {
    let mut peer = Peer::new();
    let exchange = peer.request("5202123477ab");
    peer.advance(10_000);
    peer.respond(exchange, &text_response(0x45, "x")).unwrap();
    let [sent] = peer.sent().try_into().unwrap();
    assert_eq!((&sent[..4], &sent[8..]), ("5245", "77abc0ff78"));
    peer.advance(200_000);
    assert_eq!(peer.sent(), [""; 0]);
}

/// RFC 7252 section 4.4: the IDs of our messages differ and start at random.
#[test]
fn message_ids_are_a_counter_from_a_random_start() {
    let mut starts = std::collections::BTreeSet::new();
    for seed in 0..64 {
        let mut peer = Peer::new();
        peer.layer = MessageLayer::new(&mut SeededRandom::new(seed));
        let mut ids = Vec::new();
        for id in 0..3 {
            let exchange = peer.request(&format!("5002{id:04x}"));
            peer.respond(exchange, &Response::empty(0x41)).unwrap();
            ids.push(u16::from_str_radix(&peer.sent()[0][4..8], 16).unwrap());
        }
        assert_eq!(ids[1], ids[0].wrapping_add(1));
        assert_eq!(ids[2], ids[0].wrapping_add(2));
        starts.insert(ids[0]);
    }
    assert!(starts.len() > 60);
}

/// Beyond the limit of open separate answers, or of bytes, an answer goes once, as a NON.
#[test]
fn answers_beyond_the_limit_are_not_kept() {
    let settings = Settings {
        outgoing_max: 2,
        ..Settings::default()
    };
    let mut peer = Peer::with(settings);
    let exchanges: Vec<u32> = (0..3)
        .map(|id| peer.request(&format!("4102{id:04x}77")))
        .collect();
    peer.advance(500);
    peer.sent();
    for exchange in exchanges {
        peer.respond(exchange, &Response::empty(0x41)).unwrap();
    }
    let kinds: Vec<String> = peer
        .sent()
        .iter()
        .map(|sent| sent[..4].to_owned())
        .collect();
    assert_eq!(kinds, ["4141", "4141", "5141"]);

    let settings = Settings {
        cached_bytes_max: 100,
        ..Settings::default()
    };
    let mut peer = Peer::with(settings);
    let quick = peer.request("4102000077");
    peer.respond(quick, &text_response(0x45, &"x".repeat(60)))
        .unwrap();
    let late = [1, 2].map(|id| peer.request(&format!("4102{id:04x}77")));
    peer.advance(500);
    peer.sent();
    // The kept ACK gives way to the first, nothing to the second.
    for exchange in late {
        peer.respond(exchange, &text_response(0x45, &"y".repeat(60)))
            .unwrap();
    }
    let kinds: Vec<String> = peer
        .sent()
        .iter()
        .map(|sent| sent[..4].to_owned())
        .collect();
    assert_eq!(kinds, ["4145", "5145"]);
    peer.receive_hex("4102000077");
    assert_eq!(peer.sent(), ["70000000"]);
}

#[test]
fn a_late_answer_that_is_too_long_becomes_5_00() {
    let (mut peer, exchange) = acknowledged();
    peer.settings.message_size_max = 20;
    let response = text_response(0x45, &"x".repeat(2_000));
    assert_eq!(
        peer.respond(exchange, &response),
        Err(DropReason::CoapAnswerUnfit)
    );
    let [sent] = peer.sent().try_into().unwrap();
    assert_eq!((&sent[..4], &sent[8..]), ("41a0", "77"));
}
