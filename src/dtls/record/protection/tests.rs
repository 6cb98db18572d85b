#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use super::*;
use crate::dtls::record::{DTLS_1_0, RecordCursor};

pub(super) fn pair(suite: CipherSuite) -> (Protection, Protection) {
    let aead = suite.aead();
    let key = |seed: u8| TrafficKey::new(aead, &[seed; 32], &[seed ^ 0x55; 12]);
    (
        Protection::new(suite, 1, &key(1), &key(2)),
        Protection::new(suite, 1, &key(2), &key(1)),
    )
}

fn seal(from: &mut Protection, plaintext: &[u8]) -> Vec<u8> {
    let (prefix, suffix) = from.overhead();
    let mut record = vec![0; prefix];
    record.extend_from_slice(plaintext);
    record.resize(record.len() + suffix, 0);
    from.seal(ContentType::ApplicationData, &mut record)
        .unwrap();
    record
}

fn open(to: &mut Protection, record: &[u8]) -> Result<Vec<u8>, DropReason> {
    let mut record = record.to_vec();
    let slice = RecordCursor::default().next(&record).unwrap()?;
    assert_eq!(slice.range, 0..record.len());
    let opened = to.open(slice.header, &mut record)?;
    Ok(record[opened.range].to_vec())
}

#[test]
fn every_suite_opens_what_it_sealed() {
    for &suite in CipherSuite::ALL {
        let (mut a, mut b) = pair(suite);
        for length in [0, 1, 15, 16, 17, 200, PLAINTEXT_MAX] {
            let plaintext = vec![length as u8; length];
            let record = seal(&mut a, &plaintext);
            let (prefix, suffix) = a.overhead();
            assert_eq!(record.len(), prefix + length + suffix);
            assert_eq!(open(&mut b, &record), Ok(plaintext));
            b.forget_expanded_keys();
        }
    }
}

/// RFC 6347 section 4.1.2.6: a record is accepted once; RFC 6347 section 4.1.2.7: any changed
/// byte makes it be dropped.
#[test]
fn a_replayed_or_changed_record_is_dropped_and_changes_nothing() {
    for &suite in CipherSuite::ALL {
        let (mut a, mut b) = pair(suite);
        let record = seal(&mut a, b"reading");
        for at in 0..record.len() {
            let mut changed = record.clone();
            changed[at] ^= 0x80;
            if !(3..=4).contains(&at) {
                assert!(open(&mut b, &changed).is_err(), "{suite:?} byte {at}");
            }
        }
        assert_eq!(open(&mut b, &record), Ok(b"reading".to_vec()));
        assert_eq!(open(&mut b, &record), Err(DropReason::RecordReplayed));
        let (prefix, suffix) = b.overhead();
        for length in HEADER_LEN..prefix + suffix {
            let mut short = record[..length].to_vec();
            short[11..13].copy_from_slice(&u16::try_from(length - 13).unwrap().to_be_bytes());
            short[10] = 77;
            assert_eq!(open(&mut b, &short), Err(DropReason::RecordMalformed));
        }
    }
}

/// A forged record with a high number must not move the window (OpenSSL CVE-2016-2181).
#[test]
fn the_window_moves_only_for_authentic_records() {
    let (mut a, mut b) = pair(CipherSuite::EcdheEcdsaAes128Gcm);
    let mut forged = seal(&mut a, b"x");
    forged[5] = 0x7f;
    assert_eq!(open(&mut b, &forged), Err(DropReason::RecordForged));
    let honest = seal(&mut a, b"y");
    assert_eq!(open(&mut b, &honest), Ok(b"y".to_vec()));
}

/// RFC 5288 section 3 with RFC 6347: the explicit nonce may be epoch and sequence number.
#[test]
fn nonces_follow_the_sequence_number() {
    let (mut a, _) = pair(CipherSuite::EcdheEcdsaAes128Ccm8);
    seal(&mut a, b"x");
    let record = seal(&mut a, b"x");
    assert_eq!(record[3..11], [0, 1, 0, 0, 0, 0, 0, 1]);
    assert_eq!(record[13..21], record[3..11]);
    let key = TrafficKey::new(AeadAlgorithm::ChaCha20Poly1305, &[0; 32], &[0xff; 12]);
    assert_eq!(
        nonce(
            AeadAlgorithm::ChaCha20Poly1305,
            key.iv,
            [0, 1, 0, 0, 0, 0, 0, 9]
        ),
        [255, 255, 255, 255, 255, 254, 255, 255, 255, 255, 255, 246]
    );
    let key = TrafficKey::new(AeadAlgorithm::Aes128Gcm, &[0; 16], &[9, 8, 7, 6]);
    assert_eq!(
        nonce(AeadAlgorithm::Aes128Gcm, key.iv, [0, 1, 0, 0, 0, 0, 0, 9]),
        [9, 8, 7, 6, 0, 1, 0, 0, 0, 0, 0, 9]
    );
}

/// The peer may choose other explicit nonces than the sequence number (RFC 5288 section 3).
#[test]
fn a_foreign_explicit_nonce_is_taken_as_it_comes() {
    let (_, mut b) = pair(CipherSuite::EcdheEcdsaAes128Gcm);
    let header = RecordHeader {
        content_type: ContentType::ApplicationData,
        version: DTLS_1_2,
        epoch: 1,
        sequence: 5,
    };
    let mut record = header.encode(8 + 2 + 16).to_vec();
    record.extend_from_slice(&[0xaa; 8]);
    record.extend_from_slice(b"hi");
    let key = AeadKey::new(AeadAlgorithm::Aes128Gcm, &[2; 16]);
    let nonce = [
        0x57, 0x57, 0x57, 0x57, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa,
    ];
    let mut tag = [0; 16];
    key.seal_in_place(
        &nonce,
        &additional_data(header, 2),
        &mut record[21..],
        &mut tag,
    );
    record.extend_from_slice(&tag);
    assert_eq!(open(&mut b, &record), Ok(b"hi".to_vec()));
}

/// RFC 6347 section 4.1: sequence numbers must not wrap; the last ones are for alerts.
#[test]
fn sequence_numbers_end_and_leave_room_for_an_alert() {
    let (mut a, mut b) = pair(CipherSuite::EcdheEcdsaAes128Gcm);
    a.next_write_sequence = SEQUENCE_MAX - SEQUENCES_RESERVED;
    let record = seal(&mut a, b"last");
    assert_eq!(open(&mut b, &record), Ok(b"last".to_vec()));
    let mut record = vec![0; 13 + 8 + 2 + 16];
    assert_eq!(
        a.seal(ContentType::ApplicationData, &mut record),
        Err(Exhausted)
    );
    for _ in 0..SEQUENCES_RESERVED {
        assert_eq!(a.seal(ContentType::Alert, &mut record), Ok(()));
    }
    assert_eq!(a.seal(ContentType::Alert, &mut record), Err(Exhausted));
    assert_eq!(a.next_write_sequence, SEQUENCE_MAX + 1);
}

/// RFC 6347 section 4.1: a protected record carries the negotiated version.
#[test]
fn a_protected_record_of_another_version_is_dropped() {
    let (mut a, mut b) = pair(CipherSuite::EcdheEcdsaAes128Gcm);
    let mut record = seal(&mut a, b"x");
    record[1..3].copy_from_slice(&DTLS_1_0.to_be_bytes());
    assert_eq!(open(&mut b, &record), Err(DropReason::RecordVersion));
}

#[test]
fn forgeries_are_counted_and_wear_the_keys_of_short_tags_soonest() {
    let (mut a, mut b) = pair(CipherSuite::EcdheEcdsaAes128Ccm8);
    let mut forged = seal(&mut a, b"x");
    *forged.last_mut().unwrap() ^= 1;
    b.forged = (1 << 16) - 1;
    assert!(!b.is_worn());
    assert_eq!(open(&mut b, &forged), Err(DropReason::RecordForged));
    assert!(b.is_worn());
    let (_, mut gcm) = pair(CipherSuite::EcdheEcdsaAes128Gcm);
    gcm.forged = 1 << 24;
    assert!(!gcm.is_worn());
}

/// The keys are never part of what is printed.
#[test]
fn debug_shows_no_key() {
    let (a, _) = pair(CipherSuite::EcdheEcdsaAes128Gcm);
    assert!(!format!("{a:?}").contains("key"));
}
