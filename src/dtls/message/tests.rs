#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use super::*;
use crate::crypto::key_exchange::NamedGroup;
use crate::crypto::signature::SignatureScheme;
use crate::dtls::client::ClientConfig;
use crate::dtls::error::Error;
use crate::random::{Random, SeededRandom};

fn hello() -> Vec<u8> {
    let mut out = Vec::new();
    emit_client_hello(&mut out, &ClientConfig::default(), &[3; 32], b"cookie");
    out
}

/// The same hello with other bytes as its extensions vector, length included.
fn hello_with_extensions(extensions: &[u8]) -> Vec<u8> {
    let mut out = vec![0xfe, 0xfd];
    out.extend_from_slice(&[0; 32]);
    out.extend_from_slice(&[0, 0, 0, 2, 0xc0, 0x2b, 1, 0]);
    out.extend_from_slice(extensions);
    out
}

#[test]
fn a_client_hello_is_read_back() {
    let bytes = hello();
    let read = ClientHello::decode(&bytes).unwrap();
    assert_eq!(read.prefix.client_version, 0xfefd);
    assert_eq!(
        (read.prefix.random, read.prefix.cookie),
        ([3; 32], &b"cookie"[..])
    );
    assert_eq!(read.cipher_suites.iter().next(), Some(0xc02b));
    assert!(read.extensions.extended_master_secret && !read.extensions.unknown);
    let groups: Vec<_> = read.extensions.supported_groups.unwrap().iter().collect();
    assert_eq!(groups, [23, 29, 24]);
    assert_eq!(read.secure_renegotiation(), Ok(true));
    let prefix = HelloPrefix::decode(&mut Reader::new(&bytes[..42])).unwrap();
    assert_eq!(prefix, read.prefix);
    assert!(HelloPrefix::decode(&mut Reader::new(&bytes[..41])).is_err());
}

/// Every truncation is an error, every changed byte ends in a value, nothing panics.
#[test]
fn no_bytes_make_a_decoder_panic() {
    let mut messages = vec![hello()];
    let mut out = Vec::new();
    ServerHello {
        session_id: &[],
        server_name: false,
        record_size_limit: None,
        session_ticket: false,
        connection_id: None,
        random: &[1; 32],
        cipher_suite: 0xc02b,
        secure_renegotiation: true,
        extended_master_secret: true,
        point_formats: true,
        max_fragment_length: Some(MaxFragmentLength::Bytes512),
    }
    .emit(&mut out);
    messages.push(std::mem::take(&mut out));
    emit_certificate(&mut out, &[vec![1; 300], vec![2; 5]]);
    messages.push(std::mem::take(&mut out));
    let parameters = EcdhParameters {
        group: NamedGroup::X25519,
        public_key: &[4; 32],
    };
    emit_server_key_exchange(
        &mut out,
        &parameters,
        SignatureScheme::EcdsaSha256,
        &[5; 70],
    );
    messages.push(std::mem::take(&mut out));
    emit_certificate_request(&mut out);
    messages.push(std::mem::take(&mut out));
    CertificateVerify {
        scheme: 0x0403,
        signature: &[6; 71],
    }
    .emit(&mut out);
    messages.push(std::mem::take(&mut out));
    ClientKeyExchange {
        public_key: &[7; 65],
    }
    .emit(&mut out);
    messages.push(std::mem::take(&mut out));
    messages.push(encode_hello_verify_request(0xfeff, &[1; 16]).to_vec());

    let decode = |bytes: &[u8]| {
        [
            ClientHello::decode(bytes).is_ok(),
            ReceivedServerHello::decode(bytes).is_ok(),
            Certificate::decode(bytes).is_ok(),
            ServerKeyExchange::decode(bytes).is_ok(),
            CertificateRequest::decode(bytes).is_ok(),
            CertificateVerify::decode(bytes).is_ok(),
            ClientKeyExchange::decode(bytes).is_ok(),
            HelloVerifyRequest::decode(bytes).is_ok(),
        ]
    };
    let mut random = SeededRandom::new(5);
    for (index, message) in messages.iter().enumerate() {
        assert!(decode(message)[index]);
        for length in 0..message.len() {
            // A hello may end before its extensions (RFC 5246 section 7.4.1.2).
            let whole_without_extensions = match index {
                0 => 42 + 2 + 22 + 2,
                1 => 38,
                _ => usize::MAX,
            };
            assert!(
                !decode(&message[..length])[index] || length == whole_without_extensions,
                "message {index} cut at {length}"
            );
        }
        let mut longer = message.clone();
        longer.push(0);
        assert!(
            !decode(&longer)[index],
            "message {index} with a byte behind it"
        );
        for _ in 0..20_000 {
            let mut changed = message.clone();
            let at = random.below(changed.len() as u64) as usize;
            changed[at] = random.next_u64() as u8;
            decode(&changed);
        }
    }
}

/// RFC 5246 section 7.4.1.4: no extension twice.
#[test]
fn extensions_that_are_doubled_or_misshapen_are_refused() {
    let decode = |extensions: &[u8]| {
        ClientHello::decode(&hello_with_extensions(extensions))
            .map(|hello| hello.extensions.unknown)
    };
    assert_eq!(decode(&[]), Ok(false));
    assert_eq!(decode(&[0, 0]), Ok(false));
    assert_eq!(decode(&[0, 4, 0, 99, 0, 0]), Ok(true));
    assert_eq!(
        decode(&[0, 8, 0, 99, 0, 0, 0, 99, 0, 0]),
        Err(Error::Malformed)
    );
    assert_eq!(
        decode(&[0, 8, 0, 23, 0, 0, 0, 23, 0, 0]),
        Err(Error::Malformed)
    );
    assert_eq!(decode(&[0, 5, 0, 23, 0, 1, 0]), Err(Error::Malformed));
    assert_eq!(decode(&[0, 6, 0, 10, 0, 2, 0, 0]), Err(Error::Malformed));
    assert_eq!(decode(&[0, 7, 0, 10, 0, 3, 0, 1, 0]), Err(Error::Malformed));
    assert_eq!(decode(&[0, 5, 0, 99, 0, 9, 0]), Err(Error::Malformed));
    let mut many = vec![];
    for id in 1000..1065_u16 {
        many.extend_from_slice(&id.to_be_bytes());
        many.extend_from_slice(&[0, 0]);
    }
    let with_length =
        |body: &[u8]| [&u16::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat();
    assert_eq!(decode(&with_length(&many[..64 * 4])), Ok(true));
    assert_eq!(decode(&with_length(&many)), Err(Error::Malformed));
}

/// RFC 5746 section 3.6: the SCSV or an empty extension; anything else ends the handshake.
#[test]
fn renegotiation_info_of_a_first_handshake_is_empty() {
    let decode = |extensions: &[u8]| {
        let bytes = hello_with_extensions(extensions);
        ClientHello::decode(&bytes).and_then(|hello| hello.secure_renegotiation())
    };
    assert_eq!(decode(&[]), Ok(false));
    assert_eq!(decode(&[0, 5, 0xff, 1, 0, 1, 0]), Ok(true));
    assert_eq!(
        decode(&[0, 6, 0xff, 1, 0, 2, 1, 9]),
        Err(Error::NoCommonParameters)
    );
}

/// RFC 5246 section 7.4.1.2: the null compression method is mandatory.
#[test]
fn a_client_that_insists_on_compression_is_refused() {
    let mut bytes = hello_with_extensions(&[]);
    *bytes.last_mut().unwrap() = 1;
    assert_eq!(ClientHello::decode(&bytes), Err(Error::IllegalParameter));
}

fn fragment(length: u32, offset: u32, fragment_length: u32, body: &[u8]) -> Vec<u8> {
    let mut out = vec![1];
    out.extend_from_slice(&length.to_be_bytes()[1..]);
    out.extend_from_slice(&[0, 7]);
    out.extend_from_slice(&offset.to_be_bytes()[1..]);
    out.extend_from_slice(&fragment_length.to_be_bytes()[1..]);
    out.extend_from_slice(body);
    out
}

#[test]
fn lengths_of_fragments_are_checked_in_one_place() {
    let decode = |bytes: &[u8]| Fragment::decode(&mut Reader::new(bytes)).map(|f| f.is_whole());
    assert_eq!(decode(&fragment(3, 0, 3, b"abc")), Ok(true));
    assert_eq!(decode(&fragment(3, 1, 2, b"bc")), Ok(false));
    assert_eq!(decode(&fragment(0, 0, 0, b"")), Ok(true));
    for bad in [
        fragment(3, 0, 0, b""),
        fragment(3, 3, 0, b""),
        fragment(3, 2, 2, b"cd"),
        fragment(3, 0xff_ffff, 3, b"abc"),
        fragment(0, 1, 0, b""),
        fragment(3, 0, 3, b"ab"),
        vec![1, 0, 0],
    ] {
        assert_eq!(decode(&bad), Err(DropReason::FragmentMalformed), "{bad:?}");
    }
    assert_eq!(
        decode(&fragment(8193, 0, 1, b"a")),
        Err(DropReason::FragmentBeyondLimit)
    );
    let mut unknown = fragment(3, 0, 3, b"abc");
    unknown[0] = 99;
    assert_eq!(decode(&unknown), Ok(true));
    let header = Fragment::decode(&mut Reader::new(&fragment(3, 1, 2, b"bc")))
        .unwrap()
        .header;
    assert_eq!(header.encode()[..], fragment(3, 1, 2, b"")[..]);
}

#[test]
fn certificates_of_no_bytes_are_refused_and_an_empty_list_is_no_certificate() {
    assert_eq!(
        Certificate::decode(&[0, 0, 0]),
        Ok(Certificate { leaf: None })
    );
    assert_eq!(
        Certificate::decode(&[0, 0, 3, 0, 0, 0]),
        Err(Error::Malformed)
    );
    let two = [0, 0, 9, 0, 0, 2, 1, 2, 0, 0, 1, 3];
    assert_eq!(
        Certificate::decode(&two),
        Ok(Certificate {
            leaf: Some(&[1, 2])
        })
    );
}
