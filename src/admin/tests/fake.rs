//! Operations on devices in memory.

use super::super::operations::claims::ClaimOperations;
use super::super::operations::ota::OtaOperations;
use super::super::operations::profiles::ProfileOperations;
use super::super::operations::rpc::RpcOperations;
use super::super::operations::sessions::*;
use super::super::operations::*;
use crate::store::{AttributeScope, HistoryQuery, Order};
use serde_json::json;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Devices in memory; each has one reading per second under the key `t`.
#[derive(Default)]
pub(super) struct Fake {
    devices: Mutex<BTreeMap<String, DeviceView>>,
    attributes: Mutex<BTreeMap<(String, AttributeScope, String), serde_json::Value>>,
}

impl Fake {
    fn insert(&self, device: &NewDevice) -> Result<DeviceView, OperationError> {
        let mut devices = self.devices.lock().unwrap();
        if devices.contains_key(&device.name) {
            return Err(OperationError::new(ErrorKind::Conflict, "name taken", ""));
        }
        if device.name == "panic" {
            panic!("as asked");
        }
        let view = DeviceView {
            id: devices.len() as u64 + 1,
            name: device.name.clone(),
            profile: device
                .profile
                .clone()
                .unwrap_or_else(|| "default".to_owned()),
            created_ms: 1,
            credentials_type: CredentialsType::AccessToken,
            credentials_id: device.token.clone(),
            activity: None,
            active: None,
            psk: None,
        };
        devices.insert(device.name.clone(), view.clone());
        Ok(view)
    }
}

fn raw(value: &serde_json::Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}

/// No device can be called.
impl RpcOperations for Fake {}

impl ProfileOperations for Fake {}
impl OtaOperations for Fake {}
impl ClaimOperations for Fake {}

impl Operations for Fake {
    fn devices(&self, after: Option<&str>, limit: usize) -> Result<DevicePage, OperationError> {
        let devices = self.devices.lock().unwrap();
        let mut found: Vec<_> = devices.values().cloned().collect();
        found.retain(|device| after.is_none_or(|after| *device.name > *after));
        let more = found.len() > limit;
        found.truncate(limit);
        Ok(DevicePage {
            next_after: found
                .last()
                .filter(|_| more)
                .map(|device| device.name.clone()),
            devices: found,
        })
    }

    fn device(&self, name: &str) -> Result<DeviceView, OperationError> {
        let devices = self.devices.lock().unwrap();
        let missing = || OperationError::new(ErrorKind::NotFound, "no such device", "add it");
        devices.get(name).cloned().ok_or_else(missing)
    }

    fn add(&self, device: &NewDevice) -> Result<DeviceView, OperationError> {
        self.insert(device)
    }

    fn add_all(&self, devices: &[NewDevice]) -> Result<Vec<Added>, OperationError> {
        Ok(devices.iter().map(|d| self.insert(d).map(drop)).collect())
    }

    fn remove(&self, name: &str) -> Result<(), OperationError> {
        self.device(name)?;
        self.devices.lock().unwrap().remove(name);
        Ok(())
    }

    fn latest(&self, name: &str) -> Result<Latest, OperationError> {
        self.device(name)?;
        let reading = |ts, value| Reading { ts, value };
        let text = "{\"a\":1.0E10}".to_owned();
        Ok(BTreeMap::from([
            ("t".to_owned(), reading(5, raw(&json!(42)))),
            (
                "j".to_owned(),
                reading(6, RawValue::from_string(text).unwrap()),
            ),
        ]))
    }

    fn history(
        &self,
        name: &str,
        key: &str,
        query: HistoryQuery,
    ) -> Result<Vec<Reading>, OperationError> {
        self.device(name)?;
        let mut times: Vec<i64> = (0..100).map(|second| second * 1000).collect();
        if query.order == Order::Descending {
            times.reverse();
        }
        Ok(times
            .into_iter()
            .filter(|ts| (query.from_ms..=query.to_ms).contains(ts))
            .take(query.limit)
            .map(|ts| Reading {
                ts,
                value: raw(&json!(format!("{key} at {ts}"))),
            })
            .collect())
    }

    fn attributes(&self, name: &str) -> Result<Attributes, OperationError> {
        self.device(name)?;
        let found = self.attributes.lock().unwrap();
        let mut attributes = Attributes::default();
        for ((device, scope, key), value) in found.iter().filter(|((of, ..), _)| of == name) {
            let scope = match scope {
                AttributeScope::Client => &mut attributes.client,
                AttributeScope::Shared => &mut attributes.shared,
                AttributeScope::Server => &mut attributes.server,
                AttributeScope::Rpc => continue,
            };
            assert_eq!(device, name);
            let value = raw(value);
            scope.insert(key.clone(), Reading { ts: 1, value });
        }
        Ok(attributes)
    }

    fn set_credentials(
        &self,
        name: &str,
        credentials: &NewCredentials,
    ) -> Result<DeviceView, OperationError> {
        self.device(name)?;
        let mut devices = self.devices.lock().unwrap();
        let device = devices.get_mut(name).unwrap();
        device.credentials_id = credentials.token.clone();
        Ok(device.clone())
    }

    fn set_profile(&self, name: &str, profile: &str) -> Result<DeviceView, OperationError> {
        self.device(name)?;
        let mut devices = self.devices.lock().unwrap();
        let device = devices.get_mut(name).unwrap();
        profile.clone_into(&mut device.profile);
        Ok(device.clone())
    }

    /// Tells the length of the time, of which it deletes nothing.
    fn delete_telemetry(
        &self,
        name: &str,
        key: &str,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Deleted, OperationError> {
        self.device(name)?;
        assert_eq!(key, "a&b");
        let deleted = to_ms.abs_diff(from_ms);
        Ok(Deleted { deleted })
    }

    fn set_attributes(
        &self,
        name: &str,
        scope: AttributeScope,
        attributes: &NewAttributes,
    ) -> Result<(), OperationError> {
        self.device(name)?;
        let mut found = self.attributes.lock().unwrap();
        for (key, value) in attributes {
            found.insert((name.to_owned(), scope, key.clone()), value.clone());
        }
        Ok(())
    }

    fn delete_attributes(
        &self,
        name: &str,
        scope: AttributeScope,
        keys: &[String],
    ) -> Result<(), OperationError> {
        self.device(name)?;
        let mut found = self.attributes.lock().unwrap();
        for key in keys {
            found.remove(&(name.to_owned(), scope, key.clone()));
        }
        Ok(())
    }
}

/// Sessions 0-0-0 to 0-9-0, in parts of at most four.
impl SessionOperations for Fake {
    fn sessions(&self, query: &SessionQuery) -> Result<SessionPage, OperationError> {
        let first = query
            .after
            .as_deref()
            .map_or(0, |after| after.parse().unwrap());
        let end = 10.min(first + query.limit.min(4));
        let device = query.device.clone();
        let session = |slot| SessionView {
            id: format!("0-{slot}-0"),
            shard: 0,
            peer: "192.0.2.1:5000".to_owned(),
            identity: SessionIdentityKind::Certificate,
            device: device.clone(),
            suite: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256".to_owned(),
            connection_id: "00".repeat(8),
            resumed: false,
            age_s: 5,
            idle_s: 1,
        };
        Ok(SessionPage {
            sessions: (first..end).map(session).collect(),
            next_after: (end < 10).then(|| end.to_string()),
        })
    }

    fn close_session(&self, id: &str) -> Result<(), OperationError> {
        if id == "0-1/2-0" {
            return Ok(());
        }
        Err(OperationError::new(
            ErrorKind::NotFound,
            "no such session",
            "",
        ))
    }
}
