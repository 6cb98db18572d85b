//! `tidegate device import`: the file, the progress, and the count at the end.

use crate::admin::Operations;
use crate::admin::operations::NewDevice;
use crate::cli::{Failure, output};
use crate::registry;
use crate::registry::import::{self, Progress, Refused};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

/// A file of devices.
pub(super) struct Source {
    reader: Box<dyn BufRead>,
    /// Bytes in all, when known.
    length: Option<u64>,
    /// Where relative certificate paths start.
    base: PathBuf,
    name: String,
}

impl Source {
    /// Opens `path`; `-` is standard input.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self {
                reader: Box::new(io::stdin().lock()),
                length: None,
                base: PathBuf::from("."),
                name: "standard input".to_owned(),
            });
        }
        let failed = |error: &dyn std::fmt::Display| {
            Failure::new(format_args!("{} cannot be read: {error}", path.display()))
        };
        let file = File::open(path).map_err(|error| failed(&error))?;
        let about = file.metadata().map_err(|error| failed(&error))?;
        if about.is_dir() {
            return Err(failed(&"it is a directory"));
        }
        Ok(Self {
            reader: Box::new(BufReader::new(file)),
            length: about.is_file().then_some(about.len()),
            base: path.parent().unwrap_or_else(|| Path::new(".")).to_owned(),
            name: path.display().to_string(),
        })
    }

    /// Adds the devices of the file.
    pub(super) fn import(mut self, operations: &dyn Operations, json: bool) -> Result<(), Failure> {
        let screen = RefCell::new(Screen::new(self.length, json));
        let mut add = |devices: Vec<registry::NewDevice>| {
            let devices: Vec<_> = devices.into_iter().map(NewDevice::from).collect();
            let outcomes = operations.add_all(&devices).map_err(io::Error::other)?;
            let plain = |outcome: Result<(), _>| outcome.map_err(|error| format!("{error}"));
            Ok(outcomes.into_iter().map(plain).collect())
        };
        let done = import::import(
            &mut add,
            &mut *self.reader,
            Some(&self.base),
            &mut |progress| screen.borrow_mut().show(progress),
            &mut |refused| screen.borrow_mut().refuse(refused),
        );
        let mut screen = screen.into_inner();
        screen.clear();
        screen.refused.sort_by_key(|refused| refused.line);
        let done = done.map_err(|error| {
            let lines = screen.last.lines;
            Failure::new(format_args!(
                "{}: stopped after line {lines}: {error}",
                self.name
            ))
        })?;
        let mut out = output::stdout();
        if json {
            let refused: Vec<_> = screen
                .refused
                .iter()
                .map(|found| serde_json::json!({ "line": found.line, "reason": found.reason }))
                .collect();
            let report = serde_json::json!({ "added": done.added, "refused": refused });
            output::write_json(&mut out, &report)?;
        } else {
            writeln!(out, "{} added, {} refused", done.added, done.refused)?;
        }
        out.flush()?;
        if done.refused == 0 {
            Ok(())
        } else {
            Err(Failure::Reported)
        }
    }
}

/// Standard base64 of `bytes`.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Refused lines kept for the JSON report; more are only counted.
const REFUSED_MAX: usize = 10_000;

/// What a person sees meanwhile, on standard error: refused lines, and a bar on a terminal.
struct Screen {
    length: Option<u64>,
    bar: bool,
    json: bool,
    last: Progress,
    refused: Vec<Refused>,
}

impl Screen {
    fn new(length: Option<u64>, json: bool) -> Self {
        Self {
            length: length.filter(|&length| length > 0),
            bar: io::stderr().is_terminal(),
            json,
            last: Progress::default(),
            refused: Vec::new(),
        }
    }

    fn show(&mut self, progress: Progress) {
        self.last = progress;
        if !self.bar {
            return;
        }
        let counts = format!("{} added, {} refused", progress.added, progress.refused);
        let line = match self.length {
            Some(length) => format!("{} {counts}", bar(progress.bytes, length)),
            None => format!("{} lines, {counts}", progress.lines),
        };
        let mut err = io::stderr().lock();
        let _ = write!(err, "\r\x1b[K{line}");
        let _ = err.flush();
    }

    fn refuse(&mut self, refused: Refused) {
        self.clear();
        if self.json {
            if self.refused.len() < REFUSED_MAX {
                self.refused.push(refused);
            }
            return;
        }
        let reason = output::printable(&refused.reason);
        output::complain(&format!("line {}: {reason}", refused.line));
    }

    /// Takes the bar away.
    fn clear(&self) {
        if self.bar {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

/// `[#####---------------]  25 %`
fn bar(done: u64, total: u64) -> String {
    const WIDTH: u64 = 30;
    let done = done.min(total);
    let part = |of: u64| {
        let share = u128::from(done) * u128::from(of) / u128::from(total.max(1));
        usize::try_from(share).unwrap_or(0)
    };
    let filled = "#".repeat(part(WIDTH));
    format!("[{filled:-<30}] {:>3} %", part(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_full_at_the_end_only() {
        assert_eq!(bar(0, 10), format!("[{}]   0 %", "-".repeat(30)));
        assert_eq!(
            bar(5, 10),
            format!("[{}{}]  50 %", "#".repeat(15), "-".repeat(15))
        );
        assert_eq!(bar(10, 10), format!("[{}] 100 %", "#".repeat(30)));
        assert_eq!(bar(11, 10), bar(10, 10));
        assert_eq!(
            bar(u64::MAX - 1, u64::MAX),
            format!("[{}-]  99 %", "#".repeat(29))
        );
    }
}
