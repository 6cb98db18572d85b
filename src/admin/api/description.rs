//! The OpenAPI description, put together from the parts of the features.

use super::FEATURES;
use serde_json::{Map, Value};
use std::sync::LazyLock;

/// What belongs to no feature: title, security, common answers.
const FRAME: &str = include_str!("description.json");

/// The description of the HTTP interface, JSON.
pub(super) fn text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| document().to_string());
    &TEXT
}

/// # Panics
///
/// When a part is not JSON, which a test would have found.
fn document() -> Value {
    let parts = FEATURES.iter().map(|feature| feature.description);
    let read = |part| serde_json::from_str(part).expect("the parts of the description are JSON");
    parts.map(read).fold(read(FRAME), |mut whole, part| {
        merge(&mut whole, part);
        whole
    })
}

/// Adds the members of objects to those that are there; whatever else takes the place of the old.
fn merge(whole: &mut Value, part: Value) {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            for (name, value) in part {
                let member = whole.entry(name);
                merge(member.or_insert(Value::Object(Map::new())), value);
            }
        }
        (whole, part) => *whole = part,
    }
}
