//! Uploads: from a JSON payload to values in a batch (TB sections 7.2 and 7.3).

use super::{ApiSettings, code};
use crate::auth::json::number::{self, Number};
use crate::auth::json::{Json, parse};
use crate::registry::DeviceId;
use crate::store::batch::KEY_BYTES_MAX;
use crate::store::{AttributeScope, Batch, ValueRef};

/// Longest payload that is looked at. With block-wise transfer uploads can exceed a datagram.
pub(super) const PAYLOAD_BYTES_MAX: usize = 256 << 10;

/// An upload that is refused with this code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) u8);

const BAD: Refusal = Refusal(code::BAD_REQUEST);

/// Adds the readings of `payload` to `batch` and returns how many. On an error the batch may hold a
/// part of them.
///
/// `received_ms` is the one timestamp of everything that comes without its own.
pub(super) fn telemetry(
    payload: &[u8],
    device: DeviceId,
    received_ms: i64,
    settings: &ApiSettings,
    batch: &mut Batch,
) -> Result<u64, Refusal> {
    with_document(payload, |document| match document {
        Json::Object(members) => readings(members, device, received_ms, settings, batch),
        Json::Array(items) => items.iter().try_fold(0, |count, item| match item {
            Json::Object(members) => {
                Ok(count + readings(members, device, received_ms, settings, batch)?)
            }
            _ => Err(BAD),
        }),
        _ => Err(BAD),
    })
}

/// Adds the client attributes of `payload` to `batch` and returns how many. On an error the batch
/// may hold a part.
pub(super) fn attributes(
    payload: &[u8],
    device: DeviceId,
    received_ms: i64,
    settings: &ApiSettings,
    batch: &mut Batch,
) -> Result<u64, Refusal> {
    with_document(payload, |document| {
        let Json::Object(members) = document else {
            return Err(BAD);
        };
        values(members, settings, |key, value| {
            batch
                .push_attribute(device, AttributeScope::Client, key, received_ms, value)
                .map_err(|_| BAD)
        })
    })
}

/// Parses the payload. Bytes that are no UTF-8 become U+FFFD, as in ThingsBoard: a device with a
/// Latin-1 degree sign in a string must not lose its reading.
pub(super) fn with_document<T>(
    payload: &[u8],
    work: impl FnOnce(&Json<'_>) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(Refusal(code::REQUEST_ENTITY_TOO_LARGE));
    }
    // The usual case first: `from_utf8_lossy` alone is several times slower.
    let repaired;
    let text = match std::str::from_utf8(payload) {
        Ok(text) => text,
        Err(_) => {
            repaired = String::from_utf8_lossy(payload);
            &repaired
        }
    };
    let document = parse(text).map_err(|_| BAD)?;
    work(&document)
}

type Members<'a> = [(std::borrow::Cow<'a, str>, Json<'a>)];

fn readings(
    members: &Members<'_>,
    device: DeviceId,
    received_ms: i64,
    settings: &ApiSettings,
    batch: &mut Batch,
) -> Result<u64, Refusal> {
    let member = |name: &str| members.iter().find(|(known, _)| known == name);
    let (ts_ms, members) = match (member("ts"), member("values")) {
        (Some((_, ts)), Some((_, values))) => {
            let ts_ms = timestamp(ts)?;
            let Json::Object(members) = values else {
                return Err(BAD);
            };
            (ts_ms, &members[..])
        }
        // One of them alone is an ordinary key.
        _ => (received_ms, members),
    };
    values(members, settings, |key, value| {
        batch
            .push_telemetry(device, ts_ms, key, value)
            .map_err(|_| BAD)
    })
}

/// A timestamp: a number, cut to its integer, or a string of an integer. What is no number is 5.00
/// (TB section 10, vector 6), a number beyond 64 bits 4.00.
fn timestamp(value: &Json<'_>) -> Result<i64, Refusal> {
    let not_a_number = Refusal(code::INTERNAL_SERVER_ERROR);
    match value {
        Json::Number(lexeme) => match number::classify(lexeme) {
            Number::Long(ts_ms) => Ok(ts_ms),
            Number::Double(ts_ms) => truncated(ts_ms).ok_or(BAD),
            Number::Plain(digits) => {
                let integer = digits.split('.').next().unwrap_or_default();
                integer.parse().map_err(|_| BAD)
            }
            Number::Excessive => Err(BAD),
        },
        Json::String(text) => text.parse().map_err(|_| not_a_number),
        _ => Err(not_a_number),
    }
}

/// The integer part, if it fits.
#[allow(
    clippy::cast_possible_truncation,
    reason = "the range is checked: 2^63 and -2^63 are doubles"
)]
fn truncated(value: f64) -> Option<i64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    (-LIMIT..LIMIT).contains(&value).then_some(value as i64)
}

/// Hands every value that is not null to `push`; returns how many there were.
fn values(
    members: &Members<'_>,
    settings: &ApiSettings,
    mut push: impl FnMut(&str, ValueRef<'_>) -> Result<(), Refusal>,
) -> Result<u64, Refusal> {
    let mut count = 0;
    for (key, value) in members {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(BAD);
        }
        match value {
            Json::Null => {}
            Json::Bool(value) => push(key, ValueRef::Bool(*value))?,
            Json::Number(lexeme) => match number::classify(lexeme) {
                Number::Long(value) => push(key, ValueRef::Long(value))?,
                Number::Double(value) => push(key, ValueRef::Double(value))?,
                Number::Plain(digits) if settings.type_cast => {
                    push(key, ValueRef::String(&digits))?;
                }
                Number::Plain(_) | Number::Excessive => return Err(BAD),
            },
            Json::String(text) => {
                let length_max = settings.string_value_length_max;
                // Java counts UTF-16 code units; there are at most as many as bytes.
                if length_max > 0
                    && text.len() > length_max
                    && text.encode_utf16().count() > length_max
                {
                    return Err(BAD);
                }
                string(key, text, settings, &mut push)?;
            }
            Json::Array(_) | Json::Object(_) => {
                let mut text = String::new();
                value.write(&mut text);
                push(key, ValueRef::Json(&text))?;
            }
        }
        count += u64::from(!matches!(value, Json::Null));
    }
    Ok(count)
}

fn string(
    key: &str,
    text: &str,
    settings: &ApiSettings,
    push: &mut impl FnMut(&str, ValueRef<'_>) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    if !(settings.type_cast && number::is_castable(text)) {
        return push(key, ValueRef::String(text));
    }
    match number::classify(text) {
        Number::Long(value) => push(key, ValueRef::Long(value)),
        Number::Double(value) => push(key, ValueRef::Double(value)),
        Number::Plain(digits) => push(key, ValueRef::String(&digits)),
        Number::Excessive => push(key, ValueRef::String(text)),
    }
}
