//! No answer to the unauthenticated beyond the cookie (RFC 6347 section 4.2.1).
//!
//! An address that never returned a cookie which it was sent gets, for each datagram, at most one
//! HelloVerifyRequest that is no longer than the datagram, and nothing of the server's own accord.
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
use crate::server::Sent;

const CONNECTION_ID: u8 = 25;
/// Times that a flight is sent: at first, by four timers, and for the peer's sake.
const FLIGHTS_MAX: u64 = 1 + 4 + 16;

/// The checker.
#[derive(Default)]
pub(crate) struct Door {
    issued: HashMap<SocketAddr, HashSet<Vec<u8>>>,
    returned: HashSet<Place>,
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

    /// A shard took a datagram of `from`, and this is what it sent then.
    pub(crate) fn received(
        &mut self,
        (shard, from): Place,
        port: Port,
        datagram: &[u8],
        answers: &[Sent],
    ) {
        if port == Port::Secure {
            self.note_cookie((shard, from), datagram);
        }
        if port == Port::Secure && datagram.first() == Some(&CONNECTION_ID) {
            self.moved.entry(from).or_default().0 += datagram.len();
            for answer in answers {
                self.sent_unasked(answer);
            }
            return;
        }
        let stranger = port == Port::Secure && !self.returned.contains(&(shard, from));
        if stranger {
            let to_him = answers.iter().filter(|sent| sent.to == from);
            let to_him: Vec<_> = to_him.filter(|sent| sent.port == Port::Secure).collect();
            assert!(to_him.len() <= 1, "{from}: several answers to a stranger");
            for answer in to_him {
                let is_request = records(&answer.bytes, DEVICE_ID_LEN)
                    .iter()
                    .all(|record| record.issued_cookie().is_some());
                assert!(is_request, "{from}: a stranger got more than a cookie");
                assert!(
                    answer.bytes.len() <= datagram.len(),
                    "{from}: an answer of {} bytes to {} bytes",
                    answer.bytes.len(),
                    datagram.len()
                );
            }
        }
        for answer in answers {
            assert_eq!(
                (answer.shard, answer.to, answer.port),
                (shard, from, port),
                "a datagram makes the server write to somebody else"
            );
            self.note_sent(answer);
        }
    }

    /// A shard sends something without a datagram that it answers.
    pub(crate) fn sent_unasked(&mut self, sent: &Sent) {
        if sent.port == Port::Secure && !self.returned.contains(&(sent.shard, sent.to)) {
            let moved = self.moved.get_mut(&sent.to);
            let Some((came, went)) = moved else {
                panic!(
                    "{} gets something without having returned a cookie",
                    sent.to
                );
            };
            *went += sent.bytes.len();
            assert!(
                *went <= 3 * *came || fleet::is_address(sent.to),
                "{} gets {went} bytes for {came}",
                sent.to
            );
        }
        self.note_sent(sent);
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
