//! What the admin interface is told about the running server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Addresses;
use super::workers::Workers;
use crate::admin::StatusSource;
use crate::auth::downlink::Hub;
use crate::auth::pool::Pool;
use crate::crypto::certificate::LeafInfo;
use crate::dtls::{ResumedBy, ResumptionRefusal, Sessions};
use crate::endpoint::EndpointSettings;
use crate::metrics::{Counter, Encoder, ShardMetrics};
use crate::queue::RequestQueue;
use crate::registry::Registry;
use crate::shard::DriverKind;
use crate::store::{Store, StoreStatus};

/// The server's counters and state, read by other threads.
pub(super) struct ServerStatus {
    metrics: Vec<Arc<ShardMetrics>>,
    queues: Vec<RequestQueue>,
    pool: Arc<Pool>,
    hub: Arc<Hub>,
    parts: ServerParts,
    ready: AtomicBool,
}

/// What belongs neither to the shards nor to the pool.
pub(super) struct ServerParts {
    pub(super) driver: DriverKind,
    pub(super) addresses: Addresses,
    pub(super) settings: Arc<EndpointSettings>,
    pub(super) store: Arc<dyn Store>,
    pub(super) registry: Arc<dyn Registry>,
}

impl ServerStatus {
    pub(super) fn new(
        metrics: &[Arc<ShardMetrics>],
        workers: &Workers,
        parts: ServerParts,
    ) -> Self {
        Self {
            metrics: metrics.to_vec(),
            queues: (0..metrics.len())
                .filter_map(|shard| workers.queues.shard(shard))
                .collect(),
            pool: Arc::clone(&workers.pool),
            hub: Arc::clone(&workers.hub),
            parts,
            ready: AtomicBool::new(false),
        }
    }

    /// Whether devices are served from now on.
    pub(super) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    /// What values of the gauges are compared with.
    fn encode_limits(&self, encoder: &mut Encoder) {
        let limits = [
            (
                "tidegate_sessions_limit",
                "DTLS sessions that one shard may hold, by TIDEGATE_SESSIONS_MAX.",
                self.parts.settings.sessions_max,
            ),
            (
                "tidegate_handshakes_limit",
                "Handshakes in progress that one shard may hold, by TIDEGATE_HANDSHAKES_MAX.",
                self.parts.settings.handshakes_max,
            ),
            (
                "tidegate_requests_limit",
                "Requests of one shard that the authenticator pool may have in work.",
                self.parts.settings.requests_max,
            ),
        ];
        for (name, help, value) in limits {
            encoder.single(name, "gauge", help, value);
        }
        let dtls = self.parts.settings.dtls.load();
        let leaf = dtls
            .as_ref()
            .and_then(|dtls| dtls.credentials.chain.first());
        let expiry =
            leaf.and_then(|der| Some(LeafInfo::parse(der).ok()?.validity.not_after_unix_s));
        let name = "tidegate_certificate_expiry_timestamp_seconds";
        encoder.family(
            name,
            "gauge",
            "When the server's certificate expires, in seconds since the UNIX epoch; absent without DTLS.",
        );
        if let Some(expiry) = expiry {
            encoder.sample(name, "", expiry);
        }
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
        health(&self.parts.store.status())
    }

    fn ready(&self) -> Result<(), String> {
        let status = self.parts.store.status();
        health(&status)?;
        readiness(&status, self.parts.registry.write_failure())?;
        if self.ready.load(Ordering::Acquire) {
            Ok(())
        } else {
            Err("starting or stopping".into())
        }
    }

    fn devices(&self) -> usize {
        self.parts.registry.len()
    }

    fn queues(&self) -> Vec<usize> {
        self.queues.iter().map(RequestQueue::len).collect()
    }

    fn store(&self) -> StoreStatus {
        self.parts.store.status()
    }

    fn encode(&self, encoder: &mut Encoder) {
        let devices = self.parts.registry.len();
        encoder.single("tidegate_devices", "gauge", "Registered devices.", devices);
        let name = "tidegate_driver_info";
        encoder.family(
            name,
            "gauge",
            "1 for the way in which datagrams travel (TIDEGATE_DRIVER).",
        );
        let label = format!("driver=\"{}\"", self.parts.driver.name());
        encoder.sample(name, &label, 1);
        let name = "tidegate_queue_depth";
        let help = "Requests that wait for the authenticator pool.";
        encoder.family(name, "gauge", help);
        for (shard, depth) in self.queues().into_iter().enumerate() {
            encoder.sample(name, &format!("shard=\"{shard}\""), depth);
        }
        let store = self.parts.store.status();
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
                "tidegate_store_series_bytes",
                "Bytes of readings in the queryable part, before compression.",
                store.series_bytes,
            ),
            (
                "tidegate_store_up",
                "1 while the store takes uploads.",
                u64::from(store.failure.is_none() && store.full.is_none()),
            ),
        ];
        for (name, help, value) in gauges {
            encoder.single(name, "gauge", help, value);
        }
        encoder.histogram(
            "tidegate_store_sync_seconds",
            "From the write of a group commit to the end of its sync.",
            &store.syncs,
        );
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
            (
                "tidegate_store_swept_rows_total",
                "Blocks of readings removed by retention.",
                store.swept_rows,
            ),
        ];
        for (name, help, value) in counters {
            encoder.single(name, "counter", help, value);
        }
        encoder.single(
            "tidegate_devices_engaged",
            "gauge",
            "Devices with subscriptions or calls under way.",
            self.hub.devices(),
        );
        encoder.single(
            "tidegate_profiles",
            "gauge",
            "Device profiles that are defined.",
            self.parts.registry.profiles().list().len(),
        );
        self.hub.tally().each(|name, help, counts| {
            encoder.family(name, "counter", help);
            for (labels, count) in counts {
                encoder.sample(name, labels, count);
            }
        });
        encode_resumption(&self.parts.settings.sessions, encoder);
        self.encode_limits(encoder);
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
            ("coap".into(), address(self.parts.addresses.plain)),
            ("coaps".into(), address(self.parts.addresses.secure)),
            ("shards".into(), self.metrics.len().to_string()),
            ("driver".into(), self.parts.driver.name().into()),
            ("devices".into(), self.parts.registry.len().to_string()),
            ("sessions".into(), self.sum(Counter::Sessions).to_string()),
            (
                "readings stored".into(),
                self.parts.store.status().records.to_string(),
            ),
        ]
    }
}

/// Why only a restart would help, if that is so.
fn health(store: &StoreStatus) -> Result<(), String> {
    match &store.failure {
        None => Ok(()),
        Some(failure) => Err(format!(
            "the store has failed and takes nothing until a restart: {failure}"
        )),
    }
}

/// Why a device, or whoever changes one, is better served elsewhere, if that is so.
fn readiness(store: &StoreStatus, write_failure: Option<String>) -> Result<(), String> {
    if let Some(reason) = &store.full {
        return Err(format!(
            "uploads are refused until the disk has room: {reason}"
        ));
    }
    if let Some(failure) = write_failure {
        return Err(format!("devices cannot be changed: {failure}"));
    }
    match &store.flush_failure {
        None => Ok(()),
        Some(failure) => Err(format!(
            "uploads stay in the log, as the database takes none: {failure}; if that lasts though the disk has room, \
             restart tidegate"
        )),
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

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "deadlines of the tests themselves"
)]
mod tests {
    use super::*;
    use crate::registry::DeviceId;
    use crate::store::embedded::{StoreSettings, open};
    use crate::store::{Batch, ValueRef};
    use std::time::Duration;

    #[test]
    fn whoever_is_not_ready_says_why() {
        let well = StoreStatus::default();
        assert_eq!((health(&well), readiness(&well, None)), (Ok(()), Ok(())));
        let why = |text: &str| Some(text.to_owned());
        let full = StoreStatus {
            full: why("1.log: no space"),
            ..well.clone()
        };
        assert_eq!(health(&full), Ok(()), "a restart makes no room");
        assert!(
            readiness(&full, None)
                .unwrap_err()
                .contains("1.log: no space")
        );
        let told = readiness(&well, why("restart tidegate")).unwrap_err();
        assert!(told.contains("devices cannot be changed: restart tidegate"));
        let failed = StoreStatus {
            failure: why("the disk is gone"),
            ..well
        };
        assert!(health(&failed).unwrap_err().contains("the disk is gone"));
    }

    /// What `/readyz` says while a real store cannot flush, and when it can again.
    #[test]
    fn a_server_that_cannot_flush_is_not_ready_until_it_can() {
        let directory = tempfile::TempDir::new().unwrap();
        let soon = Duration::from_millis(20);
        let settings = StoreSettings {
            flush_interval: soon,
            flush_retry: soon,
            ..StoreSettings::default()
        };
        let store = open(directory.path(), &settings).unwrap().store;
        let wait_until = |is_ready: bool| {
            let end = std::time::Instant::now() + Duration::from_secs(30);
            loop {
                let ready = readiness(&store.status(), None);
                if ready.is_ok() == is_ready {
                    return ready;
                }
                assert!(std::time::Instant::now() < end, "{:?}", store.status());
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        let in_the_way = directory.path().join("CHECKPOINT.new");
        std::fs::create_dir(&in_the_way).unwrap();
        let mut batch = Batch::new();
        let value = ValueRef::Long(1);
        batch.push_telemetry(DeviceId(1), 1, "k", value).unwrap();
        let done = |_: Result<(), &crate::store::StoreError>| ();
        assert!(store.append(batch, Box::new(done)).is_ok());
        let why = wait_until(false).unwrap_err();
        assert!(
            why.contains("CHECKPOINT") && why.contains("restart"),
            "{why}"
        );
        std::fs::remove_dir(&in_the_way).unwrap();
        wait_until(true).unwrap();
    }
}
