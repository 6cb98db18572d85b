//! A shard: one executor pinned to a core, its sockets, its endpoint. Nothing here is shared.
//!
//! ```text
//! socket tasks   readable -> receive a batch -> clock -> endpoint -> submit requests -> send
//!                         -> handshakes that wait, as far as there is time (see `share`)
//! inbox task     woken by the pool -> take verdicts and notifications -> endpoint -> send
//!                or by a shard -> take datagrams of ours that reached it -> the same
//! timer task     next_timeout -> endpoint -> send
//! ```
//!
//! The tasks of one executor take turns and never hold the state across an await, so a `RefCell`
//! is all the exclusion there is. Every turn is bounded: one batch, then the others may run.

pub mod clock;
mod downlink;
mod driver;
mod handover;
mod share;
pub mod socket;
pub mod steering;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Poll, Waker};
use std::time::Duration;

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};

use self::clock::Clock;
use self::downlink::Downlink;
use self::driver::{BoundPort, Waiter};
use self::handover::Neighbours;
use self::share::HandshakeShare;
use self::socket::{BATCH, ReceiveBatch, Socket};
use crate::crypto::random::BufferedRandom;
use crate::drop_reason::DropReason;
use crate::endpoint::{Endpoint, EndpointSettings, Note, Outbox, Port};
use crate::metrics::{Counter, ShardMetrics};
use crate::queue::{Inbox, RequestQueue};
use crate::time::{Instant, Now};

/// Verdicts handled in one turn.
const VERDICTS_PER_TURN: usize = 256;
/// Full batches in a row from which on the socket counts as under pressure.
const PRESSURE_BATCHES: u32 = 8;
/// Peers looked at in one turn when a credential has ended.
const REVOCATION_SLOTS_PER_TURN: u32 = 4096;
/// Datagrams of other shards handled in one turn: as many as a socket's turn has.
const HANDOVERS_PER_TURN: u64 = socket::BATCH as u64;
/// Log lines about peers that a shard writes in one second.
const NOTES_PER_SECOND: u32 = 10;
/// How long a stopping shard waits for the answers to requests in work.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Slots whose peers are told of the end in one turn.
const GOODBYES_PER_TURN: u32 = 256;
/// How long a shard without timers sleeps before it looks again.
const IDLE_SLEEP: Duration = Duration::from_secs(3600);

/// What a shard is made of.
pub struct ShardParts {
    /// The shard's number, 0 and up, in the order in which the sockets were bound.
    pub index: u16,
    /// The core to run on.
    pub cpu: usize,
    /// The shard's members of the reuseport groups.
    pub sockets: Vec<(Port, Socket)>,
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
        .spawn(move || run(parts))
        .map_err(|error| io::Error::other(error.to_string()))
}

async fn run(parts: ShardParts) -> io::Result<()> {
    let ports: Vec<_> = parts
        .sockets
        .into_iter()
        .map(|(port, socket)| BoundPort::new(port, socket))
        .collect();
    let waiters = ports
        .iter()
        .map(BoundPort::waiter)
        .collect::<io::Result<Vec<_>>>()?;
    let now = parts.clock.now();
    let shard = Rc::new(Shard {
        state: RefCell::new(State {
            endpoint: Endpoint::new(
                parts.index,
                parts.settings,
                Arc::clone(&parts.metrics),
                Box::new(BufferedRandom::default()),
                now,
            ),
            outbox: Outbox::default(),
            batch: ReceiveBatch::default(),
            share: HandshakeShare::default(),
            full_batches: 0,
            ports,
            neighbours: Neighbours::new(parts.index, parts.inboxes, parts.connection_ids),
            downlink: Downlink::default(),
        }),
        index: parts.index,
        metrics: parts.metrics,
        queue: parts.queue,
        inbox: parts.inbox,
        stop: parts.stop,
        clock: parts.clock,
        timer_armed: Cell::new(Instant::ZERO),
        timer_waker: Cell::new(None),
        notes_logged: Cell::new((0, 0)),
    });
    let sockets: Vec<_> = waiters
        .into_iter()
        .enumerate()
        .map(|(port, waiter)| {
            let shard = Rc::clone(&shard);
            glommio::spawn_local(async move { shard.serve_socket(port, &waiter).await }).detach()
        })
        .collect();
    let timer = {
        let shard = Rc::clone(&shard);
        glommio::spawn_local(async move { shard.serve_timers().await }).detach()
    };
    // Nobody listens any more only when the server gave up its start.
    let alive = parts.started;
    let _ = alive.send(());
    shard.serve_inbox().await;
    shard.drain().await;
    timer.cancel();
    sockets.iter().for_each(glommio::task::JoinHandle::cancel);
    Ok(())
}

/// What the tasks of one shard have in common.
struct Shard {
    state: RefCell<State>,
    index: u16,
    metrics: Arc<ShardMetrics>,
    queue: RequestQueue,
    inbox: Arc<Inbox>,
    stop: Arc<AtomicBool>,
    clock: Clock,
    /// When the timer task will wake, and how to wake it sooner.
    timer_armed: Cell<Instant>,
    timer_waker: Cell<Option<Waker>>,
    /// The second of the latest log line about a peer, and how many there were in it.
    notes_logged: Cell<(u64, u32)>,
}

struct State {
    endpoint: Endpoint,
    outbox: Outbox,
    batch: ReceiveBatch,
    share: HandshakeShare,
    /// Batches in a row that did not leave the secure socket empty.
    full_batches: u32,
    ports: Vec<BoundPort>,
    neighbours: Neighbours,
    downlink: Downlink,
}

impl Shard {
    async fn serve_socket(&self, port: usize, waiter: &Waiter) {
        let is_secure = self.state.borrow().ports[port].port == Port::Secure;
        loop {
            waiter.readable().await;
            loop {
                let received = self.receive_batch(port);
                // What came meanwhile goes out with this turn, without a wake-up of its own.
                self.take_verdicts();
                self.take_handovers();
                if is_secure && self.handle_waiting() {
                    // The socket would be looked at again and again: timers and the other socket
                    // have their turn only if they are given one.
                    glommio::executor().yield_task_queue_now().await;
                } else if received == 0 {
                    break;
                } else {
                    glommio::yield_if_needed().await;
                }
            }
        }
    }

    /// One turn of a socket: returns how many datagrams there were.
    fn receive_batch(&self, index: usize) -> usize {
        let mut state = self.state.borrow_mut();
        let State {
            endpoint,
            outbox,
            batch,
            share,
            full_batches,
            ports,
            neighbours,
            ..
        } = &mut *state;
        let Some(bound) = ports.get(index) else {
            return 0;
        };
        let port = bound.port;
        let received = match bound.receive(batch) {
            Ok(received) => received,
            Err(error) => {
                tracing::warn!(shard = self.index, %error, "receiving failed");
                return 0;
            }
        };
        let now = self.clock.now();
        let is_empty = received < BATCH;
        if port == Port::Secure {
            *full_batches = if is_empty { 0 } else { *full_batches + 1 };
            endpoint.begin_turn(*full_batches > PRESSURE_BATCHES);
        }
        if received == 0 {
            if port == Port::Secure {
                share.on_batch(now.instant, Duration::ZERO, true, endpoint.last_data());
            }
            return 0;
        }
        self.metrics.increment(Counter::ReceiveBatches);
        self.metrics.add(
            match port {
                Port::Plain => Counter::DatagramsReceivedCoap,
                Port::Secure => Counter::DatagramsReceivedCoaps,
            },
            received as u64,
        );
        let mut bytes = 0;
        for datagram in batch.datagrams() {
            if datagram.truncated {
                self.metrics.count_drop(DropReason::DatagramTruncated);
                continue;
            }
            bytes += datagram.bytes.len() as u64;
            neighbours.count_arrival(port, datagram.bytes, &self.metrics);
            self.handle_datagram(now, datagram.from, port, datagram.bytes, endpoint, outbox);
        }
        self.metrics.add(
            match port {
                Port::Plain => Counter::BytesReceivedCoap,
                Port::Secure => Counter::BytesReceivedCoaps,
            },
            bytes,
        );
        neighbours.hand_over(&mut outbox.handovers, &self.metrics);
        self.submit(now, endpoint, outbox);
        self.flush(&mut state);
        let State {
            endpoint, share, ..
        } = &mut *state;
        if port == Port::Secure {
            let end = self.clock.instant();
            let time = end.saturating_duration_since(now.instant);
            share.on_batch(end, time, is_empty, endpoint.last_data());
        }
        received
    }

    /// Handles handshake datagrams that wait, as long as there is time; whether any wait still.
    fn handle_waiting(&self) -> bool {
        let mut state = self.state.borrow_mut();
        if !state.endpoint.has_waiting() {
            return false;
        }
        let State {
            endpoint,
            outbox,
            share,
            ..
        } = &mut *state;
        let mut now = self.clock.now();
        while share.is_left() {
            let Some(mut datagram) = endpoint.next_waiting(now) else {
                break;
            };
            let handled = catch_unwind(AssertUnwindSafe(|| {
                endpoint.handle_waiting(now, &mut datagram, outbox);
            }));
            if handled.is_err() {
                let peer = datagram.from();
                tracing::error!(shard = self.index, %peer, "carrying on a handshake panicked");
                endpoint.forget(peer, Port::Secure);
            }
            let end = self.clock.now();
            share.spend(end.instant.saturating_duration_since(now.instant));
            now = end;
        }
        let more = endpoint.has_waiting();
        self.submit(now, endpoint, outbox);
        self.flush(&mut state);
        more
    }

    /// Hands one datagram to the endpoint.
    fn handle_datagram(
        &self,
        now: Now,
        from: SocketAddr,
        port: Port,
        datagram: &mut [u8],
        endpoint: &mut Endpoint,
        outbox: &mut Outbox,
    ) {
        let handled = catch_unwind(AssertUnwindSafe(|| {
            endpoint.handle_datagram(now, from, port, datagram, outbox);
        }));
        if handled.is_err() {
            // A defect of ours: the peer goes, the shard and all others stay.
            tracing::error!(shard = self.index, peer = %from, "handling a datagram panicked");
            endpoint.forget(from, port);
        }
    }

    /// Hands the requests of a turn to the pool.
    fn submit(&self, now: Now, endpoint: &mut Endpoint, outbox: &mut Outbox) {
        let mut requests = std::mem::take(&mut outbox.requests);
        for request in requests.drain(..) {
            if let Err(full) = self.queue.submit(request) {
                endpoint.handle_refusal(now, full.0, outbox);
            }
        }
        outbox.requests = requests;
        for request in outbox.credential_requests.drain(..) {
            if let Err(full) = self.queue.submit_credential(request) {
                endpoint.handle_credential_refusal(&full.0);
            }
        }
        self.queue.notify();
    }

    async fn serve_inbox(&self) {
        poll_fn(|context| {
            let waker = context.waker().clone();
            self.inbox.set_waker(Box::new(move || waker.wake_by_ref()));
            Poll::Ready(())
        })
        .await;
        while !self.stop.load(Ordering::Acquire) {
            self.take_verdicts();
            self.take_handovers();
            if self.take_inspection() | self.drop_revoked() {
                // There is more, and the sockets have their turn first.
                glommio::executor().yield_task_queue_now().await;
                continue;
            }
            self.sleep_until_woken().await;
            glommio::yield_if_needed().await;
        }
    }

    /// Answers one question of an administrator; whether there was one.
    fn take_inspection(&self) -> bool {
        let Some(inspection) = self.inbox.pop_inspection() else {
            return false;
        };
        self.guarded("looking at sessions", |shard, state| {
            let now = shard.clock.now();
            state.endpoint.inspect(now, inspection, &mut state.outbox);
            shard.flush(state);
        });
        true
    }

    /// One turn of the search for sessions whose credential has ended; whether there is more to do.
    fn drop_revoked(&self) -> bool {
        let since = self.inbox.take_revoked_since();
        let mut more = false;
        self.guarded("dropping sessions", |shard, state| {
            if let Some(since) = since {
                state.endpoint.revoke_since(since);
            }
            more = state
                .endpoint
                .drop_revoked(REVOCATION_SLOTS_PER_TURN, &mut state.outbox);
            shard.flush(state);
        });
        more
    }

    /// Sleeps until the pool wakes the inbox; returns at once when something is in it.
    async fn sleep_until_woken(&self) {
        let mut slept = false;
        self.metrics.increment(Counter::Sleeps);
        poll_fn(|_| {
            if slept || !self.inbox.prepare_sleep() || self.stop.load(Ordering::Acquire) {
                self.inbox.awake();
                Poll::Ready(())
            } else {
                slept = true;
                Poll::Pending
            }
        })
        .await;
    }

    /// One turn of the inbox.
    fn take_verdicts(&self) {
        self.guarded("taking verdicts", |shard, state| {
            let mut taken = 0;
            let mut now = None;
            state.downlink.take(&shard.inbox);
            while taken < VERDICTS_PER_TURN
                && let Some(verdict) = shard.inbox.pop_credential()
            {
                let now = *now.get_or_insert_with(|| shard.clock.now());
                state
                    .endpoint
                    .handle_credential_verdict(now, &verdict, &mut state.outbox);
                taken += 1;
            }
            while taken < VERDICTS_PER_TURN {
                let Some(verdict) = shard.inbox.pop() else {
                    break;
                };
                let now = *now.get_or_insert_with(|| shard.clock.now());
                state
                    .endpoint
                    .handle_verdict(now, verdict, &mut state.outbox);
                taken += 1;
            }
            if shard.inbox.is_empty() {
                for notification in state.downlink.release() {
                    let now = *now.get_or_insert_with(|| shard.clock.now());
                    state
                        .endpoint
                        .handle_notification(now, notification, &mut state.outbox);
                }
            }
            if now.is_some() {
                shard.flush(state);
            }
        });
    }

    /// One turn of the datagrams that other shards received and this one owns.
    fn take_handovers(&self) {
        let mut state = self.state.borrow_mut();
        let State {
            endpoint, outbox, ..
        } = &mut *state;
        let mut taken = 0;
        let mut latest = None;
        while taken < HANDOVERS_PER_TURN
            && let Some(mut handover) = self.inbox.pop_handover()
        {
            taken += 1;
            let now = *latest.get_or_insert_with(|| self.clock.now());
            let (from, port) = (handover.from, handover.port);
            self.handle_datagram(now, from, port, &mut handover.datagram, endpoint, outbox);
        }
        let Some(now) = latest else {
            return;
        };
        self.metrics.add(Counter::HandoversReceived, taken);
        // Never a second time, or two shards that disagree would pass it to and fro.
        for _ in outbox.handovers.drain(..) {
            self.metrics.count_drop(DropReason::HandoverAstray);
        }
        self.submit(now, endpoint, outbox);
        self.flush(&mut state);
    }

    /// Runs a step that concerns many peers. Should it panic, which is a defect of ours, nobody
    /// knows which peer's state is broken: the shard goes on without any.
    fn guarded(&self, step_name: &str, step: impl FnOnce(&Self, &mut State)) {
        let mut state = self.state.borrow_mut();
        if catch_unwind(AssertUnwindSafe(|| step(self, &mut state))).is_err() {
            tracing::error!(
                shard = self.index,
                "{step_name} panicked: all sessions are dropped"
            );
            state.outbox = Outbox::default();
            state.endpoint.forget_all(self.clock.now());
        }
    }

    async fn serve_timers(&self) {
        loop {
            let now = self.clock.now();
            self.guarded("handling timeouts", |shard, state| {
                if let Some(sweep) = state.endpoint.handle_timeout(now, &mut state.outbox) {
                    tracing::info!(
                        shard = shard.index,
                        dropped = sweep.dropped,
                        sessions = sweep.sessions,
                        "swept idle sessions"
                    );
                }
                // Armed before the flush, which arms the timer of whatever came due meanwhile.
                shard.timer_armed.set(state.endpoint.next_timeout());
                shard.flush(state);
            });
            let next = self.timer_armed.get();
            let sleep = next
                .saturating_duration_since(self.clock.instant())
                .min(IDLE_SLEEP);
            if sleep.is_zero() {
                glommio::yield_if_needed().await;
                continue;
            }
            let mut timer = glommio::timer::Timer::new(sleep);
            poll_fn(|context| {
                if self.timer_armed.get() < next {
                    return Poll::Ready(());
                }
                self.timer_waker.set(Some(context.waker().clone()));
                std::pin::Pin::new(&mut timer).poll(context).map(drop)
            })
            .await;
        }
    }

    /// Sends what the step left in the outbox and wakes the timer task when it would sleep too long.
    fn flush(&self, state: &mut State) {
        let State {
            endpoint,
            outbox,
            ports,
            ..
        } = state;
        for note in outbox.take_notes() {
            self.log(note);
        }
        if !outbox.is_sent() {
            for port in ports.iter() {
                let sent = port.send(outbox);
                let (datagrams, bytes) = match port.port {
                    Port::Plain => (Counter::DatagramsSentCoap, Counter::BytesSentCoap),
                    Port::Secure => (Counter::DatagramsSentCoaps, Counter::BytesSentCoaps),
                };
                self.metrics.add(datagrams, sent.datagrams);
                self.metrics.add(bytes, sent.bytes);
                for _ in 0..sent.refused {
                    self.metrics.count_drop(DropReason::SendFailed);
                }
            }
            outbox.clear_transmits();
        }
        let retry = downlink::report(endpoint, &self.queue, &self.clock);
        let next = endpoint.next_timeout().min(retry);
        if next < self.timer_armed.get() {
            self.timer_armed.set(next);
            if let Some(waker) = self.timer_waker.take() {
                waker.wake();
            }
        }
    }

    /// Logs what a peer did, a bounded number of times a second: peers decide how often it happens.
    fn log(&self, note: Note) {
        let second = self.clock.instant().as_micros() / 1_000_000;
        let (last, logged) = self.notes_logged.get();
        let logged = if last == second { logged } else { 0 };
        if logged >= NOTES_PER_SECOND {
            return;
        }
        self.notes_logged.set((second, logged + 1));
        match note {
            Note::Failed(peer, error) => tracing::info!(%peer, %error, "DTLS ended"),
            Note::Alert(peer, alert) => tracing::info!(%peer, %alert, "the peer sent an alert"),
        }
    }

    /// The end: answers what is in work, then says goodbye to every peer.
    async fn drain(&self) {
        let deadline = self.clock.instant() + DRAIN_TIMEOUT;
        loop {
            self.take_verdicts();
            self.take_handovers();
            let waiting = self.state.borrow().endpoint.requests_in_work();
            if waiting == 0 || self.clock.instant() >= deadline {
                break;
            }
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
        let mut slot = 0;
        loop {
            let mut state = self.state.borrow_mut();
            let State {
                endpoint, outbox, ..
            } = &mut *state;
            let more = endpoint.close_peers(slot..slot + GOODBYES_PER_TURN, outbox);
            self.flush(&mut state);
            slot += GOODBYES_PER_TURN;
            if !more {
                break;
            }
        }
    }
}
