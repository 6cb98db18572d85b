//! Records with a connection id (RFC 9146).

use super::tests::pair;
use super::*;
use crate::dtls::record::RecordCursor;
use proptest::prelude::*;

const CID: &[u8] = b"\x03\x00abcdef";

/// Two ends of which the second asked for `local`, the first for `peer`.
fn pair_with(suite: CipherSuite, to_first: &[u8], to_second: &[u8]) -> (Protection, Protection) {
    let (a, b) = pair(suite);
    (
        a.with_connection_ids(ConnectionIds::new(to_first, to_second)),
        b.with_connection_ids(ConnectionIds::new(to_second, to_first)),
    )
}

fn seal(from: &mut Protection, content_type: ContentType, plaintext: &[u8]) -> Vec<u8> {
    let (prefix, suffix) = from.overhead();
    let mut record = vec![0; prefix];
    record.extend_from_slice(plaintext);
    record.resize(record.len() + suffix, 0);
    from.seal(content_type, &mut record).unwrap();
    record
}

fn open(to: &mut Protection, record: &[u8]) -> Result<(ContentType, Vec<u8>), DropReason> {
    let mut record = record.to_vec();
    let cid_len = u8::try_from(to.local_connection_id().len()).unwrap();
    let slice = RecordCursor::new(cid_len).next(&record).unwrap()?;
    assert_eq!(slice.range, 0..record.len());
    let opened = to.open(slice.header, &mut record)?;
    Ok((opened.content_type, record[opened.range].to_vec()))
}

/// RFC 9146 section 5.3, byte by byte: the record is made here, from the section's own list, and
/// must be what we send and open.
#[test]
fn header_additional_data_and_inner_plaintext_are_those_of_the_rfc() {
    let (mut a, mut b) = pair_with(CipherSuite::EcdheEcdsaAes128Gcm, b"", CID);
    let ours = seal(&mut a, ContentType::ApplicationData, b"reading");
    let header = b"\x19\xfe\xfd\x00\x01\x00\x00\x00\x00\x00\x00\x03\x00abcdef\x00\x20";
    assert_eq!(ours[..21], *header);
    assert_eq!(
        ours[21..29],
        *b"\x00\x01\x00\x00\x00\x00\x00\x00",
        "explicit nonce"
    );
    assert_eq!(ours.len(), 21 + 8 + 7 + 1 + 16);

    let aad = [
        &[0xff; 8][..],              // seq_num_placeholder
        b"\x19",                     // tls12_cid
        b"\x08",                     // cid_length
        b"\x19",                     // tls12_cid
        b"\xfe\xfd",                 // DTLSCiphertext.version
        b"\x00\x01",                 // epoch
        b"\x00\x00\x00\x00\x00\x00", // sequence_number
        b"\x03\x00abcdef",           // cid
        b"\x00\x08",                 // length_of_DTLSInnerPlaintext
    ]
    .concat();
    // The keys of `pair`: the first end writes with 2, its IV is 2 ^ 0x55.
    let key = AeadKey::new(AeadAlgorithm::Aes128Gcm, &[2; 16]);
    let nonce = *b"\x57\x57\x57\x57\x00\x01\x00\x00\x00\x00\x00\x00";
    let mut inner = b"reading\x17".to_vec();
    let mut tag = [0; 16];
    key.seal_in_place(&nonce, &aad, &mut inner, &mut tag);
    assert_eq!(ours[29..], [&inner[..], &tag].concat());
    assert_eq!(
        open(&mut b, &ours),
        Ok((ContentType::ApplicationData, b"reading".to_vec()))
    );
}

/// A record with any inner plaintext, as a peer could make it.
fn with_inner(sequence: u8, inner: &[u8]) -> Vec<u8> {
    let mut record = vec![25, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, sequence];
    record.extend_from_slice(CID);
    let length = u16::try_from(8 + inner.len() + 16).unwrap();
    record.extend_from_slice(&length.to_be_bytes());
    let explicit = [0, 1, 0, 0, 0, 0, 0, sequence];
    record.extend_from_slice(&explicit);
    let mut aad = vec![0xff; 8];
    aad.extend_from_slice(&[25, 8, 25, 0xfe, 0xfd]);
    aad.extend_from_slice(&explicit);
    aad.extend_from_slice(CID);
    aad.extend_from_slice(&u16::try_from(inner.len()).unwrap().to_be_bytes());
    let nonce = [&[0x57; 4][..], &explicit].concat();
    let mut sealed = inner.to_vec();
    let mut tag = [0; 16];
    let key = AeadKey::new(AeadAlgorithm::Aes128Gcm, &[2; 16]);
    key.seal_in_place(&nonce.try_into().unwrap(), &aad, &mut sealed, &mut tag);
    record.extend_from_slice(&sealed);
    record.extend_from_slice(&tag);
    record
}

/// RFC 9146 section 4: padding is zeros behind the real type; without a type there is no record.
#[test]
fn padding_is_taken_off_and_a_record_of_zeros_dropped() {
    let (_, mut b) = pair_with(CipherSuite::EcdheEcdsaAes128Gcm, b"", CID);
    let mut padded = b"a\x00b\x17".to_vec();
    padded.resize(200, 0);
    let data = |content: &[u8]| Ok((ContentType::ApplicationData, content.to_vec()));
    assert_eq!(open(&mut b, &with_inner(1, &padded)), data(b"a\x00b"));
    assert_eq!(open(&mut b, &with_inner(2, b"\x17")), data(b""));
    assert_eq!(
        open(&mut b, &with_inner(3, b"\x01\x00\x15")),
        Ok((ContentType::Alert, b"\x01\x00".to_vec()))
    );
    let malformed = Err(DropReason::RecordMalformed);
    assert_eq!(open(&mut b, &with_inner(4, &[0; 30])), malformed);
    assert_eq!(open(&mut b, &with_inner(5, b"")), malformed);
    // A type that does not exist, and the outer one within.
    assert_eq!(
        open(&mut b, &with_inner(6, b"x\x63")),
        Err(DropReason::RecordType)
    );
    assert_eq!(
        open(&mut b, &with_inner(7, b"x\x19")),
        Err(DropReason::RecordType)
    );
    // The longest content, with padding, and one byte more.
    let mut long = vec![1; PLAINTEXT_MAX];
    long.push(23);
    long.resize(PLAINTEXT_MAX + PADDING_MAX, 0);
    assert_eq!(
        open(&mut b, &with_inner(8, &long)),
        data(&[1; PLAINTEXT_MAX])
    );
    long[PLAINTEXT_MAX] = 1;
    long[PLAINTEXT_MAX + 1] = 23;
    assert_eq!(open(&mut b, &with_inner(9, &long)), malformed);
}

/// RFC 9146 section 3: where an id was agreed on, a record without it is invalid; where none was, one
/// with it is. Section 4: another's id is not ours.
#[test]
fn records_of_the_other_format_and_of_other_ids_are_dropped() {
    let suite = CipherSuite::EcdheEcdsaAes128Ccm8;
    let (mut plain, mut plain_end) = pair(suite);
    let (mut with_cid, mut cid_end) = pair_with(suite, b"", CID);
    let data = ContentType::ApplicationData;
    let missing = Err(DropReason::ConnectionIdMissing);
    assert_eq!(open(&mut cid_end, &seal(&mut plain, data, b"x")), missing);
    let record = seal(&mut with_cid, data, b"x");
    let cut = RecordCursor::default().next(&record).unwrap();
    assert!(cut.is_err(), "cut without an id agreed on");
    let header = RecordCursor::new(8).next(&record).unwrap().unwrap().header;
    let opened = plain_end.open(header, &mut record.clone());
    assert_eq!(opened, Err(DropReason::ConnectionIdMissing));
    for at in 11..19 {
        let mut other = record.clone();
        other[at] ^= 1;
        assert_eq!(
            open(&mut cid_end, &other),
            Err(DropReason::ConnectionIdUnknown)
        );
    }
    assert_eq!(cid_end.forged, 0, "another's id is no forgery");
    assert_eq!(open(&mut cid_end, &record), Ok((data, b"x".to_vec())));
    assert_eq!(open(&mut cid_end, &record), Err(DropReason::RecordReplayed));
}

/// Nothing of a record can be changed, the real type included.
#[test]
fn a_changed_record_is_dropped() {
    for &suite in CipherSuite::ALL {
        let (mut a, mut b) = pair_with(suite, b"", CID);
        let record = seal(&mut a, ContentType::Alert, b"\x01\x00");
        for at in (0..record.len()).filter(|at| !(3..5).contains(at) && !(19..21).contains(at)) {
            let mut changed = record.clone();
            changed[at] ^= 0x80;
            assert!(open(&mut b, &changed).is_err(), "{suite:?} byte {at}");
        }
        assert_eq!(
            open(&mut b, &record),
            Ok((ContentType::Alert, b"\x01\x00".to_vec()))
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Mbed TLS CVE-2022-46393: buffers are sized by the id that the *receiver* of a direction chose,
    /// whatever the lengths are in the two directions.
    #[test]
    fn every_pair_of_lengths_fits(
        to_first in 0usize..=255,
        to_second in 0usize..=255,
        suite in 0..CipherSuite::ALL.len(),
        length in 0usize..2000,
    ) {
        let suite = CipherSuite::ALL[suite];
        let (first, second) = (vec![0xa1; to_first], vec![0xa2; to_second]);
        let (mut a, mut b) = pair_with(suite, &first, &second);
        let plaintext = vec![7; length];
        for cid_len in [to_second, to_first] {
            let (from, to) = (&mut a, &mut b);
            let (prefix, suffix) = from.overhead();
            prop_assert!(prefix <= OVERHEAD_MAX.0 && suffix <= OVERHEAD_MAX.1);
            let record = seal(from, ContentType::Handshake, &plaintext);
            let aead = suite.aead();
            let inner = length + usize::from(cid_len > 0);
            prop_assert_eq!(
                record.len(),
                13 + cid_len + aead.explicit_nonce_len() + inner + aead.tag_len()
            );
            prop_assert_eq!(
                open(to, &record),
                Ok((ContentType::Handshake, plaintext.clone()))
            );
            std::mem::swap(&mut a, &mut b);
        }
    }
}
