//! Connection ids (RFC 9146): names in records by which an end finds its keys, wherever a datagram
//! comes from.
//!
//! ```text
//! tls12_cid record, epoch 1 and later:
//!  0      1        3      5                  11       11+n     13+n
//! +------+--------+------+------------------+--------+--------+---------------------------
//! |  25  | version| epoch| sequence number  | cid[n] | length | fragment of `length` bytes
//! +------+--------+------+------------------+--------+--------+---------------------------
//! ```
//!
//! Each end says in its hello which id it wants to find in records to it; n may be 0 and says that
//! it wants none. An id is the receiver's: only the receiver knows its length.

use super::record::{CID_OFFSET, ContentType};
use crate::random::Random;

/// Gives out our connection ids.
///
/// An id must not be that of another live peer of the same receiver: one that is found by the wrong
/// keys is only dropped, but the right peer would not be reachable by it.
pub trait ConnectionIdSource {
    /// A new id of `length` bytes, at least 1. `None` when none is free: the handshake goes on
    /// without connection ids.
    fn fresh(&self, length: u8, random: &mut dyn Random) -> Option<Box<[u8]>>;
}

/// Ids of random bytes and nothing else, for one peer at a time and for tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct RandomConnectionIds;

impl ConnectionIdSource for RandomConnectionIds {
    fn fresh(&self, length: u8, random: &mut dyn Random) -> Option<Box<[u8]>> {
        let mut id = vec![0; usize::from(length)];
        random.fill(&mut id);
        Some(id.into())
    }
}

/// The connection id of the first record of `datagram`, when that is a tls12_cid record and our ids
/// have `length` bytes, at least 1. Nothing is authentic about it.
pub fn cid_of(datagram: &[u8], length: u8) -> Option<&[u8]> {
    let is_cid = datagram.first() == Some(&(ContentType::ConnectionId as u8)) && length > 0;
    is_cid
        .then(|| datagram.get(CID_OFFSET..CID_OFFSET + usize::from(length)))
        .flatten()
}

/// The ids of both directions in 16 bytes; memory of their own have only those that do not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConnectionIds(Ids);

/// Bytes that both ids may have together without memory of their own.
const INLINE_MAX: usize = 14;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Ids {
    /// Ours and then the peer's, with the length of ours in the high half of `lengths`.
    Inline {
        lengths: u8,
        bytes: [u8; INLINE_MAX],
    },
    /// Length of ours, ours, the peer's.
    #[expect(clippy::box_collection, reason = "half as large as a slice's pointer")]
    Boxed(Box<Vec<u8>>),
}

const _: () = assert!(size_of::<ConnectionIds>() == 16);

impl Default for ConnectionIds {
    /// None in either direction.
    fn default() -> Self {
        Self::new(&[], &[])
    }
}

impl ConnectionIds {
    /// `local` stands in records to us, `peer` in records to the peer; both up to 255 bytes, or
    /// empty for the plain record format in that direction (RFC 9146 section 3).
    pub(super) fn new(local: &[u8], peer: &[u8]) -> Self {
        let length = u8::try_from(local.len()).unwrap_or(u8::MAX);
        let mut bytes = [0; INLINE_MAX];
        let room = bytes.get_mut(..local.len() + peer.len());
        let peer_length = u8::try_from(peer.len()).unwrap_or(u8::MAX);
        Self(match room {
            Some(room) => {
                let (ours, theirs) = room.split_at_mut(local.len());
                ours.copy_from_slice(local);
                theirs.copy_from_slice(peer);
                Ids::Inline {
                    lengths: length << 4 | peer_length,
                    bytes,
                }
            }
            None => Ids::Boxed(Box::new([&[length], local, peer].concat())),
        })
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        let (length, bytes) = match &self.0 {
            Ids::Inline { lengths, bytes } => {
                let (ours, theirs) = (lengths >> 4, lengths & 0x0f);
                (ours, bytes.get(..usize::from(ours + theirs)))
            }
            Ids::Boxed(bytes) => match bytes.split_first() {
                Some((&length, ids)) => (length, Some(ids)),
                None => (0, None),
            },
        };
        let bytes = bytes.unwrap_or_default();
        bytes
            .split_at_checked(usize::from(length))
            .unwrap_or((bytes, &[]))
    }

    /// What stands in records to us.
    pub(super) fn local(&self) -> &[u8] {
        self.parts().0
    }

    /// What stands in records to the peer.
    pub(super) fn peer(&self) -> &[u8] {
        self.parts().1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SeededRandom;

    #[test]
    fn both_ids_are_kept_whatever_their_lengths() {
        for local in [0, 1, 8, 13, 14, 15, 255] {
            for peer in [0, 1, 6, 14, 20, 255] {
                let (local, peer) = (vec![1; local], vec![2; peer]);
                let ids = ConnectionIds::new(&local, &peer);
                assert_eq!((ids.local(), ids.peer()), (&local[..], &peer[..]));
            }
        }
        assert_eq!(ConnectionIds::new(&[], &[]), ConnectionIds::default());
    }

    #[test]
    fn the_id_of_a_datagram_is_read_where_the_header_has_it() {
        let mut datagram = vec![25, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9];
        datagram.extend_from_slice(b"abcd");
        assert_eq!(cid_of(&datagram, 4), Some(&b"abcd"[..]));
        assert_eq!(cid_of(&datagram, 2), Some(&b"ab"[..]));
        assert_eq!(cid_of(&datagram, 5), None);
        assert_eq!(cid_of(&datagram, 0), None);
        datagram[0] = 23;
        assert_eq!(cid_of(&datagram, 4), None);
        assert_eq!(cid_of(&[], 4), None);
    }

    #[test]
    fn random_ids_have_the_length_that_is_asked_for() {
        let mut random = SeededRandom::new(1);
        let first = RandomConnectionIds.fresh(8, &mut random).unwrap();
        let second = RandomConnectionIds.fresh(8, &mut random).unwrap();
        assert_eq!(first.len(), 8);
        assert_ne!(first, second);
    }
}
