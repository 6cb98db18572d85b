//! ServerHello (RFC 5246 section 7.4.1.3).

use super::extension::{self, MaxFragmentLength};
use crate::dtls::record::DTLS_1_2;
use crate::wire::Write;

/// A ServerHello of ours.
#[derive(Clone, Copy, Debug)]
pub(in crate::dtls) struct ServerHello<'a> {
    pub(in crate::dtls) random: &'a [u8; 32],
    /// Up to 32 bytes; empty when the session cannot be resumed by it.
    pub(in crate::dtls) session_id: &'a [u8],
    pub(in crate::dtls) cipher_suite: u16,
    /// An empty server_name says that the client's was used (RFC 6066 section 3).
    pub(in crate::dtls) server_name: bool,
    pub(in crate::dtls) secure_renegotiation: bool,
    pub(in crate::dtls) extended_master_secret: bool,
    pub(in crate::dtls) point_formats: bool,
    pub(in crate::dtls) max_fragment_length: Option<MaxFragmentLength>,
    pub(in crate::dtls) record_size_limit: Option<u16>,
    /// A NewSessionTicket will come (RFC 5077 section 3.2).
    pub(in crate::dtls) session_ticket: bool,
    /// The id that is to stand in records to us; may be empty.
    pub(in crate::dtls) connection_id: Option<&'a [u8]>,
    /// Only together with `connection_id` (RFC 9853 section 3).
    pub(in crate::dtls) return_routability_check: bool,
}

impl ServerHello<'_> {
    /// Appends the body of the message.
    ///
    /// An extension is only sent to a client that offered it (RFC 5246 section 7.4.1.4), and the
    /// vector not at all when it would be empty.
    pub(in crate::dtls) fn emit(&self, out: &mut Vec<u8>) {
        out.put_u16(DTLS_1_2);
        out.extend_from_slice(self.random);
        out.put_vec8(|out| out.extend_from_slice(self.session_id));
        out.put_u16(self.cipher_suite);
        out.push(0);
        let start = out.len();
        out.put_vec16(|out| self.emit_extensions(out));
        if out.len() == start + 2 {
            out.truncate(start);
        }
    }

    fn emit_extensions(&self, out: &mut Vec<u8>) {
        if self.server_name {
            extension::emit(out, extension::SERVER_NAME, |_| {});
        }
        if let Some(length) = self.max_fragment_length {
            extension::emit_max_fragment_length(out, length);
        }
        if self.secure_renegotiation {
            extension::emit_renegotiation_info(out);
        }
        if self.extended_master_secret {
            extension::emit(out, extension::EXTENDED_MASTER_SECRET, |_| {});
        }
        if self.point_formats {
            extension::emit_point_formats(out);
        }
        if let Some(limit) = self.record_size_limit {
            extension::emit_record_size_limit(out, limit);
        }
        if self.session_ticket {
            extension::emit(out, extension::SESSION_TICKET, |_| {});
        }
        if let Some(id) = self.connection_id {
            extension::emit_connection_id(out, id);
        }
        if self.return_routability_check {
            extension::emit(out, extension::RETURN_ROUTABILITY_CHECK, |_| {});
        }
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
        pub(in crate::dtls) session_id: &'a [u8],
        pub(in crate::dtls) cipher_suite: u16,
        pub(in crate::dtls) extensions: Extensions<'a>,
    }

    impl<'a> ReceivedServerHello<'a> {
        /// Reads the body of the message; a compression is refused, as none is offered.
        pub(in crate::dtls) fn decode(body: &'a [u8]) -> Result<Self, Error> {
            let mut reader = Reader::new(body);
            let server_version = reader.u16()?;
            let random = reader.array()?;
            let session_id = reader.vec8()?;
            if session_id.len() > 32 {
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
                session_id,
                cipher_suite,
                extensions,
            })
        }
    }
}
