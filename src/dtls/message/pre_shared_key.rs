//! ServerKeyExchange and ClientKeyExchange with pre-shared keys (RFC 4279 section 2, RFC 5489
//! section 2).
//!
//! ```text
//! server: hint length u16 | hint | ServerECDHParams, with ECDHE only
//! client: identity length u16 | identity | length u8 | public key, both with ECDHE only
//! ```

use super::server_key_exchange::EcdhParameters;
use crate::dtls::error::Error;
use crate::wire::{Reader, Write};

/// Appends the body of our ServerKeyExchange: no hint, as no client needs one (RFC 4279 section
/// 5.2). Without ECDHE the message is not sent at all then.
pub(in crate::dtls) fn emit_psk_server_key_exchange(
    out: &mut Vec<u8>,
    parameters: &EcdhParameters<'_>,
) {
    out.put_vec16(|_| {});
    parameters.emit(out);
}

/// What a client says of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dtls) struct PskClientKeyExchange<'a> {
    pub(in crate::dtls) identity: &'a [u8],
    /// With ECDHE.
    pub(in crate::dtls) public_key: Option<&'a [u8]>,
}

impl<'a> PskClientKeyExchange<'a> {
    /// Reads the body of the message. Any identity will do, the empty one too: whose it is shows
    /// later (RFC 4279 section 5.3 sets no limit for what a peer may send).
    pub(in crate::dtls) fn decode(body: &'a [u8], with_ecdhe: bool) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let identity = reader.vec16()?;
        let public_key = match with_ecdhe {
            true => Some(reader.vec8()?),
            false => None,
        };
        reader.expect_end()?;
        Ok(Self {
            identity,
            public_key,
        })
    }

    /// Appends the body of the message.
    #[cfg(any(test, feature = "client"))]
    pub(in crate::dtls) fn emit(&self, out: &mut Vec<u8>) {
        out.put_vec16(|out| out.extend_from_slice(self.identity));
        if let Some(public_key) = self.public_key {
            out.put_vec8(|out| out.extend_from_slice(public_key));
        }
    }
}

#[cfg(any(test, feature = "client"))]
pub(in crate::dtls) use decode::PskServerKeyExchange;

#[cfg(any(test, feature = "client"))]
mod decode {
    use super::EcdhParameters;
    use crate::dtls::error::Error;
    use crate::wire::Reader;

    /// A ServerKeyExchange as a client sees it; the hint is ignored (RFC 4279 section 5.2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(in crate::dtls) struct PskServerKeyExchange<'a> {
        /// With ECDHE.
        pub(in crate::dtls) parameters: Option<EcdhParameters<'a>>,
    }

    impl<'a> PskServerKeyExchange<'a> {
        /// Reads the body of the message.
        pub(in crate::dtls) fn decode(body: &'a [u8], with_ecdhe: bool) -> Result<Self, Error> {
            let mut reader = Reader::new(body);
            reader.vec16()?;
            let parameters = match with_ecdhe {
                true => Some(EcdhParameters::decode(&mut reader)?),
                false => None,
            };
            reader.expect_end()?;
            Ok(Self { parameters })
        }
    }
}
