//! Tidegate: a CoAP-over-DTLS server for large device fleets.
//!
//! Imports point one way: `wire, time, random <- crypto <- dtls`, `wire, time, random <- coap`,
//! `dtls, coap <- endpoint <- shard <- server`; `dtls` and `coap` never name each other, and
//! `auth` sees only plain requests and verdicts.

#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        reason = "numbers of a test are small"
    )
)]

pub mod admin;
pub mod auth;
pub mod buffer;
pub mod cli;
pub mod coap;
pub mod config;
pub mod credentials;
pub mod crypto;
pub mod doctor;
pub mod drop_reason;
pub mod dtls;
pub mod endpoint;
pub mod histogram;
pub mod logging;
pub mod metrics;
pub mod pace;
pub mod queue;
pub mod random;
pub mod registry;
pub mod server;
pub mod shard;
pub mod slab;
pub mod store;
pub mod time;
pub mod timer_wheel;
pub mod wire;
