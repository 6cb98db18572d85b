//! What an operator is told by the shell when devices are called, call, and are claimed.

use std::time::Duration;

use serde_json::{Value, json};

use super::support::{Link, Server, hex};

/// `GET rpc` of token ACCESS01, with Observe.
fn observe_calls() -> Vec<u8> {
    hex("44012100deadbeef 60 53617069 027631 084143434553533031 03727063")
}

/// A server whose calls end soon, with a token device.
fn server() -> Server {
    let server = Server::start(&[("MIN_SERVER_SIDE_RPC_TIMEOUT", "100")]);
    server.tidegate_ok(&["device", "add", "d-1", "--token", "ACCESS01"]);
    server
}

/// What a command that is refused says.
fn refused(server: &Server, arguments: &[&str]) -> String {
    let output = server.tidegate(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn a_call_that_fails_says_how_far_it_came() {
    let server = server();
    let call = ["rpc", "send", "d-1", "m", "--timeout-ms", "300"];
    let nobody = refused(&server, &call);
    assert!(nobody.contains("it does not observe its calls"), "{nobody}");

    let mut device = Link::plain(&server);
    assert_eq!(
        device.exchange(&observe_calls()).expect("an answer")[1],
        0x43
    );
    let shown = server.tidegate_ok(&["device", "show", "d-1"]);
    assert!(shown.contains("observes       rpc"), "{shown}");
    let unacknowledged = refused(&server, &call);
    assert!(
        unacknowledged.contains("did not acknowledge"),
        "{unacknowledged}"
    );

    let calls = std::thread::scope(|scope| {
        let unanswered = scope.spawn(|| refused(&server, &call));
        let mut told = Vec::new();
        while told.len() < 2 {
            let message = device.receive().expect("a call");
            if message[0] & 0x30 == 0 {
                device.send(&[0x60, 0, message[2], message[3]]);
                told.push(message);
            }
        }
        (unanswered.join().expect("the shell"), told)
    });
    assert!(
        calls
            .0
            .contains("has gone to the device, which did not answer"),
        "{}",
        calls.0
    );
}

#[test]
fn who_is_active_and_the_session_of_an_observer_are_shown() {
    let server = server();
    server.tidegate_ok(&["device", "add", "d-2", "--token", "ACCESS02"]);
    let mut device = Link::anonymous(&server);
    assert_eq!(
        device.exchange(&observe_calls()).expect("an answer")[1],
        0x43
    );
    let list = server.tidegate_ok(&["device", "list"]);
    let state = |name: &str| {
        list.lines()
            .find(|line| line.starts_with(name))
            .expect(&list)
    };
    assert!(state("NAME").contains("  STATE     ADDED"), "{list}");
    assert!(state("d-1").contains("  active    20"), "{list}");
    assert!(state("d-2").contains("  inactive  20"), "{list}");

    let sessions = server.tidegate_ok(&["session", "list", "--device", "d-1", "--json"]);
    let session: Value = serde_json::from_str(&sessions).expect("one session");
    assert_eq!(session["device"], "d-1");
    assert_eq!(session["identity"], "anonymous");
    let none = server.tidegate_ok(&["session", "list", "--device", "d-2", "--json"]);
    assert_eq!(none, "");
    server.tidegate_ok(&["session", "close", session["id"].as_str().expect("an id")]);
    let none = server.tidegate_ok(&["session", "list", "--device", "d-1", "--json"]);
    assert_eq!(none, "");
}

#[test]
fn a_device_provisions_itself_again_once_its_state_is_deleted() {
    let server = server();
    server.tidegate_ok(&[
        "profile",
        "add",
        "p",
        "provisioning.strategy=CHECK_PRE_PROVISIONED_DEVICES",
        "provisioning.key=k",
        "provisioning.secret=s",
    ]);
    server.tidegate_ok(&["device", "set", "d-1", "profile=p"]);
    let mut link = Link::plain(&server);
    let mut number = 0;
    let mut provision = || {
        let mut message = hex("44022400deadbeef b3617069 027631 0970726f766973696f6e ff");
        message[3] = number;
        number += 1;
        message.extend_from_slice(
            br#"{"provisionDeviceKey":"k","provisionDeviceSecret":"s","deviceName":"d-1"}"#,
        );
        link.exchange(&message).expect("an answer")[1]
    };
    assert_eq!((provision(), provision()), (0x41, 0x80), "once");
    server.tidegate_ok(&[
        "attr",
        "delete",
        "d-1",
        "--scope",
        "server",
        "provisionState",
    ]);
    assert_eq!((provision(), provision()), (0x41, 0x80), "once more");
    server.tidegate_ok(&["device", "set", "d-1", "provisioned=false"]);
    let left = server.tidegate_ok(&["attr", "get", "d-1", "--scope", "server"]);
    assert!(!left.contains("provisionState"), "{left}");
    assert_eq!(provision(), 0x41);
}

#[test]
fn a_kept_call_is_kept_for_a_day_or_as_long_as_is_said() {
    let server = server();
    let kept = server.tidegate_ok(&["rpc", "send", "d-1", "m", "--persistent"]);
    assert!(kept.starts_with("kept as call 0 until 20"), "{kept}");
    let minute = ["--persistent", "--timeout-ms", "60000"];
    server.tidegate_ok(&[&["rpc", "send", "d-1", "m"], &minute[..]].concat());
    let lasts = |id: &str| {
        let shown = server.tidegate_ok(&["rpc", "show", "d-1", id]);
        let call: Value = serde_json::from_str(&shown).expect("JSON");
        let time = |key: &str| call[key].as_u64().expect("a time");
        Duration::from_millis(time("expiresMs").saturating_sub(time("createdMs")))
    };
    let around = |seconds: u64| Duration::from_secs(seconds - 30)..=Duration::from_secs(seconds);
    assert!(around(86_400).contains(&lasts("0")), "{:?}", lasts("0"));
    assert!(around(60).contains(&lasts("1")), "{:?}", lasts("1"));
    let past = [
        "rpc",
        "send",
        "d-1",
        "m",
        "--persistent",
        "--expires",
        "2020-01-01T00:00:00Z",
    ];
    let past = refused(&server, &past);
    assert!(past.contains("is over already"), "{past}");
    assert_eq!(
        server
            .tidegate_ok(&["rpc", "list", "d-1", "--json"])
            .lines()
            .count(),
        2
    );
}

#[test]
fn the_shell_answers_calls_of_devices() {
    let server = server();
    let none = refused(&server, &["rpc", "wait", "--timeout", "0"]);
    assert!(none.contains("no device has made a call"), "{none}");
    let mut device = Link::plain(&server);
    for (number, answer, expected) in [
        (0, &["{\"time\":5}"][..], "{\"time\":5}"),
        (1, &["--error", "no clock"][..], "{\"error\":\"no clock\"}"),
    ] {
        let mut call = hex("44022200deadbeef b3617069 027631 084143434553533031 03727063 ff");
        call[3] = number;
        call.extend_from_slice(b"{\"method\":\"getTime\",\"params\":{\"zone\":1}}");
        device.send(&call);
        // Who only asks for the head of the answer takes no call away.
        assert_eq!(
            server.api("HEAD", "/api/rpc/requests?timeoutMs=0", "").0,
            405
        );
        let waited = server.tidegate_ok(&["rpc", "wait"]);
        let waited: Value = serde_json::from_str(&waited).expect("a line of JSON");
        let expected_call =
            json!({"id": number, "device": "d-1", "method": "getTime", "params": {"zone": 1}});
        assert_eq!(waited, expected_call);
        let id = number.to_string();
        let said = server.tidegate_ok(&[&["rpc", "answer", &id], answer].concat());
        assert_eq!(said.trim(), format!("answered call {number}"));
        let got = device.receive().expect("an answer");
        assert!(got.ends_with(expected.as_bytes()), "{got:02x?}");
        let late = refused(&server, &[&["rpc", "answer", &id], answer].concat());
        assert!(late.contains("no device waits for this answer"), "{late}");
    }
}

#[test]
fn a_device_that_has_a_customer_cannot_be_claimed_again() {
    let server = server();
    let mut device = Link::plain(&server);
    let offer = hex("44022300deadbeef b3617069 027631 084143434553533031 05636c61696d");
    assert_eq!(device.exchange(&offer).expect("an answer")[1], 0x41);
    server.tidegate_ok(&["claim", "accept", "d-1", "--customer", "Stadtwerke"]);
    let again = refused(&server, &["claim", "accept", "d-1", "--customer", "Eve"]);
    assert!(
        again.contains("belongs to \"Stadtwerke\" already"),
        "{again}"
    );
    assert!(again.contains("claim release"), "{again}");
}
