//! Spare segments: files with their blocks in place, made when nobody waits.
//!
//! The first one is filled with zeros, slowly, so that the disk stays free for commits; later ones
//! are segments that are done, under a new name.

use super::segment::{Spare, SpareSlot, lock, write_options};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// Groups after which a log is worth a spare: a command that writes once is not.
const GROUPS_BEFORE: u32 = 100;

/// Zeros written at a time, and the pause behind them: some 50 MB a second.
const STEP_BYTES: usize = 512 << 10;
const STEP_PAUSE: Duration = Duration::from_millis(10);

/// Keeps the slot of a log filled.
pub(super) struct SpareMaker {
    path: PathBuf,
    segment_bytes: u64,
    slot: SpareSlot,
    groups: AtomicU32,
    stopped: AtomicBool,
}

impl SpareMaker {
    /// A maker for the log in `directory`.
    pub(super) fn new(directory: &Path, segment_bytes: u64, slot: SpareSlot) -> Self {
        Self {
            path: directory.join("spare.new"),
            segment_bytes,
            slot,
            groups: AtomicU32::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    /// Whether the first spare should be made now; asked after each group, `true` once.
    pub(super) fn is_wanted(&self) -> bool {
        let groups = self.groups.load(Ordering::Relaxed);
        if groups >= GROUPS_BEFORE {
            return false;
        }
        self.groups.store(groups + 1, Ordering::Relaxed);
        groups + 1 == GROUPS_BEFORE
    }

    /// Lets [`Self::make`] end early.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Makes a spare of zeros. That it cannot is no failure: the log does without.
    pub(super) fn make(&self) {
        if lock(&self.slot).is_some() {
            return;
        }
        match self.write_zeros() {
            Ok(true) => self.put(self.segment_bytes),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(file = %self.path.display(), %error, "no spare segment for the log");
                let _ = std::fs::remove_file(&self.path);
            }
        }
    }

    /// Removes a segment that is done, or keeps it as the spare.
    pub(super) fn recycle(&self, segment: &Path) -> io::Result<()> {
        let length = segment.metadata()?.len();
        // What was cut off behind its last frame is lost to it; much less than it should have is
        // no use.
        if lock(&self.slot).is_some() || length < self.segment_bytes / 2 {
            return std::fs::remove_file(segment);
        }
        std::fs::rename(segment, &self.path)?;
        // Before anything is written into it: a power cut must not show that under the old name.
        if let Some(directory) = self.path.parent() {
            File::open(directory)?.sync_all()?;
        }
        self.put(length);
        Ok(())
    }

    fn put(&self, length: u64) {
        *lock(&self.slot) = Some(Spare {
            path: self.path.clone(),
            length,
        });
    }

    /// `false` when stopped before the end.
    fn write_zeros(&self) -> io::Result<bool> {
        let mut file = write_options().open(&self.path)?;
        let zeros = vec![0; STEP_BYTES];
        let mut left = self.segment_bytes;
        while left > 0 {
            if self.stopped.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let step = usize::try_from(left).map_or(STEP_BYTES, |left| left.min(STEP_BYTES));
            file.write_all(&zeros[..step])?;
            file.sync_data()?;
            left -= step as u64;
            std::thread::sleep(STEP_PAUSE);
        }
        file.sync_all()?;
        Ok(true)
    }
}
