//! The running binary on real sockets: ThingsBoard's vectors, durability, settings, bad input.

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod durability;
mod lifecycle;
mod settings;
mod vectors;
