//! Calls to a device (TB section 7.5): what was asked for, how far each has come, and the record of
//! those that are kept.
//!
//! ```text
//!            push          sent           acknowledged        reply
//!  QUEUED ----------> (shard) --> SENT --------------> DELIVERED -----> SUCCESSFUL
//!    ^                   |   no ACK in time: TIMEOUT, and goes on         one-way: DELIVERED is last
//!    '-- attempt failed -'   no attempt left: FAILED   expired: EXPIRED
//! ```

use crate::auth::api::code;
use crate::auth::json;
use crate::auth::request::RelationId;
use crate::registry::profile::Profile;
use crate::store::value::write_json_string;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::fmt;

/// Longest method and parameters of a call, in bytes: its message has to fit a shard's window.
pub(super) const CALL_BYTES_MAX: usize = 32 << 10;

/// Longest JSON that a reply in protobuf may become, in bytes.
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// How far a call has come; ThingsBoard's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RpcState {
    /// Waits for the device.
    Queued,
    /// On its way, unacknowledged.
    Sent,
    /// The device has it; the end of a one-way call.
    Delivered,
    /// The device has answered.
    Successful,
    /// Every attempt to deliver it failed.
    Failed,
    /// The last attempt was not acknowledged in time.
    Timeout,
    /// Its time was over before it was done.
    Expired,
}

impl RpcState {
    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Sent => "SENT",
            Self::Delivered => "DELIVERED",
            Self::Successful => "SUCCESSFUL",
            Self::Failed => "FAILED",
            Self::Timeout => "TIMEOUT",
            Self::Expired => "EXPIRED",
        }
    }
}

/// A call as it is shown, and as a kept one is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RpcRecord {
    /// Its number, which the device sees too; counted per device.
    pub id: i32,
    /// What is called.
    pub method: String,
    /// Its parameters.
    pub params: Box<RawValue>,
    /// Whether no answer is awaited.
    pub one_way: bool,
    /// Whether it is kept until it is done, across restarts.
    pub persistent: bool,
    /// When it was made, milliseconds since the UNIX epoch.
    pub created_ms: u64,
    /// When it is given up.
    pub expires_ms: u64,
    /// Attempts to deliver it that are left after the next.
    pub retries_left: u32,
    /// How far it has come.
    pub state: RpcState,
    /// The device's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<Box<RawValue>>,
}

impl RpcRecord {
    /// Memory of its texts.
    pub(super) fn bytes(&self) -> usize {
        let response = self.response.as_ref().map_or(0, |text| text.get().len());
        self.method.len() + self.params.get().len() + response
    }

    /// Whether nothing more becomes of it.
    pub fn is_done(&self) -> bool {
        match self.state {
            RpcState::Successful | RpcState::Failed | RpcState::Expired => true,
            RpcState::Delivered => self.one_way,
            RpcState::Queued | RpcState::Sent | RpcState::Timeout => false,
        }
    }

    /// The message to the device: `{"id":0,"method":"setGpio","params":{"pin":"26"}}`.
    pub fn message(&self) -> String {
        let mut text = format!("{{\"id\":{},\"method\":", self.id);
        write_json_string(&self.method, &mut text);
        text.push_str(",\"params\":");
        text.push_str(self.params.get());
        text.push('}');
        text
    }
}

/// What is asked of a device.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewRpc {
    /// What is called.
    pub method: String,
    /// Its parameters, any JSON; `{}` when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Box<RawValue>>,
    /// Whether an answer is awaited.
    #[serde(default)]
    pub mode: RpcMode,
    /// How long it may take; at least `MIN_SERVER_SIDE_RPC_TIMEOUT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Whether it is kept until it is done, across restarts.
    #[serde(default)]
    pub persistent: bool,
    /// Most attempts after the first; `ACTORS_RPC_MAX_RETRIES` when not said. Of persistent ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// When it is given up, milliseconds since the UNIX epoch, in the place of the time-out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_ms: Option<u64>,
}

/// Whether an answer is awaited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RpcMode {
    /// No.
    OneWay,
    /// Yes.
    #[default]
    TwoWay,
}

/// How a call ended for whoever made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RpcEnd {
    /// The device's answer, JSON.
    Answer(String),
    /// A one-way call has gone to an observer.
    Gone,
    /// It is kept, under this number.
    Kept(i32),
    /// No answer came in time; how far it had come: `Queued` when nobody was there to take it.
    Unanswered(RpcState),
    /// It was deleted before it was done.
    Deleted,
    /// It is no message of the profile's schema, which was changed after the call was made.
    Unusable,
}

/// Why a call was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RpcRefusal {
    /// What was asked makes no sense.
    #[error("the call cannot be made: {0}")]
    Invalid(&'static str),
    /// Too many calls to this device wait already.
    #[error("too many calls wait for this device")]
    TooMany,
    /// There is no such device, or no such call.
    #[error("there is no such device")]
    NoDevice,
    /// The store does not take it, or cannot be read.
    #[error("the call cannot be stored: {0}")]
    Store(String),
}

/// Who made a call, and is told how it ended.
pub type Waiter<T> = Box<dyn FnOnce(T) + Send>;

/// A call as the device reads it; `None` when it is no message of its profile's schema.
///
/// The schema's fields `method`, `requestId` and `params` are filled, each if there is one (TB section
/// 7.8). Parameters become the JSON text of them where the schema has a string, else what the JSON says.
pub(super) fn call_body(record: &RpcRecord, protobuf: Option<&Profile>) -> Option<Vec<u8>> {
    let Some(profile) = protobuf else {
        return Some(record.message().into_bytes());
    };
    let schema = profile.rpc_request.as_ref()?;
    let mut text = String::from("{");
    let mut member = |name: &str, value: &str| {
        if text.len() > 1 {
            text.push(',');
        }
        text.push('"');
        text.push_str(name);
        text.push_str("\":");
        text.push_str(value);
    };
    let quoted = |value: &str| {
        let mut quoted = String::new();
        write_json_string(value, &mut quoted);
        quoted
    };
    if schema.has_field("method") {
        member("method", &quoted(&record.method));
    }
    if schema.has_field("requestId") {
        member("requestId", &record.id.to_string());
    }
    let params = record.params.get();
    if schema.has_text_field("params") && !params.starts_with('"') {
        member("params", &quoted(params));
    } else if schema.has_field("params") {
        member("params", params);
    }
    text.push('}');
    schema.from_json(&text).ok()
}

/// Where a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Here, to be sent.
    Waiting,
    /// At the shard of this relation; `sent_ms` once it has gone out.
    Pushed {
        relation: RelationId,
        sent_ms: Option<u64>,
    },
    /// At the device since then.
    Delivered { since_ms: u64 },
    /// Done; kept until its record is durable.
    Done,
}

/// A call that is not done, or whose end is not durable yet.
pub(super) struct Rpc {
    pub(super) record: RpcRecord,
    pub(super) stage: Stage,
    pub(super) waiter: Option<Waiter<RpcEnd>>,
}

impl Rpc {
    pub(super) fn new(record: RpcRecord, waiter: Option<Waiter<RpcEnd>>) -> Self {
        Self {
            record,
            stage: Stage::Waiting,
            waiter,
        }
    }

    /// As it was before a restart: whatever was on its way may have been lost.
    pub(super) fn restored(record: RpcRecord) -> Self {
        let stage = match record.state {
            RpcState::Delivered => Stage::Delivered {
                since_ms: record.created_ms,
            },
            _ => Stage::Waiting,
        };
        Self {
            stage,
            ..Self::new(record, None)
        }
    }

    /// Memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.record.bytes()
    }

    /// Whether it may go out as far as it alone is concerned.
    pub(super) fn is_waiting(&self) -> bool {
        self.stage == Stage::Waiting
    }

    /// When something is to be done about it if nothing happens.
    pub(super) fn due_ms(&self, ack_wait_ms: u64, response_wait_ms: Option<u64>) -> u64 {
        let end = self.record.expires_ms;
        match self.stage {
            Stage::Pushed {
                sent_ms: Some(sent_ms),
                ..
            } if self.record.persistent && self.record.state == RpcState::Sent => {
                end.min(sent_ms.saturating_add(ack_wait_ms))
            }
            Stage::Delivered { since_ms } if self.record.persistent => {
                let wait = response_wait_ms.map(|wait| since_ms.saturating_add(wait));
                end.min(wait.unwrap_or(u64::MAX))
            }
            Stage::Waiting | Stage::Pushed { .. } | Stage::Delivered { .. } => end,
            Stage::Done => u64::MAX,
        }
    }
}

impl fmt::Debug for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rpc")
            .field("id", &self.record.id)
            .field("state", &self.record.state)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

/// The key of a record: numbers in order.
pub(super) fn record_key(id: i32) -> String {
    format!("{id:010}")
}

/// The answer of a device as JSON text: an object, in our lenient dialect, or a message of its profile's
/// schema.
///
/// # Errors
///
/// It is none; the code says so (TB section 6).
pub(super) fn answer_text(payload: &[u8], protobuf: Option<&Profile>) -> Result<String, u8> {
    let Some(profile) = protobuf else {
        return json_object(payload).ok_or(code::INTERNAL_SERVER_ERROR);
    };
    let schema = profile.rpc_response.as_ref();
    let answer = schema.and_then(|schema| schema.to_json(payload).ok());
    let answer = answer.filter(|answer| answer.len() <= ANSWER_BYTES_MAX);
    answer.ok_or(code::BAD_REQUEST)
}

fn json_object(payload: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(payload).ok()?;
    match json::parse(text).ok()? {
        document @ json::Json::Object(_) => {
            let mut text = String::with_capacity(payload.len());
            document.write(&mut text);
            Some(text)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::profile::{PayloadType, ProfileSettings};

    fn record() -> RpcRecord {
        RpcRecord {
            id: 7,
            method: "setGpio".into(),
            params: RawValue::from_string(r#"{"pin":"26","value":1}"#.into()).unwrap(),
            one_way: false,
            persistent: true,
            created_ms: 1,
            expires_ms: 100_000,
            retries_left: 2,
            state: RpcState::Sent,
            response: None,
        }
    }

    #[test]
    fn the_message_is_that_of_vector_11() {
        let expected = r#"{"id":7,"method":"setGpio","params":{"pin":"26","value":1}}"#;
        assert_eq!(record().message(), expected);
    }

    #[test]
    fn records_are_stored_and_read_back() {
        let mut record = record();
        record.response = Some(RawValue::from_string("{\"a\":1.0}".into()).unwrap());
        let text = serde_json::to_string(&record).unwrap();
        assert!(text.contains(r#""state":"SENT""#), "{text}");
        let read: RpcRecord = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        assert_eq!(record_key(7), "0000000007");
    }

    #[test]
    fn an_answer_is_an_object() {
        let text = json_object(br#"{"value1":"A","value2":1.0}"#).unwrap();
        assert_eq!(text, r#"{"value1":"A","value2":1.0}"#);
        assert_eq!(json_object(b"{a:1}").as_deref(), Some(r#"{"a":1}"#));
        for no_object in [&b"5"[..], b"{", b"", b"[1]", b"\"x\"", b"\xff"] {
            assert_eq!(json_object(no_object), None, "{no_object:?}");
            let refused = answer_text(no_object, None);
            assert_eq!(refused, Err(code::INTERNAL_SERVER_ERROR));
        }
    }

    #[test]
    fn calls_and_replies_are_messages_of_the_profile_s_schemas() {
        let profile = |request: Option<&str>, response: Option<&str>| {
            let mut settings = ProfileSettings {
                payload_type: PayloadType::Protobuf,
                ..ProfileSettings::default()
            };
            let any = "syntax = \"proto3\"; message Any { string a = 1; }";
            let schemas = &mut settings.proto_schemas;
            schemas.telemetry = Some(any.into());
            schemas.attributes = Some(any.into());
            schemas.rpc_request = request.map(Into::into);
            schemas.rpc_response = response.map(Into::into);
            Profile::compile("p", settings).unwrap()
        };
        let default = profile(None, None);
        let body = call_body(&record(), Some(&default)).unwrap();
        let params = br#"{"pin":"26","value":1}"#;
        let expected = [b"\x0a\x07setGpio\x10\x07\x1a\x16", &params[..]].concat();
        assert_eq!(body, expected);
        let mut text = record();
        text.params = RawValue::from_string("\"26\"".into()).unwrap();
        let body = call_body(&text, Some(&default)).unwrap();
        assert_eq!(body, b"\x0a\x07setGpio\x10\x07\x1a\x0226");
        let reply = answer_text(b"\x0a\x02ok", Some(&default));
        assert_eq!(reply.as_deref(), Ok(r#"{"payload":"ok"}"#));
        let refused = answer_text(b"\x0a\x09ok", Some(&default));
        assert_eq!(refused, Err(code::BAD_REQUEST));
        // As ThingsBoard's manual has it, with a message for the parameters, and without a number.
        let own = "syntax = \"proto3\"; message Call { string method = 1; Params params = 3;
            message Params { optional string pin = 1; optional int32 value = 2; } }";
        let own = profile(Some(own), None);
        let body = call_body(&record(), Some(&own)).unwrap();
        assert_eq!(body, b"\x0a\x07setGpio\x1a\x06\x0a\x0226\x10\x01");
        assert_eq!(call_body(&text, Some(&own)), None, "a string is no message");
    }

    #[test]
    fn what_was_on_its_way_at_a_restart_goes_again() {
        assert!(Rpc::restored(record()).is_waiting());
        let delivered = RpcRecord {
            state: RpcState::Delivered,
            ..record()
        };
        assert!(!Rpc::restored(delivered).is_waiting());
    }
}
