//! Tidegate: a CoAP-over-DTLS server for large device fleets.
//!
//! Imports point one way: `wire, time, random <- crypto <- dtls`, `wire, time, random <- coap`,
//! `dtls, coap <- endpoint <- shard <- server`; `dtls` and `coap` never name each other, and
//! `auth` sees only plain requests and verdicts.

pub mod auth;
pub mod credentials;
pub mod crypto;
pub mod drop_reason;
pub mod random;
pub mod time;
pub mod wire;
