//! The log: lines on standard error, written by a thread of their own.
//!
//! A shard that logs never waits for the terminal or the journal: lines go through a bounded queue,
//! and are dropped and counted when it is full.

use crate::config::value::LogFormat;
use std::io::IsTerminal as _;
use std::sync::OnceLock;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Lines that may wait for the writer.
const LINES_MAX: usize = 8192;

/// Libraries that tell too much at the usual level: warnings only, unless the filter names them.
const QUIET: &str = "fjall=warn,lsm_tree=warn,glommio=warn,hyper=warn";

/// Reads a filter.
///
/// # Errors
///
/// Says which part is not understood.
pub fn parse_filter(text: &str) -> Result<EnvFilter, String> {
    // Alone first, so that an error speaks of this text only.
    EnvFilter::builder()
        .with_regex(false)
        .parse(text)
        .map_err(|error| error.to_string())?;
    // What comes later counts.
    EnvFilter::builder()
        .with_regex(false)
        .parse(format!("{QUIET},{text}"))
        .map_err(|error| error.to_string())
}

/// Counts the lines that the open log has lost.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Lines that were lost so far because the queue was full.
pub fn dropped_lines() -> usize {
    DROPPED.get().map_or(0, ErrorCounter::dropped_lines)
}

/// Keeps the log open; lines that wait are written when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct LogGuard(#[expect(dead_code, reason = "its drop writes what waits")] WorkerGuard);

/// Opens the log of the process.
///
/// # Errors
///
/// When the filter is not understood, or a log is open already.
pub fn init(filter: &str, format: LogFormat) -> Result<LogGuard, String> {
    let filter = parse_filter(filter)?;
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES_MAX)
        .lossy(true)
        .thread_name("log")
        .finish(std::io::stderr());
    let dropped = writer.error_counter();
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer);
    let opened = match format {
        LogFormat::Text => builder
            .with_ansi(std::io::stderr().is_terminal() && !no_color)
            .finish()
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    opened.map_err(|error| error.to_string())?;
    let _ = DROPPED.set(dropped);
    Ok(LogGuard(guard))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::level_filters::LevelFilter;

    #[test]
    fn filters_of_every_form_are_read() {
        for text in [
            "info",
            "off",
            "WARN",
            "tidegate=debug",
            "info,tidegate::server=trace",
            "fjall=info",
        ] {
            assert!(parse_filter(text).is_ok(), "{text}");
        }
        for text in ["=", "info,=,", "tidegate=loud", "a=b=c"] {
            assert!(parse_filter(text).is_err(), "{text}");
        }
    }

    #[test]
    fn talkative_libraries_are_quiet_unless_named() {
        let directives = |text: &str| {
            let filter = parse_filter(text).unwrap().to_string();
            let found: Vec<String> = filter.split(',').map(str::to_owned).collect();
            found
        };
        assert!(directives("debug").contains(&"fjall=warn".to_owned()));
        let named = directives("debug,fjall=trace");
        assert!(named.contains(&"fjall=trace".to_owned()), "{named:?}");
        assert!(!named.contains(&"fjall=warn".to_owned()), "{named:?}");
        let most = parse_filter("debug").unwrap().max_level_hint();
        assert_eq!(most, Some(LevelFilter::DEBUG));
    }
}
