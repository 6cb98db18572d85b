//! The binary against a small CoAPS server of the test, on the library's own DTLS.

#![expect(clippy::disallowed_methods, reason = "a server of real time")]

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant as StdInstant, SystemTime};

use serde_json::Value;
use tidegate::crypto::random::SystemRandom;
use tidegate::crypto::signature::SigningKey;
use tidegate::dtls::{
    Accepted, Association, Context, CookieJar, Credentials, ServerConfig, accept,
};
use tidegate::time::{Instant, Now};
use tidegate::wire::DatagramSink;

/// What the server counted.
#[derive(Debug, Default)]
struct Counts {
    handshakes: u64,
    with_certificate: u64,
    requests: u64,
    /// Sessions ended by a close_notify of the client.
    closed: u64,
}

struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Counts>>,
}

struct Sender<'a>(&'a UdpSocket, SocketAddr);

impl DatagramSink for Sender<'_> {
    fn push_datagram(&mut self, datagram: &[u8]) {
        self.0.send_to(datagram, self.1).unwrap();
    }
}

impl Server {
    /// Ends each session by a close_notify in place of the answer to its request of this number.
    fn start(close_at: Option<u64>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let address = socket.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || serve(&socket, &stop, close_at)
        });
        Self {
            address,
            stop,
            thread: Some(thread),
        }
    }

    fn stop(mut self) -> Counts {
        // What the clients sent last is still to be read.
        std::thread::sleep(Duration::from_millis(200));
        self.stop.store(true, Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

fn serve(socket: &UdpSocket, stop: &AtomicBool, close_at: Option<u64>) -> Counts {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = rcgen::CertificateParams::default()
        .self_signed(&key)
        .unwrap();
    let config = Arc::new(ServerConfig::new(Arc::new(Credentials {
        chain: vec![certificate.der().to_vec()],
        key: SigningKey::from_der(&key.serialize_der()).unwrap(),
    })));
    let cookies = CookieJar::generate(&mut SystemRandom);
    let start = StdInstant::now();
    let mut peers: HashMap<SocketAddr, (Association, u64)> = HashMap::new();
    let (mut counts, mut buffer) = (Counts::default(), [0; 4096]);
    while !stop.load(Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let unix = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        let now = Now {
            instant: Instant::from_micros(1_000_000) + start.elapsed(),
            unix_ms: u64::try_from(unix.as_millis()).unwrap(),
        };
        let mut cx = Context {
            config: &config,
            cookies: &cookies,
            sessions: &tidegate::dtls::NO_SESSIONS,
            revocations: &tidegate::dtls::NoRevocations,
            admit_handshakes: true,
            random: &mut SystemRandom,
            out: &mut Sender(socket, from),
            drops: &mut |_| {},
        };
        let address = from.to_string();
        let datagram = &mut buffer[..length];
        let Some((association, requests)) = peers.get_mut(&from) else {
            if let Accepted::New(association) = accept(now, address.as_bytes(), datagram, &mut cx) {
                peers.insert(from, (association, 0));
            }
            continue;
        };
        let received = association.handle_datagram(now, address.as_bytes(), datagram, &mut cx);
        if received.established {
            counts.handshakes += 1;
            counts.with_certificate += u64::from(association.peer_fingerprint().is_some());
        }
        for range in received.plaintexts.iter() {
            let request = &datagram[range];
            *requests += 1;
            counts.requests += 1;
            if close_at == Some(*requests) {
                association.close(&mut cx);
            } else {
                answer(association, request, &mut cx);
            }
        }
        if received.closed {
            counts.closed += 1;
        }
        if received.closed || close_at.is_some_and(|at| *requests >= at) {
            peers.remove(&from);
        }
    }
    counts
}

/// Sends 2.01 in the ACK.
fn answer(association: &mut Association, request: &[u8], cx: &mut Context<'_>) {
    let token = &request[4..4 + usize::from(request[0] & 0xf)];
    let (prefix, suffix) = association.record_overhead();
    let mut record = vec![0; prefix];
    record.extend_from_slice(&[
        0x60 | u8::try_from(token.len()).unwrap(),
        0x41,
        request[2],
        request[3],
    ]);
    record.extend_from_slice(token);
    record.resize(record.len() + suffix, 0);
    association.seal_application_data(&mut record).unwrap();
    cx.out.push_datagram(&record);
}

fn run(server: &Server, arguments: &[&str]) -> (Output, Value) {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate-loadgen"))
        .args(["--target", &format!("coaps://{}", server.address), "--json"])
        .arg(&json)
        .args(arguments)
        .output()
        .unwrap();
    let report =
        std::fs::read(&json).map_or(Value::Null, |bytes| serde_json::from_slice(&bytes).unwrap());
    (output, report)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn devices_connect_once_send_and_close() {
    let server = Server::start(None);
    let (output, report) = run(
        &server,
        &[
            "--token",
            "T",
            "--devices",
            "10",
            "--closed",
            "--duration",
            "1s",
            "--threads",
            "2",
        ],
    );
    assert!(output.status.success(), "{}", text(&output));
    let counts = server.stop();
    assert_eq!(
        (counts.handshakes, counts.with_certificate, counts.closed),
        (10, 0, 10)
    );
    assert_eq!(report["handshakes"]["completed"], 10);
    assert_eq!(report["requests"]["ok"], counts.requests);
    assert!(counts.requests > 10);
    assert!(report["handshake_us"]["p50"].as_u64().unwrap() > 100);
}

#[test]
fn full_handshakes_are_made_over_and_over_until_their_number() {
    let server = Server::start(None);
    let (output, report) = run(
        &server,
        &[
            "--scenario",
            "handshake",
            "--auth",
            "x509",
            "--devices",
            "8",
            "--count",
            "50",
            "--duration",
            "60s",
        ],
    );
    assert!(output.status.success(), "{}", text(&output));
    let counts = server.stop();
    assert_eq!((counts.handshakes, counts.with_certificate), (50, 50));
    assert_eq!((counts.closed, counts.requests), (50, 0));
    for name in ["started", "completed"] {
        assert_eq!(report["handshakes"][name], 50);
    }
    assert_eq!(report["handshakes"]["failed"], 0);
    assert!(report["handshakes"]["per_s"].as_f64().unwrap() > 1.0);
    assert_eq!(report["requests"]["sent"], 0);
}

#[test]
fn a_session_that_the_server_ends_is_made_again_and_its_request_counts_as_lost() {
    let server = Server::start(Some(5));
    let arguments = [
        "--token",
        "T",
        "--devices",
        "2",
        "--count",
        "40",
        "--duration",
        "60s",
        "--max-errors",
        "8",
    ];
    let (output, report) = run(&server, &arguments);
    assert!(output.status.success(), "{}", text(&output));
    let counts = server.stop();
    assert_eq!(counts.requests, 40);
    let number = |name: &str| report["requests"][name].as_u64().unwrap();
    assert_eq!(number("ok") + number("failed"), 40);
    // Each fifth of a device's requests; the devices' parts of the 40 are not always the same.
    assert!((7..=8).contains(&number("failed")), "{report}");
    assert!(
        text(&output).contains("because the server ended their session"),
        "{}",
        text(&output)
    );
    assert!(counts.handshakes >= 7);
}

#[test]
fn an_alert_is_named_with_its_remedy() {
    let server = Server::start(None);
    // The server's key is of ECDSA.
    let suite = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
    let (output, _) = run(
        &server,
        &[
            "--token",
            "T",
            "--devices",
            "3",
            "--suite",
            suite,
            "--duration",
            "1s",
        ],
    );
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output);
    assert!(
        said.contains("no device could connect") && said.contains("handshake_failure (40)"),
        "{said}"
    );
    assert!(said.contains("try without --suite"), "{said}");
    server.stop();
}
