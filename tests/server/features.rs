//! The conformance vectors 13 to 16 (thingsboard-coap, section 10) on plain CoAP and over DTLS, and
//! what an operator does for them with commands, while the server runs.

use serde_json::json;

use super::support::{Link, Server, hex};

/// Uri-Path api, v1, ACCESS01.
const BASE: &str = "b3617069 027631 084143434553533031";

fn server() -> (Server, Vec<(&'static str, Link)>) {
    let server = Server::start(&[]);
    server.tidegate_ok(&["device", "add", "vector", "--token", "ACCESS01"]);
    let links = vec![
        ("coap", Link::plain(&server)),
        ("coaps", Link::anonymous(&server)),
    ];
    (server, links)
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

/// The piggybacked answer with options in hex, and a body.
fn answer(code: u8, message_id: u16, options: &str, body: &[u8]) -> Vec<u8> {
    let mut expected = message(code, message_id, options, body);
    expected[0] = 0x64;
    expected
}

#[track_caller]
fn exchange(link: &mut Link, name: &str, message: &[u8]) -> Vec<u8> {
    link.exchange(message)
        .unwrap_or_else(|| panic!("{name}: no answer to {message:02x?}"))
}

#[test]
fn vector_13_provisioning() {
    let (server, mut links) = server();
    let path = "b3617069 027631 0970726f766973696f6e";
    let anywhere = "b3617069 027631 08616e797468696e67 0970726f766973696f6e";
    let body = |rest: &str| {
        format!(r#"{{"provisionDeviceKey":"k","provisionDeviceSecret":"s"{rest}}}"#).into_bytes()
    };
    let not_found: &[u8] = br#"{"errorMsg":"Provision data was not found!","status":"NOT_FOUND"}"#;
    for (index, (name, link)) in links.iter_mut().enumerate() {
        let mut number = 0x1300;
        let mut check = |path: &str, sent: &[u8], code: u8, options: &str, expected: &[u8]| {
            number += 1;
            let found = exchange(link, name, &message(0x02, number, path, sent));
            assert_eq!(
                found,
                answer(code, number, options, expected),
                "{name}: {number:x}"
            );
        };
        // Content-Format 0 is an option without bytes.
        check(path, &body(""), 0x80, "c0", not_found);
        check(anywhere, &body(""), 0x80, "c0", not_found);
        check(path, b"{}", 0x80, "", b"");
        check(path, b"", 0x80, "", &[8, 2]);
        let key = "provisioning.key=k";
        let strategy = "provisioning.strategy=ALLOW_CREATE_NEW_DEVICES";
        let profile = format!("profile-{index}");
        server.tidegate_ok(&[
            "profile",
            "add",
            &profile,
            key,
            "provisioning.secret=s",
            strategy,
        ]);
        let token = format!(
            r#","deviceName":"new-{index}","credentialsType":"ACCESS_TOKEN","token":"test_token{index}""#
        );
        let given = format!(
            r#"{{"credentialsValue":"test_token{index}","credentialsType":"ACCESS_TOKEN","status":"SUCCESS"}}"#
        );
        check(path, &body(&token), 0x41, "c0", given.as_bytes());
        let failure = br#"{"errorMsg":"Failed to provision device!","status":"FAILURE"}"#;
        check(path, &body(&token), 0x80, "c0", failure);
        let hash = format!(
            r#","deviceName":"hash-{index}","credentialsType":"X509_CERTIFICATE","hash":"testHash{index}""#
        );
        let given = format!(
            r#"{{"credentialsValue":"testHash{index}","credentialsType":"X509_CERTIFICATE","status":"SUCCESS"}}"#
        );
        check(path, &body(&hash), 0x41, "c0", given.as_bytes());
        // The device speaks with the credential that it was given.
        let uploads =
            format!("b3617069 027631 0b746573745f746f6b656e3{index} 0974656c656d65747279");
        check(&uploads, b"{\"t\":1}", 0x41, "", b"");
        assert_eq!(
            server.latest(&format!("new-{index}"))["t"]["value"],
            json!(1)
        );
        // The key is for one profile at a time.
        server.tidegate_ok(&[
            "profile",
            "set",
            &profile,
            "provisioning.strategy=",
            "provisioning.key=",
        ]);
    }
}

#[test]
fn vector_14_claiming() {
    let (server, mut links) = server();
    let path = format!("{BASE} 05636c61696d");
    for (name, link) in &mut links {
        let cases: [(&[u8], u8); 4] = [
            (b"[]", 0x80),
            (b"{\"secretKey\":\"value\",\"durationMs\":60000}", 0x41),
            (b"", 0x41),
            (b"{}", 0x41),
        ];
        for (number, (body, code)) in (0x1400..).zip(cases) {
            let found = exchange(link, name, &message(0x02, number, &path, body));
            assert_eq!(found, answer(code, number, "", b""), "{name}: {number:x}");
        }
        let shown = server.tidegate_ok(&["claim", "show", "vector"]);
        assert!(shown.contains("until"), "{shown}");
        // The first offer counts, so the secret is that.
        let wrong = server.tidegate(&["claim", "accept", "vector", "--customer", "C"]);
        assert_eq!(wrong.status.code(), Some(1), "{name}");
        server.tidegate_ok(&[
            "claim",
            "accept",
            "vector",
            "--customer",
            "C",
            "--secret",
            "value",
        ]);
        let shown = server.tidegate_ok(&["claim", "show", "vector", "--json"]);
        assert_eq!(shown.trim(), "{\"customer\":\"C\"}", "{name}");
        server.tidegate_ok(&["claim", "release", "vector"]);
    }
}

#[test]
fn vector_15_packages() {
    let (server, mut links) = server();
    let bytes: Vec<u8> = (0..700_u32).map(|n| n.to_be_bytes()[3]).collect();
    std::fs::write(server.path("fw.bin"), &bytes).unwrap();
    let query = "477469746c653d54 0b76657273696f6e3d312e30 0873697a653d353132";
    let path = "b26677 084143434553533031";
    for (name, link) in &mut links {
        let mut number = 0x1500;
        let mut get = |path: &str| {
            number += 1;
            exchange(link, name, &message(0x01, number, path, b""))[1..].to_vec()
        };
        let head = |code: u8, number: u16| answer(code, number, "", b"")[1..].to_vec();
        assert_eq!(get(path), head(0x84, 0x1501), "{name}: none is assigned");
        server.tidegate_ok(&["ota", "add", "fw.bin", "--title", "T", "--version", "1.0"]);
        let listed = server.tidegate_ok(&["ota", "list", "--json"]);
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        let id = listed[0]["id"].to_string();
        server.tidegate_ok(&["ota", "assign", &id, "--device", "vector"]);
        let chunk = |number: u16, bytes: &[u8]| answer(0x45, number, "", bytes)[1..].to_vec();
        let first = get(&format!("{path} {query} 076368756e6b3d30"));
        assert_eq!(first, chunk(0x1502, &bytes[..512]), "{name}");
        let second = get(&format!("{path} {query} 076368756e6b3d31"));
        assert_eq!(second, chunk(0x1503, &bytes[512..]), "{name}");
        let beyond = get(&format!("{path} {query} 076368756e6b3d32"));
        assert_eq!(beyond, head(0x84, 0x1504), "{name}");
        // Another version.
        let other = get(&format!("{path} 4b76657273696f6e3d312e31"));
        assert_eq!(other, head(0x80, 0x1505), "{name}");
        assert_eq!(get("b26677"), head(0x81, 0x1506), "{name}");
        assert_eq!(
            get(&format!("{BASE} 086669726d77617265")),
            head(0x80, 0x1507),
            "{name}"
        );
        let posted = exchange(link, name, &message(0x02, 0x1510, path, b""));
        assert_eq!(posted, answer(0x85, 0x1510, "", b""), "{name}");
        server.tidegate_ok(&["ota", "unassign", "--device", "vector"]);
        server.tidegate_ok(&["ota", "remove", &id]);
    }
    // Beyond ThingsBoard: with a certificate, and a package of the profile.
    server.tidegate_ok(&[
        "ota",
        "add",
        "fw.bin",
        "--title",
        "T",
        "--version",
        "2",
        "--type",
        "software",
    ]);
    let listed = server.tidegate_ok(&["ota", "list", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    server.tidegate_ok(&[
        "ota",
        "assign",
        &listed[0]["id"].to_string(),
        "--profile",
        "default",
    ]);
    let files = server.certificate_device("leaf");
    let mut link = Link::certificate(&server, &files);
    let asked = message(0x01, 0x1520, "b27377 4873697a653d353132", b"");
    assert_eq!(
        exchange(&mut link, "leaf", &asked),
        answer(0x45, 0x1520, "", &bytes[..512])
    );
}

#[test]
fn vector_16_rate_limit() {
    let (server, mut links) = server();
    server.tidegate_ok(&[
        "profile",
        "set",
        "default",
        "rateLimits.telemetryMessages=1:600",
    ]);
    let path = format!("{BASE} 0974656c656d65747279");
    let (name, link) = &mut links[0];
    let first = exchange(link, name, &message(0x02, 0x1600, &path, b"{\"a\":1}"));
    assert_eq!(first, answer(0x41, 0x1600, "", b""));
    for (index, (name, link)) in (0_u16..).zip(&mut links) {
        let number = 0x1601 + index;
        let second = exchange(link, name, &message(0x02, number, &path, b"{\"a\":2}"));
        // 4.29 with Max-Age (option 14) of up to 600 seconds.
        assert_eq!(second[..8], answer(0x9d, number, "", b"")[..], "{name}");
        assert_eq!(second[8..10], hex("d201"), "{name}: {second:02x?}");
        let seconds = u16::from_be_bytes([second[10], second[11]]);
        assert!((500..=600).contains(&seconds), "{name}: {seconds}");
    }
    assert_eq!(server.latest("vector")["a"]["value"], json!(1));
    // Taken back, it holds for the very next message.
    server.tidegate_ok(&["profile", "set", "default", "rateLimits.telemetryMessages="]);
    for (name, link) in &mut links {
        let third = exchange(link, name, &message(0x02, 0x1610, &path, b"{\"a\":3}"));
        assert_eq!(third, answer(0x41, 0x1610, "", b""), "{name}");
    }
}

#[test]
fn thingsboard_s_answer_beyond_a_limit_by_setting() {
    let server = Server::start(&[
        ("TIDEGATE_RATE_LIMIT_RESPONSE", "5.00"),
        ("TIDEGATE_RATE_LIMIT_TELEMETRY_MESSAGES", "1:600"),
    ]);
    server.tidegate_ok(&["device", "add", "vector", "--token", "ACCESS01"]);
    let path = format!("{BASE} 0974656c656d65747279");
    let first = server.plain(&message(0x02, 0x1600, &path, b"{\"a\":1}"));
    assert_eq!(first, Some(answer(0x41, 0x1600, "", b"")));
    let second = server.plain(&message(0x02, 0x1601, &path, b"{\"a\":2}"));
    assert_eq!(second, Some(answer(0xa0, 0x1601, "", b"")));
}
