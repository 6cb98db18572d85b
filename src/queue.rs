//! The queues between the shards and the authenticator pool: requests over, verdicts back. And
//! between the shards: datagrams that reached the wrong one.
//!
//! ```text
//!  shard 0 --submit--> [ ArrayQueue ] \                 / worker 0 --push--> [ inbox 0 ] -> shard 0
//!  shard 1 --submit--> [ ArrayQueue ] -+-- take, fair -+  worker 1 --push--> [ inbox 1 ] -> shard 1
//!                        notify() once per batch          wake() once per batch
//!  shard 0 --hand_over--> [ inbox 1 ] -> shard 1
//!  shard 0 --report--> [ ArrayQueue ] -- take_event -- any worker --notify--> [ inbox 0 ] -> shard 0
//! ```
//!
//! Look-ups of pre-shared keys have queues of their own beside these, and the same rules.
//!
//! Both directions are bounded and lock-free, and neither side ever waits for the other: a full
//! request queue hands the request back (the shard answers 5.03), and an inbox has room for every
//! verdict because a shard holds a permit per request. A datagram that finds no room is lost, as it
//! might be on any link. A notification, or an event of a relation, that finds no room is handed back
//! to whoever keeps it, and given again later: neither is ever lost.
//!
//! # No lost wake-up
//!
//! Who is about to sleep first publishes that (the worker's bit in `asleep`, the inbox's
//! `sleeping`), then looks at its queues once more. Who has put something in first puts it, then
//! looks whether the other one sleeps. A sequentially consistent fence stands between the two
//! steps on both sides, so at least one of them sees the other. Whoever takes the mark away is the
//! one who wakes, so a sleeper is woken once.
//!
//! # No wake-up per request
//!
//! While requests come briskly ([`crate::pace`]), the last worker that is awake does not go to sleep when
//! the queues are empty: it looks again a little later, so that nobody has to wake it.

#![expect(
    clippy::disallowed_methods,
    reason = "the pace of the workers is their own"
)]

use crate::auth::request::{
    CREDENTIAL_LOOKUPS_MAX, CredentialRequest, CredentialVerdict, Notification, RelationEvent,
    Request, Verdict,
};
use crate::endpoint::{Handover, Inspection};
use crate::pace::{GATHER, Pace};
use crate::time::Instant;
use crossbeam::queue::ArrayQueue;
use crossbeam::sync::{Parker, Unparker};
use crossbeam::utils::CachePadded;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock};

/// Most workers that one [`RequestQueues`] can serve: one bit each.
pub const WORKERS_MAX: usize = 64;

/// Most requests that a worker takes at a time.
pub const TAKE_MAX: usize = 64;

/// Datagrams that may wait in a shard's inbox for their owner: two dozen batches, and at most 4 MiB.
pub const HANDOVERS_MAX: usize = 1024;

/// Notifications that may wait in a shard's inbox.
pub const NOTIFICATIONS_MAX: usize = 4096;

/// Events of relations that may wait for the pool, per shard.
pub const EVENTS_MAX: usize = 4096;

/// Questions of administrators that may wait in a shard's inbox.
pub const INSPECTIONS_MAX: usize = 16;

/// From this many waiting requests in a shard's queue on, a second worker is woken although one is
/// awake. Below, the one that is awake gets there sooner than a wake-up would.
const CROWD: usize = TAKE_MAX / 2;

/// The queue did not take the item: here it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full<T>(pub T);

/// The request queues of all shards, and the workers that sleep on them.
#[derive(Debug)]
pub struct RequestQueues {
    queues: Box<[CachePadded<ArrayQueue<Request>>]>,
    credentials: Box<[CachePadded<ArrayQueue<CredentialRequest>>]>,
    events: Box<[CachePadded<ArrayQueue<RelationEvent>>]>,
    /// Bit per worker that sleeps or is about to.
    asleep: CachePadded<AtomicU64>,
    /// Workers inside [`WorkerQueues::blocking`]: awake, but of no help for a while.
    blocked: CachePadded<AtomicUsize>,
    closed: AtomicBool,
    unparkers: Box<[Unparker]>,
}

impl RequestQueues {
    /// Queues of `capacity` requests for each of `shards` shards, and the ends for `workers`
    /// workers. All three are at least 1; at most [`WORKERS_MAX`] workers are made.
    pub fn new(shards: usize, capacity: usize, workers: usize) -> (Arc<Self>, Vec<WorkerQueues>) {
        let parkers: Vec<Parker> = (0..workers.clamp(1, WORKERS_MAX))
            .map(|_| Parker::new())
            .collect();
        let queues = Arc::new(Self {
            queues: (0..shards.max(1))
                .map(|_| CachePadded::new(ArrayQueue::new(capacity.max(1))))
                .collect(),
            credentials: (0..shards.max(1))
                .map(|_| {
                    let capacity = capacity.clamp(1, CREDENTIAL_LOOKUPS_MAX);
                    CachePadded::new(ArrayQueue::new(capacity))
                })
                .collect(),
            events: (0..shards.max(1))
                .map(|_| CachePadded::new(ArrayQueue::new(EVENTS_MAX)))
                .collect(),
            asleep: CachePadded::default(),
            blocked: CachePadded::default(),
            closed: AtomicBool::new(false),
            unparkers: parkers.iter().map(|p| p.unparker().clone()).collect(),
        });
        let ends = parkers
            .into_iter()
            .enumerate()
            .map(|(worker, parker)| WorkerQueues {
                shared: Arc::clone(&queues),
                parker,
                worker,
                next: worker,
                started: std::time::Instant::now(),
                pace: Pace::default(),
            })
            .collect();
        (queues, ends)
    }

    /// The end of shard number `shard`; `None` when there is no such shard.
    pub fn shard(self: &Arc<Self>, shard: usize) -> Option<RequestQueue> {
        (shard < self.queues.len()).then(|| RequestQueue {
            shared: Arc::clone(self),
            shard,
        })
    }

    /// Requests waiting, over all shards; a moment's view.
    pub fn len(&self) -> usize {
        self.queues.iter().map(|queue| queue.len()).sum()
    }

    /// Whether neither request nor look-up waits; a moment's view.
    pub fn is_empty(&self) -> bool {
        self.queues.iter().all(|queue| queue.is_empty()) && !self.has_credentials()
    }

    fn has_credentials(&self) -> bool {
        self.credentials.iter().any(|queue| !queue.is_empty())
    }

    /// Whether neither a request nor an event waits.
    fn is_idle(&self) -> bool {
        self.is_empty() && self.events.iter().all(|events| events.is_empty())
    }

    /// Lets the workers end once the queues are empty. What is submitted afterwards may stay unread.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        for unparker in &self.unparkers {
            unparker.unpark();
        }
    }

    /// Wakes one sleeping worker, if there is one.
    fn wake_one(&self) {
        let mut asleep = self.asleep.load(Ordering::SeqCst);
        while asleep != 0 {
            let worker = asleep.trailing_zeros();
            let bit = 1 << worker;
            let before = self.asleep.fetch_and(!bit, Ordering::SeqCst);
            if before & bit != 0 {
                if let Some(unparker) = self.unparkers.get(worker as usize) {
                    unparker.unpark();
                }
                return;
            }
            asleep = before & !bit;
        }
    }

    /// The same as seen by a worker that is awake itself.
    fn nobody_else_looks(&self) -> bool {
        let asleep = self.asleep.load(Ordering::SeqCst).count_ones() as usize;
        asleep + self.blocked.load(Ordering::SeqCst) + 1 >= self.unparkers.len()
    }

    /// Whether no worker is awake and free to look at the queues.
    fn nobody_looks(&self) -> bool {
        let asleep = self.asleep.load(Ordering::SeqCst).count_ones() as usize;
        asleep + self.blocked.load(Ordering::SeqCst) >= self.unparkers.len()
    }
}

/// One shard's end of the [`RequestQueues`].
#[derive(Clone, Debug)]
pub struct RequestQueue {
    shared: Arc<RequestQueues>,
    shard: usize,
}

impl RequestQueue {
    /// Puts a request in. The workers are not told before [`Self::notify`].
    ///
    /// # Errors
    ///
    /// Gives the request back when the queue is full.
    #[allow(clippy::result_large_err, reason = "the request itself is handed back")]
    pub fn submit(&self, request: Request) -> Result<(), Full<Request>> {
        self.shared.queues[self.shard].push(request).map_err(Full)
    }

    /// Puts the look-up of a pre-shared key in. The workers are not told before [`Self::notify`].
    ///
    /// # Errors
    ///
    /// Gives the look-up back when there are too many.
    pub fn submit_credential(
        &self,
        request: CredentialRequest,
    ) -> Result<(), Full<CredentialRequest>> {
        self.shared.credentials[self.shard]
            .push(request)
            .map_err(Full)
    }

    /// Reports an event of a relation. The workers are not told before [`Self::notify`].
    ///
    /// # Errors
    ///
    /// Gives the event back when [`EVENTS_MAX`] wait already: report it again later.
    pub fn report(&self, event: RelationEvent) -> Result<(), Full<RelationEvent>> {
        self.shared.events[self.shard].push(event).map_err(Full)
    }

    /// Tells the workers that something was submitted or reported: once after a batch.
    ///
    /// Wakes at most one worker, and none while one is awake and the queue is short.
    pub fn notify(&self) {
        fence(Ordering::SeqCst);
        let shared = &self.shared;
        if shared.asleep.load(Ordering::SeqCst) == 0 {
            return;
        }
        let waiting = shared.queues[self.shard].len()
            + shared.credentials[self.shard].len()
            + shared.events[self.shard].len();
        if waiting > CROWD || (waiting > 0 && shared.nobody_looks()) {
            shared.wake_one();
        }
    }

    /// Requests of this shard that wait; a moment's view.
    pub fn len(&self) -> usize {
        self.shared.queues[self.shard].len()
    }

    /// Whether no request of this shard waits; a moment's view.
    pub fn is_empty(&self) -> bool {
        self.shared.queues[self.shard].is_empty()
    }
}

/// One worker's end of the [`RequestQueues`].
#[derive(Debug)]
pub struct WorkerQueues {
    shared: Arc<RequestQueues>,
    parker: Parker,
    worker: usize,
    next: usize,
    /// The origin of the instants given to `pace`.
    started: std::time::Instant,
    pace: Pace,
}

impl WorkerQueues {
    /// Waits for requests and takes up to [`TAKE_MAX`] of them into `requests`, from the shards in
    /// turn; none when there are only look-ups ([`Self::pop_credential`]) or
    /// events ([`Self::take_event`]). `false` when the queues are closed
    /// and empty: the worker's time is over.
    pub fn take(&mut self, requests: &mut Vec<Request>) -> bool {
        loop {
            if self.take_now(requests) > 0 || !self.shared.is_idle() {
                return true;
            }
            if self.shared.closed.load(Ordering::SeqCst) {
                return self.take_now(requests) > 0 || self.shared.has_credentials();
            }
            self.sleep();
        }
    }

    /// Takes a look-up, from the shards in turn.
    pub fn pop_credential(&mut self) -> Option<CredentialRequest> {
        let queues = &self.shared.credentials;
        let mut order = (0..queues.len()).map(|offset| (self.next + offset) % queues.len());
        let found = order.find_map(|shard| queues[shard].pop().map(|request| (shard, request)));
        found.map(|(shard, request)| {
            self.next = (shard + 1) % queues.len();
            request
        })
    }

    /// Takes one event of a relation, without waiting. Two events of one relation may reach two
    /// workers: whoever keeps relations holds a lock from here until the event is applied.
    pub fn take_event(&self) -> Option<RelationEvent> {
        let shards = self.shared.events.len();
        (0..shards).find_map(|offset| self.shared.events[(self.next + offset) % shards].pop())
    }

    /// Takes up to [`TAKE_MAX`] requests without waiting; returns how many.
    ///
    /// Every shard gets an equal part of the batch before any gets more, and the next call begins
    /// with the next shard, so that a busy shard cannot starve another.
    pub fn take_now(&mut self, requests: &mut Vec<Request>) -> usize {
        let shards = self.shared.queues.len();
        let share = TAKE_MAX.div_ceil(shards);
        let mut room = TAKE_MAX;
        // The second round fills what quiet shards left over.
        for limit in [share, TAKE_MAX] {
            for offset in 0..shards {
                let queue = &self.shared.queues[(self.next + offset) % shards];
                for _ in 0..limit.min(room) {
                    let Some(request) = queue.pop() else { break };
                    requests.push(request);
                    room -= 1;
                }
            }
        }
        self.next = (self.next + 1) % shards;
        let taken = TAKE_MAX - room;
        self.pace.add(taken);
        if room == 0 && !self.shared.is_empty() {
            // More than one batch waits: pass the word on.
            self.shared.wake_one();
        }
        taken
    }

    /// Runs `work`, which may take long (reads from disk). Others are woken for what comes meanwhile.
    pub fn blocking<T>(&self, work: impl FnOnce() -> T) -> T {
        struct Unblock<'a>(&'a AtomicUsize);
        impl Drop for Unblock<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.shared.blocked.fetch_add(1, Ordering::SeqCst);
        let _unblock = Unblock(&self.shared.blocked);
        fence(Ordering::SeqCst);
        if !self.shared.is_idle() {
            self.shared.wake_one();
        }
        work()
    }

    /// Sleeps until there may be something in the queues.
    fn sleep(&mut self) {
        let now = Instant::ZERO + self.started.elapsed();
        if self.pace.is_brisk(now) && self.shared.nobody_else_looks() {
            // Only the end of the queues unparks a worker that is not marked as asleep.
            self.parker.park_timeout(GATHER);
            return;
        }
        let bit = 1_u64 << self.worker;
        self.shared.asleep.fetch_or(bit, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.shared.is_idle() && !self.shared.closed.load(Ordering::SeqCst) {
            self.parker.park();
        }
        self.shared.asleep.fetch_and(!bit, Ordering::SeqCst);
    }
}

/// The verdicts for one shard, and the datagrams that others hand over to it.
pub struct Inbox {
    verdicts: ArrayQueue<Verdict>,
    credentials: ArrayQueue<CredentialVerdict>,
    handovers: ArrayQueue<Handover>,
    inspections: ArrayQueue<Inspection>,
    notifications: ArrayQueue<Notification>,
    sleeping: CachePadded<AtomicBool>,
    waker: OnceLock<Box<dyn Fn() + Send + Sync>>,
    overflows: AtomicU64,
    /// Earliest time, in ms of UNIX, from which credentials ended that the shard has not heard of.
    revoked_since: CachePadded<AtomicU64>,
}

/// No time: nothing was revoked.
const NOT_REVOKED: u64 = u64::MAX;

impl Inbox {
    /// An inbox with room for `capacity` verdicts (at least 1): the number of the shard's permits.
    pub fn new(capacity: usize) -> Self {
        Self {
            verdicts: ArrayQueue::new(capacity.max(1)),
            credentials: ArrayQueue::new(CREDENTIAL_LOOKUPS_MAX),
            handovers: ArrayQueue::new(HANDOVERS_MAX),
            inspections: ArrayQueue::new(INSPECTIONS_MAX),
            notifications: ArrayQueue::new(NOTIFICATIONS_MAX),
            sleeping: CachePadded::default(),
            waker: OnceLock::new(),
            overflows: AtomicU64::new(0),
            revoked_since: CachePadded::new(AtomicU64::new(NOT_REVOKED)),
        }
    }

    /// Asks the shard a question, and wakes it.
    ///
    /// # Errors
    ///
    /// Gives the question back when [`INSPECTIONS_MAX`] wait already.
    pub fn inspect(&self, inspection: Inspection) -> Result<(), Full<Inspection>> {
        self.inspections.push(inspection).map_err(Full)?;
        self.wake_always();
        Ok(())
    }

    /// Takes the question that was asked first.
    pub fn pop_inspection(&self) -> Option<Inspection> {
        self.inspections.pop()
    }

    /// Tells the shard that credentials ended at `unix_ms`, and wakes it.
    ///
    /// Which ones is in the list that all shards share, so that one number holds any number of
    /// messages: the earliest time wins, and nothing can overflow.
    pub fn revoke_since(&self, unix_ms: u64) {
        self.revoked_since.fetch_min(unix_ms, Ordering::SeqCst);
        self.wake_always();
    }

    /// Takes the earliest time given to [`Self::revoke_since`] since the last call.
    pub fn take_revoked_since(&self) -> Option<u64> {
        if self.revoked_since.load(Ordering::SeqCst) == NOT_REVOKED {
            return None;
        }
        let since = self.revoked_since.swap(NOT_REVOKED, Ordering::SeqCst);
        (since != NOT_REVOKED).then_some(since)
    }

    /// Sets what wakes the shard; it is called from other threads. Only the first call counts.
    pub fn set_waker(&self, waker: Box<dyn Fn() + Send + Sync>) {
        let _ = self.waker.set(waker);
    }

    /// Puts a verdict in. The shard is not told before [`Self::wake`].
    ///
    /// A verdict that does not fit is dropped and counted: the shard broke its promise to hold a
    /// permit per request, and its peers will retransmit.
    pub fn push(&self, verdict: Verdict) {
        if self.verdicts.push(verdict).is_err() {
            self.overflows.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Puts the answer to a look-up in, as [`Self::push`] does a verdict.
    pub fn push_credential(&self, verdict: CredentialVerdict) {
        if self.credentials.push(verdict).is_err() {
            self.overflows.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes the oldest answer to a look-up.
    pub fn pop_credential(&self) -> Option<CredentialVerdict> {
        self.credentials.pop()
    }

    /// Hands a datagram over to this shard. The shard is not told before [`Self::wake`].
    ///
    /// # Errors
    ///
    /// Gives the datagram back when [`HANDOVERS_MAX`] wait already.
    pub fn hand_over(&self, handover: Handover) -> Result<(), Full<Handover>> {
        self.handovers.push(handover).map_err(Full)
    }

    /// Takes the datagram that was handed over first.
    pub fn pop_handover(&self) -> Option<Handover> {
        self.handovers.pop()
    }

    /// Puts a notification in. The shard is not told before [`Self::wake`].
    ///
    /// # Errors
    ///
    /// Gives the notification back when [`NOTIFICATIONS_MAX`] wait already: give it again later.
    #[allow(
        clippy::result_large_err,
        reason = "the notification itself is handed back"
    )]
    pub fn notify(&self, notification: Notification) -> Result<(), Full<Notification>> {
        self.notifications.push(notification).map_err(Full)
    }

    /// Takes the notification that was given first.
    pub fn pop_notification(&self) -> Option<Notification> {
        self.notifications.pop()
    }

    /// Wakes the shard if it sleeps: once after a batch of [`Self::push`], [`Self::hand_over`] or
    /// [`Self::notify`].
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::SeqCst)
            && self.sleeping.swap(false, Ordering::SeqCst)
            && let Some(waker) = self.waker.get()
        {
            waker();
        }
    }

    /// Wakes the shard whether it sleeps or not: for what is not in the inbox, such as the end.
    pub fn wake_always(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
        if let Some(waker) = self.waker.get() {
            waker();
        }
    }

    /// Takes the oldest verdict.
    pub fn pop(&self) -> Option<Verdict> {
        self.verdicts.pop()
    }

    /// Announces that the shard is about to sleep. `true`: it may, and will be woken; `false`:
    /// something is there already. Either way it calls [`Self::awake`] or pops when it goes on.
    pub fn prepare_sleep(&self) -> bool {
        self.sleeping.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let is_empty = self.verdicts.is_empty()
            && self.credentials.is_empty()
            && self.handovers.is_empty()
            && self.inspections.is_empty()
            && self.notifications.is_empty()
            && self.revoked_since.load(Ordering::SeqCst) == NOT_REVOKED;
        if is_empty {
            return true;
        }
        self.sleeping.store(false, Ordering::SeqCst);
        false
    }

    /// Takes back [`Self::prepare_sleep`] after the shard woke, for whatever reason.
    pub fn awake(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
    }

    /// Verdicts waiting; a moment's view.
    pub fn len(&self) -> usize {
        self.verdicts.len()
    }

    /// Whether none waits; a moment's view.
    pub fn is_empty(&self) -> bool {
        self.verdicts.is_empty()
    }

    /// Verdicts that did not fit; zero unless the shard is defective.
    pub fn overflows(&self) -> u64 {
        self.overflows.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox")
            .field("verdicts", &self.verdicts.len())
            .field("handovers", &self.handovers.len())
            .field("overflows", &self.overflows())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
