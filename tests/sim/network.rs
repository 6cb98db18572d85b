//! Datagrams on their way, and what befalls them.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use tidegate::endpoint::Port;
use tidegate::random::{Random, SeededRandom};
use tidegate::time::{Duration, Instant};

use crate::plan::{NetworkFaults, one_in};
use crate::summary::NetworkCounts;

/// Datagrams of the fleet that a listener remembers.
const OVERHEARD_MAX: usize = 48;
/// The time on the way that every datagram takes.
const DELAY: Duration = Duration::from_millis(20);
/// Bytes at either end of a datagram that are hit. What is further in differs in length from run to
/// run, as signatures do, and a run must be repeatable.
const REACH: u64 = 40;

/// Whom a datagram is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    /// The server, from this address, at that shard if not the one that the address leads to.
    Server(SocketAddr, Option<usize>),
    /// Whoever has the address.
    Device(SocketAddr),
}

/// A datagram on its way.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) to: To,
    pub(crate) port: Port,
    pub(crate) bytes: Vec<u8>,
}

/// The network between fleet and server.
pub(crate) struct Network {
    pub(crate) faults: NetworkFaults,
    pub(crate) counts: NetworkCounts,
    /// Keyed by arrival and a tie-breaker.
    in_flight: BTreeMap<(Instant, u64), Packet>,
    sent: u64,
    latest: Instant,
    overheard: VecDeque<(SocketAddr, Vec<u8>)>,
}

impl Network {
    pub(crate) fn new(faults: NetworkFaults) -> Self {
        Self {
            faults,
            counts: NetworkCounts::default(),
            in_flight: BTreeMap::new(),
            sent: 0,
            latest: Instant::ZERO,
            overheard: VecDeque::new(),
        }
    }

    /// Takes a datagram, and loses, doubles, delays, misleads or spoils it.
    pub(crate) fn send(&mut self, now: Instant, mut packet: Packet, dice: &mut SeededRandom) {
        if packet.port == Port::Secure
            && let To::Server(from, _) = packet.to
        {
            self.overheard.push_back((from, packet.bytes.clone()));
            if self.overheard.len() > OVERHEARD_MAX {
                self.overheard.pop_front();
            }
        }
        let faults = self.faults;
        if dice.below(1000) < faults.loss {
            self.counts.lost += 1;
            return;
        }
        if dice.below(1000) < faults.duplication {
            self.counts.doubled += 1;
            self.put(now, packet.clone(), dice);
        }
        if dice.below(1000) < faults.corruption {
            self.counts.corrupted += 1;
            corrupt(&mut packet, dice);
        }
        self.put(now, packet, dice);
    }

    fn put(&mut self, now: Instant, mut packet: Packet, dice: &mut SeededRandom) {
        // Without DTLS a message that two shards get is two messages.
        if packet.port == Port::Secure
            && let To::Server(_, shard) = &mut packet.to
            && dice.below(1000) < self.faults.misdelivery
        {
            self.counts.misdelivered += 1;
            *shard = Some(usize::try_from(dice.below(8)).expect("small"));
        }
        let jitter = Duration::from_micros(dice.below(self.faults.jitter_ms * 1000 + 1));
        self.sent += 1;
        let at = now + DELAY + jitter;
        self.counts.overtaken += u64::from(at < self.latest);
        self.latest = self.latest.max(at);
        self.in_flight.insert((at, self.sent), packet);
    }

    /// When the next datagram arrives.
    pub(crate) fn next_arrival(&self) -> Option<Instant> {
        self.in_flight.keys().next().map(|&(at, _)| at)
    }

    /// Takes the datagram that arrives next.
    pub(crate) fn arrive(&mut self) -> Option<Packet> {
        self.in_flight.pop_first().map(|(_, packet)| packet)
    }

    /// A datagram of the fleet that somebody overheard, and who had sent it.
    pub(crate) fn overheard(&self, dice: &mut SeededRandom) -> Option<(SocketAddr, Vec<u8>)> {
        let index = dice.below(self.overheard.len() as u64);
        let index = usize::try_from(index).expect("small");
        self.overheard.get(index).cloned()
    }
}

/// Changes bits of a protected datagram, or cuts one. Plain CoAP is cut only: the checksum of UDP
/// keeps it from changed bits, which could make another token or number of it.
fn corrupt(packet: &mut Packet, dice: &mut SeededRandom) {
    let length = packet.bytes.len() as u64;
    if length == 0 {
        return;
    }
    let offset = dice.below(REACH.min(length));
    let at = if one_in(dice, 2) {
        offset
    } else {
        length - 1 - offset
    };
    let at = usize::try_from(at).expect("a datagram's length");
    if packet.port == Port::Plain || one_in(dice, 4) {
        packet.bytes.truncate(at);
        return;
    }
    let bit = dice.below(8);
    if let Some(byte) = packet.bytes.get_mut(at) {
        *byte ^= 1 << bit;
    }
}
