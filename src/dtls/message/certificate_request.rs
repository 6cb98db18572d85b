//! CertificateRequest (RFC 5246 section 7.4.4).

use crate::crypto::signature::SignatureScheme;
use crate::wire::Write;

/// ecdsa_sign (RFC 8422 section 5.5) and rsa_sign (RFC 5246 section 7.4.4).
const CERTIFICATE_TYPES: [u8; 2] = [64, 1];

/// Appends the body of our CertificateRequest: both kinds of key, all schemes that we can check,
/// and no authorities, as any issuer will do (TB 3.2).
pub(in crate::dtls) fn emit_certificate_request(out: &mut Vec<u8>) {
    out.put_vec8(|out| out.extend_from_slice(&CERTIFICATE_TYPES));
    out.put_vec16(|out| {
        SignatureScheme::ALL
            .iter()
            .for_each(|scheme| out.put_u16(scheme.id()));
    });
    out.put_vec16(|_| {});
}

#[cfg(any(test, feature = "client"))]
pub(in crate::dtls) use decode::CertificateRequest;

#[cfg(any(test, feature = "client"))]
mod decode {
    use super::super::U16List;
    use crate::dtls::error::Error;
    use crate::wire::Reader;

    /// What the server asks of the client's certificate; the authorities are ignored.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(in crate::dtls) struct CertificateRequest<'a> {
        pub(in crate::dtls) certificate_types: &'a [u8],
        pub(in crate::dtls) signature_algorithms: U16List<'a>,
    }

    impl<'a> CertificateRequest<'a> {
        /// Reads the body of the message.
        pub(in crate::dtls) fn decode(body: &'a [u8]) -> Result<Self, Error> {
            let mut reader = Reader::new(body);
            let certificate_types = reader.vec8()?;
            let signature_algorithms = U16List::new(reader.vec16()?).ok_or(Error::Malformed)?;
            reader.vec16()?;
            reader.expect_end()?;
            Ok(Self {
                certificate_types,
                signature_algorithms,
            })
        }
    }
}
