//! How much plaintext a protected record may carry, by record_size_limit (RFC 8449).
//!
//! Each side says what it takes, so both directions have a limit of their own. Records in the clear
//! are not concerned (section 4); what is too long for the path is cut by the flight anyway.

use super::PLAINTEXT_MAX;

/// Smallest limit that may be said (RFC 8449 section 4).
pub(in crate::dtls) const RECORD_SIZE_LIMIT_MIN: u16 = 64;

/// The limits of both directions, in bytes of plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dtls) struct RecordLimits {
    sent: u16,
    received: u16,
}

impl RecordLimits {
    /// Without the extension: what DTLS 1.2 has for everyone.
    pub(in crate::dtls) const NONE: Self = Self {
        sent: PLAINTEXT_LIMIT,
        received: PLAINTEXT_LIMIT,
    };

    /// We take `own`; the peer takes `peer`, if it said so. Without that, the extension is not used
    /// in either direction.
    pub(in crate::dtls) fn negotiated(own: u16, peer: Option<u16>) -> Self {
        match peer {
            // A higher limit than the protocol's is one for a later version of it (section 4).
            Some(peer) => Self {
                sent: peer.min(PLAINTEXT_LIMIT),
                received: own.min(PLAINTEXT_LIMIT),
            },
            None => Self::NONE,
        }
    }

    /// Most plaintext in a record that we send.
    pub(in crate::dtls) const fn sent(self) -> usize {
        self.sent as usize
    }

    /// Most plaintext in a record that we take; a longer one is discarded (RFC 8449 section 4 lets
    /// DTLS choose that instead of an alert).
    pub(in crate::dtls) const fn received(self) -> usize {
        self.received as usize
    }
}

/// 2^14 as the extension counts.
#[allow(clippy::cast_possible_truncation)]
const PLAINTEXT_LIMIT: u16 = PLAINTEXT_MAX as u16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_direction_has_the_limit_of_its_receiver() {
        let limits = RecordLimits::negotiated(4000, Some(100));
        assert_eq!((limits.sent(), limits.received()), (100, 4000));
        assert_eq!(RecordLimits::negotiated(4000, None), RecordLimits::NONE);
        let limits = RecordLimits::negotiated(u16::MAX, Some(u16::MAX));
        assert_eq!(limits, RecordLimits::NONE);
        assert_eq!(limits.sent(), 1 << 14);
    }
}
