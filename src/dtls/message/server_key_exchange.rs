//! ServerKeyExchange of ECDHE (RFC 8422 section 5.4).

use crate::crypto::key_exchange::NamedGroup;
use crate::crypto::signature::SignatureScheme;
use crate::wire::Write;

/// named_curve (RFC 8422 section 5.4).
const NAMED_CURVE: u8 = 3;

/// ServerECDHParams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dtls) struct EcdhParameters<'a> {
    pub(in crate::dtls) group: NamedGroup,
    pub(in crate::dtls) public_key: &'a [u8],
}

impl EcdhParameters<'_> {
    /// What is signed: both randoms and the parameters as they are sent.
    pub(in crate::dtls) fn signed_bytes(
        &self,
        client_random: &[u8; 32],
        server_random: &[u8; 32],
    ) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + 4 + self.public_key.len());
        out.extend_from_slice(client_random);
        out.extend_from_slice(server_random);
        self.emit(&mut out);
        out
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        out.push(NAMED_CURVE);
        out.put_u16(self.group.id());
        out.put_vec8(|out| out.extend_from_slice(self.public_key));
    }
}

/// Appends the body of the message.
pub(in crate::dtls) fn emit_server_key_exchange(
    out: &mut Vec<u8>,
    parameters: &EcdhParameters<'_>,
    scheme: SignatureScheme,
    signature: &[u8],
) {
    parameters.emit(out);
    out.put_u16(scheme.id());
    out.put_vec16(|out| out.extend_from_slice(signature));
}

#[cfg(any(test, feature = "client"))]
pub(in crate::dtls) use decode::ServerKeyExchange;

#[cfg(any(test, feature = "client"))]
mod decode {
    use super::{EcdhParameters, NAMED_CURVE};
    use crate::crypto::key_exchange::NamedGroup;
    use crate::dtls::error::Error;
    use crate::wire::Reader;

    /// A ServerKeyExchange as a client sees it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(in crate::dtls) struct ServerKeyExchange<'a> {
        pub(in crate::dtls) parameters: EcdhParameters<'a>,
        /// The number of the signature scheme.
        pub(in crate::dtls) scheme: u16,
        pub(in crate::dtls) signature: &'a [u8],
    }

    impl<'a> EcdhParameters<'a> {
        /// Takes the parameters off `reader`; anything but a named curve that we know is refused.
        pub(in crate::dtls::message) fn decode(reader: &mut Reader<'a>) -> Result<Self, Error> {
            if reader.u8()? != NAMED_CURVE {
                return Err(Error::IllegalParameter);
            }
            let group = NamedGroup::from_id(reader.u16()?).ok_or(Error::IllegalParameter)?;
            Ok(Self {
                group,
                public_key: reader.vec8()?,
            })
        }
    }

    impl<'a> ServerKeyExchange<'a> {
        /// Reads the body of the message.
        pub(in crate::dtls) fn decode(body: &'a [u8]) -> Result<Self, Error> {
            let mut reader = Reader::new(body);
            let parameters = EcdhParameters::decode(&mut reader)?;
            let scheme = reader.u16()?;
            let signature = reader.vec16()?;
            reader.expect_end()?;
            Ok(Self {
                parameters,
                scheme,
                signature,
            })
        }
    }
}
