//! One simulated device.
//!
//! ```text
//!            connect            established
//!   Down ------------> Connecting ------------> Ready <------> Busy      scenarios with requests
//!    ^                     |                      |    start,   |
//!    +---- failed ---------+                      |    answer   |
//!    +---- the server ends the session -----------+-------------+
//!
//!   Down ------------> Connecting ------------> (closed) Down            scenarios handshake, resume
//! ```
//!
//! An operation is a request or a full handshake. An observer's one operation is its registration, and
//! counted are the notifications that come by themselves. Operations wait in the
//! device's backlog with their intended times; one is under way at a time (NSTART of RFC 7252
//! section 4.7). A plain link is always Ready.

use std::collections::VecDeque;
use std::sync::Arc;

use tidegate::buffer::SpareBuffers;
use tidegate::coap;
use tidegate::coap::client::{
    ClientExchange, ClientInput, ClientTimeout, RequestTemplate, StartError,
};
use tidegate::crypto::random::SystemRandom;
use tidegate::drop_reason::DropReason;
use tidegate::dtls::{AlertDescription, Received};
use tidegate::random::Random;
use tidegate::time::{Duration, Instant};

use crate::arguments::Scenario;
use crate::control::Phase;
use crate::fleet;
use crate::kit::Kit;
use crate::link::Link;
use crate::sockets::{Way, Wire};
use crate::stats::{record, tally};

/// Operations that may wait per device; what is beyond fails at once.
const BACKLOG_MAX: usize = 64;
const NO_CONNECTION_ID: &str = "the server agreed on no connection id, so it would not know a device at \
     another port; of Tidegate, set COAP_DTLS_CONNECTION_ID_LENGTH to 1 or more";
/// Pause after a failed handshake, and while no Message ID is free.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Down,
    Connecting { since: Instant },
    Ready,
    Busy { since: Instant, sent: Instant },
}

/// One device: its place on the network, its session and its exchanges.
#[derive(Debug)]
pub(crate) struct Device {
    /// Its number in its thread.
    index: usize,
    pub(crate) way: Way,
    link: Link,
    exchange: ClientExchange,
    template: Arc<RequestTemplate>,
    state: State,
    /// Intended times of operations that were not begun.
    backlog: VecDeque<Instant>,
    /// Nothing is begun before this.
    pause_until: Option<Instant>,
    /// Its first handshake ended.
    settled: bool,
    /// When its source port is to change, once it has a session.
    rebind_at: Option<Instant>,
    /// No request was answered yet that it sent from its source port.
    rebound: bool,
    /// The newest update that it was told of, in the scenario observe.
    last_update: u64,
}

impl Device {
    /// A device that has done nothing yet.
    pub(crate) fn new(index: usize, way: Way, link: Link, template: Arc<RequestTemplate>) -> Self {
        let state = match link {
            Link::Plain => State::Ready,
            Link::Secure { .. } => State::Down,
        };
        Self {
            index,
            way,
            link,
            exchange: ClientExchange::new(&mut SystemRandom),
            template,
            state,
            backlog: VecDeque::new(),
            pause_until: None,
            settled: false,
            rebind_at: None,
            rebound: false,
            last_update: 0,
        }
    }

    /// Whether it needs a session.
    pub(crate) const fn is_secure(&self) -> bool {
        matches!(self.link, Link::Secure { .. })
    }

    /// Whether an operation of it would begin at once.
    pub(crate) fn is_free(&self, now: Instant) -> bool {
        let at_rest = matches!(self.state, State::Down | State::Ready);
        // A pause without a backlog has no timer that would end it.
        let paused = self.pause_until.is_some_and(|until| now < until);
        at_rest && self.backlog.is_empty() && !paused
    }

    /// Starts a handshake that was intended for `since`.
    pub(crate) fn connect(&mut self, since: Instant, now: Instant, kit: &mut Kit<'_>) {
        self.state = State::Connecting { since };
        let clocks = kit.clocks(now);
        let counters = &mut kit.sample.counters;
        counters.handshakes_started += 1;
        counters.reconnects += u64::from(self.rebind_at.is_some());
        let wire = Wire {
            way: &self.way,
            hubs: &mut kit.hubs,
            counters,
        };
        self.link.connect(clocks, wire);
    }

    /// Puts an operation into the backlog, and begins it if nothing is in its way.
    pub(crate) fn add_operation(&mut self, intended: Instant, now: Instant, kit: &mut Kit<'_>) {
        if self.backlog.len() >= BACKLOG_MAX {
            kit.count_not_begun();
            return;
        }
        self.backlog.push_back(intended);
        kit.outstanding += 1;
        self.begin_next(now, kit);
    }

    /// Begins the operation that waits longest, if the device is free.
    fn begin_next(&mut self, now: Instant, kit: &mut Kit<'_>) {
        if self.pause_until.is_some_and(|until| now < until) {
            return;
        }
        let Some(&intended) = self.backlog.front() else {
            return;
        };
        match (self.state, kit.work.scenario) {
            (State::Connecting { .. } | State::Busy { .. }, _) => {}
            (State::Ready, _) => self.begin_request(intended, now, kit),
            // The session ended; what waits for it is late.
            (State::Down, scenario) if scenario.sends_requests() => self.connect(now, now, kit),
            (State::Down, _) => {
                self.backlog.pop_front();
                record(&mut kit.sample.lag, now.saturating_duration_since(intended));
                self.connect(intended, now, kit);
            }
        }
    }

    fn begin_request(&mut self, intended: Instant, now: Instant, kit: &mut Kit<'_>) {
        if self.rebind_at.is_some_and(|at| at <= now) {
            self.rebind(now, kit);
        }
        let Self {
            exchange,
            link,
            way,
            template,
            ..
        } = self;
        let counters = &mut kit.sample.counters;
        let (hubs, scratch) = (&mut kit.hubs, &mut kit.scratch);
        let started = exchange.start(
            now,
            template,
            true,
            &kit.work.payload,
            kit.work.answer_timeout,
            &mut coap::Context {
                settings: &kit.work.coap,
                random: &mut kit.random,
                out: &mut |message| {
                    link.send(
                        message,
                        scratch,
                        Wire {
                            way,
                            hubs,
                            counters,
                        },
                    );
                },
                buffers: &mut SpareBuffers::default(),
            },
        );
        match started {
            Ok(()) => {
                self.backlog.pop_front();
                self.state = State::Busy {
                    since: intended,
                    sent: now,
                };
                let in_time = kit.is_measured(now);
                let sent = u64::from(!kit.observes());
                kit.sample.counters.sent += sent;
                kit.sample.counters.offered_in_time += sent * u64::from(in_time);
                record(&mut kit.sample.lag, now.saturating_duration_since(intended));
            }
            // Only while the exchange of an earlier request is open, which Busy excludes.
            Err(StartError::Busy) => {}
            Err(StartError::NoMessageId) => {
                kit.sample.counters.stalls += 1;
                self.pause_until = Some(now + PAUSE);
            }
        }
    }

    /// Goes on from another source port, as after the time-out of a NAT: what is still on its way to
    /// the old one is lost.
    fn rebind(&mut self, now: Instant, kit: &mut Kit<'_>) {
        match kit.sockets.open(self.index) {
            Ok(socket) => {
                self.way = Way::Own(socket);
                self.rebound = true;
                self.rebind_at = kit.work.rebind_every.map(|every| now + every);
                kit.sample.counters.rebinds += 1;
            }
            Err(message) => kit.control.fail(message),
        }
    }

    /// Takes a received datagram, in place.
    pub(crate) fn handle_datagram(&mut self, now: Instant, datagram: &mut [u8], kit: &mut Kit<'_>) {
        let clocks = kit.clocks(now);
        let counters = &mut kit.sample.counters;
        counters.datagrams += 1;
        let wire = Wire {
            way: &self.way,
            hubs: &mut kit.hubs,
            counters,
        };
        match self.link.handle_datagram(clocks, datagram, wire) {
            None => self.on_message(now, datagram, kit),
            Some(received) => self.on_received(now, &received, datagram, kit),
        }
    }

    fn on_received(
        &mut self,
        now: Instant,
        received: &Received,
        datagram: &[u8],
        kit: &mut Kit<'_>,
    ) {
        if let Some(alert) = received.peer_alert
            && alert != AlertDescription::CloseNotify
        {
            tally(&mut kit.sample.counters.alerts, alert.to_string());
        }
        if received.established {
            self.on_established(now, received.resumed.is_some(), kit);
        }
        for range in received.plaintexts.iter() {
            if let Some(message) = datagram.get(range) {
                self.on_message(now, message, kit);
            }
        }
        if received.closed || received.failure.is_some() {
            let reason = match (received.failure, received.peer_alert) {
                (_, Some(alert)) => format!("the server sent the alert {alert}"),
                (Some(error), None) => error.to_string(),
                (None, None) => "the server ended the handshake".to_owned(),
            };
            self.on_closed(now, reason, kit);
        }
    }

    fn on_established(&mut self, now: Instant, resumed: bool, kit: &mut Kit<'_>) {
        let State::Connecting { since } = self.state else {
            return;
        };
        if kit.work.scenario == Scenario::Resume {
            let kept = self.link.keep_session();
            let counters = &mut kit.sample.counters;
            counters.handshakes_resumed += u64::from(resumed);
            let first = kit.phase == Phase::Connect;
            if first && !kept {
                self.on_not_resumable(now, "the server gave neither a ticket nor an id", kit);
                return;
            }
            if !first && !resumed {
                self.on_not_resumable(now, "a full handshake instead of a resumption", kit);
                return;
            }
        }
        let took = now.saturating_duration_since(since);
        record(&mut kit.sample.handshake, took);
        let in_time = kit.is_measured(now);
        let counters = &mut kit.sample.counters;
        counters.handshakes_completed += 1;
        counters.handshakes_in_time += u64::from(in_time);
        if kit.observes() {
            // It is ready once its registration is answered, too.
            self.state = State::Ready;
            self.add_operation(now, now, kit);
            return;
        }
        self.settle(kit);
        if let (Some(every), None) = (kit.work.rebind_every, self.rebind_at) {
            if !self.link.has_connection_id() {
                kit.control.fail(NO_CONNECTION_ID.into());
            }
            // Not all at once.
            self.rebind_at = Some(now + every.mul_f64(fraction(&mut kit.random)));
        }
        if kit.work.scenario.sends_requests() {
            self.state = State::Ready;
            self.begin_next(now, kit);
        } else {
            self.end_handshake(now, kit);
        }
    }

    /// The handshake went well, but is not what the scenario asks for.
    fn on_not_resumable(&mut self, now: Instant, reason: &str, kit: &mut Kit<'_>) {
        let counters = &mut kit.sample.counters;
        counters.handshakes_failed += 1;
        tally(&mut counters.handshake_errors, reason.to_owned());
        self.settle(kit);
        self.end_handshake(now, kit);
    }

    /// Closes the session, which was only made for the handshake's sake.
    fn end_handshake(&mut self, now: Instant, kit: &mut Kit<'_>) {
        let counters = &mut kit.sample.counters;
        self.link.close(Wire {
            way: &self.way,
            hubs: &mut kit.hubs,
            counters,
        });
        self.state = State::Down;
        // Those before the measured time are nobody's operation.
        if kit.phase != Phase::Connect {
            self.end_operation(now, kit);
        }
    }

    /// The session, or the handshake towards it, is over.
    fn on_closed(&mut self, now: Instant, reason: String, kit: &mut Kit<'_>) {
        match self.state {
            State::Down => {}
            State::Connecting { .. } => self.on_handshake_failed(now, reason, kit),
            State::Ready => self.drop_session(now),
            State::Busy { .. } => {
                self.exchange.abandon();
                self.drop_session(now);
                kit.sample.counters.sessions_lost += 1;
                kit.sample.counters.failed += 1;
                self.settle(kit);
                self.end_operation(now, kit);
            }
        }
    }

    fn on_handshake_failed(&mut self, now: Instant, reason: String, kit: &mut Kit<'_>) {
        kit.sample.counters.handshakes_failed += 1;
        tally(&mut kit.sample.counters.handshake_errors, reason);
        self.drop_session(now);
        self.settle(kit);
        if kit.phase == Phase::Drain {
            self.drop_backlog(kit);
        }
        if !kit.work.scenario.sends_requests() && kit.phase != Phase::Connect {
            self.end_operation(now, kit);
        }
    }

    /// Gives up what was not begun.
    fn drop_backlog(&mut self, kit: &mut Kit<'_>) {
        for _ in self.backlog.drain(..) {
            kit.count_not_begun();
            kit.outstanding = kit.outstanding.saturating_sub(1);
        }
    }

    fn drop_session(&mut self, now: Instant) {
        self.link.forget();
        self.state = State::Down;
        self.pause_until = Some(now + PAUSE);
    }

    fn settle(&mut self, kit: &mut Kit<'_>) {
        if !self.settled {
            self.settled = true;
            kit.settled += 1;
        }
    }

    fn on_message(&mut self, now: Instant, message: &[u8], kit: &mut Kit<'_>) {
        let Self {
            exchange,
            link,
            way,
            ..
        } = self;
        let counters = &mut kit.sample.counters;
        let (hubs, scratch) = (&mut kit.hubs, &mut kit.scratch);
        let input = exchange.handle_message(
            message,
            &mut coap::Context {
                settings: &kit.work.coap,
                random: &mut kit.random,
                out: &mut |message| {
                    link.send(
                        message,
                        scratch,
                        Wire {
                            way,
                            hubs,
                            counters,
                        },
                    );
                },
                buffers: &mut SpareBuffers::default(),
            },
        );
        match input {
            ClientInput::Acknowledged => {}
            ClientInput::Notification {
                code,
                observe,
                payload,
                ..
            } => {
                let payload = message.get(payload).unwrap_or_default();
                self.on_notification(now, (code, observe), payload, kit);
            }
            ClientInput::Answer { code, observe, .. } if kit.observes() => {
                self.on_registered(now, (code, observe), kit);
            }
            ClientInput::Answer { code, .. } => self.on_answer(now, code, kit),
            ClientInput::Reset => {
                kit.sample.counters.resets += 1;
                kit.sample.counters.failed += 1;
                self.on_request_over(now, kit);
            }
            ClientInput::Dropped(reason) => {
                kit.sample.counters.drops += 1;
                if is_wrong(reason) {
                    kit.sample.counters.wrong += 1;
                }
            }
        }
    }

    /// The registration as an observer was answered.
    fn on_registered(
        &mut self,
        now: Instant,
        (code, observe): (u8, Option<u32>),
        kit: &mut Kit<'_>,
    ) {
        let counters = &mut kit.sample.counters;
        if code >> 5 == 2 && observe.is_some() {
            counters.observers += 1;
        } else {
            counters.failed += 1;
            tally(&mut counters.codes, code);
        }
        self.on_request_over(now, kit);
    }

    /// A notification: of the next update, of one that was told already, or of the end.
    fn on_notification(
        &mut self,
        now: Instant,
        (code, observe): (u8, Option<u32>),
        payload: &[u8],
        kit: &mut Kit<'_>,
    ) {
        let update = fleet::number_of(payload).filter(|_| code >> 5 == 2);
        let issued = update.and_then(|number| Some((number, kit.control.update_issued(number)?)));
        let in_time = kit.is_measured(now);
        let counters = &mut kit.sample.counters;
        counters.observations_ended += u64::from(observe.is_none());
        let Some((number, issued)) = issued else {
            // The end of an observation need not tell of anything.
            counters.wrong += u64::from(observe.is_some());
            return;
        };
        if number <= self.last_update {
            let again = number == self.last_update;
            counters.repeated += u64::from(again);
            counters.disordered += u64::from(!again);
            return;
        }
        self.last_update = number;
        counters.ok += 1;
        counters.ok_in_time += u64::from(in_time);
        record(
            &mut kit.sample.latency,
            now.saturating_duration_since(issued),
        );
    }

    fn on_answer(&mut self, now: Instant, code: u8, kit: &mut Kit<'_>) {
        if let State::Busy { since, sent } = self.state {
            let latency = now.saturating_duration_since(since);
            if kit.is_quiet(now) {
                record(&mut kit.sample.quiet, latency);
            } else {
                record(&mut kit.sample.latency, latency);
                if !kit.work.load.is_closed() {
                    let service = now.saturating_duration_since(sent);
                    record(&mut kit.sample.service, service);
                }
            }
        }
        let in_time = kit.is_measured(now);
        let counters = &mut kit.sample.counters;
        if code >> 5 == 2 {
            counters.rebinds_ok += u64::from(std::mem::take(&mut self.rebound));
            counters.ok += 1;
            counters.ok_in_time += u64::from(in_time);
        } else {
            counters.failed += 1;
            tally(&mut counters.codes, code);
        }
        self.on_request_over(now, kit);
    }

    fn on_request_over(&mut self, now: Instant, kit: &mut Kit<'_>) {
        if matches!(self.state, State::Busy { .. }) {
            self.state = State::Ready;
            self.settle(kit);
            self.end_operation(now, kit);
        }
    }

    /// An operation ended, well or not: the next one is due.
    fn end_operation(&mut self, now: Instant, kit: &mut Kit<'_>) {
        kit.outstanding = kit.outstanding.saturating_sub(1);
        if kit.wants_another(now) {
            self.add_operation(now, now, kit);
        } else {
            self.begin_next(now, kit);
        }
    }

    /// Does what is due at `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant, kit: &mut Kit<'_>) {
        self.handle_exchange_timeout(now, kit);
        if self.link.next_timeout().is_some_and(|at| at <= now) {
            let clocks = kit.clocks(now);
            let wire = Wire {
                way: &self.way,
                hubs: &mut kit.hubs,
                counters: &mut kit.sample.counters,
            };
            if let Err(error) = self.link.handle_timeout(clocks, wire) {
                self.on_closed(now, error.to_string(), kit);
            }
        }
        if self.pause_until.is_some_and(|until| until <= now) {
            self.pause_until = None;
            self.begin_next(now, kit);
        }
    }

    fn handle_exchange_timeout(&mut self, now: Instant, kit: &mut Kit<'_>) {
        if self.exchange.next_timeout().is_none_or(|at| at > now) {
            return;
        }
        let Self {
            exchange,
            link,
            way,
            ..
        } = self;
        let before = exchange.retransmissions();
        let counters = &mut kit.sample.counters;
        let (hubs, scratch) = (&mut kit.hubs, &mut kit.scratch);
        let outcome = exchange.handle_timeout(
            now,
            &mut coap::Context {
                settings: &kit.work.coap,
                random: &mut kit.random,
                out: &mut |message| {
                    link.send(
                        message,
                        scratch,
                        Wire {
                            way,
                            hubs,
                            counters,
                        },
                    );
                },
                buffers: &mut SpareBuffers::default(),
            },
        );
        let again = exchange.retransmissions() - before;
        let in_time = if kit.is_measured(now) { again } else { 0 };
        kit.sample.counters.retransmissions += again;
        kit.sample.counters.offered_in_time += in_time;
        if outcome == ClientTimeout::TimedOut {
            kit.sample.counters.timeouts += 1;
            kit.sample.counters.failed += 1;
            self.on_request_over(now, kit);
        }
    }

    /// When [`Self::handle_timeout`] is due.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let paused = self.pause_until.filter(|_| !self.backlog.is_empty());
        [
            self.exchange.next_timeout(),
            self.link.next_timeout(),
            paused,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Gives up what is outstanding, and ends the session as the RFC wants it.
    pub(crate) fn stop(&mut self, kit: &mut Kit<'_>) {
        self.drop_backlog(kit);
        let counters = &mut kit.sample.counters;
        match self.state {
            State::Down | State::Ready => {}
            State::Connecting { .. } => {
                counters.handshakes_failed += 1;
                tally(
                    &mut counters.handshake_errors,
                    "not completed in time".to_owned(),
                );
            }
            State::Busy { .. } => {
                counters.timeouts += 1;
                counters.failed += 1;
            }
        }
        self.exchange.abandon();
        self.link.close(Wire {
            way: &self.way,
            hubs: &mut kit.hubs,
            counters,
        });
        self.state = State::Down;
    }
}

/// From 0 to 1.
fn fraction(random: &mut impl Random) -> f64 {
    const STEPS: u32 = 1 << 20;
    let step = u32::try_from(random.below(STEPS.into())).unwrap_or(0);
    f64::from(step) / f64::from(STEPS)
}

/// Whether no correct server sends such a message. What is merely late or doubled is not wrong.
const fn is_wrong(reason: DropReason) -> bool {
    matches!(
        reason,
        DropReason::CoapMalformed | DropReason::CoapCode | DropReason::CoapOption
    )
}
