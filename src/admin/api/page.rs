//! The status page: its files, and what it draws.
//!
//! The files are part of the program and load nothing from anywhere else, which their Content-Security-
//! Policy holds them to.

use super::{Failure, Feature, Shared, Shares, read_name, read_query};
use crate::admin::glance::{Percentiles, Sample, total};
use crate::admin::operations::ErrorKind;
use crate::admin::pages;
use crate::drop_reason::DropReason;
use crate::histogram::HistogramSum;
use crate::metrics::{Counter, Latency, ShardMetrics};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub(super) const FEATURE: Feature = Feature {
    routes,
    description: include_str!("page.json"),
};

/// What the page may do: load its own files, ask its own server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// The files that the page loads: name, content type, text.
const FILES: [(&str, &str, &str); 7] = [
    (
        "page.css",
        "text/css; charset=utf-8",
        include_str!("../page/page.css"),
    ),
    ("page.js", SCRIPT, include_str!("../page/page.js")),
    ("parts.js", SCRIPT, include_str!("../page/parts.js")),
    ("overview.js", SCRIPT, include_str!("../page/overview.js")),
    ("devices.js", SCRIPT, include_str!("../page/devices.js")),
    ("device.js", SCRIPT, include_str!("../page/device.js")),
    ("profiles.js", SCRIPT, include_str!("../page/profiles.js")),
];

const SCRIPT: &str = "text/javascript; charset=utf-8";

fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/", get(page))
        .route("/page/{file}", get(file))
        .route("/status.json", get(status))
}

/// The page for browsers; for everything else, as `curl`, the same in a few lines of text.
async fn page(State(shared): Shares, headers: HeaderMap) -> Response {
    let accepted = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    let vary = (header::VARY, "accept");
    if accepted.is_some_and(|kinds| kinds.contains("text/html")) {
        let html = include_str!("../page/index.html");
        let kind = (header::CONTENT_TYPE, "text/html; charset=utf-8");
        let policy = (header::CONTENT_SECURITY_POLICY, POLICY);
        ([vary, kind, policy], html).into_response()
    } else {
        ([vary], pages::status(&*shared.status)).into_response()
    }
}

async fn file(name: Result<Path<String>, PathRejection>) -> Result<Response, Failure> {
    let name = read_name(name)?;
    let (_, kind, text) = FILES
        .iter()
        .find(|(known, ..)| *known == name)
        .ok_or_else(|| {
            let status = StatusCode::NOT_FOUND;
            let message = "the page has no such file";
            Failure::new(status, ErrorKind::NotFound, message, "ask for /")
        })?;
    Ok(([(header::CONTENT_TYPE, *kind)], *text).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StatusQuery {
    after: Option<u64>,
}

/// The state, and what happened lately.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    version: &'static str,
    ready: bool,
    /// Why devices are not served.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    facts: Vec<(String, String)>,
    devices: usize,
    shards: Vec<ShardStatus>,
    requests: u64,
    handshakes: u64,
    latency: LatencyStatus,
    errors: Vec<ErrorCount>,
    store: StoreView,
    /// Number of the latest sample.
    sequence: u64,
    samples: Vec<Sample>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShardStatus {
    sessions: u64,
    handshakes: u64,
    plain_peers: u64,
    requests: u64,
    queue: usize,
    in_work: u64,
}

/// Since the start.
#[derive(Serialize)]
struct LatencyStatus {
    request: Option<Percentiles>,
    handshake: Option<Percentiles>,
}

/// Something that went wrong, and how often since the start.
#[derive(Serialize)]
struct ErrorCount {
    kind: &'static str,
    reason: &'static str,
    count: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StoreView {
    up: bool,
    records: u64,
    record_bytes: u64,
    commits: u64,
    pending_bytes: u64,
    head_bytes: u64,
    overloads: u64,
    flush_failures: u64,
}

async fn status(
    State(shared): Shares,
    query: Result<Query<StatusQuery>, QueryRejection>,
) -> Result<Json<Status>, Failure> {
    let query = read_query(query)?;
    let source = &*shared.status;
    let shards = source.shards();
    let queues = source.queues();
    let problem = source.ready().err();
    let store = source.store();
    let latency = |latency| {
        let histograms = shards.iter().map(|shard| shard.histogram(latency));
        Percentiles::of(&HistogramSum::of(histograms))
    };
    let of_shard = |(index, shard): (usize, &Arc<ShardMetrics>)| ShardStatus {
        sessions: shard.value(Counter::Sessions),
        handshakes: shard.value(Counter::HandshakesOpen),
        plain_peers: shard.value(Counter::PeersCoap),
        requests: shard.value(Counter::RequestsCoap) + shard.value(Counter::RequestsCoaps),
        queue: queues.get(index).copied().unwrap_or(0),
        in_work: shard.value(Counter::RequestsInWork),
    };
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        ready: problem.is_none(),
        problem,
        facts: source.facts(),
        devices: source.devices(),
        shards: shards.iter().enumerate().map(of_shard).collect(),
        requests: total(&shards, &[Counter::RequestsCoap, Counter::RequestsCoaps]),
        handshakes: total(
            &shards,
            &[Counter::HandshakesCompleted, Counter::HandshakesResumed],
        ),
        latency: LatencyStatus {
            request: latency(Latency::Request),
            handshake: latency(Latency::Handshake),
        },
        errors: errors(&shards),
        store: StoreView {
            up: store.failure.is_none(),
            records: store.records,
            record_bytes: store.record_bytes,
            commits: store.commits,
            pending_bytes: store.pending_bytes,
            head_bytes: store.head_bytes,
            overloads: store.overloads,
            flush_failures: store.flush_failures,
        },
        sequence: shared.glance.sequence(),
        samples: shared.glance.after(query.after.unwrap_or(0)),
    }))
}

/// What of the counters tells of trouble, beside the discarded input.
const TROUBLES: [(&str, &str, Counter); 11] = [
    ("handshake", "refused", Counter::HandshakesRefused),
    (
        "handshake",
        "aborted by the peer",
        Counter::HandshakesAborted,
    ),
    ("handshake", "timed out", Counter::HandshakesTimedOut),
    (
        "handshake",
        "gave way to others",
        Counter::HandshakesDisplaced,
    ),
    ("response", "4.xx", Counter::ResponsesClientError),
    ("response", "5.xx", Counter::ResponsesServerError),
    ("queue", "full", Counter::QueueFull),
    ("session", "limit reached", Counter::SessionsExhausted),
    ("shard", "panic", Counter::Panics),
    ("socket", "coap full", Counter::SocketDropsCoap),
    ("socket", "coaps full", Counter::SocketDropsCoaps),
];

/// All that went wrong at least once.
fn errors(shards: &[Arc<ShardMetrics>]) -> Vec<ErrorCount> {
    let troubles = TROUBLES
        .into_iter()
        .map(|(kind, reason, counter)| ErrorCount {
            kind,
            reason,
            count: total(shards, &[counter]),
        });
    let drops = DropReason::ALL.iter().map(|&reason| ErrorCount {
        kind: "discarded",
        reason: reason.label(),
        count: shards.iter().map(|shard| shard.drops(reason)).sum(),
    });
    let all = troubles.chain(drops);
    all.filter(|error| error.count > 0).collect()
}
