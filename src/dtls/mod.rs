//! DTLS 1.2 (RFC 6347 on RFC 5246), sans-IO: datagrams, time and randomness are arguments.
//!
//! ```text
//!            datagram in                                                   datagrams out
//!                v                                                               ^
//! association    door ----------> handshake: reassembly, states, flights --------+
//! (one peer      no state before  |                                              |
//!  address)      a valid cookie   | Finished right                               |
//!                v                v                                              |
//!                connection: keys, window, sequence numbers, identity -----------+
//!                v                              ^
//!            plaintexts, in place           application data, in place
//! ```
//!
//! `record` protects and knows no handshake; `handshake` negotiates and knows no application data;
//! `message` turns bytes to meaning and back. [`accept`] takes datagrams of addresses that have no
//! [`Association`], the association takes all others.
//!
//! Elliptic curve key exchange or pre-shared keys, AEAD only, no compression, no renegotiation. RFC
//! 4279, 5077, 5246, 5288, 5289, 5487, 5489, 5746, 6066 (max_fragment_length), 6347, 6655, 7251, 7627,
//! 7905, 8422, 8442.
//!
//! Invariants: nothing is stored for an address that did not return a cookie; what is not
//! authenticated never ends or changes an established connection; no identity without
//! CertificateVerify and Finished, or that of a pre-shared key or of a session that is resumed and
//! Finished; no sequence number twice under one key; all memory of a peer is
//! bounded, that of a handshake ends with it.

mod alert;
mod association;
#[cfg(any(test, feature = "client"))]
pub mod client;
mod config;
mod connection;
mod connection_id;
mod cookie;
mod credential_lookup;
mod door;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod glance;
mod handshake;
mod identity;
#[cfg(feature = "keylog")]
mod key_log;
mod leaf_cache;
mod message;
mod received;
mod record;
mod revocation;
mod routability;
mod session;
#[cfg(test)]
mod tests;

pub use alert::{Alert, AlertDescription, AlertLevel};
pub use association::{Accepted, Association, accept};
pub use config::{Context, Credentials, ServerConfig};
pub use connection::SealError;
pub use connection_id::{ConnectionIdSource, RandomConnectionIds, cid_of};
pub use cookie::{COOKIE_LEN, CookieFields, CookieJar};
pub use credential_lookup::CredentialLookup;
pub use error::Error;
pub use glance::{Admission, Glance, admit, glance};
pub use identity::PeerIdentity;
#[cfg(feature = "keylog")]
pub use key_log::KeyLog;
pub use message::MaxFragmentLength;
pub use received::{Plaintexts, RECORDS_PER_DATAGRAM_MAX, Received};
pub use revocation::{NoRevocations, Revocations};
pub use routability::PathCookie;
pub use session::{
    NO_SESSIONS, ResumedBy, ResumptionRefusal, SessionCache, Sessions, TICKET_KEYS_MAX, TicketKey,
    TicketKeys,
};
