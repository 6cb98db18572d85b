//! The clients in `tests/peers`: DTLS libraries of other authors for which there is no program to
//! install.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::support::{Server, run_client, text};

/// The program of `peer` below `tests/peers`, built when it is not up to date.
pub(crate) fn program(peer: &str) -> String {
    static BUILT: OnceLock<()> = OnceLock::new();
    let peers = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/peers");
    BUILT.get_or_init(|| {
        let build = peers.join("build");
        let output = Command::new(&build).output();
        let output = output.unwrap_or_else(|error| panic!("{}: {error}", build.display()));
        assert!(
            output.status.success(),
            "tests/peers/build failed; `make test` installs what it needs\n{}",
            text(&output.stderr)
        );
    });
    let path = peers.join(match peer {
        "wolfssl" => "wolfssl/target/wolfssl-peer".to_owned(),
        // The interpreter that has its packages.
        "aiocoap" => "aiocoap/target/venv/bin/python".to_owned(),
        _ => format!("{peer}/target/debug/{peer}-peer"),
    });
    path.display().to_string()
}

/// What a peer printed, which must have succeeded.
pub(crate) struct Printed(String);

impl Printed {
    /// Runs a peer to its end.
    #[track_caller]
    pub(crate) fn by(peer: &str, server: &Server, arguments: &[&str]) -> Self {
        let output = run_client(&program(peer), arguments, server.directory.path());
        let printed = text(&output.stdout);
        assert!(
            output.status.success(),
            "{peer} {arguments:?}\n{printed}{}\n{}",
            text(&output.stderr),
            server.log()
        );
        Self(printed)
    }

    /// What stands behind `word` at the start of a line, for each such line.
    pub(crate) fn all(&self, word: &str) -> Vec<&str> {
        let lines = self.0.lines();
        lines
            .filter_map(|line| line.strip_prefix(word)?.strip_prefix(' '))
            .collect()
    }

    /// The same of the only such line.
    #[track_caller]
    pub(crate) fn one(&self, word: &str) -> &str {
        match self.all(word)[..] {
            [one] => one,
            _ => panic!("not one line with {word}: {}", self.0),
        }
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
