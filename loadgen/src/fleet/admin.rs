//! Registers devices at Tidegate's admin interface.

use std::fmt::Write as _;
use std::path::Path;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tidegate::admin::{AdminToken, TOKEN_FILE};
use tidegate::crypto::fingerprint::to_hex;
use tidegate::crypto::pre_shared_key::PreSharedKey;
use tidegate::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::live::Live;
use crate::text::grouped;

/// Devices per request; the interface takes 1000.
const IMPORT_MAX: usize = 500;
const ANSWER_BYTES_MAX: usize = 16 << 20;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The token itself.
const TOKEN_VARIABLE: &str = "TIDEGATE_ADMIN_TOKEN";
/// Where a server has its data unless TIDEGATE_DATA_DIR says otherwise.
const DATA_DIRECTORY: &str = "./tidegate-data";

/// A device to be registered.
#[derive(Clone, Debug)]
pub(super) struct NewDevice {
    name: String,
    body: Value,
    /// By which the interface would show that it has the same credential.
    credentials_id: Option<String>,
}

impl NewDevice {
    pub(super) fn with_token(name: &str, token: &str) -> Self {
        Self {
            name: name.to_owned(),
            body: json!({ "name": name, "token": token }),
            credentials_id: Some(token.to_owned()),
        }
    }

    /// Whoever has the identity has the key, as both belong to the seed.
    pub(super) fn with_key(name: &str, key: &PreSharedKey) -> Self {
        let key = to_hex(key.as_bytes());
        Self {
            name: name.to_owned(),
            body: json!({ "name": name, "pskIdentity": name, "psk": key }),
            credentials_id: Some(name.to_owned()),
        }
    }

    /// The same, under a profile.
    pub(super) fn of_profile(mut self, profile: &str) -> Self {
        self.body["profile"] = profile.into();
        self
    }

    pub(super) fn with_certificate(name: &str, pem: &str) -> Self {
        Self {
            name: name.to_owned(),
            body: json!({ "name": name, "certificate": pem }),
            credentials_id: None,
        }
    }
}

/// Registers the devices, and before them the profile that they are of, if any. One of the same name
/// stays if it has the same token or key and the same profile, and is replaced otherwise.
///
/// # Errors
///
/// What the interface refused, or why it cannot be reached.
pub(super) fn register(
    url: &str,
    token_file: Option<&Path>,
    profile: Option<&str>,
    devices: &[NewDevice],
    live: &mut Live,
) -> Result<(), String> {
    live.note(&format!(
        "registering {} devices at {url}",
        grouped(devices.len() as u64)
    ));
    let mut admin = Admin::open(url, token_file)?;
    if let Some(profile) = profile {
        admin.add_profile(profile)?;
    }
    let mut done = 0;
    for part in devices.chunks(IMPORT_MAX) {
        let mut taken = Vec::new();
        for (device, refused) in std::iter::zip(part, admin.import(part)?) {
            match refused {
                None => {}
                Some(refusal) if refusal.kind == "conflict" => taken.push(device.clone()),
                Some(refusal) => return Err(refusal.of(device)),
            }
        }
        admin.replace(taken)?;
        done += part.len();
        live.step(|| {
            let all = grouped(devices.len() as u64);
            format!("registered {} of {all}", grouped(done as u64))
        });
    }
    live.finish();
    Ok(())
}

/// The token of the interface: from the file named, else from the environment, else from the data
/// directory where a server of this host has it. `None`: there is none of these.
fn find_token(file: Option<&Path>) -> Result<Option<AdminToken>, String> {
    let parse = |origin: &str, text: &str| {
        AdminToken::parse(text.trim()).ok_or_else(|| format!("{origin}: that is no token"))
    };
    if let Some(path) = file {
        let origin = format!("--admin-token-file {}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| format!("{origin}: {error}"))?;
        return parse(&origin, &text).map(Some);
    }
    if let Ok(text) = std::env::var(TOKEN_VARIABLE) {
        return parse(TOKEN_VARIABLE, &text).map(Some);
    }
    let directory = std::env::var_os("TIDEGATE_DATA_DIR");
    let directory = directory.unwrap_or_else(|| DATA_DIRECTORY.into());
    let found = std::fs::read_to_string(Path::new(&directory).join(TOKEN_FILE));
    // Whether it is needed shows in the answer.
    Ok(found.ok().and_then(|text| AdminToken::parse(text.trim())))
}

/// Why a device was not added.
struct Refusal {
    kind: String,
    message: String,
}

impl Refusal {
    fn of(&self, device: &NewDevice) -> String {
        format!(
            "device {} cannot be registered: {}",
            device.name, self.message
        )
    }

    fn read(value: &Value) -> Self {
        let field = |name: &str| {
            value
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let mut message = field("message");
        let remedy = field("remedy");
        if !remedy.is_empty() {
            let _ = write!(message, "; {remedy}");
        }
        Self {
            kind: field("kind"),
            message,
        }
    }
}

/// A connection to the interface, made anew when the server closed it.
pub(super) struct Admin {
    url: String,
    authority: String,
    /// What the interface asks of whom it lets in.
    token: Option<AdminToken>,
    runtime: Runtime,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Admin {
    fn new(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("http://").unwrap_or(url);
        let authority = rest.trim_end_matches('/');
        if authority.is_empty() || authority.contains('/') {
            return Err(format!("--admin {url}: is not http://HOST:PORT"));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("--admin {url}: {error}"))?;
        let authority = if authority
            .rsplit(']')
            .next()
            .is_some_and(|tail| tail.contains(':'))
        {
            authority.to_owned()
        } else {
            format!("{authority}:80")
        };
        Ok(Self {
            url: url.to_owned(),
            authority,
            token: None,
            runtime,
            sender: None,
        })
    }

    /// An interface, with the token that it asks for.
    pub(super) fn open(url: &str, token_file: Option<&Path>) -> Result<Self, String> {
        Ok(Self {
            token: find_token(token_file)?,
            ..Self::new(url)?
        })
    }

    /// Defines a profile, unless there is one of that name.
    fn add_profile(&mut self, profile: &str) -> Result<(), String> {
        let body = json!({ "name": profile });
        let (status, answer) = self.exchange(Method::POST, "/api/profiles", &body)?;
        match status {
            StatusCode::CREATED | StatusCode::CONFLICT => Ok(()),
            _ => Err(self.unexpected(status, &answer)),
        }
    }

    /// Sets a shared attribute of all devices of a profile; returns how many these are.
    pub(super) fn set_of_profile(
        &mut self,
        profile: &str,
        attributes: &Value,
    ) -> Result<u64, String> {
        let path = format!("/api/profiles/{profile}/attributes/shared");
        let (status, answer) = self.exchange(Method::PUT, &path, attributes)?;
        match answer.get("devices").and_then(Value::as_u64) {
            Some(devices) if status == StatusCode::OK => Ok(devices),
            _ => Err(self.unexpected(status, &answer)),
        }
    }

    /// Adds devices; an entry for each.
    fn import(&mut self, devices: &[NewDevice]) -> Result<Vec<Option<Refusal>>, String> {
        let bodies: Vec<&Value> = devices.iter().map(|device| &device.body).collect();
        let (status, answer) =
            self.exchange(Method::POST, "/api/import", &json!({ "devices": bodies }))?;
        if status != StatusCode::OK {
            return Err(self.unexpected(status, &answer));
        }
        let errors = answer.get("errors").and_then(Value::as_array);
        match errors {
            Some(errors) if errors.len() == devices.len() => Ok(errors
                .iter()
                .map(|error| (!error.is_null()).then(|| Refusal::read(error)))
                .collect()),
            _ => Err(format!(
                "--admin {}: the answer is not that of Tidegate",
                self.url
            )),
        }
    }

    /// Puts devices in the place of those of the same name.
    fn replace(&mut self, devices: Vec<NewDevice>) -> Result<(), String> {
        let mut left = Vec::new();
        for device in devices {
            let path = format!("/api/devices/{}", device.name);
            let (status, view) = self.exchange(Method::GET, &path, &Value::Null)?;
            let same = status == StatusCode::OK
                && device.credentials_id.is_some()
                && view.get("credentialsId").and_then(Value::as_str)
                    == device.credentials_id.as_deref()
                && device
                    .body
                    .get("profile")
                    .is_none_or(|profile| view.get("profile") == Some(profile));
            if same {
                continue;
            }
            if status == StatusCode::OK {
                let (status, answer) = self.exchange(Method::DELETE, &path, &Value::Null)?;
                if !status.is_success() && status != StatusCode::NOT_FOUND {
                    return Err(self.unexpected(status, &answer));
                }
            }
            left.push(device);
        }
        if left.is_empty() {
            return Ok(());
        }
        for (device, refused) in std::iter::zip(&left, self.import(&left)?) {
            if let Some(refusal) = refused {
                return Err(refusal.of(device));
            }
        }
        Ok(())
    }

    fn unexpected(&self, status: StatusCode, answer: &Value) -> String {
        if status == StatusCode::UNAUTHORIZED {
            let url = &self.url;
            let given = if self.token.is_some() { "another" } else { "a" };
            return format!(
                "--admin {url}: the interface wants {given} token; give --admin-token-file \
                 DIR/{TOKEN_FILE}, where DIR is the server's TIDEGATE_DATA_DIR, or set \
                 {TOKEN_VARIABLE} to what is in that file"
            );
        }
        let Refusal { message, .. } = Refusal::read(answer);
        format!("--admin {}: answered {status}: {message}", self.url)
    }

    fn exchange(
        &mut self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<(StatusCode, Value), String> {
        let Self {
            url,
            authority,
            token,
            runtime,
            sender,
        } = self;
        let token = token.as_ref().map(AdminToken::reveal);
        let token = token.as_ref().map(|text| text.as_str());
        let exchanged = runtime.block_on(async {
            let exchange = exchange(sender, (authority, token), method, path, body);
            match tokio::time::timeout(ANSWER_TIMEOUT, exchange).await {
                Ok(answer) => answer,
                Err(_) => Err(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())),
            }
        });
        exchanged.map_err(|error| {
            format!(
                "the admin interface {url} cannot be used: {error}; is the server running, and is \
                 TIDEGATE_ADMIN_BIND this address? (--admin names it; without it, give --token or --devices-file)"
            )
        })
    }
}

async fn exchange(
    sender: &mut Option<SendRequest<Full<Bytes>>>,
    (authority, token): (&str, Option<&str>),
    method: Method,
    path: &str,
    body: &Value,
) -> Result<(StatusCode, Value), String> {
    let text = |error: hyper::Error| error.to_string();
    let usable = match sender.as_mut() {
        Some(open) => open.ready().await.is_ok(),
        None => false,
    };
    if !usable {
        *sender = Some(connect(authority).await?);
    }
    let open = sender.as_mut().ok_or("no connection")?;
    let body = if body.is_null() {
        Bytes::new()
    } else {
        body.to_string().into()
    };
    let mut request = Request::builder();
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request
        .method(method)
        .uri(path)
        .header(header::HOST, authority)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(|error| error.to_string())?;
    let answer = open.send_request(request).await.map_err(text)?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| error.to_string())?
        .to_bytes();
    let value = serde_json::from_slice(&body)
        .unwrap_or_else(|_| json!({ "message": String::from_utf8_lossy(&body).trim() }));
    Ok((status, value))
}

async fn connect(authority: &str) -> Result<SendRequest<Full<Bytes>>, String> {
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(authority))
        .await
        .map_err(|_| format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()))?
        .map_err(|error| error.to_string())?;
    let _ = stream.set_nodelay(true);
    let (sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        // Its end shows in the sender.
        let _ = connection.await;
    });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// Answers like the admin interface, on a thread; gives its URL.
    fn interface(
        mut devices: BTreeMap<String, Value>,
    ) -> (String, std::thread::JoinHandle<BTreeMap<String, Value>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            loop {
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    if reader.read_line(&mut head).unwrap() == 0 {
                        return devices;
                    }
                }
                let length = head
                    .lines()
                    .find_map(|line| {
                        line.to_ascii_lowercase()
                            .strip_prefix("content-length: ")
                            .map(|n| n.parse().unwrap())
                    })
                    .unwrap_or(0);
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let (status, answer) = answer(&mut devices, &head, &body);
                let answer = answer.to_string();
                let text = format!(
                    "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{answer}",
                    answer.len()
                );
                reader.get_mut().write_all(text.as_bytes()).unwrap();
            }
        });
        (url, thread)
    }

    fn answer(devices: &mut BTreeMap<String, Value>, head: &str, body: &[u8]) -> (u16, Value) {
        let mut words = head.split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let name = path.trim_start_matches("/api/devices/");
        match method {
            "POST" if path == "/api/profiles" => (409, json!({ "kind": "conflict" })),
            "PUT" => {
                let profile = path.split('/').nth(3);
                let is_of = |device: &&Value| device["profile"].as_str() == profile;
                let count = devices.values().filter(is_of).count();
                (200, json!({ "devices": count }))
            }
            "GET" => match devices.get(name) {
                Some(device) => (
                    200,
                    json!({
                        "name": name,
                        "credentialsId": device["token"],
                        "profile": device["profile"],
                    }),
                ),
                None => (404, json!({ "kind": "not_found", "message": "no" })),
            },
            "DELETE" => {
                devices.remove(name);
                (200, Value::Null)
            }
            _ => {
                let body: Value = serde_json::from_slice(body).unwrap();
                let errors: Vec<Value> = body["devices"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|device| {
                        let name = device["name"].as_str().unwrap().to_owned();
                        if name == "bad" {
                            return json!({ "kind": "invalid", "message": "bad name", "remedy": "choose another" });
                        }
                        if devices.contains_key(&name) {
                            return json!({ "kind": "conflict", "message": "taken", "remedy": "" });
                        }
                        devices.insert(name, device.clone());
                        Value::Null
                    })
                    .collect();
                (200, json!({ "errors": errors }))
            }
        }
    }

    #[test]
    fn registering_is_idempotent_and_replaces_other_credentials() {
        let other = json!({ "name": "b", "token": "old" });
        let same = json!({ "name": "a", "token": "A", "mark": "kept" });
        let (url, thread) = interface([("a".to_owned(), same), ("b".to_owned(), other)].into());
        let devices = [
            NewDevice::with_token("a", "A"),
            NewDevice::with_token("b", "B"),
            NewDevice::with_certificate("c", "PEM"),
        ];
        register(&url, None, None, &devices, &mut Live::new()).unwrap();
        let devices = thread.join().unwrap();
        assert_eq!(devices["a"]["mark"], "kept");
        assert_eq!(devices["b"]["token"], "B");
        assert_eq!(devices["c"]["certificate"], "PEM");
    }

    #[test]
    fn devices_of_a_profile_are_changed_together() {
        // Of another profile so far, although it has the same token.
        let before = json!({ "name": "a", "token": "A", "profile": "default" });
        let (url, thread) = interface([("a".to_owned(), before)].into());
        let devices = ["a", "b"].map(|name| {
            let token = name.to_uppercase();
            NewDevice::with_token(name, &token).of_profile("p")
        });
        register(&url, None, Some("p"), &devices, &mut Live::new()).unwrap();
        let devices = thread.join().unwrap();
        assert_eq!((&devices["a"]["profile"], devices.len()), (&json!("p"), 2));
        let (url, _thread) = interface(devices);
        let mut admin = Admin::open(&url, None).unwrap();
        let attributes = json!({ "k": 1 });
        assert_eq!(admin.set_of_profile("p", &attributes), Ok(2));
        assert_eq!(admin.set_of_profile("q", &attributes), Ok(0));
    }

    #[test]
    fn refusals_and_silence_are_told_with_the_remedy() {
        let (url, thread) = interface(BTreeMap::new());
        let error = register(
            &url,
            None,
            None,
            &[NewDevice::with_token("bad", "A")],
            &mut Live::new(),
        )
        .unwrap_err();
        assert!(error.contains("bad name; choose another"), "{error}");
        thread.join().unwrap();
        let closed = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let error = register(
            &format!("http://{closed}"),
            None,
            None,
            &[NewDevice::with_token("a", "A")],
            &mut Live::new(),
        );
        assert!(error.unwrap_err().contains("TIDEGATE_ADMIN_BIND"));
        assert!(Admin::new("http://h:1/x").is_err());
    }

    #[test]
    fn the_token_goes_with_each_request() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(TOKEN_FILE);
        std::fs::write(&file, "short\n").unwrap();
        assert!(find_token(Some(&file)).is_err());
        std::fs::write(&file, "THE-TOKEN-OF-THE-TEST\n").unwrap();
        let token = find_token(Some(&file)).unwrap().unwrap();
        assert_eq!(token.reveal().as_str(), "THE-TOKEN-OF-THE-TEST");
        let missing = directory.path().join("none");
        let error = find_token(Some(&missing)).unwrap_err();
        assert!(error.starts_with("--admin-token-file"), "{error}");

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 4096];
            let length = stream.read(&mut head).unwrap();
            stream
                .write_all(b"HTTP/1.1 401 X\r\ncontent-length: 2\r\n\r\n{}")
                .unwrap();
            String::from_utf8(head[..length].to_vec()).unwrap()
        });
        let devices = [NewDevice::with_token("a", "A")];
        let error = register(&url, Some(&file), None, &devices, &mut Live::new()).unwrap_err();
        assert!(error.contains("wants another token"), "{error}");
        assert!(!error.contains("THE-TOKEN"), "{error}");
        let head = thread.join().unwrap();
        assert!(
            head.contains("authorization: Bearer THE-TOKEN-OF-THE-TEST\r\n"),
            "{head}"
        );
    }
}
