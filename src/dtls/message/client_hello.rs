//! ClientHello (RFC 5246 section 7.4.1.2, RFC 6347 section 4.2.1).

use super::U16List;
use super::extension::Extensions;
use crate::dtls::error::Error;
use crate::wire::{Reader, Truncated};

/// TLS_EMPTY_RENEGOTIATION_INFO_SCSV (RFC 5746 section 3.3).
const RENEGOTIATION_SCSV: u16 = 0x00ff;
/// The compression method that everyone has.
const NO_COMPRESSION: u8 = 0;
/// Longest session_id (RFC 5246 section 7.4.1.2).
const SESSION_ID_LEN_MAX: usize = 32;

/// The fields up to and including the cookie, all that the stateless door reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dtls) struct HelloPrefix<'a> {
    pub(in crate::dtls) client_version: u16,
    pub(in crate::dtls) random: [u8; 32],
    pub(in crate::dtls) session_id: &'a [u8],
    pub(in crate::dtls) cookie: &'a [u8],
}

impl<'a> HelloPrefix<'a> {
    /// Takes the fields off `reader`, which may hold a first piece of the message only.
    pub(in crate::dtls) fn decode(reader: &mut Reader<'a>) -> Result<Self, Truncated> {
        let client_version = reader.u16()?;
        let random = reader.array()?;
        let session_id = reader.vec8()?;
        if session_id.len() > SESSION_ID_LEN_MAX {
            return Err(Truncated);
        }
        Ok(Self {
            client_version,
            random,
            session_id,
            cookie: reader.vec8()?,
        })
    }
}

/// A ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dtls) struct ClientHello<'a> {
    pub(in crate::dtls) prefix: HelloPrefix<'a>,
    pub(in crate::dtls) cipher_suites: U16List<'a>,
    pub(in crate::dtls) extensions: Extensions<'a>,
}

impl<'a> ClientHello<'a> {
    /// Reads the body of the message.
    pub(in crate::dtls) fn decode(body: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let prefix = HelloPrefix::decode(&mut reader)?;
        let cipher_suites = U16List::new(reader.vec16()?).ok_or(Error::Malformed)?;
        // RFC 5246 section 7.4.1.2: the vector MUST contain the null method.
        if !reader.vec8()?.contains(&NO_COMPRESSION) {
            return Err(Error::IllegalParameter);
        }
        let mut extensions = Extensions::decode(&mut reader)?;
        if extensions.record_size_limit.is_some() {
            // RFC 8449 section 5: a server that knows the one MUST ignore the other beside it.
            extensions.max_fragment_length = None;
        }
        Ok(Self {
            prefix,
            cipher_suites,
            extensions,
        })
    }

    /// The host name that the client wants, if it names one (RFC 6066 section 3).
    pub(in crate::dtls) fn host_name(&self) -> Option<&'a [u8]> {
        const HOST_NAME: u8 = 0;
        let mut extension = Reader::new(self.extensions.server_name?);
        let mut names = Reader::new(extension.vec16().ok()?);
        while !names.is_empty() {
            let name_type = names.u8().ok()?;
            let name = names.vec16().ok()?;
            if name_type == HOST_NAME {
                return Some(name);
            }
        }
        None
    }

    /// Whether the client knows of RFC 5746, by suite or by extension. Section 3.6: in a first
    /// handshake the extension MUST be empty.
    pub(in crate::dtls) fn secure_renegotiation(&self) -> Result<bool, Error> {
        match self.extensions.renegotiation_info {
            Some([]) => Ok(true),
            Some(_) => Err(Error::NoCommonParameters),
            None => Ok(self.cipher_suites.contains(RENEGOTIATION_SCSV)),
        }
    }
}

#[cfg(any(test, feature = "client"))]
pub(in crate::dtls) use emit::emit_client_hello;

#[cfg(any(test, feature = "client"))]
mod emit {
    use super::super::extension;
    use super::{NO_COMPRESSION, RENEGOTIATION_SCSV};
    use crate::crypto::signature::SignatureScheme;
    use crate::dtls::client::ClientConfig;
    use crate::dtls::record::DTLS_1_2;
    use crate::dtls::session::ResumableSession;
    use crate::wire::Write;

    /// Appends the body of a client's ClientHello.
    pub(in crate::dtls) fn emit_client_hello(
        out: &mut Vec<u8>,
        config: &ClientConfig,
        random: &[u8; 32],
        cookie: &[u8],
    ) {
        out.put_u16(DTLS_1_2);
        out.extend_from_slice(random);
        let session = config.resume.as_deref();
        out.put_vec8(|out| {
            out.extend_from_slice(session.map_or(&[], ResumableSession::session_id))
        });
        out.put_vec8(|out| out.extend_from_slice(cookie));
        out.put_vec16(|out| {
            let suites = config.cipher_suites.iter();
            suites
                .filter(|suite| config.offers(**suite))
                .for_each(|suite| out.put_u16(suite.id()));
            out.put_u16(RENEGOTIATION_SCSV);
        });
        out.put_vec8(|out| out.push(NO_COMPRESSION));
        out.put_vec16(|out| {
            extension::emit(out, extension::SUPPORTED_GROUPS, |out| {
                out.put_vec16(|out| {
                    config
                        .groups
                        .iter()
                        .for_each(|group| out.put_u16(group.id()))
                });
            });
            extension::emit_point_formats(out);
            extension::emit(out, extension::SIGNATURE_ALGORITHMS, |out| {
                let schemes = SignatureScheme::ALL.iter();
                out.put_vec16(|out| schemes.for_each(|scheme| out.put_u16(scheme.id())));
            });
            if let Some(length) = config.max_fragment_length {
                extension::emit_max_fragment_length(out, length);
            }
            if let Some(limit) = config.record_size_limit {
                extension::emit_record_size_limit(out, limit);
            }
            if config.extended_master_secret {
                extension::emit(out, extension::EXTENDED_MASTER_SECRET, |_| {});
            }
            if let Some(id) = &config.connection_id {
                extension::emit_connection_id(out, id);
                // RFC 9853 section 3: only together with connection_id.
                if config.return_routability_check {
                    extension::emit(out, extension::RETURN_ROUTABILITY_CHECK, |_| {});
                }
            }
            if let Some(name) = &config.server_name {
                extension::emit_server_name(out, name);
            }
            if config.offers_session_ticket() {
                // RFC 5077 section 3.2: empty when there is none yet.
                let ticket = session.map_or(&[][..], ResumableSession::ticket);
                extension::emit(out, extension::SESSION_TICKET, |out| {
                    out.extend_from_slice(ticket);
                });
            }
        });
    }
}
