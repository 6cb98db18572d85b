//! The start: what the log holds behind the checkpoint goes back into the head.
//!
//! Only the last segment may end in bytes that are no frame: the group that was being written when
//! the process or the machine stopped. It was not acknowledged, so it is cut off. Anything else
//! that does not fit is damage, and the start stops with the file's name.

use super::OpenError;
use super::directory::{io_error, sync_directory};
use super::head::Head;
use super::segment::{self, ClosedSegment, Scanned};
use std::fs::OpenOptions;
use std::path::Path;

/// What was found.
pub(super) struct Recovered {
    /// Number of the last group, in the log or before it.
    pub(super) last_sequence: u64,
    /// Number of the last group of a flush that was not finished: the head has it moved aside.
    pub(super) unfinished: Option<u64>,
    /// The segments that are still needed.
    pub(super) segments: Vec<ClosedSegment>,
}

/// Applies the groups behind `checkpoint` to `head`, removes segments before it and cuts off what
/// was not finished.
///
/// Those up to `flush_begun` are moved aside as they were then, so that the flush is done again as it
/// was: its rows replace those that are there already, and each counts once.
pub(super) fn replay(
    directory: &Path,
    checkpoint: u64,
    flush_begun: u64,
    head: &Head,
) -> Result<Recovered, OpenError> {
    let segments = segment::list(directory)?;
    let mut recovered = Recovered {
        last_sequence: checkpoint,
        unfinished: None,
        segments: Vec::new(),
    };
    let last = segments.len().saturating_sub(1);
    // The first segment may begin before the checkpoint, each further one where the last ended.
    let mut expected = None;
    for (index, (first_sequence, path)) in segments.iter().enumerate() {
        let follows = match expected {
            None => *first_sequence <= checkpoint + 1,
            Some(expected) => *first_sequence == expected,
        };
        if !follows {
            let expected = expected.unwrap_or(checkpoint + 1);
            let what = format!("it begins with group {first_sequence}, but {expected} is missing");
            return Err(segment::damaged(path, what));
        }
        let bytes = std::fs::read(path).map_err(io_error("reading", path))?;
        let scanned = scan(path, &bytes, *first_sequence, &mut |sequence, payload| {
            if sequence <= checkpoint {
                return Some(());
            }
            head.apply(payload)?;
            if sequence == flush_begun {
                head.begin_flush();
                recovered.unfinished = Some(sequence);
            }
            Some(())
        })?;
        if scanned.rest_bytes > 0 {
            if index != last {
                let what = format!("it ends in {} bytes that are no group", scanned.rest_bytes);
                return Err(segment::damaged(path, what));
            }
            cut_off(path, &scanned)?;
        }
        expected = Some(scanned.last_sequence + 1);
        recovered.last_sequence = recovered.last_sequence.max(scanned.last_sequence);
        if scanned.last_sequence <= checkpoint || scanned.last_sequence < *first_sequence {
            std::fs::remove_file(path).map_err(io_error("removing", path))?;
        } else {
            recovered.segments.push(ClosedSegment {
                path: path.clone(),
                last_sequence: scanned.last_sequence,
            });
        }
    }
    sync_directory(directory)?;
    Ok(recovered)
}

fn scan(
    path: &Path,
    bytes: &[u8],
    first_sequence: u64,
    apply: &mut dyn FnMut(u64, &[u8]) -> Option<()>,
) -> Result<Scanned, OpenError> {
    let scanned = segment::scan(path, bytes, &mut |sequence, _, payload| {
        apply(sequence, payload).ok_or_else(|| {
            segment::damaged(
                path,
                format!("group {sequence} holds records of an unknown kind"),
            )
        })
    })?;
    if scanned.first_sequence != first_sequence {
        return Err(segment::damaged(
            path,
            "its header does not fit its name".into(),
        ));
    }
    Ok(scanned)
}

fn cut_off(path: &Path, scanned: &Scanned) -> Result<(), OpenError> {
    if scanned.torn {
        tracing::warn!(
            file = %path.display(),
            at = scanned.valid_bytes,
            "the log ends in a group that was not finished, and never acknowledged: cut off"
        );
    }
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|file| {
            file.set_len(scanned.valid_bytes)?;
            file.sync_all()
        })
        .map_err(io_error("cutting off the end of", path))
}

#[cfg(test)]
mod tests;
