//! Strangers who begin handshakes and never go on: the worse half of a storm.
//!
//! ```text
//! turn of a stranger's socket     nothing is known    ClientHello without cookie
//!                      next turn  HelloVerifyRequest  ClientHello with its cookie, and no more
//!                                 a new port, from which it begins again
//! ```
//!
//! Where the server answers every hello, half of them have a valid cookie. Each handshake has a client
//! random and a port of its own, so that no work of the server serves twice, and all that it keeps
//! for them adds up. The schedule is an open loop that does not
//! wait for the server; what the generator itself cannot send in time is left out.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tidegate::dtls::client::{ClientConfig, ClientConnection, Context};
use tidegate::random::SeededRandom;
use tidegate::time::{Duration, Instant, Now};
use tidegate::wire::DatagramSink;

use crate::clock::Clock;
use crate::control::{Control, Phase};
use crate::sockets;
use crate::stats::{Counters, Sample};

/// Strangers, each with an address on loopback of its own.
pub(crate) const STRANGERS: usize = 1024;
/// Hellos sent before the clock and the phase are looked at again.
const ROUND_MAX: u32 = 64;
/// How far behind the schedule may be made up for.
const BEHIND_MAX: Duration = Duration::from_millis(50);
const SLEEP_MAX: Duration = Duration::from_millis(5);
const PUBLISH_EVERY: Duration = Duration::from_millis(200);
/// Where a handshake message's type is, in a datagram of one record; and that of HelloVerifyRequest
/// (RFC 6347 section 4.3.2).
const MESSAGE_TYPE_OFFSET: usize = 13;
const HELLO_VERIFY_REQUEST: u8 = 3;

/// What the strangers are started with.
pub(crate) struct Flood<'a> {
    pub(crate) control: &'a Control,
    /// The place among the control's threads to count in.
    pub(crate) thread: usize,
    pub(crate) clock: Clock,
    pub(crate) target: SocketAddr,
    pub(crate) config: Arc<ClientConfig>,
    /// ClientHellos per second, above 0.
    pub(crate) rate: f64,
    pub(crate) seed: u64,
}

/// One address, with the handshake that it has begun.
struct Stranger {
    socket: UdpSocket,
    target: SocketAddr,
    index: usize,
    begun: Option<ClientConnection>,
}

impl Flood<'_> {
    /// Runs until the phase is [`Phase::Stop`]; sends while it is [`Phase::Run`].
    pub(crate) fn run(&self) {
        let Some(shared) = self.control.threads.get(self.thread) else {
            return;
        };
        let mut strangers = Vec::with_capacity(STRANGERS);
        for index in 0..STRANGERS {
            match sockets::open_stranger(self.target, index) {
                Ok(socket) => strangers.push(Stranger {
                    socket,
                    target: self.target,
                    index,
                    begun: None,
                }),
                Err(error) => return self.control.fail(sockets::explain(&error, index)),
            }
            shared.prepared.fetch_add(1, Relaxed);
        }
        let mut random = SeededRandom::new(self.seed ^ 0x5707_1234);
        let mut sample = Sample::new();
        let mut next: Option<Instant> = None;
        let mut turn = 0;
        let gap = Duration::from_secs_f64(1.0 / self.rate);
        let mut publish_at = self.clock.instant();
        while self.control.phase() < Phase::Drain {
            if self.control.phase() < Phase::Run {
                std::thread::sleep(SLEEP_MAX);
                continue;
            }
            let now = self.clock.instant();
            let clocks = Now {
                instant: now,
                unix_ms: Clock::unix_ms(),
            };
            let mut due = next.unwrap_or(now).max(earlier(now, BEHIND_MAX));
            for _ in 0..ROUND_MAX {
                if due > now {
                    break;
                }
                due = due + gap;
                if let Some(stranger) = strangers.get_mut(turn % STRANGERS) {
                    stranger.act(clocks, &self.config, &mut random, &mut sample.counters);
                }
                turn += 1;
            }
            next = Some(due);
            if now >= publish_at {
                publish_at = now + PUBLISH_EVERY;
                shared.sample().add(&sample);
                sample.clear();
            }
            let pause = due.saturating_duration_since(self.clock.instant());
            if !pause.is_zero() {
                std::thread::sleep(pause.min(SLEEP_MAX));
            }
        }
        shared.sample().add(&sample);
    }
}

fn earlier(now: Instant, by: Duration) -> Instant {
    let by = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
    Instant::from_micros(now.as_micros().saturating_sub(by))
}

/// A stranger's socket for the length of one step.
struct Connected<'a> {
    socket: &'a UdpSocket,
    counters: &'a mut Counters,
}

impl DatagramSink for Connected<'_> {
    fn push_datagram(&mut self, datagram: &[u8]) {
        sockets::send(self.socket, datagram, self.counters);
    }
}

impl Stranger {
    /// Sends one ClientHello: with a cookie if the last one was answered by one.
    fn act(
        &mut self,
        now: Now,
        config: &Arc<ClientConfig>,
        random: &mut SeededRandom,
        counters: &mut Counters,
    ) {
        let cookie = self.read();
        let begun = self.begun.take();
        if cookie.is_none() && begun.is_some() {
            // An answer that is late must not meet another hello.
            self.renew();
        }
        let mut wire = Connected {
            socket: &self.socket,
            counters,
        };
        let mut cx = Context {
            random,
            out: &mut wire,
            drops: &mut |_| {},
        };
        if let (Some(mut datagram), Some(mut begun)) = (cookie, begun) {
            begun.handle_datagram(now, &mut datagram, &mut cx);
            counters.hellos_with_cookie += 1;
            self.renew();
            return;
        }
        self.begun = Some(ClientConnection::new(now, Arc::clone(config), &mut cx));
        counters.hellos += 1;
    }

    /// Takes another port. Without one the old one has to do.
    fn renew(&mut self) {
        if let Ok(socket) = sockets::open_stranger(self.target, self.index) {
            self.socket = socket;
        }
    }

    /// The HelloVerifyRequest that came, the latest of several.
    fn read(&self) -> Option<Vec<u8>> {
        let mut buffer = [0; 2048];
        let mut latest = None;
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let datagram = buffer.get(..length).unwrap_or_default();
            if datagram.get(MESSAGE_TYPE_OFFSET) == Some(&HELLO_VERIFY_REQUEST) {
                latest = Some(datagram.to_vec());
            }
        }
        latest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_before_the_clock_s_start_is_its_start() {
        let at = Instant::from_micros(10_000);
        assert_eq!(earlier(at, Duration::from_millis(1)).as_micros(), 9_000);
        assert_eq!(earlier(at, Duration::from_secs(1)).as_micros(), 0);
    }
}
