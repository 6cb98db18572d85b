//! The authenticator pool's threads.
//!
//! A worker takes a batch of requests, handles each, and sends the answers that are ready to the
//! inboxes at once. What the others wrote goes to the store as one batch, with the verdicts: the
//! store delivers them once all of it is durable. Each inbox is woken once per batch. Before each
//! batch the look-ups of pre-shared keys are answered, which takes next to no time: handshakes wait.
//!
//! A request whose handling panics is answered 5.00 and leaves nothing in the batch; the rest of the
//! batch goes on.

use crate::auth::api::{Api, Outcome, code};
use crate::auth::delivery::{Counters, Delivery, Touched};
use crate::auth::downlink::Hub;
use crate::auth::request::{CredentialRequest, CredentialVerdict, Request, Response, Verdict};
use crate::queue::{Inbox, RequestQueues, TAKE_MAX, WorkerQueues};
use crate::store::{Batch, Completion, Overloaded, Store, StoreError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Max-Age of a 5.03, seconds: when a device that was refused may try again.
pub const RETRY_AFTER_S: u32 = 5;

/// Look-ups answered between two batches.
const LOOKUPS_MAX: usize = TAKE_MAX;

/// Bytes that a request's readings take in a batch, usually.
const BYTES_PER_REQUEST: usize = 64;

/// What the pool did since its start, over all workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// Requests taken from the queues.
    pub requests: u64,
    /// Answers given, by code byte (class in the upper three bits), in the order of the codes; codes
    /// that never came are left out.
    pub responses: Vec<(u8, u64)>,
    /// Requests whose handling panicked: a defect of ours, contained, answered 5.00.
    pub panics: u64,
}

/// Running worker threads.
pub struct Pool {
    queues: Arc<RequestQueues>,
    counters: Vec<Arc<Counters>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Pool {
    /// Starts a thread for each of `workers`. Verdicts go to `inboxes`, indexed by shard.
    ///
    /// # Errors
    ///
    /// A thread could not be started; those that were are stopped again.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "the pool shares in all of it"
    )]
    pub fn start(
        queues: Arc<RequestQueues>,
        workers: Vec<WorkerQueues>,
        inboxes: Arc<[Arc<Inbox>]>,
        api: Arc<Api>,
        store: Arc<dyn Store>,
    ) -> io::Result<Self> {
        let mut pool = Self {
            queues,
            counters: vec![Arc::clone(api.hub().counters())],
            threads: Mutex::default(),
        };
        for (index, queues) in workers.into_iter().enumerate() {
            let mut worker = Worker::new(
                queues,
                Arc::clone(&inboxes),
                Arc::clone(&api),
                Arc::clone(&store),
            );
            let counters = Arc::clone(worker.delivery.counters());
            let thread = std::thread::Builder::new()
                .name(format!("auth-{index}"))
                .spawn(move || worker.run());
            match thread {
                Ok(thread) => pool.threads().push(thread),
                Err(error) => {
                    pool.stop();
                    return Err(error);
                }
            }
            pool.counters.push(counters);
        }
        Ok(pool)
    }

    /// What was done so far.
    pub fn counts(&self) -> PoolCounts {
        let sum = |counter: &dyn Fn(&Counters) -> &AtomicU64| {
            let values = self
                .counters
                .iter()
                .map(|c| counter(c).load(Ordering::Relaxed));
            values.sum::<u64>()
        };
        PoolCounts {
            requests: sum(&|counters| &counters.requests),
            panics: sum(&|counters| &counters.panics),
            responses: (0..=u8::MAX)
                .map(|code| {
                    (
                        code,
                        sum(&|counters| &counters.responses[usize::from(code)]),
                    )
                })
                .filter(|(_, count)| *count > 0)
                .collect(),
        }
    }

    /// Handles what is queued, then ends the threads. Verdicts that wait for the store still come
    /// from there: close the store afterwards. Further calls do nothing.
    pub fn stop(&self) {
        self.queues.close();
        for thread in self.threads().drain(..) {
            // Workers contain the panics of what they run.
            let _ = thread.join();
        }
    }

    fn threads(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("workers", &self.counters.len())
            .finish_non_exhaustive()
    }
}

/// A worker without its thread: [`Pool`] runs each on a thread of its own, a simulation in turns.
pub struct Worker {
    queues: WorkerQueues,
    delivery: Delivery,
    hub: Arc<Hub>,
    api: Arc<Api>,
    store: Arc<dyn Store>,
}

impl Worker {
    /// A worker that takes from `queues` and answers to `inboxes`, indexed by shard.
    pub fn new(
        queues: WorkerQueues,
        inboxes: Arc<[Arc<Inbox>]>,
        api: Arc<Api>,
        store: Arc<dyn Store>,
    ) -> Self {
        Self {
            queues,
            delivery: Delivery::new(inboxes),
            hub: Arc::clone(api.hub()),
            api,
            store,
        }
    }

    /// Handles one batch of what is queued, without waiting; returns how many requests and look-ups
    /// it had.
    pub fn step(&mut self) -> usize {
        let mut requests = Vec::new();
        self.handle_events(true);
        let answered = self.answer_lookups();
        let taken = self.queues.take_now(&mut requests);
        if taken > 0 {
            self.handle_batch(&mut requests);
        }
        answered + taken
    }

    fn run(&mut self) {
        let mut requests = Vec::with_capacity(TAKE_MAX);
        while self.queues.take(&mut requests) {
            self.handle_events(requests.is_empty());
            self.answer_lookups();
            if !requests.is_empty() {
                self.handle_batch(&mut requests);
            }
        }
    }

    /// Takes what the shards report of relations. A panic is contained, as in requests.
    fn handle_events(&self, is_idle: bool) {
        let handle = AssertUnwindSafe(|| self.hub.handle_events(&self.queues, is_idle));
        if catch_unwind(handle).is_err() {
            self.count_panic();
        }
    }

    fn count_panic(&self) {
        let panics = &self.delivery.counters().panics;
        panics.fetch_add(1, Ordering::Relaxed);
    }

    /// Answers look-ups of pre-shared keys; returns how many.
    fn answer_lookups(&mut self) -> usize {
        let mut touched = Touched::default();
        let mut answered = 0;
        while answered < LOOKUPS_MAX
            && let Some(request) = self.queues.pop_credential()
        {
            answered += 1;
            let shard = request.peer.shard;
            let verdict = self.look_up(request);
            self.delivery.push_credential(shard, verdict, &mut touched);
        }
        self.delivery.wake(&touched);
        answered
    }

    fn look_up(&self, request: CredentialRequest) -> CredentialVerdict {
        let look_up = AssertUnwindSafe(|| self.api.pre_shared_key(&request.identity));
        // Unanswered the handshake would wait for its deadline: it fails as with a wrong key.
        let key = catch_unwind(look_up).unwrap_or_else(|_| {
            self.count_panic();
            None
        });
        CredentialVerdict { request, key }
    }

    fn handle_batch(&self, requests: &mut Vec<Request>) {
        let counters = self.delivery.counters();
        counters
            .requests
            .fetch_add(requests.len() as u64, Ordering::Relaxed);
        touch(requests);
        let mut batch = Batch::with_capacity(requests.len() * BYTES_PER_REQUEST);
        let mut durable = Vec::with_capacity(requests.len());
        let mut touched = Touched::default();
        for request in requests.drain(..) {
            match self.handle(&request, &mut batch) {
                Outcome::Respond(response) => {
                    let verdict = request.into_verdict(response);
                    self.delivery.push(verdict, &mut touched);
                }
                Outcome::Durable(response) => durable.push(request.into_verdict(response)),
                Outcome::Elsewhere => {}
            }
        }
        self.delivery.wake(&touched);
        if durable.is_empty() {
            return;
        }
        let completion = Box::new(Stored {
            verdicts: durable,
            delivery: self.delivery.clone(),
        });
        if let Err(Overloaded(completion)) = self.store.append(batch, completion) {
            completion.complete(Err(&StoreError::Overloaded));
        }
    }

    fn handle(&self, request: &Request, batch: &mut Batch) -> Outcome {
        let mark = batch.begin();
        let handle = AssertUnwindSafe(|| {
            if self.api.may_block(request) {
                self.queues.blocking(|| self.api.handle(request, batch))
            } else {
                self.api.handle(request, batch)
            }
        });
        catch_unwind(handle).unwrap_or_else(|_| {
            batch.rollback(mark);
            self.count_panic();
            Outcome::Respond(Response::empty(code::INTERNAL_SERVER_ERROR))
        })
    }
}

/// Looks at the beginning of what the requests refer to.
///
/// Another core wrote them, so each look is a cache miss. Here the misses do not depend on each
/// other and the processor has many of them at a time; while a request is handled they would come
/// one after the other.
fn touch(requests: &[Request]) {
    /// Bytes of a cache line.
    const LINE: usize = 64;
    /// As many lines as a usual request takes; what follows, the processor fetches ahead.
    const LINES: usize = 3;
    let mut sum = 0_u8;
    for request in requests {
        let lines = request.message.as_bytes().chunks(LINE).take(LINES);
        sum ^= lines
            .filter_map(<[u8]>::first)
            .fold(0, |sum, byte| sum ^ byte);
    }
    std::hint::black_box(sum);
}

/// Answers that wait for the store.
struct Stored {
    verdicts: Vec<Verdict>,
    delivery: Delivery,
}

impl Completion for Stored {
    fn complete(self: Box<Self>, result: Result<(), &StoreError>) {
        let Self { verdicts, delivery } = *self;
        let Err(error) = result else {
            return delivery.deliver(verdicts);
        };
        let refusal = refusal(error);
        delivery.deliver(verdicts.into_iter().map(|verdict| Verdict {
            response: refusal.clone(),
            ..verdict
        }));
    }
}

/// The answer when the store has not taken what a device sent: it may be sent again later, to the server
/// that will have been restarted then, if need be.
pub(super) fn refusal(error: &StoreError) -> Response {
    match error {
        StoreError::Overloaded
        | StoreError::Full(_)
        | StoreError::Failed(_)
        | StoreError::Closed => Response {
            max_age: Some(RETRY_AFTER_S),
            ..Response::empty(code::SERVICE_UNAVAILABLE)
        },
        StoreError::Read(_) => Response::empty(code::INTERNAL_SERVER_ERROR),
    }
}

#[cfg(test)]
mod tests;
