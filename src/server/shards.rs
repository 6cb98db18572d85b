//! The shards: an executor on a core each.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use glommio::ExecutorJoinHandle;

use super::StartError;
use super::sockets::Sockets;
use super::workers::Workers;
use crate::endpoint::EndpointSettings;
use crate::metrics::ShardMetrics;
use crate::queue::Inbox;
use crate::shard::clock::Clock;
use crate::shard::{self, DriverKind, ShardParts};

/// A shard's thread, and what hangs up when it ends.
type RunningShard = (ExecutorJoinHandle<io::Result<()>>, mpsc::Receiver<()>);

/// All shards, running.
pub(super) struct Shards {
    running: Vec<RunningShard>,
    pub(super) metrics: Vec<Arc<ShardMetrics>>,
    inboxes: Arc<[Arc<Inbox>]>,
    stop: Arc<AtomicBool>,
}

impl Shards {
    /// Starts a shard on each set of sockets, and waits until all serve.
    ///
    /// # Errors
    /// Why one does not.
    pub(super) fn start(
        sockets: Sockets,
        driver: DriverKind,
        settings: &Arc<EndpointSettings>,
        workers: &Workers,
    ) -> Result<Self, StartError> {
        let stop = Arc::new(AtomicBool::new(false));
        let clock = Clock::start();
        let cpus = allowed_cpus();
        let shards = sockets.of_shards.len();
        let metrics: Vec<_> = (0..shards).map(|_| Arc::new(ShardMetrics::new())).collect();
        let mut spawned = Vec::with_capacity(shards);
        for (index, own_sockets) in sockets.of_shards.into_iter().enumerate() {
            let (started, has_started) = mpsc::channel();
            let queue = workers.queues.shard(index);
            let parts = ShardParts {
                index: u16::try_from(index).unwrap_or(u16::MAX),
                cpu: cpus[index % cpus.len()],
                sockets: own_sockets,
                driver,
                settings: Arc::clone(settings),
                metrics: Arc::clone(&metrics[index]),
                queue: queue.ok_or_else(|| StartError::Executor("no queue".into()))?,
                inbox: Arc::clone(&workers.inboxes[index]),
                inboxes: Arc::clone(&workers.inboxes),
                connection_ids: sockets.connection_ids,
                stop: Arc::clone(&stop),
                clock: clock.clone(),
                started,
            };
            let handle = shard::spawn(parts).map_err(|e| StartError::Executor(e.to_string()))?;
            spawned.push((handle, has_started));
        }
        Ok(Self {
            running: await_start(spawned)?,
            metrics,
            inboxes: Arc::clone(&workers.inboxes),
            stop,
        })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    /// A shard that has ended by itself, by its number.
    pub(super) fn ended(&self) -> Option<usize> {
        let hung_up = Err(mpsc::TryRecvError::Disconnected);
        self.running
            .iter()
            .position(|(_, shard)| shard.try_recv() == hung_up)
    }

    /// Has them drain and say goodbye, and waits for that.
    pub(super) fn stop(self) {
        self.stop.store(true, Ordering::Release);
        for inbox in self.inboxes.iter() {
            inbox.wake_always();
        }
        for (shard, _) in self.running {
            match shard.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "a shard ended with an error"),
                Err(error) => tracing::error!(%error, "a shard ended with an error"),
            }
        }
    }
}

/// Waits until every shard serves: one that does not would let its peers' datagrams lie.
fn await_start(spawned: Vec<RunningShard>) -> Result<Vec<RunningShard>, StartError> {
    spawned
        .into_iter()
        .map(|(handle, has_started)| match has_started.recv() {
            Ok(()) => Ok((handle, has_started)),
            Err(mpsc::RecvError) => Err(StartError::Executor(match handle.join() {
                Ok(Ok(())) => "it ended at once".into(),
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            })),
        })
        .collect()
}

/// The cores that the process may run on, never empty.
fn allowed_cpus() -> Vec<usize> {
    let status = std::fs::read_to_string(Path::new("/proc/self/status")).unwrap_or_default();
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .unwrap_or_default();
    let cpus: Vec<usize> = list
        .trim()
        .split(',')
        .filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some(first.parse().ok()?..=last.parse().ok()?)
        })
        .flatten()
        .collect();
    if cpus.is_empty() { vec![0] } else { cpus }
}
