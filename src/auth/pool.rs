//! The authenticator pool's threads.

use crate::auth::api::Api;
use crate::queue::{Inbox, RequestQueues, WorkerQueues};
use crate::store::Store;
use std::sync::Arc;

/// What the pool did since its start, over all workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// Requests taken from the queues.
    pub requests: u64,
    /// Answers given, by code byte (class in the upper three bits); codes that never came are left out.
    pub responses: Vec<(u8, u64)>,
    /// Requests whose handling panicked: a defect of ours, contained, answered 5.00.
    pub panics: u64,
}

/// Running worker threads.
pub struct Pool {
    queues: Arc<RequestQueues>,
}

impl Pool {
    /// Starts a thread for each of `workers`. Verdicts go to `inboxes`, indexed by shard.
    ///
    /// # Errors
    ///
    /// A thread could not be started; those that were are stopped again.
    pub fn start(
        queues: Arc<RequestQueues>,
        workers: Vec<WorkerQueues>,
        inboxes: Arc<[Arc<Inbox>]>,
        api: Arc<Api>,
        store: Arc<dyn Store>,
    ) -> std::io::Result<Self> {
        let _ = (workers, inboxes, api, store);
        Ok(Self { queues })
    }

    /// What was done so far.
    pub fn counts(&self) -> PoolCounts {
        unimplemented!()
    }

    /// Handles what is queued, then ends the threads. Verdicts that wait for the store still come
    /// from there: close the store afterwards.
    pub fn stop(&self) {
        self.queues.close();
    }
}
