//! Devices and their credentials.

use super::{
    Answer, Failure, Feature, Shared, Shares, limited, read_json, read_name, read_query, run,
};
use crate::admin::operations::{DevicePage, DeviceView, NewCredentials, NewDevice, OperationError};
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub(super) const FEATURE: Feature = Feature {
    routes,
    description: include_str!("devices.json"),
};

/// Largest body of an import, bytes.
pub(in crate::admin) const IMPORT_BODY_MAX: usize = 8 << 20;
/// Most devices in one import.
pub(in crate::admin) const IMPORT_MAX: usize = 1000;
/// Most devices in one answer.
pub(in crate::admin) const DEVICES_MAX: usize = 1000;

fn routes() -> Router<Arc<Shared>> {
    let import = post(import).layer(DefaultBodyLimit::max(IMPORT_BODY_MAX));
    Router::new()
        .route("/api/devices", get(list).post(add))
        .route("/api/devices/{name}", get(show).delete(remove))
        .route("/api/devices/{name}/credentials", put(set_credentials))
        .route("/api/import", import)
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

/// Body of an import.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct Import {
    pub(in crate::admin) devices: Vec<NewDevice>,
}

/// Its answer: an entry per device, in order; `null` for one that was added.
#[derive(Serialize, Deserialize)]
pub(in crate::admin) struct Imported {
    pub(in crate::admin) errors: Vec<Option<OperationError>>,
}

async fn import(
    State(shared): Shares,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Imported> {
    let Import { devices } = read_json(&headers, body)?;
    if devices.len() > IMPORT_MAX {
        let remedy = format!("send at most {IMPORT_MAX} at a time");
        return Err(Failure::invalid("too many devices in one request", remedy));
    }
    let outcomes = run(shared, move |operations| operations.add_all(&devices)).await?;
    let errors = outcomes.into_iter().map(Result::err).collect();
    Ok(Json(Imported { errors }))
}
