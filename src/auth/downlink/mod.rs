//! Downlinks: who observes what, what devices are to be told, and what they and their operator ask of
//! each other (TB sections 7.3 to 7.5 and 8).
//!
//! ```text
//!  worker: GET with Observe 0 -> observe --------.        verdict, notifications
//!  worker: relation events    -> handle_events --+-> DeviceState --pump--> inbox of the shard
//!  operator: set attributes   -> set ------------|       ^ one lock per device
//!  operator: call a device    -> send_rpc -------'       |
//!  store: durable             -> work queue -> the hub's thread (also timers, activity)
//! ```
//! `device` holds what is under way for a device, `slot` an observer's window, `delta` merged changes,
//! `rpc` and `calls` calls to devices, `client` calls of devices, `activity` and `report` when each was heard of,
//! `work` the thread.
//!
//! # What the order is
//!
//! A change of shared attributes is given to the store under its device's lock, and the store makes
//! changes durable in the order in which it got them; the observer is told in that order, of each once
//! it is durable. A registration reads the attributes under the same lock, adds what is on its way to
//! the disk, and waits for that: so its first answer holds everything before it, and the notifications
//! everything after it, each once.
//!
//! A relation's shard hears of it by the verdict, which is put into its inbox before any notification
//! of the relation, and before the end of the relation whose place it takes.
//!
//! # What it costs others
//!
//! A request of a device that nothing waits for writes one number and reads another
//! ([`Hub::uplink`]). Locks: part -> nothing; device -> part, inbox, store's queue. A completion of the
//! store takes neither: it leaves a note in the work queue.

mod activity;
mod attributes;
mod calls;
mod client;
mod delta;
mod device;
mod policy;
mod relation;
mod report;
mod rpc;
mod send;
mod settings;
mod slot;
#[cfg(test)]
mod tests;
mod work;

pub use attributes::SetRefusal;
pub use client::{CallAnswer, OfferedCall, Program};
pub use delta::Delta;
pub use policy::{AlwaysReachable, Policies, Reach, Registered};
pub use report::ActivityView;
pub use rpc::{NewRpc, RpcEnd, RpcMode, RpcRecord, RpcRefusal, RpcState, Waiter};
pub use settings::{HubSettings, SubmitStrategy};
pub use slot::Topic;
pub use work::HubThread;

use crate::auth::delivery::{Counters, Delivery, Touched};
use crate::auth::request::RelationId;
use crate::auth::tally::Tally;
use crate::queue::Inbox;
use crate::registry::{DeviceId, Registry};
use crate::store::Store;
use activity::Activity;
use client::ClientCalls;
use device::{Afterwards, DeviceState};
use report::{Connections, Reporter};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use work::Work;

/// Parts with a lock each. Device numbers are consecutive, so they spread by themselves.
const PARTS: u64 = 64;

/// What a hub works with.
pub struct HubParts {
    /// The devices.
    pub registry: Arc<dyn Registry>,
    /// Their attributes, and the calls that are kept.
    pub store: Arc<dyn Store>,
    /// Of the shards, by their index.
    pub inboxes: Arc<[Arc<Inbox>]>,
    /// What can be set.
    pub settings: HubSettings,
    /// What is set for a device.
    pub policies: Box<dyn Policies>,
    /// Milliseconds since the UNIX epoch.
    pub clock: Box<dyn Fn() -> u64 + Send + Sync>,
}

/// Subscriptions, calls and activity of all devices.
pub struct Hub {
    parts: Box<[Mutex<Part>]>,
    registry: Arc<dyn Registry>,
    store: Arc<dyn Store>,
    delivery: Delivery,
    settings: HubSettings,
    policies: Box<dyn Policies>,
    clock: Box<dyn Fn() -> u64 + Send + Sync>,
    relations: AtomicU64,
    /// Held by whoever takes events from the shards' queues until they are applied.
    events: Mutex<()>,
    activity: Activity,
    reporter: Mutex<Reporter>,
    connections: Connections,
    client_calls: ClientCalls,
    work: Arc<Work>,
    tally: Tally,
}

#[derive(Default)]
struct Part {
    devices: HashMap<DeviceId, Arc<Mutex<DeviceState>>, hashbrown::DefaultHashBuilder>,
    relations: HashMap<RelationId, DeviceId, hashbrown::DefaultHashBuilder>,
    /// The next number of a call, of devices that had one and have nothing under way.
    next_calls: HashMap<DeviceId, i32, hashbrown::DefaultHashBuilder>,
}

/// What a step under a device's lock leaves to be done after it.
#[derive(Default)]
struct Effects {
    touched: Touched,
    afterwards: Afterwards,
}

impl Hub {
    /// A hub; [`HubThread::start`] lets it work.
    pub fn new(parts: HubParts) -> Arc<Self> {
        let HubParts {
            registry,
            store,
            inboxes,
            settings,
            policies,
            clock,
        } = parts;
        Arc::new(Self {
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            registry,
            store,
            client_calls: ClientCalls::new(settings.client_calls_max, inboxes.len()),
            delivery: Delivery::new(inboxes),
            settings,
            policies,
            clock,
            relations: AtomicU64::new(0),
            events: Mutex::default(),
            activity: Activity::new(),
            reporter: Mutex::default(),
            connections: Mutex::default(),
            work: Arc::default(),
            tally: Tally::default(),
        })
    }

    /// A hub for a process without shards: what it writes is stored, and nobody observes.
    pub fn without_shards(
        registry: Arc<dyn Registry>,
        store: Arc<dyn Store>,
        clock: Box<dyn Fn() -> u64 + Send + Sync>,
    ) -> Arc<Self> {
        Self::new(HubParts {
            registry,
            store,
            inboxes: Arc::from([]),
            settings: HubSettings::default(),
            policies: Box::new(AlwaysReachable),
            clock,
        })
    }

    /// Notes that a device was heard of at `now_ms`, and lets go what waited for that. One store and
    /// two loads when nothing waits.
    pub fn uplink(&self, device: DeviceId, now_ms: u64) {
        if self.activity.record(device, now_ms) {
            self.with(device, |_, _| ());
        }
    }

    /// What the device API did.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// How many devices have something under way.
    pub fn devices(&self) -> usize {
        self.parts.iter().map(|part| lock(part).devices.len()).sum()
    }

    pub(super) fn counters(&self) -> &Arc<Counters> {
        self.delivery.counters()
    }

    fn now_ms(&self) -> u64 {
        (self.clock)()
    }

    /// Runs `step` under the device's lock, then sends what can be sent, then, without the lock, does
    /// what is left.
    fn with<T>(
        &self,
        device: DeviceId,
        step: impl FnOnce(&mut DeviceState, &mut Effects) -> T,
    ) -> T {
        let mut effects = Effects::default();
        let cell = self.part(device).device(device);
        let mut state = lock(&cell);
        let result = step(&mut state, &mut effects);
        self.pump(device, &mut state, &mut effects);
        let is_idle = state.is_idle();
        drop(state);
        drop(cell);
        if is_idle {
            self.part(device).forget(device);
        }
        self.delivery.wake(&effects.touched);
        for action in effects.afterwards {
            action();
        }
        result
    }

    fn part(&self, device: DeviceId) -> MutexGuard<'_, Part> {
        lock(&self.parts[usize::try_from(device.0 % PARTS).unwrap_or_default()])
    }

    /// A new relation's name, which tells where its device is found.
    fn name_relation(&self, device: DeviceId) -> RelationId {
        let serial = self.relations.fetch_add(1, Ordering::Relaxed);
        let relation = RelationId(serial * PARTS + device.0 % PARTS);
        self.part(device).relations.insert(relation, device);
        relation
    }
}

impl Part {
    fn device(&mut self, device: DeviceId) -> Arc<Mutex<DeviceState>> {
        if let Some(known) = self.devices.get(&device) {
            return Arc::clone(known);
        }
        let next_call = self.next_calls.remove(&device).unwrap_or(0);
        let state = DeviceState::with_next_call(next_call);
        let cell = Arc::new(Mutex::new(state));
        self.devices.insert(device, Arc::clone(&cell));
        cell
    }

    /// Forgets the device's state unless something is under way again.
    fn forget(&mut self, device: DeviceId) {
        let Some(cell) = self.devices.get(&device) else {
            return;
        };
        // Nobody can get at it without the lock on this part.
        if Arc::strong_count(cell) > 1 {
            return;
        }
        let state = lock(cell);
        if !state.is_idle() {
            return;
        }
        let next_call = state.next_call;
        drop(state);
        self.devices.remove(&device);
        if next_call > 0 {
            self.next_calls.insert(device, next_call);
        }
    }
}

/// A panic while a lock was held is a defect elsewhere, which must not stop everybody else.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("devices", &self.devices())
            .finish_non_exhaustive()
    }
}
