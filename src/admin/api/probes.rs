//! What monitoring asks, and the description of the interface.

use super::{Feature, Shared, Shares, description};
use crate::admin::pages;
use crate::metrics::Encoder;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use std::sync::Arc;

pub(super) const FEATURE: Feature = Feature {
    routes,
    description: include_str!("probes.json"),
};

fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/api/openapi.json", get(openapi))
}

async fn metrics(State(shared): Shares) -> impl IntoResponse {
    let page = pages::metrics(&*shared.status);
    ([(header::CONTENT_TYPE, Encoder::CONTENT_TYPE)], page)
}

async fn healthz(State(shared): Shares) -> (StatusCode, String) {
    match shared.status.healthy() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn readyz(State(shared): Shares) -> (StatusCode, String) {
    match shared.status.ready() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn openapi() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/json")],
        description::text(),
    )
}
