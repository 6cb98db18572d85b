//! CoAP: the codec, and the message layer around it.

use coap_lite::{CoapOption, MessageClass, MessageType, Packet, ResponseType};
use tidegate::auth::request::Response;
use tidegate::buffer::SpareBuffers;
use tidegate::coap::client::{RequestParts, RequestTemplate};
use tidegate::coap::{Context, Input, MessageLayer, Settings, code};
use tidegate::random::SeededRandom;
use tidegate::time::{Duration, Instant};

use crate::measure::Benchmark;

/// A reading of 40 bytes.
const PAYLOAD: &[u8; 40] = br#"{"temperature":21.523,"humidity":48.251}"#;
/// Between two requests of a device: enough that no Message ID is remembered when it comes again.
const BETWEEN_REQUESTS: Duration = Duration::from_millis(250);

/// All of this module.
///
/// # Errors
///
/// Does not fail but by a defect.
pub(crate) fn benchmarks() -> Result<Vec<Benchmark>, String> {
    let (template, request) = request()?;
    let bytes = request.clone();
    let decode = Benchmark::new(
        "CoAP",
        format!("coap-lite decode, token telemetry of {} B", bytes.len()),
        move || Packet::from_bytes(&bytes),
    );
    let packet = Packet::from_bytes(&request).map_err(|error| error.to_string())?;
    let encode_request = Benchmark::new("CoAP", "coap-lite encode, the same", move || {
        packet.to_bytes()
    });

    let answer = answer();
    let encode_answer = Benchmark::new("CoAP", "coap-lite encode, 2.01 in an ACK", move || {
        answer.to_bytes()
    });

    let mut reused = Vec::new();
    let mut message_id = 0_u16;
    let by_template = Benchmark::new(
        "CoAP",
        "request by a template (load generator)",
        move || {
            message_id = message_id.wrapping_add(1);
            template.encode(true, message_id, &[1, 2, 3, 4], PAYLOAD, &mut reused);
            reused.len()
        },
    );
    Ok(vec![
        decode,
        encode_request,
        encode_answer,
        by_template,
        exchange(request),
    ])
}

/// The request that all of this is about.
fn request() -> Result<(RequestTemplate, Vec<u8>), String> {
    let template = RequestTemplate::new(&RequestParts {
        method: code::POST,
        path: &["api", "v1", "ABCDEFGHIJ0123456789", "telemetry"],
        content_format: Some(50),
        ..RequestParts::default()
    })
    .ok_or("the request is too long")?;
    let mut request = Vec::new();
    template.encode(true, 1, &[1, 2, 3, 4], PAYLOAD, &mut request);
    Ok((template, request))
}

fn answer() -> Packet {
    let mut answer = Packet::new();
    answer.header.set_type(MessageType::Acknowledgement);
    answer.header.code = MessageClass::Response(ResponseType::Created);
    answer.set_token(vec![1, 2, 3, 4]);
    answer.add_option(CoapOption::MaxAge, vec![1]);
    answer
}

/// The codec crate's part of a request: decodes it, and encodes its answer.
///
/// # Errors
///
/// Does not fail but by a defect.
pub(crate) fn codec() -> Result<(impl Fn() -> bool, impl Fn() -> usize), String> {
    let (_, request) = request()?;
    let answer = answer();
    Ok((
        move || Packet::from_bytes(&request).is_ok(),
        move || answer.to_bytes().map_or(0, |bytes| bytes.len()),
    ))
}

/// A request into the message layer, its answer out.
fn exchange(mut request: Vec<u8>) -> Benchmark {
    let settings = Settings::default();
    let mut random = SeededRandom::new(1);
    let mut layer = MessageLayer::new(&mut random);
    let mut buffers = SpareBuffers::default();
    let mut now = Instant::from_micros(1_000_000);
    let mut message_id = 0_u16;
    let response = Response::empty(code::CREATED);
    Benchmark::new(
        "CoAP",
        "message layer, request in and 2.01 out",
        move || {
            message_id = message_id.wrapping_add(1);
            request[2..4].copy_from_slice(&message_id.to_be_bytes());
            now = now + BETWEEN_REQUESTS;
            let mut sent = 0;
            let mut context = Context {
                settings: &settings,
                random: &mut random,
                out: &mut |message| sent += message.len(),
                buffers: &mut buffers,
            };
            let Input::Request { exchange, message } =
                layer.handle_message(now, &request, &mut context)
            else {
                panic!("the message layer did not take a request");
            };
            let answered = layer.respond(now, exchange, &response, &mut context);
            assert!(answered.is_ok() && sent > 0);
            buffers.put(message.into_buffer());
        },
    )
}
