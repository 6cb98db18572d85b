//! A shard: one executor pinned to a core, its sockets, its endpoint. Nothing here is shared.
//!
//! ```text
//! turn   driver: receive a batch -> clock -> endpoint -> submit requests
//!        inbox: verdicts and notifications, and datagrams of ours that reached another shard -> endpoint
//!        timers that are due, sessions whose credential ended -> endpoint
//!        driver: send what all of it left in the outbox
//!        handshakes that wait, as far as there is time (see `share`)
//! rest   nothing to do: sleep until the next datagram, wake-up or timer
//! ```
//!
//! One task does it all, every step of a turn is bounded, and the clock is read once for a turn. A
//! shard that had work lately rests in the kernel on its own sockets (`driver::Driver::wait`, at
//! most `LINGER`): the executor's way to sleep costs a dozen system calls, which is for shards
//! that are idle. While datagrams come briskly it gathers a few of them first ([`crate::pace`]).

pub mod clock;
mod downlink;
mod driver;
mod handover;
pub(crate) mod local_addresses;
mod losses;
pub mod memory;
mod share;
pub mod socket;
pub mod steering;
mod steps;
#[cfg(test)]
mod tests;
mod wake;

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::time::Duration;

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};

use self::clock::Clock;
use self::downlink::Downlink;
use self::driver::{Driver, Sleeper};
use self::handover::Neighbours;
use self::losses::Losses;
use self::share::HandshakeShare;
use self::socket::Socket;
use self::wake::Wake;
use crate::auth::request::Verdict;
use crate::crypto::random::BufferedRandom;
use crate::endpoint::{AHEAD, Endpoint, EndpointSettings, Outbox, Port};
use crate::metrics::{Counter, ShardMetrics};
use crate::pace::{GATHER, Pace};
use crate::queue::{Inbox, RequestQueue};
use crate::time::Instant;

pub use self::driver::DriverKind;

/// How long a stopping shard waits for the answers to requests in work.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it tells peers of the end: those of a million sessions take their time, and who is not
/// told finds out by himself.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(10);
/// Slots whose peers are told of the end in one turn.
const GOODBYES_PER_TURN: u32 = 256;
/// How long a shard without timers sleeps before it looks again.
const IDLE_SLEEP: Duration = Duration::from_secs(3600);
/// How long after its last work a shard rests outside the executor. Nothing else runs in it that this
/// could hold up.
const LINGER: Duration = Duration::from_millis(50);

/// How long a task may keep the executor: for ever, as a shard is its only one.
///
/// Not a matter of fairness only. glommio's executor arms this timer, and when it has run out before
/// the executor looks for tasks (the thread waited for a core for so long, on a machine with more work
/// than cores, or the machine stood still), it takes that for an empty queue and goes to sleep over a
/// task that is ready to run: the shard's, which nobody would ever wake.
const PREEMPT_TIMER: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a shard is made of.
pub struct ShardParts {
    /// The shard's number, 0 and up, in the order in which the sockets were bound.
    pub index: u16,
    /// The core to run on.
    pub cpu: usize,
    /// The shard's members of the reuseport groups.
    pub sockets: Vec<(Port, Socket)>,
    /// How their datagrams travel.
    pub driver: DriverKind,
    /// What all endpoints share.
    pub settings: Arc<EndpointSettings>,
    /// This shard's counters.
    pub metrics: Arc<ShardMetrics>,
    /// Requests to the pool.
    pub queue: RequestQueue,
    /// Verdicts from the pool, and datagrams from other shards.
    pub inbox: Arc<Inbox>,
    /// The inboxes of all shards, this one included, by their numbers.
    pub inboxes: Arc<[Arc<Inbox>]>,
    /// Whether our connection ids have a first byte, the number of their shard.
    pub connection_ids: bool,
    /// Set, and the inbox woken, to stop the shard.
    pub stop: Arc<AtomicBool>,
    /// The clocks.
    pub clock: Clock,
    /// Told once the shard serves, and hung up when the shard ends. Hung up without a word, it never
    /// served: the executor is made on the shard's own thread, so that [`spawn`] cannot know.
    pub started: mpsc::Sender<()>,
}

/// Starts the shard's executor on a thread of its own; it serves once `started` says so.
///
/// # Errors
/// When the thread cannot be made. What its executor fails of (no io_uring, too little locked
/// memory) is what joining it returns.
pub fn spawn(parts: ShardParts) -> io::Result<ExecutorJoinHandle<io::Result<()>>> {
    LocalExecutorBuilder::new(Placement::Fixed(parts.cpu))
        .name(&format!("shard-{}", parts.index))
        // The ring's own buffers serve files, which a shard has none of.
        .io_memory(64 << 10)
        .ring_depth(128)
        .preempt_timer(PREEMPT_TIMER)
        .spawn(move || run(parts))
        .map_err(|error| io::Error::other(error.to_string()))
}

async fn run(parts: ShardParts) -> io::Result<()> {
    let wake = Arc::new(Wake::new()?);
    let now = parts.clock.now();
    let losses = Losses::watch(&parts.sockets, now.instant)?;
    let driver = Driver::open(parts.driver, parts.sockets, Arc::clone(&wake))?;
    let mut sleeper = driver.sleeper()?;
    let endpoint = Endpoint::new(
        parts.index,
        parts.settings,
        Arc::clone(&parts.metrics),
        Box::new(BufferedRandom::default()),
        now,
    );
    let neighbours = Neighbours::new(parts.index, parts.inboxes, parts.connection_ids);
    let mut state = State::new(endpoint, driver, neighbours, now.instant);
    state.losses = losses;
    let runner = Runner {
        shard: Shard {
            index: parts.index,
            metrics: parts.metrics,
            queue: parts.queue,
            inbox: parts.inbox,
            clock: parts.clock,
            notes_logged: Cell::new((0, 0)),
        },
        wake,
        stop: parts.stop,
    };
    runner.set_wakers().await;
    // Nobody listens any more only when the server gave up its start.
    let alive = parts.started;
    let _ = alive.send(());
    while !runner.stop.load(Ordering::Acquire) {
        if !runner.shard.turn(&mut state)? {
            runner.rest(&mut state, &mut sleeper).await?;
        }
    }
    runner.drain(&mut state).await
}

/// What a shard is told by, and tells, others.
struct Shard {
    index: u16,
    metrics: Arc<ShardMetrics>,
    queue: RequestQueue,
    inbox: Arc<Inbox>,
    clock: Clock,
    /// The second of the latest log line about a peer, and how many there were in it.
    notes_logged: Cell<(u64, u32)>,
}

/// What a shard is.
struct State {
    endpoint: Endpoint,
    outbox: Outbox,
    share: HandshakeShare,
    /// Batches in a row that did not leave the sockets empty.
    full_batches: u32,
    driver: Driver,
    neighbours: Neighbours,
    losses: Losses,
    downlink: Downlink,
    /// Of the inbox, looked at together.
    verdicts: Vec<Verdict>,
    /// When events of relations are reported again that found no room.
    report_due: Instant,
    /// The latest turn that had something to do.
    last_work: Instant,
    /// Of datagrams and verdicts.
    pace: Pace,
}

impl State {
    fn new(endpoint: Endpoint, driver: Driver, neighbours: Neighbours, now: Instant) -> Self {
        Self {
            endpoint,
            outbox: Outbox::default(),
            share: HandshakeShare::default(),
            full_batches: 0,
            driver,
            neighbours,
            losses: Losses::default(),
            downlink: Downlink::default(),
            verdicts: Vec::with_capacity(AHEAD),
            report_due: downlink::NEVER,
            last_work: now,
            pace: Pace::default(),
        }
    }

    /// When a turn is due, though nothing came.
    fn next_timeout(&self) -> Instant {
        self.endpoint.next_timeout().min(self.report_due)
    }
}

impl Shard {
    /// One turn; whether there was anything to do.
    fn turn(&self, state: &mut State) -> io::Result<bool> {
        let (now, received) = self.receive(state)?;
        state.pace.add(received.datagrams);
        let mut had_work = received.datagrams > 0;
        had_work |= self.take_verdicts(now, state);
        had_work |= self.take_handovers(now, state);
        had_work |= self.take_inspection(now, state);
        had_work |= self.drop_revoked(now, state);
        had_work |= self.handle_timeouts(now, state);
        self.flush(state)?;
        had_work |= self.handle_waiting(now, received, state)?;
        if had_work {
            state.last_work = now.instant;
        }
        Ok(had_work)
    }
}

/// A shard in its executor: what is around the turns.
struct Runner {
    shard: Shard,
    wake: Arc<Wake>,
    stop: Arc<AtomicBool>,
}

impl Runner {
    async fn set_wakers(&self) {
        poll_fn(|context| {
            self.wake.set_waker(context.waker().clone());
            Poll::Ready(())
        })
        .await;
        let wake = Arc::clone(&self.wake);
        self.shard.inbox.set_waker(Box::new(move || wake.wake()));
    }

    /// Sleeps until there may be something to do.
    async fn rest(&self, state: &mut State, sleeper: &mut Sleeper) -> io::Result<()> {
        let now = self.shard.clock.instant();
        let due = state.next_timeout().saturating_duration_since(now);
        if due.is_zero() {
            return Ok(());
        }
        let is_idle = now.saturating_duration_since(state.last_work) >= LINGER;
        if is_idle {
            state.losses.on_idle(now, &self.shard.metrics);
        }
        self.wake.sleep_in_executor(is_idle);
        if self.shard.inbox.prepare_sleep() && !self.stop.load(Ordering::Acquire) {
            if !is_idle {
                self.shard.metrics.increment(Counter::Sleeps);
                if state.pace.is_brisk(now) {
                    state.driver.gather(due.min(GATHER))?;
                } else {
                    state.driver.wait(due.min(LINGER))?;
                }
            } else if state.driver.prepare_idle()? {
                self.shard.metrics.increment(Counter::IdleSleeps);
                sleeper.sleep(due.min(IDLE_SLEEP)).await;
                state.driver.end_idle();
            }
        }
        self.shard.inbox.awake();
        self.wake.sleep_in_executor(false);
        Ok(())
    }

    /// The end: answers what is in work, then says goodbye to every peer.
    async fn drain(&self, state: &mut State) -> io::Result<()> {
        let deadline = self.shard.clock.instant() + DRAIN_TIMEOUT;
        loop {
            let now = self.shard.clock.now();
            self.shard.take_verdicts(now, state);
            self.shard.take_handovers(now, state);
            self.shard.flush(state)?;
            let waiting = state.endpoint.requests_in_work();
            if waiting == 0 || now.instant >= deadline {
                break;
            }
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
        let deadline = self.shard.clock.instant() + GOODBYE_TIMEOUT;
        let mut slot = 0;
        loop {
            let slots = slot..slot + GOODBYES_PER_TURN;
            let more = state.endpoint.close_peers(slots, &mut state.outbox);
            self.shard.flush(state)?;
            slot += GOODBYES_PER_TURN;
            if !more || self.shard.clock.instant() >= deadline {
                return Ok(());
            }
        }
    }
}
