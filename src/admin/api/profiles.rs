//! Device profiles, and what is set for single devices.

use super::{Answer, Failure, Feature, Shared, Shares, read_json, read_name, run};
use crate::admin::Operations;
use crate::admin::operations::profiles::{ProfileList, ProfileView};
use crate::registry::DeviceOptions;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::Value;
use std::sync::Arc;

pub(super) const FEATURE: Feature = Feature {
    routes,
    description: include_str!("profiles.json"),
};

/// Longest body that holds a profile: four schemas.
const BODY_MAX: usize = 1 << 20;

/// The routes of profiles.
fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/profiles", get(list).post(add))
        .route(
            "/api/profiles/{name}",
            get(show).patch(change).delete(remove),
        )
        .route(
            "/api/devices/{name}/options",
            get(show_options).patch(change_options),
        )
        .layer(DefaultBodyLimit::max(BODY_MAX))
}

async fn list(State(shared): Shares) -> Answer<ProfileList> {
    Ok(Json(run(shared, |operations| operations.profiles()).await?))
}

async fn add(
    State(shared): Shares,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<ProfileView>), Failure> {
    let profile: ProfileView = read_json(&headers, body)?;
    let view = run(shared, move |operations| operations.add_profile(&profile)).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

async fn show(
    State(shared): Shares,
    name: Result<Path<String>, PathRejection>,
) -> Answer<ProfileView> {
    let name = read_name(name)?;
    Ok(Json(
        run(shared, move |operations| operations.profile(&name)).await?,
    ))
}

async fn change(
    State(shared): Shares,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<ProfileView> {
    let name = read_name(name)?;
    let patch: Value = read_json(&headers, body)?;
    let change = move |operations: &dyn Operations| operations.change_profile(&name, &patch);
    Ok(Json(run(shared, change).await?))
}

async fn remove(
    State(shared): Shares,
    name: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Failure> {
    let name = read_name(name)?;
    run(shared, move |operations| operations.remove_profile(&name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn show_options(
    State(shared): Shares,
    name: Result<Path<String>, PathRejection>,
) -> Answer<DeviceOptions> {
    let name = read_name(name)?;
    Ok(Json(
        run(shared, move |operations| operations.options(&name)).await?,
    ))
}

async fn change_options(
    State(shared): Shares,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<DeviceOptions> {
    let name = read_name(name)?;
    let patch: Value = read_json(&headers, body)?;
    let change = move |operations: &dyn Operations| operations.change_options(&name, &patch);
    Ok(Json(run(shared, change).await?))
}
