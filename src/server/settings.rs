//! From settings to what the endpoints of all shards share.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;

use super::revocation::EndedCredentials;
use super::{REQUESTS_MAX, resumption};
use crate::auth::request::CREDENTIAL_LOOKUPS_MAX;
use crate::coap;
use crate::config::Config;
use crate::crypto::random::SystemRandom;
use crate::dtls::{self, CookieJar};
use crate::endpoint::{EndpointSettings, HOT_SESSIONS};
use crate::random::Random;
use crate::registry::Registry;

/// Plain CoAP peers remembered by one shard; the oldest makes room for a new one.
const PLAIN_PEERS_MAX: usize = 65_536;

/// Settings of the endpoints, of which `dtls` is what new handshakes get. Limits of the server are
/// divided among the shards.
pub(super) fn endpoint(
    config: &Config,
    dtls: Option<dtls::ServerConfig>,
    registry: Arc<dyn Registry>,
) -> EndpointSettings {
    let shards = usize::from(config.tidegate.shards);
    let mut master = [0; 32];
    SystemRandom.fill(&mut master);
    EndpointSettings {
        dtls: ArcSwapOption::from_pointee(dtls),
        cookies: CookieJar::new(master),
        sessions: resumption::sessions(config),
        revocations: Arc::new(EndedCredentials::new(registry)),
        coap: coap::Settings {
            piggyback_timeout: config.coap.piggyback_timeout,
            echo: config.coap.echo,
            ..coap::Settings::default()
        },
        session_inactivity_timeout: config.x509.session_inactivity_timeout,
        session_report_timeout: config
            .x509
            .session_report_timeout
            .max(Duration::from_millis(1)),
        sessions_max: config.tidegate.sessions_max.div_ceil(shards),
        handshakes_max: config.tidegate.handshakes_max.div_ceil(shards),
        handshakes_per_address: config
            .tidegate
            .handshakes_per_address
            .div_ceil(u32::from(config.tidegate.shards)),
        plain_peers_max: PLAIN_PEERS_MAX,
        requests_max: REQUESTS_MAX,
        credential_lookups_max: CREDENTIAL_LOOKUPS_MAX,
        hot_sessions: HOT_SESSIONS,
        shards: config.tidegate.shards,
        node_id: config.tidegate.node_id,
    }
}
