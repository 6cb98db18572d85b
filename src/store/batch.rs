//! What several requests write, as the bytes that go into the log.
//!
//! ```text
//! record:     kind u8 | device u64 | body length u32 | body          (little-endian)
//! kind 1, telemetry:  (ts i64 | key length u8 | key | value, or 0 = removed)*
//! kind 2, attributes: (scope u8 | updated i64 | key length u8 | key | value, or 0 = removed)*
//! kind 3, device removed: empty body; ends everything before it of this device
//! ```
//!
//! Invariant: the bytes are always whole records, so that any number of batches can be joined.

use super::value::{length_u32, take, take_slice};
use super::{AttributeScope, ValueRef};
use crate::registry::DeviceId;

/// Longest key of a series or attribute, in bytes.
pub const KEY_BYTES_MAX: usize = 255;

/// Bytes of a record before its body.
const RECORD_HEADER_LEN: usize = 1 + 8 + 4;

const TELEMETRY: u8 = 1;
const ATTRIBUTES: u8 = 2;
const DEVICE_REMOVED: u8 = 3;

/// A key is longer than [`KEY_BYTES_MAX`]; nothing was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key is longer than {KEY_BYTES_MAX} bytes")]
pub struct KeyTooLong;

/// A place in a [`Batch`] to return to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    length: usize,
    records: u32,
}

/// Readings and attributes on their way to the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    bytes: Vec<u8>,
    records: u32,
    /// Where the last record begins, while more may be added to it.
    open: Option<usize>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch with room for `bytes` bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            ..Self::default()
        }
    }

    /// Adds a reading.
    ///
    /// # Errors
    ///
    /// [`KeyTooLong`].
    pub fn push_telemetry(
        &mut self,
        device: DeviceId,
        ts_ms: i64,
        key: &str,
        value: ValueRef<'_>,
    ) -> Result<(), KeyTooLong> {
        self.telemetry(device, ts_ms, key, Some(value))
    }

    /// Removes the reading of a time.
    ///
    /// # Errors
    ///
    /// [`KeyTooLong`].
    pub fn remove_telemetry(
        &mut self,
        device: DeviceId,
        ts_ms: i64,
        key: &str,
    ) -> Result<(), KeyTooLong> {
        self.telemetry(device, ts_ms, key, None)
    }

    /// Sets an attribute.
    ///
    /// # Errors
    ///
    /// [`KeyTooLong`].
    pub fn push_attribute(
        &mut self,
        device: DeviceId,
        scope: AttributeScope,
        key: &str,
        updated_ms: i64,
        value: ValueRef<'_>,
    ) -> Result<(), KeyTooLong> {
        self.attribute(device, scope, key, updated_ms, Some(value))
    }

    /// Removes an attribute.
    ///
    /// # Errors
    ///
    /// [`KeyTooLong`].
    pub fn remove_attribute(
        &mut self,
        device: DeviceId,
        scope: AttributeScope,
        key: &str,
        updated_ms: i64,
    ) -> Result<(), KeyTooLong> {
        self.attribute(device, scope, key, updated_ms, None)
    }

    /// Removes all readings and attributes of a device that were written before.
    pub fn remove_device(&mut self, device: DeviceId) {
        self.extend_record(DEVICE_REMOVED, device, |_| ());
        self.open = None;
    }

    /// Where the batch ends now.
    pub fn mark(&self) -> Mark {
        Mark {
            length: self.bytes.len(),
            records: self.records,
        }
    }

    /// Begins a record of its own for what follows: a later [`Self::rollback`] to a mark taken now
    /// must find whole records.
    pub fn begin(&mut self) -> Mark {
        self.open = None;
        self.mark()
    }

    /// Forgets what was added since [`Self::begin`] gave `mark`.
    pub fn rollback(&mut self, mark: Mark) {
        self.bytes.truncate(mark.length);
        self.records = mark.records;
        self.open = None;
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Records in it.
    pub fn records(&self) -> u32 {
        self.records
    }

    /// The records' bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn telemetry(
        &mut self,
        device: DeviceId,
        ts_ms: i64,
        key: &str,
        value: Option<ValueRef<'_>>,
    ) -> Result<(), KeyTooLong> {
        let key_length = u8::try_from(key.len()).map_err(|_| KeyTooLong)?;
        self.extend_record(TELEMETRY, device, |out| {
            out.extend_from_slice(&ts_ms.to_le_bytes());
            out.push(key_length);
            out.extend_from_slice(key.as_bytes());
            encode_value(value, out);
        });
        Ok(())
    }

    fn attribute(
        &mut self,
        device: DeviceId,
        scope: AttributeScope,
        key: &str,
        updated_ms: i64,
        value: Option<ValueRef<'_>>,
    ) -> Result<(), KeyTooLong> {
        let key_length = u8::try_from(key.len()).map_err(|_| KeyTooLong)?;
        self.extend_record(ATTRIBUTES, device, |out| {
            out.push(scope as u8);
            out.extend_from_slice(&updated_ms.to_le_bytes());
            out.push(key_length);
            out.extend_from_slice(key.as_bytes());
            encode_value(value, out);
        });
        Ok(())
    }

    /// Appends to the open record if it is of this kind and device, else to a new one.
    fn extend_record(&mut self, kind: u8, device: DeviceId, body: impl FnOnce(&mut Vec<u8>)) {
        let device = device.0.to_le_bytes();
        let start = match self.open {
            Some(start)
                if self.bytes.get(start) == Some(&kind)
                    && self.bytes.get(start + 1..start + 9) == Some(&device[..]) =>
            {
                start
            }
            _ => {
                let start = self.bytes.len();
                self.bytes.push(kind);
                self.bytes.extend_from_slice(&device);
                self.bytes.extend_from_slice(&[0; 4]);
                self.records += 1;
                self.open = Some(start);
                start
            }
        };
        body(&mut self.bytes);
        let length = length_u32(self.bytes.len() - start - RECORD_HEADER_LEN);
        self.bytes[start + 9..start + RECORD_HEADER_LEN].copy_from_slice(&length.to_le_bytes());
    }
}

/// A record of a [`Batch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    /// A device's readings: see [`TelemetryItems`].
    Telemetry(DeviceId, &'a [u8]),
    /// A device's attributes: see [`AttributeItems`].
    Attributes(DeviceId, &'a [u8]),
    /// The device was removed.
    DeviceRemoved(DeviceId),
}

/// Reads the records of a batch. An item `None` means that the bytes are not records; it is last.
pub(crate) struct Records<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Option<Record<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let record = decode_record(&mut self.0);
        if record.is_none() {
            self.0 = &[];
        }
        Some(record)
    }
}

fn decode_record<'a>(bytes: &mut &'a [u8]) -> Option<Record<'a>> {
    let [kind] = take(bytes)?;
    let device = DeviceId(u64::from_le_bytes(take(bytes)?));
    let length = u32::from_le_bytes(take(bytes)?);
    let body = take_slice(bytes, length as usize)?;
    match kind {
        TELEMETRY => Some(Record::Telemetry(device, body)),
        ATTRIBUTES => Some(Record::Attributes(device, body)),
        DEVICE_REMOVED => Some(Record::DeviceRemoved(device)),
        _ => None,
    }
}

/// A reading within a telemetry body; the value is `None` when the one of this time was removed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct TelemetryItem<'a> {
    pub(crate) ts_ms: i64,
    pub(crate) key: &'a str,
    pub(crate) value: Option<ValueRef<'a>>,
}

/// Reads a telemetry body; ends at the end or at the first byte that fits nothing.
#[derive(Clone)]
pub(crate) struct TelemetryItems<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for TelemetryItems<'a> {
    type Item = TelemetryItem<'a>;

    fn next(&mut self) -> Option<TelemetryItem<'a>> {
        let bytes = &mut self.0;
        let ts_ms = i64::from_le_bytes(take(bytes)?);
        let key = decode_key(bytes)?;
        let value = decode_value(bytes)?;
        Some(TelemetryItem { ts_ms, key, value })
    }
}

/// A change of an attribute within an attributes body; the value is `None` when it was removed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct AttributeItem<'a> {
    pub(crate) scope: AttributeScope,
    pub(crate) updated_ms: i64,
    pub(crate) key: &'a str,
    pub(crate) value: Option<ValueRef<'a>>,
}

/// Reads an attributes body; ends at the end or at the first byte that fits nothing.
pub(crate) struct AttributeItems<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for AttributeItems<'a> {
    type Item = AttributeItem<'a>;

    fn next(&mut self) -> Option<AttributeItem<'a>> {
        let bytes = &mut self.0;
        let [scope] = take(bytes)?;
        let scope = AttributeScope::ALL
            .into_iter()
            .find(|s| *s as u8 == scope)?;
        let updated_ms = i64::from_le_bytes(take(bytes)?);
        let key = decode_key(bytes)?;
        let value = decode_value(bytes)?;
        Some(AttributeItem {
            scope,
            updated_ms,
            key,
            value,
        })
    }
}

/// A value, or that there is none any more.
fn encode_value(value: Option<ValueRef<'_>>, out: &mut Vec<u8>) {
    match value {
        Some(value) => value.encode(out),
        None => out.push(0),
    }
}

fn decode_value<'a>(bytes: &mut &'a [u8]) -> Option<Option<ValueRef<'a>>> {
    if bytes.first() == Some(&0) {
        take::<1>(bytes)?;
        return Some(None);
    }
    ValueRef::decode(bytes).map(Some)
}

fn decode_key<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let [length] = take(bytes)?;
    std::str::from_utf8(take_slice(bytes, usize::from(length))?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_one_device_are_joined_and_read_back() {
        let (a, b) = (DeviceId(1), DeviceId(u64::MAX));
        let mut batch = Batch::new();
        batch.push_telemetry(a, -5, "t", ValueRef::Long(1)).unwrap();
        batch
            .push_telemetry(a, 6, "h", ValueRef::String("x"))
            .unwrap();
        batch.remove_telemetry(a, 7, "t").unwrap();
        batch
            .push_telemetry(b, 7, "", ValueRef::Bool(true))
            .unwrap();
        let scope = AttributeScope::Shared;
        batch
            .push_attribute(b, scope, "k", 8, ValueRef::Json("[]"))
            .unwrap();
        batch.remove_attribute(b, scope, "l", 9).unwrap();
        batch.remove_device(a);
        assert_eq!(batch.records(), 4);

        let records: Option<Vec<_>> = Records(batch.as_bytes()).collect();
        let records = records.unwrap();
        let [
            Record::Telemetry(first, points),
            Record::Telemetry(second, _),
            Record::Attributes(third, attributes),
            Record::DeviceRemoved(fourth),
        ] = records[..]
        else {
            panic!("{records:?}");
        };
        assert_eq!([first, second, third, fourth], [a, b, b, a]);
        let points: Vec<_> = TelemetryItems(points)
            .map(|p| (p.ts_ms, p.key, p.value))
            .collect();
        assert_eq!(
            points,
            [
                (-5, "t", Some(ValueRef::Long(1))),
                (6, "h", Some(ValueRef::String("x"))),
                (7, "t", None),
            ]
        );
        let changes: Vec<_> = AttributeItems(attributes)
            .map(|i| (i.key, i.value))
            .collect();
        assert_eq!(changes, [("k", Some(ValueRef::Json("[]"))), ("l", None)]);
    }

    #[test]
    fn a_rollback_leaves_whole_records() {
        let mut batch = Batch::new();
        let device = DeviceId(3);
        batch
            .push_telemetry(device, 1, "a", ValueRef::Long(1))
            .unwrap();
        let before = batch.as_bytes().to_vec();
        let mark = batch.begin();
        batch
            .push_telemetry(device, 2, "a", ValueRef::Long(2))
            .unwrap();
        assert_eq!(batch.records(), 2);
        batch.rollback(mark);
        assert_eq!(batch.as_bytes(), before);
        batch
            .push_telemetry(device, 3, "a", ValueRef::Long(3))
            .unwrap();
        assert!(Records(batch.as_bytes()).all(|record| record.is_some()));
    }

    #[test]
    fn a_long_key_is_refused_and_changes_nothing() {
        let mut batch = Batch::new();
        let key = "k".repeat(KEY_BYTES_MAX + 1);
        let value = ValueRef::Bool(true);
        let refused = batch.push_telemetry(DeviceId(1), 0, &key, value);
        assert_eq!(refused, Err(KeyTooLong));
        assert!(batch.is_empty());
        let longest = &key[..KEY_BYTES_MAX];
        batch
            .push_telemetry(DeviceId(1), 0, longest, value)
            .unwrap();
    }

    #[test]
    fn bytes_that_are_no_records_end_the_reading() {
        let mut batch = Batch::new();
        batch
            .push_telemetry(DeviceId(1), 1, "a", ValueRef::Long(1))
            .unwrap();
        let bytes = batch.as_bytes();
        for cut in 1..bytes.len() {
            assert_eq!(Records(&bytes[..cut]).last(), Some(None), "{cut}");
        }
        assert_eq!(Records(&[9; 13]).last(), Some(None));
    }
}
