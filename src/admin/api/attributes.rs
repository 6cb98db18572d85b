//! Attributes of devices, of single ones and of all of a profile.

use super::{Answer, Failure, Feature, Shared, Shares, read_json, read_name, run};
use crate::admin::operations::profiles::Changed;
use crate::admin::operations::{Attributes, NewAttributes};
use crate::store::AttributeScope;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{delete, get, put};
use axum::{Json, Router};
use std::sync::Arc;

pub(super) const FEATURE: Feature = Feature {
    routes,
    description: include_str!("attributes.json"),
};

fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/devices/{name}/attributes", get(show))
        .route("/api/devices/{name}/attributes/{scope}", put(set))
        .route(
            "/api/devices/{name}/attributes/{scope}/{key}",
            delete(remove),
        )
        .route(
            "/api/profiles/{name}/attributes/{scope}",
            put(set_of_profile),
        )
}

async fn show(
    State(shared): Shares,
    name: Result<Path<String>, PathRejection>,
) -> Answer<Attributes> {
    let name = read_name(name)?;
    let found = run(shared, move |operations| operations.attributes(&name));
    Ok(Json(found.await?))
}

fn scope_of(name: &str) -> Result<AttributeScope, Failure> {
    AttributeScope::of_name(name)
        .ok_or_else(|| Failure::invalid("there is no such scope", "write client, shared or server"))
}

async fn set(
    State(shared): Shares,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Failure> {
    let (name, scope) = read_name(path)?;
    let scope = scope_of(&scope)?;
    let attributes: NewAttributes = read_json(&headers, body)?;
    let done = run(shared, move |operations| {
        operations.set_attributes(&name, scope, &attributes)
    });
    done.await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn set_of_profile(
    State(shared): Shares,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Changed> {
    let (name, scope) = read_name(path)?;
    let scope = scope_of(&scope)?;
    let attributes: NewAttributes = read_json(&headers, body)?;
    let done = run(shared, move |operations| {
        operations.set_profile_attributes(&name, scope, &attributes)
    });
    Ok(Json(done.await?))
}

async fn remove(
    State(shared): Shares,
    path: Result<Path<(String, String, String)>, PathRejection>,
) -> Result<StatusCode, Failure> {
    let (name, scope, key) = read_name(path)?;
    let scope = scope_of(&scope)?;
    let done = run(shared, move |operations| {
        operations.delete_attributes(&name, scope, &[key])
    });
    done.await?;
    Ok(StatusCode::NO_CONTENT)
}
