//! Whether a peer receives at its address: asked by an Echo option (RFC 9175), where nothing else has
//! shown it, before it gets more than three times what came from there.
//!
//! ```text
//! GET, or GET with Observe 0 -> 4.01 with Echo -> the same with that Echo, or an ACK or RST of a
//!                                                 message of ours -> answered as ever
//! ```
//!
//! RFC 9175 section 2.4 wants this of servers that send much to unauthenticated peers, so that nobody
//! turns them against an address that he claims to have. A DTLS peer has shown it in its handshake. On
//! plain CoAP those without a token get no answer that is longer than three requests; it is those with
//! one that could be much longer. Clients that know no Echo would get nothing any more, so the operator
//! decides (`Settings::echo`).
//!
//! Only answers to GET are held back: such a request can be made again without doing anything twice.

use coap_lite::MessageType;

use super::MessageLayer;
use crate::coap::exchange::Exchange;
use crate::coap::message::Content;
use crate::coap::{Context, code};
use crate::random::Random;

/// Bytes that go to an address for each that came from it.
const AMPLIFICATION_MAX: usize = 3;

/// What is known of a peer that has not shown that it receives at its address.
#[derive(Debug)]
pub(super) struct Unproven {
    /// What it is to repeat. A nonce, which is told to whoever asks.
    echo: u64,
    /// Bytes that may still go there.
    credit: usize,
}

impl MessageLayer {
    /// A layer of a peer that has not shown that it receives at its address.
    pub fn unproven(random: &mut dyn Random) -> Self {
        let unproven = Unproven {
            echo: random.next_u64(),
            credit: 0,
        };
        Self {
            unproven: Some(Box::new(unproven)),
            ..Self::new(random)
        }
    }

    /// A request of `length` bytes came, with this Echo option.
    pub(super) fn on_echo(&mut self, length: usize, echo: Option<u64>) {
        let Some(unproven) = &mut self.unproven else {
            return;
        };
        if echo == Some(unproven.echo) {
            self.unproven = None;
        } else {
            let more = length.saturating_mul(AMPLIFICATION_MAX);
            unproven.credit = unproven.credit.saturating_add(more);
        }
    }

    /// A message of ours was acknowledged or rejected, so it has arrived.
    pub(super) fn on_proof(&mut self) {
        self.unproven = None;
    }

    /// 4.01 with an Echo option, when the peer has to repeat one before it may observe.
    pub(super) fn challenge(&self) -> Option<Content<'static>> {
        let unproven = self.unproven.as_ref()?;
        Some(Content {
            code: code::UNAUTHORIZED,
            echo: Some(unproven.echo),
            ..Content::default()
        })
    }

    /// The same in the place of an answer that is longer than the peer may get.
    pub(super) fn challenge_instead(
        &mut self,
        exchange: &Exchange,
        content: &Content<'_>,
        cx: &Context<'_>,
    ) -> Option<Content<'static>> {
        let unproven = self.unproven.as_mut()?;
        let length = |content: &Content<'_>| {
            let kind = MessageType::Acknowledgement;
            let message = content.encode(kind, 0, &exchange.token, cx.settings.message_size_max);
            message.map_or(cx.settings.message_size_max, |message| message.len())
        };
        let wanted = length(content);
        if wanted <= unproven.credit || !exchange.flags.is_get() {
            unproven.credit = unproven.credit.saturating_sub(wanted);
            return None;
        }
        let challenge = self.challenge()?;
        let told = length(&challenge);
        let unproven = self.unproven.as_mut()?;
        unproven.credit = unproven.credit.saturating_sub(told);
        Some(challenge)
    }
}
