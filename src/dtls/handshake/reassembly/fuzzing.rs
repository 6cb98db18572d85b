//! The bounds of reassembly, for fuzzers.

use super::{BUFFERED_MAX, Reassembly};
use crate::dtls::message::{Fragment, HandshakeMessage};
use crate::wire::Reader;

/// Puts the pieces in `content` together and hands each complete message to `take`; panics when
/// more is held back than may be, or a message comes out of order.
pub(in crate::dtls) fn check_reassembly(
    content: &[u8],
    mut take: impl FnMut(HandshakeMessage<'_>),
) {
    let mut reassembly = Reassembly::new(0);
    let mut reader = Reader::new(content);
    let mut expected = 0;
    while let Ok(fragment) = Fragment::decode(&mut reader) {
        if let Ok(Some(message)) = reassembly.insert(&fragment) {
            assert_eq!(message.message_seq, expected);
            expected = expected.saturating_add(1);
            take(message);
        }
        while let Some(partial) = reassembly.pop() {
            let message = partial.message();
            assert_eq!(message.message_seq, expected);
            expected = expected.saturating_add(1);
            take(message);
        }
        let held = reassembly.slots.iter().flatten();
        let bytes: usize = held.map(|partial| partial.body.len()).sum();
        assert_eq!(bytes, reassembly.buffered, "the count of held bytes is off");
        assert!(bytes <= BUFFERED_MAX, "{bytes} bytes held");
    }
}
