//! The hub's thread: what became durable, timers, and the reports of activity.

use super::{Hub, lock};
use crate::registry::DeviceId;
use crate::store::StoreError;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long the thread sleeps at most.
const NAP_MS: u64 = 1000;

/// What waits for the hub's thread.
#[derive(Default)]
pub(super) struct Work {
    queue: Mutex<Queue>,
    arrived: Condvar,
}

#[derive(Default)]
struct Queue {
    /// Writes whose fate is known, in the order in which the store told.
    settled: VecDeque<Settled>,
    timers: BinaryHeap<Reverse<(u64, DeviceId)>>,
    /// When the thread would wake up by itself.
    sleeps_until_ms: u64,
    stop: bool,
}

/// A write whose fate is known.
pub(super) struct Settled {
    pub(super) device: DeviceId,
    pub(super) number: u64,
    pub(super) result: Result<(), StoreError>,
}

impl Work {
    /// Leaves a note; takes no lock but the queue's own.
    pub(super) fn settled(&self, settled: Settled) {
        lock(&self.queue).settled.push_back(settled);
        self.arrived.notify_one();
    }

    /// Has the device looked at, at that time.
    pub(super) fn wake_at(&self, device: DeviceId, at_ms: u64) {
        let mut queue = lock(&self.queue);
        queue.timers.push(Reverse((at_ms, device)));
        if at_ms < queue.sleeps_until_ms {
            drop(queue);
            self.arrived.notify_one();
        }
    }

    /// Has the thread look around at that time at the latest.
    pub(super) fn wake_by(&self, at_ms: u64) {
        if at_ms < lock(&self.queue).sleeps_until_ms {
            self.arrived.notify_one();
        }
    }

    fn take_settled(&self) -> VecDeque<Settled> {
        std::mem::take(&mut lock(&self.queue).settled)
    }

    fn take_due(&self, now_ms: u64) -> Option<DeviceId> {
        let mut queue = lock(&self.queue);
        let due = |Reverse((at_ms, _)): &Reverse<(u64, DeviceId)>| *at_ms <= now_ms;
        if queue.timers.peek().is_some_and(due) {
            return queue.timers.pop().map(|Reverse((_, device))| device);
        }
        None
    }

    /// Waits for something to do; `false` when told to stop.
    fn wait(&self, now_ms: u64, periodic_ms: u64) -> bool {
        let mut queue = lock(&self.queue);
        if queue.stop {
            return false;
        }
        if !queue.settled.is_empty() {
            return true;
        }
        let timer = queue.timers.peek().map(|Reverse((at_ms, _))| *at_ms);
        let until_ms = timer
            .unwrap_or(u64::MAX)
            .min(periodic_ms)
            .min(now_ms + NAP_MS);
        queue.sleeps_until_ms = until_ms;
        let nap = Duration::from_millis(until_ms.saturating_sub(now_ms));
        if !nap.is_zero() {
            let waited = self.arrived.wait_timeout(queue, nap);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        queue.sleeps_until_ms = 0;
        !queue.stop
    }
}

impl Hub {
    /// Does what is due, without waiting: what the thread does, for tests and simulations in turns.
    pub fn step(&self) {
        let now_ms = self.now_ms();
        for settled in self.work.take_settled() {
            contained(|| self.on_settled(settled));
        }
        while let Some(device) = self.work.take_due(now_ms) {
            contained(|| self.on_timer(device, now_ms));
        }
        contained(|| self.expire_client_calls(now_ms));
        contained(|| self.report(now_ms));
    }

    fn run(&self) {
        loop {
            self.step();
            let periodic_ms = self.next_report_ms().min(self.next_expiry_ms());
            if !self.work.wait(self.now_ms(), periodic_ms) {
                return;
            }
        }
    }
}

/// Runs a piece of work; one that panics takes no other with it.
fn contained(work: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        tracing::error!("a piece of the downlinks' work panicked: a defect; the rest goes on");
    }
}

/// The running thread of a hub.
pub struct HubThread {
    hub: Arc<Hub>,
    thread: Option<JoinHandle<()>>,
}

impl HubThread {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// No thread could be started.
    pub fn start(hub: &Arc<Hub>) -> std::io::Result<Self> {
        let thread = {
            let hub = Arc::clone(hub);
            std::thread::Builder::new()
                .name("downlink".into())
                .spawn(move || hub.run())?
        };
        Ok(Self {
            hub: Arc::clone(hub),
            thread: Some(thread),
        })
    }

    /// Writes what is known of activity, and ends the thread. Before the store is closed.
    pub fn stop(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        lock(&self.hub.work.queue).stop = true;
        self.hub.work.arrived.notify_all();
        // The thread contains the panics of what it runs.
        let _ = thread.join();
        self.hub.report_all();
    }
}

impl Drop for HubThread {
    fn drop(&mut self) {
        self.stop();
    }
}

impl std::fmt::Debug for HubThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubThread").finish_non_exhaustive()
    }
}
