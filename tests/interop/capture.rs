//! tshark reads a capture of our traffic with the secrets of `SSLKEYLOGFILE` (feature `keylog`, which
//! the tests' build has and a release has not).
//!
//! The test's own relay captures what passes between client and server, so that no privilege is
//! needed.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::support::{Dialogue, PATIENCE, Server, run_client, text};
use super::{created, telemetry_post};

/// Passes datagrams between clients and a server, and keeps them in the format of libpcap.
struct CapturingRelay {
    port: u16,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<u8>>,
}

impl CapturingRelay {
    fn start(server_port: u16) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let back = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        back.connect(("127.0.0.1", server_port))
            .expect("a loopback address");
        for socket in [&front, &back] {
            socket
                .set_read_timeout(Some(Duration::from_millis(2)))
                .expect("a timeout");
        }
        let port = front.local_addr().expect("an address").port();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || relay(&front, &back, &stop)
        });
        Self { port, stop, thread }
    }

    /// The capture, once all that was on its way has passed.
    fn finish(self) -> Vec<u8> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the relay ends well")
    }
}

fn relay(front: &UdpSocket, back: &UdpSocket, stop: &AtomicBool) -> Vec<u8> {
    let server = back.peer_addr().expect("connected");
    // Microseconds, packets of any length, raw IPv4 (LINKTYPE_RAW).
    let mut capture = Vec::new();
    for word in [0xa1b2_c3d4, 4 << 16 | 2, 0, 0, 65_535, 101_u32] {
        capture.extend_from_slice(&word.to_le_bytes());
    }
    let start = Instant::now();
    let mut client = None;
    let mut buffer = [0; 4096];
    loop {
        let mut quiet = true;
        if let Ok((length, from)) = front.recv_from(&mut buffer) {
            quiet = false;
            client = Some(from);
            record(
                &mut capture,
                start.elapsed(),
                from,
                server,
                &buffer[..length],
            );
            let _ = back.send(&buffer[..length]);
        }
        if let Ok(length) = back.recv(&mut buffer)
            && let Some(client) = client
        {
            quiet = false;
            record(
                &mut capture,
                start.elapsed(),
                server,
                client,
                &buffer[..length],
            );
            let _ = front.send_to(&buffer[..length], client);
        }
        if quiet && stop.load(Ordering::Relaxed) {
            return capture;
        }
    }
}

/// Adds a datagram, with the headers that its way over the network would have had.
fn record(capture: &mut Vec<u8>, at: Duration, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
    let v4 = |address: SocketAddr| match address {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(_) => SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0),
    };
    let (from, to) = (v4(from), v4(to));
    let udp_length = u16::try_from(8 + payload.len()).expect("a datagram");
    let ip_length = udp_length + 20;
    let seconds = u32::try_from(at.as_secs()).expect("a short test");
    for word in [
        seconds,
        at.subsec_micros(),
        ip_length.into(),
        ip_length.into(),
    ] {
        capture.extend_from_slice(&word.to_le_bytes());
    }
    // IPv4 without options: UDP, no fragments, no checksum.
    capture.extend_from_slice(&[0x45, 0]);
    capture.extend_from_slice(&ip_length.to_be_bytes());
    capture.extend_from_slice(&[0, 0, 0x40, 0, 64, 17, 0, 0]);
    capture.extend_from_slice(&from.ip().octets());
    capture.extend_from_slice(&to.ip().octets());
    for number in [from.port(), to.port(), udp_length, 0] {
        capture.extend_from_slice(&number.to_be_bytes());
    }
    capture.extend_from_slice(payload);
}

/// What tshark makes of a capture: a line per CoAP message, of code and path.
fn dissect(directory: &Path, server_port: u16, keys: &Path) -> String {
    let arguments = [
        "-r",
        "capture.pcap",
        "-o",
        &format!("tls.keylog_file:{}", keys.display()),
        "-d",
        &format!("udp.port=={server_port},dtls"),
        "-d",
        &format!("dtls.port=={server_port},coap"),
        "-Y",
        "coap",
        "-T",
        "fields",
        "-e",
        "coap.code",
        "-e",
        "coap.opt.uri_path_recon",
    ];
    let output = run_client("tshark", &arguments, directory);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// A server that writes its secrets to `keys.log` in its directory, with a device.
fn start() -> Server {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let keys = directory.path().join("keys.log").display().to_string();
    let made = super::support::tidegate()
        .args(["cert", "self-signed", "--cn", "localhost", "--out", "."])
        .current_dir(directory.path())
        .output()
        .expect("tidegate runs");
    assert!(made.status.success(), "{}", text(&made.stderr));
    let server = Server::start_in(directory, &[("SSLKEYLOGFILE", &keys)]);
    let warning = "the secrets of ALL sessions are written";
    assert!(server.log().contains(warning), "{}", server.log());
    server.tidegate_ok(&["device", "add", "seen", "--token", "SEENTOKEN"]);
    server
}

/// Waits until the server has written the secrets of so many handshakes.
fn await_secrets(server: &Server, handshakes: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let keys = std::fs::read_to_string(server.path("keys.log")).unwrap_or_default();
        if keys.lines().count() >= handshakes && keys.ends_with('\n') {
            assert_eq!(keys.lines().count(), handshakes, "{keys}");
            return;
        }
        assert!(Instant::now() < deadline, "no secrets were written: {keys}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The capture shows POST and 2.01 Created (RFC 7252 section 12.1), and nothing to who has no secrets.
fn assert_readable(server: &Server, capture: &[u8]) {
    let directory = server.directory.path();
    std::fs::write(directory.join("capture.pcap"), capture).expect("a file");
    let seen = dissect(directory, server.secure_port, &directory.join("keys.log"));
    let messages: Vec<&str> = seen.lines().map(str::trim_end).collect();
    let [post, created] = messages[..] else {
        panic!("{seen}");
    };
    assert!(post.starts_with("2\t"), "{seen}");
    assert!(post.ends_with("/api/v1/SEENTOKEN/telemetry"), "{seen}");
    assert!(created.starts_with("65\t"), "{seen}");

    std::fs::write(directory.join("nothing"), "").expect("a file");
    let blind = dissect(directory, server.secure_port, &directory.join("nothing"));
    assert!(!blind.contains("SEENTOKEN"), "{blind}");
}

#[test]
fn a_capture_decrypts_with_the_secrets_of_sslkeylogfile_and_not_without() {
    let server = start();
    let relay = CapturingRelay::start(server.secure_port);
    let uri = format!(
        "coaps://127.0.0.1:{}/api/v1/SEENTOKEN/telemetry",
        relay.port
    );
    let output = run_client(
        "coap-client-openssl",
        &["-m", "post", "-e", "{a:1}", &uri],
        server.directory.path(),
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    let capture = relay.finish();
    await_secrets(&server, 1);
    let mode = std::fs::metadata(server.path("keys.log"))
        .expect("the file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_readable(&server, &capture);
}

/// The capture begins with the abbreviated handshake, so the first one's secrets are of no use.
#[test]
fn a_resumed_session_has_secrets_of_its_own() {
    let server = start();
    let mut captures = Vec::new();
    for (message_id, session) in [(1, "-sess_out"), (2, "-sess_in")] {
        let relay = CapturingRelay::start(server.secure_port);
        let address = format!("127.0.0.1:{}", relay.port);
        let arguments = ["s_client", "-dtls1_2", "-connect", &address, "-nocommands"];
        let arguments = [&arguments[..], &[session, "session.pem"]].concat();
        let mut client = Dialogue::start("openssl", &arguments, server.directory.path());
        let said = client.expect(b"Extended master secret").expect("a session");
        let kind = if message_id == 1 { "New," } else { "Reused," };
        assert!(text(&said).contains(kind), "{}", text(&said));
        client.send(&telemetry_post(message_id, "SEENTOKEN", "{a:1}"));
        client.expect(&created(message_id)).expect("2.01");
        captures.push(relay.finish());
        await_secrets(&server, captures.len());
    }
    assert_readable(&server, &captures[1]);
}

#[test]
fn check_tells_that_secrets_would_be_written() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let check = |keys: &str| {
        let output = super::support::tidegate()
            .arg("check")
            .env("SSLKEYLOGFILE", keys)
            .current_dir(directory.path())
            .output()
            .expect("tidegate runs");
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    let said = check("keys.log");
    assert!(
        said.contains("SSLKEYLOGFILE") && said.contains("keys.log"),
        "{said}"
    );
    assert!(!directory.path().join("keys.log").exists());
    assert!(!check("").contains("SSLKEYLOGFILE"));
}
