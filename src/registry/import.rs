//! Bulk import of devices from CSV: `name,token` or `name,certificate path`, a line each.

use super::Registry;
use std::io::BufRead;
use std::path::Path;

/// A line that was not imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its number, from 1.
    pub line: u64,
    /// Why.
    pub reason: String,
}

/// How far an import is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read.
    pub bytes: u64,
    /// Lines read.
    pub lines: u64,
    /// Devices added.
    pub added: u64,
    /// Lines refused.
    pub refused: u64,
}

/// Imports devices from `csv`; relative certificate paths start at `base`.
///
/// `progress` is called after each group of lines made durable, and once at the end; `refused` for
/// each bad line. A bad line does not stop the rest.
///
/// # Errors
///
/// `csv` could not be read; what was added until then stays.
pub fn import(
    registry: &dyn Registry,
    csv: &mut dyn BufRead,
    base: &Path,
    progress: &mut dyn FnMut(Progress),
    refused: &mut dyn FnMut(Refused),
) -> std::io::Result<Progress> {
    let _ = (registry, csv, base, progress, refused);
    unimplemented!()
}
