//! Efento's sensors (TB section 7.11): protocol buffers of their own, with the token inside.
//!
//! ```text
//! POST /efento/m  measurements  -> telemetry, at the times of the samples
//! POST /efento/i  device info   -> telemetry, now
//! POST /efento/c  configuration -> client attributes
//! GET  /efento/t                -> 4 bytes: seconds since the UNIX epoch, big-endian
//! ```
//!
//! The device's profile must be one of EFENTO, else 4.00. What cannot be decoded is 4.00, too
//! (ThingsBoard: 5.00), and so is a message with more samples than a sensor takes. The token is read first,
//! and nothing else before the device is known: to read a message whole costs a hundred times as much. A NON
//! upload is answered as any other, where ThingsBoard says nothing; a sensor that sleeps does not hear it.
//!
//! The messages' fields and the names of the values are Efento's and ThingsBoard's; the rest of them is
//! skipped.

mod config;
mod info;
mod measurements;

use super::limits::Load;
use super::payload::{self, PAYLOAD_BYTES_MAX};
use super::{Api, Asked, Outcome, code};
use crate::auth::request::{Request, Response};
use crate::store::Batch;
use prost::Message;
use std::fmt::Write as _;
use time::OffsetDateTime;

/// What was posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upload {
    Measurements,
    DeviceInfo,
    Configuration,
}

/// The bytes are no such message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NotOne;

/// The token that a sensor names in its measurements and in what it says of itself.
#[derive(Clone, PartialEq, Message)]
struct Sender {
    #[prost(string, tag = "16")]
    cloud_token: String,
}

impl Upload {
    /// The token that a message names; empty when it names none.
    fn token(self, bytes: &[u8]) -> Result<String, NotOne> {
        match self {
            Self::Measurements | Self::DeviceInfo => Sender::decode(bytes)
                .map(|sender| sender.cloud_token)
                .map_err(|_| NotOne),
            Self::Configuration => config::token(bytes),
        }
    }

    /// What a message says, as JSON in the form of an upload.
    fn read(self, bytes: &[u8]) -> Result<String, NotOne> {
        match self {
            Self::Measurements => measurements::read(bytes),
            Self::DeviceInfo => info::read(bytes),
            Self::Configuration => config::read(bytes),
        }
    }
}

/// Answers `GET /efento/t`.
pub(super) fn current_time(unix_ms: u64) -> Response {
    let seconds = u32::try_from(unix_ms / 1000).unwrap_or(u32::MAX);
    Response {
        code: code::CONTENT,
        payload: seconds.to_be_bytes().to_vec(),
        is_public: true,
        ..Response::default()
    }
}

impl Api {
    pub(super) fn efento(&self, request: &Request, upload: Upload, batch: &mut Batch) -> Outcome {
        let refused = |code| Outcome::Respond(Response::empty(code));
        let bytes = request.message.payload();
        if bytes.len() > PAYLOAD_BYTES_MAX {
            return refused(code::REQUEST_ENTITY_TOO_LARGE);
        }
        let Ok(token) = upload.token(bytes) else {
            return refused(code::BAD_REQUEST);
        };
        let Some(device) = self.authenticate(request, Some(token.as_bytes())) else {
            return refused(match token.is_empty() {
                true => code::BAD_REQUEST,
                false => code::UNAUTHORIZED,
            });
        };
        let asked = Asked {
            request,
            device,
            profile: self.registry.profile_of(device),
        };
        if !asked.is_efento() {
            return refused(code::BAD_REQUEST);
        }
        let Ok(json) = upload.read(bytes) else {
            return refused(code::BAD_REQUEST);
        };
        self.hub.uplink(device, request.received_unix_ms);
        let mark = batch.begin();
        let store = match upload {
            Upload::Configuration => payload::attributes,
            Upload::Measurements | Upload::DeviceInfo => payload::telemetry,
        };
        let (bytes, now_ms) = (json.as_bytes(), asked.received_ms());
        let may = match upload {
            Upload::Configuration => self.check_attributes(&asked, bytes.len()),
            Upload::Measurements | Upload::DeviceInfo => Ok(()),
        };
        let stored = may
            .and_then(|()| store(bytes, device, now_ms, &self.settings, batch))
            .map_err(|payload::Refusal(code)| Response::empty(code))
            .and_then(|values| self.admit(&asked, Load::Telemetry(values)));
        match stored {
            Ok(()) => Outcome::Durable(Response::empty(code::CREATED)),
            Err(refusal) => {
                batch.rollback(mark);
                Outcome::Respond(refusal)
            }
        }
    }
}

/// `2026-11-25 14:16:33 UTC`.
fn utc_text(unix_s: i64) -> String {
    let Ok(at) = OffsetDateTime::from_unix_timestamp(unix_s) else {
        return unix_s.to_string();
    };
    let (hour, minute, second) = at.to_hms();
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// `25 Nov 2026 14:16:33 +0000`; a sensor that has no such time says so with all bits set.
fn date_text(unix_s: u32) -> String {
    if unix_s == u32::MAX {
        return "Undefined".to_owned();
    }
    let at = OffsetDateTime::from_unix_timestamp(i64::from(unix_s));
    let Ok(at) = at else {
        return unix_s.to_string();
    };
    let (hour, minute, second) = at.to_hms();
    let (year, month, day) = (at.year(), at.month().to_string(), at.day());
    let month = month.get(..3).unwrap_or_default();
    format!("{day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} +0000")
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string never fails.
        let _ = write!(text, "{byte:02X}");
    }
    text
}

#[cfg(test)]
mod tests;
