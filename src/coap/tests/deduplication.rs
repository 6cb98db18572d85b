//! Repeated requests and the limits of what is remembered (RFC 7252 section 4.5).

use super::*;

const DUPLICATE: Input = Input::Dropped(DropReason::CoapDuplicate);

fn con(message_id: u16) -> String {
    format!("4102{message_id:04x}77")
}

fn non(message_id: u16) -> String {
    format!("5102{message_id:04x}77")
}

/// RFC 7252 section 4.5: a repeated CON MUST NOT be handled twice, and gets the same ACK each time.
#[test]
fn a_repeated_con_gets_the_same_answer_for_247_seconds() {
    let mut peer = Peer::new();
    let exchange = peer.request(&con(1));
    peer.respond(exchange, &text_response(0x45, "once"))
        .unwrap();
    let first = peer.sent();
    assert_eq!(first, ["6145000177c0ff6f6e6365"]);
    for _ in 0..3 {
        peer.advance(82_000);
        assert_eq!(peer.receive_hex(&con(1)), DUPLICATE);
        assert_eq!(peer.sent(), first);
    }
    peer.advance(999);
    assert_eq!(peer.receive_hex(&con(1)), DUPLICATE);
    peer.advance(1);
    assert!(peer.layer.is_idle(peer.now));
    peer.request(&con(1));
}

/// RFC 7252 section 4.5: a repeated NON is ignored, for NON_LIFETIME.
#[test]
fn a_repeated_non_is_ignored_for_145_seconds() {
    let mut peer = Peer::new();
    let exchange = peer.request(&non(1));
    assert_eq!(peer.receive_hex(&non(1)), DUPLICATE);
    peer.respond(exchange, &Response::empty(0x41)).unwrap();
    assert_eq!(peer.sent().len(), 1);
    peer.advance(144_999);
    assert_eq!(peer.receive_hex(&non(1)), DUPLICATE);
    assert_eq!(peer.sent(), [""; 0]);
    peer.advance(1);
    peer.request(&non(1));
}

/// RFC 7252 section 4.4: deduplication is by Message ID; token and content do not matter.
#[test]
fn another_token_under_the_same_message_id_is_a_repetition() {
    let mut peer = Peer::new();
    let exchange = peer.request(&con(9));
    peer.respond(exchange, &Response::empty(0x41)).unwrap();
    assert_eq!(peer.receive_hex("4103000988b161ff01"), DUPLICATE);
    assert_eq!(peer.sent(), ["6141000977", "6141000977"]);
    assert_eq!(peer.receive_hex(&non(9)), DUPLICATE);
    assert_eq!(peer.sent(), [""; 0]);
}

#[test]
fn the_oldest_answered_request_gives_way_to_the_65th() {
    let mut peer = Peer::new();
    for id in 0..64 {
        let exchange = peer.request(&con(id));
        // Number 0 stays in work.
        if id > 0 {
            peer.respond(exchange, &text_response(0x45, "x")).unwrap();
        }
    }
    assert_eq!(peer.layer.memory(), (64, 1, 0, 63 * 8));
    peer.request(&con(64));
    assert_eq!(peer.layer.memory(), (64, 2, 0, 62 * 8));
    assert_eq!(peer.receive_hex(&con(0)), DUPLICATE);
    assert_eq!(peer.receive_hex(&con(2)), DUPLICATE);
    peer.request(&con(1));
}

/// Requests beyond the limit are answered 5.03 with Max-Age, and a repetition gets that again.
#[test]
fn a_peer_with_too_many_requests_in_work_is_told_so() {
    let mut peer = Peer::new();
    let first = peer.request(&con(0));
    for id in 1..16 {
        peer.request(&con(id));
    }
    peer.sent();
    assert_eq!(
        peer.receive_hex(&con(16)),
        Input::Dropped(DropReason::CoapPeerBusy)
    );
    assert_eq!(peer.sent(), ["61a3001077d10102"]);
    assert_eq!(
        peer.receive_hex(&non(17)),
        Input::Dropped(DropReason::CoapPeerBusy)
    );
    let [sent] = peer.sent().try_into().unwrap();
    assert_eq!((&sent[..4], &sent[8..]), ("51a3", "77d10102"));
    // One answer makes room for a new request, not for the refused one.
    peer.respond(first, &Response::empty(0x41)).unwrap();
    peer.sent();
    assert_eq!(peer.receive_hex(&con(16)), DUPLICATE);
    assert_eq!(peer.sent(), ["61a3001077d10102"]);
    peer.request(&con(18));
}

/// Work that nobody finishes does not hold its place for ever.
#[test]
fn a_request_in_work_expires_too() {
    let mut peer = Peer::new();
    let exchange = peer.request(&con(0));
    peer.advance(246_999);
    assert_eq!(peer.layer.memory().1, 1);
    assert!(!peer.layer.is_idle(peer.now));
    peer.advance(1);
    assert_eq!(peer.layer.memory(), (0, 0, 0, 0));
    assert_eq!(peer.layer.next_timeout(), None);
    assert_eq!(
        peer.respond(exchange, &Response::empty(0x41)),
        Err(DropReason::VerdictStale)
    );
}

/// Answers with content share a budget; a request whose answer had to go is reset: "some context is
/// missing" (RFC 7252 section 1.2).
#[test]
fn long_answers_push_out_older_ones() {
    let mut peer = Peer::new();
    for id in 0..5 {
        let exchange = peer.request(&con(id));
        peer.respond(exchange, &text_response(0x45, &"x".repeat(1_000)))
            .unwrap();
        assert!(peer.layer.memory().3 <= 4096);
    }
    peer.sent();
    peer.receive_hex(&con(0));
    assert_eq!(peer.sent(), ["70000000"]);
    peer.receive_hex(&con(1));
    assert_eq!(peer.sent()[0].len(), 2 * 1_007);
}

#[test]
fn an_answer_serves_its_own_exchange_only_and_once() {
    let mut peer = Peer::new();
    let exchange = peer.request(&con(3));
    assert_eq!(
        peer.respond(exchange.wrapping_add(1 << 16), &Response::empty(0x41)),
        Err(DropReason::VerdictStale)
    );
    assert_eq!(peer.sent(), [""; 0]);
    assert_eq!(peer.respond(exchange, &Response::empty(0x41)), Ok(()));
    assert_eq!(
        peer.respond(exchange, &Response::empty(0x45)),
        Err(DropReason::VerdictStale)
    );
    assert_eq!(peer.sent(), ["6141000377"]);
    // The same Message ID after its lifetime is another exchange.
    peer.advance(247_000);
    assert_ne!(peer.request(&con(3)), exchange);
}

#[test]
fn an_answer_that_cannot_be_sent_becomes_5_00() {
    for (message, shape) in [(con(1), ("61a0", "77")), (non(1), ("51a0", "77"))] {
        for response in [
            // Not even a block of it has room.
            text_response(0x45, &"x".repeat(100)),
            Response::empty(0x01),
            Response::empty(0xe0),
            Response::empty(0),
        ] {
            let mut peer = Peer::with(Settings {
                message_size_max: 20,
                ..Settings::default()
            });
            let exchange = peer.request(&message);
            assert_eq!(
                peer.respond(exchange, &response),
                Err(DropReason::CoapAnswerUnfit)
            );
            let [sent] = peer.sent().try_into().unwrap();
            assert_eq!((&sent[..4], &sent[8..]), shape);
        }
    }
}
