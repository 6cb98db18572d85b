//! A peer of a shard and the upkeep of its places: slot, indices, timer.

use std::borrow::Cow;
use std::net::SocketAddr;

use super::connection_id::index_keys;
use super::hot::Heat;
use super::path::{Path, allowance};
use super::peer_address::PackedAddress;
use super::{Endpoint, Local, Outbox, PeerKey, Port};
use crate::auth::request::Identity;
use crate::coap::{self, MessageLayer};
use crate::drop_reason::DropReason;
use crate::dtls::{self, Association, PeerIdentity};
use crate::metrics::{Counter, Latency, ShardMetrics};
use crate::slab::Key;
use crate::time::{Duration, Instant, Now};

/// One peer: an address and a socket, with what DTLS and CoAP keep for it.
pub(super) struct Peer {
    pub(super) address: PackedAddress,
    pub(super) local: Local,
    /// The DTLS association; `None` for a plain peer.
    pub(super) association: Option<Association>,
    /// The CoAP message layer, while it has something to remember.
    pub(super) coap: Option<Box<MessageLayer>>,
    /// What limits the bytes to `address` while it is not confirmed.
    pub(super) path: Option<Box<Path>>,
    /// When a record of the peer was last authentic (DTLS) or a message arrived (plain).
    pub(super) last_activity: Instant,
    /// When it came, or its session was established, in seconds of the monotonic clock.
    since_s: u32,
    /// Datagrams of its handshake that wait to be handled.
    pub(super) waiting: u8,
    /// Whether a request of its session was answered 2.xx, other than what anybody may ask.
    pub(super) is_proven: bool,
    /// Whether its handshake is counted among the half-open ones.
    pub(super) is_half_open: bool,
    /// Whether it was silent for a while before its last message.
    pub(super) is_slow: bool,
    /// When the timer wheel will call; never later than what is due next.
    armed_at: Instant,
}

/// Of this, a session takes nothing else while it is idle, but for its places in the indices and in
/// the timer wheel.
const _: () = assert!(size_of::<Peer>() <= 248);

/// The timer wheel will not call.
const NOT_ARMED: Instant = Instant::from_micros(u64::MAX);

/// Whether a CoAP message goes out for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transmission {
    First,
    MayBeAgain,
}

/// Sends CoAP messages to a peer, sealed when it has an association, and no more than its address
/// may get.
pub(super) fn coap_output<'a>(
    (to, local, path): (SocketAddr, Local, &'a mut Option<Box<Path>>),
    transmission: Transmission,
    association: &'a mut Option<Association>,
    out: &'a mut Outbox,
    metrics: &'a ShardMetrics,
) -> impl FnMut(&[u8]) + 'a {
    move |message| match association {
        None => out.push(to, local, message),
        Some(association) => {
            let (prefix, suffix) = association.record_overhead();
            let length = prefix + message.len() + suffix;
            if path.as_ref().is_some_and(|path| path.allowance() < length) {
                metrics.count_drop(DropReason::PathLimit);
                return;
            }
            let sealed = out.push_with(to, local, length, |record| {
                record[prefix..prefix + message.len()].copy_from_slice(message);
                association.seal_application_data(record)
            });
            if sealed.is_err() {
                metrics.count_drop(DropReason::SendFailed);
            } else if let Some(path) = path {
                path.on_sent(length);
                if transmission == Transmission::First {
                    path.on_message(message);
                }
            }
        }
    }
}

/// The message layer's settings for a peer, whose records may hold less than a message
/// (max_fragment_length, record_size_limit).
pub(super) fn coap_settings<'a>(
    settings: &'a coap::Settings,
    association: Option<&Association>,
) -> Cow<'a, coap::Settings> {
    match association.map(Association::plaintext_max) {
        Some(message_size_max) if message_size_max < settings.message_size_max => {
            Cow::Owned(coap::Settings {
                message_size_max,
                ..settings.clone()
            })
        }
        _ => Cow::Borrowed(settings),
    }
}

/// Who a session has proven to be, as the authenticator knows it.
pub(super) const fn request_identity(identity: PeerIdentity) -> Identity {
    match identity {
        PeerIdentity::Anonymous => Identity::Anonymous,
        PeerIdentity::Certificate(fingerprint) => Identity::Certificate(fingerprint),
        PeerIdentity::PreSharedKey(identity) => Identity::PreSharedKey(identity),
    }
}

impl Peer {
    /// What the peer can be listed under.
    pub(super) fn place(&self) -> PeerKey {
        PeerKey {
            address: self.address.into(),
            local: self.local,
        }
    }

    /// Looks at the peer's own memory, a field in each line or so; what comes out means nothing.
    pub(super) fn touch(&self) -> u64 {
        let association = self.association.as_ref().map_or(0, Association::touch);
        let armed_at = self.armed_at.as_micros();
        association ^ armed_at ^ u64::from(self.since_s) ^ u64::from(self.waiting)
    }

    /// Looks at what the peer's memory refers to.
    pub(super) fn touch_parts(&self) -> u64 {
        let association = self.association.as_ref();
        let layer = self.coap.as_ref().map_or(0, |layer| layer.touch());
        layer ^ association.map_or(0, Association::touch_keys)
    }

    /// Something of the peer was authentic; it is slow when it was silent for `pause` before.
    pub(super) fn on_heard(&mut self, now: Now, pause: Duration) {
        let silence = now.instant.saturating_duration_since(self.last_activity);
        self.is_slow = silence >= pause;
        self.last_activity = now.instant;
    }

    fn next_timeout(&self) -> Option<Instant> {
        let association = self
            .association
            .as_ref()
            .and_then(Association::next_timeout);
        let coap = self.coap.as_ref().and_then(|layer| layer.next_timeout());
        let path = self.path.as_ref().and_then(|path| path.next_timeout());
        association.into_iter().chain(coap).chain(path).min()
    }

    /// When it came, or its session was established; to a second.
    pub(super) fn since(&self) -> Instant {
        Instant::from_micros(u64::from(self.since_s) * 1_000_000)
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.association
            .as_ref()
            .is_some_and(Association::is_handshaking)
    }
}

impl Endpoint {
    /// Makes a peer of an association whose cookie was valid; the budgets were looked at before.
    pub(super) fn insert_secure(
        &mut self,
        now: Now,
        key: PeerKey,
        association: Association,
    ) -> Option<Key> {
        let peer = self.insert(key, Some(association), now)?;
        self.rearm(now, peer);
        Some(peer)
    }

    pub(super) fn insert(
        &mut self,
        key: PeerKey,
        association: Option<Association>,
        now: Now,
    ) -> Option<Key> {
        let peer = Peer {
            address: key.address.into(),
            local: key.local,
            association,
            coap: None,
            path: None,
            last_activity: now.instant,
            since_s: seconds(now.instant),
            waiting: 0,
            is_proven: false,
            is_half_open: false,
            is_slow: false,
            armed_at: NOT_ARMED,
        };
        let secure = peer.association.is_some();
        let ids = index_keys(peer.association.as_ref());
        let peer = self.peers.insert(peer).ok()?;
        self.connection_ids.rekey(ids, peer);
        self.secure_peers += usize::from(secure);
        self.count_handshake(peer);
        self.list(&key, peer);
        self.publish_gauges();
        Some(peer)
    }

    /// Lists a peer at its address, unless another one is listed there.
    pub(super) fn list(&mut self, place: &PeerKey, key: Key) {
        if self.by_address.find(place, &self.peers).is_none() {
            self.by_address.insert(place, key.slot);
        }
    }

    /// Forgets a peer with all that was kept for it.
    pub(super) fn remove(&mut self, key: Key) {
        let Some(mut peer) = self.peers.remove(key) else {
            return;
        };
        self.end_layer(key, peer.coap.take());
        self.timers.cancel(key.slot);
        // A peer that moved may have found another one at its address, and is not listed then.
        self.by_address.remove(&peer.place(), key.slot);
        let ids = index_keys(peer.association.as_ref());
        self.connection_ids.update(key, ids, [None; 2]);
        self.half_open.on_removed(key, &peer);
        self.secure_peers -= usize::from(peer.association.is_some());
        self.publish_gauges();
    }

    /// A handshake was proven: the peer has a new session.
    pub(super) fn on_established(
        &mut self,
        now: Now,
        key: Key,
        handshake_start: Option<Instant>,
        received: &dtls::Received,
    ) -> Option<Key> {
        self.metrics.increment(match received.resumed {
            None => Counter::HandshakesCompleted,
            Some(_) => Counter::HandshakesResumed,
        });
        if let Some(start) = handshake_start {
            let time = now.instant.saturating_duration_since(start);
            self.metrics.record(Latency::Handshake, time);
        }
        self.renew(now, key)
    }

    /// A new session took the place of the peer's old one: same address, nothing else in common.
    ///
    /// The slot's generation moves on, so that an answer to a request of the old session is stale.
    pub(super) fn renew(&mut self, now: Now, key: Key) -> Option<Key> {
        let mut peer = self.peers.remove(key)?;
        self.timers.cancel(key.slot);
        let place = peer.place();
        self.by_address.remove(&place, key.slot);
        self.end_layer(key, peer.coap.take());
        // Its path stays: a handshake begins where its cookie went, but its Finished can come from elsewhere,
        // under a connection id.
        peer.waiting = 0;
        peer.is_proven = false;
        peer.armed_at = NOT_ARMED;
        peer.last_activity = now.instant;
        peer.since_s = seconds(now.instant);
        let ids = index_keys(peer.association.as_ref());
        let renewed = self.peers.insert(peer).ok()?;
        self.list(&place, renewed);
        self.connection_ids.rekey(ids, renewed);
        Some(renewed)
    }

    /// Arms the wheel for what the peer is due next, unless it calls earlier anyway.
    ///
    /// A timer that turned out too early costs a look at the peer. Of a busy peer that is one in many
    /// requests, and moving it for each would cost more. Of one that is heard now and then it is one for
    /// each, at a time when nothing of the peer is in the cache: there it is moved.
    pub(super) fn rearm(&mut self, now: Now, key: Key) {
        let sweep = self.sweep_at;
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let idle = match peer.association {
            // Swept with the others of its period, so that a sweep's work comes at one time.
            Some(_) => idle_deadline(
                peer.last_activity + self.settings.session_inactivity_timeout,
                sweep,
                self.settings.session_report_timeout,
            ),
            // A plain peer lives as long as its message layer has something to remember.
            None => now.instant + PLAIN_PEER_CHECK,
        };
        let due = peer.next_timeout().map_or(idle, |due| due.min(idle));
        if due < peer.armed_at || (peer.is_slow && due > peer.armed_at) {
            peer.armed_at = due;
            self.timers.schedule(key.slot, due);
        }
    }

    /// Notes that a session was heard, and keeps its keys expanded if it is a busy one.
    pub(super) fn keep_hot(&mut self, key: Key) {
        let Heat::Hot(before) = self.hot.note(key) else {
            return;
        };
        let cold = before.and_then(|key| self.peers.get_mut(key));
        if let Some(association) = cold.and_then(|peer| peer.association.as_mut()) {
            association.forget_expanded_keys();
        }
        let heard = self.peers.get_mut(key);
        if let Some(association) = heard.and_then(|peer| peer.association.as_mut()) {
            association.keep_expanded_keys();
        }
    }

    /// Does what is due for one peer.
    pub(super) fn handle_peer_timeout(&mut self, now: Now, key: Key, out: &mut Outbox) {
        self.handle_path_timeout(now, key, out);
        let ids = self.index_keys_of(key);
        let peer_ref = self.peer_ref(key);
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        peer.armed_at = NOT_ARMED;
        let was_half_open = peer.is_half_open;
        let Peer {
            address,
            local,
            association,
            coap,
            path,
            last_activity,
            ..
        } = peer;
        let mut alive = true;
        let config = self.settings.dtls.load();
        if let (Some(association), Some(config)) = (association.as_mut(), config.as_ref()) {
            let mut sink = out.limited((*address).into(), *local, allowance(path));
            let mut drops = |reason| self.metrics.count_drop(reason);
            let mut context = dtls::Context {
                config,
                cookies: &self.settings.cookies,
                sessions: &self.settings.sessions,
                revocations: &*self.settings.revocations,
                connection_ids: &self.connection_ids,
                admit_handshakes: false,
                random: &mut *self.random,
                out: &mut sink,
                drops: &mut drops,
            };
            alive = association.handle_timeout(now, &mut context);
            if was_half_open && !association.is_handshaking() {
                self.metrics.increment(Counter::HandshakesTimedOut);
            }
            let idle = now.instant.saturating_duration_since(*last_activity);
            if alive
                && idle >= self.settings.session_inactivity_timeout
                && now.instant >= self.sweep_at
            {
                association.close(&mut context);
                self.idle_dropped += 1;
                self.metrics.increment(Counter::SessionsExpired);
                alive = false;
            }
            if association.is_handshaking() && sink.sent() > 0 {
                self.metrics.increment(Counter::RetransmissionsDtls);
            }
            if let Some(path) = path {
                path.on_sent(sink.sent());
            }
            for _ in 0..sink.refused() {
                self.metrics.count_drop(DropReason::PathLimit);
            }
        }
        if let Some(layer) = coap {
            let settings = coap_settings(&self.settings.coap, association.as_ref());
            let way = ((*address).into(), *local, path);
            let again = Transmission::MayBeAgain;
            let mut send = coap_output(way, again, association, out, &self.metrics);
            let mut context = coap::Context {
                settings: &settings,
                random: &mut *self.random,
                out: &mut send,
                buffers: &mut self.buffers,
            };
            let timeouts = layer.handle_timeout(now.instant, &mut context);
            self.metrics
                .add(Counter::RetransmissionsCoap, timeouts.retransmitted.into());
            self.metrics
                .add(Counter::EmptyAcknowledgements, timeouts.acknowledged.into());
            drop(send);
            self.relation_events.collect(peer_ref, layer, &self.metrics);
            if layer.is_idle(now.instant)
                && let Some(layer) = coap.take()
            {
                self.spare_layers.put(layer);
            }
        }
        if local.port == Port::Plain && coap.is_none() {
            alive = false;
        }
        self.count_handshake(key);
        self.reindex(key, ids);
        if alive {
            self.rearm(now, key);
        } else {
            self.remove(key);
        }
    }
}

/// Whole seconds of the monotonic clock: enough for 136 years, and half the bytes.
fn seconds(at: Instant) -> u32 {
    u32::try_from(at.as_micros() / 1_000_000).unwrap_or(u32::MAX)
}

/// How often a plain peer's message layer is looked at for being forgotten.
const PLAIN_PEER_CHECK: Duration = Duration::from_secs(60);

/// The first sweep at or after `due`; sweeps are at `sweep_at` and every `period` from there.
pub(super) fn idle_deadline(due: Instant, sweep_at: Instant, period: Duration) -> Instant {
    let behind = due.saturating_duration_since(sweep_at);
    let periods = behind.as_micros().div_ceil(period.as_micros().max(1));
    let delay = periods.saturating_mul(period.as_micros());
    sweep_at + Duration::from_micros(u64::try_from(delay).unwrap_or(u64::MAX))
}
