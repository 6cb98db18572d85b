//! Interface first; the states follow.

use super::{Context, Input};
use crate::auth::request::Response;
use crate::drop_reason::DropReason;
use crate::random::Random;
use crate::time::Instant;

/// The message layer of one peer.
#[derive(Debug)]
pub struct MessageLayer {}

impl MessageLayer {
    /// A layer that has seen nothing.
    pub fn new(_random: &mut dyn Random) -> Self {
        Self {}
    }

    /// Takes one received message.
    pub fn handle_message(
        &mut self,
        _now: Instant,
        _message: &[u8],
        _cx: &mut Context<'_>,
    ) -> Input {
        Input::Nothing
    }

    /// Sends the answer to a request: in its ACK while that is not sent, else by itself.
    ///
    /// # Errors
    ///
    /// `VerdictStale` when the exchange is unknown or answered.
    pub fn respond(
        &mut self,
        _now: Instant,
        _exchange: u32,
        _response: &Response,
        _cx: &mut Context<'_>,
    ) -> Result<(), DropReason> {
        Err(DropReason::VerdictStale)
    }

    /// Sends what is due at `now`: empty ACKs and retransmissions.
    pub fn handle_timeout(&mut self, _now: Instant, _cx: &mut Context<'_>) {}

    /// When to call [`Self::handle_timeout`] next.
    pub fn next_timeout(&self) -> Option<Instant> {
        None
    }

    /// Whether nothing is remembered that is worth keeping; the layer may then be dropped.
    pub fn is_idle(&self, _now: Instant) -> bool {
        true
    }
}
