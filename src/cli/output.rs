//! Standard output and standard error.

use std::io::{self, BufWriter, StdoutLock, Write};

/// Standard output, buffered. A reader that is gone is an error of kind `BrokenPipe`, no panic.
pub(super) fn stdout() -> BufWriter<StdoutLock<'static>> {
    BufWriter::new(io::stdout().lock())
}

/// Writes a message to standard error, control characters other than line breaks escaped; where
/// nobody listens there, nobody is told.
pub(super) fn complain(message: &str) {
    let mut err = io::stderr().lock();
    for line in message.split('\n') {
        let _ = writeln!(err, "{}", printable(line));
    }
}

/// `text` with control characters escaped, so that a name cannot steer the terminal.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Names and values below each other.
pub(super) fn write_fields(out: &mut impl Write, fields: &[(&str, String)]) -> io::Result<()> {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in fields {
        writeln!(out, "{name:<width$}  {}", printable(value))?;
    }
    Ok(())
}

/// Writes `value` as JSON and a line break.
pub(super) fn write_json(out: &mut impl Write, value: &impl serde::Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}
