//! Handshakes (RFC 5246 section 7.3, RFC 6347 section 4.2): from a proven address to live keys.
//!
//! `reassembly` puts the peer's messages in order, `server` and `client` decide what each one means
//! in its state, `flight` sends ours and is alone in sending anything twice. All memory of a
//! handshake hangs on one box and is freed as one, whatever the end was.

#[cfg(any(test, feature = "client"))]
pub(super) mod client;
mod early;
mod final_flight;
mod flight;
mod key_schedule;
mod negotiation;
mod reassembly;
pub(super) mod server;
mod transcript;

pub(super) use early::EARLY_RECORD_MAX;
pub(super) use final_flight::FinalFlight;
pub(super) use flight::RETRANSMISSIONS_MAX;
pub(super) use key_schedule::MasterSecret;
#[cfg(feature = "fuzzing")]
pub(super) use reassembly::fuzzing::check_reassembly;

/// The parts of which the tests' scripted client is made.
#[cfg(test)]
pub(super) mod script {
    pub(in crate::dtls) use super::flight::{Flight, PlainWriter};
    pub(in crate::dtls) use super::key_schedule::{MasterSecret, Randoms, Side};
    pub(in crate::dtls) use super::transcript::Transcript;
}

use super::connection::Connection;
use super::record::ContentType;

/// How far a handshake got.
#[derive(Debug)]
pub(super) enum Progress {
    /// More is to come.
    Pending,
    /// The record is not under the keys of this handshake; it may be of an older connection.
    NotMine,
    /// The peer's Finished was right: these are the keys, and the peer is who it proved to be.
    Established(Box<Connection>),
}

/// Whether a record of epoch 0 may carry DTLS 1.0 in its header (RFC 6347 section 4.2.1): before
/// the version is settled a hello, a HelloVerifyRequest or an alert may, and nothing else. The
/// ServerHello of a server that knows no other version is among them, to be refused for it.
fn may_be_dtls_1_0(content_type: ContentType, body: &[u8]) -> bool {
    match content_type {
        ContentType::Alert => true,
        ContentType::Handshake => matches!(body.first(), Some(1..=3)),
        _ => false,
    }
}
