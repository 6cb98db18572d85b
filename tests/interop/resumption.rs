//! Resumption with clients of other authors: by id and by ticket, on every shard, and by ticket after
//! a restart. That a session was resumed is seen by the client and by our metrics.

use std::path::Path;

use super::support::{Dialogue, Server, text};
use super::{certificate_telemetry_post, created};

/// Resumptions that the server counted: by session id and by ticket.
fn resumptions(server: &Server) -> (u64, u64) {
    let metric = |label: &str| {
        let name = format!("tidegate_resumptions_total{{by=\"{label}\"}} ");
        metric(server, &name)
    };
    (metric("session_id"), metric("ticket"))
}

fn metric(server: &Server, name: &str) -> u64 {
    let page = server.http("/metrics").expect("the metrics");
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    let value = line.unwrap_or_else(|| panic!("{name} is not in the metrics"));
    value.trim().parse().expect("a number")
}

/// Handshakes that were completed: full ones and resumed ones.
fn handshakes(server: &Server) -> (u64, u64) {
    let metric = |kind: &str| {
        let name = format!("tidegate_handshakes_completed_total{{kind=\"{kind}\"}} ");
        metric(server, &name)
    };
    (metric("full"), metric("resumed"))
}

/// One connection of `openssl s_client` with a reading of the device; returns what it said of the
/// handshake.
fn openssl(server: &Server, device: &Device, message_id: u16, arguments: &[&str]) -> String {
    let address = format!("127.0.0.1:{}", server.secure_port);
    let usual = [
        "s_client",
        "-dtls1_2",
        "-connect",
        &address,
        "-CAfile",
        "server.pem",
        "-nocommands",
        "-cert",
        &device.certificate,
        "-key",
        &device.key,
    ];
    let arguments = [&usual, arguments].concat();
    let mut client = Dialogue::start("openssl", &arguments, server.directory.path());
    let said = client
        .expect(b"Extended master secret")
        .unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
    let reading = format!("{{\"message\":{message_id}}}");
    client.send(&certificate_telemetry_post(message_id, &reading));
    client
        .expect(&created(message_id))
        .unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
    let latest = server.latest("tracker");
    assert_eq!(latest["message"]["value"], serde_json::json!(message_id));
    text(&said)
}

/// A device that its certificate identifies.
struct Device {
    certificate: String,
    key: String,
}

impl Device {
    fn of(server: &Server) -> Self {
        let (certificate, key) = server.certificate_device("tracker");
        let path = |path: &Path| path.to_str().expect("a path in Unicode").to_owned();
        Self {
            certificate: path(&certificate),
            key: path(&key),
        }
    }
}

fn assert_full(said: &str) {
    assert!(said.contains("New, TLSv1.2"), "{said}");
}

fn assert_reused(said: &str) {
    assert!(said.contains("Reused, TLSv1.2"), "{said}");
}

/// Every connection has a source port of its own, so over two shards and more some resumptions land
/// on another shard than the full handshake.
#[test]
fn openssl_resumes_by_id_on_every_shard() {
    let server = Server::start(&[("TIDEGATE_SHARDS", "3")]);
    let device = Device::of(&server);
    let first = ["-no_ticket", "-sess_out", "session.pem"];
    assert_full(&openssl(&server, &device, 0x100, &first));
    assert_eq!(resumptions(&server), (0, 0));
    assert_eq!(metric(&server, "tidegate_sessions_cached "), 1);
    for number in 1..=6 {
        let again = ["-no_ticket", "-sess_in", "session.pem"];
        assert_reused(&openssl(&server, &device, 0x100 + number, &again));
        assert_eq!(resumptions(&server), (number.into(), 0));
    }
    assert_eq!(handshakes(&server), (1, 6));
}

#[test]
fn openssl_resumes_by_ticket_on_every_shard_and_after_a_restart() {
    let mut server = Server::start(&[("TIDEGATE_SHARDS", "3")]);
    let device = Device::of(&server);
    let first = ["-sess_out", "session.pem"];
    let said = openssl(&server, &device, 0x200, &first);
    assert_full(&said);
    assert!(
        said.contains("TLS session ticket lifetime hint: 86"),
        "{said}"
    );
    assert_eq!(metric(&server, "tidegate_session_tickets_total "), 1);
    assert_eq!(metric(&server, "tidegate_sessions_cached "), 0);
    let again = ["-sess_in", "session.pem"];
    for number in 1..=6 {
        assert_reused(&openssl(&server, &device, 0x200 + number, &again));
    }
    assert_eq!(resumptions(&server), (0, 6));
    server.kill();
    server.spawn();
    assert_reused(&openssl(&server, &device, 0x210, &again));
    assert!(server.terminate());
    server.spawn();
    assert_reused(&openssl(&server, &device, 0x211, &again));
    assert_eq!(resumptions(&server), (0, 1));
    assert_eq!(handshakes(&server), (0, 1));
}

/// RFC 6066 section 3: not under another name; and what is refused ends in a full handshake.
#[test]
fn openssl_falls_back_to_a_full_handshake_when_something_changed() {
    let mut server = Server::start(&[]);
    let device = Device::of(&server);
    let first = ["-servername", "a.example", "-sess_out", "session.pem"];
    assert_full(&openssl(&server, &device, 0x300, &first));
    let same = ["-servername", "a.example", "-sess_in", "session.pem"];
    assert_reused(&openssl(&server, &device, 0x301, &same));
    let other = ["-servername", "b.example", "-sess_in", "session.pem"];
    assert_full(&openssl(&server, &device, 0x302, &other));
    let refused =
        |reason: &str| format!("tidegate_resumptions_refused_total{{reason=\"{reason}\"}} ");
    assert_eq!(metric(&server, &refused("changed")), 1);
    // The keys are gone, as after the loss of the data directory.
    server.kill();
    std::fs::remove_file(server.path("data").join("ticket-keys")).expect("the keys are there");
    server.spawn();
    assert_full(&openssl(&server, &device, 0x303, &same));
    assert_eq!(metric(&server, &refused("unknown_key")), 1);
}

/// A device that was removed and added again proves its key anew.
#[test]
fn the_session_of_a_removed_device_is_not_resumed() {
    let server = Server::start(&[]);
    let device = Device::of(&server);
    let first = ["-sess_out", "session.pem"];
    assert_full(&openssl(&server, &device, 0x400, &first));
    server.tidegate_ok(&["device", "remove", "tracker"]);
    server.tidegate_ok(&["device", "add", "tracker", "--x509", &device.certificate]);
    let again = ["-sess_in", "session.pem"];
    assert_full(&openssl(&server, &device, 0x401, &again));
    let revoked = "tidegate_resumptions_refused_total{reason=\"revoked\"} ";
    assert_eq!(metric(&server, revoked), 1);
}

/// `gnutls-cli --resume` connects, disconnects and connects again by itself.
fn gnutls(server: &Server, priority: &str) {
    let port = server.secure_port.to_string();
    let priority = format!("NORMAL:-VERS-ALL:+VERS-DTLS1.2{priority}");
    let arguments = [
        "-u",
        "-p",
        &port,
        "--x509cafile",
        "server.pem",
        "--priority",
        &priority,
        "--resume",
        "localhost",
    ];
    let mut client = Dialogue::start("gnutls-cli", &arguments, server.directory.path());
    client
        .expect(b"This is a resumed session")
        .unwrap_or_else(|error| panic!("{priority}: {error}"));
}

#[test]
fn gnutls_resumes_by_id_and_by_ticket() {
    let server = Server::start(&[("TIDEGATE_SHARDS", "2")]);
    gnutls(&server, "");
    assert_eq!(resumptions(&server), (0, 1));
    gnutls(&server, ":%NO_TICKETS");
    assert_eq!(resumptions(&server), (1, 1));
    assert_eq!(handshakes(&server), (2, 2));
}

/// The ticket outlives the server that gave it. `gnutls-cli` keeps its session in memory, so it is the
/// same process that connects again, when it is told to.
#[test]
fn gnutls_resumes_by_ticket_after_a_restart() {
    let mut server = Server::start(&[("TIDEGATE_SHARDS", "2")]);
    let port = server.secure_port.to_string();
    let arguments = [
        "-u",
        "-p",
        &port,
        "--x509cafile",
        "server.pem",
        "--priority",
        "NORMAL:-VERS-ALL:+VERS-DTLS1.2",
        "--inline-commands",
        "localhost",
    ];
    let mut client = Dialogue::start("gnutls-cli", &arguments, server.directory.path());
    client
        .expect(b"Simple Client Mode")
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(handshakes(&server), (1, 0));
    // Without a goodbye, at which the client would end.
    server.kill();
    server.spawn();
    client.send(b"^resume^\n");
    client
        .expect(b"This is a resumed session")
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(resumptions(&server), (0, 1));
    assert_eq!(handshakes(&server), (0, 1));
}

/// Two nodes with one file of keys: a session of the one is resumed by the other. After SIGHUP the
/// keys are those of the file.
#[test]
fn nodes_that_share_their_keys_resume_each_others_sessions() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let keys = directory.path().join("keys");
    let line = |digit: &str| format!("{} {}\n", digit.repeat(32), digit.repeat(64));
    std::fs::write(&keys, line("1")).expect("a file");
    let path = keys.to_str().expect("a path in Unicode");
    let settings = [("TIDEGATE_TICKET_KEYS_FILE", path)];
    let one = Server::start(&settings);
    let device = Device::of(&one);
    let session = directory.path().join("session.pem");
    let session = session.to_str().expect("a path in Unicode");
    assert_full(&openssl(&one, &device, 0x500, &["-sess_out", session]));
    assert_reused(&openssl(&one, &device, 0x501, &["-sess_in", session]));

    let other = Server::start(&settings);
    let add = ["device", "add", "tracker", "--x509", &device.certificate];
    other.tidegate_ok(&add);
    // Added after the session began: as far as this node knows, nothing of it is older.
    let said = openssl(&other, &device, 0x502, &["-sess_in", session]);
    assert_reused(&said);

    std::fs::write(&keys, line("2")).expect("a file");
    let pid = other.pid().to_string();
    let hung_up = std::process::Command::new("kill")
        .args(["-HUP", &pid])
        .status();
    assert!(hung_up.expect("kill runs").success());
    other.wait_for_log("credentials reloaded");
    assert_full(&openssl(&other, &device, 0x503, &["-sess_in", session]));
    let refused = "tidegate_resumptions_refused_total{reason=\"unknown_key\"} ";
    assert_eq!(metric(&other, refused), 1);
    assert_reused(&openssl(&one, &device, 0x504, &["-sess_in", session]));
}

/// What cannot be used stops the start, with setting, file, line and remedy.
#[test]
fn a_bad_file_of_keys_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let keys = directory.path().join("keys");
    std::fs::write(&keys, "11 22\n").expect("a file");
    let server = Server::start(&[]);
    for command in ["serve", "check"] {
        let output = super::support::tidegate()
            .arg(command)
            .current_dir(server.directory.path())
            .env("COAP_DTLS_ENABLED", "true")
            .env("COAP_DTLS_PEM_CERT", "server.pem")
            .env("COAP_DTLS_PEM_KEY", "server_key.pem")
            .env("TIDEGATE_DATA_DIR", "other-data")
            .env("TIDEGATE_TICKET_KEYS_FILE", &keys)
            .output()
            .expect("tidegate runs");
        assert_eq!(output.status.code(), Some(1), "{command}");
        let said = text(&output.stderr);
        for part in ["TIDEGATE_TICKET_KEYS_FILE", "line 1", "openssl rand"] {
            assert!(said.contains(part), "{command}: {said}");
        }
    }
}
