//! How a device's session begins and ends.

use tidegate::random::Random;
use tidegate::time::Instant;

use super::{Device, NO_CONNECTION_ID, PAUSE, State};
use crate::arguments::Scenario;
use crate::control::Phase;
use crate::kit::Kit;
use crate::sockets::Wire;
use crate::stats::{record, tally};

impl Device {
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

    pub(super) fn on_established(&mut self, now: Instant, resumed: bool, kit: &mut Kit<'_>) {
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
    pub(super) fn on_closed(&mut self, now: Instant, reason: String, kit: &mut Kit<'_>) {
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

    pub(super) fn on_handshake_failed(&mut self, now: Instant, reason: String, kit: &mut Kit<'_>) {
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

    pub(super) fn drop_session(&mut self, now: Instant) {
        self.link.forget();
        self.state = State::Down;
        self.pause_until = Some(now + PAUSE);
    }
}

/// From 0 to 1.
fn fraction(random: &mut impl Random) -> f64 {
    const STEPS: u32 = 1 << 20;
    let step = u32::try_from(random.below(STEPS.into())).unwrap_or(0);
    f64::from(step) / f64::from(STEPS)
}
