//! Tickets (RFC 5077): a session in the client's keeping, sealed by a key that only servers know.
//!
//! ```text
//! ticket = key name[16] | salt[32] | sealed session[136] | tag[16]
//! ```
//!
//! Each ticket has a key of its own, derived from a secret and the random salt (`crypto::sealing`),
//! so no number of tickets wears a secret out and a restart repeats nothing. The name says which
//! secret it was. The first secret seals, all of them open: a new one is put in front, and an old
//! one goes when no ticket that it sealed can still be current. All tickets have one length.

use super::{ENCODED_LEN, ResumptionRefusal, Session};
use crate::crypto::sealing::SealingKey;
use crate::random::Random;
use crate::time::Duration;

/// Length of a key's name.
const NAME_LEN: usize = 16;
/// Length of a ticket.
pub(in crate::dtls) const TICKET_LEN: usize = NAME_LEN + ENCODED_LEN + SealingKey::OVERHEAD;
/// Most keys at a time.
pub const TICKET_KEYS_MAX: usize = 32;

/// A secret for tickets, with its name.
#[derive(Debug)]
pub struct TicketKey {
    name: [u8; NAME_LEN],
    key: SealingKey,
}

impl TicketKey {
    /// The key with this name, which is public, and this secret, which must be random.
    ///
    /// # Panics
    ///
    /// When `secret` is all zero: one that was never drawn.
    pub fn new(name: [u8; 16], secret: [u8; 32]) -> Self {
        Self {
            name,
            key: SealingKey::new(secret),
        }
    }
}

/// The keys that are in use.
#[derive(Debug)]
pub struct TicketKeys {
    keys: Vec<TicketKey>,
    lifetime: Duration,
}

impl TicketKeys {
    /// The first of `keys` seals, all of them open; a ticket is good for `lifetime`.
    ///
    /// # Panics
    ///
    /// When there is no key: tickets are switched off otherwise.
    pub fn new(mut keys: Vec<TicketKey>, lifetime: Duration) -> Self {
        assert!(!keys.is_empty(), "no key for tickets");
        keys.truncate(TICKET_KEYS_MAX);
        Self { keys, lifetime }
    }

    /// How long a ticket is good for, from the full handshake on.
    pub(in crate::dtls) const fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// A ticket with `session`.
    pub(in crate::dtls) fn seal(&self, session: &Session, random: &mut dyn Random) -> Vec<u8> {
        let mut ticket = Vec::with_capacity(TICKET_LEN);
        if let Some(TicketKey { name, key }) = self.keys.first() {
            ticket.extend_from_slice(name);
            key.seal(name, &session.encode(), random, &mut ticket);
        }
        ticket
    }

    /// The session in `ticket`.
    pub(in crate::dtls) fn open(&self, ticket: &[u8]) -> Result<Session, ResumptionRefusal> {
        let (name, sealed) = ticket
            .split_first_chunk::<NAME_LEN>()
            .ok_or(ResumptionRefusal::BadTicket)?;
        // The names are no secret.
        let key = self.keys.iter().find(|key| key.name == *name);
        let key = key.ok_or(ResumptionRefusal::UnknownKey)?;
        if ticket.len() != TICKET_LEN {
            return Err(ResumptionRefusal::BadTicket);
        }
        let mut sealed = zeroize::Zeroizing::new(sealed.to_vec());
        let session = key.key.open(name, &mut sealed).ok();
        session
            .and_then(|bytes| Session::decode(bytes))
            .ok_or(ResumptionRefusal::BadTicket)
    }
}
