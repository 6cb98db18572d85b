//! The message layer of one peer: what comes in, what goes out, and when (RFC 7252 section 4).
//!
//! ```text
//! a request in ...  | came again       | is answered          | waits too long  | expires
//! ------------------+------------------+----------------------+-----------------+---------
//! (unknown)    CON  | -> Working       |                      |                 |
//!              NON  | -> NonWorking    |                      |                 |
//! Working           | nothing          | ACK with the answer  | empty ACK       | forget
//!                   |                  | -> Answered,         | -> Acknowledged |
//!                   |                  |    AnsweredAtLength  |                 |
//! Acknowledged      | empty ACK        | CON of its own       |                 | forget
//!                   |                  | -> Separate          |                 |
//! Answered          | same ACK, built  | (stale)              |                 | forget
//! AnsweredAtLength  | same ACK, kept   | (stale)              |                 | forget
//! Forgotten         | RST              | (stale)              |                 | forget
//! Separate          | empty ACK        | (stale)              |                 | forget
//! NonWorking        | nothing          | NON -> NonDone       |                 | forget
//! NonDone           | nothing          | (stale)              |                 | forget
//!
//! any other message | Confirmable      | Non-confirmable      | ACK             | RST
//! ------------------+------------------+----------------------+-----------------+---------
//! empty             | RST (ping)       | drop                 | ends a CON;     | ends a CON;
//!                   |                  |                      | the relation's  | ends the
//!                   |                  |                      | next goes out   | relation
//! response          | RST              | drop                 | drop            | drop
//! reserved class    | RST              | drop                 | drop            | drop
//! format error      | RST              | drop                 | drop            | drop
//! version not 1     | drop             | drop                 | drop            | drop
//! ```
//!
//! A request with Observe 0 whose answer names a relation opens it, and the answer carries the first
//! sequence number; with Observe 1 it ends the relation of its token. See `observe` for what a relation
//! goes through. A separate answer that opens a relation is the relation's, not the exchange's, from
//! there on: its Reset and its timeout end the relation (RFC 7641 sections 3.6, 4.5).
//!
//! Deduplication is by Message ID alone, as the RFC has it: another token or another content under a
//! Message ID that lives is a repetition all the same. Requests beyond `requests_max` in work are
//! answered 5.03 with Max-Age, by NON or in the ACK, and that answer too is remembered.
//!
//! Invariants: at most `dedup_max` requests and `cached_bytes_max` bytes of messages are remembered;
//! a request reaches the caller once per Message ID and lifetime; a request in work is not pushed out
//! by newer ones; `next_timeout` is never later than the next thing to do.

mod answer;
mod proof;
mod upload;

use coap_lite::MessageType;

use super::block::{Review, Transfers};
use super::exchange::{Exchange, Exchanges, Flags, State, acknowledge_at};
use super::kept::Kept;
use super::message::{self, HEADER_LEN, Head, Token};
use super::message_id::MessageIds;
use super::observe::Relations;
use super::option::{self, Evaluated, Refusal};
use super::retransmission::Expiry;
use super::{Context, Input, Settings, Timeouts, code};
use crate::auth::request::{
    Notification, RelationEnd, RelationEventKind, RelationId, RequestMessage, Response,
};
use crate::buffer::SpareBuffers;
use crate::drop_reason::DropReason;
use crate::random::Random;
use crate::time::Instant;
use proof::Unproven;

/// The message layer of one peer.
///
/// [`Self::handle_message`] and [`Self::respond`] move it on, and [`Self::handle_timeout`] whenever
/// [`Self::next_timeout`] has come; `next_timeout` may change with each of them. It may be dropped, and
/// made anew with the next message, when [`Self::is_idle`].
#[derive(Debug)]
pub struct MessageLayer {
    exchanges: Exchanges,
    /// Absent while there is nothing to keep.
    kept: Option<Box<Kept>>,
    /// Absent while nothing is observed, nor was lately.
    relations: Option<Box<Relations>>,
    /// Absent while there are no blocks to keep, nor to answer in.
    transfers: Option<Box<Transfers>>,
    /// Absent when the peer has shown that it receives at its address, or need not.
    unproven: Option<Box<Unproven>>,
    message_ids: MessageIds,
    serial: u16,
    /// When to do the next thing, or [`NEVER`].
    timeout: Instant,
    /// When all Message IDs in use, the peer's and ours, may come again; zero: there are none.
    idle_at: Instant,
}

const _: () = assert!(size_of::<MessageLayer>() <= 120);

/// Nothing is to be done.
const NEVER: Instant = Instant::from_micros(u64::MAX);

impl MessageLayer {
    /// A layer that has seen nothing.
    pub fn new(random: &mut dyn Random) -> Self {
        let [low, high, ..] = random.next_u64().to_le_bytes();
        Self {
            exchanges: Exchanges::default(),
            kept: None,
            relations: None,
            transfers: None,
            unproven: None,
            message_ids: MessageIds::new(random),
            serial: u16::from_le_bytes([low, high]),
            timeout: NEVER,
            idle_at: Instant::ZERO,
        }
    }

    /// Forgets everything, for a peer that is gone.
    pub fn clear(&mut self) {
        self.exchanges.clear();
        self.kept = None;
        self.relations = None;
        self.transfers = None;
        self.unproven = None;
    }

    /// Becomes `fresh`, a layer that has seen nothing, in the memory of this one, which was cleared.
    pub fn renew(&mut self, fresh: Self) {
        let exchanges = std::mem::take(&mut self.exchanges);
        *self = Self { exchanges, ..fresh };
    }

    /// Looks at the memory in which a request is remembered; what comes out means nothing.
    pub fn touch(&self) -> u64 {
        self.exchanges.touch() ^ self.idle_at.as_micros() ^ u64::from(self.serial)
    }

    /// Takes one received message: a whole datagram, or a record's plaintext.
    ///
    /// Sends at most one message. A request of a peer that has too many in work is answered 5.03 and
    /// reported as `Dropped(CoapPeerBusy)`.
    pub fn handle_message(&mut self, now: Instant, message: &[u8], cx: &mut Context<'_>) -> Input {
        let head = match Head::decode(message) {
            Ok(head) => head,
            Err(reason) => return Input::Dropped(reason),
        };
        let input = match head.kind {
            MessageType::Confirmable | MessageType::NonConfirmable => {
                match code::class(head.code) {
                    code::Class::Request => self.handle_request(now, &head, message, cx),
                    code::Class::Empty => handle_empty(&head, message, cx),
                    code::Class::Response | code::Class::Reserved => {
                        reject(&head, DropReason::CoapCode, cx)
                    }
                }
            }
            MessageType::Acknowledgement | MessageType::Reset => {
                self.handle_reply(now, &head, message, cx)
            }
        };
        self.update_timeout(cx.settings);
        input
    }

    /// Sends a notification of a relation, or lets it wait for those before it (RFC 7641 section 4).
    ///
    /// # Errors
    ///
    /// `NotificationStale` when the relation is over, or its last notification is on the way;
    /// `NotificationOverflow` when too many wait: the relation is over then.
    pub fn notify(
        &mut self,
        now: Instant,
        notification: Notification,
        cx: &mut Context<'_>,
    ) -> Result<(), DropReason> {
        let relations = self.relations.as_mut();
        let relations = relations.ok_or(DropReason::NotificationStale)?;
        let sent = relations.notify(now, notification, &mut self.message_ids, cx);
        if sent == Ok(true) {
            self.on_message_id(now, cx.settings);
        }
        self.update_timeout(cx.settings);
        sent.map(|_| ())
    }

    /// Ends all observe relations, as when the session is over.
    pub fn end_relations(&mut self, end: RelationEnd) {
        if let Some(relations) = &mut self.relations {
            relations.end_all(end);
        }
    }

    /// Whether a relation is open.
    pub fn is_observed(&self) -> bool {
        self.relations.as_ref().is_some_and(|r| !r.is_empty())
    }

    /// Takes the next event of a relation; to be called until `None` after every other call.
    pub fn next_event(&mut self) -> Option<(RelationId, RelationEventKind)> {
        self.relations.as_mut()?.next_event()
    }

    /// Gives up all requests whose blocks have not all come; to be called before the layer is dropped.
    pub fn end_transfers(&mut self, buffers: &mut SpareBuffers) {
        if let Some(mut transfers) = self.transfers.take() {
            transfers.clear(buffers);
        }
    }

    /// Whether bodies in blocks are held here, and the shard has not listed the peer for that yet; it
    /// has then.
    pub fn list_bodies(&mut self) -> bool {
        self.transfers.as_mut().is_some_and(|t| t.list())
    }

    /// Asks the peer to give way, as the shard has little memory left for bodies in blocks.
    pub fn review_bodies(&mut self, buffers: &mut SpareBuffers) -> Review {
        let transfers = self.transfers.as_mut();
        transfers.map_or(Review::Nothing, |t| t.review(buffers))
    }

    /// Whether bodies in blocks are held here; if not, the peer is listed for that no longer.
    pub fn still_holds_bodies(&mut self) -> bool {
        self.transfers.as_mut().is_some_and(|t| t.stay_listed())
    }

    /// By how many relations there are more than at the last call.
    pub fn take_relation_change(&mut self) -> i32 {
        let relations = self.relations.as_mut();
        relations.map_or(0, |relations| relations.take_change())
    }

    /// Does what is due at `now`: empty ACKs, retransmissions, forgetting.
    pub fn handle_timeout(&mut self, now: Instant, cx: &mut Context<'_>) -> Timeouts {
        let mut timeouts = Timeouts::default();
        while let Some((index, exchange)) = self.exchanges.first_unacknowledged()
            && acknowledge_due(&exchange, cx.settings) <= now
        {
            timeouts.acknowledged += 1;
            self.acknowledge(index, exchange.message_id, cx);
        }
        if let Some(kept) = &mut self.kept {
            while let Some(outgoing) = kept.first_due(now) {
                match outgoing.timer.expire(now) {
                    Expiry::SendAgain => {
                        timeouts.retransmitted += 1;
                        (cx.out)(&outgoing.message);
                    }
                    Expiry::GiveUp => {
                        timeouts.abandoned += 1;
                        let message_id = outgoing.message_id;
                        kept.remove_outgoing(message_id);
                    }
                }
            }
        }
        if let Some(relations) = &mut self.relations {
            let (again, sent) = relations.handle_timeout(now, &mut self.message_ids, cx);
            timeouts.retransmitted += again;
            if sent {
                self.on_message_id(now, cx.settings);
            }
        }
        if let Some(transfers) = &mut self.transfers {
            transfers.expire(now, cx.buffers);
        }
        self.forget(now, cx.buffers);
        self.update_timeout(cx.settings);
        timeouts
    }

    /// When to call [`Self::handle_timeout`] next, if ever: the earliest of an empty ACK, a
    /// retransmission and, when neither is due, the end of all memory.
    pub fn next_timeout(&self) -> Option<Instant> {
        (self.timeout != NEVER).then_some(self.timeout)
    }

    /// Whether nothing is remembered that matters: no request lives, no Message ID is in use, no
    /// relation is open.
    pub fn is_idle(&self, now: Instant) -> bool {
        self.is_quiet(now) && self.relations.as_ref().is_none_or(|r| r.is_over())
    }

    /// Whether no request lives and no Message ID is in use.
    fn is_quiet(&self, now: Instant) -> bool {
        now >= self.idle_at && !self.kept.as_ref().is_some_and(|kept| kept.has_outgoing())
    }

    /// Forgets what has expired, if nothing lives: relations stay.
    fn forget(&mut self, now: Instant, buffers: &mut SpareBuffers) {
        if !self.is_quiet(now) {
            return;
        }
        self.end_transfers(buffers);
        self.exchanges.clear();
        self.kept = None;
        self.idle_at = Instant::ZERO;
        if self.is_idle(now) {
            self.relations = None;
        }
    }

    fn handle_request(
        &mut self,
        now: Instant,
        head: &Head,
        message: &[u8],
        cx: &mut Context<'_>,
    ) -> Input {
        if let Some(index) = self.exchanges.find(head.message_id, now) {
            self.repeat(index, head, cx);
            return Input::Dropped(DropReason::CoapDuplicate);
        }
        let Some((token, body)) = head.token.and_then(|token| {
            let body = message.get(HEADER_LEN + token.as_bytes().len()..)?;
            Some((token, body))
        }) else {
            return reject(head, DropReason::CoapMalformed, cx);
        };
        let busy = self.exchanges.in_work() >= cx.settings.requests_max;
        if busy && option::check_format(body).is_ok() {
            let refusal = Response {
                max_age: Some(cx.settings.busy_max_age_s),
                ..Response::empty(code::SERVICE_UNAVAILABLE)
            };
            self.answer_at_once(now, head, token, Flags::default(), &refusal, cx);
            return Input::Dropped(DropReason::CoapPeerBusy);
        }
        let Ok(evaluated) = option::evaluate(head.code, body, cx.buffers) else {
            return reject(head, DropReason::CoapMalformed, cx);
        };
        let Evaluated {
            message,
            wishes,
            refusal,
        } = evaluated;
        let single = wishes.block1.filter(|block| block.num == 0 && !block.more);
        let is_part = wishes.block1.is_some_and(|block| block.more);
        let flags = Flags::new(
            single.map(|block| block.size_exponent),
            // That a block has come is to be heard in any case.
            if is_part { 0 } else { wishes.no_response },
        );
        let flags = flags.with_get(message.method == code::GET);
        self.on_echo(
            HEADER_LEN + token.as_bytes().len() + body.len(),
            wishes.echo,
        );
        let Some(refusal) = refusal else {
            let Some(index) = self.remember(now, head, token, flags, cx.settings) else {
                cx.buffers.put(message.into_buffer());
                return Input::Dropped(DropReason::CoapPeerBusy);
            };
            return match wishes.block1 {
                Some(block) if single.is_none() => {
                    self.receive_block(now, index, (head, block), message, &wishes, cx)
                }
                _ if !flags.is_get() && message.block2.is_some_and(|block| block.num > 0) => {
                    self.answer_again(now, index, message.block2, &wishes, cx)
                }
                _ if flags.is_get() && message.observe == Some(0) && self.unproven.is_some() => {
                    cx.buffers.put(message.into_buffer());
                    let challenge = self.challenge().unwrap_or_default();
                    self.send_at_once(now, index, &challenge, cx)
                }
                _ => {
                    self.note_form(index, &message, &wishes, cx.settings);
                    self.note_observation(index, &message);
                    self.hand_over(index, head, message, cx)
                }
            };
        };
        cx.buffers.put(message.into_buffer());
        match refusal {
            // RFC 7252 section 5.4.1: such a NON MUST be rejected (section 4.3: RST, if anything).
            Refusal::UnknownCritical(_) if head.kind == MessageType::NonConfirmable => {
                (cx.out)(&message::empty(MessageType::Reset, head.message_id));
                Input::Dropped(DropReason::CoapOption)
            }
            refusal => self.answer_at_once(now, head, token, flags, &refusal.response(), cx),
        }
    }

    /// A GET that registers or cancels under the token of a relation (RFC 7641 section 2).
    fn note_observation(&mut self, index: usize, message: &RequestMessage) {
        let Some(relations) = &mut self.relations else {
            return;
        };
        let Some(exchange) = self.exchanges.at(index) else {
            return;
        };
        match (message.method, message.observe) {
            (code::GET, Some(0)) => relations.on_registration(&exchange.token, exchange.id()),
            (code::GET, Some(1)) => relations.cancel(&exchange.token),
            _ => {}
        }
    }

    /// Gives a request that was just remembered to the caller.
    fn hand_over(
        &mut self,
        index: usize,
        head: &Head,
        message: RequestMessage,
        cx: &mut Context<'_>,
    ) -> Input {
        let Some(exchange) = self.exchanges.at(index) else {
            return Input::Dropped(DropReason::CoapPeerBusy);
        };
        if cx.settings.piggyback_timeout.is_zero() && exchange.state == State::Working {
            self.acknowledge(index, head.message_id, cx);
        }
        Input::Request {
            exchange: exchange.id(),
            message,
        }
    }

    /// Answers a request that does not reach the caller.
    fn answer_at_once(
        &mut self,
        now: Instant,
        head: &Head,
        token: Token,
        flags: Flags,
        response: &Response,
        cx: &mut Context<'_>,
    ) -> Input {
        let Some(index) = self.remember(now, head, token, flags, cx.settings) else {
            return Input::Dropped(DropReason::CoapPeerBusy);
        };
        match self.answer(now, index, response, cx) {
            Ok(()) => Input::Answered(response.code),
            Err(reason) => Input::Dropped(reason),
        }
    }

    /// Remembers a new request as in work; `None` when the ring is full of requests in work.
    fn remember(
        &mut self,
        now: Instant,
        head: &Head,
        token: Token,
        flags: Flags,
        settings: &Settings,
    ) -> Option<usize> {
        let (state, lifetime) = match head.kind {
            MessageType::Confirmable => (State::Working, settings.exchange_lifetime),
            _ => (State::NonWorking, settings.non_lifetime),
        };
        self.serial = self.serial.wrapping_add(1);
        let exchange = Exchange {
            expires: now + lifetime,
            message_id: head.message_id,
            serial: self.serial,
            token,
            state,
            code: code::EMPTY,
            flags,
        };
        let kept = &mut self.kept;
        let mut dropped = |message_id| {
            if let Some(kept) = kept {
                kept.remove_answer(message_id);
            }
        };
        if !self
            .exchanges
            .push(exchange, now, settings.dedup_max, &mut dropped)
        {
            return None;
        }
        self.idle_at = self.idle_at.max(exchange.expires);
        self.exchanges.len().checked_sub(1)
    }

    /// A request came again (RFC 7252 sections 4.2, 4.3, 4.5).
    fn repeat(&mut self, index: usize, head: &Head, cx: &mut Context<'_>) {
        let Some(exchange) = self.exchanges.at(index) else {
            return;
        };
        if head.kind == MessageType::NonConfirmable {
            return;
        }
        let message_id = exchange.message_id;
        match exchange.state {
            State::Working | State::NonWorking | State::NonDone => {}
            State::Acknowledged | State::Separate => {
                (cx.out)(&message::empty(MessageType::Acknowledgement, message_id));
            }
            State::Answered => message::emit_bare(
                MessageType::Acknowledgement,
                exchange.code,
                message_id,
                &exchange.token,
                cx.out,
            ),
            State::AnsweredAtLength => {
                if let Some(answer) = self.kept.as_ref().and_then(|kept| kept.answer(message_id)) {
                    (cx.out)(answer);
                }
            }
            State::Forgotten => (cx.out)(&message::empty(MessageType::Reset, message_id)),
        }
    }

    /// When the request in work with this id came; `None` when there is none. It follows from what
    /// is remembered of it, so `settings` must be those that it came under.
    pub fn arrival_of(&self, exchange: u32, settings: &Settings) -> Option<Instant> {
        let index = self.exchanges.find_in_work(exchange)?;
        let exchange = self.exchanges.at(index)?;
        let lifetime = match exchange.state {
            State::NonWorking => settings.non_lifetime,
            _ => settings.exchange_lifetime,
        };
        let lifetime = u64::try_from(lifetime.as_micros()).unwrap_or(u64::MAX);
        let arrival = exchange.expires.as_micros().saturating_sub(lifetime);
        Some(Instant::from_micros(arrival))
    }

    /// An ACK or RST: ends the retransmission of the message it names, if it is well-formed
    /// (RFC 7252 section 4.2: both are otherwise silently ignored).
    fn handle_reply(
        &mut self,
        now: Instant,
        head: &Head,
        message: &[u8],
        cx: &mut Context<'_>,
    ) -> Input {
        match code::class(head.code) {
            code::Class::Empty if head.is_of_empty(message) => self.end_transmission(now, head, cx),
            code::Class::Empty => Input::Dropped(DropReason::CoapMalformed),
            // We send no requests, so no ACK can carry a response to us.
            code::Class::Response => Input::Dropped(DropReason::CoapUnmatched),
            code::Class::Request | code::Class::Reserved => Input::Dropped(DropReason::CoapCode),
        }
    }

    fn end_transmission(&mut self, now: Instant, head: &Head, cx: &mut Context<'_>) -> Input {
        let kept = self.kept.as_mut();
        if kept.is_some_and(|kept| kept.remove_outgoing(head.message_id)) {
            self.on_proof();
            return Input::Nothing;
        }
        let (kind, id) = (head.kind, head.message_id);
        let matched = self
            .relations
            .as_mut()
            .and_then(|relations| relations.on_reply(now, kind, id, &mut self.message_ids, cx));
        match matched {
            None => Input::Dropped(DropReason::CoapUnmatched),
            Some(sent) => {
                self.on_proof();
                if sent {
                    self.on_message_id(now, cx.settings);
                }
                Input::Nothing
            }
        }
    }

    fn acknowledge(&mut self, index: usize, message_id: u16, cx: &mut Context<'_>) {
        (cx.out)(&message::empty(MessageType::Acknowledgement, message_id));
        self.exchanges.set_state(index, State::Acknowledged);
    }

    fn take_message_id(&mut self, now: Instant, settings: &Settings) -> Result<u16, DropReason> {
        let message_id = self
            .message_ids
            .take(now, settings.exchange_lifetime)
            .ok_or(DropReason::CoapMessageIds)?;
        self.on_message_id(now, settings);
        Ok(message_id)
    }

    /// A Message ID of ours was used.
    fn on_message_id(&mut self, now: Instant, settings: &Settings) {
        self.idle_at = self.idle_at.max(now + settings.exchange_lifetime);
    }

    fn update_timeout(&mut self, settings: &Settings) {
        let acknowledge = self
            .exchanges
            .first_unacknowledged()
            .map(|(_, exchange)| acknowledge_due(&exchange, settings));
        let kept = self.kept.as_ref().and_then(|kept| kept.next_timeout());
        let relations = self.relations.as_ref().and_then(|r| r.next_timeout());
        let transfers = self.transfers.as_ref().and_then(|t| t.next_timeout());
        let retransmit = kept.into_iter().chain(relations).chain(transfers).min();
        let forget = (self.idle_at != Instant::ZERO).then_some(self.idle_at);
        let timeout = match (acknowledge, retransmit) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other).or(forget),
        };
        self.timeout = timeout.unwrap_or(NEVER);
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl MessageLayer {
    /// The state of the request with this Message ID, if it is remembered at `now`.
    #[cfg(test)]
    pub(super) fn state_of(&self, message_id: u16, now: Instant) -> Option<State> {
        let index = self.exchanges.find(message_id, now)?;
        self.exchanges.at(index).map(|exchange| exchange.state)
    }

    /// Relations, their notifications that wait, and the bytes kept for them.
    pub(super) fn relation_memory(&self) -> (usize, usize, usize) {
        let relations = self.relations.as_ref();
        relations.map_or((0, 0, 0), |relations| relations.memory())
    }

    /// Uploads, and their bytes.
    pub(super) fn upload_memory(&self) -> (usize, usize) {
        self.transfers
            .as_ref()
            .map_or((0, 0), |transfers| transfers.memory())
    }

    /// Requests remembered, those in work, messages that await an ACK, bytes of messages kept.
    pub(super) fn memory(&self) -> (usize, usize, usize, usize) {
        let (outgoing, bytes) = self
            .kept
            .as_ref()
            .map_or((0, 0), |kept| (kept.outgoing_len(), kept.bytes()));
        (
            self.exchanges.len(),
            self.exchanges.in_work(),
            outgoing,
            bytes,
        )
    }
}

/// When the empty ACK of a request is due that nothing was sent for.
fn acknowledge_due(exchange: &Exchange, settings: &Settings) -> Instant {
    acknowledge_at(
        exchange.expires,
        settings.exchange_lifetime,
        settings.piggyback_timeout,
    )
}

/// A ping (RFC 7252 section 4.3), or an empty message that is not allowed.
fn handle_empty(head: &Head, message: &[u8], cx: &mut Context<'_>) -> Input {
    if head.kind == MessageType::Confirmable && head.is_of_empty(message) {
        (cx.out)(&message::empty(MessageType::Reset, head.message_id));
        return Input::Nothing;
    }
    reject(head, DropReason::CoapMalformed, cx)
}

/// Rejects a message: a CON with a matching RST (RFC 7252 section 4.2), a NON silently (section 4.3).
fn reject(head: &Head, reason: DropReason, cx: &mut Context<'_>) -> Input {
    if head.kind == MessageType::Confirmable {
        (cx.out)(&message::empty(MessageType::Reset, head.message_id));
    }
    Input::Dropped(reason)
}
