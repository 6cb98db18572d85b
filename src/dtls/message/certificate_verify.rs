//! CertificateVerify (RFC 5246 section 7.4.8).

use crate::dtls::error::Error;
use crate::wire::Reader;
#[cfg(any(test, feature = "client"))]
use crate::wire::Write;

/// The proof that the peer holds the key of its leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dtls) struct CertificateVerify<'a> {
    /// The number of the signature scheme.
    pub(in crate::dtls) scheme: u16,
    pub(in crate::dtls) signature: &'a [u8],
}

impl<'a> CertificateVerify<'a> {
    /// Reads the body of the message.
    pub(in crate::dtls) fn decode(body: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let scheme = reader.u16()?;
        let signature = reader.vec16()?;
        reader.expect_end()?;
        Ok(Self { scheme, signature })
    }

    /// Appends the body of the message.
    #[cfg(any(test, feature = "client"))]
    pub(in crate::dtls) fn emit(&self, out: &mut Vec<u8>) {
        out.put_u16(self.scheme);
        out.put_vec16(|out| out.extend_from_slice(self.signature));
    }
}
