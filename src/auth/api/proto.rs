//! ThingsBoard's own protobuf messages (TB section 7.8): those that no profile's schema changes.

use crate::auth::request::Response;
use crate::store::{Attribute, ValueRef};
use prost::Message;

/// Content-Format of protobuf answers, as ThingsBoard sends it.
pub(in crate::auth) const OCTET_STREAM: u16 = 42;

/// A value under a key.
#[derive(Clone, PartialEq, Message)]
pub(in crate::auth) struct KeyValue {
    #[prost(string, tag = "1")]
    pub(in crate::auth) key: String,
    #[prost(enumeration = "KeyValueType", tag = "2")]
    pub(in crate::auth) kind: i32,
    #[prost(bool, tag = "3")]
    pub(in crate::auth) bool_v: bool,
    #[prost(int64, tag = "4")]
    pub(in crate::auth) long_v: i64,
    #[prost(double, tag = "5")]
    pub(in crate::auth) double_v: f64,
    #[prost(string, tag = "6")]
    pub(in crate::auth) string_v: String,
    #[prost(string, tag = "7")]
    pub(in crate::auth) json_v: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(in crate::auth) enum KeyValueType {
    Bool = 0,
    Long = 1,
    Double = 2,
    String = 3,
    Json = 4,
}

/// The same at a time.
#[derive(Clone, PartialEq, Message)]
pub(in crate::auth) struct TsKeyValue {
    #[prost(int64, tag = "1")]
    pub(in crate::auth) ts: i64,
    #[prost(message, optional, tag = "2")]
    pub(in crate::auth) kv: Option<KeyValue>,
}

impl From<&Attribute> for TsKeyValue {
    fn from(attribute: &Attribute) -> Self {
        let value = attribute.value.as_ref();
        Self::new(attribute.updated_ms, &attribute.key, value)
    }
}

impl TsKeyValue {
    pub(in crate::auth) fn new(ts: i64, key: &str, value: ValueRef<'_>) -> Self {
        let mut kv = KeyValue {
            key: key.to_owned(),
            ..KeyValue::default()
        };
        let kind = match value {
            ValueRef::Bool(value) => {
                kv.bool_v = value;
                KeyValueType::Bool
            }
            ValueRef::Long(value) => {
                kv.long_v = value;
                KeyValueType::Long
            }
            ValueRef::Double(value) => {
                kv.double_v = value;
                KeyValueType::Double
            }
            ValueRef::String(value) => {
                kv.string_v = value.to_owned();
                KeyValueType::String
            }
            ValueRef::Json(value) => {
                kv.json_v = value.to_owned();
                KeyValueType::Json
            }
        };
        kv.kind = kind.into();
        Self { ts, kv: Some(kv) }
    }
}

/// Answer to a GET of attributes.
#[derive(Clone, PartialEq, Message)]
pub(super) struct GetAttributeResponse {
    #[prost(int32, tag = "1")]
    pub(super) request_id: i32,
    #[prost(message, repeated, tag = "2")]
    pub(super) client: Vec<TsKeyValue>,
    #[prost(message, repeated, tag = "3")]
    pub(super) shared: Vec<TsKeyValue>,
    #[prost(bool, tag = "4")]
    pub(super) is_multiple: bool,
    #[prost(string, tag = "5")]
    pub(super) error: String,
    #[prost(bool, tag = "6")]
    pub(super) shared_state: bool,
}

/// What became of shared attributes; all of them in the first answer to who observes.
#[derive(Clone, PartialEq, Message)]
pub(in crate::auth) struct AttributeUpdate {
    #[prost(message, repeated, tag = "1")]
    pub(in crate::auth) updated: Vec<TsKeyValue>,
    #[prost(string, repeated, tag = "2")]
    pub(in crate::auth) deleted: Vec<String>,
}

/// A device calls.
#[derive(Clone, PartialEq, Message)]
pub(in crate::auth) struct ClientCall {
    #[prost(string, tag = "1")]
    pub(in crate::auth) method: String,
    /// JSON text.
    #[prost(string, tag = "2")]
    pub(in crate::auth) params: String,
}

/// The answer to it. Over CoAP the request tells which, so its number stays 0.
#[derive(Clone, PartialEq, Message)]
pub(in crate::auth) struct ClientCallAnswer {
    #[prost(int32, tag = "1")]
    pub(in crate::auth) request_id: i32,
    /// JSON text.
    #[prost(string, tag = "2")]
    pub(in crate::auth) payload: String,
    #[prost(string, tag = "3")]
    pub(in crate::auth) error: String,
}

/// A device offers to be claimed.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ClaimDevice {
    #[prost(string, tag = "1")]
    pub(super) secret_key: String,
    #[prost(int64, tag = "2")]
    pub(super) duration_ms: i64,
}

/// A device registers itself.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ProvisionRequest {
    #[prost(string, tag = "1")]
    pub(super) device_name: String,
    #[prost(enumeration = "CredentialsType", tag = "2")]
    pub(super) credentials_type: i32,
    #[prost(message, optional, tag = "3")]
    pub(super) credentials: Option<ProvisionCredentials>,
    #[prost(message, optional, tag = "4")]
    pub(super) credentials_data: Option<CredentialsData>,
    #[prost(bool, tag = "5")]
    pub(super) gateway: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum CredentialsType {
    AccessToken = 0,
    X509Certificate = 1,
    MqttBasic = 2,
    Lwm2m = 3,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ProvisionCredentials {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(string, tag = "2")]
    pub(super) secret: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CredentialsData {
    #[prost(message, optional, tag = "1")]
    pub(super) token: Option<TokenData>,
    #[prost(message, optional, tag = "2")]
    pub(super) x509: Option<X509Data>,
    #[prost(message, optional, tag = "3")]
    pub(super) mqtt: Option<MqttData>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TokenData {
    #[prost(string, tag = "1")]
    pub(super) token: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct X509Data {
    #[prost(string, tag = "1")]
    pub(super) hash: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MqttData {
    #[prost(string, tag = "1")]
    pub(super) client_id: String,
    #[prost(string, tag = "2")]
    pub(super) user_name: String,
    #[prost(string, tag = "3")]
    pub(super) password: String,
}

/// The answer to it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ProvisionAnswer {
    #[prost(enumeration = "ProvisionStatus", tag = "1")]
    pub(super) status: i32,
    #[prost(enumeration = "CredentialsType", tag = "2")]
    pub(super) credentials_type: i32,
    #[prost(string, tag = "3")]
    pub(super) credentials_value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum ProvisionStatus {
    Unknown = 0,
    Success = 1,
    NotFound = 2,
    Failure = 3,
}

/// An answer with a protobuf body.
pub(in crate::auth) fn response(code: u8, message: &impl Message) -> Response {
    Response {
        code,
        content_format: Some(OCTET_STREAM),
        payload: message.encode_to_vec(),
        ..Response::default()
    }
}
