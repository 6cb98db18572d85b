//! No answer to the unauthenticated beyond the cookie (RFC 6347 section 4.2.1).
//!
//! An address that never returned a cookie which it was sent gets, for each datagram, at most one
//! HelloVerifyRequest that is no longer than the datagram, and nothing of the server's own accord.
//! Nobody gets a plain message who never sent one.
//! One that did gets each flight of a handshake a bounded number of times.
//!
//! A record with a connection id can come from anywhere, and move its session there if it is the newest.
//! Who never had a cookie then gets at most three times the bytes that came from him in such datagrams
//! (RFC 9853 section 5), unless it is a device that has moved and can show that it is there.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use tidegate::endpoint::Port;

use super::records;
use super::wire::Place;
use crate::fleet::{self, DEVICE_ID_LEN};
use crate::server::{Sent, Turn};

const CONNECTION_ID: u8 = 25;
/// Times that a flight is sent: at first, by four timers, and for the peer's sake.
const FLIGHTS_MAX: u64 = 1 + 4 + 16;

/// The checker.
#[derive(Default)]
pub(crate) struct Door {
    issued: HashMap<SocketAddr, HashSet<Vec<u8>>>,
    returned: HashSet<Place>,
    /// Who sent something to the plain port.
    plain: HashSet<Place>,
    /// Sendings of each ServerHello, by its random.
    flights: HashMap<[u8; 32], u64>,
    /// Bytes of datagrams with a connection id from an address, and bytes to it, unless it returned a
    /// cookie.
    moved: HashMap<SocketAddr, (usize, usize)>,
    pub(crate) cookies: u64,
}

impl Door {
    /// The server's process ended; cookies of before are not valid any more.
    pub(crate) fn forget_server(&mut self) {
        *self = Self {
            cookies: self.cookies,
            ..Self::default()
        };
    }

    /// A shard took its turn.
    pub(crate) fn turn(&mut self, turn: &Turn) {
        for datagram in &turn.taken {
            let place = (turn.shard, datagram.peer);
            match datagram.port {
                Port::Plain => drop(self.plain.insert(place)),
                Port::Secure => {
                    self.note_cookie(place, &datagram.bytes);
                    if datagram.bytes.first() == Some(&CONNECTION_ID) {
                        self.moved.entry(datagram.peer).or_default().0 += datagram.bytes.len();
                    }
                }
            }
        }
        let mut strangers: HashSet<SocketAddr> = HashSet::new();
        for sent in &turn.sent {
            let place = (turn.shard, sent.to);
            match sent.port {
                Port::Plain => assert!(
                    self.plain.contains(&place),
                    "{} gets a plain message, and never sent one",
                    sent.to
                ),
                Port::Secure if self.returned.contains(&place) => {}
                Port::Secure if is_cookie_request(sent) => drop(strangers.insert(sent.to)),
                Port::Secure => self.note_moved(sent),
            }
            self.note_sent(sent);
        }
        for stranger in strangers {
            check_stranger(turn, stranger);
        }
    }

    /// Somebody who returned no cookie gets more than one.
    fn note_moved(&mut self, sent: &Sent) {
        let Some((came, went)) = self.moved.get_mut(&sent.to) else {
            panic!("{}: a stranger got more than a cookie", sent.to);
        };
        *went += sent.bytes.len();
        assert!(
            *went <= 3 * *came || fleet::is_address(sent.to),
            "{} gets {went} bytes for {came}",
            sent.to
        );
    }

    fn note_cookie(&mut self, place: Place, datagram: &[u8]) {
        let issued = self.issued.get(&place.1);
        let is_ours = |cookie: &[u8]| issued.is_some_and(|issued| issued.contains(cookie));
        let returned = records(datagram, 0)
            .iter()
            .filter_map(super::Record::returned_cookie)
            .any(is_ours);
        if returned {
            self.returned.insert(place);
        }
    }

    fn note_sent(&mut self, sent: &Sent) {
        if sent.port != Port::Secure {
            return;
        }
        for record in records(&sent.bytes, DEVICE_ID_LEN) {
            if let Some(cookie) = record.issued_cookie() {
                self.cookies += 1;
                let issued = self.issued.entry(sent.to).or_default();
                issued.insert(cookie.to_vec());
            }
            if let Some(random) = record.server_random() {
                let flights = self.flights.entry(random).or_default();
                *flights += 1;
                assert!(*flights <= FLIGHTS_MAX, "{}: a flight without end", sent.to);
            }
        }
    }
}

fn is_cookie_request(sent: &Sent) -> bool {
    records(&sent.bytes, DEVICE_ID_LEN)
        .iter()
        .all(|record| record.issued_cookie().is_some())
}

/// Who returned no cookie gets one for a datagram, in no longer one.
fn check_stranger(turn: &Turn, stranger: SocketAddr) {
    let taken = turn.taken.iter();
    let taken = taken.filter(|datagram| (datagram.peer, datagram.port) == (stranger, Port::Secure));
    let mut asked: Vec<_> = taken.map(|datagram| datagram.bytes.len()).collect();
    let sent = turn.sent.iter();
    let sent = sent.filter(|sent| (sent.to, sent.port) == (stranger, Port::Secure));
    let sent = sent.filter(|sent| is_cookie_request(sent));
    let mut answered: Vec<_> = sent.map(|sent| sent.bytes.len()).collect();
    // The longest answer to the longest datagram: if any way to pair them is in order, this one is.
    asked.sort_unstable_by(|a, b| b.cmp(a));
    answered.sort_unstable_by(|a, b| b.cmp(a));
    assert!(
        answered.len() <= asked.len() && std::iter::zip(&answered, &asked).all(|(a, b)| a <= b),
        "{stranger}: answers of {answered:?} bytes to {asked:?} bytes"
    );
}
