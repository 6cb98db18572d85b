//! Message format: what is an error, and what becomes of it (RFC 7252 sections 3, 4.2, 4.3).

use coap_lite::Packet;
use proptest::prelude::*;

use super::super::option::{Evaluated, Options, check_format, evaluate};
use super::*;

/// What comes of a message whose first byte's type bits are zero, as CON, NON, ACK and RST.
fn fates(message: &str) -> [(Input, Vec<String>); 4] {
    [0u8, 1, 2, 3].map(|kind| {
        let mut bytes = from_hex(message);
        bytes[0] |= kind << 4;
        let mut peer = Peer::new();
        let input = peer.receive(&bytes);
        assert_eq!(
            peer.layer.memory(),
            (0, 0, 0, 0),
            "{message} left something behind"
        );
        (input, peer.sent())
    })
}

/// A CON MUST be rejected by a matching RST (RFC 7252 section 4.2), a NON, ACK or RST silently
/// (sections 4.2 and 4.3).
fn assert_rejected(message: &str, reason: DropReason) {
    let reset = format!("7000{}", &message[4..8]);
    let [con, non, ack, rst] = fates(message);
    assert_eq!(con, (Input::Dropped(reason), vec![reset]), "{message}");
    assert_eq!(non, (Input::Dropped(reason), vec![]), "{message}");
    for (input, sent) in [ack, rst] {
        assert!(matches!(input, Input::Dropped(_)), "{message}: {input:?}");
        assert_eq!(sent, [""; 0], "{message}");
    }
}

/// RFC 7252 section 3: an unknown version MUST be silently ignored.
#[test]
fn other_versions_are_ignored() {
    for first in ["00", "80", "c0"] {
        for (input, sent) in fates(&format!("{first}011234")) {
            assert_eq!(
                (input, sent.len()),
                (Input::Dropped(DropReason::CoapVersion), 0)
            );
        }
    }
}

#[test]
fn what_has_no_message_id_is_dropped() {
    for length in 0..4 {
        let mut peer = Peer::new();
        let input = peer.receive(&[0x40, 0x01, 0x12][..length.min(3)]);
        assert_eq!(input, Input::Dropped(DropReason::CoapMalformed));
        assert_eq!(peer.sent(), [""; 0]);
    }
}

/// RFC 7252 section 3: token lengths 9 to 15 MUST be processed as a message format error.
#[test]
fn long_or_cut_tokens_are_format_errors() {
    for length in 9..16 {
        let message = format!("4{length:x}011234{}", "00".repeat(length));
        assert_rejected(&message, DropReason::CoapMalformed);
    }
    assert_rejected("4401123400", DropReason::CoapMalformed);
    assert_rejected("48011234", DropReason::CoapMalformed);
}

/// RFC 7252 section 3: a payload marker followed by a zero-length payload MUST be processed as a
/// message format error. coap-lite lets it through.
#[test]
fn a_marker_without_payload_is_a_format_error() {
    assert_rejected("40011234ff", DropReason::CoapMalformed);
    assert_rejected("40011234b161ff", DropReason::CoapMalformed);
    assert!(Packet::from_bytes(&from_hex("40011234ff")).is_ok());
    // An option value that ends in 0xff is none.
    Peer::new().request("40011234b1ff");
}

/// RFC 7252 section 3.1: a nibble of 15 is reserved, and a value ends within the message.
#[test]
fn broken_options_are_format_errors() {
    for options in [
        "f0", "0f", "d0", "e000", "0d", "0e00", "b261", "bd00", "be0000", "e0fef3", "e0fef210",
    ] {
        assert_rejected(&format!("40011234{options}"), DropReason::CoapMalformed);
    }
}

/// RFC 7252 section 4.1: bytes after the Message ID of an empty message MUST be processed as a
/// message format error.
#[test]
fn an_empty_message_is_four_bytes() {
    for rest in ["00", "ff", "ff00", "b0"] {
        assert_rejected(&format!("40001234{rest}"), DropReason::CoapMalformed);
    }
    assert_rejected("4100123400", DropReason::CoapMalformed);
    assert_rejected("41001234", DropReason::CoapMalformed);
    for kind in ["60", "70"] {
        for (length, rest) in [("0", "00"), ("1", "00"), ("1", ""), ("9", "")] {
            let message = format!("{}{length}001234{rest}", &kind[..1]);
            let input = Peer::new().receive_hex(&message);
            assert_eq!(
                input,
                Input::Dropped(DropReason::CoapMalformed),
                "{message}"
            );
        }
    }
}

/// RFC 7252 section 4.3: an empty CON provokes a RST (CoAP ping); section 4.2: an empty NON is
/// rejected silently.
#[test]
fn a_ping_is_answered_by_a_reset() {
    let [con, non, ack, rst] = fates("4000beef");
    assert_eq!(con, (Input::Nothing, vec!["7000beef".to_owned()]));
    assert_eq!(non, (Input::Dropped(DropReason::CoapMalformed), vec![]));
    assert_eq!(ack, (Input::Dropped(DropReason::CoapUnmatched), vec![]));
    assert_eq!(rst, (Input::Dropped(DropReason::CoapUnmatched), vec![]));
}

/// RFC 7252 section 4.2: codes of the reserved classes 1, 6 and 7 MUST be rejected, and so are
/// responses that nobody asked for.
#[test]
fn codes_that_are_no_requests_are_rejected() {
    for code in [
        "20", "3f", "c0", "df", "e0", "ff", "41", "45", "60", "84", "bf",
    ] {
        assert_rejected(&format!("40{code}1234"), DropReason::CoapCode);
    }
}

/// What coap-lite makes of a message, as numbers with values and the payload.
type Parts = (Vec<(u16, Vec<u8>)>, Vec<u8>);

fn by_coap_lite(message: &[u8]) -> Option<Parts> {
    let packet = Packet::from_bytes(message).ok()?;
    let options = packet
        .options()
        .flat_map(|(&number, values)| values.iter().map(move |value| (number, value.clone())))
        .collect();
    Some((options, packet.payload))
}

fn by_walking(body: &[u8]) -> Option<Parts> {
    let mut walk = Options::new(body);
    let mut options = Vec::new();
    while let Some((number, value)) = walk.next_option().ok()? {
        options.push((number, value.to_vec()));
    }
    let payload = walk.payload().ok()?.to_vec();
    assert_eq!(check_format(body), Ok(options.len()));
    Some((options, payload))
}

/// Bytes that are options more often than not.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let option = (
        prop_oneof![3 => 0u8..13, 1 => 13u8..=15],
        prop_oneof![3 => 0u8..6, 1 => 0u8..=15],
        prop::collection::vec(any::<u8>(), 0..20),
    )
        .prop_map(|(delta, length, mut value)| {
            if length < 13 {
                value.truncate(usize::from(length));
            }
            value.insert(0, delta << 4 | length);
            value
        });
    (
        prop::collection::vec(option, 0..8),
        prop::option::of(prop::collection::vec(any::<u8>(), 0..4)),
    )
        .prop_map(|(options, payload)| {
            let mut bytes = options.concat();
            if let Some(payload) = payload {
                bytes.push(0xff);
                bytes.extend(payload);
            }
            bytes
        })
}

/// Reads a request by way of coap-lite.
fn evaluate_by_coap_lite(method: u8, message: &[u8]) -> Option<Evaluated> {
    let packet = Packet::from_bytes(message).ok()?;
    let mut evaluated = Evaluated::new(method, Vec::new());
    for (&number, values) in packet.options() {
        for (occurrence, value) in values.iter().enumerate() {
            evaluated.add(number, value, occurrence > 0);
        }
    }
    evaluated.message.set_payload(&packet.payload);
    Some(evaluated)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// Requests are read as coap-lite would read them.
    #[test]
    fn requests_agree_with_coap_lite(method in 1u8..32, body in body()) {
        let message = [&[0x40, method, 0, 0][..], &body].concat();
        if let Ok(evaluated) = evaluate(method, &body, &mut SpareBuffers::default()) {
            prop_assert_eq!(Some(evaluated), evaluate_by_coap_lite(method, &message));
        }
    }

    /// The walk over the options and coap-lite agree, but for the marker without payload.
    #[test]
    fn the_walk_agrees_with_coap_lite(body in prop_oneof![body(), prop::collection::vec(any::<u8>(), 0..40)]) {
        let message = [&[0x40, 0x01, 0, 0][..], &body].concat();
        let walked = by_walking(&body);
        let mut decoded = by_coap_lite(&message);
        if walked.is_none() && decoded.as_ref().is_some_and(|(_, payload)| payload.is_empty()) {
            prop_assert_eq!(body.last(), Some(&0xff));
            decoded = None;
        }
        prop_assert_eq!(walked, decoded);
    }
}
