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
//! of the last segment is torn; a segment gets its name only once its header is durable.

use super::OpenError;
use super::directory::io_error;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

const MAGIC: &[u8; 8] = b"TIDELOG1";
pub(super) const SEGMENT_HEADER_LEN: usize = 32;
pub(super) const FRAME_HEADER_LEN: usize = 24;

/// What the log does with a file.
pub(super) trait LogFile: Send {
    /// Appends all of `bytes`.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes everything appended durable.
    fn sync(&mut self) -> io::Result<()>;
}

impl LogFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Makes the files of a log; another one in tests that break them.
pub(super) type MakeFile = Box<dyn FnMut(&Path) -> io::Result<Box<dyn LogFile>> + Send>;

/// Makes files on the disk.
pub(super) fn disk() -> MakeFile {
    Box::new(|path| Ok(Box::new(File::create_new(path)?)))
}

/// A segment that is no longer written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClosedSegment {
    pub(super) path: PathBuf,
    pub(super) last_sequence: u64,
}

/// The end of the log.
pub(super) struct LogWriter {
    directory: PathBuf,
    make_file: MakeFile,
    segment_bytes: u64,
    file: Box<dyn LogFile>,
    path: PathBuf,
    length: u64,
    salt: u64,
    next_sequence: u64,
    frame: Vec<u8>,
}

impl LogWriter {
    /// Begins a segment whose first frame will be number `next_sequence`.
    pub(super) fn create(
        directory: &Path,
        next_sequence: u64,
        segment_bytes: u64,
        mut make_file: MakeFile,
    ) -> io::Result<Self> {
        let salt = RandomState::new().hash_one(next_sequence);
        let (path, file) = create_segment(directory, next_sequence, salt, &mut make_file)?;
        Ok(Self {
            directory: directory.to_owned(),
            make_file,
            segment_bytes,
            file,
            path,
            length: SEGMENT_HEADER_LEN as u64,
            salt,
            next_sequence,
            frame: Vec::new(),
        })
    }

    /// Number that the next frame will have.
    pub(super) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// The file that is written to.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Begins a frame; records are then appended to what is returned.
    pub(super) fn begin_frame(&mut self) -> &mut Vec<u8> {
        self.frame.clear();
        self.frame.resize(FRAME_HEADER_LEN, 0);
        &mut self.frame
    }

    /// Writes the frame begun and makes it durable. Gives the segment that it closed, if it did.
    ///
    /// After an error nothing more may be written: what the disk holds is unknown.
    pub(super) fn commit(&mut self, records: u32) -> io::Result<Option<ClosedSegment>> {
        let closed = if self.length > SEGMENT_HEADER_LEN as u64
            && self.length + self.frame.len() as u64 > self.segment_bytes
        {
            Some(self.rotate()?)
        } else {
            None
        };
        seal_frame(&mut self.frame, self.next_sequence, records, self.salt)?;
        self.file.append(&self.frame)?;
        self.file.sync()?;
        self.length += self.frame.len() as u64;
        self.next_sequence += 1;
        // A group of unusual size must not hold its memory for ever.
        if self.frame.capacity() > 4 << 20 {
            self.frame = Vec::new();
        }
        Ok(closed)
    }

    fn rotate(&mut self) -> io::Result<ClosedSegment> {
        let salt = RandomState::new().hash_one(self.next_sequence);
        let (path, file) = create_segment(
            &self.directory,
            self.next_sequence,
            salt,
            &mut self.make_file,
        )?;
        self.file = file;
        self.salt = salt;
        self.length = SEGMENT_HEADER_LEN as u64;
        Ok(ClosedSegment {
            path: std::mem::replace(&mut self.path, path),
            last_sequence: self.next_sequence - 1,
        })
    }
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

fn create_segment(
    directory: &Path,
    first_sequence: u64,
    salt: u64,
    make_file: &mut MakeFile,
) -> io::Result<(PathBuf, Box<dyn LogFile>)> {
    let path = directory.join(format!("{first_sequence:020}.log"));
    let new = directory.join(format!("{first_sequence:020}.new"));
    let mut header = Vec::with_capacity(SEGMENT_HEADER_LEN);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&first_sequence.to_le_bytes());
    header.extend_from_slice(&salt.to_le_bytes());
    header.extend_from_slice(&xxh3_64(&header).to_le_bytes());
    let mut file = make_file(&new)?;
    file.append(&header)?;
    file.sync()?;
    std::fs::rename(&new, &path)?;
    File::open(directory)?.sync_all()?;
    Ok((path, file))
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
    pub(super) torn_bytes: u64,
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
        torn_bytes: 0,
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
                scanned.torn_bytes = rest.len() as u64;
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

/// A whole frame somewhere behind the start of `bytes`: its offset and number. Only numbers soon
/// after `expected` are tried, so that the checksum is seldom computed.
fn later_frame(bytes: &[u8], salt: u64, expected: u64) -> Option<(usize, u64)> {
    let plausible = expected..expected.saturating_add(1 << 24);
    (1..bytes.len().saturating_sub(FRAME_HEADER_LEN - 1)).find_map(|offset| {
        let rest = bytes.get(offset..)?;
        let sequence = u64::from_le_bytes(*rest.get(8..)?.first_chunk()?);
        if !plausible.contains(&sequence) {
            return None;
        }
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
            (Some("new"), Some(Ok(_))) => {
                std::fs::remove_file(&path).map_err(io_error("removing", &path))?;
            }
            _ => tracing::warn!(file = %path.display(), "not a file of the log, left alone"),
        }
    }
    segments.sort();
    Ok(segments)
}
