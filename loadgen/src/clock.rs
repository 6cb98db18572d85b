//! The clocks of the machine, the one place that reads them.

#![expect(
    clippy::disallowed_methods,
    reason = "this is where the clocks are read"
)]

use std::time::{Instant as StdInstant, SystemTime};

use rustix::time::{ClockId, clock_gettime};
use tidegate::time::{Duration, Instant};

/// A monotonic clock that all threads share, and the wall clock beside it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: StdInstant,
}

impl Clock {
    /// A clock that starts a second after its origin, so that no instant is the origin itself.
    pub(crate) fn start() -> Self {
        let now = StdInstant::now();
        Self {
            origin: now.checked_sub(Duration::from_secs(1)).unwrap_or(now),
        }
    }

    /// Reads the monotonic clock.
    pub(crate) fn instant(&self) -> Instant {
        Instant::ZERO + self.origin.elapsed()
    }

    /// Reads the wall clock: milliseconds since the UNIX epoch, 0 before it.
    pub(crate) fn unix_ms() -> u64 {
        let since = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// CPU time that this process has used.
pub(crate) fn process_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(nanos)
}
