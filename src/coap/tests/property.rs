//! Any bytes in any order: no panic, no timeout in the past, memory within its bounds.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Bytes(Vec<u8>),
    /// First byte, code, Message ID from a small range, options and payload.
    Message(u8, u8, u8, Vec<u8>),
    /// Answers one of the open requests, with this code and payload length.
    Respond(prop::sample::Index, u8, u16),
    /// Answers an exchange that may not exist.
    RespondAny(u32),
    /// Acknowledges or resets one of our last messages.
    Acknowledge(prop::sample::Index, bool),
    Wait(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let plausible_body = prop_oneof![
        Just(vec![]),
        Just(from_hex("b3617069027631")),
        Just(from_hex("d10e06ff31")),
        prop::collection::vec(any::<u8>(), 0..30),
    ];
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..60).prop_map(Step::Bytes),
        6 => (prop_oneof![Just(0x40u8), Just(0x50), any::<u8>()], prop_oneof![0u8..9, any::<u8>()], any::<u8>(), plausible_body)
            .prop_map(|(first, code, id, body)| Step::Message(first, code, id, body)),
        5 => (any::<prop::sample::Index>(), any::<u8>(), 0u16..1500)
            .prop_map(|(index, code, length)| Step::Respond(index, code, length)),
        1 => any::<u32>().prop_map(Step::RespondAny),
        2 => (any::<prop::sample::Index>(), any::<bool>())
            .prop_map(|(index, reset)| Step::Acknowledge(index, reset)),
        3 => (0u32..25, any::<u32>()).prop_map(|(bits, value)| Step::Wait(value & ((1 << bits) - 1))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn nothing_panics_and_nothing_grows(
        steps in prop::collection::vec(step(), 0..400),
        piggyback_ms in prop_oneof![Just(0u64), Just(500), 0u64..300_000],
        dedup_max in 0usize..70,
        requests_max in 0usize..20,
        outgoing_max in 0usize..20,
        cached_bytes_max in 0usize..5_000,
    ) {
        let settings = Settings {
            piggyback_timeout: Duration::from_millis(piggyback_ms),
            dedup_max,
            requests_max,
            outgoing_max,
            cached_bytes_max,
            ..Settings::default()
        };
        let mut peer = Peer::with(settings);
        let mut open = Vec::new();
        let mut own_ids = Vec::new();
        for step in steps {
            let input = match step {
                Step::Bytes(bytes) => peer.receive(&bytes),
                Step::Message(first, code, id, body) => {
                    let tokens = [0xaa; 15];
                    let length = usize::from(first & 0x0f);
                    peer.receive(&[&[first, code, 0, id][..], &tokens[..length], &body].concat())
                }
                Step::Respond(index, code, length) if !open.is_empty() => {
                    let exchange = open.swap_remove(index.index(open.len()));
                    let response = text_response(code, &"x".repeat(usize::from(length)));
                    let _ = peer.respond(exchange, &response);
                    Input::Nothing
                }
                Step::RespondAny(exchange) => {
                    let _ = peer.respond(exchange, &Response::empty(0x45));
                    Input::Nothing
                }
                Step::Acknowledge(index, reset) if !own_ids.is_empty() => {
                    let id: [u8; 2] = own_ids[index.index(own_ids.len())];
                    peer.receive(&[if reset { 0x70 } else { 0x60 }, 0, id[0], id[1]])
                }
                Step::Wait(millis) => {
                    peer.advance(u64::from(millis));
                    Input::Nothing
                }
                Step::Respond(..) | Step::Acknowledge(..) => Input::Nothing,
            };
            if let Input::Request { exchange, message } = input {
                prop_assert!(message.path().count() + message.queries().count() <= 64);
                open.push(exchange);
            }
            for message in peer.sent.drain(..) {
                prop_assert!(message.len() <= 1152);
                if message[0] & 0x30 == 0 {
                    own_ids.push([message[2], message[3]]);
                }
            }
            let (entries, in_work, outgoing, bytes) = peer.layer.memory();
            prop_assert!(entries <= dedup_max && in_work <= requests_max.min(entries));
            prop_assert!(outgoing <= outgoing_max && bytes <= cached_bytes_max);
        }
        // All ends.
        peer.advance(400_000);
        prop_assert!(peer.layer.is_idle(peer.now));
        prop_assert_eq!(peer.layer.memory(), (0, 0, 0, 0));
        prop_assert_eq!(peer.layer.next_timeout(), None);
    }
}
