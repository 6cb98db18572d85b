//! libcoap's example server, as Debian packages it.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Peer;
use crate::system::process::{Process, free_udp_pair, sibling};
use crate::system::tidegate::make_certificate;

/// Starts `coap-server-LIBRARY`.
pub(super) fn start(
    library: &str,
    name: &str,
    cpu: usize,
    directory: &Path,
) -> Result<Peer, String> {
    let home = directory.join(name);
    std::fs::create_dir_all(&home).map_err(|error| format!("{}: {error}", home.display()))?;
    make_certificate(&sibling("tidegate")?, &home)?;
    let port = free_udp_pair()?;
    let program = PathBuf::from(program(library));
    let mut process = Process::start(&program, cpu, home.join("log"), |command| {
        command
            .args(["-A", "127.0.0.1", "-n", "-v", "3", "-p", &port.to_string()])
            .arg("-c")
            .arg(home.join("server.pem"))
            .arg("-j")
            .arg(home.join("server_key.pem"));
    })?;
    // CoAPS is on the port behind.
    let secure = port + 1;
    process
        .wait_until(|| UdpSocket::bind(("127.0.0.1", secure)).is_err())
        .map_err(|error| format!("{} {error} (package libcoap3-bin)", program.display()))?;
    Ok(Peer {
        process,
        port: secure,
        // The one resource of the example that takes a payload.
        method: "PUT",
        path: "/example_data",
    })
}

fn program(library: &str) -> String {
    format!("coap-server-{library}")
}

/// What it says of itself, or nothing.
pub(super) fn version(library: &str) -> String {
    let output = Command::new(program(library)).arg("-h").output();
    output
        .ok()
        .and_then(|output| {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            let version = text.split(" v").nth(1)?.split_whitespace().next()?;
            Some(version.to_owned())
        })
        .unwrap_or_default()
}
