//! Credentials that change while devices talk: theirs, and the server's own.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::support::{Dialogue, Link, PATIENCE, Server, hex, text};

/// POST /api/v1/telemetry of a certificate device.
fn telemetry(message_id: u16) -> Vec<u8> {
    let mut message = vec![0x44, 0x02];
    message.extend_from_slice(&message_id.to_be_bytes());
    message.extend_from_slice(&hex("deadbeef b3617069 027631 0974656c656d65747279 ff"));
    message.extend_from_slice(b"{a:1}");
    message
}

/// Removes a device, or gives it another credential, and expects its live sessions to end at once while
/// that of another device goes on.
fn session_ends(shards: &str, end_credential: impl FnOnce(&Server)) {
    let server = Server::start(&[("TIDEGATE_SHARDS", shards)]);
    let (gone, kept) = (
        server.certificate_device("gone"),
        server.certificate_device("kept"),
    );
    let mut links: Vec<_> = (0..4).map(|_| Link::certificate(&server, &gone)).collect();
    let mut other = Link::certificate(&server, &kept);
    for link in &mut links {
        assert_eq!(link.exchange(&telemetry(1)).expect("an answer")[1], 0x41);
    }
    assert_eq!(other.exchange(&telemetry(1)).expect("an answer")[1], 0x41);
    end_credential(&server);
    // Nothing is sent meanwhile: the server says so of its own accord.
    for link in &mut links {
        assert_eq!(link.receive(), None);
        assert!(link.is_closed(), "the session goes on");
    }
    assert_eq!(other.exchange(&telemetry(2)).expect("an answer")[1], 0x41);
    let metrics = server.http("/metrics").expect("metrics");
    assert!(
        metrics.contains("tidegate_sessions_ended_total{cause=\"revoked\"} 4"),
        "{metrics}"
    );
    // A new handshake proves the certificate's key, and it is nobody's.
    let mut again = Link::certificate(&server, &gone);
    assert_eq!(again.exchange(&telemetry(3)).expect("an answer")[1], 0x81);
}

#[test]
fn a_removed_device_loses_its_live_sessions_at_once() {
    session_ends("2", |server| {
        server.tidegate_ok(&["device", "remove", "gone"]);
    });
}

#[test]
fn a_device_removed_over_http_loses_its_live_sessions_as_well() {
    session_ends("1", |server| {
        let (status, body) = server.api("DELETE", "/api/devices/gone", "");
        assert_eq!(status, 204, "{body}");
    });
}

/// The certificate is nobody's any more when its device has got another credential.
#[test]
fn a_device_with_another_credential_loses_the_sessions_of_the_old_one() {
    session_ends("2", |server| {
        server.tidegate_ok(&["device", "set-credentials", "gone", "--token", "OTHER"]);
    });
}

/// Devices that send without a pause, each on its own session.
struct Traffic {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<Result<(), String>>>,
}

impl Traffic {
    fn start(server: &Server, devices: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let threads = (0..devices)
            .map(|number| {
                let files = server.certificate_device(&format!("device-{number}"));
                let mut link = Link::certificate(server, &files);
                let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
                std::thread::spawn(move || {
                    let mut message_id = 0;
                    while !stop.load(Ordering::Relaxed) {
                        message_id += 1;
                        match link.exchange(&telemetry(message_id)) {
                            Some(answer) if answer[1] == 0x41 => {
                                answered.fetch_add(1, Ordering::Relaxed);
                            }
                            other => return Err(format!("message {message_id}: {other:02x?}")),
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        Self {
            stop,
            answered,
            threads,
        }
    }

    /// Waits until every device has had some more answers.
    fn go_on(&self) {
        let enough = self.answered.load(Ordering::Relaxed) + 40;
        let deadline = Instant::now() + PATIENCE;
        while self.answered.load(Ordering::Relaxed) < enough {
            assert!(Instant::now() < deadline, "the devices stopped");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread
                .join()
                .expect("no panic")
                .expect("every request is answered");
        }
        self.answered.load(Ordering::Relaxed)
    }
}

/// Puts a new certificate and key in the place of the old ones, one file after the other.
fn replace_certificate(server: &Server) {
    let fresh = server.path("fresh");
    let _ = std::fs::remove_dir_all(&fresh);
    let fresh_text = fresh.display().to_string();
    server.tidegate_ok(&[
        "cert",
        "self-signed",
        "--cn",
        "localhost",
        "--out",
        &fresh_text,
    ]);
    for file in ["server.pem", "server_key.pem"] {
        std::fs::rename(fresh.join(file), server.path(file)).expect("a file");
    }
}

fn signal_hup(server: &Server) {
    let pid = server.pid().to_string();
    let status = Command::new("kill").args(["-HUP", &pid]).status();
    assert!(status.expect("kill runs").success());
}

fn wait_for(server: &Server, times: usize, text: &str) {
    let deadline = Instant::now() + PATIENCE;
    while server.log().matches(text).count() < times {
        assert!(Instant::now() < deadline, "no {text:?}:\n{}", server.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The certificate that a new handshake of OpenSSL sees, in PEM.
fn shown_certificate(server: &Server) -> String {
    let address = format!("127.0.0.1:{}", server.secure_port);
    let arguments = ["s_client", "-dtls1_2", "-connect", &address];
    let mut client = Dialogue::start("openssl", &arguments, server.directory.path());
    let output = client
        .expect(b"-----END CERTIFICATE-----")
        .unwrap_or_else(|error| panic!("{error}"));
    let output = text(&output);
    let start = output.find("-----BEGIN").expect("a certificate");
    output[start..output.find("-----END").expect("its end")].to_owned()
}

fn no_session_was_lost(server: &Server, sessions: u64) {
    let metrics = server.http("/metrics").expect("metrics");
    for cause in [
        "expired",
        "displaced",
        "closed",
        "replaced",
        "limit",
        "revoked",
    ] {
        let line = format!("tidegate_sessions_ended_total{{cause=\"{cause}\"}} 0");
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
    let held: u64 = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("tidegate_sessions{")?.split(' ').nth(1))
        .filter_map(|value| value.parse::<u64>().ok())
        .sum();
    assert!(held >= sessions, "{held} of {sessions} sessions\n{metrics}");
}

#[test]
fn certificates_change_by_signal_while_devices_send_and_nothing_is_lost() {
    let server = Server::start(&[
        ("TIDEGATE_SHARDS", "2"),
        ("TB_TRANSPORT_SSL_CERTIFICATE_RELOAD_ENABLED", "false"),
    ]);
    let traffic = Traffic::start(&server, 4);
    traffic.go_on();
    let mut shown = shown_certificate(&server);
    for round in 1..=3 {
        replace_certificate(&server);
        signal_hup(&server);
        wait_for(&server, round, "credentials reloaded");
        let now = shown_certificate(&server);
        assert_ne!(now, shown, "new handshakes see the new certificate");
        shown = now;
        traffic.go_on();
    }
    // Files that cannot be used are refused with the setting's name, and the old ones stay.
    std::fs::write(server.path("server.pem"), "nothing of use").expect("a file");
    signal_hup(&server);
    wait_for(&server, 1, "credentials not reloaded, the old ones stay");
    assert!(server.log().contains("server.pem"), "{}", server.log());
    assert_eq!(shown_certificate(&server), shown);
    traffic.go_on();
    no_session_was_lost(&server, 4);
    assert!(traffic.end() >= 200);
}

#[test]
fn certificates_change_by_their_files_while_devices_send_and_nothing_is_lost() {
    let server = Server::start(&[
        ("TIDEGATE_SHARDS", "1"),
        (
            "TB_TRANSPORT_SSL_CERTIFICATE_RELOAD_CHECK_INTERVAL_SECONDS",
            "1",
        ),
    ]);
    let traffic = Traffic::start(&server, 2);
    let before = shown_certificate(&server);
    replace_certificate(&server);
    wait_for(&server, 1, "credentials reloaded");
    assert_ne!(shown_certificate(&server), before);
    // A key that does not fit is refused; the matching certificate behind it is taken.
    let fresh = server.path("other");
    let fresh_text = fresh.display().to_string();
    server.tidegate_ok(&[
        "cert",
        "self-signed",
        "--cn",
        "localhost",
        "--out",
        &fresh_text,
    ]);
    let shown = shown_certificate(&server);
    std::fs::rename(fresh.join("server_key.pem"), server.path("server_key.pem")).unwrap();
    wait_for(&server, 1, "credentials not reloaded, the old ones stay");
    assert_eq!(shown_certificate(&server), shown);
    traffic.go_on();
    std::fs::rename(fresh.join("server.pem"), server.path("server.pem")).unwrap();
    wait_for(&server, 2, "credentials reloaded");
    assert_ne!(shown_certificate(&server), shown);
    traffic.go_on();
    no_session_was_lost(&server, 2);
    traffic.end();
}
