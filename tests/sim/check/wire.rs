//! Records and the few handshake messages that the checkers look into, read with code of their own.

use std::net::SocketAddr;

const HANDSHAKE: u8 = 22;
const CONNECTION_ID: u8 = 25;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const HELLO_VERIFY_REQUEST: u8 = 3;
const RECORD_HEADER_LEN: usize = 13;
const MESSAGE_HEADER_LEN: usize = 12;

/// Where a datagram came from or goes to: a shard and an address.
pub(crate) type Place = (usize, SocketAddr);

/// A record as on the wire (RFC 6347 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) content_type: u8,
    pub(crate) epoch: u16,
    pub(crate) sequence: u64,
    /// Empty but in records with a connection id (RFC 9146 section 4).
    pub(crate) connection_id: &'a [u8],
    pub(crate) body: &'a [u8],
    /// Header and body.
    pub(crate) bytes: &'a [u8],
}

/// The records of a datagram to an end whose connection ids have `id_len` bytes; what cannot be read
/// ends them.
pub(crate) fn records(mut datagram: &[u8], id_len: usize) -> Vec<Record<'_>> {
    let mut records = Vec::new();
    while let Some(&content_type) = datagram.first() {
        let id_len = if content_type == CONNECTION_ID {
            id_len
        } else {
            0
        };
        let header_len = RECORD_HEADER_LEN + id_len;
        let Some((header, rest)) = datagram.split_at_checked(header_len) else {
            break;
        };
        let length = [header[header_len - 2], header[header_len - 1]];
        let length = usize::from(u16::from_be_bytes(length));
        let Some((body, rest)) = rest.split_at_checked(length) else {
            break;
        };
        let mut number = [0; 8];
        number.copy_from_slice(&header[3..11]);
        let number = u64::from_be_bytes(number);
        records.push(Record {
            content_type,
            epoch: u16::from_be_bytes([header[3], header[4]]),
            sequence: number & 0xffff_ffff_ffff,
            connection_id: &header[11..11 + id_len],
            body,
            bytes: &datagram[..header_len + length],
        });
        datagram = rest;
    }
    records
}

impl<'a> Record<'a> {
    /// The body of a handshake message in the clear, when its start is in this record.
    fn message(&self, message_type: u8) -> Option<&'a [u8]> {
        let (header, body) = self.body.split_at_checked(MESSAGE_HEADER_LEN)?;
        let is_start = header[6..9] == [0, 0, 0];
        let plain = self.content_type == HANDSHAKE && self.epoch == 0;
        (plain && is_start && header[0] == message_type).then_some(body)
    }

    /// The cookie of a HelloVerifyRequest: version, length, cookie.
    pub(crate) fn issued_cookie(&self) -> Option<&'a [u8]> {
        let body = self.message(HELLO_VERIFY_REQUEST)?;
        let length = usize::from(*body.get(2)?);
        body.get(3..3 + length)
    }

    /// The cookie of a ClientHello: version, random, session id, cookie.
    pub(crate) fn returned_cookie(&self) -> Option<&'a [u8]> {
        let body = self.message(CLIENT_HELLO)?;
        let session_id = usize::from(*body.get(34)?);
        let length = usize::from(*body.get(35 + session_id)?);
        body.get(36 + session_id..36 + session_id + length)
    }

    /// The server's random of a ServerHello, behind the version.
    pub(crate) fn server_random(&self) -> Option<[u8; 32]> {
        let body = self.message(SERVER_HELLO)?;
        body.get(2..34)?.try_into().ok()
    }
}
