//! One thread of the generator: its devices, their timers, and the loop that drives them.
//!
//! Each round begins what is due, fires timers, waits in epoll for at most the time to the next of
//! both, and takes one datagram from each socket that has some, or a batch from each shared one. The clock is read per datagram, so
//! a batch does not make its last answers look early or its next requests late.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use tidegate::coap::client::RequestTemplate;
use tidegate::dtls::client::ClientConfig;
use tidegate::random::SeededRandom;
use tidegate::time::{Duration, Instant};
use tidegate::timer_wheel::TimerWheel;

use crate::arguments::Load;
use crate::clock::Clock;
use crate::control::{Control, Phase, Shared};
use crate::device::Device;
use crate::kit::{Kit, Work};
use crate::link::Link;
use crate::pacing::Arrivals;
use crate::sockets::{Hubs, Ready, Sockets, Way};
use crate::stats::{Counters, Sample};

/// Datagrams taken per round.
const EVENTS_MAX: usize = 128;
/// Operations begun per round, so that answers are not kept waiting.
const BEGIN_MAX: usize = 32;
/// Devices asked at once for one that is free.
const TURNS_MAX: usize = 64;
/// Handshakes of a thread under way while the fleet connects: enough to keep a server busy, few
/// enough that none waits for its retransmission.
const CONNECTING_MAX: u64 = 32;
/// Longest sleep: a change of phase is noticed after it.
const SLEEP_MAX: Duration = Duration::from_millis(10);
/// How often counters are published: by all threads at the same moments of the measured time.
pub(crate) const PUBLISH_EVERY: Duration = Duration::from_millis(200);
/// Longest UDP payload.
const DATAGRAM_MAX: usize = 65_535;

/// What a device is made of.
#[derive(Clone, Debug)]
pub(crate) struct DeviceSpec {
    /// Its request.
    pub(crate) template: Arc<RequestTemplate>,
    /// What it offers in the handshake; `None` for plain CoAP.
    pub(crate) security: Option<Arc<ClientConfig>>,
}

/// What a thread is started with.
pub(crate) struct Assignment<'a> {
    pub(crate) work: &'a Work,
    pub(crate) control: &'a Control,
    /// The thread's number.
    pub(crate) thread: usize,
    pub(crate) clock: Clock,
    pub(crate) target: SocketAddr,
    pub(crate) specs: Vec<DeviceSpec>,
    /// The fleet's number of the first device here.
    pub(crate) first_device: usize,
    /// Devices of the whole fleet.
    pub(crate) fleet: usize,
    pub(crate) ramp: Duration,
    pub(crate) seed: u64,
}

/// Runs a thread's part to the end. Failures to set up end the run by [`Control::fail`].
pub(crate) fn run(assignment: Assignment<'_>) {
    let control = assignment.control;
    match Worker::new(assignment) {
        Ok(mut worker) => {
            if let Err(error) = worker.run() {
                control.fail(format!("epoll failed: {error}"));
            }
        }
        Err(message) => control.fail(message),
    }
}

struct Worker<'a> {
    devices: Vec<Device>,
    /// The timer that each device has in the wheel; it may be earlier than needed.
    armed: Vec<Option<Instant>>,
    timers: TimerWheel,
    kit: Kit<'a>,
    shared: &'a Shared,
    clock: Clock,
    arrivals: Option<Arrivals>,
    starts: Starts,
    turns: Turns,
    fleet: usize,
    ramp: Duration,
    seed: u64,
    next_publish: Instant,
}

/// Devices act one after the other, as many at once as are allowed.
#[derive(Default)]
struct Turns {
    next: usize,
    in_flight: u64,
}

impl Turns {
    /// This thread's part of what the fleet may have under way.
    fn of(in_flight: u32, devices: usize, fleet: usize) -> Self {
        let share = u64::from(in_flight) * devices as u64;
        Self {
            next: 0,
            in_flight: share.div_ceil(fleet.max(1) as u64).max(1),
        }
    }

    /// The next device that has nothing under way, of a few: the others may all wait for an answer that was lost.
    fn take(&mut self, devices: &[Device], now: Instant) -> Option<usize> {
        for _ in 0..devices.len().min(TURNS_MAX) {
            let index = self.next;
            self.next = (index + 1) % devices.len();
            if devices.get(index)?.is_free(now) {
                return Some(index);
            }
        }
        None
    }
}

/// Devices begin one after the other, spread over a time.
struct Starts {
    next: usize,
    begin: Instant,
    ramp: Duration,
}

impl Starts {
    fn over(begin: Instant, ramp: Duration) -> Self {
        Self {
            next: 0,
            begin,
            ramp,
        }
    }

    /// When the next device begins, if one is left of `devices`.
    fn next_at(&self, devices: usize) -> Option<Instant> {
        let part = u32::try_from(self.next).ok()?;
        let all = u32::try_from(devices).ok().filter(|&all| part < all)?;
        Some(self.begin + self.ramp.mul_f64(f64::from(part) / f64::from(all)))
    }
}

impl<'a> Worker<'a> {
    fn new(assignment: Assignment<'a>) -> Result<Self, String> {
        let clock = assignment.clock;
        let now = clock.instant();
        let shared = assignment
            .control
            .threads
            .get(assignment.thread)
            .ok_or("a thread without a place to count")?;
        let shared_sockets = assignment.work.shared_sockets;
        let mut sockets = Sockets::new(assignment.target, assignment.first_device, shared_sockets)?;
        let mut hubs = Hubs::new();
        let mut devices = Vec::with_capacity(assignment.specs.len());
        for (index, spec) in assignment.specs.into_iter().enumerate() {
            let way = sockets.open_way(index, &mut hubs)?;
            let link = match spec.security {
                None => Link::Plain,
                Some(config) => Link::Secure {
                    config,
                    connection: None,
                },
            };
            devices.push(Device::new(index, way, link, spec.template));
            shared.prepared.fetch_add(1, Relaxed);
        }
        // A thread's timers are late by 50 us otherwise, and so would be its requests.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        let seed = assignment
            .seed
            .wrapping_add((assignment.thread as u64).wrapping_mul(0x9e37_79b9));
        Ok(Self {
            armed: vec![None; devices.len()],
            devices,
            timers: TimerWheel::new(now),
            kit: Kit {
                work: assignment.work,
                control: assignment.control,
                sockets,
                hubs,
                random: SeededRandom::new(seed),
                sample: Sample::new(),
                scratch: Vec::new(),
                unix_ms: Clock::unix_ms(),
                phase: Phase::Prepare,
                end: Instant::from_micros(u64::MAX),
                storm_at: None,
                outstanding: 0,
                settled: 0,
            },
            shared,
            clock,
            arrivals: None,
            starts: Starts::over(now, Duration::ZERO),
            turns: Turns::default(),
            fleet: assignment.fleet,
            ramp: assignment.ramp,
            seed,
            next_publish: now,
        })
    }

    fn run(&mut self) -> rustix::io::Result<()> {
        let mut buffer = vec![0; DATAGRAM_MAX];
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            let now = self.clock.instant();
            self.kit.unix_ms = Clock::unix_ms();
            let phase = self.kit.control.phase();
            if phase != self.kit.phase {
                self.enter(phase, now);
            }
            if phase == Phase::Stop {
                self.stop(now);
                return Ok(());
            }
            let more = self.begin(now);
            self.expire(now);
            self.flush();
            let sleep = if more {
                Duration::ZERO
            } else {
                self.sleep_time()
            };
            self.wait(sleep, &mut events)?;
            for event in events.drain(..) {
                self.receive(event, &mut buffer);
            }
            self.flush();
            self.report(now);
        }
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        self.kit.phase = phase;
        let work = self.kit.work;
        match phase {
            Phase::Prepare | Phase::Stop => {}
            Phase::Drain => self.publish(now, true),
            Phase::Connect => self.starts = Starts::over(now, self.ramp),
            Phase::Run => {
                let (start, end) = self.kit.control.times();
                self.kit.end = end;
                self.next_publish = start + PUBLISH_EVERY;
                self.kit.storm_at = work.storm.map(|storm| start + storm.quiet);
                // Where there was a phase to connect, the ramp is over.
                let ramp = match self.devices.first() {
                    Some(device) if work.scenario.connects_first() && device.is_secure() => {
                        Duration::ZERO
                    }
                    _ => self.ramp,
                };
                self.starts = Starts::over(start, ramp);
                if let Load::Turns { in_flight } = work.load {
                    self.turns = Turns::of(in_flight, self.devices.len(), self.fleet);
                }
                if let Load::Open { rate } = work.load {
                    let devices = u32::try_from(self.devices.len()).unwrap_or(u32::MAX);
                    #[expect(clippy::cast_precision_loss, reason = "far below 2^53 devices")]
                    let share = f64::from(devices) / self.fleet as f64;
                    let all = (0..devices).collect();
                    self.arrivals = Some(Arrivals::new(self.seed, rate * share, all, start, end));
                }
            }
        }
    }

    /// Begins what is due, up to a number; `true` when there may be more.
    fn begin(&mut self, now: Instant) -> bool {
        let mut left = BEGIN_MAX;
        while left > 0
            && let Some((device, intended)) = self.next_due(now)
        {
            left -= 1;
            let Some(place) = self.devices.get_mut(device) else {
                continue;
            };
            let now = self.clock.instant();
            if self.kit.phase == Phase::Connect {
                place.connect(now, now, &mut self.kit);
            } else if self.kit.control.begin_operation() {
                place.add_operation(intended, now, &mut self.kit);
            }
            self.arm(device);
        }
        left == 0
    }

    /// The device that is to act now, and the time for which that was intended.
    fn next_due(&mut self, now: Instant) -> Option<(usize, Instant)> {
        let started = self.starts.next as u64;
        let starting = match (self.kit.phase, self.kit.work.load) {
            (Phase::Run, _) if self.kit.observes() => false,
            (Phase::Connect, _) => started - self.kit.settled.min(started) < CONNECTING_MAX,
            (Phase::Run, Load::Closed) => true,
            (Phase::Run, Load::Turns { .. }) => {
                let is_due = self.kit.outstanding < self.turns.in_flight
                    && now < self.kit.end
                    && !self.kit.control.is_count_reached();
                let device = is_due.then(|| self.turns.take(&self.devices, now))??;
                return Some((device, now));
            }
            (Phase::Run, Load::Open { .. }) => {
                let arrival = self.arrivals.as_mut()?.pop_due(now)?;
                return Some((arrival.device as usize, arrival.at));
            }
            (Phase::Prepare | Phase::Drain | Phase::Stop, _) => false,
        };
        let at = self
            .starts
            .next_at(self.devices.len())
            .filter(|&at| at <= now && starting)?;
        self.starts.next += 1;
        Some((self.starts.next - 1, at.max(now)))
    }

    fn expire(&mut self, now: Instant) {
        while let Some(slot) = self.timers.pop_expired(now) {
            let index = slot as usize;
            let (Some(device), Some(armed)) =
                (self.devices.get_mut(index), self.armed.get_mut(index))
            else {
                continue;
            };
            *armed = None;
            device.handle_timeout(now, &mut self.kit);
            self.arm(index);
        }
    }

    /// Sets the device's timer, unless it has one that is early enough: most requests are answered
    /// long before, and the timer of the first one serves for all of them.
    fn arm(&mut self, index: usize) {
        let (Some(device), Some(armed)) = (self.devices.get(index), self.armed.get_mut(index))
        else {
            return;
        };
        if let Some(at) = device.next_timeout()
            && armed.is_none_or(|armed| at < armed)
            && let Ok(slot) = u32::try_from(index)
        {
            *armed = Some(at);
            self.timers.schedule(slot, at);
        }
    }

    fn sleep_time(&self) -> Duration {
        let arrival = self
            .arrivals
            .as_ref()
            .filter(|_| self.kit.phase == Phase::Run);
        let next = [
            arrival.and_then(Arrivals::next_at),
            self.timers.next_timeout(),
            Some(self.next_publish),
        ];
        let now = self.clock.instant();
        next.into_iter()
            .flatten()
            .map(|at| at.saturating_duration_since(now))
            .fold(SLEEP_MAX, Duration::min)
    }

    fn wait(&self, sleep: Duration, events: &mut Vec<epoll::Event>) -> rustix::io::Result<()> {
        let timeout = Timespec {
            tv_sec: i64::try_from(sleep.as_secs()).unwrap_or(0),
            tv_nsec: i64::from(sleep.subsec_nanos()),
        };
        match epoll::wait(
            &self.kit.sockets.epoll,
            spare_capacity(events),
            Some(&timeout),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn receive(&mut self, event: epoll::Event, buffer: &mut [u8]) {
        match Ready::of(event) {
            Ready::Device(index) => self.receive_own(index, buffer),
            Ready::Hub(hub) => self.receive_shared(hub, buffer),
        }
    }

    /// Takes one datagram of a device with a socket of its own.
    fn receive_own(&mut self, index: usize, buffer: &mut [u8]) {
        let Some(device) = self.devices.get_mut(index) else {
            return;
        };
        let Way::Own(socket) = &device.way else {
            return;
        };
        match socket.recv(buffer) {
            Ok(length) => {
                let now = self.clock.instant();
                let datagram = buffer.get_mut(..length).unwrap_or_default();
                device.handle_datagram(now, datagram, &mut self.kit);
                self.arm(index);
            }
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                self.kit.sample.counters.refused += 1;
            }
            Err(_) => {}
        }
    }

    /// Takes a batch of datagrams of a hub's devices.
    fn receive_shared(&mut self, hub: usize, buffer: &mut [u8]) {
        let kit = &mut self.kit;
        let received = kit.hubs.receive(hub, &mut kit.sample.counters);
        for datagram in 0..received {
            let taken = self.kit.hubs.take(hub, datagram, buffer);
            let found = taken.and_then(|(offset, length)| {
                let index = self.kit.sockets.device_of(hub, offset)?;
                Some((index, length, self.devices.get_mut(index)?))
            });
            let Some((index, length, device)) = found else {
                self.kit.sample.counters.drops += 1;
                continue;
            };
            let now = self.clock.instant();
            let datagram = buffer.get_mut(..length).unwrap_or_default();
            device.handle_datagram(now, datagram, &mut self.kit);
            self.arm(index);
        }
    }

    /// Says how far this thread is; what it counted until then is published before.
    fn report(&mut self, now: Instant) {
        let kit = &self.kit;
        let is_done = match kit.phase {
            Phase::Connect => kit.settled == self.devices.len() as u64,
            Phase::Drain => kit.outstanding == 0,
            Phase::Prepare | Phase::Run | Phase::Stop => false,
        };
        let counted = kit.sample.counters != Counters::default();
        self.publish(now, is_done && counted);
        let kit = &self.kit;
        self.shared.report(kit.phase, kit.outstanding, kit.settled);
    }

    /// Sends what waits at the hubs.
    fn flush(&mut self) {
        self.kit.hubs.flush(&mut self.kit.sample.counters);
    }

    fn publish(&mut self, now: Instant, at_once: bool) {
        if now < self.next_publish && !at_once {
            return;
        }
        // At once is out of turn.
        while self.next_publish <= now {
            self.next_publish = self.next_publish + PUBLISH_EVERY;
        }
        if self.kit.sample.counters.refused > 0 {
            self.kit.sample.last_refusal = Some(now);
        }
        self.shared.sample().add(&self.kit.sample);
        self.kit.sample.clear();
    }

    fn stop(&mut self, now: Instant) {
        for device in &mut self.devices {
            device.stop(&mut self.kit);
        }
        self.flush();
        self.publish(now, true);
    }
}
