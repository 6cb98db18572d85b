//! Attributes: their rows in the database, and sets of them in memory.
//!
//! ```text
//! row: device u64 big-endian | scope u8 | key  ->  updated i64 little-endian | value
//! ```

use crate::registry::DeviceId;
use crate::store::batch::AttributeItem;
use crate::store::value::take;
use crate::store::{Attribute, AttributeScope, Value, ValueRef};
use std::collections::BTreeMap;

/// Memory that an attribute costs beside its key and text, roughly.
const ATTRIBUTE_BYTES: usize = 80;

/// The key of a row.
pub(super) fn row_key(device: DeviceId, scope: AttributeScope, key: &str) -> Vec<u8> {
    let mut row = Vec::with_capacity(9 + key.len());
    row.extend_from_slice(&device.0.to_be_bytes());
    row.push(scope as u8);
    row.extend_from_slice(key.as_bytes());
    row
}

/// The value of a row.
pub(super) fn row_value(updated_ms: i64, value: &Value) -> Vec<u8> {
    let mut row = updated_ms.to_le_bytes().to_vec();
    value.as_ref().encode(&mut row);
    row
}

/// One attribute's new value, or `None` for its removal.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AttributeChange {
    pub(super) scope: AttributeScope,
    pub(super) key: Box<str>,
    pub(super) updated_ms: i64,
    pub(super) value: Option<Value>,
}

impl From<&AttributeItem<'_>> for AttributeChange {
    fn from(item: &AttributeItem<'_>) -> Self {
        Self {
            scope: item.scope,
            key: item.key.into(),
            updated_ms: item.updated_ms,
            value: item.value.map(ValueRef::to_value),
        }
    }
}

/// Changes of a device's attributes, the last one of each.
#[derive(Debug, Default)]
pub(super) struct Changes(BTreeMap<(AttributeScope, Box<str>), (i64, Option<Value>)>);

impl Changes {
    /// Adds a change; returns by how many bytes the memory grew, roughly.
    pub(super) fn insert(&mut self, change: AttributeChange) -> usize {
        let text = change.value.as_ref().map_or(0, text_bytes);
        let key = change.key.len();
        let before = self.0.insert(
            (change.scope, change.key),
            (change.updated_ms, change.value),
        );
        match before {
            // The text that goes is not subtracted: the log holds it until the flush anyway.
            Some(_) => text,
            None => ATTRIBUTE_BYTES + key + text,
        }
    }

    /// Applies the changes to a set.
    pub(super) fn apply_to(&self, set: &mut AttributeSet) {
        for ((scope, key), (updated_ms, value)) in &self.0 {
            set.set(*scope, key, *updated_ms, value.as_ref());
        }
    }

    /// Scope, key, time and value of each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (AttributeScope, &str, i64, Option<&Value>)> {
        self.0.iter().map(|((scope, key), (updated_ms, value))| {
            (*scope, &**key, *updated_ms, value.as_ref())
        })
    }
}

/// All attributes of a device.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct AttributeSet {
    scopes: [Vec<Attribute>; AttributeScope::ALL.len()],
    bytes: usize,
}

impl AttributeSet {
    /// Adds a row of the database; `None` when it is none.
    pub(super) fn insert_row(&mut self, key: &[u8], mut value: &[u8]) -> Option<()> {
        let (&scope, key) = key.get(8..)?.split_first()?;
        let scope = AttributeScope::ALL
            .into_iter()
            .find(|s| *s as u8 == scope)?;
        let key = std::str::from_utf8(key).ok()?;
        let updated_ms = i64::from_le_bytes(take(&mut value)?);
        let stored = ValueRef::decode(&mut value)?.to_value();
        self.set(scope, key, updated_ms, Some(&stored));
        Some(())
    }

    /// Memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        // Even a set of nothing takes an entry of the cache.
        self.bytes + 2 * ATTRIBUTE_BYTES
    }

    /// Memory that those of a scope take, roughly.
    pub(super) fn bytes_of(&self, scope: AttributeScope) -> usize {
        let all = &self.scopes[scope as usize];
        all.iter().map(Attribute::bytes).sum()
    }

    /// The attributes of a scope in the order of their keys, or of `keys` alone.
    pub(super) fn select(&self, scope: AttributeScope, keys: Option<&[&str]>) -> Vec<Attribute> {
        let all = &self.scopes[scope as usize];
        let Some(keys) = keys else {
            return all.clone();
        };
        let mut found: Vec<usize> = keys
            .iter()
            .filter_map(|key| all.binary_search_by(|known| (*known.key).cmp(key)).ok())
            .collect();
        found.sort_unstable();
        found.dedup();
        found.into_iter().map(|at| all[at].clone()).collect()
    }

    /// Applies a change.
    pub(super) fn apply(&mut self, change: &AttributeChange) {
        self.set(
            change.scope,
            &change.key,
            change.updated_ms,
            change.value.as_ref(),
        );
    }

    fn set(&mut self, scope: AttributeScope, key: &str, updated_ms: i64, value: Option<&Value>) {
        let all = &mut self.scopes[scope as usize];
        let at = all.binary_search_by(|known| (*known.key).cmp(key));
        if let Ok(at) = at {
            self.bytes -= all[at].bytes();
        }
        let Some(value) = value else {
            if let Ok(at) = at {
                all.remove(at);
            }
            return;
        };
        let attribute = Attribute {
            key: key.into(),
            updated_ms,
            value: value.clone(),
        };
        self.bytes += attribute.bytes();
        match at {
            Ok(at) => all[at] = attribute,
            Err(at) => all.insert(at, attribute),
        }
    }
}

fn text_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) | Value::Json(text) => text.len(),
        Value::Bool(_) | Value::Long(_) | Value::Double(_) => 0,
    }
}
