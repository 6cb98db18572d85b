//! Datagrams that reached a shard which does not own their connection id, on their way to its owner.
//!
//! The kernel delivers to the owner ([`super::steering`]), so this is the way of what it could not:
//! the program was refused, or the server runs where there is none. The owner answers from its own
//! socket, which has the same address.

use std::sync::Arc;

use super::steering::named_shard;
use crate::drop_reason::DropReason;
use crate::endpoint::{Handover, Port};
use crate::metrics::{Counter, ShardMetrics};
use crate::queue::Inbox;

/// The other shards, as one of them sees them.
pub(super) struct Neighbours {
    own: u16,
    inboxes: Arc<[Arc<Inbox>]>,
    connection_ids: bool,
    /// Shards to wake after a batch; its memory is used again.
    to_wake: Vec<u16>,
}

impl Neighbours {
    pub(super) fn new(own: u16, inboxes: Arc<[Arc<Inbox>]>, connection_ids: bool) -> Self {
        Self {
            own,
            inboxes,
            connection_ids,
            to_wake: Vec::new(),
        }
    }

    /// Counts whether a datagram of the socket came where its connection id belongs.
    pub(super) fn count_arrival(&self, port: Port, datagram: &[u8], metrics: &ShardMetrics) {
        if port != Port::Secure || !self.connection_ids {
            return;
        }
        match named_shard(datagram) {
            Some(shard) if shard == self.own => metrics.increment(Counter::CidDatagramsDirect),
            // A number that no shard has is nobody's.
            Some(shard) if usize::from(shard) < self.inboxes.len() => {
                metrics.increment(Counter::CidDatagramsElsewhere);
            }
            Some(_) | None => {}
        }
    }

    /// Puts a batch's datagrams into their owners' queues, and wakes each owner once.
    pub(super) fn hand_over(&mut self, handovers: &mut Vec<Handover>, metrics: &ShardMetrics) {
        for handover in handovers.drain(..) {
            let shard = handover.shard;
            let inbox = self.inboxes.get(usize::from(shard));
            let Some(inbox) = inbox.filter(|_| shard != self.own) else {
                metrics.count_drop(DropReason::HandoverAstray);
                continue;
            };
            if inbox.hand_over(handover).is_err() {
                metrics.count_drop(DropReason::HandoverQueueFull);
                continue;
            }
            metrics.increment(Counter::HandoversSent);
            if !self.to_wake.contains(&shard) {
                self.to_wake.push(shard);
            }
        }
        for shard in self.to_wake.drain(..) {
            if let Some(inbox) = self.inboxes.get(usize::from(shard)) {
                inbox.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::HANDOVERS_MAX;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn handover(shard: u16) -> Handover {
        Handover {
            shard,
            from: "127.0.0.1:7".parse().unwrap(),
            local: Port::Secure.into(),
            datagram: Box::from(*b"datagram"),
        }
    }

    fn neighbours(own: u16) -> (Neighbours, Arc<[Arc<Inbox>]>, ShardMetrics) {
        let inboxes: Arc<[_]> = (0..3).map(|_| Arc::new(Inbox::new(1))).collect();
        let neighbours = Neighbours::new(own, Arc::clone(&inboxes), true);
        (neighbours, inboxes, ShardMetrics::new())
    }

    #[test]
    fn a_batch_goes_to_its_owners_in_order_and_wakes_each_once() {
        let (mut neighbours, inboxes, metrics) = neighbours(0);
        let woken = Arc::new(AtomicU32::new(0));
        for inbox in inboxes.iter() {
            let woken = Arc::clone(&woken);
            inbox.set_waker(Box::new(move || {
                woken.fetch_add(1, Ordering::SeqCst);
            }));
            assert!(inbox.prepare_sleep());
        }
        let mut handovers = vec![handover(1), handover(2), handover(1)];
        handovers[2].datagram = Box::from(*b"second");
        neighbours.hand_over(&mut handovers, &metrics);
        assert!(handovers.is_empty());
        assert_eq!(woken.load(Ordering::SeqCst), 2);
        assert_eq!(metrics.value(Counter::HandoversSent), 3);
        assert_eq!(inboxes[1].pop_handover(), Some(handover(1)));
        assert_eq!(&*inboxes[1].pop_handover().unwrap().datagram, b"second");
        assert!(!inboxes[2].prepare_sleep(), "a datagram waits");
        assert_eq!(inboxes[2].pop_handover(), Some(handover(2)));
        assert!(inboxes[2].prepare_sleep());
    }

    #[test]
    fn what_finds_no_room_or_no_owner_is_a_counted_drop() {
        let (mut neighbours, inboxes, metrics) = neighbours(1);
        let mut handovers = vec![handover(0); HANDOVERS_MAX + 2];
        handovers.extend([handover(1), handover(3), handover(u16::MAX)]);
        neighbours.hand_over(&mut handovers, &metrics);
        assert_eq!(metrics.value(Counter::HandoversSent), HANDOVERS_MAX as u64);
        assert_eq!(metrics.drops(DropReason::HandoverQueueFull), 2);
        assert_eq!(metrics.drops(DropReason::HandoverAstray), 3);
        let waiting = std::iter::from_fn(|| inboxes[0].pop_handover()).count();
        assert_eq!(waiting, HANDOVERS_MAX);
        assert_eq!(inboxes[1].pop_handover(), None);
    }

    #[test]
    fn arrivals_are_told_apart_by_the_shard_that_they_name() {
        let (mut neighbours, _, metrics) = neighbours(1);
        let mut record = [0; 40];
        record[0] = 25;
        for (shard, port) in [
            (1, Port::Secure),
            (1, Port::Secure),
            (2, Port::Secure),
            (3, Port::Secure),
            (1, Port::Plain),
        ] {
            record[11] = shard;
            neighbours.count_arrival(port, &record, &metrics);
        }
        neighbours.connection_ids = false;
        neighbours.count_arrival(Port::Secure, &record, &metrics);
        let count = |counter| metrics.value(counter);
        assert_eq!(count(Counter::CidDatagramsDirect), 2);
        assert_eq!(count(Counter::CidDatagramsElsewhere), 1);
    }
}
