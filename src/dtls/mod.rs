//! DTLS 1.2 (RFC 6347), sans-IO: datagrams, time and randomness are arguments.

mod alert;
mod association;
#[cfg(any(test, feature = "client"))]
pub mod client;
mod config;
mod connection;
mod cookie;
mod door;
mod error;
mod handshake;
mod message;
mod received;
mod record;
#[cfg(test)]
mod tests;

pub use alert::{Alert, AlertDescription, AlertLevel};
pub use association::{Accepted, Association, accept};
pub use config::{Context, Credentials, ServerConfig};
pub use connection::SealError;
pub use cookie::{COOKIE_LEN, CookieFields, CookieJar};
pub use error::Error;
pub use received::{Plaintexts, RECORDS_PER_DATAGRAM_MAX, Received};
