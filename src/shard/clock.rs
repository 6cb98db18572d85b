//! The clocks of the machine: the one place that reads them for the data plane. And one that a
//! simulation sets.

#![expect(
    clippy::disallowed_methods,
    reason = "this is where the clocks are read"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant as StdInstant, SystemTime};

use crate::time::{Instant, Now};

/// A monotonic clock that all shards of a process share, and the wall clock beside it.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    Machine { origin: StdInstant },
    Virtual(Arc<VirtualClock>),
}

impl Clock {
    /// A clock whose origin is a second ago, so that no instant it gives is the origin itself.
    pub fn start() -> Self {
        let now = StdInstant::now();
        let origin = now
            .checked_sub(std::time::Duration::from_secs(1))
            .unwrap_or(now);
        Self(Source::Machine { origin })
    }

    /// Reads both clocks.
    pub fn now(&self) -> Now {
        match &self.0 {
            Source::Machine { .. } => Now {
                instant: self.instant(),
                unix_ms: unix_ms(),
            },
            Source::Virtual(clock) => clock.read(),
        }
    }

    /// Reads the monotonic clock.
    pub fn instant(&self) -> Instant {
        match &self.0 {
            Source::Machine { origin } => Instant::ZERO + origin.elapsed(),
            Source::Virtual(clock) => clock.read().instant,
        }
    }
}

impl From<Arc<VirtualClock>> for Clock {
    fn from(clock: Arc<VirtualClock>) -> Self {
        Self(Source::Virtual(clock))
    }
}

/// A clock that goes as its owner says. Shards that share it run in one thread.
#[derive(Debug)]
pub struct VirtualClock {
    instant: AtomicU64,
    unix_ms: AtomicU64,
    /// Microseconds that pass with every reading.
    pace: AtomicU64,
}

impl VirtualClock {
    /// A clock that stands still at `now`.
    pub fn at(now: Now) -> Self {
        Self {
            instant: AtomicU64::new(now.instant.as_micros()),
            unix_ms: AtomicU64::new(now.unix_ms),
            pace: AtomicU64::new(0),
        }
    }

    /// Sets both clocks; neither the instant nor the wall clock has to be later than before.
    pub fn set(&self, now: Now) {
        self.instant
            .store(now.instant.as_micros(), Ordering::Relaxed);
        self.unix_ms.store(now.unix_ms, Ordering::Relaxed);
    }

    /// Lets so many microseconds pass with every reading from now on: what is done between two
    /// readings takes that long. The wall clock does not follow.
    pub fn set_pace(&self, micros: u64) {
        self.pace.store(micros, Ordering::Relaxed);
    }

    /// The time that the next reading will give; looking is no reading.
    pub fn instant(&self) -> Instant {
        Instant::from_micros(self.instant.load(Ordering::Relaxed))
    }

    fn read(&self) -> Now {
        let pace = self.pace.load(Ordering::Relaxed);
        Now {
            instant: Instant::from_micros(self.instant.fetch_add(pace, Ordering::Relaxed)),
            unix_ms: self.unix_ms.load(Ordering::Relaxed),
        }
    }
}

/// Milliseconds since the UNIX epoch; 0 on a clock set before it.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
