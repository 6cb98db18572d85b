//! What of the host keeps the server from starting or from being fast, and the command that mends
//! it.
//!
//! `host` reads (files of /proc and /sys below a root that a test can replace, and one attempt to
//! make a ring), `checks` judges. Nothing is changed and no port is opened.

mod checks;
mod host;
#[cfg(test)]
mod tests;

pub use host::Host;

use crate::config::value::DriverChoice;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The server would not start.
    Stops,
    /// It would start, and be slower or lose more than it has to.
    Slows,
    /// It is not wrong; whoever wants what it is for has to say so.
    Hint,
    /// As it should be.
    Fine,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What was looked at, a word or two; unique.
    pub subject: &'static str,
    /// What was found.
    pub found: String,
    /// Why it matters; empty when it is fine.
    pub why: &'static str,
    /// Commands that mend it, a line each; empty when it is fine.
    pub remedy: String,
}

/// What the server is going to need of the host.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    /// Executors, each with a ring and its sockets.
    pub shards: usize,
    /// How datagrams are to travel.
    pub driver: DriverChoice,
    /// UDP ports of CoAP and of CoAPS.
    pub ports: [u16; 2],
}

/// Looks at everything, what matters most first.
pub fn examine(host: &Host, needs: Needs) -> Vec<Finding> {
    let mut findings = checks::all(host, needs);
    findings.sort_by_key(|finding| finding.severity);
    findings
}
