//! From a request's path and method to what it asks for (TB section 5).
//!
//! ```text
//! token form : /api/v1/{token}/{feature}[/{n}][/...]
//! cert form  : /api/v1/{feature}[/{n}]
//! provision  : /api/v1/provision, /api/v1/{anything}/provision
//! OTA        : /fw/{token}, /sw/{token}; beyond ThingsBoard, for certificates: /fw, /sw
//! Efento     : /efento/{m|i|c|t}
//! ```
//!
//! Order of checks: an unknown root is 4.04, a method that the resource never has 4.05, a path
//! without a known feature or a feature that lacks the method 4.00; only then comes
//! authentication, so a bad path is 4.00 even with a bad token.

use super::code;
use super::efento::Upload;
use crate::auth::request::RequestMessage;
use crate::registry::packages::PackageKind;

const GET: u8 = 1;
const POST: u8 = 2;

/// What an authenticated request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    PostTelemetry,
    PostAttributes,
    ReadAttributes,
    Claim,
    /// `GET rpc` with Observe, 0 registers; or for a later block of a call.
    ObserveRpc,
    /// A call of the device.
    Call,
    /// Its reply to the call with this number.
    Reply(i32),
    Ota(PackageKind),
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// Something of a device; the token as in the path, if the path has one.
    Device {
        action: Action,
        token: Option<&'a [u8]>,
    },
    /// Provisioning: nobody is authenticated.
    Provision,
    /// Efento's protocol: the token is inside the message.
    Efento(Upload),
    /// Efento's clock.
    EfentoTime,
    /// `/`.
    Root,
    /// `/.well-known/core` (RFC 6690).
    WellKnownCore,
    /// Nothing: the code to answer.
    Refused(u8),
}

/// Segments of a path that are looked at: more than any resource has, so that those which follow
/// change nothing.
const SEGMENTS_MAX: usize = 8;

/// The segments of a request's path: a single Uri-Path option with slashes inside, as modems with
/// AT commands send it, is split as if they had been several.
#[derive(Debug, Default)]
pub(super) struct Segments<'a> {
    segments: [&'a [u8]; SEGMENTS_MAX],
    length: usize,
}

impl<'a> Segments<'a> {
    pub(super) fn of(message: &'a RequestMessage) -> Self {
        let mut path = message.path();
        match (path.next(), path.next()) {
            (Some(single), None) if single.contains(&b'/') => {
                let start = single.iter().take_while(|&&byte| byte == b'/').count();
                let path = single.get(start..).unwrap_or_default();
                path.split(|&byte| byte == b'/').collect()
            }
            _ => message.path().collect(),
        }
    }

    pub(super) fn as_slice(&self) -> &[&'a [u8]] {
        self.segments.get(..self.length).unwrap_or_default()
    }
}

impl<'a> FromIterator<&'a [u8]> for Segments<'a> {
    fn from_iter<T: IntoIterator<Item = &'a [u8]>>(segments: T) -> Self {
        let mut this = Self::default();
        for (place, segment) in this.segments.iter_mut().zip(segments) {
            *place = segment;
            this.length += 1;
        }
        this
    }
}

/// Finds out what `message`, whose path is `segments`, asks for.
pub(super) fn route<'a>(message: &RequestMessage, segments: &[&'a [u8]]) -> Route<'a> {
    let method = message.method;
    let (root, rest) = match segments {
        [] => (&b""[..], segments),
        [root, rest @ ..] => (*root, rest),
    };
    match (root, rest) {
        (b"", []) => only(GET, method, Route::Root),
        (b".well-known", []) => Route::Refused(code::METHOD_NOT_ALLOWED),
        (b".well-known", [b"core"]) => only(GET, method, Route::WellKnownCore),
        (b"api", []) => Route::Refused(code::METHOD_NOT_ALLOWED),
        (b"api", [b"v1", rest @ ..]) => match method {
            GET | POST => device_api(message, rest),
            _ => Route::Refused(code::METHOD_NOT_ALLOWED),
        },
        (b"fw", rest) => only(GET, method, ota(PackageKind::Firmware, rest)),
        (b"sw", rest) => only(GET, method, ota(PackageKind::Software, rest)),
        (b"efento", rest) => efento(method, rest),
        _ => Route::Refused(code::NOT_FOUND),
    }
}

fn only(allowed: u8, method: u8, route: Route<'_>) -> Route<'_> {
    if method == allowed {
        route
    } else {
        Route::Refused(code::METHOD_NOT_ALLOWED)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Feature {
    Telemetry,
    Attributes,
    Rpc,
    Claim,
    Provision,
}

impl Feature {
    fn from_segment(segment: &[u8]) -> Option<Self> {
        [
            ("telemetry", Self::Telemetry),
            ("attributes", Self::Attributes),
            ("rpc", Self::Rpc),
            ("claim", Self::Claim),
            ("provision", Self::Provision),
        ]
        .into_iter()
        .find(|(name, _)| segment.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, feature)| feature)
    }
}

/// A path below `/api/v1`; `rest` is what follows these two segments.
fn device_api<'a>(message: &RequestMessage, rest: &[&'a [u8]]) -> Route<'a> {
    let refused = Route::Refused(code::BAD_REQUEST);
    let is_numeric = |segment: &[u8]| !segment.is_empty() && segment.iter().all(u8::is_ascii_digit);
    let named = match rest {
        [] => return refused,
        [feature] => feature,
        // Four segments with a number last: the certificate form with a request id.
        [feature, last] if is_numeric(last) => feature,
        [_, feature, ..] => feature,
    };
    // The token is the third segment as soon as there are more than three, whatever it looks like.
    let token = match rest {
        [token, _, ..] => Some(*token),
        _ => None,
    };
    let Some(feature) = Feature::from_segment(named) else {
        return refused;
    };
    let action = match (message.method, feature) {
        (POST, Feature::Provision) => return Route::Provision,
        (POST, Feature::Telemetry) => Action::PostTelemetry,
        (POST, Feature::Attributes) => Action::PostAttributes,
        (POST, Feature::Rpc) => call_number(rest).map_or(Action::Call, Action::Reply),
        (POST, Feature::Claim) => Action::Claim,
        (GET, Feature::Attributes) => Action::ReadAttributes,
        // A later block of a call that was notified comes without Observe (RFC 7959 section 2.6).
        (GET, Feature::Rpc) if message.observe.is_some() || message.block2.is_some() => {
            Action::ObserveRpc
        }
        _ => return refused,
    };
    Route::Device { action, token }
}

/// The number of the call that is replied to: the fifth segment of the path, or the fourth of four. What is no
/// 32-bit integer is no number, and the request a call of the device.
fn call_number(rest: &[&[u8]]) -> Option<i32> {
    let segment = rest.get(2).or_else(|| rest.get(1))?;
    std::str::from_utf8(segment).ok()?.parse().ok()
}

/// A path below `/fw` or `/sw`: one segment, the token, or none for a device with a certificate.
fn ota<'a>(kind: PackageKind, rest: &[&'a [u8]]) -> Route<'a> {
    match rest {
        [] | [_] => Route::Device {
            action: Action::Ota(kind),
            token: rest.first().copied(),
        },
        _ => Route::Refused(code::UNAUTHORIZED),
    }
}

fn efento<'a>(method: u8, rest: &[&[u8]]) -> Route<'a> {
    let name = match rest {
        [name] => *name,
        _ => b"",
    };
    match (method, name) {
        (POST, b"m") => Route::Efento(Upload::Measurements),
        (POST, b"i") => Route::Efento(Upload::DeviceInfo),
        (POST, b"c") => Route::Efento(Upload::Configuration),
        (GET, b"t") => Route::EfentoTime,
        (GET | POST, _) => Route::Refused(code::BAD_REQUEST),
        _ => Route::Refused(code::METHOD_NOT_ALLOWED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(method: u8, path: &[&str], observe: Option<u32>) -> RequestMessage {
        let mut message = RequestMessage::new(method).with_path(path);
        message.observe = observe;
        message
    }

    fn routed(method: u8, path: &[&str], observe: Option<u32>) -> String {
        let message = message(method, path, observe);
        match route(&message, Segments::of(&message).as_slice()) {
            Route::Device { action, token } => {
                let token = token.map_or_else(|| "-".into(), String::from_utf8_lossy);
                format!("{action:?} {token}")
            }
            Route::Refused(code) => format!("{}.{:02}", code >> 5, code & 31),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn paths_and_methods() {
        for (method, path, expected) in [
            (
                POST,
                &["api", "v1", "T", "telemetry"][..],
                "PostTelemetry T",
            ),
            (POST, &["api", "v1", "T", "TeleMetry"], "PostTelemetry T"),
            (POST, &["api", "v1", "T", "attributes"], "PostAttributes T"),
            (GET, &["api", "v1", "T", "attributes"], "ReadAttributes T"),
            (
                GET,
                &["api", "v1", "T", "attributes", "updates"],
                "ReadAttributes T",
            ),
            (
                POST,
                &["api", "v1", "T", "telemetry", ""],
                "PostTelemetry T",
            ),
            (POST, &["api", "v1", "T", "rpc", "5"], "Reply(5) T"),
            (POST, &["api", "v1", "T", "rpc", "5", "6"], "Reply(5) T"),
            (POST, &["api", "v1", "T", "rpc", "2147483648"], "Call T"),
            (POST, &["api", "v1", "T", "rpc", "x"], "Call T"),
            (POST, &["api", "v1", "T", "rpc"], "Call T"),
            (POST, &["api", "v1", "rpc"], "Call -"),
            (POST, &["api", "v1", "T", "claim"], "Claim T"),
            // Certificate form.
            (POST, &["api", "v1", "telemetry"], "PostTelemetry -"),
            (POST, &["api", "v1", "rpc", "5"], "Reply(5) rpc"),
            (GET, &["api", "v1", "attributes"], "ReadAttributes -"),
            (GET, &["api", "v1", "attributes", "updates"], "4.00"),
            (
                POST,
                &["api", "v1", "telemetry", "7"],
                "PostTelemetry telemetry",
            ),
            // A token of digits with a feature behind it is a token.
            (
                POST,
                &["api", "v1", "123", "telemetry"],
                "PostTelemetry 123",
            ),
            (POST, &["api", "v1", "", "telemetry"], "PostTelemetry "),
            // Provisioning.
            (POST, &["api", "v1", "provision"], "Provision"),
            (POST, &["api", "v1", "anything", "provision"], "Provision"),
            (GET, &["api", "v1", "provision"], "4.00"),
            // Features that lack the method.
            (GET, &["api", "v1", "T", "telemetry"], "4.00"),
            (GET, &["api", "v1", "T", "claim"], "4.00"),
            (GET, &["api", "v1", "T", "rpc"], "4.00"),
            // No feature.
            (POST, &["api", "v1"], "4.00"),
            (GET, &["api", "v1"], "4.00"),
            (POST, &["api", "v1", "T"], "4.00"),
            (POST, &["api", "v1", "WRONG", "foo"], "4.00"),
            (POST, &["api", "v1", "T", "firmware"], "4.00"),
            // Methods.
            (3, &["api", "v1", "T", "telemetry"], "4.05"),
            (4, &["api", "v1", "T", "foo"], "4.05"),
            (5, &["api", "v1"], "4.05"),
            (7, &["api", "v1", "T", "attributes"], "4.05"),
            (GET, &["api"], "4.05"),
            (POST, &["api"], "4.05"),
            (POST, &["fw", "T"], "4.05"),
            (POST, &["sw", "T"], "4.05"),
            (POST, &["fw"], "4.05"),
            // OTA.
            (GET, &["fw", "T"], "Ota(Firmware) T"),
            (GET, &["sw", "T"], "Ota(Software) T"),
            (GET, &["fw"], "Ota(Firmware) -"),
            (GET, &["sw"], "Ota(Software) -"),
            (GET, &["sw", "T", "x"], "4.01"),
            // Efento.
            (POST, &["efento", "m"], "Efento(Measurements)"),
            (POST, &["efento", "i"], "Efento(DeviceInfo)"),
            (POST, &["efento", "c"], "Efento(Configuration)"),
            (GET, &["efento", "t"], "EfentoTime"),
            (POST, &["efento", "t"], "4.00"),
            (POST, &["efento", "m", "x"], "4.00"),
            (GET, &["efento", "m"], "4.00"),
            (POST, &["efento"], "4.00"),
            (3, &["efento", "m"], "4.05"),
            // Discovery.
            (GET, &[], "Root"),
            (GET, &[""], "Root"),
            (POST, &[], "4.05"),
            (GET, &[".well-known", "core"], "WellKnownCore"),
            (POST, &[".well-known", "core"], "4.05"),
            (GET, &[".well-known", "x"], "4.04"),
            // Unknown roots: names are compared exactly.
            (GET, &["nope"], "4.04"),
            (3, &["nope"], "4.04"),
            (POST, &["API", "v1", "T", "telemetry"], "4.04"),
            (POST, &["api", "v2", "T", "telemetry"], "4.04"),
            (GET, &["api", ""], "4.04"),
            // One option with slashes.
            (POST, &["api/v1/T/telemetry"], "PostTelemetry T"),
            (POST, &["/api/v1/T/telemetry"], "PostTelemetry T"),
            (POST, &["/api/v1/telemetry"], "PostTelemetry -"),
            (GET, &["/"], "Root"),
            // Only a single option is split.
            (POST, &["api/v1", "T/telemetry"], "4.04"),
            // More segments than are looked at.
            (
                POST,
                &["api", "v1", "T", "telemetry", "", "", "", "", "", "x"],
                "PostTelemetry T",
            ),
            (POST, &["api/v1/T/telemetry//////x"], "PostTelemetry T"),
            (GET, &["fw", "T", "", "", "", "", "", "", "", "x"], "4.01"),
        ] {
            assert_eq!(routed(method, path, None), expected, "{method} {path:?}");
        }
    }

    #[test]
    fn rpc_is_read_only_by_observing() {
        assert_eq!(
            routed(GET, &["api", "v1", "T", "rpc"], Some(0)),
            "ObserveRpc T"
        );
        assert_eq!(
            routed(GET, &["api", "v1", "T", "telemetry"], Some(0)),
            "4.00"
        );
        assert_eq!(
            routed(GET, &["api", "v1", "T", "attributes"], Some(0)),
            "ReadAttributes T"
        );
    }
}
