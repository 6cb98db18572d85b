//! How a device learns of its package: by shared attributes, and by the state that is written for
//! it (TB section 7.10).

use super::{Package, PackageKind};
use crate::registry::DeviceId;
use crate::store::{AttributeScope, Batch, Value, ValueRef};

/// Names behind `fw_` or `sw_` that an announcement can set.
const NAMES: [&str; 7] = [
    "title",
    "version",
    "tag",
    "size",
    "checksum_algorithm",
    "checksum",
    "url",
];

/// The shared attributes that a device with this package has and has not: `None` deletes.
pub fn announcement(package: &Package) -> Vec<(String, Option<Value>)> {
    let text = |text: &str| Value::String(text.into());
    let here = package.url.is_none();
    let size = i64::try_from(package.size).unwrap_or(i64::MAX);
    let values = [
        Some(text(&package.title)),
        Some(text(&package.version)),
        package.tag.as_deref().map(text),
        here.then_some(Value::Long(size)),
        here.then(|| text(package.algorithm.name())),
        here.then(|| text(&package.checksum)),
        package.url.as_deref().map(text),
    ];
    keys(package.kind).zip(values).collect()
}

/// What [`announcement`] is for a device without a package.
pub fn withdrawal(kind: PackageKind) -> Vec<(String, Option<Value>)> {
    keys(kind).map(|key| (key, None)).collect()
}

fn keys(kind: PackageKind) -> impl Iterator<Item = String> {
    let prefix = kind.prefix();
    NAMES
        .into_iter()
        .map(move |name| format!("{prefix}_{name}"))
}

/// Writes all that tells a device of its package, for one that is new and has no observer yet.
pub fn announce(package: &Package, device: DeviceId, now_ms: i64, batch: &mut Batch) {
    for (key, value) in announcement(package) {
        if let Some(value) = value {
            let scope = AttributeScope::Shared;
            // The keys are short.
            let _ = batch.push_attribute(device, scope, &key, now_ms, value.as_ref());
        }
    }
    write_state(package, device, now_ms, batch);
}

/// Writes, as telemetry, which package a device is to have, and that it is being told.
pub fn write_state(package: &Package, device: DeviceId, now_ms: i64, batch: &mut Batch) {
    let prefix = package.kind.prefix();
    let text = ValueRef::String;
    let mut write = |name: &str, ts_ms: i64, value| {
        // The keys are short.
        let _ = batch.push_telemetry(device, ts_ms, name, value);
    };
    for (name, value) in [
        ("title", Some(text(&package.title))),
        ("version", Some(text(&package.version))),
        ("tag", package.tag.as_deref().map(text)),
        ("ts", Some(ValueRef::Long(now_ms))),
    ] {
        if let Some(value) = value {
            write(&format!("target_{prefix}_{name}"), now_ms, value);
        }
    }
    // The attributes are set next, so the device is queued for no longer than that; there is one
    // value for a time, hence the millisecond.
    let state = format!("{prefix}_state");
    write(&state, now_ms, text("QUEUED"));
    write(&state, now_ms.saturating_add(1), text("INITIATED"));
}
