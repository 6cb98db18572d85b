//! Starting, stopping, reloading, and credentials that change while the server runs.

use std::io::{Read as _, Write as _};
use std::process::Command;
use std::time::{Duration, Instant};

use super::support::{Dialogue, Link, PATIENCE, Server, hex, text};

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
    assert_eq!(
        link.exchange(&telemetry(1, "GONETOKEN"))
            .expect("an answer")[1],
        0x41
    );
    server.tidegate_ok(&["device", "remove", "gone"]);
    assert_eq!(
        link.exchange(&telemetry(2, "GONETOKEN"))
            .expect("an answer")[1],
        0x81
    );
}

#[test]
fn sigterm_stops_cleanly_and_data_outlives_it() {
    let mut server = Server::start(&[]);
    server.tidegate_ok(&["device", "add", "kept", "--token", "KEPTTOKEN"]);
    let mut link = Link::plain(&server);
    assert_eq!(
        link.exchange(&telemetry(1, "KEPTTOKEN"))
            .expect("an answer")[1],
        0x41
    );
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
    let before = server_certificate(&server);
    let directory = server.directory.path().display().to_string();
    // A file that cannot be used is refused, and nothing changes.
    std::fs::write(server.path("server_key.pem"), "no key").expect("a file");
    signal(&server, "HUP");
    wait_for(&server, "not reloaded");
    assert_eq!(server_certificate(&server), before);
    for file in ["server.pem", "server_key.pem"] {
        std::fs::remove_file(server.path(file)).expect("a file");
    }
    server.tidegate_ok(&[
        "cert",
        "self-signed",
        "--cn",
        "localhost",
        "--out",
        &directory,
    ]);
    signal(&server, "HUP");
    wait_for(&server, "credentials reloaded");
    assert_ne!(server_certificate(&server), before);
    assert_eq!(
        live.exchange(&telemetry(1, "LIVETOKEN"))
            .expect("an answer")[1],
        0x41
    );
}

#[test]
fn sighup_takes_the_admin_token_that_the_file_holds() {
    let server = Server::start(&[]);
    let first = server.admin_token();
    let status = |token: &str| {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", server.admin_port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let request = format!(
            "GET /api/devices HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: \
             Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer.split(' ').nth(1).expect("a status").to_owned()
    };
    let file = server.path("data").join("admin-token");
    assert_eq!(status(&first), "200");
    std::fs::write(&file, "short\n").expect("a file");
    signal(&server, "HUP");
    wait_for(&server, "the admin token is not reloaded");
    assert_eq!(status(&first), "200", "what cannot be used changes nothing");
    std::fs::write(&file, "a-token-of-the-operator\n").expect("a file");
    signal(&server, "HUP");
    wait_for(&server, "credentials reloaded");
    // The first signal reloaded credentials as well: wait for the token itself.
    let deadline = Instant::now() + PATIENCE;
    while status("a-token-of-the-operator") != "200" {
        assert!(Instant::now() < deadline, "the new token opens nothing");
    }
    assert_eq!(status(&first), "401");
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let server = Server::start(&[]);
    let output = server.tidegate(&["serve"]);
    let printed = text(&output.stderr) + &text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(printed.contains("in use"), "{printed}");
}

#[test]
fn idle_sessions_are_swept_counted_and_logged() {
    let server = Server::start(&[
        ("TB_COAP_X509_DTLS_SESSION_INACTIVITY_TIMEOUT", "600"),
        ("TB_COAP_X509_DTLS_SESSION_REPORT_TIMEOUT", "200"),
        ("TIDEGATE_SHARDS", "1"),
    ]);
    server.tidegate_ok(&["device", "add", "idle", "--token", "IDLETOKEN"]);
    let mut busy = Link::anonymous(&server);
    let mut idle = Link::anonymous(&server);
    assert_eq!(
        idle.exchange(&telemetry(1, "IDLETOKEN"))
            .expect("an answer")[1],
        0x41
    );
    let started = Instant::now();
    let mut message_id = 1;
    while started.elapsed() < Duration::from_millis(1500) {
        message_id += 1;
        let answer = busy
            .exchange(&telemetry(message_id, "IDLETOKEN"))
            .expect("an answer");
        assert_eq!(answer[1], 0x41, "a session with traffic was dropped");
        std::thread::sleep(Duration::from_millis(50));
    }
    let metrics = server.http("/metrics").expect("metrics");
    assert!(
        metrics.contains("tidegate_sessions_ended_total{cause=\"expired\"} 1"),
        "{metrics}"
    );
    assert!(
        metrics.contains("tidegate_sessions{shard=\"0\"} 1"),
        "{metrics}"
    );
    assert!(server.log().contains("dropped=1"), "{}", server.log());
    // The server said goodbye; what the device sends now finds no session.
    idle.send(&telemetry(2, "IDLETOKEN"));
    assert_eq!(idle.receive_soon(), None);
}

#[test]
fn two_devices_one_after_the_other_from_one_port_are_told_apart() {
    // TB vector 17.
    let server = Server::start(&[]);
    let (first, second) = (
        server.certificate_device("first"),
        server.certificate_device("second"),
    );
    let message = |id: u8, value: u8| {
        let mut message = vec![0x44, 0x02, 0x77, id];
        message.extend_from_slice(&hex("deadbeef b3617069 027631 0974656c656d65747279 ff"));
        message.extend_from_slice(format!("{{v:{value}}}").as_bytes());
        message
    };
    let mut link = Link::certificate(&server, &first);
    assert_eq!(link.exchange(&message(1, 1)).expect("an answer")[1], 0x41);
    link.handshake_again(&second);
    // The same message id and token: another session, so another request.
    assert_eq!(link.exchange(&message(1, 2)).expect("an answer")[1], 0x41);
    assert_eq!(server.latest("first")["v"]["value"], serde_json::json!(1));
    assert_eq!(server.latest("second")["v"]["value"], serde_json::json!(2));
}

/// The certificate that a new handshake shows, in PEM.
fn server_certificate(server: &Server) -> String {
    let address = format!("127.0.0.1:{}", server.secure_port);
    let arguments = ["s_client", "-dtls1_2", "-connect", &address];
    let mut client = Dialogue::start("openssl", &arguments, server.directory.path());
    let output = client
        .expect(b"-----END CERTIFICATE-----")
        .unwrap_or_else(|e| panic!("{e}"));
    let output = text(&output);
    let start = output
        .find("-----BEGIN CERTIFICATE-----")
        .expect("a certificate");
    let end = output.find("-----END CERTIFICATE-----").expect("its end");
    output[start..end].to_owned()
}

fn signal(server: &Server, name: &str) {
    let pid = server.pid().to_string();
    let status = Command::new("kill")
        .args([&format!("-{name}"), &pid])
        .status()
        .expect("kill runs");
    assert!(status.success());
}

fn wait_for(server: &Server, text: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !server.log().contains(text) {
        assert!(
            Instant::now() < deadline,
            "no {text:?} in the log:\n{}",
            server.log()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The executors are made on threads of their own, so that whoever starts them must wait for news.
#[test]
fn a_server_whose_shards_cannot_all_start_does_not_say_that_it_serves() {
    let mut refused = 0;
    // From too few descriptors for the first ring to enough for all of them.
    for descriptors in (16..=24).step_by(2).chain([40]) {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new("sh")
            .args(["-c", "ulimit -n $0; exec \"$1\" serve"])
            .arg(descriptors.to_string())
            .arg(env!("CARGO_BIN_EXE_tidegate"))
            .env("TIDEGATE_DATA_DIR", directory.path())
            .env("TIDEGATE_SHARDS", "2")
            .env("TIDEGATE_ADMIN_BIND", "")
            .env("COAP_BIND_ADDRESS", "127.0.0.1")
            .env("COAP_BIND_PORT", "0")
            .env("COAP_DTLS_ENABLED", "false")
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let until = Instant::now() + Duration::from_secs(3);
        while child.try_wait().unwrap().is_none() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        if child.try_wait().unwrap().is_none() {
            let stopped = Command::new("kill").arg(child.id().to_string()).status();
            assert!(stopped.unwrap().success());
        }
        let output = child.wait_with_output().unwrap();
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(
            !said.contains("a shard ended with an error"),
            "{descriptors} descriptors: {said}"
        );
        refused += usize::from(said.contains("executor cannot start"));
    }
    assert!(refused > 0);
}
