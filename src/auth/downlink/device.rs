//! What is known of a device for which something is under way: its observers, its calls, and writes
//! that are not durable yet. One lock each; a device with nothing under way has none of it.

use super::delta::{Delta, Encoding};
use super::rpc::{Rpc, RpcEnd, RpcState, Stage};
use super::settings::{HubSettings, SubmitStrategy};
use super::slot::{Farewell, Slot, Topic};
use crate::auth::request::{RelationId, Verdict};
use crate::store::StoreError;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Most changes of attributes that wait for a device, each for itself; later ones are merged.
pub(super) const CHANGES_MAX: usize = 4096;
/// The same in bytes.
pub(super) const CHANGES_BYTES_MAX: usize = 1 << 20;
/// Most calls of a device that are not done.
pub(super) const CALLS_MAX: usize = 4096;
/// The same in bytes.
pub(super) const CALLS_BYTES_MAX: usize = 1 << 20;
/// Most records of kept calls per device, done ones included; the oldest done one makes room.
pub(super) const RECORDS_MAX: usize = 1000;
/// The same in bytes of those that are done.
pub(super) const RECORDS_BYTES_MAX: usize = 1 << 20;

/// What is to be done once no lock is held.
pub(super) type Afterwards = Vec<Box<dyn FnOnce() + Send>>;

#[derive(Debug, Default)]
pub(super) struct DeviceState {
    pub(super) attributes: Option<Slot>,
    pub(super) rpc: Option<Slot>,
    /// What the observer of attributes has to be told, oldest first.
    pub(super) changes: VecDeque<Delta>,
    changes_bytes: usize,
    /// Ends that the shards had no room for.
    pub(super) farewells: VecDeque<Farewell>,
    /// By number.
    pub(super) calls: BTreeMap<i32, Rpc>,
    calls_bytes: usize,
    /// Whether the kept calls were read from the store since this state was made.
    pub(super) is_loaded: bool,
    /// Numbers of the kept calls that are done, each with the bytes of its record.
    pub(super) done: BTreeMap<i32, usize>,
    /// Kept calls whose last change the store did not take: to be written again.
    pub(super) unsaved: BTreeSet<i32>,
    pub(super) next_call: i32,
    /// Writes that are not durable yet, in the order in which the store got them.
    pub(super) writes: VecDeque<Write>,
    next_write: u64,
    /// Its entry in the hub's timers.
    pub(super) wake_at_ms: Option<u64>,
    /// The uplink after which the one extra downlink of eDRX was used.
    pub(super) extra_after_ms: u64,
}

/// A write on its way to the disk.
#[derive(Default)]
pub(super) struct Write {
    pub(super) number: u64,
    /// What of it the observer is told.
    pub(super) shared: Option<Delta>,
    /// The call whose last record it is.
    pub(super) ends: Option<i32>,
    /// The answer to the device that waits for it.
    pub(super) verdict: Option<Verdict>,
    /// Who else is told of its fate.
    pub(super) done: Option<super::Waiter<Result<(), StoreError>>>,
}

impl std::fmt::Debug for Write {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Write")
            .field("number", &self.number)
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

impl DeviceState {
    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.attributes.is_none()
            && self.rpc.is_none()
            && self.farewells.is_empty()
            && self.calls.is_empty()
            && self.writes.is_empty()
    }

    pub(super) fn slot(&mut self, topic: Topic) -> &mut Option<Slot> {
        match topic {
            Topic::Attributes => &mut self.attributes,
            Topic::Rpc => &mut self.rpc,
        }
    }

    /// The observer with this relation.
    pub(super) fn slot_of(&mut self, relation: RelationId) -> Option<(Topic, &mut Slot)> {
        let is_it = |slot: &Slot| slot.relation == relation;
        if self.attributes.as_ref().is_some_and(is_it) {
            return Some((Topic::Attributes, self.attributes.as_mut()?));
        }
        let slot = self.rpc.as_mut().filter(|slot| is_it(slot))?;
        Some((Topic::Rpc, slot))
    }

    /// What has an observer.
    pub(super) fn observed(&self) -> Vec<Topic> {
        let attributes = self.attributes.as_ref().map(|_| Topic::Attributes);
        let rpc = self.rpc.as_ref().map(|_| Topic::Rpc);
        attributes.into_iter().chain(rpc).collect()
    }

    pub(super) fn is_observed(&self) -> bool {
        self.attributes.is_some() || self.rpc.is_some()
    }

    /// Takes the observer out; what it was to be told goes (attributes: a new registration begins
    /// with all of them) or waits for the next one (calls).
    pub(super) fn take_slot(&mut self, topic: Topic) -> Option<Slot> {
        let slot = self.slot(topic).take()?;
        match topic {
            Topic::Attributes => {
                self.changes.clear();
                self.changes_bytes = 0;
            }
            Topic::Rpc => {
                for id in slot.calls() {
                    if let Some(call) = self.calls.get_mut(&id)
                        && matches!(call.stage, Stage::Pushed { .. })
                    {
                        call.stage = Stage::Waiting;
                    }
                }
            }
        }
        Some(slot)
    }

    /// Begins a write; the caller hands it to the store before anything else is begun.
    pub(super) fn begin_write(&mut self, write: Write) -> u64 {
        let number = self.next_write;
        self.next_write += 1;
        self.writes.push_back(Write { number, ..write });
        number
    }

    /// Adds a change for the observer of attributes. `merge`: into the one that waits already.
    pub(super) fn add_change(&mut self, delta: Delta, merge: bool) {
        let is_full = self.changes.len() >= CHANGES_MAX || self.changes_bytes >= CHANGES_BYTES_MAX;
        match self.changes.back_mut() {
            Some(last) if merge || is_full => {
                self.changes_bytes -= last.bytes();
                last.merge(delta);
                self.changes_bytes += last.bytes();
            }
            _ => {
                self.changes_bytes += delta.bytes();
                self.changes.push_back(delta);
            }
        }
    }

    /// Merges all that waits into one: the device was asleep for it.
    pub(super) fn merge_changes(&mut self) {
        let Some(mut whole) = self.changes.pop_front() else {
            return;
        };
        for later in self.changes.drain(..) {
            whole.merge(later);
        }
        self.changes_bytes = whole.bytes();
        self.changes.push_back(whole);
    }

    /// Splits the change that is next if it has several keys, so that what is next takes about
    /// `bytes_max` bytes; whether it did.
    pub(super) fn split_change(&mut self, bytes_max: usize, encoding: Encoding) -> bool {
        let Some(next) = self.changes.front_mut() else {
            return false;
        };
        let before = next.bytes();
        let first = next.split_front(bytes_max, encoding);
        self.changes_bytes = self.changes_bytes + first.bytes() + next.bytes() - before;
        if next.is_empty() {
            *next = first;
            return false;
        }
        self.changes.push_front(first);
        true
    }

    pub(super) fn change_gone(&mut self) {
        if let Some(delta) = self.changes.pop_front() {
            self.changes_bytes -= delta.bytes();
        }
    }

    /// Whether another call of that size may wait.
    pub(super) fn takes_call(&self, bytes: usize) -> bool {
        self.calls.len() < CALLS_MAX && self.calls_bytes + bytes <= CALLS_BYTES_MAX
    }

    pub(super) fn add_call(&mut self, call: Rpc) {
        self.calls_bytes += call.bytes();
        self.calls.insert(call.record.id, call);
    }

    /// Takes a call out.
    pub(super) fn take_call(&mut self, id: i32) -> Option<Rpc> {
        let call = self.calls.remove(&id)?;
        // The answer came later than the call was counted.
        let response = call.record.response.as_ref();
        let counted = call.bytes() - response.map_or(0, |text| text.get().len());
        self.calls_bytes -= counted;
        Some(call)
    }

    /// Takes out the number of the oldest kept call that is done, if another one needs its room.
    pub(super) fn take_superfluous(&mut self) -> Option<i32> {
        let bytes: usize = self.done.values().sum();
        let is_full = self.done.len() >= RECORDS_MAX || bytes > RECORDS_BYTES_MAX;
        let oldest = if is_full { self.done.pop_first() } else { None };
        oldest.map(|(id, _)| id)
    }

    /// Takes all calls out.
    pub(super) fn take_calls(&mut self) -> BTreeMap<i32, Rpc> {
        self.calls_bytes = 0;
        self.done.clear();
        self.unsaved.clear();
        std::mem::take(&mut self.calls)
    }

    /// A device that had calls before, the next of which has this number.
    pub(super) fn with_next_call(next_call: i32) -> Self {
        Self {
            next_call,
            ..Self::default()
        }
    }

    /// The next call that may go out.
    pub(super) fn next_call(&self, submit: SubmitStrategy) -> Option<i32> {
        let is_busy = |call: &&Rpc| {
            call.record.persistent
                && match call.stage {
                    Stage::Pushed { .. } => true,
                    Stage::Delivered { .. } => submit == SubmitStrategy::SequentialOnResponse,
                    Stage::Waiting | Stage::Done => false,
                }
        };
        let blocked = submit != SubmitStrategy::Burst && self.calls.values().any(|c| is_busy(&c));
        let mut waiting = self.calls.values().filter(|call| call.is_waiting());
        let next = waiting.find(|call| !(call.record.persistent && blocked))?;
        Some(next.record.id)
    }

    /// When something is to be done if nothing happens.
    pub(super) fn due_ms(&self, settings: &HubSettings) -> Option<u64> {
        let response_wait = (settings.submit == SubmitStrategy::SequentialOnResponse)
            .then_some(settings.response_timeout_ms);
        let due = |call: &Rpc| call.due_ms(settings.paging_window_ms, response_wait);
        self.calls.values().map(due).min()
    }

    /// Counts a failed attempt; the call waits for the next one, or has failed.
    pub(super) fn attempt_failed(call: &mut Rpc) {
        if call.record.retries_left == 0 {
            call.record.state = RpcState::Failed;
            call.stage = Stage::Done;
        } else {
            call.record.retries_left -= 1;
            call.record.state = RpcState::Timeout;
            call.stage = Stage::Waiting;
        }
    }
}

/// Tells whoever made the call how it ended.
pub(super) fn tell(call: &mut Rpc, end: RpcEnd, afterwards: &mut Afterwards) {
    if let Some(waiter) = call.waiter.take() {
        afterwards.push(Box::new(move || waiter(end)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Value;

    fn delta(key: &str, value: i64) -> Delta {
        let mut delta = Delta::default();
        delta.insert(key.into(), Some(Value::Long(value)));
        delta
    }

    #[test]
    fn changes_beyond_the_bound_are_merged_and_none_is_lost() {
        let mut state = DeviceState::default();
        for number in 0..CHANGES_MAX as i64 + 100 {
            state.add_change(delta("k", number), false);
        }
        assert_eq!(state.changes.len(), CHANGES_MAX);
        let last = state.changes.back().unwrap().to_json();
        assert_eq!(last, format!("{{\"k\":{}}}", CHANGES_MAX + 99));
        state.merge_changes();
        assert_eq!(state.changes.len(), 1);
        state.change_gone();
        assert_eq!((state.changes.len(), state.changes_bytes), (0, 0));
    }

    #[test]
    fn long_values_are_bounded_by_their_bytes() {
        let mut state = DeviceState::default();
        let long = || {
            let mut delta = Delta::default();
            delta.insert("k".into(), Some(Value::String("x".repeat(100_000).into())));
            delta
        };
        for _ in 0..100 {
            state.add_change(long(), false);
        }
        assert!(state.changes_bytes < CHANGES_BYTES_MAX + 200_000);
        assert!(state.changes.len() < 12);
    }
}
