//! What each option of a request does (RFC 7252 sections 5.4 and 5.10, RFC 7959, RFC 7967).

use super::*;
use crate::auth::request::RequestMessage;

/// GET with Message ID 1234, token 77 and these options.
fn get(options: &str) -> String {
    format!("4101123477{options}")
}

fn read(options: &str) -> RequestMessage {
    match Peer::new().receive_hex(&get(options)) {
        Input::Request { message, .. } => message,
        other => panic!("{options}: {other:?}"),
    }
}

/// The CON gets this code in its ACK and the caller nothing; the NON gets the same as a NON.
fn assert_answered(message: &str, code: u8) {
    let mut peer = Peer::new();
    assert_eq!(
        peer.receive_hex(message),
        Input::Answered(code),
        "{message}"
    );
    let [sent] = peer.sent().try_into().unwrap();
    assert_eq!(sent[..10], format!("61{code:02x}123477"), "{message}");
    // The same once more: answered from memory.
    let again = peer.receive_hex(message);
    assert_eq!(again, Input::Dropped(DropReason::CoapDuplicate));
    assert_eq!(peer.sent(), [sent]);

    let mut peer = Peer::new();
    let non = format!("5{}", &message[1..]);
    assert_eq!(peer.receive_hex(&non), Input::Answered(code), "{non}");
    let [sent] = peer.sent().try_into().unwrap();
    assert_eq!(
        (&sent[..4], &sent[8..10]),
        (&*format!("51{code:02x}"), "77"),
        "{non}"
    );
}

/// RFC 7252 section 5.4.1: an unknown critical option in a CON MUST cause 4.02; a NON with one MUST
/// be rejected.
fn assert_bad_option(options: &str, number: u16) {
    let mut peer = Peer::new();
    assert_eq!(
        peer.receive_hex(&get(options)),
        Input::Answered(0x82),
        "{options}"
    );
    let diagnostic = to_hex(format!("option {number}").as_bytes());
    assert_eq!(peer.sent(), [format!("6182123477ff{diagnostic}")]);

    let mut peer = Peer::new();
    let input = peer.receive_hex(&format!("5{}", &get(options)[1..]));
    assert_eq!(input, Input::Dropped(DropReason::CoapOption), "{options}");
    assert_eq!(peer.sent(), ["70001234"]);
    assert_eq!(peer.layer.memory().0, 0);
}

#[test]
fn what_is_passed_on() {
    // Observe 0, Uri-Path "a", "", Content-Format 50, Uri-Query "x=1", Accept 60, payload.
    let message = read("60 5161 00 1132 33783d31 213c ff5b5d");
    let mut expected = RequestMessage::new(1)
        .with_path(["a", ""])
        .with_queries(["x=1"])
        .with_payload("[]");
    expected.content_format = Some(50);
    expected.accept = Some(60);
    expected.observe = Some(0);
    assert_eq!(message, expected);
    // Leading zeros in a number (RFC 7252 section 3.2).
    assert_eq!(read("63000001").observe, Some(1));
    assert_eq!(read("c20032").content_format, Some(50));
    assert_eq!(read("c0").content_format, Some(0));
}

#[test]
fn unknown_critical_options_are_refused_and_elective_ones_ignored() {
    // OSCORE, 13, 65 001.
    assert_bad_option("90", 9);
    assert_bad_option("d000", 13);
    assert_bad_option("e0fcdc", 65_001);
    // Several: the highest is told.
    assert_bad_option("9040", 13);
    // ETag, Location-Path, Hop-Limit, Echo, Request-Tag, 65 000.
    for options in ["4101", "8161", "d10310", "d2ef0102", "e1001701", "e0fcdb"] {
        assert_eq!(read(options), RequestMessage::new(1), "{options}");
    }
}

/// RFC 7252 section 5.4.5: supernumerary occurrences are treated like unknown options.
#[test]
fn a_second_occurrence_counts_as_unknown() {
    // Uri-Host, Uri-Port, Accept twice.
    assert_bad_option("31610162", 3);
    assert_bad_option("7000", 7);
    assert_bad_option("d1043200", 17);
    // Content-Format twice: the first counts.
    assert_eq!(read("c1320128").content_format, Some(50));
    assert_eq!(read("61010100").observe, Some(1));
}

/// RFC 7252 section 5.4.3: a length out of range is treated like an unknown option.
#[test]
fn a_length_out_of_range_counts_as_unknown() {
    // Uri-Host of no bytes, Uri-Port of 3, Accept of 3, If-None-Match of 1, If-Match of 9.
    assert_bad_option("30", 3);
    assert_bad_option("73000001", 7);
    assert_bad_option("d304000001", 17);
    assert_bad_option("5101", 5);
    assert_bad_option("19010203040506070809", 1);
    // Uri-Path of 256 bytes.
    assert_bad_option(&format!("bdf3{}", "61".repeat(256)), 11);
    let longest = read(&format!("bdf2{}", "61".repeat(255)));
    assert_eq!(longest.path().next().unwrap().len(), 255);
    // Elective: Content-Format of 3, Observe of 4.
    assert_eq!(read("c3000032").content_format, None);
    assert_eq!(read("6400000000").observe, None);
}

/// RFC 7252 sections 5.7.2 and 5.10.2: a server that is no proxy MUST answer 5.05.
#[test]
fn proxying_is_not_supported() {
    assert_answered(&get("d11661"), 0xa5);
    assert_answered(&get("d41a636f6170"), 0xa5);
    // An unknown critical option beside it comes first.
    assert_bad_option("90d20d6161", 9);
}

/// RFC 7252 section 5.10.8.
#[test]
fn preconditions() {
    // If-Match of nothing in particular holds, any entity tag does not; If-None-Match never holds.
    assert_eq!(read("10").method, 1);
    assert_answered(&get("1101"), 0x8c);
    assert_answered(&get("50"), 0x8c);
}

/// RFC 7252 section 5.8: an unknown method MUST be answered 4.05.
#[test]
fn unknown_methods_are_not_allowed() {
    for method in 8..32 {
        assert_answered(&format!("41{method:02x}123477"), 0x85);
    }
    for method in 1..8 {
        Peer::new().request(&format!("41{method:02x}123477"));
    }
}

#[test]
fn more_options_than_the_limit_are_refused() {
    let of = |count: usize| get(&format!("b0{}", "00".repeat(count - 1)));
    assert_answered(&of(65), 0x80);
    Peer::new().request(&of(64));
}

/// RFC 7959 sections 2.2 and 2.3: one block is a plain request, and its Block1 comes back.
#[test]
fn a_single_block_is_a_plain_request() {
    for (block1, answer_options) in [
        ("d10e06", "d10e06"),
        ("d00e", "d00e"),
        ("d20e0002", "d10e02"),
    ] {
        let mut peer = Peer::new();
        let exchange = peer.request(&get(block1));
        peer.respond(exchange, &Response::empty(0x41)).unwrap();
        assert_eq!(peer.sent(), [format!("6141123477{answer_options}")]);
    }
    // Block2, first block, any size, more flag ignored.
    for block2 in ["d00a", "d10a06", "d10a0e"] {
        Peer::new().request(&get(block2));
    }
}

/// RFC 7959 section 2.2: an exponent of 7 MUST lead to 4.00.
#[test]
fn the_reserved_block_size_is_refused() {
    assert_answered(&get("d10e07"), 0x80);
    assert_answered(&get("d10a07"), 0x80);
}

/// RFC 7967 section 2.1: bits 2, 8 and 16 stand for 2.xx, 4.xx and 5.xx.
#[test]
fn answers_that_are_not_wanted_stay_away() {
    for (value, silent) in [
        (0x00, vec![]),
        (0x02, vec![0x41]),
        (0x08, vec![0x80]),
        (0x10, vec![0xa0]),
        (0x1a, vec![0x41, 0x80, 0xa0]),
    ] {
        for code in [0x41, 0x80, 0xa0] {
            let wanted = !silent.contains(&code);
            let options = format!("d1f5{value:02x}");
            let mut peer = Peer::new();
            let exchange = peer.request(&get(&options));
            peer.respond(exchange, &Response::empty(code)).unwrap();
            let expected = if wanted {
                format!("61{code:02x}123477")
            } else {
                "60001234".to_owned()
            };
            assert_eq!(peer.sent(), [&*expected]);
            peer.receive_hex(&get(&options));
            assert_eq!(peer.sent(), [expected]);

            let mut peer = Peer::new();
            let exchange = peer.request(&format!("5{}", &get(&options)[1..]));
            peer.respond(exchange, &Response::empty(code)).unwrap();
            assert_eq!(peer.sent().len(), usize::from(wanted));
        }
    }
}
