//! The server against a scripted client: every wrong order and every wrong message.

mod content;
mod order;
mod resume;
mod script;
mod session;
