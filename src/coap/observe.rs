//! Observe relations of one peer (RFC 7641): who hears of what, in which order, and until when.
//!
//! ```text
//!               answer to GET, Observe 0            notifications, in order
//! (none) ------------------------------> open --+----> waiting ----> in flight (CON) --ACK--> next
//!                                        ^  |   |                         |  ^ retransmission
//!                                        |  |   '----> waiting ----> sent (NON) -----------> next
//!                                        |  |
//!    GET, Observe 0, same token: another |  '--> ended: Reset | TimedOut | Cancelled | Replaced |
//!    relation, whose numbers go on ------'              SessionEnded | Finished | Limit
//! ```
//!
//! - A relation has one confirmable notification in flight; what follows waits, and none takes the
//!   place of another. RFC 7641 section 4.5.2 allows it to, but calls and deltas must not be lost. How
//!   it is sent again, under a second Message ID at last, is in `in_flight`.
//! - Notifications have the type of the registration. A non-confirmable one goes out as CON all the
//!   same to find out whether the observer is there: every [`PROBE_COUNT`]th, and the first one
//!   [`PROBE_AGE`] after the last such (RFC 7641 section 4.5 demands it every 24 hours), and when more
//!   would go out than one in [`NON_INTERVAL`] on average (section 4.5.1): CON waits for the peer.
//! - A body that is longer than a block goes out as its first block; the observer fetches the others
//!   by GET (RFC 7959 section 2.6).
//! - Sequence numbers count from 0, the answer to the registration. A relation that takes the place of
//!   one with its token goes on from there: a number MUST be greater than those before it under the
//!   same token (RFC 7641 section 4.4), or the client takes it for old. That is remembered beyond the
//!   relation's end, as long as the message layer remembers anything.
//!
//! Invariants: at most `relations_max` relations, `notifications_max` notifications of each and
//! `notification_bytes_max` bytes of them all; an `Ended` is the last event of a relation.

mod in_flight;

use std::collections::VecDeque;

use coap_lite::MessageType;

use super::message::{Content, Token};
use super::message_id::MessageIds;
use super::retransmission::Retransmission;
use super::{Context, Settings, block, code};
use crate::auth::request::{Notification, RelationEnd, RelationEventKind, RelationId, Response};
use crate::drop_reason::DropReason;
use crate::time::{Duration, Instant};
use in_flight::{Attempt, InFlight};

/// Of this many non-confirmable notifications one is confirmable.
const PROBE_COUNT: u8 = 16;
/// So is the first one this long after the last that was.
const PROBE_AGE: Duration = Duration::from_secs(300);
/// Time per non-confirmable notification to one peer, on average (RFC 7641 section 4.5.1).
const NON_INTERVAL: Duration = Duration::from_secs(3);
/// As many may go out in one go.
const NON_BURST: u8 = 4;
/// Message IDs of non-confirmable notifications that a Reset is matched with: more than go out
/// between two confirmable ones.
const RECENT_MAX: usize = PROBE_COUNT as usize;
/// Tokens of relations that ended, with their next sequence number.
const ENDED_MAX: usize = 8;
/// When to try again for want of a Message ID.
const STALLED_RETRY: Duration = Duration::from_secs(1);
/// Sequence numbers have 24 bits (RFC 7641 section 2).
const SEQUENCE_MASK: u32 = 0xff_ffff;

/// Something that happened to a relation.
pub(super) type Event = (RelationId, RelationEventKind);

/// The relations of one peer.
#[derive(Debug, Default)]
pub(super) struct Relations {
    list: Vec<Relation>,
    events: VecDeque<Event>,
    /// By how many relations there are more than when that was last asked.
    change: i32,
    /// Oldest first.
    ended: VecDeque<(Token, u32)>,
    /// Bytes of all notifications that wait or are in flight.
    bytes: usize,
    non_allowance: NonAllowance,
    /// No Message ID was free; when to look again.
    stalled: Option<Instant>,
}

#[derive(Debug)]
struct Relation {
    id: RelationId,
    token: Token,
    confirmable: bool,
    /// SZX of the largest blocks that the observer asked for.
    exponent: u8,
    next_sequence: u32,
    in_flight: Option<InFlight>,
    waiting: VecDeque<Waiting>,
    /// The exchange that would renew it.
    renewal: Option<u32>,
    /// When the peer was last asked for an acknowledgement, or asked for the relation.
    probed_at: Instant,
    /// Non-confirmable notifications since then.
    since_probe: u8,
    /// Message IDs of the last non-confirmable ones, newest last.
    recent: VecDeque<u16>,
}

#[derive(Debug)]
struct Waiting {
    delivery: u64,
    response: Response,
    last: bool,
}

/// How many non-confirmable notifications may go out at once.
#[derive(Debug)]
struct NonAllowance {
    left: u8,
    since: Instant,
}

impl Default for NonAllowance {
    fn default() -> Self {
        Self {
            left: NON_BURST,
            since: Instant::ZERO,
        }
    }
}

impl NonAllowance {
    fn take(&mut self, now: Instant) -> bool {
        while self.left < NON_BURST && self.since + NON_INTERVAL <= now {
            self.left += 1;
            self.since = self.since + NON_INTERVAL;
        }
        if self.left == NON_BURST {
            self.since = now;
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}

/// How the answer to a registration goes out.
pub(super) enum Opening {
    /// By itself, to be acknowledged.
    Confirmable {
        message_id: u16,
        message: Box<[u8]>,
        timer: Retransmission,
    },
    /// By itself.
    NonConfirmable(u16),
}

impl Relations {
    /// Opens a relation; returns the sequence number of the answer, or `None` when there are too
    /// many: the request is answered as if it had not asked to observe (RFC 7641 section 4.1).
    ///
    /// One with the same token ends.
    pub(super) fn open(
        &mut self,
        now: Instant,
        id: RelationId,
        token: Token,
        confirmable: bool,
        exponent: u8,
        settings: &Settings,
    ) -> Option<u32> {
        if let Some(index) = self.position_of(&token) {
            self.end(index, RelationEnd::Replaced);
        }
        if self.list.len() >= settings.relations_max {
            self.refuse(id, RelationEnd::Limit);
            return None;
        }
        let before = self.ended.iter().position(|(ended, _)| *ended == token);
        let before = before.and_then(|index| self.ended.remove(index));
        let sequence = before.map_or(0, |(_, next)| next);
        self.list.push(Relation {
            id,
            token,
            confirmable,
            exponent,
            next_sequence: (sequence + 1) & SEQUENCE_MASK,
            in_flight: None,
            waiting: VecDeque::new(),
            renewal: None,
            probed_at: now,
            since_probe: 0,
            recent: VecDeque::new(),
        });
        self.change += 1;
        Some(sequence)
    }

    /// The answer that opened the relation with this token went out.
    pub(super) fn opened(&mut self, token: &Token, opening: Opening) {
        let Some(relation) = self.position_of(token).and_then(|at| self.list.get_mut(at)) else {
            return;
        };
        match opening {
            Opening::NonConfirmable(message_id) => relation.remember(message_id),
            Opening::Confirmable {
                message_id,
                message,
                timer,
            } => {
                self.bytes += message.len();
                relation.in_flight = Some(InFlight::new(message_id, message, timer, (None, false)));
            }
        }
    }

    /// A relation that was never opened is over.
    pub(super) fn refuse(&mut self, id: RelationId, end: RelationEnd) {
        self.events.push_back((id, RelationEventKind::Ended(end)));
    }

    /// A request with Observe 0 came under this token.
    pub(super) fn on_registration(&mut self, token: &Token, exchange: u32) {
        if let Some(index) = self.position_of(token)
            && let Some(relation) = self.list.get_mut(index)
        {
            relation.renewal = Some(exchange);
        }
    }

    /// The request was answered, and not by a relation: one that it would have renewed is over, as
    /// the client takes an answer without an Observe option (RFC 7641 section 3.1).
    pub(super) fn on_not_renewed(&mut self, exchange: u32) {
        let mut list = self.list.iter();
        if let Some(index) = list.position(|relation| relation.renewal == Some(exchange)) {
            self.end(index, RelationEnd::Finished);
        }
    }

    /// The observer cancels (RFC 7641 section 3.6).
    pub(super) fn cancel(&mut self, token: &Token) {
        self.end_of(token, RelationEnd::Cancelled);
    }

    /// Ends the relation with this token, if there is one.
    pub(super) fn end_of(&mut self, token: &Token, end: RelationEnd) {
        if let Some(index) = self.position_of(token) {
            self.end(index, end);
        }
    }

    /// Ends all.
    pub(super) fn end_all(&mut self, end: RelationEnd) {
        while !self.list.is_empty() {
            self.end(0, end);
        }
    }

    /// Takes a notification, and sends it if none is in flight. Returns whether messages went out.
    ///
    /// # Errors
    ///
    /// `NotificationStale` when there is no such relation, or its end is on the way already;
    /// `NotificationOverflow` when too many wait, which ends the relation.
    pub(super) fn notify(
        &mut self,
        now: Instant,
        mut new: Notification,
        message_ids: &mut MessageIds,
        cx: &mut Context<'_>,
    ) -> Result<bool, DropReason> {
        let mut list = self.list.iter();
        let index = list.position(|relation| relation.id == new.relation);
        let found = index.and_then(|index| Some((index, self.list.get_mut(index)?)));
        let (index, relation) = found.ok_or(DropReason::NotificationStale)?;
        if relation.is_ending() {
            return Err(DropReason::NotificationStale);
        }
        let size_max = cx.settings.message_size_max;
        let exponent = relation.exponent.min(block::exponent_for(size_max));
        block::keep_first(&mut new.response, exponent);
        let length = new.response.payload.len();
        if relation.waiting.len() >= cx.settings.notifications_max
            || self.bytes + length > cx.settings.notification_bytes_max
        {
            self.end(index, RelationEnd::Limit);
            return Err(DropReason::NotificationOverflow);
        }
        // RFC 7641 section 4.2: an answer other than 2.xx ends the relation.
        let last = new.last || new.response.code >> 5 != 2;
        relation.waiting.push_back(Waiting {
            delivery: new.delivery,
            response: new.response,
            last,
        });
        self.bytes += length;
        Ok(self.send_waiting(now, index, message_ids, cx))
    }

    /// An ACK or a Reset; `None` when no notification has this Message ID, else whether messages
    /// went out.
    pub(super) fn on_reply(
        &mut self,
        now: Instant,
        kind: MessageType,
        message_id: u16,
        message_ids: &mut MessageIds,
        cx: &mut Context<'_>,
    ) -> Option<bool> {
        let reset = kind == MessageType::Reset;
        let index = self
            .list
            .iter()
            .position(|relation| relation.has_sent(message_id, reset))?;
        if reset {
            self.end(index, RelationEnd::Reset);
            return Some(false);
        }
        let relation = self.list.get_mut(index)?;
        let acknowledged = relation.in_flight.take()?;
        self.bytes -= acknowledged.len();
        let id = relation.id;
        if let Some(delivery) = acknowledged.delivery {
            let event = RelationEventKind::Acknowledged { delivery };
            self.events.push_back((id, event));
        }
        if acknowledged.last {
            self.end(index, RelationEnd::Finished);
            return Some(false);
        }
        Some(self.send_waiting(now, index, message_ids, cx))
    }

    /// Sends again what was not acknowledged; returns how many, and whether Message IDs were used.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        message_ids: &mut MessageIds,
        cx: &mut Context<'_>,
    ) -> (u32, bool) {
        let (mut retransmitted, mut sent) = (0, false);
        let mut index = 0;
        while let Some(relation) = self.list.get_mut(index) {
            let in_flight = relation.in_flight.as_mut();
            if let Some(due) = in_flight.filter(|in_flight| in_flight.due_at() <= now) {
                let attempt = due.attempt(now, message_ids, cx);
                if attempt == Attempt::GivenUp {
                    self.end(index, RelationEnd::TimedOut);
                    continue;
                }
                retransmitted += 1;
                sent |= attempt == Attempt::Anew;
            }
            index += 1;
        }
        if self.stalled.is_some_and(|at| at <= now) {
            self.stalled = None;
            for index in (0..self.list.len()).rev() {
                sent |= self.send_waiting(now, index, message_ids, cx);
            }
        }
        (retransmitted, sent)
    }

    /// When [`Self::handle_timeout`] is due.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let in_flight = self.list.iter().filter_map(|r| r.in_flight.as_ref());
        in_flight.map(InFlight::due_at).chain(self.stalled).min()
    }

    pub(super) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// By how many relations there are more than at the last call.
    pub(super) const fn take_change(&mut self) -> i32 {
        std::mem::replace(&mut self.change, 0)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether there is neither a relation nor an event to be taken.
    pub(super) fn is_over(&self) -> bool {
        self.list.is_empty() && self.events.is_empty()
    }

    /// Relations, notifications of them all that wait, and the bytes kept.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn memory(&self) -> (usize, usize, usize) {
        let waiting = self.list.iter().map(|relation| relation.waiting.len());
        let bytes = self.list.iter().map(Relation::bytes);
        assert_eq!(bytes.sum::<usize>(), self.bytes);
        (self.list.len(), waiting.sum(), self.bytes)
    }

    /// As if a relation under this token had ended.
    #[cfg(test)]
    pub(super) fn set_next_sequence(&mut self, token: Token, next: u32) {
        self.ended.push_back((token, next));
    }

    fn position_of(&self, token: &Token) -> Option<usize> {
        let mut list = self.list.iter();
        list.position(|relation| relation.token == *token)
    }

    fn end(&mut self, index: usize, end: RelationEnd) {
        if index >= self.list.len() {
            return;
        }
        let relation = self.list.swap_remove(index);
        self.change -= 1;
        self.bytes -= relation.bytes();
        if self.ended.len() >= ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended
            .push_back((relation.token, relation.next_sequence));
        self.refuse(relation.id, end);
    }

    /// Sends what waits of one relation, up to and with the next confirmable notification.
    fn send_waiting(
        &mut self,
        now: Instant,
        index: usize,
        message_ids: &mut MessageIds,
        cx: &mut Context<'_>,
    ) -> bool {
        let mut sent = false;
        while let Some(relation) = self.list.get_mut(index)
            && relation.in_flight.is_none()
            && !relation.waiting.is_empty()
        {
            let Some(message_id) = message_ids.take(now, cx.settings.exchange_lifetime) else {
                self.stalled = Some(now + STALLED_RETRY);
                return sent;
            };
            sent = true;
            let Some(waiting) = relation.waiting.pop_front() else {
                return sent;
            };
            self.bytes -= waiting.response.payload.len();
            let confirmable =
                relation.confirmable || relation.is_probe_due(now) || !self.non_allowance.take(now);
            let id = relation.id;
            let delivery = waiting.delivery;
            let (kept, over) = relation.send(now, waiting, confirmable, message_id, cx);
            self.bytes += kept;
            let event = RelationEventKind::Sent {
                delivery,
                confirmable,
            };
            self.events.push_back((id, event));
            if over {
                self.end(index, RelationEnd::Finished);
                return sent;
            }
        }
        sent
    }
}

impl Relation {
    /// Sends one notification; returns the bytes that are kept of it, and whether the relation is over
    /// with it.
    fn send(
        &mut self,
        now: Instant,
        waiting: Waiting,
        confirmable: bool,
        message_id: u16,
        cx: &mut Context<'_>,
    ) -> (usize, bool) {
        let Waiting {
            delivery,
            response,
            mut last,
        } = waiting;
        let kind = if confirmable {
            MessageType::Confirmable
        } else {
            MessageType::NonConfirmable
        };
        let size_max = cx.settings.message_size_max;
        let exponent = self.exponent.min(block::exponent_for(size_max));
        let message = block::cut(&response, None, false, exponent)
            .ok()
            .and_then(|content| {
                let observe = (!last).then_some(self.next_sequence);
                let content = Content { observe, ..content };
                content.encode(kind, message_id, &self.token, size_max)
            });
        self.next_sequence = (self.next_sequence + 1) & SEQUENCE_MASK;
        // What cannot be sent ends the relation (RFC 7641 section 4.2).
        let message = message.or_else(|| {
            last = true;
            let failure = Response::empty(code::INTERNAL_SERVER_ERROR);
            Content::of(&failure).encode(kind, message_id, &self.token, size_max)
        });
        let message = message.unwrap_or_default();
        (cx.out)(&message);
        if !confirmable {
            self.since_probe = self.since_probe.saturating_add(1);
            self.remember(message_id);
            return (0, last);
        }
        self.probed_at = now;
        self.since_probe = 0;
        let length = message.len();
        let timer = Retransmission::start(now, cx.settings, cx.random);
        let message = message.into_boxed_slice();
        let whose = (Some(delivery), last);
        self.in_flight = Some(InFlight::new(message_id, message, timer, whose));
        (length, false)
    }

    fn remember(&mut self, message_id: u16) {
        if self.recent.len() >= RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(message_id);
    }

    fn is_probe_due(&self, now: Instant) -> bool {
        self.since_probe + 1 >= PROBE_COUNT || now >= self.probed_at + PROBE_AGE
    }

    /// Whether a reply with this Message ID is about a notification of this relation.
    fn has_sent(&self, message_id: u16, reset: bool) -> bool {
        let mut in_flight = self.in_flight.iter();
        in_flight.any(|in_flight| in_flight.has_message_id(message_id))
            || reset && self.recent.contains(&message_id)
    }

    /// Whether its last notification waits or is in flight.
    fn is_ending(&self) -> bool {
        self.waiting.back().is_some_and(|waiting| waiting.last)
            || self.in_flight.as_ref().is_some_and(|sent| sent.last)
    }

    fn bytes(&self) -> usize {
        let waiting = self.waiting.iter().map(|w| w.response.payload.len());
        let in_flight = self.in_flight.iter().map(InFlight::len);
        waiting.chain(in_flight).sum()
    }
}
