//! The HTTP interface: routes, and what is between HTTP and [`Operations`].

use crate::admin::guard::{self, Access};
use crate::admin::operations::{
    Attributes, DevicePage, DeviceView, ErrorKind, Latest, NewDevice, OperationError, Operations,
    Reading,
};
use crate::admin::{StatusSource, pages, profiles, timestamp};
use crate::metrics::Encoder;
use crate::store::{HistoryQuery, Order};
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// Largest body of a request, bytes.
const BODY_MAX: usize = 128 << 10;
/// The same for an import.
pub(super) const IMPORT_BODY_MAX: usize = 8 << 20;
/// Most devices in one import.
pub(super) const IMPORT_MAX: usize = 1000;
/// Most devices in one answer.
pub(super) const DEVICES_MAX: usize = 1000;
/// Most readings in one answer.
pub(super) const READINGS_MAX: usize = 10_000;
/// How many there are when the asker does not say.
const LIMIT_DEFAULT: usize = 100;
/// How long a request may take, its body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What the handlers work on.
pub(super) struct Shared {
    pub(super) operations: Arc<dyn Operations>,
    pub(super) status: Arc<dyn StatusSource>,
}

/// The routes, for requests that come in with `access`.
pub(super) fn router(shared: Arc<Shared>, access: Access) -> Router {
    let import = post(import).layer(DefaultBodyLimit::max(IMPORT_BODY_MAX));
    Router::new()
        .route("/", get(status_page))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/api/openapi.json", get(openapi))
        .route("/api/devices", get(list).post(add))
        .route("/api/devices/{name}", get(show).delete(remove))
        .route("/api/devices/{name}/telemetry", get(telemetry))
        .route("/api/devices/{name}/attributes", get(attributes))
        .route("/api/import", import)
        .merge(profiles::routes())
        .fallback(|| async {
            Failure::new(
                StatusCode::NOT_FOUND,
                ErrorKind::NotFound,
                "no such page",
                "/api/openapi.json describes those there are",
            )
        })
        .method_not_allowed_fallback(|| async {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            Failure::new(
                status,
                ErrorKind::Invalid,
                "the method is not for this page",
                "/api/openapi.json describes what is",
            )
        })
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(from_fn(move |request, next| govern(access, request, next)))
        .with_state(shared)
}

/// Around every request: who may ask, how long it may take, and headers for browsers.
async fn govern(access: Access, request: Request, next: Next) -> Response {
    let mut response = match guard::check(access, &request) {
        Ok(()) => tokio::time::timeout(REQUEST_TIMEOUT, next.run(request))
            .await
            .unwrap_or_else(|_| {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                let message = "the request took too long";
                Failure::new(status, ErrorKind::Failed, message, "try again").into_response()
            }),
        Err(denial) => {
            let kind = ErrorKind::Forbidden;
            Failure::new(denial.status, kind, denial.message, denial.remedy).into_response()
        }
    };
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
    ] {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

/// An answer that is not what was asked for.
pub(super) struct Failure {
    status: StatusCode,
    error: OperationError,
}

impl Failure {
    fn new(
        status: StatusCode,
        kind: ErrorKind,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            status,
            error: OperationError::new(kind, message, remedy),
        }
    }

    fn invalid(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorKind::Invalid, message, remedy)
    }
}

impl From<OperationError> for Failure {
    fn from(error: OperationError) -> Self {
        let status = match error.kind {
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::Conflict => StatusCode::CONFLICT,
            ErrorKind::Invalid => StatusCode::BAD_REQUEST,
            ErrorKind::Forbidden => StatusCode::FORBIDDEN,
            ErrorKind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, error }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(self.error)).into_response()
    }
}

pub(super) type Shares = State<Arc<Shared>>;
pub(super) type Answer<T> = Result<Json<T>, Failure>;

/// Runs an operation, which may wait for the disk, beside the server's own thread.
pub(super) async fn run<T: Send + 'static>(
    shared: Arc<Shared>,
    operation: impl FnOnce(&dyn Operations) -> Result<T, OperationError> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(move || operation(&*shared.operations)).await;
    match done {
        Ok(result) => result.map_err(Failure::from),
        Err(error) => {
            tracing::error!(%error, "an admin operation failed");
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            let message = "the operation failed by a defect of the server";
            Err(Failure::new(
                status,
                ErrorKind::Failed,
                message,
                "see its log",
            ))
        }
    }
}

pub(super) fn read_query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Failure> {
    query
        .map(|Query(query)| query)
        .map_err(|rejection| Failure::invalid(rejection.body_text(), "see /api/openapi.json"))
}

pub(super) fn read_name(name: Result<Path<String>, PathRejection>) -> Result<String, Failure> {
    name.map(|Path(name)| name)
        .map_err(|rejection| Failure::invalid(rejection.body_text(), "percent-encode it as UTF-8"))
}

pub(super) fn read_json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<T, Failure> {
    if !guard::is_json(headers) {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        let remedy = "send JSON, with Content-Type: application/json";
        return Err(Failure::new(
            status,
            ErrorKind::Invalid,
            "the body is not JSON",
            remedy,
        ));
    }
    let body = body.map_err(|rejection| {
        let remedy = "send less at a time";
        Failure::new(
            rejection.status(),
            ErrorKind::Invalid,
            rejection.body_text(),
            remedy,
        )
    })?;
    serde_json::from_slice(&body)
        .map_err(|error| Failure::invalid(error.to_string(), "see /api/openapi.json"))
}

fn limited(asked: Option<usize>, max: usize) -> Result<usize, Failure> {
    match asked.unwrap_or(LIMIT_DEFAULT) {
        limit if (1..=max).contains(&limit) => Ok(limit),
        _ => Err(Failure::invalid(
            "limit is out of range",
            format!("ask for 1 to {max}"),
        )),
    }
}

async fn status_page(State(shared): Shares) -> String {
    pages::status(&*shared.status)
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
    ([(header::CONTENT_TYPE, "application/json")], pages::OPENAPI)
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

/// Body of an import.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Import {
    pub(super) devices: Vec<NewDevice>,
}

/// Its answer: an entry per device, in order; `null` for one that was added.
#[derive(Serialize, Deserialize)]
pub(super) struct Imported {
    pub(super) errors: Vec<Option<OperationError>>,
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
pub(super) struct History {
    pub(super) key: String,
    pub(super) readings: Vec<Reading>,
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

fn history_query(query: &TelemetryQuery) -> Result<HistoryQuery, Failure> {
    let time = |name: &str, text: &Option<String>, default| match text {
        None => Ok(default),
        Some(text) => timestamp::parse(text)
            .map_err(|remedy| Failure::invalid(format!("{name} is not a time"), remedy)),
    };
    Ok(HistoryQuery {
        from_ms: time("from", &query.from, i64::MIN)?,
        to_ms: time("to", &query.to, i64::MAX)?,
        limit: limited(query.limit, READINGS_MAX)?,
        order: match query.order.as_deref() {
            None | Some("desc") => Order::Descending,
            Some("asc") => Order::Ascending,
            Some(_) => return Err(Failure::invalid("order is unknown", "write asc or desc")),
        },
    })
}

async fn attributes(
    State(shared): Shares,
    name: Result<Path<String>, PathRejection>,
) -> Answer<Attributes> {
    let name = read_name(name)?;
    Ok(Json(
        run(shared, move |operations| operations.attributes(&name)).await?,
    ))
}
