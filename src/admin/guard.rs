//! Who may ask for what: decided for each request before anything else is done with it.
//!
//! A browser on the operator's host can be made to send requests to loopback addresses by any web
//! page: directly (cross-site request forgery), or under a name of the attacker's that resolves to
//! a loopback address (DNS rebinding). So over TCP the `Host` must be an address or `localhost`, a
//! request must not come from another origin, and changes need a JSON content type, which a page
//! cannot send across origins without asking first.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use std::net::IpAddr;

/// What a listener is trusted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// The unix socket: everything.
    Owner,
    /// TCP on a loopback address: everything, but not to web pages.
    Loopback,
    /// TCP on another address: only what tells nothing of devices.
    Public,
}

impl Access {
    pub(super) fn of_address(address: IpAddr) -> Self {
        if address.to_canonical().is_loopback() {
            Self::Loopback
        } else {
            Self::Public
        }
    }
}

/// Why a request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Denial {
    pub(super) status: StatusCode,
    pub(super) message: &'static str,
    pub(super) remedy: &'static str,
}

/// What is served on any address.
const PUBLIC_PATHS: [&str; 5] = ["/", "/metrics", "/healthz", "/readyz", "/api/openapi.json"];

/// Checks a request that came in with `access`.
pub(super) fn check(access: Access, request: &Request) -> Result<(), Denial> {
    match access {
        Access::Owner => Ok(()),
        Access::Public if PUBLIC_PATHS.contains(&request.uri().path()) => Ok(()),
        Access::Public => Err(Denial {
            status: StatusCode::FORBIDDEN,
            message: "devices and data are not served on an address that is not loopback",
            remedy: "use the unix socket (`tidegate device`, `tidegate data`), or set \
                     TIDEGATE_ADMIN_BIND to a loopback address",
        }),
        Access::Loopback => {
            check_host(request.uri(), request.headers())?;
            check_origin(request.headers())
        }
    }
}

fn check_host(uri: &Uri, headers: &HeaderMap) -> Result<(), Denial> {
    let denied = Denial {
        status: StatusCode::MISDIRECTED_REQUEST,
        message: "the Host header must be one loopback address, or localhost",
        remedy: "ask for http://127.0.0.1 or http://localhost",
    };
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().map_err(|_| denied)?,
        _ => return Err(denied),
    };
    // A proxy-style request line carries a host of its own.
    let in_line = uri.authority().map_or(host, |authority| authority.as_str());
    if is_local(host) && is_local(in_line) {
        Ok(())
    } else {
        Err(denied)
    }
}

/// Whether `host[:port]` names this host in a way that no name server decides.
fn is_local(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, after)) => (
                host,
                after
                    .strip_prefix(':')
                    .or_else(|| after.is_empty().then_some("0")),
            ),
            None => return false,
        },
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, Some("0")),
        },
    };
    let port_reads = port.is_some_and(|port| port.parse::<u16>().is_ok());
    let is_address = || {
        host.parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback())
    };
    port_reads && (host.eq_ignore_ascii_case("localhost") || is_address())
}

fn check_origin(headers: &HeaderMap) -> Result<(), Denial> {
    let denied = Denial {
        status: StatusCode::FORBIDDEN,
        message: "requests from web pages of another origin are not served",
        remedy: "ask from a program, or from a page of this server",
    };
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
    for origin in headers.get_all(header::ORIGIN) {
        let origin = origin.as_bytes().strip_prefix(b"http://");
        if origin.is_none() || origin != host {
            return Err(denied);
        }
    }
    let site = headers
        .get("sec-fetch-site")
        .map_or(&b"none"[..], HeaderValue::as_bytes);
    if site == b"none" || site == b"same-origin" {
        Ok(())
    } else {
        Err(denied)
    }
}

/// Whether the content type is `application/json`, parameters aside.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Request {
        let mut builder = Request::builder().uri(uri);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(Body::empty()).unwrap()
    }

    fn status(access: Access, uri: &str, headers: &[(&str, &str)]) -> u16 {
        check(access, &request(uri, headers)).map_or_else(|denial| denial.status.as_u16(), |()| 200)
    }

    #[test]
    fn only_names_of_this_host_pass_as_host() {
        for (host, expected) in [
            ("localhost", 200),
            ("LOCALHOST:5680", 200),
            ("127.0.0.1:5680", 200),
            ("127.1.2.3", 200),
            ("[::1]:5680", 200),
            ("[::1]", 200),
            ("[::ffff:127.0.0.1]:1", 200),
            ("", 421),
            ("evil.example", 421),
            ("localhost.evil.example:5680", 421),
            ("127.0.0.1.evil.example", 421),
            ("localhost:evil", 421),
            ("localhost:5680:1", 421),
            ("[::1", 421),
            ("[::1]evil", 421),
            ("10.0.0.1", 421),
            ("user@localhost", 421),
        ] {
            let found = status(Access::Loopback, "/api/devices", &[("host", host)]);
            assert_eq!(found, expected, "{host}");
        }
        assert_eq!(status(Access::Loopback, "/metrics", &[]), 421);
        let two = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(status(Access::Loopback, "/metrics", &two), 421);
        let line = "http://evil.example/api/devices";
        assert_eq!(
            status(Access::Loopback, line, &[("host", "localhost")]),
            421
        );
    }

    #[test]
    fn other_origins_are_refused() {
        let host = ("host", "localhost:5680");
        for (name, value, expected) in [
            ("origin", "http://localhost:5680", 200),
            ("origin", "http://localhost:8080", 403),
            ("origin", "https://localhost:5680", 403),
            ("origin", "http://evil.example", 403),
            ("origin", "null", 403),
            ("sec-fetch-site", "same-origin", 200),
            ("sec-fetch-site", "none", 200),
            ("sec-fetch-site", "same-site", 403),
            ("sec-fetch-site", "cross-site", 403),
        ] {
            let found = status(Access::Loopback, "/api/devices", &[host, (name, value)]);
            assert_eq!(found, expected, "{name}: {value}");
        }
    }

    #[test]
    fn an_open_address_serves_no_devices() {
        for path in ["/metrics", "/healthz", "/readyz", "/", "/api/openapi.json"] {
            assert_eq!(
                status(Access::Public, path, &[("host", "x")]),
                200,
                "{path}"
            );
        }
        for path in [
            "/api/devices",
            "/api/devices/a/telemetry",
            "/api/import",
            "//",
            "/metrics/x",
        ] {
            assert_eq!(
                status(Access::Public, path, &[("host", "x")]),
                403,
                "{path}"
            );
        }
    }

    #[test]
    fn listeners_are_sorted_by_address() {
        for (address, expected) in [
            ("127.0.0.1", Access::Loopback),
            ("::1", Access::Loopback),
            ("::ffff:127.0.0.1", Access::Loopback),
            ("0.0.0.0", Access::Public),
            ("::", Access::Public),
            ("10.0.0.1", Access::Public),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(Access::of_address(address), expected, "{address}");
        }
    }

    #[test]
    fn content_types_are_compared_without_parameters() {
        let with = |value: &str| is_json(request("/", &[("content-type", value)]).headers());
        assert!(with("application/json") && with("Application/JSON; charset=utf-8"));
        assert!(!with("text/plain") && !with("application/jsonx") && !with(""));
        assert!(!is_json(&HeaderMap::new()));
    }
}
