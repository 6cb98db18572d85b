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

mod answers;
mod session;

use std::collections::VecDeque;
use std::sync::Arc;

use tidegate::buffer::SpareBuffers;
use tidegate::coap;
use tidegate::coap::client::{ClientExchange, ClientTimeout, RequestTemplate, StartError};
use tidegate::crypto::random::SystemRandom;
use tidegate::dtls::{AlertDescription, Received};
use tidegate::time::{Duration, Instant};

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
        let work = kit.work;
        let started = with_context(link, way, kit, |context| {
            exchange.start(
                now,
                template,
                true,
                &work.payload,
                work.answer_timeout,
                context,
            )
        });
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
        kit.sample.last_datagram = Some(now);
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

    /// Gives up what was not begun.
    fn drop_backlog(&mut self, kit: &mut Kit<'_>) {
        for _ in self.backlog.drain(..) {
            kit.count_not_begun();
            kit.outstanding = kit.outstanding.saturating_sub(1);
        }
    }

    fn settle(&mut self, kit: &mut Kit<'_>) {
        if !self.settled {
            self.settled = true;
            kit.settled += 1;
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
        let outcome = with_context(link, way, kit, |context| {
            exchange.handle_timeout(now, context)
        });
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

/// Runs a step of a device's exchange; what that sends leaves by its link.
fn with_context<T>(
    link: &mut Link,
    way: &Way,
    kit: &mut Kit<'_>,
    step: impl FnOnce(&mut coap::Context<'_>) -> T,
) -> T {
    let counters = &mut kit.sample.counters;
    let (hubs, scratch) = (&mut kit.hubs, &mut kit.scratch);
    step(&mut coap::Context {
        settings: &kit.work.coap,
        random: &mut kit.random,
        out: &mut |message| {
            let wire = Wire {
                way,
                hubs,
                counters,
            };
            link.send(message, scratch, wire);
        },
        buffers: &mut SpareBuffers::default(),
    })
}
