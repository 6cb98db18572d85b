//! A small CoAPS server on the Californium that ThingsBoard ships (`bench/peers/californium`).

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Peer;
use crate::system::process::{Process, free_udp_pair, sibling};
use crate::system::tidegate::make_certificate;

pub(super) const NAME: &str = "Californium 3.12.1";

/// Builds it, if need be, and starts it.
pub(super) fn start(name: &str, cpu: usize, directory: &Path) -> Result<Peer, String> {
    let home = directory.join(name);
    std::fs::create_dir_all(&home).map_err(|error| format!("{}: {error}", home.display()))?;
    make_certificate(&sibling("tidegate")?, &home)?;
    let build = build(directory)?;
    let port = free_udp_pair()?;
    let class_path = format!(
        "{}:{}",
        build.join("bench-californium.jar").display(),
        build.join("lib").join("*").display()
    );
    let mut process = Process::start(Path::new("java"), cpu, home.join("log"), |command| {
        command
            .args([
                "-cp",
                &class_path,
                "io.tidegate.bench.Server",
                &port.to_string(),
            ])
            .arg(home.join("server.pem"))
            .arg(home.join("server_key.pem"));
    })?;
    process
        .wait_until(|| UdpSocket::bind(("127.0.0.1", port)).is_err())
        .map_err(|error| format!("java {error} (package default-jre-headless)"))?;
    Ok(Peer {
        process,
        port,
        method: "POST",
        path: "/telemetry",
    })
}

/// The folder with the jar; Maven fetches the libraries the first time.
fn build(directory: &Path) -> Result<PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/californium");
    // Beside the runs' folders, so that it is built once.
    let build = std::path::absolute(directory.parent().unwrap_or(directory))
        .map_err(|error| error.to_string())?
        .join("californium");
    let sources = ["src/main/java/io/tidegate/bench/Server.java", "pom.xml"];
    let source_time = sources
        .iter()
        .map(|file| modified(&source.join(file)))
        .max();
    if modified(&build.join("bench-californium.jar")) > source_time.flatten() {
        return Ok(build);
    }
    eprintln!("bench: building Californium's server");
    let output = Command::new("mvn")
        .args(["-q", "-B", "-DskipTests"])
        .arg(format!("-Dbench.build={}", build.display()))
        .arg("package")
        .current_dir(source)
        .output()
        .map_err(|error| format!("mvn cannot be run: {error} (package maven)"))?;
    if output.status.success() {
        return Ok(build);
    }
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let first = said
        .lines()
        .find(|line| line.contains("ERROR"))
        .unwrap_or("no reason given");
    Err(format!(
        "its server cannot be built, Maven Central may be out of reach: {first}"
    ))
}

fn modified(path: &Path) -> Option<std::time::SystemTime> {
    std::fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .ok()
}
