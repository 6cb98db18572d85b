//! Uploads: telemetry and attributes, in JSON or by the profile's schema.

use super::limits::Load;
use super::payload::{self, PAYLOAD_BYTES_MAX, Refusal};
use super::{Api, Asked, Outcome, code};
use crate::auth::request::Response;
use crate::registry::profile::Schema;
use crate::store::{AttributeScope, Batch};
use std::borrow::Cow;

/// Most memory that the client attributes of a device take, bytes: some ten thousand of them. They are read
/// together, by whoever asks for one, so without a bound a device could make each of its questions
/// cost more than the one before.
const CLIENT_ATTRIBUTES_BYTES_MAX: usize = 1 << 20;

/// What an upload becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Telemetry,
    Attributes,
}

impl Api {
    pub(super) fn upload(&self, asked: &Asked<'_>, target: Target, batch: &mut Batch) -> Outcome {
        let payload = match as_json(asked, target) {
            Ok(payload) => payload,
            Err(Refusal(code)) => return Outcome::Respond(Response::empty(code)),
        };
        let read = match target {
            Target::Telemetry => payload::telemetry,
            Target::Attributes => {
                if let Err(Refusal(code)) = self.check_attributes(asked, payload.len()) {
                    return Outcome::Respond(Response::empty(code));
                }
                payload::attributes
            }
        };
        let mark = batch.begin();
        let received_ms = asked.received_ms();
        let read = read(&payload, asked.device, received_ms, &self.settings, batch)
            .map_err(|Refusal(code)| Response::empty(code))
            .and_then(|values| {
                let load = match values {
                    0 => Load::Message,
                    values => Load::Telemetry(values),
                };
                self.admit(asked, load)
            });
        match read {
            Err(refusal) => {
                batch.rollback(mark);
                Outcome::Respond(refusal)
            }
            // Nothing to store: nothing to wait for.
            Ok(()) if batch.mark() == mark => Outcome::Respond(Response::empty(code::CREATED)),
            Ok(()) => Outcome::Durable(Response::empty(code::CREATED)),
        }
    }

    /// Whether the device may have more client attributes, of so many bytes.
    pub(super) fn check_attributes(&self, asked: &Asked<'_>, bytes: usize) -> Result<(), Refusal> {
        let scope = AttributeScope::Client;
        match self.store.attributes_bytes(asked.device, scope) {
            Ok(known) if known + bytes <= CLIENT_ATTRIBUTES_BYTES_MAX => Ok(()),
            Ok(_) => Err(Refusal(code::REQUEST_ENTITY_TOO_LARGE)),
            Err(error) => {
                tracing::error!(%error, device = %asked.device, "attributes cannot be read");
                Err(Refusal(code::INTERNAL_SERVER_ERROR))
            }
        }
    }
}

/// The payload as JSON text: as it came, or what the profile's schema makes of it.
fn as_json<'a>(asked: &Asked<'a>, target: Target) -> Result<Cow<'a, [u8]>, Refusal> {
    let payload = asked.request.message.payload();
    if !asked.is_protobuf() {
        return Ok(Cow::Borrowed(payload));
    }
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(Refusal(code::REQUEST_ENTITY_TOO_LARGE));
    }
    let schema = asked.profile.as_ref().and_then(|profile| match target {
        Target::Telemetry => profile.telemetry.as_ref(),
        Target::Attributes => profile.attributes.as_ref(),
    });
    let json = schema.map(|schema: &Schema| schema.to_json(payload));
    match json {
        Some(Ok(json)) if json.len() <= PAYLOAD_BYTES_MAX => Ok(Cow::Owned(json.into_bytes())),
        _ => Err(Refusal(code::BAD_REQUEST)),
    }
}
