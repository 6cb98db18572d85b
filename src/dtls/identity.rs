//! Who the peer of a session has proven to be.

/// The identity of a session. It exists only once the peer's Finished was right, belongs to the
/// session and never to an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PeerIdentity {
    /// Nobody in particular: the client has no certificate.
    #[default]
    Anonymous,
    /// The holder of the key of a leaf certificate with this device fingerprint (SHA3-256 over the
    /// base64 of its DER).
    Certificate([u8; 32]),
    /// The holder of a pre-shared key: SHA-256 of the PSK identity's bytes.
    PreSharedKey([u8; 32]),
}

impl PeerIdentity {
    /// The certificate's device fingerprint, if it is one's.
    pub const fn fingerprint(&self) -> Option<[u8; 32]> {
        match self {
            Self::Certificate(fingerprint) => Some(*fingerprint),
            Self::Anonymous | Self::PreSharedKey(_) => None,
        }
    }
}
