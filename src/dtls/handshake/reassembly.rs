//! Puts handshake messages together and in order (RFC 6347 section 4.2.2 and 4.2.3).
//!
//! ```text
//! message_seq:   next      next + 1   ...   next + 7
//!              [ partial | complete | ... | empty    ]     8 slots
//! ```
//!
//! A slot belongs to one (message_seq, type, length); a fragment that disagrees is dropped. Bytes
//! that are there already stay as they are. The bodies of all slots together never exceed
//! [`BUFFERED_MAX`], and a message in one piece that is next goes through without a copy.

#[cfg(feature = "fuzzing")]
pub(super) mod fuzzing;

use crate::drop_reason::DropReason;
use crate::dtls::message::{
    Fragment, FragmentHeader, HandshakeMessage, HandshakeType, MESSAGE_LEN_MAX,
};

/// Messages kept: the next one and seven that are ahead of it.
const SLOTS: usize = 8;
/// Bytes of bodies that one handshake may hold back: one message of full size and the small ones
/// of its flight.
const BUFFERED_MAX: usize = MESSAGE_LEN_MAX + 2048;

/// Messages of one peer in one handshake.
#[derive(Debug, Default)]
pub(super) struct Reassembly {
    next_seq: u16,
    /// The slot of `next_seq` is the first one.
    slots: [Option<Box<Partial>>; SLOTS],
    buffered: usize,
}

/// A message of which bytes are here.
#[derive(Debug)]
pub(super) struct Partial {
    message_type: HandshakeType,
    message_seq: u16,
    body: Vec<u8>,
    /// One bit per byte of the body that is here.
    present: Vec<u64>,
    missing: usize,
}

impl Reassembly {
    /// Expects the message with this number first.
    pub(super) fn new(next_seq: u16) -> Self {
        Self {
            next_seq,
            ..Self::default()
        }
    }

    /// Takes a fragment. A message in one piece that is next comes back at once; otherwise
    /// [`Self::pop`] tells whether the next one is complete now.
    pub(super) fn insert<'a>(
        &mut self,
        fragment: &Fragment<'a>,
    ) -> Result<Option<HandshakeMessage<'a>>, DropReason> {
        let FragmentHeader {
            message_type,
            message_seq,
            ..
        } = fragment.header;
        let is_next =
            message_seq == self.next_seq && self.slots.first().is_some_and(Option::is_none);
        if is_next && fragment.is_whole() {
            self.advance();
            return Ok(Some(HandshakeMessage {
                message_type,
                message_seq,
                body: fragment.body,
            }));
        }
        self.keep(fragment).map(|()| None)
    }

    /// Takes a fragment for [`Self::pop`], a message in one piece too: while messages have to wait.
    pub(super) fn keep(&mut self, fragment: &Fragment<'_>) -> Result<(), DropReason> {
        let FragmentHeader {
            message_type,
            length,
            message_seq,
            ..
        } = fragment.header;
        let ahead = message_seq
            .checked_sub(self.next_seq)
            .ok_or(DropReason::FragmentRepeated)?;
        let slot = self
            .slots
            .get_mut(usize::from(ahead))
            .ok_or(DropReason::FragmentBeyondLimit)?;
        let partial = match slot {
            Some(partial) => partial,
            None => {
                if length > MESSAGE_LEN_MAX || self.buffered + length > BUFFERED_MAX {
                    return Err(DropReason::FragmentBeyondLimit);
                }
                self.buffered += length;
                slot.insert(Box::new(Partial::new(message_type, message_seq, length)))
            }
        };
        partial.add(fragment)
    }

    /// Bytes of memory of what waits, with a bit for each byte of it.
    pub(super) const fn memory(&self) -> usize {
        self.buffered + self.buffered / 8
    }

    /// Takes the next message if it is complete; its memory goes with it.
    pub(super) fn pop(&mut self) -> Option<Box<Partial>> {
        let partial = self
            .slots
            .first_mut()?
            .take_if(|partial| partial.missing == 0)?;
        self.advance();
        Some(partial)
    }

    fn advance(&mut self) {
        // At the last number there is no next one; the handshake ends long before.
        self.next_seq = self.next_seq.saturating_add(1);
        self.slots.rotate_left(1);
        if let Some(first) = self.slots.last_mut() {
            *first = None;
        }
        self.buffered = self
            .slots
            .iter()
            .flatten()
            .map(|partial| partial.body.len())
            .sum();
    }
}

impl Partial {
    fn new(message_type: HandshakeType, message_seq: u16, length: usize) -> Self {
        Self {
            message_type,
            message_seq,
            body: vec![0; length],
            present: vec![0; length.div_ceil(64)],
            missing: length,
        }
    }

    /// The message, once it is complete.
    pub(super) fn message(&self) -> HandshakeMessage<'_> {
        HandshakeMessage {
            message_type: self.message_type,
            message_seq: self.message_seq,
            body: &self.body,
        }
    }

    fn add(&mut self, fragment: &Fragment<'_>) -> Result<(), DropReason> {
        let FragmentHeader {
            message_type,
            length,
            fragment_offset,
            ..
        } = fragment.header;
        if message_type != self.message_type || length != self.body.len() {
            return Err(DropReason::FragmentMalformed);
        }
        let before = self.missing;
        let room = self.body.iter_mut().enumerate().skip(fragment_offset);
        for ((at, byte), &new) in room.zip(fragment.body) {
            let Some(word) = self.present.get_mut(at / 64) else {
                break;
            };
            if *word & (1 << (at % 64)) == 0 {
                *word |= 1 << (at % 64);
                *byte = new;
                self.missing -= 1;
            }
        }
        if self.missing == before && before != 0 {
            return Err(DropReason::FragmentRepeated);
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers")]
mod tests {
    use super::*;
    use crate::random::{Random, SeededRandom};
    use crate::wire::Reader;

    fn fragment(
        message_type: HandshakeType,
        message_seq: u16,
        message: &[u8],
        range: std::ops::Range<usize>,
    ) -> Vec<u8> {
        let header = FragmentHeader {
            message_type,
            length: message.len(),
            message_seq,
            fragment_offset: range.start,
            fragment_length: range.len(),
        };
        [&header.encode()[..], &message[range]].concat()
    }

    fn insert<'a>(
        reassembly: &mut Reassembly,
        bytes: &'a [u8],
    ) -> Result<Option<HandshakeMessage<'a>>, DropReason> {
        reassembly.insert(&Fragment::decode(&mut Reader::new(bytes)).unwrap())
    }

    const TYPE: HandshakeType = HandshakeType::Certificate;

    /// RFC 6347 section 4.2.3: fragments may overlap and come in any order.
    #[test]
    fn fragments_in_any_order_make_the_messages() {
        for seed in 0..300 {
            let mut random = SeededRandom::new(seed);
            let messages: Vec<Vec<u8>> = (0..6)
                .map(|_| {
                    let mut body = vec![0; random.below(900) as usize];
                    random.fill(&mut body);
                    body
                })
                .collect();
            let mut fragments = vec![];
            for (seq, message) in messages.iter().enumerate() {
                let piece = 1 + random.below(300) as usize;
                let mut start = 0;
                loop {
                    let overlap = random.below(20) as usize;
                    let range = start.max(overlap) - overlap..(start + piece).min(message.len());
                    fragments.push(fragment(TYPE, 3 + seq as u16, message, range.clone()));
                    start = range.end;
                    if start == message.len() {
                        break;
                    }
                }
            }
            for at in (1..fragments.len()).rev() {
                fragments.swap(at, random.below(at as u64 + 1) as usize);
            }
            let mut reassembly = Reassembly::new(3);
            let mut read = vec![];
            for bytes in &fragments {
                if let Ok(Some(message)) = insert(&mut reassembly, bytes) {
                    read.push(message.body.to_vec());
                }
                while let Some(partial) = reassembly.pop() {
                    read.push(partial.message().body.to_vec());
                }
            }
            assert_eq!(read, messages, "seed {seed}");
            assert_eq!(reassembly.buffered, 0);
            assert!(reassembly.slots.iter().all(Option::is_none));
        }
    }

    /// Keyed by (message_seq, type, length): any mismatch is dropped.
    #[test]
    fn a_fragment_that_disagrees_with_its_message_is_dropped() {
        let mut reassembly = Reassembly::new(0);
        let body = [1; 10];
        assert_eq!(
            insert(&mut reassembly, &fragment(TYPE, 0, &body, 0..4)),
            Ok(None)
        );
        for other in [
            fragment(HandshakeType::ClientHello, 0, &body, 4..10),
            fragment(TYPE, 0, &[1; 11], 4..11),
            fragment(TYPE, 0, &[1; 5], 0..5),
        ] {
            assert_eq!(
                insert(&mut reassembly, &other),
                Err(DropReason::FragmentMalformed)
            );
        }
        assert_eq!(
            insert(&mut reassembly, &fragment(TYPE, 0, &body, 1..4)),
            Err(DropReason::FragmentRepeated)
        );
        // What came first stays.
        assert_eq!(
            insert(&mut reassembly, &fragment(TYPE, 0, &[2; 10], 0..10)),
            Ok(None)
        );
        let message = reassembly.pop().unwrap();
        assert_eq!(message.message().body, [1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
        assert_eq!(
            insert(&mut reassembly, &fragment(TYPE, 0, &body, 0..10)),
            Err(DropReason::FragmentRepeated)
        );
    }

    #[test]
    fn memory_has_its_bounds() {
        let mut reassembly = Reassembly::new(0);
        let large = vec![0; MESSAGE_LEN_MAX];
        assert_eq!(
            insert(&mut reassembly, &fragment(TYPE, 1, &large, 0..1)),
            Ok(None)
        );
        assert_eq!(
            insert(&mut reassembly, &fragment(TYPE, 2, &large, 0..1)),
            Err(DropReason::FragmentBeyondLimit)
        );
        assert_eq!(
            insert(&mut reassembly, &fragment(TYPE, 7, &large[..2048], 0..1)),
            Ok(None)
        );
        for seq in [8, 9, 1000, u16::MAX] {
            assert_eq!(
                insert(&mut reassembly, &fragment(TYPE, seq, &[1], 0..1)),
                Err(DropReason::FragmentBeyondLimit)
            );
        }
        assert_eq!(
            insert(&mut reassembly, &fragment(TYPE, 3, &[1], 0..1)),
            Err(DropReason::FragmentBeyondLimit)
        );
        assert!(reassembly.buffered <= BUFFERED_MAX);
        // A message that needs no buffer still goes through.
        let whole = fragment(TYPE, 0, &large, 0..large.len());
        assert_eq!(
            insert(&mut reassembly, &whole).unwrap().unwrap().body.len(),
            large.len()
        );
    }

    #[test]
    fn an_empty_message_ahead_is_kept_for_its_turn() {
        let mut reassembly = Reassembly::new(0);
        assert_eq!(
            insert(&mut reassembly, &fragment(TYPE, 1, &[], 0..0)),
            Ok(None)
        );
        assert!(reassembly.pop().is_none());
        let first = fragment(TYPE, 0, &[9], 0..1);
        assert_eq!(insert(&mut reassembly, &first).unwrap().unwrap().body, [9]);
        assert_eq!(reassembly.pop().unwrap().message().message_seq, 1);
        assert_eq!(reassembly.next_seq, 2);
    }
}
