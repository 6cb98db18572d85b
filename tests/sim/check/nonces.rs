//! No nonce is used twice under a key.
//!
//! The nonce of every suite follows from epoch and sequence number, so under one key the numbers
//! must only grow; all of ours grow by one, as nothing that was sealed is left unsent.
//!
//! A device's connection has one set of keys, so its records are easy to follow. Several sets of the
//! server's can be in use towards one address: a session's, and those of handshakes which may
//! replace it. From outside nobody sees which record is of which, nor which keys are gone. So every
//! way to attribute the records seen so far is kept, and when no way is left a number was used twice,
//! or left out.
//!
//! Records with a connection id go wherever their session goes. The id is the client's, and each
//! connection of a device has another one: so they are attributed by it, and not by the address. Numbers
//! may be left out there, of what was sealed for an address that may get no more.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use tidegate::endpoint::Port;

use super::records;
use super::wire::{Place, Record};
use crate::fleet::{self, DEVICE_ID_LEN};
use crate::server::Sent;

const HANDSHAKE: u8 = 22;
const ALERT: u8 = 21;
/// A way to attribute the records so far: the next number of each set of keys, in the order of the
/// numbers, as it does not matter which set is which.
type Attribution = Vec<u64>;

#[derive(Default)]
struct Stream {
    attributions: BTreeSet<Attribution>,
    /// ServerHellos of different randoms: each may lead to a set of keys.
    hellos: HashSet<[u8; 32]>,
    /// Of a connection id: hosts whose handshakes may have led to its keys.
    hosts: BTreeSet<IpAddr>,
}

/// The checker.
#[derive(Default)]
pub(crate) struct Nonces {
    /// By device and connection: the next number.
    clients: HashMap<(usize, u64), u64>,
    servers: HashMap<Place, Stream>,
    /// Records with a connection id, by that.
    named: HashMap<[u8; DEVICE_ID_LEN], Stream>,
    /// Randoms of ServerHellos to a host, from whichever shard.
    hellos: HashMap<IpAddr, HashSet<[u8; 32]>>,
    pub(crate) records: u64,
}

impl Nonces {
    /// The server's process ended, and all of its keys with it.
    pub(crate) fn forget_server(&mut self) {
        self.servers.clear();
        self.named.clear();
        self.hellos.clear();
    }

    /// A device sends a datagram on one of its connections.
    pub(crate) fn client_sent(
        &mut self,
        (device, connection): (usize, u64),
        datagram: &[u8],
        id_len: usize,
    ) {
        let next = self.clients.entry((device, connection)).or_default();
        for record in records(datagram, id_len)
            .iter()
            .filter(|record| record.epoch > 0)
        {
            self.records += 1;
            check_explicit_nonce(record);
            assert_eq!(
                (record.epoch, record.sequence),
                (1, *next),
                "device {device} skips or repeats a record number"
            );
            *next += 1;
        }
    }

    /// A shard sends a datagram.
    pub(crate) fn server_sent(&mut self, sent: &Sent) {
        if sent.port != Port::Secure {
            return;
        }
        for record in records(&sent.bytes, DEVICE_ID_LEN) {
            let stream = self.servers.entry((sent.shard, sent.to)).or_default();
            stream.hellos.extend(record.server_random());
            let of_host = self.hellos.entry(sent.to.ip()).or_default();
            of_host.extend(record.server_random());
            if record.epoch == 0 {
                continue;
            }
            self.records += 1;
            check_explicit_nonce(&record);
            match <[u8; DEVICE_ID_LEN]>::try_from(record.connection_id) {
                Ok(id) => {
                    let stream = self.named.entry(id).or_default();
                    // A ClientHello whose id was damaged on its way has another device's: such a handshake ends
                    // with the server's Finished, if a session is resumed, which comes first.
                    let named = fleet::address(usize::from(id[0]), 0).ip();
                    stream.hosts.extend([named, sent.to.ip()]);
                    let hellos = stream
                        .hosts
                        .iter()
                        .map(|host| self.hellos.get(host).map_or(0, HashSet::len))
                        .sum();
                    stream.attribute(&record, sent, hellos);
                }
                Err(_) => {
                    let hellos = stream.hellos.len();
                    stream.attribute(&record, sent, hellos);
                }
            }
        }
    }
}

impl Stream {
    /// `hellos` is how many sets of keys there can be at most.
    fn attribute(&mut self, record: &Record<'_>, sent: &Sent, hellos: usize) {
        assert_eq!(record.epoch, 1, "there is no renegotiation");
        if self.attributions.is_empty() {
            self.attributions.insert(Vec::new());
        }
        let mut next = BTreeSet::new();
        for attribution in &self.attributions {
            let is_named = !record.connection_id.is_empty();
            // With gaps, the set with the largest number that fits loses the least by taking the record:
            // whatever another way allows later, this one allows too. One way to follow, then, where all of
            // them would be more with every record.
            let largest = attribution.iter().rposition(|&n| n <= record.sequence);
            let candidates = match is_named {
                true => largest.into_iter().collect(),
                false => (0..attribution.len()).collect::<Vec<_>>(),
            };
            for index in candidates {
                if is_named || attribution[index] == record.sequence {
                    let mut attribution = attribution.clone();
                    attribution[index] = record.sequence + 1;
                    attribution.sort_unstable();
                    next.insert(attribution);
                }
            }
            // The first record of new keys: a Finished, or the alert in its stead. With a connection id they
            // may have been for an address that gets no more; while other keys fit, they can begin later.
            let begins = match is_named {
                true => largest.is_none(),
                false => record.sequence == 0 && matches!(record.content_type, HANDSHAKE | ALERT),
            };
            let begins = begins && attribution.len() < hellos;
            if begins {
                let mut attribution = attribution.clone();
                attribution.push(record.sequence + 1);
                attribution.sort_unstable();
                next.insert(attribution);
            }
        }
        assert!(
            !next.is_empty(),
            "number {} of type {} to {} of shard {} fits no keys: {:?}",
            record.sequence,
            record.content_type,
            sent.to,
            sent.shard,
            self.attributions
        );
        self.attributions = next;
    }
}

/// The fleet offers suites with an explicit nonce only: it is epoch and sequence number, never
/// anything random (RFC 5288 section 3, RFC 6655 section 3).
fn check_explicit_nonce(record: &Record<'_>) {
    assert_eq!(
        record.body.get(..8),
        record.bytes.get(3..11),
        "the explicit nonce is not the record's number"
    );
}
