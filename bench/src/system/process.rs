//! Processes that are measured: started on one core, ended when dropped.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a server may take until it serves.
const START_TRIES: u32 = 300;
const BETWEEN_TRIES: Duration = Duration::from_millis(100);
const STOP_TRIES: u32 = 100;

/// A child process, its output in a file.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` on the core `cpu`.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub(crate) fn start(
        program: &Path,
        cpu: usize,
        log: PathBuf,
        change: impl FnOnce(&mut Command),
    ) -> Result<Self, String> {
        let words = |error: std::io::Error| format!("{}: {error}", program.display());
        let file = fs::File::create(&log).map_err(words)?;
        let again = file.try_clone().map_err(words)?;
        let mut command = on_core(program, cpu);
        change(&mut command);
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(again)
            .spawn()
            .map_err(words)?;
        Ok(Self { child, log })
    }

    /// Its id; of the program itself, as `taskset` becomes it.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `is_ready`.
    ///
    /// # Errors
    ///
    /// When it ends before, or does not become ready, with what it said.
    pub(crate) fn wait_until(&mut self, is_ready: impl Fn() -> bool) -> Result<(), String> {
        for _ in 0..START_TRIES {
            if is_ready() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("ended with {status}: {}", self.said()));
            }
            std::thread::sleep(BETWEEN_TRIES);
        }
        Err(format!("does not become ready: {}", self.said()))
    }

    /// The end of what it wrote.
    pub(crate) fn said(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join(" / ")
    }
}

impl Drop for Process {
    /// Asks it to end, and ends it when it does not.
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        for _ in 0..STOP_TRIES {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(BETWEEN_TRIES);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that runs on one core, without settings of whoever runs the benchmarks.
pub(crate) fn on_core(program: &Path, cpu: usize) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &cpu.to_string()]).arg(program);
    for (name, _) in std::env::vars() {
        if ["COAP_", "TIDEGATE_", "TB_", "JSON_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        {
            command.env_remove(name);
        }
    }
    command
}

/// A binary of the workspace, built beside this one.
///
/// # Errors
///
/// When it is not there, with the command that builds it.
pub(crate) fn sibling(name: &str) -> Result<PathBuf, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut directory = this.parent();
    // Tests lie a folder deeper.
    while let Some(folder) = directory {
        let path = folder.join(name);
        if path.is_file() {
            return Ok(path);
        }
        directory = folder
            .parent()
            .filter(|_| folder.file_name().is_some_and(|name| name == "deps"));
    }
    let release = if cfg!(debug_assertions) {
        ""
    } else {
        " --release"
    };
    Err(format!(
        "{name} is not built: run `cargo build --workspace{release}`"
    ))
}

/// A UDP port that nobody has, with the next one free too.
///
/// # Errors
///
/// When the host has none.
pub(crate) fn free_udp_pair() -> Result<u16, String> {
    for _ in 0..100 {
        let first = UdpSocket::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        let port = first
            .local_addr()
            .map_err(|error| error.to_string())?
            .port();
        if port < u16::MAX && UdpSocket::bind(("127.0.0.1", port + 1)).is_ok() {
            return Ok(port);
        }
    }
    Err("no two UDP ports in a row are free".into())
}

/// A TCP port that nobody has.
///
/// # Errors
///
/// When the host has none.
pub(crate) fn free_tcp() -> Result<u16, String> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| error.to_string())
}

/// The body of an HTTP answer.
///
/// # Errors
///
/// When nobody answers.
pub(crate) fn get(port: u16, path: &str) -> Result<String, String> {
    let fetch = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = fetch().map_err(|error| format!("GET {path}: {error}"))?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => Err(format!(
            "GET {path}: {}",
            answer.lines().next().unwrap_or("")
        )),
    }
}
