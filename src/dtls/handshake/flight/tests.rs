#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use super::*;
use crate::crypto::suite::CipherSuite;
use crate::dtls::handshake::reassembly::Reassembly;
use crate::dtls::message::Fragment;
use crate::dtls::record::protection::TrafficKey;
use crate::dtls::record::{DTLS_1_2, RecordCursor};
use crate::wire::Reader;

const CERTIFICATE: HandshakeType = HandshakeType::Certificate;

fn emit(flight: &Flight, datagram_max: usize) -> Vec<Vec<u8>> {
    let mut datagrams = vec![];
    let mut plain = PlainWriter::new(7, DTLS_1_2);
    flight
        .emit(datagram_max, &mut plain, None, &mut datagrams)
        .unwrap();
    datagrams
}

/// RFC 6347 section 4.1.1.1 and 4.2.3: whatever the size of datagrams, the messages arrive, no
/// datagram is too long, and record sequence numbers count up.
#[test]
fn every_datagram_size_carries_the_same_messages() {
    let bodies: Vec<Vec<u8>> = [60, 900, 0, 1, 2000]
        .map(|length| vec![length as u8; length])
        .into();
    let mut flight = Flight::default();
    for (seq, body) in bodies.iter().enumerate() {
        flight.push(CERTIFICATE, seq as u16, |out| out.extend_from_slice(body));
    }
    for datagram_max in (64..200).chain([255, 512, 1024, 1500, 4000, 65_535]) {
        let mut reassembly = Reassembly::new(0);
        let mut read: Vec<Vec<u8>> = vec![];
        let mut sequence = 7;
        for datagram in emit(&flight, datagram_max) {
            assert!(datagram.len() <= datagram_max);
            let mut cursor = RecordCursor::default();
            while let Some(record) = cursor.next(&datagram) {
                let record = record.unwrap();
                assert_eq!((record.header.epoch, record.header.sequence), (0, sequence));
                sequence += 1;
                let mut reader = Reader::new(&datagram[record.range][HEADER_LEN..]);
                let fragment = Fragment::decode(&mut reader).unwrap();
                assert!(reader.is_empty());
                if let Some(message) = reassembly.insert(&fragment).unwrap() {
                    read.push(message.body.to_vec());
                }
                while let Some(partial) = reassembly.pop() {
                    read.push(partial.message().body.to_vec());
                }
            }
        }
        assert_eq!(read, bodies);
    }
}

#[test]
fn a_message_that_fits_a_datagram_is_not_cut() {
    let mut flight = Flight::default();
    flight.push(CERTIFICATE, 0, |out| out.resize(out.len() + 400, 1));
    flight.push(CERTIFICATE, 1, |out| out.resize(out.len() + 400, 2));
    let lengths: Vec<_> = emit(&flight, 600).iter().map(Vec::len).collect();
    assert_eq!(lengths, [425, 425]);
    assert_eq!(emit(&flight, 850).len(), 1);
}

#[test]
fn finished_is_protected_and_needs_keys() {
    let mut flight = Flight::default();
    flight.push_change_cipher_spec();
    flight.push(HandshakeType::Finished, 3, |out| {
        out.extend_from_slice(&[9; 12])
    });
    let mut plain = PlainWriter::new(0, DTLS_1_2);
    assert_eq!(
        flight.emit(1024, &mut plain, None, &mut vec![]),
        Err(Error::Internal)
    );
    for &suite in CipherSuite::ALL {
        let key = || TrafficKey::new(suite.aead(), &[1; 32], &[2; 12]);
        let mut protection = Protection::new(suite, 1, &key(), &key());
        for datagram_max in [64, 100] {
            let mut out: Vec<Vec<u8>> = vec![];
            flight
                .emit(datagram_max, &mut plain, Some(&mut protection), &mut out)
                .unwrap();
            assert!(out.iter().all(|datagram| datagram.len() <= datagram_max));
            let mut finished = out.concat()[HEADER_LEN + 1..].to_vec();
            let mut reassembly = Reassembly::new(3);
            let mut cursor = RecordCursor::default();
            let mut bodies = vec![];
            while let Some(record) = cursor.next(&finished) {
                let record = record.unwrap();
                let bytes = &mut finished[record.range];
                let range = protection.open(record.header, bytes).unwrap().range;
                let fragment = Fragment::decode(&mut Reader::new(&bytes[range])).unwrap();
                if let Some(message) = reassembly.insert(&fragment).unwrap() {
                    bodies.push(message.body.to_vec());
                }
                bodies.extend(
                    reassembly
                        .pop()
                        .map(|partial| partial.message().body.to_vec()),
                );
            }
            assert_eq!(bodies, [vec![9; 12]]);
        }
    }
}

/// RFC 6347 section 4.2.4.1: the timer doubles up to a maximum of no less than 60 s.
#[test]
fn the_timer_doubles_and_gives_up() {
    let start = Instant::ZERO;
    let mut timer = RetransmissionTimer::new(start, Duration::from_secs(9));
    let mut at = vec![];
    let mut sizes = vec![];
    loop {
        let due = timer.due().unwrap();
        assert_eq!(
            timer.handle_timeout(Instant::from_micros(due.as_micros() - 1)),
            TimerAction::Wait
        );
        match timer.handle_timeout(due) {
            TimerAction::Retransmit => {
                at.push(due.as_micros() / 1_000_000);
                sizes.push(timer.datagram_max(1024));
            }
            action => {
                assert_eq!(action, TimerAction::GiveUp);
                at.push(due.as_micros() / 1_000_000);
                break;
            }
        }
    }
    assert_eq!(at, [9, 27, 63, 123, 183]);
    assert_eq!(sizes, [1024, 512, 512, 512]);
    assert_eq!(timer.datagram_max(100), 100);
}

#[test]
fn the_number_of_retransmissions_can_be_set() {
    let start = Instant::ZERO;
    for count in [0, 1, 12] {
        let mut timer =
            RetransmissionTimer::new(start, Duration::from_secs(1)).retransmissions_max(count);
        let mut retransmissions = 0;
        while timer.handle_timeout(timer.due().unwrap()) == TimerAction::Retransmit {
            retransmissions += 1;
        }
        assert_eq!(retransmissions, count);
    }
}

#[test]
fn repetitions_of_the_peer_are_answered_at_a_limited_rate() {
    let mut now = Instant::ZERO;
    let mut timer = RetransmissionTimer::new(now, Duration::from_secs(1));
    assert!(!timer.on_peer_repetition(now + Duration::from_millis(199)));
    let mut answered = 0;
    for _ in 0..1000 {
        now = now + Duration::from_millis(50);
        answered += u32::from(timer.on_peer_repetition(now));
    }
    assert_eq!(answered, u32::from(REPETITIONS_MAX));
    let mut timer = RetransmissionTimer::new(now, Duration::from_secs(1));
    timer.stop();
    assert_eq!(timer.due(), None);
    assert!(timer.on_peer_repetition(now + Duration::from_secs(1)));
    assert_eq!(timer.due(), None, "a stopped timer stays stopped");
}
