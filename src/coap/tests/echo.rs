//! Echo (RFC 9175): what a plain peer gets before it has shown that it receives at its address.

use super::*;
use crate::auth::request::RelationId;

/// GET /a with Message ID 1, token 77: 7 bytes.
const GET: &str = "4101000177 b161";
/// 4.01, Echo of 8 bytes.
const CHALLENGE: &str = "6181000177 d8ef";

fn unproven() -> Peer {
    let mut peer = Peer::new();
    peer.layer = MessageLayer::unproven(&mut peer.random);
    peer
}

fn answer(length: usize) -> Response {
    Response {
        payload: vec![b'x'; length],
        ..Response::empty(0x45)
    }
}

/// The Echo value of a challenge for the request with this Message ID.
fn echo_of(sent: &[String], message_id: u16) -> String {
    let [sent] = sent else { panic!("{sent:?}") };
    let head = format!("6181{message_id:04x}77d8ef");
    let value = sent.strip_prefix(&head);
    let value = value.unwrap_or_else(|| panic!("no challenge: {sent}"));
    assert_eq!(value.len(), 16, "{sent}");
    value.to_owned()
}

/// RFC 9175 section 2.4: whoever sends much to unauthenticated peers SHOULD ask for an Echo; section
/// 2.3: 4.01 with the option, and the request again with its value.
#[test]
fn an_answer_longer_than_three_requests_needs_an_echo() {
    let mut peer = unproven();
    let exchange = peer.request(GET);
    peer.respond(exchange, &answer(16)).unwrap();
    let challenge = peer.sent();
    assert!(challenge[0].starts_with(&CHALLENGE.replace(' ', "")));
    let echo = echo_of(&challenge, 1);
    // A copy gets the same from memory.
    assert_eq!(
        peer.receive_hex(GET),
        Input::Dropped(DropReason::CoapDuplicate)
    );
    assert_eq!(peer.sent(), challenge);
    // Another value is none.
    let exchange = peer.request(&format!("4101000277 b161 d8e4 {}", "00".repeat(8)));
    peer.respond(exchange, &answer(500)).unwrap();
    assert_eq!(echo_of(&peer.sent(), 2), echo);
    let exchange = peer.request(&format!("4101000377 b161 d8e4 {echo}"));
    peer.respond(exchange, &answer(500)).unwrap();
    assert!(peer.sent()[0].starts_with("6145000377ff78"));
    // Once is enough.
    let exchange = peer.request("4101000477 b161");
    peer.respond(exchange, &answer(1000)).unwrap();
    assert!(peer.sent()[0].starts_with("6145000477ff78"));
}

/// Nobody gets more than three times what came from there, however he asks.
#[test]
fn an_address_that_repeats_nothing_gets_little() {
    let mut peer = unproven();
    let (mut came, mut went) = (0, 0);
    for number in 0..200_u16 {
        let request = from_hex(&format!("4101{number:04x}77 b161"));
        came += request.len();
        let Input::Request { exchange, .. } = peer.receive(&request) else {
            panic!("{number}");
        };
        peer.respond(exchange, &answer(usize::from(number) * 5))
            .unwrap();
        went += peer
            .sent
            .drain(..)
            .map(|message| message.len())
            .sum::<usize>();
        peer.advance(1000);
    }
    assert!(went <= 3 * came, "{went} bytes for {came}");
}

/// To observe is to get any number of messages later.
#[test]
fn to_observe_needs_an_echo() {
    let mut peer = unproven();
    assert_eq!(
        peer.receive_hex("4101000177 60 51 61"),
        Input::Answered(0x81)
    );
    let echo = echo_of(&peer.sent(), 1);
    let exchange = peer.request(&format!("4101000277 60 51 61 d8e4 {echo}"));
    let opens = Response {
        relation: Some(RelationId(1)),
        ..answer(1)
    };
    peer.respond(exchange, &opens).unwrap();
    assert_eq!(peer.sent(), ["614500027760ff78"]);
}

/// A short answer goes at once, and so does one to a request that cannot be made twice.
#[test]
fn what_is_short_or_must_not_be_done_twice_goes_at_once() {
    let mut peer = unproven();
    let exchange = peer.request(GET);
    peer.respond(exchange, &answer(15)).unwrap();
    assert!(peer.sent()[0].starts_with("6145000177ff"));
    let exchange = peer.request("4102000277 b161");
    peer.respond(exchange, &answer(500)).unwrap();
    assert!(peer.sent()[0].starts_with("6145000277ff"));
}

/// The ACK of a message of ours has come from where it went.
#[test]
fn an_acknowledgement_proves_the_address() {
    let mut peer = unproven();
    let exchange = peer.request(GET);
    peer.advance(500);
    peer.respond(exchange, &answer(1)).unwrap();
    let separate = peer.sent().pop().unwrap();
    assert_eq!(
        peer.receive_hex(&format!("6000{}", &separate[4..8])),
        Input::Nothing
    );
    let exchange = peer.request("4101000277 b161");
    peer.respond(exchange, &answer(500)).unwrap();
    assert!(peer.sent()[0].starts_with("6145000277ff"));
}

/// Who need not show it is not asked; an Echo of nobody's is ignored, being elective.
#[test]
fn others_are_not_asked() {
    let mut peer = Peer::new();
    let exchange = peer.request(&format!("4101000177 b161 d8e4 {}", "ab".repeat(8)));
    peer.respond(exchange, &answer(900)).unwrap();
    assert!(peer.sent()[0].starts_with("6145000177ff"));
}
