//! What devices have sent: readings, to be shown and deleted.

use super::{Answer, Failure, Feature, Shared, Shares, limited, read_name, read_query, run};
use crate::admin::operations::{Deleted, Latest, Reading};
use crate::admin::timestamp;
use crate::store::{HistoryQuery, Order};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub(super) const FEATURE: Feature = Feature {
    routes,
    description: include_str!("data.json"),
};

/// Most readings in one answer.
pub(in crate::admin) const READINGS_MAX: usize = 10_000;

fn routes() -> Router<Arc<Shared>> {
    Router::new().route(
        "/api/devices/{name}/telemetry",
        get(telemetry).delete(remove),
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TelemetryQuery {
    key: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<usize>,
    order: Option<String>,
}

/// Answer to a question for the history of a key.
#[derive(Serialize, Deserialize)]
pub(in crate::admin) struct History {
    pub(in crate::admin) key: String,
    pub(in crate::admin) readings: Vec<Reading>,
}

/// Answer to a question for telemetry.
#[derive(Serialize)]
#[serde(untagged)]
enum Telemetry {
    Latest(Latest),
    History(History),
}

async fn telemetry(
    State(shared): Shares,
    name: Result<Path<String>, PathRejection>,
    query: Result<Query<TelemetryQuery>, QueryRejection>,
) -> Answer<Telemetry> {
    let name = read_name(name)?;
    let query = read_query(query)?;
    let Some(key) = query.key.clone() else {
        let asks_history = query.from.is_some() || query.to.is_some() || query.limit.is_some();
        if asks_history || query.order.is_some() {
            let message = "from, to, limit and order are for the history of one key";
            return Err(Failure::invalid(message, "add key=NAME"));
        }
        let latest = run(shared, move |operations| operations.latest(&name)).await?;
        return Ok(Json(Telemetry::Latest(latest)));
    };
    let history_query = history_query(&query)?;
    let readings = run(shared, {
        let key = key.clone();
        move |operations| operations.history(&name, &key, history_query)
    })
    .await?;
    Ok(Json(Telemetry::History(History { key, readings })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeletionQuery {
    key: String,
    from: Option<String>,
    to: Option<String>,
}

async fn remove(
    State(shared): Shares,
    name: Result<Path<String>, PathRejection>,
    query: Result<Query<DeletionQuery>, QueryRejection>,
) -> Answer<Deleted> {
    let name = read_name(name)?;
    let query = read_query(query)?;
    let from_ms = time("from", query.from.as_deref(), i64::MIN)?;
    let to_ms = time("to", query.to.as_deref(), i64::MAX)?;
    let deleted = run(shared, move |operations| {
        operations.delete_telemetry(&name, &query.key, from_ms, to_ms)
    });
    Ok(Json(deleted.await?))
}

fn time(name: &str, text: Option<&str>, default: i64) -> Result<i64, Failure> {
    match text {
        None => Ok(default),
        Some(text) => timestamp::parse(text)
            .map_err(|remedy| Failure::invalid(format!("{name} is not a time"), remedy)),
    }
}

fn history_query(query: &TelemetryQuery) -> Result<HistoryQuery, Failure> {
    Ok(HistoryQuery {
        from_ms: time("from", query.from.as_deref(), i64::MIN)?,
        to_ms: time("to", query.to.as_deref(), i64::MAX)?,
        limit: limited(query.limit, READINGS_MAX)?,
        order: match query.order.as_deref() {
            None | Some("desc") => Order::Descending,
            Some("asc") => Order::Ascending,
            Some(_) => return Err(Failure::invalid("order is unknown", "write asc or desc")),
        },
    })
}
