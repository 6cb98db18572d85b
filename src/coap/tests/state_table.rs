//! The whole (state, event) table: for every state of a request and every event, what is sent, what
//! the caller hears and which state follows.

use super::super::exchange::State;
use super::*;

const CON: &str = "4102123477";
const NON: &str = "5102123477";

#[derive(Clone, Copy, Debug)]
enum Event {
    Con,
    Non,
    OtherToken,
    Respond,
    RespondAtLength,
    PiggybackTimeout,
    Lifetime,
}

const EVENTS: [Event; 7] = [
    Event::Con,
    Event::Non,
    Event::OtherToken,
    Event::Respond,
    Event::RespondAtLength,
    Event::PiggybackTimeout,
    Event::Lifetime,
];

/// A peer with a request in a state, and the request's exchange.
fn peer_in(state: State) -> (Peer, u32) {
    let mut peer = Peer::new();
    if state == State::Forgotten {
        peer.settings.cached_bytes_max = 0;
    }
    let non = matches!(state, State::NonWorking | State::NonDone);
    let exchange = peer.request(if non { NON } else { CON });
    match state {
        State::Working | State::NonWorking => {}
        State::Acknowledged => {
            peer.advance(500);
        }
        State::Answered | State::NonDone => {
            peer.respond(exchange, &Response::empty(0x41)).unwrap();
        }
        State::AnsweredAtLength | State::Forgotten => {
            peer.respond(exchange, &text_response(0x45, "x")).unwrap();
        }
        State::Separate => {
            peer.advance(500);
            peer.respond(exchange, &Response::empty(0x41)).unwrap();
            let id = peer.sent()[1][4..8].to_owned();
            peer.receive_hex(&format!("6000{id}"));
        }
    }
    assert_eq!(peer.layer.state_of(0x1234, peer.now), Some(state));
    peer.sent();
    (peer, exchange)
}

fn describe(message: &str) -> String {
    let kind = match &message[..1] {
        "4" => "CON",
        "5" => "NON",
        "6" => "ACK",
        _ => "RST",
    };
    let code = u8::from_str_radix(&message[2..4], 16).unwrap();
    let own_id = if &message[4..8] == "1234" { "" } else { " own" };
    format!("{kind} {}.{:02}{own_id}", code >> 5, code & 0x1f)
}

fn row(state: State, event: Event) -> String {
    let (mut peer, exchange) = peer_in(state);
    let heard = match event {
        Event::Con => Some(peer.receive_hex(CON)),
        Event::Non => Some(peer.receive_hex(NON)),
        Event::OtherToken => Some(peer.receive_hex("42011234aabbb161")),
        Event::Respond | Event::RespondAtLength => {
            let response = match event {
                Event::Respond => Response::empty(0x41),
                _ => text_response(0x45, "x"),
            };
            let result = peer.respond(exchange, &response);
            result.err().map(Input::Dropped)
        }
        Event::PiggybackTimeout => {
            peer.advance(600);
            None
        }
        Event::Lifetime => {
            let lifetime = if matches!(state, State::NonWorking | State::NonDone) {
                145
            } else {
                247
            };
            peer.advance(lifetime * 1_000);
            None
        }
    };
    let heard = match heard {
        None => "-".to_owned(),
        Some(Input::Dropped(reason)) => reason.label().to_owned(),
        Some(other) => format!("{other:?}"),
    };
    let mut sent: Vec<String> = peer
        .sent()
        .iter()
        .map(|message| describe(message))
        .collect();
    sent.dedup();
    let sent = if sent.is_empty() {
        "-".to_owned()
    } else {
        sent.join("+")
    };
    let next = match peer.layer.state_of(0x1234, peer.now) {
        None => "(unknown)".to_owned(),
        Some(next) if next == state => "same".to_owned(),
        Some(next) => format!("{next:?}"),
    };
    format!("{state:?} {event:?}: {sent}, {heard}, {next}\n")
}

#[test]
fn every_state_and_event() {
    let states = [
        State::Working,
        State::Acknowledged,
        State::Answered,
        State::AnsweredAtLength,
        State::Forgotten,
        State::Separate,
        State::NonWorking,
        State::NonDone,
    ];
    let table: String = states
        .into_iter()
        .flat_map(|state| EVENTS.into_iter().map(move |event| row(state, event)))
        .collect();
    assert_eq!(table, include_str!("state_table.txt"), "\n{table}");
}
