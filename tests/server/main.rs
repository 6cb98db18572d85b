//! The running binary on real sockets: ThingsBoard's vectors, durability, settings, bad input.

#![allow(
    clippy::disallowed_methods,
    reason = "tests of a process run by the clock"
)]

#[path = "../support/mod.rs"]
mod support;

mod amplification;
mod bad_input;
mod chain;
mod codes;
mod connection_id;
mod credentials;
mod driver;
mod durability;
mod efento;
mod features;
mod lifecycle;
mod metrics;
mod observe;
mod operator;
mod power;
mod protobuf;
mod readme;
mod settings;
mod steering;
mod unit;
mod vectors;
