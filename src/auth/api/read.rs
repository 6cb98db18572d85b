//! Reading attributes (TB section 7.3), and discovery.

use super::code;
use super::proto::{self, GetAttributeResponse};
use crate::auth::request::{RequestMessage, Response};
use crate::registry::DeviceId;
use crate::store::value::write_json_string;
use crate::store::{AttributeScope, Store, StoreError};
use std::borrow::Cow;

/// Content-Format application/json.
const JSON: u16 = 50;
/// Content-Format application/link-format (RFC 6690).
const LINK_FORMAT: u16 = 40;

/// The resources in link format (RFC 6690): the roots that have something behind them.
const RESOURCES: &str = "</.well-known/core>,</api/v1>,</efento>,</fw>,</sw>";

/// Answers `GET attributes`.
///
/// `clientKeys=a,b` and `sharedKeys=c` name what is wanted; without either it is every client and
/// shared attribute. Nothing found is 4.04, with the Content-Format that an answer would have.
pub(super) fn attributes(
    store: &dyn Store,
    device: DeviceId,
    message: &RequestMessage,
    protobuf: bool,
) -> Result<Response, StoreError> {
    let client_keys = key_list(message, "clientKeys");
    let shared_keys = key_list(message, "sharedKeys");
    let all = client_keys.is_none() && shared_keys.is_none();
    let mut named = 0;
    let mut read = |scope, keys: Option<Cow<'_, str>>| match keys {
        Some(keys) => {
            let keys: Vec<&str> = keys.split(',').filter(|key| !key.is_empty()).collect();
            named += keys.len();
            store.attributes(device, scope, Some(&keys))
        }
        None if all => store.attributes(device, scope, None),
        None => Ok(Vec::new()),
    };
    let client = read(AttributeScope::Client, client_keys)?;
    let shared = read(AttributeScope::Shared, shared_keys)?;
    if protobuf {
        let code = if client.is_empty() && shared.is_empty() {
            code::NOT_FOUND
        } else {
            code::CONTENT
        };
        let answer = GetAttributeResponse {
            client: client.iter().map(Into::into).collect(),
            shared: shared.iter().map(Into::into).collect(),
            is_multiple: code == code::CONTENT && named > 1,
            ..GetAttributeResponse::default()
        };
        return Ok(proto::response(code, &answer));
    }
    let mut payload = String::from("{");
    for (name, found) in [("client", client), ("shared", shared)] {
        if found.is_empty() {
            continue;
        }
        if payload.len() > 1 {
            payload.push(',');
        }
        write_json_string(name, &mut payload);
        payload.push_str(":{");
        for (index, attribute) in found.iter().enumerate() {
            if index > 0 {
                payload.push(',');
            }
            write_json_string(&attribute.key, &mut payload);
            payload.push(':');
            attribute.value.write_json(&mut payload);
        }
        payload.push('}');
    }
    let content_format = Some(message.content_format.unwrap_or(JSON));
    Ok(if payload.len() == 1 {
        Response {
            code: code::NOT_FOUND,
            content_format,
            ..Response::default()
        }
    } else {
        payload.push('}');
        Response {
            code: code::CONTENT,
            content_format,
            payload: payload.into_bytes(),
            ..Response::default()
        }
    })
}

/// The last usable list of `name`: a query of exactly the form `name=value`, both not empty.
fn key_list<'a>(message: &'a RequestMessage, name: &str) -> Option<Cow<'a, str>> {
    let lists = message.queries().filter_map(|query| {
        let value = query.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        (!value.is_empty() && !value.contains(&b'=')).then_some(value)
    });
    lists.last().map(String::from_utf8_lossy)
}

/// Answers `GET /.well-known/core`.
pub(super) fn well_known_core() -> Response {
    Response {
        code: code::CONTENT,
        content_format: Some(LINK_FORMAT),
        payload: RESOURCES.as_bytes().to_vec(),
        is_public: true,
        ..Response::default()
    }
}

/// Answers `GET /`.
pub(super) fn root() -> Response {
    Response {
        code: code::CONTENT,
        content_format: Some(0),
        payload: concat!("Tidegate ", env!("CARGO_PKG_VERSION"))
            .as_bytes()
            .to_vec(),
        is_public: true,
        ..Response::default()
    }
}
