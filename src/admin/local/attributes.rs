//! Attributes in the store of this process.

use super::{LocalOperations, WRITE_TIMEOUT, reading};
use crate::admin::operations::{Attributes, ErrorKind, NewAttributes, OperationError, Reading};
use crate::auth::downlink::{Delta, SetRefusal};
use crate::registry::{Device, RegistryError};
use crate::store::batch::KEY_BYTES_MAX;
use crate::store::{AttributeScope, StoreError, Value};
use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Duration;

impl LocalOperations {
    pub(super) fn read_attributes(&self, name: &str) -> Result<Attributes, OperationError> {
        let device = self.find(name)?;
        Ok(Attributes {
            client: self.attributes_of(&device, AttributeScope::Client)?,
            shared: self.attributes_of(&device, AttributeScope::Shared)?,
            server: self.attributes_of(&device, AttributeScope::Server)?,
        })
    }

    fn attributes_of(
        &self,
        device: &Device,
        scope: AttributeScope,
    ) -> Result<BTreeMap<String, Reading>, OperationError> {
        let attributes = self.store.attributes(device.id, scope, None)?;
        Ok(attributes
            .into_iter()
            .map(|found| (found.key.into(), reading(found.updated_ms, &found.value)))
            .collect())
    }

    pub(super) fn write_attributes(
        &self,
        name: &str,
        scope: AttributeScope,
        attributes: &NewAttributes,
    ) -> Result<(), OperationError> {
        let device = self.find(name)?;
        let mut changes = Delta::default();
        for (key, value) in attributes {
            changes.insert(checked_key(key)?.into(), Some(value_of(key, value)?));
        }
        self.change_attributes(&device, scope, &changes)
    }

    pub(super) fn remove_attributes(
        &self,
        name: &str,
        scope: AttributeScope,
        keys: &[String],
    ) -> Result<(), OperationError> {
        let device = self.find(name)?;
        let mut changes = Delta::default();
        for key in keys {
            changes.insert(checked_key(key)?.into(), None);
        }
        self.change_attributes(&device, scope, &changes)
    }

    /// Changes attributes, has the device told if it observes them, and waits until all is durable.
    fn change_attributes(
        &self,
        device: &Device,
        scope: AttributeScope,
        changes: &Delta,
    ) -> Result<(), OperationError> {
        if changes.is_empty() {
            return Ok(());
        }
        // The store takes no more while it is behind; a change may wait for that a little.
        const ATTEMPTS: u32 = 50;
        const PAUSE: Duration = Duration::from_millis(20);
        for _ in 0..ATTEMPTS {
            let (sender, receiver) = mpsc::sync_channel(1);
            let done = Box::new(move |result: Result<(), StoreError>| {
                // Nobody listens any more after the time-out.
                let _ = sender.send(result);
            });
            match self.hub.set(device.id, scope, changes.clone(), done) {
                Ok(()) => {
                    let written = receiver.recv_timeout(WRITE_TIMEOUT);
                    return match written {
                        Ok(Ok(())) => Ok(()),
                        Ok(Err(error)) => Err(not_written(&error.to_string())),
                        Err(_) => Err(not_written("it takes too long")),
                    };
                }
                Err(SetRefusal::Overloaded) => std::thread::sleep(PAUSE),
                Err(SetRefusal::NoDevice) => {
                    return Err(RegistryError::Unknown(device.name.to_string()).into());
                }
                Err(refusal @ SetRefusal::Key) => return Err(not_written(&refusal.to_string())),
            }
        }
        Err(not_written("too much waits to be written"))
    }
}

fn not_written(reason: &str) -> OperationError {
    let message = format!("the attributes were not changed: {reason}");
    OperationError::new(
        ErrorKind::Failed,
        message,
        "look at the disk of TIDEGATE_DATA_DIR",
    )
}

fn checked_key(key: &str) -> Result<&str, OperationError> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        let message = format!("the key {key:?} is empty or longer than {KEY_BYTES_MAX} bytes");
        return Err(OperationError::new(
            ErrorKind::Invalid,
            message,
            "choose another",
        ));
    }
    Ok(key)
}

/// The value to store: strings stay strings, whatever they look like.
fn value_of(key: &str, json: &serde_json::Value) -> Result<Value, OperationError> {
    let invalid = |problem: &str, remedy: &str| {
        let message = format!("the value of {key:?} {problem}");
        OperationError::new(ErrorKind::Invalid, message, remedy)
    };
    Ok(match json {
        serde_json::Value::Null => {
            return Err(invalid("is null", "delete the attribute instead"));
        }
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(value), _) => Value::Long(value),
            (None, Some(value)) if number.is_f64() && value.is_finite() => Value::Double(value),
            _ => return Err(invalid("is beyond 64 bits", "give it as a string")),
        },
        serde_json::Value::String(text) => Value::String(text.as_str().into()),
        serde_json::Value::Array(_) | serde_json::Value::Object(_) => {
            Value::Json(json.to_string().into())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_keep_their_type() {
        for (json, expected) in [
            (json!(true), Value::Bool(true)),
            (json!(-5), Value::Long(-5)),
            (json!(i64::MAX), Value::Long(i64::MAX)),
            (json!(0.5), Value::Double(0.5)),
            (json!(1e300), Value::Double(1e300)),
            (json!("42"), Value::String("42".into())),
            (
                json!({"b": [1, null], "a": "x"}),
                Value::Json(r#"{"b":[1,null],"a":"x"}"#.into()),
            ),
        ] {
            assert_eq!(value_of("k", &json), Ok(expected), "{json}");
        }
        for wrong in [json!(null), json!(u64::MAX)] {
            assert!(value_of("k", &wrong).is_err(), "{wrong}");
        }
        assert!(checked_key("").is_err());
        assert!(checked_key(&"k".repeat(256)).is_err());
        assert!(checked_key(&"k".repeat(255)).is_ok());
    }
}
