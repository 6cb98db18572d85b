//! Memory stays within the settings, and everything is given back.

use tidegate::metrics::Counter;

use crate::plan::Plan;
use crate::server::Server;

/// Looks at every shard, after any step.
pub(crate) fn check_bounds(server: &Server, plan: &Plan) {
    for shard in &server.shards {
        let at_most = |counter: Counter, most: usize| {
            let value = shard.count(counter);
            assert!(
                value <= most as u64,
                "{counter:?} is {value}, more than {most}"
            );
        };
        at_most(Counter::Sessions, plan.sessions_max);
        at_most(Counter::HandshakesOpen, plan.handshakes_max);
        at_most(Counter::PeersCoap, plan.plain_peers_max);
        let in_work = shard.endpoint().requests_in_work();
        assert!(in_work <= plan.requests_max, "{in_work} requests in work");
        let lookups = shard.endpoint().lookups_in_work();
        assert!(lookups <= plan.lookups_max, "{lookups} look-ups in work");
        assert!(shard.queued() <= plan.queue_capacity);
        assert!(shard.inbox.len() <= in_work, "verdicts without a permit");
        assert_eq!(shard.inbox.overflows(), 0, "a verdict was lost");
        // The shard contains its panics; here they are found.
        let panics = shard.count(Counter::Panics);
        assert_eq!(panics, shard.amnesias(), "a shard panicked: see above");
    }
}

/// Looks at every shard once all have been silent for longer than anything is kept.
pub(crate) fn check_end(server: &Server) {
    for shard in &server.shards {
        for gauge in [
            Counter::Sessions,
            Counter::HandshakesOpen,
            Counter::PeersCoap,
            Counter::RequestsInWork,
        ] {
            assert_eq!(shard.count(gauge), 0, "{gauge:?} does not return to zero");
        }
        assert_eq!(shard.endpoint().requests_in_work(), 0);
        assert_eq!(shard.endpoint().lookups_in_work(), 0);
        let requests = shard.count(Counter::RequestsCoap) + shard.count(Counter::RequestsCoaps);
        // Each was handed to the pool, or refused by its queue, or found no permit.
        let answered = shard.count(Counter::Verdicts);
        let without_permit = shard.count(Counter::QueueFull);
        assert!(
            (answered..=answered + without_permit).contains(&requests),
            "of {requests} requests {answered} had verdicts, and {without_permit} met a full queue"
        );
    }
}
