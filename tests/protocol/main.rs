//! The DTLS layer against its own client over a virtual link, and against other stacks.

mod faults;
mod foreign;
mod fragments;
mod hostile;
mod link;
mod suites;
mod support;
