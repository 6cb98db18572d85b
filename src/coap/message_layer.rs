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
//! empty             | RST (ping)       | drop                 | ends a CON      | ends a CON
//! response          | RST              | drop                 | drop            | drop
//! reserved class    | RST              | drop                 | drop            | drop
//! format error      | RST              | drop                 | drop            | drop
//! version not 1     | drop             | drop                 | drop            | drop
//! ```
//!
//! Deduplication is by Message ID alone, as the RFC has it: another token or another content under a
//! Message ID that lives is a repetition all the same. Requests beyond `requests_max` in work are
//! answered 5.03 with Max-Age, by NON or in the ACK, and that answer too is remembered.
//!
//! Invariants: at most `dedup_max` requests and `cached_bytes_max` bytes of messages are remembered;
//! a request reaches the caller once per Message ID and lifetime; a request in work is not pushed out
//! by newer ones; `next_timeout` is never later than the next thing to do.

use coap_lite::MessageType;

use super::exchange::{Exchange, Exchanges, Flags, State, acknowledge_at};
use super::kept::{Kept, Outgoing};
use super::message::{self, HEADER_LEN, Head, Token};
use super::message_id::MessageIds;
use super::option::{self, Evaluated, Refusal};
use super::retransmission::{Expiry, Retransmission};
use super::{Context, Input, Settings, Timeouts, code};
use crate::auth::request::{RequestMessage, Response};
use crate::drop_reason::DropReason;
use crate::random::Random;
use crate::time::Instant;

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
    message_ids: MessageIds,
    serial: u16,
    timeout: Option<Instant>,
    /// When all Message IDs in use, the peer's and ours, may come again; zero: there are none.
    idle_at: Instant,
}

const _: () = assert!(size_of::<MessageLayer>() <= 112);

impl MessageLayer {
    /// A layer that has seen nothing.
    pub fn new(random: &mut dyn Random) -> Self {
        let [low, high, ..] = random.next_u64().to_le_bytes();
        Self {
            exchanges: Exchanges::default(),
            kept: None,
            message_ids: MessageIds::new(random),
            serial: u16::from_le_bytes([low, high]),
            timeout: None,
            idle_at: Instant::ZERO,
        }
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
            MessageType::Acknowledgement | MessageType::Reset => self.handle_reply(&head, message),
        };
        self.update_timeout(cx.settings);
        input
    }

    /// Sends the answer to a request: in its ACK while that is not sent, else by itself.
    ///
    /// An answer that cannot be sent as it is, for its code or its length, becomes 5.00.
    ///
    /// # Errors
    ///
    /// `VerdictStale` when no such request is in work; `CoapAnswerUnfit` when 5.00 went out instead;
    /// `CoapMessageIds` when nothing went out, because the peer was sent so many messages that no
    /// Message ID is free.
    pub fn respond(
        &mut self,
        now: Instant,
        exchange: u32,
        response: &Response,
        cx: &mut Context<'_>,
    ) -> Result<(), DropReason> {
        let index = self
            .exchanges
            .find_in_work(exchange)
            .ok_or(DropReason::VerdictStale)?;
        let result = self.answer(now, index, response, cx);
        self.update_timeout(cx.settings);
        result
    }

    /// Does what is due at `now`: empty ACKs, retransmissions, forgetting.
    pub fn handle_timeout(&mut self, now: Instant, cx: &mut Context<'_>) -> Timeouts {
        let mut timeouts = Timeouts::default();
        while let Some((index, exchange)) = self.exchanges.first_unacknowledged()
            && acknowledge_due(&exchange, cx.settings) <= now
        {
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
        if self.is_idle(now) {
            self.exchanges.clear();
            self.kept = None;
            self.idle_at = Instant::ZERO;
        }
        self.update_timeout(cx.settings);
        timeouts
    }

    /// When to call [`Self::handle_timeout`] next, if ever: the earliest of an empty ACK, a
    /// retransmission and, when neither is due, the end of all memory.
    pub const fn next_timeout(&self) -> Option<Instant> {
        self.timeout
    }

    /// Whether nothing is remembered that matters: no request lives, no Message ID is in use.
    pub fn is_idle(&self, now: Instant) -> bool {
        now >= self.idle_at && !self.kept.as_ref().is_some_and(|kept| kept.has_outgoing())
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
        let flags = Flags::new(wishes.block1, wishes.no_response);
        let Some(refusal) = refusal else {
            return match self.remember(now, head, token, flags, cx.settings) {
                Some(index) => self.hand_over(index, head, message, cx),
                None => {
                    cx.buffers.put(message.into_buffer());
                    Input::Dropped(DropReason::CoapPeerBusy)
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

    /// An ACK or RST: ends the retransmission of the message it names, if it is well-formed
    /// (RFC 7252 section 4.2: both are otherwise silently ignored).
    fn handle_reply(&mut self, head: &Head, message: &[u8]) -> Input {
        match code::class(head.code) {
            code::Class::Empty if head.is_of_empty(message) => {
                let ended = self
                    .kept
                    .as_mut()
                    .is_some_and(|kept| kept.remove_outgoing(head.message_id));
                if ended {
                    Input::Nothing
                } else {
                    Input::Dropped(DropReason::CoapUnmatched)
                }
            }
            code::Class::Empty => Input::Dropped(DropReason::CoapMalformed),
            // We send no requests, so no ACK can carry a response to us.
            code::Class::Response => Input::Dropped(DropReason::CoapUnmatched),
            code::Class::Request | code::Class::Reserved => Input::Dropped(DropReason::CoapCode),
        }
    }

    fn acknowledge(&mut self, index: usize, message_id: u16, cx: &mut Context<'_>) {
        (cx.out)(&message::empty(MessageType::Acknowledgement, message_id));
        self.exchanges.set_state(index, State::Acknowledged);
    }

    /// Answers the request in work at `index`.
    fn answer(
        &mut self,
        now: Instant,
        index: usize,
        response: &Response,
        cx: &mut Context<'_>,
    ) -> Result<(), DropReason> {
        let exchange = self.exchanges.at(index).ok_or(DropReason::VerdictStale)?;
        if exchange.flags.suppresses(response.code) {
            return self.keep_silent(index, &exchange, cx);
        }
        let fit = code::class(response.code) == code::Class::Response
            && self.send_answer(now, index, &exchange, response, cx)?;
        if fit {
            return Ok(());
        }
        let failure = Response::empty(code::INTERNAL_SERVER_ERROR);
        self.send_answer(now, index, &exchange, &failure, cx)?;
        Err(DropReason::CoapAnswerUnfit)
    }

    /// The client does not want this answer (RFC 7967): it gets an ACK at most.
    fn keep_silent(
        &mut self,
        index: usize,
        exchange: &Exchange,
        cx: &mut Context<'_>,
    ) -> Result<(), DropReason> {
        let state = match exchange.state {
            State::NonWorking => State::NonDone,
            State::Working => {
                self.acknowledge(index, exchange.message_id, cx);
                State::Separate
            }
            _ => State::Separate,
        };
        self.exchanges.set_state(index, state);
        Ok(())
    }

    /// Sends the answer in the way that the request's state asks for; `false` when it is too long.
    fn send_answer(
        &mut self,
        now: Instant,
        index: usize,
        exchange: &Exchange,
        response: &Response,
        cx: &mut Context<'_>,
    ) -> Result<bool, DropReason> {
        match exchange.state {
            State::Working => Ok(self.send_in_ack(index, exchange, response, cx)),
            State::Acknowledged => self.send_separately(now, index, exchange, response, cx),
            State::NonWorking => self.send_non(now, index, exchange, response, cx),
            _ => Err(DropReason::VerdictStale),
        }
    }

    /// A piggybacked answer (RFC 7252 section 5.2.1).
    fn send_in_ack(
        &mut self,
        index: usize,
        exchange: &Exchange,
        response: &Response,
        cx: &mut Context<'_>,
    ) -> bool {
        let kind = MessageType::Acknowledgement;
        let (message_id, token) = (exchange.message_id, &exchange.token);
        let block1 = exchange.flags.block1();
        if message::is_bare(response, block1) {
            message::emit_bare(kind, response.code, message_id, token, cx.out);
            self.exchanges.set_code(index, response.code);
            self.exchanges.set_state(index, State::Answered);
            return true;
        }
        let size_max = cx.settings.message_size_max;
        let Some(message) =
            message::encode_answer(kind, message_id, token, response, block1, size_max)
        else {
            return false;
        };
        (cx.out)(&message);
        let exchanges = &mut self.exchanges;
        let kept = self.kept.get_or_insert_default();
        let is_kept = kept.add_answer(message_id, message, cx.settings, &mut |message_id| {
            exchanges.forget_answer(message_id);
        });
        let state = if is_kept {
            State::AnsweredAtLength
        } else {
            State::Forgotten
        };
        self.exchanges.set_state(index, state);
        true
    }

    /// A separate answer (RFC 7252 section 5.2.2): confirmable, or NON when the peer owes too many
    /// ACKs already.
    fn send_separately(
        &mut self,
        now: Instant,
        index: usize,
        exchange: &Exchange,
        response: &Response,
        cx: &mut Context<'_>,
    ) -> Result<bool, DropReason> {
        self.exchanges.set_state(index, State::Separate);
        let message_id = self.take_message_id(now, cx.settings)?;
        let Some(mut message) = message::encode_answer(
            MessageType::Confirmable,
            message_id,
            &exchange.token,
            response,
            exchange.flags.block1(),
            cx.settings.message_size_max,
        ) else {
            return Ok(false);
        };
        let exchanges = &mut self.exchanges;
        let kept = self.kept.get_or_insert_default();
        let admitted = kept.admits_outgoing(message.len(), cx.settings, &mut |message_id| {
            exchanges.forget_answer(message_id);
        });
        if !admitted {
            message::make_non_confirmable(&mut message);
        }
        (cx.out)(&message);
        if admitted {
            kept.add_outgoing(Outgoing {
                message_id,
                message: message.into_boxed_slice(),
                timer: Retransmission::start(now, cx.settings, cx.random),
            });
        }
        Ok(true)
    }

    /// The answer to a NON request (RFC 7252 section 5.2.3).
    fn send_non(
        &mut self,
        now: Instant,
        index: usize,
        exchange: &Exchange,
        response: &Response,
        cx: &mut Context<'_>,
    ) -> Result<bool, DropReason> {
        self.exchanges.set_state(index, State::NonDone);
        let message_id = self.take_message_id(now, cx.settings)?;
        let kind = MessageType::NonConfirmable;
        let (token, block1) = (&exchange.token, exchange.flags.block1());
        if message::is_bare(response, block1) {
            message::emit_bare(kind, response.code, message_id, token, cx.out);
            return Ok(true);
        }
        let size_max = cx.settings.message_size_max;
        let message = message::encode_answer(kind, message_id, token, response, block1, size_max);
        if let Some(message) = &message {
            (cx.out)(message);
        }
        Ok(message.is_some())
    }

    fn take_message_id(&mut self, now: Instant, settings: &Settings) -> Result<u16, DropReason> {
        let message_id = self
            .message_ids
            .take(now, settings.exchange_lifetime)
            .ok_or(DropReason::CoapMessageIds)?;
        self.idle_at = self.idle_at.max(now + settings.exchange_lifetime);
        Ok(message_id)
    }

    fn update_timeout(&mut self, settings: &Settings) {
        let acknowledge = self
            .exchanges
            .first_unacknowledged()
            .map(|(_, exchange)| acknowledge_due(&exchange, settings));
        let retransmit = self.kept.as_ref().and_then(|kept| kept.next_timeout());
        let forget = (self.idle_at != Instant::ZERO).then_some(self.idle_at);
        self.timeout = match (acknowledge, retransmit) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other).or(forget),
        };
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
