//! Hello extensions (RFC 5246 section 7.4.1.4): those that we know, read in one pass.

use super::U16List;
use crate::dtls::error::Error;
use crate::dtls::record::limit::RECORD_SIZE_LIMIT_MIN;
use crate::wire::{Reader, Write};

/// server_name, RFC 6066 section 3.
pub(super) const SERVER_NAME: u16 = 0;
/// max_fragment_length, RFC 6066 section 4.
pub(super) const MAX_FRAGMENT_LENGTH: u16 = 1;
/// supported_groups, RFC 8422 section 5.1.1.
pub(super) const SUPPORTED_GROUPS: u16 = 10;
/// ec_point_formats, RFC 8422 section 5.1.2.
pub(super) const EC_POINT_FORMATS: u16 = 11;
/// signature_algorithms, RFC 5246 section 7.4.1.4.1.
pub(super) const SIGNATURE_ALGORITHMS: u16 = 13;
/// extended_master_secret, RFC 7627 section 5.1.
pub(super) const EXTENDED_MASTER_SECRET: u16 = 23;
/// record_size_limit, RFC 8449 section 4.
pub(super) const RECORD_SIZE_LIMIT: u16 = 28;
/// session_ticket, RFC 5077 section 3.2.
pub(super) const SESSION_TICKET: u16 = 35;
/// connection_id, RFC 9146 section 3.
pub(super) const CONNECTION_ID: u16 = 54;
/// rrc, RFC 9853 section 3.
pub(super) const RETURN_ROUTABILITY_CHECK: u16 = 61;
/// renegotiation_info, RFC 5746 section 3.2.
pub(super) const RENEGOTIATION_INFO: u16 = 0xff01;

/// The point format that everyone has (RFC 8422 section 5.1.2).
pub(in crate::dtls) const UNCOMPRESSED: u8 = 0;

/// Extensions in one hello; real clients send fewer than twenty.
const EXTENSIONS_MAX: usize = 64;

/// What a client with little memory asks for: records of no more plaintext than this, in both
/// directions (RFC 6066 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MaxFragmentLength {
    /// 512 bytes.
    Bytes512 = 1,
    /// 1024 bytes.
    Bytes1024 = 2,
    /// 2048 bytes.
    Bytes2048 = 3,
    /// 4096 bytes.
    Bytes4096 = 4,
}

impl MaxFragmentLength {
    /// The limit in bytes of plaintext.
    pub const fn bytes(self) -> usize {
        256 << self as u8
    }

    pub(in crate::dtls) const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Bytes512,
            2 => Self::Bytes1024,
            3 => Self::Bytes2048,
            4 => Self::Bytes4096,
            _ => return None,
        })
    }
}

/// The extensions of a hello that concern us; others are ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::dtls) struct Extensions<'a> {
    /// The body of server_name: a list from a client, nothing from a server.
    pub(in crate::dtls) server_name: Option<&'a [u8]>,
    pub(in crate::dtls) max_fragment_length: Option<MaxFragmentLength>,
    pub(in crate::dtls) supported_groups: Option<U16List<'a>>,
    pub(in crate::dtls) ec_point_formats: Option<&'a [u8]>,
    pub(in crate::dtls) signature_algorithms: Option<U16List<'a>>,
    pub(in crate::dtls) extended_master_secret: bool,
    /// The most bytes of plaintext that the sender takes in a record.
    pub(in crate::dtls) record_size_limit: Option<u16>,
    /// The ticket; empty from one that has none, and from a server.
    pub(in crate::dtls) session_ticket: Option<&'a [u8]>,
    /// The id that the sender wants to find in records that are sent to it; may be empty.
    pub(in crate::dtls) connection_id: Option<&'a [u8]>,
    /// The sender knows the return routability check.
    pub(in crate::dtls) return_routability_check: bool,
    /// The renegotiated_connection field.
    pub(in crate::dtls) renegotiation_info: Option<&'a [u8]>,
    /// Whether there was one that we do not know.
    pub(in crate::dtls) unknown: bool,
}

impl<'a> Extensions<'a> {
    /// Reads what is left of a hello: nothing, or the vector of extensions and the end.
    ///
    /// RFC 5246 section 7.4.1.4: there MUST NOT be more than one extension of the same type.
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let mut extensions = Self::default();
        if reader.is_empty() {
            return Ok(extensions);
        }
        let mut list = Reader::new(reader.vec16()?);
        reader.expect_end()?;
        let mut types = [0; EXTENSIONS_MAX];
        let mut count = 0;
        while !list.is_empty() {
            let extension_type = list.u16()?;
            let body = list.vec16()?;
            let seen = types.get(..count).unwrap_or_default();
            if seen.contains(&extension_type) {
                return Err(Error::Malformed);
            }
            *types.get_mut(count).ok_or(Error::Malformed)? = extension_type;
            count += 1;
            extensions.take(extension_type, body)?;
        }
        Ok(extensions)
    }

    fn take(&mut self, extension_type: u16, body: &'a [u8]) -> Result<(), Error> {
        let mut reader = Reader::new(body);
        match extension_type {
            // RFC 6066 section 4: another value is illegal_parameter.
            MAX_FRAGMENT_LENGTH => {
                let length = MaxFragmentLength::from_code(reader.u8()?);
                self.max_fragment_length = Some(length.ok_or(Error::IllegalParameter)?);
            }
            SUPPORTED_GROUPS => {
                self.supported_groups =
                    Some(U16List::new(reader.vec16()?).ok_or(Error::Malformed)?);
            }
            EC_POINT_FORMATS => self.ec_point_formats = Some(reader.vec8()?),
            SIGNATURE_ALGORITHMS => {
                self.signature_algorithms =
                    Some(U16List::new(reader.vec16()?).ok_or(Error::Malformed)?);
            }
            EXTENDED_MASTER_SECRET => self.extended_master_secret = true,
            SERVER_NAME => {
                check_server_names(body)?;
                self.server_name = Some(reader.rest());
            }
            RECORD_SIZE_LIMIT => {
                // RFC 8449 section 4: a smaller limit MUST be treated as illegal_parameter.
                let limit = reader.u16()?;
                if limit < RECORD_SIZE_LIMIT_MIN {
                    return Err(Error::IllegalParameter);
                }
                self.record_size_limit = Some(limit);
            }
            SESSION_TICKET => self.session_ticket = Some(reader.rest()),
            CONNECTION_ID => self.connection_id = Some(reader.vec8()?),
            RETURN_ROUTABILITY_CHECK => self.return_routability_check = true,
            RENEGOTIATION_INFO => self.renegotiation_info = Some(reader.vec8()?),
            _ => {
                self.unknown = true;
                reader.rest();
            }
        }
        reader.expect_end()?;
        Ok(())
    }
}

/// RFC 6066 section 3: a list of names, each a type and a length of 16 bits; nothing from a server.
fn check_server_names(body: &[u8]) -> Result<(), Error> {
    if body.is_empty() {
        return Ok(());
    }
    let mut reader = Reader::new(body);
    let mut names = Reader::new(reader.vec16()?);
    reader.expect_end()?;
    while !names.is_empty() {
        names.u8()?;
        if names.vec16()?.is_empty() {
            return Err(Error::Malformed);
        }
    }
    Ok(())
}

/// Appends one extension.
pub(super) fn emit(out: &mut Vec<u8>, extension_type: u16, body: impl FnOnce(&mut Vec<u8>)) {
    out.put_u16(extension_type);
    out.put_vec16(body);
}

/// Appends ec_point_formats with the one format that we have.
pub(super) fn emit_point_formats(out: &mut Vec<u8>) {
    emit(out, EC_POINT_FORMATS, |out| {
        out.put_vec8(|out| out.push(UNCOMPRESSED))
    });
}

/// Appends the renegotiation_info of a first handshake (RFC 5746 section 3.2: empty).
pub(super) fn emit_renegotiation_info(out: &mut Vec<u8>) {
    emit(out, RENEGOTIATION_INFO, |out| out.put_vec8(|_| {}));
}

/// Appends max_fragment_length.
pub(super) fn emit_max_fragment_length(out: &mut Vec<u8>, length: MaxFragmentLength) {
    emit(out, MAX_FRAGMENT_LENGTH, |out| out.push(length as u8));
}

/// Appends a client's server_name with one host_name (RFC 6066 section 3).
#[cfg(any(test, feature = "client"))]
pub(super) fn emit_server_name(out: &mut Vec<u8>, name: &str) {
    emit(out, SERVER_NAME, |out| {
        out.put_vec16(|out| {
            out.push(0);
            out.put_vec16(|out| out.extend_from_slice(name.as_bytes()));
        });
    });
}

/// Appends record_size_limit.
pub(super) fn emit_record_size_limit(out: &mut Vec<u8>, limit: u16) {
    emit(out, RECORD_SIZE_LIMIT, |out| out.put_u16(limit));
}

/// Appends connection_id.
pub(super) fn emit_connection_id(out: &mut Vec<u8>, id: &[u8]) {
    emit(out, CONNECTION_ID, |out| {
        out.put_vec8(|out| out.extend_from_slice(id))
    });
}
