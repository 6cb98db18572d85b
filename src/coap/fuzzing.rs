//! What fuzzers call with CoAP messages; feature `fuzzing` only. See `dtls::fuzzing`.

#![allow(
    clippy::missing_panics_doc,
    reason = "panics are what these functions are for"
)]

use coap_lite::Packet;

use super::message::Head;
use super::option::{Evaluated, OPTIONS_MAX, evaluate};
use super::{Context, Input, MessageLayer, Settings, check_header};
use crate::auth::request::{
    Notification, PeerRef, RelationEnd, RelationEventKind, RelationId, Response,
};
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
        let opens = message.method == 1 && message.observe == Some(0);
        let response = Response {
            code: 0x45,
            content_format: message.content_format,
            payload: message.payload().to_vec(),
            relation: opens.then_some(RelationId(1)),
            ..Response::default()
        };
        let _ = step(&mut random, &settings, &mut sent, |cx| {
            layer.respond(now, exchange, &response, cx)
        });
        step(&mut random, &settings, &mut sent, |cx| {
            layer.handle_message(now, bytes, cx)
        });
        if opens {
            observe(bytes, now, &settings, &mut random, &mut layer, &mut sent);
        }
    }
    for message in &sent {
        assert!(message.len() <= settings.message_size_max);
        assert!(
            Packet::from_bytes(message).is_ok(),
            "we send what is no CoAP"
        );
    }
    let (uploads, upload_bytes) = layer.upload_memory();
    assert!(uploads <= settings.uploads_max + 1);
    assert!(upload_bytes <= (settings.uploads_max + 1) * settings.upload_bytes_max);
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
    assert_eq!(layer.upload_memory(), (0, 0), "an upload is left behind");
}

/// Notifications of the relation that `bytes` opened, acknowledged or reset as the bytes have it.
fn observe(
    bytes: &[u8],
    now: Instant,
    settings: &Settings,
    random: &mut SeededRandom,
    layer: &mut MessageLayer,
    sent: &mut Vec<Vec<u8>>,
) {
    for (delivery, &byte) in (0..24).zip(bytes) {
        let notification = Notification {
            peer: PeerRef {
                shard: 0,
                slot: 0,
                generation: 0,
            },
            relation: RelationId(1),
            delivery,
            response: Response::empty(if byte == 0x84 { 0x84 } else { 0x45 }),
            last: byte == 0,
        };
        let _ = step(random, settings, sent, |cx| {
            layer.notify(now, notification, cx)
        });
        let kind = if byte == 0xff { 0x70 } else { 0x60 };
        if let Some(&[_, _, high, low, ..]) = sent.last().map(Vec::as_slice)
            && byte & 1 == 1
        {
            step(random, settings, sent, |cx| {
                layer.handle_message(now, &[kind, 0, high, low], cx)
            });
        }
        let (_, waiting, kept) = layer.relation_memory();
        assert!(waiting <= settings.notifications_max && kept <= settings.notification_bytes_max);
    }
    layer.end_relations(RelationEnd::SessionEnded);
    let events: Vec<_> = std::iter::from_fn(|| layer.next_event()).collect();
    let is_end = |kind| matches!(kind, RelationEventKind::Ended(_));
    let ends = events.iter().filter(|(_, kind)| is_end(*kind)).count();
    assert_eq!(ends, 1, "one end per relation");
    assert!(events.last().is_some_and(|(_, kind)| is_end(*kind)));
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
