//! Sessions that can be resumed: the cache of ids, and the keys of tickets with their rotation.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::StartError;
use crate::config::Config;
use crate::credentials::TicketKeyring;
use crate::crypto::random::SystemRandom;
use crate::dtls::{SessionCache, Sessions};
use crate::shard::clock::unix_ms;

/// How long a session can be resumed by its id: the upper limit that RFC 5246 appendix F.1.4
/// suggests.
const CACHED_FOR: Duration = Duration::from_secs(86_400);
/// How long after a failure to write the keys it is tried again, in calls of [`Tickets::tick`].
const TICKS_AFTER_FAILURE: u32 = 300;

/// The sessions that the shards share, without ticket keys yet.
pub(super) fn sessions(config: &Config) -> Sessions {
    let size = config.dtls.session_cache_size;
    Sessions::new((size > 0).then(|| SessionCache::new(size, CACHED_FOR)))
}

/// The keys of tickets, while the server runs.
#[derive(Debug)]
pub(super) struct Tickets {
    /// `None` without tickets.
    state: Option<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    keyring: TicketKeyring,
    /// Calls of `tick` to let pass.
    pause: u32,
}

impl Tickets {
    /// Reads the keys, or makes them in the data directory, which must be there.
    ///
    /// # Errors
    /// What is wrong with the file, and what to do.
    pub(super) fn open(config: &Config, data_directory: &Path) -> Result<Self, StartError> {
        let Some(lifetime) = config.dtls.ticket_lifetime.filter(|_| config.dtls.enabled) else {
            return Ok(Self { state: None });
        };
        let keyring = match &config.dtls.ticket_keys_file {
            Some(file) => TicketKeyring::shared(file, lifetime)?,
            None => {
                let now_s = unix_ms() / 1000;
                TicketKeyring::own(data_directory, lifetime, now_s, &mut SystemRandom)?
            }
        };
        if let Some(warning) = keyring.warning() {
            tracing::warn!("{warning}");
        }
        let state = State { keyring, pause: 0 };
        Ok(Self {
            state: Some(Mutex::new(state)),
        })
    }

    /// Hands the keys to the shards.
    pub(super) fn publish(&self, sessions: &Sessions) {
        if let Some(state) = &self.state {
            let state = state.lock().unwrap_or_else(PoisonError::into_inner);
            sessions.set_ticket_keys(Some(Arc::new(state.keyring.keys())));
        }
    }

    /// Rotates our own keys when it is time; to be called once a second or so.
    pub(super) fn tick(&self, sessions: &Sessions) {
        let Some(state) = &self.state else { return };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.pause > 0 {
            state.pause -= 1;
            return;
        }
        match state.keyring.rotate(unix_ms() / 1000, &mut SystemRandom) {
            Ok(false) => {}
            Ok(true) => {
                sessions.set_ticket_keys(Some(Arc::new(state.keyring.keys())));
                tracing::debug!("a new key for session tickets");
            }
            Err(error) => {
                state.pause = TICKS_AFTER_FAILURE;
                tracing::error!("the keys of session tickets stay as they are: {error}");
            }
        }
    }

    /// Reads a shared file again; one that cannot be used changes nothing.
    pub(super) fn reload(&self, sessions: &Sessions) {
        let Some(state) = &self.state else { return };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.keyring.reload() {
            Ok(()) => {
                if let Some(warning) = state.keyring.warning() {
                    tracing::warn!("{warning}");
                }
                sessions.set_ticket_keys(Some(Arc::new(state.keyring.keys())));
            }
            Err(error) => {
                tracing::error!("ticket keys not reloaded, the old ones stay: {error}");
            }
        }
    }
}
