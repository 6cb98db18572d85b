//! NewSessionTicket (RFC 5077 section 3.3).
//!
//! ```text
//!  0                        4                 6
//! +------------------------+-----------------+--------
//! | ticket_lifetime_hint s | length          | ticket
//! +------------------------+-----------------+--------
//! ```

use crate::wire::Write;

/// Appends the body of the message. An empty ticket says that there is none after all.
pub(in crate::dtls) fn emit_new_session_ticket(
    out: &mut Vec<u8>,
    lifetime_hint_s: u32,
    ticket: &[u8],
) {
    out.put_u32(lifetime_hint_s);
    out.put_vec16(|out| out.extend_from_slice(ticket));
}

#[cfg(any(test, feature = "client"))]
pub(in crate::dtls) use decode::NewSessionTicket;

#[cfg(any(test, feature = "client"))]
mod decode {
    use crate::wire::{Reader, Truncated};

    /// The message as a client sees it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(in crate::dtls) struct NewSessionTicket<'a> {
        /// Seconds that the ticket is good for; 0: not told.
        pub(in crate::dtls) lifetime_hint_s: u32,
        /// Empty when there is none after all.
        pub(in crate::dtls) ticket: &'a [u8],
    }

    impl<'a> NewSessionTicket<'a> {
        /// Reads the body of the message.
        pub(in crate::dtls) fn decode(body: &'a [u8]) -> Result<Self, Truncated> {
            let mut reader = Reader::new(body);
            let this = Self {
                lifetime_hint_s: reader.u32()?,
                ticket: reader.vec16()?,
            };
            reader.expect_end()?;
            Ok(this)
        }
    }
}
