//! Devices that offer to be claimed.

use super::{Answer, Feature, Shared, Shares, read_json, read_name, run};
use crate::admin::operations::claims::{Claim, ClaimState};
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::routing::get;
use axum::{Json, Router};
use std::sync::Arc;

pub(super) const FEATURE: Feature = Feature {
    routes,
    description: include_str!("claims.json"),
};

fn routes() -> Router<Arc<Shared>> {
    let claim = get(show).post(claim).delete(reclaim);
    Router::new().route("/api/devices/{name}/claim", claim)
}

async fn show(
    State(shared): Shares,
    name: Result<Path<String>, PathRejection>,
) -> Answer<ClaimState> {
    let name = read_name(name)?;
    Ok(Json(
        run(shared, move |operations| operations.claim_state(&name)).await?,
    ))
}

async fn claim(
    State(shared): Shares,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<ClaimState> {
    let name = read_name(name)?;
    let claim: Claim = read_json(&headers, body)?;
    Ok(Json(
        run(shared, move |operations| operations.claim(&name, &claim)).await?,
    ))
}

async fn reclaim(
    State(shared): Shares,
    name: Result<Path<String>, PathRejection>,
) -> Answer<ClaimState> {
    let name = read_name(name)?;
    Ok(Json(
        run(shared, move |operations| operations.reclaim(&name)).await?,
    ))
}
