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

/// The ids of both directions, in one piece of memory; none is allocated when both are empty.
///
/// ```text
/// length of ours | ours | the peer's
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ConnectionIds(Box<[u8]>);

impl ConnectionIds {
    /// `local` stands in records to us, `peer` in records to the peer; both up to 255 bytes, or
    /// empty for the plain record format in that direction (RFC 9146 section 3).
    pub(super) fn new(local: &[u8], peer: &[u8]) -> Self {
        if local.is_empty() && peer.is_empty() {
            return Self::default();
        }
        let length = u8::try_from(local.len()).unwrap_or(u8::MAX);
        Self([&[length], local, peer].concat().into())
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        match self.0.split_first() {
            None => (&[], &[]),
            Some((&length, rest)) => rest
                .split_at_checked(usize::from(length))
                .unwrap_or((rest, &[])),
        }
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
        for local in [0, 1, 8, 255] {
            for peer in [0, 1, 20, 255] {
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
