//! Protobuf profiles (thingsboard-coap, section 7.8) at the running server, both ways: vector 18, and
//! what devices are told and asked, on plain CoAP and over DTLS, byte for byte.

use serde_json::{Value, json};

use super::support::{Link, Server, hex};

/// Uri-Path api, v1, ACCESS01.
const BASE: &str = "b3617069 027631 084143434553533031";
const OBSERVED: &str = "53617069 027631 084143434553533031";
const ATTRIBUTES: &str = "0a61747472696275746573";
const RPC: &str = "03727063";

const READING: &str = "syntax = \"proto3\";
message Reading { int64 ts = 1; Values values = 2;
  message Values { optional int32 t = 1; optional string s = 2; } }";
const STATE: &str = "syntax = \"proto3\"; message State { optional string version = 1; }";
const CALL: &str = "syntax = \"proto3\";
message Call { optional string method = 1; optional int32 requestId = 2; Params params = 3;
  message Params { optional string pin = 1; optional int32 value = 2; } }";
const REPLY: &str = "syntax = \"proto3\"; message Reply { string value1 = 1; bool done = 2; }";

fn on_each_link(own_calls: bool, test: impl Fn(&Server, &mut Link)) {
    for secure in [false, true] {
        let server = Server::start(&[]);
        for (name, text) in [
            ("reading.proto", READING),
            ("state.proto", STATE),
            ("call.proto", CALL),
            ("reply.proto", REPLY),
        ] {
            std::fs::write(server.path(name), text).unwrap();
        }
        let mut fields = vec![
            "payloadType=PROTOBUF",
            "protoSchemas.telemetry=@reading.proto",
            "protoSchemas.attributes=@state.proto",
        ];
        if own_calls {
            fields.push("protoSchemas.rpcRequest=@call.proto");
            fields.push("protoSchemas.rpcResponse=@reply.proto");
        }
        server.tidegate_ok(&[&["profile", "add", "meter"][..], &fields].concat());
        let add = ["device", "add", "vector", "--token", "ACCESS01"];
        server.tidegate_ok(&[&add[..], &["--profile", "meter"]].concat());
        let mut link = if secure {
            Link::anonymous(&server)
        } else {
            Link::plain(&server)
        };
        test(&server, &mut link);
    }
}

fn message(code: u8, message_id: u16, path: &str, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0x44, code];
    message.extend_from_slice(&message_id.to_be_bytes());
    message.extend_from_slice(&hex("deadbeef"));
    message.extend_from_slice(&hex(path));
    if !body.is_empty() {
        message.push(0xff);
        message.extend_from_slice(body);
    }
    message
}

fn post(message_id: u16, path: &str, body: &[u8]) -> Vec<u8> {
    message(0x02, message_id, path, body)
}

/// The next message, a confirmable one, which is acknowledged; without type, token and Message ID.
#[track_caller]
fn notified(link: &mut Link) -> Vec<u8> {
    let message = link.receive().expect("a notification");
    assert_eq!(message[0], 0x44, "{message:02x?}");
    link.send(&[0x60, 0x00, message[2], message[3]]);
    [&message[1..2], &message[8..]].concat()
}

/// `bytes` without the time of each TsKv, which has to be of this century.
#[track_caller]
fn without_time(bytes: &[u8], at: usize) -> Vec<u8> {
    assert_eq!(bytes[at], 0x08, "a time at {at}: {bytes:02x?}");
    let length = bytes[at + 1..].iter().take_while(|byte| **byte >= 0x80);
    let end = at + 2 + length.count();
    assert_eq!(end - at, 7, "milliseconds of this century");
    [&bytes[..at], &bytes[end..]].concat()
}

#[test]
fn vector_18_attributes_are_observed() {
    on_each_link(false, |server, link| {
        let observe = hex(&format!("44011238deadbeef 60 {OBSERVED} {ATTRIBUTES}"));
        let first = link.exchange(&observe).expect("an answer");
        assert_eq!(first, hex("64451238deadbeef 60 612a"), "no payload");
        server.tidegate_ok(&["attr", "set", "vector", "led=true"]);
        let told = without_time(&notified(link), 8);
        // 2.05, Observe 1, CF 42; sharedUpdated { kv { "led", BOOL (0, so not there), true } }
        let expected = hex("45 6101 612a ff 0a10 1207 0a036c6564 1801");
        assert_eq!(told, expected);
        server.tidegate_ok(&["attr", "delete", "vector", "led"]);
        assert_eq!(notified(link), hex("45 6102 612a ff 12036c6564"));
        // The profile changes under the live subscription.
        server.tidegate_ok(&["profile", "set", "meter", "payloadType=JSON"]);
        server.tidegate_ok(&["attr", "set", "vector", "led=1"]);
        let json = [&hex("45 6103 6132 ff")[..], b"{\"led\":1}"].concat();
        assert_eq!(notified(link), json);
        server.tidegate_ok(&["profile", "set", "meter", "payloadType=PROTOBUF"]);
        let path = format!("{BASE} {ATTRIBUTES}");
        let answer = link.exchange(&message(0x01, 0x1804, &path, b"")).unwrap();
        assert_eq!(answer[..11], hex("64451804deadbeef c12a ff"));
        let read = without_time(&answer[11..], 2);
        // sharedAttributeList { kv { "led", LONG 1 } }
        assert_eq!(read, hex("1a12 1209 0a036c6564 1001 2001"));
    });
}

#[test]
fn uploads_by_schema() {
    on_each_link(false, |server, link| {
        let telemetry = format!("{BASE} 0974656c656d65747279");
        let sent = hex("0805 1204 0819 1200");
        let answer = link.exchange(&post(0x1900, &telemetry, &sent));
        assert_eq!(answer, Some(hex("64411900deadbeef")));
        assert_eq!(server.latest("vector")["t"], json!({"ts": 5, "value": 25}));
        let torn = link.exchange(&post(0x1901, &telemetry, &hex("0805 1209 08")));
        assert_eq!(torn, Some(hex("64801901deadbeef")));
    });
}

#[test]
fn calls_to_the_device_by_the_profile_s_schemas() {
    on_each_link(true, |server, link| {
        let observe = hex(&format!("4401123adeadbeef 60 {OBSERVED} {RPC}"));
        assert_eq!(link.exchange(&observe), Some(hex("6443123adeadbeef 60")));
        let path = "/api/devices/vector/rpc";
        let (status, body) = server.api("POST", path, r#"{"method":"m","params":{"x":1}}"#);
        assert_eq!(status, 400, "the schema has no x: {body}");
        std::thread::scope(|scope| {
            let call = scope.spawn(|| {
                let body = r#"{"method":"setGpio","params":{"pin":"26","value":1}}"#;
                server.api("POST", path, body)
            });
            // Number 0 is present, as the schema has it optional.
            let expected = hex("45 6101 612a ff 0a077365744770696f 1000 1a06 0a023236 1001");
            assert_eq!(notified(link), expected);
            let reply = format!("{BASE} {RPC} 0130");
            let torn = link.exchange(&post(0x1300, &reply, &hex("0a0941")));
            assert_eq!(torn, Some(hex("64801300deadbeef")));
            let answered = link.exchange(&post(0x1301, &reply, &hex("0a0141")));
            assert_eq!(answered, Some(hex("64411301deadbeef")));
            let (status, body) = call.join().unwrap();
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!((status, body), (200, json!({"value1": "A", "done": false})));
        });
    });
}

#[test]
fn calls_of_the_device() {
    on_each_link(false, |server, link| {
        let path = format!("{BASE} {RPC}");
        // RpcRequest { method: "getTime", params: "{}" }
        link.send(&post(0x1400, &path, &hex("0a0767657454696d65 12027b7d")));
        let (status, offered) = server.api("GET", "/api/rpc/requests", "");
        assert_eq!(status, 200, "{offered}");
        let offered: Value = serde_json::from_str(&offered).unwrap();
        assert_eq!(offered[0]["method"], "getTime");
        let answer = format!("/api/rpc/requests/{}", offered[0]["id"]);
        let (status, body) = server.api("POST", &answer, r#"{"reply":{"time":5}}"#);
        assert_eq!(status, 204, "{body}");
        let told = link.receive().expect("an answer");
        // CF 42; payload = 2
        let expected = [&hex("c12a ff 120a")[..], b"{\"time\":5}"].concat();
        assert_eq!((told[1], &told[8..]), (0x45, &expected[..]));
        let torn = link.exchange(&post(0x1401, &path, &hex("0a0967")));
        assert_eq!(torn, Some(hex("64801401deadbeef")));
    });
}

#[test]
fn calls_count_as_messages() {
    let server = Server::start(&[]);
    server.tidegate_ok(&["device", "add", "vector", "--token", "ACCESS01"]);
    let limit = "rateLimits.messages=2:600";
    server.tidegate_ok(&["profile", "set", "default", limit]);
    let mut link = Link::anonymous(&server);
    let reply = format!("{BASE} {RPC} 0130");
    for (message_id, code) in [(0x1500, 0x41), (0x1501, 0x41), (0x1502, 0x9d)] {
        let answer = link.exchange(&post(message_id, &reply, b"{}")).unwrap();
        assert_eq!(answer[1], code);
    }
    let call = post(0x1503, &format!("{BASE} {RPC}"), b"{method:m}");
    assert_eq!(link.exchange(&call).unwrap()[1], 0x9d);
    // Readings have limits of their own.
    let telemetry = format!("{BASE} 0974656c656d65747279");
    let reading = link.exchange(&post(0x1504, &telemetry, b"{t:1}")).unwrap();
    assert_eq!(reading[1], 0x41);
}
