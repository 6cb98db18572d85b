//! What the registry knows of ended credentials, in the terms of DTLS and of the shards.

use std::fmt;
use std::sync::Arc;

use crate::dtls::{PeerIdentity, Revocations};
use crate::queue::Inbox;
use crate::registry::Registry;
use crate::registry::revocation::{RevocationList, SessionIdentity};

/// The registry as handshakes see it.
pub(super) struct EndedCredentials(Arc<dyn Registry>);

impl EndedCredentials {
    pub(super) fn new(registry: Arc<dyn Registry>) -> Self {
        Self(registry)
    }
}

impl Revocations for EndedCredentials {
    fn is_revoked(&self, identity: &PeerIdentity, since_unix_ms: u64) -> bool {
        let identity = match *identity {
            PeerIdentity::Anonymous => return false,
            PeerIdentity::Certificate(fingerprint) => SessionIdentity::Certificate(fingerprint),
            PeerIdentity::PreSharedKey(identity) => SessionIdentity::PreSharedKey(identity),
        };
        self.0.revocations().is_revoked(&identity, since_unix_ms)
    }

    fn has_pre_shared_keys(&self) -> bool {
        self.0.has_pre_shared_keys()
    }
}

impl fmt::Debug for EndedCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EndedCredentials")
    }
}

/// Has every shard look for sessions when a credential ends.
pub(super) fn tell(list: &RevocationList, inboxes: Arc<[Arc<Inbox>]>) {
    list.set_observer(move |unix_ms| {
        for inbox in inboxes.iter() {
            inbox.revoke_since(unix_ms);
        }
    });
}
