//! Standard output and standard error.

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
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
pub(super) fn write_json(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    json(&mut *out, value)?;
    out.write_all(b"\n")
}

/// Writes `value` as JSON, in which no character steers the terminal.
pub(super) fn json(out: impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut serializer = Serializer::with_formatter(out, Steady);
    value.serialize(&mut serializer).map_err(Into::into)
}

/// Writes JSON that is text already, likewise, and a line break.
pub(super) fn write_json_text(out: &mut impl Write, text: &str) -> io::Result<()> {
    write_steady(&mut *out, text)?;
    out.write_all(b"\n")
}

/// JSON that escapes all control characters: it need not escape U+007F to U+009F, but terminals take
/// some of them as the beginning of a command, and devices choose their texts.
struct Steady;

impl Formatter for Steady {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        write_steady(writer, fragment)
    }

    fn write_raw_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        write_steady(writer, fragment)
    }
}

/// Of JSON text such characters are within strings, where an escape says the same.
fn write_steady<W: ?Sized + Write>(writer: &mut W, text: &str) -> io::Result<()> {
    let mut rest = text;
    while let Some(at) = rest.find(|c| ('\u{7f}'..='\u{9f}').contains(&c)) {
        let (before, after) = rest.split_at(at);
        writer.write_all(before.as_bytes())?;
        let mut after = after.chars();
        if let Some(c) = after.next() {
            write!(writer, "\\u{:04x}", u32::from(c))?;
        }
        rest = after.as_str();
    }
    writer.write_all(rest.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;

    #[test]
    fn what_devices_say_does_not_steer_the_terminal() {
        let hostile = "a\u{1b}[2J\u{7f}\u{9b}31m\u{9d}0;x\u{a0}ü";
        let raw = "{\"k\":\"\u{9b}2J\"}".to_owned();
        let value = (hostile, RawValue::from_string(raw.clone()).unwrap());
        let mut out = Vec::new();
        write_json(&mut out, &value).unwrap();
        write_json_text(&mut out, &raw).unwrap();
        let text = String::from_utf8(out).unwrap();
        let controls = text.chars().filter(|c| c.is_control() && *c != '\n');
        assert_eq!(controls.count(), 0, "{text:?}");
        let mut lines = text.lines();
        let (read, _): (String, serde_json::Value) =
            serde_json::from_str(lines.next().unwrap()).unwrap();
        assert_eq!(read, hostile, "and nothing is lost");
        assert_eq!(lines.next(), Some("{\"k\":\"\\u009b2J\"}"));
    }
}
