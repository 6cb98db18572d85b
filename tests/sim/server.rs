//! The server: the product's own shards, queues, worker and device API, run in turns.
//!
//! A shard's turn is the real one's (`shard::memory`), down to the batches of its socket, the panics
//! that it contains and the time that handshakes get. When a turn comes is decided here, under the
//! virtual clock: some time after a datagram or a verdict, at once after a turn that had work, and
//! when a timer is due.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use tidegate::auth::api::{Api, ApiSettings};
use tidegate::auth::downlink::{AlwaysReachable, Hub, HubParts, HubSettings};
use tidegate::auth::pool::Worker;
use tidegate::drop_reason::DropReason;
use tidegate::dtls::{
    self, CookieJar, Credentials, ServerConfig, SessionCache, TicketKey, TicketKeys,
};
use tidegate::endpoint::{Endpoint, EndpointSettings, Port};
use tidegate::metrics::{Counter, ShardMetrics};
use tidegate::queue::{Inbox, RequestQueue, RequestQueues};
use tidegate::random::{Random, SeededRandom};
use tidegate::registry::Registry;
use tidegate::shard::clock::VirtualClock;
use tidegate::shard::memory::{MemoryDatagram, MemoryShard, MemoryShardParts};
use tidegate::shard::steering::named_shard;
use tidegate::store::Store;
use tidegate::time::{Duration, Instant, Now};

use crate::fleet::certificate;
use crate::plan::Plan;
use crate::registry::{Ended, TestRegistry};
use crate::store::MemoryStore;

/// The server's certificate, common to all seeds.
static CREDENTIALS: LazyLock<Arc<Credentials>> = LazyLock::new(|| certificate("localhost"));

/// A shard, and when it takes its turns.
pub(crate) struct Shard {
    memory: MemoryShard,
    pub(crate) metrics: Arc<ShardMetrics>,
    pub(crate) inbox: Arc<Inbox>,
    queue: RequestQueue,
    /// When it takes the next turn, timers aside.
    turn_at: Option<Instant>,
    /// What arrived and no turn took.
    arrived: VecDeque<MemoryDatagram>,
    /// How often it was made to forget everything.
    amnesias: u64,
}

/// A datagram that a shard sends.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) shard: usize,
    pub(crate) to: SocketAddr,
    pub(crate) port: Port,
    pub(crate) bytes: Vec<u8>,
}

/// What a shard did in one turn.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) shard: usize,
    /// The datagrams that it took, in the order of their arrival.
    pub(crate) taken: Vec<MemoryDatagram>,
    pub(crate) sent: Vec<Sent>,
}

/// The process: what a restart makes anew.
pub(crate) struct Server {
    pub(crate) shards: Vec<Shard>,
    inboxes: Arc<[Arc<Inbox>]>,
    queues: Arc<RequestQueues>,
    clock: Arc<VirtualClock>,
    worker: Worker,
    worker_at: Option<Instant>,
    pool_delay: Duration,
    inbox_delay: Duration,
    /// Answers to look-ups of keys that get lost, of 1000.
    lost_answers: u64,
    is_steered: bool,
    handovers_max: usize,
    /// Datagrams that one shard handed to another, and that were lost on the way.
    pub(crate) handovers_lost: u64,
}

impl Server {
    /// A server that has just started. Devices, readings and ticket keys outlive it, all else is its
    /// own.
    pub(crate) fn start(
        plan: &Plan,
        now: Now,
        registry: &Arc<TestRegistry>,
        store: &Arc<MemoryStore>,
        ticket_keys: &Arc<TicketKeys>,
        dice: &mut SeededRandom,
    ) -> Self {
        let settings = Arc::new(settings(plan, registry, ticket_keys, dice));
        let clock = Arc::new(VirtualClock::at(now));
        clock.set_pace(plan.work_micros);
        let (queues, mut workers) = RequestQueues::new(plan.shards, plan.queue_capacity, 1);
        let inboxes: Arc<[Arc<Inbox>]> = (0..plan.shards)
            .map(|_| Arc::new(Inbox::new(plan.requests_max)))
            .collect();
        let as_registry: Arc<dyn Registry> = Arc::clone(registry) as _;
        let as_store: Arc<dyn Store> = Arc::clone(store) as _;
        let hub = Hub::new(HubParts {
            registry: Arc::clone(&as_registry),
            store: Arc::clone(&as_store),
            inboxes: Arc::clone(&inboxes),
            settings: HubSettings::default(),
            policies: Box::new(AlwaysReachable),
            // Nothing in the simulation is timed by the hub's own clock.
            clock: Box::new(|| 0),
        });
        let api = Api::new(
            as_registry,
            Arc::clone(&as_store),
            hub,
            ApiSettings::default(),
        );
        let shards = (0..plan.shards)
            .map(|index| {
                let metrics = Arc::new(ShardMetrics::new());
                let queue = || queues.shard(index).expect("a queue for each shard");
                Shard {
                    memory: MemoryShard::new(MemoryShardParts {
                        index: u16::try_from(index).expect("few shards"),
                        batch: plan.batch,
                        settings: Arc::clone(&settings),
                        metrics: Arc::clone(&metrics),
                        queue: queue(),
                        inboxes: Arc::clone(&inboxes),
                        connection_ids: plan.connection_id_length.is_some_and(|n| n > 0),
                        random: Box::new(SeededRandom::new(dice.next_u64())),
                        clock: Arc::clone(&clock),
                    }),
                    metrics,
                    inbox: Arc::clone(&inboxes[index]),
                    queue: queue(),
                    turn_at: None,
                    arrived: VecDeque::new(),
                    amnesias: 0,
                }
            })
            .collect();
        let worker = workers.pop().expect("one worker");
        Self {
            shards,
            worker: Worker::new(worker, Arc::clone(&inboxes), Arc::new(api), as_store),
            inboxes,
            queues,
            clock,
            worker_at: None,
            pool_delay: plan.pool_delay,
            inbox_delay: plan.inbox_delay,
            lost_answers: plan.lost_answers,
            is_steered: plan.is_steered && plan.connection_id_length.is_some_and(|n| n > 0),
            handovers_max: plan.queue_capacity,
            handovers_lost: 0,
        }
    }

    /// From now on nothing waits longer than it must.
    pub(crate) fn hurry(&mut self) {
        self.pool_delay = Duration::from_millis(5);
        self.inbox_delay = Duration::from_millis(1);
        self.lost_answers = 0;
        self.clock.set_pace(0);
    }

    /// The shard that the kernel gives a datagram to: by the connection id in it, else by its address.
    pub(crate) fn shard_of(&self, from: SocketAddr, datagram: &[u8]) -> usize {
        let named = named_shard(datagram).filter(|_| self.is_steered);
        let named = named
            .map(usize::from)
            .filter(|&shard| shard < self.shards.len());
        named.unwrap_or_else(|| (usize::from(from.port()) / 7) % self.shards.len())
    }

    /// A datagram arrives at a shard, which takes it in one of its next turns.
    pub(crate) fn arrive(
        &mut self,
        now: Now,
        shard: usize,
        datagram: MemoryDatagram,
        dice: &mut SeededRandom,
    ) {
        let delay = up_to(self.inbox_delay, dice);
        let shard = &mut self.shards[shard];
        shard.memory.arrive(&datagram);
        shard.arrived.push_back(datagram);
        shard.turn_at.get_or_insert(now.instant + delay);
    }

    /// When [`Self::step`] has something to do.
    pub(crate) fn next_timeout(&self) -> Instant {
        let shards = self.shards.iter().map(Shard::due);
        let due = shards.chain(self.worker_at).min();
        due.expect("at least one shard")
    }

    /// Does what is due: one batch of the worker, a turn of each shard whose time has come. Returns
    /// the turns, and the time at their end.
    pub(crate) fn step(&mut self, now: Now, dice: &mut SeededRandom) -> (Vec<Turn>, Instant) {
        self.clock.set(now);
        if self.worker_at.is_some_and(|at| at <= now.instant) {
            self.worker_at = None;
            self.worker.step();
        }
        let mut turns = Vec::new();
        for (index, shard) in self.shards.iter_mut().enumerate() {
            if shard.due() <= now.instant {
                shard.lose_answers(self.lost_answers, dice);
                turns.push(shard.turn(index, &self.clock));
            }
        }
        self.lose_handovers();
        let end = self.clock.instant();
        self.schedule_worker(end, dice);
        self.schedule_inboxes(end, dice);
        (turns, end)
    }

    /// Looks at the inboxes once more after something was put in.
    pub(crate) fn schedule_inboxes(&mut self, now: Instant, dice: &mut SeededRandom) {
        for shard in &mut self.shards {
            // What the shard would see before it sleeps.
            if !shard.inbox.prepare_sleep() && shard.turn_at.is_none() {
                shard.turn_at = Some(now + up_to(self.inbox_delay, dice));
            }
            shard.inbox.awake();
        }
    }

    /// What lies in an inbox beyond the plan's room is lost, as if the product's queue of them were as
    /// short as that.
    fn lose_handovers(&mut self) {
        for inbox in self.inboxes.iter() {
            let waiting: Vec<_> = std::iter::from_fn(|| inbox.pop_handover()).collect();
            for (index, handover) in waiting.into_iter().enumerate() {
                if index < self.handovers_max {
                    inbox.hand_over(handover).expect("it had room before");
                } else {
                    self.handovers_lost += 1;
                }
            }
        }
    }

    fn schedule_worker(&mut self, now: Instant, dice: &mut SeededRandom) {
        if !self.queues.is_empty() && self.worker_at.is_none() {
            self.worker_at = Some(now + up_to(self.pool_delay, dice));
        }
    }

    /// Every shard is to look for sessions whose credential ended.
    pub(crate) fn revoke_since(&mut self, now: Now, dice: &mut SeededRandom) {
        for inbox in self.inboxes.iter() {
            inbox.revoke_since(now.unix_ms);
        }
        self.schedule_inboxes(now.instant, dice);
    }

    /// Shard `index` loses every peer, as after a panic in a step that concerned many.
    pub(crate) fn forget_all(&mut self, now: Now, index: usize) {
        let shard = &mut self.shards[index];
        shard.amnesias += 1;
        shard.memory.endpoint_mut().forget_all(now);
    }
}

impl Shard {
    fn due(&self) -> Instant {
        let timer = self.memory.next_timeout();
        self.turn_at.map_or(timer, |at| at.min(timer))
    }

    /// Some answers to look-ups of keys do not come about; the shard is told so, as by a full queue.
    fn lose_answers(&mut self, lost_answers: u64, dice: &mut SeededRandom) {
        let answers: Vec<_> = std::iter::from_fn(|| self.inbox.pop_credential()).collect();
        for answer in answers {
            if dice.below(1000) < lost_answers {
                let endpoint = self.memory.endpoint_mut();
                endpoint.handle_credential_refusal(&answer.request);
            } else {
                self.inbox.push_credential(answer);
            }
        }
    }

    fn turn(&mut self, index: usize, clock: &VirtualClock) -> Turn {
        let had_work = self.memory.turn().expect("no kernel that could fail");
        self.turn_at = had_work.then(|| clock.instant());
        let taken = self.arrived.len() - self.memory.waiting();
        let mut sent = Vec::new();
        self.memory.take_sent(|to, port, bytes| {
            sent.push(Sent {
                shard: index,
                to,
                port,
                bytes: bytes.to_vec(),
            });
        });
        Turn {
            shard: index,
            taken: self.arrived.drain(..taken).collect(),
            sent,
        }
    }

    pub(crate) const fn endpoint(&self) -> &Endpoint {
        self.memory.endpoint()
    }

    /// Requests that wait for the pool.
    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// How often it was made to forget everything.
    pub(crate) const fn amnesias(&self) -> u64 {
        self.amnesias
    }

    pub(crate) fn dropped(&self, reason: DropReason) -> u64 {
        self.metrics.drops(reason)
    }

    pub(crate) fn count(&self, counter: Counter) -> u64 {
        self.metrics.value(counter)
    }
}

fn settings(
    plan: &Plan,
    registry: &Arc<TestRegistry>,
    ticket_keys: &Arc<TicketKeys>,
    dice: &mut SeededRandom,
) -> EndpointSettings {
    let mut config = ServerConfig::new(Arc::clone(&CREDENTIALS));
    config.max_transmission_unit = plan.server_transmission_unit;
    config.connection_id_length = plan.connection_id_length;
    config.retransmission_timeout = Duration::from_millis(800 + dice.below(8200));
    let mut settings = EndpointSettings::new(CookieJar::generate(dice));
    settings.dtls.store(Some(Arc::new(config)));
    let lifetime = Duration::from_secs(3600);
    settings.sessions = dtls::Sessions::new(Some(SessionCache::new(64, lifetime)));
    settings
        .sessions
        .set_ticket_keys(Some(Arc::clone(ticket_keys)));
    settings.revocations = Arc::new(Ended(Arc::clone(registry)));
    settings.session_inactivity_timeout = plan.inactivity_timeout;
    settings.session_report_timeout = plan.report_timeout;
    settings.shards = u16::try_from(plan.shards).expect("few shards");
    settings.sessions_max = plan.sessions_max;
    settings.handshakes_max = plan.handshakes_max;
    settings.plain_peers_max = plan.plain_peers_max;
    settings.requests_max = plan.requests_max;
    settings.credential_lookups_max = plan.lookups_max;
    settings
}

/// The ticket keys, which a server finds again after a restart.
pub(crate) fn ticket_keys(dice: &mut SeededRandom) -> Arc<TicketKeys> {
    let (mut name, mut secret) = ([0; 16], [0; 32]);
    dice.fill(&mut name);
    dice.fill(&mut secret);
    let key = TicketKey::new(name, secret);
    Arc::new(TicketKeys::new(vec![key], Duration::from_secs(3600)))
}

fn up_to(most: Duration, dice: &mut SeededRandom) -> Duration {
    let micros = u64::try_from(most.as_micros()).expect("a short time");
    Duration::from_micros(dice.below(micros + 1))
}
