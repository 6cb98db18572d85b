//! What happens under the keys of an established session.

use super::script::{Script, credentials};
use crate::drop_reason::DropReason;
use crate::dtls::alert::Alert;
use crate::dtls::message::{FragmentHeader, HandshakeType};
use crate::dtls::record::ContentType;
use crate::dtls::{AlertDescription, Error};
use crate::time::Duration;

fn established() -> Script {
    let mut script = Script::with_defaults();
    script.establish(None);
    assert!(script.is_established());
    script.answers.clear();
    script
}

fn message(message_type: HandshakeType, message_seq: u16, body: &[u8]) -> Vec<u8> {
    let header = FragmentHeader::whole(message_type, message_seq, body.len()).encode();
    [&header[..], body].concat()
}

/// RFC 5746 section 4.2, RFC 5246 section 7.2.2: no renegotiation; the session goes on.
#[test]
fn renegotiation_is_declined() {
    let mut script = established();
    let hello = script.hello_body(&[]);
    let bytes = message(HandshakeType::ClientHello, 0, &hello);
    let record = script.protected_record(ContentType::Handshake, &bytes);
    script.deliver(record);
    let warning = Alert::warning(AlertDescription::NoRenegotiation)
        .encode()
        .to_vec();
    assert_eq!(script.take_protected(), [(ContentType::Alert, warning)]);
    let record = script.protected_record(ContentType::ApplicationData, b"on we go");
    script.deliver(record);
    assert_eq!(script.readings, [b"on we go"]);
}

/// RFC 6347 section 4.2.4, and OpenSSL issue 15289: the last flight is repeated for the very same
/// Finished in a new record and for nothing else, at a limited rate, until the client sends data.
#[test]
fn the_last_flight_is_repeated_for_the_same_finished_only() {
    let mut script = established();
    let (message_seq, verify_data) = script.last_finished.unwrap();
    let repeat = |script: &mut Script, seq, data: &[u8]| {
        script.sleep(Duration::from_secs(1));
        let bytes = message(HandshakeType::Finished, seq, data);
        let record = script.protected_record(ContentType::Handshake, &bytes);
        script.deliver(record.clone());
        let answers = script.answers.len();
        script.answers.clear();
        (answers, record)
    };
    let (answers, record) = repeat(&mut script, message_seq, &verify_data);
    assert_eq!(answers, 1);
    // The same record again is a replay.
    script.sleep(Duration::from_secs(1));
    script.deliver(record);
    assert_eq!(script.dropped(DropReason::RecordReplayed), 1);
    assert!(script.answers.is_empty());
    let mut other = verify_data;
    other[0] ^= 1;
    assert_eq!(repeat(&mut script, message_seq, &other).0, 0);
    assert_eq!(repeat(&mut script, message_seq + 1, &verify_data).0, 0);
    assert_eq!(repeat(&mut script, message_seq, &verify_data[..11]).0, 0);
    assert_eq!(repeat(&mut script, message_seq, &verify_data).0, 1);
    // Two at the same moment: one answer.
    for _ in 0..2 {
        let bytes = message(HandshakeType::Finished, message_seq, &verify_data);
        let record = script.protected_record(ContentType::Handshake, &bytes);
        script.deliver(record);
    }
    assert!(script.answers.is_empty());
    let record = script.protected_record(ContentType::ApplicationData, b"data");
    script.deliver(record);
    assert_eq!(repeat(&mut script, message_seq, &verify_data).0, 0);
    assert!(script.association.unwrap().next_timeout().is_none());
}

/// What is kept for the last flight goes after twice the maximum segment lifetime.
#[test]
fn the_last_flight_is_forgotten_in_time() {
    let mut script = established();
    let due = script.association.as_ref().unwrap().next_timeout().unwrap();
    script.sleep(Duration::from_secs(240));
    assert_eq!(script.now.instant, due);
    script.handle_timeout();
    assert!(script.is_established());
    assert_eq!(script.association.as_ref().unwrap().next_timeout(), None);
}

/// RFC 5246 section 7.2.1: close_notify is answered by close_notify and ends the session.
#[test]
fn close_notify_is_answered() {
    let mut script = established();
    let alert = Alert::warning(AlertDescription::CloseNotify).encode();
    let record = script.protected_record(ContentType::Alert, &alert);
    script.deliver(record);
    assert_eq!(
        script.take_protected(),
        [(ContentType::Alert, alert.to_vec())]
    );
    assert!(script.association.is_none() && script.failure.is_none());
}

#[test]
fn a_fatal_alert_under_the_keys_ends_the_session_and_a_warning_does_not() {
    let mut script = established();
    let warning = Alert::warning(AlertDescription::UserCanceled).encode();
    for body in [&warning[..], &[1], &[9, 9], &[]] {
        let record = script.protected_record(ContentType::Alert, body);
        script.deliver(record);
        assert!(script.is_established());
    }
    let fatal = Alert::fatal(AlertDescription::DecodeError).encode();
    let record = script.protected_record(ContentType::Alert, &fatal);
    script.deliver(record);
    assert!(script.association.is_none());
    assert_eq!(
        script.failure,
        Some(Error::PeerAlert(AlertDescription::DecodeError))
    );
    assert!(script.answers.is_empty());
}

/// An alert under the keys ends a handshake that only lacks Finished.
#[test]
fn a_fatal_alert_under_the_keys_ends_the_handshake() {
    let mut script = Script::with_defaults();
    script.hello();
    script.certificate(&[]);
    script.client_key_exchange();
    script.change_cipher_spec();
    let fatal = Alert::fatal(AlertDescription::BadCertificate).encode();
    let record = script.protected_record(ContentType::Alert, &fatal);
    script.deliver(record);
    assert_eq!(
        script.failure,
        Some(Error::PeerAlert(AlertDescription::BadCertificate))
    );
}

/// pion CVE-2019-20786, wolfSSL CVE-2020-24585: application data only under keys of a peer that
/// has finished.
#[test]
fn application_data_before_finished_is_dropped() {
    let device = credentials();
    let mut script = Script::with_defaults();
    script.hello();
    let plain = script.plain_record(ContentType::ApplicationData, b"early");
    script.deliver(plain);
    script.certificate(&device.chain);
    script.client_key_exchange();
    script.change_cipher_spec();
    let record = script.protected_record(ContentType::ApplicationData, b"early");
    script.deliver(record);
    script.certificate_verify(&device.key);
    let record = script.protected_record(ContentType::ApplicationData, b"early");
    script.deliver(record);
    assert_eq!(script.dropped(DropReason::EarlyApplicationData), 3);
    script.finished();
    assert!(script.is_established());
    let plain = script.plain_record(ContentType::ApplicationData, b"in the clear");
    script.deliver(plain);
    assert!(script.readings.is_empty());
    let record = script.protected_record(ContentType::ApplicationData, b"now");
    script.deliver(record);
    assert_eq!(script.readings, [b"now"]);
}

/// Data right behind Finished in one datagram is of the new session.
#[test]
fn data_behind_finished_in_one_datagram_arrives() {
    let mut script = Script::with_defaults();
    script.hello();
    script.certificate(&[]);
    script.client_key_exchange();
    script.change_cipher_spec();
    let verify_data = script.verify_data();
    let finished = script.message(HandshakeType::Finished, |out| {
        out.extend_from_slice(&verify_data);
    });
    let mut datagram = script.protected_record(ContentType::Handshake, &finished);
    datagram.extend(script.protected_record(ContentType::ApplicationData, b"one"));
    datagram.extend(script.protected_record(ContentType::ApplicationData, b"two"));
    script.deliver(datagram);
    assert_eq!(script.established, 1);
    assert_eq!(script.readings, [b"one", b"two"]);
}

/// The pieces of a ClientHello that passed the door cannot be swapped for others later.
#[test]
fn the_start_of_the_client_hello_stays_what_the_door_saw() {
    let mut script = Script::with_defaults();
    script.client.cipher_suites = vec![script.suite];
    let cookie = script.cookie_for(&Script::hello_body);
    let body = script.hello_body(&cookie);
    let fragment = |range: std::ops::Range<usize>, bytes: &[u8]| {
        let header = FragmentHeader {
            message_type: HandshakeType::ClientHello,
            length: body.len(),
            message_seq: 1,
            fragment_offset: range.start,
            fragment_length: range.len(),
        };
        [&header.encode()[..], bytes].concat()
    };
    // In one datagram: first a piece that overlaps the random with other bytes, then the start.
    let mut other = body[10..60].to_vec();
    other[0] ^= 1;
    let mut datagram = script.plain_record(ContentType::Handshake, &fragment(10..60, &other));
    datagram.extend(script.plain_record(ContentType::Handshake, &fragment(0..60, &body[..60])));
    script.deliver(datagram);
    assert!(script.association.is_some());
    let rest = fragment(60..body.len(), &body[60..]);
    let record = script.plain_record(ContentType::Handshake, &rest);
    script.deliver(record);
    assert_eq!(script.failure, Some(Error::IllegalParameter));
}

/// RFC 6347 section 4.2.1: the HelloVerifyRequest and the ServerHello are sent with the record
/// sequence numbers of their ClientHellos, so that a server needs no memory to avoid a repetition.
#[test]
fn first_answers_repeat_the_record_sequence_number_of_the_question() {
    let mut script = Script::with_defaults();
    script.client.cipher_suites = vec![script.suite];
    for _ in 0..9 {
        script.plain_record(ContentType::Alert, &[1, 0]);
    }
    let first = script.hello_body(&[]);
    let bytes = message(HandshakeType::ClientHello, 0, &first);
    let record = script.plain_record(ContentType::Handshake, &bytes);
    script.deliver(record.clone());
    let answer = script.answers.pop().unwrap();
    assert_eq!(answer[3..11], [0, 0, 0, 0, 0, 0, 0, 9]);
    assert_eq!(answer[3..11], record[3..11]);
    // A ClientHello with another number, to be told apart.
    script.plain_record(ContentType::Alert, &[1, 0]);
    let cookie = answer[answer.len() - 16..].to_vec();
    let second = script.hello_body(&cookie);
    let bytes = message(HandshakeType::ClientHello, 1, &second);
    let record = script.plain_record(ContentType::Handshake, &bytes);
    script.deliver(record.clone());
    assert_eq!(script.answers[0][3..11], record[3..11]);
    assert_eq!(script.answers[0][10], 11);
}

/// RFC 6347 section 4.2.1: DTLS 1.0 is for the records of hellos only; once the version is settled
/// records carry DTLS 1.2.
#[test]
fn records_of_dtls_1_0_behind_the_hello_are_dropped() {
    let mut script = Script::with_defaults();
    script.hello();
    let bytes = script.message(HandshakeType::Certificate, |out| {
        out.extend_from_slice(&[0; 3])
    });
    let mut record = script.plain_record(ContentType::Handshake, &bytes);
    record[2] = 0xff;
    script.deliver(record.clone());
    assert_eq!(script.dropped(DropReason::RecordVersion), 1);
    record[2] = 0xfd;
    script.deliver(record);
    script.client_key_exchange();
    let mut change = script.plain_record(ContentType::ChangeCipherSpec, &[1]);
    change[2] = 0xff;
    script.deliver(change);
    script.finished();
    assert!(!script.is_established());
    script.change_cipher_spec();
    assert!(script.is_established());
}

/// RFC 6347 section 4.2.1: the HelloVerifyRequest is in the version of the question, which every
/// client can read.
#[test]
fn the_hello_verify_request_has_the_version_of_the_question() {
    for version in [[0xfe, 0xff], [0xfe, 0xfd]] {
        let mut script = Script::with_defaults();
        let first = script.hello_body(&[]);
        let bytes = message(HandshakeType::ClientHello, 0, &first);
        let mut record = script.plain_record(ContentType::Handshake, &bytes);
        record[1..3].copy_from_slice(&version);
        script.deliver(record);
        let answer = script.answers.pop().unwrap();
        assert_eq!(
            (&answer[1..3], &answer[25..27]),
            (&version[..], &version[..])
        );
    }
}
