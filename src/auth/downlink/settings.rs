//! What of downlinks can be set.

/// In which order persistent calls go out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SubmitStrategy {
    /// All at once.
    #[default]
    Burst,
    /// The next one when the device has acknowledged the one before.
    SequentialOnAck,
    /// The next one when the device has answered the one before.
    SequentialOnResponse,
}

/// Times in milliseconds; the names of the settings are ThingsBoard's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubSettings {
    /// `COAP_TIMEOUT` or `CLIENT_SIDE_RPC_TIMEOUT`, whichever is shorter: how long a device's call
    /// waits for its answer.
    pub client_call_timeout_ms: u64,
    /// `MIN_SERVER_SIDE_RPC_TIMEOUT`.
    pub call_timeout_min_ms: u64,
    /// `DEFAULT_SERVER_SIDE_RPC_TIMEOUT`.
    pub call_timeout_ms: u64,
    /// `ACTORS_RPC_MAX_RETRIES`.
    pub retries_max: u32,
    /// `ACTORS_RPC_SUBMIT_STRATEGY_TYPE`.
    pub submit: SubmitStrategy,
    /// `ACTORS_RPC_RESPONSE_TIMEOUT_MS`.
    pub response_timeout_ms: u64,
    /// `ACTORS_RPC_CLOSE_SESSION_ON_RPC_DELIVERY_TIMEOUT`.
    pub close_on_delivery_timeout: bool,
    /// `COAP_PSM_ACTIVITY_TIMER`.
    pub psm_awake_ms: u64,
    /// `COAP_PAGING_TRANSMISSION_WINDOW`.
    pub paging_window_ms: u64,
    /// `TB_TRANSPORT_SESSIONS_REPORT_TIMEOUT`.
    pub report_period_ms: u64,
    /// `DEFAULT_INACTIVITY_TIMEOUT`.
    pub inactivity_timeout_ms: u64,
    /// Most calls of devices that wait for an answer at a time, per shard: each holds one of the
    /// shard's permits.
    pub client_calls_max: usize,
}

impl Default for HubSettings {
    fn default() -> Self {
        Self {
            client_call_timeout_ms: 10_000,
            call_timeout_min_ms: 5000,
            call_timeout_ms: 10_000,
            retries_max: 5,
            submit: SubmitStrategy::Burst,
            response_timeout_ms: 30_000,
            close_on_delivery_timeout: false,
            psm_awake_ms: 10_000,
            paging_window_ms: 10_000,
            report_period_ms: 3000,
            inactivity_timeout_ms: 600_000,
            client_calls_max: 1024,
        }
    }
}

/// Of the server attributes, the one that says when its device counts as inactive, in ms.
pub(super) const INACTIVITY_TIMEOUT: &str = "inactivityTimeout";
