//! Holes that other stacks of DTLS and CoAP had, tried on this one.
//!
//! `list` names every case with the rule that it taught, and the tests that try it: those of this
//! target, and those that stand elsewhere. A test here names its cases.

#![allow(
    clippy::cast_possible_truncation,
    reason = "small numbers of a test's dice"
)]

mod authentication;
mod denial;
mod handshake;
#[path = "../protocol/link.rs"]
#[allow(dead_code, reason = "shared with tests/protocol")]
mod link;
mod list;
mod records;
mod site;
#[path = "../protocol/support.rs"]
#[allow(dead_code, reason = "shared with tests/protocol")]
mod support;
mod wire;
