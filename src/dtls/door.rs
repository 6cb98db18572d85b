//! The stateless door: a ClientHello without a valid cookie is answered by a HelloVerifyRequest and
//! leaves no trace (RFC 6347 section 4.2.1).
//!
//! ```text
//! datagram -> first piece of a ClientHello, up to the cookie
//!               cookie valid    -> VerifiedHello: state may be made
//!               any other       -> HelloVerifyRequest, 44 bytes, shorter than any ClientHello
//!          -> anything else     -> dropped in silence
//! ```
//!
//! A ClientHello that is spread over several datagrams passes when its first piece reaches to the
//! end of the cookie; the pieces behind it find the handshake that the first one made. Pieces that
//! come before it are dropped, and the client's timer brings them again. Pieces within one datagram
//! are put together without memory beyond the stack.

use super::config::Context;
use super::cookie::{COOKIE_LEN, CookieFields};
use super::message::{
    Fragment, FragmentHeader, HandshakeType, HelloPrefix, MESSAGE_HEADER_LEN,
    encode_hello_verify_request,
};
use super::record::{ContentType, HEADER_LEN, RecordCursor, RecordHeader};
use crate::drop_reason::DropReason;
use crate::time::Now;
use crate::wire::Reader;

/// Longest start of a ClientHello up to the end of the cookie.
const PREFIX_MAX: usize = 2 + 32 + (1 + 32) + (1 + 255);
/// Pieces of a ClientHello that are looked at in one datagram.
const PIECES_MAX: usize = 16;
/// Highest message_seq of a ClientHello: clients send 0, 1 and, after an old cookie, a few more.
const MESSAGE_SEQ_MAX: u16 = 32;

/// What a datagram says at the door.
#[derive(Debug)]
pub(super) enum Knock {
    /// Its first record is not a piece of a ClientHello.
    Other,
    /// It is, but the start of the message is not there or cannot be read.
    Unreadable(DropReason),
    /// The start of a ClientHello.
    Hello(Hello),
}

/// The start of a ClientHello, its cookie not yet checked.
#[derive(Clone, Debug)]
pub(super) struct Hello {
    /// Of the record with the first byte of the message.
    record: RecordHeader,
    message_seq: u16,
    client_version: u16,
    random: [u8; 32],
    session_id: Bytes<32>,
    cookie: Bytes<COOKIE_LEN>,
}

/// The start of a ClientHello that came from where it says it did.
#[derive(Clone, Debug)]
pub(super) struct VerifiedHello(Hello);

/// Up to `N` bytes; more are kept as none, which no cookie equals.
#[derive(Clone, Copy, Debug)]
struct Bytes<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Bytes<N> {
    fn new(from: &[u8]) -> Self {
        let mut bytes = [0; N];
        let length = match bytes.get_mut(..from.len()) {
            Some(room) => {
                room.copy_from_slice(from);
                from.len()
            }
            None => 0,
        };
        Self { bytes, length }
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Looks at the start of a datagram. No state, no cryptography.
pub(super) fn read(datagram: &[u8]) -> Knock {
    // Datagrams of established peers are told apart by their first byte.
    if datagram.first() != Some(&(ContentType::Handshake as u8)) {
        return Knock::Other;
    }
    let mut prefix = Pieces {
        bytes: [0; PREFIX_MAX],
        length: 0,
        first: None,
        count: 0,
    };
    let mut cursor = RecordCursor::default();
    while let Some(record) = cursor.next(datagram) {
        let Ok(record) = record else { break };
        let fragments = datagram
            .get(record.range)
            .and_then(|bytes| bytes.get(HEADER_LEN..));
        let is_hello = record.header.content_type == ContentType::Handshake
            && record.header.epoch == 0
            && fragments.and_then(<[u8]>::first) == Some(&(HandshakeType::ClientHello as u8));
        if !is_hello {
            break;
        }
        let mut reader = Reader::new(fragments.unwrap_or_default());
        while !reader.is_empty() && prefix.count < PIECES_MAX {
            let Ok(fragment) = Fragment::decode(&mut reader) else {
                return prefix.malformed();
            };
            match prefix.add(record.header, &fragment) {
                Some(hello) => return Knock::Hello(hello),
                None => prefix.count += 1,
            }
        }
    }
    prefix.unfinished()
}

/// What was read of a ClientHello in one datagram, in order from its first byte.
struct Pieces {
    bytes: [u8; PREFIX_MAX],
    length: usize,
    /// The piece with the first byte, and its record.
    first: Option<(RecordHeader, FragmentHeader)>,
    count: usize,
}

impl Pieces {
    /// Adds a piece; the hello as soon as it can be read up to the cookie.
    fn add(&mut self, record: RecordHeader, fragment: &Fragment<'_>) -> Option<Hello> {
        let header = fragment.header;
        let (record, first) = match self.first {
            None if header.fragment_offset == 0 => *self.first.insert((record, header)),
            Some(first) => first,
            None => return None,
        };
        let same = (header.message_type, header.message_seq, header.length)
            == (first.message_type, first.message_seq, first.length);
        let new = self.length.checked_sub(header.fragment_offset);
        let new = new
            .and_then(|known| fragment.body.get(known..))
            .filter(|_| same)?;
        // The longest prefix fits, so bytes beyond the room are not needed.
        let (_, room) = self.bytes.split_at_mut_checked(self.length)?;
        let taken = new.len().min(room.len());
        room.get_mut(..taken)?.copy_from_slice(new.get(..taken)?);
        self.length += taken;
        let prefix = HelloPrefix::decode(&mut Reader::new(self.bytes.get(..self.length)?)).ok()?;
        Some(Hello {
            record,
            message_seq: first.message_seq,
            client_version: prefix.client_version,
            random: prefix.random,
            session_id: Bytes::new(prefix.session_id),
            cookie: Bytes::new(prefix.cookie),
        })
    }

    fn malformed(&self) -> Knock {
        match self.count {
            0 => Knock::Unreadable(DropReason::ClientHelloMalformed),
            _ => self.unfinished(),
        }
    }

    fn unfinished(&self) -> Knock {
        match self.count {
            0 => Knock::Other,
            _ => Knock::Unreadable(DropReason::ClientHelloFragmented),
        }
    }
}

impl Hello {
    /// The client's random, by which repetitions are told from new handshakes.
    pub(super) const fn random(&self) -> &[u8; 32] {
        &self.random
    }

    /// Checks the cookie. Without a valid one the client is sent one, whatever else is wrong.
    pub(super) fn verify(
        self,
        now: Now,
        peer: &[u8],
        cx: &mut Context<'_>,
    ) -> Option<VerifiedHello> {
        if self.message_seq > MESSAGE_SEQ_MAX {
            (cx.drops)(DropReason::ClientHelloMalformed);
            return None;
        }
        let fields = CookieFields {
            peer,
            client_version: self.client_version,
            random: &self.random,
            session_id: self.session_id.as_slice(),
        };
        let cookie = self.cookie.as_slice();
        if cx.cookies.verify(now.unix_ms, &fields, cookie) {
            return Some(VerifiedHello(self));
        }
        if !cookie.is_empty() {
            (cx.drops)(DropReason::CookieInvalid);
        }
        let fresh = cx.cookies.make(now.unix_ms, &fields);
        cx.out.push_datagram(&self.hello_verify_request(&fresh));
        None
    }

    /// RFC 6347 section 4.2.1 and 4.2.2: the record repeats the sequence number of the ClientHello's
    /// record, so nothing has to be remembered. The message repeats message_seq likewise.
    ///
    /// The version repeats that of the ClientHello's record. The RFC suggests DTLS 1.0, for clients
    /// that know no other: those say DTLS 1.0 in their record as well. Small stacks that say DTLS
    /// 1.2 drop records of another version.
    fn hello_verify_request(&self, cookie: &[u8; COOKIE_LEN]) -> [u8; HELLO_VERIFY_LEN] {
        let body = encode_hello_verify_request(self.record.version, cookie);
        let header = FragmentHeader::whole(
            HandshakeType::HelloVerifyRequest,
            self.message_seq,
            body.len(),
        );
        let mut datagram = [0; HELLO_VERIFY_LEN];
        let (record, message) = datagram.split_at_mut(HEADER_LEN);
        record.copy_from_slice(&self.record.encode(message.len()));
        message[..MESSAGE_HEADER_LEN].copy_from_slice(&header.encode());
        message[MESSAGE_HEADER_LEN..].copy_from_slice(&body);
        datagram
    }
}

/// Length of a datagram with a HelloVerifyRequest.
const HELLO_VERIFY_LEN: usize = HEADER_LEN + MESSAGE_HEADER_LEN + 3 + COOKIE_LEN;
/// No answer at the door is longer than what it answers: that has at least two headers, version,
/// random and two lengths.
const _: () = assert!(HELLO_VERIFY_LEN <= HEADER_LEN + MESSAGE_HEADER_LEN + 2 + 32 + 1 + 1);

impl VerifiedHello {
    pub(super) const fn random(&self) -> &[u8; 32] {
        &self.0.random
    }

    pub(super) const fn message_seq(&self) -> u16 {
        self.0.message_seq
    }

    /// Header of the record with the first byte.
    pub(super) const fn record(&self) -> RecordHeader {
        self.0.record
    }

    /// Whether `prefix`, of the whole ClientHello, is what was checked at the door.
    pub(super) fn is_start_of(&self, prefix: &HelloPrefix<'_>) -> bool {
        prefix.client_version == self.0.client_version
            && prefix.random == self.0.random
            && prefix.session_id == self.0.session_id.as_slice()
            && prefix.cookie == self.0.cookie.as_slice()
    }
}

#[cfg(test)]
mod tests;
