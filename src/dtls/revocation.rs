//! Whether a credential still stands.

use super::identity::PeerIdentity;

/// Knows which credentials were removed or changed, and when.
pub trait Revocations: std::fmt::Debug + Send + Sync {
    /// Whether the credential of `identity` was removed or changed at or after `since_unix_ms`.
    fn is_revoked(&self, identity: &PeerIdentity, since_unix_ms: u64) -> bool;
}

/// Nothing was ever revoked.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRevocations;

impl Revocations for NoRevocations {
    fn is_revoked(&self, _: &PeerIdentity, _: u64) -> bool {
        false
    }
}
