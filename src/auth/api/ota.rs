//! Packages for devices: `GET /fw/{token}` and `/sw/{token}` (TB section 7.10); with a certificate
//! `GET /fw` and `/sw`, which ThingsBoard lacks.
//!
//! `size` and `chunk` ask for bytes [size*chunk, size*(chunk+1)) of the package; without `size` it is
//! the whole. What is longer than a block goes block by block (RFC 7959): a request names its block, and
//! only that is read, so nothing is kept between two of them and a restart in the middle changes
//! nothing. The entity tag is the package's, so no two packages are mixed.

use super::{Api, Asked, code};
use crate::auth::request::{Block, Part, RequestMessage, Response};
use crate::auth::tally::Tallied;
use crate::registry::packages::{Package, PackageKind};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Size of the largest block (RFC 7959 section 2.2).
const BLOCK_BYTES_MAX: usize = 1024;

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
            Some(body) => self.send(message, &package, body),
            None => Response::empty(code::NOT_FOUND),
        }
    }

    fn count_part(&self, kind: PackageKind, bytes: u64) {
        let (parts, sent) = match kind {
            PackageKind::Firmware => (Tallied::FirmwareParts, Tallied::FirmwareBytes),
            PackageKind::Software => (Tallied::SoftwareParts, Tallied::SoftwareBytes),
        };
        self.hub.tally().count(parts);
        self.hub.tally().add(sent, bytes);
    }

    /// The package that a device is to have: its own, else its profile's.
    fn assigned(&self, asked: &Asked<'_>, kind: PackageKind) -> Option<Arc<Package>> {
        let id = self.registry.assigned_package(asked.device, kind)?;
        self.packages.as_ref()?.find(id)
    }

    /// The block of the body that is asked for, or its first one.
    fn send(&self, message: &RequestMessage, package: &Package, body: Body) -> Response {
        let offset = message.block2.map_or(0, Block::offset).min(body.length);
        let size = message.block2.map_or(BLOCK_BYTES_MAX, Block::size);
        let length = (body.length - offset).min(size as u64);
        let read = self.packages.as_ref().map(|packages| {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            packages.read(package.id, body.start + offset, length)
        });
        match read {
            Some(Ok(payload)) => {
                self.count_part(package.kind, payload.len() as u64);
                Response {
                    payload,
                    part: Some(Part {
                        offset,
                        total: body.length,
                        etag: body.etag(package),
                    }),
                    ..Response::empty(code::CONTENT)
                }
            }
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
    /// Of the same bytes it is the same for good: packages never change.
    fn etag(self, package: &Package) -> u64 {
        let mut hash = DefaultHasher::new();
        (package.id, &package.checksum, self.start, self.length).hash(&mut hash);
        hash.finish()
    }

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
