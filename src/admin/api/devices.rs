//! Devices and their credentials.

use super::{
    Answer, Failure, Feature, Shared, Shares, limited, read_json, read_name, read_query, run,
};
use crate::admin::operations::{DevicePage, DeviceView, NewCredentials, NewDevice};
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, put};
use axum::{Json, Router};
use serde::Deserialize;
use std::sync::Arc;

pub(super) const FEATURE: Feature = Feature {
    routes,
    description: include_str!("devices.json"),
};

/// Most devices in one answer.
pub(in crate::admin) const DEVICES_MAX: usize = 1000;

fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/devices", get(list).post(add))
        .route(
            "/api/devices/{name}",
            get(show).patch(change).delete(remove),
        )
        .route("/api/devices/{name}/credentials", put(set_credentials))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    after: Option<String>,
    limit: Option<usize>,
}

async fn list(
    State(shared): Shares,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<DevicePage> {
    let query = read_query(query)?;
    let limit = limited(query.limit, DEVICES_MAX)?;
    let page = run(shared, move |operations| {
        operations.devices(query.after.as_deref(), limit)
    })
    .await?;
    Ok(Json(page))
}

async fn show(
    State(shared): Shares,
    name: Result<Path<String>, PathRejection>,
) -> Answer<DeviceView> {
    let name = read_name(name)?;
    Ok(Json(
        run(shared, move |operations| operations.device(&name)).await?,
    ))
}

async fn add(
    State(shared): Shares,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<DeviceView>), Failure> {
    let device: NewDevice = read_json(&headers, body)?;
    let view = run(shared, move |operations| operations.add(&device)).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

/// What of a device can be changed in this way.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    profile: String,
}

async fn change(
    State(shared): Shares,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<DeviceView> {
    let name = read_name(name)?;
    let Change { profile } = read_json(&headers, body)?;
    let changed = run(shared, move |operations| {
        operations.set_profile(&name, &profile)
    });
    Ok(Json(changed.await?))
}

async fn remove(
    State(shared): Shares,
    name: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Failure> {
    let name = read_name(name)?;
    run(shared, move |operations| operations.remove(&name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn set_credentials(
    State(shared): Shares,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<DeviceView> {
    let name = read_name(name)?;
    let credentials: NewCredentials = read_json(&headers, body)?;
    let changed = run(shared, move |operations| {
        operations.set_credentials(&name, &credentials)
    });
    Ok(Json(changed.await?))
}
