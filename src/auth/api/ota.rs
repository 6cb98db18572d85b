//! Packages for devices: `GET /fw/{token}` and `/sw/{token}` (TB section 7.10); with a certificate
//! `GET /fw` and `/sw`, which ThingsBoard lacks.
//!
//! `size` and `chunk` ask for bytes [size*chunk, size*(chunk+1)) of the package; without `size` it is
//! the whole. Only what goes into the answer is read.

use super::{Api, Asked, code};
use crate::auth::request::{RequestMessage, Response};
use crate::registry::packages::{Package, PackageKind};
use std::sync::Arc;

/// Most bytes of one answer: what fits a message.
const ANSWER_BYTES_MAX: u64 = 1024;

impl Api {
    pub(super) fn download(&self, asked: &Asked<'_>, kind: PackageKind) -> Response {
        let message = &asked.request.message;
        let Some(package) = self.assigned(asked, kind) else {
            return Response::empty(code::NOT_FOUND);
        };
        let differs = |name, own: &str| {
            let asked_for = query(message, name);
            asked_for.is_some_and(|asked_for| asked_for != own.as_bytes())
        };
        if differs("title", &package.title) || differs("version", &package.version) {
            return Response::empty(code::BAD_REQUEST);
        }
        // Where devices fetch it themselves there is nothing to send.
        if package.url.is_some() {
            return Response::empty(code::NOT_FOUND);
        }
        let number = |name| match query(message, name) {
            None => Some(0),
            Some(text) => std::str::from_utf8(text).ok()?.parse::<u64>().ok(),
        };
        let (Some(size), Some(chunk)) = (number("size"), number("chunk")) else {
            return Response::empty(code::BAD_REQUEST);
        };
        let body = Body::of(&package, size, chunk);
        match body {
            Some(body) => self.send(&package, body),
            None => Response::empty(code::NOT_FOUND),
        }
    }

    /// The package that a device is to have: its own, else its profile's.
    fn assigned(&self, asked: &Asked<'_>, kind: PackageKind) -> Option<Arc<Package>> {
        let id = self.registry.assigned_package(asked.device, kind)?;
        self.packages.as_ref()?.find(id)
    }

    fn send(&self, package: &Package, body: Body) -> Response {
        let length = body.length.min(ANSWER_BYTES_MAX);
        if length < body.length {
            return Response::empty(code::NOT_IMPLEMENTED);
        }
        let read = self.packages.as_ref().map(|packages| {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            packages.read(package.id, body.start, length)
        });
        match read {
            Some(Ok(payload)) => Response {
                payload,
                ..Response::empty(code::CONTENT)
            },
            Some(Err(error)) => {
                tracing::error!(%error, package = package.id, "a package cannot be read");
                Response::empty(code::INTERNAL_SERVER_ERROR)
            }
            None => Response::empty(code::NOT_FOUND),
        }
    }
}

/// The part of a package that a request asks for.
#[derive(Clone, Copy)]
struct Body {
    start: u64,
    length: u64,
}

impl Body {
    /// `None` beyond the end.
    fn of(package: &Package, size: u64, chunk: u64) -> Option<Self> {
        if size == 0 {
            return Some(Self {
                start: 0,
                length: package.size,
            });
        }
        let start = size.checked_mul(chunk)?;
        let left = package.size.checked_sub(start).filter(|&left| left > 0)?;
        Some(Self {
            start,
            length: left.min(size),
        })
    }
}

/// The value of the last query option `name=value`.
fn query<'a>(message: &'a RequestMessage, name: &str) -> Option<&'a [u8]> {
    let values = message
        .queries()
        .filter_map(|query| query.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    values.last()
}
