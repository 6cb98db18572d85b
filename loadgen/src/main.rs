//! `tidegate-loadgen`: simulates a fleet of devices against a CoAP or CoAPS server.

mod clock;
mod pacing;

fn main() {}
