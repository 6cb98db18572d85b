//! Resource discovery: `/.well-known/core` (RFC 6690, RFC 7252 section 7.2) and the root.
//!
//! Both are the same for every peer and need no authentication.

use coap_lite::link_format::LinkFormatWrite;

use super::code;
use crate::auth::request::{OptionValues, RequestMessage, Response};

const TEXT_PLAIN: u16 = 0;
const LINK_FORMAT: u16 = 40;
const BANNER: &[u8] = b"Tidegate CoAP server\n";

/// One link of the list.
struct Resource {
    path: &'static str,
    /// `rt`, separated by spaces.
    resource_types: &'static str,
    /// `if`, separated by spaces.
    interfaces: &'static str,
    /// `ct`.
    content_format: u16,
}

/// What devices can address. A token, where one is needed, stands between `v1` and the feature.
const RESOURCES: [Resource; 3] = [
    Resource {
        path: "/.well-known/core",
        resource_types: "",
        interfaces: "",
        content_format: LINK_FORMAT,
    },
    Resource {
        path: "/api/v1/telemetry",
        resource_types: "telemetry",
        interfaces: "device",
        content_format: 50,
    },
    Resource {
        path: "/api/v1/attributes",
        resource_types: "attributes",
        interfaces: "device",
        content_format: 50,
    },
];

/// Answers a request for the root or `/.well-known/core`; `None` when it is for anything else.
pub fn handle(message: &RequestMessage) -> Option<Response> {
    let path: Vec<&[u8]> = message.path().collect();
    let format = match *path.as_slice() {
        [] | [b""] => TEXT_PLAIN,
        [b".well-known", b"core"] => LINK_FORMAT,
        _ => return None,
    };
    if message.method != code::GET {
        return Some(Response::empty(code::METHOD_NOT_ALLOWED));
    }
    // RFC 7252 section 5.10.4: the format that is asked for, or 4.06.
    if message.accept.is_some_and(|accept| accept != format) {
        return Some(Response::empty(code::NOT_ACCEPTABLE));
    }
    if format == LINK_FORMAT {
        return Some(well_known_core(&message.queries()));
    }
    Some(Response {
        code: code::CONTENT,
        content_format: Some(TEXT_PLAIN),
        payload: BANNER.to_vec(),
        ..Response::default()
    })
}

/// The list of resources in link format; those only that every query of the form `name=value`
/// matches (RFC 6690 section 4.1). Nothing is left: 2.05 with no payload.
///
/// `href`, `rt`, `if` and `ct` can be asked for; another name matches nothing. A value that ends in
/// `*` matches as a prefix. `rt` and `if` are matched value by value.
pub fn well_known_core(queries: &OptionValues<'_>) -> Response {
    let mut text = String::new();
    let mut links = LinkFormatWrite::new(&mut text);
    let wanted = RESOURCES
        .iter()
        .filter(|resource| queries.clone().all(|query| resource.matches(query)));
    for resource in wanted {
        let mut link = links.link(resource.path);
        if !resource.resource_types.is_empty() {
            link = link.attr_quoted("rt", resource.resource_types);
        }
        if !resource.interfaces.is_empty() {
            link = link.attr_quoted("if", resource.interfaces);
        }
        // Writing to a string does not fail.
        let _ = link
            .attr_u32("ct", u32::from(resource.content_format))
            .finish();
    }
    Response {
        code: code::CONTENT,
        content_format: Some(LINK_FORMAT),
        payload: text.into_bytes(),
        ..Response::default()
    }
}

impl Resource {
    fn matches(&self, query: &[u8]) -> bool {
        let Some(equals) = query.iter().position(|&byte| byte == b'=') else {
            // Not a filter.
            return true;
        };
        let (name, value) = (&query[..equals], &query[equals + 1..]);
        match name {
            b"href" => matches_one(self.path, value),
            b"rt" => matches_any(self.resource_types, value),
            b"if" => matches_any(self.interfaces, value),
            b"ct" => matches_one(&self.content_format.to_string(), value),
            _ => false,
        }
    }
}

fn matches_any(attributes: &str, pattern: &[u8]) -> bool {
    attributes
        .split_ascii_whitespace()
        .any(|attribute| matches_one(attribute, pattern))
}

fn matches_one(text: &str, pattern: &[u8]) -> bool {
    match pattern.strip_suffix(b"*") {
        Some(prefix) => text.as_bytes().starts_with(prefix),
        None => text.as_bytes() == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(queries: &[&str]) -> String {
        let message = RequestMessage::new(code::GET).with_queries(queries);
        let response = well_known_core(&message.queries());
        assert_eq!(response.code, code::CONTENT);
        assert_eq!(response.content_format, Some(40));
        String::from_utf8(response.payload).unwrap()
    }

    const CORE: &str = "</.well-known/core>;ct=40";
    const TELEMETRY: &str = r#"</api/v1/telemetry>;rt="telemetry";if="device";ct=50"#;
    const ATTRIBUTES: &str = r#"</api/v1/attributes>;rt="attributes";if="device";ct=50"#;

    #[test]
    fn lists_all_resources() {
        assert_eq!(list(&[]), [CORE, TELEMETRY, ATTRIBUTES].join(","));
    }

    /// RFC 6690 section 4.1.
    #[test]
    fn filters_by_query() {
        assert_eq!(list(&["rt=telemetry"]), TELEMETRY);
        assert_eq!(list(&["rt=tele*"]), TELEMETRY);
        assert_eq!(list(&["rt=tele"]), "");
        assert_eq!(list(&["if=device"]), [TELEMETRY, ATTRIBUTES].join(","));
        assert_eq!(list(&["href=/.well-known*"]), CORE);
        assert_eq!(list(&["href=/api/v1/attributes"]), ATTRIBUTES);
        assert_eq!(list(&["ct=40"]), CORE);
        assert_eq!(list(&["if=*", "rt=attributes"]), ATTRIBUTES);
        assert_eq!(list(&["anything=1"]), "");
        assert_eq!(list(&["rt="]), "");
        assert_eq!(list(&["flag"]), list(&[]));
    }

    #[test]
    fn answers_its_two_paths_only() {
        let root = handle(&RequestMessage::new(code::GET)).unwrap();
        assert_eq!((root.code, root.content_format), (0x45, Some(0)));
        let mut message = RequestMessage::new(code::GET).with_path([".well-known", "core"]);
        let whole = well_known_core(&message.queries());
        assert_eq!(handle(&message), Some(whole.clone()));
        message.accept = Some(40);
        assert_eq!(handle(&message), Some(whole));
        message.accept = Some(50);
        assert_eq!(handle(&message), Some(Response::empty(0x86)));
        message.method = code::POST;
        assert_eq!(handle(&message), Some(Response::empty(0x85)));
        let message = RequestMessage::new(code::POST).with_path([".well-known"]);
        assert_eq!(handle(&message), None);
    }
}
