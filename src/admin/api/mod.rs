//! The HTTP interface: routes, and what is between HTTP and [`Operations`].
//!
//! A feature has a file here: its routes, its handlers, and its part of the OpenAPI description in
//! a JSON file of the same name beside it. [`FEATURES`] lists them.

use crate::admin::StatusSource;
use crate::admin::glance::Glance;
use crate::admin::guard::{self, Access};
use crate::admin::long_request::LongRequest;
use crate::admin::operations::{ErrorKind, OperationError, Operations};
use crate::admin::token::AdminToken;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

mod attributes;
mod body;
mod claims;
pub(super) mod data;
mod description;
pub(super) mod devices;
pub(super) mod import;
mod ota;
mod page;
mod probes;
mod profiles;
pub(super) mod rpc;
pub(super) mod sessions;

/// Largest body of a request, bytes.
const BODY_MAX: usize = 128 << 10;
/// How many there are when the asker does not say.
const LIMIT_DEFAULT: usize = 100;
/// How long a request may take, its body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What the handlers work on.
pub(super) struct Shared {
    pub(super) operations: Arc<dyn Operations>,
    pub(super) status: Arc<dyn StatusSource>,
    pub(super) token: AdminToken,
    pub(super) glance: Glance,
}

/// A part of the interface.
struct Feature {
    routes: fn() -> Router<Arc<Shared>>,
    /// Its part of the OpenAPI description: `paths` and `components`.
    description: &'static str,
}

/// All parts, in the order in which they are described.
const FEATURES: &[Feature] = &[
    page::FEATURE,
    probes::FEATURE,
    devices::FEATURE,
    import::FEATURE,
    profiles::FEATURE,
    data::FEATURE,
    attributes::FEATURE,
    sessions::FEATURE,
    rpc::FEATURE,
    ota::FEATURE,
    claims::FEATURE,
];

/// The routes, for requests that come in with `access`.
pub(super) fn router(shared: Arc<Shared>, access: Access) -> Router {
    let token = shared.token.clone();
    let routes = FEATURES.iter().map(|feature| (feature.routes)());
    routes
        .fold(Router::new(), Router::merge)
        .fallback(|| async { no_such_page() })
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
        .layer(from_fn(move |request, next| {
            govern(access, token.clone(), request, next)
        }))
        .with_state(shared)
}

/// Around every request: who may ask, how long it may take, and headers for browsers.
async fn govern(access: Access, token: AdminToken, request: Request, next: Next) -> Response {
    let mut response = match guard::check(access, &token, &request) {
        Ok(()) => {
            let patience = patience(&request);
            let long = request.extensions().get::<LongRequest>();
            let long = long.filter(|_| patience > REQUEST_TIMEOUT);
            let _in_work = long.map(LongRequest::begin);
            let answered = tokio::time::timeout(patience, next.run(request)).await;
            answered.unwrap_or_else(|_| {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                let message = "the request took too long";
                Failure::new(status, ErrorKind::Failed, message, "try again").into_response()
            })
        }
        Err(denial) => {
            let kind = match denial.status {
                StatusCode::UNAUTHORIZED => ErrorKind::Unauthenticated,
                _ => ErrorKind::Forbidden,
            };
            Failure::new(denial.status, kind, denial.message, denial.remedy).into_response()
        }
    };
    if response.status() == StatusCode::UNAUTHORIZED {
        let scheme = HeaderValue::from_static("Bearer realm=\"tidegate\"");
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, scheme);
    }
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
    ] {
        let headers = response.headers_mut();
        // The page has its own.
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

/// How long a request may take.
fn patience(request: &Request) -> Duration {
    let path = request.uri().path();
    rpc::patience(path)
        .or_else(|| ota::patience(request.method(), path))
        .unwrap_or(REQUEST_TIMEOUT)
}

fn no_such_page() -> Failure {
    Failure::new(
        StatusCode::NOT_FOUND,
        ErrorKind::NotFound,
        "no such page",
        "/api/openapi.json describes those there are",
    )
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
            ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
            ErrorKind::Forbidden => StatusCode::FORBIDDEN,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Unanswered => StatusCode::GATEWAY_TIMEOUT,
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

type Shares = State<Arc<Shared>>;
type Answer<T> = Result<Json<T>, Failure>;

/// Runs an operation, which may wait for the disk, beside the server's own thread.
async fn run<T: Send + 'static>(
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

fn read_query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Failure> {
    query
        .map(|Query(query)| query)
        .map_err(|rejection| Failure::invalid(rejection.body_text(), "see /api/openapi.json"))
}

fn read_name<T>(name: Result<Path<T>, PathRejection>) -> Result<T, Failure> {
    name.map(|Path(name)| name)
        .map_err(|rejection| Failure::invalid(rejection.body_text(), "percent-encode it as UTF-8"))
}

fn read_json<T: DeserializeOwned>(
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

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    #[test]
    fn what_waits_for_a_device_or_brings_a_package_has_time() {
        let patience = |method: &str, path: &str| {
            let request = Request::builder().method(method).uri(path);
            patience(&request.body(Body::empty()).unwrap()).as_secs()
        };
        assert_eq!(patience("GET", "/api/devices"), 30);
        assert_eq!(patience("GET", "/api/ota"), 30);
        assert_eq!(patience("DELETE", "/api/ota/1"), 30);
        assert_eq!(patience("POST", "/api/ota?type=FIRMWARE"), 3600);
        assert_eq!(patience("POST", "/api/devices/a/rpc"), 605);
        assert_eq!(patience("GET", "/api/rpc/requests?limit=1"), 605);
    }
}
