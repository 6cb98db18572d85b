//! Options of a request: format, and what each one means to this server (RFC 7252 sections 3.1, 5.4).
//!
//! ```text
//!  0   1   2   3   4   5   6   7
//! |  Option Delta | Option Length |   0-12: the number itself; 13: one byte follows, plus 13;
//! |  more of Option Delta, 0-2    |   14: two bytes follow, plus 269; 15: error, but for the
//! |  more of Option Length, 0-2   |   payload marker 0xff
//! |  Option Value                 |
//! ```
//!
//! | Number | Name | Here |
//! |---|---|---|
//! | 1 | If-Match | no resource has an entity tag: the empty value holds, any other is 4.12 |
//! | 3, 7 | Uri-Host, Uri-Port | any; there is one host |
//! | 4 | ETag | ignored: nothing is ever validated |
//! | 5 | If-None-Match | 4.12: what can be asked for exists |
//! | 6, 11, 12, 15, 17 | Observe, Uri-Path, Content-Format, Uri-Query, Accept | passed on |
//! | 23, 27, 28, 60, 292 | Block2, Block1, Size2, Size1, Request-Tag | see `block` (RFC 7959, RFC 9175) |
//! | 252 | Echo | see `message_layer::proof` (RFC 9175); one that we did not make is ignored |
//! | 35, 39 | Proxy-Uri, Proxy-Scheme | 5.05 (RFC 7252 section 5.7.2) |
//! | 258 | No-Response | honoured (RFC 7967) |
//! | other, odd | critical | 4.02 (RFC 7252 section 5.4.1) |
//! | other, even | elective | ignored |
//!
//! Requests are read by walking over their bytes rather than by `coap_lite::Packet::from_bytes`, which
//! makes a list node and a vector per option: 12 allocations and about 300 ns for a telemetry upload,
//! as much as all the rest of the layer. The tests hold the walk against coap-lite, which encodes all that is sent. Nor is
//! coap-lite's leniency wanted: it takes a payload marker at the end.
//!
//! A value whose length is out of range, and every occurrence after the first of an option that is
//! not repeatable, counts as an option that is not known (RFC 7252 sections 5.4.3, 5.4.5).

use std::hash::{DefaultHasher, Hash, Hasher};

use super::code;
use crate::auth::request::{Block, RequestMessage, Response};
use crate::buffer::SpareBuffers;
use crate::wire::Reader;

/// Options of one request; more are refused with 4.00 before anything is stored.
pub(super) const OPTIONS_MAX: usize = 64;

const IF_MATCH: u16 = 1;
const URI_HOST: u16 = 3;
const IF_NONE_MATCH: u16 = 5;
pub(super) const OBSERVE: u16 = 6;
const URI_PORT: u16 = 7;
const URI_PATH: u16 = 11;
const CONTENT_FORMAT: u16 = 12;
const URI_QUERY: u16 = 15;
const ACCEPT: u16 = 17;
pub(super) const BLOCK2: u16 = 23;
pub(super) const BLOCK1: u16 = 27;
const SIZE2: u16 = 28;
const PROXY_URI: u16 = 35;
const PROXY_SCHEME: u16 = 39;
const SIZE1: u16 = 60;
pub(super) const ECHO: u16 = 252;
const NO_RESPONSE: u16 = 258;
const REQUEST_TAG: u16 = 292;

const PAYLOAD_MARKER: u8 = 0xff;

/// A message format error (RFC 7252 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Walks over what follows a token: first the options, then the payload.
#[derive(Clone, Debug)]
pub(super) struct Options<'a> {
    reader: Reader<'a>,
    number: u16,
}

impl<'a> Options<'a> {
    /// `bytes` begin after the token.
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            reader: Reader::new(bytes),
            number: 0,
        }
    }

    /// The next option's number and value; `None` at the payload or the end.
    ///
    /// # Errors
    ///
    /// A reserved nibble, a value longer than the message, or a number above 65 535.
    pub(super) fn next_option(&mut self) -> Result<Option<(u16, &'a [u8])>, Malformed> {
        let mut ahead = self.reader;
        let Ok(byte) = ahead.u8() else {
            return Ok(None);
        };
        if byte == PAYLOAD_MARKER {
            return Ok(None);
        }
        let delta = extended(byte >> 4, &mut ahead)?;
        let length = extended(byte & 0x0f, &mut ahead)?;
        let number = u32::from(self.number) + delta;
        self.number = u16::try_from(number).map_err(|_| Malformed)?;
        let value = ahead.bytes(length as usize).map_err(|_| Malformed)?;
        self.reader = ahead;
        Ok(Some((self.number, value)))
    }

    /// The payload, once all options were taken.
    ///
    /// # Errors
    ///
    /// A marker followed by nothing MUST be a message format error (RFC 7252 section 3).
    pub(super) fn payload(mut self) -> Result<&'a [u8], Malformed> {
        match (self.reader.u8(), self.reader.rest()) {
            (Err(_), _) => Ok(&[]),
            (Ok(PAYLOAD_MARKER), payload) if !payload.is_empty() => Ok(payload),
            _ => Err(Malformed),
        }
    }
}

/// Reads on after a nibble of 13 or 14; 15 is reserved (RFC 7252 section 3.1).
fn extended(nibble: u8, reader: &mut Reader<'_>) -> Result<u32, Malformed> {
    match nibble {
        0..=12 => Ok(u32::from(nibble)),
        13 => reader
            .u8()
            .map(|more| u32::from(more) + 13)
            .map_err(|_| Malformed),
        14 => reader
            .u16()
            .map(|more| u32::from(more) + 269)
            .map_err(|_| Malformed),
        _ => Err(Malformed),
    }
}

/// Checks the format of what follows a token, and counts the options.
pub(super) fn check_format(bytes: &[u8]) -> Result<usize, Malformed> {
    let mut options = Options::new(bytes);
    let mut count = 0;
    while options.next_option()?.is_some() {
        count += 1;
    }
    options.payload()?;
    Ok(count)
}

/// Reads a request from what follows its token, into a spare buffer if there is one.
pub(super) fn evaluate(
    method: u8,
    bytes: &[u8],
    buffers: &mut SpareBuffers,
) -> Result<Evaluated, Malformed> {
    let options = check_format(bytes)?;
    let mut evaluated = Evaluated::new(method, buffers.take());
    // No option takes more than it does here, so this is the only time that memory is asked for.
    evaluated.message.reserve(bytes.len());
    if options > OPTIONS_MAX {
        evaluated.refuse(Refusal::TooManyOptions);
        return Ok(evaluated);
    }
    let mut options = Options::new(bytes);
    let mut last = None;
    while let Some((number, value)) = options.next_option()? {
        evaluated.add(number, value, last == Some(number));
        last = Some(number);
    }
    evaluated.message.set_payload(options.payload()?);
    Ok(evaluated)
}

/// Why a request is not passed on; the greatest of several is told to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Refusal {
    /// 4.12: If-Match or If-None-Match does not hold (RFC 7252 section 5.10.8).
    PreconditionFailed,
    /// 4.05: a method code that is not assigned (RFC 7252 section 5.8).
    UnknownMethod,
    /// 5.05: a proxy is wanted (RFC 7252 section 5.10.2).
    Proxying,
    /// 4.00: a block size exponent of 7 (RFC 7959 section 2.2).
    ReservedBlockSize,
    /// A critical option that is not known: 4.02 for CON, rejected for NON
    /// (RFC 7252 section 5.4.1).
    UnknownCritical(u16),
    /// 4.00: more than [`OPTIONS_MAX`] options.
    TooManyOptions,
}

impl Refusal {
    pub(super) fn response(self) -> Response {
        match self {
            Self::PreconditionFailed => Response::empty(code::PRECONDITION_FAILED),
            Self::UnknownMethod => Response::empty(code::METHOD_NOT_ALLOWED),
            Self::Proxying => Response::empty(code::PROXYING_NOT_SUPPORTED),
            Self::ReservedBlockSize | Self::TooManyOptions => Response::empty(code::BAD_REQUEST),
            // "SHOULD include a diagnostic payload" (RFC 7252 section 5.4.1).
            Self::UnknownCritical(number) => Response {
                code: code::BAD_OPTION,
                payload: format!("option {number}").into_bytes(),
                ..Response::default()
            },
        }
    }
}

/// What the options of a request ask of the message layer itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    /// The Block1 option: which block of the request's body this is.
    pub(super) block1: Option<Block>,
    /// The Size1 option: how long the whole body will be.
    pub(super) size1: Option<u32>,
    /// The Size2 option: the size of the answer's body is asked for.
    pub(super) size2: bool,
    /// The Request-Tag options, if there are any, in short (RFC 9175 section 3).
    pub(super) request_tag: Option<u64>,
    /// The Echo option, if it is of the length of ours (RFC 9175 section 2).
    pub(super) echo: Option<u64>,
    /// The No-Response option: bit n stands for answers of class n + 1 (RFC 7967 section 2.1).
    pub(super) no_response: u8,
}

/// A request as far as its options tell, without its payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Evaluated {
    pub(super) message: RequestMessage,
    pub(super) wishes: Wishes,
    pub(super) refusal: Option<Refusal>,
}

impl Evaluated {
    /// A request of a method, before its options, in the memory of `buffer`.
    pub(super) fn new(method: u8, buffer: Vec<u8>) -> Self {
        let known = (code::GET..=code::IPATCH).contains(&method);
        Self {
            message: RequestMessage::in_buffer(method, buffer),
            wishes: Wishes::default(),
            refusal: (!known).then_some(Refusal::UnknownMethod),
        }
    }

    /// Takes one option; `again` when the one before had the same number.
    pub(super) fn add(&mut self, number: u16, value: &[u8], again: bool) {
        let repeatable = matches!(number, IF_MATCH | URI_PATH | URI_QUERY | REQUEST_TAG);
        let known = (!again || repeatable) && self.take(number, value);
        if !known && number & 1 == 1 {
            self.refuse(Refusal::UnknownCritical(number));
        }
    }

    /// Takes one value; `false` when the option or such a value of it is not known.
    fn take(&mut self, number: u16, value: &[u8]) -> bool {
        let message = &mut self.message;
        match (number, value.len()) {
            (URI_PATH, _) => return message.push_segment(value),
            (URI_QUERY, _) => return message.push_query(value),
            (CONTENT_FORMAT, 0..=2) => message.content_format = u16_of(value),
            (ACCEPT, 0..=2) => message.accept = u16_of(value),
            (OBSERVE, 0..=3) => message.observe = Some(uint_of(value)),
            (URI_HOST, 1..=255) | (URI_PORT, 0..=2) | (IF_MATCH, 0) => {}
            (IF_MATCH, 1..=8) | (IF_NONE_MATCH, 0) => self.refuse(Refusal::PreconditionFailed),
            (BLOCK1 | BLOCK2, 0..=3) => self.take_block(number, uint_of(value)),
            (SIZE1, 0..=4) => self.wishes.size1 = Some(uint_of(value)),
            (SIZE2, 0..=4) => self.wishes.size2 = true,
            (REQUEST_TAG, 0..=8) => {
                let mut hash = DefaultHasher::new();
                (self.wishes.request_tag, value).hash(&mut hash);
                self.wishes.request_tag = Some(hash.finish());
            }
            (PROXY_URI, 1..=1034) | (PROXY_SCHEME, 1..=255) => self.refuse(Refusal::Proxying),
            (ECHO, 1..=40) => {
                self.wishes.echo = value.try_into().ok().map(u64::from_be_bytes);
            }
            (NO_RESPONSE, 0..=1) => {
                self.wishes.no_response = value.first().copied().unwrap_or_default();
            }
            _ => return false,
        }
        true
    }

    /// A block option's value: number, more flag, size exponent (RFC 7959 section 2.2).
    fn take_block(&mut self, number: u16, value: u32) {
        let block = Block {
            num: value >> 4,
            more: value & 0x08 != 0,
            size_exponent: (value & 0x07) as u8,
        };
        if block.size_exponent == 7 {
            self.refuse(Refusal::ReservedBlockSize);
        } else if number == BLOCK1 {
            self.wishes.block1 = Some(block);
        } else {
            self.message.block2 = Some(block);
            // What follows a notification's first block is fetched, not observed (RFC 7959 section 2.6).
            if block.num > 0 {
                self.message.observe = None;
            }
        }
    }

    pub(super) fn refuse(&mut self, refusal: Refusal) {
        self.refusal = self.refusal.max(Some(refusal));
    }
}

/// An unsigned number of any length; leading zeros are allowed (RFC 7252 section 3.2).
pub(super) fn uint_of(value: &[u8]) -> u32 {
    value
        .iter()
        .fold(0, |number, &byte| number << 8 | u32::from(byte))
}

fn u16_of(value: &[u8]) -> Option<u16> {
    u16::try_from(uint_of(value)).ok()
}
