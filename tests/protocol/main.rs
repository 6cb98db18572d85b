//! The DTLS layer against its own client over a virtual link, and against other stacks.

#![allow(
    clippy::cast_possible_truncation,
    reason = "small numbers of a test's dice"
)]

mod allocations;
mod connection_id;
mod faults;
mod foreign;
mod fragments;
mod hostile;
mod limits;
mod link;
mod psk;
mod resume;
mod suites;
mod support;
