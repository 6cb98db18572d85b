//! The pool's answers on their way back to the peers that asked.

use super::peer::{Peer, Transmission, coap_output, coap_settings};
use super::{Endpoint, Outbox};
use crate::auth::request::{PeerRef, RelationId, Request, Response, Verdict};
use crate::coap;
use crate::drop_reason::DropReason;
use crate::metrics::{Counter, Latency, ShardMetrics};
use crate::slab::Key;
use crate::time::Now;

/// Response code 5.03 Service Unavailable.
pub(super) const SERVICE_UNAVAILABLE: u8 = 0xa3;
/// Seconds that an overloaded server asks a device to wait (Max-Age of a 5.03, RFC 7252 section 5.9.3.4).
const RETRY_AFTER_S: u32 = 5;

impl Endpoint {
    /// Takes the pool's answer to a request of this shard; returns the permit that the request held.
    pub fn handle_verdict(&mut self, now: Now, verdict: Verdict, out: &mut Outbox) {
        // First, so that no panic keeps the permit.
        self.requests_in_work = self.requests_in_work.saturating_sub(1);
        self.buffers.put(verdict.buffer);
        self.metrics.increment(Counter::Verdicts);
        self.metrics
            .set(Counter::RequestsInWork, self.requests_in_work as u64);
        let Verdict {
            peer: peer_ref,
            exchange,
            response,
            ..
        } = verdict;
        let relation = response.relation;
        let PeerRef {
            slot, generation, ..
        } = peer_ref;
        let key = Key { slot, generation };
        let Some(Peer {
            address,
            local,
            association,
            coap: Some(layer),
            path,
            is_proven,
            ..
        }) = self.peers.get_mut(key)
        else {
            self.on_stale_verdict(peer_ref, relation);
            return;
        };
        count_response(&self.metrics, response.code);
        *is_proven |= response.code >> 5 == 2 && !response.is_public;
        if let Some(arrival) = layer.arrival_of(exchange, &self.settings.coap) {
            let time = now.instant.saturating_duration_since(arrival);
            self.metrics.record(Latency::Request, time);
        }
        let settings = coap_settings(&self.settings.coap, association.as_ref());
        let way = ((*address).into(), *local, path);
        let mut send = coap_output(way, Transmission::First, association, out, &self.metrics);
        let mut context = coap::Context {
            settings: &settings,
            random: &mut *self.random,
            out: &mut send,
            buffers: &mut self.buffers,
        };
        let answered = layer.respond(now.instant, exchange, &response, &mut context);
        drop(send);
        self.relation_events.collect(peer_ref, layer, &self.metrics);
        let begins = layer.list_bodies();
        match answered {
            Err(DropReason::VerdictStale) => self.on_stale_verdict(peer_ref, relation),
            Err(reason) => self.metrics.count_drop(reason),
            Ok(()) => {}
        }
        self.bound_bodies(key, begins);
        self.rearm(now, key);
    }

    /// Nobody waits for a verdict; a relation that it would have opened is over.
    fn on_stale_verdict(&mut self, peer: PeerRef, relation: Option<RelationId>) {
        self.metrics.count_drop(DropReason::VerdictStale);
        if let Some(relation) = relation {
            self.relation_events.refuse(peer, relation, &self.metrics);
        }
    }

    /// The queue to the pool was full: answers 5.03 in its stead.
    pub fn handle_refusal(&mut self, now: Now, request: Request, out: &mut Outbox) {
        self.metrics.increment(Counter::QueueFull);
        self.handle_verdict(now, request.into_verdict(overloaded()), out);
    }
}

pub(super) fn count_response(metrics: &ShardMetrics, code: u8) {
    metrics.increment(match code >> 5 {
        2 => Counter::ResponsesSuccess,
        4 => Counter::ResponsesClientError,
        _ => Counter::ResponsesServerError,
    });
}

/// 5.03 with the time to wait.
pub(super) fn overloaded() -> Response {
    Response {
        max_age: Some(RETRY_AFTER_S),
        ..Response::empty(SERVICE_UNAVAILABLE)
    }
}
