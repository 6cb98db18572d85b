//! Messages kept for sending again, within a budget of bytes per peer.
//!
//! Two kinds: answers that went into an ACK, for repetitions of their request (RFC 7252 section 4.2);
//! and separate answers until they are acknowledged. The latter come first: to make room for a message
//! the oldest answers of the former kind are given up.

use std::collections::VecDeque;

use super::Settings;
use super::retransmission::Retransmission;
use crate::time::Instant;

/// A confirmable message of ours on its way.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) message_id: u16,
    pub(super) message: Box<[u8]>,
    pub(super) timer: Retransmission,
}

/// An answer that went into an ACK, by the Message ID of both.
#[derive(Debug)]
struct Answer {
    message_id: u16,
    message: Box<[u8]>,
}

#[derive(Debug, Default)]
pub(super) struct Kept {
    answers: VecDeque<Answer>,
    outgoing: Vec<Outgoing>,
    bytes: usize,
}

impl Kept {
    /// The ACK that answered a request.
    pub(super) fn answer(&self, message_id: u16) -> Option<&[u8]> {
        self.answers
            .iter()
            .rfind(|answer| answer.message_id == message_id)
            .map(|answer| &*answer.message)
    }

    /// Keeps the ACK that answered a request, if it fits. `given_up` hears whose answers went.
    pub(super) fn add_answer(
        &mut self,
        message_id: u16,
        message: Vec<u8>,
        settings: &Settings,
        given_up: &mut impl FnMut(u16),
    ) -> bool {
        if !self.make_room(message.len(), settings.cached_bytes_max, given_up) {
            return false;
        }
        self.bytes += message.len();
        self.answers.push_back(Answer {
            message_id,
            message: message.into_boxed_slice(),
        });
        true
    }

    pub(super) fn remove_answer(&mut self, message_id: u16) {
        let position = self
            .answers
            .iter()
            .position(|answer| answer.message_id == message_id);
        if let Some(answer) = position.and_then(|index| self.answers.remove(index)) {
            self.bytes -= answer.message.len();
        }
    }

    /// Whether one more confirmable message of this length may be sent; makes room for it.
    pub(super) fn admits_outgoing(
        &mut self,
        length: usize,
        settings: &Settings,
        given_up: &mut impl FnMut(u16),
    ) -> bool {
        self.outgoing.len() < settings.outgoing_max
            && self.make_room(length, settings.cached_bytes_max, given_up)
    }

    /// Keeps a message until it is acknowledged; the caller asked [`Self::admits_outgoing`].
    pub(super) fn add_outgoing(&mut self, outgoing: Outgoing) {
        self.bytes += outgoing.message.len();
        self.outgoing.push(outgoing);
    }

    /// Ends the retransmission of the message with this ID; `false` when there is none.
    pub(super) fn remove_outgoing(&mut self, message_id: u16) -> bool {
        let position = self
            .outgoing
            .iter()
            .position(|outgoing| outgoing.message_id == message_id);
        if let Some(index) = position {
            self.bytes -= self.outgoing.swap_remove(index).message.len();
        }
        position.is_some()
    }

    /// Whether no message awaits its ACK.
    pub(super) const fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// When the next message is to be sent again.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.outgoing.iter().map(|out| out.timer.at()).min()
    }

    /// One message whose timer has run out.
    pub(super) fn first_due(&mut self, now: Instant) -> Option<&mut Outgoing> {
        self.outgoing.iter_mut().find(|out| out.timer.at() <= now)
    }

    /// Bytes of all messages kept.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn bytes(&self) -> usize {
        let answers: usize = self.answers.iter().map(|kept| kept.message.len()).sum();
        let outgoing: usize = self.outgoing.iter().map(|kept| kept.message.len()).sum();
        assert_eq!(answers + outgoing, self.bytes);
        self.bytes
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) const fn outgoing_len(&self) -> usize {
        self.outgoing.len()
    }

    fn make_room(
        &mut self,
        length: usize,
        bytes_max: usize,
        given_up: &mut impl FnMut(u16),
    ) -> bool {
        let answers: usize = self.answers.iter().map(|kept| kept.message.len()).sum();
        if self.bytes - answers + length > bytes_max {
            return false;
        }
        while self.bytes + length > bytes_max {
            let Some(oldest) = self.answers.pop_front() else {
                return false;
            };
            self.bytes -= oldest.message.len();
            given_up(oldest.message_id);
        }
        true
    }
}
