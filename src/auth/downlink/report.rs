//! What is told of each device's activity (TB section 8.5): server attributes, written in batches.
//!
//! `lastActivityTime`, `active` and `inactivityAlarmTime` follow uplinks and acknowledgements, never
//! the mere existence of a subscription. `lastConnectTime` and `lastDisconnectTime` are when a device's
//! first subscription began and its last one ended.
//!
//! After a start the devices are gone through once, some at a time: one that was active and never comes
//! back must become inactive, too.

use super::activity::{self, Entry};
use super::attributes::timeout_of;
use super::settings::INACTIVITY_TIMEOUT;
use super::slot::{Slot, Topic};
use super::{Hub, lock};
use crate::auth::request::PeerRef;
use crate::registry::DeviceId;
use crate::store::{AttributeScope, Batch, StoreError, Value, ValueRef};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Mutex;

const LAST_ACTIVITY: &str = "lastActivityTime";
const ACTIVE: &str = "active";
const INACTIVITY_ALARM: &str = "inactivityAlarmTime";
const LAST_CONNECT: &str = "lastConnectTime";
const LAST_DISCONNECT: &str = "lastDisconnectTime";

/// How often it is looked for devices that fell silent.
const CHECK_MS: u64 = 60_000;
/// Devices looked at per report after a start.
const RESTORED_AT_ONCE: usize = 4096;
/// Devices in one batch of the store.
const BATCH_DEVICES: usize = 4096;

/// When a device was heard of, milliseconds since the UNIX epoch, and what it observes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActivityView {
    /// Whether it was, within its inactivity time-out.
    pub active: bool,
    /// Its last request or acknowledgement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_activity_time: Option<u64>,
    /// When its first subscription began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_connect_time: Option<u64>,
    /// When its last subscription ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_disconnect_time: Option<u64>,
    /// When it was found inactive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inactivity_alarm_time: Option<u64>,
    /// What it observes now.
    #[serde(default)]
    pub observes: Vec<Topic>,
}

/// Where the reports have got to.
#[derive(Default)]
pub(super) struct Reporter {
    next_report_ms: u64,
    next_check_ms: u64,
    restored: Restored,
}

#[derive(Default)]
enum Restored {
    #[default]
    Nothing,
    UpTo(Box<str>),
    All,
}

/// Connections to be told of.
pub(super) type Connections = Mutex<HashMap<DeviceId, Connection, hashbrown::DefaultHashBuilder>>;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Connection {
    connected_ms: Option<u64>,
    disconnected_ms: Option<u64>,
}

impl Hub {
    /// Notes that a device's first subscription begins, or that its last one has ended.
    pub(super) fn connected(&self, device: DeviceId, begins: bool) {
        let now_ms = self.now_ms();
        let mut connections = lock(&self.connections);
        let connection = connections.entry(device).or_default();
        if begins {
            connection.connected_ms = Some(now_ms);
        } else {
            connection.disconnected_ms = Some(now_ms);
        }
    }

    /// When the next report is due.
    pub(super) fn next_report_ms(&self) -> u64 {
        lock(&self.reporter).next_report_ms
    }

    /// Reports, if it is time.
    pub(super) fn report(&self, now_ms: u64) {
        let mut reporter = lock(&self.reporter);
        if now_ms < reporter.next_report_ms {
            return;
        }
        if self.delivery.shards() == 0 {
            // Nobody is heard of here.
            reporter.next_report_ms = u64::MAX;
            return;
        }
        reporter.next_report_ms = now_ms + self.settings.report_period_ms;
        self.restore(&mut reporter.restored);
        self.report_activity();
        self.report_connections();
        if now_ms >= reporter.next_check_ms {
            reporter.next_check_ms = now_ms + CHECK_MS;
            self.report_silence(now_ms);
        }
    }

    /// Reports what is outstanding, as the server stops.
    pub(super) fn report_all(&self) {
        let _reporter = lock(&self.reporter);
        self.report_activity();
        self.report_connections();
    }

    /// Forgets a device that is gone: no report of it is written after this.
    pub(super) fn forget_activity(&self, device: DeviceId) {
        let _reporter = lock(&self.reporter);
        lock(&self.connections).remove(&device);
        if let Some(entry) = self.activity.entry(device) {
            entry.reset();
        }
    }

    /// Whether a device counts as active, by what is in memory: of devices that were heard of before
    /// the start only, this is right once all of them were gone through.
    pub fn is_active(&self, device: DeviceId) -> bool {
        let Some(entry) = self.activity.entry(device) else {
            return false;
        };
        let timeout_ms = entry.timeout_ms();
        let timeout_ms = timeout_ms.unwrap_or(self.settings.inactivity_timeout_ms);
        let last_ms = entry.last_ms();
        last_ms > 0 && self.now_ms().saturating_sub(last_ms) < timeout_ms
    }

    /// Who observes something of a device.
    pub fn observers(&self, device: DeviceId) -> Vec<PeerRef> {
        self.with(device, |state, _| {
            let slots = state.attributes.iter().chain(&state.rpc);
            let mut peers: Vec<_> = slots.map(Slot::peer).collect();
            peers.dedup();
            peers
        })
    }

    /// When a device was heard of.
    ///
    /// # Errors
    ///
    /// Stored data could not be read.
    pub fn activity(&self, device: DeviceId) -> Result<ActivityView, StoreError> {
        let keys = [
            LAST_ACTIVITY,
            INACTIVITY_ALARM,
            LAST_CONNECT,
            LAST_DISCONNECT,
            INACTIVITY_TIMEOUT,
        ];
        let scope = AttributeScope::Server;
        let stored = self.store.attributes(device, scope, Some(&keys))?;
        let time = |key: &str| {
            let found = stored.iter().find(|attribute| &*attribute.key == key)?;
            timeout_of(&found.value)
        };
        let unreported = lock(&self.connections).get(&device).copied();
        let unreported = unreported.unwrap_or_default();
        let in_memory = self.activity.entry(device).map_or(0, Entry::last_ms);
        let last_ms = time(LAST_ACTIVITY).unwrap_or(0).max(in_memory);
        let timeout_ms = time(INACTIVITY_TIMEOUT).unwrap_or(self.settings.inactivity_timeout_ms);
        Ok(ActivityView {
            active: last_ms > 0 && self.now_ms().saturating_sub(last_ms) < timeout_ms,
            last_activity_time: Some(last_ms).filter(|&ms| ms > 0),
            last_connect_time: unreported.connected_ms.or_else(|| time(LAST_CONNECT)),
            last_disconnect_time: unreported.disconnected_ms.or_else(|| time(LAST_DISCONNECT)),
            inactivity_alarm_time: time(INACTIVITY_ALARM),
            observes: self.with(device, |state, _| state.observed()),
        })
    }

    /// Looks at some more devices of before the start.
    fn restore(&self, restored: &mut Restored) {
        let after = match restored {
            Restored::Nothing => None,
            Restored::UpTo(name) => Some(&**name),
            Restored::All => return,
        };
        let devices = self.registry.list(after, RESTORED_AT_ONCE);
        for device in &devices {
            if let Some(entry) = self.activity.entry(device.id) {
                self.know(device.id, entry);
            }
        }
        *restored = match devices.last() {
            Some(last) => Restored::UpTo(last.name.clone()),
            None => Restored::All,
        };
    }

    /// Reads what was reported of a device before the start.
    fn know(&self, device: DeviceId, entry: &Entry) {
        if entry.has(activity::KNOWN) {
            return;
        }
        let keys = [ACTIVE, LAST_ACTIVITY, INACTIVITY_TIMEOUT];
        let scope = AttributeScope::Server;
        let stored = match self.store.attributes(device, scope, Some(&keys)) {
            Ok(stored) => stored,
            Err(error) => {
                tracing::error!(%error, %device, "activity cannot be read");
                return;
            }
        };
        entry.set(activity::KNOWN);
        let mut was_active = false;
        let mut last_ms = 0;
        for attribute in &stored {
            match (&*attribute.key, &attribute.value) {
                (ACTIVE, Value::Bool(active)) => was_active = *active,
                (LAST_ACTIVITY, value) => last_ms = timeout_of(value).unwrap_or(0),
                (INACTIVITY_TIMEOUT, value) => entry.set_timeout_ms(timeout_of(value)),
                _ => {}
            }
        }
        if was_active {
            entry.restore(last_ms);
            entry.set(activity::ACTIVE);
        }
    }

    fn report_activity(&self) {
        let mut news = Vec::new();
        self.activity
            .news(|device, entry| news.push((device, entry.last_ms())));
        let mut rest = &news[..];
        while !rest.is_empty() {
            let (part, after) = rest.split_at(rest.len().min(BATCH_DEVICES));
            let mut batch = Batch::new();
            for &(device, last_ms) in part {
                if self.registry.device(device).is_none() {
                    continue;
                }
                let Some(entry) = self.activity.entry(device) else {
                    continue;
                };
                self.know(device, entry);
                push_time(&mut batch, device, LAST_ACTIVITY, last_ms, last_ms);
                if !entry.has(activity::ACTIVE) {
                    push(&mut batch, device, ACTIVE, last_ms, ValueRef::Bool(true));
                }
            }
            if !self.append_report(batch) {
                // Nothing of them is stored: all of it again next time.
                for &(device, _) in rest {
                    self.activity.again(device);
                }
                return;
            }
            for &(device, last_ms) in part {
                if let Some(entry) = self.activity.entry(device) {
                    entry.set(activity::ACTIVE);
                    entry.reported(last_ms);
                }
            }
            rest = after;
        }
    }

    fn report_connections(&self) {
        let mut batch = Batch::new();
        let connections = std::mem::take(&mut *lock(&self.connections));
        for (&device, connection) in &connections {
            if self.registry.device(device).is_none() {
                continue;
            }
            for (key, time_ms) in [
                (LAST_CONNECT, connection.connected_ms),
                (LAST_DISCONNECT, connection.disconnected_ms),
            ] {
                if let Some(time_ms) = time_ms {
                    push_time(&mut batch, device, key, time_ms, time_ms);
                }
            }
        }
        if !self.append_report(batch) {
            let mut later = lock(&self.connections);
            for (device, connection) in connections {
                let known = later.entry(device).or_default();
                known.connected_ms = known.connected_ms.or(connection.connected_ms);
                known.disconnected_ms = known.disconnected_ms.or(connection.disconnected_ms);
            }
        }
    }

    fn report_silence(&self, now_ms: u64) {
        let default_ms = self.settings.inactivity_timeout_ms;
        let mut silent = Vec::new();
        self.activity.active(|device, entry| {
            let timeout_ms = entry.timeout_ms().unwrap_or(default_ms);
            if now_ms.saturating_sub(entry.last_ms()) >= timeout_ms {
                silent.push(device);
            }
        });
        for part in silent.chunks(BATCH_DEVICES) {
            let mut batch = Batch::new();
            for &device in part {
                if self.registry.device(device).is_some() {
                    push(&mut batch, device, ACTIVE, now_ms, ValueRef::Bool(false));
                    push_time(&mut batch, device, INACTIVITY_ALARM, now_ms, now_ms);
                }
            }
            if !self.append_report(batch) {
                return;
            }
            for &device in part {
                if let Some(entry) = self.activity.entry(device) {
                    entry.clear(activity::ACTIVE);
                }
            }
        }
    }

    fn append_report(&self, batch: Batch) -> bool {
        if batch.is_empty() {
            return true;
        }
        let completion = |result: Result<(), &StoreError>| {
            if let Err(error) = result {
                tracing::error!(%error, "a report of activity is lost");
            }
        };
        self.store.append(batch, Box::new(completion)).is_ok()
    }
}

fn push_time(batch: &mut Batch, device: DeviceId, key: &str, updated_ms: u64, time_ms: u64) {
    let time_ms = i64::try_from(time_ms).unwrap_or(i64::MAX);
    push(batch, device, key, updated_ms, ValueRef::Long(time_ms));
}

fn push(batch: &mut Batch, device: DeviceId, key: &str, updated_ms: u64, value: ValueRef<'_>) {
    let updated_ms = i64::try_from(updated_ms).unwrap_or(i64::MAX);
    // None of our keys is too long.
    let _ = batch.push_attribute(device, AttributeScope::Server, key, updated_ms, value);
}
