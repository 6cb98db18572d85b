//! The file that `SSLKEYLOGFILE` names (feature `keylog`): secrets of sessions in the format that
//! Wireshark and others read.
//!
//! ```text
//! CLIENT_RANDOM <64 hexadecimal digits: client random> <96: master secret>
//! ```
//!
//! A thread of its own writes, for no shard waits for a disk. When it falls behind lines get lost,
//! and it says so.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, SyncSender};

use zeroize::Zeroizing;

use super::StartError;
use crate::dtls::KeyLog;

/// The environment variable, the same as that of browsers and of other TLS software.
const VARIABLE: &str = "SSLKEYLOGFILE";
/// Lines that may wait for the file.
const LINES_MAX: usize = 4096;

/// The file wanted by the environment.
fn path() -> Option<PathBuf> {
    std::env::var_os(VARIABLE)
        .filter(|path: &OsString| !path.is_empty())
        .map(PathBuf::from)
}

/// What to tell an operator when the environment asks for a key log.
pub(crate) fn warning() -> Option<String> {
    path().map(|path| {
        format!(
            "{VARIABLE} is set: the secrets of ALL sessions are written to {}, and whoever reads \
             that file can decrypt them; never do this with devices in use (unset {VARIABLE}, or \
             build without the feature `keylog`)",
            path.display()
        )
    })
}

/// The key log that the environment asks for.
///
/// # Errors
/// When its file cannot be written.
pub(super) fn of_environment() -> Result<Option<Arc<dyn KeyLog>>, StartError> {
    let (Some(path), Some(warning)) = (path(), warning()) else {
        return Ok(None);
    };
    let failed = |error: io::Error| StartError::Setting {
        setting: VARIABLE,
        problem: format!("{}: {error}", path.display()),
        remedy: "name a file that can be written, or unset it",
    };
    let log = KeyLogFile::open(&path).map_err(failed)?;
    tracing::warn!("{warning}");
    Ok(Some(Arc::new(log)))
}

/// Appends to a file.
#[derive(Debug)]
struct KeyLogFile {
    lines: SyncSender<Zeroizing<String>>,
    lost: AtomicBool,
}

impl KeyLogFile {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)?;
        // It may have been there, for all to read.
        file.set_permissions(Permissions::from_mode(0o600))?;
        let (lines, waiting) = mpsc::sync_channel(LINES_MAX);
        std::thread::Builder::new()
            .name("key-log".into())
            .spawn(move || write_lines(file, &waiting))?;
        Ok(Self {
            lines,
            lost: AtomicBool::new(false),
        })
    }
}

fn write_lines(mut file: File, lines: &mpsc::Receiver<Zeroizing<String>>) {
    for line in lines {
        if let Err(error) = file.write_all(line.as_bytes()) {
            tracing::warn!(%error, "{VARIABLE} cannot be written, and is given up");
            return;
        }
    }
}

impl KeyLog for KeyLogFile {
    fn log(&self, client_random: &[u8; 32], master_secret: &[u8; 48]) {
        if self
            .lines
            .try_send(line(client_random, master_secret))
            .is_err()
            && !self.lost.swap(true, Ordering::Relaxed)
        {
            tracing::warn!("{VARIABLE} lacks sessions: its file is too slow, or failed");
        }
    }
}

/// One line of the file, with its end.
fn line(client_random: &[u8; 32], master_secret: &[u8; 48]) -> Zeroizing<String> {
    // Room for all of it, so that no copy stays behind in memory.
    let mut line = Zeroizing::new(String::with_capacity(14 + 64 + 1 + 96 + 1));
    line.push_str("CLIENT_RANDOM ");
    for byte in client_random {
        let _ = write!(line, "{byte:02x}");
    }
    line.push(' ');
    for byte in master_secret {
        let _ = write!(line, "{byte:02x}");
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn read(path: &Path, lines: usize) -> String {
        for _ in 0..2000 {
            let content = std::fs::read_to_string(path).unwrap();
            if content.lines().count() >= lines && content.ends_with('\n') {
                return content;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("no {lines} lines in {}", path.display());
    }

    #[test]
    fn lines_are_appended_to_a_file_that_only_its_owner_reads() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        std::fs::write(&path, "# older\n").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let log = KeyLogFile::open(&path).unwrap();
        log.log(&[0x0f; 32], &[0xa0; 48]);
        log.log(&[1; 32], &[2; 48]);
        let content = read(&path, 3);
        let expected = format!("CLIENT_RANDOM {} {}", "0f".repeat(32), "a0".repeat(48));
        assert_eq!(content.lines().next(), Some("# older"));
        assert_eq!(content.lines().nth(1), Some(expected.as_str()));
        assert_eq!(content.lines().count(), 3);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_cannot_be_made_is_an_error() {
        assert!(KeyLogFile::open(Path::new("/nowhere/keys")).is_err());
    }
}
