//! One shard's brain: peers, their DTLS associations and CoAP message layers, without any I/O.
//!
//! ```text
//! handle_datagram -> dtls -> coap -> Outbox.requests   ==> authenticator pool
//! handle_verdict  -> coap -> dtls -> Outbox.transmits  ==> socket
//! handle_timeout  -> whatever is due
//! ```
//!
//! Every input takes the time and an [`Outbox`] that the shard lends. Nothing is stored for a DTLS
//! peer before its cookie was valid; a plain CoAP peer takes a place in a bounded ring whose oldest
//! member makes room. No step visits idle peers: each has at most one entry in the timer wheel.

mod address_index;
mod addresses;
mod bodies;
mod connection_id;
mod credentials;
mod foresight;
mod goodbye;
mod half_open;
mod hot;
mod inspection;
mod local;
mod observe;
mod outbox;
mod path;
mod peer;
mod peer_address;
mod plain;
mod revocation;
mod settings;
mod slot_index;
mod spare_layers;
#[cfg(test)]
mod tests;
mod unproven;
mod verdict;
mod waiting;

use std::net::SocketAddr;
use std::sync::Arc;

use address_index::AddressIndex;
use addresses::AddressLimits;
use bodies::Bodies;
use connection_id::{ConnectionIds, Owner};
pub use foresight::AHEAD;
use foresight::Foresight;
use half_open::HalfOpen;
pub use hot::HOT_SESSIONS;
use hot::HotSessions;
pub use inspection::{Inspection, SESSIONS_MAX, SessionInfo, SessionPart};
pub use local::{Local, LocalAddress, Port};
use observe::RelationEvents;
pub use outbox::{Handover, Note, Outbox, PeerSink, Transmit};
use path::{AMPLIFICATION_MAX, Arrival};
use peer::{Peer, Transmission, coap_output, coap_settings};
use peer_address::{AddressBytes, canonical};
use plain::PlainPeers;
pub use settings::EndpointSettings;
use spare_layers::SpareLayers;
use verdict::{SERVICE_UNAVAILABLE, count_response, overloaded};
pub use waiting::WaitingDatagram;
use waiting::WaitingHandshakes;

use crate::auth::request::{Identity, Request};
use crate::buffer::SpareBuffers;
use crate::coap::{self, Input, MessageLayer};
use crate::drop_reason::DropReason;
use crate::dtls;
use crate::metrics::{Counter, ShardMetrics};
use crate::random::Random;
use crate::slab::{Key, Slab};
use crate::time::{Duration, Instant, Now};
use crate::timer_wheel::{Step, TimerWheel};

/// Key of a peer: where its datagrams come from, and where of ours they arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct PeerKey {
    address: SocketAddr,
    local: Local,
}

/// The state machine of one shard.
pub struct Endpoint {
    shard: u16,
    settings: Arc<EndpointSettings>,
    metrics: Arc<ShardMetrics>,
    random: Box<dyn Random>,
    peers: Slab<Peer>,
    by_address: AddressIndex,
    foresight: Foresight,
    /// Who the sender of the datagram in work may be.
    guess: Option<Key>,
    connection_ids: ConnectionIds,
    hot: HotSessions,
    /// The peer of the datagram in work, should that cause a panic.
    in_hand: Option<Key>,
    plain_peers: PlainPeers,
    timers: TimerWheel,
    secure_peers: usize,
    /// When it may be told again that there is no room for more.
    full_note_due: Instant,
    half_open: HalfOpen,
    requests_in_work: usize,
    lookups_in_work: usize,
    relation_events: RelationEvents,
    /// Memory of requests that were answered.
    buffers: SpareBuffers,
    spare_layers: SpareLayers,
    bodies: Bodies,
    revocation_search: Option<revocation::Search>,
    waiting: WaitingHandshakes,
    /// When a session, or a plain peer that proved who it is, last sent data.
    last_data: Instant,
    /// Sessions dropped as idle since the last report, and when the sweep that counts them ends.
    idle_dropped: u64,
    sweep_at: Instant,
}

impl Endpoint {
    /// An endpoint without peers.
    ///
    /// `random` decides message ids, server randoms and jitter; `now` starts the sweep's period.
    pub fn new(
        shard: u16,
        settings: Arc<EndpointSettings>,
        metrics: Arc<ShardMetrics>,
        mut random: Box<dyn Random>,
        now: Now,
    ) -> Self {
        // The first sweep comes at a random point of the period (as ThingsBoard's does), so that
        // shards do not sweep at once.
        let period = settings.session_report_timeout;
        let first = random.below(u64::try_from(period.as_micros()).unwrap_or(u64::MAX).max(1));
        Self {
            shard,
            peers: Slab::new(
                u32::try_from(settings.sessions_max + settings.plain_peers_max).unwrap_or(u32::MAX),
            ),
            by_address: AddressIndex::new(),
            foresight: Foresight::default(),
            guess: None,
            hot: HotSessions::new(settings.hot_sessions),
            connection_ids: ConnectionIds::new(
                shard,
                settings.shards,
                settings.node_id,
                Arc::clone(&metrics),
                &mut *random,
            ),
            in_hand: None,
            plain_peers: PlainPeers::default(),
            timers: TimerWheel::new(now.instant),
            secure_peers: 0,
            full_note_due: Instant::ZERO,
            half_open: HalfOpen::default(),
            requests_in_work: 0,
            lookups_in_work: 0,
            relation_events: RelationEvents::default(),
            buffers: SpareBuffers::default(),
            spare_layers: SpareLayers::default(),
            bodies: Bodies::default(),
            revocation_search: None,
            waiting: WaitingHandshakes::new(AddressLimits::new(settings.handshakes_per_address)),
            last_data: Instant::ZERO,
            idle_dropped: 0,
            sweep_at: now.instant + Duration::from_micros(first),
            settings,
            metrics,
            random,
        }
    }

    /// Takes one datagram, which is decrypted in place, and writes what follows from it to `out`.
    pub fn handle_datagram(
        &mut self,
        now: Now,
        from: SocketAddr,
        local: impl Into<Local>,
        datagram: &mut [u8],
        out: &mut Outbox,
    ) {
        let local = local.into();
        let key = PeerKey {
            address: canonical(from),
            local,
        };
        self.in_hand = None;
        self.guess = self.foresight.take(&key);
        match local.port {
            Port::Plain => self.handle_plain(now, key, datagram, out),
            Port::Secure => self.handle_secure(now, key, datagram, out),
        }
    }

    fn handle_plain(&mut self, now: Now, key: PeerKey, datagram: &[u8], out: &mut Outbox) {
        let guess = self.guess.take();
        let peer = match self.find_guessed(&key, guess) {
            Some(peer) => peer,
            None => {
                // A peer is worth a slot only if it speaks CoAP at all.
                if let Err(reason) = coap::check_header(datagram) {
                    self.metrics.count_drop(reason);
                    return;
                }
                let Some(peer) = self.insert_plain(key, now) else {
                    self.metrics.count_drop(DropReason::SessionBudget);
                    return;
                };
                peer
            }
        };
        self.handle_message(now, peer, Identity::Anonymous, datagram, out);
        self.rearm(now, peer);
    }

    /// Hands a datagram of the secure port to its association, or to the door. `is_admitted` when it
    /// came with a cookie of its address, which receives then.
    fn handle_records(
        &mut self,
        now: Now,
        key: PeerKey,
        is_admitted: bool,
        datagram: &mut [u8],
        out: &mut Outbox,
    ) {
        if is_admitted {
            self.make_room_for_handshake(now);
            self.unlist_unconfirmed(&key);
            if self.by_address.find(&key, &self.peers).is_none() {
                self.make_room_for_session(now, out);
            }
        }
        let address = AddressBytes::new(key.address);
        let guess = self.guess.take();
        let config = self.settings.dtls.load();
        let Some(config) = config.as_ref() else {
            return;
        };
        let length = config.connection_id_length.unwrap_or(0);
        let known = match dtls::cid_of(datagram, length) {
            None => self.find_guessed(&key, guess),
            Some(id) => match self.connection_ids.owner_of(id) {
                Owner::Peer(slot) => match self.peers.key_of(slot) {
                    Some(peer) => Some(peer),
                    None => return self.metrics.count_drop(DropReason::ConnectionIdUnknown),
                },
                Owner::Shard(shard) => {
                    out.handovers.push(Handover {
                        shard,
                        from: key.address,
                        local: key.local,
                        datagram: Box::from(&*datagram),
                    });
                    return;
                }
                Owner::Nobody(reason) => return self.metrics.count_drop(reason),
            },
        };
        self.in_hand = known;
        let received_len = datagram.len();
        let peer = known.and_then(|known| self.peers.get(known));
        let is_handshaking = peer.is_some_and(Peer::is_handshaking);
        // To where nobody has shown to receive goes three times what came (RFC 9853 section 5).
        let allowance = match peer {
            None => usize::MAX,
            Some(peer) if SocketAddr::from(peer.address) != key.address => {
                received_len * AMPLIFICATION_MAX
            }
            Some(_) if is_admitted => usize::MAX,
            Some(peer) => peer.path.as_ref().map_or(usize::MAX, |path| {
                path.allowance() + received_len * AMPLIFICATION_MAX
            }),
        };
        let mut drops = |reason| self.metrics.count_drop(reason);
        let mut sink = out.limited(key.address, key.local, allowance);
        let mut context = dtls::Context {
            config,
            cookies: &self.settings.cookies,
            sessions: &self.settings.sessions,
            revocations: &*self.settings.revocations,
            connection_ids: &self.connection_ids,
            // A known peer's new session takes the place of its old one, and its new handshake that of
            // one that runs.
            admit_handshakes: (is_handshaking
                || self.half_open.has_room(self.settings.handshakes_max))
                && (known.is_some() || self.secure_peers < self.settings.sessions_max),
            random: &mut *self.random,
            out: &mut sink,
            drops: &mut drops,
        };
        let Some(known) = known else {
            match dtls::accept(now, address.as_slice(), datagram, &mut context) {
                dtls::Accepted::Nothing => {}
                dtls::Accepted::Refused(error) => self.note_failure(key, error, out),
                dtls::Accepted::New(association) => {
                    if let Some(peer) = self.insert_secure(now, key, association) {
                        self.ask_credential(peer, out);
                        self.keep_handshake_memory(peer);
                    }
                }
            }
            return;
        };
        let Some(peer) = self.peers.get_mut(known) else {
            return;
        };
        let Some(association) = peer.association.as_mut() else {
            return;
        };
        let was_established = association.is_established();
        let handshake_start = association.handshake_start();
        let ids = connection_id::index_keys(Some(association));
        let received = association.handle_datagram(now, address.as_slice(), datagram, &mut context);
        let (sent, refused) = (sink.sent(), sink.refused());
        for _ in 0..refused {
            self.metrics.count_drop(DropReason::PathLimit);
        }
        let ended = was_established && !association.is_established();
        if !received.plaintexts.is_empty() || received.established {
            peer.on_heard(now, self.settings.coap.piggyback_timeout);
        }
        if !received.plaintexts.is_empty() {
            self.last_data = now.instant;
        }
        match received.failure {
            Some(error) if ended => {
                out.note(Note::Failed(key.address, error));
            }
            Some(error) => self.note_failure(key, error, out),
            None => {}
        }
        if ended || (was_established && received.established) {
            self.count_session_end(&received);
        }
        if let Some(alert) = received.peer_alert {
            self.metrics.increment(Counter::AlertsReceived);
            out.note(Note::Alert(key.address, alert));
        }
        self.count_handshake(known);
        self.reindex(known, ids);
        if received.newest {
            let arrival = Arrival {
                from: key,
                received: received_len,
                sent,
                path_response: received.path_response.as_ref(),
            };
            self.on_newest(now, known, &arrival, out);
        }
        let mut current = known;
        if received.established {
            let Some(renewed) = self.on_established(now, known, handshake_start, &received) else {
                return;
            };
            current = renewed;
            self.in_hand = Some(renewed);
        }
        for range in &received.plaintexts {
            if let Some(message) = datagram.get(range.clone()) {
                self.on_message_from(current, key.address, message);
                let sender = peer::request_identity(received.sender);
                self.handle_message(now, current, sender, message, out);
            }
        }
        if received.closed {
            self.remove(current);
        } else {
            self.ask_credential(current, out);
            self.rearm(now, current);
            if !received.plaintexts.is_empty() {
                self.keep_hot(current);
            }
            self.keep_handshake_memory(current);
        }
    }

    fn note_failure(&self, key: PeerKey, error: dtls::Error, out: &mut Outbox) {
        self.metrics.increment(match error {
            dtls::Error::PeerAlert(_) => Counter::HandshakesAborted,
            dtls::Error::TimedOut => Counter::HandshakesTimedOut,
            _ => Counter::HandshakesRefused,
        });
        out.note(Note::Failed(key.address, error));
    }

    /// Hands one CoAP message to the peer's message layer.
    fn handle_message(
        &mut self,
        now: Now,
        key: Key,
        identity: Identity,
        message: &[u8],
        out: &mut Outbox,
    ) {
        let peer_ref = self.peer_ref(key);
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let secure = peer.association.is_some();
        if !secure {
            peer.on_heard(now, self.settings.coap.piggyback_timeout);
            if peer.is_proven {
                self.last_data = now.instant;
            }
        }
        let Peer {
            address,
            local,
            association,
            coap,
            path,
            ..
        } = peer;
        let settings = coap_settings(&self.settings.coap, association.as_ref());
        let layer = coap.get_or_insert_with(|| {
            self.spare_layers.take(match settings.echo && !secure {
                true => MessageLayer::unproven(&mut *self.random),
                false => MessageLayer::new(&mut *self.random),
            })
        });
        let mut request = None;
        let way = ((*address).into(), *local, path);
        let again = Transmission::MayBeAgain;
        let mut send = coap_output(way, again, association, out, &self.metrics);
        let mut context = coap::Context {
            settings: &settings,
            random: &mut *self.random,
            out: &mut send,
            buffers: &mut self.buffers,
        };
        match layer.handle_message(now.instant, message, &mut context) {
            Input::Nothing => {}
            Input::Dropped(reason) => self.metrics.count_drop(reason),
            Input::Answered(code) => count_response(&self.metrics, code),
            Input::Request { exchange, message } => {
                self.metrics.increment(match local.port {
                    Port::Plain => Counter::RequestsCoap,
                    Port::Secure => Counter::RequestsCoaps,
                });
                if self.requests_in_work < self.settings.requests_max {
                    request = Some(Request {
                        peer: peer_ref,
                        exchange,
                        identity,
                        secure,
                        received_unix_ms: now.unix_ms,
                        message,
                    });
                } else {
                    self.metrics.increment(Counter::QueueFull);
                    context.buffers.put(message.into_buffer());
                    let refusal = overloaded();
                    match layer.respond(now.instant, exchange, &refusal, &mut context) {
                        Ok(()) => count_response(&self.metrics, SERVICE_UNAVAILABLE),
                        Err(reason) => self.metrics.count_drop(reason),
                    }
                }
            }
        }
        drop(send);
        self.relation_events.collect(peer_ref, layer, &self.metrics);
        if let Some(request) = request {
            // The permit is taken with the request in the outbox, which a panic leaves there: its verdict
            // returns it, whoever is there to hear that.
            out.requests.push(request);
            self.requests_in_work += 1;
            self.metrics
                .set(Counter::RequestsInWork, self.requests_in_work as u64);
        }
        let begins = layer.list_bodies();
        self.bound_bodies(key, begins);
    }

    /// Does a bounded part of what is due; call again while
    /// [`Self::next_timeout`] is in the past. Returns the report of a sweep that ended.
    pub fn handle_timeout(&mut self, now: Now, out: &mut Outbox) -> Option<SweepReport> {
        for _ in 0..TIMEOUTS_PER_STEP {
            let slot = match self.timers.step(now.instant) {
                Step::Fired(slot) => slot,
                Step::Moved => continue,
                Step::Idle => return self.end_sweep(now),
            };
            if let Some(key) = self.peers.key_of(slot) {
                self.handle_peer_timeout(now, key, out);
            }
        }
        None
    }

    fn end_sweep(&mut self, now: Now) -> Option<SweepReport> {
        if now.instant < self.sweep_at + SWEEP_GRACE {
            return None;
        }
        let period = self.settings.session_report_timeout;
        self.sweep_at = peer::idle_deadline(
            now.instant + Duration::from_micros(1),
            self.sweep_at,
            period,
        );
        Some(SweepReport {
            dropped: std::mem::take(&mut self.idle_dropped),
            sessions: self.secure_peers,
        })
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn next_timeout(&self) -> Instant {
        let sweep = self.sweep_at + SWEEP_GRACE;
        self.timers
            .next_timeout()
            .map_or(sweep, |due| due.min(sweep))
    }

    /// When a session, or a plain peer that proved who it is, last sent data.
    pub const fn last_data(&self) -> Instant {
        self.last_data
    }

    /// Requests that the pool has not answered yet.
    pub fn requests_in_work(&self) -> usize {
        self.requests_in_work
    }

    /// Forgets a peer whose datagram made the endpoint panic, as far as it is known.
    pub fn forget(&mut self, from: SocketAddr, local: impl Into<Local>) {
        self.metrics.count_drop(DropReason::Panicked);
        self.metrics.increment(Counter::Panics);
        let place = PeerKey {
            address: canonical(from),
            local: local.into(),
        };
        let at_address = self.by_address.find(&place, &self.peers);
        if let Some(key) = self.in_hand.take().or(at_address) {
            self.remove(key);
        }
    }

    /// Forgets every peer, after a panic in a step that concerned many. Slots keep their generations,
    /// so that answers that are still on their way find nobody.
    pub fn forget_all(&mut self, now: Now) {
        self.metrics.increment(Counter::Panics);
        for slot in 0..self.peers.slots() {
            let Some(key) = self.peers.key_of(slot) else {
                continue;
            };
            if let Some(peer) = self.peers.remove(key) {
                self.end_layer(key, peer.coap);
            }
        }
        self.by_address.clear();
        self.waiting.clear();
        self.connection_ids.clear();
        self.plain_peers.clear();
        self.bodies.clear();
        self.timers = TimerWheel::new(now.instant);
        self.secure_peers = 0;
        self.half_open.clear();
        self.publish_gauges();
    }

    fn publish_gauges(&self) {
        let plain = self.peers.len() as usize - self.secure_peers;
        self.metrics
            .set(Counter::Sessions, self.secure_peers as u64);
        self.metrics
            .set(Counter::HandshakesOpen, self.half_open.count() as u64);
        self.metrics.set(Counter::PeersCoap, plain as u64);
    }
}

/// How long after its time a sweep ends: the timer wheel may call a tick (1 ms) late for a peer that
/// is due at the sweep itself.
const SWEEP_GRACE: Duration = Duration::from_millis(2);

/// Steps of the timer wheel, so at most that many peers looked at, in one call of [`Endpoint::handle_timeout`].
const TIMEOUTS_PER_STEP: usize = 256;

/// What a sweep over idle sessions did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepReport {
    /// Sessions dropped as idle since the sweep before.
    pub dropped: u64,
    /// Sessions left, handshakes included.
    pub sessions: usize,
}
