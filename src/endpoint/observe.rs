//! Observe relations (RFC 7641) between the peers' message layers and the pool.
//!
//! A notification reaches the message layer of the peer that it names. What becomes of it and of its
//! relation is told to the pool in the order in which it happened; what the pool's queue does not
//! take waits here, so nothing is lost. How much can wait is bounded by what the pool has going: it
//! hears once of each relation's end and twice of each notification.

use std::collections::VecDeque;

use super::peer::{Transmission, coap_output, coap_settings};
use super::{Endpoint, Outbox};
use crate::auth::request::{
    Notification, PeerRef, RelationEnd, RelationEvent, RelationEventKind, RelationId,
};
use crate::coap::{self, MessageLayer};
use crate::drop_reason::DropReason;
use crate::metrics::{Counter, ShardMetrics};
use crate::slab::Key;
use crate::time::Now;

/// What the pool is to hear, and how many relations there are.
#[derive(Debug, Default)]
pub(super) struct RelationEvents {
    waiting: VecDeque<RelationEvent>,
    open: usize,
}

impl RelationEvents {
    /// Takes what a message layer has to tell.
    pub(super) fn collect(
        &mut self,
        peer: PeerRef,
        layer: &mut MessageLayer,
        metrics: &ShardMetrics,
    ) {
        while let Some((relation, kind)) = layer.next_event() {
            self.push(peer, relation, kind, metrics);
        }
        let change = layer.take_relation_change();
        if change != 0 {
            let by = usize::try_from(change.unsigned_abs()).unwrap_or_default();
            self.open = if change > 0 {
                self.open + by
            } else {
                self.open.saturating_sub(by)
            };
            metrics.set(Counter::Relations, self.open as u64);
        }
    }

    /// A relation that no message layer has is over.
    pub(super) fn refuse(&mut self, peer: PeerRef, relation: RelationId, metrics: &ShardMetrics) {
        let kind = RelationEventKind::Ended(RelationEnd::SessionEnded);
        self.push(peer, relation, kind, metrics);
    }

    /// The message layer goes, and all that it has open.
    fn end(&mut self, peer: PeerRef, layer: &mut MessageLayer, metrics: &ShardMetrics) {
        layer.end_relations(RelationEnd::SessionEnded);
        self.collect(peer, layer, metrics);
    }

    fn push(
        &mut self,
        peer: PeerRef,
        relation: RelationId,
        kind: RelationEventKind,
        metrics: &ShardMetrics,
    ) {
        metrics.increment(match kind {
            RelationEventKind::Sent {
                confirmable: true, ..
            } => Counter::NotificationsConfirmable,
            RelationEventKind::Sent { .. } => Counter::NotificationsNonConfirmable,
            RelationEventKind::Acknowledged { .. } => Counter::NotificationsAcknowledged,
            RelationEventKind::Ended(end) => ended(end),
        });
        self.waiting.push_back(RelationEvent {
            peer,
            relation,
            kind,
        });
    }
}

const fn ended(end: RelationEnd) -> Counter {
    match end {
        RelationEnd::Reset => Counter::RelationsReset,
        RelationEnd::TimedOut => Counter::RelationsTimedOut,
        RelationEnd::Cancelled => Counter::RelationsCancelled,
        RelationEnd::Replaced => Counter::RelationsReplaced,
        RelationEnd::SessionEnded => Counter::RelationsSessionEnded,
        RelationEnd::Finished => Counter::RelationsFinished,
        RelationEnd::Limit => Counter::RelationsLimit,
    }
}

impl Endpoint {
    /// Takes a notification of the pool for an observer of this shard. The verdict that opened its
    /// relation is to be handled before.
    ///
    /// One whose relation is over is dropped and counted: the pool has been told, or will be.
    pub fn handle_notification(&mut self, now: Now, notification: Notification, out: &mut Outbox) {
        let PeerRef {
            slot, generation, ..
        } = notification.peer;
        let key = Key { slot, generation };
        let peer_ref = self.peer_ref(key);
        let Some(peer) = self.peers.get_mut(key) else {
            self.metrics.count_drop(DropReason::NotificationStale);
            return;
        };
        let super::Peer {
            address,
            local,
            association,
            coap: Some(layer),
            path,
            ..
        } = peer
        else {
            self.metrics.count_drop(DropReason::NotificationStale);
            return;
        };
        let settings = coap_settings(&self.settings.coap, association.as_ref());
        let way = ((*address).into(), *local, path);
        let mut send = coap_output(way, Transmission::First, association, out, &self.metrics);
        let mut context = coap::Context {
            settings: &settings,
            random: &mut *self.random,
            buffers: &mut self.buffers,
            out: &mut send,
        };
        let taken = layer.notify(now.instant, notification, &mut context);
        drop(send);
        if let Err(reason) = taken {
            self.metrics.count_drop(reason);
        }
        self.relation_events.collect(peer_ref, layer, &self.metrics);
        self.rearm(now, key);
    }

    /// Hands what happened to relations to `report`, in order, until that does not take an event;
    /// returns whether it took all.
    pub fn report_relations(&mut self, mut report: impl FnMut(RelationEvent) -> bool) -> bool {
        while let Some(&event) = self.relation_events.waiting.front() {
            if !report(event) {
                return false;
            }
            self.relation_events.waiting.pop_front();
        }
        true
    }

    /// Whether events wait for [`Self::report_relations`].
    pub fn has_relation_events(&self) -> bool {
        !self.relation_events.waiting.is_empty()
    }

    /// The message layer of the peer that has, or had, `key` goes, and all that it has open.
    pub(super) fn end_layer(&mut self, key: Key, layer: Option<Box<MessageLayer>>) {
        let peer = self.peer_ref(key);
        if let Some(mut layer) = layer {
            layer.end_transfers(&mut self.buffers);
            self.relation_events.end(peer, &mut layer, &self.metrics);
        }
    }

    /// How the pool knows a peer.
    pub(super) const fn peer_ref(&self, Key { slot, generation }: Key) -> PeerRef {
        PeerRef {
            shard: self.shard,
            slot,
            generation,
        }
    }
}
