//! Clients of other authors over real sockets: whatever our client and server have in common as a
//! mistake shows here.

use std::collections::HashMap;
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant as StdInstant};

use tidegate::crypto::random::SystemRandom;
use tidegate::crypto::suite::CipherSuite;
use tidegate::dtls::{self, Accepted, Association, CookieJar, Error, ServerConfig};
use tidegate::time::{Instant, Now};

use crate::support::{UNIX_MS, server_config};

/// A server that echoes, and what it saw.
struct EchoServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Event>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Established {
        suite: CipherSuite,
        group: u16,
        fingerprint: bool,
        extended: bool,
    },
    Data(Vec<u8>),
    Failed(Error),
    Closed,
}

impl EchoServer {
    fn start(config: ServerConfig) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(5)))
            .unwrap();
        let address = socket.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || serve(&socket, &Arc::new(config), &stopped));
        Self {
            address,
            stop,
            thread,
        }
    }

    fn stop(self) -> Vec<Event> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn serve(socket: &UdpSocket, config: &Arc<ServerConfig>, stop: &AtomicBool) -> Vec<Event> {
    let cookies = CookieJar::generate(&mut SystemRandom);
    let origin = StdInstant::now();
    let mut peers: HashMap<SocketAddr, Association> = HashMap::new();
    let mut events = vec![];
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        let received = socket.recv_from(&mut buffer);
        let now = Now {
            instant: Instant::ZERO + origin.elapsed(),
            unix_ms: UNIX_MS,
        };
        let mut out: Vec<Vec<u8>> = vec![];
        let (mut random, mut drops) = (SystemRandom, |_| {});
        let mut cx = dtls::Context {
            config,
            cookies: &cookies,
            admit_handshakes: true,
            random: &mut random,
            out: &mut out,
            drops: &mut drops,
        };
        let Ok((length, from)) = received else {
            continue;
        };
        let key = from.to_string();
        let datagram = &mut buffer[..length];
        match peers.get_mut(&from) {
            None => match dtls::accept(now, key.as_bytes(), datagram, &mut cx) {
                Accepted::Nothing => {}
                Accepted::Refused(error) => events.push(Event::Failed(error)),
                Accepted::New(association) => {
                    peers.insert(from, association);
                }
            },
            Some(association) => {
                let received = association.handle_datagram(now, key.as_bytes(), datagram, &mut cx);
                events.extend(received.failure.map(Event::Failed));
                if received.established {
                    events.push(Event::Established {
                        suite: association.suite().unwrap(),
                        group: association.group().unwrap().id(),
                        fingerprint: association.peer_fingerprint().is_some(),
                        extended: association.extended_master_secret(),
                    });
                }
                for range in &received.plaintexts {
                    let data = datagram[range].to_vec();
                    let (prefix, suffix) = association.record_overhead();
                    let mut record = vec![0; prefix];
                    record.extend_from_slice(&data);
                    record.resize(record.len() + suffix, 0);
                    association.seal_application_data(&mut record).unwrap();
                    out.push(record);
                    events.push(Event::Data(data));
                }
                if received.closed {
                    events.push(Event::Closed);
                    peers.remove(&from);
                }
            }
        }
        for datagram in out {
            socket.send_to(&datagram, from).unwrap();
        }
    }
    events
}

/// Runs a client with `input` on its standard input, which stays open for a moment so that answers
/// can come.
fn run(program: &str, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let _ = stdin.write_all(input);
    std::thread::sleep(Duration::from_millis(300));
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn openssl(server: &EchoServer, arguments: &[&str]) -> String {
    let address = server.address.to_string();
    let mut all = vec!["s_client", "-dtls1_2", "-connect", &address];
    all.extend_from_slice(arguments);
    let output = run("openssl", &all, b"reading\n");
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn openssl_one_way() {
    let server = EchoServer::start(server_config());
    let text = openssl(&server, &[]);
    let events = server.stop();
    assert!(
        text.contains("Extended master secret: yes"),
        "{text} {events:?}"
    );
    assert_eq!(events.len(), 3, "{text} {events:?}");
    assert_eq!(events[1], Event::Data(b"reading\n".to_vec()));
    assert_eq!(events[2], Event::Closed);
}
