//! What crosses between a shard and the authenticator pool: a request over, a verdict back.
//!
//! Both own their bytes. Neither names DTLS or a socket, so the pool serves any transport. A request
//! is one piece of memory, which goes back to its shard with the verdict and is used again there: a
//! shard under steady load allocates nothing.
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

/// The request's method, options and payload (RFC 7252 section 5), all of it in one buffer.
///
/// ```text
/// bytes   | length, Uri-Path | ... | length, Uri-Query | ... | payload |
///         0                    path_end               queries_end
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestMessage {
    /// The code byte: 1 GET, 2 POST, 3 PUT, 4 DELETE, 5 FETCH, 6 PATCH, 7 iPATCH.
    pub method: u8,
    /// The Content-Format option.
    pub content_format: Option<u16>,
    /// The Accept option.
    pub accept: Option<u16>,
    /// The Observe option (RFC 7641): 0 register, 1 deregister.
    pub observe: Option<u32>,
    /// The Block2 option (RFC 7959): the part of the answer that is wanted. Whoever has the whole body
    /// at hand need not look at it.
    pub block2: Option<Block>,
    bytes: Vec<u8>,
    path_end: usize,
    queries_end: usize,
}

impl RequestMessage {
    /// A request of a method alone.
    pub fn new(method: u8) -> Self {
        Self::in_buffer(method, Vec::new())
    }

    /// The same in the memory of `buffer`; what is in it goes.
    pub fn in_buffer(method: u8, mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Self {
            method,
            bytes: buffer,
            ..Self::default()
        }
    }

    /// The memory, for another request.
    pub fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }

    /// The Uri-Path options, in order, as received.
    pub fn path(&self) -> OptionValues<'_> {
        OptionValues(self.bytes.get(..self.path_end).unwrap_or_default())
    }

    /// The Uri-Query options, in order, as received.
    pub fn queries(&self) -> OptionValues<'_> {
        let queries = self.bytes.get(self.path_end..self.queries_end);
        OptionValues(queries.unwrap_or_default())
    }

    /// The payload; empty when there is none.
    pub fn payload(&self) -> &[u8] {
        self.bytes.get(self.queries_end..).unwrap_or_default()
    }

    /// Adds a Uri-Path option. Costs a copy of the payload if there is one already.
    ///
    /// `false`, and nothing is added, above 255 bytes, which no such option has.
    pub fn push_segment(&mut self, segment: &[u8]) -> bool {
        let added = self.insert(self.path_end, segment);
        self.path_end += added;
        self.queries_end += added;
        added > 0
    }

    /// Adds a Uri-Query option, like [`Self::push_segment`].
    pub fn push_query(&mut self, query: &[u8]) -> bool {
        let added = self.insert(self.queries_end, query);
        self.queries_end += added;
        added > 0
    }

    /// Replaces the payload.
    pub fn set_payload(&mut self, payload: &[u8]) {
        self.bytes.truncate(self.queries_end);
        self.bytes.extend_from_slice(payload);
    }

    /// Puts `more` behind the payload.
    pub(crate) fn append_payload(&mut self, more: &[u8]) {
        self.bytes.extend_from_slice(more);
    }

    /// Whether `other` asks the same of the same resource, whatever the payloads (RFC 7252 section 5.4.6).
    pub(crate) fn is_alike(&self, other: &Self) -> bool {
        self.method == other.method
            && self.path_end == other.path_end
            && self.bytes.get(..self.queries_end) == other.bytes.get(..other.queries_end)
            && self.content_format == other.content_format
            && self.accept == other.accept
    }

    /// The same request with these Uri-Path options behind those that it has.
    #[must_use]
    pub fn with_path<T: AsRef<[u8]>>(mut self, segments: impl IntoIterator<Item = T>) -> Self {
        for segment in segments {
            self.push_segment(segment.as_ref());
        }
        self
    }

    /// The same request with these Uri-Query options behind those that it has.
    #[must_use]
    pub fn with_queries<T: AsRef<[u8]>>(mut self, queries: impl IntoIterator<Item = T>) -> Self {
        for query in queries {
            self.push_query(query.as_ref());
        }
        self
    }

    /// The same request with this payload.
    #[must_use]
    pub fn with_payload(mut self, payload: impl AsRef<[u8]>) -> Self {
        self.set_payload(payload.as_ref());
        self
    }

    /// Makes room for `length` bytes of options and payload: at most one allocation, then none.
    pub(crate) fn reserve(&mut self, length: usize) {
        self.bytes.reserve(length);
    }

    /// Bytes of options and payload together.
    pub(crate) fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// All bytes of options and payload.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Inserts a value with its length before it; returns by how much the buffer grew.
    fn insert(&mut self, at: usize, value: &[u8]) -> usize {
        let Ok(length) = u8::try_from(value.len()) else {
            return 0;
        };
        if at == self.bytes.len() {
            self.bytes.push(length);
            self.bytes.extend_from_slice(value);
        } else {
            let value = std::iter::once(length).chain(value.iter().copied());
            self.bytes.splice(at..at, value);
        }
        1 + value.len()
    }
}

/// A block of a body (RFC 7959 section 2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// Which one, in blocks of its size; below 2^20.
    pub num: u32,
    /// Whether there are more behind it; without meaning in a request's Block2 option.
    pub more: bool,
    /// SZX: its size is 2^(SZX + 4) bytes, with SZX from 0 to 6.
    pub size_exponent: u8,
}

impl Block {
    /// Its size in bytes; the last one of a body may be shorter.
    pub const fn size(self) -> usize {
        16 << self.size_exponent
    }

    /// Offset of its first byte in the body.
    pub const fn offset(self) -> u64 {
        (self.num as u64) << (self.size_exponent as u32 + 4)
    }

    /// The bytes of the body that it has, if the body is that long.
    pub const fn range(self) -> std::ops::Range<u64> {
        self.offset()..self.offset() + self.size() as u64
    }
}

/// Values of an option that can come several times.
#[derive(Clone, Debug)]
pub struct OptionValues<'a>(&'a [u8]);

impl<'a> Iterator for OptionValues<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (&length, rest) = self.0.split_first()?;
        let (value, rest) = rest.split_at_checked(usize::from(length))?;
        self.0 = rest;
        Some(value)
    }
}

impl Request {
    /// The answer to this request, which takes its memory back to the shard.
    pub fn into_verdict(self, response: Response) -> Verdict {
        Verdict {
            peer: self.peer,
            exchange: self.exchange,
            response,
            buffer: self.message.into_buffer(),
        }
    }
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
    /// Memory of the request, that the shard uses again.
    pub buffer: Vec<u8>,
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
    /// Whether anybody gets this answer, so that it proves nothing of who asked.
    pub is_public: bool,
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
    /// The pool ended it: by [`Notification::last`], by a code other than 2.xx, or by an answer without
    /// a relation to a registration with the same token.
    Finished,
    /// The session has too many relations, or too many notifications wait: it was never opened, or it
    /// is closed.
    Limit,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn values(values: OptionValues<'_>) -> Vec<&[u8]> {
        values.collect()
    }

    #[test]
    fn options_come_back_in_order_whatever_the_order_of_their_coming() {
        let plain = RequestMessage::new(2)
            .with_path(["api", "", "v1"])
            .with_queries(["a=1", ""])
            .with_payload("{}");
        let mixed = RequestMessage::new(2)
            .with_payload("[]")
            .with_queries(["a=1"])
            .with_path(["api"])
            .with_queries([""])
            .with_path(["", "v1"])
            .with_payload("{}");
        assert_eq!(plain, mixed);
        assert_eq!(values(plain.path()), [&b"api"[..], b"", b"v1"]);
        assert_eq!(values(plain.queries()), [&b"a=1"[..], b""]);
        assert_eq!(plain.payload(), b"{}");
        let bare = RequestMessage::new(1);
        assert_eq!((bare.path().count(), bare.queries().count()), (0, 0));
        assert_eq!(bare.payload(), b"");
    }

    #[test]
    fn a_value_that_no_option_can_have_is_refused() {
        let mut message = RequestMessage::new(1).with_payload("x");
        assert!(message.push_segment(&[7; 255]) && !message.push_segment(&[7; 256]));
        assert!(message.push_query(&[8; 255]) && !message.push_query(&[8; 300]));
        assert_eq!(values(message.path()), [&[7; 255][..]]);
        assert_eq!(values(message.queries()), [&[8; 255][..]]);
        assert_eq!(message.payload(), b"x");
    }

    #[test]
    fn memory_goes_from_request_to_verdict_to_request() {
        let message = RequestMessage::in_buffer(2, Vec::with_capacity(500)).with_path(["a"]);
        let request = Request {
            peer: PeerRef {
                shard: 1,
                slot: 2,
                generation: 3,
            },
            exchange: 4,
            identity: Identity::Anonymous,
            secure: false,
            received_unix_ms: 0,
            message,
        };
        let peer = request.peer;
        let verdict = request.into_verdict(Response::empty(0x41));
        assert_eq!((verdict.peer, verdict.exchange), (peer, 4));
        assert_eq!(verdict.buffer.capacity(), 500);
        let next = RequestMessage::in_buffer(1, verdict.buffer);
        assert_eq!(
            next,
            RequestMessage::new(1),
            "nothing of the old one is left"
        );
    }
}
