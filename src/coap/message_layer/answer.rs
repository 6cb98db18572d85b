//! Answers: in the ACK, by themselves, or not at all (RFC 7252 section 5.2).

use coap_lite::MessageType;

use super::MessageLayer;
use crate::auth::request::{Block, RelationEnd, RelationId, Response};
use crate::coap::block::{self, CutError, EXPONENT_MAX, Form};
use crate::coap::exchange::{Exchange, State};
use crate::coap::kept::Outgoing;
use crate::coap::message::{self, Content};
use crate::coap::observe::Opening;
use crate::coap::retransmission::Retransmission;
use crate::coap::{Context, code};
use crate::drop_reason::DropReason;
use crate::time::Instant;

impl MessageLayer {
    /// Sends the answer to a request: in its ACK while that is not sent, else by itself.
    ///
    /// An answer that is too long for a message goes as its first block, or as the one that was asked
    /// for; one that cannot be sent, for its code or as it has another part of the body, becomes 5.00.
    /// If it names a
    /// relation, that is open from now on, or [`Self::next_event`] tells of its end.
    ///
    /// # Errors
    ///
    /// `VerdictStale` when no such request is in work, and a relation that is named was not opened;
    /// `CoapAnswerUnfit` when 5.00 went out instead; `CoapMessageIds` when nothing went out, because
    /// the peer was sent so many messages that no Message ID is free.
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

    /// Answers the request in work at `index`.
    pub(super) fn answer(
        &mut self,
        now: Instant,
        index: usize,
        response: &Response,
        cx: &mut Context<'_>,
    ) -> Result<(), DropReason> {
        let exchange = self.exchanges.at(index).ok_or(DropReason::VerdictStale)?;
        let form = self.take_form(&exchange);
        let exponent_max = block::exponent_for(cx.settings.message_size_max);
        let cut = block::cut(response, form.block2, form.size2, exponent_max);
        let content = cut.unwrap_or_else(|error| Content {
            // RFC 7959 leaves the code open; that no block can be there is the client's mistake.
            code: match error {
                CutError::BeyondEnd => code::BAD_REQUEST,
                CutError::WrongPart => code::INTERNAL_SERVER_ERROR,
            },
            ..Content::default()
        });
        let opens = response.relation.filter(|_| content.code >> 5 == 2);
        let exponent = form
            .block2
            .map_or(EXPONENT_MAX, |wanted| wanted.size_exponent);
        let content = Content {
            observe: self.open_relation(now, &exchange, (response.relation, opens), exponent, cx),
            block1: form.block1,
            ..content
        };
        if let Some(challenge) = self.challenge_instead(&exchange, &content, cx) {
            return self.send_or_refuse(now, index, &exchange, &challenge, cx);
        }
        if content.block2.is_some_and(|block| block.more) && !exchange.flags.is_get() {
            let transfers = self.transfers.get_or_insert_default();
            transfers.keep_answer(now, response, cx.settings, cx.buffers);
        }
        let result = self.send_or_refuse(now, index, &exchange, &content, cx);
        if result.is_err()
            && content.observe.is_some()
            && let Some(relations) = &mut self.relations
        {
            relations.end_of(&exchange.token, RelationEnd::Limit);
        }
        if cut == Err(CutError::WrongPart) {
            return Err(DropReason::CoapAnswerUnfit);
        }
        result
    }

    /// The form in which the answer is wanted.
    fn take_form(&mut self, exchange: &Exchange) -> Form {
        let single = exchange.flags.block1().map(|size_exponent| Block {
            size_exponent,
            ..Block::default()
        });
        let transfers = self.transfers.as_mut();
        let form = transfers.map(|transfers| transfers.take_form(exchange.id()));
        let form = form.unwrap_or_default();
        Form {
            block1: form.block1.or(single),
            ..form
        }
    }

    /// Opens the relation that the answer names, if it does; returns the value of its Observe option.
    fn open_relation(
        &mut self,
        now: Instant,
        exchange: &Exchange,
        (named, opens): (Option<RelationId>, Option<RelationId>),
        exponent: u8,
        cx: &Context<'_>,
    ) -> Option<u32> {
        let Some(id) = opens else {
            if let Some(relations) = &mut self.relations {
                relations.on_not_renewed(exchange.id());
            }
            if let Some(id) = named {
                let relations = self.relations.get_or_insert_default();
                relations.refuse(id, RelationEnd::Finished);
            }
            return None;
        };
        let confirmable = exchange.state != State::NonWorking;
        let relations = self.relations.get_or_insert_default();
        relations.open(now, id, exchange.token, confirmable, exponent, cx.settings)
    }

    /// Sends an answer, or 5.00 when it cannot be sent.
    pub(super) fn send_or_refuse(
        &mut self,
        now: Instant,
        index: usize,
        exchange: &Exchange,
        content: &Content<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), DropReason> {
        if exchange.flags.suppresses(content.code) {
            self.keep_silent(index, exchange, cx);
            return Ok(());
        }
        let fit = code::class(content.code) == code::Class::Response
            && self.send_answer(now, index, exchange, content, cx)?;
        if fit {
            return Ok(());
        }
        let failure = Content {
            code: code::INTERNAL_SERVER_ERROR,
            block1: content.block1,
            ..Content::default()
        };
        self.send_answer(now, index, exchange, &failure, cx)?;
        Err(DropReason::CoapAnswerUnfit)
    }

    /// The client does not want this answer (RFC 7967): it gets an ACK at most.
    fn keep_silent(&mut self, index: usize, exchange: &Exchange, cx: &mut Context<'_>) {
        let state = match exchange.state {
            State::NonWorking => State::NonDone,
            State::Working => {
                self.acknowledge(index, exchange.message_id, cx);
                State::Separate
            }
            _ => State::Separate,
        };
        self.exchanges.set_state(index, state);
    }

    /// Sends the answer in the way that the request's state asks for; `false` when it is too long.
    fn send_answer(
        &mut self,
        now: Instant,
        index: usize,
        exchange: &Exchange,
        content: &Content<'_>,
        cx: &mut Context<'_>,
    ) -> Result<bool, DropReason> {
        match exchange.state {
            State::Working => Ok(self.send_in_ack(index, exchange, content, cx)),
            State::Acknowledged => self.send_separately(now, index, exchange, content, cx),
            State::NonWorking => self.send_non(now, index, exchange, content, cx),
            _ => Err(DropReason::VerdictStale),
        }
    }

    /// A piggybacked answer (RFC 7252 section 5.2.1).
    fn send_in_ack(
        &mut self,
        index: usize,
        exchange: &Exchange,
        content: &Content<'_>,
        cx: &mut Context<'_>,
    ) -> bool {
        let kind = MessageType::Acknowledgement;
        let (message_id, token) = (exchange.message_id, &exchange.token);
        if content.is_bare() {
            message::emit_bare(kind, content.code, message_id, token, cx.out);
            self.exchanges.set_code(index, content.code);
            self.exchanges.set_state(index, State::Answered);
            return true;
        }
        let size_max = cx.settings.message_size_max;
        let Some(message) = content.encode(kind, message_id, token, size_max) else {
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
    /// ACKs already. One that opens a relation is that relation's notification.
    fn send_separately(
        &mut self,
        now: Instant,
        index: usize,
        exchange: &Exchange,
        content: &Content<'_>,
        cx: &mut Context<'_>,
    ) -> Result<bool, DropReason> {
        self.exchanges.set_state(index, State::Separate);
        let message_id = self.take_message_id(now, cx.settings)?;
        let (kind, token) = (MessageType::Confirmable, &exchange.token);
        let size_max = cx.settings.message_size_max;
        let Some(mut message) = content.encode(kind, message_id, token, size_max) else {
            return Ok(false);
        };
        if content.observe.is_some()
            && let Some(relations) = &mut self.relations
        {
            (cx.out)(&message);
            let opening = Opening::Confirmable {
                message_id,
                message: message.into_boxed_slice(),
                timer: Retransmission::start(now, cx.settings, cx.random),
            };
            relations.opened(token, opening);
            return Ok(true);
        }
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
        content: &Content<'_>,
        cx: &mut Context<'_>,
    ) -> Result<bool, DropReason> {
        self.exchanges.set_state(index, State::NonDone);
        let message_id = self.take_message_id(now, cx.settings)?;
        let (kind, token) = (MessageType::NonConfirmable, &exchange.token);
        if content.is_bare() {
            message::emit_bare(kind, content.code, message_id, token, cx.out);
            return Ok(true);
        }
        let size_max = cx.settings.message_size_max;
        let Some(message) = content.encode(kind, message_id, token, size_max) else {
            return Ok(false);
        };
        (cx.out)(&message);
        if content.observe.is_some()
            && let Some(relations) = &mut self.relations
        {
            relations.opened(token, Opening::NonConfirmable(message_id));
        }
        Ok(true)
    }
}
