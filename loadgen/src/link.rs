//! How a device's CoAP messages travel: bare over UDP, or in records of a DTLS session.

use std::sync::Arc;

use tidegate::crypto::random::SystemRandom;
use tidegate::dtls::client::{ClientConfig, ClientConnection, Context};
use tidegate::dtls::{Error, Received};
use tidegate::time::{Instant, Now};
use tidegate::wire::DatagramSink;

use crate::sockets::Wire;

/// The way of one device's messages.
#[derive(Debug)]
pub(crate) enum Link {
    /// CoAP over UDP.
    Plain,
    /// CoAP over DTLS.
    Secure {
        /// What the device offers.
        config: Arc<ClientConfig>,
        /// The session, or the handshake towards it.
        connection: Option<Box<ClientConnection>>,
    },
}

impl Link {
    /// Starts a handshake in place of what was there. Plain links have none.
    pub(crate) fn connect(&mut self, now: Now, mut wire: Wire<'_>) {
        if let Self::Secure { config, connection } = self {
            let mut drops = 0;
            let fresh = with_context(&mut wire, &mut drops, |cx| {
                ClientConnection::new(now, Arc::clone(config), cx)
            });
            match connection {
                Some(place) => **place = fresh,
                None => *connection = Some(Box::new(fresh)),
            }
        }
    }

    /// Takes a datagram in place; `None` when it is one plain message.
    pub(crate) fn handle_datagram(
        &mut self,
        now: Now,
        datagram: &mut [u8],
        mut wire: Wire<'_>,
    ) -> Option<Received> {
        match self {
            Self::Plain => None,
            Self::Secure {
                connection: None, ..
            } => {
                wire.counters.drops += 1;
                Some(Received::default())
            }
            Self::Secure {
                connection: Some(connection),
                ..
            } => {
                let mut drops = 0;
                let received = with_context(&mut wire, &mut drops, |cx| {
                    connection.handle_datagram(now, datagram, cx)
                });
                wire.counters.drops += drops;
                Some(received)
            }
        }
    }

    /// Sends a CoAP message; `scratch` is memory for the record.
    pub(crate) fn send(&mut self, message: &[u8], scratch: &mut Vec<u8>, mut wire: Wire<'_>) {
        match self {
            Self::Plain => wire.push_datagram(message),
            Self::Secure {
                connection: None, ..
            } => wire.counters.unsent_datagrams += 1,
            Self::Secure {
                connection: Some(connection),
                ..
            } => {
                let (prefix, suffix) = connection.record_overhead();
                scratch.clear();
                scratch.resize(prefix, 0);
                scratch.extend_from_slice(message);
                scratch.resize(prefix + message.len() + suffix, 0);
                match connection.seal_application_data(scratch) {
                    Ok(()) => wire.push_datagram(scratch),
                    Err(_) => wire.counters.unsent_datagrams += 1,
                }
            }
        }
    }

    /// Whether the server finds the session wherever a record comes from.
    pub(crate) fn has_connection_id(&self) -> bool {
        match self {
            Self::Secure {
                connection: Some(connection),
                ..
            } => !connection.peer_connection_id().is_empty(),
            Self::Plain | Self::Secure { .. } => false,
        }
    }

    /// When [`Self::handle_timeout`] is due.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        match self {
            Self::Secure {
                connection: Some(connection),
                ..
            } => connection.next_timeout(),
            Self::Plain | Self::Secure { .. } => None,
        }
    }

    /// Does what is due.
    ///
    /// # Errors
    ///
    /// Why the handshake failed.
    pub(crate) fn handle_timeout(&mut self, now: Now, mut wire: Wire<'_>) -> Result<(), Error> {
        match self {
            Self::Secure {
                connection: Some(connection),
                ..
            } => {
                let mut drops = 0;
                with_context(&mut wire, &mut drops, |cx| {
                    connection.handle_timeout(now, cx)
                })
            }
            Self::Plain | Self::Secure { .. } => Ok(()),
        }
    }

    /// Ends the session with a close_notify, if there is one.
    pub(crate) fn close(&mut self, mut wire: Wire<'_>) {
        if let Self::Secure {
            connection: Some(connection),
            ..
        } = self
        {
            let mut drops = 0;
            with_context(&mut wire, &mut drops, |cx| connection.close(cx));
        }
    }

    /// From now on offers what the server gave for the next time; whether it gave anything.
    pub(crate) fn keep_session(&mut self) -> bool {
        let Self::Secure {
            config,
            connection: Some(connection),
        } = self
        else {
            return false;
        };
        let Some(session) = connection.session() else {
            return false;
        };
        // A resumed session that got no new ticket is the one that was offered.
        if config.resume.as_deref() != Some(session) {
            *config = Arc::new(ClientConfig {
                resume: Some(Arc::new(session.clone())),
                ..ClientConfig::clone(config)
            });
        }
        true
    }

    /// Forgets the session without a word.
    pub(crate) fn forget(&mut self) {
        if let Self::Secure { connection, .. } = self {
            *connection = None;
        }
    }
}

fn with_context<T>(
    wire: &mut Wire<'_>,
    drops: &mut u64,
    step: impl FnOnce(&mut Context<'_>) -> T,
) -> T {
    step(&mut Context {
        random: &mut SystemRandom,
        out: wire,
        drops: &mut |_| *drops += 1,
    })
}
