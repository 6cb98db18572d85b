//! Handshake datagrams that wait until the established peers have been served.
//!
//! ```text
//! datagram --glance--> Light ----------------------------------------> handled at once
//!                      Hello --cookie--> none: HelloVerifyRequest, no state
//!                                        valid -----.
//!                      Handshake of a running one --+--> WaitingHandshakes --when time is left--> handled
//! ```
//!
//! Public-key work takes a hundred times as long as a record, and a flood of it must not keep the
//! shard from its socket, where the records of established peers would be lost. So what may lead to
//! such work is put aside: bounded in number and bytes, what carries a handshake on before what
//! starts one (a handshake that is begun and not ended was work for nothing). What does not fit, or
//! waited too long, is dropped and counted; the client's own timer is the retry (RFC 6347 section
//! 4.2.4).

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::addresses::AddressLimits;
use super::{Endpoint, Local, Outbox, PeerKey};
use crate::drop_reason::DropReason;
use crate::dtls::{self, Admission, Glance};
use crate::metrics::Counter;
use crate::slab::Key;
use crate::time::{Duration, Instant, Now};

/// Datagrams of each kind that wait at most: some 0.4 s of work for a core.
const DATAGRAMS_MAX: usize = 4096;
/// Their bytes, both kinds together.
const BYTES_MAX: usize = 4 << 20;
/// Of these one peer may have this many: its flight 5 in pieces, once repeated.
const DATAGRAMS_PER_PEER_MAX: u8 = 16;
/// After this time the client has sent it again.
const AGE_MAX: Duration = Duration::from_secs(2);
/// From this many waiting ClientHellos on, addresses that start many handshakes stand back; the same
/// when half of the half-open handshakes that may be are there.
const CROWD: usize = 256;
/// HelloVerifyRequests in one turn while the socket does not run empty: a quarter of a batch.
const HELLO_VERIFY_REQUESTS_PER_TURN: u16 = 16;

/// One datagram that waits.
#[derive(Debug)]
pub struct WaitingDatagram {
    from: SocketAddr,
    local: Local,
    /// The peer whose handshake it carries on, if it has begun.
    peer: Option<Key>,
    bytes: Vec<u8>,
    since: Instant,
}

/// All that wait.
#[derive(Debug, Default)]
pub(super) struct WaitingHandshakes {
    running: VecDeque<WaitingDatagram>,
    new: VecDeque<WaitingDatagram>,
    bytes: usize,
    /// HelloVerifyRequests that may still be sent in this turn.
    hello_verify_requests_left: u16,
    limits: AddressLimits,
}

impl WaitingHandshakes {
    pub(super) fn new(limits: AddressLimits) -> Self {
        Self {
            hello_verify_requests_left: u16::MAX,
            limits,
            ..Self::default()
        }
    }

    fn has_room(&self, length: usize) -> bool {
        self.bytes + length <= BYTES_MAX
    }

    fn pop(&mut self) -> Option<WaitingDatagram> {
        let datagram = self.running.pop_front().or_else(|| self.new.pop_front())?;
        self.bytes -= datagram.bytes.len();
        Some(datagram)
    }

    pub(super) fn clear(&mut self) {
        self.running.clear();
        self.new.clear();
        self.bytes = 0;
    }
}

impl WaitingDatagram {
    /// Who sent it.
    pub const fn from(&self) -> SocketAddr {
        self.from
    }

    /// Where it came to.
    pub const fn local(&self) -> Local {
        self.local
    }
}

impl Endpoint {
    /// A turn begins: a batch of datagrams will come. While the socket is under `pressure`, not
    /// empty after a batch, fewer ClientHellos are answered in it.
    pub fn begin_turn(&mut self, pressure: bool) {
        self.waiting.hello_verify_requests_left = if pressure {
            HELLO_VERIFY_REQUESTS_PER_TURN
        } else {
            u16::MAX
        };
    }

    /// Takes one datagram of the secure port: what is light is handled, what may be heavy waits.
    pub(super) fn handle_secure(
        &mut self,
        now: Now,
        key: PeerKey,
        datagram: &mut [u8],
        out: &mut Outbox,
    ) {
        let config = self.settings.dtls.load();
        let cid_len = config
            .as_ref()
            .and_then(|config| config.connection_id_length);
        match dtls::glance(datagram, cid_len.unwrap_or(0)) {
            Err(reason) => self.metrics.count_drop(reason),
            Ok(Glance::Light) => self.handle_records(now, key, false, datagram, out),
            Ok(Glance::Hello) => match self.admit_hello(now, key, datagram, out) {
                Admission::Done => {}
                Admission::Running => self.wait_running(now, key, datagram),
                Admission::New => self.wait_new(now, key, datagram),
            },
            Ok(Glance::Handshake) => {
                let peer = self.by_address.find(&key, &self.peers);
                let peer = peer.and_then(|peer| self.peers.get(peer));
                if peer.is_some_and(super::peer::Peer::is_handshaking) {
                    self.wait_running(now, key, datagram);
                } else {
                    // Nothing to carry on: its records are counted, and opened if they are data.
                    self.handle_records(now, key, false, datagram, out);
                }
            }
        }
    }

    /// Checks the cookie of a ClientHello, or sends one.
    fn admit_hello(
        &mut self,
        now: Now,
        key: PeerKey,
        datagram: &[u8],
        out: &mut Outbox,
    ) -> Admission {
        let config = self.settings.dtls.load();
        let Some(config) = config.as_ref() else {
            return Admission::Done;
        };
        let address = super::AddressBytes::new(key.address);
        let peer = self.by_address.find(&key, &self.peers);
        let association = peer
            .and_then(|peer| self.peers.get(peer))
            .and_then(|peer| peer.association.as_ref());
        let sent_before = out.transmits().len();
        let mut spared = Spared;
        let is_spared = self.waiting.hello_verify_requests_left == 0;
        let mut sink;
        let mut context = dtls::Context {
            config,
            cookies: &self.settings.cookies,
            sessions: &self.settings.sessions,
            revocations: &*self.settings.revocations,
            connection_ids: &self.connection_ids,
            admit_handshakes: false,
            random: &mut *self.random,
            out: if is_spared {
                &mut spared
            } else {
                sink = out.to(key.address, key.local);
                &mut sink
            },
            drops: &mut |reason| self.metrics.count_drop(reason),
        };
        let admission = dtls::admit(now, address.as_slice(), datagram, association, &mut context);
        if admission == Admission::Done {
            if is_spared {
                self.metrics.count_drop(DropReason::HelloVerifyBudget);
            } else if out.transmits().len() > sent_before {
                self.waiting.hello_verify_requests_left -= 1;
                self.metrics.increment(Counter::HelloVerifyRequests);
            }
        }
        admission
    }

    /// Puts a datagram aside that may carry a handshake on.
    fn wait_running(&mut self, now: Now, key: PeerKey, datagram: &[u8]) {
        let waiting = &mut self.waiting;
        let known = self.by_address.find(&key, &self.peers);
        let peer = known.and_then(|known| self.peers.get_mut(known));
        let room = peer.filter(|peer| {
            peer.waiting < DATAGRAMS_PER_PEER_MAX
                && waiting.running.len() < DATAGRAMS_MAX
                && waiting.has_room(datagram.len())
        });
        let Some(peer) = room else {
            self.metrics.count_drop(DropReason::HandshakeBudget);
            return;
        };
        peer.waiting += 1;
        waiting.bytes += datagram.len();
        waiting.running.push_back(WaitingDatagram {
            from: key.address,
            local: key.local,
            peer: known,
            bytes: datagram.to_vec(),
            since: now.instant,
        });
    }

    /// Puts a ClientHello aside that would start a handshake.
    fn wait_new(&mut self, now: Now, key: PeerKey, datagram: &[u8]) {
        let waiting = &mut self.waiting;
        let is_crowded =
            waiting.new.len() >= CROWD || self.half_open.is_crowded(self.settings.handshakes_max);
        // Counted in any case, so that it is known who came often once there is a crowd.
        let is_modest = waiting.limits.count(now.instant, key.address);
        if is_crowded && !is_modest {
            self.metrics.count_drop(DropReason::AddressLimit);
            return;
        }
        if waiting.new.len() >= DATAGRAMS_MAX || !waiting.has_room(datagram.len()) {
            self.metrics.count_drop(DropReason::HandshakeBudget);
            return;
        }
        waiting.bytes += datagram.len();
        waiting.new.push_back(WaitingDatagram {
            from: key.address,
            local: key.local,
            peer: None,
            bytes: datagram.to_vec(),
            since: now.instant,
        });
    }

    /// Whether handshake datagrams wait.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.running.is_empty() || !self.waiting.new.is_empty()
    }

    /// Takes the next handshake datagram to be handled by [`Self::handle_waiting`].
    pub fn next_waiting(&mut self, now: Now) -> Option<WaitingDatagram> {
        loop {
            let datagram = self.waiting.pop()?;
            if let Some(peer) = datagram.peer.and_then(|peer| self.peers.get_mut(peer)) {
                peer.waiting = peer.waiting.saturating_sub(1);
            }
            if now.instant.saturating_duration_since(datagram.since) <= AGE_MAX {
                return Some(datagram);
            }
            self.metrics.count_drop(DropReason::HandshakeBudget);
        }
    }

    /// Handles all that wait, however long it takes: for drivers whose time does not pass meanwhile.
    pub fn handle_all_waiting(&mut self, now: Now, out: &mut Outbox) {
        while let Some(mut datagram) = self.next_waiting(now) {
            self.handle_waiting(now, &mut datagram, out);
        }
    }

    /// Handles a datagram that waited: up to a few hundred microseconds of public-key work.
    pub fn handle_waiting(&mut self, now: Now, datagram: &mut WaitingDatagram, out: &mut Outbox) {
        let key = PeerKey {
            address: datagram.from,
            local: datagram.local,
        };
        self.in_hand = None;
        self.guess = None;
        let is_admitted = datagram.peer.is_none();
        self.handle_records(now, key, is_admitted, &mut datagram.bytes, out);
    }
}

/// Sends nothing.
struct Spared;

impl crate::wire::DatagramSink for Spared {
    fn push_datagram(&mut self, _datagram: &[u8]) {}
}
