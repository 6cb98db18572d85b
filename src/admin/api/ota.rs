//! Packages for devices. Their bytes go to the disk as they come, without a copy of all of them in
//! memory.

use super::{Answer, Failure, Feature, Shared, Shares, read_json, read_name, read_query, run};
use crate::admin::operations::ota::{Assigned, Assignment, PackageList};
use crate::registry::packages::{NewPackage, PACKAGE_BYTES_MAX, Package};
use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use http_body_util::BodyExt as _;
use std::io::{self, Read};
use std::sync::Arc;
use tokio::sync::mpsc;

pub(super) const FEATURE: Feature = Feature {
    routes,
    description: include_str!("ota.json"),
};

/// Pieces of a body that wait for the disk.
const PIECES_MAX: usize = 4;

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
    let (pieces, receiver) = mpsc::channel(PIECES_MAX);
    let mut source = Pieces {
        receiver,
        piece: Bytes::new(),
        has_ended: false,
    };
    let adding = run(shared, move |operations| {
        operations.add_package(&package, &mut source)
    });
    let (added, ()) = tokio::join!(adding, forward(body, pieces));
    Ok((StatusCode::CREATED, Json(added?)))
}

/// A piece of a body, or its end: where neither comes any more, the body was cut off.
enum Piece {
    Bytes(Bytes),
    End,
}

/// Hands the pieces of a body on, until it ends or nobody takes them.
async fn forward(mut body: Body, pieces: mpsc::Sender<Piece>) {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let piece = match frame {
            // Trailers are nothing to us.
            Ok(frame) => frame.into_data().unwrap_or_default(),
            Err(_) => return,
        };
        length += piece.len() as u64;
        let sent = pieces.send(Piece::Bytes(piece)).await;
        // One piece beyond the limit tells the reader that it is exceeded.
        if sent.is_err() || length > PACKAGE_BYTES_MAX {
            return;
        }
    }
    let _ = pieces.send(Piece::End).await;
}

/// The pieces of a body, for a thread that may wait.
struct Pieces {
    receiver: mpsc::Receiver<Piece>,
    piece: Bytes,
    has_ended: bool,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.has_ended {
            match self.receiver.blocking_recv() {
                Some(Piece::Bytes(piece)) => self.piece = piece,
                Some(Piece::End) => self.has_ended = true,
                None => {
                    let cut = "the body was cut off";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, cut));
                }
            }
        }
        let length = buffer.len().min(self.piece.len());
        buffer[..length].copy_from_slice(&self.piece.split_to(length));
        Ok(length)
    }
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
