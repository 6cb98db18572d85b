//! Identities whose credential has ended: what a handshake must not rely on any more.
//!
//! A full handshake with a certificate proves its key anew and asks nobody. Two things outlive the
//! credential that they came from, and are checked here: a session that could be resumed, and the
//! answer to a look-up of a pre-shared key.
//!
//! Who knows that also knows whether there is any pre-shared key at all.

use std::fmt;

use super::identity::PeerIdentity;

/// Knows when the credential of an identity was removed or changed.
///
/// Asked on a shard's way, so an implementation neither waits nor reads from disk.
pub trait Revocations: fmt::Debug + Send + Sync {
    /// Whether the credential of `identity` was removed or changed at or after `since_unix_ms`
    /// (milliseconds since the UNIX epoch, of the wall clock). [`PeerIdentity::Anonymous`] has none
    /// that could end.
    ///
    /// An implementation that no longer knows says yes: a full handshake then takes the place of a
    /// resumption.
    fn is_revoked(&self, identity: &PeerIdentity, since_unix_ms: u64) -> bool;

    /// Whether any device has a pre-shared key. Without one, handshakes with such keys are refused
    /// as if their suites were not known.
    fn has_pre_shared_keys(&self) -> bool {
        false
    }
}

/// No credential ever ends: for tests and for servers without a registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoRevocations;

impl Revocations for NoRevocations {
    fn is_revoked(&self, _identity: &PeerIdentity, _since_unix_ms: u64) -> bool {
        false
    }
}
