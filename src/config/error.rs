//! What is wrong with the settings, for the operator.

use crate::config::resolve::Origin;
use std::fmt;

/// One thing that stops the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting, or `--conf`.
    pub setting: String,
    /// Its value as it may be shown: `****` for a password; `None` when there is none to show.
    pub value: Option<String>,
    /// Where the value came from.
    pub origin: Origin,
    /// What is wrong with it.
    pub reason: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.setting)?;
        if let Some(value) = &self.value {
            write!(f, "={}", printable(value))?;
        }
        write!(f, " ({}): {}; {}", self.origin, self.reason, self.remedy)
    }
}

/// Control characters escaped and the length bounded, so that a value cannot forge lines.
fn printable(value: &str) -> String {
    const LENGTH_MAX: usize = 200;
    let mut shown: String = value
        .chars()
        .take(LENGTH_MAX)
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = (!c.is_control()).then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect();
    if value.chars().nth(LENGTH_MAX).is_some() {
        shown.push_str("...");
    }
    shown
}

/// All that is wrong with the settings; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// In the order of the table.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [problem] => write!(f, "wrong setting: {problem}"),
            problems => {
                write!(f, "{} wrong settings:", problems.len())?;
                problems
                    .iter()
                    .try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

impl std::error::Error for ConfigError {}
