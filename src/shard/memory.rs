//! A shard without executor, sockets and clock of its own: the turns of a real one, in the hands of
//! whoever simulates or measures.
//!
//! What a turn does is what it does in [`super::spawn`]'s executor, by the same code: the batch, the
//! inbox, the timers, the panics that are contained, the time that handshakes get. When a turn comes
//! is the owner's business, as is what time it is.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::clock::{Clock, VirtualClock};
use super::driver::{Driver, MemoryDriver};
use super::handover::Neighbours;
use super::{Shard, State};
use crate::endpoint::{Endpoint, EndpointSettings, Port};
use crate::metrics::ShardMetrics;
use crate::queue::{Inbox, RequestQueue};
use crate::random::Random;
use crate::time::Instant;

pub use super::driver::MemoryDatagram;

/// What such a shard is made of; [`super::ShardParts`] says more.
pub struct MemoryShardParts {
    /// The shard's number.
    pub index: u16,
    /// Datagrams that a turn takes at most, at least 1.
    pub batch: usize,
    /// What all endpoints share.
    pub settings: Arc<EndpointSettings>,
    /// This shard's counters.
    pub metrics: Arc<ShardMetrics>,
    /// Requests to the pool.
    pub queue: RequestQueue,
    /// The inboxes of all shards, this one included, by their numbers.
    pub inboxes: Arc<[Arc<Inbox>]>,
    /// Whether our connection ids have a first byte, the number of their shard.
    pub connection_ids: bool,
    /// What the endpoint draws from.
    pub random: Box<dyn Random>,
    /// The clock that all shards share.
    pub clock: Arc<VirtualClock>,
}

/// A shard that takes its turns when it is told to.
pub struct MemoryShard {
    shard: Shard,
    state: State,
}

impl MemoryShard {
    /// A shard without peers.
    ///
    /// # Panics
    /// When `inboxes` has none for `index`.
    pub fn new(parts: MemoryShardParts) -> Self {
        let clock = Clock::from(parts.clock);
        let now = clock.now();
        let endpoint = Endpoint::new(
            parts.index,
            parts.settings,
            Arc::clone(&parts.metrics),
            parts.random,
            now,
        );
        let inbox = Arc::clone(&parts.inboxes[usize::from(parts.index)]);
        let neighbours = Neighbours::new(parts.index, parts.inboxes, parts.connection_ids);
        let driver = Driver::Memory(Box::new(MemoryDriver::new(parts.batch)));
        Self {
            shard: Shard {
                index: parts.index,
                metrics: parts.metrics,
                queue: parts.queue,
                inbox,
                clock,
                notes_logged: Cell::new((0, 0)),
            },
            state: State::new(endpoint, driver, neighbours, now.instant),
        }
    }

    /// A datagram arrives. A turn will take a copy of it.
    pub fn arrive(&mut self, datagram: &MemoryDatagram) {
        self.driver().arrive(datagram);
    }

    /// Datagrams that no turn took yet.
    pub fn waiting(&mut self) -> usize {
        self.driver().waiting()
    }

    /// One turn; whether there was anything to do. If so, a real shard takes the next one at once.
    ///
    /// # Errors
    /// None: that is for drivers that a kernel can fail.
    pub fn turn(&mut self) -> io::Result<bool> {
        self.shard.turn(&mut self.state)
    }

    /// Gives what was sent since the last call to `take`: the receiver, the port of ours, the bytes.
    pub fn take_sent(&mut self, take: impl FnMut(SocketAddr, Port, &[u8])) {
        self.driver().take_sent(take);
    }

    /// When a turn is due, though nothing came.
    pub fn next_timeout(&self) -> Instant {
        self.state.next_timeout()
    }

    /// What the shard thinks with, to look at.
    pub const fn endpoint(&self) -> &Endpoint {
        &self.state.endpoint
    }

    /// The same, to cause what no datagram does.
    pub const fn endpoint_mut(&mut self) -> &mut Endpoint {
        &mut self.state.endpoint
    }

    fn driver(&mut self) -> &mut MemoryDriver {
        match &mut self.state.driver {
            Driver::Memory(driver) => driver,
            Driver::Uring(_) | Driver::Mmsg(_) => {
                unreachable!("a memory shard has a memory driver")
            }
        }
    }
}
