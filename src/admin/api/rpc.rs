//! Calls to devices, and calls of devices to the operator's programs.
//!
//! Whoever waits for a device, or for its calls, holds no thread meanwhile.

use super::{
    Answer, Failure, Feature, Shared, Shares, limited, read_json, read_name, read_query, run,
};
use crate::admin::OperationError;
use crate::admin::operations::ErrorKind;
use crate::admin::operations::rpc::{find_call, no_server, unanswered};
use crate::auth::downlink::{
    CallAnswer, Hub, NewRpc, OfferedCall, Program, RpcEnd, RpcRecord, RpcRefusal,
};
use crate::registry::DeviceId;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

pub(super) const FEATURE: Feature = Feature {
    routes,
    description: include_str!("rpc.json"),
};

/// Longest time that a call which is not kept may take, and that a program may wait for calls, ms.
pub(in crate::admin) const CALL_TIMEOUT_MAX_MS: u64 = 600_000;
/// How long a program waits for calls when it does not say, ms.
const WAIT_DEFAULT_MS: u64 = 30_000;
/// Most calls handed to a program at a time.
const OFFERS_MAX: usize = 100;

fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/devices/{name}/rpc", get(list).post(call))
        .route("/api/devices/{name}/rpc/{id}", get(show).delete(remove))
        // HEAD would take calls and tell nobody of them.
        .route("/api/rpc/requests", get(offers).head(no_head))
        .route("/api/rpc/requests/{id}", post(answer))
}

/// How long a request for this path may take, when it may wait for a device.
pub(super) fn patience(path: &str) -> Option<Duration> {
    const SLACK: Duration = Duration::from_secs(5);
    let waits = path == "/api/rpc/requests"
        || (path.starts_with("/api/devices/") && path.ends_with("/rpc"));
    waits.then(|| Duration::from_millis(CALL_TIMEOUT_MAX_MS) + SLACK)
}

/// Answer to a call that is kept.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::admin) struct Kept {
    /// Its number.
    pub(in crate::admin) rpc_id: i32,
}

async fn call(
    State(shared): Shares,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let name = read_name(name)?;
    let call: NewRpc = read_json(&headers, body)?;
    if !call.persistent && call.timeout_ms.is_some_and(|ms| ms > CALL_TIMEOUT_MAX_MS) {
        let remedy = "make the call persistent: it waits as long as you say then";
        let message = format!("timeoutMs is above {CALL_TIMEOUT_MAX_MS}");
        return Err(Failure::invalid(message, remedy));
    }
    let (sender, receiver) = oneshot::channel();
    run(shared, move |operations| {
        let hub = hub_of(operations.hub())?;
        let device = DeviceId(operations.device(&name)?.id);
        let waiter = Box::new(move |end: Result<RpcEnd, RpcRefusal>| {
            // Whoever asked may have gone.
            let _ = sender.send(end);
        });
        Ok(hub.send_rpc(device, &call, waiter)?)
    })
    .await?;
    let end = receiver.await.map_err(|_| stopping())?;
    ended(end.map_err(OperationError::from)?)
}

fn ended(end: RpcEnd) -> Result<Response, Failure> {
    match end {
        RpcEnd::Answer(text) => {
            Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
        }
        RpcEnd::Gone => Ok(StatusCode::OK.into_response()),
        RpcEnd::Kept(rpc_id) => Ok(Json(Kept { rpc_id }).into_response()),
        RpcEnd::Unanswered(state) => Err(unanswered(state).into()),
        RpcEnd::Deleted => Err(Failure::new(
            StatusCode::GONE,
            ErrorKind::NotFound,
            "the call, or its device, was deleted before the device answered",
            "",
        )),
        RpcEnd::Unusable => Err(Failure::invalid(
            "the call is no message of the profile's protoSchemas.rpcRequest",
            "look at the profile, which was changed after the call was made",
        )),
    }
}

async fn list(
    State(shared): Shares,
    name: Result<Path<String>, PathRejection>,
) -> Answer<Vec<RpcRecord>> {
    let name = read_name(name)?;
    let calls = run(shared, move |operations| operations.calls(&name));
    Ok(Json(calls.await?))
}

async fn show(
    State(shared): Shares,
    path: Result<Path<(String, i32)>, PathRejection>,
) -> Answer<RpcRecord> {
    let (name, id) = read_numbered(path)?;
    let found = run(shared, move |operations| {
        find_call(operations.calls(&name)?, id)
    });
    Ok(Json(found.await?))
}

async fn remove(
    State(shared): Shares,
    path: Result<Path<(String, i32)>, PathRejection>,
) -> Result<StatusCode, Failure> {
    let (name, id) = read_numbered(path)?;
    run(shared, move |operations| operations.delete_call(&name, id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct OffersQuery {
    timeout_ms: Option<u64>,
    limit: Option<usize>,
}

/// A request that waits for calls of devices.
struct Waiting(oneshot::Sender<Vec<OfferedCall>>);

impl Program for Waiting {
    fn take(self: Box<Self>, calls: Vec<OfferedCall>) -> Result<(), Vec<OfferedCall>> {
        self.0.send(calls)
    }

    fn is_gone(&self) -> bool {
        self.0.is_closed()
    }
}

async fn offers(
    State(shared): Shares,
    query: Result<Query<OffersQuery>, QueryRejection>,
) -> Answer<Vec<OfferedCall>> {
    let query = read_query(query)?;
    let limit = limited(query.limit, OFFERS_MAX)?;
    let timeout_ms = query.timeout_ms.unwrap_or(WAIT_DEFAULT_MS);
    if timeout_ms > CALL_TIMEOUT_MAX_MS {
        let remedy = format!("ask for at most {CALL_TIMEOUT_MAX_MS}, and again after that");
        return Err(Failure::invalid("timeoutMs is out of range", remedy));
    }
    let (sender, mut receiver) = oneshot::channel();
    let hub = hub_of(shared.operations.hub())?;
    if !hub.offer_calls(limit, Box::new(Waiting(sender))) {
        return Err(OperationError::new(
            ErrorKind::Unavailable,
            "too many programs wait for calls of devices",
            "let fewer of them wait",
        )
        .into());
    }
    let timeout = Duration::from_millis(timeout_ms);
    if let Ok(offers) = tokio::time::timeout(timeout, &mut receiver).await {
        return offers.map(Json).map_err(|_| stopping());
    }
    // What came in the very last moment must not be lost.
    receiver.close();
    Ok(Json(receiver.try_recv().unwrap_or_default()))
}

async fn no_head() -> StatusCode {
    StatusCode::METHOD_NOT_ALLOWED
}

async fn answer(
    State(shared): Shares,
    id: Result<Path<u64>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Failure> {
    let id = read_numbered(id)?;
    let answer: CallAnswer = read_json(&headers, body)?;
    let hub = hub_of(shared.operations.hub())?;
    if answer.reply.is_some() == answer.error.is_some() {
        return Err(Failure::invalid(
            "an answer is a reply or an error",
            "send one of them",
        ));
    }
    if hub.answer_call(id, &answer) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        let message = "no device waits for this answer: it has one, or its time is over";
        let remedy = "answer sooner, or give devices more time by COAP_TIMEOUT";
        Err(OperationError::new(ErrorKind::NotFound, message, remedy).into())
    }
}

/// A path that ends in the number of a call.
fn read_numbered<T>(path: Result<Path<T>, PathRejection>) -> Result<T, Failure> {
    path.map(|Path(parts)| parts).map_err(|_| {
        let remedy = "write the number of a call, and percent-encode the name as UTF-8";
        Failure::invalid("the path does not name a call", remedy)
    })
}

fn hub_of(hub: Option<&Arc<Hub>>) -> Result<&Arc<Hub>, OperationError> {
    hub.ok_or_else(no_server)
}

fn stopping() -> Failure {
    let message = "the server stops";
    OperationError::new(ErrorKind::Unavailable, message, "try again later").into()
}
