//! HelloVerifyRequest (RFC 6347 section 4.2.1).

use crate::dtls::cookie::COOKIE_LEN;

/// Length of the body with a cookie of ours.
pub(in crate::dtls) const HELLO_VERIFY_REQUEST_LEN: usize = 3 + COOKIE_LEN;

/// The body with a cookie of ours, without an allocation.
pub(in crate::dtls) fn encode_hello_verify_request(
    server_version: u16,
    cookie: &[u8; COOKIE_LEN],
) -> [u8; HELLO_VERIFY_REQUEST_LEN] {
    let mut body = [0; HELLO_VERIFY_REQUEST_LEN];
    body[..2].copy_from_slice(&server_version.to_be_bytes());
    body[2] = const { COOKIE_LEN.to_le_bytes()[0] };
    body[3..].copy_from_slice(cookie);
    body
}

#[cfg(any(test, feature = "client"))]
pub(in crate::dtls) use decode::HelloVerifyRequest;

#[cfg(any(test, feature = "client"))]
mod decode {
    use crate::dtls::error::Error;
    use crate::wire::Reader;

    /// A HelloVerifyRequest. Its version only tells the format (RFC 6347 section 4.2.1) and is not
    /// kept.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(in crate::dtls) struct HelloVerifyRequest<'a> {
        pub(in crate::dtls) cookie: &'a [u8],
    }

    impl<'a> HelloVerifyRequest<'a> {
        /// Reads the body of the message.
        pub(in crate::dtls) fn decode(body: &'a [u8]) -> Result<Self, Error> {
            let mut reader = Reader::new(body);
            reader.u16()?;
            let cookie = reader.vec8()?;
            reader.expect_end()?;
            Ok(Self { cookie })
        }
    }
}
