//! ServerHello (RFC 5246 section 7.4.1.3).

use super::extension::{self, MaxFragmentLength};
use crate::dtls::record::DTLS_1_2;
use crate::wire::Write;

/// A ServerHello of ours. The session_id is empty: the session cannot be resumed.
#[derive(Clone, Copy, Debug)]
pub(in crate::dtls) struct ServerHello<'a> {
    pub(in crate::dtls) random: &'a [u8; 32],
    pub(in crate::dtls) cipher_suite: u16,
    pub(in crate::dtls) secure_renegotiation: bool,
    pub(in crate::dtls) extended_master_secret: bool,
    pub(in crate::dtls) point_formats: bool,
    pub(in crate::dtls) max_fragment_length: Option<MaxFragmentLength>,
}

impl ServerHello<'_> {
    /// Appends the body of the message.
    ///
    /// An extension is only sent to a client that offered it (RFC 5246 section 7.4.1.4), and the
    /// vector not at all when it would be empty.
    pub(in crate::dtls) fn emit(&self, out: &mut Vec<u8>) {
        out.put_u16(DTLS_1_2);
        out.extend_from_slice(self.random);
        out.put_vec8(|_| {});
        out.put_u16(self.cipher_suite);
        out.push(0);
        let Self {
            secure_renegotiation,
            extended_master_secret,
            point_formats,
            ..
        } = *self;
        let max_fragment_length = self.max_fragment_length;
        let flags = secure_renegotiation || extended_master_secret || point_formats;
        if !flags && max_fragment_length.is_none() {
            return;
        }
        out.put_vec16(|out| {
            if let Some(length) = max_fragment_length {
                extension::emit_max_fragment_length(out, length);
            }
            if secure_renegotiation {
                extension::emit_renegotiation_info(out);
            }
            if extended_master_secret {
                extension::emit(out, extension::EXTENDED_MASTER_SECRET, |_| {});
            }
            if point_formats {
                extension::emit_point_formats(out);
            }
        });
    }
}

#[cfg(any(test, feature = "client"))]
pub(in crate::dtls) use decode::ReceivedServerHello;

#[cfg(any(test, feature = "client"))]
mod decode {
    use super::super::extension::Extensions;
    use crate::dtls::error::Error;
    use crate::wire::Reader;

    /// A ServerHello as a client sees it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(in crate::dtls) struct ReceivedServerHello<'a> {
        pub(in crate::dtls) server_version: u16,
        pub(in crate::dtls) random: [u8; 32],
        pub(in crate::dtls) cipher_suite: u16,
        pub(in crate::dtls) extensions: Extensions<'a>,
    }

    impl<'a> ReceivedServerHello<'a> {
        /// Reads the body of the message; a compression is refused, as none is offered.
        pub(in crate::dtls) fn decode(body: &'a [u8]) -> Result<Self, Error> {
            let mut reader = Reader::new(body);
            let server_version = reader.u16()?;
            let random = reader.array()?;
            if reader.vec8()?.len() > 32 {
                return Err(Error::Malformed);
            }
            let cipher_suite = reader.u16()?;
            if reader.u8()? != 0 {
                return Err(Error::IllegalParameter);
            }
            let extensions = Extensions::decode(&mut reader)?;
            Ok(Self {
                server_version,
                random,
                cipher_suite,
                extensions,
            })
        }
    }
}
