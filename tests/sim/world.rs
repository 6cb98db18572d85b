//! One run: a fleet, a network and a server in one thread, on a clock of their own.
//!
//! ```text
//! faults                    clean network                  silence
//! |-- plan.events events ---|-- until each device has   ---|-- until all is forgotten --|
//!                           |   had a reading stored       |
//! ```

use std::net::SocketAddr;
use std::sync::Arc;

use tidegate::coap::code;
use tidegate::drop_reason::DropReason;
use tidegate::dtls::TicketKeys;
use tidegate::endpoint::Port;
use tidegate::metrics::Counter;
use tidegate::random::{Random, SeededRandom};
use tidegate::registry::{NewDevice, Registry};
use tidegate::shard::memory::MemoryDatagram;
use tidegate::time::{Duration, Instant, Now};

use crate::check::{Door, Effects, Nonces, check_bounds, check_end};
use crate::fleet::{Asked, DEVICE_ID_LEN, Device, End, Event, Output, address};
use crate::network::{Network, Packet, To};
use crate::plan::{FAULTS_LAST, NetworkFaults, Plan, one_in};
use crate::registry::TestRegistry;
use crate::server::{Sent, Server, ticket_keys};
use crate::store::{MemoryStore, Stored};
use crate::summary::{Summary, Trace};

/// The wall clock at the start: 2026-01-01.
const UNIX_MS: u64 = 1_767_225_600_000;
/// EXCHANGE_LIFETIME (RFC 7252 section 4.8.2), the longest that a plain peer is kept, and more.
const EXCHANGE_LIFETIME: Duration = Duration::from_secs(247 + 120);
/// Steps of a phase after which the run is stuck.
const STEPS_MAX: usize = 200_000;

/// The world of one seed.
pub(crate) struct World {
    plan: Plan,
    dice: SeededRandom,
    now: Instant,
    /// What the wall clock was set forward or back, in milliseconds.
    jump_ms: i64,
    network: Network,
    server: Server,
    registry: Arc<TestRegistry>,
    store: Arc<MemoryStore>,
    ticket_keys: Arc<TicketKeys>,
    commit_at: Option<Instant>,
    commit_delay: Duration,
    devices: Vec<Device>,
    removed: Vec<bool>,
    moves: u16,
    /// Whether the faults have stopped.
    is_clean: bool,
    /// Devices whose reading was stored since the faults stopped.
    served: Vec<bool>,
    /// How often the memory of plain messages was lost, evictions of this process aside.
    lost_memories: u64,
    nonces: Nonces,
    door: Door,
    effects: Effects,
    summary: Summary,
    trace: Trace,
}

impl World {
    pub(crate) fn new(seed: u64, verbose: bool) -> Self {
        let plan = Plan::new(seed);
        let mut dice = SeededRandom::new(seed);
        let now = Instant::from_micros(1_000_000);
        let mut devices = Vec::new();
        for (index, &device) in plan.devices.iter().enumerate() {
            devices.push(Device::new(index, device, plan.pause, &mut dice));
        }
        let registry = Arc::new(TestRegistry::default());
        let ids = devices.iter().map(|device| {
            let new = NewDevice {
                name: name(device.index),
                credential: device.credential(),
                ..NewDevice::default()
            };
            registry.add(new).expect("a new device").id
        });
        let ids = ids.collect();
        let store = MemoryStore::new(plan.store, dice.next_u64(), Arc::clone(&registry));
        let store = Arc::new(store);
        let ticket_keys = ticket_keys(&mut dice);
        let wall = Now {
            instant: now,
            unix_ms: UNIX_MS,
        };
        let server = Server::start(&plan, wall, &registry, &store, &ticket_keys, &mut dice);
        Self {
            network: Network::new(plan.network),
            jump_ms: 0,
            now,
            server,
            registry,
            store,
            ticket_keys,
            commit_at: None,
            commit_delay: plan.commit_delay,
            removed: vec![false; devices.len()],
            served: vec![false; devices.len()],
            devices,
            moves: 0,
            is_clean: false,
            lost_memories: 0,
            nonces: Nonces::default(),
            door: Door::default(),
            effects: Effects::new(ids),
            summary: Summary::default(),
            trace: Trace::new(verbose),
            plan,
            dice,
        }
    }

    /// Runs all three phases.
    pub(crate) fn run(mut self) -> Summary {
        let end = self.now + FAULTS_LAST;
        while self.effects.requests() < self.plan.requests && self.now < end {
            if self.step() {
                self.mishap();
            }
        }
        self.clean_up();
        self.serve_all();
        self.fall_silent();
        self.finish()
    }

    fn clock(&self) -> Now {
        let millis = UNIX_MS + self.now.as_micros() / 1000;
        Now {
            instant: self.now,
            unix_ms: millis.saturating_add_signed(self.jump_ms),
        }
    }

    /// Does the next thing that happens, at its time; whether it was a datagram's arrival or a
    /// device's doing.
    fn step(&mut self) -> bool {
        let arrival = self.network.next_arrival();
        let server = self.server.next_timeout();
        let device = self
            .devices
            .iter()
            .filter_map(|device| Some((device.next_timeout()?, device.index)))
            .min();
        let next = [
            arrival,
            Some(server),
            device.map(|(at, _)| at),
            self.commit_at,
        ];
        let next = next
            .into_iter()
            .flatten()
            .min()
            .expect("the server's timer");
        self.now = self.now.max(next);
        let mut outside = true;
        if arrival.is_some_and(|at| at <= self.now) {
            self.deliver();
        } else if let Some((at, index)) = device
            && at <= self.now
        {
            let now = self.clock();
            let output = self.devices[index].step(now, &mut self.dice);
            self.emit(index, output);
        } else if self.commit_at.is_some_and(|at| at <= self.now) {
            outside = false;
            self.commit();
        } else {
            outside = false;
            let now = self.clock();
            let (turns, end) = self.server.step(now, &mut self.dice);
            self.now = self.now.max(end);
            for turn in turns {
                self.trace.event(self.now, "turn", turn.shard);
                self.trace.event(self.now, "of", turn.taken.len());
                self.trace.event(self.now, "sends", turn.sent.len());
                self.summary.happenings.batches += u64::from(turn.taken.len() > 1);
                self.door.turn(&turn);
                self.transmit(turn.sent);
            }
        }
        self.schedule_commit();
        check_bounds(&self.server, &self.plan);
        outside
    }

    fn deliver(&mut self) {
        let packet = self.network.arrive().expect("the datagram that is due");
        let now = self.clock();
        match packet.to {
            To::Server(from, shard) => {
                let shards = self.server.shards.len();
                let shard = shard.map_or_else(
                    || self.server.shard_of(from, &packet.bytes),
                    |shard| shard % shards,
                );
                let id_len = self.server_id_len();
                self.trace
                    .datagram(self.now, "to server", &packet.bytes, id_len);
                let datagram = MemoryDatagram {
                    peer: from,
                    port: packet.port,
                    bytes: packet.bytes,
                };
                self.server.arrive(now, shard, datagram, &mut self.dice);
            }
            To::Device(to) => {
                self.trace
                    .datagram(self.now, "to device", &packet.bytes, DEVICE_ID_LEN);
                let device = self.devices.iter().position(|device| device.address == to);
                if let Some(index) = device {
                    let output = self.devices[index].receive(now, packet.bytes, &mut self.dice);
                    self.emit(index, output);
                }
            }
        }
    }

    /// What the server sent goes to the network.
    fn transmit(&mut self, sent: Vec<Sent>) {
        for sent in sent {
            self.nonces.server_sent(&sent);
            let packet = Packet {
                to: To::Device(sent.to),
                port: sent.port,
                bytes: sent.bytes,
            };
            self.network.send(self.now, packet, &mut self.dice);
        }
    }

    /// What a device did goes to the network and the checkers.
    fn emit(&mut self, index: usize, output: Output) {
        let device = &self.devices[index];
        let secure = device.is_secure();
        let from = device.address;
        let losses = self.losses();
        for event in &output.events {
            self.trace.event(self.now, &format!("{event:?}"), index);
            match *event {
                Event::Began(asked) => self.effects.began(asked, secure, losses),
                Event::Ended(asked, end) => {
                    self.effects.ended(asked, end);
                    if matches!((asked, end), (Asked::Store(_), End::Answer(code::CREATED))) {
                        self.served[index] = true;
                        if self.is_clean {
                            let later = self.now + Duration::from_secs(30);
                            self.devices[index].sleep_until(later);
                        }
                    }
                }
                Event::Established(resumed) => {
                    self.summary.happenings.handshakes += 1;
                    self.summary.happenings.resumptions += u64::from(resumed);
                }
                Event::HandshakeFailed => self.summary.happenings.handshakes_failed += 1,
            }
        }
        let port = if secure { Port::Secure } else { Port::Plain };
        for bytes in output.datagrams {
            if secure {
                let connection = self.devices[index].connections;
                let id_len = self.server_id_len();
                self.nonces.client_sent((index, connection), &bytes, id_len);
            }
            let packet = Packet {
                to: To::Server(from, None),
                port,
                bytes,
            };
            self.network.send(self.now, packet, &mut self.dice);
        }
    }

    fn schedule_commit(&mut self) {
        if self.commit_at.is_none() && self.store.is_waiting() {
            let most = u64::try_from(self.commit_delay.as_micros()).expect("a short time");
            let delay = Duration::from_micros(self.dice.below(most + 1));
            self.commit_at = Some(self.now + delay);
        }
    }

    fn commit(&mut self) {
        self.commit_at = None;
        let (written, group) = self.store.commit();
        self.note_written(&written);
        group.complete();
        self.server.schedule_inboxes(self.now, &mut self.dice);
    }

    fn note_written(&mut self, written: &[Stored]) {
        self.trace.event(self.now, "on disk", written.len());
        let losses = self.losses();
        self.effects.stored(written, losses);
    }

    /// How often the memory of plain messages was lost so far: with the server, with a shard, or
    /// with a plain peer that made room for another.
    fn losses(&self) -> u64 {
        let shards = self.server.shards.iter();
        let evicted = shards.map(|shard| shard.count(Counter::PlainPeersEvicted));
        self.lost_memories + evicted.sum::<u64>()
    }

    /// One of the things that happen to a server and a fleet, or none.
    fn mishap(&mut self) {
        let mishaps = self.plan.mishaps;
        let mut happens = |chance: u64| self.dice.below(1000) < chance;
        let rebind = happens(mishaps.rebind);
        let device_restart = happens(mishaps.device_restart);
        let server_restart = happens(mishaps.server_restart);
        let amnesia = happens(mishaps.shard_amnesia);
        let removal = happens(mishaps.removal);
        let stranger = happens(mishaps.stranger);
        let clock_jump = happens(mishaps.clock_jump);
        let silence = happens(mishaps.silence);
        if rebind {
            self.rebind();
        }
        if device_restart {
            let index = self.any_device();
            self.summary.happenings.device_restarts += 1;
            let output = self.devices[index].restart(self.now, &mut self.dice);
            self.emit(index, output);
        }
        if server_restart {
            self.restart_server();
        }
        if amnesia {
            self.summary.happenings.amnesias += 1;
            self.lost_memories += 1;
            let shard = self.below(self.server.shards.len());
            let now = self.clock();
            self.trace.event(self.now, "amnesia", shard);
            self.server.forget_all(now, shard);
        }
        if removal {
            self.remove_device();
        }
        if stranger {
            self.strange();
        }
        if clock_jump {
            self.summary.happenings.clock_jumps += 1;
            let forward = i64::try_from(self.dice.below(7_200_000)).expect("small");
            self.jump_ms += forward - 3_600_000;
        }
        if silence {
            self.summary.happenings.silences += 1;
            let until = self.now + self.plan.inactivity_timeout + self.plan.report_timeout;
            for device in &mut self.devices {
                device.sleep_until(until);
            }
        }
    }

    /// Length of the connection ids in records to the server.
    fn server_id_len(&self) -> usize {
        usize::from(self.plan.connection_id_length.unwrap_or(0))
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.dice.below(bound as u64)).expect("small")
    }

    fn any_device(&mut self) -> usize {
        self.below(self.devices.len())
    }

    /// A device's address changes: a new port at its NAT.
    fn rebind(&mut self) {
        let index = self.any_device();
        let device = &mut self.devices[index];
        // The repetition of a plain message from another address is another message.
        if !device.is_secure() && !device.is_idle() {
            return;
        }
        self.moves += 1;
        self.summary.happenings.rebinds += 1;
        device.address = address(index, self.moves);
        self.trace.event(self.now, "rebind", index);
    }

    /// The server's process dies, and comes back without anything that was not on the disk.
    fn restart_server(&mut self) {
        self.trace.event(self.now, "restart", 0);
        self.summary.happenings.restarts += 1;
        self.lost_memories = self.losses() + 1;
        let written = self.store.crash();
        self.note_written(&written);
        self.commit_at = None;
        self.nonces.forget_server();
        self.door.forget_server();
        let now = self.clock();
        self.server = Server::start(
            &self.plan,
            now,
            &self.registry,
            &self.store,
            &self.ticket_keys,
            &mut self.dice,
        );
    }

    fn remove_device(&mut self) {
        let index = self.any_device();
        // One is left to show that the server serves.
        let left = self.removed.iter().filter(|removed| !**removed).count();
        if left < 2 || self.removed[index] {
            return;
        }
        self.trace.event(self.now, "removal", index);
        self.summary.happenings.removals += 1;
        self.removed[index] = true;
        let now = self.clock();
        self.registry.remove_at(&name(index), now.unix_ms);
        self.server.revoke_since(now, &mut self.dice);
    }

    /// Somebody sends what he overheard or made up, from his own address or in another's name.
    fn strange(&mut self) {
        let Some((from, mut bytes)) = self.network.overheard(&mut self.dice) else {
            return;
        };
        self.summary.happenings.strangers += 1;
        let port = 1024 + u16::try_from(self.dice.below(5000)).expect("small");
        let own = SocketAddr::from(([198, 51, 100, 1], port));
        let other = self.any_device();
        let from = match self.dice.below(3) {
            0 => own,
            1 => from,
            _ => self.devices[other].address,
        };
        match self.dice.below(5) {
            // An alert in the clear, handshake_failure or close_notify.
            0 => {
                bytes = vec![21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40];
                if one_in(&mut self.dice, 2) {
                    bytes.splice(13.., [1, 0]);
                }
            }
            // Noise under a plausible header.
            1 => {
                let mut noise = vec![0; 40];
                self.dice.fill(&mut noise);
                let content_type = 20 + (noise[0] & 7);
                noise[..3].copy_from_slice(&[content_type, 0xfe, 0xfd]);
                noise[11..13].copy_from_slice(&[0, 27]);
                bytes = noise;
            }
            _ => {}
        }
        let shard = one_in(&mut self.dice, 3).then(|| self.below(8));
        let packet = Packet {
            to: To::Server(from, shard),
            port: Port::Secure,
            bytes,
        };
        self.network.send(self.now, packet, &mut self.dice);
    }

    /// The faults stop. What they did before stays.
    fn clean_up(&mut self) {
        self.trace.event(self.now, "clean", 0);
        self.is_clean = true;
        self.network.faults = NetworkFaults::default();
        self.store.heal();
        self.server.hurry();
        self.commit_delay = Duration::from_millis(5);
        for device in &mut self.devices {
            device.hurry(self.now);
        }
        self.served.fill(false);
    }

    /// Progress once faults stop: each device gets a reading stored, soon.
    fn serve_all(&mut self) {
        let started = self.now;
        // A device may wait for its old request (100 s), then for a handshake that began in the
        // faults (30 s), and again for one that the server could not admit before its sessions of
        // vanished addresses ended.
        let patience =
            Duration::from_secs(240) + self.plan.inactivity_timeout + self.plan.report_timeout * 2;
        let mut steps = 0;
        while let Some(index) = self.unserved() {
            steps += 1;
            let waited = self.now.saturating_duration_since(started);
            assert!(
                waited <= patience && steps < STEPS_MAX,
                "device {index} got nothing stored within {waited:?} of a clean network"
            );
            self.step();
        }
        let waited = self.now.saturating_duration_since(started);
        self.summary.longest_recovery = waited;
    }

    fn unserved(&self) -> Option<usize> {
        let mut devices = 0..self.devices.len();
        devices.find(|&index| !self.served[index] && !self.removed[index])
    }

    /// Everybody is silent until everything is forgotten.
    fn fall_silent(&mut self) {
        for device in &mut self.devices {
            device.active = false;
        }
        let forgotten = self.plan.inactivity_timeout + self.plan.report_timeout * 3;
        let end = self.now + forgotten.max(EXCHANGE_LIFETIME) + Duration::from_secs(120);
        let mut steps = 0;
        while self.now < end {
            steps += 1;
            assert!(steps < STEPS_MAX, "no end of events in silence");
            self.step();
        }
    }

    fn finish(mut self) -> Summary {
        self.effects.check_end();
        check_end(&self.server);
        let (refusals, failures) = self.store.faults();
        let losses = self.losses();
        let happenings = &mut self.summary.happenings;
        happenings.losses = losses;
        happenings.store_refusals = refusals;
        happenings.store_failures = failures;
        happenings.records = self.nonces.records;
        happenings.cookies = self.door.cookies;
        happenings.handovers_lost = self.server.handovers_lost;
        for shard in &self.server.shards {
            let happenings = &mut self.summary.happenings;
            happenings.expired += shard.count(Counter::SessionsExpired);
            happenings.revoked += shard.count(Counter::SessionsRevoked);
            happenings.queue_full += shard.count(Counter::QueueFull);
            happenings.displaced += shard.count(Counter::HandshakesDisplaced);
            happenings.handovers += shard.count(Counter::HandoversSent);
            happenings.address_changes += shard.count(Counter::AddressChanges);
            happenings.paths_confirmed += shard.count(Counter::PathsConfirmed);
            happenings.paths_unconfirmed += shard.count(Counter::PathsUnconfirmed);
            happenings.path_limits += shard.dropped(DropReason::PathLimit);
            happenings.lookups += shard.count(Counter::CredentialLookups);
            let refused = shard.dropped(DropReason::CredentialLookupBudget);
            happenings.lookups_refused += refused;
        }
        let summary = &mut self.summary;
        summary.ends = self.effects.ends;
        summary.network = self.network.counts;
        summary.trace = self.trace.hash();
        self.summary
    }
}

fn name(index: usize) -> String {
    format!("device-{index}")
}
