//! A device as it is stored.
//!
//! ```text
//! version u8 = 1 | created u64 | generation u64 | name | profile | credential   (little-endian)
//! name, profile:  length u16 | UTF-8
//! credential:     1 | token: length u16 | UTF-8
//!                 2 | fingerprint 32 | certificate: length u16 | base64
//!                 4 | client id, user name, password: length u16 | UTF-8 each
//!                 3 | PSK identity: length u16 | UTF-8 | key: length u8 | bytes
//! ```

use super::{Credential, Device, DeviceId, MqttBasic};
use crate::crypto::pre_shared_key::PreSharedKey;
use crate::store::value::{take, take_slice};
use std::sync::Arc;

const VERSION: u8 = 1;
const ACCESS_TOKEN: u8 = 1;
const X509: u8 = 2;
const PRE_SHARED_KEY: u8 = 3;
const MQTT_BASIC: u8 = 4;

/// The record of a device, with its certificate's text if it has one.
pub(super) fn encode(device: &Device, certificate: &str) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.extend_from_slice(&device.created_unix_ms.to_le_bytes());
    out.extend_from_slice(&device.credential_generation.to_le_bytes());
    encode_text(&device.name, &mut out);
    encode_text(&device.profile, &mut out);
    match &device.credential {
        Credential::AccessToken(token) => {
            out.push(ACCESS_TOKEN);
            encode_text(token, &mut out);
        }
        Credential::X509 { fingerprint } => {
            out.push(X509);
            out.extend_from_slice(fingerprint);
            encode_text(certificate, &mut out);
        }
        Credential::MqttBasic(mqtt) => {
            out.push(MQTT_BASIC);
            for part in [&mqtt.client_id, &mqtt.user_name, &mqtt.password] {
                encode_text(part, &mut out);
            }
        }
        Credential::PreSharedKey { identity, key } => {
            out.push(PRE_SHARED_KEY);
            encode_text(identity, &mut out);
            // At most 64 bytes.
            out.push(u8::try_from(key.as_bytes().len()).unwrap_or_default());
            out.extend_from_slice(key.as_bytes());
        }
    }
    out
}

/// The device and its certificate's text (empty when it has none); `None` when this is no record.
pub(super) fn decode(
    id: DeviceId,
    mut bytes: &[u8],
    profile: &mut dyn FnMut(&str) -> Arc<str>,
) -> Option<(Device, String)> {
    let bytes = &mut bytes;
    if take(bytes)? != [VERSION] {
        return None;
    }
    let created_unix_ms = u64::from_le_bytes(take(bytes)?);
    let credential_generation = u64::from_le_bytes(take(bytes)?);
    let name = decode_text(bytes)?.into();
    let profile = profile(decode_text(bytes)?);
    let (credential, certificate) = match take(bytes)? {
        [ACCESS_TOKEN] => (Credential::AccessToken(decode_text(bytes)?.into()), ""),
        [X509] => {
            let fingerprint = take(bytes)?;
            (Credential::X509 { fingerprint }, decode_text(bytes)?)
        }
        [MQTT_BASIC] => {
            let mqtt = MqttBasic {
                client_id: decode_text(bytes)?.into(),
                user_name: decode_text(bytes)?.into(),
                password: decode_text(bytes)?.into(),
            };
            (Credential::MqttBasic(Box::new(mqtt)), "")
        }
        [PRE_SHARED_KEY] => {
            let identity = decode_text(bytes)?.into();
            let [length] = take(bytes)?;
            let key = PreSharedKey::new(take_slice(bytes, usize::from(length))?)?;
            let key = Arc::new(key);
            (Credential::PreSharedKey { identity, key }, "")
        }
        _ => return None,
    };
    bytes.is_empty().then(|| {
        let device = Device {
            id,
            name,
            profile,
            created_unix_ms,
            credential,
            credential_generation,
        };
        (device, certificate.to_owned())
    })
}

/// The texts were validated: none has 64 KiB.
fn encode_text(text: &str, out: &mut Vec<u8>) {
    let length = u16::try_from(text.len()).expect("validated texts are below 64 KiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn decode_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let length = u16::from_le_bytes(take(bytes)?);
    std::str::from_utf8(take_slice(bytes, usize::from(length))?).ok()
}
