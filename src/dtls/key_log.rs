//! Where the secrets of handshakes go so that captures can be decrypted (feature `keylog`).

/// Takes secrets: whoever has them can read, and forge, everything of their session.
pub trait KeyLog: std::fmt::Debug + Send + Sync {
    /// A handshake, full or abbreviated, whose ClientHello had this random has agreed on this master
    /// secret. Called before the peer's Finished is checked; must not wait.
    fn log(&self, client_random: &[u8; 32], master_secret: &[u8; 48]);
}
