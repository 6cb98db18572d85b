//! The binary against a small plain CoAP server of the test.

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

/// What the server does with its n-th datagram.
#[derive(Clone, Copy)]
enum Answer {
    /// 2.01 in the ACK.
    Created,
    /// An error code in the ACK.
    Code(u8),
    /// An empty ACK, then a separate confirmable 2.01.
    Separate,
    /// Bytes that are no CoAP message.
    Garbage,
    /// None.
    Silence,
}

struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    requests: Arc<AtomicU64>,
    peers: Arc<Mutex<HashSet<SocketAddr>>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(policy: impl Fn(u64) -> Answer + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let address = socket.local_addr().unwrap();
        let (stop, requests) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let peers = Arc::new(Mutex::new(HashSet::new()));
        let thread = std::thread::spawn({
            let (stop, requests) = (Arc::clone(&stop), Arc::clone(&requests));
            let peers = Arc::clone(&peers);
            move || serve(&socket, &policy, &stop, (&requests, &peers))
        });
        Self {
            address,
            stop,
            requests,
            peers,
            thread: Some(thread),
        }
    }

    /// Ends it; gives the number of requests that came, repeated ones included.
    fn stop(mut self) -> u64 {
        self.stop.store(true, Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.requests.load(Relaxed)
    }
}

fn serve(
    socket: &UdpSocket,
    policy: &dyn Fn(u64) -> Answer,
    stop: &AtomicBool,
    (requests, peers): (&AtomicU64, &Mutex<HashSet<SocketAddr>>),
) {
    let mut buffer = [0; 2048];
    let mut next_id = 1_u16;
    while !stop.load(Relaxed) {
        let Ok((length, peer)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let message = &buffer[..length];
        let is_request = message[1] != 0 && message[1] < 0x20;
        if !is_request {
            continue;
        }
        assert_eq!(message[0] >> 4, 0b0100, "version 1, confirmable");
        let number = requests.fetch_add(1, Relaxed);
        peers.lock().unwrap().insert(peer);
        let token_length = usize::from(message[0] & 0xf);
        let token = &message[4..4 + token_length];
        let reply = |kind: u8, code: u8, id: &[u8], token: &[u8]| {
            let mut reply = vec![0x40 | kind << 4 | u8::try_from(token.len()).unwrap(), code];
            reply.extend_from_slice(id);
            reply.extend_from_slice(token);
            socket.send_to(&reply, peer).unwrap();
        };
        match policy(number) {
            Answer::Created => reply(2, 0x41, &message[2..4], token),
            Answer::Code(code) => reply(2, code, &message[2..4], token),
            Answer::Separate => {
                reply(2, 0, &message[2..4], &[]);
                next_id += 1;
                reply(0, 0x41, &next_id.to_be_bytes(), token);
            }
            Answer::Garbage => {
                socket.send_to(&[0xff, 0xff, 0xff], peer).unwrap();
                reply(2, 0x41, &message[2..4], token);
            }
            Answer::Silence => {}
        }
    }
}

fn run(server: &Server, directory: &Path, arguments: &[&str]) -> (Output, Value) {
    let json = directory.join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate-loadgen"))
        .args([
            "--target",
            &format!("coap://{}", server.address),
            "--token",
            "T",
        ])
        .arg("--json")
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
fn a_fleet_in_turn_has_so_many_outstanding_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let load = |server: &Server, arguments: &str| {
        let all = format!("--devices 20 --in-flight 3 {arguments}");
        let arguments: Vec<&str> = all.split(' ').collect();
        run(server, directory.path(), &arguments)
    };
    let silent = Server::start(|_| Answer::Silence);
    // Less than ACK_TIMEOUT, so that none is repeated: three at first, and three after their second.
    let (output, report) = load(&silent, "--threads 2 --timeout 1s --duration 1500ms");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let sent = silent.stop();
    // Two threads round their parts up.
    assert!((3..=8).contains(&sent), "{sent}");
    assert_eq!(report["requests"]["ok"], 0);

    let server = Server::start(|_| Answer::Created);
    let peers = Arc::clone(&server.peers);
    let (output, report) = load(&server, "--threads 1 --count 45");
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("closed loop of 3 outstanding"));
    assert_eq!(report["config"]["in_flight"], 3);
    assert_eq!(report["config"]["closed"], true);
    assert_eq!(server.stop(), 45);
    assert_eq!(
        peers.lock().unwrap().len(),
        20,
        "every device has its turns"
    );
}

#[test]
fn a_closed_loop_counts_each_request_once_and_draws_its_latencies() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(|_| Answer::Created);
    let hgrm = directory.path().join("latency.hgrm");
    let pid = std::process::id().to_string();
    let (output, report) = run(
        &server,
        directory.path(),
        &[
            "--closed",
            "--devices",
            "20",
            "--duration",
            "2s",
            "--threads",
            "2",
            "--server-pid",
            &pid,
            "--hgrm",
            hgrm.to_str().unwrap(),
        ],
    );
    assert!(output.status.success(), "{}", text(&output));
    let requests = server.stop();
    assert!(requests > 100, "{requests}");
    assert_eq!(report["requests"]["sent"], requests);
    assert_eq!(report["requests"]["ok"], requests);
    assert_eq!(report["requests"]["failed"], 0);
    assert_eq!(report["handshakes"]["started"], 0);
    let per_s = report["requests"]["per_s"].as_f64().unwrap();
    assert!(
        (per_s * 2.0 - requests as f64).abs() < requests as f64 * 0.1 + 20.0,
        "{per_s} against {requests}"
    );
    assert!(report["server"]["cpu_us_per_request"].as_f64().unwrap() > 0.0);
    assert!(report["latency_us"]["p50"].as_u64().unwrap() > 0);
    let table = text(&output);
    assert!(table.contains("█") && table.contains("p99.9"), "{table}");
    assert!(table.contains("requests/s  p50"), "the live line: {table}");
    let hgrm = std::fs::read_to_string(hgrm).unwrap();
    assert!(
        hgrm.contains(&format!("Total count    = {requests:>12}]")),
        "{hgrm}"
    );
}

#[test]
fn an_open_loop_keeps_its_rate_and_its_schedule_belongs_to_the_seed() {
    let directory = tempfile::tempdir().unwrap();
    let mut counts = Vec::new();
    for _ in 0..2 {
        let server = Server::start(|_| Answer::Created);
        let arguments = [
            "--rate",
            "500",
            "--devices",
            "50",
            "--duration",
            "2s",
            "--threads",
            "2",
            "--seed",
            "9",
        ];
        let (output, report) = run(&server, directory.path(), &arguments);
        assert!(output.status.success(), "{}", text(&output));
        let requests = server.stop();
        assert_eq!(report["requests"]["ok"], requests);
        // 1000 wanted; the standard deviation of the schedule is 32.
        assert!((850..1150).contains(&requests), "{requests}");
        counts.push(requests);
    }
    assert_eq!(counts[0], counts[1]);
}

#[test]
fn latency_counts_from_the_intended_time_while_the_server_is_silent() {
    let directory = tempfile::tempdir().unwrap();
    // The first request is answered on its retransmission only, 2 to 3 s later; those that the
    // device should have sent meanwhile were intended long before they could be.
    let server = Server::start(|number| {
        if number == 0 {
            Answer::Silence
        } else {
            Answer::Created
        }
    });
    let arguments = ["--rate", "20", "--devices", "1", "--duration", "2s"];
    let (output, report) = run(&server, directory.path(), &arguments);
    assert!(output.status.success(), "{}", text(&output));
    server.stop();
    assert_eq!(report["requests"]["retransmissions"], 1);
    let p50 = report["latency_us"]["p50"].as_u64().unwrap();
    assert!(
        p50 > 700_000,
        "the requests that waited count with their waiting: {report}"
    );
    let service = report["service_us"]["p50"].as_u64().unwrap();
    assert!(
        service < p50,
        "what waited in the generator is not the server's: {report}"
    );
}

#[test]
fn losses_are_retransmitted_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(|number| {
        if number % 10 == 3 {
            Answer::Silence
        } else {
            Answer::Created
        }
    });
    let arguments = ["--rate", "50", "--devices", "50", "--duration", "1s"];
    let (output, report) = run(&server, directory.path(), &arguments);
    assert!(output.status.success(), "{}", text(&output));
    let datagrams = server.stop();
    let sent = report["requests"]["sent"].as_u64().unwrap();
    let retransmissions = report["requests"]["retransmissions"].as_u64().unwrap();
    assert!(retransmissions >= 3, "{report}");
    assert_eq!(sent + retransmissions, datagrams);
    assert_eq!(report["requests"]["ok"], sent);
    assert_eq!(report["requests"]["timeouts"], 0);
}

#[test]
fn separate_answers_are_understood() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(|_| Answer::Separate);
    let (output, report) = run(
        &server,
        directory.path(),
        &["--count", "100", "--devices", "4", "--duration", "20s"],
    );
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(
        (server.stop(), &report["requests"]["ok"]),
        (100, &Value::from(100))
    );
    assert!(
        report["config"]["measured_s"].as_f64().unwrap() < 10.0,
        "--count ends it"
    );
}

/// A refusal is quick: among the latencies it would flatter a server that cannot keep up.
#[test]
fn refusals_have_no_latency() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(|_| Answer::Code(0xa3));
    let arguments = ["--count", "20", "--devices", "2", "--duration", "20s"];
    let (output, report) = run(&server, directory.path(), &arguments);
    server.stop();
    assert_eq!(report["requests"]["failed"], 20);
    assert_eq!(report["latency_us"]["max"], 0, "{report}");
    assert!(
        text(&output).contains("that of successes"),
        "{}",
        text(&output)
    );
}

#[test]
fn errors_decide_the_exit_code_and_name_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["--count", "20", "--devices", "2", "--duration", "20s"];
    let some_fail = |number| {
        if number % 10 == 0 {
            Answer::Code(0x81)
        } else {
            Answer::Created
        }
    };
    let server = Server::start(some_fail);
    let (output, report) = run(&server, directory.path(), &arguments);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        (&report["requests"]["failed"], &report["requests"]["ok"]),
        (&2.into(), &18.into())
    );
    assert!(
        text(&output).contains("4.01 Unauthorized: the server does not know the token"),
        "{}",
        text(&output)
    );
    server.stop();

    let server = Server::start(some_fail);
    let (output, _) = run(
        &server,
        directory.path(),
        &[&arguments[..], &["--max-errors", "2"]].concat(),
    );
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    server.stop();

    // A wrong answer is never put up with.
    let server = Server::start(|_| Answer::Garbage);
    let (output, _) = run(
        &server,
        directory.path(),
        &[&arguments[..], &["--max-errors", "1000"]].concat(),
    );
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("malformed"), "{}", text(&output));
    server.stop();
}

#[test]
fn timeouts_fail() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(|number| {
        if number == 0 {
            Answer::Created
        } else {
            Answer::Silence
        }
    });
    let arguments = ["--devices", "2", "--duration", "500ms", "--timeout", "1s"];
    let (output, report) = run(&server, directory.path(), &arguments);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(report["requests"]["timeouts"], 2, "{}", text(&output));
    assert_eq!(report["requests"]["failed"], 2);
    server.stop();
}

#[test]
fn times_are_told_in_their_unit_and_the_results_hold_the_settings() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(|number| match number {
        0 => Answer::Created,
        _ => Answer::Silence,
    });
    let html = directory.path().join("report.html");
    let arguments = "--devices 2 --duration 300ms --timeout 1ms --sockets each --html";
    let mut arguments: Vec<&str> = arguments.split(' ').collect();
    arguments.push(html.to_str().unwrap());
    let (output, report) = run(&server, directory.path(), &arguments);
    assert_eq!(output.status.code(), Some(1));
    server.stop();
    let said = text(&output);
    assert!(said.contains("had no answer within 1 ms"), "{said}");
    let config = &report["config"];
    assert_eq!(config["timeout_s"], 0.001);
    assert_eq!(config["sockets"], "each");
    assert_eq!(config["credentials"], "token");
    // However short, the run has a course with times that are told apart.
    let page = std::fs::read_to_string(html).unwrap();
    for label in ["100 ms", "200 ms"] {
        assert!(
            page.contains(&format!(">{label}</text>")),
            "{label}: {page}"
        );
    }
}

#[test]
fn a_file_for_two_outputs_is_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate-loadgen"))
        .args(["--target", "coap://127.0.0.1:9", "--token", "T"])
        .args(["--json", "same", "--html", "./same"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output);
    assert!(
        said.contains("--json and --html name the same file"),
        "{said}"
    );
}

#[test]
fn an_absent_server_and_wrong_usage_are_told() {
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_tidegate-loadgen"))
            .args(arguments)
            .output()
            .unwrap()
    };
    let free = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let output = run(&[
        "--target",
        &format!("coap://{free}"),
        "--token",
        "T",
        "--duration",
        "20s",
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output).contains("nothing listens at"),
        "{}",
        text(&output)
    );

    let output = run(&["--target", "coap://127.0.0.1", "--rate", "1", "--closed"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let output = run(&[
        "--target",
        "coap://127.0.0.1",
        "--token",
        "T",
        "--server-pid",
        "4294967295",
    ]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let output = run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    for scenario in ["telemetry", "handshake", "storm"] {
        assert!(text(&output).contains(scenario), "{scenario}");
    }
}

/// Devices are told apart by their addresses whether they share sockets or not, and the process needs
/// no descriptor for each where they do.
#[test]
fn many_devices_share_a_few_sockets() {
    let directory = tempfile::tempdir().unwrap();
    for (sockets, fewest_hosts) in [("shared", 400), ("each", 1)] {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let address = socket.local_addr().unwrap();
        let answering = std::thread::spawn(move || {
            let mut peers = std::collections::BTreeSet::new();
            let mut buffer = [0; 2048];
            for _ in 0..400 {
                let (length, peer) = socket.recv_from(&mut buffer).unwrap();
                peers.insert(peer);
                let token_length = usize::from(buffer[0] & 0xf);
                buffer[0] = 0x60 | buffer[0] & 0xf;
                buffer[1] = 0x41;
                let end = length.min(4 + token_length);
                socket.send_to(&buffer[..end], peer).unwrap();
            }
            peers
        });
        // In a shell with a limit below the number of devices.
        let json = directory.path().join("report.json");
        let descriptors = if sockets == "shared" { 150 } else { 600 };
        let output = Command::new("sh")
            .arg("-c")
            .arg(format!("ulimit -n {descriptors} && exec \"$0\" \"$@\""))
            .arg(env!("CARGO_BIN_EXE_tidegate-loadgen"))
            .args(["--target", &format!("coap://{address}"), "--token", "T"])
            // The schedule goes round all devices before one has its second turn.
            .args(["--devices", "400", "--count", "400", "--rate", "2000"])
            .args(["--threads", "1", "--sockets", sockets, "--json"])
            .arg(&json)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let peers = answering.join().unwrap();
        assert_eq!(peers.len(), 400, "{sockets}");
        let hosts: std::collections::BTreeSet<_> = peers.iter().map(SocketAddr::ip).collect();
        assert!(hosts.len() >= fewest_hosts, "{sockets}: {}", hosts.len());
        let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
        assert_eq!(report["requests"]["ok"], 400, "{report}");
    }
}

#[test]
fn the_report_says_what_a_closed_loop_does_not_count() {
    let directory = tempfile::tempdir().unwrap();
    for (load, said) in [(&["--closed"][..], true), (&["--rate", "30"], false)] {
        let server = Server::start(|_| Answer::Created);
        let mut arguments = vec!["--devices", "1", "--duration", "1s"];
        arguments.extend(load);
        let (output, _) = run(&server, directory.path(), &arguments);
        assert!(output.status.success());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(text.contains("coordinated omission"), said, "{text}");
        server.stop();
    }
}
