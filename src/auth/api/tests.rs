//! The vectors 1 to 8 of TB section 10, and the tables of sections 5 to 7, on the embedded registry
//! and store. The vectors' own bytes go through the CoAP codec elsewhere; here the request begins as
//! its options.

mod features;
mod provisioning;

use super::*;
use crate::auth::request::{PeerRef, RequestMessage};
use crate::crypto::fingerprint::device_fingerprint;
use crate::registry::Device;
use crate::registry::{NewCredential, NewDevice};
use crate::store::embedded::{Opened, StoreSettings, open};
use crate::store::{AttributeScope, HistoryQuery, Point, StoreError, Value, ValueRef};
use std::sync::mpsc;
use std::time::Duration;
use tempfile::TempDir;

const GET: u8 = 1;
const POST: u8 = 2;
const PUT: u8 = 3;
const NOW: u64 = 1_700_000_000_000;
const CERTIFICATE: &[u8] = &[1, 2, 3, 4];

struct Bench {
    api: Api,
    opened: Opened,
    token_device: Arc<Device>,
    certificate_device: Arc<Device>,
    _directory: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::with(ApiSettings::default())
    }

    fn with(settings: ApiSettings) -> Self {
        let directory = TempDir::new().unwrap();
        let quick = StoreSettings {
            commit_interval: Duration::ZERO,
            ..StoreSettings::default()
        };
        let opened = open(directory.path(), &quick).unwrap();
        let add = |name: &str, credential| {
            let profile = None;
            let name = name.into();
            opened
                .registry
                .add(NewDevice {
                    name,
                    profile,
                    credential,
                })
                .unwrap()
        };
        let clock = Box::new(|| NOW);
        let hub = Hub::without_shards(opened.registry.clone(), opened.store.clone(), clock);
        Self {
            token_device: add("token", NewCredential::AccessToken("ACCESS01".into())),
            certificate_device: add("cert", NewCredential::Certificate(CERTIFICATE.into())),
            api: Api::new(opened.registry.clone(), opened.store.clone(), hub, settings)
                .with_packages(opened.packages.clone()),
            opened,
            _directory: directory,
        }
    }

    /// The answer, as a device gets it: after the store has what it waits for.
    fn answer(&self, request: &Request) -> Response {
        let mut batch = Batch::new();
        match self.api.handle(request, &mut batch) {
            Outcome::Respond(response) => {
                assert!(batch.is_empty(), "nothing is left over");
                response
            }
            Outcome::Elsewhere => panic!("the hub answers {request:?}"),
            Outcome::Durable(response) => {
                assert!(!batch.is_empty());
                self.append(batch);
                response
            }
        }
    }

    /// Stores a batch.
    fn append(&self, batch: Batch) {
        let (sender, receiver) = mpsc::channel();
        let done = move |result: Result<(), &StoreError>| {
            sender.send(result.is_ok()).unwrap();
        };
        let taken = self.opened.store.append(batch, Box::new(done));
        taken.ok().unwrap();
        assert!(receiver.recv_timeout(Duration::from_secs(30)).unwrap());
    }

    fn code(&self, request: &Request) -> String {
        code_text(self.answer(request).code)
    }

    fn post(&self, path: &str, payload: &str) -> String {
        self.code(&request(POST, path, payload))
    }

    /// The newest value of a key of the token device, and its time.
    fn stored(&self, key: &str) -> Option<(Value, i64)> {
        let latest = self.opened.store.latest(self.token_device.id).unwrap();
        latest
            .into_iter()
            .find(|(known, _)| &**known == key)
            .map(|(_, Point { ts_ms, value })| (value, ts_ms))
    }
}

fn code_text(code: u8) -> String {
    format!("{}.{:02}", code >> 5, code & 31)
}

fn request(method: u8, uri: &str, payload: &str) -> Request {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let path = path.split('/').filter(|part| !part.is_empty());
    let queries = query.split('&').filter(|part| !part.is_empty());
    Request {
        peer: PeerRef {
            shard: 0,
            slot: 0,
            generation: 0,
        },
        exchange: 0,
        identity: Identity::Anonymous,
        secure: false,
        received_unix_ms: NOW,
        message: RequestMessage::new(method)
            .with_path(path)
            .with_queries(queries)
            .with_payload(payload),
    }
}

fn secure(certificate: Option<&[u8]>, request: Request) -> Request {
    Request {
        identity: certificate.map_or(Identity::Anonymous, |der| {
            Identity::Certificate(device_fingerprint(der))
        }),
        secure: true,
        ..request
    }
}

const TELEMETRY: &str = "/api/v1/ACCESS01/telemetry";
const ATTRIBUTES: &str = "/api/v1/ACCESS01/attributes";

#[test]
fn vectors_1_to_3_a_reading_is_stored() {
    let bench = Bench::new();
    let mut posted = request(POST, TELEMETRY, r#"{"temperature":25}"#);
    posted.message.content_format = Some(50);
    assert_eq!(bench.answer(&posted), Response::empty(code::CREATED));
    let now = i64::try_from(NOW).unwrap();
    assert_eq!(bench.stored("temperature"), Some((Value::Long(25), now)));

    // Vector 2: one Uri-Path option, lenient JSON.
    let mut posted = request(POST, "", "{temperature:26}");
    posted.message.push_segment(b"/api/v1/ACCESS01/telemetry");
    posted.received_unix_ms = NOW + 1;
    assert_eq!(bench.answer(&posted), Response::empty(code::CREATED));
    assert_eq!(
        bench.stored("temperature"),
        Some((Value::Long(26), now + 1))
    );
}

#[test]
fn vector_4_and_17_the_certificate_form_needs_a_registered_leaf() {
    let bench = Bench::new();
    let posted = || request(POST, "/api/v1/telemetry", r#"{"t":1}"#);
    assert_eq!(bench.code(&posted()), "4.01");
    assert_eq!(bench.code(&secure(None, posted())), "4.01");
    assert_eq!(bench.code(&secure(Some(&[9]), posted())), "4.01");
    assert_eq!(bench.code(&secure(Some(CERTIFICATE), posted())), "2.01");
    // What a plain datagram claims to be counts for nothing.
    let mut claimed = secure(Some(CERTIFICATE), posted());
    claimed.secure = false;
    assert_eq!(bench.code(&claimed), "4.01");

    // The certificate overrides the token in the path, whosever it is.
    for path in [TELEMETRY, "/api/v1/WRONG/telemetry"] {
        let other = secure(Some(CERTIFICATE), request(POST, path, r#"{"o":1}"#));
        assert_eq!(bench.code(&other), "2.01");
    }
    let of = |device: &Device| bench.opened.store.latest(device.id).unwrap();
    assert_eq!(bench.stored("o"), None);
    assert_eq!(of(&bench.certificate_device).len(), 2);
    // An unknown certificate leaves the token in force.
    let token = secure(Some(&[9]), request(POST, TELEMETRY, r#"{"x":1}"#));
    assert_eq!(bench.code(&token), "2.01");
    assert_eq!(of(&bench.token_device).len(), 1);
}

#[test]
fn vector_5_paths_tokens_and_methods() {
    let bench = Bench::new();
    for (method, uri, expected) in [
        (POST, "/api/v1/WRONG/telemetry", "4.01"),
        (POST, "/api/v1/access01/telemetry", "4.01"),
        (POST, "/api/v1/WRONG/foo", "4.00"),
        (GET, TELEMETRY, "4.00"),
        (PUT, TELEMETRY, "4.05"),
        (GET, "/nope", "4.04"),
        (POST, "/api/v1", "4.00"),
        // The token is tested before the payload.
        (POST, "/api/v1/WRONG/attributes", "4.01"),
        // What is not there yet says so, to those who may ask.
        (POST, "/api/v1/ACCESS01/rpc/1", "2.01"),
        (POST, "/api/v1/ACCESS01/rpc/1/more", "2.01"),
        (POST, "/api/v1/WRONG/rpc/1", "4.01"),
        (GET, "/fw/ACCESS01", "4.04"),
        (GET, "/sw", "4.01"),
        (POST, "/efento/m", "4.00"),
        (GET, "/efento/t", "2.05"),
        (POST, "/api/v1/WRONG/rpc", "4.01"),
        (POST, "/api/v1/WRONG/claim", "4.01"),
        (GET, "/fw/WRONG", "4.01"),
        (GET, "/fw", "4.01"),
        // Discovery.
        (GET, "/", "2.05"),
        (GET, "/.well-known/core", "2.05"),
    ] {
        let code = bench.code(&request(method, uri, "{}"));
        assert_eq!(code, expected, "{method} {uri}");
    }
    let mut not_utf8 = request(POST, "/api/v1", "{}");
    not_utf8.message.push_segment(&[0xff]);
    not_utf8.message.push_segment(b"telemetry");
    assert_eq!(bench.code(&not_utf8), "4.01");
}

#[test]
fn vector_6_bodies_of_telemetry() {
    let bench = Bench::new();
    for (body, expected) in [
        ("", "4.00"),
        ("5", "4.00"),
        ("[1]", "4.00"),
        ("{\"a\":", "4.00"),
        ("{}", "2.01"),
        (r#"{"a":null}"#, "2.01"),
        (
            r#"{"ts":1451649600512,"values":{"key1":"value1","key2":true}}"#,
            "2.01",
        ),
        (r#"[{"x":1},{"ts":5,"values":{"b":2}}]"#, "2.01"),
        (r#"{"ts":1,"values":3}"#, "4.00"),
        (r#"{"ts":"x","values":{}}"#, "5.00"),
        (r#"{"s":"007"}"#, "2.01"),
        (r#"{"d":25.0}"#, "2.01"),
        (r#"{"n":9223372036854775808}"#, "2.01"),
        // Beyond the vector.
        ("[]", "2.01"),
        ("null", "4.00"),
        ("true", "4.00"),
        ("\"x\"", "4.00"),
        ("{\"a\":1}x", "4.00"),
        (r#"[{"x":2},5]"#, "4.00"),
        (r#"{"ts":null,"values":{}}"#, "5.00"),
        (r#"{"ts":true,"values":{}}"#, "5.00"),
        (r#"{"ts":"x","values":3}"#, "5.00"),
        (r#"{"ts":1e30,"values":{}}"#, "4.00"),
        (r#"{"big":1e999999999}"#, "4.00"),
        (r#"{"":1}"#, "4.00"),
    ] {
        assert_eq!(bench.post(TELEMETRY, body), expected, "{body}");
    }
    let now = i64::try_from(NOW).unwrap();
    assert_eq!(bench.stored("a"), None, "null is not stored");
    let text = |text: &str| Value::String(text.into());
    assert_eq!(
        bench.stored("key1"),
        Some((text("value1"), 1_451_649_600_512))
    );
    assert_eq!(
        bench.stored("key2"),
        Some((Value::Bool(true), 1_451_649_600_512))
    );
    // Not 2: the upload with a bad element left nothing.
    assert_eq!(bench.stored("x"), Some((Value::Long(1), now)));
    assert_eq!(bench.stored("b"), Some((Value::Long(2), 5)));
    assert_eq!(bench.stored("s"), Some((Value::Long(7), now)));
    assert_eq!(bench.stored("d"), Some((Value::Double(25.0), now)));
    assert_eq!(bench.stored("n"), Some((text("9223372036854775808"), now)));
    assert_eq!(bench.stored("big"), None);
}

#[test]
fn values_by_their_lexeme() {
    let bench = Bench::new();
    let now = i64::try_from(NOW).unwrap();
    let text = |text: &str| Value::String(text.into());
    for (written, expected) in [
        ("1e3", Value::Long(1000)),
        ("\"1e3\"", text("1e3")),
        ("\"25\"", Value::Long(25)),
        ("\"-2.50\"", Value::Double(-2.5)),
        ("\"25 \"", text("25 ")),
        ("0.12345678901234567", text("0.12345678901234567")),
        ("1.5e-7", Value::Double(1.5e-7)),
        ("007", Value::Long(7)),
        ("NaN", text("NaN")),
        ("TRUE", Value::Bool(true)),
        ("\"true\"", text("true")),
        ("\"\"", text("")),
        ("\"\\u00b0C\"", text("°C")),
        (
            "[1, {\"b\" : null}]",
            Value::Json("[1,{\"b\":null}]".into()),
        ),
    ] {
        let stored = bench.post(TELEMETRY, &format!("{{v:{written}}}"));
        assert_eq!(stored, "2.01", "{written}");
        assert_eq!(bench.stored("v"), Some((expected, now)), "{written}");
    }
    for refused in ["'it''s'", "{a:'x',}", "1 2", ""] {
        assert_eq!(
            bench.post(TELEMETRY, &format!("{{v:{refused}}}")),
            "4.00",
            "{refused}"
        );
    }
    // A device that sends Latin-1 keeps its reading.
    let mut latin1 = request(POST, TELEMETRY, "");
    latin1.message.set_payload(b"{\"v\":\"5 \xb0C\"}");
    assert_eq!(bench.code(&latin1), "2.01");
    assert_eq!(bench.stored("v"), Some((text("5 \u{fffd}C"), now)));
}

#[test]
fn timestamps() {
    let bench = Bench::new();
    for (ts, expected) in [
        ("5", Some(5)),
        ("\"6\"", Some(6)),
        ("-7", Some(-7)),
        ("1e3", Some(1000)),
        ("8.9", Some(8)),
        ("9.12345678901234567", Some(9)),
        ("9223372036854775807", Some(i64::MAX)),
        ("9223372036854775808", None),
        ("[5]", None),
        ("\"5.0\"", None),
    ] {
        let code = bench.post(TELEMETRY, &format!("{{ts:{ts},values:{{v:1}}}}"));
        assert_eq!(code == "2.01", expected.is_some(), "{ts}: {code}");
        if let Some(ts_ms) = expected {
            let only = HistoryQuery {
                from_ms: ts_ms,
                to_ms: ts_ms,
                ..HistoryQuery::default()
            };
            let device = bench.token_device.id;
            assert_eq!(
                bench.opened.store.history(device, "v", only).unwrap().len(),
                1,
                "{ts}"
            );
        }
    }
    // `ts` or `values` alone is an ordinary key.
    let now = i64::try_from(NOW).unwrap();
    assert_eq!(bench.post(TELEMETRY, "{ts:1,w:2}"), "2.01");
    assert_eq!(bench.stored("ts"), Some((Value::Long(1), now)));
    assert_eq!(bench.post(TELEMETRY, "{values:{a:1}}"), "2.01");
    assert_eq!(
        bench.stored("values"),
        Some((Value::Json("{\"a\":1}".into()), now))
    );
}

#[test]
fn settings_of_the_dialect() {
    let strict = Bench::with(ApiSettings {
        type_cast: false,
        string_value_length_max: 3,
        ..ApiSettings::default()
    });
    for (body, expected) in [
        (r#"{"v":"25"}"#, "2.01"),
        (r#"{"v":9223372036854775808}"#, "4.00"),
        (r#"{"v":0.12345678901234567}"#, "4.00"),
        (r#"{"v":"abcd"}"#, "4.00"),
        (r#"{"v":"äöü"}"#, "2.01"),
        (r#"{"v":"😀a"}"#, "2.01"),
        (r#"{"v":"😀ab"}"#, "4.00"),
    ] {
        assert_eq!(strict.post(TELEMETRY, body), expected, "{body}");
        assert_eq!(strict.post(ATTRIBUTES, body), expected, "{body}");
    }
    assert_eq!(strict.post(TELEMETRY, r#"{"v":"25"}"#), "2.01");
    assert_eq!(strict.stored("v").unwrap().0, Value::String("25".into()));
}

#[test]
fn sizes_are_bounded() {
    let bench = Bench::new();
    let long_key = format!("{{\"{}\":1}}", "k".repeat(256));
    assert_eq!(bench.post(TELEMETRY, &long_key), "4.00");
    assert_eq!(bench.post(ATTRIBUTES, &long_key), "4.00");
    let large = format!("{{\"v\":\"{}\"}}", "x".repeat(payload::PAYLOAD_BYTES_MAX));
    assert_eq!(bench.post(TELEMETRY, &large), "4.13");
    let deep = format!("{{v:{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(bench.post(TELEMETRY, &deep), "4.00");
}

#[test]
fn vector_7_bodies_of_attributes() {
    let bench = Bench::new();
    for (body, expected) in [
        (r#"{"a":1}"#, "2.01"),
        (r#"[{"a":1}]"#, "4.00"),
        ("", "4.00"),
        ("5", "4.00"),
        ("{}", "2.01"),
        (r#"{"n":null}"#, "2.01"),
        // No timestamps here.
        (r#"{"ts":1,"values":{"b":2}}"#, "2.01"),
    ] {
        assert_eq!(bench.post(ATTRIBUTES, body), expected, "{body}");
    }
    let scope = AttributeScope::Client;
    let stored = bench
        .opened
        .store
        .attributes(bench.token_device.id, scope, None)
        .unwrap();
    let found: Vec<_> = stored.iter().map(|a| (&*a.key, a.value.as_ref())).collect();
    assert_eq!(
        found,
        [
            ("a", ValueRef::Long(1)),
            ("ts", ValueRef::Long(1)),
            ("values", ValueRef::Json("{\"b\":2}")),
        ]
    );
    assert!(
        stored
            .iter()
            .all(|a| a.updated_ms == i64::try_from(NOW).unwrap())
    );
}

#[test]
fn vector_8_reading_attributes() {
    let bench = Bench::new();
    let read = |query: &str| {
        let answer = bench.answer(&request(GET, &format!("{ATTRIBUTES}{query}"), ""));
        assert_eq!(answer.content_format, Some(50));
        format!(
            "{} {}",
            code_text(answer.code),
            String::from_utf8(answer.payload).unwrap()
        )
    };
    assert_eq!(read(""), "4.04 ");
    assert_eq!(read("?clientKeys=a,b&sharedKeys=c"), "4.04 ");
    assert_eq!(bench.post(ATTRIBUTES, r#"{"a":1}"#), "2.01");
    assert_eq!(read(""), r#"2.05 {"client":{"a":1}}"#);
    let mut shared = Batch::new();
    let id = bench.token_device.id;
    shared
        .push_attribute(id, AttributeScope::Shared, "c", 1, ValueRef::Bool(true))
        .unwrap();
    shared
        .push_attribute(id, AttributeScope::Server, "s", 1, ValueRef::Bool(true))
        .unwrap();
    let (sender, receiver) = mpsc::channel();
    let done = move |_: Result<(), &StoreError>| sender.send(()).unwrap();
    bench
        .opened
        .store
        .append(shared, Box::new(done))
        .ok()
        .unwrap();
    receiver.recv().unwrap();

    let both = r#"2.05 {"client":{"a":1},"shared":{"c":true}}"#;
    let client = r#"2.05 {"client":{"a":1}}"#;
    let shared = r#"2.05 {"shared":{"c":true}}"#;
    for (query, expected) in [
        ("?clientKeys=a,b&sharedKeys=c", both),
        ("?clientKeys=a", client),
        ("?sharedKeys=c", shared),
        ("", both),
        ("?sharedKeys=nope", "4.04 "),
        ("?clientKeys=nope&sharedKeys=c", shared),
        // Not of the form name=value: as if absent.
        ("?clientKeys", both),
        ("?clientKeys=", both),
        ("?clientKeys=a=b", both),
        ("?clientkeys=a", both),
        ("?other=a", both),
        ("?clientKeys=&sharedKeys=c", shared),
        // The last one counts.
        ("?clientKeys=nope&clientKeys=a", client),
        ("?clientKeys=a&clientKeys=nope", "4.04 "),
        ("?clientKeys=a&clientKeys=x=y", client),
        ("?clientKeys=,a,,", client),
        ("?clientKeys=s&sharedKeys=s", "4.04 "),
    ] {
        assert_eq!(read(query), expected, "{query}");
    }
    // Two lists in one option are one option with a second `=`.
    let mut joined = request(GET, ATTRIBUTES, "");
    joined.message.push_query(b"clientKeys=a&sharedKeys=nope");
    assert_eq!(bench.answer(&joined).payload, &both.as_bytes()[5..]);
    // The answer has the format of the request (TB section 7.9).
    let mut other_format = request(GET, ATTRIBUTES, "");
    other_format.message.content_format = Some(11542);
    assert_eq!(bench.answer(&other_format).content_format, Some(11542));
    // Who cancels an observation is answered as to a plain GET (RFC 7641 section 3.6).
    let mut cancelling = request(GET, ATTRIBUTES, "");
    cancelling.message.observe = Some(1);
    let answer = bench.answer(&cancelling);
    assert_eq!(answer.payload, &both.as_bytes()[5..]);
    assert_eq!(answer.relation, None);
}

#[test]
fn attribute_values_print_as_in_java() {
    let bench = Bench::new();
    let body = r#"{a:42.0,b:1.5e-7,c:12345678.9,d:"q\"\n",e:{"x":[1.0,null]},f:false,g:-5}"#;
    assert_eq!(bench.post(ATTRIBUTES, body), "2.01");
    let answer = bench.answer(&request(GET, ATTRIBUTES, ""));
    assert_eq!(
        String::from_utf8(answer.payload).unwrap(),
        r#"{"client":{"a":42.0,"b":1.5E-7,"c":1.23456789E7,"d":"q\"\n","e":{"x":[1.0,null]},"f":false,"g":-5}}"#
    );
}

#[test]
fn a_credential_ends_with_its_change() {
    let bench = Bench::new();
    let reading = || request(POST, TELEMETRY, "{a:1}");
    assert_eq!(bench.code(&reading()), "2.01");
    let new = NewCredential::AccessToken("OTHER".into());
    bench.opened.registry.set_credential("token", new).unwrap();
    assert_eq!(bench.code(&reading()), "4.01");
    assert_eq!(bench.post("/api/v1/OTHER/telemetry", "{a:1}"), "2.01");
    // A session that proved the certificate long ago does not outlive it.
    let by_certificate = || {
        secure(
            Some(CERTIFICATE),
            request(POST, "/api/v1/telemetry", "{a:1}"),
        )
    };
    assert_eq!(bench.code(&by_certificate()), "2.01");
    bench.opened.registry.remove("cert").unwrap();
    assert_eq!(bench.code(&by_certificate()), "4.01");
}

/// A pre-shared key identifies its device as a certificate does (TB section 3.6), token devices'
/// paths included, and over DTLS only.
#[test]
fn a_session_with_a_pre_shared_key_is_its_devices() {
    use crate::crypto::pre_shared_key::psk_identity_hash;

    let bench = Bench::new();
    let credential = NewCredential::PreSharedKey {
        identity: "valve".into(),
        key: None,
    };
    bench
        .opened
        .registry
        .set_credential("cert", credential)
        .unwrap();
    let hash = psk_identity_hash(b"valve");
    assert!(bench.api.pre_shared_key(&hash).is_some());
    let by_key = |secure, path| Request {
        identity: Identity::PreSharedKey(hash),
        secure,
        ..request(POST, path, "{a:1}")
    };
    assert_eq!(bench.code(&by_key(true, "/api/v1/telemetry")), "2.01");
    assert_eq!(bench.code(&by_key(true, TELEMETRY)), "2.01");
    let query = || HistoryQuery {
        from_ms: i64::MIN,
        to_ms: i64::MAX,
        ..HistoryQuery::default()
    };
    let stored = |device: &Device| {
        let history = bench.opened.store.history(device.id, "a", query());
        history.unwrap().len()
    };
    assert_eq!(stored(&bench.token_device), 0);
    assert_eq!(stored(&bench.certificate_device), 1, "both at one time");
    assert_eq!(bench.code(&by_key(false, "/api/v1/telemetry")), "4.01");
    bench.opened.registry.remove("cert").unwrap();
    assert_eq!(bench.code(&by_key(true, "/api/v1/telemetry")), "4.01");
    assert_eq!(bench.api.pre_shared_key(&hash), None);
}

/// Whatever the shards spare a peer for having been answered 2.xx, a stranger does not get it for these.
#[test]
fn what_anybody_may_ask_proves_nobody() {
    let bench = Bench::new();
    for path in ["/", "/.well-known/core", "/efento/t"] {
        let answer = bench.answer(&request(GET, path, ""));
        assert_eq!((answer.code, answer.is_public), (0x45, true), "{path}");
    }
    let reading = bench.answer(&request(POST, "/api/v1/ACCESS01/telemetry", "{a:1}"));
    assert_eq!((reading.code, reading.is_public), (0x41, false));
}
