//! A client's end of a session.

use crate::crypto::hash::{Hash, digest};
use crate::crypto::key_exchange::NamedGroup;
use crate::crypto::suite::CipherSuite;
use crate::dtls::handshake::MasterSecret;
use crate::dtls::message::MaxFragmentLength;

/// A session that a client can offer again (`ClientConfig::resume`), by id or by ticket. It never
/// changes, and its secret is wiped when it is dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumableSession {
    /// What the ClientHello says and the ServerHello repeats when the session goes on.
    pub(in crate::dtls) session_id: Vec<u8>,
    /// Empty when the session is offered by its id.
    pub(in crate::dtls) ticket: Vec<u8>,
    pub(in crate::dtls) master_secret: MasterSecret,
    pub(in crate::dtls) group: Option<NamedGroup>,
    pub(in crate::dtls) extended_master_secret: bool,
    pub(in crate::dtls) max_fragment_length: Option<MaxFragmentLength>,
}

impl ResumableSession {
    /// The suite of the session.
    pub fn suite(&self) -> CipherSuite {
        self.master_secret.suite()
    }

    /// The session id that is offered: the server's, or with a ticket one of our own.
    pub fn session_id(&self) -> &[u8] {
        &self.session_id
    }

    /// The server's ticket; empty when the session is offered by its id.
    pub fn ticket(&self) -> &[u8] {
        &self.ticket
    }

    /// The same session with this ticket. With a ticket the id is ours to choose: the server
    /// repeats it when it resumes, and so we know (RFC 5077 section 3.4).
    #[must_use]
    pub fn with_ticket(self, ticket: Vec<u8>) -> Self {
        let session_id = digest(Hash::Sha256, &ticket).as_ref().to_vec();
        Self {
            session_id,
            ticket,
            ..self
        }
    }

    /// The same session by this id, without a ticket.
    #[must_use]
    pub fn with_session_id(self, session_id: Vec<u8>) -> Self {
        Self {
            session_id,
            ticket: Vec::new(),
            ..self
        }
    }
}
