//! Attributes in the store of this process.

use super::{LocalOperations, WRITE_TIMEOUT, reading};
use crate::admin::operations::profiles::Changed;
use crate::admin::operations::{Attributes, ErrorKind, NewAttributes, OperationError, Reading};
use crate::auth::downlink::{Delta, SetRefusal};
use crate::registry::{Device, RegistryError};
use crate::store::batch::KEY_BYTES_MAX;
use crate::store::{AttributeScope, StoreError, Value};
use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// The attribute that tells the operator that a device has fetched its credentials.
pub(super) const PROVISION_STATE: &str = "provisionState";
/// Devices of the registry looked at, and changed, at a time.
const PAGE: usize = 1000;

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
        self.change_attributes(&device, scope, &changes_of(attributes)?)
    }

    /// Sets attributes of all devices of a profile, page by page.
    pub(super) fn write_profile_attributes(
        &self,
        profile: &str,
        scope: AttributeScope,
        attributes: &NewAttributes,
    ) -> Result<Changed, OperationError> {
        let changes = changes_of(attributes)?;
        let mut changed = Changed::default();
        self.of_profile(profile, &mut |devices| {
            let each = devices.iter().map(|device| (&**device, changes.clone()));
            self.change_many(scope, each)
                .map_err(|reason| not_written(&reason))?;
            changed.devices += devices.len() as u64;
            Ok(())
        })?;
        Ok(changed)
    }

    /// Hands the devices of a profile to `visit`, some at a time.
    pub(super) fn of_profile(
        &self,
        profile: &str,
        visit: &mut dyn FnMut(Vec<Arc<Device>>) -> Result<(), OperationError>,
    ) -> Result<(), OperationError> {
        let mut after = None::<Box<str>>;
        loop {
            let mut page = self.registry.list(after.as_deref(), PAGE);
            let is_last = page.len() < PAGE;
            after = page.last().map(|last| last.name.clone());
            page.retain(|device| *device.profile == *profile);
            visit(page)?;
            if is_last {
                return Ok(());
            }
        }
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
        self.change_attributes(&device, scope, &changes)?;
        // As in ThingsBoard: without this attribute a device may fetch its credentials once more.
        if scope == AttributeScope::Server && keys.iter().any(|key| key == PROVISION_STATE) {
            self.registry.change_options(name, &mut |options| {
                options.provisioned = false;
                Ok(())
            })?;
        }
        Ok(())
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
        let (sender, receiver) = mpsc::channel();
        let started = self.start_change(device, scope, changes, &sender);
        drop(sender);
        started
            .and_then(|()| settled(&receiver))
            .map_err(|error| match error {
                Unwritten::NoDevice => RegistryError::Unknown(device.name.to_string()).into(),
                Unwritten::Failed(reason) => not_written(&reason),
            })
    }

    /// Changes attributes of many devices; one that is removed meanwhile is passed over.
    ///
    /// # Errors
    /// What stopped it; some changes may have been made.
    pub(super) fn change_many<'a>(
        &self,
        scope: AttributeScope,
        changes: impl Iterator<Item = (&'a Device, Delta)>,
    ) -> Result<(), String> {
        let (sender, receiver) = mpsc::channel();
        for (device, changes) in changes {
            let started = self.start_change(device, scope, &changes, &sender);
            if let Err(Unwritten::Failed(reason)) = started {
                return Err(reason);
            }
        }
        drop(sender);
        settled(&receiver).or_else(|error| match error {
            Unwritten::NoDevice => Ok(()),
            Unwritten::Failed(reason) => Err(reason),
        })
    }

    /// Has the hub change attributes; `done` hears of its end.
    fn start_change(
        &self,
        device: &Device,
        scope: AttributeScope,
        changes: &Delta,
        done: &mpsc::Sender<Result<(), StoreError>>,
    ) -> Result<(), Unwritten> {
        // The store takes no more while it is behind; a change may wait for that a little.
        const ATTEMPTS: u32 = 50;
        const PAUSE: Duration = Duration::from_millis(20);
        for _ in 0..ATTEMPTS {
            let done = done.clone();
            let done = Box::new(move |result: Result<(), StoreError>| {
                // Nobody listens any more after the time-out.
                let _ = done.send(result);
            });
            match self.hub.set(device.id, scope, changes.clone(), done) {
                Ok(()) => return Ok(()),
                Err(SetRefusal::Overloaded) => std::thread::sleep(PAUSE),
                Err(SetRefusal::NoDevice) => return Err(Unwritten::NoDevice),
                Err(refusal @ SetRefusal::Key) => {
                    return Err(Unwritten::Failed(refusal.to_string()));
                }
            }
        }
        Err(Unwritten::Failed("too much waits to be written".to_owned()))
    }
}

/// What is to be set, as the hub takes it.
fn changes_of(attributes: &NewAttributes) -> Result<Delta, OperationError> {
    let mut changes = Delta::default();
    for (key, value) in attributes {
        changes.insert(checked_key(key)?.into(), Some(value_of(key, value)?));
    }
    Ok(changes)
}

/// Why attributes were not changed.
enum Unwritten {
    NoDevice,
    Failed(String),
}

/// Waits until every change is durable that still has a sender.
fn settled(results: &mpsc::Receiver<Result<(), StoreError>>) -> Result<(), Unwritten> {
    loop {
        match results.recv_timeout(WRITE_TIMEOUT) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Unwritten::Failed(error.to_string())),
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                return Err(Unwritten::Failed("it takes too long".to_owned()));
            }
        }
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
