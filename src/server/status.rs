//! What the admin interface is told about the running server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Addresses;
use crate::admin::StatusSource;
use crate::auth::pool::Pool;
use crate::dtls::{ResumedBy, ResumptionRefusal, Sessions};
use crate::endpoint::EndpointSettings;
use crate::metrics::{Counter, Encoder, ShardMetrics};
use crate::registry::Registry;
use crate::shard::DriverKind;
use crate::store::Store;

/// The server's counters and state, read by other threads.
pub(super) struct ServerStatus {
    metrics: Vec<Arc<ShardMetrics>>,
    pool: Arc<Pool>,
    store: Arc<dyn Store>,
    registry: Arc<dyn Registry>,
    settings: Arc<EndpointSettings>,
    addresses: Addresses,
    driver: DriverKind,
    ready: AtomicBool,
}

impl ServerStatus {
    pub(super) fn new(
        metrics: Vec<Arc<ShardMetrics>>,
        pool: Arc<Pool>,
        store: Arc<dyn Store>,
        registry: Arc<dyn Registry>,
        settings: Arc<EndpointSettings>,
        addresses: Addresses,
        driver: DriverKind,
    ) -> Self {
        Self {
            metrics,
            pool,
            store,
            registry,
            settings,
            addresses,
            driver,
            ready: AtomicBool::new(false),
        }
    }

    /// Whether devices are served from now on.
    pub(super) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    fn sum(&self, counter: Counter) -> u64 {
        self.metrics.iter().map(|shard| shard.value(counter)).sum()
    }
}

impl StatusSource for ServerStatus {
    fn shards(&self) -> Vec<Arc<ShardMetrics>> {
        self.metrics.clone()
    }

    fn healthy(&self) -> Result<(), String> {
        match self.store.status().failure {
            None => Ok(()),
            Some(failure) => Err(format!(
                "the store has failed and takes nothing until a restart: {failure}"
            )),
        }
    }

    fn ready(&self) -> Result<(), String> {
        self.healthy()?;
        if self.ready.load(Ordering::Acquire) {
            Ok(())
        } else {
            Err("starting or stopping".into())
        }
    }

    fn encode(&self, encoder: &mut Encoder) {
        let devices = self.registry.len();
        encoder.single("tidegate_devices", "gauge", "Registered devices.", devices);
        let name = "tidegate_driver_info";
        encoder.family(
            name,
            "gauge",
            "1 for the way in which datagrams travel (TIDEGATE_DRIVER).",
        );
        let label = format!("driver=\"{}\"", self.driver.name());
        encoder.sample(name, &label, 1);
        let store = self.store.status();
        let gauges = [
            (
                "tidegate_store_pending_bytes",
                "Bytes accepted and not durable yet.",
                store.pending_bytes,
            ),
            (
                "tidegate_store_head_bytes",
                "Bytes durable and not yet in the queryable part on disk.",
                store.head_bytes,
            ),
            (
                "tidegate_store_up",
                "1 while the store takes uploads.",
                u64::from(store.failure.is_none()),
            ),
        ];
        for (name, help, value) in gauges {
            encoder.single(name, "gauge", help, value);
        }
        let counters = [
            (
                "tidegate_store_records_total",
                "Uploads made durable.",
                store.records,
            ),
            (
                "tidegate_store_record_bytes_total",
                "Bytes of uploads made durable.",
                store.record_bytes,
            ),
            (
                "tidegate_store_commits_total",
                "Group commits.",
                store.commits,
            ),
            (
                "tidegate_store_overloads_total",
                "Batches refused because too much waited.",
                store.overloads,
            ),
            (
                "tidegate_store_flushes_total",
                "Flushes into the queryable part.",
                store.flushes,
            ),
            (
                "tidegate_store_flush_failures_total",
                "Flushes that failed.",
                store.flush_failures,
            ),
        ];
        for (name, help, value) in counters {
            encoder.single(name, "counter", help, value);
        }
        encode_resumption(&self.settings.sessions, encoder);
        let pool = self.pool.counts();
        encoder.single(
            "tidegate_pool_requests_total",
            "counter",
            "Requests taken by the pool.",
            pool.requests,
        );
        encoder.single(
            "tidegate_pool_panics_total",
            "counter",
            "Requests whose handling panicked: a defect, contained.",
            pool.panics,
        );
        let name = "tidegate_pool_responses_total";
        encoder.family(name, "counter", "Answers of the pool by CoAP code.");
        for (code, count) in pool.responses {
            let label = format!("code=\"{}.{:02}\"", code >> 5, code & 0x1f);
            encoder.sample(name, &label, count);
        }
    }

    fn facts(&self) -> Vec<(String, String)> {
        let address = |address: Option<std::net::SocketAddr>| {
            address.map_or_else(|| "closed".to_owned(), |address| address.to_string())
        };
        vec![
            ("version".into(), env!("CARGO_PKG_VERSION").into()),
            ("coap".into(), address(self.addresses.plain)),
            ("coaps".into(), address(self.addresses.secure)),
            ("shards".into(), self.metrics.len().to_string()),
            ("driver".into(), self.driver.name().into()),
            ("devices".into(), self.registry.len().to_string()),
            ("sessions".into(), self.sum(Counter::Sessions).to_string()),
            (
                "readings stored".into(),
                self.store.status().records.to_string(),
            ),
        ]
    }
}

/// What became of sessions that clients offered again.
fn encode_resumption(sessions: &Sessions, encoder: &mut Encoder) {
    let name = "tidegate_resumptions_total";
    encoder.family(
        name,
        "counter",
        "Sessions resumed, by what they were found by.",
    );
    for (by, label) in [
        (ResumedBy::SessionId, "by=\"session_id\""),
        (ResumedBy::Ticket, "by=\"ticket\""),
    ] {
        encoder.sample(name, label, sessions.resumed(by));
    }
    let name = "tidegate_resumptions_refused_total";
    let help = "Sessions offered and not resumed, by reason; a full handshake follows.";
    encoder.family(name, "counter", help);
    for why in ResumptionRefusal::ALL {
        let label = format!("reason=\"{}\"", why.label());
        encoder.sample(name, &label, sessions.refused(why));
    }
    encoder.single(
        "tidegate_session_tickets_total",
        "counter",
        "Session tickets given to clients.",
        sessions.tickets_issued(),
    );
    encoder.single(
        "tidegate_sessions_cached",
        "gauge",
        "Sessions kept for resumption by id.",
        sessions.cached(),
    );
}
