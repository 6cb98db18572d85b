//! The JSON dialect of ThingsBoard's device API (TB section 7.1), and its value rules (7.2).
//!
//! Devices were written against Gson's lenient reader, so this is that dialect: see [`parse`] for
//! what it takes beyond RFC 8259. [`number`] decides which numbers become integers, doubles or text.
//!
//! Bounds: the depth of nesting is capped at [`DEPTH_MAX`], so neither reading, printing nor
//! dropping a document can exhaust the stack; memory is proportional to the text.

pub mod number;
mod reader;

pub use reader::parse;

use crate::store::value::write_json_string;
use std::borrow::Cow;

/// Most arrays and objects within each other.
pub const DEPTH_MAX: usize = 64;

/// A document, or a part of one. Text without escapes is borrowed from the document.
#[derive(Clone, Debug, PartialEq)]
pub enum Json<'a> {
    /// `null`, also what stands for nothing between two commas of an array.
    Null,
    /// `true` or `false`, in any case.
    Bool(bool),
    /// A number by the grammar of RFC 8259 section 6, as written.
    Number(&'a str),
    /// Text, quoted or not.
    String(Cow<'a, str>),
    /// An array.
    Array(Vec<Self>),
    /// An object: each name once, where it came first, with the value that came last.
    Object(Vec<(Cow<'a, str>, Self)>),
}

/// The text is not a document of the dialect. Its cause is not told to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {at}")]
pub struct SyntaxError {
    /// What is wrong.
    pub reason: &'static str,
    /// Where it was noticed.
    pub at: usize,
}

impl Json<'_> {
    /// Appends the document as RFC 8259 text without spaces, numbers as they were written.
    pub fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(lexeme) => out.push_str(lexeme),
            Self::String(text) => write_json_string(text, out),
            Self::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (index, (name, value)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    write_json_string(name, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

#[cfg(test)]
mod tests;
