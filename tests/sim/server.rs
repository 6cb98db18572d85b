//! The server: the product's own shards, queues, worker and device API, run in turns.
//!
//! What a shard's executor does between socket and endpoint (`src/shard`) is here in its smallest
//! form, under the virtual clock.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use tidegate::auth::api::{Api, ApiSettings};
use tidegate::auth::downlink::{AlwaysReachable, Hub, HubParts, HubSettings};
use tidegate::auth::pool::Worker;
use tidegate::auth::request::Request;
use tidegate::drop_reason::DropReason;
use tidegate::dtls::{
    self, CookieJar, Credentials, ServerConfig, SessionCache, TicketKey, TicketKeys,
};
use tidegate::endpoint::{Endpoint, EndpointSettings, Outbox, Port};
use tidegate::metrics::{Counter, ShardMetrics};
use tidegate::queue::{Inbox, RequestQueue, RequestQueues};
use tidegate::random::{Random, SeededRandom};
use tidegate::registry::Registry;
use tidegate::shard::steering::named_shard;
use tidegate::store::Store;
use tidegate::time::{Duration, Instant, Now};

use crate::fleet::certificate;
use crate::plan::Plan;
use crate::registry::{Ended, TestRegistry};
use crate::store::MemoryStore;

/// The server's certificate, common to all seeds.
static CREDENTIALS: LazyLock<Arc<Credentials>> = LazyLock::new(|| certificate("localhost"));

/// A shard without its thread and sockets.
pub(crate) struct Shard {
    pub(crate) endpoint: Endpoint,
    pub(crate) metrics: Arc<ShardMetrics>,
    pub(crate) inbox: Arc<Inbox>,
    queue: RequestQueue,
    outbox: Outbox,
    /// When its inbox is looked at next.
    inbox_at: Option<Instant>,
    /// When it has time for the handshakes that wait.
    handshakes_at: Option<Instant>,
    /// Requests handed to the queue, or refused by it.
    submitted: u64,
}

/// A datagram that a shard sends.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) shard: usize,
    pub(crate) to: SocketAddr,
    pub(crate) port: Port,
    pub(crate) bytes: Vec<u8>,
}

/// The process: what a restart makes anew.
pub(crate) struct Server {
    pub(crate) shards: Vec<Shard>,
    inboxes: Arc<[Arc<Inbox>]>,
    queues: Arc<RequestQueues>,
    worker: Worker,
    worker_at: Option<Instant>,
    pool_delay: Duration,
    inbox_delay: Duration,
    /// Answers to look-ups of keys that get lost, of 1000.
    lost_answers: u64,
    is_steered: bool,
    /// Datagrams that wait in the inbox of each shard after another one received them.
    handed_over: Vec<usize>,
    handovers_max: usize,
    /// Datagrams that one shard handed to another, and that found no room.
    pub(crate) handovers: u64,
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
                Shard {
                    endpoint: Endpoint::new(
                        u16::try_from(index).expect("few shards"),
                        Arc::clone(&settings),
                        Arc::clone(&metrics),
                        Box::new(SeededRandom::new(dice.next_u64())),
                        now,
                    ),
                    metrics,
                    inbox: Arc::clone(&inboxes[index]),
                    queue: queues.shard(index).expect("a queue for each shard"),
                    outbox: Outbox::default(),
                    inbox_at: None,
                    handshakes_at: None,
                    submitted: 0,
                }
            })
            .collect();
        let worker = workers.pop().expect("one worker");
        Self {
            shards,
            worker: Worker::new(worker, Arc::clone(&inboxes), Arc::new(api), as_store),
            inboxes,
            queues,
            worker_at: None,
            pool_delay: plan.pool_delay,
            inbox_delay: plan.inbox_delay,
            lost_answers: plan.lost_answers,
            is_steered: plan.is_steered && plan.connection_id_length.is_some_and(|n| n > 0),
            handed_over: vec![0; plan.shards],
            handovers_max: plan.queue_capacity,
            handovers: 0,
            handovers_lost: 0,
        }
    }

    /// From now on nothing waits longer than it must.
    pub(crate) fn hurry(&mut self) {
        self.pool_delay = Duration::from_millis(5);
        self.inbox_delay = Duration::from_millis(1);
        self.lost_answers = 0;
    }

    /// The shard that the kernel gives a datagram to: by the connection id in it, else by its address.
    pub(crate) fn shard_of(&self, from: SocketAddr, datagram: &[u8]) -> usize {
        let named = named_shard(datagram).filter(|_| self.is_steered);
        let named = named
            .map(usize::from)
            .filter(|&shard| shard < self.shards.len());
        named.unwrap_or_else(|| (usize::from(from.port()) / 7) % self.shards.len())
    }

    /// A datagram arrives at a shard.
    pub(crate) fn receive(
        &mut self,
        now: Now,
        shard: usize,
        (from, port): (SocketAddr, Port),
        mut bytes: Vec<u8>,
        dice: &mut SeededRandom,
    ) -> Vec<Sent> {
        let Shard {
            endpoint, outbox, ..
        } = &mut self.shards[shard];
        endpoint.begin_turn(false);
        endpoint.handle_datagram(now, from, port, &mut bytes, outbox);
        self.finish(now, shard, dice)
    }

    /// When [`Self::step`] has something to do.
    pub(crate) fn next_timeout(&self) -> Instant {
        let shards = self.shards.iter().flat_map(|shard| {
            let timer = Some(shard.endpoint.next_timeout());
            [timer, shard.inbox_at, shard.handshakes_at]
        });
        let due = shards.chain([self.worker_at]).flatten().min();
        due.expect("at least one shard")
    }

    /// Does what is due: timers, inboxes, one batch of the worker.
    pub(crate) fn step(&mut self, now: Now, dice: &mut SeededRandom) -> Vec<Sent> {
        let mut sent = Vec::new();
        if self.worker_at.is_some_and(|at| at <= now.instant) {
            self.worker_at = None;
            self.worker.step();
            self.schedule_worker(now, dice);
            self.schedule_inboxes(now, dice);
        }
        for index in 0..self.shards.len() {
            let shard = &mut self.shards[index];
            if shard.endpoint.next_timeout() <= now.instant {
                shard.endpoint.handle_timeout(now, &mut shard.outbox);
            }
            if shard.inbox_at.is_some_and(|at| at <= now.instant) {
                shard.inbox_at = None;
                self.handed_over[index] = 0;
                shard.take_inbox(now, self.lost_answers, dice);
            }
            if shard.handshakes_at.is_some_and(|at| at <= now.instant) {
                shard.handshakes_at = None;
                shard.endpoint.handle_all_waiting(now, &mut shard.outbox);
            }
            sent.extend(self.finish(now, index, dice));
        }
        sent
    }

    /// Looks at the inboxes once more after something was put in.
    pub(crate) fn schedule_inboxes(&mut self, now: Now, dice: &mut SeededRandom) {
        for shard in &mut self.shards {
            // What the shard would see before it sleeps.
            if !shard.inbox.prepare_sleep() && shard.inbox_at.is_none() {
                shard.inbox_at = Some(now.instant + up_to(self.inbox_delay, dice));
            }
            shard.inbox.awake();
        }
    }

    fn schedule_worker(&mut self, now: Now, dice: &mut SeededRandom) {
        if !self.queues.is_empty() && self.worker_at.is_none() {
            self.worker_at = Some(now.instant + up_to(self.pool_delay, dice));
        }
    }

    /// Every shard is to look for sessions whose credential ended.
    pub(crate) fn revoke_since(&mut self, now: Now, dice: &mut SeededRandom) {
        for inbox in self.inboxes.iter() {
            inbox.revoke_since(now.unix_ms);
        }
        self.schedule_inboxes(now, dice);
    }

    /// What a shard does after each turn: requests to the queue, hand-overs to their owners,
    /// datagrams to the network.
    fn finish(&mut self, now: Now, index: usize, dice: &mut SeededRandom) -> Vec<Sent> {
        let shard = &mut self.shards[index];
        let requests: Vec<Request> = shard.outbox.requests.drain(..).collect();
        for request in requests {
            shard.submitted += 1;
            if let Err(full) = shard.queue.submit(request) {
                shard
                    .endpoint
                    .handle_refusal(now, full.0, &mut shard.outbox);
            }
        }
        for request in shard.outbox.credential_requests.drain(..) {
            if let Err(full) = shard.queue.submit_credential(request) {
                shard.endpoint.handle_credential_refusal(&full.0);
            }
        }
        for handover in shard.outbox.handovers.drain(..) {
            let owner = usize::from(handover.shard);
            assert_ne!(owner, index, "a shard hands over to itself");
            if let Some(inbox) = self.inboxes.get(owner) {
                self.handovers += 1;
                // A full queue loses it, as the network would. This one is shorter than the product's.
                let waiting = &mut self.handed_over[owner];
                if *waiting < self.handovers_max && inbox.hand_over(handover).is_ok() {
                    *waiting += 1;
                } else {
                    self.handovers_lost += 1;
                }
            }
        }
        if shard.endpoint.has_waiting() && shard.handshakes_at.is_none() {
            shard.handshakes_at = Some(now.instant + up_to(self.inbox_delay, dice));
        }
        let outbox = &mut shard.outbox;
        let sent = outbox
            .transmits()
            .iter()
            .map(|transmit| Sent {
                shard: index,
                to: transmit.to,
                port: transmit.port,
                bytes: outbox.datagram(transmit).to_vec(),
            })
            .collect();
        outbox.clear_transmits();
        outbox.take_notes().for_each(drop);
        self.schedule_worker(now, dice);
        self.schedule_inboxes(now, dice);
        sent
    }

    /// Shard `index` loses every peer, as after a panic in a step that concerned many.
    pub(crate) fn forget_all(&mut self, now: Now, index: usize) {
        self.shards[index].endpoint.forget_all(now);
    }
}

impl Shard {
    fn take_inbox(&mut self, now: Now, lost_answers: u64, dice: &mut SeededRandom) {
        while let Some(mut handover) = self.inbox.pop_handover() {
            let (from, port) = (handover.from, handover.port);
            let outbox = &mut self.outbox;
            let datagram = &mut handover.datagram;
            self.endpoint
                .handle_datagram(now, from, port, datagram, outbox);
            // Never a second time.
            outbox.handovers.clear();
        }
        if let Some(since) = self.inbox.take_revoked_since() {
            self.endpoint.revoke_since(since);
            while self.endpoint.drop_revoked(2, &mut self.outbox) {}
        }
        while let Some(verdict) = self.inbox.pop_credential() {
            if dice.below(1000) < lost_answers {
                // It did not come about; the shard is told so, as by a full queue.
                self.endpoint.handle_credential_refusal(&verdict.request);
                continue;
            }
            self.endpoint
                .handle_credential_verdict(now, &verdict, &mut self.outbox);
        }
        while let Some(verdict) = self.inbox.pop() {
            self.endpoint.handle_verdict(now, verdict, &mut self.outbox);
        }
    }

    /// Requests that wait for the pool.
    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn submitted(&self) -> u64 {
        self.submitted
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
