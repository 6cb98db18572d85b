//! The authenticator pool: who is the device, what does it ask, what is the answer.
//!
//! ```text
//! RequestQueues --take--> worker: api::handle --Respond--> inbox of the shard
//!                                            \--Durable--> Store::append --on durable--> inbox
//! ```
//!
//! It sees plain requests and verdicts only: no socket, no session, no message layer.

pub mod api;
mod delivery;
pub mod downlink;
pub mod json;
pub mod pool;
pub mod request;
pub mod tally;
