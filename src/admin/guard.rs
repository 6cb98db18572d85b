//! Who may ask for what: decided for each request before anything else is done with it.
//!
//! What tells nothing of devices is open: metrics, probes, the page's own files. For everything else
//! a request over TCP needs the token ([`AdminToken`]) in its `Authorization` header, which no
//! browser sends by itself: a page of another origin cannot make one that counts.
//!
//! A browser on the operator's host can nevertheless be made to send requests to loopback addresses
//! by any web page: directly (cross-site request forgery), or under a name of the attacker's that
//! resolves to a loopback address (DNS rebinding). So the open pages are guarded, too: on a loopback
//! address the `Host` must be an address or `localhost`, on every address a request must not come
//! from another origin, and changes need a JSON content type, which a page cannot send across
//! origins without asking first. A rebound page on an address that is not loopback sees what anybody
//! may see there, and has no token: what a browser keeps, it keeps by origin.

use crate::admin::token::AdminToken;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use std::net::IpAddr;

/// What a listener is trusted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// The unix socket: everything, without a token.
    Owner,
    /// TCP on a loopback address: everything.
    Loopback,
    /// TCP on another address: only what tells nothing of devices.
    Public,
    /// The same with the operator's wish to have everything served there.
    Remote,
}

impl Access {
    /// What a TCP listener on `address` is trusted with; `remote_api` is
    /// `TIDEGATE_ADMIN_REMOTE_API`.
    pub(super) fn of_address(address: IpAddr, remote_api: bool) -> Self {
        match (address.to_canonical().is_loopback(), remote_api) {
            (true, _) => Self::Loopback,
            (false, true) => Self::Remote,
            (false, false) => Self::Public,
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

/// The page for people.
const PAGE: &str = "/";

/// What is served on any address, to anybody.
const PUBLIC_PATHS: [&str; 6] = [
    PAGE,
    "/status.json",
    "/metrics",
    "/healthz",
    "/readyz",
    "/api/openapi.json",
];

/// Where the page's own files are.
const PAGE_FILES: &str = "/page/";

/// Checks a request that came in with `access`.
pub(super) fn check(access: Access, token: &AdminToken, request: &Request) -> Result<(), Denial> {
    let path = request.uri().path();
    let is_public = PUBLIC_PATHS.contains(&path) || path.starts_with(PAGE_FILES);
    match access {
        Access::Owner => return Ok(()),
        Access::Public if is_public => {}
        Access::Public => {
            return Err(Denial {
                status: StatusCode::FORBIDDEN,
                message: "devices and data are not served on an address that is not loopback",
                remedy: "use the unix socket (`tidegate device`, `tidegate data`), or set \
                         TIDEGATE_ADMIN_BIND to a loopback address, or \
                         TIDEGATE_ADMIN_REMOTE_API=true",
            });
        }
        Access::Loopback => check_host(request.uri(), request.headers())?,
        Access::Remote => {}
    }
    if !is_visit(request) {
        check_origin(request.headers())?;
    }
    if is_public {
        Ok(())
    } else {
        check_token(token, request.headers())
    }
}

/// Whether a person follows a link to the page, from wherever: it holds no data itself, and cannot
/// be framed.
fn is_visit(request: &Request) -> bool {
    let fetched_as = request.headers().get("sec-fetch-dest");
    request.method() == Method::GET
        && request.uri().path() == PAGE
        && fetched_as.is_some_and(|kind| kind == "document")
}

fn check_token(token: &AdminToken, headers: &HeaderMap) -> Result<(), Denial> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let is_right = match (given.next(), given.next()) {
        (Some(credentials), None) => token.is_in(credentials.as_bytes()),
        _ => false,
    };
    if is_right {
        return Ok(());
    }
    Err(Denial {
        status: StatusCode::UNAUTHORIZED,
        message: "this needs the token of the admin interface",
        remedy: "send `Authorization: Bearer TOKEN`, where TOKEN is in the file admin-token of \
                 TIDEGATE_DATA_DIR",
    })
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
        let origin = origin.as_bytes();
        // `https` when a proxy before us speaks it.
        let authority = origin
            .strip_prefix(b"http://")
            .or_else(|| origin.strip_prefix(b"https://"));
        if authority.is_none() || authority != host {
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

    const BEARER: (&str, &str) = ("authorization", "Bearer 0123456789abcdef");

    fn token() -> AdminToken {
        AdminToken::parse("0123456789abcdef").unwrap()
    }

    /// What a request with the token is answered.
    fn status(access: Access, uri: &str, headers: &[(&str, &str)]) -> u16 {
        let headers: Vec<_> = headers.iter().copied().chain([BEARER]).collect();
        anonymous(access, uri, &headers)
    }

    fn anonymous(access: Access, uri: &str, headers: &[(&str, &str)]) -> u16 {
        check(access, &token(), &request(uri, headers))
            .map_or_else(|denial| denial.status.as_u16(), |()| 200)
    }

    #[test]
    fn devices_need_the_token_and_open_pages_do_not() {
        let host = ("host", "localhost:5680");
        for (headers, expected) in [
            (vec![host], 401),
            (vec![host, BEARER], 200),
            (
                vec![host, ("authorization", "Bearer 0123456789abcdeF")],
                401,
            ),
            (vec![host, ("authorization", "")], 401),
            (vec![host, BEARER, BEARER], 401),
        ] {
            for path in [
                "/api/devices",
                "/api",
                "/api/",
                "//",
                "/metrics/",
                "/api/openapi.json/",
            ] {
                for access in [Access::Loopback, Access::Remote] {
                    let found = anonymous(access, path, &headers);
                    assert_eq!(found, expected, "{access:?} {path} {headers:?}");
                }
                assert_eq!(anonymous(Access::Owner, path, &[]), 200);
                assert_eq!(anonymous(Access::Public, path, &headers), 403);
            }
        }
        for path in PUBLIC_PATHS.into_iter().chain(["/page/page.js"]) {
            for access in [Access::Loopback, Access::Public, Access::Remote] {
                assert_eq!(anonymous(access, path, &[host]), 200, "{access:?} {path}");
            }
        }
    }

    /// A link on another site leads to the page, and to nothing else.
    #[test]
    fn people_may_come_to_the_page_from_anywhere() {
        let visit = [
            ("host", "localhost:5680"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-dest", "document"),
        ];
        assert_eq!(status(Access::Loopback, "/", &visit), 200);
        assert_eq!(status(Access::Loopback, "/api/devices", &visit), 403);
        assert_eq!(status(Access::Loopback, "/metrics", &visit), 403);
        let framed = [visit[0], visit[1], ("sec-fetch-dest", "iframe")];
        assert_eq!(status(Access::Loopback, "/", &framed), 403);
        let rebound = [("host", "evil.example"), visit[1], visit[2]];
        assert_eq!(status(Access::Loopback, "/", &rebound), 421);
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
            ("origin", "https://localhost:5680", 200),
            ("origin", "http://evil.example", 403),
            ("origin", "null", 403),
            ("sec-fetch-site", "same-origin", 200),
            ("sec-fetch-site", "none", 200),
            ("sec-fetch-site", "same-site", 403),
            ("sec-fetch-site", "cross-site", 403),
        ] {
            for access in [Access::Loopback, Access::Remote] {
                let found = status(access, "/api/devices", &[host, (name, value)]);
                assert_eq!(found, expected, "{name}: {value}");
            }
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
            assert_eq!(Access::of_address(address, false), expected, "{address}");
            let with_api = match expected {
                Access::Public => Access::Remote,
                other => other,
            };
            assert_eq!(Access::of_address(address, true), with_api, "{address}");
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
