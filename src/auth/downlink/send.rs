//! What goes to devices: notifications, as far as the window and the device's power mode allow.

use super::delta::Encoding;
use super::device::DeviceState;
use super::policy::Reach;
use super::relation::attributes_response;
use super::rpc::call_body;
use super::slot::{MESSAGE_BYTES, NOTIFICATION_BYTES_MAX, Topic};
use super::{Effects, Hub, activity};
use crate::auth::api::code;
use crate::auth::api::proto::OCTET_STREAM;
use crate::auth::request::Response;
use crate::queue::Full;
use crate::registry::DeviceId;
use crate::registry::profile::{PayloadType, Profile};
use std::sync::Arc;

/// Content-Format application/json.
const JSON: u16 = 50;
/// When a shard whose inbox was full is tried again.
const RETRY_MS: u64 = 10;
/// How long after a device was found asleep it is looked at once more: by then its last uplink, noted
/// by another core without any order, is seen.
const RECHECK_MS: u64 = 1000;

/// Whether something may go to a device now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reachable {
    Yes,
    /// Once: the extra downlink of eDRX.
    Once,
    No,
}

impl Hub {
    /// Whether the device listens now.
    pub(super) fn is_reachable(&self, device: DeviceId, state: &DeviceState) -> bool {
        self.reach(device, state) != Reachable::No
    }

    fn reach(&self, device: DeviceId, state: &DeviceState) -> Reachable {
        let (own_ms, default_ms, once_more) = match self.policies.reach(device) {
            Reach::Always => return Reachable::Yes,
            Reach::Psm { awake_ms } => (awake_ms, self.settings.psm_awake_ms, false),
            Reach::Edrx { window_ms } => (window_ms, self.settings.paging_window_ms, true),
        };
        let window_ms = own_ms.filter(|&ms| ms > 0).unwrap_or(default_ms);
        let last_ms = self
            .activity
            .entry(device)
            .map_or(0, activity::Entry::last_ms);
        if self.now_ms().saturating_sub(last_ms) <= window_ms {
            Reachable::Yes
        } else if once_more && last_ms > 0 && state.extra_after_ms != last_ms {
            Reachable::Once
        } else {
            Reachable::No
        }
    }

    /// Sends what can be sent, and sees to it that what cannot is thought of later.
    pub(super) fn pump(&self, device: DeviceId, state: &mut DeviceState, effects: &mut Effects) {
        let sent = self.send_all(device, state, effects);
        if let Some(entry) = self.activity.entry(device) {
            if sent == Sent::Asleep {
                if entry.set(activity::ATTENTION) {
                    self.wake_at(device, state, self.now_ms() + RECHECK_MS);
                }
            } else {
                entry.clear(activity::ATTENTION);
            }
        }
        if sent == Sent::Full || !state.unsaved.is_empty() {
            self.wake_at(device, state, self.now_ms() + RETRY_MS);
        }
        if let Some(due_ms) = state.due_ms(&self.settings) {
            self.wake_at(device, state, due_ms);
        }
    }

    fn send_all(&self, device: DeviceId, state: &mut DeviceState, effects: &mut Effects) -> Sent {
        if self.say_farewells(state, effects) == Sent::Full {
            return Sent::Full;
        }
        let changes = self.send_changes(device, state, effects);
        if changes == Sent::Full {
            return changes;
        }
        match self.send_calls(device, state, effects) {
            Sent::All => changes,
            other => other,
        }
    }

    fn say_farewells(&self, state: &mut DeviceState, effects: &mut Effects) -> Sent {
        while let Some(farewell) = state.farewells.front() {
            let notification = farewell.notification();
            if let Err(Full(_)) = self.delivery.notify(notification, &mut effects.touched) {
                return Sent::Full;
            }
            state.farewells.pop_front();
        }
        Sent::All
    }

    fn send_changes(
        &self,
        device: DeviceId,
        state: &mut DeviceState,
        effects: &mut Effects,
    ) -> Sent {
        if state.changes.is_empty() {
            return Sent::All;
        }
        let encoding = self.encoding(device);
        loop {
            let (Some(slot), Some(delta)) = (&state.attributes, state.changes.front()) else {
                return Sent::All;
            };
            let response = attributes_response(delta, encoding, slot.content_format);
            if response.payload.len() > MESSAGE_BYTES && state.split_change(MESSAGE_BYTES, encoding)
            {
                continue;
            }
            let Some(slot) = &state.attributes else {
                return Sent::All;
            };
            if response.payload.len() > NOTIFICATION_BYTES_MAX {
                // No shard takes it: a registration anew begins with it, block by block.
                state.farewells.push_back(slot.farewell());
                state.take_slot(Topic::Attributes);
                self.note_disconnect(device, state);
                return self.say_farewells(state, effects);
            }
            if !slot.has_room(response.payload.len()) {
                return Sent::All;
            }
            let reach = self.reach(device, state);
            if reach == Reachable::No {
                state.merge_changes();
                return Sent::Asleep;
            }
            let notification = slot.notification(response.clone());
            if let Err(Full(_)) = self.delivery.notify(notification, &mut effects.touched) {
                return Sent::Full;
            }
            state.change_gone();
            if let Some(slot) = &mut state.attributes {
                slot.pushed(response, None);
            }
            self.went_out(device, state, reach);
        }
    }

    fn send_calls(&self, device: DeviceId, state: &mut DeviceState, effects: &mut Effects) -> Sent {
        while let Some(slot) = &state.rpc
            && let Some(id) = state.next_call(self.settings.submit)
            && let Some(call) = state.calls.get(&id)
        {
            let profile = self.protobuf_profile(device);
            let Some(payload) = call_body(&call.record, profile.as_deref()) else {
                self.call_unusable(device, state, id, effects);
                continue;
            };
            let response = Response {
                code: code::CONTENT,
                content_format: Some(match profile {
                    Some(_) => OCTET_STREAM,
                    None => slot.content_format.unwrap_or(JSON),
                }),
                payload,
                ..Response::default()
            };
            if !slot.has_room(response.payload.len()) {
                return Sent::All;
            }
            let notification = slot.notification(response.clone());
            let relation = slot.relation;
            let reach = self.reach(device, state);
            if reach == Reachable::No {
                return Sent::Asleep;
            }
            if let Err(Full(_)) = self.delivery.notify(notification, &mut effects.touched) {
                return Sent::Full;
            }
            if let Some(slot) = &mut state.rpc {
                slot.pushed(response, Some(id));
            }
            self.went_out(device, state, reach);
            self.call_pushed(state, id, relation, effects);
        }
        Sent::All
    }

    /// The profile of a device that reads and writes protobuf. Asked whenever something is written for
    /// it, so that a change of the profile holds for live subscriptions (TB section 8.5).
    pub(super) fn protobuf_profile(&self, device: DeviceId) -> Option<Arc<Profile>> {
        if self.registry.profiles().are_plain() {
            return None;
        }
        let profile = self.registry.profile_of(device)?;
        (profile.settings.payload_type == PayloadType::Protobuf).then_some(profile)
    }

    /// How the device reads what is not of its profile's schemas.
    pub(super) fn encoding(&self, device: DeviceId) -> Encoding {
        match self.protobuf_profile(device) {
            Some(_) => Encoding::Protobuf,
            None => Encoding::Json,
        }
    }

    fn went_out(&self, device: DeviceId, state: &mut DeviceState, reach: Reachable) {
        if reach == Reachable::Once
            && let Some(entry) = self.activity.entry(device)
        {
            state.extra_after_ms = entry.last_ms();
        }
    }

    fn wake_at(&self, device: DeviceId, state: &mut DeviceState, at_ms: u64) {
        if state.wake_at_ms.is_none_or(|known_ms| at_ms < known_ms) {
            state.wake_at_ms = Some(at_ms);
            self.work.wake_at(device, at_ms);
        }
    }
}

/// How far sending got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// All that the windows have room for.
    All,
    /// The device has to wake up first.
    Asleep,
    /// The shard's inbox has no room.
    Full,
}
