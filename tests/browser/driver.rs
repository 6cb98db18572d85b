//! Headless Chromium, driven through WebDriver (W3C) over HTTP.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use super::support::PATIENCE;

/// A browser with a profile of its own; it ends when dropped.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
    /// Open as long as the browser is.
    profile: tempfile::TempDir,
}

impl Browser {
    /// Starts chromedriver on a free port, and the browser by it.
    pub(crate) fn start() -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver (package chromium-driver; .ci/setup test installs it)");
        let lines = BufReader::new(driver.stdout.take().expect("its output")).lines();
        let port = lines
            .map_while(Result::ok)
            .find_map(|line| {
                let (_, port) = line.split_once("started successfully on port ")?;
                port.trim_end_matches('.').parse().ok()
            })
            .expect("chromedriver starts");
        let profile = tempfile::tempdir().expect("a directory");
        let mut browser = Self {
            driver,
            port,
            session: String::new(),
            profile,
        };
        let directory = browser.profile.path().display().to_string();
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            &format!("--user-data-dir={directory}"),
        ];
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "args": arguments },
        } } });
        let made = browser.ask("POST", "/session", &capabilities);
        let id = made["sessionId"].as_str().expect("a session");
        browser.session = format!("/session/{id}");
        browser
    }

    /// One command; gives its value.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("chromedriver");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: \
             application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("a request");
        let mut answer = Vec::new();
        let mut part = [0; 16 << 10];
        // Some versions leave the connection open; the head says how long the body is.
        loop {
            let length = stream.read(&mut part).expect("an answer");
            answer.extend_from_slice(&part[..length]);
            let text = String::from_utf8_lossy(&answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                assert!(length > 0, "no answer to {path}");
                continue;
            };
            let head = head.to_ascii_lowercase();
            let declared = head.lines().find_map(|line| {
                let length = line.strip_prefix("content-length:")?;
                length.trim().parse::<usize>().ok()
            });
            if length == 0 || declared.is_some_and(|declared| body.len() >= declared) {
                let value: Value = serde_json::from_str(body).expect("JSON");
                let ok = head.starts_with("http/1.1 200");
                assert!(ok, "{method} {path}: {value}");
                return value["value"].clone();
            }
        }
    }

    fn command(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", &format!("{}{path}", self.session), body)
    }

    pub(crate) fn open(&self, url: &str) {
        self.command("/url", &json!({ "url": url }));
    }

    /// Runs a function's body in the page; gives what it returns.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.command("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until the expression is true.
    pub(crate) fn wait_for(&self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.run(&format!("return Boolean({expression})")) != json!(true) {
            let text = self.run("return document.body.innerText");
            assert!(Instant::now() < deadline, "never {expression} in\n{text}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// Waits until the page shows this text.
    pub(crate) fn wait_for_text(&self, text: &str) {
        self.wait_for(&format!(
            "document.body.innerText.includes({})",
            json!(text)
        ));
    }

    fn element(&self, selector: &str) -> String {
        let found = self.command(
            "/element",
            &json!({ "using": "css selector", "value": selector }),
        );
        let id = found.as_object().and_then(|found| found.values().next());
        id.and_then(Value::as_str).expect("an element").to_owned()
    }

    /// Clicks as a person does: what is hidden or covered cannot be clicked.
    pub(crate) fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.command(&format!("/element/{element}/click"), &json!({}));
    }

    pub(crate) fn write(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.command(
            &format!("/element/{element}/value"),
            &json!({ "text": text }),
        );
    }

    pub(crate) fn url(&self) -> String {
        let url = self.ask("GET", &format!("{}/url", self.session), &Value::Null);
        url.as_str().expect("an address").to_owned()
    }

    /// The window of a desk or of a phone, in light or dark.
    pub(crate) fn look_from(&self, (width, height): (u32, u32), scheme: &str) {
        let metrics = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600,
        });
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        for (command, parameters) in [
            ("Emulation.setDeviceMetricsOverride", metrics),
            ("Emulation.setEmulatedMedia", media),
        ] {
            let body = json!({ "cmd": command, "params": parameters });
            self.command("/goog/cdp/execute", &body);
        }
    }

    /// What the page complained of since the last call: refused by policy, failed, or thrown.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = self.command("/se/log", &json!({ "type": "browser" }));
        let entries = log.as_array().cloned().unwrap_or_default();
        let severe = entries.iter().filter(|entry| entry["level"] == "SEVERE");
        severe.map(|entry| entry["message"].to_string()).collect()
    }

    /// Keeps a picture in the directory that TIDEGATE_SCREENSHOTS names, for people to look at.
    pub(crate) fn picture(&self, name: &str) {
        use base64::Engine as _;
        let Some(directory) = std::env::var_os("TIDEGATE_SCREENSHOTS") else {
            return;
        };
        let parameters = json!({ "format": "png", "captureBeyondViewport": true });
        let body = json!({ "cmd": "Page.captureScreenshot", "params": parameters });
        let shot = self.command("/goog/cdp/execute", &body);
        let data = shot["data"].as_str().expect("a picture");
        let bytes = base64::engine::general_purpose::STANDARD.decode(data);
        let path = Path::new(&directory).join(format!("{name}.png"));
        std::fs::write(path, bytes.expect("base64")).expect("a file");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The end of the session is the end of the browser; that of chromedriver alone is not. What
        // fails here must not hide what failed before.
        let end = || {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let session = &self.session;
            write!(
                stream,
                "DELETE {session} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )?;
            stream.read(&mut [0; 1024])
        };
        let ended = end();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        if let Err(error) = ended {
            eprintln!(
                "the browser in {} may still run: {error}",
                self.profile.path().display()
            );
        }
    }
}
