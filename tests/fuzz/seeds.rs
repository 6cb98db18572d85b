//! First inputs for the fuzzers: what our own client and server say to each other.

use std::sync::Arc;

use tidegate::crypto::suite::CipherSuite;
use tidegate::dtls::client::{ClientConfig, ClientConnection, Context};
use tidegate::dtls::{Accepted, Association, CookieJar, MaxFragmentLength, accept, fuzzing};
use tidegate::random::SeededRandom;
use tidegate::time::{Instant, Now};

type Seed = (&'static str, String, Vec<u8>);

/// Requests as devices send them, as hex of CoAP messages.
const REQUESTS: [&str; 8] = [
    "44021234deadbeefb361706902763108414343455353303109 74656c656d65747279 1132ff7b2274223a32357d",
    "4001000160b361706902763101410a61747472696275746573",
    "5402beef01020304b3617069027631014109 74656c656d65747279ff7b7d",
    "4001000abb2e77656c6c2d6b6e6f776e04636f7265",
    "40000007",
    "6000abcd",
    "7000abcd",
    "4802ffff0102030405060708b361706902763111 32d10406d10a1a220bc1ff7b2261223a317d",
];

const NOW: Now = Now {
    instant: Instant::from_micros(1),
    unix_ms: 1_790_000_000_000,
};

/// Target, file name and content of every first input.
pub(crate) fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (number, config) in client_configs().into_iter().enumerate() {
        for (index, datagram) in handshake(&Arc::new(config)).into_iter().enumerate() {
            let name = format!("handshake-{number}-{index}");
            for content in handshake_contents(&datagram) {
                if content[0] == 1 && content.len() > 12 {
                    seeds.push(("client_hello", name.clone(), content[12..].to_vec()));
                }
                seeds.push(("handshake_message", name.clone(), content));
            }
            seeds.push(("record", name, datagram));
        }
    }
    for (number, message) in requests().into_iter().enumerate() {
        seeds.push(("coap_message", format!("request-{number}"), message));
    }
    for (number, der) in certificates().into_iter().enumerate() {
        seeds.push(("certificate", format!("certificate-{number}"), der));
    }
    for (number, program) in programs().into_iter().enumerate() {
        seeds.push(("datagrams", format!("program-{number}"), program));
    }
    seeds
}

fn requests() -> Vec<Vec<u8>> {
    let mut messages: Vec<Vec<u8>> = REQUESTS.iter().map(|hex| from_hex(hex)).collect();
    for (number, method) in [1, 3, 4, 5, 31, 0x45, 0x80].into_iter().enumerate() {
        messages.push(vec![
            0x40 | (number as u8 & 1) << 4,
            method,
            0,
            number as u8,
            0xb1,
            b'x',
        ]);
    }
    messages
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn client_configs() -> Vec<ClientConfig> {
    let usual = ClientConfig::default();
    vec![
        usual.clone(),
        ClientConfig {
            credentials: Some(fuzzing::credentials("device")),
            cipher_suites: vec![CipherSuite::EcdheEcdsaAes128Ccm8],
            ..usual.clone()
        },
        ClientConfig {
            max_transmission_unit: 128,
            extended_master_secret: false,
            max_fragment_length: Some(MaxFragmentLength::Bytes512),
            ..usual.clone()
        },
        ClientConfig {
            pre_shared_key: Some(crate::live::pre_shared_key()),
            cipher_suites: vec![CipherSuite::EcdhePskAes128Gcm],
            ..usual.clone()
        },
        ClientConfig {
            pre_shared_key: Some(crate::live::pre_shared_key()),
            cipher_suites: vec![CipherSuite::PskAes128Ccm8],
            ..usual
        },
    ]
}

/// All datagrams of a handshake, of both ends.
fn handshake(config: &Arc<ClientConfig>) -> Vec<Vec<u8>> {
    let (server, cookies) = (fuzzing::server_config(), CookieJar::new([7; 32]));
    let mut random = SeededRandom::new(1);
    let mut to_server: Vec<Vec<u8>> = Vec::new();
    let mut client = ClientConnection::new(
        NOW,
        Arc::clone(config),
        &mut Context {
            random: &mut random,
            out: &mut to_server,
            drops: &mut |_| {},
        },
    );
    let mut association: Option<Association> = None;
    let mut all = Vec::new();
    while !to_server.is_empty() {
        let mut to_client: Vec<Vec<u8>> = Vec::new();
        for mut datagram in to_server.drain(..) {
            all.push(datagram.clone());
            let mut context = tidegate::dtls::Context {
                config: &server,
                cookies: &cookies,
                connection_ids: &tidegate::dtls::RandomConnectionIds,
                admit_handshakes: true,
                sessions: &tidegate::dtls::NO_SESSIONS,
                revocations: &fuzzing::KeysInUse,
                random: &mut random,
                out: &mut to_client,
                drops: &mut |_| {},
            };
            let peer = b"192.0.2.7:4711";
            match &mut association {
                Some(association) => {
                    association.handle_datagram(NOW, peer, &mut datagram, &mut context);
                    if let Some(lookup) = association.poll_lookup() {
                        let key = config.pre_shared_key.as_ref().map(|own| &own.key);
                        association.handle_credential(NOW, &lookup, key, &mut context);
                    }
                }
                None => {
                    if let Accepted::New(new) = accept(NOW, peer, &mut datagram, &mut context) {
                        association = Some(new);
                    }
                }
            }
        }
        for mut datagram in to_client {
            all.push(datagram.clone());
            let mut context = Context {
                random: &mut random,
                out: &mut to_server,
                drops: &mut |_| {},
            };
            client.handle_datagram(NOW, &mut datagram, &mut context);
        }
    }
    assert!(client.is_established());
    all
}

/// What the handshake records of epoch 0 in a datagram carry.
fn handshake_contents(datagram: &[u8]) -> Vec<Vec<u8>> {
    let mut contents = Vec::new();
    let mut rest = datagram;
    while rest.len() > 13 {
        let length = usize::from(rest[11]) << 8 | usize::from(rest[12]);
        let (record, behind) = rest.split_at((13 + length).min(rest.len()));
        if record[0] == 22 && record[3..5] == [0, 0] {
            contents.push(record[13..].to_vec());
        }
        rest = behind;
    }
    // All messages of the datagram together go through reassembly in one go.
    if contents.len() > 1 {
        contents = vec![contents.concat()];
    }
    contents
}

fn certificates() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let algorithms = [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_RSA_SHA256,
        &rcgen::PKCS_ED25519,
    ];
    for algorithm in algorithms {
        let key = rcgen::KeyPair::generate_for(algorithm).expect("a key");
        for names in [
            vec![],
            vec!["device.example.org".to_owned(), "192.0.2.1".to_owned()],
        ] {
            let mut parameters = rcgen::CertificateParams::new(names).expect("names");
            parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
            parameters.not_after = rcgen::date_time_ymd(2100, 1, 1);
            all.push(
                parameters
                    .self_signed(&key)
                    .expect("a certificate")
                    .der()
                    .to_vec(),
            );
            parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(1));
            parameters.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
            all.push(
                parameters
                    .self_signed(&key)
                    .expect("a certificate")
                    .der()
                    .to_vec(),
            );
        }
    }
    all
}

/// Programs for the live endpoint; see `live`.
fn programs() -> Vec<Vec<u8>> {
    let with = |step: u8, bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).expect("a datagram");
        [&[step][..], &length.to_be_bytes(), bytes].concat()
    };
    let requests: Vec<Vec<u8>> = REQUESTS.iter().map(|hex| from_hex(hex)).collect();
    let hello = handshake(&Arc::new(ClientConfig::default())).swap_remove(0);
    let mut programs = Vec::new();
    // A device's requests under its keys, answered.
    for request in &requests {
        programs.push([with(3, request), vec![8, 0x41, 0, 0], with(3, request)].concat());
        programs.push([with(0x23, request), vec![7, 4, 0, 8, 0x45, 3, 9]].concat());
        programs.push(
            [
                with(1, request),
                vec![9],
                with(1, request),
                vec![7, 0xff, 0xff],
            ]
            .concat(),
        );
    }
    // Strangers, and others in a device's name.
    programs.push(
        [
            with(0, &hello),
            with(0x40, &hello),
            with(2, &hello),
            with(0x22, &hello),
        ]
        .concat(),
    );
    // Other content under the keys: ChangeCipherSpec, alerts, handshake messages.
    programs.push([vec![4, 0, 0, 1, 1], vec![4, 1, 0, 2, 1, 0]].concat());
    programs.push([vec![4, 1, 0, 2, 2, 40], vec![10, 13], with(3, &requests[0])].concat());
    programs.push(
        [
            &[4, 2][..],
            &(hello.len() as u16 - 13).to_be_bytes(),
            &hello[13..],
        ]
        .concat(),
    );
    // Repetitions, changed or not, from here and elsewhere.
    programs.push(
        [
            with(3, &requests[0]),
            vec![5, 255, 0, 0, 5, 255, 20, 1, 6, 255, 0, 0],
        ]
        .concat(),
    );
    programs.push(vec![
        5, 0, 0, 0, 5, 1, 0, 0, 5, 2, 0, 0, 5, 3, 0, 0, 25, 6, 1, 0, 0,
    ]);
    // Handshakes beside the session: whole, changed, in part, with time between.
    programs.push(
        [
            vec![10, 13],
            with(3, &requests[0]),
            vec![10, 11, 0, 0, 11, 0, 0, 13],
        ]
        .concat(),
    );
    programs.push(vec![
        0x2a, 0x2b, 0, 0, 0x2b, 40, 1, 7, 4, 0, 0x2d, 7, 0xff, 0xff, 0x2d,
    ]);
    programs.push(vec![
        10, 11, 0, 0, 12, 7, 8, 0, 13, 7, 16, 0, 13, 10, 10, 13,
    ]);
    // Resumption by id and by ticket, full handshakes, a shard without time, credentials that end.
    let by_ticket = [vec![10, 13, 0x2a, 0x2d], with(0x23, &requests[0])].concat();
    programs.push([by_ticket.clone(), vec![14, 13]].concat());
    programs.push(vec![15, 10, 13, 16, 13, 16, 13, 0x2e, 0x2d, 15, 0x2d]);
    programs.push(vec![0x31, 10, 13, 17, 13, 15, 7, 9, 0, 16, 15, 13]);
    programs.push([vec![18], by_ticket, vec![18]].concat());
    // A session moves with its connection id: a long answer, a check whose time ends, the way home, a
    // handshake beside it, the end of its credential.
    let [first, second] = [&requests[0], &requests[1]];
    let moved = with(0x33, first);
    let (long, later) = (vec![8, 0x45, 0, 100], vec![7, 0x20, 0]);
    programs.push([moved.clone(), long, with(0x23, second), later.clone()].concat());
    programs.push([moved.clone(), later.clone(), with(0x33, second), later].concat());
    programs.push([moved.clone(), vec![0x2a, 0x2d], with(0x33, second)].concat());
    programs.push([moved, vec![18], with(0x23, second)].concat());
    programs
}
