//! `count:seconds[,count:seconds...]`: so many in any so many seconds, all of them at once.

use std::fmt;

/// Most windows of one limit.
const WINDOWS_MAX: usize = 8;
/// Most seconds of a window: a year.
const SECONDS_MAX: u64 = 366 * 86_400;
/// Highest count.
const COUNT_MAX: u64 = 1_000_000_000;

/// So many in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// How many; at least 1.
    pub count: u64,
    /// In which time, microseconds; at least a second.
    pub period_us: u64,
}

/// A limit; without windows there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateLimit(Box<[Window]>);

/// A text is no limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no rate limit; {remedy}", remedy = RateLimit::REMEDY)]
pub struct BadLimit(String);

impl RateLimit {
    /// What would be one.
    pub const REMEDY: &str = "write COUNT:SECONDS, or several with commas, such as 10:1,300:60, or \
                              nothing for no limit";

    /// Reads a limit; the empty text is none.
    ///
    /// # Errors
    ///
    /// The text is something else.
    pub fn parse(text: &str) -> Result<Self, BadLimit> {
        let bad = || BadLimit(text.chars().take(64).collect());
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::default());
        }
        let window = |part: &str| {
            let (count, seconds) = part.split_once(':')?;
            let number = |text: &str, max| {
                let number = text.trim().parse().ok();
                number.filter(|number| (1..=max).contains(number))
            };
            Some(Window {
                count: number(count, COUNT_MAX)?,
                period_us: number(seconds, SECONDS_MAX)? * 1_000_000,
            })
        };
        let windows: Option<Box<[_]>> = text.split(',').map(window).collect();
        windows
            .filter(|windows| windows.len() <= WINDOWS_MAX)
            .map(Self)
            .ok_or_else(bad)
    }

    /// Its windows.
    pub fn windows(&self) -> &[Window] {
        &self.0
    }

    /// Whether there is no limit.
    pub fn is_unlimited(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, window) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(
                f,
                "{comma}{}:{}",
                window.count,
                window.period_us / 1_000_000
            )?;
        }
        Ok(())
    }
}
