//! Where the pool's answers go, and what is counted of them.

use crate::auth::request::{CredentialVerdict, Notification, Verdict};
use crate::queue::{Full, Inbox};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What one source of answers counts; any thread may add.
pub(super) struct Counters {
    pub(super) requests: AtomicU64,
    pub(super) panics: AtomicU64,
    pub(super) responses: [AtomicU64; 256],
}

impl Counters {
    pub(super) fn new() -> Self {
        Self {
            requests: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            responses: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

/// Where answers go.
#[derive(Clone)]
pub(super) struct Delivery {
    inboxes: Arc<[Arc<Inbox>]>,
    counters: Arc<Counters>,
}

impl Delivery {
    /// To these inboxes, indexed by shard.
    pub(super) fn new(inboxes: Arc<[Arc<Inbox>]>) -> Self {
        let counters = Arc::new(Counters::new());
        Self { inboxes, counters }
    }

    /// How many shards there are.
    pub(super) fn shards(&self) -> usize {
        self.inboxes.len()
    }

    pub(super) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Puts verdicts into their inboxes, then wakes each of these once.
    pub(super) fn deliver(&self, verdicts: impl IntoIterator<Item = Verdict>) {
        let mut woken = Touched::default();
        for verdict in verdicts {
            self.push(verdict, &mut woken);
        }
        self.wake(&woken);
    }

    pub(super) fn push(&self, verdict: Verdict, touched: &mut Touched) {
        let code = usize::from(verdict.response.code);
        self.counters.responses[code].fetch_add(1, Ordering::Relaxed);
        let shard = verdict.peer.shard;
        if let Some(inbox) = self.inboxes.get(usize::from(shard)) {
            inbox.push(verdict);
            touched.insert(shard);
        }
    }

    /// Puts a notification into its inbox, or gives it back when there is no room.
    #[allow(
        clippy::result_large_err,
        reason = "the notification itself is handed back"
    )]
    pub(super) fn notify(
        &self,
        notification: Notification,
        touched: &mut Touched,
    ) -> Result<(), Full<Notification>> {
        let shard = notification.peer.shard;
        if let Some(inbox) = self.inboxes.get(usize::from(shard)) {
            inbox.notify(notification)?;
            touched.insert(shard);
        }
        Ok(())
    }

    /// Puts what was found of a pre-shared key into the inbox of its shard.
    pub(super) fn push_credential(
        &self,
        shard: u16,
        verdict: CredentialVerdict,
        touched: &mut Touched,
    ) {
        if let Some(inbox) = self.inboxes.get(usize::from(shard)) {
            inbox.push_credential(verdict);
            touched.insert(shard);
        }
    }

    pub(super) fn wake(&self, touched: &Touched) {
        for &shard in &touched.0 {
            if let Some(inbox) = self.inboxes.get(usize::from(shard)) {
                inbox.wake();
            }
        }
    }
}

/// Shards with something new in their inbox; few, so a list does.
#[derive(Default)]
pub(super) struct Touched(Vec<u16>);

impl Touched {
    fn insert(&mut self, shard: u16) {
        if !self.0.contains(&shard) {
            self.0.push(shard);
        }
    }
}
