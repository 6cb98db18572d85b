//! How a shard's time is divided between its socket and the handshakes that wait.
//!
//! A batch that leaves the socket empty leaves no established peer waiting: handshakes may use the
//! time until the next look at the socket. A full batch says that there is more, and as long as that
//! goes on, handshakes get only the time that the batches have earned them:
//!
//! ```text
//! socket   [batch][batch]      [batch][batch]      ...
//! handshakes          [earned]            [earned]
//! ```
//!
//! Over any stretch, then, they use at most [`SHARE_WITH_DATA`] of the time while sessions send data,
//! so that the socket is emptied at three quarters of the speed that it could be, and still a storm of
//! handshakes comes to its end. Without data there is nobody to protect but the next peers to knock.

use std::time::Duration;

use crate::time::Instant;

/// Percent of a busy shard's time for handshakes while sessions send data.
const SHARE_WITH_DATA: u32 = 25;
/// The same while none does.
const SHARE_WITHOUT_DATA: u32 = 75;
/// Sessions send data when one did within this time.
const DATA_MEMORY: Duration = Duration::from_millis(500);
/// Time between two looks at a socket that was empty: a small part of what its buffer holds.
const TURN: Duration = Duration::from_micros(500);
/// What can be saved up: handshakes come one by one, each some 100 us of work.
const SAVINGS_MAX: Duration = Duration::from_millis(1);

/// The account of one shard, in microseconds.
#[derive(Debug, Default)]
pub(super) struct HandshakeShare {
    earned_us: i64,
}

impl HandshakeShare {
    /// A batch took `time` and left the socket empty, or not; `last_data` is when a session last sent
    /// data.
    pub(super) fn on_batch(
        &mut self,
        now: Instant,
        time: Duration,
        is_empty: bool,
        last_data: Instant,
    ) {
        if is_empty {
            self.earned_us = micros(TURN);
            return;
        }
        let has_data = now.saturating_duration_since(last_data) < DATA_MEMORY;
        let share = if has_data {
            SHARE_WITH_DATA
        } else {
            SHARE_WITHOUT_DATA
        };
        let earned = micros(time) * i64::from(share) / i64::from(100 - share);
        self.earned_us = (self.earned_us + earned).min(micros(SAVINGS_MAX));
    }

    /// Whether another handshake datagram may be handled now.
    pub(super) const fn is_left(&self) -> bool {
        self.earned_us > 0
    }

    /// A handshake datagram took `time`.
    pub(super) fn spend(&mut self, time: Duration) {
        self.earned_us -= micros(time);
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: Duration = Duration::from_micros(200);
    const HANDSHAKE: Duration = Duration::from_micros(120);

    /// The part of the time, in percent, that goes to handshakes under a flood.
    fn share_under_flood(last_data: Instant) -> u128 {
        let mut share = HandshakeShare::default();
        let now = Instant::from_micros(10_000_000);
        let (mut batches, mut handshakes) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..10_000 {
            share.on_batch(now, BATCH, false, last_data);
            batches += BATCH;
            while share.is_left() {
                share.spend(HANDSHAKE);
                handshakes += HANDSHAKE;
            }
        }
        handshakes.as_micros() * 100 / (handshakes + batches).as_micros()
    }

    #[test]
    fn under_a_flood_the_socket_comes_first_and_handshakes_are_not_starved() {
        let busy = share_under_flood(Instant::from_micros(9_900_000));
        assert!((20..=25).contains(&busy), "{busy} %");
        let quiet = share_under_flood(Instant::ZERO);
        assert!((70..=75).contains(&quiet), "{quiet} %");
    }

    #[test]
    fn while_the_socket_is_empty_handshakes_have_the_core() {
        let mut share = HandshakeShare::default();
        let now = Instant::from_micros(10_000_000);
        let mut done = 0;
        for _ in 0..100 {
            share.on_batch(now, Duration::from_micros(3), true, now);
            while share.is_left() {
                share.spend(HANDSHAKE);
                done += 1;
            }
        }
        // Five handshakes of 120 us for each look at the socket: 600 us against 3.
        assert_eq!(done, 500);
    }
}
