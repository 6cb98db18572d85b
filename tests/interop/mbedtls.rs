//! Mbed TLS, the library of most small devices: CCM_8, datagrams of few bytes, pre-shared keys, and
//! connection ids under changing addresses.

use super::peers::{Printed, hex};
use super::support::Server;
use super::{certificate_telemetry_post, created, telemetry_post};

/// Suites by Mbed TLS' names.
const SUITES: [&str; 6] = [
    "TLS-ECDHE-ECDSA-WITH-AES-128-CCM-8",
    "TLS-ECDHE-ECDSA-WITH-AES-256-CCM-8",
    "TLS-ECDHE-ECDSA-WITH-AES-128-CCM",
    "TLS-ECDHE-ECDSA-WITH-AES-256-CCM",
    "TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256",
    "TLS-ECDHE-ECDSA-WITH-AES-256-GCM-SHA384",
];

fn address(server: &Server) -> String {
    format!("127.0.0.1:{}", server.secure_port)
}

#[test]
fn every_suite_delivers_a_reading_with_a_token() {
    let server = Server::start(&[]);
    server.tidegate_ok(&["device", "add", "meter", "--token", "METERTOKEN1"]);
    for (index, suite) in (0..).zip(SUITES) {
        let message_id = 0x4000 + index;
        let body = format!("{{\"suite\":{index}}}");
        let message = hex(&telemetry_post(message_id, "METERTOKEN1", &body));
        let arguments = [
            &address(&server),
            "--suite",
            suite,
            "--ca",
            "server.pem",
            "--send",
            &message,
        ];
        let printed = Printed::by("mbedtls", &server, &arguments);
        assert_eq!(printed.one("established"), suite);
        assert_eq!(printed.one("received"), hex(&created(message_id)));
        assert_eq!(
            server.latest("meter")["suite"]["value"],
            serde_json::json!(index)
        );
    }
}

/// Datagrams of 200 bytes both ways: the certificates, of client and server, come in pieces.
#[test]
fn small_datagrams_carry_a_handshake_with_a_certificate() {
    let server = Server::start(&[("COAP_DTLS_MAX_TRANSMISSION_UNIT", "200")]);
    let (certificate, key) = server.certificate_device("tracker");
    for (index, suite) in (0..).zip([SUITES[0], SUITES[4]]) {
        let message = certificate_telemetry_post(0x4100 + index, &format!("{{\"small\":{index}}}"));
        let arguments = [
            &address(&server),
            "--suite",
            suite,
            "--cert",
            certificate.to_str().unwrap(),
            "--key",
            key.to_str().unwrap(),
            "--mtu",
            "200",
            "--send",
            &hex(&message),
        ];
        let printed = Printed::by("mbedtls", &server, &arguments);
        assert_eq!(printed.one("received"), hex(&created(0x4100 + index)));
        assert_eq!(
            server.latest("tracker")["small"]["value"],
            serde_json::json!(index)
        );
    }
}

/// RFC 6066 section 4, from a client with room for 512 bytes.
#[test]
fn records_are_as_short_as_the_client_asks() {
    let server = Server::start(&[]);
    let (certificate, key) = server.certificate_device("tracker");
    let message = certificate_telemetry_post(0x4200, "{\"short\":1}");
    let arguments = [
        &address(&server),
        "--max-fragment-length",
        "512",
        "--cert",
        certificate.to_str().unwrap(),
        "--key",
        key.to_str().unwrap(),
        "--send",
        &hex(&message),
    ];
    let printed = Printed::by("mbedtls", &server, &arguments);
    assert_eq!(printed.one("received"), hex(&created(0x4200)));
}
