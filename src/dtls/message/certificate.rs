//! Certificate (RFC 5246 section 7.4.2).

use crate::dtls::error::Error;
use crate::wire::{Reader, Write};

/// The certificates of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dtls) struct Certificate<'a> {
    /// The leaf in DER; `None` when the peer has no certificate.
    pub(in crate::dtls) leaf: Option<&'a [u8]>,
}

impl<'a> Certificate<'a> {
    /// Reads the body of the message. The certificates behind the leaf must be well framed and are
    /// otherwise ignored: the chain is not verified here, so nothing may be concluded from them.
    pub(in crate::dtls) fn decode(body: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let mut list = Reader::new(reader.vec24()?);
        reader.expect_end()?;
        let mut leaf = None;
        while !list.is_empty() {
            let certificate = list.vec24()?;
            // RFC 5246 section 7.4.2: opaque ASN.1Cert<1..2^24-1>.
            if certificate.is_empty() {
                return Err(Error::Malformed);
            }
            leaf.get_or_insert(certificate);
        }
        Ok(Self { leaf })
    }

    /// All certificates of a body that [`Self::decode`] takes, leaf first; none when there are more
    /// than `length_max`.
    pub(in crate::dtls) fn chain(body: &[u8], length_max: usize) -> Vec<Vec<u8>> {
        let certificates = || {
            let mut list = Reader::new(Reader::new(body).vec24().unwrap_or_default());
            std::iter::from_fn(move || list.vec24().ok())
        };
        if certificates().nth(length_max).is_some() {
            return Vec::new();
        }
        certificates().map(<[u8]>::to_vec).collect()
    }
}

/// Appends the body of a Certificate message with `chain`, leaf first.
pub(in crate::dtls) fn emit_certificate(out: &mut Vec<u8>, chain: &[Vec<u8>]) {
    out.put_vec24(|out| {
        for certificate in chain {
            out.put_vec24(|out| out.extend_from_slice(certificate));
        }
    });
}
