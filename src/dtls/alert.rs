//! Alerts (RFC 5246 section 7.2): two bytes, level and description.

/// How grave an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AlertLevel {
    /// The connection may go on.
    Warning = 1,
    /// The connection ends.
    Fatal = 2,
}

macro_rules! descriptions {
    ($($variant:ident = $code:literal $name:literal,)+) => {
        /// What an alert says; the names are those of RFC 5246 section 7.2.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "the variants are the names of the RFC")]
        pub enum AlertDescription {
            $($variant,)+
            /// A number without a name here.
            Other(u8),
        }

        impl AlertDescription {
            /// The number on the wire.
            pub const fn code(self) -> u8 {
                match self { $(Self::$variant => $code,)+ Self::Other(code) => code }
            }

            /// The alert with this number.
            pub const fn from_code(code: u8) -> Self {
                match code { $($code => Self::$variant,)+ other => Self::Other(other) }
            }

            /// The name in the RFC.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ Self::Other(_) => "unknown" }
            }
        }
    };
}

descriptions! {
    CloseNotify = 0 "close_notify",
    UnexpectedMessage = 10 "unexpected_message",
    BadRecordMac = 20 "bad_record_mac",
    RecordOverflow = 22 "record_overflow",
    HandshakeFailure = 40 "handshake_failure",
    BadCertificate = 42 "bad_certificate",
    UnsupportedCertificate = 43 "unsupported_certificate",
    CertificateRevoked = 44 "certificate_revoked",
    CertificateExpired = 45 "certificate_expired",
    CertificateUnknown = 46 "certificate_unknown",
    IllegalParameter = 47 "illegal_parameter",
    UnknownCa = 48 "unknown_ca",
    AccessDenied = 49 "access_denied",
    DecodeError = 50 "decode_error",
    DecryptError = 51 "decrypt_error",
    ProtocolVersion = 70 "protocol_version",
    InsufficientSecurity = 71 "insufficient_security",
    InternalError = 80 "internal_error",
    UserCanceled = 90 "user_canceled",
    NoRenegotiation = 100 "no_renegotiation",
    UnsupportedExtension = 110 "unsupported_extension",
}

impl std::fmt::Display for AlertDescription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name(), self.code())
    }
}

/// One alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alert {
    /// How grave it is.
    pub level: AlertLevel,
    /// What it says.
    pub description: AlertDescription,
}

impl Alert {
    /// An alert that ends the connection.
    pub const fn fatal(description: AlertDescription) -> Self {
        Self {
            level: AlertLevel::Fatal,
            description,
        }
    }

    /// An alert after which the connection may go on.
    pub const fn warning(description: AlertDescription) -> Self {
        Self {
            level: AlertLevel::Warning,
            description,
        }
    }

    /// Reads an alert; a level that does not exist, or another length, is `None`.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let &[level, code] = bytes else { return None };
        let level = match level {
            1 => AlertLevel::Warning,
            2 => AlertLevel::Fatal,
            _ => return None,
        };
        Some(Self {
            level,
            description: AlertDescription::from_code(code),
        })
    }

    /// The two bytes on the wire.
    pub const fn encode(self) -> [u8; 2] {
        [self.level as u8, self.description.code()]
    }

    /// Whether the connection ends with it; close_notify ends it at any level.
    pub fn ends_connection(self) -> bool {
        self.level == AlertLevel::Fatal || self.description == AlertDescription::CloseNotify
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_read_back_and_nonsense_is_refused() {
        for code in 0..=255 {
            let alert = Alert::fatal(AlertDescription::from_code(code));
            assert_eq!(alert.encode(), [2, code]);
            assert_eq!(Alert::decode(&alert.encode()), Some(alert));
        }
        for bad in [&[][..], &[1], &[0, 0], &[3, 0], &[1, 0, 0]] {
            assert_eq!(Alert::decode(bad), None);
        }
        assert!(Alert::warning(AlertDescription::CloseNotify).ends_connection());
        assert!(!Alert::warning(AlertDescription::NoRenegotiation).ends_connection());
    }
}
