//! Values of readings and attributes, their bytes and their JSON text.
//!
//! ```text
//! type u8 | content
//! 1 bool    u8 (0, 1)
//! 2 long    i64 little-endian
//! 3 double  f64 little-endian
//! 4 string  u32 little-endian length, UTF-8
//! 5 JSON    u32 little-endian length, UTF-8 text
//! ```

use std::fmt::Write as _;

/// A stored value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// True or false.
    Bool(bool),
    /// An integer of 64 bits.
    Long(i64),
    /// A number with a fraction.
    Double(f64),
    /// Text.
    String(Box<str>),
    /// A JSON object or array, as its text without spaces.
    Json(Box<str>),
}

/// A [`Value`] whose text lies elsewhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueRef<'a> {
    /// True or false.
    Bool(bool),
    /// An integer of 64 bits.
    Long(i64),
    /// A number with a fraction.
    Double(f64),
    /// Text.
    String(&'a str),
    /// A JSON object or array, as its text without spaces.
    Json(&'a str),
}

impl Value {
    /// This value, borrowed.
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Bool(value) => ValueRef::Bool(*value),
            Self::Long(value) => ValueRef::Long(*value),
            Self::Double(value) => ValueRef::Double(*value),
            Self::String(value) => ValueRef::String(value),
            Self::Json(value) => ValueRef::Json(value),
        }
    }

    /// Appends the value as JSON text: see [`ValueRef::write_json`].
    pub fn write_json(&self, out: &mut String) {
        self.as_ref().write_json(out);
    }
}

impl<'a> ValueRef<'a> {
    /// This value with text of its own.
    pub fn to_value(self) -> Value {
        match self {
            Self::Bool(value) => Value::Bool(value),
            Self::Long(value) => Value::Long(value),
            Self::Double(value) => Value::Double(value),
            Self::String(value) => Value::String(value.into()),
            Self::Json(value) => Value::Json(value.into()),
        }
    }

    /// Appends the value as JSON text, as ThingsBoard's transport prints it: no spaces, doubles as
    /// [`write_java_double`], JSON values as they are.
    pub fn write_json(self, out: &mut String) {
        match self {
            Self::Bool(value) => out.push_str(if value { "true" } else { "false" }),
            Self::Long(value) => {
                let _ = write!(out, "{value}");
            }
            Self::Double(value) => write_java_double(value, out),
            Self::String(value) => write_json_string(value, out),
            Self::Json(value) => out.push_str(value),
        }
    }

    /// Appends type and content.
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        match self {
            Self::Bool(value) => out.extend_from_slice(&[1, u8::from(value)]),
            Self::Long(value) => {
                out.push(2);
                out.extend_from_slice(&value.to_le_bytes());
            }
            Self::Double(value) => {
                out.push(3);
                out.extend_from_slice(&value.to_le_bytes());
            }
            Self::String(value) => encode_text(4, value, out),
            Self::Json(value) => encode_text(5, value, out),
        }
    }

    /// Takes one value off the front of `bytes`; `None` when they do not begin with one.
    pub(crate) fn decode(bytes: &mut &'a [u8]) -> Option<Self> {
        let (&kind, rest) = bytes.split_first()?;
        *bytes = rest;
        match kind {
            1 => match take::<1>(bytes)? {
                [0] => Some(Self::Bool(false)),
                [1] => Some(Self::Bool(true)),
                _ => None,
            },
            2 => take(bytes).map(|value| Self::Long(i64::from_le_bytes(value))),
            3 => take(bytes).map(|value| Self::Double(f64::from_le_bytes(value))),
            4 => decode_text(bytes).map(Self::String),
            5 => decode_text(bytes).map(Self::Json),
            _ => None,
        }
    }
}

/// Takes `N` bytes off the front of `bytes`.
pub(crate) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

/// Takes `length` bytes off the front of `bytes`.
pub(crate) fn take_slice<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(head)
}

/// Bytes of a length as a `u32`: our own records are far below 4 GiB, a payload even more so.
pub(crate) fn length_u32(length: usize) -> u32 {
    u32::try_from(length).expect("a record of our own is below 4 GiB")
}

fn encode_text(kind: u8, text: &str, out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(&length_u32(text.len()).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn decode_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let length = u32::from_le_bytes(take(bytes)?);
    std::str::from_utf8(take_slice(bytes, length as usize)?).ok()
}

/// Appends `text` as a JSON string, escaped as Gson does it: quote, backslash, control characters,
/// and U+2028 and U+2029.
pub fn write_json_string(text: &str, out: &mut String) {
    out.push('"');
    let mut plain = 0;
    for (at, character) in text.char_indices() {
        let escape = match character {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\t' => "\\t",
            '\u{8}' => "\\b",
            '\n' => "\\n",
            '\r' => "\\r",
            '\u{c}' => "\\f",
            '\u{2028}' => "\\u2028",
            '\u{2029}' => "\\u2029",
            '\0'..='\u{1f}' => "",
            _ => continue,
        };
        out.push_str(&text[plain..at]);
        if escape.is_empty() {
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        } else {
            out.push_str(escape);
        }
        plain = at + character.len_utf8();
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

/// Appends a double as Java's `Double.toString` prints it (JDK 19 and later: the shortest digits
/// that read back as the same number): plain from 10^-3 up to 10^7, otherwise `d.dE[-]n`, always
/// with a digit after the point. What is not a number has no JSON form and becomes `null`.
pub fn write_java_double(value: f64, out: &mut String) {
    if !value.is_finite() {
        out.push_str("null");
        return;
    }
    if value == 0.0 {
        out.push_str(if value.is_sign_negative() {
            "-0.0"
        } else {
            "0.0"
        });
        return;
    }
    let magnitude = value.abs();
    if (1e-3..1e7).contains(&magnitude) {
        // Rust's `Debug` prints the shortest digits and, in this range, plainly with a fraction.
        let _ = write!(out, "{value:?}");
        return;
    }
    let mut text = format!("{value:e}");
    if !text.contains('.') {
        // Java weighs two digits even where one is enough (the smallest double: 4.9E-324).
        text = format!("{value:.1e}");
    }
    out.push_str(&text.replace('e', "E"));
}

#[cfg(test)]
mod tests;
