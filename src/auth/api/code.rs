//! The response codes in use (RFC 7252 section 12.1.2), class in the upper three bits.

/// 2.01 Created.
pub const CREATED: u8 = 0x41;
/// 2.05 Content.
pub const CONTENT: u8 = 0x45;
/// 4.00 Bad Request.
pub const BAD_REQUEST: u8 = 0x80;
/// 4.01 Unauthorized.
pub const UNAUTHORIZED: u8 = 0x81;
/// 4.04 Not Found.
pub const NOT_FOUND: u8 = 0x84;
/// 4.05 Method Not Allowed.
pub const METHOD_NOT_ALLOWED: u8 = 0x85;
/// 4.13 Request Entity Too Large.
pub const REQUEST_ENTITY_TOO_LARGE: u8 = 0x8d;
/// 4.29 Too Many Requests (RFC 8516).
pub const TOO_MANY_REQUESTS: u8 = 0x9d;
/// 5.00 Internal Server Error.
pub const INTERNAL_SERVER_ERROR: u8 = 0xa0;
/// 5.03 Service Unavailable.
pub const SERVICE_UNAVAILABLE: u8 = 0xa3;
/// 5.04 Gateway Timeout.
pub const GATEWAY_TIMEOUT: u8 = 0xa4;
