//! What one datagram led to, without an allocation.

use std::ops::Range;

use super::alert::AlertDescription;
use super::error::Error;
use super::identity::PeerIdentity;
use super::routability::PathCookie;
use super::session::ResumedBy;

/// Records read from one datagram; what comes behind them is dropped.
pub const RECORDS_PER_DATAGRAM_MAX: usize = 16;

/// Where the plaintexts of one datagram lie within it, in the order of arrival.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plaintexts {
    ranges: [(u16, u16); RECORDS_PER_DATAGRAM_MAX],
    length: u8,
}

impl Plaintexts {
    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// How many there are, at most 16.
    pub const fn len(&self) -> usize {
        self.length as usize
    }

    /// The ranges, in the order of the records.
    pub fn iter(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let ranges = self.ranges.iter().take(self.len());
        ranges.map(|&(start, end)| usize::from(start)..usize::from(end))
    }

    /// Adds a range; one beyond the cap or beyond 65535 is not of a datagram and is ignored.
    pub(super) fn push(&mut self, range: &Range<usize>) {
        let (Ok(start), Ok(end)) = (u16::try_from(range.start), u16::try_from(range.end)) else {
            return;
        };
        if let Some(slot) = self.ranges.get_mut(usize::from(self.length)) {
            *slot = (start, end);
            self.length += 1;
        }
    }

    pub(super) fn clear(&mut self) {
        self.length = 0;
    }
}

impl<'a> IntoIterator for &'a Plaintexts {
    type Item = Range<usize>;
    type IntoIter = std::iter::Map<
        std::iter::Take<std::slice::Iter<'a, (u16, u16)>>,
        fn(&(u16, u16)) -> Range<usize>,
    >;

    fn into_iter(self) -> Self::IntoIter {
        let range: fn(&(u16, u16)) -> Range<usize> =
            |&(start, end)| usize::from(start)..usize::from(end);
        self.ranges.iter().take(self.len()).map(range)
    }
}

/// What one datagram led to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Received {
    /// Application data, decrypted in place. With [`Self::established`] all of it is of the new
    /// session: what came before it in the datagram was dropped.
    pub plaintexts: Plaintexts,
    /// Who sent them: the session may be over at the end of the datagram.
    pub sender: PeerIdentity,
    /// A handshake was proven in this datagram: a new session with its own identity.
    pub established: bool,
    /// With [`Self::established`]: what the session was found by, if it was resumed.
    pub resumed: Option<ResumedBy>,
    /// Nothing is left: forget the association.
    pub closed: bool,
    /// Why a handshake or the connection ended, if one did.
    pub failure: Option<Error>,
    /// An authentic record of the live session was newer than all before it: what RFC 9146 section
    /// 6 asks of a datagram that moves the peer's address.
    pub newest: bool,
    /// The cookie of a path_response, to be compared with those sent to where it came from (RFC 9853
    /// section 5).
    pub path_response: Option<PathCookie>,
    /// An alert of the peer, authenticated or not, worth a log line (for example unknown_ca of a
    /// client that does not trust the server).
    pub peer_alert: Option<AlertDescription>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintexts_keep_their_order_and_their_cap() {
        let mut plaintexts = Plaintexts::default();
        assert!(plaintexts.is_empty());
        plaintexts.push(&(70_000..70_001));
        for at in 0..20 {
            plaintexts.push(&(at..at + 2));
        }
        let all: Vec<_> = (0..16).map(|at| at..at + 2).collect();
        assert_eq!(plaintexts.iter().collect::<Vec<_>>(), all);
        assert_eq!((&plaintexts).into_iter().collect::<Vec<_>>(), all);
        plaintexts.clear();
        assert_eq!(plaintexts.len(), 0);
    }
}
