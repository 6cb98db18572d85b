//! The commands, run as a person or a script runs them: what they print where, and how they end.

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod attr;
mod cert;
mod check;
mod data;
mod device;
mod manual;
mod profile;
mod session;
mod usage;

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use support::{text, tidegate};

/// A directory to run commands in, without a server.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).expect("a file is written");
    }

    /// Runs a command there, with its data in `data`.
    fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(arguments, &[])
    }

    fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
        let output = tidegate()
            .args(arguments)
            .env("TIDEGATE_DATA_DIR", "data")
            .envs(environment.iter().copied())
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .output()
            .expect("tidegate runs");
        Ended::new(arguments, &output)
    }
}

impl AsRef<Path> for Place {
    fn as_ref(&self) -> &Path {
        self.0.path()
    }
}

/// How a command ended.
struct Ended {
    command: String,
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ended {
    fn new(arguments: &[&str], output: &Output) -> Self {
        let ended = Self {
            command: arguments.join(" "),
            code: output.status.code(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        };
        assert!(!ended.err.contains("panicked"), "{}", ended.err);
        ended
    }

    /// What was printed by a command that must have done what it was told.
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!(
            self.code,
            Some(0),
            "{}: {}{}",
            self.command,
            self.out,
            self.err
        );
        self.out
    }

    /// The same as JSON.
    #[track_caller]
    fn json(self) -> serde_json::Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    /// What was said by a command that must have refused.
    #[track_caller]
    fn refused(self) -> String {
        assert_eq!(
            self.code,
            Some(1),
            "{}: {}{}",
            self.command,
            self.out,
            self.err
        );
        assert!(!self.err.is_empty(), "{} said nothing", self.command);
        self.err
    }
}
