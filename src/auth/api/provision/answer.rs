//! The bodies of answers (TB section 7.6): JSON with Content-Format 0, protobuf with none.

use super::read::Form;
use crate::auth::api::code;
use crate::auth::api::proto::{CredentialsType, ProvisionAnswer, ProvisionStatus};
use crate::auth::request::Response;
use crate::registry::MqttBasic;
use crate::store::value::write_json_string;
use prost::Message as _;
use std::borrow::Cow;

/// Content-Format text/plain, which ThingsBoard's JSON bodies carry here.
const TEXT_PLAIN: u16 = 0;

/// The credentials that a device is given.
#[derive(Debug)]
pub(super) enum Given {
    Token(String),
    Certificate(String),
    Mqtt(Box<MqttBasic>),
}

pub(super) enum Answer<'a> {
    Success(&'a Given),
    NotFound,
    Failure,
}

impl Given {
    /// The value as a text, which is JSON of the last kind, and the type.
    fn parts(&self) -> (Cow<'_, str>, CredentialsType, &'static str) {
        match self {
            Self::Token(token) => (token.into(), CredentialsType::AccessToken, "ACCESS_TOKEN"),
            Self::Certificate(text) => (
                text.into(),
                CredentialsType::X509Certificate,
                "X509_CERTIFICATE",
            ),
            Self::Mqtt(mqtt) => (
                mqtt_json(mqtt).into(),
                CredentialsType::MqttBasic,
                "MQTT_BASIC",
            ),
        }
    }
}

impl Answer<'_> {
    pub(super) fn response(&self, form: Form) -> Response {
        let code = match self {
            Self::Success(_) => code::CREATED,
            Self::NotFound | Self::Failure => code::BAD_REQUEST,
        };
        let (payload, content_format) = if form.is_json() {
            (self.json().into_bytes(), Some(TEXT_PLAIN))
        } else {
            (self.protobuf(), None)
        };
        Response {
            code,
            content_format,
            payload,
            ..Response::default()
        }
    }

    fn json(&self) -> String {
        match self {
            Self::Success(given) => {
                let (value, _, kind) = given.parts();
                let mut json = String::from("{\"credentialsValue\":");
                match given {
                    Given::Mqtt(_) => json.push_str(&value),
                    _ => write_json_string(&value, &mut json),
                }
                json.push_str(",\"credentialsType\":\"");
                json.push_str(kind);
                json.push_str("\",\"status\":\"SUCCESS\"}");
                json
            }
            Self::NotFound => {
                r#"{"errorMsg":"Provision data was not found!","status":"NOT_FOUND"}"#.to_owned()
            }
            Self::Failure => {
                r#"{"errorMsg":"Failed to provision device!","status":"FAILURE"}"#.to_owned()
            }
        }
    }

    fn protobuf(&self) -> Vec<u8> {
        let mut answer = ProvisionAnswer::default();
        match self {
            Self::Success(given) => {
                let (value, kind, _) = given.parts();
                answer.set_status(ProvisionStatus::Success);
                answer.set_credentials_type(kind);
                answer.credentials_value = value.into_owned();
            }
            Self::NotFound => answer.set_status(ProvisionStatus::NotFound),
            Self::Failure => answer.set_status(ProvisionStatus::Failure),
        }
        answer.encode_to_vec()
    }
}

fn mqtt_json(mqtt: &MqttBasic) -> String {
    let mut json = String::new();
    for (before, part) in [
        ("{\"clientId\":", &mqtt.client_id),
        (",\"userName\":", &mqtt.user_name),
        (",\"password\":", &mqtt.password),
    ] {
        json.push_str(before);
        write_json_string(part, &mut json);
    }
    json.push('}');
    json
}
