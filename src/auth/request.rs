//! What crosses between a shard and the authenticator pool: a request over, a verdict back.
//!
//! Both own their bytes. Neither names DTLS or a socket, so the pool serves any transport.
//!
//! Beside them cross the look-ups of pre-shared keys, with queues of their own: a handshake waits for
//! the answer, and neither it nor a request stands in the other's way.

use std::sync::Arc;

use crate::crypto::pre_shared_key::PreSharedKey;

/// Most look-ups of one shard in work, queued or answered.
pub const CREDENTIAL_LOOKUPS_MAX: usize = 1024;

/// A peer of a shard. The generation tells a reused slot from the peer that had it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerRef {
    /// Index of the shard that owns the peer.
    pub shard: u16,
    /// Slot in that shard's table.
    pub slot: u32,
    /// How often that slot was taken before.
    pub generation: u32,
}

/// Who the peer's session has proven to be. It belongs to the session, never to an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Identity {
    /// Nobody: plain CoAP, or DTLS without a client certificate. A token in the path must tell.
    #[default]
    Anonymous,
    /// The holder of the key of a leaf certificate with this device fingerprint
    /// (SHA3-256 over the base64 of its DER). Whether a device has it is the registry's to say.
    Certificate([u8; 32]),
    /// The holder of a pre-shared key: SHA-256 of the PSK identity's bytes.
    PreSharedKey([u8; 32]),
}

/// A CoAP request as the pool sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Where the answer goes.
    pub peer: PeerRef,
    /// The exchange within that peer; the verdict repeats it.
    pub exchange: u32,
    /// Who asks.
    pub identity: Identity,
    /// Whether it came over DTLS.
    pub secure: bool,
    /// When it came: milliseconds since the UNIX epoch.
    pub received_unix_ms: u64,
    /// The method and options.
    pub message: RequestMessage,
}

/// The request's method, options and payload (RFC 7252 section 5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestMessage {
    /// The code byte: 1 GET, 2 POST, 3 PUT, 4 DELETE, 5 FETCH, 6 PATCH, 7 iPATCH.
    pub method: u8,
    /// The Uri-Path options, in order, as received.
    pub path: Vec<Vec<u8>>,
    /// The Uri-Query options, in order, as received.
    pub queries: Vec<Vec<u8>>,
    /// The Content-Format option.
    pub content_format: Option<u16>,
    /// The Accept option.
    pub accept: Option<u16>,
    /// The Observe option (RFC 7641): 0 register, 1 deregister.
    pub observe: Option<u32>,
    /// The payload; empty when there is none.
    pub payload: Vec<u8>,
}

/// The pool's answer to one [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// From the request.
    pub peer: PeerRef,
    /// From the request.
    pub exchange: u32,
    /// What to send.
    pub response: Response,
}

/// A CoAP response without its message layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The code byte, class in the upper three bits: 2.01 is 0x41.
    pub code: u8,
    /// The Content-Format option.
    pub content_format: Option<u16>,
    /// The Max-Age option, seconds.
    pub max_age: Option<u32>,
    /// The payload; empty when there is none.
    pub payload: Vec<u8>,
}

impl Response {
    /// A response of a code alone.
    pub fn empty(code: u8) -> Self {
        Self {
            code,
            ..Self::default()
        }
    }
}

/// A handshake's question: which key belongs to this identity?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialRequest {
    /// Where the answer goes.
    pub peer: PeerRef,
    /// The handshake within that peer; the verdict repeats it.
    pub handshake: u64,
    /// SHA-256 of the PSK identity's bytes.
    pub identity: [u8; 32],
}

/// The pool's answer to one [`CredentialRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialVerdict {
    /// What was asked.
    pub request: CredentialRequest,
    /// The key; `None` when no device has that identity.
    pub key: Option<Arc<PreSharedKey>>,
}
