//! The conformance vectors 9 to 12 (thingsboard-coap, section 10) at the running server: what devices
//! observe, and calls of both directions, on plain CoAP and over DTLS.

use serde_json::{Value, json};

use super::support::{Link, Server, hex};

const TOKEN: &str = "ACCESS01";
/// Vector 9: CON GET attributes, Observe 0, Message ID 1238, token deadbeef.
const OBSERVE_ATTRIBUTES: &str = "44011238deadbeef 60 53617069 027631 084143434553533031 \
                                  0a61747472696275746573";
/// Vector 10: the same with Observe 1, Message ID 1239.
const CANCEL_ATTRIBUTES: &str = "44011239deadbeef 6101 53617069 027631 084143434553533031 \
                                 0a61747472696275746573";
/// Vector 11: GET rpc, Observe 0, Message ID 123a.
const OBSERVE_RPC: &str = "4401123adeadbeef 60 53617069 027631 084143434553533031 03727063";
/// Uri-Path api, v1, ACCESS01, rpc.
const RPC: &str = "b3617069 027631 084143434553533031 03727063";

/// Runs a test on a device's link of each kind, each with a server of its own.
fn on_each_link(test: impl Fn(&Server, &mut Link)) {
    for secure in [false, true] {
        let server = Server::start(&[]);
        server.tidegate_ok(&["device", "add", "vector", "--token", TOKEN]);
        let mut link = if secure {
            Link::anonymous(&server)
        } else {
            Link::plain(&server)
        };
        test(&server, &mut link);
    }
}

/// The next message, a confirmable one, which is acknowledged; without type, token and Message ID.
#[track_caller]
fn notified(link: &mut Link) -> Vec<u8> {
    let message = link.receive().expect("a notification");
    assert_eq!(
        message[0], 0x44,
        "CON with a token of 4 bytes: {message:02x?}"
    );
    link.send(&[0x60, 0x00, message[2], message[3]]);
    assert_eq!(message[4..8], hex("deadbeef"));
    [&message[1..2], &message[8..]].concat()
}

/// 2.05 with these options and this body.
fn content(options: &str, body: &str) -> Vec<u8> {
    [&[0x45], &hex(options)[..], b"\xff", body.as_bytes()].concat()
}

fn post(message_id: u16, path: &str, body: &str) -> Vec<u8> {
    let mut message = vec![0x44, 0x02];
    message.extend_from_slice(&message_id.to_be_bytes());
    message.extend_from_slice(&hex("deadbeef"));
    message.extend_from_slice(&hex(path));
    message.push(0xff);
    message.extend_from_slice(body.as_bytes());
    message
}

#[test]
fn vector_9_attributes_are_observed() {
    on_each_link(|server, link| {
        let first = link.exchange(&hex(OBSERVE_ATTRIBUTES)).expect("an answer");
        assert_eq!(first, hex("64451238deadbeef 60 6132 ff7b7d"));
        server.tidegate_ok(&["attr", "set", "vector", "led=true"]);
        assert_eq!(notified(link), content("6101 6132", r#"{"led":true}"#));
        server.tidegate_ok(&["attr", "delete", "vector", "led"]);
        assert_eq!(
            notified(link),
            content("6102 6132", r#"{"deleted":["led"]}"#)
        );
        // Other scopes are not told of.
        server.tidegate_ok(&["attr", "set", "vector", "--scope", "server", "x=1"]);
        server.tidegate_ok(&["attr", "set", "vector", "y=1"]);
        let last = link.receive().expect("a notification");
        assert_eq!(last[8..], content("6103 6132", r#"{"y":1}"#)[1..]);
        // RST: no further messages.
        link.send(&[0x70, 0x00, last[2], last[3]]);
        server.tidegate_ok(&["attr", "set", "vector", "z=1"]);
        assert_eq!(link.receive_soon(), None);
    });
}

#[test]
fn vector_10_a_cancelled_subscription_is_silent() {
    on_each_link(|server, link| {
        link.exchange(&hex(OBSERVE_ATTRIBUTES)).expect("an answer");
        let answer = link.exchange(&hex(CANCEL_ATTRIBUTES)).expect("an answer");
        // As to a plain GET, which finds nothing (TB section 6).
        assert_eq!(answer, hex("64841239deadbeef c132"));
        server.tidegate_ok(&["attr", "set", "vector", "led=true"]);
        assert_eq!(link.receive_soon(), None);
    });
}

#[test]
fn vector_11_the_operator_calls_the_device() {
    on_each_link(|server, link| {
        let (status, _) = server.api("POST", "/api/devices/vector/rpc", r#"{"method":"m"}"#);
        assert_eq!(status, 504, "nobody observes");
        let first = link.exchange(&hex(OBSERVE_RPC)).expect("an answer");
        assert_eq!(first, hex("6443123adeadbeef 60"));
        let reply = r#"{"value1":"A","value2":"B"}"#;
        std::thread::scope(|scope| {
            let call = scope.spawn(|| {
                let body = r#"{"method":"setGpio","params":{"pin":"26","value":1}}"#;
                server.api("POST", "/api/devices/vector/rpc", body)
            });
            // Number 0 was the call that nobody took.
            let message = r#"{"id":1,"method":"setGpio","params":{"pin":"26","value":1}}"#;
            assert_eq!(notified(link), content("6101 6132", message));
            for no_object in ["5", "{"] {
                let refused = post(0x1300, &format!("{RPC} 0131"), no_object);
                assert_eq!(link.exchange(&refused), Some(hex("64a01300deadbeef")));
            }
            let answer = post(0x1301, &format!("{RPC} 0131"), reply);
            assert_eq!(link.exchange(&answer), Some(hex("64411301deadbeef")));
            assert_eq!(call.join().unwrap(), (200, reply.to_owned()));
        });
        let stale = post(0x1302, &format!("{RPC} 03393939"), "{}");
        assert_eq!(link.exchange(&stale), Some(hex("64411302deadbeef")));
        // One-way, from the shell.
        server.tidegate_ok(&["rpc", "send", "vector", "reboot", "--one-way"]);
        let message = r#"{"id":2,"method":"reboot","params":{}}"#;
        assert_eq!(notified(link), content("6102 6132", message));
    });
}

#[test]
fn a_persistent_call_outlives_a_restart() {
    let mut server = Server::start(&[]);
    server.tidegate_ok(&["device", "add", "vector", "--token", TOKEN]);
    let kept = server.tidegate_ok(&[
        "rpc",
        "--json",
        "send",
        "vector",
        "update",
        "[1, 2]",
        "--persistent",
        "--timeout-ms",
        "3600000",
    ]);
    assert_eq!(kept, "{\"rpcId\":0}\n");
    server.kill();
    server.spawn();
    let mut link = Link::anonymous(&server);
    assert_eq!(
        link.exchange(&hex(OBSERVE_RPC)),
        Some(hex("6443123adeadbeef 60"))
    );
    let message = r#"{"id":0,"method":"update","params":[1,2]}"#;
    assert_eq!(notified(&mut link), content("6101 6132", message));
    let answer = post(0x1301, &format!("{RPC} 0130"), "{done:true}");
    assert_eq!(link.exchange(&answer), Some(hex("64411301deadbeef")));
    // The reply was acknowledged, so it is there whatever happens.
    server.kill();
    server.spawn();
    let shown = server.tidegate_ok(&["rpc", "show", "vector", "0"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["state"], "SUCCESSFUL");
    assert_eq!(shown["response"], json!({"done": true}));
    let listed = server.tidegate_ok(&["rpc", "list", "vector"]);
    assert!(listed.contains("SUCCESSFUL"), "{listed}");
    server.tidegate_ok(&["rpc", "delete", "vector", "0"]);
    let listed = server.tidegate_ok(&["rpc", "list", "vector"]);
    assert!(listed.contains("no calls"), "{listed}");
}

#[test]
fn vector_12_the_device_calls_and_a_program_answers() {
    on_each_link(|server, link| {
        let plain = hex("44011400deadbeef b3617069 027631 084143434553533031 03727063");
        assert_eq!(link.exchange(&plain), Some(hex("64801400deadbeef")));
        let empty = post(0x1401, RPC, "{}");
        assert_eq!(link.exchange(&empty), Some(hex("64a01401deadbeef")));
        std::thread::scope(|scope| {
            let program = scope.spawn(|| {
                let (status, offered) = server.api("GET", "/api/rpc/requests", "");
                assert_eq!(status, 200, "{offered}");
                let offered: Value = serde_json::from_str(&offered).unwrap();
                assert_eq!(offered[0]["device"], "vector");
                assert_eq!(offered[0]["method"], "getTime");
                let path = format!("/api/rpc/requests/{}", offered[0]["id"]);
                let reply = r#"{"reply":{"time":1}}"#;
                assert_eq!(server.api("POST", &path, reply).0, 204);
                assert_eq!(server.api("POST", &path, reply).0, 404, "once only");
            });
            link.send(&post(0x1402, RPC, r#"{"method":"getTime","params":{}}"#));
            let answer = link.receive().expect("an answer");
            assert_eq!(answer[1], 0x45);
            let body = content("c132", r#"{"time":1}"#);
            assert_eq!(answer[8..], body[1..]);
            program.join().unwrap();
        });
    });
}

#[test]
fn a_call_of_a_device_that_nobody_answers_ends_with_5_04() {
    let server = Server::start(&[("COAP_TIMEOUT", "1000")]);
    server.tidegate_ok(&["device", "add", "vector", "--token", TOKEN]);
    let mut link = Link::plain(&server);
    let call = post(0x1402, RPC, r#"{"method":"getTime"}"#);
    assert_eq!(link.exchange(&call), Some(hex("64a41402deadbeef")));
}

/// RFC 7252 section 5.2.2: the request is acknowledged first, the response is a message of its own.
#[test]
fn an_answer_that_takes_longer_than_the_piggyback_timeout_is_separate() {
    let server = Server::start(&[("COAP_TIMEOUT", "1000"), ("COAP_PIGGYBACK_TIMEOUT", "1")]);
    server.tidegate_ok(&["device", "add", "vector", "--token", TOKEN]);
    for mut link in [Link::plain(&server), Link::anonymous(&server)] {
        let call = post(0x1402, RPC, r#"{"method":"getTime"}"#);
        assert_eq!(link.exchange(&call), Some(hex("60001402")));
        let response = link.receive().expect("a response");
        assert_eq!(response[..2], hex("44a4"), "confirmable, 5.04");
        assert_eq!(response[4..], hex("deadbeef"), "the request's token");
        link.send(&[0x60, 0x00, response[2], response[3]]);
    }
}

#[test]
fn a_second_observer_ends_the_first_with_one_message_without_observe() {
    let server = Server::start(&[]);
    server.tidegate_ok(&["device", "add", "vector", "--token", TOKEN]);
    let (mut first, mut second) = (Link::plain(&server), Link::anonymous(&server));
    first.exchange(&hex(OBSERVE_ATTRIBUTES)).expect("an answer");
    second
        .exchange(&hex(OBSERVE_ATTRIBUTES))
        .expect("an answer");
    assert_eq!(notified(&mut first), [0x42], "2.02, no option");
    server.tidegate_ok(&["attr", "set", "vector", "led=true"]);
    let expected = content("6101 6132", r#"{"led":true}"#);
    assert_eq!(notified(&mut second), expected);
    assert_eq!(first.receive_soon(), None);
}

#[test]
fn a_changed_credential_ends_the_subscription() {
    let server = Server::start(&[]);
    server.tidegate_ok(&["device", "add", "vector", "--token", TOKEN]);
    let mut link = Link::plain(&server);
    link.exchange(&hex(OBSERVE_ATTRIBUTES)).expect("an answer");
    server.tidegate_ok(&["device", "set-credentials", "vector", "--token", "OTHER"]);
    assert_eq!(notified(&mut link), [0x42]);
    server.tidegate_ok(&["attr", "set", "vector", "led=true"]);
    assert_eq!(link.receive_soon(), None);
    let again = OBSERVE_ATTRIBUTES.replace("1238", "1500");
    let refused = link.exchange(&hex(&again)).expect("an answer");
    assert_eq!(refused, hex("64811500deadbeef"), "the old token is unknown");
}

#[test]
fn a_device_is_shown_with_its_activity() {
    let server = Server::start(&[("TB_TRANSPORT_SESSIONS_REPORT_TIMEOUT", "100")]);
    server.tidegate_ok(&["device", "add", "vector", "--token", TOKEN]);
    let shown = || -> Value {
        let (status, body) = server.api("GET", "/api/devices/vector", "");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    };
    assert_eq!(
        shown()["activity"],
        json!({"active": false, "observes": []})
    );
    let mut link = Link::plain(&server);
    link.exchange(&hex(OBSERVE_ATTRIBUTES)).expect("an answer");
    let activity = shown()["activity"].clone();
    assert_eq!(activity["active"], true);
    assert!(activity["lastActivityTime"].as_u64().unwrap() > 1_700_000_000_000);
    assert!(activity["lastConnectTime"].is_u64());
    assert_eq!(activity["observes"], json!(["attributes"]));
    let printed = server.tidegate_ok(&["device", "show", "vector"]);
    assert!(printed.contains("state          active"), "{printed}");
}
