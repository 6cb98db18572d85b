//! What kind of work a datagram means, told from its headers alone: before any look-up, any
//! allocation and any cryptography.

use super::association::Association;
use super::config::Context;
use super::door::{self, Knock};
use super::message::HandshakeType;
use super::record::{ContentType, HEADER_LEN, RecordCursor};
use crate::drop_reason::DropReason;
use crate::time::Now;

/// Highest epoch that anybody has keys of: there is no renegotiation.
const EPOCH_MAX: u16 = 1;

/// What kind of work a datagram means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glance {
    /// Nothing that takes public-key work: data and alerts of a session, ChangeCipherSpec, a
    /// Finished under its keys.
    Light,
    /// It begins with a ClientHello, which may start a handshake.
    Hello,
    /// It holds another handshake message in the clear, which may carry one on.
    Handshake,
}

/// What a datagram with a ClientHello led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is done with: dropped, or answered by a HelloVerifyRequest.
    Done,
    /// It is part of the handshake that runs with this peer.
    Running,
    /// Its cookie is valid and it would start a handshake.
    New,
}

/// Sorts a datagram by the headers of its records.
///
/// # Errors
///
/// The first record cannot be one: a type or version that does not exist, an epoch that nobody can
/// have keys of, or a length that is not there. Nothing behind it is looked at.
pub fn glance(datagram: &[u8]) -> Result<Glance, DropReason> {
    let mut cursor = RecordCursor::default();
    let first = cursor.next(datagram).ok_or(DropReason::RecordMalformed)??;
    if first.header.epoch > EPOCH_MAX {
        return Err(DropReason::RecordEpoch);
    }
    let is_clear = |header: &super::record::RecordHeader| {
        header.epoch == 0 && header.content_type == ContentType::Handshake
    };
    if is_clear(&first.header) {
        let message = datagram.get(first.range.start + HEADER_LEN);
        return Ok(if message == Some(&(HandshakeType::ClientHello as u8)) {
            Glance::Hello
        } else {
            Glance::Handshake
        });
    }
    // A record in front, whatever it is, must not carry expensive ones past the budget.
    while let Some(record) = cursor.next(datagram) {
        if record.is_ok_and(|record| is_clear(&record.header)) {
            return Ok(Glance::Handshake);
        }
    }
    Ok(Glance::Light)
}

/// Looks at the ClientHello at the start of `datagram`, from a peer that has `association`, if any.
/// Without a valid cookie the peer is sent one. Makes no state and does no public-key work.
pub fn admit(
    now: Now,
    peer: &[u8],
    datagram: &[u8],
    association: Option<&Association>,
    cx: &mut Context<'_>,
) -> Admission {
    let hello = match door::read(datagram) {
        Knock::Hello(hello) => hello,
        // Pieces of a hello whose first one made the handshake that runs.
        Knock::Other | Knock::Unreadable(_)
            if association.is_some_and(Association::is_handshaking) =>
        {
            return Admission::Running;
        }
        Knock::Other => {
            (cx.drops)(DropReason::NoSession);
            return Admission::Done;
        }
        Knock::Unreadable(reason) => {
            (cx.drops)(reason);
            return Admission::Done;
        }
    };
    if association.is_some_and(|association| association.is_of_running_hello(hello.random())) {
        return Admission::Running;
    }
    match hello.verify(now, peer, cx) {
        Some(_) => Admission::New,
        None => Admission::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(content_type: u8, epoch: u16, body: &[u8]) -> Vec<u8> {
        let mut out = vec![content_type, 0xfe, 0xfd];
        out.extend_from_slice(&epoch.to_be_bytes());
        out.extend_from_slice(&[0, 0, 0, 0, 0, 9]);
        out.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
        out.extend_from_slice(body);
        out
    }

    #[test]
    fn datagrams_are_sorted_by_the_work_that_they_mean() {
        let (hello, key_exchange) = (record(22, 0, &[1, 0]), record(22, 0, &[16, 0]));
        let (data, finished) = (record(23, 1, b"data"), record(22, 1, b"sealed"));
        let (change, alert) = (record(20, 0, &[1]), record(21, 0, &[2, 40]));
        for (datagram, expected) in [
            (hello.clone(), Glance::Hello),
            (key_exchange.clone(), Glance::Handshake),
            (data.clone(), Glance::Light),
            (finished, Glance::Light),
            (alert, Glance::Light),
            // Whatever stands in front of it, expensive work is seen.
            ([change, key_exchange.clone()].concat(), Glance::Handshake),
            ([data.clone(), key_exchange].concat(), Glance::Handshake),
            ([data.clone(), hello].concat(), Glance::Handshake),
            ([data.clone(), data].concat(), Glance::Light),
        ] {
            assert_eq!(glance(&datagram), Ok(expected), "{datagram:02x?}");
        }
    }

    #[test]
    fn what_cannot_be_a_record_goes_no_further() {
        let data = record(23, 1, b"data");
        let mut version = data.clone();
        version[1] = 3;
        for (datagram, reason) in [
            (vec![], DropReason::RecordMalformed),
            (data[..12].to_vec(), DropReason::RecordMalformed),
            (data[..15].to_vec(), DropReason::RecordMalformed),
            (record(24, 1, b"data"), DropReason::RecordType),
            (record(0, 0, b"data"), DropReason::RecordType),
            (version, DropReason::RecordVersion),
            (record(23, 2, b"data"), DropReason::RecordEpoch),
            (record(22, 0xffff, b"data"), DropReason::RecordEpoch),
        ] {
            assert_eq!(glance(&datagram), Err(reason), "{datagram:02x?}");
        }
    }
}
