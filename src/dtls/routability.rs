//! Messages of the return routability check (RFC 9853 section 4).
//!
//! ```text
//!  0          1                 9
//! +----------+-----------------+
//! | msg_type | cookie          |
//! +----------+-----------------+
//! ```

use crate::wire::Reader;

/// Length of a message.
pub(super) const ROUTABILITY_LEN: usize = 9;
const PATH_CHALLENGE: u8 = 0;
const PATH_RESPONSE: u8 = 1;
const PATH_DROP: u8 = 2;

/// 64 random bits that only who receives at an address can know.
pub type PathCookie = [u8; 8];

/// A message of the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RoutabilityMessage {
    /// To be answered, at once and to where it came from.
    Challenge(PathCookie),
    /// The answer.
    Response(PathCookie),
    /// The answer of a peer that left the address.
    Drop(PathCookie),
    /// RFC 9853 section 4: MUST be ignored.
    Unknown,
}

impl RoutabilityMessage {
    /// Reads the content of a record; `None` when it is malformed.
    pub(super) fn decode(content: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(content);
        let message_type = reader.u8().ok()?;
        if message_type > PATH_DROP {
            return Some(Self::Unknown);
        }
        let cookie = reader.array().ok()?;
        reader.expect_end().ok()?;
        Some(match message_type {
            PATH_CHALLENGE => Self::Challenge(cookie),
            PATH_RESPONSE => Self::Response(cookie),
            _ => Self::Drop(cookie),
        })
    }

    /// The content of a path_challenge.
    pub(super) fn challenge(cookie: &PathCookie) -> [u8; ROUTABILITY_LEN] {
        Self::encode(PATH_CHALLENGE, cookie)
    }

    /// The content of a path_response.
    pub(super) fn response(cookie: &PathCookie) -> [u8; ROUTABILITY_LEN] {
        Self::encode(PATH_RESPONSE, cookie)
    }

    fn encode(message_type: u8, cookie: &PathCookie) -> [u8; ROUTABILITY_LEN] {
        let [c0, c1, c2, c3, c4, c5, c6, c7] = *cookie;
        [message_type, c0, c1, c2, c3, c4, c5, c6, c7]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9853 section 4: three types, and others are to be ignored.
    #[test]
    fn messages_are_read_and_unknown_ones_passed_over() {
        let cookie = *b"01234567";
        let challenge = RoutabilityMessage::challenge(&cookie);
        assert_eq!(challenge, *b"\x0001234567");
        let read = RoutabilityMessage::decode;
        assert_eq!(
            read(&challenge),
            Some(RoutabilityMessage::Challenge(cookie))
        );
        let response = RoutabilityMessage::response(&cookie);
        assert_eq!(read(&response), Some(RoutabilityMessage::Response(cookie)));
        assert_eq!(
            read(b"\x0201234567"),
            Some(RoutabilityMessage::Drop(cookie))
        );
        assert_eq!(read(b"\x03"), Some(RoutabilityMessage::Unknown));
        assert_eq!(read(b"\xff01234567"), Some(RoutabilityMessage::Unknown));
        for malformed in [&b""[..], b"\x00", b"\x000123456", b"\x00012345678"] {
            assert_eq!(read(malformed), None);
        }
    }
}
