//! The CoAP message layer (RFC 7252) of one peer, without a socket, clock or randomness of its own.
//!
//! Bytes in, requests out; responses in, bytes out. It knows neither DTLS nor devices.
//!
//! ```text
//! message ---> Head ---> MessageLayer ---> RequestMessage ---> (the caller)
//! bytes        message   | exchange block    option               |
//!                        | kept  observe                          |
//! message <--------------+ retransmission <---------------------- Response, Notification
//! bytes                    message_id
//! ```
//!
//! `client` is the other side, for load and tests. Bodies that are too long for a message go block by
//! block: see `block` (RFC 7959).

mod block;
#[cfg(any(feature = "client", test))]
pub mod client;
pub mod code;
mod exchange;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod kept;
mod message;
mod message_id;
mod message_layer;
mod observe;
mod option;
mod retransmission;
#[cfg(test)]
mod tests;

pub use block::Review;
pub use message_layer::MessageLayer;

use crate::auth::request::RequestMessage;
use crate::buffer::SpareBuffers;
use crate::drop_reason::DropReason;
use crate::random::Random;
use crate::time::Duration;

/// Whether a datagram begins as a CoAP message does (RFC 7252 section 3): worth a peer's place.
///
/// # Errors
///
/// Why it is to be ignored.
pub fn check_header(datagram: &[u8]) -> Result<(), DropReason> {
    match datagram {
        [first, _, _, _, ..] if first >> 6 == 1 => Ok(()),
        [_, _, _, _, ..] => Err(DropReason::CoapVersion),
        _ => Err(DropReason::CoapMalformed),
    }
}

/// Limits and times of the message layer, common to all peers of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long an answer may take before an empty ACK goes ahead of it; zero: at once.
    pub piggyback_timeout: Duration,
    /// ACK_TIMEOUT (RFC 7252 section 4.8).
    pub ack_timeout: Duration,
    /// ACK_RANDOM_FACTOR (RFC 7252 section 4.8) in percent, at least 100.
    pub ack_random_percent: u32,
    /// MAX_RETRANSMIT (RFC 7252 section 4.8).
    pub max_retransmit: u8,
    /// EXCHANGE_LIFETIME (RFC 7252 section 4.8.2).
    pub exchange_lifetime: Duration,
    /// NON_LIFETIME (RFC 7252 section 4.8.2).
    pub non_lifetime: Duration,
    /// Message IDs remembered per peer; the oldest answered one goes first.
    pub dedup_max: usize,
    /// Requests of a peer in work at a time; what is beyond is answered 5.03. Less than `dedup_max`.
    pub requests_max: usize,
    /// Separate answers of a peer that await their ACK; what is beyond goes out as NON.
    pub outgoing_max: usize,
    /// Bytes of messages kept per peer: answers with content, for requests that come again, and
    /// separate answers that await their ACK.
    pub cached_bytes_max: usize,
    /// Bytes of the longest message sent; a longer answer goes in blocks. At most 65 535.
    pub message_size_max: usize,
    /// Observe relations of a peer.
    pub relations_max: usize,
    /// Notifications that wait per relation.
    pub notifications_max: usize,
    /// Bytes of notifications kept per peer: those that wait, and those that await their ACK.
    pub notification_bytes_max: usize,
    /// Requests of a peer that come in blocks, at a time.
    pub uploads_max: usize,
    /// Bytes of the longest such request's body.
    pub upload_bytes_max: usize,
    /// Whether a plain peer has to repeat an Echo option (RFC 9175) before it may observe, or gets an
    /// answer that is longer than three times what it sent.
    pub echo: bool,
    /// Max-Age of the 5.03 for a peer with too many requests in work, seconds.
    pub busy_max_age_s: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            piggyback_timeout: Duration::from_millis(500),
            ack_timeout: Duration::from_secs(2),
            ack_random_percent: 150,
            max_retransmit: 4,
            exchange_lifetime: Duration::from_secs(247),
            non_lifetime: Duration::from_secs(145),
            dedup_max: 64,
            requests_max: 16,
            outgoing_max: 16,
            cached_bytes_max: 4096,
            message_size_max: 1152,
            relations_max: 8,
            notifications_max: 16,
            notification_bytes_max: 64 << 10,
            uploads_max: 2,
            upload_bytes_max: 64 << 10,
            echo: false,
            busy_max_age_s: 2,
        }
    }
}

/// What a call borrows from the shard.
pub struct Context<'a> {
    /// Limits and times.
    pub settings: &'a Settings,
    /// Randomness.
    pub random: &'a mut dyn Random,
    /// Takes one whole CoAP message per call, for this peer.
    pub out: &'a mut dyn FnMut(&[u8]),
    /// Memory for requests.
    pub buffers: &'a mut SpareBuffers,
}

/// What a received message came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Done with: an ACK, a reset of ours, a ping that was answered.
    Nothing,
    /// A request, for the first time. [`MessageLayer::respond`] is owed once for `exchange`.
    Request {
        /// Names the request within this peer.
        exchange: u32,
        /// The method and options.
        message: RequestMessage,
    },
    /// A request that the layer answered itself, with this code.
    Answered(u8),
    /// Discarded; where the RFC wants it, an answer from memory or a reset was sent.
    Dropped(DropReason),
}

/// What [`MessageLayer::handle_timeout`] did, for the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Separate answers and notifications sent again.
    pub retransmitted: u32,
    /// Separate answers given up: the peer acknowledged none of five copies.
    pub abandoned: u32,
    /// Empty ACKs sent, as the answers take long.
    pub acknowledged: u32,
}
