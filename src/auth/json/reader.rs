//! The lenient reader.

use super::{DEPTH_MAX, Json, SyntaxError};
use std::borrow::Cow;
use std::collections::HashMap;

/// From this many members on, repeated names are found with a hash map (keyed, as a device chooses
/// the names) instead of by comparing each with each.
const MEMBERS_COMPARED_MAX: usize = 16;

/// Reads one document.
///
/// Taken beyond RFC 8259, after Gson's documentation of its lenient reader:
/// * a byte order mark, and the prefix `)]}'` and a line feed, before the document;
/// * comments `/* */`, `//` and `#` to the end of the line;
/// * names and strings in single quotes or in none; without quotes they end before white space or
///   one of `/ \ ; # = { } [ ] : ,`. What is written without quotes and is neither a number of
///   RFC 8259 nor a keyword is a string: `NaN`, `007`, `+1`, `1.`;
/// * line feeds inside quotes, `\'` and an escaped line feed;
/// * keywords in any case;
/// * `=` and `=>` in place of `:`, and `;` in place of `,`;
/// * nothing between the commas of an array, or before its end: null.
///
/// A text of white space and comments alone is null. Text after the document is an error, and so is
/// a comma before the end of an object. A `\u` escape of half a surrogate pair becomes U+FFFD.
///
/// # Errors
///
/// What is wrong and where; also more than [`DEPTH_MAX`] levels.
pub fn parse(text: &str) -> Result<Json<'_>, SyntaxError> {
    let mut reader = Reader {
        text: text.strip_prefix('\u{feff}').unwrap_or(text),
        at: 0,
    };
    reader.skip_prefix()?;
    if reader.peek_token()?.is_none() {
        return Ok(Json::Null);
    }
    let document = reader.value(DEPTH_MAX)?;
    match reader.peek_token()? {
        None => Ok(document),
        Some(_) => Err(reader.error("text after the document")),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn error(&self, reason: &'static str) -> SyntaxError {
        SyntaxError {
            reason,
            at: self.at,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The rest of the text. `at` is always at a character's boundary.
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The text from `start` to here.
    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn skip_prefix(&mut self) -> Result<(), SyntaxError> {
        if self.peek_token()? == Some(b')') && self.rest().starts_with(")]}'\n") {
            self.at += 5;
        }
        Ok(())
    }

    /// The first byte after white space and comments, not taken; `None` at the end.
    fn peek_token(&mut self) -> Result<Option<u8>, SyntaxError> {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => self.at += 1,
                b'#' => self.skip_line(),
                b'/' if self.rest().starts_with("//") => self.skip_line(),
                b'/' if self.rest().starts_with("/*") => {
                    let Some(end) = self.rest().get(2..).and_then(|body| body.find("*/")) else {
                        return Err(self.error("comment without an end"));
                    };
                    self.at += 2 + end + 2;
                }
                _ => return Ok(Some(byte)),
            }
        }
        Ok(None)
    }

    fn skip_line(&mut self) {
        let rest = self.rest();
        self.at += rest.find(['\n', '\r']).unwrap_or(rest.len());
    }

    /// Reads a value that begins here, at most `depth` levels deep.
    fn value(&mut self, depth: usize) -> Result<Json<'a>, SyntaxError> {
        match self.peek_token()? {
            Some(b'{') => self.object(self.deeper(depth)?),
            Some(b'[') => self.array(self.deeper(depth)?),
            Some(quote @ (b'"' | b'\'')) => self.quoted(quote).map(Json::String),
            Some(_) => self.unquoted_value(),
            None => Err(self.error("value missing at the end")),
        }
    }

    fn deeper(&self, depth: usize) -> Result<usize, SyntaxError> {
        depth
            .checked_sub(1)
            .ok_or_else(|| self.error("nested too deeply"))
    }

    fn array(&mut self, depth: usize) -> Result<Json<'a>, SyntaxError> {
        self.at += 1;
        let mut items = Vec::new();
        if self.peek_token()? == Some(b']') {
            self.at += 1;
            return Ok(Json::Array(items));
        }
        loop {
            // Here a value is due; a separator or the end stands for null.
            items.push(match self.peek_token()? {
                Some(b',' | b';' | b']') => Json::Null,
                _ => self.value(depth)?,
            });
            match self.peek_token()? {
                Some(b',' | b';') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Json::Array(items));
                }
                _ => return Err(self.error("array without an end")),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json<'a>, SyntaxError> {
        self.at += 1;
        let mut members = Members::default();
        if self.peek_token()? == Some(b'}') {
            self.at += 1;
            return Ok(Json::Object(members.list));
        }
        loop {
            let name = self.name()?;
            match self.peek_token()? {
                Some(b':') => self.at += 1,
                Some(b'=') => self.at += if self.rest().starts_with("=>") { 2 } else { 1 },
                _ => return Err(self.error("colon expected")),
            }
            let value = self.value(depth)?;
            members.insert(name, value);
            match self.peek_token()? {
                Some(b',' | b';') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Json::Object(members.list));
                }
                _ => return Err(self.error("object without an end")),
            }
        }
    }

    fn name(&mut self) -> Result<Cow<'a, str>, SyntaxError> {
        match self.peek_token()? {
            Some(quote @ (b'"' | b'\'')) => self.quoted(quote),
            _ => match self.unquoted() {
                "" => Err(self.error("name expected")),
                name => Ok(Cow::Borrowed(name)),
            },
        }
    }

    fn unquoted_value(&mut self) -> Result<Json<'a>, SyntaxError> {
        let text = self.unquoted();
        Ok(if text.is_empty() {
            return Err(self.error("value expected"));
        } else if is_number(text) {
            Json::Number(text)
        } else if text.eq_ignore_ascii_case("true") {
            Json::Bool(true)
        } else if text.eq_ignore_ascii_case("false") {
            Json::Bool(false)
        } else if text.eq_ignore_ascii_case("null") {
            Json::Null
        } else {
            Json::String(Cow::Borrowed(text))
        })
    }

    /// Takes what is written without quotes; empty when there is nothing such.
    fn unquoted(&mut self) -> &'a str {
        let start = self.at;
        let rest = self.rest().as_bytes();
        self.at += rest
            .iter()
            .position(|byte| b"/\\;#={}[]:, \t\x0c\r\n".contains(byte))
            .unwrap_or(rest.len());
        self.since(start)
    }

    /// Takes a string in quotes; the opening one is here.
    fn quoted(&mut self, quote: u8) -> Result<Cow<'a, str>, SyntaxError> {
        self.at += 1;
        let mut start = self.at;
        let mut unescaped = String::new();
        loop {
            let Some(length) = self
                .rest()
                .bytes()
                .position(|byte| byte == quote || byte == b'\\')
            else {
                return Err(self.error("string without an end"));
            };
            self.at += length;
            let plain = self.since(start);
            if self.peek() == Some(quote) {
                self.at += 1;
                if unescaped.is_empty() {
                    return Ok(Cow::Borrowed(plain));
                }
                unescaped.push_str(plain);
                return Ok(Cow::Owned(unescaped));
            }
            unescaped.push_str(plain);
            self.at += 1;
            unescaped.push(self.escape()?);
            start = self.at;
        }
    }

    /// Takes what stands after a backslash.
    fn escape(&mut self) -> Result<char, SyntaxError> {
        let escape = self
            .peek()
            .ok_or_else(|| self.error("string without an end"))?;
        let character = match escape {
            b'u' => {
                self.at += 1;
                return self.unicode_escape();
            }
            b't' => '\t',
            b'b' => '\u{8}',
            b'n' => '\n',
            b'r' => '\r',
            b'f' => '\u{c}',
            b'\n' | b'\'' | b'"' | b'\\' | b'/' => char::from(escape),
            _ => return Err(self.error("unknown escape")),
        };
        self.at += 1;
        Ok(character)
    }

    /// Takes the four digits after `\u`, and the second half of a surrogate pair.
    fn unicode_escape(&mut self) -> Result<char, SyntaxError> {
        let first = self.hex4()?;
        if (0xd800..0xdc00).contains(&first) && self.rest().starts_with("\\u") {
            let before_second = self.at;
            self.at += 2;
            let second = self.hex4()?;
            if (0xdc00..0xe000).contains(&second) {
                let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            // Not its other half: to be read on its own.
            self.at = before_second;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Result<u32, SyntaxError> {
        let digits = self
            .rest()
            .get(..4)
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or_else(|| self.error("four hexadecimal digits expected"))?;
        self.at += 4;
        Ok(digits)
    }
}

/// The members of an object while it is read.
#[derive(Default)]
struct Members<'a> {
    list: Vec<(Cow<'a, str>, Json<'a>)>,
    /// Where each name is, once there are many.
    positions: HashMap<Cow<'a, str>, usize>,
}

impl<'a> Members<'a> {
    fn insert(&mut self, name: Cow<'a, str>, value: Json<'a>) {
        match self.position(&name).and_then(|at| self.list.get_mut(at)) {
            Some(member) => member.1 = value,
            None => {
                if self.list.len() >= MEMBERS_COMPARED_MAX {
                    self.positions.insert(name.clone(), self.list.len());
                }
                self.list.push((name, value));
            }
        }
    }

    /// Where `name` is: the first names are compared, later ones are in the map.
    fn position(&self, name: &str) -> Option<usize> {
        let compared = self.list.iter().take(MEMBERS_COMPARED_MAX);
        compared
            .into_iter()
            .position(|(known, _)| known == name)
            .or_else(|| self.positions.get(name).copied())
    }
}

/// Whether `text` is a number of RFC 8259 section 6.
fn is_number(text: &str) -> bool {
    let digits = |bytes: &[u8]| {
        bytes
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count()
    };
    let mut rest = text.as_bytes();
    rest = rest.strip_prefix(b"-").unwrap_or(rest);
    let integer = digits(rest);
    if integer == 0 || (integer > 1 && rest.starts_with(b"0")) {
        return false;
    }
    rest = rest.get(integer..).unwrap_or_default();
    if let Some(fraction) = rest.strip_prefix(b".") {
        let length = digits(fraction);
        if length == 0 {
            return false;
        }
        rest = fraction.get(length..).unwrap_or_default();
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = match exponent {
            [b'+' | b'-', exponent @ ..] => exponent,
            exponent => exponent,
        };
        return !exponent.is_empty() && digits(exponent) == exponent.len();
    }
    rest.is_empty()
}
