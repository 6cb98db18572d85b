//! libcoap's clients on OpenSSL and on GnuTLS, with the commands that ThingsBoard's manual prints.

use super::support::{Server, run_client, text};

const CLIENTS: &[&str] = &["coap-client-openssl", "coap-client-gnutls"];

#[test]
fn the_manual_s_token_command_stores_a_reading() {
    let server = Server::start(&[]);
    server.tidegate_ok(&["device", "add", "meter", "--token", "METERTOKEN"]);
    for (index, client) in CLIENTS.iter().enumerate() {
        let uri = format!(
            "coaps://localhost:{}/api/v1/METERTOKEN/telemetry",
            server.secure_port
        );
        let body = format!("{{\"temperature\":{}}}", 42 + index);
        let arguments = [
            "-v",
            "9",
            "-m",
            "POST",
            "-t",
            "application/json",
            "-e",
            &body,
            "-B",
            "10",
            &uri,
        ];
        let output = run_client(client, &arguments, server.directory.path());
        let printed = text(&output.stdout) + &text(&output.stderr);
        assert!(printed.contains("2.01"), "{client}: {printed}");
        assert_eq!(
            server.latest("meter")["temperature"]["value"],
            serde_json::json!(42 + index),
            "{client}"
        );
    }
}

#[test]
fn a_client_certificate_is_the_device() {
    let server = Server::start(&[]);
    let (certificate, key) = server.certificate_device("tracker");
    let files = [certificate.to_str().unwrap(), key.to_str().unwrap()];
    let ca = server.path("server.pem").display().to_string();
    for (index, client) in CLIENTS.iter().enumerate() {
        let uri = format!("coaps://localhost:{}/api/v1/telemetry", server.secure_port);
        let body = format!("{{\"speed\":{index}}}");
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
            "-C",
            &ca,
            "-c",
            files[0],
            "-j",
            files[1],
            &uri,
        ];
        let output = run_client(client, &arguments, server.directory.path());
        let printed = text(&output.stdout) + &text(&output.stderr);
        assert!(printed.contains("2.01"), "{client}: {printed}");
        let stored = &server.latest("tracker")["speed"]["value"];
        assert_eq!(*stored, serde_json::json!(index), "{client}");
    }
}

#[test]
fn attributes_are_posted_and_read_back() {
    let server = Server::start(&[]);
    server.tidegate_ok(&["device", "add", "lamp", "--token", "LAMPTOKEN"]);
    for client in CLIENTS {
        let base = format!(
            "coaps://localhost:{}/api/v1/LAMPTOKEN/attributes",
            server.secure_port
        );
        let post = ["-m", "post", "-e", "{firmware:'1.2'}", "-B", "10", &base];
        run_client(client, &post, server.directory.path());
        let query = format!("{base}?clientKeys=firmware");
        let read = ["-m", "get", "-B", "10", &query];
        let output = run_client(client, &read, server.directory.path());
        let printed = text(&output.stdout);
        // "1.2" looks like a number and JSON_TYPE_CAST_ENABLED is on by default.
        assert!(
            printed.contains(r#"{"client":{"firmware":1.2}}"#),
            "{client}: {printed}"
        );
    }
}

#[test]
fn plain_coap_stores_a_reading_too() {
    let server = Server::start(&[]);
    server.tidegate_ok(&["device", "add", "plain", "--token", "PLAINTOKEN"]);
    let uri = format!(
        "coap://127.0.0.1:{}/api/v1/PLAINTOKEN/telemetry",
        server.plain_port
    );
    let arguments = ["-v", "7", "-m", "post", "-e", "{t:1}", "-B", "10", &uri];
    let output = run_client(CLIENTS[0], &arguments, server.directory.path());
    let printed = text(&output.stdout) + &text(&output.stderr);
    assert!(printed.contains("2.01"), "{printed}");
    assert_eq!(server.latest("plain")["t"]["value"], serde_json::json!(1));
}

/// RFC 7252 section 5.3.2: an answer's source is the request's destination, which libcoap's connected sockets
/// insist on. Californium, bound to all addresses as by default, leaves it to the kernel (its issue 315).
#[test]
fn a_server_bound_to_all_addresses_answers_from_the_one_that_was_asked() {
    for (bound, driver) in [("0.0.0.0", "uring"), ("::", "uring"), ("::", "mmsg")] {
        let server = Server::start(&[
            ("COAP_BIND_ADDRESS", bound),
            ("COAP_DTLS_BIND_ADDRESS", bound),
            ("TIDEGATE_DRIVER", driver),
        ]);
        server.tidegate_ok(&["device", "add", "meter", "--token", "METERTOKEN"]);
        for (index, asked) in ["127.0.0.1", "127.0.0.2", "[::1]"].into_iter().enumerate() {
            if asked.starts_with('[') && bound != "::" {
                continue;
            }
            for (scheme, port) in [("coap", server.plain_port), ("coaps", server.secure_port)] {
                let uri = format!("{scheme}://{asked}:{port}/api/v1/METERTOKEN/telemetry");
                let body = format!("{{\"{scheme}\":{index}}}");
                // The certificate does not have the other addresses.
                let arguments = ["-n", "-v", "7", "-m", "post", "-e", &body, "-B", "10", &uri];
                let output = run_client(CLIENTS[0], &arguments, server.directory.path());
                let printed = text(&output.stdout) + &text(&output.stderr);
                assert!(printed.contains("2.01"), "{driver} on {bound}: {printed}");
                let stored = &server.latest("meter")[scheme]["value"];
                assert_eq!(*stored, serde_json::json!(index));
            }
        }
    }
}

#[test]
fn a_firmware_of_megabytes_comes_block_by_block() {
    let server = Server::start(&[]);
    server.tidegate_ok(&["device", "add", "meter", "--token", "METERTOKEN"]);
    let mut word = 1_u32;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        word.to_be_bytes()[0]
    })
    .take((5 << 20) + 17)
    .collect();
    std::fs::write(server.path("fw.bin"), &bytes).unwrap();
    server.tidegate_ok(&["ota", "add", "fw.bin", "--title", "T", "--version", "1"]);
    server.tidegate_ok(&["ota", "assign", "1", "--device", "meter"]);
    for client in CLIENTS {
        let uri = format!(
            "coaps://localhost:{}/fw/METERTOKEN?title=T",
            server.secure_port
        );
        let arguments = ["-m", "get", "-B", "25", "-o", "got.bin", &uri];
        let output = run_client(client, &arguments, server.directory.path());
        let got = std::fs::read(server.path("got.bin")).unwrap_or_default();
        let said = text(&output.stderr);
        assert_eq!(got.len(), bytes.len(), "{client}: {said}");
        assert!(got == bytes, "{client}: other bytes");
        std::fs::remove_file(server.path("got.bin")).unwrap();
    }
}
