//! What is remembered of a peer's requests: for deduplication (RFC 7252 section 4.5), and for the
//! answers that are owed.
//!
//! A ring in order of arrival, 24 bytes an entry. Entries in work are never pushed out by newer ones,
//! answered ones are.
//!
//! Clients count their Message IDs up, so how many of the newest entries have consecutive ones is kept
//! beside the ring: among those the place follows from the number, and only older entries, after a
//! gap or a reordering, have to be searched. A peer whose messages come in order is served without
//! reading the ring at all, which matters when there are many peers and all memory is cold.

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

/// `Wishes` in a byte: bits 0-2 the Block1 exponent, bit 3 its presence, bit 4 GET, bits 5-7
/// No-Response to classes 2, 4 and 5.
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

    /// The same for a request that may be answered anew for each block of its answer.
    pub(super) const fn with_get(self, is_get: bool) -> Self {
        Self(self.0 | (is_get as u8) << 4)
    }

    pub(super) const fn is_get(self) -> bool {
        self.0 & 0x10 != 0
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

/// Requests for which there is room after all were forgotten: those of a device that reports now and then.
const RING_KEPT: usize = 4;

/// The requests of one peer.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    ring: VecDeque<Exchange>,
    in_work: u16,
    /// How many are [`State::Working`].
    unacknowledged: u16,
    /// How many of the newest entries have consecutive Message IDs that count up.
    run: u16,
    /// The Message ID of the newest entry, when there is one.
    newest: u16,
}

impl Exchanges {
    pub(super) fn in_work(&self) -> usize {
        usize::from(self.in_work)
    }

    pub(super) fn len(&self) -> usize {
        self.ring.len()
    }

    /// Where the request with this Message ID is, if it has not expired.
    pub(super) fn find(&self, message_id: u16, now: Instant) -> Option<usize> {
        self.search(message_id, |exchange| now < exchange.expires)
    }

    /// Where the request in work with this id is.
    pub(super) fn find_in_work(&self, id: u32) -> Option<usize> {
        let message_id = (id & 0xffff) as u16;
        self.search(message_id, |exchange| {
            exchange.id() == id && exchange.state.is_in_work()
        })
    }

    /// Looks at both ends of the ring: what expires next, and what came last.
    pub(super) fn touch(&self) -> u64 {
        let expires = |exchange: &Exchange| exchange.expires.as_micros();
        self.ring.front().map_or(0, expires) ^ self.ring.back().map_or(0, expires)
    }

    pub(super) fn at(&self, index: usize) -> Option<Exchange> {
        self.ring.get(index).copied()
    }

    /// The newest entry with this Message ID that is wanted.
    fn search(&self, message_id: u16, wanted: impl Fn(&Exchange) -> bool) -> Option<usize> {
        let behind_newest = self.newest.wrapping_sub(message_id);
        if behind_newest < self.run {
            let index = self
                .ring
                .len()
                .checked_sub(1 + usize::from(behind_newest))?;
            if self.ring.get(index).is_some_and(&wanted) {
                return Some(index);
            }
        }
        let before_run = self.ring.len().saturating_sub(usize::from(self.run));
        self.ring
            .range(..before_run)
            .rposition(|exchange| exchange.message_id == message_id && wanted(exchange))
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
        let follows = self.run > 0 && self.newest.wrapping_add(1) == exchange.message_id;
        self.run = if follows {
            self.run.saturating_add(1)
        } else {
            1
        };
        self.newest = exchange.message_id;
        // Most devices send one request in a lifetime, so the ring begins with one entry.
        if self.ring.len() == self.ring.capacity() {
            self.ring.reserve_exact(self.ring.len().max(1));
        }
        self.ring.push_back(exchange);
        true
    }

    /// Moves an exchange to another state.
    pub(super) fn set_state(&mut self, index: usize, state: State) {
        if let Some(exchange) = self.ring.get_mut(index) {
            let before = std::mem::replace(&mut exchange.state, state);
            self.count(before, MINUS_ONE);
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
        let index = self.search(message_id, |exchange| {
            exchange.state == State::AnsweredAtLength
        });
        if let Some(index) = index {
            self.set_state(index, State::Forgotten);
        }
    }

    /// The oldest request of which nothing was sent yet: the first whose ACK is due.
    pub(super) fn first_unacknowledged(&self) -> Option<(usize, Exchange)> {
        // From the newest, as they are young: the last one of them that is met is the oldest.
        let newest_first = self.ring.iter().enumerate().rev();
        newest_first
            .filter(|(_, exchange)| exchange.state == State::Working)
            .take(usize::from(self.unacknowledged))
            .last()
            .map(|(index, exchange)| (index, *exchange))
    }

    /// Forgets all, and keeps no more memory than a few requests take.
    pub(super) fn clear(&mut self) {
        let mut ring = std::mem::take(&mut self.ring);
        ring.clear();
        ring.shrink_to(RING_KEPT);
        *self = Self {
            ring,
            ..Self::default()
        };
    }

    fn remove(&mut self, index: usize, dropped: &mut impl FnMut(u16)) {
        let Some(exchange) = self.ring.remove(index) else {
            return;
        };
        let newer = self.ring.len().saturating_sub(index);
        self.run = self.run.min(u16::try_from(newer).unwrap_or(u16::MAX));
        self.count(exchange.state, MINUS_ONE);
        if exchange.state == State::AnsweredAtLength {
            dropped(exchange.message_id);
        }
    }

    /// Adds `change`, 1 or [`MINUS_ONE`], to the counters that a state belongs to.
    const fn count(&mut self, state: State, change: u16) {
        if state.is_in_work() {
            self.in_work = self.in_work.wrapping_add(change);
        }
        if matches!(state, State::Working) {
            self.unacknowledged = self.unacknowledged.wrapping_add(change);
        }
    }
}

/// For a wrapping addition.
const MINUS_ONE: u16 = u16::MAX;

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        /// A request whose Message ID is this far from the last one.
        Push(i8, bool),
        Finish(prop::sample::Index),
        Wait(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        let distance = prop_oneof![4 => Just(1i8), 1 => -3i8..4, 1 => any::<i8>()];
        prop_oneof![
            6 => (distance, any::<bool>()).prop_map(|(by, con)| Step::Push(by, con)),
            5 => any::<prop::sample::Index>().prop_map(Step::Finish),
            1 => any::<u8>().prop_map(Step::Wait),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// The ring against a list that is searched from end to end.
        #[test]
        fn agrees_with_a_plain_list(
            first in any::<u16>(),
            len_max in 0usize..20,
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let mut exchanges = Exchanges::default();
            let mut list: Vec<Exchange> = Vec::new();
            let (mut now, mut message_id, mut serial) = (Instant::ZERO, first, 0);
            for step in steps {
                match step {
                    Step::Push(by, con) => {
                        message_id = message_id.wrapping_add_signed(i16::from(by));
                        if exchanges.find(message_id, now).is_some() {
                            continue;
                        }
                        serial += 1;
                        let (state, seconds) = if con {
                            (State::Working, 247)
                        } else {
                            (State::NonWorking, 145)
                        };
                        let exchange = Exchange {
                            expires: now + Duration::from_secs(seconds),
                            message_id,
                            serial,
                            token: Token::default(),
                            state,
                            code: 0,
                            flags: Flags::default(),
                        };
                        let front = list.iter().take_while(|e| e.expires <= now).count();
                        list.drain(..front);
                        if list.len() >= len_max
                            && let Some(index) =
                                list.iter().position(|e| !e.state.is_in_work() || e.expires <= now)
                        {
                            list.remove(index);
                        }
                        let fits = list.len() < len_max;
                        if fits {
                            list.push(exchange);
                        }
                        prop_assert_eq!(exchanges.push(exchange, now, len_max, &mut |_| {}), fits);
                    }
                    Step::Finish(index) if !list.is_empty() => {
                        let index = index.index(list.len());
                        list[index].state = State::Answered;
                        exchanges.set_state(index, State::Answered);
                    }
                    Step::Finish(_) => {}
                    Step::Wait(seconds) => now = now + Duration::from_secs(u64::from(seconds)),
                }
                prop_assert_eq!(exchanges.len(), list.len());
                let in_work = list.iter().filter(|e| e.state.is_in_work()).count();
                prop_assert_eq!(exchanges.in_work(), in_work);
                let working = list.iter().position(|e| e.state == State::Working);
                let found = exchanges.first_unacknowledged();
                prop_assert_eq!(found.map(|(index, _)| index), working);
                for id in (0..100u16).map(|by| message_id.wrapping_sub(50).wrapping_add(by)) {
                    let naive = |wanted: &dyn Fn(&Exchange) -> bool| {
                        list.iter().rposition(|e| e.message_id == id && wanted(e))
                    };
                    prop_assert_eq!(exchanges.find(id, now), naive(&|e| now < e.expires));
                }
                for e in &list {
                    let expected = list
                        .iter()
                        .rposition(|other| other.id() == e.id() && other.state.is_in_work());
                    prop_assert_eq!(exchanges.find_in_work(e.id()), expected);
                }
            }
        }
    }

    /// RFC 7967 section 2.1.
    #[test]
    fn flags_hold_what_they_were_made_of() {
        for exponent in 0..7 {
            assert_eq!(Flags::new(Some(exponent), 0x1a).block1(), Some(exponent));
        }
        assert_eq!(Flags::new(None, 0xff).block1(), None);
        let flags = Flags::new(None, 0x08);
        assert!(!flags.suppresses(0x45) && flags.suppresses(0x84) && !flags.suppresses(0xa0));
        assert!(!flags.is_get() && flags.with_get(true).is_get());
        assert_eq!(flags.with_get(false), flags);
        let flags = Flags::new(None, 0x12).with_get(true);
        assert!(flags.suppresses(0x45) && !flags.suppresses(0x84) && flags.suppresses(0xa0));
    }
}
