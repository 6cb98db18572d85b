//! A device offers to be claimed (TB section 7.7).
//!
//! 2.01 means that the offer was taken note of, never that the device was claimed; nor that it may
//! be: where claiming is switched off and the device has no server attribute `claimingAllowed` set
//! to true, the offer is dropped and the answer is the same, as in ThingsBoard.

use super::payload::{Refusal, with_document};
use super::proto::ClaimDevice;
use super::{Api, Asked, code};
use crate::auth::json::Json;
use crate::auth::json::number::{self, Number};
use crate::auth::pool::RETRY_AFTER_S;
use crate::auth::request::Response;
use crate::auth::tally::Tallied;
use crate::registry::claim::{SECRET_BYTES_MAX, TooManyOffers};
use crate::store::{AttributeScope, StoreError, Value};
use prost::Message as _;

/// What a device says of its offer.
#[derive(Debug, Default)]
struct Offer {
    secret: String,
    /// 0: none given.
    duration_ms: u64,
}

impl Api {
    pub(super) fn claim(&self, asked: &Asked<'_>) -> Response {
        let payload = asked.request.message.payload();
        let read = if asked.is_protobuf() {
            read_protobuf(payload)
        } else {
            read_json(payload)
        };
        let offer = match read {
            Ok(offer) if offer.secret.len() <= SECRET_BYTES_MAX => offer,
            Ok(_) => return Response::empty(code::BAD_REQUEST),
            Err(Refusal(code)) => return Response::empty(code),
        };
        match self.may_be_claimed(asked) {
            Ok(true) => {}
            Ok(false) => return Response::empty(code::CREATED),
            Err(error) => {
                tracing::error!(%error, device = %asked.device, "attributes cannot be read");
                return Response::empty(code::INTERNAL_SERVER_ERROR);
            }
        }
        let duration_ms = match offer.duration_ms {
            0 => self.settings.claim_duration_ms,
            given => given,
        };
        let now_ms = asked.request.received_unix_ms;
        let noted = self
            .claims
            .offer(asked.device, &offer.secret, duration_ms, now_ms);
        match noted {
            Ok(()) => {
                self.hub.tally().count(Tallied::ClaimOffered);
                Response::empty(code::CREATED)
            }
            Err(TooManyOffers) => Response {
                max_age: Some(RETRY_AFTER_S),
                ..Response::empty(code::SERVICE_UNAVAILABLE)
            },
        }
    }

    fn may_be_claimed(&self, asked: &Asked<'_>) -> Result<bool, StoreError> {
        if self.settings.claiming_allowed {
            return Ok(true);
        }
        let keys = ["claimingAllowed"];
        let found = self
            .store
            .attributes(asked.device, AttributeScope::Server, Some(&keys))?;
        Ok(found.iter().any(|found| found.value == Value::Bool(true)))
    }
}

fn read_json(payload: &[u8]) -> Result<Offer, Refusal> {
    if payload.is_empty() {
        return Ok(Offer::default());
    }
    let bad = || Refusal(code::BAD_REQUEST);
    with_document(payload, |document| {
        let Json::Object(members) = document else {
            return Err(bad());
        };
        let mut offer = Offer::default();
        for (name, value) in members {
            match (&**name, value) {
                ("secretKey" | "durationMs", Json::Null) => {}
                ("secretKey", Json::String(text)) => offer.secret = text.to_string(),
                ("secretKey", Json::Number(lexeme)) => offer.secret = (*lexeme).to_owned(),
                ("secretKey", _) => return Err(bad()),
                ("durationMs", value) => offer.duration_ms = duration(value).ok_or_else(bad)?,
                _ => {}
            }
        }
        Ok(offer)
    })
}

fn duration(value: &Json<'_>) -> Option<u64> {
    let text: &str = match value {
        Json::Number(lexeme) => lexeme,
        Json::String(text) => text,
        _ => return None,
    };
    match number::classify(text) {
        Number::Long(value) => u64::try_from(value).ok(),
        _ => None,
    }
}

fn read_protobuf(payload: &[u8]) -> Result<Offer, Refusal> {
    let bad = || Refusal(code::BAD_REQUEST);
    let claim = ClaimDevice::decode(payload).map_err(|_| bad())?;
    Ok(Offer {
        secret: claim.secret_key,
        duration_ms: u64::try_from(claim.duration_ms).map_err(|_| bad())?,
    })
}
