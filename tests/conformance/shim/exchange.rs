//! What happens on one connection: handshake, checks, echo, close.

use std::io;
use std::time::SystemTime;

use tidegate::drop_reason::DropReason;
use tidegate::dtls::Received;
use tidegate::time::{Duration, Instant, Now};

use super::end::{Effects, End, Kept};
use super::flags::{Flags, Outcome, Settings};
use super::transport::{Event, Transport};

/// What passes between two datagrams of an established connection. No timer runs then, and the
/// last flight is repeated at a limited rate only.
const STEP_WHEN_ESTABLISHED: Duration = Duration::from_secs(1);

/// Runs all connections of one test.
pub(crate) fn run(flags: &Flags) -> Result<(), Outcome> {
    let unix = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let mut now = Now {
        instant: Instant::from_micros(1_234_000_000),
        unix_ms: u64::try_from(unix.as_millis()).unwrap_or_default(),
    };
    let mut kept = Kept::new(flags.initial.sessions());
    for number in 0..=flags.resume_count {
        let is_resumption = number > 0;
        let settings = if is_resumption {
            &flags.resume
        } else {
            &flags.initial
        };
        if is_resumption && !flags.server && kept.session.is_none() {
            return Err(Outcome::Failed("no session to offer".to_owned()));
        }
        let mut exchange = Exchange::start(flags, settings, &kept, now)?;
        exchange.run(is_resumption)?;
        let session = exchange.end.session();
        now = exchange.now;
        drop(exchange);
        kept.session = session.or(kept.session);
        pass(&mut now, settings.resumption_delay);
    }
    Ok(())
}

struct Exchange<'a> {
    settings: &'a Settings,
    transport: Transport,
    end: End<'a>,
    now: Now,
    /// What the runner let pass and our clock, which counts microseconds, does not show yet.
    nanoseconds: u32,
    effects: Effects,
    /// The last alert of the runner, for the error message.
    peer_alert: Option<String>,
    closed: bool,
}

fn failed(error: &io::Error) -> Outcome {
    Outcome::Failed(format!("transport: {error}"))
}

impl<'a> Exchange<'a> {
    fn start(
        flags: &Flags,
        settings: &'a Settings,
        kept: &'a Kept,
        now: Now,
    ) -> Result<Self, Outcome> {
        let mut effects = Effects::default();
        // What cannot be set up is found before the runner waits for a connection.
        let end = End::start(flags, settings, kept, now, &mut effects)?;
        let transport = Transport::connect(flags.port, flags.ipv6, flags.shim_id)
            .map_err(|error| failed(&error))?;
        let mut exchange = Self {
            settings,
            transport,
            end,
            now,
            nanoseconds: 0,
            effects,
            peer_alert: None,
            closed: false,
        };
        exchange.flush()?;
        Ok(exchange)
    }

    fn run(&mut self, is_resumption: bool) -> Result<(), Outcome> {
        while !self.end.is_established() {
            match self.step()? {
                None => return Err(self.ended("the runner closed during the handshake")),
                Some(_) if self.closed => return Err(self.ended("closed during the handshake")),
                Some(plaintexts) => self.echo(&plaintexts)?,
            }
        }
        self.end.check(self.settings, is_resumption)?;
        if self.settings.writes_first {
            for _ in 0..self.settings.initial_writes {
                let text = self.settings.initial_write.clone();
                self.send(text.as_bytes())?;
            }
        }
        if !self.settings.shuts_down {
            while !self.closed
                && let Some(plaintexts) = self.step()?
            {
                self.echo(&plaintexts)?;
            }
        }
        self.shut_down()
    }

    /// Sends close_notify if the runner wants to see it, and waits for its own.
    fn shut_down(&mut self) -> Result<(), Outcome> {
        if self.closed || !self.settings.check_close_notify {
            return Ok(());
        }
        self.end.close(&mut self.effects);
        self.flush()?;
        while self.step()?.is_some() {}
        Ok(())
    }

    /// Takes what comes next from the runner; plaintexts of it, or `None` at the end.
    fn step(&mut self) -> Result<Option<Vec<Vec<u8>>>, Outcome> {
        let mut plaintexts = Vec::new();
        match self.transport.next().map_err(|error| failed(&error))? {
            Event::End => return Ok(None),
            Event::Datagram(mut datagram) => {
                if self.end.is_established() {
                    pass(&mut self.now, STEP_WHEN_ESTABLISHED);
                }
                let received = self.end.handle_datagram(
                    self.now,
                    &mut datagram,
                    self.settings,
                    &mut self.effects,
                );
                self.flush()?;
                self.note(&received)?;
                let ranges = received.plaintexts.iter();
                plaintexts.extend(ranges.map(|range| datagram[range].to_vec()));
            }
            Event::TimePasses(duration) => {
                let duration = duration + Duration::from_nanos(self.nanoseconds.into());
                self.nanoseconds = duration.subsec_nanos() % 1000;
                pass(&mut self.now, duration);
                let result = self.end.handle_timeout(self.now, &mut self.effects);
                self.flush()?;
                result?;
            }
            Event::ExpectTimeout(expected) => {
                let due = self.end.next_retransmission(self.now);
                let left = due.map(|due| due.saturating_duration_since(self.now.instant));
                if left != expected {
                    return Err(Outcome::Failed(format!(
                        "timeout: wanted {expected:?}, got {left:?}"
                    )));
                }
            }
            Event::MaxTransmissionUnit => return Err(Outcome::unimplemented("change of MTU")),
            Event::RetransmissionTimeout => {
                return Err(Outcome::unimplemented("change of the timeout"));
            }
        }
        Ok(Some(plaintexts))
    }

    fn note(&mut self, received: &Received) -> Result<(), Outcome> {
        if let Some(alert) = received.peer_alert {
            self.peer_alert = Some(format!("peer alert {alert}"));
        }
        if let Some(error) = received.failure {
            return Err(match &self.peer_alert {
                Some(alert) => Outcome::Failed(alert.clone()),
                None => Outcome::Failed(format!("{error:?}")),
            });
        }
        self.closed |= received.closed;
        Ok(())
    }

    /// Says what stood in the way, if something did: the runner's alert, and what was dropped.
    fn ended(&self, why: &str) -> Outcome {
        let mut text = self.peer_alert.clone().unwrap_or_else(|| why.to_owned());
        for reason in DropReason::ALL {
            if self.effects.drops.contains(reason) {
                text.push_str(&format!("; dropped: {}", reason.label()));
            }
        }
        Outcome::Failed(text)
    }

    fn echo(&mut self, plaintexts: &[Vec<u8>]) -> Result<(), Outcome> {
        for plaintext in plaintexts.iter().filter(|plaintext| !plaintext.is_empty()) {
            let turned: Vec<u8> = plaintext.iter().map(|byte| byte ^ 0xff).collect();
            self.send(&turned)?;
        }
        Ok(())
    }

    fn send(&mut self, plaintext: &[u8]) -> Result<(), Outcome> {
        let result = self.end.send(plaintext, &mut self.effects);
        result.map_err(|error| Outcome::Failed(format!("{error:?}")))?;
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Outcome> {
        for datagram in self.effects.datagrams.drain(..) {
            self.transport
                .send(&datagram)
                .map_err(|error| failed(&error))?;
        }
        Ok(())
    }
}

fn pass(now: &mut Now, duration: Duration) {
    now.instant = now.instant + duration;
    now.unix_ms += u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
}
