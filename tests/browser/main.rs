//! The status page in a real browser: what a person sees, and what the page asks for.

#![allow(
    clippy::disallowed_methods,
    reason = "tests of a process run by the clock"
)]

#[path = "../support/mod.rs"]
mod support;

mod driver;

use std::net::UdpSocket;

use driver::Browser;
use serde_json::json;
use support::{Link, Server, hex};

const DESK: (u32, u32) = (1280, 900);
const PHONE: (u32, u32) = (390, 844);

/// CON POST /api/v1/METER1/telemetry with `payload`.
fn upload(message_id: u16, payload: &str) -> Vec<u8> {
    let mut message = vec![0x40, 0x02];
    message.extend_from_slice(&message_id.to_be_bytes());
    message.extend_from_slice(&hex(
        "b3617069 027631 064d4554455231 0974656c656d65747279 1132 ff",
    ));
    message.extend_from_slice(payload.as_bytes());
    message
}

/// GET /api/v1/METER1/`resource` with Observe 0, NON, token be.
fn subscribe(resource: &str) -> Vec<u8> {
    let mut message = hex("51010001be 60 53617069 027631 064d4554455231");
    message.push(u8::try_from(resource.len()).expect("a short name"));
    message.extend_from_slice(resource.as_bytes());
    message
}

/// The device's own code: it takes `calls` calls, answers those that want an answer with its uptime,
/// and gives back what it was called with.
fn device_answers(mut link: Link, calls: usize) -> std::thread::JoinHandle<Vec<serde_json::Value>> {
    let subscribed = link.exchange(&subscribe("rpc")).expect("an answer");
    assert_eq!(subscribed[1], 0x43, "2.03: {subscribed:02x?}");
    std::thread::spawn(move || {
        let mut taken = Vec::new();
        while taken.len() < calls {
            let Some(message) = link.receive() else {
                continue;
            };
            let Some(start) = message.iter().position(|&byte| byte == 0xff) else {
                continue;
            };
            let call: serde_json::Value =
                serde_json::from_slice(&message[start + 1..]).expect("JSON");
            let id = call["id"].to_string();
            let mut reply = hex("4002");
            reply.extend_from_slice(&(0x2000 + u16::try_from(taken.len()).unwrap()).to_be_bytes());
            reply.extend_from_slice(&hex("b3617069 027631 064d4554455231 03727063"));
            reply.push(u8::try_from(id.len()).unwrap());
            reply.extend_from_slice(id.as_bytes());
            reply.extend_from_slice(b"\xff{\"uptime\":42}");
            taken.push(call);
            link.exchange(&reply).expect("an answer");
        }
        taken
    })
}

/// A server with a token device that has sent a day of temperatures, and a certificate device.
fn server() -> Server {
    let server = Server::start(&[("TIDEGATE_SHARDS", "2")]);
    server.tidegate_ok(&["device", "add", "meter 1/ü", "--token", "METER1"]);
    server.tidegate_ok(&["attr", "set", "meter 1/ü", "interval=60"]);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for step in 0..48_u16 {
        let ts = (now - 86_400 + u64::from(step) * 1800) * 1000;
        let value = 20.0 + f64::from(step % 12) / 4.0;
        let payload = format!("{{\"ts\":{ts},\"values\":{{\"temperature\":{value}}}}}");
        let answer = server.plain_on(&socket, &upload(step, &payload));
        assert_eq!(answer.expect("an answer")[1], 0x41);
    }
    let note = "long words and more of them ".repeat(20);
    let last = upload(
        100,
        &format!("{{\"status\":\"<b>fine</b>\",\"open\":true,\"note\":\"{note}\"}}"),
    );
    assert_eq!(server.plain_on(&socket, &last).expect("an answer")[1], 0x41);
    server
}

/// The certificate of an authority, PEM.
fn authority() -> String {
    let mut parameters = rcgen::CertificateParams::new([]).expect("parameters");
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().expect("a key");
    parameters.self_signed(&key).expect("a certificate").pem()
}

fn link(server: &Server) -> String {
    format!(
        "http://127.0.0.1:{}/#token={}",
        server.admin_port,
        server.admin_token()
    )
}

/// One value that is long pushes no other out of its card.
fn assert_all_in_sight(browser: &Browser) {
    let hidden = browser.run(
        "return [...document.querySelectorAll('.many td')].filter((cell) => \
         cell.getBoundingClientRect().right > cell.closest('.card').getBoundingClientRect().right)\
         .map((cell) => cell.textContent)",
    );
    assert_eq!(hidden, json!([]), "cells out of sight");
}

/// Nothing is wider than the window, and everything came from the server itself.
fn assert_well(browser: &Browser, server: &Server) {
    let sizes = browser.run("return [document.documentElement.scrollWidth, innerWidth]");
    assert_eq!(sizes[0], sizes[1], "something is wider than the window");
    let own = format!("http://127.0.0.1:{}/", server.admin_port);
    let asked = browser.run("return performance.getEntriesByType('resource').map((r) => r.name)");
    let asked = asked.as_array().expect("a list");
    assert!(asked.len() > 5, "{asked:?}");
    for url in asked {
        let url = url.as_str().expect("an address");
        assert!(url.starts_with(&own) || url.starts_with("data:"), "{url}");
        assert!(!url.contains("token"), "{url}");
    }
    // Each control can be named by who cannot see it.
    let nameless = browser.run(
        "return [...document.querySelectorAll('button, input, select, textarea, a')].filter((e) => \
         !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length)).length",
    );
    assert_eq!(nameless, json!(0), "controls without a name");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn the_fleet_is_drawn_live() {
    let server = server();
    let files = server.certificate_device("tracker");
    let _session = Link::certificate(&server, &files);
    let browser = Browser::start();
    browser.look_from(DESK, "light");
    browser.open(&link(&server));
    browser.wait_for_text("serving");
    browser.wait_for_text("49 in all");
    assert!(
        !browser.url().contains(&server.admin_token()),
        "{}",
        browser.url()
    );
    let tile = |title: &str| {
        let script = format!(
            "return [...document.querySelectorAll('.tile')].find((tile) => \
             tile.querySelector('dt').textContent === {})?.querySelector('dd').firstChild.textContent",
            json!(title)
        );
        browser.run(&script)
    };
    assert_eq!(tile("Devices"), json!("2"));
    assert_eq!(tile("Sessions"), json!("1"));
    assert!(
        tile("p99").as_str().is_some_and(|time| time != "–"),
        "{}",
        tile("p99")
    );
    // Curves appear, and go on: a request that comes now is in them.
    browser.wait_for("document.querySelectorAll('.chart path').length >= 4");
    let again = upload(200, "{\"temperature\":25}");
    assert_eq!(server.plain(&again).expect("an answer")[1], 0x41);
    browser.wait_for_text("50 in all");
    // What goes wrong is named: a device that nobody knows.
    let mut unknown = upload(201, "{\"temperature\":25}");
    unknown[13] = b'X';
    assert_eq!(server.plain(&unknown).expect("an answer")[1], 0x81);
    browser.wait_for_text("4.xx");
    assert_well(&browser, &server);
    browser.picture("overview");
    browser.look_from(PHONE, "dark");
    browser.wait_for("innerWidth === 390");
    assert_well(&browser, &server);
    browser.picture("overview-phone");
    let ground = browser.run("return getComputedStyle(document.documentElement).backgroundColor");
    assert_eq!(ground, json!("rgb(13, 19, 23)"), "dark");
}

#[test]
fn a_device_is_shown_and_changed() {
    let server = server();
    let browser = Browser::start();
    browser.look_from(DESK, "light");
    browser.open(&link(&server));
    browser.wait_for_text("serving");
    browser.click("nav a[data-page=devices]");
    browser.wait_for_text("meter 1/ü");
    browser.wait_for_text("active");
    browser.picture("devices");
    browser.click("main td a");
    browser.wait_for_text("Latest values");
    // A key with a number is drawn without being asked for.
    browser.wait_for("document.querySelector('.chart.tall path.s0')?.getTotalLength() > 100");
    browser.wait_for_text("temperature over time");
    browser.wait_for_text("48 readings");
    browser.wait_for_text("<b>fine</b>");
    browser.click("button[aria-label='Draw status']");
    browser.wait_for_text("status over time");
    browser.click("button[aria-label='Draw temperature']");
    browser.click(".choices button:first-child");
    browser.wait_for_text("1 reading");

    browser.write("input[name=key]", "mode");
    browser.write("input[name=value]", "eco");
    browser.click("main form button");
    browser.wait_for_text("mode is set.");
    browser.write("input[name=key]", "limits");
    browser.write("input[name=value]", "{\"max\":5}");
    browser.click("main form button");
    browser.wait_for_text("limits is set.");
    browser.click("button[aria-label='Delete the shared attribute interval']");
    browser.wait_for(
        "!document.querySelector(\"button[aria-label='Delete the shared attribute interval']\")",
    );
    let printed = server.tidegate_ok(&["attr", "get", "meter 1/ü", "--scope", "shared"]);
    let found: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(found["mode"]["value"], json!("eco"));
    assert_eq!(found["limits"]["value"], json!({"max": 5}));
    assert!(found.get("interval").is_none());

    // The token is on the page only when it is asked for.
    assert_eq!(
        browser.run("return document.body.innerText.includes('METER1')"),
        json!(false)
    );
    browser.click("button[aria-label='Show the credential']");
    browser.wait_for_text("METER1");
    browser.wait_for_text("nothing");
    assert_well(&browser, &server);
    assert_all_in_sight(&browser);
    browser.picture("device");
    browser.look_from(PHONE, "light");
    browser.wait_for("innerWidth === 390");
    assert_well(&browser, &server);
    assert_all_in_sight(&browser);
    browser.picture("device-phone");
}

#[test]
fn a_device_is_called_and_told_of_attributes() {
    let server = server();
    let device = device_answers(Link::anonymous(&server), 3);
    let mut observer = Link::plain(&server);
    observer
        .exchange(&subscribe("attributes"))
        .expect("an answer");
    let browser = Browser::start();
    browser.look_from(DESK, "light");
    browser.open(&link(&server));
    browser.wait_for_text("serving");
    browser.click("nav a[data-page=devices]");
    browser.wait_for_text("meter 1/ü");
    browser.click("main td a");
    browser.wait_for_text("Remote procedure call");

    // What is no JSON is not sent as something else.
    let params = "document.querySelector('textarea[name=params]')";
    browser.write("input[name=method]", "setGpio");
    browser.run(&format!("{params}.value = '{{pin:26}}'"));
    browser.click("form:has(textarea) button");
    browser.wait_for_text("The parameters are not JSON");
    browser.run(&format!("{params}.value = '{{\"pin\":26}}'"));
    browser.click("form:has(textarea) button");
    browser.wait_for_text("{\"uptime\":42}");
    let choose = |kind: &str| {
        browser.run(&format!(
            "document.querySelector('select[name=kind]').value = {}",
            json!(kind)
        ));
        browser.click("form:has(textarea) button");
    };
    choose("oneway");
    browser.wait_for_text("Sent.");
    choose("kept");
    browser.wait_for_text("Kept as call");
    browser.wait_for_text("successful");
    let taken = device.join().expect("the device");
    for call in &taken {
        assert_eq!(call["method"], json!("setGpio"));
        assert_eq!(call["params"], json!({"pin": 26}));
    }
    browser.picture("calls");
    browser.click("button[aria-label^='Delete the call']");
    browser.wait_for("!document.querySelector(\"button[aria-label^='Delete the call']\")");

    browser.write("input[name=key]", "mode");
    browser.write("input[name=value]", "eco");
    browser.click("main form button");
    browser.wait_for_text("mode is set.");
    let told = observer.receive().expect("a notification");
    assert!(told.ends_with(b"\xff{\"mode\":\"eco\"}"), "{told:02x?}");

    // The device is gone: that is said, not waited for without end.
    choose("twoway");
    browser.wait_for_text("the call has gone to the device, which did not answer in time");
    let refused = browser.complaints();
    assert!(
        refused.iter().all(|line| line.contains("504")),
        "{refused:?}"
    );
    assert_well(&browser, &server);
}

#[test]
fn profiles_packages_and_claims_are_shown() {
    let server = server();
    std::fs::write(server.path("fw.bin"), [7; 5000]).expect("a file");
    let file = server.path("fw.bin").display().to_string();
    server.tidegate_ok(&[
        "ota",
        "add",
        &file,
        "--title",
        "meter-fw",
        "--version",
        "1.4",
    ]);
    server.tidegate_ok(&[
        "profile",
        "add",
        "meters",
        "rateLimits.telemetryMessages=100:1",
        "powerSaving.mode=PSM",
        "powerSaving.psmActivityTimer=8000",
    ]);
    std::fs::write(server.path("ca.pem"), authority()).expect("a file");
    let authority = server.path("ca.pem").display().to_string();
    let authority = format!("provisioning.certificate=@{authority}");
    server.tidegate_ok(&[
        "profile",
        "add",
        "fleet",
        "provisioning.strategy=X509_CERTIFICATE_CHAIN",
        &authority,
        "provisioning.certificateRegExPattern=(.*)",
    ]);
    server.tidegate_ok(&["ota", "assign", "1", "--profile", "meters"]);
    server.tidegate_ok(&["device", "set", "meter 1/ü", "profile=meters"]);
    let mut device = Link::plain(&server);
    let offer = hex("40020300 b3617069 027631 064d4554455231 05636c61696d ff 7b7d");
    assert_eq!(device.exchange(&offer).expect("an answer")[1], 0x41);
    let browser = Browser::start();
    browser.look_from(DESK, "light");
    browser.open(&link(&server));
    browser.wait_for_text("serving");
    browser.click("nav a[data-page=profiles]");
    browser.wait_for_text("telemetry messages 100:1");
    browser.wait_for_text("meter-fw 1.4");
    browser.wait_for_text("as the built-in default");
    browser.wait_for_text("devices register themselves by their certificate chain");
    assert_well(&browser, &server);
    browser.picture("profiles");
    browser.look_from(PHONE, "light");
    browser.wait_for("innerWidth === 390");
    assert_well(&browser, &server);
    browser.picture("profiles-phone");
    browser.look_from(DESK, "light");
    browser.click("nav a[data-page=devices]");
    browser.wait_for_text("meter 1/ü");
    browser.click("main td a");
    browser.wait_for_text("PSM, awake for 8000 ms");
    browser.wait_for_text("meter-fw 1.4, its profile's");
    browser.wait_for_text("it can be claimed until");
    server.tidegate_ok(&["claim", "accept", "meter 1/ü", "--customer", "Stadtwerke"]);
    browser.wait_for_text("Stadtwerke");
    assert_well(&browser, &server);
}

#[test]
fn a_session_is_shown_with_its_device_and_closed() {
    let server = server();
    let files = server.certificate_device("tracker");
    let mut session = Link::certificate(&server, &files);
    let browser = Browser::start();
    browser.look_from(DESK, "light");
    browser.open(&link(&server));
    browser.wait_for_text("serving");
    browser.click("nav a[data-page=sessions]");
    browser.wait_for_text("127.0.0.1:");
    browser.wait_for_text("tracker");
    browser.picture("sessions");
    browser.click("main td a");
    browser.wait_for_text("Fingerprint");
    browser.wait_for_text("127.0.0.1:");
    browser.click("button[aria-label^='Close the session']");
    browser.wait_for_text("No session is known");
    assert_eq!(session.receive(), None);
    assert!(session.is_closed());
    assert_well(&browser, &server);
}

#[test]
fn devices_are_shown_to_who_has_the_token_only() {
    let server = server();
    let browser = Browser::start();
    browser.look_from(PHONE, "light");
    browser.open(&format!("http://127.0.0.1:{}/#/devices", server.admin_port));
    browser.wait_for_text("needs the token of this server");
    browser.picture("login-phone");
    let shown = browser.run("return document.body.innerText.includes('meter 1')");
    assert_eq!(shown, json!(false));
    browser.write("input[name=token]", "not-the-token-of-this-server");
    browser.click("main form button");
    browser.wait_for_text("That is not the token of this server.");
    // The browser logs the refusal, as it should.
    assert!(browser.complaints().iter().all(|line| line.contains("401")));
    browser.write("input[name=token]", &server.admin_token());
    browser.click("main form button");
    browser.wait_for_text("meter 1/ü");
    assert_well(&browser, &server);
    // It is kept for this tab: over a reload, until the logout.
    browser.run("location.reload()");
    browser.wait_for_text("meter 1/ü");
    browser.click("#logout");
    browser.wait_for("sessionStorage.length === 0");
    browser.click("nav a[data-page=devices]");
    browser.wait_for("document.querySelector('input[name=token]')");
}

/// Names, keys and values are the device's to choose: they are text, whatever they look like, and neither
/// they nor times at the ends of what there is keep the page from being drawn.
#[test]
fn what_a_hostile_device_says_is_text() {
    let name = "<img src=x onerror=window.hit=1>/../'\"";
    let server = Server::start(&[]);
    server.tidegate_ok(&["device", "add", name, "--token", "METER1"]);
    let mut device = Link::plain(&server);
    let payloads = [
        r#"{"<script>window.hit=1</script>":"<svg onload=window.hit=1>","__proto__":5,"constructor":"x"}"#,
        r#"{"huge":{"a":[1e400,-1e999999]},"a\"'/?#&":true}"#,
        r#"{"ts":9223372036854775807,"values":{"far":1}}"#,
        r#"{"ts":-9223372036854775808,"values":{"far":2}}"#,
    ];
    for (message_id, payload) in (0x10..).zip(payloads) {
        let answer = device.exchange(&upload(message_id, payload));
        assert_eq!(answer.expect("an answer")[1], 0x41, "{payload}");
    }
    let mut attributes = hex("40020020 b3617069 027631 064d4554455231 0a61747472696275746573 ff");
    attributes.extend(br#"{"<iframe src=/>":"javascript:window.hit=1","__proto__":{"x":1}}"#);
    assert_eq!(device.exchange(&attributes).expect("an answer")[1], 0x41);

    let browser = Browser::start();
    browser.look_from(DESK, "light");
    browser.open(&link(&server));
    browser.wait_for_text("serving");
    browser.click("nav a[data-page=devices]");
    browser.wait_for_text(name);
    browser.click("main td a");
    for text in [
        "<script>window.hit=1</script>",
        "<svg onload=window.hit=1>",
        "__proto__",
        "<iframe src=/>",
        "javascript:window.hit=1",
    ] {
        browser.wait_for_text(text);
    }
    browser.click("button[aria-label='Draw far']");
    browser.wait_for_text("far over time");
    browser.wait_for_text("2 readings");
    browser.click("button[aria-label='Draw huge']");
    browser.wait_for_text("huge over time");
    let marks = browser.run(
        "return [typeof window.hit, document.querySelectorAll('main img, main script, main iframe').length]",
    );
    assert_eq!(marks, json!(["undefined", 0]));
    assert_well(&browser, &server);
}
