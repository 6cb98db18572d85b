//! What all endpoints of a server share.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::hot::HOT_SESSIONS;
use crate::auth::request::CREDENTIAL_LOOKUPS_MAX;
use crate::coap;
use crate::dtls;
use crate::time::Duration;

/// What all endpoints of a server share.
#[derive(Debug)]
pub struct EndpointSettings {
    /// DTLS configuration, `None` without DTLS; a replacement takes effect on handshakes that start
    /// after it.
    pub dtls: ArcSwapOption<dtls::ServerConfig>,
    /// Cookie secrets, common to all shards.
    pub cookies: dtls::CookieJar,
    /// Sessions that can be resumed, common to all shards.
    pub sessions: dtls::Sessions,
    /// Which credentials have ended, common to all shards.
    pub revocations: Arc<dyn dtls::Revocations>,
    /// CoAP message layer parameters.
    pub coap: coap::Settings,
    /// A session without traffic for this long is dropped (`TB_COAP_X509_DTLS_SESSION_INACTIVITY_TIMEOUT`).
    pub session_inactivity_timeout: Duration,
    /// Period of that sweep (`TB_COAP_X509_DTLS_SESSION_REPORT_TIMEOUT`), at least a millisecond.
    pub session_report_timeout: Duration,
    /// DTLS peers of one shard, handshakes included.
    pub sessions_max: usize,
    /// Half-open handshakes of one shard.
    pub handshakes_max: usize,
    /// Handshakes that one address may start in a minute on one shard while others wait.
    pub handshakes_per_address: u32,
    /// Plain CoAP peers of one shard.
    pub plain_peers_max: usize,
    /// Requests of one shard that the pool may have in work.
    pub requests_max: usize,
    /// Look-ups of pre-shared keys that the pool may have in work for one shard, at most
    /// [`CREDENTIAL_LOOKUPS_MAX`].
    pub credential_lookups_max: usize,
    /// Sessions of one shard that keep their keys expanded: 1.4 KB each; the others expand them anew
    /// when they are used.
    pub hot_sessions: usize,
    /// Shards of the server, to which datagrams are handed over by their connection ids.
    pub shards: u16,
    /// Second byte of connection ids of 5 bytes and more.
    pub node_id: u8,
}

impl EndpointSettings {
    /// Settings without DTLS configuration, resumption and revocations, with ThingsBoard's times and
    /// room for a thousand peers of each kind.
    pub fn new(cookies: dtls::CookieJar) -> Self {
        Self {
            dtls: ArcSwapOption::empty(),
            cookies,
            sessions: dtls::Sessions::new(None),
            revocations: Arc::new(dtls::NoRevocations),
            coap: coap::Settings::default(),
            session_inactivity_timeout: Duration::from_secs(86_400),
            session_report_timeout: Duration::from_secs(1800),
            sessions_max: 1000,
            handshakes_max: 1000,
            handshakes_per_address: 6000,
            plain_peers_max: 1000,
            requests_max: 1000,
            credential_lookups_max: CREDENTIAL_LOOKUPS_MAX,
            hot_sessions: HOT_SESSIONS,
            shards: 1,
            node_id: 0,
        }
    }
}
