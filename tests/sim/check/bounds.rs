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
        let in_work = shard.endpoint.requests_in_work();
        assert!(in_work <= plan.requests_max, "{in_work} requests in work");
        let lookups = shard.endpoint.lookups_in_work();
        assert!(lookups <= plan.lookups_max, "{lookups} look-ups in work");
        assert!(shard.queued() <= plan.queue_capacity);
        assert!(shard.inbox.len() <= in_work, "verdicts without a permit");
        assert_eq!(shard.inbox.overflows(), 0, "a verdict was lost");
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
        assert_eq!(shard.endpoint.requests_in_work(), 0);
        assert_eq!(shard.endpoint.lookups_in_work(), 0);
        assert_eq!(
            shard.count(Counter::Verdicts),
            shard.submitted(),
            "verdicts and requests do not add up"
        );
    }
}
