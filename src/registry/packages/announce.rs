//! How a device learns of its package: by shared attributes, and by the state that is written for
//! it (TB section 7.10).

use super::{Package, PackageKind};
use crate::registry::DeviceId;
use crate::store::{AttributeScope, Batch, ValueRef};

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

/// Tells a device of its package: sets and removes shared attributes, and writes the state.
pub fn announce(package: &Package, device: DeviceId, now_ms: i64, batch: &mut Batch) {
    let prefix = package.kind.prefix();
    let key = |name: &str| format!("{prefix}_{name}");
    let text = ValueRef::String;
    let here = package.url.is_none();
    let size = i64::try_from(package.size).unwrap_or(i64::MAX);
    let tag = package.tag.as_deref().map(text);
    let values = [
        Some(text(&package.title)),
        Some(text(&package.version)),
        tag,
        here.then_some(ValueRef::Long(size)),
        here.then_some(text(package.algorithm.name())),
        here.then_some(text(&package.checksum)),
        package.url.as_deref().map(text),
    ];
    for (name, value) in NAMES.into_iter().zip(values) {
        set(device, &key(name), value, now_ms, batch);
    }
    let mut write = |name: &str, ts_ms: i64, value| {
        // The keys are short.
        let _ = batch.push_telemetry(device, ts_ms, name, value);
    };
    for (name, value) in [
        ("title", Some(text(&package.title))),
        ("version", Some(text(&package.version))),
        ("tag", tag),
        ("ts", Some(ValueRef::Long(now_ms))),
    ] {
        if let Some(value) = value {
            write(&format!("target_{prefix}_{name}"), now_ms, value);
        }
    }
    // The attributes are set with the state, so the device is queued for no longer than that; there
    // is one value for a time, hence the millisecond.
    write(&key("state"), now_ms, text("QUEUED"));
    write(&key("state"), now_ms.saturating_add(1), text("INITIATED"));
}

/// Tells a device that it has no package any more.
pub fn withdraw(kind: PackageKind, device: DeviceId, now_ms: i64, batch: &mut Batch) {
    for name in NAMES {
        let key = format!("{}_{name}", kind.prefix());
        set(device, &key, None, now_ms, batch);
    }
}

fn set(device: DeviceId, key: &str, value: Option<ValueRef<'_>>, now_ms: i64, batch: &mut Batch) {
    let scope = AttributeScope::Shared;
    // The keys are short.
    let _ = match value {
        Some(value) => batch.push_attribute(device, scope, key, now_ms, value),
        None => batch.remove_attribute(device, scope, key, now_ms),
    };
}
