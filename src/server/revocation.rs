//! What the registry knows of ended credentials, in the terms of DTLS and of the shards.

use std::sync::Arc;

use crate::dtls::{PeerIdentity, Revocations};
use crate::queue::Inbox;
use crate::registry::revocation::{RevocationList, SessionIdentity};

/// The registry's list as handshakes see it.
#[derive(Debug)]
pub(super) struct EndedCredentials(Arc<RevocationList>);

impl EndedCredentials {
    pub(super) fn new(list: &Arc<RevocationList>) -> Self {
        Self(Arc::clone(list))
    }
}

impl Revocations for EndedCredentials {
    fn is_revoked(&self, identity: &PeerIdentity, since_unix_ms: u64) -> bool {
        let identity = match *identity {
            PeerIdentity::Anonymous => return false,
            PeerIdentity::Certificate(fingerprint) => SessionIdentity::Certificate(fingerprint),
            PeerIdentity::PreSharedKey(identity) => SessionIdentity::PreSharedKey(identity),
        };
        self.0.is_revoked(&identity, since_unix_ms)
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
