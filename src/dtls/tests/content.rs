//! Wrong content in messages of the right order, each with the alert that it earns.

use std::sync::Arc;

use super::script::{Script, credentials, credentials_between};
use crate::crypto::signature::SignatureScheme;
use crate::crypto::suite::CipherSuite;
use crate::drop_reason::DropReason;
use crate::dtls::message::HandshakeType;
use crate::dtls::record::ContentType;
use crate::dtls::{AlertDescription, Error, ServerConfig};

/// The script failed with this error, told the peer so, and left nothing behind.
#[track_caller]
fn assert_failed(script: &mut Script, error: Error, alert: AlertDescription) {
    assert_eq!(script.failure, Some(error));
    assert_eq!(script.take_alerts(), [alert]);
    assert!(script.association.is_none());
}

fn after_key_exchange() -> (Script, Arc<crate::dtls::Credentials>) {
    let device = credentials();
    let mut script = Script::with_defaults();
    script.hello();
    script.certificate(&device.chain);
    script.client_key_exchange();
    (script, device)
}

/// RFC 5246 section 7.4.8: the signature must be by the leaf's key ...
#[test]
fn a_certificate_verify_by_another_key_is_refused() {
    let (mut script, _) = after_key_exchange();
    script.certificate_verify(&credentials().key);
    assert_failed(
        &mut script,
        Error::BadSignature,
        AlertDescription::DecryptError,
    );
}

/// ... over all messages so far ...
#[test]
fn a_certificate_verify_over_other_messages_is_refused() {
    let (mut script, device) = after_key_exchange();
    let mut bytes = script.transcript.bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let signature = device
        .key
        .sign(SignatureScheme::EcdsaSha256, &bytes)
        .unwrap();
    script.certificate_verify_with(0x0403, &signature);
    assert_failed(
        &mut script,
        Error::BadSignature,
        AlertDescription::DecryptError,
    );
}

/// ... and by a scheme that was asked for and fits the key; not SHA-1, not RSA (wolfSSL
/// CVE-2026-5194: hash and kind of key come from the negotiated scheme).
#[test]
fn a_certificate_verify_by_another_scheme_is_refused() {
    for scheme in [0x0203, 0x0201, 0x0401, 0x0804, 0x0807, 0] {
        let (mut script, device) = after_key_exchange();
        let bytes = script.transcript.bytes().to_vec();
        let signature = device
            .key
            .sign(SignatureScheme::EcdsaSha256, &bytes)
            .unwrap();
        script.certificate_verify_with(scheme, &signature);
        assert_failed(
            &mut script,
            Error::IllegalParameter,
            AlertDescription::IllegalParameter,
        );
    }
    let (mut script, device) = after_key_exchange();
    let bytes = script.transcript.bytes().to_vec();
    let signature = device
        .key
        .sign(SignatureScheme::EcdsaSha256, &bytes)
        .unwrap();
    script.certificate_verify_with(0x0503, &signature);
    assert_failed(
        &mut script,
        Error::BadSignature,
        AlertDescription::DecryptError,
    );
}

/// Java CVE-2022-21449: r = s = 0.
#[test]
fn a_signature_of_zeros_is_refused() {
    let (mut script, _) = after_key_exchange();
    script.certificate_verify_with(0x0403, &[0x30, 6, 2, 1, 0, 2, 1, 0]);
    assert_failed(
        &mut script,
        Error::BadSignature,
        AlertDescription::DecryptError,
    );
    let (mut script, _) = after_key_exchange();
    script.certificate_verify_with(0x0403, &[]);
    assert_failed(
        &mut script,
        Error::BadSignature,
        AlertDescription::DecryptError,
    );
}

/// RFC 5246 section 7.4.9: Finished must be right.
#[test]
fn a_wrong_finished_is_refused() {
    let ready = || {
        let mut script = Script::with_defaults();
        script.hello();
        script.certificate(&[]);
        script.client_key_exchange();
        script.change_cipher_spec();
        script
    };
    for at in 0..12 {
        let mut script = ready();
        let mut verify_data = script.verify_data();
        verify_data[at] ^= 1;
        script.finished_with(&verify_data);
        assert_failed(
            &mut script,
            Error::BadFinished,
            AlertDescription::DecryptError,
        );
    }
    for length in [0, 11, 13] {
        let mut script = ready();
        let mut verify_data = script.verify_data().to_vec();
        verify_data.resize(length, 0);
        script.finished_with(&verify_data);
        assert_failed(&mut script, Error::Malformed, AlertDescription::DecodeError);
    }
    let mut script = ready();
    script.finished();
    assert!(script.is_established());
}

/// TB 3.3: a leaf before or after its validity is bad_certificate, unless that is switched off.
#[test]
fn dates_of_the_leaf_are_checked_unless_switched_off() {
    for years in [(2000, 2020), (2090, 2100)] {
        let device = credentials_between(years);
        let mut script = Script::with_defaults();
        script.hello();
        script.certificate(&device.chain);
        assert_failed(
            &mut script,
            Error::BadCertificate,
            AlertDescription::BadCertificate,
        );
        let mut config = ServerConfig::new(credentials());
        config.skip_client_validity_check = true;
        let mut script = Script::new(config);
        script.establish(Some(&device));
        assert!(script.association.unwrap().peer_fingerprint().is_some());
    }
}

/// We authenticate the leaf only, so nothing behind it matters: not an expired certificate, not
/// bytes that are no certificate.
#[test]
fn only_the_leaf_counts() {
    let device = credentials();
    let mut chain = device.chain.clone();
    chain.extend(credentials_between((2000, 2001)).chain.clone());
    chain.push(vec![1, 2, 3]);
    let mut script = Script::with_defaults();
    script.hello();
    script.certificate(&chain);
    script.client_key_exchange();
    script.certificate_verify(&device.key);
    script.change_cipher_spec();
    script.finished();
    let fingerprint = script.association.unwrap().peer_fingerprint();
    assert_eq!(
        fingerprint,
        Some(crate::crypto::fingerprint::device_fingerprint(&chain[0]))
    );
}

/// RFC 5246 section 7.2.2: unsupported_certificate for a kind of key that we do not have,
/// bad_certificate for what cannot be read; sizes are capped before parsing.
#[test]
fn unreadable_and_unsupported_leaves_are_refused() {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let parameters = rcgen::CertificateParams::new(["device".to_owned()]).unwrap();
    let ed25519 = parameters.self_signed(&key).unwrap().der().to_vec();
    let mut script = Script::with_defaults();
    script.hello();
    script.certificate(&[ed25519]);
    let unsupported = AlertDescription::UnsupportedCertificate;
    assert_failed(&mut script, Error::UnsupportedCertificate, unsupported);
    let mut cut = credentials().chain[0].clone();
    cut.truncate(100);
    for leaf in [vec![0], vec![0x30, 0x80], vec![0xff; 8000], cut] {
        let mut script = Script::with_defaults();
        script.hello();
        script.certificate(&[leaf]);
        assert_failed(
            &mut script,
            Error::BadCertificate,
            AlertDescription::BadCertificate,
        );
    }
    for body in [
        &[][..],
        &[0, 0],
        &[0, 0, 1],
        &[0, 0, 3, 0, 0, 0],
        &[0, 0, 0, 0],
    ] {
        let mut script = Script::with_defaults();
        script.hello();
        script.send(HandshakeType::Certificate, |out| {
            out.extend_from_slice(body)
        });
        assert_failed(&mut script, Error::Malformed, AlertDescription::DecodeError);
    }
}

/// RFC 8422 section 5.10: points are checked.
#[test]
fn invalid_points_are_refused() {
    let mut off_curve = vec![4];
    off_curve.resize(65, 7);
    for point in [
        vec![],
        vec![0],
        vec![4; 64],
        off_curve,
        vec![2; 33],
        vec![0; 65],
    ] {
        let mut script = Script::with_defaults();
        script.hello();
        script.certificate(&[]);
        script.client_key_exchange_with(&point);
        assert_failed(
            &mut script,
            Error::IllegalParameter,
            AlertDescription::IllegalParameter,
        );
    }
}

/// Messages of a server, or of a renegotiation, from a client.
#[test]
fn messages_of_the_wrong_side_are_refused() {
    for message_type in [
        HandshakeType::HelloRequest,
        HandshakeType::ServerHello,
        HandshakeType::HelloVerifyRequest,
        HandshakeType::ServerKeyExchange,
        HandshakeType::CertificateRequest,
        HandshakeType::ServerHelloDone,
        HandshakeType::ClientHello,
        HandshakeType::Unknown,
    ] {
        let mut script = Script::with_defaults();
        script.hello();
        script.send(message_type, |_| {});
        assert_failed(
            &mut script,
            Error::UnexpectedMessage,
            AlertDescription::UnexpectedMessage,
        );
    }
}

/// RFC 5246 section 7.4: a message of no known type is an unexpected one once its turn comes, in
/// the clear and under the keys; ahead of its turn it only waits.
#[test]
fn messages_of_an_unknown_type_wait_for_their_turn_and_are_refused() {
    let mut script = Script::with_defaults();
    script.hello();
    let certificate = script.message(HandshakeType::Certificate, |out| {
        out.extend_from_slice(&[0; 3])
    });
    script.send(HandshakeType::Unknown, |_| {});
    assert!(script.failure.is_none());
    let record = script.plain_record(ContentType::Handshake, &certificate);
    script.deliver(record);
    assert_failed(
        &mut script,
        Error::UnexpectedMessage,
        AlertDescription::UnexpectedMessage,
    );
    let mut script = Script::with_defaults();
    script.hello();
    script.certificate(&[]);
    script.client_key_exchange();
    script.change_cipher_spec();
    script.send(HandshakeType::Unknown, |_| {});
    assert_failed(
        &mut script,
        Error::UnexpectedMessage,
        AlertDescription::UnexpectedMessage,
    );
}

/// tinydtls CVE-2021-42141: the epoch of a message is checked before it is read.
#[test]
fn messages_of_the_wrong_epoch_are_dropped() {
    // Finished in the clear.
    let mut script = Script::with_defaults();
    script.hello();
    script.certificate(&[]);
    script.client_key_exchange();
    script.change_cipher_spec();
    let protection = script.protection.take();
    script.finished();
    assert_eq!(script.dropped(DropReason::RecordEpoch), 1);
    assert!(!script.is_established() && script.failure.is_none());
    // The same under the keys goes on where it was.
    script.protection = protection;
    script.message_seq -= 1;
    let (_, verify_data) = script.last_finished.unwrap();
    script.finished_with(&verify_data);
    assert!(script.is_established());

    // A message of epoch 0 under the keys.
    let mut script = Script::with_defaults();
    script.hello();
    script.certificate(&[]);
    script.client_key_exchange();
    script.change_cipher_spec();
    let message = script.message(HandshakeType::CertificateVerify, |_| {});
    let record = script.protected_record(crate::dtls::record::ContentType::Handshake, &message);
    script.deliver(record);
    assert_eq!(script.dropped(DropReason::RecordEpoch), 1);
    assert!(script.failure.is_none());
}

fn refused(edit: impl Fn(&Script, &[u8]) -> Vec<u8>) -> Option<Error> {
    let mut script = Script::with_defaults();
    script.client.cipher_suites = vec![CipherSuite::EcdheEcdsaAes128Gcm];
    script.hello_with(edit);
    script.failure
}

/// A ClientHello of one suite with these extensions.
fn hello(version: u16, cookie: &[u8], extensions: &[&[u8]]) -> Vec<u8> {
    let mut out = version.to_be_bytes().to_vec();
    out.extend_from_slice(&[0x42; 32]);
    out.push(0);
    out.push(u8::try_from(cookie.len()).unwrap());
    out.extend_from_slice(cookie);
    out.extend_from_slice(&[0, 2, 0xc0, 0x2b, 1, 0]);
    let extensions = extensions.concat();
    out.extend_from_slice(&u16::try_from(extensions.len()).unwrap().to_be_bytes());
    out.extend_from_slice(&extensions);
    out
}

const SCHEMES: &[u8] = &[0, 13, 0, 4, 0, 2, 4, 3];
const GROUPS: &[u8] = &[0, 10, 0, 4, 0, 2, 0, 23];
const POINT_FORMATS: &[u8] = &[0, 11, 0, 2, 1, 0];

/// RFC 5246 appendix E.1 and RFC 6347 section 4.2.1: later versions are welcome, DTLS 1.0 is not.
#[test]
fn versions() {
    let with = |version| refused(move |_, cookie| hello(version, cookie, &[SCHEMES, GROUPS]));
    assert_eq!(with(0xfefd), None);
    assert_eq!(with(0xfefc), None);
    assert_eq!(with(0xfdff), None);
    for version in [0xfeff, 0xfefe, 0x0303, 0x0100, 0x7fff, 0xfffd] {
        assert_eq!(with(version), Some(Error::NoCommonVersion), "{version:04x}");
    }
}

#[test]
fn extensions_decide_what_is_possible() {
    let with = |extensions: &[&[u8]]| refused(|_, cookie| hello(0xfefd, cookie, extensions));
    assert_eq!(with(&[SCHEMES, GROUPS, POINT_FORMATS]), None);
    // RFC 8422 section 4: without supported_groups the choice is ours.
    assert_eq!(with(&[SCHEMES]), None);
    // RFC 5246 section 7.4.1.4.1: without signature_algorithms the client means SHA-1.
    assert_eq!(with(&[GROUPS]), Some(Error::NoCommonParameters));
    let sha1: &[u8] = &[0, 13, 0, 4, 0, 2, 2, 3];
    assert_eq!(with(&[sha1, GROUPS]), Some(Error::NoCommonParameters));
    let sha384: &[u8] = &[0, 13, 0, 4, 0, 2, 5, 3];
    assert_eq!(with(&[sha384, GROUPS]), Some(Error::NoCommonParameters));
    let x448: &[u8] = &[0, 10, 0, 4, 0, 2, 0, 30];
    assert_eq!(with(&[SCHEMES, x448]), Some(Error::NoCommonParameters));
    // The server's curve is there, but no group that we have besides it.
    // RFC 8422 section 5.1.2: uncompressed must be among the formats.
    let compressed: &[u8] = &[0, 11, 0, 3, 2, 1, 2];
    assert_eq!(
        with(&[SCHEMES, GROUPS, compressed]),
        Some(Error::IllegalParameter)
    );
    let renegotiation: &[u8] = &[0xff, 1, 0, 2, 1, 7];
    assert_eq!(
        with(&[SCHEMES, GROUPS, renegotiation]),
        Some(Error::NoCommonParameters)
    );
    assert_eq!(with(&[SCHEMES, SCHEMES]), Some(Error::Malformed));
    // RFC 6066 section 4: 1 to 4, nothing else.
    for code in 0..=5 {
        let error = with(&[SCHEMES, &[0, 1, 0, 1, code]]);
        let expected = if (1..=4).contains(&code) {
            None
        } else {
            Some(Error::IllegalParameter)
        };
        assert_eq!(error, expected);
    }
}

/// A ClientHello that does not parse is answered only after its cookie was valid.
#[test]
fn a_malformed_client_hello_is_refused_after_the_door() {
    let error = refused(|_, cookie| {
        let mut body = hello(0xfefd, cookie, &[SCHEMES]);
        body.push(0);
        body
    });
    assert_eq!(error, Some(Error::Malformed));
    // PSK only (TB vector 17).
    let error = refused(|_, cookie| {
        let mut body = hello(0xfefd, cookie, &[SCHEMES]);
        let at = body.len() - 2 - SCHEMES.len() - 4;
        body[at..at + 2].copy_from_slice(&[0xc0, 0xa8]);
        body
    });
    assert_eq!(error, Some(Error::NoCommonParameters));
}

/// RFC 5746 section 3.6 and RFC 7627 section 5.1: the answers only to those who asked.
#[test]
fn the_server_hello_answers_what_was_offered() {
    use crate::dtls::message::{Fragment, ReceivedServerHello};
    use crate::wire::Reader;
    let answer = |extensions: &[&[u8]]| {
        let mut script = Script::with_defaults();
        script.hello_with(|_, cookie| hello(0xfefd, cookie, extensions));
        let bytes = script.answers[0].clone();
        let body = Fragment::decode(&mut Reader::new(&bytes[13..]))
            .unwrap()
            .body
            .to_vec();
        let hello = ReceivedServerHello::decode(&body).unwrap();
        let extensions = hello.extensions;
        (
            extensions.renegotiation_info.map(<[u8]>::to_vec),
            extensions.extended_master_secret,
            extensions.ec_point_formats.map(<[u8]>::to_vec),
        )
    };
    assert_eq!(answer(&[SCHEMES]), (None, false, None));
    let renegotiation: &[u8] = &[0xff, 1, 0, 1, 0];
    let extended: &[u8] = &[0, 23, 0, 0];
    let (info, ems, formats) = answer(&[SCHEMES, renegotiation, extended, POINT_FORMATS]);
    assert_eq!((info, ems, formats), (Some(vec![]), true, Some(vec![0])));
}
