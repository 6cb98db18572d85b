//! What crosses between a shard and the authenticator pool: a request over, a verdict back.
//!
//! Both own their bytes. Neither names DTLS or a socket, so the pool serves any transport.

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
    /// Set in the answer to a GET with Observe 0: the relation that the shard is to keep from now on
    /// (RFC 7641 section 3.1). Its token is the request's, and so is the type of its notifications.
    pub relation: Option<RelationId>,
    /// Set when `payload` is a part of the body only: the block-wise layer (RFC 7959) cuts its blocks
    /// out of it. Without it `payload` is the whole body.
    pub part: Option<Part>,
}

/// Which part of a body a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Offset of the payload's first byte in the body.
    pub offset: u64,
    /// Bytes of the whole body.
    pub total: u64,
    /// Entity tag of the body, for the ETag option.
    pub etag: u64,
}

/// An observe relation (RFC 7641), named by the pool; a name is never given twice while the server
/// runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationId(pub u64);

/// What the pool has for the observer of a relation. Notifications of a relation reach the observer
/// in the order in which they were given, none replaced by a later one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The peer that holds the relation.
    pub peer: PeerRef,
    /// The relation.
    pub relation: RelationId,
    /// Repeated in the [`RelationEvent`]s about this notification.
    pub delivery: u64,
    /// What to send. Its code is 2.05, unless the relation ends.
    pub response: Response,
    /// Whether the relation ends with it: it goes out without an Observe option then.
    pub last: bool,
}

/// What became of a relation or a notification: from the shard to the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelationEvent {
    /// The peer that holds, or held, the relation.
    pub peer: PeerRef,
    /// The relation.
    pub relation: RelationId,
    /// What happened.
    pub kind: RelationEventKind,
}

/// See [`RelationEvent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelationEventKind {
    /// This notification went out for the first time. For a non-confirmable one nothing more follows.
    Sent {
        /// From the notification.
        delivery: u64,
        /// Whether an acknowledgement is awaited.
        confirmable: bool,
    },
    /// The observer acknowledged this notification.
    Acknowledged {
        /// From the notification.
        delivery: u64,
    },
    /// The relation is over; notifications that were not acknowledged will not be. The last event of
    /// a relation, and there is one for each.
    Ended(RelationEnd),
}

/// Why a relation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelationEnd {
    /// A Reset answered a notification (RFC 7641 section 3.6).
    Reset,
    /// A confirmable notification was never acknowledged (RFC 7641 section 4.5).
    TimedOut,
    /// The observer cancelled it: GET with Observe 1 (RFC 7641 section 3.6).
    Cancelled,
    /// A new registration with the same token took its place (RFC 7641 section 4.1).
    Replaced,
    /// The session is over, or the peer is another one.
    SessionEnded,
    /// The pool ended it, by [`Notification::last`].
    Finished,
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
