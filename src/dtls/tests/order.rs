//! Order of messages (RFC 5246 section 7.3): every sequence of client messages up to a length,
//! against a model of what may lead to a session.

use std::sync::Arc;

use super::script::{Script, credentials};
use crate::crypto::fingerprint::device_fingerprint;
use crate::dtls::Credentials;

/// What a client may say after its ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Say {
    EmptyCertificate,
    Certificate,
    ClientKeyExchange,
    CertificateVerify,
    ChangeCipherSpec,
    Finished,
}

const ALPHABET: [Say; 6] = [
    Say::EmptyCertificate,
    Say::Certificate,
    Say::ClientKeyExchange,
    Say::CertificateVerify,
    Say::ChangeCipherSpec,
    Say::Finished,
];

/// What must come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Pending,
    Failed,
    Session { identified: bool },
}

/// The model. ChangeCipherSpec has no place among the messages, so it may come anywhere, but
/// nothing is finished without it. A Finished is unreadable before the keys are there: the message
/// that stands in its way decides.
fn expected(words: &[Say]) -> Outcome {
    use Say::{Certificate, ClientKeyExchange, EmptyCertificate, Finished};
    let changed = words.contains(&Say::ChangeCipherSpec);
    let messages: Vec<Say> = words
        .iter()
        .copied()
        .filter(|&say| say != Say::ChangeCipherSpec)
        .collect();
    let anonymous = [EmptyCertificate, ClientKeyExchange, Finished];
    let identified = [
        Certificate,
        ClientKeyExchange,
        Say::CertificateVerify,
        Finished,
    ];
    for (way, identified) in [(&anonymous[..], false), (&identified[..], true)] {
        if messages.starts_with(way) && changed {
            return Outcome::Session { identified };
        }
    }
    // The first message that is not on a way fails, unless it is a Finished: that cannot be read.
    let wrong = (0..messages.len()).find(|&at| {
        let so_far = &messages[..=at];
        !anonymous.starts_with(so_far) && !identified.starts_with(so_far)
    });
    match wrong {
        Some(at) if !messages[..=at].contains(&Finished) => Outcome::Failed,
        _ => Outcome::Pending,
    }
}

fn run(words: &[Say], device: &Arc<Credentials>) -> (Outcome, Script) {
    let mut script = Script::with_defaults_of(device);
    script.hello();
    for word in words {
        match word {
            Say::EmptyCertificate => script.certificate(&[]),
            Say::Certificate => script.certificate(&device.chain),
            Say::ClientKeyExchange => script.client_key_exchange(),
            Say::CertificateVerify => script.certificate_verify(&device.key),
            Say::ChangeCipherSpec => script.change_cipher_spec(),
            Say::Finished => script.finished(),
        }
    }
    let outcome = match &script.association {
        _ if script.failure.is_some() => Outcome::Failed,
        Some(association) if association.is_established() => {
            let fingerprint = association.peer_fingerprint();
            let expected = device_fingerprint(&device.chain[0]);
            assert!(fingerprint.is_none() || fingerprint == Some(expected));
            Outcome::Session {
                identified: fingerprint.is_some(),
            }
        }
        Some(_) => Outcome::Pending,
        None => panic!("no association and no failure"),
    };
    (outcome, script)
}

/// JSSE CVE-2020-2655 (CertificateVerify left out), pion CVE-2022-29222, wolfSSL CVE-2026-2645
/// (CertificateVerify before ClientKeyExchange) are among the sequences.
#[test]
fn every_sequence_of_messages_does_what_the_model_says() {
    let device = credentials();
    let mut sessions = 0;
    let mut count = 0;
    for length in 0..=5_u32 {
        for mut number in 0..6_usize.pow(length) {
            let words: Vec<Say> = (0..length)
                .map(|_| {
                    let word = ALPHABET[number % 6];
                    number /= 6;
                    word
                })
                .collect();
            let (outcome, script) = run(&words, &device);
            assert_eq!(outcome, expected(&words), "{words:?} {:?}", script.failure);
            sessions += usize::from(matches!(outcome, Outcome::Session { .. }));
            count += 1;
        }
    }
    assert_eq!(count, 1 + 6 + 36 + 216 + 1296 + 7776);
    assert!(sessions > 30, "{sessions}");
}
