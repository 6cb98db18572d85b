//! Observe relations: how they begin, what their shards report, how they end (TB sections 8.1, 8.3).

use super::delta::Encoding;
use super::device::{DeviceState, tell};
use super::rpc::{RpcEnd, RpcState, Stage};
use super::slot::{Opening, Slot, Topic};
use super::{Delta, Effects, Hub, lock};
use crate::auth::api::code;
use crate::auth::api::proto::OCTET_STREAM;
use crate::auth::pool::{self, RETRY_AFTER_S};
use crate::auth::request::{
    RelationEnd, RelationEvent, RelationEventKind, RelationId, Request, Response, Verdict,
};
use crate::queue::WorkerQueues;
use crate::registry::DeviceId;
use crate::store::{AttributeScope, StoreError};
use std::sync::{Arc, PoisonError};

/// Content-Format application/json.
const JSON: u16 = 50;
/// 2.03 Valid: the first answer to who observes calls (TB section 7.5).
const VALID: u8 = 0x43;
/// Events applied before others may have the lock.
const EVENTS_AT_ONCE: usize = 256;

impl Hub {
    /// Registers the sender of `request` as the observer of `topic`. The hub gives the verdict itself,
    /// so that nothing overtakes it.
    ///
    /// `may` says whether the sender may still speak for the device: asked under the lock under which
    /// the end of a credential ends subscriptions, so that none slips through between the two.
    ///
    /// # Errors
    ///
    /// There is no relation: this is the answer.
    pub fn observe(
        &self,
        topic: Topic,
        device: DeviceId,
        request: &Request,
        may: &dyn Fn() -> bool,
    ) -> Result<(), Response> {
        self.with(device, |state, effects| {
            if !may() {
                return Err(Response::empty(code::UNAUTHORIZED));
            }
            let first = match topic {
                Topic::Attributes => self.first_attributes(device, state, request),
                Topic::Rpc => self.load(device, state).map(|()| FirstAnswer {
                    response: Response::empty(VALID),
                    after: None,
                }),
            };
            let first = first.map_err(|error| {
                tracing::error!(%error, %device, "a subscription cannot begin");
                Response::empty(code::INTERNAL_SERVER_ERROR)
            })?;
            if !state.is_observed() {
                self.connected(device, true);
            }
            self.begin(topic, device, state, request, first, effects);
            Ok(())
        })
    }

    /// All shared attributes, those on their way to the disk included, and what to wait for then.
    fn first_attributes(
        &self,
        device: DeviceId,
        state: &DeviceState,
        request: &Request,
    ) -> Result<FirstAnswer, StoreError> {
        let stored = self
            .store
            .attributes(device, AttributeScope::Shared, None)?;
        let mut all: Delta = stored.into_iter().collect();
        let mut after = None;
        for write in &state.writes {
            if let Some(delta) = &write.shared {
                all.merge(delta.clone());
                after = Some(write.number);
            }
        }
        all.forget_deletions();
        let content_format = request.message.content_format;
        let encoding = self.encoding(device);
        let response = attributes_response(&all, encoding, content_format);
        Ok(FirstAnswer { response, after })
    }

    fn begin(
        &self,
        topic: Topic,
        device: DeviceId,
        state: &mut DeviceState,
        request: &Request,
        first: FirstAnswer,
        effects: &mut Effects,
    ) {
        let relation = self.name_relation(device);
        let verdict = Verdict {
            peer: request.peer,
            exchange: request.exchange,
            response: Response {
                relation: Some(relation),
                ..first.response
            },
            buffer: Vec::new(),
        };
        let old = state.take_slot(topic);
        let mut slot = Slot::new(relation, request.peer, request.message.content_format);
        slot.keep_long(Response {
            relation: None,
            ..verdict.response.clone()
        });
        match first.after {
            None => {
                self.delivery.push(verdict, &mut effects.touched);
                if let Some(old) = old {
                    self.say_farewell(state, old, effects);
                }
            }
            Some(after) => {
                // An observer that is itself still waiting gives way at once.
                let replaced = match old {
                    Some(old) if old.opening.is_some() => {
                        self.say_farewell(state, old, effects);
                        None
                    }
                    old => old.map(|old| old.farewell()),
                };
                slot.opening = Some(Box::new(Opening {
                    after,
                    verdict,
                    replaced,
                }));
            }
        }
        *state.slot(topic) = Some(slot);
    }

    /// Opens the relation that waited for the write of this number.
    pub(super) fn opened(
        &self,
        device: DeviceId,
        state: &mut DeviceState,
        number: u64,
        result: &Result<(), StoreError>,
        effects: &mut Effects,
    ) {
        let Some(slot) = &mut state.attributes else {
            return;
        };
        let Some(opening) = slot.opening.take_if(|opening| opening.after == number) else {
            return;
        };
        let Opening {
            mut verdict,
            replaced,
            ..
        } = *opening;
        if let Err(error) = result {
            verdict.response = pool::refusal(error);
            let relation = slot.relation;
            self.forget_relation(relation);
            state.take_slot(Topic::Attributes);
            self.note_disconnect(device, state);
        }
        self.delivery.push(verdict, &mut effects.touched);
        state.farewells.extend(replaced);
    }

    /// Ends a relation whose slot is taken already: its observer gets one 2.02, or its answer if that
    /// was outstanding.
    fn say_farewell(&self, state: &mut DeviceState, mut slot: Slot, effects: &mut Effects) {
        let Some(opening) = slot.opening.take() else {
            state.farewells.push_back(slot.farewell());
            return;
        };
        self.forget_relation(slot.relation);
        let mut verdict = opening.verdict;
        verdict.response = Response {
            max_age: Some(RETRY_AFTER_S),
            ..Response::empty(code::SERVICE_UNAVAILABLE)
        };
        self.delivery.push(verdict, &mut effects.touched);
        state.farewells.extend(opening.replaced);
    }

    /// Ends both subscriptions of a device whose credential was changed or removed: one 2.02 each.
    pub fn end_subscriptions(&self, device: DeviceId) {
        self.with(device, |state, effects| {
            let was_observed = state.is_observed();
            for topic in [Topic::Attributes, Topic::Rpc] {
                if let Some(slot) = state.take_slot(topic) {
                    self.say_farewell(state, slot, effects);
                }
            }
            if was_observed {
                self.note_disconnect(device, state);
            }
        });
    }

    /// Forgets a device that was removed from the registry. After this the hub writes nothing of it.
    pub fn device_removed(&self, device: DeviceId) {
        self.end_subscriptions(device);
        self.with(device, |state, effects| {
            for mut call in state.take_calls().into_values() {
                tell(&mut call, RpcEnd::Deleted, &mut effects.afterwards);
            }
            state.next_call = 0;
        });
        self.forget_activity(device);
    }

    /// Applies what the shards report of relations.
    pub(in crate::auth) fn handle_events(&self, queues: &WorkerQueues, is_idle: bool) {
        loop {
            // Who has requests to handle leaves events to whoever is at them.
            let guard = match self.events.try_lock() {
                Ok(guard) => guard,
                Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(std::sync::TryLockError::WouldBlock) if is_idle => {
                    self.events.lock().unwrap_or_else(PoisonError::into_inner)
                }
                Err(std::sync::TryLockError::WouldBlock) => return,
            };
            for _ in 0..EVENTS_AT_ONCE {
                let Some(event) = queues.take_event() else {
                    return;
                };
                self.on_event(event);
            }
            drop(guard);
            if !is_idle {
                return;
            }
        }
    }

    /// Applies one event.
    pub(super) fn on_event(&self, event: RelationEvent) {
        let relation = event.relation;
        let device = {
            let part = usize::try_from(relation.0 % super::PARTS).unwrap_or_default();
            let mut part = lock(&self.parts[part]);
            match event.kind {
                RelationEventKind::Ended(_) => part.relations.remove(&relation),
                _ => part.relations.get(&relation).copied(),
            }
        };
        let Some(device) = device else { return };
        let now_ms = self.now_ms();
        if matches!(event.kind, RelationEventKind::Acknowledged { .. }) {
            // The device has spoken, which an observe relation alone does not (TB section 8.5).
            self.activity.record(device, now_ms);
        }
        self.with(device, |state, _| match event.kind {
            RelationEventKind::Sent {
                delivery,
                confirmable,
            } => {
                let Some((_, slot)) = state.slot_of(relation) else {
                    return;
                };
                if confirmable {
                    if let Some(id) = slot.find(delivery).and_then(|sent| sent.call) {
                        self.call_sent(device, state, id, now_ms);
                    }
                } else if let Some(id) = slot.done(delivery).and_then(|sent| sent.call) {
                    self.call_delivered(device, state, id, now_ms);
                }
            }
            RelationEventKind::Acknowledged { delivery } => {
                let slot = state.slot_of(relation);
                let done = slot.and_then(|(_, slot)| slot.done(delivery));
                if let Some(id) = done.and_then(|done| done.call) {
                    self.call_delivered(device, state, id, now_ms);
                }
            }
            RelationEventKind::Ended(end) => {
                let Some((topic, _)) = state.slot_of(relation) else {
                    return;
                };
                self.observer_gone(device, topic, end, state);
            }
        });
    }

    /// The observer went by itself, or cannot be reached.
    pub(super) fn observer_gone(
        &self,
        device: DeviceId,
        topic: Topic,
        end: RelationEnd,
        state: &mut DeviceState,
    ) {
        let Some(slot) = state.take_slot(topic) else {
            return;
        };
        for id in slot.calls() {
            let Some(call) = state.calls.get_mut(&id) else {
                continue;
            };
            if call.stage != Stage::Waiting || !call.record.persistent {
                continue;
            }
            if end == RelationEnd::TimedOut {
                DeviceState::attempt_failed(call);
            } else {
                call.record.state = RpcState::Queued;
            }
            self.save_call(device, state, id);
        }
        self.note_disconnect(device, state);
    }

    /// The body that the observer fetches block by block, if `request` asks for a later block of one:
    /// such a request names neither the relation nor the notification (RFC 7959 section 2.6).
    pub fn long_body(&self, topic: Topic, device: DeviceId, request: &Request) -> Option<Response> {
        let cell = self.part(device).devices.get(&device).map(Arc::clone)?;
        let mut state = lock(&cell);
        let slot = state.slot(topic).as_mut()?;
        if request.message.block2.is_some_and(|block| block.num > 0) {
            return slot.long(request.peer).cloned();
        }
        slot.forget_long(request.peer);
        None
    }

    pub(super) fn note_disconnect(&self, device: DeviceId, state: &DeviceState) {
        if !state.is_observed() {
            self.connected(device, false);
        }
    }

    fn forget_relation(&self, relation: RelationId) {
        let part = usize::try_from(relation.0 % super::PARTS).unwrap_or_default();
        lock(&self.parts[part]).relations.remove(&relation);
    }
}

/// The answer to a registration, and the write that it waits for.
struct FirstAnswer {
    response: Response,
    after: Option<u64>,
}

/// Attributes as the device reads them; the Content-Format of JSON is that of its registration, if it
/// had one (TB section 7.9).
pub(super) fn attributes_response(
    delta: &Delta,
    encoding: Encoding,
    content_format: Option<u16>,
) -> Response {
    Response {
        code: code::CONTENT,
        content_format: Some(match encoding {
            Encoding::Json => content_format.unwrap_or(JSON),
            Encoding::Protobuf => OCTET_STREAM,
        }),
        payload: delta.encode(encoding),
        ..Response::default()
    }
}
