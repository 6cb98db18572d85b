//! How much is measured.

use std::time::Duration;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A second each: whether it works at all.
    Smoke,
    /// Minutes.
    Quick,
    /// As the targets ask for.
    Full,
}

impl Mode {
    /// Seconds of a load.
    pub(super) const fn seconds(self) -> u64 {
        match self {
            Self::Smoke => 1,
            Self::Quick => 8,
            Self::Full => 30,
        }
    }

    /// The same, as an argument.
    pub(crate) fn duration(self) -> String {
        format!("{}s", self.seconds())
    }

    /// Devices whose requests are too many: as each has one under way, they must be many.
    pub(super) const fn overload_devices(self) -> usize {
        match self {
            Self::Smoke => 200,
            Self::Quick | Self::Full => 40_000,
        }
    }

    /// Devices and requests that fill what the store keeps in memory: its head of 128 MiB, at some 55 bytes each.
    pub(super) const fn filling(self) -> (&'static str, &'static str) {
        match self {
            Self::Smoke => ("100", "1000"),
            Self::Quick | Self::Full => ("2000", "3000000"),
        }
    }

    pub(super) const fn echo_time(self) -> Duration {
        match self {
            Self::Smoke => Duration::from_millis(200),
            Self::Quick => Duration::from_secs(2),
            Self::Full => Duration::from_secs(5),
        }
    }

    /// Idle sessions held without a kernel.
    pub(super) const fn held_sessions(self) -> usize {
        match self {
            Self::Smoke => 4000,
            Self::Quick | Self::Full => 200_000,
        }
    }

    /// Sessions of a running server whose growth is measured.
    pub(super) const fn idle_sessions(self) -> usize {
        match self {
            Self::Smoke => 200,
            Self::Quick => 20_000,
            Self::Full => 200_000,
        }
    }

    /// Sessions among which requests are spread.
    pub(super) const fn many_sessions(self) -> usize {
        match self {
            Self::Smoke => 200,
            Self::Quick => 20_000,
            Self::Full => 1_000_000,
        }
    }

    /// Sessions whose memory is compared with that of peers.
    pub(crate) const fn peer_sessions(self) -> usize {
        match self {
            Self::Smoke => 20,
            Self::Quick => 1000,
            Self::Full => 3000,
        }
    }

    /// In words, for the table.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Smoke => "smoke run: these numbers mean nothing",
            Self::Quick => "quick run",
            Self::Full => "full run",
        }
    }
}
