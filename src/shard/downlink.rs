//! Notifications of the pool on their way to the endpoint, and what becomes of them on its way back.

use crate::auth::request::Notification;
use crate::endpoint::Endpoint;
use crate::queue::{Inbox, RequestQueue};
use crate::time::{Duration, Instant};

use super::clock::Clock;

/// Notifications handled in one turn.
const NOTIFICATIONS_PER_TURN: usize = 256;
/// When events of relations are reported again that the pool's queue had no room for.
const REPORT_RETRY: Duration = Duration::from_millis(2);

/// Notifications that were taken from the inbox.
///
/// The verdict that opens a relation is in the inbox before the relation's first notification, but
/// in another queue. So notifications are taken before the verdicts, and handled after them, once
/// all those are handled that may have come before.
#[derive(Debug, Default)]
pub(super) struct Downlink(Vec<Notification>);

impl Downlink {
    /// Takes those of one turn, unless the last ones were not handled yet.
    pub(super) fn take(&mut self, inbox: &Inbox) {
        if self.0.is_empty() {
            let waiting = std::iter::from_fn(|| inbox.pop_notification());
            self.0.extend(waiting.take(NOTIFICATIONS_PER_TURN));
        }
    }

    /// What was taken; to be called when the inbox has been seen without verdicts since.
    pub(super) fn release(&mut self) -> impl Iterator<Item = Notification> + '_ {
        self.0.drain(..)
    }
}

/// The time at which nothing is due.
pub(super) const NEVER: Instant = Instant::from_micros(u64::MAX);

/// Tells the pool what happened to relations; returns when to try again.
pub(super) fn report(endpoint: &mut Endpoint, queue: &RequestQueue, clock: &Clock) -> Instant {
    if !endpoint.has_relation_events() {
        return NEVER;
    }
    let is_done = endpoint.report_relations(|event| queue.report(event).is_ok());
    queue.notify();
    if is_done {
        NEVER
    } else {
        clock.instant() + REPORT_RETRY
    }
}
