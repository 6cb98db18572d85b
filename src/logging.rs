//! The log: lines on standard error, written by a thread of their own.
//!
//! A shard that logs never waits for the terminal or the journal: lines go through a bounded queue,
//! and are dropped and counted when it is full.

use crate::config::value::LogFormat;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Lines that may wait for the writer.
const LINES_MAX: usize = 8192;

/// Reads a filter.
///
/// # Errors
///
/// Says which part is not understood.
pub fn parse_filter(text: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder()
        .with_regex(false)
        .parse(text)
        .map_err(|error| error.to_string())
}

/// Keeps the log open; lines that wait are written when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct LogGuard {
    _writer: tracing_appender::non_blocking::WorkerGuard,
    dropped: tracing_appender::non_blocking::ErrorCounter,
}

impl LogGuard {
    /// Lines that were lost because the queue was full.
    pub fn dropped_lines(&self) -> usize {
        self.dropped.dropped_lines()
    }
}

/// Opens the log of the process.
///
/// # Errors
///
/// When the filter is not understood, or a log is open already.
pub fn init(filter: &str, format: LogFormat) -> Result<LogGuard, String> {
    let filter = parse_filter(filter)?;
    let (writer, guard) = tracing_appender::non_blocking::NonBlockingBuilder::default()
        .buffered_lines_limit(LINES_MAX)
        .lossy(true)
        .thread_name("log")
        .finish(std::io::stderr());
    let dropped = writer.error_counter();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer);
    let opened = match format {
        LogFormat::Text => builder
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .finish()
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    opened.map_err(|error| error.to_string())?;
    Ok(LogGuard {
        _writer: guard,
        dropped,
    })
}
