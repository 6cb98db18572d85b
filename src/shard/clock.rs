//! The clocks of the machine: the one place that reads them for the data plane.

#![expect(
    clippy::disallowed_methods,
    reason = "this is where the clocks are read"
)]

use std::time::{Instant as StdInstant, SystemTime};

use crate::time::{Instant, Now};

/// A monotonic clock that all shards of a process share, and the wall clock beside it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: StdInstant,
}

impl Clock {
    /// A clock whose origin is a second ago, so that no instant it gives is the origin itself.
    pub fn start() -> Self {
        let now = StdInstant::now();
        Self {
            origin: now
                .checked_sub(std::time::Duration::from_secs(1))
                .unwrap_or(now),
        }
    }

    /// Reads both clocks.
    pub fn now(&self) -> Now {
        Now {
            instant: self.instant(),
            unix_ms: unix_ms(),
        }
    }

    /// Reads the monotonic clock.
    pub fn instant(&self) -> Instant {
        Instant::ZERO + self.origin.elapsed()
    }
}

/// Milliseconds since the UNIX epoch; 0 on a clock set before it.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
