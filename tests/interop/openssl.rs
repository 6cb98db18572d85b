//! `openssl s_client`: each suite and group that it knows, one-way and two-way.

use super::support::{Dialogue, Server, text};
use super::{certificate_telemetry_post, created, telemetry_post};

const SUITES: &[(&str, &str)] = &[
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
    ),
    (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
    ),
    (
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
    ),
    (
        "ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0",
        "ECDHE-ECDSA-AES128-CCM8",
    ),
    (
        "ECDHE-ECDSA-AES256-CCM8:@SECLEVEL=0",
        "ECDHE-ECDSA-AES256-CCM8",
    ),
    ("ECDHE-ECDSA-AES128-CCM", "ECDHE-ECDSA-AES128-CCM"),
    ("ECDHE-ECDSA-AES256-CCM", "ECDHE-ECDSA-AES256-CCM"),
];

/// Connects with `arguments` on top of the usual ones.
fn connect(server: &Server, arguments: &[&str]) -> Dialogue {
    let address = format!("127.0.0.1:{}", server.secure_port);
    let usual = [
        "s_client",
        "-dtls1_2",
        "-connect",
        &address,
        "-CAfile",
        "server.pem",
        "-nocommands",
    ];
    Dialogue::start(
        "openssl",
        &[&usual, arguments].concat(),
        server.directory.path(),
    )
}

#[test]
fn every_suite_delivers_a_reading_with_a_token() {
    let server = Server::start(&[]);
    server.tidegate_ok(&["device", "add", "meter", "--token", "METERTOKEN"]);
    for (index, (cipher, name)) in SUITES.iter().enumerate() {
        let mut client = connect(&server, &["-cipher", cipher]);
        let banner = client
            .expect(b"Extended master secret")
            .unwrap_or_else(|e| panic!("{cipher}: {e}"));
        assert!(
            text(&banner).contains(&format!("Cipher is {name}")),
            "{}",
            text(&banner)
        );
        assert!(
            text(&banner).contains("Verify return code: 0 (ok)"),
            "{}",
            text(&banner)
        );
        assert!(
            text(&banner).contains("Extended master secret: yes"),
            "{}",
            text(&banner)
        );
        let message_id = 0x2000 + u16::try_from(index).unwrap();
        client.send(&telemetry_post(
            message_id,
            "METERTOKEN",
            &format!("{{\"suite\":{index}}}"),
        ));
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
fn every_group_works_one_way_and_two_way() {
    let server = Server::start(&[]);
    let (certificate, key) = server.certificate_device("tracker");
    let files = [certificate.to_str().unwrap(), key.to_str().unwrap()];
    for (index, group) in ["P-256", "X25519:P-256", "P-384:P-256"].iter().enumerate() {
        // One-way: the handshake completes, the request has no identity.
        let mut anonymous = connect(&server, &["-groups", group]);
        anonymous
            .expect(b"Extended master secret")
            .unwrap_or_else(|e| panic!("{group}: {e}"));
        anonymous.send(&certificate_telemetry_post(0x3000, "{\"a\":1}"));
        anonymous
            .expect(&[0x64, 0x81, 0x30, 0x00])
            .unwrap_or_else(|e| panic!("{group}: {e}"));
        // Two-way: the certificate is the device.
        let mut client = connect(
            &server,
            &["-groups", group, "-cert", files[0], "-key", files[1]],
        );
        client
            .expect(b"Extended master secret")
            .unwrap_or_else(|e| panic!("{group}: {e}"));
        client.send(&certificate_telemetry_post(
            0x3001,
            &format!("{{\"group\":{index}}}"),
        ));
        client
            .expect(&created(0x3001))
            .unwrap_or_else(|e| panic!("{group}: {e}"));
        assert_eq!(
            server.latest("tracker")["group"]["value"],
            serde_json::json!(index)
        );
    }
}

#[test]
fn a_small_mtu_fragments_the_client_s_flights() {
    let server = Server::start(&[]);
    let (certificate, key) = server.certificate_device("small");
    let arguments = [
        "-mtu",
        "256",
        "-cert",
        certificate.to_str().unwrap(),
        "-key",
        key.to_str().unwrap(),
    ];
    let mut client = connect(&server, &arguments);
    client
        .expect(b"Extended master secret")
        .unwrap_or_else(|error| panic!("{error}"));
    client.send(&certificate_telemetry_post(0x4000, "{\"mtu\":256}"));
    client
        .expect(&created(0x4000))
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_client_without_a_common_suite_is_told_so() {
    let server = Server::start(&[]);
    let mut client = connect(&server, &["-cipher", "ECDHE-ECDSA-AES128-SHA256"]);
    let output = client
        .expect(b"handshake failure")
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(text(&output).contains("alert"), "{}", text(&output));
}
