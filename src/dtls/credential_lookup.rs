//! What a handshake with a pre-shared key asks of whoever has the keys.

/// A question: which key belongs to this identity?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialLookup {
    /// Tells the handshakes of a peer apart; random.
    pub handshake: u64,
    /// SHA-256 of the PSK identity's bytes.
    pub identity: [u8; 32],
}
