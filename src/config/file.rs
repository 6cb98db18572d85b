//! Files in the syntax of `thingsboard.conf`: shell assignments.
//!
//! ```text
//! line       := [ "export" ] assignment { assignment } [ "#" comment ]
//! assignment := NAME "=" word          word: unquoted, 'literal' and "expanded" parts, joined
//! ```
//!
//! ThingsBoard has its file sourced by a shell. Here nothing is executed: assignments are read,
//! `$NAME`, `${NAME}` and `${NAME:-text}` are expanded, everything else is passed over. A line that
//! names one of our settings but is not a plain assignment is an error rather than passed over.

use std::collections::HashMap;
use std::iter::Peekable;
use std::str::Chars;

/// Largest file that is read, in bytes.
pub const SIZE_MAX: u64 = 1 << 20;

/// Largest value after expansion, in bytes.
const VALUE_MAX: usize = 64 << 10;

/// What a file says, in its order; a later assignment of a name overrides an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The assignments of names that `wanted` accepted.
    pub assignments: Vec<Assignment>,
    /// The lines that should have been assignments of such names.
    pub faults: Vec<Fault>,
}

/// One assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The name.
    pub name: String,
    /// Its value, quotes removed and variables expanded.
    pub value: String,
    /// Line number, from 1.
    pub line: usize,
}

/// A line that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The name it is about.
    pub name: String,
    /// Line number, from 1.
    pub line: usize,
    /// What is wrong; without the value, which may be a password.
    pub reason: String,
    /// What to write instead.
    pub remedy: String,
}

/// Reads `text`. `wanted` says of a name whether it is one of ours; `environment` is asked for the
/// variables that the file uses and does not set.
pub fn parse(
    text: &str,
    wanted: &dyn Fn(&str) -> bool,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Parsed {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = FileReader {
        wanted,
        environment,
        variables: HashMap::new(),
        parsed: Parsed::default(),
    };
    for (line, content) in logical_lines(text) {
        reader.read_line(line, &content);
    }
    reader.parsed
}

/// Lines with those that end in a backslash joined to the next, and the number of the first.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut pending: Option<(usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        let (number, mut content) = pending.take().unwrap_or((index + 1, String::new()));
        let is_comment = content.is_empty() && line.trim_start().starts_with('#');
        let backslashes = line.len() - line.trim_end_matches('\\').len();
        if backslashes % 2 == 1 && !is_comment {
            content.push_str(&line[..line.len() - 1]);
            pending = Some((number, content));
        } else {
            content.push_str(line);
            lines.push((number, content));
        }
    }
    lines.extend(pending);
    lines
}

struct FileReader<'a> {
    wanted: &'a dyn Fn(&str) -> bool,
    environment: &'a dyn Fn(&str) -> Option<String>,
    /// All that the file has set so far, our names and others.
    variables: HashMap<String, String>,
    parsed: Parsed,
}

impl FileReader<'_> {
    fn read_line(&mut self, line: usize, content: &str) {
        let mut rest = content.trim();
        if let Some(after) = rest.strip_prefix("export")
            && after.starts_with([' ', '\t'])
        {
            rest = after.trim_start();
        }
        while !rest.is_empty() && !rest.starts_with('#') {
            let (name, after) = split_name(rest);
            if name.is_empty() {
                return;
            }
            let Some(value) = after.strip_prefix('=') else {
                self.note_no_assignment(line, name, after);
                return;
            };
            match self.read_word(value) {
                Ok((word, after)) => {
                    self.assign(line, name, word);
                    rest = after.trim_start();
                    rest = rest.strip_prefix(';').unwrap_or(rest).trim_start();
                }
                Err((reason, remedy)) => {
                    self.fault(line, name, reason, remedy);
                    return;
                }
            }
            // What follows a value must be another assignment or a comment.
            let (next, after) = split_name(rest);
            let ends = rest.is_empty() || rest.starts_with('#');
            if !ends && (next.is_empty() || !after.starts_with('=')) {
                let remedy = "put the value in quotes: NAME='some words'";
                self.fault(line, name, "more words follow the value", remedy);
                return;
            }
        }
    }

    /// A line that starts with `name` but has no `=` right after it.
    fn note_no_assignment(&mut self, line: usize, name: &str, after: &str) {
        let spaced = after.trim_start();
        let reason = if spaced.starts_with('=') {
            "white space before the ="
        } else if after.is_empty() || spaced.starts_with('#') {
            // `export NAME` marks a variable for export, and sets nothing.
            return;
        } else {
            "not an assignment"
        };
        self.fault(line, name, reason, "write NAME=value, without spaces");
    }

    fn assign(&mut self, line: usize, name: &str, value: String) {
        if (self.wanted)(name) {
            // The setting whose line was wrong keeps its fault: both lines need a look.
            self.parsed.assignments.push(Assignment {
                name: name.to_owned(),
                value: value.clone(),
                line,
            });
        }
        self.variables.insert(name.to_owned(), value);
    }

    fn fault(&mut self, line: usize, name: &str, reason: &str, remedy: &str) {
        if (self.wanted)(name) {
            self.parsed.faults.push(Fault {
                name: name.to_owned(),
                line,
                reason: reason.to_owned(),
                remedy: remedy.to_owned(),
            });
        }
    }

    /// Reads one shell word from the start of `text`; gives it and what follows.
    fn read_word<'t>(&self, text: &'t str) -> Result<(String, &'t str), WordError> {
        let mut word = String::new();
        let mut chars = text.chars().peekable();
        while let Some(&c) = chars.peek() {
            if c.is_whitespace() || c == ';' {
                break;
            }
            chars.next();
            match c {
                '\'' => read_literal(&mut chars, &mut word)?,
                '"' => self.read_expanded(&mut chars, &mut word)?,
                '\\' => word.extend(chars.next()),
                '$' => self.expand(&mut chars, &mut word)?,
                '`' => return Err(COMMAND),
                '&' | '|' | '<' | '>' | '(' | ')' => return Err(SPECIAL),
                other => word.push(other),
            }
            if word.len() > VALUE_MAX {
                return Err(("the value is too long", "write at most 64 KiB"));
            }
        }
        let left: usize = chars.map(char::len_utf8).sum();
        Ok((word, &text[text.len() - left..]))
    }

    fn read_expanded(
        &self,
        chars: &mut Peekable<Chars<'_>>,
        word: &mut String,
    ) -> Result<(), WordError> {
        while let Some(c) = chars.next() {
            match c {
                '"' => return Ok(()),
                '\\' => match chars.next() {
                    Some(escaped @ ('"' | '\\' | '$' | '`')) => word.push(escaped),
                    Some(other) => word.extend(['\\', other]),
                    None => break,
                },
                '$' => self.expand(chars, word)?,
                '`' => return Err(COMMAND),
                other => word.push(other),
            }
        }
        Err(UNTERMINATED)
    }

    /// After a `$`: the value of the variable that follows, or the `$` itself.
    fn expand(&self, chars: &mut Peekable<Chars<'_>>, word: &mut String) -> Result<(), WordError> {
        match chars.peek() {
            Some('{') => {
                chars.next();
                let inside: String = chars.by_ref().take_while(|&c| c != '}').collect();
                let (name, after) = split_name(&inside);
                let default = after.strip_prefix(":-");
                if name.is_empty() || (default.is_none() && !after.is_empty()) {
                    return Err(EXPANSION);
                }
                let value = self.variable(name).filter(|value| !value.is_empty());
                match (value, default) {
                    (Some(value), _) => word.push_str(&value),
                    (None, Some(default)) => word.push_str(default),
                    (None, None) => word.push_str(&self.set_variable(name)?),
                }
                Ok(())
            }
            Some(&c) if c.is_ascii_alphabetic() || c == '_' => {
                let mut name = String::new();
                while let Some(&c) = chars.peek()
                    && (c.is_ascii_alphanumeric() || c == '_')
                {
                    name.push(c);
                    chars.next();
                }
                word.push_str(&self.set_variable(&name)?);
                Ok(())
            }
            Some('(') => Err(COMMAND),
            Some(c) if "$?!#@*-0123456789".contains(*c) => Err(EXPANSION),
            _ => {
                word.push('$');
                Ok(())
            }
        }
    }

    fn variable(&self, name: &str) -> Option<String> {
        let own = self.variables.get(name).cloned();
        own.or_else(|| (self.environment)(name))
    }

    /// A variable that must be there: empty instead would hide a `$` meant as such in a password.
    /// Its name is not repeated, as it may be part of that password.
    fn set_variable(&self, name: &str) -> Result<String, WordError> {
        self.variable(name).ok_or(UNSET)
    }
}

/// Reason and remedy.
type WordError = (&'static str, &'static str);

const COMMAND: WordError = (
    "it would run a command, and nothing is run here",
    "write the value itself, in single quotes if it holds $ or `",
);
const SPECIAL: WordError = (
    "a character that a shell treats specially",
    "put the value in single quotes",
);
const EXPANSION: WordError = (
    "a $ expression other than $NAME, ${NAME} and ${NAME:-text}",
    "write the value in single quotes if the $ belongs to it",
);
const UNSET: WordError = (
    "the variable after a $ is not set",
    "set it above, or write the value in single quotes if the $ belongs to it",
);
const UNTERMINATED: WordError = ("a quote is not closed", "close it on the same line");

fn read_literal(chars: &mut Peekable<Chars<'_>>, word: &mut String) -> Result<(), WordError> {
    for c in chars {
        if c == '\'' {
            return Ok(());
        }
        word.push(c);
    }
    Err(UNTERMINATED)
}

/// The name that `text` starts with, possibly empty, and what follows.
fn split_name(text: &str) -> (&str, &str) {
    let is_start = |c: char| c.is_ascii_alphabetic() || c == '_';
    if !text.starts_with(is_start) {
        return ("", text);
    }
    let end = text
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests;
