//! What answers requests: the authenticator pool, the hub of downlinks, and the queues between
//! these and the shards.

use std::sync::Arc;

use super::{REQUESTS_MAX, StartError, downlink};
use crate::auth::api::{Api, ApiSettings};
use crate::auth::downlink::{Hub, HubThread};
use crate::auth::pool::Pool;
use crate::config::Config;
use crate::queue::{Inbox, RequestQueues};
use crate::registry::Registry;
use crate::registry::claim::Claims;
use crate::store::Store;
use crate::store::embedded::Opened;

/// The running pool and hub, and the ways to and from them.
pub(super) struct Workers {
    pub(super) queues: Arc<RequestQueues>,
    /// One for each shard.
    pub(super) inboxes: Arc<[Arc<Inbox>]>,
    pub(super) pool: Arc<Pool>,
    pub(super) hub: Arc<Hub>,
    pub(super) claims: Arc<Claims>,
    hub_thread: HubThread,
}

impl Workers {
    /// Starts their threads.
    ///
    /// # Errors
    /// A thread could not be made.
    pub(super) fn start(config: &Config, opened: &Opened) -> Result<Self, StartError> {
        let registry: Arc<dyn Registry> = opened.registry.clone();
        let store: Arc<dyn Store> = opened.store.clone();
        let shards = usize::from(config.tidegate.shards);
        let threads = usize::from(config.tidegate.auth_threads);
        let (queues, ends) = RequestQueues::new(shards, REQUESTS_MAX, threads);
        let inboxes: Arc<[Arc<Inbox>]> = (0..shards)
            .map(|_| Arc::new(Inbox::new(REQUESTS_MAX)))
            .collect();
        let hub = downlink::hub(config, &registry, &store, &inboxes);
        let api = Api::new(
            registry,
            Arc::clone(&store),
            Arc::clone(&hub),
            api_settings(config),
        );
        let api = Arc::new(api.with_packages(Arc::clone(&opened.packages)));
        let claims = Arc::clone(api.claims());
        let pool = Pool::start(Arc::clone(&queues), ends, Arc::clone(&inboxes), api, store)
            .map_err(|error| StartError::Process("starting the authenticator pool", error))?;
        let hub_thread = HubThread::start(&hub)
            .map_err(|error| StartError::Process("starting the downlinks' thread", error))?;
        Ok(Self {
            queues,
            inboxes,
            pool: Arc::new(pool),
            hub,
            claims,
            hub_thread,
        })
    }

    /// Handles what is queued and ends the threads. The shards must have stopped before, and the
    /// store must be closed after.
    pub(super) fn stop(&mut self) {
        self.pool.stop();
        self.hub_thread.stop();
    }
}

/// What of the device API can be set.
fn api_settings(config: &Config) -> ApiSettings {
    ApiSettings {
        type_cast: config.json.type_cast,
        string_value_length_max: config.json.max_string_value_length.unwrap_or(0),
        server_limits: config.limits.server.clone(),
        rate_limit_refusal: config.limits.refusal,
        claiming_allowed: config.claiming.allowed,
        claim_duration_ms: config.claiming.duration_ms,
    }
}
