//! What a server makes of a client's connection_id and rrc.

use super::Core;
use crate::dtls::config::Context;
use crate::dtls::connection_id::ConnectionIds;
use crate::dtls::message::ClientHello;

/// What both hellos say about connection ids.
#[derive(Clone, Debug, Default)]
pub(super) struct NegotiatedIds {
    pub(super) ids: ConnectionIds,
    /// Whether the ServerHello has the extension.
    pub(super) answered: bool,
    pub(super) return_routability_check: bool,
}

impl NegotiatedIds {
    /// Chooses our id and tells the handshake of it. RFC 9146 section 3: anew in every handshake,
    /// an abbreviated one too.
    pub(super) fn choose(hello: &ClientHello<'_>, core: &mut Core, cx: &mut Context<'_>) -> Self {
        let extensions = &hello.extensions;
        let length = core.config.connection_id_length;
        let (Some(length), Some(peer)) = (length, extensions.connection_id) else {
            return Self::default();
        };
        let local = match length {
            0 => Box::default(),
            _ => match cx.connection_ids.fresh(length, cx.random) {
                Some(id) => id,
                None => return Self::default(),
            },
        };
        let ids = ConnectionIds::new(&local, peer);
        core.local_connection_id = local;
        Self {
            ids,
            answered: true,
            // RFC 9853 section 3: only together with connection_id.
            return_routability_check: extensions.return_routability_check,
        }
    }

    /// The id in the ServerHello; may be empty.
    pub(super) fn answer(&self) -> Option<&[u8]> {
        self.answered.then(|| self.ids.local())
    }
}
