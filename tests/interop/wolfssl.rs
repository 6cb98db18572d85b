//! wolfSSL, as Debian ships it.

use super::peers::{Printed, hex};
use super::support::Server;
use super::{certificate_telemetry_post, created, telemetry_post};

/// Suites by wolfSSL's names.
const SUITES: [&str; 5] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-CCM-8",
    "ECDHE-ECDSA-AES256-CCM-8",
];

#[test]
fn every_suite_delivers_a_reading_with_a_token() {
    let server = Server::start(&[]);
    server.tidegate_ok(&["device", "add", "meter", "--token", "METERTOKEN1"]);
    let port = server.secure_port.to_string();
    for (index, suite) in (0..).zip(SUITES) {
        let message_id = 0x5000 + index;
        let body = format!("{{\"suite\":{index}}}");
        let message = hex(&telemetry_post(message_id, "METERTOKEN1", &body));
        let arguments = ["127.0.0.1", &port, "--suite", suite, "--send", &message];
        let printed = Printed::by("wolfssl", &server, &arguments);
        assert_eq!(printed.one("received"), hex(&created(message_id)));
        assert_eq!(
            server.latest("meter")["suite"]["value"],
            serde_json::json!(index)
        );
    }
}

#[test]
fn a_client_certificate_is_the_device() {
    let server = Server::start(&[]);
    let (certificate, key) = server.certificate_device("tracker");
    let message = hex(&certificate_telemetry_post(0x5100, "{\"speed\":7}"));
    let arguments = [
        "127.0.0.1",
        &server.secure_port.to_string(),
        "--ca",
        "server.pem",
        "--cert",
        certificate.to_str().unwrap(),
        "--key",
        key.to_str().unwrap(),
        "--send",
        &message,
    ];
    let printed = Printed::by("wolfssl", &server, &arguments);
    assert_eq!(printed.one("received"), hex(&created(0x5100)));
    assert_eq!(
        server.latest("tracker")["speed"]["value"],
        serde_json::json!(7)
    );
}
