//! Requests that come in blocks, and answers that are wanted in blocks (RFC 7959).

use super::MessageLayer;
use crate::auth::request::{Block, RequestMessage};
use crate::coap::block::{self, Form, Received};
use crate::coap::message::{Content, Head};
use crate::coap::option::Wishes;
use crate::coap::{Context, Input, Settings, code};
use crate::drop_reason::DropReason;
use crate::time::Instant;

impl MessageLayer {
    /// Remembers in which form the answer is wanted, if in a certain one.
    pub(super) fn note_form(
        &mut self,
        index: usize,
        message: &RequestMessage,
        wishes: &Wishes,
        settings: &Settings,
    ) {
        let form = Form {
            block1: None,
            block2: message.block2,
            size2: wishes.size2,
        };
        self.remember_form(index, form, settings);
    }

    fn remember_form(&mut self, index: usize, form: Form, settings: &Settings) {
        if let Some(exchange) = self.exchanges.at(index).filter(|_| !form.is_plain()) {
            let transfers = self.transfers.get_or_insert_default();
            transfers.remember(exchange.id(), form, settings.requests_max);
        }
    }

    /// Takes a block of a request's body. The last one hands the whole request over; any other is
    /// answered here.
    pub(super) fn receive_block(
        &mut self,
        now: Instant,
        index: usize,
        (head, block): (&Head, Block),
        message: RequestMessage,
        wishes: &Wishes,
        cx: &mut Context<'_>,
    ) -> Input {
        // Nothing else takes a body here, so nothing else is worth the memory.
        let received = if message.method == code::POST {
            let transfers = self.transfers.get_or_insert_default();
            transfers.receive(now, block, message, wishes, cx.settings, cx.buffers)
        } else {
            Received::NotAllowed
        };
        let mut content = Content {
            block1: Some(block),
            ..Content::default()
        };
        content.code = match received {
            Received::Whole(whole) => {
                let form = Form {
                    block1: Some(block),
                    block2: whole.block2.filter(|block| block.num == 0),
                    size2: wishes.size2,
                };
                self.remember_form(index, form, cx.settings);
                return self.hand_over(index, head, whole, cx);
            }
            Received::Continue => code::CONTINUE,
            Received::Misshapen => code::BAD_REQUEST,
            Received::Incomplete => code::REQUEST_ENTITY_INCOMPLETE,
            Received::NotAllowed => code::METHOD_NOT_ALLOWED,
            Received::TooLarge => {
                content.size1 = u32::try_from(cx.settings.upload_bytes_max).ok();
                code::REQUEST_ENTITY_TOO_LARGE
            }
            Received::NoRoom => {
                content.max_age = Some(cx.settings.busy_max_age_s);
                code::SERVICE_UNAVAILABLE
            }
        };
        self.send_at_once(now, index, &content, cx)
    }

    /// Sends a further block of the answer to a request other than GET: such a request is not run for
    /// each block.
    pub(super) fn answer_again(
        &mut self,
        now: Instant,
        index: usize,
        wanted: Option<Block>,
        wishes: &Wishes,
        cx: &mut Context<'_>,
    ) -> Input {
        let mut transfers = self.transfers.take();
        let kept = transfers.as_mut().and_then(|t| t.kept_answer());
        let exponent_max = block::exponent_for(cx.settings.message_size_max);
        let cut = kept.map(|answer| block::cut(answer, wanted, wishes.size2, exponent_max));
        let content = match cut {
            Some(Ok(content)) => content,
            Some(Err(_)) => Content {
                code: code::BAD_REQUEST,
                ..Content::default()
            },
            None => Content {
                code: code::REQUEST_ENTITY_INCOMPLETE,
                ..Content::default()
            },
        };
        let input = self.send_at_once(now, index, &content, cx);
        let is_last = content.block2.is_some_and(|block| !block.more);
        if let Some(transfers) = &mut transfers
            && is_last
        {
            transfers.drop_answer(cx.buffers);
        }
        self.transfers = transfers;
        input
    }

    /// Sends an answer of the layer's own.
    pub(super) fn send_at_once(
        &mut self,
        now: Instant,
        index: usize,
        content: &Content<'_>,
        cx: &mut Context<'_>,
    ) -> Input {
        let Some(exchange) = self.exchanges.at(index) else {
            return Input::Dropped(DropReason::VerdictStale);
        };
        match self.send_or_refuse(now, index, &exchange, content, cx) {
            Ok(()) => Input::Answered(content.code),
            Err(reason) => Input::Dropped(reason),
        }
    }
}
