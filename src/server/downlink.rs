//! From settings to the hub of subscriptions, calls and activity.

use std::sync::Arc;

use crate::auth::downlink::{Hub, HubParts, HubSettings, Registered, SubmitStrategy};
use crate::config::Config;
use crate::queue::Inbox;
use crate::registry::{DeviceChange, Registry};
use crate::shard::clock::unix_ms;
use crate::store::Store;

use super::REQUESTS_MAX;

/// A hub on these, which hears of changed credentials from now on.
pub(super) fn hub(
    config: &Config,
    registry: &Arc<dyn Registry>,
    store: &Arc<dyn Store>,
    inboxes: &Arc<[Arc<Inbox>]>,
) -> Arc<Hub> {
    let hub = Hub::new(HubParts {
        registry: Arc::clone(registry),
        store: Arc::clone(store),
        inboxes: Arc::clone(inboxes),
        settings: settings(config),
        policies: Box::new(Registered(Arc::clone(registry))),
        clock: Box::new(unix_ms),
    });
    let observer = Arc::downgrade(&hub);
    registry.set_observer(Box::new(move |device, change| {
        let Some(hub) = observer.upgrade() else {
            return;
        };
        match change {
            DeviceChange::Credential => hub.end_subscriptions(device),
            DeviceChange::Removed => hub.device_removed(device),
        }
    }));
    hub
}

fn settings(config: &Config) -> HubSettings {
    let downlink = &config.downlink;
    let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    HubSettings {
        client_call_timeout_ms: ms(downlink.client_call_timeout),
        call_timeout_min_ms: ms(downlink.call_timeout_min),
        call_timeout_ms: ms(downlink.call_timeout),
        retries_max: downlink.call_retries_max,
        submit: match &*downlink.submit_strategy {
            "SEQUENTIAL_ON_ACK_FROM_DEVICE" => SubmitStrategy::SequentialOnAck,
            "SEQUENTIAL_ON_RESPONSE_FROM_DEVICE" => SubmitStrategy::SequentialOnResponse,
            _ => SubmitStrategy::Burst,
        },
        response_timeout_ms: ms(downlink.response_timeout),
        close_on_delivery_timeout: downlink.close_on_delivery_timeout,
        psm_awake_ms: ms(downlink.psm_activity_timer),
        paging_window_ms: ms(downlink.paging_transmission_window),
        report_period_ms: ms(downlink.report_period),
        inactivity_timeout_ms: ms(downlink.inactivity_timeout),
        client_calls_max: REQUESTS_MAX / 4,
    }
}
