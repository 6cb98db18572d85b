//! Clients of other authors over real sockets: whatever our client and server have in common as a
//! mistake shows here.

#![allow(clippy::disallowed_methods, reason = "real sockets need a real clock")]

use std::collections::HashMap;
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant as StdInstant};

use tidegate::crypto::key_exchange::NamedGroup;
use tidegate::crypto::random::SystemRandom;
use tidegate::crypto::suite::CipherSuite;
use tidegate::dtls::{
    self, Accepted, AlertDescription, Association, CookieJar, Error, ServerConfig,
};
use tidegate::time::{Instant, Now};

use crate::support::{UNIX_MS, credentials, long_certificate, server_config};

/// A server that echoes, and what it saw.
struct EchoServer {
    address: SocketAddr,
    events: Arc<Mutex<Vec<Event>>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Established {
        suite: CipherSuite,
        group: NamedGroup,
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
        let events = Arc::default();
        let seen = Arc::clone(&events);
        let thread = std::thread::spawn(move || serve(&socket, &Arc::new(config), &stopped, &seen));
        Self {
            address,
            events,
            stop,
            thread,
        }
    }

    fn stop(self) -> Vec<Event> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        std::mem::take(&mut self.events.lock().unwrap())
    }
}

fn serve(
    socket: &UdpSocket,
    config: &Arc<ServerConfig>,
    stop: &AtomicBool,
    seen: &Mutex<Vec<Event>>,
) {
    let cookies = CookieJar::generate(&mut SystemRandom);
    let origin = StdInstant::now();
    let mut peers: HashMap<SocketAddr, Association> = HashMap::new();
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
            sessions: &tidegate::dtls::NO_SESSIONS,
            revocations: &dtls::NoRevocations,
            admit_handshakes: true,
            random: &mut random,
            out: &mut out,
            drops: &mut drops,
        };
        let Ok((length, from)) = received else {
            continue;
        };
        let key = from.to_string();
        let mut events = seen.lock().unwrap();
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
                        group: association.group().unwrap(),
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
}

/// Runs a client that has a line to send; its input ends once the server has seen the line, or the
/// handshake failed, or time is over.
fn run(server: &EchoServer, program: &str, arguments: &[&str]) -> String {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let _ = stdin.write_all(b"reading\n");
    let end = StdInstant::now() + Duration::from_secs(10);
    let is_over = |event: &Event| matches!(event, Event::Data(_) | Event::Failed(_));
    while !server.events.lock().unwrap().iter().any(is_over) && StdInstant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    // Time for the answer to come back and be printed.
    std::thread::sleep(Duration::from_millis(100));
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// Certificates of the client as files.
struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, algorithm) in [
            ("p256", &rcgen::PKCS_ECDSA_P256_SHA256),
            ("p384", &rcgen::PKCS_ECDSA_P384_SHA384),
            ("rsa", &rcgen::PKCS_RSA_SHA256),
        ] {
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let parameters = rcgen::CertificateParams::new(["device".to_owned()]).unwrap();
            let pem = parameters.self_signed(&key).unwrap().pem();
            std::fs::write(directory.path().join(format!("{name}.pem")), pem).unwrap();
            let key = key.serialize_pem();
            std::fs::write(directory.path().join(format!("{name}.key")), key).unwrap();
        }
        Self { directory }
    }

    fn path(&self, name: &str) -> String {
        self.directory
            .path()
            .join(name)
            .to_str()
            .unwrap()
            .to_owned()
    }
}

/// What one run of a client must lead to.
struct Expected {
    suite: CipherSuite,
    group: NamedGroup,
    fingerprint: bool,
}

#[track_caller]
fn assert_session(server: EchoServer, text: &str, expected: &Expected) {
    let events = server.stop();
    let &Expected {
        suite,
        group,
        fingerprint,
    } = expected;
    let established = Event::Established {
        suite,
        group,
        fingerprint,
        extended: true,
    };
    let wanted = [
        established,
        Event::Data(b"reading\n".to_vec()),
        Event::Closed,
    ];
    assert_eq!(events, wanted, "{text}");
    assert!(text.contains("reading"), "the echo did not arrive: {text}");
}

const GROUPS: [(NamedGroup, &str, &str); 3] = [
    (NamedGroup::Secp256r1, "P-256", "+GROUP-SECP256R1"),
    (
        NamedGroup::X25519,
        "X25519:P-256",
        "+GROUP-X25519:+GROUP-SECP256R1",
    ),
    (
        NamedGroup::Secp384r1,
        "P-384:P-256",
        "+GROUP-SECP384R1:+GROUP-SECP256R1",
    ),
];

/// Suites with their names in OpenSSL and in GnuTLS.
const SUITES: [(CipherSuite, &str, &str); 7] = {
    use CipherSuite as S;
    [
        (
            S::EcdheEcdsaAes128Gcm,
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "AES-128-GCM",
        ),
        (
            S::EcdheEcdsaAes256Gcm,
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "AES-256-GCM",
        ),
        (
            S::EcdheEcdsaChaCha20Poly1305,
            "ECDHE-ECDSA-CHACHA20-POLY1305",
            "CHACHA20-POLY1305",
        ),
        (
            S::EcdheEcdsaAes128Ccm8,
            "ECDHE-ECDSA-AES128-CCM8",
            "AES-128-CCM-8",
        ),
        (
            S::EcdheEcdsaAes256Ccm8,
            "ECDHE-ECDSA-AES256-CCM8",
            "AES-256-CCM-8",
        ),
        (
            S::EcdheEcdsaAes128Ccm,
            "ECDHE-ECDSA-AES128-CCM",
            "AES-128-CCM",
        ),
        (
            S::EcdheEcdsaAes256Ccm,
            "ECDHE-ECDSA-AES256-CCM",
            "AES-256-CCM",
        ),
    ]
};

fn openssl(server: &EchoServer, arguments: &[&str]) -> String {
    let address = server.address.to_string();
    let mut all = vec!["s_client", "-dtls1_2", "-connect", &address];
    all.extend_from_slice(arguments);
    run(server, "openssl", &all)
}

#[test]
fn openssl_with_every_suite_one_way_and_two_way() {
    let files = Files::new();
    for (suite, name, _) in SUITES {
        // OpenSSL counts a tag of 8 bytes as weak.
        let cipher = format!("{name}:@SECLEVEL=0");
        for key in [None, Some("p256"), Some("p384"), Some("rsa")] {
            let mut arguments = vec!["-cipher".to_owned(), cipher.clone()];
            if let Some(key) = key {
                let (certificate, key) = (format!("{key}.pem"), format!("{key}.key"));
                arguments.extend(["-cert".to_owned(), files.path(&certificate)]);
                arguments.extend(["-key".to_owned(), files.path(&key)]);
            }
            let server = EchoServer::start(server_config());
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let text = openssl(&server, &arguments);
            let group = NamedGroup::X25519;
            let expected = Expected {
                suite,
                group,
                fingerprint: key.is_some(),
            };
            assert_session(server, &text, &expected);
        }
    }
}

#[test]
fn openssl_with_every_group() {
    for (group, name, _) in GROUPS {
        let server = EchoServer::start(server_config());
        let text = openssl(&server, &["-groups", name]);
        let suite = CipherSuite::EcdheEcdsaAes256Gcm;
        assert_session(
            server,
            &text,
            &Expected {
                suite,
                group,
                fingerprint: false,
            },
        );
    }
}

/// Its ClientHello and its certificate come in pieces over several datagrams.
#[test]
fn openssl_with_small_datagrams() {
    let files = Files::new();
    for mtu in ["256", "400"] {
        let mut config = server_config();
        config.max_transmission_unit = 256;
        let server = EchoServer::start(config);
        let (certificate, key) = (files.path("p256.pem"), files.path("p256.key"));
        let arguments = ["-mtu", mtu, "-cert", &certificate, "-key", &key];
        let text = openssl(&server, &arguments);
        let suite = CipherSuite::EcdheEcdsaAes256Gcm;
        let group = NamedGroup::X25519;
        assert_session(
            server,
            &text,
            &Expected {
                suite,
                group,
                fingerprint: true,
            },
        );
    }
}

/// RFC 6066 section 4.
#[test]
fn openssl_with_short_records() {
    let mut config = server_config();
    config.credentials = long_certificate();
    let server = EchoServer::start(config);
    let text = openssl(&server, &["-maxfraglen", "512"]);
    let suite = CipherSuite::EcdheEcdsaAes256Gcm;
    let group = NamedGroup::X25519;
    assert_session(
        server,
        &text,
        &Expected {
            suite,
            group,
            fingerprint: false,
        },
    );
}

#[test]
fn openssl_with_an_rsa_server() {
    let server = EchoServer::start(ServerConfig::new(credentials(&rcgen::PKCS_RSA_SHA256)));
    let text = openssl(&server, &[]);
    let suite = CipherSuite::EcdheRsaAes256Gcm;
    let group = NamedGroup::X25519;
    assert_session(
        server,
        &text,
        &Expected {
            suite,
            group,
            fingerprint: false,
        },
    );
}

/// TB vector 17: a client with nothing but PSK is told handshake_failure.
#[test]
fn openssl_with_psk_only_is_refused() {
    let server = EchoServer::start(server_config());
    let text = openssl(
        &server,
        &["-psk", "00112233", "-cipher", "PSK-AES128-GCM-SHA256"],
    );
    assert!(text.contains("alert handshake failure"), "{text}");
    assert_eq!(server.stop(), [Event::Failed(Error::NoCommonParameters)]);
}

/// RFC 5746 section 4.2: the wish to renegotiate is answered by no_renegotiation. The session is not
/// touched by it; it is OpenSSL that gives up then, with the alert that is seen here.
#[test]
fn openssl_that_wants_to_renegotiate_is_declined() {
    let server = EchoServer::start(server_config());
    let address = server.address.to_string();
    let mut child = Command::new("openssl")
        .args(["s_client", "-dtls1_2", "-connect", &address])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    stdin.write_all(b"R\n").unwrap();
    std::thread::sleep(Duration::from_millis(500));
    drop(stdin);
    child.wait().unwrap();
    let events = server.stop();
    assert!(matches!(events[0], Event::Established { .. }), "{events:?}");
    let alert = Error::PeerAlert(AlertDescription::HandshakeFailure);
    assert_eq!(events[1..], [Event::Failed(alert), Event::Closed]);
}

fn gnutls(server: &EchoServer, priority: &str, arguments: &[&str]) -> String {
    let port = server.address.port().to_string();
    let priority = format!("--priority={priority}");
    let mut all = vec![
        "--udp",
        "--insecure",
        "--port",
        &port,
        &priority,
        "127.0.0.1",
    ];
    all.extend_from_slice(arguments);
    run(server, "gnutls-cli", &all)
}

#[test]
fn gnutls_with_every_suite_one_way_and_two_way() {
    let files = Files::new();
    for (suite, _, cipher) in SUITES {
        let priority = format!(
            "NONE:+VERS-DTLS1.2:+ECDHE-ECDSA:+{cipher}:+AEAD:+SIGN-ALL:+COMP-NULL:\
             +GROUP-SECP256R1:+CTYPE-X509"
        );
        for key in [None, Some("p256"), Some("p384"), Some("rsa")] {
            let mut arguments = vec![];
            if let Some(key) = key {
                arguments.push(format!(
                    "--x509certfile={}",
                    files.path(&format!("{key}.pem"))
                ));
                arguments.push(format!(
                    "--x509keyfile={}",
                    files.path(&format!("{key}.key"))
                ));
            }
            let server = EchoServer::start(server_config());
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let text = gnutls(&server, &priority, &arguments);
            let group = NamedGroup::Secp256r1;
            let expected = Expected {
                suite,
                group,
                fingerprint: key.is_some(),
            };
            assert_session(server, &text, &expected);
        }
    }
}

#[test]
fn gnutls_with_every_group() {
    for (group, _, name) in GROUPS {
        let priority = format!(
            "NONE:+VERS-DTLS1.2:+ECDHE-ECDSA:+AES-128-GCM:+AEAD:+SIGN-ALL:+COMP-NULL:\
             {name}:+CTYPE-X509"
        );
        let server = EchoServer::start(server_config());
        let text = gnutls(&server, &priority, &[]);
        let suite = CipherSuite::EcdheEcdsaAes128Gcm;
        assert_session(
            server,
            &text,
            &Expected {
                suite,
                group,
                fingerprint: false,
            },
        );
    }
}
