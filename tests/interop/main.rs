//! Clients of other authors against our binary: they, not our own client, judge interoperability.
//!
//! Each client does what a device does: handshake, one reading, and the reading is found stored.

#![allow(
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "tests of a process run by the clock, and a test's dice are small numbers"
)]

#[path = "../support/mod.rs"]
mod support;

mod capture;
mod connection_id;
mod dimpl;
mod faults;
mod gnutls;
mod libcoap;
mod mbedtls;
mod observe;
mod openssl;
mod ota;
mod peers;
mod proxy;
mod psk;
mod resumption;
mod wolfssl;

/// TB vector 1's message with the token and payload of the caller: CON POST
/// /api/v1/{token}/telemetry, Content-Format 50.
fn telemetry_post(message_id: u16, token: &str, payload: &str) -> Vec<u8> {
    let mut message = vec![0x44, 0x02];
    message.extend_from_slice(&message_id.to_be_bytes());
    message.extend_from_slice(&[0xde, 0xad, 0xbe, 0xef]);
    message.extend_from_slice(b"\xb3api\x02v1");
    push_path_segment(&mut message, token);
    message.extend_from_slice(b"\x09telemetry\x11\x32\xff");
    message.extend_from_slice(payload.as_bytes());
    message
}

/// The same for a device that its certificate identifies: /api/v1/telemetry.
fn certificate_telemetry_post(message_id: u16, payload: &str) -> Vec<u8> {
    let mut message = vec![0x44, 0x02];
    message.extend_from_slice(&message_id.to_be_bytes());
    message.extend_from_slice(&[0xde, 0xad, 0xbe, 0xef]);
    message.extend_from_slice(b"\xb3api\x02v1\x09telemetry\x11\x32\xff");
    message.extend_from_slice(payload.as_bytes());
    message
}

fn push_path_segment(message: &mut Vec<u8>, segment: &str) {
    let length = u8::try_from(segment.len()).expect("a short token");
    if length < 13 {
        message.push(length);
    } else {
        message.extend_from_slice(&[13, length - 13]);
    }
    message.extend_from_slice(segment.as_bytes());
}

/// The piggybacked 2.01 to a message of the functions above.
fn created(message_id: u16) -> Vec<u8> {
    let [high, low] = message_id.to_be_bytes();
    vec![0x64, 0x41, high, low, 0xde, 0xad, 0xbe, 0xef]
}
