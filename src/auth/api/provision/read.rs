//! What a device asks for: JSON, else protobuf.

use crate::auth::api::code;
use crate::auth::api::proto::{CredentialsType, ProvisionRequest};
use crate::auth::json::{self, Json};
use crate::registry::{MqttBasic, NewCredential, random_token};
use prost::Message as _;
use std::borrow::Cow;

/// In which form the request came, and the answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Protobuf,
}

/// What is asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) key: String,
    pub(super) secret: String,
    pub(super) name: String,
    pub(super) credential: NewCredential,
}

/// What a device names of credentials of its own.
#[derive(Debug, Default)]
struct Own {
    token: String,
    certificate: String,
    mqtt: MqttBasic,
}

/// Longest payload that is looked at.
const PAYLOAD_BYTES_MAX: usize = 64 << 10;

/// Reads a request; `Err` is the code of an answer without a body.
pub(super) fn read(payload: &[u8]) -> Result<(Asked, Form), u8> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(code::REQUEST_ENTITY_TOO_LARGE);
    }
    if let Ok(text) = std::str::from_utf8(payload)
        && let Ok(Json::Object(members)) = json::parse(text)
    {
        return Ok((from_json(&members)?, Form::Json));
    }
    let request = ProvisionRequest::decode(payload).map_err(|_| code::BAD_REQUEST)?;
    Ok((from_protobuf(request)?, Form::Protobuf))
}

fn from_json(members: &[(Cow<'_, str>, Json<'_>)]) -> Result<Asked, u8> {
    let member = |name: &str| {
        let found = members.iter().find(|(known, _)| known == name);
        match found.map(|(_, value)| value) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::String(text)) => Ok(Some(text.to_string())),
            Some(Json::Number(lexeme)) => Ok(Some((*lexeme).to_owned())),
            Some(Json::Bool(value)) => Ok(Some(value.to_string())),
            Some(Json::Array(_) | Json::Object(_)) => Err(code::BAD_REQUEST),
        }
    };
    let required = |name| member(name)?.ok_or(code::BAD_REQUEST);
    let text = |name| Ok::<_, u8>(member(name)?.unwrap_or_default());
    let kind = match member("credentialsType")?.as_deref() {
        None => None,
        Some("ACCESS_TOKEN") => Some(CredentialsType::AccessToken),
        Some("X509_CERTIFICATE") => Some(CredentialsType::X509Certificate),
        Some("MQTT_BASIC") => Some(CredentialsType::MqttBasic),
        Some(_) => return Err(code::BAD_REQUEST),
    };
    let own = Own {
        token: text("token")?,
        certificate: text("hash")?,
        mqtt: MqttBasic {
            client_id: text("clientId")?.into(),
            user_name: text("username")?.into(),
            password: text("password")?.into(),
        },
    };
    Ok(Asked {
        key: required("provisionDeviceKey")?,
        secret: required("provisionDeviceSecret")?,
        name: name(member("deviceName")?),
        credential: credential(kind, own)?,
    })
}

fn from_protobuf(request: ProvisionRequest) -> Result<Asked, u8> {
    let kind = request.credentials_type();
    let credentials = request.credentials.unwrap_or_default();
    let data = request.credentials_data.unwrap_or_default();
    let mqtt = data.mqtt.unwrap_or_default();
    let own = Own {
        token: data.token.unwrap_or_default().token,
        certificate: data.x509.unwrap_or_default().hash,
        mqtt: MqttBasic {
            client_id: mqtt.client_id.into(),
            user_name: mqtt.user_name.into(),
            password: mqtt.password.into(),
        },
    };
    let given = Some(request.device_name).filter(|name| !name.is_empty());
    Ok(Asked {
        key: credentials.key,
        secret: credentials.secret,
        name: name(given),
        credential: credential(Some(kind), own)?,
    })
}

/// The name asked for, trimmed; at random when there is none.
fn name(given: Option<String>) -> String {
    given.map_or_else(random_token, |name| name.trim().to_owned())
}

/// The credential that the device names for itself, or a token at random when it names none.
fn credential(kind: Option<CredentialsType>, own: Own) -> Result<NewCredential, u8> {
    match kind {
        Some(CredentialsType::AccessToken) if !own.token.is_empty() => {
            Ok(NewCredential::AccessToken(own.token))
        }
        Some(CredentialsType::X509Certificate) if !own.certificate.is_empty() => {
            Ok(NewCredential::CertificateText(bare(&own.certificate)))
        }
        Some(CredentialsType::MqttBasic) if own.mqtt != MqttBasic::default() => {
            Ok(NewCredential::MqttBasic(Box::new(own.mqtt)))
        }
        Some(CredentialsType::Lwm2m) => Err(code::BAD_REQUEST),
        _ => Ok(NewCredential::RandomToken),
    }
}

/// A certificate's text without the lines and line breaks of PEM, as ThingsBoard normalises it.
fn bare(text: &str) -> String {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    text.replace(BEGIN, "")
        .replace(END, "")
        .replace(['\r', '\n'], "")
}
