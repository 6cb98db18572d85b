//! Setting attributes, and telling the observer of those that it may see.

use super::device::{DeviceState, Write};
use super::settings::INACTIVITY_TIMEOUT;
use super::work::Settled;
use super::{Delta, Effects, Hub, Waiter};
use crate::registry::DeviceId;
use crate::store::batch::KEY_BYTES_MAX;
use crate::store::{AttributeScope, Batch, Overloaded, StoreError, Value};
use std::sync::Arc;

/// Why a change of attributes was not taken; nothing of it is stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetRefusal {
    /// There is no such device.
    #[error("there is no such device")]
    NoDevice,
    /// A key cannot be one.
    #[error("an attribute's key has 1 to {KEY_BYTES_MAX} bytes")]
    Key,
    /// The store takes no more at the moment.
    #[error("the store is overloaded")]
    Overloaded,
}

/// The store takes no more at the moment; nothing was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct NotTaken;

impl Hub {
    /// Sets and deletes attributes of a device: the one way to do so that its observer hears of.
    ///
    /// `done` is called once the change is durable, or never will be; the observer is told then, in the
    /// order in which changes of a device came here. It runs on the hub's thread and must not wait.
    ///
    /// # Errors
    ///
    /// The change was not taken, and `done` is not called.
    pub fn set(
        &self,
        device: DeviceId,
        scope: AttributeScope,
        mut changes: Delta,
        done: Waiter<Result<(), StoreError>>,
    ) -> Result<(), SetRefusal> {
        let now_ms = self.now_ms();
        let updated_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        changes.happened(updated_ms);
        let mut batch = Batch::new();
        for (key, change) in changes.iter() {
            let added = match (key, change) {
                ("", _) => return Err(SetRefusal::Key),
                (key, None) => batch.remove_attribute(device, scope, key, updated_ms),
                (key, Some(value)) => {
                    batch.push_attribute(device, scope, key, updated_ms, value.as_ref())
                }
            };
            added.map_err(|_| SetRefusal::Key)?;
        }
        self.with(device, |state, _| {
            if self.registry.device(device).is_none() {
                return Err(SetRefusal::NoDevice);
            }
            let timeout = (scope == AttributeScope::Server)
                .then(|| own_timeout(&changes))
                .flatten();
            let write = Write {
                shared: (scope == AttributeScope::Shared).then_some(changes),
                done: Some(done),
                ..Write::default()
            };
            self.write(device, state, batch, write)
                .map_err(|NotTaken| SetRefusal::Overloaded)?;
            if let Some((entry, timeout_ms)) = self.activity.entry(device).zip(timeout) {
                entry.set_timeout_ms(timeout_ms);
            }
            Ok(())
        })
    }

    /// Gives a batch to the store; the fate of `write` comes back by [`Self::on_settled`].
    pub(super) fn write(
        &self,
        device: DeviceId,
        state: &mut DeviceState,
        batch: Batch,
        write: Write,
    ) -> Result<(), NotTaken> {
        let number = state.begin_write(write);
        let work = Arc::clone(&self.work);
        let completion = move |result: Result<(), &StoreError>| {
            work.settled(Settled {
                device,
                number,
                result: result.map_err(Clone::clone),
            });
        };
        match self.store.append(batch, Box::new(completion)) {
            Ok(()) => Ok(()),
            // Nothing came after it, as the lock is held.
            Err(Overloaded(_)) => {
                state.writes.pop_back();
                Err(NotTaken)
            }
        }
    }

    pub(super) fn on_settled(&self, settled: Settled) {
        let Settled {
            device,
            number,
            result,
        } = settled;
        self.with(device, |state, effects| {
            let at = state.writes.iter().position(|write| write.number == number);
            let Some(write) = at.and_then(|at| state.writes.remove(at)) else {
                return;
            };
            if let Some(delta) = write.shared.filter(|_| result.is_ok()) {
                self.add_change(device, state, delta);
            }
            if let Some(id) = write.ends {
                self.call_recorded(state, id);
            }
            if let Some(verdict) = write.verdict {
                self.answer_stored(verdict, &result, effects);
            }
            self.opened(device, state, number, &result, effects);
            if let Some(done) = write.done {
                effects.afterwards.push(Box::new(move || done(result)));
            }
        });
    }

    /// Has the observer of attributes told, if there is one that does not know yet.
    fn add_change(&self, device: DeviceId, state: &mut DeviceState, delta: Delta) {
        let knows = |slot: &super::slot::Slot| slot.opening.is_some();
        // A first answer that still waits holds it already: it came before the registration.
        if state.attributes.is_none() || state.attributes.as_ref().is_some_and(knows) {
            return;
        }
        let asleep = !self.is_reachable(device, state);
        state.add_change(delta, asleep);
    }

    /// Sends an answer that waited for the store.
    fn answer_stored(
        &self,
        mut verdict: crate::auth::request::Verdict,
        result: &Result<(), StoreError>,
        effects: &mut Effects,
    ) {
        if let Err(error) = result {
            verdict.response = crate::auth::pool::refusal(error);
        }
        self.delivery.push(verdict, &mut effects.touched);
    }
}

/// What a change of server attributes says of the time after which its device counts as inactive:
/// `None` nothing, `Some(None)` that there is no such time of its own any more.
pub(super) fn own_timeout(changes: &Delta) -> Option<Option<u64>> {
    let (_, change) = changes.iter().find(|(key, _)| *key == INACTIVITY_TIMEOUT)?;
    Some(change.and_then(timeout_of))
}

/// Milliseconds, if the value is such.
pub(super) fn timeout_of(value: &Value) -> Option<u64> {
    match value {
        Value::Long(ms) => u64::try_from(*ms).ok().filter(|&ms| ms > 0),
        _ => None,
    }
}
