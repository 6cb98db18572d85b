//! Method and response codes by name (RFC 7252 section 12.1), class in the upper three bits.

/// 0.00, an empty message.
pub const EMPTY: u8 = 0x00;
/// 0.01
pub const GET: u8 = 0x01;
/// 0.02
pub const POST: u8 = 0x02;
/// 0.03
pub const PUT: u8 = 0x03;
/// 0.04
pub const DELETE: u8 = 0x04;
/// 0.05 (RFC 8132)
pub const FETCH: u8 = 0x05;
/// 0.06 (RFC 8132)
pub const PATCH: u8 = 0x06;
/// 0.07 (RFC 8132)
pub const IPATCH: u8 = 0x07;
/// 2.01
pub const CREATED: u8 = 0x41;
/// 2.05
pub const CONTENT: u8 = 0x45;
/// 2.31 (RFC 7959)
pub const CONTINUE: u8 = 0x5f;
/// 4.00
pub const BAD_REQUEST: u8 = 0x80;
/// 4.01
pub const UNAUTHORIZED: u8 = 0x81;
/// 4.02
pub const BAD_OPTION: u8 = 0x82;
/// 4.04
pub const NOT_FOUND: u8 = 0x84;
/// 4.05
pub const METHOD_NOT_ALLOWED: u8 = 0x85;
/// 4.06
pub const NOT_ACCEPTABLE: u8 = 0x86;
/// 4.08 (RFC 7959)
pub const REQUEST_ENTITY_INCOMPLETE: u8 = 0x88;
/// 4.12
pub const PRECONDITION_FAILED: u8 = 0x8c;
/// 4.13
pub const REQUEST_ENTITY_TOO_LARGE: u8 = 0x8d;
/// 5.00
pub const INTERNAL_SERVER_ERROR: u8 = 0xa0;
/// 5.03
pub const SERVICE_UNAVAILABLE: u8 = 0xa3;
/// 5.05
pub const PROXYING_NOT_SUPPORTED: u8 = 0xa5;

/// What kind of message a code makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// 0.00
    Empty,
    /// 0.01 to 0.31
    Request,
    /// 2.00 to 5.31
    Response,
    /// Classes 1, 6 and 7
    Reserved,
}

pub(super) const fn class(code: u8) -> Class {
    match (code >> 5, code) {
        (_, EMPTY) => Class::Empty,
        (0, _) => Class::Request,
        (2..=5, _) => Class::Response,
        _ => Class::Reserved,
    }
}
