//! ClientKeyExchange of ECDHE (RFC 8422 section 5.7).

use crate::dtls::error::Error;
use crate::wire::Reader;
#[cfg(any(test, feature = "client"))]
use crate::wire::Write;

/// The client's ephemeral public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dtls) struct ClientKeyExchange<'a> {
    pub(in crate::dtls) public_key: &'a [u8],
}

impl<'a> ClientKeyExchange<'a> {
    /// Reads the body of the message; the key is checked where it is used.
    pub(in crate::dtls) fn decode(body: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let public_key = reader.vec8()?;
        reader.expect_end()?;
        Ok(Self { public_key })
    }

    /// Appends the body of the message.
    #[cfg(any(test, feature = "client"))]
    pub(in crate::dtls) fn emit(&self, out: &mut Vec<u8>) {
        out.put_vec8(|out| out.extend_from_slice(self.public_key));
    }
}
