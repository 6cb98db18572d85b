//! Live DTLS sessions.

use super::{Answer, Failure, Feature, Shared, Shares, limited, read_name, read_query, run};
use crate::admin::operations::sessions::{SessionPage, SessionQuery};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde::Deserialize;
use std::sync::Arc;

pub(super) const FEATURE: Feature = Feature {
    routes,
    description: include_str!("sessions.json"),
};

/// Most sessions in one answer.
pub(in crate::admin) const SESSIONS_MAX: usize = 1000;

fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/sessions", get(list))
        .route("/api/sessions/{id}", delete(close))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    after: Option<String>,
    limit: Option<usize>,
    device: Option<String>,
}

async fn list(
    State(shared): Shares,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<SessionPage> {
    let query = read_query(query)?;
    let query = SessionQuery {
        limit: limited(query.limit, SESSIONS_MAX)?,
        after: query.after,
        device: query.device,
    };
    let page = run(shared, move |operations| operations.sessions(&query)).await?;
    Ok(Json(page))
}

async fn close(
    State(shared): Shares,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Failure> {
    let id = read_name(id)?;
    run(shared, move |operations| operations.close_session(&id)).await?;
    Ok(StatusCode::NO_CONTENT)
}
