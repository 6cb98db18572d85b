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
use tidegate::crypto::pre_shared_key::PreSharedKey;
use tidegate::crypto::random::SystemRandom;
use tidegate::crypto::signature::SigningKey;
use tidegate::dtls::{
    Accepted, Association, Context, CookieJar, Credentials, PeerIdentity, RandomConnectionIds,
    Revocations, ServerConfig, SessionCache, Sessions, TicketKey, TicketKeys, accept, cid_of,
};
use tidegate::time::{Instant, Now};
use tidegate::wire::DatagramSink;

/// Length of the server's connection ids.
const CID_LEN: u8 = 4;

/// The pre-shared key of all identities.
const PSK: [u8; 16] = [0xab; 16];

#[derive(Debug)]
struct Keys;

impl Revocations for Keys {
    fn is_revoked(&self, _: &PeerIdentity, _: u64) -> bool {
        false
    }

    fn has_pre_shared_keys(&self) -> bool {
        true
    }
}

/// What the server counted.
#[derive(Debug, Default)]
struct Counts {
    handshakes: u64,
    /// Of these, those that resumed a session.
    resumed: u64,
    with_certificate: u64,
    with_key: u64,
    requests: u64,
    /// Changes of a peer's address.
    moved: u64,
    /// Handshakes whose ClientHello had a valid cookie.
    begun: u64,
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
        Self::start_with(close_at, Sessions::new(None))
    }

    /// The same, with sessions that can be resumed.
    fn start_with(close_at: Option<u64>, sessions: Sessions) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let address = socket.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || serve(&socket, &stop, close_at, &sessions)
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

fn serve(
    socket: &UdpSocket,
    stop: &AtomicBool,
    close_at: Option<u64>,
    sessions: &Sessions,
) -> Counts {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = rcgen::CertificateParams::default()
        .self_signed(&key)
        .unwrap();
    let credentials = Arc::new(Credentials {
        chain: vec![certificate.der().to_vec()],
        key: SigningKey::from_der(&key.serialize_der()).unwrap(),
    });
    let config = Arc::new(ServerConfig {
        connection_id_length: Some(CID_LEN),
        ..ServerConfig::new(credentials)
    });
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
            sessions,
            revocations: &Keys,
            connection_ids: &RandomConnectionIds,
            admit_handshakes: true,
            random: &mut SystemRandom,
            out: &mut Sender(socket, from),
            drops: &mut |_| {},
        };
        let address = from.to_string();
        let datagram = &mut buffer[..length];
        // RFC 9146 section 6: wherever it comes from; the authentic record follows.
        if let Some(id) = cid_of(datagram, CID_LEN)
            && let Some(old) = owner_of(&peers, id).filter(|&old| old != from)
            && let Some(peer) = peers.remove(&old)
        {
            peers.insert(from, peer);
            counts.moved += 1;
        }
        let Some((association, requests)) = peers.get_mut(&from) else {
            if let Accepted::New(association) = accept(now, address.as_bytes(), datagram, &mut cx) {
                counts.begun += 1;
                peers.insert(from, (association, 0));
            }
            continue;
        };
        let mut received = association.handle_datagram(now, address.as_bytes(), datagram, &mut cx);
        if let Some(lookup) = association.poll_lookup() {
            let key = PreSharedKey::new(&PSK);
            received = association.handle_credential(now, &lookup, key.as_ref(), &mut cx);
        }
        if received.established {
            counts.handshakes += 1;
            counts.resumed += u64::from(received.resumed.is_some());
            counts.with_certificate += u64::from(association.peer_fingerprint().is_some());
            let by_key = matches!(association.identity(), PeerIdentity::PreSharedKey(_));
            counts.with_key += u64::from(by_key);
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

fn owner_of(peers: &HashMap<SocketAddr, (Association, u64)>, id: &[u8]) -> Option<SocketAddr> {
    peers
        .iter()
        .find(|(_, (association, _))| association.local_connection_ids().any(|own| own == id))
        .map(|(&address, _)| address)
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
            "--verify-one-in",
            "4",
        ],
    );
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("verified in one handshake of 4"));
    assert_eq!(report["config"]["verify_one_in"], 4);
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

/// A server that ends in the middle of a run: the generator does not wait for handshakes that nobody answers, and
/// says what it knows. It took 35 s beyond the time-out, and gave another reason.
#[test]
fn a_server_that_ends_in_the_middle_is_told_and_not_waited_for() {
    let server = Server::start(Some(20));
    let address = server.address;
    let stopping = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(1500));
        server.stop()
    });
    let start = StdInstant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate-loadgen"))
        .args(["--target", &format!("coaps://{address}"), "--token", "T"])
        .args(["--devices", "4", "--rate", "200", "--duration", "4s"])
        .args(["--timeout", "1s"])
        .output()
        .unwrap();
    let took = start.elapsed();
    stopping.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output);
    for part in [
        "does not answer any more",
        "ICMP port unreachable",
        "no datagram for",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("the rate is above"), "{said}");
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn rebinding_devices_go_on_from_other_ports_without_a_handshake() {
    for own in ["0", "3"] {
        let server = Server::start(None);
        let arguments = [
            "--scenario",
            "rebind",
            "--token",
            "T",
            "--devices",
            "6",
            "--closed",
            "--rebind-every",
            "50ms",
            "--cid",
            own,
            "--duration",
            "1s",
        ];
        let (output, report) = run(&server, &arguments);
        assert!(output.status.success(), "{}", text(&output));
        let counts = server.stop();
        let number = |name: &str| report.pointer(name).and_then(Value::as_u64).unwrap();
        let changes = number("/rebind/address_changes");
        // 20 of each device, were it not for the server that they share.
        assert!((6..=6 * 20).contains(&changes), "{report}");
        assert_eq!((changes, counts.handshakes), (counts.moved, 6));
        assert_eq!(number("/rebind/answered"), changes);
        assert_eq!(number("/rebind/failed") + number("/rebind/handshakes"), 0);
        assert_eq!(number("/requests/ok"), counts.requests);
        assert_eq!(counts.closed, 6);
    }
}

#[test]
fn a_storm_leaves_the_fleet_s_requests_apart_from_its_own_handshakes() {
    let server = Server::start(None);
    let arguments = [
        "--scenario",
        "storm",
        "--token",
        "T",
        "--devices",
        "5",
        "--rate",
        "50",
        "--quiet",
        "1s",
        "--duration",
        "2s",
        "--storm-devices",
        "3",
        "--storm-spoofed",
        "200",
        "--threads",
        "1",
    ];
    let (output, report) = run(&server, &arguments);
    assert!(output.status.success(), "{}", text(&output));
    let counts = server.stop();
    let number = |name: &str| report.pointer(name).and_then(Value::as_u64).unwrap();
    assert_eq!(number("/handshakes/completed"), 5);
    assert_eq!(number("/requests/ok"), counts.requests);
    assert_eq!(number("/requests/ok"), number("/requests/sent"));
    // 150 on average; five standard deviations.
    assert!((90..=210).contains(&counts.requests), "{}", counts.requests);
    assert_eq!(number("/storm/requests_lost"), 0);
    let completed = number("/storm/handshakes_completed");
    assert!(completed > 10, "{report}");
    // The last ones may have ended without the client's knowledge.
    assert!((completed + 5..=completed + 8).contains(&counts.handshakes));
    let (bare, with_cookie) = (
        number("/storm/hellos_without_cookie"),
        number("/storm/hellos_with_cookie"),
    );
    // 200 a second for 2 s.
    assert!((200..=420).contains(&(bare + with_cookie)), "{report}");
    // 1024 strangers have one turn each, so none comes back for its cookie in so short a storm.
    assert_eq!(with_cookie, 0);
    for group in ["quiet_us", "latency_us", "storm_handshake_us"] {
        assert!(report[group]["p50"].as_u64().unwrap() > 10, "{report}");
    }
}

#[test]
fn half_of_a_flood_has_valid_cookies_and_no_handshake_of_it_ends() {
    let server = Server::start(None);
    let arguments = [
        "--scenario",
        "storm",
        "--token",
        "T",
        "--devices",
        "1",
        "--rate",
        "10",
        "--quiet",
        "100ms",
        "--duration",
        "2s",
        "--storm-devices",
        "0",
        "--storm-spoofed",
        "2000",
    ];
    let (output, report) = run(&server, &arguments);
    assert!(output.status.success(), "{}", text(&output));
    let counts = server.stop();
    assert_eq!(counts.handshakes, 1);
    let number = |name: &str| report.pointer(name).and_then(Value::as_u64).unwrap();
    let (bare, with_cookie) = (
        number("/storm/hellos_without_cookie"),
        number("/storm/hellos_with_cookie"),
    );
    assert!(with_cookie > 100 && with_cookie <= bare, "{report}");
    // Each was let in by its cookie.
    assert!(counts.begun >= with_cookie, "{} {report}", counts.begun);
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

#[test]
fn devices_of_a_file_prove_their_pre_shared_keys() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("fleet.csv");
    let line =
        |number: u8, byte: &str| format!("d{number},identity {number},{}\n", byte.repeat(16));
    let fleet: String = (0..4).map(|number| line(number, "ab")).collect();
    std::fs::write(&file, fleet).unwrap();
    let path = file.to_str().unwrap();
    let arguments = ["--auth", "psk", "--devices-file", path, "--count", "20"];
    let server = Server::start(None);
    let (output, report) = run(&server, &arguments);
    assert!(output.status.success(), "{}", text(&output));
    let counts = server.stop();
    assert_eq!((counts.handshakes, counts.with_key), (4, 4));
    assert_eq!(counts.requests, 20);
    assert_eq!(report["requests"]["ok"], 20);
    assert_eq!(report["config"]["auth"], "psk");

    // One suite of them; and a key that the server does not have.
    std::fs::write(&file, line(1, "cd")).unwrap();
    let suite = ["--suite", "TLS_PSK_WITH_AES_128_CCM_8"];
    let server = Server::start(None);
    let (output, _) = run(&server, &[&arguments[..], &suite].concat());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("decrypt_error"), "{}", text(&output));
    assert_eq!(server.stop().handshakes, 0);
}

const RESUME: [&str; 8] = [
    "--scenario",
    "resume",
    "--devices",
    "5",
    "--count",
    "40",
    "--threads",
    "2",
];

#[test]
fn sessions_are_resumed_by_ticket_or_by_id_after_one_full_handshake_each() {
    for (way, arguments) in [("ticket", &[][..]), ("id", &["--resume-by", "id"][..])] {
        let hour = Duration::from_secs(3600);
        let sessions = Sessions::new(Some(SessionCache::new(100, hour)));
        let keys = TicketKeys::new(vec![TicketKey::new([1; 16], [1; 32])], hour);
        sessions.set_ticket_keys(Some(Arc::new(keys)));
        let server = Server::start_with(None, sessions);
        let (output, report) = run(&server, &[&RESUME[..], arguments].concat());
        assert!(output.status.success(), "{way}: {}", text(&output));
        let counts = server.stop();
        assert_eq!((counts.handshakes, counts.resumed), (45, 40), "{way}");
        let handshakes = &report["handshakes"];
        assert_eq!(handshakes["started"], 40);
        assert_eq!(handshakes["completed"], 40);
        assert_eq!(handshakes["resumed"], 40);
        assert_eq!(handshakes["failed"], 0);
        assert!(report["handshake_us"]["p50"].as_u64().unwrap() > 0);
        assert!(
            text(&output).contains("resumed      40"),
            "{}",
            text(&output)
        );
    }
}

/// A full handshake in the place of a resumption is a failure.
#[test]
fn a_server_that_does_not_resume_fails_the_run() {
    let server = Server::start(None);
    let (output, report) = run(&server, &RESUME);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(
        text(&output).contains("neither a ticket nor an id"),
        "{}",
        text(&output)
    );
    assert_eq!(report, Value::Null);
    assert_eq!(server.stop().resumed, 0);
}
