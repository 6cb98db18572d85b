//! How many handshakes an address starts: counted without remembering anybody.
//!
//! ```text
//! address (IPv4 /32, IPv6 /64) --keyed hash--> two of CELLS counters   per minute, for a NAT's crowd
//! address and port -------------keyed hash--> two of CELLS counters   a few at once, one in 5 s
//! ```
//!
//! A cell is a bucket that fills by one with each handshake and leaks at the permitted rate; who has
//! room in one of his two cells is within his limit. Two addresses seldom meet in both, nobody
//! outside knows the hash key to choose whom he meets, and the worst is that they are thought to be
//! busier than they are. The memory is fixed.
//!
//! What is counted here stands back only while others wait (see `waiting`): as long as there is time
//! for everybody, a crowd behind one address is as welcome as anyone.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, SocketAddr};

use super::Port;
use super::peer_address::PackedAddress;
use crate::time::{Duration, Instant};

/// Cells of each table, a power of two: 256 KiB a table.
const CELLS: usize = 16_384;
/// Handshakes that one address and port may start at once ...
const PORT_BURST: u32 = 4;
/// ... and the time after which it may start another one.
const PORT_INTERVAL: Duration = Duration::from_secs(5);

/// The counters of one shard.
#[derive(Debug)]
pub(super) struct AddressLimits {
    hasher: RandomState,
    addresses: Box<[Cell]>,
    ports: Box<[Cell]>,
    per_address: Rate,
}

/// A bucket that leaks.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    /// What is in it, in microseconds of leaking.
    level_us: u64,
    at: Instant,
}

/// What a bucket holds, and how fast it leaks.
#[derive(Clone, Copy, Debug)]
struct Rate {
    interval_us: u64,
    burst: u64,
}

impl Rate {
    const fn every(interval: Duration, burst: u32) -> Self {
        // A literal of this file: far below the limit.
        #[allow(clippy::cast_possible_truncation)]
        let interval_us = interval.as_micros() as u64;
        Self {
            interval_us,
            burst: burst as u64,
        }
    }

    /// So many in a minute, at once or one by one.
    fn per_minute(count: u32) -> Self {
        let count = u64::from(count.max(1));
        Self {
            interval_us: (60_000_000 / count).max(1),
            burst: count,
        }
    }
}

impl Cell {
    /// Adds one; whether it had room. What overflows is not added, so that who goes on knocking is
    /// let in at the permitted rate.
    fn add(&mut self, now: Instant, rate: Rate) -> bool {
        let leaked = now.saturating_duration_since(self.at).as_micros();
        let leaked = u64::try_from(leaked).unwrap_or(u64::MAX);
        self.level_us = self.level_us.saturating_sub(leaked);
        self.at = now;
        let after = self.level_us + rate.interval_us;
        let has_room = after <= rate.interval_us.saturating_mul(rate.burst);
        if has_room {
            self.level_us = after;
        }
        has_room
    }
}

impl Default for AddressLimits {
    fn default() -> Self {
        Self::new(u32::MAX)
    }
}

impl AddressLimits {
    /// Limits with `per_address` handshakes in a minute from one address.
    pub(super) fn new(per_address: u32) -> Self {
        let cells = || vec![Cell::default(); CELLS].into_boxed_slice();
        Self {
            hasher: RandomState::new(),
            addresses: cells(),
            ports: cells(),
            per_address: Rate::per_minute(per_address),
        }
    }

    /// Counts a handshake that `from` wants to start; whether it stays within both limits.
    pub(super) fn count(&mut self, now: Instant, from: SocketAddr) -> bool {
        let prefix = match from.ip() {
            IpAddr::V4(ip) => u64::from(ip.to_bits()),
            // One subscriber has a /64 at least, and all addresses of it.
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                let high = (u64::from(a) << 48) | (u64::from(b) << 32);
                high | (u64::from(c) << 16) | u64::from(d)
            }
        };
        let is_v4 = from.is_ipv4();
        let of_address = self.hasher.hash_one((is_v4, prefix));
        let mut of_port = self.hasher.build_hasher();
        of_port.write(&PackedAddress::from(from).to_bytes(Port::Secure.into()));
        let of_port = of_port.finish();
        let port = Rate::every(PORT_INTERVAL, PORT_BURST);
        let port_has_room = add(&mut self.ports, of_port, now, port);
        // Both are counted, whatever the other says.
        add(&mut self.addresses, of_address, now, self.per_address) && port_has_room
    }
}

fn add(cells: &mut [Cell], hash: u64, now: Instant, rate: Rate) -> bool {
    let mut has_room = false;
    for half in [hash & 0xffff_ffff, hash >> 32] {
        let index = usize::try_from(half).unwrap_or(0) % CELLS;
        let cell = cells.get_mut(index);
        has_room |= cell.is_some_and(|cell| cell.add(now, rate));
    }
    has_room
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(1_000_000 * (1000 + seconds))
    }

    fn v4(host: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, host], port))
    }

    #[test]
    fn a_port_starts_a_few_and_then_one_every_five_seconds() {
        let mut limits = AddressLimits::new(1000);
        let count = |limits: &mut AddressLimits, at| {
            (0..100).filter(|_| limits.count(at, v4(1, 5000))).count()
        };
        assert_eq!(count(&mut limits, at(0)), 4);
        assert_eq!(count(&mut limits, at(4)), 0);
        assert_eq!(count(&mut limits, at(5)), 1);
        assert_eq!(count(&mut limits, at(16)), 2);
        assert_eq!(count(&mut limits, at(1000)), 4);
    }

    #[test]
    fn an_address_starts_what_is_set_in_a_minute_whatever_its_ports() {
        let mut limits = AddressLimits::new(600);
        let count = |limits: &mut AddressLimits, host, at| {
            (1..=800)
                .filter(|&port| limits.count(at, v4(host, port)))
                .count()
        };
        assert_eq!(count(&mut limits, 1, at(0)), 600);
        assert_eq!(count(&mut limits, 1, at(6)), 60);
        // Somebody else is not concerned.
        assert_eq!(count(&mut limits, 2, at(6)), 600);
        assert_eq!(count(&mut limits, 1, at(66)), 600);
        assert_eq!(count(&mut limits, 1, at(66)), 0);
    }

    #[test]
    fn an_ipv6_subscriber_has_one_limit_for_all_his_addresses() {
        let mut limits = AddressLimits::new(50);
        let mut from = |subnet: u16, host: u16| {
            let address: IpAddr = [0x2001, 0xdb8, 0, subnet, 0, 0, 0, host].into();
            limits.count(at(0), SocketAddr::new(address, 5684))
        };
        assert_eq!((0..100).filter(|&host| from(1, host)).count(), 50);
        assert!(from(2, 1));
    }
}
