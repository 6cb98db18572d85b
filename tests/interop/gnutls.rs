//! `gnutls-cli --udp`: each suite and group that it knows, one-way and two-way.

use super::support::{Dialogue, Server};
use super::{certificate_telemetry_post, created, telemetry_post};

const CIPHERS: &[&str] = &[
    "AES-128-GCM",
    "AES-256-GCM",
    "CHACHA20-POLY1305",
    "AES-128-CCM",
    "AES-256-CCM",
    "AES-128-CCM-8",
    "AES-256-CCM-8",
];
const GROUPS: &[&str] = &[
    "GROUP-SECP256R1",
    "GROUP-X25519:+GROUP-SECP256R1",
    "GROUP-SECP384R1:+GROUP-SECP256R1",
];

fn connect(server: &Server, priority: &str, arguments: &[&str]) -> Dialogue {
    let port = server.secure_port.to_string();
    let priority = format!("NORMAL:-VERS-ALL:+VERS-DTLS1.2:{priority}");
    let usual = [
        "-u",
        "-p",
        &port,
        "--x509cafile",
        "server.pem",
        "--priority",
        &priority,
    ];
    Dialogue::start(
        "gnutls-cli",
        &[&usual, arguments, &["localhost"]].concat(),
        server.directory.path(),
    )
}

#[test]
fn every_suite_delivers_a_reading_with_a_token() {
    let server = Server::start(&[]);
    server.tidegate_ok(&["device", "add", "meter", "--token", "METERTOKEN1"]);
    for (index, cipher) in CIPHERS.iter().enumerate() {
        let mut client = connect(&server, &format!("-CIPHER-ALL:+{cipher}"), &[]);
        client
            .expect(b"Simple Client Mode")
            .unwrap_or_else(|e| panic!("{cipher}: {e}"));
        let message_id = 0x2000 + u16::try_from(index).unwrap();
        client.send(&line(&telemetry_post(
            message_id,
            "METERTOKEN1",
            &format!("{{\"suite\":{index}}}"),
        )));
        client
            .expect(&created(message_id))
            .unwrap_or_else(|e| panic!("{cipher}: {e}"));
        assert_eq!(
            server.latest("meter")["suite"]["value"],
            serde_json::json!(index)
        );
    }
}

#[test]
fn every_group_works_two_way() {
    let server = Server::start(&[]);
    let (certificate, key) = server.certificate_device("tracker");
    let files = [
        "--x509certfile",
        certificate.to_str().unwrap(),
        "--x509keyfile",
        key.to_str().unwrap(),
    ];
    for (index, group) in GROUPS.iter().enumerate() {
        let mut client = connect(&server, &format!("-GROUP-ALL:+{group}"), &files);
        client
            .expect(b"Simple Client Mode")
            .unwrap_or_else(|e| panic!("{group}: {e}"));
        client.send(&line(&certificate_telemetry_post(
            0x3001,
            &format!("{{\"group\":{index}}}"),
        )));
        client
            .expect(&created(0x3001))
            .unwrap_or_else(|e| panic!("{group}: {e}"));
        assert_eq!(
            server.latest("tracker")["group"]["value"],
            serde_json::json!(index)
        );
    }
}

/// gnutls-cli sends a line at a time, its end included; JSON may end in white space.
fn line(message: &[u8]) -> Vec<u8> {
    assert!(
        !message.contains(&b'\n'),
        "a message of these tests fits one line"
    );
    [message, b"\n"].concat()
}
