//! The load generator as a child, and the numbers of its report.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use super::process::{on_core, sibling};

/// Runs loads from one core.
#[derive(Debug)]
pub(crate) struct Load {
    program: PathBuf,
    cpu: usize,
    directory: PathBuf,
}

/// What a load measured.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    json: Value,
}

impl Load {
    /// Loads from `cpu`, whose reports lie in `directory`.
    ///
    /// # Errors
    ///
    /// When the generator is not built.
    pub(crate) fn new(cpu: usize, directory: &Path) -> Result<Self, String> {
        Ok(Self {
            program: sibling("tidegate-loadgen")?,
            cpu,
            directory: directory.to_owned(),
        })
    }

    /// Runs the generator with these arguments, on one thread. Failed operations are in the report.
    ///
    /// # Errors
    ///
    /// When there is no report.
    pub(crate) fn run(&self, name: &str, arguments: &[&str]) -> Result<Report, String> {
        let path = self.directory.join(format!("{name}.json"));
        let _ = std::fs::remove_file(&path);
        eprintln!("bench: {name}");
        let output = on_core(&self.program, self.cpu)
            .args(arguments)
            .args(["--threads", "1", "--max-errors", &u64::MAX.to_string()])
            .arg("--json")
            .arg(&path)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("{name}: {error}"))?;
        let text = std::fs::read_to_string(&path).map_err(|_| {
            let said = String::from_utf8_lossy(&output.stderr);
            format!("{name}: {}", said.lines().last().unwrap_or("no report"))
        })?;
        let json = serde_json::from_str(&text).map_err(|error| format!("{name}: {error}"))?;
        Ok(Report { json })
    }
}

impl Report {
    /// A number of the report, by its JSON pointer; NaN, which meets no target, when it has none.
    pub(crate) fn number(&self, pointer: &str) -> f64 {
        self.json
            .pointer(pointer)
            .and_then(Value::as_f64)
            .unwrap_or(f64::NAN)
    }

    /// CPU time of the server per request, in all.
    pub(crate) fn us_per_request(&self) -> f64 {
        self.number("/server/cpu_us_per_request")
    }

    /// CPU time of the server per handshake, in all.
    pub(crate) fn us_per_handshake(&self) -> f64 {
        self.number("/server/cpu_us_per_handshake")
    }

    /// Requests and handshakes that failed.
    pub(crate) fn failed(&self) -> f64 {
        self.number("/requests/failed") + self.number("/handshakes/failed")
    }

    /// What went wrong, as the end of a sentence; empty when nothing did.
    pub(crate) fn troubles(&self) -> String {
        troubles(self.failed())
    }
}

/// That so many operations failed, as the end of a sentence; empty when none did.
pub(crate) fn troubles(failed: f64) -> String {
    match failed == 0.0 {
        true => String::new(),
        false => format!("; {failed} FAILED"),
    }
}
