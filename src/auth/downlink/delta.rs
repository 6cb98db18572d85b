//! Changes of shared attributes on their way to a device (TB section 7.4).

use crate::auth::api::proto::{AttributeUpdate, TsKeyValue};
use crate::store::value::write_json_string;
use crate::store::{Attribute, Value};
use prost::Message as _;
use std::collections::BTreeMap;

/// Memory that a change costs beside its key and text, roughly.
const CHANGE_BYTES: usize = 80;

/// The last change of each key: its new value, or `None` when it was deleted.
///
/// A later change takes the place of an earlier one of the same key, whichever of them deletes, so
/// that however many are merged, the device ends up with what is stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    changes: BTreeMap<Box<str>, Change>,
    bytes: usize,
}

#[derive(Clone, Debug, PartialEq)]
struct Change {
    value: Option<Value>,
    /// When, milliseconds since the UNIX epoch; 0 until it is known.
    updated_ms: i64,
}

/// How a device reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Encoding {
    #[default]
    Json,
    Protobuf,
}

impl Delta {
    /// Adds a change: a new value, or a deletion.
    pub fn insert(&mut self, key: Box<str>, value: Option<Value>) {
        let updated_ms = 0;
        self.insert_change(key, Change { value, updated_ms });
    }

    fn insert_change(&mut self, key: Box<str>, change: Change) {
        let key_length = key.len();
        self.bytes += change_bytes(key_length, change.value.as_ref());
        if let Some(before) = self.changes.insert(key, change) {
            self.bytes -= change_bytes(key_length, before.value.as_ref());
        }
    }

    /// Notes when all of it happened.
    pub(super) fn happened(&mut self, updated_ms: i64) {
        for change in self.changes.values_mut() {
            change.updated_ms = updated_ms;
        }
    }

    /// Adds what changed later.
    pub fn merge(&mut self, later: Self) {
        for (key, change) in later.changes {
            self.insert_change(key, change);
        }
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Each key with its new value, or `None` when it was deleted, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&Value>)> {
        self.changes
            .iter()
            .map(|(key, change)| (&**key, change.value.as_ref()))
    }

    /// Memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes as many of the first changes out as take about `bytes_max` bytes, at least one.
    pub(super) fn split_front(&mut self, bytes_max: usize, encoding: Encoding) -> Self {
        let mut front = Self::default();
        let mut length = 0;
        while let Some((key, change)) = self.changes.pop_first() {
            let mut one = Self::default();
            one.insert_change(key.clone(), change.clone());
            length += one.encode(encoding).len();
            if length > bytes_max && !front.is_empty() {
                self.changes.insert(key, change);
                break;
            }
            self.bytes -= one.bytes;
            front.insert_change(key, change);
        }
        front
    }

    /// Without the keys that do not exist: what a device sees that asks for all attributes.
    pub(super) fn forget_deletions(&mut self) {
        let bytes = &mut self.bytes;
        self.changes.retain(|key, change| {
            if change.value.is_none() {
                *bytes -= change_bytes(key.len(), None);
            }
            change.value.is_some()
        });
    }

    /// As the device reads it.
    pub(super) fn encode(&self, encoding: Encoding) -> Vec<u8> {
        match encoding {
            Encoding::Json => self.to_json().into_bytes(),
            Encoding::Protobuf => self.to_proto().encode_to_vec(),
        }
    }

    fn to_proto(&self) -> AttributeUpdate {
        let mut message = AttributeUpdate::default();
        for (key, change) in &self.changes {
            match &change.value {
                Some(value) => {
                    let value = value.as_ref();
                    let updated = TsKeyValue::new(change.updated_ms, key, value);
                    message.updated.push(updated);
                }
                None => message.deleted.push(key.to_string()),
            }
        }
        message
    }

    /// `{"led":true,"deleted":["fan"]}`: the changed keys, and those that were deleted.
    pub fn to_json(&self) -> String {
        let mut text = String::with_capacity(self.bytes);
        text.push('{');
        let mut deleted = String::new();
        for (key, change) in &self.changes {
            let Some(value) = &change.value else {
                deleted.push(if deleted.is_empty() { '[' } else { ',' });
                write_json_string(key, &mut deleted);
                continue;
            };
            separate(&mut text);
            write_json_string(key, &mut text);
            text.push(':');
            value.write_json(&mut text);
        }
        if !deleted.is_empty() {
            separate(&mut text);
            text.push_str("\"deleted\":");
            text.push_str(&deleted);
            text.push(']');
        }
        text.push('}');
        text
    }
}

impl FromIterator<Attribute> for Delta {
    fn from_iter<T: IntoIterator<Item = Attribute>>(attributes: T) -> Self {
        let mut delta = Self::default();
        for attribute in attributes {
            let change = Change {
                value: Some(attribute.value),
                updated_ms: attribute.updated_ms,
            };
            delta.insert_change(attribute.key, change);
        }
        delta
    }
}

fn separate(text: &mut String) {
    if text.len() > 1 {
        text.push(',');
    }
}

fn change_bytes(key_length: usize, change: Option<&Value>) -> usize {
    let text = match change {
        Some(Value::String(text) | Value::Json(text)) => text.len(),
        _ => 0,
    };
    CHANGE_BYTES + key_length + text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(changes: &[(&str, Option<i64>)]) -> Delta {
        let mut delta = Delta::default();
        for (key, value) in changes {
            delta.insert((*key).into(), value.map(Value::Long));
        }
        delta
    }

    #[test]
    fn prints_values_and_deletions() {
        assert_eq!(Delta::default().to_json(), "{}");
        assert_eq!(delta(&[("a", Some(1))]).to_json(), r#"{"a":1}"#);
        let deleted = delta(&[("b", None), ("a", None)]);
        assert_eq!(deleted.to_json(), r#"{"deleted":["a","b"]}"#);
        let both = delta(&[("x\"", Some(2)), ("b", None)]);
        assert_eq!(both.to_json(), r#"{"x\"":2,"deleted":["b"]}"#);
    }

    #[test]
    fn a_long_one_is_told_in_parts() {
        let mut whole = delta(&[("a", Some(1)), ("b", None), ("c", Some(3))]);
        let bytes = whole.bytes();
        let front = whole.split_front(1000, Encoding::Json);
        assert_eq!((front.bytes(), whole.bytes()), (bytes, 0));
        let mut whole = front;
        let front = whole.split_front(10, Encoding::Json);
        assert_eq!(front, delta(&[("a", Some(1))]));
        assert_eq!(whole, delta(&[("b", None), ("c", Some(3))]));
        whole.insert("a".into(), Some(Value::String("x".repeat(100).into())));
        assert_eq!(whole.split_front(10, Encoding::Json).iter().count(), 1);
        assert_eq!(whole, delta(&[("b", None), ("c", Some(3))]));
    }

    #[test]
    fn protobuf_has_times_and_deletions() {
        assert!(Delta::default().encode(Encoding::Protobuf).is_empty());
        let mut both = delta(&[("a", Some(1)), ("b", None)]);
        both.happened(5);
        // sharedUpdated { ts: 5, kv { key: "a", type: LONG, long_v: 1 } }, sharedDeleted "b"
        let expected = [
            0x0a, 11, 0x08, 5, 0x12, 7, 0x0a, 1, b'a', 0x10, 1, 0x20, 1, 0x12, 1, b'b',
        ];
        assert_eq!(both.encode(Encoding::Protobuf), expected);
        let mut many = Delta::default();
        for number in 0..100 {
            many.insert(format!("key-{number:03}").into(), Some(Value::Long(1)));
        }
        let front = many.split_front(1000, Encoding::Protobuf);
        assert!((900..=1000).contains(&front.encode(Encoding::Protobuf).len()));
    }

    #[test]
    fn a_merge_keeps_the_newest_of_each_key_and_every_deletion() {
        let mut merged = delta(&[("a", Some(1)), ("b", Some(1)), ("c", None)]);
        merged.merge(delta(&[("b", None), ("c", Some(3))]));
        // Deletions of the first merge outlive the second (TB section 8.4 forgets them).
        merged.merge(delta(&[("d", Some(4)), ("a", None)]));
        assert_eq!(merged.to_json(), r#"{"c":3,"d":4,"deleted":["a","b"]}"#);
        let same = delta(&[("a", None), ("b", None), ("c", Some(3)), ("d", Some(4))]);
        assert_eq!(merged, same, "the bytes are counted alike");
        merged.forget_deletions();
        assert_eq!(merged, delta(&[("c", Some(3)), ("d", Some(4))]));
    }
}
