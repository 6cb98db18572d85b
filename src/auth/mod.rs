//! The authenticator pool: who is the device, what does it ask, what is the answer.

pub mod request;
