//! Leads the threads through the phases, and adds up what they publish.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tidegate::time::{Duration, Instant};

use super::course::Course;
use crate::arguments::{Plan, Scenario};
use crate::clock::{Clock, process_cpu_time};
use crate::control::{Control, Phase};
use crate::live::{self, Live};
use crate::report::{Hearing, ServerUse, hints};
use crate::server_process::{ServerProcess, ThreadTimes, Usage};
use crate::stats::{Counters, Sample};
use crate::storm::StormFleet;
use crate::text::{grouped, span};
use crate::updates::Updates;

const TICK: Duration = Duration::from_millis(10);
const LINE_EVERY: Duration = Duration::from_secs(1);
/// Without any datagram of the server for this long, the target is called unreachable.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// The same when the host says that nothing listens there.
const REFUSED_MAX: Duration = Duration::from_secs(1);
/// Behind the last time-out: for threads to notice it.
const DRAIN_EXTRA: Duration = Duration::from_millis(500);
/// A silence of this length is told while the load goes on.
const SILENCE_TOLD: Duration = Duration::from_secs(3);

/// Threads that use less than this per operation are not told.
const THREAD_US_MIN: f64 = 0.01;

/// What the leader measured itself.
pub(super) struct Measured {
    pub(super) connecting: Duration,
    pub(super) measured: Duration,
    pub(super) hearing: Option<Hearing>,
    pub(super) server: Option<ServerUse>,
    pub(super) server_threads: Vec<(String, f64)>,
    pub(super) own_cpu: Duration,
    pub(super) own_rss_bytes: u64,
}

/// Leads the threads through the phases.
pub(super) struct Leader<'a> {
    pub(super) plan: &'a Plan,
    pub(super) control: &'a Control,
    /// That of the storm, if there is to be one.
    pub(super) storm: Option<&'a Control>,
    /// What observers are told.
    pub(super) updates: Option<Updates>,
    pub(super) clock: Clock,
    pub(super) interrupt: Arc<AtomicBool>,
    pub(super) server: Option<ServerProcess>,
    pub(super) live: Live,
    /// Since the start.
    pub(super) total: Sample,
    /// The same of the storm.
    pub(super) storm_total: Sample,
    /// Since the last time that something was collected.
    pub(super) fresh: Sample,
    /// Since the last line.
    pub(super) interval: Sample,
    /// The course of the measured time, for the page.
    pub(super) course: Course,
    pub(super) devices: u64,
    pub(super) phase_start: Instant,
    pub(super) last_line: Instant,
    /// The end of the measured time, once it is over.
    pub(super) measured_until: Instant,
}

impl<'a> Leader<'a> {
    /// From the first socket to the last answer.
    ///
    /// # Errors
    ///
    /// Why the run could not be made, or had to end.
    pub(super) fn lead(&mut self) -> Result<Measured, String> {
        self.prepare()?;
        let mut server_use = ServerUse::default();
        let connects = self.plan.scenario.connects_first() && self.plan.target.secure;
        let mut connecting = Duration::ZERO;
        if connects {
            let before = self.usage()?;
            connecting = self.connect()?;
            let after = self.usage()?;
            let completed = self.total.counters.handshakes_completed;
            server_use.cpu_us_per_handshake = per_operation(before.cpu, after.cpu, completed);
            let growth = after.rss_bytes.saturating_sub(before.rss_bytes);
            server_use.rss_bytes_per_session = ratio(growth, completed);
        }
        if self.plan.scenario == Scenario::Resume {
            // What counts are the resumptions; of the handshakes before them only the failures do.
            let counters = std::mem::take(&mut self.total.counters);
            self.total = Sample::new();
            self.total.counters = Counters {
                handshakes_started: counters.handshakes_failed,
                handshakes_failed: counters.handshakes_failed,
                handshake_errors: counters.handshake_errors,
                alerts: counters.alerts,
                ..Counters::default()
            };
            server_use = ServerUse::default();
            connecting = Duration::ZERO;
        }
        let own_start = process_cpu_time();
        let before = self.usage()?;
        let threads_before = self.thread_times();
        let handshakes_before = self.total.counters.handshakes_completed;
        let measured = self.measure()?;
        self.drain()?;
        let after = self.usage()?;
        let threads_after = self.thread_times();
        let own_cpu = process_cpu_time().saturating_sub(own_start);
        self.collect();
        let lost = self.outstanding_notifications();
        self.total.counters.failed += lost;
        let counters = &self.total.counters;
        let mut operations = 0;
        if self.storm.is_some() {
            // What the server used it used for both.
        } else if self.plan.scenario.sends_requests() {
            let answered = counters.ok + counters.codes.iter().map(|(_, count)| count).sum::<u64>();
            server_use.cpu_us_per_request = per_operation(before.cpu, after.cpu, answered);
            operations = answered;
        } else {
            let completed = counters.handshakes_completed - handshakes_before;
            server_use.cpu_us_per_handshake = per_operation(before.cpu, after.cpu, completed);
            operations = completed;
        }
        let threads = threads_after
            .into_iter()
            .map(|(name, after)| {
                let before = threads_before.get(&name).copied().unwrap_or_default();
                (name, per_operation(before, after, operations))
            })
            .filter(|(_, us)| *us >= THREAD_US_MIN)
            .collect();
        server_use.rss_bytes = after.rss_bytes;
        Ok(Measured {
            connecting,
            measured,
            hearing: self.hearing(),
            server: self.server.is_some().then_some(server_use),
            server_threads: threads,
            own_cpu,
            own_rss_bytes: ServerProcess::find(std::process::id())
                .and_then(|process| process.usage())
                .map_or(0, |usage| usage.rss_bytes),
        })
    }

    fn prepare(&mut self) -> Result<(), String> {
        let start = self.clock.instant();
        let mut told = start;
        loop {
            self.check_failure()?;
            let sum = |control: &Control| control.sum(|shared| &shared.prepared);
            let prepared = sum(self.control);
            let storm = self.plan.storm.map_or(0, StormFleet::sockets);
            if prepared == self.devices && self.storm.map_or(0, sum) == storm {
                return Ok(());
            }
            if self.interrupt.load(Relaxed) {
                return Err("interrupted before the load began".into());
            }
            let now = self.clock.instant();
            if now >= told + LINE_EVERY {
                told = now;
                self.live.progress(&format!(
                    "sockets {} of {}",
                    grouped(prepared),
                    grouped(self.devices)
                ));
            }
            std::thread::sleep(TICK);
        }
    }

    /// Makes the sessions; returns how long it took.
    fn connect(&mut self) -> Result<Duration, String> {
        self.enter(Phase::Connect);
        while self.control.sum(|shared| &shared.settled) < self.devices {
            self.tick("connecting", Scenario::Handshake)?;
            if self.interrupt.load(Relaxed) {
                return Err("interrupted while the fleet connected".into());
            }
        }
        let took = self.elapsed();
        self.collect();
        let counters = &self.total.counters;
        if counters.handshakes_completed == 0 {
            let reasons: Vec<String> = counters
                .handshake_errors
                .iter()
                .map(|(reason, count)| {
                    format!(
                        "{} times: {reason}{}",
                        grouped(*count),
                        hints::alert_remedy(reason)
                    )
                })
                .collect();
            return Err(format!(
                "no device could connect to {}: {}",
                self.plan.target.uri,
                reasons.join(", ")
            ));
        }
        self.live.note(&format!(
            "{} devices connected in {:.1} s",
            grouped(counters.handshakes_completed),
            took.as_secs_f64()
        ));
        // A ramp is a time that was asked for; what it leaves of it is waited out.
        while self.elapsed() < self.plan.ramp && !self.interrupt.load(Relaxed) {
            self.tick("connecting", Scenario::Handshake)?;
        }
        Ok(took)
    }

    /// Runs the load; returns how long.
    fn measure(&mut self) -> Result<Duration, String> {
        let start = self.clock.instant();
        let quiet = self.plan.storm.map_or(Duration::ZERO, |storm| storm.quiet);
        let storm_at = start + quiet;
        let end = storm_at + self.plan.duration;
        self.control.set_times(start, end);
        self.collect();
        self.course.begin(start);
        self.enter(Phase::Run);
        loop {
            let mut what = "running";
            if let Some(storm) = self.storm {
                what = "quiet";
                if self.clock.instant() >= storm_at {
                    what = "storm";
                    storm.set_times(storm_at, end);
                    storm.enter(Phase::Run);
                }
            }
            self.update(end)?;
            self.tick(what, self.plan.scenario)?;
            self.follow();
            let count_done = self.control.is_count_reached()
                && self.control.sum(|shared| &shared.outstanding) == 0;
            if self.clock.instant() >= end || count_done || self.interrupt.load(Relaxed) {
                break;
            }
        }
        self.measured_until = self.clock.instant();
        Ok(self.elapsed())
    }

    /// Draws what is over.
    fn follow(&mut self) {
        let now = self.clock.instant();
        if self.course.is_due(now) {
            self.collect();
            self.course.end_interval(now, self.plan.scenario);
        }
    }

    /// Issues an update, if one is due before `end`: each observer is to be told of it.
    fn update(&mut self, end: Instant) -> Result<(), String> {
        let Some(updates) = &mut self.updates else {
            return Ok(());
        };
        if self.clock.instant() < end
            && updates.issue_due(self.clock, self.devices, self.control)?
        {
            self.total.counters.sent += self.total.counters.observers;
        }
        Ok(())
    }

    /// Notifications that have not come yet.
    fn outstanding_notifications(&mut self) -> u64 {
        if self.updates.is_none() {
            return 0;
        }
        self.collect();
        let counters = &self.total.counters;
        counters.sent.saturating_sub(counters.ok)
    }

    /// The last interval ends with the measured time, whose end threads publish once they know of it.
    fn end_course(&mut self) {
        while !self.all_saw(Phase::Drain) && self.elapsed() < DRAIN_EXTRA {
            std::thread::sleep(TICK / 10);
        }
        self.collect();
        self.course.end(self.measured_until, self.plan.scenario);
    }

    fn all_saw(&self, phase: Phase) -> bool {
        let mut threads = self.control.threads.iter();
        threads.all(|shared| shared.saw(phase))
    }

    /// Waits for outstanding answers, as long as one may take: whatever was to be sent in the measured time
    /// and is not answered then took longer.
    fn drain(&mut self) -> Result<(), String> {
        if let Some(storm) = self.storm {
            storm.enter(Phase::Stop);
        }
        self.enter(Phase::Drain);
        self.end_course();
        let limit = self.plan.answer_timeout + DRAIN_EXTRA;
        let interrupted_before = self.interrupt.load(Relaxed);
        loop {
            let all_know = self.all_saw(Phase::Drain);
            let outstanding = self.control.sum(|shared| &shared.outstanding);
            let outstanding = outstanding + self.outstanding_notifications();
            if (all_know && outstanding == 0) || self.elapsed() > limit {
                return Ok(());
            }
            if self.interrupt.load(Relaxed) && !interrupted_before {
                return Ok(());
            }
            let what = format!("waiting for {} answers", grouped(outstanding));
            self.tick(&what, self.plan.scenario)?;
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase_start = self.clock.instant();
        self.last_line = self.phase_start;
        self.control.enter(phase);
    }

    fn elapsed(&self) -> Duration {
        self.clock
            .instant()
            .saturating_duration_since(self.phase_start)
    }

    /// Sleeps a little; writes the live line when it is due; ends the run when something failed.
    fn tick(&mut self, what: &str, shown: Scenario) -> Result<(), String> {
        std::thread::sleep(TICK);
        self.check_failure()?;
        let now = self.clock.instant();
        let length = now.saturating_duration_since(self.last_line);
        if length < LINE_EVERY {
            return Ok(());
        }
        self.last_line = now;
        self.collect();
        let mut line = live::line(
            what,
            self.elapsed(),
            shown,
            &self.interval,
            &self.total,
            length,
        );
        let last = self.total.last_datagram;
        let silence = last.map(|at| now.saturating_duration_since(at));
        if let Some(silence) = silence.filter(|&silence| silence >= SILENCE_TOLD) {
            line.push_str(&format!("  no datagram for {}", span(silence)));
        }
        self.live.progress(&line);
        self.interval.clear();
        self.check_silence()
    }

    /// Adds what the threads published to the total.
    pub(super) fn collect(&mut self) {
        if let Some(storm) = self.storm {
            storm.collect(&mut self.fresh);
            self.storm_total.add(&self.fresh);
        }
        self.control.collect(&mut self.fresh);
        self.total.add(&self.fresh);
        self.interval.add(&self.fresh);
        self.course.add(&self.fresh);
    }

    /// What the threads share, those of the storm included.
    pub(super) fn controls(&self) -> impl Iterator<Item = &'a Control> + use<'a> {
        std::iter::once(self.control).chain(self.storm)
    }

    fn check_failure(&self) -> Result<(), String> {
        let failure = self.controls().find_map(Control::failure);
        failure.map_or(Ok(()), Err)
    }

    fn check_silence(&self) -> Result<(), String> {
        let counters = &self.total.counters;
        if counters.datagrams > 0 || counters.sent + counters.handshakes_started == 0 {
            return Ok(());
        }
        let elapsed = self.elapsed();
        let target = &self.plan.target;
        let address = target.address;
        if counters.refused > 0 && elapsed >= REFUSED_MAX {
            return Err(format!(
                "nothing listens at {address} (UDP): start the server, or correct --target ({} has its own port: \
                 5683 for coap, 5684 for coaps)",
                if target.secure { "CoAPS" } else { "CoAP" }
            ));
        }
        if elapsed >= SILENCE_MAX {
            return Err(format!(
                "no answer at all from {address} within {}: is the server running, is the port right, does a \
                 firewall drop UDP?",
                span(SILENCE_MAX)
            ));
        }
        Ok(())
    }

    /// How the server was heard, now that nothing is waited for any more.
    fn hearing(&self) -> Option<Hearing> {
        let last = self.total.last_datagram?;
        let until = |end: Instant| end.saturating_duration_since(last);
        Some(Hearing {
            silence: until(self.clock.instant()),
            silence_measured: until(self.measured_until),
            refused: self.total.last_refusal.is_some_and(|at| at > last),
        })
    }

    fn thread_times(&self) -> ThreadTimes {
        self.server
            .as_ref()
            .map(ServerProcess::thread_times)
            .unwrap_or_default()
    }

    fn usage(&self) -> Result<Usage, String> {
        match &self.server {
            None => Ok(Usage::default()),
            Some(server) => server.usage().map_err(|error| {
                format!("the server process cannot be measured any more: {error}")
            }),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn per_operation(before: Duration, after: Duration, count: u64) -> f64 {
    if count == 0 {
        return 0.0;
    }
    after.saturating_sub(before).as_secs_f64() * 1e6 / count as f64
}

#[expect(
    clippy::cast_precision_loss,
    reason = "bytes and counts are far below 2^53"
)]
fn ratio(bytes: u64, count: u64) -> f64 {
    if count == 0 {
        0.0
    } else {
        bytes as f64 / count as f64
    }
}
