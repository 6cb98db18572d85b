mod fake;
mod features;
mod pages;

use super::operations::sessions::*;
use super::operations::*;
use super::*;
use crate::metrics::{Counter, Latency};
use crate::store::{AttributeScope, HistoryQuery, Order};
use fake::Fake;
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::sync::Mutex;
use std::time::Duration;

struct FakeStatus {
    shards: Vec<Arc<ShardMetrics>>,
    failure: Mutex<Option<String>>,
}

impl StatusSource for FakeStatus {
    fn shards(&self) -> Vec<Arc<ShardMetrics>> {
        self.shards.clone()
    }

    fn ready(&self) -> Result<(), String> {
        self.failure.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.single("tidegate_devices", "gauge", "Registered devices.", 7);
    }

    fn facts(&self) -> Vec<(String, String)> {
        vec![("sessions".to_owned(), "3".to_owned())]
    }
}

const TOKEN: &str = "the-token-of-the-tests";

fn token() -> AdminToken {
    AdminToken::parse(TOKEN).unwrap()
}

struct Running {
    admin: Admin,
    status: Arc<FakeStatus>,
    directory: tempfile::TempDir,
}

impl Running {
    fn start() -> Self {
        Self::start_on("127.0.0.1:0", false)
    }

    fn start_on(bind: &str, remote_api: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let status = Arc::new(FakeStatus {
            shards: (0..2).map(|_| Arc::new(ShardMetrics::new())).collect(),
            failure: Mutex::new(None),
        });
        let settings = AdminSettings {
            bind: Some(bind.parse().unwrap()),
            socket: Some(directory.path().join("admin.sock")),
            token: token(),
            remote_api,
        };
        let operations = Arc::new(Fake::default());
        let admin = spawn(&settings, operations, Arc::clone(&status) as _).unwrap();
        Self {
            admin,
            status,
            directory,
        }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("admin.sock")
    }

    fn port(&self) -> u16 {
        self.admin.address().unwrap().port()
    }

    /// Sends `head` and `body` over TCP; gives status, head and body of the answer.
    fn raw(&self, head: &str, body: &[u8]) -> (u16, String, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port())).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        // The server may answer, and close, before it has read all.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        (
            status.unwrap_or(0),
            head.to_ascii_lowercase(),
            body.to_owned(),
        )
    }

    fn get(&self, target: &str) -> (u16, String) {
        let head = request_head("GET", target, "");
        let (status, _, body) = self.raw(&head, b"");
        (status, body)
    }

    fn post(&self, target: &str, content_type: &str, body: &str) -> (u16, String) {
        self.send("POST", target, content_type, body)
    }

    fn send(&self, method: &str, target: &str, content_type: &str, body: &str) -> (u16, String) {
        let headers = format!(
            "Content-Type: {content_type}\r\nContent-Length: {}\r\n",
            body.len()
        );
        let head = request_head(method, target, &headers);
        let (status, _, body) = self.raw(&head, body.as_bytes());
        (status, body)
    }
}

/// A request with the token; each of `headers` ends with a line break.
fn request_head(method: &str, target: &str, headers: &str) -> String {
    format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: \
         Bearer {TOKEN}\r\n{headers}\r\n"
    )
}

fn device(name: &str) -> NewDevice {
    NewDevice {
        name: name.to_owned(),
        token: Some(format!("token of {name}")),
        ..NewDevice::default()
    }
}

const ALL: HistoryQuery = HistoryQuery {
    from_ms: i64::MIN,
    to_ms: i64::MAX,
    limit: 1000,
    order: Order::Ascending,
};

#[test]
fn operations_cross_the_socket_unchanged() {
    let running = Running::start();
    let remote = RemoteOperations::connect(&running.socket())
        .unwrap()
        .unwrap();
    // Names that need encoding, in a path and in a query.
    for name in ["plain", "a/b c%2F?x=1&y#z", "größe 🌡", ".."] {
        let added = remote.add(&device(name)).unwrap();
        assert_eq!(added.name, name);
        assert_eq!(remote.device(name).unwrap(), added);
        let history = remote.history(name, "k&limit=1 ü", ALL).unwrap();
        assert_eq!(history.len(), 100);
        assert_eq!(history[1].value.get(), "\"k&limit=1 ü at 1000\"");
    }
    let latest = remote.latest("plain").unwrap();
    assert_eq!(
        latest["j"].value.get(),
        "{\"a\":1.0E10}",
        "text kept as stored"
    );
    assert_eq!((latest["t"].ts, latest["t"].value.get()), (5, "42"));
    let page = remote.devices(None, 3).unwrap();
    assert_eq!(page.devices.len(), 3);
    assert_eq!(page.next_after.as_deref(), Some("größe 🌡"));
    let page = remote.devices(page.next_after.as_deref(), 3).unwrap();
    assert_eq!((page.devices.len(), page.next_after), (1, None));
    remote.remove("..").unwrap();
    let error = remote.remove("..").unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert_eq!(error.to_string(), "no such device; add it");
    assert_eq!(
        remote.add(&device("plain")).unwrap_err().kind,
        ErrorKind::Conflict
    );
    let newest = HistoryQuery {
        from_ms: 2000,
        to_ms: 9000,
        limit: 2,
        order: Order::Descending,
    };
    let history = remote.history("plain", "t", newest).unwrap();
    assert_eq!([history[0].ts, history[1].ts], [9000, 8000]);
}

#[test]
fn imports_larger_than_a_request_are_split() {
    let running = Running::start();
    let remote = RemoteOperations::connect(&running.socket())
        .unwrap()
        .unwrap();
    let mut devices: Vec<_> = (0..2500).map(|n| device(&format!("d{n}"))).collect();
    devices.push(device("d7"));
    let outcomes = remote.add_all(&devices).unwrap();
    assert_eq!(outcomes.len(), 2501);
    assert_eq!(
        outcomes.iter().filter(|outcome| outcome.is_ok()).count(),
        2500
    );
    assert_eq!(
        outcomes[2500].as_ref().unwrap_err().kind,
        ErrorKind::Conflict
    );
    // Few devices, but much text.
    let heavy = |number| NewDevice {
        certificate: Some("\"".repeat(11_000)),
        ..device(&format!("heavy{number}"))
    };
    let devices: Vec<_> = (0..900).map(heavy).collect();
    let outcomes = remote.add_all(&devices).unwrap();
    assert_eq!(
        outcomes.iter().filter(|outcome| outcome.is_ok()).count(),
        900
    );
}

#[test]
fn pages_for_monitoring() {
    let running = Running::start();
    let shard = &running.status.shards[1];
    shard.add(Counter::RequestsCoaps, 5);
    shard.record(Latency::Request, Duration::from_micros(150));
    let (status, page) = running.get("/metrics");
    assert_eq!(status, 200);
    for line in [
        "tidegate_requests_total{port=\"coaps\"} 5",
        "tidegate_request_seconds_count 1",
        "tidegate_devices 7",
        "tidegate_ready 1",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}\n{page}");
    }
    let resident = page
        .lines()
        .find(|l| l.starts_with("process_resident_memory_bytes"));
    let bytes: u64 = resident
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    assert!(bytes > 1 << 20);
    assert_eq!(running.get("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(running.get("/readyz"), (200, "ready\n".to_owned()));
    let (_, page) = running.get("/");
    assert!(page.contains("sessions         3\n"), "{page}");
    assert!(page.contains("request latency  p50 160µs"), "{page}");
    *running.status.failure.lock().unwrap() = Some("the disk is full".to_owned());
    assert_eq!(
        running.get("/readyz"),
        (503, "the disk is full\n".to_owned())
    );
    assert_eq!(running.get("/healthz").0, 200);
    assert!(running.get("/").1.contains("no: the disk is full"));
}

#[test]
fn changes_cross_the_socket_unchanged() {
    let running = Running::start();
    let remote = RemoteOperations::connect(&running.socket())
        .unwrap()
        .unwrap();
    let name = "a/b ü";
    remote.add(&device(name)).unwrap();
    let values = json!({"a/b": 1, "ü": {"x": [1.5]}, "t": "5"});
    let values = values.as_object().unwrap();
    let shared = AttributeScope::Shared;
    remote.set_attributes(name, shared, values).unwrap();
    let server = AttributeScope::Server;
    remote.set_attributes(name, server, values).unwrap();
    let deleted = remote.delete_telemetry(name, "a&b", -5, 7).unwrap();
    assert_eq!(deleted.deleted, 12, "key and times as they were given");
    assert_eq!(remote.set_profile(name, "p/ü").unwrap().profile, "p/ü");
    let gone = ["a/b".to_owned(), "t".to_owned(), "unknown".to_owned()];
    remote.delete_attributes(name, shared, &gone).unwrap();
    let found = remote.attributes(name).unwrap();
    assert!(found.client.is_empty());
    assert_eq!(found.shared.keys().collect::<Vec<_>>(), ["ü"]);
    assert_eq!(found.shared["ü"].value.get(), "{\"x\":[1.5]}");
    assert_eq!(found.server["t"].value.get(), "\"5\"");
    let other = NewCredentials {
        token: Some("other".to_owned()),
        ..NewCredentials::default()
    };
    let changed = remote.set_credentials(name, &other).unwrap();
    assert_eq!(changed.credentials_id.as_deref(), Some("other"));
    let error = remote.set_attributes("nobody", shared, values).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);

    let mut query = SessionQuery {
        limit: 5000,
        device: Some("ü&limit=1".to_owned()),
        ..SessionQuery::default()
    };
    let mut ids = Vec::new();
    loop {
        let page = remote.sessions(&query).unwrap();
        assert!(
            page.sessions
                .iter()
                .all(|found| found.device == query.device)
        );
        ids.extend(page.sessions.into_iter().map(|found| found.id));
        query.after = page.next_after;
        if query.after.is_none() {
            break;
        }
    }
    assert_eq!(ids.len(), 10);
    assert_eq!(ids[9], "0-9-0");
    remote.close_session("0-1/2-0").unwrap();
    let error = remote.close_session("0-1-0").unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
}

#[test]
fn answers_to_bad_requests_are_json_with_a_remedy() {
    let running = Running::start();
    let long = "x".repeat(200_000);
    let many =
        serde_json::to_string(&json!({"devices": vec![json!({"name": "d"}); 1001]})).unwrap();
    let json_type = "application/json";
    for ((status, body), expected) in [
        (running.get("/nothing"), 404),
        (running.get("/api/devices/unknown"), 404),
        (running.get("/api/devices?limit=0"), 400),
        (running.get("/api/devices?limit=1001"), 400),
        (running.get("/api/devices?limit=x"), 400),
        (running.get("/api/devices?unknown=1"), 400),
        (running.get("/api/devices/%FF"), 400),
        (running.get("/api/devices/d/telemetry?from=1"), 400),
        (running.get("/api/devices/d/telemetry?key=k&from=x"), 400),
        (running.get("/api/devices/d/telemetry?key=k&order=up"), 400),
        (
            running.get("/api/devices/d/telemetry?key=k&limit=10001"),
            400,
        ),
        (running.post("/metrics", json_type, ""), 405),
        (
            running.post("/api/devices", "text/plain", "{\"name\":\"a\"}"),
            415,
        ),
        (running.post("/api/devices", json_type, "{"), 400),
        (running.post("/api/devices", json_type, "{}"), 400),
        (
            running.post("/api/devices", json_type, "{\"name\":\"a\",\"x\":1}"),
            400,
        ),
        (running.post("/api/devices", json_type, &long), 413),
        (running.get("/api/sessions?limit=0"), 400),
        (
            running.send("PUT", "/api/devices/d/attributes/mine", json_type, "{}"),
            400,
        ),
        (
            running.send("PUT", "/api/devices/d/attributes/shared", json_type, "[]"),
            400,
        ),
        (
            running.send(
                "PUT",
                "/api/devices/d/attributes/shared",
                "text/plain",
                "{}",
            ),
            415,
        ),
        (
            running.send("PUT", "/api/devices/d/credentials", json_type, "{\"t\":1}"),
            400,
        ),
        (running.post("/api/import", json_type, &many), 400),
        (
            running.post("/api/devices", json_type, "{\"name\":\"panic\"}"),
            500,
        ),
    ] {
        assert_eq!(status, expected, "{body}");
        let error: OperationError = serde_json::from_str(&body).expect(&body);
        assert!(!error.message.is_empty());
    }
    // A body without end.
    let headers = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n";
    let endless = request_head("POST", "/api/devices", headers);
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000)).repeat(4);
    assert_eq!(running.raw(&endless, chunk.as_bytes()).0, 413);
}

#[test]
fn web_pages_of_others_are_kept_out() {
    let running = Running::start();
    let host = format!("Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\n");
    for (headers, expected) in [
        (host.clone(), 200),
        ("Host: localhost\r\n".to_owned(), 401),
        (format!("Host: 127.0.0.1:{}\r\n", running.port()), 401),
        ("Host: rebound.example\r\n".to_owned(), 421),
        (format!("{host}Origin: http://evil.example\r\n"), 403),
        (format!("{host}Sec-Fetch-Site: cross-site\r\n"), 403),
    ] {
        let head = format!("GET /api/devices HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
        let (status, head, body) = running.raw(&head, b"");
        assert_eq!(status, expected, "{headers}");
        assert!(head.contains("x-content-type-options: nosniff"), "{head}");
        assert!(!head.contains("access-control-allow"), "{head}");
        let asks = head.contains("www-authenticate: bearer");
        assert_eq!(asks, expected == 401, "{head}");
        assert!(!body.contains(TOKEN), "{body}");
    }
    // Also over HTTP/1.0, which knows no Host.
    assert_eq!(running.raw("GET /api/devices HTTP/1.0\r\n\r\n", b"").0, 421);
}

#[test]
fn an_open_address_shows_devices_only_where_that_is_wished() {
    for remote_api in [false, true] {
        let running = Running::start_on("0.0.0.0:0", remote_api);
        let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
        let api = if remote_api { (401, 200) } else { (403, 403) };
        for (path, (without, with)) in [
            ("/metrics", (200, 200)),
            ("/readyz", (200, 200)),
            ("/status.json", (200, 200)),
            ("/page/page.js", (200, 200)),
            ("/api/devices", api),
            ("/api/sessions", api),
        ] {
            for (headers, expected) in [("", without), (bearer.as_str(), with)] {
                let head = format!(
                    "GET {path} HTTP/1.1\r\nHost: any.example\r\nConnection: \
                     close\r\n{headers}\r\n"
                );
                assert_eq!(running.raw(&head, b"").0, expected, "{remote_api} {path}");
            }
        }
        // The owner's socket is not concerned.
        let remote = RemoteOperations::connect(&running.socket())
            .unwrap()
            .unwrap();
        assert!(remote.add(&device("a")).is_ok());
    }
}

#[test]
fn the_socket_is_the_owners_alone() {
    let running = Running::start();
    let mode = std::fs::metadata(running.socket())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn sockets_left_behind_are_replaced_and_live_ones_are_not() {
    let running = Running::start();
    let settings = AdminSettings {
        bind: None,
        socket: Some(running.socket()),
        token: token(),
        remote_api: false,
    };
    let start = |settings: &AdminSettings| {
        let operations = Arc::new(Fake::default());
        spawn(settings, operations, Arc::clone(&running.status) as _)
    };
    assert!(matches!(start(&settings), Err(AdminError::InUse { .. })));
    assert!(
        RemoteOperations::connect(&running.socket())
            .unwrap()
            .is_some()
    );

    // A killed server's: bound once, nobody listens.
    let stale = running.directory.path().join("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    assert!(stale.exists());
    assert!(RemoteOperations::connect(&stale).unwrap().is_none());
    let settings = AdminSettings {
        bind: None,
        socket: Some(stale.clone()),
        token: token(),
        remote_api: false,
    };
    let second = start(&settings).unwrap();
    assert!(second.address().is_none());
    assert!(RemoteOperations::connect(&stale).unwrap().is_some());
    second.stop();
    assert!(!stale.exists());

    // Nothing but a socket is ever removed.
    std::fs::write(&stale, "precious").unwrap();
    let error = start(&settings).unwrap_err().to_string();
    assert!(error.contains("it is not a socket"), "{error}");
    assert_eq!(std::fs::read(&stale).unwrap(), b"precious");
}

#[test]
fn a_long_path_is_no_obstacle() {
    let directory = tempfile::tempdir().unwrap();
    let deep = directory.path().join("d".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    let running = Running::start();
    let settings = AdminSettings {
        bind: None,
        socket: Some(deep.join("admin.sock")),
        token: token(),
        remote_api: false,
    };
    let operations = Arc::new(Fake::default());
    let admin = spawn(&settings, operations, Arc::clone(&running.status) as _).unwrap();
    let remote = RemoteOperations::connect(&deep.join("admin.sock"))
        .unwrap()
        .unwrap();
    assert!(remote.add(&device("a")).is_ok());
    drop(admin);
    assert!(
        RemoteOperations::connect(&deep.join("admin.sock"))
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_port_in_use_is_named_with_its_setting() {
    let running = Running::start();
    let settings = AdminSettings {
        bind: running.admin.address(),
        socket: None,
        token: token(),
        remote_api: false,
    };
    let operations = Arc::new(Fake::default());
    let error = spawn(&settings, operations, Arc::clone(&running.status) as _).unwrap_err();
    let text = error.to_string();
    let start = format!(
        "TIDEGATE_ADMIN_BIND=127.0.0.1:{}: cannot be opened",
        running.port()
    );
    assert!(
        text.starts_with(&start) && text.contains("choose another port"),
        "{text}"
    );
}

/// Connections that say nothing fill the TCP side; the operator still gets in, and stopping does
/// not wait for them.
#[test]
fn silent_connections_neither_lock_out_nor_delay() {
    let running = Running::start();
    let silent: Vec<_> = (0..80)
        .map(|_| TcpStream::connect(("127.0.0.1", running.port())).unwrap())
        .collect();
    let remote = RemoteOperations::connect(&running.socket())
        .unwrap()
        .unwrap();
    assert!(remote.add(&device("a")).is_ok());
    let (done, stopped) = std::sync::mpsc::channel();
    let Running {
        admin, directory, ..
    } = running;
    std::thread::spawn(move || {
        admin.stop();
        let _ = done.send(());
    });
    assert!(stopped.recv_timeout(Duration::from_secs(10)).is_ok());
    drop((silent, directory));
}
