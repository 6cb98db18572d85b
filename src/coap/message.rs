//! Message heads and whole messages (RFC 7252 section 3), by way of coap-lite.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |Ver| T |  TKL  |      Code     |          Message ID           |
//! | Token, 0 to 8 bytes | Options ... |1 1 1 1 1 1 1 1| Payload ...
//!                       //! ```
//!
//! An answer of a code alone, which is what most are, is its head and needs no memory; all others go
//! through coap-lite's encoder.

use coap_lite::option_value::{OptionValueU16, OptionValueU32};
use coap_lite::{CoapOption, Header, HeaderRaw, MessageType, Packet};

use super::code;
use super::option::ECHO;
use crate::auth::request::{Block, Response};
use crate::drop_reason::DropReason;

/// Bytes before the token.
pub(super) const HEADER_LEN: usize = 4;
/// Bytes of the longest token (RFC 7252 section 3).
pub(super) const TOKEN_LEN_MAX: usize = 8;
/// The type in a message's first byte.
const TYPE_BITS: u8 = 0x30;
/// Bytes of the longest head.
const HEAD_LEN_MAX: usize = HEADER_LEN + TOKEN_LEN_MAX;

/// A request's token (RFC 7252 section 5.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Token {
    length: u8,
    bytes: [u8; TOKEN_LEN_MAX],
}

impl Token {
    /// `None` above eight bytes.
    pub(super) fn new(token: &[u8]) -> Option<Self> {
        let mut bytes = [0; TOKEN_LEN_MAX];
        bytes.get_mut(..token.len())?.copy_from_slice(token);
        let length = u8::try_from(token.len()).ok()?;
        Some(Self { length, bytes })
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }
}

/// What stands before the options.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Head {
    pub(super) kind: MessageType,
    pub(super) code: u8,
    pub(super) message_id: u16,
    /// `None`: a token length above eight, or above what follows; a message format error
    /// (RFC 7252 section 3).
    pub(super) token: Option<Token>,
}

impl Head {
    /// Reads the head.
    ///
    /// # Errors
    ///
    /// `CoapVersion` for a version other than 1, which MUST be silently ignored (RFC 7252
    /// section 3); `CoapMalformed` when there is no Message ID to answer with.
    pub(super) fn decode(message: &[u8]) -> Result<Self, DropReason> {
        let raw = HeaderRaw::try_from(message).map_err(|_| DropReason::CoapMalformed)?;
        let header = Header::from_raw(&raw);
        if header.get_version() != 1 {
            return Err(DropReason::CoapVersion);
        }
        let token_end = HEADER_LEN + usize::from(header.get_token_length());
        Ok(Self {
            kind: header.get_type(),
            code: u8::from(header.code),
            message_id: header.message_id,
            token: message.get(HEADER_LEN..token_end).and_then(Token::new),
        })
    }

    /// Whether `message`, of which this is the head, is a well-formed empty message: no token, and
    /// nothing after the Message ID (RFC 7252 section 4.1).
    pub(super) fn is_of_empty(&self, message: &[u8]) -> bool {
        self.code == code::EMPTY
            && self.token == Some(Token::default())
            && message.len() == HEADER_LEN
    }
}

/// An empty message: four bytes (RFC 7252 section 4.1).
pub(super) fn empty(kind: MessageType, message_id: u16) -> [u8; HEADER_LEN] {
    let [high, low] = message_id.to_be_bytes();
    [first_byte(kind, 0), code::EMPTY, high, low]
}

/// Hands `out` a message of a code alone.
pub(super) fn emit_bare(
    kind: MessageType,
    code: u8,
    message_id: u16,
    token: &Token,
    out: &mut dyn FnMut(&[u8]),
) {
    let mut bytes = [0; HEAD_LEN_MAX];
    let (header, rest) = bytes.split_at_mut(HEADER_LEN);
    let [high, low] = message_id.to_be_bytes();
    header.copy_from_slice(&[first_byte(kind, token.length), code, high, low]);
    rest.copy_from_slice(&token.bytes);
    out(&bytes[..HEADER_LEN + token.as_bytes().len()]);
}

/// What an answer or a notification carries, without its message layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Content<'a> {
    pub(super) code: u8,
    pub(super) content_format: Option<u16>,
    pub(super) max_age: Option<u32>,
    /// The sequence number of a notification (RFC 7641 section 2), 24 bits.
    pub(super) observe: Option<u32>,
    pub(super) etag: Option<u64>,
    /// What the client is to repeat (RFC 9175 section 2).
    pub(super) echo: Option<u64>,
    /// The request's Block1 option, repeated (RFC 7959 section 2.3).
    pub(super) block1: Option<Block>,
    pub(super) block2: Option<Block>,
    pub(super) size1: Option<u32>,
    pub(super) size2: Option<u32>,
    pub(super) payload: &'a [u8],
}

impl<'a> Content<'a> {
    /// A response as it is.
    pub(super) fn of(response: &'a Response) -> Self {
        Self {
            code: response.code,
            content_format: response.content_format,
            max_age: response.max_age,
            payload: &response.payload,
            ..Self::default()
        }
    }

    /// Whether it is a code alone, so that [`emit_bare`] does for it.
    pub(super) fn is_bare(&self) -> bool {
        let code = self.code;
        *self
            == Self {
                code,
                ..Self::default()
            }
    }

    /// Encodes it; `None` when it would be longer than `size_max` bytes.
    pub(super) fn encode(
        &self,
        kind: MessageType,
        message_id: u16,
        token: &Token,
        size_max: usize,
    ) -> Option<Vec<u8>> {
        let mut packet = Packet::new();
        packet.header.set_type(kind);
        packet.header.code = self.code.into();
        packet.header.message_id = message_id;
        packet.set_token(token.as_bytes().to_vec());
        if let Some(format) = self.content_format {
            packet.add_option_as(CoapOption::ContentFormat, OptionValueU16(format));
        }
        if let Some(etag) = self.etag {
            packet.add_option(CoapOption::ETag, etag.to_be_bytes().to_vec());
        }
        if let Some(echo) = self.echo {
            packet.add_option(CoapOption::Unknown(ECHO), echo.to_be_bytes().to_vec());
        }
        let numbers = [
            (CoapOption::Observe, self.observe),
            (CoapOption::MaxAge, self.max_age),
            (CoapOption::Block2, self.block2.map(block_value)),
            (CoapOption::Block1, self.block1.map(block_value)),
            (CoapOption::Size2, self.size2),
            (CoapOption::Size1, self.size1),
        ];
        for (option, number) in numbers {
            if let Some(number) = number {
                packet.add_option_as(option, OptionValueU32(number));
            }
        }
        packet.payload.extend_from_slice(self.payload);
        packet.to_bytes_with_limit(size_max).ok()
    }
}

/// A block option's value (RFC 7959 section 2.2).
pub(super) const fn block_value(block: Block) -> u32 {
    block.num << 4 | (block.more as u32) << 3 | block.size_exponent as u32
}

/// Puts another Message ID into an encoded message.
pub(super) fn set_message_id(message: &mut [u8], message_id: u16) {
    if let Some(field) = message.get_mut(2..HEADER_LEN) {
        field.copy_from_slice(&message_id.to_be_bytes());
    }
}

/// Turns a confirmable message into a non-confirmable one.
pub(super) fn make_non_confirmable(message: &mut [u8]) {
    if let Some(first) = message.first_mut() {
        *first = *first & !TYPE_BITS | first_byte(MessageType::NonConfirmable, 0);
    }
}

/// Version 1, type and token length.
const fn first_byte(kind: MessageType, token_length: u8) -> u8 {
    let kind = match kind {
        MessageType::Confirmable => 0,
        MessageType::NonConfirmable => 1,
        MessageType::Acknowledgement => 2,
        MessageType::Reset => 3,
    };
    1 << 6 | kind << 4 | token_length
}
