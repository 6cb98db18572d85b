//! The HTTP interface of a running server, from adding a device to the end of its credentials.

use super::support::{PATIENCE, Server, hex};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;

/// POST /api/v1/ACCESS01/telemetry `{"temperature":25}`, confirmable; `id` is the message id.
fn upload(id: &str) -> Vec<u8> {
    hex(&format!(
        "4402{id}deadbeef b3617069 027631 084143434553533031 0974656c656d65747279 1132
         ff7b2274656d7065726174757265223a32357d"
    ))
}

fn ask(server: &Server, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(("127.0.0.1", server.admin_port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: \
         application/json\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n{body}",
        server.admin_token(),
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

#[test]
fn a_device_lives_and_ends_over_http() {
    let server = Server::start(&[]);
    let code = |answer: Option<Vec<u8>>| answer.map(|answer| answer[1]);
    assert_eq!(
        code(server.plain(&upload("0001"))),
        Some(0x81),
        "not known yet: 4.01"
    );

    let new = json!({"name": "d/1", "token": "ACCESS01"}).to_string();
    let (status, added) = ask(&server, "POST", "/api/devices", &new);
    assert_eq!((status, &added["credentialsId"]), (201, &json!("ACCESS01")));
    assert_eq!(ask(&server, "POST", "/api/devices", &new).0, 409);
    let (status, page) = ask(&server, "GET", "/api/devices?limit=10", "");
    assert_eq!(
        (status, page["devices"].as_array().unwrap().len()),
        (200, 1)
    );
    assert!(page["devices"][0].get("credentialsId").is_none());

    assert_eq!(code(server.plain(&upload("0002"))), Some(0x41), "2.01");
    let (status, latest) = ask(&server, "GET", "/api/devices/d%2F1/telemetry", "");
    assert_eq!((status, &latest["temperature"]["value"]), (200, &json!(25)));
    assert_eq!(code(server.plain(&upload("0003"))), Some(0x41));
    let path = "/api/devices/d%2F1/telemetry?key=temperature&from=2020-01-01T00:00:00Z&order=asc";
    let (status, history) = ask(&server, "GET", path, "");
    assert_eq!(status, 200);
    assert!(!history["readings"].as_array().unwrap().is_empty());

    let metrics = server.http("/metrics").unwrap();
    for line in [
        "tidegate_requests_total{port=\"coap\"} 3",
        "tidegate_responses_total{class=\"2\"} 2",
        "tidegate_responses_total{class=\"4\"} 1",
        "tidegate_devices 1",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line}\n{metrics}"
        );
    }

    assert_eq!(ask(&server, "DELETE", "/api/devices/d%2F1", "").0, 204);
    assert_eq!(
        code(server.plain(&upload("0004"))),
        Some(0x81),
        "ended at once: 4.01"
    );
    assert_eq!(ask(&server, "GET", "/api/devices/d%2F1", "").0, 404);
}

#[test]
fn the_api_opens_with_the_token_of_the_data_directory_only() {
    let mut server = Server::start(&[]);
    let token = server.admin_token();
    let mode = std::fs::metadata(server.path("data/admin-token")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    // `http` brings none.
    for path in ["/api/devices", "/api/sessions", "/api/anything"] {
        let answer = server.http(path).unwrap();
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
        assert!(
            answer.contains("admin-token of TIDEGATE_DATA_DIR"),
            "{answer}"
        );
    }
    for path in ["/", "/metrics", "/status.json", "/api/openapi.json"] {
        let answer = server.http(path).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(!answer.contains(&token), "{path} tells the token");
    }
    assert_eq!(ask(&server, "GET", "/api/devices", "").0, 200);
    assert!(!server.log().contains(&token));
    // It stays over a restart, and a new one is made when its file is gone.
    assert!(server.terminate());
    server.spawn();
    assert_eq!(server.admin_token(), token);
    assert!(server.terminate());
    std::fs::remove_file(server.path("data/admin-token")).unwrap();
    server.spawn();
    assert_ne!(server.admin_token(), token);
    assert_eq!(ask(&server, "GET", "/api/devices", "").0, 200);
}

#[test]
fn the_log_can_be_json() {
    let mut server = Server::start(&[("TIDEGATE_LOG_FORMAT", "json"), ("COAP_BIND_PROT", "1")]);
    assert!(server.terminate());
    let log = server.log();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let warned = |line: &Value| {
        let message = line["message"].as_str().unwrap_or_default();
        line["level"] == "WARN" && message.contains("did you mean COAP_BIND_PORT?")
    };
    assert!(lines.iter().any(warned), "{log}");
    let of_store = |line: &&Value| {
        line["target"]
            .as_str()
            .is_some_and(|t| t.starts_with("fjall"))
    };
    assert_eq!(lines.iter().find(of_store), None, "libraries are quiet");
}
