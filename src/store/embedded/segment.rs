//! The log: append-only segments of frames, one frame a group commit.
//!
//! ```text
//! file name: first sequence number, 20 digits, ".log"
//! header:  "TIDELOG1" | first sequence u64 | salt u64 | XXH3 of these 24 bytes u64
//! frame:   payload length u32 | records u32 | sequence u64 | XXH3(salt; all else) u64 | payload
//! ```
//! Numbers are little-endian. Sequence numbers count frames from 1, without a gap over all
//! segments. The salt differs in each segment, so what an older file left on the disk never passes
//! for a frame of this one.
//!
//! Invariants: a frame is written only after the one before it was synced, so at most the last one
//! of the last segment is torn; a segment gets its name only once its header is durable; only the
//! last segment may have anything behind its frames: room for more, in which older bytes may stand.

use super::OpenError;
use super::directory::io_error;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

const MAGIC: &[u8; 8] = b"TIDELOG1";
pub(super) const SEGMENT_HEADER_LEN: usize = 32;
pub(super) const FRAME_HEADER_LEN: usize = 24;

/// A plain segment gives way to a prepared one, once there is one, at this length.
const PLAIN_BYTES: u64 = 256 << 10;

/// What the log does with a file.
pub(super) trait LogFile: Send {
    /// Writes all of `bytes` behind what was written.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes everything written durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts off all behind `length`, for good; what is written next comes there.
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

impl LogFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)?;
        self.seek(SeekFrom::Start(length))?;
        self.sync_all()
    }
}

/// Makes the files of a log, or opens one that is there; another one in tests that break them.
pub(super) type OpenFile = Box<dyn FnMut(&Path) -> io::Result<Box<dyn LogFile>> + Send>;

/// Opens files on the disk.
pub(super) fn disk() -> OpenFile {
    Box::new(|path| Ok(Box::new(write_options().open(path)?)))
}

/// To write to a file from its start, whatever it holds.
pub(super) fn write_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options
}

/// A segment that is no longer written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClosedSegment {
    pub(super) path: PathBuf,
    pub(super) last_sequence: u64,
}

/// A file whose blocks are there already: a sync behind a write into it has no metadata to write,
/// which halves its cost. It is filled with zeros, or with a segment that is done.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) path: PathBuf,
    pub(super) length: u64,
}

/// Where a spare waits for its use.
pub(super) type SpareSlot = Arc<Mutex<Option<Spare>>>;

/// The end of the log.
pub(super) struct LogWriter {
    directory: PathBuf,
    open_file: OpenFile,
    segment_bytes: u64,
    segment: Option<OpenSegment>,
    spare: SpareSlot,
    next_sequence: u64,
    frame: Vec<u8>,
    /// The segment that was closed for one that could not be made yet.
    closed: Option<ClosedSegment>,
}

/// Why a group was not written.
#[derive(Debug)]
pub(super) enum CommitError {
    /// There is no room. Nothing of the group is in the log, which can go on once there is.
    Full(io::Error),
    /// What the disk holds is unknown: nothing more may be written.
    Failed(io::Error),
}

impl From<io::Error> for CommitError {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Whether a disk says that it is full, or that this user's part of it is.
fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

/// The segment that is written to.
struct OpenSegment {
    file: Box<dyn LogFile>,
    path: PathBuf,
    salt: u64,
    /// Bytes written.
    length: u64,
    /// Bytes that the file had before; 0 for a plain one.
    prepared: u64,
}

impl LogWriter {
    /// A log whose next frame is number `next_sequence`; its first segment is made with it.
    pub(super) fn new(
        directory: &Path,
        next_sequence: u64,
        segment_bytes: u64,
        open_file: OpenFile,
    ) -> Self {
        Self {
            directory: directory.to_owned(),
            open_file,
            segment_bytes,
            segment: None,
            spare: SpareSlot::default(),
            next_sequence,
            frame: Vec::new(),
            closed: None,
        }
    }

    /// Where a spare may be put.
    pub(super) fn spare(&self) -> SpareSlot {
        Arc::clone(&self.spare)
    }

    /// Number that the next frame will have.
    pub(super) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// The file that is written to, or the directory before there is one.
    pub(super) fn path(&self) -> &Path {
        self.segment
            .as_ref()
            .map_or(&self.directory, |segment| &segment.path)
    }

    /// Begins a frame; records are then appended to what is returned.
    pub(super) fn begin_frame(&mut self) -> &mut Vec<u8> {
        self.frame.clear();
        self.frame.resize(FRAME_HEADER_LEN, 0);
        &mut self.frame
    }

    /// Writes the frame begun and makes it durable. Gives the segment that it closed, if it did.
    pub(super) fn commit(&mut self, records: u32) -> Result<Option<ClosedSegment>, CommitError> {
        let segment = match self.segment.take() {
            Some(segment) if self.fits(&segment) => segment,
            other => {
                if let Some(full) = other {
                    self.closed = Some(close_segment(full, self.next_sequence - 1)?);
                }
                self.create_segment()?
            }
        };
        let segment = self.segment.insert(segment);
        seal_frame(&mut self.frame, self.next_sequence, records, segment.salt)?;
        if let Err(error) = segment.file.append(&self.frame) {
            if !is_full(&error) {
                return Err(CommitError::Failed(error));
            }
            // A part of it may be there. Without that, the log is what it was before.
            segment.file.cut(segment.length)?;
            segment.prepared = 0;
            return Err(CommitError::Full(error));
        }
        segment.file.sync()?;
        segment.length += self.frame.len() as u64;
        self.next_sequence += 1;
        // A group of unusual size must not hold its memory for ever.
        if self.frame.capacity() > 4 << 20 {
            self.frame = Vec::new();
        }
        Ok(self.closed.take())
    }

    /// Tries whether `bytes` more find room behind the segment, which is made if there is none, and
    /// leaves it as it was. A group that is small could go into what is left of its last block, though
    /// the disk is full.
    pub(super) fn try_room(&mut self, bytes: usize) -> Result<(), CommitError> {
        let segment = match self.segment.take() {
            Some(segment) => segment,
            None => self.create_segment()?,
        };
        let segment = self.segment.insert(segment);
        let tried = segment.file.append(&vec![0; bytes]);
        segment.file.cut(segment.length)?;
        segment.prepared = 0;
        tried.map_err(|error| {
            if is_full(&error) {
                CommitError::Full(error)
            } else {
                CommitError::Failed(error)
            }
        })
    }

    /// The segment that was closed by a commit that found no room: it may go once it is flushed.
    pub(super) const fn take_closed(&mut self) -> Option<ClosedSegment> {
        self.closed.take()
    }

    /// Whether the frame goes into `segment`; one of its own size goes into an empty one.
    fn fits(&self, segment: &OpenSegment) -> bool {
        let end = segment.length + self.frame.len() as u64;
        if segment.prepared == 0 && segment.length >= PLAIN_BYTES && lock(&self.spare).is_some() {
            return false;
        }
        let limit = if segment.prepared == 0 {
            self.segment_bytes
        } else {
            segment.prepared
        };
        segment.length == SEGMENT_HEADER_LEN as u64 || end <= limit
    }

    /// Gives the spare its new name; returns its length, 0 without one.
    ///
    /// The slot stays locked meanwhile, as the next spare gets the name that this one gives up. A
    /// spare that cannot be had is a loss of speed, and no reason for the log to end.
    fn take_spare(&self, new: &Path) -> u64 {
        let mut slot = lock(&self.spare);
        let Some(spare) = slot.take() else {
            return 0;
        };
        match std::fs::rename(&spare.path, new) {
            Ok(()) => spare.length,
            Err(error) => {
                tracing::warn!(file = %spare.path.display(), %error, "a spare segment is not there");
                0
            }
        }
    }

    /// Makes the next segment. What a full disk leaves of one is removed: of a spare it would be the old
    /// bytes, behind all that the next attempt writes.
    fn create_segment(&mut self) -> Result<OpenSegment, CommitError> {
        let first_sequence = self.next_sequence;
        let path = self.directory.join(format!("{first_sequence:020}.log"));
        let new = self.directory.join(format!("{first_sequence:020}.new"));
        let prepared = self.take_spare(&new);
        let salt = RandomState::new().hash_one(first_sequence);
        let mut header = Vec::with_capacity(SEGMENT_HEADER_LEN);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&first_sequence.to_le_bytes());
        header.extend_from_slice(&salt.to_le_bytes());
        header.extend_from_slice(&xxh3_64(&header).to_le_bytes());
        let begun = (self.open_file)(&new).and_then(|mut file| {
            file.append(&header)?;
            file.sync()?;
            std::fs::rename(&new, &path)?;
            Ok(file)
        });
        let file = match begun {
            Ok(file) => file,
            Err(error) if is_full(&error) => {
                return Err(match std::fs::remove_file(&new) {
                    Err(left) if left.kind() != io::ErrorKind::NotFound => {
                        CommitError::Failed(left)
                    }
                    _ => CommitError::Full(error),
                });
            }
            Err(error) => return Err(CommitError::Failed(error)),
        };
        File::open(&self.directory)?.sync_all()?;
        Ok(OpenSegment {
            file,
            path,
            salt,
            length: SEGMENT_HEADER_LEN as u64,
            prepared,
        })
    }
}

/// Ends a segment. Only the last one may have anything behind its last frame.
fn close_segment(mut segment: OpenSegment, last_sequence: u64) -> io::Result<ClosedSegment> {
    if segment.prepared > segment.length {
        segment.file.cut(segment.length)?;
    }
    Ok(ClosedSegment {
        path: segment.path,
        last_sequence,
    })
}

/// A panic while the slot was held left it whole.
pub(super) fn lock(slot: &SpareSlot) -> MutexGuard<'_, Option<Spare>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Fills in the header of a frame whose payload is behind it.
fn seal_frame(frame: &mut [u8], sequence: u64, records: u32, salt: u64) -> io::Result<()> {
    let length = u32::try_from(frame.len() - FRAME_HEADER_LEN)
        .map_err(|_| io::Error::other("a group of more than 4 GiB"))?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame[4..8].copy_from_slice(&records.to_le_bytes());
    frame[8..16].copy_from_slice(&sequence.to_le_bytes());
    let checksum = frame_checksum(&frame[..16], &frame[FRAME_HEADER_LEN..], salt);
    frame[16..24].copy_from_slice(&checksum.to_le_bytes());
    Ok(())
}

fn frame_checksum(head: &[u8], payload: &[u8], salt: u64) -> u64 {
    xxh3_64_with_seed(payload, xxh3_64_with_seed(head, salt))
}

/// What a segment was found to hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scanned {
    /// Number of the first frame, by the header.
    pub(super) first_sequence: u64,
    /// Number of the last whole frame; one less than the segment's first if there is none.
    pub(super) last_sequence: u64,
    /// Bytes up to the end of the last whole frame.
    pub(super) valid_bytes: u64,
    /// Bytes behind it that are no frame.
    pub(super) rest_bytes: u64,
    /// Whether these begin as the next frame would: it was being written.
    pub(super) torn: bool,
}

/// What is done with each frame: its sequence number, records and payload.
pub(super) type Visit<'a> = dyn FnMut(u64, u32, &[u8]) -> Result<(), OpenError> + 'a;

/// Reads a segment from its bytes and hands each whole frame to `visit`. What follows the last whole frame is reported, not judged, unless a whole frame comes
/// after it: then what was durable has been damaged.
pub(super) fn scan(path: &Path, bytes: &[u8], visit: &mut Visit<'_>) -> Result<Scanned, OpenError> {
    let (first_sequence, salt) = header(bytes)
        .ok_or_else(|| damaged(path, "its header is not one of a log segment".into()))?;
    let mut scanned = Scanned {
        first_sequence,
        last_sequence: first_sequence.wrapping_sub(1),
        valid_bytes: SEGMENT_HEADER_LEN as u64,
        rest_bytes: 0,
        torn: false,
    };
    let mut at = SEGMENT_HEADER_LEN;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(scanned);
        }
        let expected = scanned.last_sequence.wrapping_add(1);
        match frame(rest, salt) {
            Some(frame) if frame.sequence == expected => {
                visit(frame.sequence, frame.records, frame.payload)?;
                at += FRAME_HEADER_LEN + frame.payload.len();
                scanned.last_sequence = expected;
                scanned.valid_bytes = at as u64;
            }
            Some(frame) => {
                let what = format!("frame {} stands where {expected} belongs", frame.sequence);
                return Err(damaged(path, what));
            }
            None => {
                if let Some((offset, later)) = later_frame(rest, salt, expected) {
                    let what = format!(
                        "frame {expected} at byte {at} is unreadable, but frame {later} at byte {} is whole",
                        at + offset
                    );
                    return Err(damaged(path, what));
                }
                scanned.rest_bytes = rest.len() as u64;
                scanned.torn = rest.get(8..16) == Some(&expected.to_le_bytes());
                return Ok(scanned);
            }
        }
    }
}

/// The error for a damaged segment.
pub(super) fn damaged(path: &Path, what: String) -> OpenError {
    OpenError::Corrupted {
        file: path.to_owned(),
        what,
        remedy: "restore the data directory from a backup, or move this file and those after it \
                 in the same directory away to start without the readings in them",
    }
}

/// First sequence number and salt of a segment.
fn header(bytes: &[u8]) -> Option<(u64, u64)> {
    let header = bytes.first_chunk::<SEGMENT_HEADER_LEN>()?;
    let (content, checksum) = header.split_at(24);
    let word = |at: usize| {
        content
            .get(at..)?
            .first_chunk()
            .copied()
            .map(u64::from_le_bytes)
    };
    (content.starts_with(MAGIC) && checksum == xxh3_64(content).to_le_bytes())
        .then_some((word(8)?, word(16)?))
}

struct Frame<'a> {
    sequence: u64,
    records: u32,
    payload: &'a [u8],
}

/// The frame at the start of `bytes`, if there is a whole one.
fn frame(bytes: &[u8], salt: u64) -> Option<Frame<'_>> {
    let (header, rest) = bytes.split_first_chunk::<FRAME_HEADER_LEN>()?;
    let (head, checksum) = header.split_at(16);
    let length = u32::from_le_bytes(*head.first_chunk()?);
    let payload = rest.get(..usize::try_from(length).ok()?)?;
    (checksum == frame_checksum(head, payload, salt).to_le_bytes()).then_some(Frame {
        sequence: u64::from_le_bytes(*head.get(8..)?.first_chunk()?),
        records: u32::from_le_bytes(*head.get(4..)?.first_chunk()?),
        payload,
    })
}

/// Bytes whose checksum is computed in looking for a frame behind a damaged place: a second's work.
/// Devices decide what lies in a segment, so what looks like frame headers may be theirs.
const SEARCH_BYTES_MAX: usize = 2 << 30;

/// A whole frame somewhere behind the start of `bytes`: its offset and number. Only numbers soon
/// after `expected` are tried, so that the checksum is seldom computed, and no more than
/// [`SEARCH_BYTES_MAX`] bytes of it.
fn later_frame(bytes: &[u8], salt: u64, expected: u64) -> Option<(usize, u64)> {
    if bytes.iter().all(|&byte| byte == 0) {
        return None;
    }
    let plausible = expected..expected.saturating_add(1 << 24);
    let mut budget = SEARCH_BYTES_MAX;
    (1..bytes.len().saturating_sub(FRAME_HEADER_LEN - 1)).find_map(|offset| {
        let rest = bytes.get(offset..)?;
        let sequence = u64::from_le_bytes(*rest.get(8..)?.first_chunk()?);
        if !plausible.contains(&sequence) {
            return None;
        }
        let claimed = u32::from_le_bytes(*rest.first_chunk()?) as usize;
        if claimed > rest.len() {
            return None;
        }
        budget = budget.checked_sub(claimed)?;
        frame(rest, salt).map(|frame| (offset, frame.sequence))
    })
}

/// The segments of a log in the order of their numbers, without those that never got a name.
pub(super) fn list(directory: &Path) -> Result<Vec<(u64, PathBuf)>, OpenError> {
    let entries = std::fs::read_dir(directory).map_err(io_error("listing", directory))?;
    let mut segments = Vec::new();
    for entry in entries {
        let path = entry.map_err(io_error("listing", directory))?.path();
        let extension = path.extension().and_then(|e| e.to_str());
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        match (extension, stem.map(str::parse)) {
            (Some("log"), Some(Ok(first_sequence))) => segments.push((first_sequence, path)),
            (Some("new"), _) => {
                std::fs::remove_file(&path).map_err(io_error("removing", &path))?;
            }
            _ => tracing::warn!(file = %path.display(), "not a file of the log, left alone"),
        }
    }
    segments.sort();
    Ok(segments)
}
