//! Packages for devices. Their bytes go to the disk as they come, without a copy of all of them in
//! memory.

use super::body::pieces;
use super::{Answer, Failure, Feature, Shared, Shares, read_json, read_name, read_query, run};
use crate::admin::operations::ota::{Assigned, Assignment, PackageList};
use crate::registry::packages::{NewPackage, PACKAGE_BYTES_MAX, Package};
use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use std::sync::Arc;
use std::time::Duration;

pub(super) const FEATURE: Feature = Feature {
    routes,
    description: include_str!("ota.json"),
};

/// How long a package may be on its way, each piece of it in time: the largest one by a line of a megabit a
/// second.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(3600);

/// How long a request may take, when it brings a package.
pub(super) fn patience(method: &Method, path: &str) -> Option<Duration> {
    (method == Method::POST && path == "/api/ota").then_some(UPLOAD_TIMEOUT)
}

fn routes() -> Router<Arc<Shared>> {
    // Counted where the pieces are read: a body of unknown length is bounded as well.
    let add = post(add).layer(DefaultBodyLimit::disable());
    Router::new()
        .route("/api/ota", get(list).merge(add))
        .route("/api/ota/assign", post(assign))
        .route("/api/ota/{id}", delete(remove))
}

async fn list(State(shared): Shares) -> Answer<PackageList> {
    Ok(Json(run(shared, |operations| operations.packages()).await?))
}

async fn add(
    State(shared): Shares,
    query: Result<Query<NewPackage>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Package>), Failure> {
    let package = read_query(query)?;
    let kind = headers.get(header::CONTENT_TYPE);
    // No page of another origin can send this type without asking first.
    if kind.is_none_or(|kind| kind != "application/octet-stream") {
        let message = "the body is not a package";
        let remedy = "send its bytes, with Content-Type: application/octet-stream";
        return Err(Failure::invalid(message, remedy));
    }
    let (forward, mut source) = pieces();
    let adding = run(shared, move |operations| {
        operations.add_package(&package, &mut source)
    });
    let (added, ()) = tokio::join!(adding, forward.run(body, PACKAGE_BYTES_MAX));
    Ok((StatusCode::CREATED, Json(added?)))
}

async fn remove(
    State(shared): Shares,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Failure> {
    let id = read_name(id)?;
    let id = id
        .parse()
        .map_err(|_| Failure::invalid("a package has a number", "GET /api/ota lists them"))?;
    run(shared, move |operations| operations.remove_package(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn assign(
    State(shared): Shares,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Assigned> {
    let assignment: Assignment = read_json(&headers, body)?;
    Ok(Json(
        run(shared, move |operations| {
            operations.assign_package(&assignment)
        })
        .await?,
    ))
}
