//! A confirmable notification on its way, until one of its Message IDs is acknowledged or rejected.
//!
//! ```text
//! transmission    1st     2nd     3rd     4th     5th
//! Message ID       a       a       b       c       d        token and Observe value the same
//! ```
//!
//! It is sent again once as RFC 7252 section 4.2 has it, and from then on as a new message. Clients
//! are about that acknowledge a Message ID once and take each copy of it for done, in silence: libcoap
//! 4.3.1, which Debian and Ubuntu ship, remembers the last one it has seen. When their acknowledgement
//! is lost, copies under that Message ID never bring another, the relation ends for want of it, and
//! what waits for its turn is lost, on a link that does no more than lose a datagram now and then.
//!
//! A new message they acknowledge. RFC 7641 section 4.5.2 lets a server transmit a notification anew
//! instead of retransmitting it, with the retransmission counter and the timeout going on; as this one
//! has the Observe value of the one before, a client that follows section 3.4 takes it as not newer
//! and passes it over. One that does not look at the value sees the notification twice; so it does not
//! happen before a plain retransmission has brought nothing.

use super::{Context, MessageIds};
use crate::coap::message;
use crate::coap::retransmission::{Expiry, Retransmission};
use crate::time::Instant;

#[derive(Debug)]
pub(super) struct InFlight {
    /// Of the last transmission.
    message_id: u16,
    /// Of those before it, as far as they had others. At most MAX_RETRANSMIT.
    earlier: Vec<u16>,
    was_repeated: bool,
    /// `None`: the answer to the registration.
    pub(super) delivery: Option<u64>,
    pub(super) last: bool,
    message: Box<[u8]>,
    timer: Retransmission,
}

/// What has become of a notification whose timer ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// It was sent again.
    Again,
    /// The same, under a new Message ID.
    Anew,
    /// There was no attempt left.
    GivenUp,
}

impl InFlight {
    /// A message that has just been sent; `message` is the whole of it.
    pub(super) const fn new(
        message_id: u16,
        message: Box<[u8]>,
        timer: Retransmission,
        (delivery, last): (Option<u64>, bool),
    ) -> Self {
        Self {
            message_id,
            earlier: Vec::new(),
            was_repeated: false,
            delivery,
            last,
            message,
            timer,
        }
    }

    /// When it is to be sent again, or given up.
    pub(super) const fn due_at(&self) -> Instant {
        self.timer.at()
    }

    /// Whether it went out under this Message ID.
    pub(super) fn has_message_id(&self, message_id: u16) -> bool {
        self.message_id == message_id || self.earlier.contains(&message_id)
    }

    /// Bytes of the message.
    pub(super) const fn len(&self) -> usize {
        self.message.len()
    }

    /// Sends it once more if an attempt is left; to be called when it is due.
    pub(super) fn attempt(
        &mut self,
        now: Instant,
        message_ids: &mut MessageIds,
        cx: &mut Context<'_>,
    ) -> Attempt {
        if self.timer.expire(now) == Expiry::GiveUp {
            return Attempt::GivenUp;
        }
        let mut attempt = Attempt::Again;
        // With no Message ID free, the old one is better than silence.
        if self.was_repeated
            && let Some(new) = message_ids.take(now, cx.settings.exchange_lifetime)
        {
            self.earlier.push(self.message_id);
            self.message_id = new;
            message::set_message_id(&mut self.message, new);
            attempt = Attempt::Anew;
        }
        self.was_repeated = true;
        (cx.out)(&self.message);
        attempt
    }
}
