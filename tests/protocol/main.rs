//! The DTLS layer against its own client over a virtual link, and against other stacks.

mod foreign;
mod link;
mod suites;
mod support;
