//! What fuzzers call with CoAP messages; feature `fuzzing` only. See `dtls::fuzzing`.

#![allow(
    clippy::missing_panics_doc,
    reason = "panics are what these functions are for"
)]

use coap_lite::Packet;

use super::message::Head;
use super::option::{Evaluated, OPTIONS_MAX, evaluate};
use super::{Context, Input, MessageLayer, Settings, check_header};
use crate::auth::request::Response;
use crate::buffer::SpareBuffers;
use crate::random::SeededRandom;
use crate::time::{Duration, Instant};

/// One message of a peer: read as coap-lite reads it, given to a message layer, answered, repeated,
/// and forgotten in time.
pub fn message(bytes: &[u8]) {
    let head = Head::decode(bytes);
    assert!(head.is_err() || check_header(bytes).is_ok());
    if let Ok(Head {
        code: method @ 1..32,
        token: Some(token),
        ..
    }) = head
    {
        agrees_with_coap_lite(method, bytes, 4 + token.as_bytes().len());
    }
    converse(bytes);
}

/// What we accept, coap-lite reads in the same way. It accepts more: a payload marker at the end.
fn agrees_with_coap_lite(method: u8, bytes: &[u8], body_at: usize) {
    let Ok(evaluated) = evaluate(method, &bytes[body_at..], &mut SpareBuffers::default()) else {
        return;
    };
    let packet = Packet::from_bytes(bytes).expect("what we read, coap-lite reads");
    let mut other = Evaluated::new(method, Vec::new());
    let mut count = 0;
    for (&number, values) in packet.options() {
        for (occurrence, value) in values.iter().enumerate() {
            other.add(number, value, occurrence > 0);
            count += 1;
        }
    }
    if count <= OPTIONS_MAX {
        other.message.set_payload(&packet.payload);
        assert_eq!(evaluated, other);
    }
}

fn converse(bytes: &[u8]) {
    let settings = Settings::default();
    let mut random = SeededRandom::new(1);
    let mut layer = MessageLayer::new(&mut random);
    let mut now = Instant::from_micros(1);
    let mut sent: Vec<Vec<u8>> = Vec::new();
    let first = step(&mut random, &settings, &mut sent, |cx| {
        layer.handle_message(now, bytes, cx)
    });
    assert!(sent.len() <= 1);
    if let Input::Request { exchange, message } = first {
        assert!(message.path().count() + message.queries().count() <= OPTIONS_MAX);
        let again = step(&mut random, &settings, &mut sent, |cx| {
            layer.handle_message(now, bytes, cx)
        });
        assert!(
            !matches!(again, Input::Request { .. }),
            "one message, two requests (RFC 7252 section 4.5)"
        );
        // An answer that echoes the payload, at once or late, by the peer's own bytes.
        if bytes.len() % 2 == 1 {
            now = now + Duration::from_secs(1);
            step(&mut random, &settings, &mut sent, |cx| {
                layer.handle_timeout(now, cx)
            });
        }
        let response = Response {
            code: 0x45,
            content_format: message.content_format,
            payload: message.payload().to_vec(),
            ..Response::default()
        };
        let _ = step(&mut random, &settings, &mut sent, |cx| {
            layer.respond(now, exchange, &response, cx)
        });
        step(&mut random, &settings, &mut sent, |cx| {
            layer.handle_message(now, bytes, cx)
        });
    }
    for message in &sent {
        assert!(message.len() <= settings.message_size_max);
        assert!(
            Packet::from_bytes(message).is_ok(),
            "we send what is no CoAP"
        );
    }
    let (entries, in_work, outgoing, kept) = layer.memory();
    assert!(entries <= settings.dedup_max && in_work <= settings.requests_max);
    assert!(outgoing <= settings.outgoing_max && kept <= settings.cached_bytes_max);
    for step_number in 0.. {
        let Some(due) = layer.next_timeout() else {
            break;
        };
        assert!(step_number < 64, "timers without end");
        now = now.max(due);
        step(&mut random, &settings, &mut sent, |cx| {
            layer.handle_timeout(now, cx)
        });
    }
    assert!(layer.is_idle(now));
    assert_eq!(layer.memory(), (0, 0, 0, 0), "something is left behind");
}

fn step<R>(
    random: &mut SeededRandom,
    settings: &Settings,
    sent: &mut Vec<Vec<u8>>,
    act: impl FnOnce(&mut Context<'_>) -> R,
) -> R {
    let mut out = |message: &[u8]| sent.push(message.to_vec());
    let mut context = Context {
        settings,
        random,
        out: &mut out,
        buffers: &mut SpareBuffers::default(),
    };
    act(&mut context)
}
