//! What runs came to: a trace that tells whether two were the same, and counts that show that the
//! faults and all ends of requests did occur.

use std::fmt::Write as _;

use tidegate::time::{Duration, Instant};

use crate::check::records;

/// A hash over everything that happened, in order.
///
/// Keys and signatures differ from run to run, so datagrams enter by the headers of their records.
pub(crate) struct Trace {
    hash: u64,
    verbose: bool,
}

impl Trace {
    pub(crate) fn new(verbose: bool) -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            verbose,
        }
    }

    /// Something happened; `number` says to whom or how often.
    pub(crate) fn event(&mut self, at: Instant, what: &str, number: usize) {
        let line = format!("{:>12} {what} {number}", at.as_micros());
        if self.verbose {
            eprintln!("{line}");
        }
        // FNV-1a.
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// A datagram arrived at an end whose connection ids have `id_len` bytes.
    pub(crate) fn datagram(&mut self, at: Instant, way: &str, bytes: &[u8], id_len: usize) {
        let mut text = way.to_owned();
        // The first only: behind a length that was hit lies anything, a signature perhaps, and these
        // differ from run to run.
        if let Some(record) = records(bytes, id_len).first() {
            let _ = write!(
                text,
                " {}:{}.{}",
                record.content_type, record.epoch, record.sequence
            );
        }
        self.event(at, &text, 0);
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }
}

/// A struct of counts that can be added up and listed by name.
macro_rules! counts {
    ($(#[doc = $text:literal])+ $struct:ident { $($name:ident)+ }) => {
        $(#[doc = $text])+
        #[derive(Clone, Copy, Debug, Default)]
        pub(crate) struct $struct {
            $(pub(crate) $name: u64,)+
        }

        impl $struct {
            /// Adds other counts of the same things.
            pub(crate) const fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)+
            }

            /// Every count with its name.
            pub(crate) fn list(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),+]
            }
        }
    };
}

counts! {
    /// How requests ended.
    Ends { stored read refused overloaded failed reset timed_out abandoned }
}

counts! {
    /// What befell datagrams.
    NetworkCounts { lost doubled corrupted misdelivered overtaken }
}

counts! {
    /// What befell fleet and server.
    Happenings {
        records cookies handshakes resumptions handshakes_failed rebinds device_restarts restarts
        amnesias removals strangers clock_jumps silences losses expired revoked queue_full
        store_refusals store_failures lookups lookups_refused address_changes handovers handovers_lost
        paths_confirmed paths_unconfirmed path_limits displaced batches
    }
}

/// What a run came to, or many runs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) happenings: Happenings,
    pub(crate) ends: Ends,
    pub(crate) network: NetworkCounts,
    /// From the end of the faults until every device was served.
    pub(crate) longest_recovery: Duration,
    /// Of one run.
    pub(crate) trace: u64,
}

impl Summary {
    /// Adds another run.
    pub(crate) fn add(&mut self, other: &Self) {
        self.happenings.add(&other.happenings);
        self.ends.add(&other.ends);
        self.network.add(&other.network);
        self.longest_recovery = self.longest_recovery.max(other.longest_recovery);
    }

    /// Every count with its name.
    pub(crate) fn list(&self) -> Vec<(&'static str, u64)> {
        let Self {
            happenings,
            ends,
            network,
            ..
        } = self;
        [happenings.list(), ends.list(), network.list()].concat()
    }
}
