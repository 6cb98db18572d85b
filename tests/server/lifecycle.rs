//! Starting, stopping, reloading, and credentials that change while the server runs.

use std::process::Command;
use std::time::{Duration, Instant};

use super::support::{Link, PATIENCE, Server, hex, text};

fn telemetry(message_id: u16, token: &str) -> Vec<u8> {
    let mut message = vec![0x44, 0x02];
    message.extend_from_slice(&message_id.to_be_bytes());
    message.extend_from_slice(&hex("deadbeef b3617069 027631"));
    message.push(u8::try_from(token.len()).unwrap());
    message.extend_from_slice(token.as_bytes());
    message.extend_from_slice(b"\x09telemetry\xff{a:1}");
    message
}

#[test]
fn a_removed_device_is_refused_at_once_on_its_live_session() {
    let server = Server::start(&[]);
    server.tidegate_ok(&["device", "add", "gone", "--token", "GONETOKEN"]);
    let mut link = Link::anonymous(&server);
    assert_eq!(link.exchange(&telemetry(1, "GONETOKEN")).expect("an answer")[1], 0x41);
    server.tidegate_ok(&["device", "remove", "gone"]);
    assert_eq!(link.exchange(&telemetry(2, "GONETOKEN")).expect("an answer")[1], 0x81);
}

#[test]
fn sigterm_stops_cleanly_and_data_outlives_it() {
    let mut server = Server::start(&[]);
    server.tidegate_ok(&["device", "add", "kept", "--token", "KEPTTOKEN"]);
    let mut link = Link::plain(&server);
    assert_eq!(link.exchange(&telemetry(1, "KEPTTOKEN")).expect("an answer")[1], 0x41);
    assert!(server.terminate(), "{}", server.log());
    // Without a server the commands read the directory themselves.
    assert_eq!(server.latest("kept")["a"]["value"], serde_json::json!(1));
    server.spawn();
    assert_eq!(server.latest("kept")["a"]["value"], serde_json::json!(1));
}

#[test]
fn sighup_gives_new_handshakes_the_new_certificate_and_keeps_sessions() {
    let server = Server::start(&[]);
    server.tidegate_ok(&["device", "add", "live", "--token", "LIVETOKEN"]);
    let mut live = Link::anonymous(&server);
    let before = live.server_certificate();
    let directory = server.directory.path().display().to_string();
    // A file that cannot be used is refused, and nothing changes.
    std::fs::write(server.path("server_key.pem"), "no key").expect("a file");
    signal(&server, "HUP");
    wait_for(&server, "not reloaded");
    assert_eq!(Link::anonymous(&server).server_certificate(), before);
    server.tidegate_ok(&["cert", "self-signed", "--cn", "localhost", "--out", &directory]);
    signal(&server, "HUP");
    wait_for(&server, "credentials reloaded");
    assert_ne!(Link::anonymous(&server).server_certificate(), before);
    assert_eq!(live.exchange(&telemetry(1, "LIVETOKEN")).expect("an answer")[1], 0x41);
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let server = Server::start(&[]);
    let output = server.tidegate(&["serve"]);
    let printed = text(&output.stderr) + &text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(printed.contains("in use"), "{printed}");
}

fn signal(server: &Server, name: &str) {
    let pid = server.pid().to_string();
    let status = Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("kill runs");
    assert!(status.success());
}

fn wait_for(server: &Server, text: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !server.log().contains(text) {
        assert!(Instant::now() < deadline, "no {text:?} in the log:\n{}", server.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}
