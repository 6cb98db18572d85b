//! Many devices at once: as JSON, or as the lines of a CSV file with word of the progress.

use super::body::pieces;
use super::{Failure, Feature, Shared, Shares, read_json, run};
use crate::admin::guard;
use crate::admin::operations::{ErrorKind, NewDevice, OperationError, Operations};
use crate::registry::import::{Progress, Refused, import};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, body};
use hyper::body::Frame;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::convert::Infallible;
use std::io::{self, BufReader};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

pub(super) const FEATURE: Feature = Feature {
    routes,
    description: include_str!("import.json"),
};

/// Largest JSON body, bytes.
pub(in crate::admin) const IMPORT_BODY_MAX: usize = 8 << 20;
/// Most devices in a JSON body.
pub(in crate::admin) const IMPORT_MAX: usize = 1000;
/// Largest CSV file, bytes: ten million devices or so.
const CSV_BYTES_MAX: u64 = 1 << 30;
/// Lines of an answer that wait to be taken.
const LINES_MAX: usize = 64;
/// Of `Content-Type`.
const CSV: &str = "text/csv";

fn routes() -> Router<Arc<Shared>> {
    // Each form has a limit of its own.
    let import = post(import_any).layer(DefaultBodyLimit::disable());
    Router::new().route("/api/import", import)
}

/// Body of an import in JSON.
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

async fn import_any(
    State(shared): Shares,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case(CSV) {
        return Ok(import_csv(shared, body));
    }
    if !guard::is_json(&headers) {
        return Err(Failure::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ErrorKind::Invalid,
            "the body is nothing to import",
            "send a CSV file as text/csv, or devices as application/json",
        ));
    }
    let body = body::to_bytes(body, IMPORT_BODY_MAX).await.map_err(|_| {
        Failure::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            ErrorKind::Invalid,
            "the body is too long, or was cut off",
            "send less at a time, or a CSV file as text/csv",
        )
    })?;
    let Import { devices } = read_json(&headers, Ok(body))?;
    if devices.len() > IMPORT_MAX {
        let remedy = format!("send at most {IMPORT_MAX} at a time, or a CSV file as text/csv");
        return Err(Failure::invalid("too many devices in one request", remedy));
    }
    let outcomes = run(shared, move |operations| operations.add_all(&devices)).await?;
    let errors = outcomes.into_iter().map(Result::err).collect();
    Ok(Json(Imported { errors }).into_response())
}

/// Imports while the body comes, and tells meanwhile how far it is.
fn import_csv(shared: Arc<Shared>, body: Body) -> Response {
    let (forward, pieces) = pieces();
    let (sender, receiver) = mpsc::channel(LINES_MAX);
    tokio::spawn(forward.run(body, CSV_BYTES_MAX));
    tokio::task::spawn_blocking(move || {
        let told = Teller(sender);
        let mut reader = BufReader::new(pieces);
        let last = match import_lines(&*shared.operations, &mut reader, &told) {
            Ok(done) => json!({ "done": true, "lines": done.lines, "added": done.added,
                                "refused": done.refused }),
            Err(error) => json!({ "done": false, "error": error.to_string() }),
        };
        let _ = told.tell(&last);
    });
    let kind = (header::CONTENT_TYPE, "application/x-ndjson");
    ([kind], Body::new(Lines(receiver))).into_response()
}

fn import_lines(
    operations: &dyn Operations,
    csv: &mut dyn io::BufRead,
    teller: &Teller,
) -> io::Result<Progress> {
    let mut add = |devices: Vec<crate::registry::NewDevice>| {
        // Nobody would know what came of it.
        teller.check()?;
        let devices: Vec<_> = devices.into_iter().map(NewDevice::from).collect();
        let outcomes = operations.add_all(&devices).map_err(io::Error::other)?;
        let plain = |outcome: Result<(), OperationError>| outcome.map_err(|e| e.to_string());
        Ok(outcomes.into_iter().map(plain).collect())
    };
    import(
        &mut add,
        csv,
        None,
        &mut |Progress {
                  lines,
                  added,
                  refused,
                  ..
              }| {
            let _ = teller.tell(&json!({ "lines": lines, "added": added, "refused": refused }));
        },
        &mut |Refused { line, reason }| {
            let _ = teller.tell(&json!({ "line": line, "reason": reason }));
        },
    )
}

/// Puts lines into an answer.
struct Teller(mpsc::Sender<Bytes>);

impl Teller {
    /// # Errors
    /// Nobody reads the answer any more.
    fn tell(&self, line: &serde_json::Value) -> io::Result<()> {
        let sent = self.0.blocking_send(format!("{line}\n").into());
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn check(&self) -> io::Result<()> {
        if self.0.is_closed() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }
}

/// An answer's lines, as they come.
struct Lines(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let line = self.0.poll_recv(context);
        line.map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}
