//! What is remembered of a peer's requests: for deduplication (RFC 7252 section 4.5), and for the
//! answers that are owed.
//!
//! A ring in order of arrival, 24 bytes an entry; searched from the newest, since most repetitions are
//! of late messages. Entries in work are never pushed out by newer ones, answered ones are.

use std::collections::VecDeque;

use super::message::Token;
use crate::time::{Duration, Instant};

/// What is owed for a request. The transitions are the table in `message_layer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// CON, in work, nothing sent yet: the answer can go into the ACK.
    Working,
    /// CON, in work, the empty ACK is sent.
    Acknowledged,
    /// CON, a code alone was answered in the ACK.
    Answered,
    /// CON, answered in the ACK with more than a code; the message is kept.
    AnsweredAtLength,
    /// CON, answered in the ACK, but the message had to be given up for others.
    Forgotten,
    /// CON, the empty ACK is sent, the answer went by itself or is not wanted.
    Separate,
    /// NON, in work.
    NonWorking,
    /// NON, nothing more is owed.
    NonDone,
}

impl State {
    /// Whether an answer is awaited.
    pub(super) const fn is_in_work(self) -> bool {
        matches!(self, Self::Working | Self::Acknowledged | Self::NonWorking)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    /// End of the time in which the Message ID may come again.
    pub(super) expires: Instant,
    pub(super) message_id: u16,
    /// Tells exchanges with the same Message ID apart.
    pub(super) serial: u16,
    pub(super) token: Token,
    pub(super) state: State,
    /// The answer's code, once there is one.
    pub(super) code: u8,
    /// Block1 exponent, its presence, and No-Response: see [`Flags`].
    pub(super) flags: Flags,
}

impl Exchange {
    /// What the authenticator pool knows it by.
    pub(super) const fn id(&self) -> u32 {
        (self.serial as u32) << 16 | self.message_id as u32
    }
}

/// `Wishes` in a byte: bits 0-2 the Block1 exponent, bit 3 its presence, bits 5-7 No-Response to
/// classes 2, 4 and 5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags(u8);

impl Flags {
    pub(super) const fn new(block1: Option<u8>, no_response: u8) -> Self {
        let block = match block1 {
            Some(exponent) => 0x08 | (exponent & 0x07),
            None => 0,
        };
        // RFC 7967 section 2.1: 2 means no 2.xx, 8 no 4.xx, 16 no 5.xx.
        let silent = (no_response & 0x02) << 4 | (no_response & 0x18) << 3;
        Self(block | silent)
    }

    pub(super) const fn block1(self) -> Option<u8> {
        if self.0 & 0x08 == 0 {
            None
        } else {
            Some(self.0 & 0x07)
        }
    }

    /// Whether the client does not want to hear an answer of this code.
    pub(super) const fn suppresses(self, code: u8) -> bool {
        let bit = match code >> 5 {
            2 => 0x20,
            4 => 0x40,
            5 => 0x80,
            _ => 0,
        };
        self.0 & bit != 0
    }
}

/// The requests of one peer.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    ring: VecDeque<Exchange>,
    in_work: usize,
    /// How many are [`State::Working`].
    unacknowledged: usize,
}

impl Exchanges {
    pub(super) const fn in_work(&self) -> usize {
        self.in_work
    }

    pub(super) fn len(&self) -> usize {
        self.ring.len()
    }

    /// Where the request with this Message ID is, if it has not expired.
    pub(super) fn find(&self, message_id: u16, now: Instant) -> Option<usize> {
        self.ring
            .iter()
            .rposition(|exchange| exchange.message_id == message_id && now < exchange.expires)
    }

    /// Where the request in work with this id is.
    pub(super) fn find_in_work(&self, id: u32) -> Option<usize> {
        self.ring
            .iter()
            .rposition(|exchange| exchange.id() == id && exchange.state.is_in_work())
    }

    pub(super) fn at(&self, index: usize) -> Option<Exchange> {
        self.ring.get(index).copied()
    }

    /// Adds a request, when fewer than `len_max` are left after dropping the expired ones of the
    /// front and, if need be, the oldest that is not in work. `dropped` hears their Message IDs.
    pub(super) fn push(
        &mut self,
        exchange: Exchange,
        now: Instant,
        len_max: usize,
        dropped: &mut impl FnMut(u16),
    ) -> bool {
        while self
            .ring
            .front()
            .is_some_and(|oldest| oldest.expires <= now)
        {
            self.remove(0, dropped);
        }
        if self.ring.len() >= len_max {
            let oldest_done = self
                .ring
                .iter()
                .position(|exchange| !exchange.state.is_in_work() || exchange.expires <= now);
            let Some(index) = oldest_done else {
                return false;
            };
            self.remove(index, dropped);
        }
        self.count(exchange.state, 1);
        self.ring.push_back(exchange);
        true
    }

    /// Moves an exchange to another state.
    pub(super) fn set_state(&mut self, index: usize, state: State) {
        if let Some(exchange) = self.ring.get_mut(index) {
            let before = std::mem::replace(&mut exchange.state, state);
            self.count(before, usize::MAX);
            self.count(state, 1);
        }
    }

    pub(super) fn set_code(&mut self, index: usize, code: u8) {
        if let Some(exchange) = self.ring.get_mut(index) {
            exchange.code = code;
        }
    }

    /// The kept answer of this Message ID was given up.
    pub(super) fn forget_answer(&mut self, message_id: u16) {
        let index = self.ring.iter().rposition(|exchange| {
            exchange.message_id == message_id && exchange.state == State::AnsweredAtLength
        });
        if let Some(index) = index {
            self.set_state(index, State::Forgotten);
        }
    }

    /// The oldest request of which nothing was sent yet: the first whose ACK is due.
    pub(super) fn first_unacknowledged(&self) -> Option<(usize, Exchange)> {
        if self.unacknowledged == 0 {
            return None;
        }
        let index = self
            .ring
            .iter()
            .position(|exchange| exchange.state == State::Working)?;
        Some((index, self.at(index)?))
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn remove(&mut self, index: usize, dropped: &mut impl FnMut(u16)) {
        if let Some(exchange) = self.ring.remove(index) {
            self.count(exchange.state, usize::MAX);
            if exchange.state == State::AnsweredAtLength {
                dropped(exchange.message_id);
            }
        }
    }

    /// Adds `change` (1, or `usize::MAX` for -1) to the counters that a state belongs to.
    fn count(&mut self, state: State, change: usize) {
        if state.is_in_work() {
            self.in_work = self.in_work.wrapping_add(change);
        }
        if state == State::Working {
            self.unacknowledged = self.unacknowledged.wrapping_add(change);
        }
    }
}

/// When the ACK of a request is due that expires at `expires`: `piggyback_timeout` after it came.
pub(super) fn acknowledge_at(
    expires: Instant,
    exchange_lifetime: Duration,
    piggyback_timeout: Duration,
) -> Instant {
    let after = exchange_lifetime.saturating_sub(piggyback_timeout);
    let after = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
    Instant::from_micros(expires.as_micros().saturating_sub(after))
}

const _: () = assert!(size_of::<Exchange>() == 24);
