//! The table of codes (thingsboard-coap, section 6), row by row, on plain CoAP and over DTLS. Where
//! ThingsBoard stays silent or answers 5.00 for want of something better, the answer is the one that
//! the table recommends.

use serde_json::Value;

use super::support::{Link, Server, hex};

const GET: u8 = 1;
const POST: u8 = 2;
const PUT: u8 = 3;

/// Row of the table, method, URI (with `~` at its end: Observe 0), body, code.
type Row = (&'static str, u8, &'static str, &'static [u8], &'static str);

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // Success.
    ("telemetry", POST, "/api/v1/ACCESS01/telemetry", b"{t:1}", "2.01"),
    ("attributes", POST, "/api/v1/ACCESS01/attributes", b"{a:1}", "2.01"),
    ("claim", POST, "/api/v1/ACCESS01/claim", b"", "2.01"),
    ("reply", POST, "/api/v1/ACCESS01/rpc/7", b"{}", "2.01"),
    ("read attributes", GET, "/api/v1/ACCESS01/attributes", b"", "2.05"),
    ("subscribe attributes", GET, "/api/v1/ACCESS01/attributes~", b"", "2.05"),
    ("subscribe rpc", GET, "/api/v1/ACCESS01/rpc~", b"", "2.03"),
    ("package", GET, "/fw/ACCESS01?size=16&chunk=0", b"", "2.05"),
    // Path, feature and method do not go together.
    ("no feature", POST, "/api/v1/ACCESS01", b"{}", "4.00"),
    ("unknown feature", POST, "/api/v1/ACCESS01/foo", b"{}", "4.00"),
    ("unknown feature, bad token", POST, "/api/v1/WRONG/foo", b"{}", "4.00"),
    ("read telemetry", GET, "/api/v1/ACCESS01/telemetry", b"", "4.00"),
    ("observe telemetry", GET, "/api/v1/ACCESS01/telemetry~", b"", "4.00"),
    ("rpc without Observe", GET, "/api/v1/ACCESS01/rpc", b"", "4.00"),
    ("PUT", PUT, "/api/v1/ACCESS01/telemetry", b"{}", "4.05"),
    ("POST of a package", POST, "/fw/ACCESS01", b"", "4.05"),
    ("unknown root", GET, "/nope", b"", "4.04"),
    // Nobody, or somebody of another kind.
    ("no certificate", POST, "/api/v1/telemetry", b"{}", "4.01"),
    ("unknown token", POST, "/api/v1/WRONG/telemetry", b"{}", "4.01"),
    ("token in other case", POST, "/api/v1/access01/telemetry", b"{}", "4.01"),
    ("package without token", GET, "/fw", b"", "4.01"),
    ("package with more segments", GET, "/fw/ACCESS01/x", b"", "4.01"),
    // Payloads.
    ("no JSON", POST, "/api/v1/ACCESS01/telemetry", b"{a:", "4.00"),
    ("no payload", POST, "/api/v1/ACCESS01/telemetry", b"", "4.00"),
    ("telemetry, a number", POST, "/api/v1/ACCESS01/telemetry", b"5", "4.00"),
    ("telemetry, array of others", POST, "/api/v1/ACCESS01/telemetry", b"[1]", "4.00"),
    ("attributes, array", POST, "/api/v1/ACCESS01/attributes", b"[{a:1}]", "4.00"),
    ("claim, array", POST, "/api/v1/ACCESS01/claim", b"[]", "4.00"),
    ("long string", POST, "/api/v1/ACCESS01/telemetry", b"{a:'123456789 x'}", "4.00"),
    ("protobuf, torn", POST, "/api/v1/PROTO/telemetry", b"\x0a\x09x", "4.00"),
    ("protobuf attributes, torn", POST, "/api/v1/PROTO/attributes", b"\x0a\x09x", "4.00"),
    ("Efento's device elsewhere", POST, "/api/v1/EFENTO/telemetry", b"{t:1}", "4.00"),
    ("Efento, malformed", POST, "/efento/m", b"\x0a\x09x", "4.00"),
    ("Efento, unknown token", POST, "/efento/c", b"\xc2\x01\x05WRONG", "4.01"),
    ("another's device at Efento", POST, "/efento/c", b"\xc2\x01\x08ACCESS01", "4.00"),
    ("Efento", POST, "/efento/c", b"\xc2\x01\x06EFENTO", "2.01"),
    ("Efento's clock", GET, "/efento/t", b"", "2.05"),
    // Nothing there.
    ("no such attribute", GET, "/api/v1/ACCESS01/attributes?clientKeys=z", b"", "4.04"),
    ("no package", GET, "/sw/ACCESS01", b"", "4.04"),
    ("package elsewhere", GET, "/fw/PROTO", b"", "4.04"),
    ("other title", GET, "/fw/ACCESS01?title=X", b"", "4.00"),
    ("other version", GET, "/fw/ACCESS01?title=T&version=2", b"", "4.00"),
    // Refused.
    (
        "provisioning",
        POST,
        "/api/v1/provision",
        b"{provisionDeviceKey:k,provisionDeviceSecret:s}",
        "4.00",
    ),
    // Beyond a limit: 4.29 in the place of ThingsBoard's 5.00, which is a setting.
    ("within the limit", POST, "/api/v1/LIMITED/telemetry", b"{t:1}", "2.01"),
    ("rate limit", POST, "/api/v1/LIMITED/telemetry", b"{t:1}", "4.29"),
    // Malformed in ways that ThingsBoard calls its own failure.
    ("reply, no object", POST, "/api/v1/ACCESS01/rpc/7", b"5", "5.00"),
    ("reply, malformed", POST, "/api/v1/ACCESS01/rpc/7", b"{", "5.00"),
    ("call without method", POST, "/api/v1/ACCESS01/rpc", b"{}", "5.00"),
    ("ts, no number", POST, "/api/v1/ACCESS01/telemetry", b"{ts:x,values:{}}", "5.00"),
    ("size, no number", GET, "/fw/ACCESS01?size=x", b"", "4.00"),
    // ThingsBoard says nothing to these.
    ("nobody answers the call", POST, "/api/v1/ACCESS01/rpc", b"{method:m}", "5.04"),
    ("no readings", POST, "/api/v1/ACCESS01/telemetry", b"[]", "2.01"),
    ("beyond the package", GET, "/fw/ACCESS01?size=16&chunk=99", b"", "4.04"),
];

/// A CON request; the number of the row is its Message ID and token.
fn message(number: u16, method: u8, uri: &str, body: &[u8]) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    let mut message = vec![0x42, method, high, low, high, low];
    let mut last = 0;
    let mut option = |number: u8, value: &[u8]| {
        let length = u8::try_from(value.len()).unwrap();
        let delta = number - last;
        last = number;
        if length < 13 {
            message.push(delta << 4 | length);
        } else {
            message.extend_from_slice(&[delta << 4 | 13, length - 13]);
        }
        message.extend_from_slice(value);
    };
    let observed = uri.strip_suffix('~');
    if observed.is_some() {
        option(6, b"");
    }
    let (path, query) = match observed.unwrap_or(uri).split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (observed.unwrap_or(uri), None),
    };
    for segment in path.split('/').skip(1) {
        option(11, segment.as_bytes());
    }
    for part in query.into_iter().flat_map(|query| query.split('&')) {
        option(15, part.as_bytes());
    }
    if !body.is_empty() {
        message.push(0xff);
        message.extend_from_slice(body);
    }
    message
}

fn code_text(code: u8) -> String {
    format!("{}.{:02}", code >> 5, code & 0x1f)
}

fn server() -> Server {
    let server = Server::start(&[
        ("JSON_MAX_STRING_VALUE_LENGTH", "10"),
        ("COAP_TIMEOUT", "300"),
    ]);
    let schema = "syntax = \"proto3\"; message Any { string a = 1; }";
    std::fs::write(server.path("any.proto"), schema).unwrap();
    std::fs::write(server.path("fw.bin"), [7; 100]).unwrap();
    for command in [
        "profile add proto payloadType=PROTOBUF protoSchemas.telemetry=@any.proto \
         protoSchemas.attributes=@any.proto",
        "profile add efento deviceType=EFENTO",
        "profile add limited rateLimits.telemetryMessages=1:600",
        "device add json --token ACCESS01",
        "device add proto --token PROTO --profile proto",
        "device add efento --token EFENTO --profile efento",
        "device add limited --token LIMITED --profile limited",
        "ota add fw.bin --title T --version 1",
        "ota add --url coap://elsewhere/fw --title T --version 2",
        "ota assign 1 --device json",
        "ota assign 2 --device proto",
        "attr set json shared=1",
    ] {
        let words: Vec<&str> = command.split_whitespace().collect();
        server.tidegate_ok(&words);
    }
    server
}

#[test]
fn every_row_of_the_table() {
    for secure in [false, true] {
        let server = server();
        let mut link = if secure {
            Link::anonymous(&server)
        } else {
            Link::plain(&server)
        };
        for (number, (row, method, uri, body, code)) in (0x3000..).zip(ROWS) {
            let answer = link.exchange(&message(number, *method, uri, body));
            let answer = answer.unwrap_or_else(|| panic!("{row}: no answer"));
            let [high, low] = number.to_be_bytes();
            let name = format!("{row} (over DTLS: {secure})");
            assert_eq!(code_text(answer[1]), *code, "{name}: {answer:02x?}");
            let head = [0x62, answer[1], high, low, high, low];
            assert_eq!(answer[..6], head, "{name}: piggybacked");
            let rest = &answer[6..];
            match *row {
                // Content-Format, and no payload.
                "no such attribute" => assert_eq!(rest, hex("c132"), "{name}"),
                "provisioning" => {
                    assert_eq!(rest[..2], hex("c0ff"), "{name}");
                    let body: Value = serde_json::from_slice(&rest[2..]).unwrap();
                    assert_eq!(body["status"], "NOT_FOUND", "{name}");
                }
                "rate limit" => assert_eq!(rest[..1], hex("d2"), "{name}: Max-Age"),
                "subscribe rpc" => assert_eq!(rest, hex("60"), "{name}: Observe"),
                // Neither options nor a diagnostic payload.
                _ if *code != "2.05" => assert_eq!(rest, hex(""), "{name}"),
                _ => assert!(!rest.is_empty(), "{name}"),
            }
        }
    }
}

/// The rows that ThingsBoard does not answer for a certificate device, and its packages.
#[test]
fn rows_of_a_certificate_device() {
    let server = server();
    let files = server.certificate_device("leaf");
    server.tidegate_ok(&["ota", "assign", "1", "--device", "leaf"]);
    let mut link = Link::certificate(&server, &files);
    let rows: &[Row] = &[
        ("telemetry", POST, "/api/v1/telemetry", b"{t:1}", "2.01"),
        (
            "telemetry with a path too long",
            POST,
            "/api/v1/telemetry/x/y/z",
            b"{}",
            "4.00",
        ),
        ("reply, no object", POST, "/api/v1/rpc/7", b"5", "5.00"),
        ("reply", POST, "/api/v1/rpc/7", b"{}", "2.01"),
        ("call without method", POST, "/api/v1/rpc", b"{}", "5.00"),
        (
            "ts, no number",
            POST,
            "/api/v1/telemetry",
            b"{ts:x,values:{}}",
            "5.00",
        ),
        ("subscribe rpc", GET, "/api/v1/rpc~", b"", "2.03"),
        ("package", GET, "/fw?size=16&chunk=0", b"", "2.05"),
        ("size, no number", GET, "/fw?size=x", b"", "4.00"),
        (
            "beyond the package",
            GET,
            "/fw?size=16&chunk=99",
            b"",
            "4.04",
        ),
    ];
    for (number, (row, method, uri, body, code)) in (0x3000..).zip(rows) {
        let answer = link.exchange(&message(number, *method, uri, body));
        let answer = answer.unwrap_or_else(|| panic!("{row}: no answer"));
        assert_eq!(code_text(answer[1]), *code, "{row}: {answer:02x?}");
    }
}
