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

/// A P-256 certificate first and an RSA one second: each client gets the one that it can verify,
/// with the suites of its kind.
#[test]
fn of_two_certificates_each_client_gets_the_one_that_it_can_verify() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let openssl = |arguments: &[&str]| {
        let output = super::support::run_client("openssl", arguments, directory.path());
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    let subject = ["-subj", "/CN=localhost", "-days", "30", "-nodes", "-x509"];
    let ecdsa = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    for (key, files) in [
        (&ecdsa[..], ["server.pem", "server_key.pem"]),
        (&["-newkey", "rsa:2048"], ["rsa.pem", "rsa_key.pem"]),
    ] {
        let out = ["-out", files[0], "-keyout", files[1]];
        openssl(&[&["req"], key, &subject[..], &out[..]].concat());
    }
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (cert, key) = (path("rsa.pem"), path("rsa_key.pem"));
    let server = Server::start_in(
        directory,
        &[
            ("TIDEGATE_SECOND_PEM_CERT", &cert),
            ("TIDEGATE_SECOND_PEM_KEY", &key),
        ],
    );
    server.tidegate_ok(&["device", "add", "meter", "--token", "METERTOKEN"]);
    let rsa_only = "RSA+SHA256:RSA-PSS+SHA256";
    let cases: &[(&[&str], &str, &str)] = &[
        // Everything: the client's order has ECDSA first.
        (&[], "ECDHE-ECDSA", "server.pem"),
        (
            &["-cipher", "ECDHE-RSA-AES128-GCM-SHA256"],
            "ECDHE-RSA-AES128-GCM-SHA256",
            "rsa.pem",
        ),
        (
            &["-cipher", "ECDHE-RSA-AES256-GCM-SHA384"],
            "ECDHE-RSA-AES256-GCM-SHA384",
            "rsa.pem",
        ),
        (
            &["-cipher", "ECDHE-RSA-CHACHA20-POLY1305"],
            "ECDHE-RSA-CHACHA20-POLY1305",
            "rsa.pem",
        ),
        // Suites of both kinds, but no way to verify ECDSA.
        (&["-sigalgs", rsa_only], "ECDHE-RSA", "rsa.pem"),
        (&["-groups", "X25519"], "ECDHE-RSA", "rsa.pem"),
    ];
    for (number, (arguments, suite, trusted)) in cases.iter().enumerate() {
        let address = format!("127.0.0.1:{}", server.secure_port);
        let usual = ["s_client", "-dtls1_2", "-connect", &address, "-nocommands"];
        let trust = ["-CAfile", trusted, "-verify_return_error"];
        let all = [&usual[..], &trust[..], arguments].concat();
        let mut client = Dialogue::start("openssl", &all, server.directory.path());
        let banner = client
            .expect(b"Extended master secret")
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
        let banner = text(&banner);
        assert!(banner.contains(&format!("Cipher is {suite}")), "{banner}");
        assert!(banner.contains("Verify return code: 0 (ok)"), "{banner}");
        let message_id = 0x5000 + u16::try_from(number).unwrap();
        let payload = format!("{{\"case\":{number}}}");
        client.send(&telemetry_post(message_id, "METERTOKEN", &payload));
        client
            .expect(&created(message_id))
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
    }
    assert_eq!(
        server.latest("meter")["case"]["value"],
        serde_json::json!(cases.len() - 1)
    );
}

/// RFC 6066 section 3: the name is taken, and acknowledged.
#[test]
fn a_server_name_is_logged_at_debug_only() {
    let server = Server::start(&[("TIDEGATE_LOG", "debug")]);
    let mut client = connect(&server, &["-servername", "coap.example.org"]);
    client
        .expect(b"Extended master secret")
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(
        server.log().contains("coap.example.org"),
        "{}",
        server.log()
    );
}
