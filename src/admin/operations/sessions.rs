//! Live DTLS sessions: of a running server only.

use super::OperationError;
use serde::{Deserialize, Serialize};

/// Which sessions are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionQuery {
    /// Where the part starts: `next_after` of the part before.
    pub after: Option<String>,
    /// Most sessions wanted.
    pub limit: usize,
    /// Only those of this device: that have proven to be it by certificate or pre-shared key, or, of
    /// a device with a token, in which it observes something.
    pub device: Option<String>,
}

/// How the peer of a session has proven who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionIdentityKind {
    /// Not at all: each of its requests has to bring a token.
    Anonymous,
    /// By the key of a certificate.
    Certificate,
    /// By a pre-shared key.
    PreSharedKey,
}

/// A session as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionView {
    /// Its name, while it lives.
    pub id: String,
    /// The shard that holds it.
    pub shard: u16,
    /// Address and port of its peer.
    pub peer: String,
    /// How the peer has proven who it is.
    pub identity: SessionIdentityKind,
    /// The device that has this identity, if one has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Its cipher suite, by IANA's name.
    pub suite: String,
    /// The connection id in records to the server, hexadecimal; empty when they have none.
    pub connection_id: String,
    /// Whether it was resumed rather than made by a full handshake.
    pub resumed: bool,
    /// Seconds since its handshake.
    pub age_s: u64,
    /// Seconds since its peer last sent anything.
    pub idle_s: u64,
}

/// A part of the sessions, shard by shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionPage {
    /// The sessions; may be none although there are more, when few of many are wanted.
    pub sessions: Vec<SessionView>,
    /// Where the next part starts; `None` on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_after: Option<String>,
}

/// What an administrator can do with sessions. Calls wait for shards, none for long.
pub trait SessionOperations: Send + Sync {
    /// A part of the live sessions.
    ///
    /// # Errors
    ///
    /// When no server runs, a shard is too busy to say, or there is no such device.
    fn sessions(&self, query: &SessionQuery) -> Result<SessionPage, OperationError>;

    /// Ends a session; its peer is told (close_notify) and may come back by another handshake.
    ///
    /// # Errors
    ///
    /// When there is no such session, or as for [`Self::sessions`].
    fn close_session(&self, id: &str) -> Result<(), OperationError>;
}
