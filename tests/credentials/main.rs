//! The server's credentials, from files that `openssl`, `keytool` and Java's own API write: every
//! kind that loads, every fault with its message, and files altered at random.
//!
//! The tools are needed. A test without its tool fails; it does not pass by doing nothing.

mod generate;
mod keystore;
mod mutation;
mod pem;
mod tools;
