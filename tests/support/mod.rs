//! A server of our own binary for tests: started on free ports, stopped when dropped.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "each test binary uses its own part of these helpers"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "tests of a process run by the clock"
)]

mod link;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub use link::Link;

/// How long a server or client may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running `tidegate serve`.
pub struct Server {
    child: Option<Child>,
    pub directory: tempfile::TempDir,
    pub plain_port: u16,
    pub secure_port: u16,
    pub admin_port: u16,
    settings: Vec<(String, String)>,
    arguments: Vec<&'static str>,
    prepare: fn(&mut Command),
}

/// The binary under test.
pub fn tidegate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    // Settings of whoever runs the tests must not reach the server.
    for (name, _) in std::env::vars() {
        if ["COAP_", "TIDEGATE_", "TB_", "JSON_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        {
            command.env_remove(name);
        }
    }
    command.env_remove("SSLKEYLOGFILE");
    // The same tests over the way that the kernel would not be asked for (`make test`).
    if let Ok(driver) = std::env::var("TEST_DRIVER") {
        command.env("TIDEGATE_DRIVER", driver);
    }
    command
}

impl Server {
    /// Starts with a self-signed P-256 certificate and the given settings on top.
    pub fn start(settings: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let made = tidegate()
            .args(["cert", "self-signed", "--cn", "localhost", "--out"])
            .arg(directory.path())
            .args(["--san", "127.0.0.1"])
            .output()
            .expect("tidegate runs");
        assert!(made.status.success(), "{}", text(&made.stderr));
        Self::start_in(directory, settings)
    }

    /// Starts in a directory that holds `server.pem` and `server_key.pem`, unless settings differ.
    pub fn start_in(directory: tempfile::TempDir, settings: &[(&str, &str)]) -> Self {
        Self::start_prepared(directory, settings, |_| {})
    }

    /// The same, the process prepared by `prepare`.
    pub fn start_prepared(
        directory: tempfile::TempDir,
        settings: &[(&str, &str)],
        prepare: fn(&mut Command),
    ) -> Self {
        let [plain_port, secure_port] = free_udp_ports();
        let admin_port = free_tcp_port();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let mut all: Vec<(String, String)> = vec![
            ("COAP_BIND_ADDRESS".into(), "127.0.0.1".into()),
            ("COAP_BIND_PORT".into(), plain_port.to_string()),
            ("COAP_DTLS_ENABLED".into(), "true".into()),
            ("COAP_DTLS_BIND_ADDRESS".into(), "127.0.0.1".into()),
            ("COAP_DTLS_BIND_PORT".into(), secure_port.to_string()),
            ("COAP_DTLS_PEM_CERT".into(), path("server.pem")),
            ("COAP_DTLS_PEM_KEY".into(), path("server_key.pem")),
            (
                "TIDEGATE_ADMIN_BIND".into(),
                format!("127.0.0.1:{admin_port}"),
            ),
            ("TIDEGATE_DATA_DIR".into(), path("data")),
            // Answers are piggybacked however slow the disk under the test is.
            ("COAP_PIGGYBACK_TIMEOUT".into(), "60000".into()),
        ];
        for (name, value) in settings {
            all.retain(|(known, _)| known != name);
            all.push(((*name).into(), (*value).into()));
        }
        let mut server = Self {
            child: None,
            directory,
            plain_port,
            secure_port,
            admin_port,
            settings: all,
            arguments: vec!["serve"],
            prepare,
        };
        server.spawn();
        server
    }

    /// `tidegate serve --dev`, on free ports.
    pub fn develop(directory: tempfile::TempDir) -> Self {
        let [plain_port, secure_port] = free_udp_ports();
        let admin_port = free_tcp_port();
        let settings = [
            ("COAP_BIND_PORT", plain_port.to_string()),
            ("COAP_DTLS_BIND_PORT", secure_port.to_string()),
            ("TIDEGATE_ADMIN_BIND", format!("127.0.0.1:{admin_port}")),
            ("TIDEGATE_DATA_DIR", "tidegate-data".to_owned()),
        ];
        let mut server = Self {
            child: None,
            directory,
            plain_port,
            secure_port,
            admin_port,
            settings: settings
                .map(|(name, value)| (name.to_owned(), value))
                .to_vec(),
            arguments: vec!["serve", "--dev"],
            prepare: |_| {},
        };
        server.spawn();
        server
    }

    /// Starts the process again after [`Self::kill`], on the same ports and data.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("log"))
            .expect("a log file");
        let mut command = tidegate();
        command
            .args(&self.arguments)
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log);
        (self.prepare)(&mut command);
        let child = command.spawn().expect("tidegate starts");
        self.child = Some(child);
        let deadline = Instant::now() + PATIENCE;
        while !self
            .http("/readyz")
            .is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
        {
            let ended = self
                .child
                .as_mut()
                .and_then(|child| child.try_wait().ok().flatten());
            assert!(
                ended.is_none(),
                "the server ended: {ended:?}\n{}",
                self.log()
            );
            assert!(
                Instant::now() < deadline,
                "the server is not ready\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the server logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Waits until the server has logged `text`.
    pub fn wait_for_log(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            assert!(Instant::now() < deadline, "no {text}: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGKILL, at once.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("the server can be killed");
            child.wait().expect("the server ends");
        }
    }

    /// SIGTERM; returns whether the server ended well within [`PATIENCE`].
    pub fn terminate(&mut self) -> bool {
        let Some(mut child) = self.child.take() else {
            return false;
        };
        let pid = child.id().to_string();
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .expect("kill runs");
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait().expect("the server can be waited for") {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        child.kill().expect("the server can be killed");
        let _ = child.wait();
        false
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    /// Runs a command of ours against this server's data directory.
    pub fn tidegate(&self, arguments: &[&str]) -> Output {
        tidegate()
            .args(arguments)
            .env("TIDEGATE_DATA_DIR", self.data_directory())
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .output()
            .expect("tidegate runs")
    }

    /// The same, which must succeed; returns what it printed.
    pub fn tidegate_ok(&self, arguments: &[&str]) -> String {
        let output = self.tidegate(arguments);
        assert!(
            output.status.success(),
            "tidegate {arguments:?}: {}{}\n{}",
            text(&output.stdout),
            text(&output.stderr),
            self.log()
        );
        text(&output.stdout)
    }

    /// The token of the admin interface.
    pub fn admin_token(&self) -> String {
        let path = self.data_directory().join("admin-token");
        let token = std::fs::read_to_string(path).expect("the token's file");
        token.trim_end().to_owned()
    }

    fn data_directory(&self) -> PathBuf {
        let data = self
            .settings
            .iter()
            .find(|(name, _)| name == "TIDEGATE_DATA_DIR");
        self.path(data.map_or("data", |(_, value)| value))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A client certificate for `name`, registered as that device; returns the paths of both files.
    pub fn certificate_device(&self, name: &str) -> (PathBuf, PathBuf) {
        let out = self.path(name);
        let out_text = out.display().to_string();
        self.tidegate_ok(&["cert", "client", "--out", &out_text, "--cn", name]);
        let certificate = out.join("client.pem");
        self.tidegate_ok(&[
            "device",
            "add",
            name,
            "--x509",
            &certificate.display().to_string(),
        ]);
        (certificate, out.join("client_key.pem"))
    }

    /// A client certificate that is nobody's.
    pub fn unregistered_certificate(&self, name: &str) -> (PathBuf, PathBuf) {
        let out = self.path(name);
        self.tidegate_ok(&[
            "cert",
            "client",
            "--out",
            &out.display().to_string(),
            "--cn",
            name,
        ]);
        (out.join("client.pem"), out.join("client_key.pem"))
    }

    /// The latest readings of a device, as JSON.
    pub fn latest(&self, device: &str) -> serde_json::Value {
        let printed = self.tidegate_ok(&["data", "latest", device]);
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
    }

    /// A GET to the admin port; the whole answer with its headers.
    pub fn http(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin_port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// A request to the JSON API over TCP, with the token; the answer's status and body.
    pub fn api(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin_port)).expect("the API");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
             Authorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.admin_token(),
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        (status.expect("a status"), body.to_owned())
    }

    /// Sends one plain CoAP datagram and returns the answer, `None` after a second of silence.
    pub fn plain(&self, datagram: &[u8]) -> Option<Vec<u8>> {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        self.plain_on(&socket, datagram)
    }

    /// The same from a socket of the caller's.
    pub fn plain_on(&self, socket: &UdpSocket, datagram: &[u8]) -> Option<Vec<u8>> {
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket
            .send_to(datagram, ("127.0.0.1", self.plain_port))
            .expect("a datagram leaves");
        let mut answer = [0; 2048];
        let (length, _) = socket.recv_from(&mut answer).ok()?;
        Some(answer[..length].to_vec())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the server's log ---\n{}", self.log());
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Two UDP ports that nobody has now.
fn free_udp_ports() -> [u16; 2] {
    [0; 2].map(|_| free_port(|port| UdpSocket::bind(("127.0.0.1", port)).is_ok()))
}

fn free_tcp_port() -> u16 {
    free_port(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
}

/// A port that is free and that no client is given by chance, so that it is still free when a server
/// is started again: below those that the kernel gives to whoever asks for none, and another each time.
fn free_port(is_free: impl Fn(u16) -> bool) -> u16 {
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 20_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    // Test processes that run side by side begin elsewhere.
    let start = std::process::id().wrapping_mul(911);
    loop {
        let number = TAKEN.fetch_add(1, Ordering::Relaxed);
        assert!(number < COUNT, "no free port");
        let port = FIRST + start.wrapping_add(number) % COUNT;
        let port = u16::try_from(port).expect("a port");
        if is_free(port) {
            return port;
        }
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Hexadecimal with spaces as in the documents.
pub fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// Runs a third-party client to its end; it must be installed (`make test` sees to that).
pub fn run_client(program: &str, arguments: &[&str], directory: &Path) -> Output {
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("{program} is needed by this test: {error}; run `make test`")
        });
    let deadline = Instant::now() + PATIENCE;
    while child
        .try_wait()
        .expect("a client can be waited for")
        .is_none()
    {
        if Instant::now() >= deadline {
            let _ = child.kill();
            panic!(
                "{program} {arguments:?} did not end: {:?}",
                child.wait_with_output()
            );
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().expect("a client's output")
}

/// A client that is fed bytes and gives bytes, such as `openssl s_client`.
pub struct Dialogue {
    child: Child,
    output: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
}

impl Dialogue {
    pub fn start(program: &str, arguments: &[&str], directory: &Path) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{program} is needed by this test: {error}; run `make test`")
            });
        let output = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let streams: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("piped")),
            Box::new(child.stderr.take().expect("piped")),
        ];
        for mut stream in streams {
            let output = std::sync::Arc::clone(&output);
            std::thread::spawn(move || {
                let mut chunk = [0; 4096];
                while let Ok(length) = stream.read(&mut chunk) {
                    if length == 0 {
                        break;
                    }
                    output.lock().unwrap().extend_from_slice(&chunk[..length]);
                }
            });
        }
        Self { child, output }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        let stdin = self.child.stdin.as_mut().expect("piped");
        stdin.write_all(bytes).expect("the client takes input");
        stdin.flush().expect("the client takes input");
    }

    /// Waits until the client has ended by itself; returns all output.
    pub fn ended_within(&mut self, patience: Duration) -> Result<String, String> {
        let deadline = Instant::now() + patience;
        loop {
            let ended = self.child.try_wait().ok().flatten().is_some();
            let output = || text(&self.output.lock().unwrap());
            if ended {
                return Ok(output());
            }
            if Instant::now() >= deadline {
                return Err(output());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the output holds `needle`; returns all output so far, as error when it ends first.
    pub fn expect(&mut self, needle: &[u8]) -> Result<Vec<u8>, String> {
        self.expect_within(needle, PATIENCE)
    }

    /// The same with a patience of the caller.
    pub fn expect_within(&mut self, needle: &[u8], patience: Duration) -> Result<Vec<u8>, String> {
        let deadline = Instant::now() + patience;
        loop {
            let ended = self.child.try_wait().ok().flatten().is_some();
            let output = self.output.lock().unwrap().clone();
            if output.windows(needle.len()).any(|window| window == needle) {
                return Ok(output);
            }
            if ended || Instant::now() >= deadline {
                return Err(text(&output));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
