//! What ends a handshake or a connection. A record that cannot be used is a
//! [`DropReason`](crate::drop_reason::DropReason) instead, and ends nothing.

use super::alert::AlertDescription;
use crate::crypto::CryptoError;
use crate::wire::Truncated;

/// Why one handshake or connection ended. Plain data; [`Self::alert`] maps it to the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Error {
    /// Malformed: a message whose lengths or structure do not fit.
    #[error("the peer sent a malformed message")]
    Malformed,
    /// Misbehaved: a message that is not allowed at this point.
    #[error("the peer sent a message out of order")]
    UnexpectedMessage,
    /// Misbehaved: a value that is not allowed, or was not offered.
    #[error("the peer sent an illegal value")]
    IllegalParameter,
    /// Misbehaved: an answer with an extension that was not asked for.
    #[error("the peer sent an extension that was not offered")]
    UnsupportedExtension,
    /// Misbehaved: a signature that does not verify.
    #[error("the peer's signature does not verify")]
    BadSignature,
    /// Misbehaved: a Finished that does not fit the handshake.
    #[error("the peer's Finished does not fit the handshake")]
    BadFinished,
    /// Incompatible: no protocol version in common.
    #[error("the peer does not speak DTLS 1.2")]
    NoCommonVersion,
    /// Incompatible: no cipher suite, group or signature algorithm in common.
    #[error("no cipher suite, group and signature algorithm in common")]
    NoCommonParameters,
    /// Incompatible: the extended master secret is required and was not offered (RFC 7627).
    #[error("the peer does not offer the extended master secret")]
    NoExtendedMasterSecret,
    /// Incompatible: a certificate that cannot be read, or whose validity does not include now.
    #[error("the peer's certificate is malformed or not valid now")]
    BadCertificate,
    /// Incompatible: a certificate with a kind of key that we do not have.
    #[error("the peer's certificate has an unsupported kind of key")]
    UnsupportedCertificate,
    /// Incompatible: a certificate that is not one of those expected.
    #[error("the peer's certificate is not trusted")]
    UntrustedCertificate,
    /// Incompatible: a credential that was removed or changed while it was being used.
    #[error("the peer's credential was removed or changed")]
    CredentialRevoked,
    /// Limit: the peer stayed silent.
    #[error("the handshake took too long")]
    TimedOut,
    /// Limit: no sequence number is left (RFC 6347 section 4.1).
    #[error("the record sequence numbers are used up")]
    SequenceExhausted,
    /// Limit: as many forged records as the algorithm can bear.
    #[error("too many forged records")]
    TooManyForgeries,
    /// The peer ended it by an alert.
    #[error("the peer sent the alert {0}")]
    PeerAlert(AlertDescription),
    /// A failure on our side.
    #[error("internal error")]
    Internal,
}

impl Error {
    /// The alert that tells the peer, if it is to be told.
    pub const fn alert(self) -> Option<AlertDescription> {
        Some(match self {
            Self::Malformed => AlertDescription::DecodeError,
            Self::UnexpectedMessage => AlertDescription::UnexpectedMessage,
            Self::IllegalParameter => AlertDescription::IllegalParameter,
            Self::UnsupportedExtension => AlertDescription::UnsupportedExtension,
            Self::BadSignature | Self::BadFinished => AlertDescription::DecryptError,
            Self::NoCommonVersion => AlertDescription::ProtocolVersion,
            Self::NoCommonParameters | Self::NoExtendedMasterSecret => {
                AlertDescription::HandshakeFailure
            }
            Self::BadCertificate => AlertDescription::BadCertificate,
            Self::UnsupportedCertificate => AlertDescription::UnsupportedCertificate,
            Self::CredentialRevoked => AlertDescription::AccessDenied,
            Self::UntrustedCertificate => AlertDescription::UnknownCa,
            Self::TooManyForgeries => AlertDescription::BadRecordMac,
            Self::Internal => AlertDescription::InternalError,
            Self::TimedOut | Self::SequenceExhausted | Self::PeerAlert(_) => return None,
        })
    }
}

impl From<Truncated> for Error {
    fn from(_: Truncated) -> Self {
        Self::Malformed
    }
}

impl From<CryptoError> for Error {
    /// For operations that only our side can make fail; what the peer can make fail is mapped
    /// where it happens.
    fn from(_: CryptoError) -> Self {
        Self::Internal
    }
}
