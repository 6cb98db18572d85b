//! The record layer (RFC 6347 section 4.1): headers, protection, anti-replay.
//!
//! ```text
//!  0      1        3      5                  11      13
//! +------+--------+------+------------------+-------+---------------------------
//! | type | version| epoch| sequence number  | length| fragment of `length` bytes
//! +------+--------+------+------------------+-------+---------------------------
//! ```
//!
//! Knows nothing of handshakes. Bad records are dropped and never end anything (RFC 6347 section
//! 4.1.2.7).

pub(super) mod forgery;
pub(super) mod limit;
pub(super) mod protection;
pub(super) mod replay;

use std::ops::Range;

use super::received::RECORDS_PER_DATAGRAM_MAX;
use crate::drop_reason::DropReason;
use crate::wire::Reader;

/// Length of a record header without a connection id in bytes.
pub(super) const HEADER_LEN: usize = 13;
/// Where the connection id of a tls12_cid record begins (RFC 9146 section 4).
pub(super) const CID_OFFSET: usize = 11;
/// Longest connection id (RFC 9146 section 3).
pub(super) const CID_LEN_MAX: usize = 255;
/// Most plaintext in a record (RFC 5246 section 6.2.1).
pub(super) const PLAINTEXT_MAX: usize = 1 << 14;
/// Most bytes in the fragment of a protected record (RFC 5246 section 6.2.3).
const FRAGMENT_MAX: usize = PLAINTEXT_MAX + 2048;
/// Highest sequence number of an epoch (RFC 6347 section 4.1: 48 bits).
pub(super) const SEQUENCE_MAX: u64 = (1 << 48) - 1;

/// DTLS 1.0 on the wire.
pub(super) const DTLS_1_0: u16 = 0xfeff;
/// DTLS 1.2 on the wire.
pub(super) const DTLS_1_2: u16 = 0xfefd;

/// What a record carries (RFC 5246 section 6.2.1, RFC 9146 section 4, RFC 9853 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum ContentType {
    ChangeCipherSpec = 20,
    Alert = 21,
    Handshake = 22,
    ApplicationData = 23,
    /// tls12_cid: with a connection id, and the real type within.
    ConnectionId = 25,
    ReturnRoutabilityCheck = 27,
}

impl ContentType {
    pub(super) const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            20 => Self::ChangeCipherSpec,
            21 => Self::Alert,
            22 => Self::Handshake,
            23 => Self::ApplicationData,
            25 => Self::ConnectionId,
            27 => Self::ReturnRoutabilityCheck,
            _ => return None,
        })
    }
}

/// The header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) content_type: ContentType,
    pub(super) version: u16,
    pub(super) epoch: u16,
    /// 48 bits.
    pub(super) sequence: u64,
}

impl RecordHeader {
    /// The header of `length` bytes of fragment, as it goes on the wire.
    pub(super) fn encode(self, length: usize) -> [u8; HEADER_LEN] {
        debug_assert!(self.sequence <= SEQUENCE_MAX && length <= FRAGMENT_MAX);
        let [v0, v1] = self.version.to_be_bytes();
        let [.., l0, l1] = length.to_be_bytes();
        let [e0, e1, s0, s1, s2, s3, s4, s5] = self.epoch_and_sequence();
        let content_type = self.content_type as u8;
        [content_type, v0, v1, e0, e1, s0, s1, s2, s3, s4, s5, l0, l1]
    }

    /// `epoch | sequence number`, the 64-bit number that the protection uses.
    pub(super) fn epoch_and_sequence(self) -> [u8; 8] {
        ((u64::from(self.epoch) << 48) | self.sequence).to_be_bytes()
    }
}

/// One record of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RecordSlice {
    pub(super) header: RecordHeader,
    /// Header and fragment within the datagram.
    pub(super) range: Range<usize>,
}

/// Walks through the records of a datagram without holding on to it.
#[derive(Debug, Default)]
pub(super) struct RecordCursor {
    offset: usize,
    count: usize,
    /// Length of connection ids in records to us; 0 when there are none.
    cid_len: u8,
}

impl RecordCursor {
    /// A cursor over datagrams to an end whose connection ids have `cid_len` bytes.
    pub(super) fn new(cid_len: u8) -> Self {
        Self {
            cid_len,
            ..Self::default()
        }
    }

    /// The next record of `datagram`, or why what comes next is dropped; `None` at the end.
    ///
    /// After a record that cannot be delimited, and after 16 records, the rest of the datagram is
    /// dropped with one reason. Every call that returns `Some` makes progress.
    pub(super) fn next(&mut self, datagram: &[u8]) -> Option<Result<RecordSlice, DropReason>> {
        let rest = datagram
            .get(self.offset..)
            .filter(|rest| !rest.is_empty())?;
        if self.count == RECORDS_PER_DATAGRAM_MAX {
            self.offset = datagram.len();
            return Some(Err(DropReason::RecordsPerDatagram));
        }
        self.count += 1;
        let start = self.offset;
        let Some((header, length)) = delimit(rest, usize::from(self.cid_len)) else {
            self.offset = datagram.len();
            return Some(Err(DropReason::RecordMalformed));
        };
        self.offset = start + length;
        Some(header.map(|header| RecordSlice {
            header,
            range: start..self.offset,
        }))
    }
}

/// Reads the header at the start of `bytes`; with it the length of the whole record. `None` when
/// the end of the record cannot be told. Where no connection ids are in use, a tls12_cid record is
/// one of an unknown type.
fn delimit(bytes: &[u8], cid_len: usize) -> Option<(Result<RecordHeader, DropReason>, usize)> {
    let mut reader = Reader::new(bytes);
    let content_type = reader.u8().ok()?;
    let version = reader.u16().ok()?;
    let epoch = reader.u16().ok()?;
    let sequence = reader.u48().ok()?;
    let content_type = ContentType::from_code(content_type)
        .filter(|&t| t != ContentType::ConnectionId || cid_len > 0);
    let cid_len = match content_type {
        Some(ContentType::ConnectionId) => cid_len,
        _ => 0,
    };
    reader.bytes(cid_len).ok()?;
    let length = usize::from(reader.u16().ok()?);
    if length > FRAGMENT_MAX || length > reader.remaining() {
        return None;
    }
    let header = match (content_type, version) {
        (None, _) => Err(DropReason::RecordType),
        (Some(content_type), DTLS_1_0 | DTLS_1_2) => Ok(RecordHeader {
            content_type,
            version,
            epoch,
            sequence,
        }),
        _ => Err(DropReason::RecordVersion),
    };
    Some((header, HEADER_LEN + cid_len + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(content_type: u8, version: u16, body: &[u8]) -> Vec<u8> {
        let mut out = vec![content_type];
        out.extend_from_slice(&version.to_be_bytes());
        out.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 9]);
        out.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
        out.extend_from_slice(body);
        out
    }

    fn all(datagram: &[u8]) -> Vec<Result<Range<usize>, DropReason>> {
        let mut cursor = RecordCursor::default();
        std::iter::from_fn(|| cursor.next(datagram))
            .map(|record| record.map(|record| record.range))
            .collect()
    }

    #[test]
    fn a_header_is_read_back() {
        let header = RecordHeader {
            content_type: ContentType::ApplicationData,
            version: DTLS_1_2,
            epoch: 0x0102,
            sequence: 0x0304_0506_0708,
        };
        let mut datagram = header.encode(2).to_vec();
        datagram.extend_from_slice(b"ab");
        assert_eq!(
            datagram,
            [23, 0xfe, 0xfd, 1, 2, 3, 4, 5, 6, 7, 8, 0, 2, b'a', b'b']
        );
        let read = RecordCursor::default().next(&datagram).unwrap().unwrap();
        assert_eq!(
            read,
            RecordSlice {
                header,
                range: 0..15
            }
        );
    }

    /// RFC 6347 section 4.1.1: several records in one datagram, one behind the other.
    #[test]
    fn records_are_cut_and_bad_ones_skipped() {
        let mut datagram = record(22, DTLS_1_2, b"abc");
        datagram.extend(record(99, DTLS_1_2, b"x"));
        datagram.extend(record(22, 0x0303, b"x"));
        datagram.extend(record(20, DTLS_1_0, b""));
        datagram.extend(&record(23, DTLS_1_2, b"cut short")[..20]);
        assert_eq!(
            all(&datagram),
            [
                Ok(0..16),
                Err(DropReason::RecordType),
                Err(DropReason::RecordVersion),
                Ok(44..57),
                Err(DropReason::RecordMalformed),
            ]
        );
        assert_eq!(all(&[]), []);
        assert_eq!(all(&[22; 12]), [Err(DropReason::RecordMalformed)]);
    }

    #[test]
    fn records_beyond_the_cap_and_overlong_ones_are_dropped() {
        let datagram = record(20, DTLS_1_2, b"\x01").repeat(40);
        let read = all(&datagram);
        assert_eq!(read.len(), 17);
        assert_eq!(read[16], Err(DropReason::RecordsPerDatagram));
        assert_eq!(
            all(&record(23, DTLS_1_2, &vec![0; FRAGMENT_MAX + 1])),
            [Err(DropReason::RecordMalformed)]
        );
        assert_eq!(all(&record(23, DTLS_1_2, &vec![0; FRAGMENT_MAX])).len(), 1);
    }
}
