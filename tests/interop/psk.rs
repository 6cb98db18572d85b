//! Pre-shared keys, with every client that has them: the key is the device, and no path needs a token.

use std::path::Path;

use super::peers::{Printed, hex, program};
use super::support::{Dialogue, Server, run_client, text};
use super::{certificate_telemetry_post, created};

const IDENTITY: &str = "Ventil 7, Halle B";
/// Printable, as libcoap's clients take it as text.
const KEY: &str = "a key of 25 printable ch.";

/// A server with the device `valve`, whose identity and key are those above.
fn server() -> Server {
    let server = Server::start(&[]);
    let key = hex(KEY.as_bytes());
    let added = server.tidegate_ok(&[
        "device",
        "add",
        "valve",
        "--psk-identity",
        IDENTITY,
        "--psk",
        &key,
    ]);
    assert!(!added.contains(&key), "{added}");
    server
}

fn assert_stored(server: &Server, key: &str, value: u16) {
    let latest = server.latest("valve");
    assert_eq!(latest[key]["value"], serde_json::json!(value), "{latest}");
}

/// `openssl s_client` with that identity and key.
fn openssl(server: &Server, cipher: &str, identity: &str, key: &str) -> Dialogue {
    let address = format!("127.0.0.1:{}", server.secure_port);
    let key = hex(key.as_bytes());
    let arguments = [
        "s_client",
        "-dtls1_2",
        "-connect",
        &address,
        "-nocommands",
        "-cipher",
        cipher,
        "-psk_identity",
        identity,
        "-psk",
        &key,
    ];
    Dialogue::start("openssl", &arguments, server.directory.path())
}

#[test]
fn openssl_has_plain_and_ecdhe_suites() {
    const CIPHERS: [&str; 4] = [
        "PSK-AES128-GCM-SHA256",
        "PSK-AES128-CCM",
        "PSK-AES128-CCM8",
        "ECDHE-PSK-CHACHA20-POLY1305",
    ];
    let server = server();
    for (index, name) in (0..).zip(CIPHERS) {
        let cipher = format!("{name}:@SECLEVEL=0");
        let mut client = openssl(&server, &cipher, IDENTITY, KEY);
        let banner = client
            .expect(b"Extended master secret: yes")
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let banner = text(&banner);
        assert!(banner.contains(&format!("Cipher is {name}")), "{banner}");
        assert!(banner.contains("no peer certificate available"), "{banner}");
        let message = certificate_telemetry_post(0x6000 + index, &format!("{{\"a\":{index}}}"));
        client.send(&message);
        client.expect(&created(0x6000 + index)).expect("2.01");
        assert_stored(&server, "a", index);
    }
}

/// RFC 4279 section 2: decrypt_error, whether there is no such identity or another key.
#[test]
fn openssl_with_a_wrong_key_or_an_unknown_identity_is_told_the_same() {
    let server = server();
    for (identity, key) in [(IDENTITY, "another key of 25 bytes.."), ("nobody", KEY)] {
        let mut client = openssl(&server, "PSK-AES128-GCM-SHA256", identity, key);
        let said = client.expect(b"alert decrypt error");
        said.unwrap_or_else(|error| panic!("{identity}: {error}"));
    }
    assert_eq!(server.latest("valve"), serde_json::json!({}));
}

/// TB vector 17, as long as no device has a key; and once the last one is gone.
#[test]
fn without_a_key_in_use_psk_alone_is_refused() {
    let server = Server::start(&[]);
    let refused = |server: &Server| {
        let mut client = openssl(server, "PSK-AES128-GCM-SHA256", IDENTITY, KEY);
        client.expect(b"alert handshake failure").expect("refused");
    };
    refused(&server);
    server.tidegate_ok(&["device", "add", "valve", "--psk-identity", IDENTITY]);
    server.tidegate_ok(&["device", "remove", "valve"]);
    refused(&server);
}

/// A device that is removed loses its live session at once.
#[test]
fn a_session_ends_with_its_device() {
    let server = server();
    let mut client = openssl(&server, "PSK-AES128-GCM-SHA256", IDENTITY, KEY);
    client.expect(b"Extended master secret").expect("a session");
    client.send(&certificate_telemetry_post(0x6100, "{\"a\":1}"));
    client.expect(&created(0x6100)).expect("2.01");
    server.tidegate_ok(&["device", "remove", "valve"]);
    client.expect(b"alert access denied").expect("the end");
}

/// The session is resumed by its ticket, as the device's, and not once the key has changed.
#[test]
fn openssl_resumes_a_session_of_a_key() {
    let server = server();
    let address = format!("127.0.0.1:{}", server.secure_port);
    let key = hex(KEY.as_bytes());
    for (message_id, way) in [(0x6200, "-sess_out"), (0x6201, "-sess_in")] {
        let arguments = [
            "s_client",
            "-dtls1_2",
            "-connect",
            &address,
            "-nocommands",
            "-cipher",
            "PSK-AES128-GCM-SHA256",
            "-psk_identity",
            IDENTITY,
            "-psk",
            &key,
            way,
            "session.pem",
        ];
        let mut client = Dialogue::start("openssl", &arguments, server.directory.path());
        let banner = client.expect(b"Extended master secret").expect("a session");
        let kind = if way == "-sess_in" { "Reused," } else { "New," };
        assert!(text(&banner).contains(kind), "{}", text(&banner));
        let body = format!("{{\"r\":{message_id}}}");
        client.send(&certificate_telemetry_post(message_id, &body));
        client.expect(&created(message_id)).expect("2.01");
        assert_stored(&server, "r", message_id);
    }
}

/// Not with ECDHE: gnutls-cli 3.7.9 crashes when it is to say so, after a handshake that went well.
#[test]
fn gnutls_has_plain_suites() {
    let server = server();
    let port = server.secure_port.to_string();
    let key = hex(KEY.as_bytes());
    let suites = [
        "+PSK:-CIPHER-ALL:+AES-128-GCM",
        "+PSK:-CIPHER-ALL:+AES-128-CCM",
        "+PSK:-CIPHER-ALL:+AES-128-CCM-8",
    ];
    for (index, suite) in (0..).zip(suites) {
        let priority = format!("NORMAL:-VERS-ALL:+VERS-DTLS1.2:-KX-ALL:{suite}");
        let arguments = [
            "-u",
            "-p",
            &port,
            "--pskusername",
            IDENTITY,
            "--pskkey",
            &key,
            "--priority",
            &priority,
            "localhost",
        ];
        let mut client = Dialogue::start("gnutls-cli", &arguments, server.directory.path());
        client
            .expect(b"Simple Client Mode")
            .unwrap_or_else(|error| panic!("{suite}: {error}"));
        let message = certificate_telemetry_post(0x6300 + index, &format!("{{\"g\":{index}}}"));
        // It sends a line at a time, its end included; JSON may end in white space.
        client.send(&[&message[..], b"\n"].concat());
        client.expect(&created(0x6300 + index)).expect("2.01");
        assert_stored(&server, "g", index);
    }
}

/// A token in the path does not matter: the session is the key's (TB section 3.6).
#[test]
fn libcoap_s_clients_take_identity_and_key() {
    let server = server();
    server.tidegate_ok(&["device", "add", "other", "--token", "OTHERTOKEN"]);
    for (index, client) in (0..).zip(["coap-client-openssl", "coap-client-gnutls"]) {
        for path in ["api/v1/telemetry", "api/v1/OTHERTOKEN/telemetry"] {
            let uri = format!("coaps://127.0.0.1:{}/{path}", server.secure_port);
            let body = format!("{{\"c\":{index}}}");
            let arguments = [
                "-v",
                "7",
                "-m",
                "post",
                "-t",
                "application/json",
                "-e",
                &body,
                "-B",
                "10",
                "-u",
                IDENTITY,
                "-k",
                KEY,
                &uri,
            ];
            let output = run_client(client, &arguments, server.directory.path());
            let printed = text(&output.stdout) + &text(&output.stderr);
            assert!(printed.contains("2.01"), "{client}: {printed}");
            assert_stored(&server, "c", index);
        }
    }
    assert_eq!(server.latest("other"), serde_json::json!({}));
}

/// A peer of `tests/peers` that has these suites.
fn peer_delivers(peer: &str, address: &[&str], suites: &[&str], first_message_id: u16) {
    let server = server();
    let port = server.secure_port.to_string();
    let joined = format!("127.0.0.1:{port}");
    let key = hex(KEY.as_bytes());
    for (index, suite) in (0..).zip(suites) {
        let message_id = first_message_id + index;
        let message = certificate_telemetry_post(message_id, &format!("{{\"p\":{index}}}"));
        let message = hex(&message);
        let mut arguments = match address {
            [] => vec![joined.as_str()],
            host => [host, &[port.as_str()]].concat(),
        };
        if !suite.is_empty() {
            arguments.extend_from_slice(&["--suite", suite]);
        }
        arguments.extend_from_slice(&["--psk-identity", IDENTITY, "--psk", &key]);
        arguments.extend_from_slice(&["--send", &message]);
        let printed = Printed::by(peer, &server, &arguments);
        assert_eq!(
            printed.one("received"),
            hex(&created(message_id)),
            "{suite}"
        );
        assert_stored(&server, "p", index);
    }
}

#[test]
fn mbed_tls_has_plain_suites() {
    let suites = [
        "TLS-PSK-WITH-AES-128-GCM-SHA256",
        "TLS-PSK-WITH-AES-128-CCM",
        "TLS-PSK-WITH-AES-128-CCM-8",
    ];
    peer_delivers("mbedtls", &[], &suites, 0x6400);
}

/// The one client here with RFC 8442: AES-GCM under ECDHE.
#[test]
fn wolfssl_has_ecdhe_with_aes_gcm() {
    let suites = ["ECDHE-PSK-AES128-GCM-SHA256", "ECDHE-PSK-CHACHA20-POLY1305"];
    peer_delivers("wolfssl", &["127.0.0.1"], &suites, 0x6500);
}

#[test]
fn dimpl_takes_identity_and_key() {
    peer_delivers("dimpl", &[], &[""], 0x6600);
}

/// aiocoap on tinydtls: PSK_WITH_AES_128_CCM_8, the suite that every CoAP device with keys has (RFC
/// 7252 section 9.1.3.1). tinydtls takes keys of no more than 16 bytes.
#[test]
fn aiocoap_on_tinydtls_stores_readings() {
    let server = Server::start(&[]);
    let uri = format!("coaps://127.0.0.1:{}/api/v1/telemetry", server.secure_port);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/aiocoap/client.py");
    let script = script.display().to_string();
    let key = hex(b"sixteen letters!");
    server.tidegate_ok(&[
        "device",
        "add",
        "valve",
        "--psk-identity",
        "valve-7",
        "--psk",
        &key,
    ]);
    let arguments = [&script, &uri, "valve-7", &key, "{\"t\":1}", "{\"t\":2}"];
    let output = run_client(&program("aiocoap"), &arguments, server.directory.path());
    let printed = text(&output.stdout);
    assert!(output.status.success(), "{printed}{}", text(&output.stderr));
    assert_eq!(printed, "answered 2.01\nanswered 2.01\n");
    assert_stored(&server, "t", 2);
}
