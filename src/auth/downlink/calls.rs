//! Calls to devices, from their making to their end (TB section 7.5).

use super::device::{DeviceState, Write, tell};
use super::rpc::{
    CALL_BYTES_MAX, NewRpc, Rpc, RpcEnd, RpcMode, RpcRecord, RpcRefusal, RpcState, Stage, Waiter,
    answer_text, call_body, record_key,
};
use super::settings::SubmitStrategy;
use super::slot::Topic;
use super::{Effects, Hub};
use crate::auth::api::code;
use crate::auth::json;
use crate::auth::pool::RETRY_AFTER_S;
use crate::auth::request::{RelationEnd, RelationId, Request, Response, Verdict};
use crate::auth::tally::Tallied;
use crate::registry::DeviceId;
use crate::store::{Attribute, AttributeScope, Batch, StoreError, Value, ValueRef};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

impl Hub {
    /// A call has gone to the shard of its observer.
    pub(super) fn call_pushed(
        &self,
        state: &mut DeviceState,
        id: i32,
        relation: RelationId,
        effects: &mut Effects,
    ) {
        let Some(call) = state.calls.get_mut(&id) else {
            return;
        };
        call.stage = Stage::Pushed {
            relation,
            sent_ms: None,
        };
        if call.record.one_way && !call.record.persistent {
            tell(call, RpcEnd::Gone, &mut effects.afterwards);
            state.take_call(id);
        }
    }

    /// A call cannot be written by the device's schema any more: it has failed.
    pub(super) fn call_unusable(
        &self,
        device: DeviceId,
        state: &mut DeviceState,
        id: i32,
        effects: &mut Effects,
    ) {
        let Some(call) = state.calls.get_mut(&id) else {
            return;
        };
        tell(call, RpcEnd::Unusable, &mut effects.afterwards);
        if call.record.persistent {
            call.record.state = RpcState::Failed;
            call.stage = Stage::Done;
            self.save_call(device, state, id);
        } else {
            state.take_call(id);
        }
    }

    /// The shard has sent a call for the first time and awaits the acknowledgement.
    pub(super) fn call_sent(
        &self,
        device: DeviceId,
        state: &mut DeviceState,
        id: i32,
        now_ms: u64,
    ) {
        let Some(call) = state.calls.get_mut(&id) else {
            return;
        };
        if let Stage::Pushed { relation, .. } = call.stage {
            call.stage = Stage::Pushed {
                relation,
                sent_ms: Some(now_ms),
            };
            call.record.state = RpcState::Sent;
            self.save_call(device, state, id);
        }
    }

    /// The device has a call.
    pub(super) fn call_delivered(
        &self,
        device: DeviceId,
        state: &mut DeviceState,
        id: i32,
        now_ms: u64,
    ) {
        let Some(call) = state.calls.get_mut(&id) else {
            return;
        };
        if matches!(call.stage, Stage::Pushed { .. }) {
            call.record.state = RpcState::Delivered;
            call.stage = if call.record.one_way {
                Stage::Done
            } else {
                Stage::Delivered { since_ms: now_ms }
            };
            self.save_call(device, state, id);
        }
    }

    /// What time alone brings about.
    pub(super) fn on_timer(&self, device: DeviceId, now_ms: u64) {
        self.with(device, |state, effects| {
            state.wake_at_ms = state.wake_at_ms.filter(|&at_ms| at_ms > now_ms);
            for id in std::mem::take(&mut state.unsaved) {
                self.save_call(device, state, id);
            }
            let ids: Vec<i32> = state.calls.keys().copied().collect();
            for id in ids {
                self.call_due(device, state, id, now_ms, effects);
            }
        });
    }

    fn call_due(
        &self,
        device: DeviceId,
        state: &mut DeviceState,
        id: i32,
        now_ms: u64,
        effects: &mut Effects,
    ) {
        let Some(call) = state.calls.get_mut(&id) else {
            return;
        };
        let is_over = |since_ms: u64, wait_ms| now_ms >= since_ms.saturating_add(wait_ms);
        if call.stage == Stage::Done {
            return;
        }
        if now_ms >= call.record.expires_ms {
            let end = RpcEnd::Unanswered(call.record.state);
            tell(call, end, &mut effects.afterwards);
            if !call.record.persistent {
                state.take_call(id);
                return;
            }
            call.record.state = RpcState::Expired;
            call.stage = Stage::Done;
            self.save_call(device, state, id);
            return;
        }
        if !call.record.persistent {
            return;
        }
        match call.stage {
            Stage::Pushed {
                sent_ms: Some(sent_ms),
                ..
            } if call.record.state == RpcState::Sent
                && is_over(sent_ms, self.settings.paging_window_ms) =>
            {
                // The shard goes on trying; an acknowledgement that comes late still counts.
                call.record.state = RpcState::Timeout;
                if self.settings.close_on_delivery_timeout {
                    self.close_after_timeout(device, state);
                } else {
                    self.save_call(device, state, id);
                }
            }
            Stage::Delivered { since_ms }
                if self.settings.submit == SubmitStrategy::SequentialOnResponse
                    && is_over(since_ms, self.settings.response_timeout_ms) =>
            {
                DeviceState::attempt_failed(call);
                self.save_call(device, state, id);
            }
            _ => {}
        }
    }

    /// Reads the kept calls, once after the device's state was made.
    pub(super) fn load(&self, device: DeviceId, state: &mut DeviceState) -> Result<(), StoreError> {
        if state.is_loaded {
            return Ok(());
        }
        for stored in self.store.attributes(device, AttributeScope::Rpc, None)? {
            let Some(record) = read_record(&stored) else {
                tracing::error!(%device, key = %stored.key, "the record of a call is damaged");
                continue;
            };
            state.next_call = state.next_call.max(record.id.saturating_add(1));
            if record.is_done() {
                state.done.insert(record.id, record.bytes());
            } else if !state.calls.contains_key(&record.id) {
                state.add_call(Rpc::restored(record));
            }
        }
        state.is_loaded = true;
        Ok(())
    }

    /// Writes the record of a kept call as it is now; the last one lets the call go once it is durable.
    pub(super) fn save_call(&self, device: DeviceId, state: &mut DeviceState, id: i32) {
        let Some(call) = state.calls.get(&id) else {
            return;
        };
        if !call.record.persistent {
            return;
        }
        let write = Write {
            ends: (call.stage == Stage::Done).then_some(id),
            ..Write::default()
        };
        let batch = self.record_batch(device, &call.record);
        if self.write(device, state, batch, write).is_err() {
            state.unsaved.insert(id);
        }
    }

    fn record_batch(&self, device: DeviceId, record: &RpcRecord) -> Batch {
        let mut batch = Batch::new();
        let updated_ms = i64::try_from(self.now_ms()).unwrap_or(i64::MAX);
        let text = serde_json::to_string(record).unwrap_or_default();
        let (key, value) = (record_key(record.id), ValueRef::Json(&text));
        // Keys of ten digits are never too long.
        let _ = batch.push_attribute(device, AttributeScope::Rpc, &key, updated_ms, value);
        batch
    }

    /// The last record of a call is durable, or will never be.
    pub(super) fn call_recorded(&self, state: &mut DeviceState, id: i32) {
        let call = state.calls.get(&id);
        if let Some(call) = call.filter(|call| call.stage == Stage::Done) {
            state.done.insert(id, call.record.bytes());
            state.take_call(id);
        }
    }

    /// Calls a device. `waiter` hears how it ended; of a call that is kept, when it is stored.
    ///
    /// # Errors
    ///
    /// The call was not taken, and `waiter` is not called.
    pub fn send_rpc(
        &self,
        device: DeviceId,
        new: &NewRpc,
        waiter: Waiter<Result<RpcEnd, RpcRefusal>>,
    ) -> Result<(), RpcRefusal> {
        let now_ms = self.now_ms();
        let mut record = self.new_record(new, now_ms)?;
        let profile = self.protobuf_profile(device);
        if call_body(&record, profile.as_deref()).is_none() {
            return Err(RpcRefusal::Invalid(
                "it is no message of the profile's protoSchemas.rpcRequest",
            ));
        }
        self.with(device, |state, _| {
            if self.registry.device(device).is_none() {
                return Err(RpcRefusal::NoDevice);
            }
            self.load(device, state)
                .map_err(|error| RpcRefusal::Store(error.to_string()))?;
            record.id = free_number(state);
            let mut call = Rpc::new(record, None);
            if !state.takes_call(call.bytes()) {
                return Err(RpcRefusal::TooMany);
            }
            let id = call.record.id;
            if call.record.persistent {
                self.keep(device, state, &call.record, waiter)?;
            } else {
                call.waiter = Some(Box::new(move |end| waiter(Ok(end))));
            }
            state.next_call = id.checked_add(1).unwrap_or(0);
            self.tally.count(if call.record.persistent {
                Tallied::PersistentCalls
            } else {
                Tallied::Calls
            });
            state.add_call(call);
            Ok(())
        })
    }

    fn keep(
        &self,
        device: DeviceId,
        state: &mut DeviceState,
        record: &RpcRecord,
        waiter: Waiter<Result<RpcEnd, RpcRefusal>>,
    ) -> Result<(), RpcRefusal> {
        let id = record.id;
        let mut batch = self.record_batch(device, record);
        while let Some(oldest) = state.take_superfluous() {
            let (key, scope) = (record_key(oldest), AttributeScope::Rpc);
            // As above.
            let _ = batch.remove_attribute(device, scope, &key, 0);
        }
        let done: Waiter<Result<(), StoreError>> = Box::new(move |result| {
            waiter(match result {
                Ok(()) => Ok(RpcEnd::Kept(id)),
                Err(error) => Err(RpcRefusal::Store(error.to_string())),
            });
        });
        let write = Write {
            done: Some(done),
            ..Write::default()
        };
        self.write(device, state, batch, write)
            .map_err(|_| RpcRefusal::Store(StoreError::Overloaded.to_string()))
    }

    fn new_record(&self, new: &NewRpc, now_ms: u64) -> Result<RpcRecord, RpcRefusal> {
        let params = new.params.as_deref().map_or("{}", RawValue::get);
        if new.method.is_empty() {
            return Err(RpcRefusal::Invalid("it has no method"));
        }
        if new.method.len() + params.len() > CALL_BYTES_MAX {
            return Err(RpcRefusal::Invalid(
                "method and parameters have more than 32 KiB",
            ));
        }
        // Without spaces, as ThingsBoard sends them; constrained devices count bytes.
        let document = json::parse(params)
            .map_err(|_| RpcRefusal::Invalid("the parameters are nested too deep"))?;
        let mut compact = String::with_capacity(params.len());
        document.write(&mut compact);
        let params = RawValue::from_string(compact)
            .map_err(|_| RpcRefusal::Invalid("the parameters are no JSON"))?;
        if new.expiration_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            return Err(RpcRefusal::Invalid(
                "the time when it is to be given up is over already",
            ));
        }
        let timeout_ms = new
            .timeout_ms
            .unwrap_or(self.settings.call_timeout_ms)
            .max(self.settings.call_timeout_min_ms);
        Ok(RpcRecord {
            id: 0,
            method: new.method.clone(),
            params,
            one_way: new.mode == RpcMode::OneWay,
            persistent: new.persistent,
            created_ms: now_ms,
            expires_ms: new
                .expiration_ms
                .unwrap_or_else(|| now_ms.saturating_add(timeout_ms)),
            retries_left: new.retries.unwrap_or(self.settings.retries_max),
            state: RpcState::Queued,
            response: None,
        })
    }

    /// Takes a device's reply to a call. The answer to the device, or `None` when it comes once the
    /// reply is durable. A call that nobody knows any more is 2.01 as well (TB section 7.5).
    pub fn reply(&self, device: DeviceId, id: i32, request: &Request) -> Option<Response> {
        let profile = self.protobuf_profile(device);
        let answer = match answer_text(request.message.payload(), profile.as_deref()) {
            Ok(answer) => answer,
            Err(code) => return Some(Response::empty(code)),
        };
        let created = Some(Response::empty(code::CREATED));
        self.with(device, |state, effects| {
            if let Err(error) = self.load(device, state) {
                tracing::error!(%error, %device, "kept calls cannot be read");
                return Some(Response::empty(code::INTERNAL_SERVER_ERROR));
            }
            let Some(call) = state.calls.get_mut(&id) else {
                return created;
            };
            if call.record.one_way || call.stage == Stage::Done {
                return created;
            }
            if !call.record.persistent {
                tell(call, RpcEnd::Answer(answer), &mut effects.afterwards);
                state.take_call(id);
                return created;
            }
            let record = RpcRecord {
                state: RpcState::Successful,
                response: RawValue::from_string(answer).ok(),
                ..call.record.clone()
            };
            let batch = self.record_batch(device, &record);
            let write = Write {
                ends: Some(id),
                verdict: Some(Verdict {
                    peer: request.peer,
                    exchange: request.exchange,
                    response: Response::empty(code::CREATED),
                    buffer: Vec::new(),
                }),
                ..Write::default()
            };
            if self.write(device, state, batch, write).is_err() {
                return Some(Response {
                    max_age: Some(RETRY_AFTER_S),
                    ..Response::empty(code::SERVICE_UNAVAILABLE)
                });
            }
            if let Some(call) = state.calls.get_mut(&id) {
                call.record = record;
                call.stage = Stage::Done;
            }
            None
        })
    }

    /// The calls of a device: those under way, and those that are kept, oldest first.
    ///
    /// # Errors
    ///
    /// Stored data could not be read.
    pub fn calls(&self, device: DeviceId) -> Result<Vec<RpcRecord>, StoreError> {
        self.with(device, |state, _| {
            self.load(device, state)?;
            let mut calls = BTreeMap::new();
            for stored in self.store.attributes(device, AttributeScope::Rpc, None)? {
                // Those that were removed may still be on their way out of the store.
                if let Some(record) = read_record(&stored)
                    && state.done.contains_key(&record.id)
                {
                    calls.insert(record.id, record);
                }
            }
            for (id, call) in &state.calls {
                calls.insert(*id, call.record.clone());
            }
            Ok(calls.into_values().collect())
        })
    }

    /// Deletes a call, done or not. `done` hears when that is durable; `false` when there is none.
    ///
    /// # Errors
    ///
    /// It cannot be read or written; `done` is not called.
    pub fn delete_rpc(
        &self,
        device: DeviceId,
        id: i32,
        done: Waiter<Result<(), StoreError>>,
    ) -> Result<bool, StoreError> {
        self.with(device, |state, effects| {
            self.load(device, state)?;
            let is_kept = match state.calls.get_mut(&id) {
                Some(call) => call.record.persistent,
                None => state.done.contains_key(&id),
            };
            if !is_kept {
                let Some(mut call) = state.take_call(id) else {
                    return Ok(false);
                };
                tell(&mut call, RpcEnd::Deleted, &mut effects.afterwards);
                effects.afterwards.push(Box::new(move || done(Ok(()))));
                return Ok(true);
            }
            let mut batch = Batch::new();
            // Keys of ten digits are never too long.
            let _ = batch.remove_attribute(device, AttributeScope::Rpc, &record_key(id), 0);
            let write = Write {
                done: Some(done),
                ..Write::default()
            };
            self.write(device, state, batch, write)
                .map_err(|_| StoreError::Overloaded)?;
            state.done.remove(&id);
            state.unsaved.remove(&id);
            if let Some(mut call) = state.take_call(id) {
                tell(&mut call, RpcEnd::Deleted, &mut effects.afterwards);
            }
            Ok(true)
        })
    }

    /// Ends the observer of calls that does not acknowledge; what it had waits for the next one.
    fn close_after_timeout(&self, device: DeviceId, state: &mut DeviceState) {
        if let Some(slot) = &state.rpc {
            state.farewells.push_back(slot.farewell());
            self.observer_gone(device, Topic::Rpc, RelationEnd::TimedOut, state);
        }
    }
}

/// A number that no call of the device has.
fn free_number(state: &DeviceState) -> i32 {
    let mut id = state.next_call.max(0);
    while state.calls.contains_key(&id) || state.done.contains_key(&id) {
        id = id.checked_add(1).unwrap_or(0);
    }
    id
}

fn read_record(stored: &Attribute) -> Option<RpcRecord> {
    match &stored.value {
        Value::Json(text) => serde_json::from_str(text).ok(),
        _ => None,
    }
}
