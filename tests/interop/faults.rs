//! Handshakes over a link that loses three datagrams in ten, doubles and swaps others: the timers of
//! both ends bring them to their end (RFC 6347 section 4.2.4).

use super::peers::{Printed, hex};
use super::proxy::{Faults, Proxy};
use super::support::{Dialogue, Server, run_client, text};
use super::{certificate_telemetry_post, created, telemetry_post};

const BAD: Faults = Faults {
    loss: 3,
    duplication: 1,
    reordering: 1,
    calm: 0,
};

/// A server whose flights are not repeated later than a client's would be.
fn server() -> Server {
    let server = Server::start(&[("COAP_DTLS_RETRANSMISSION_TIMEOUT_MS", "400")]);
    server.tidegate_ok(&["device", "add", "meter", "--token", "METERTOKEN1"]);
    server
}

/// The link was as bad as it should be.
fn assert_lossy(proxy: &Proxy) {
    let (seen, lost) = proxy.counts();
    assert!(lost >= 2, "{lost} of {seen} datagrams were lost");
}

#[test]
fn mbedtls_gets_through() {
    let server = server();
    let (certificate, key) = server.certificate_device("tracker");
    for seed in [1, 3, 6] {
        let proxy = Proxy::start(server.secure_port, BAD, seed);
        let message_id = 0x6000 + u16::try_from(seed).unwrap();
        let message = certificate_telemetry_post(message_id, &format!("{{\"seed\":{seed}}}"));
        let arguments = [
            &format!("127.0.0.1:{}", proxy.port),
            "--retransmission-ms",
            "200",
            "--mtu",
            "400",
            "--cert",
            certificate.to_str().unwrap(),
            "--key",
            key.to_str().unwrap(),
            "--send",
            &hex(&message),
        ];
        let printed = Printed::by("mbedtls", &server, &arguments);
        assert_eq!(printed.one("received"), hex(&created(message_id)));
        assert_eq!(
            server.latest("tracker")["seed"]["value"],
            serde_json::json!(seed)
        );
        assert_lossy(&proxy);
    }
}

#[test]
fn openssl_gets_through() {
    let server = server();
    let proxy = Proxy::start(server.secure_port, BAD, 3);
    let address = format!("127.0.0.1:{}", proxy.port);
    let arguments = ["s_client", "-dtls1_2", "-connect", &address, "-nocommands"];
    let mut client = Dialogue::start("openssl", &arguments, server.directory.path());
    client
        .expect(b"Extended master secret")
        .unwrap_or_else(|printed| panic!("{printed}"));
    let message = telemetry_post(0x6100, "METERTOKEN1", "{\"openssl\":1}");
    exchange(&mut client, &message, &created(0x6100));
    assert_lossy(&proxy);
}

#[test]
fn gnutls_gets_through() {
    let server = server();
    let proxy = Proxy::start(server.secure_port, BAD, 3);
    let port = proxy.port.to_string();
    let arguments = [
        "-u",
        "-p",
        &port,
        "--x509cafile",
        "server.pem",
        "--priority",
        "NORMAL:-VERS-ALL:+VERS-DTLS1.2",
        "localhost",
    ];
    let mut client = Dialogue::start("gnutls-cli", &arguments, server.directory.path());
    client
        .expect(b"Simple Client Mode")
        .unwrap_or_else(|printed| panic!("{printed}"));
    let message = telemetry_post(0x6200, "METERTOKEN1", "{\"gnutls\":1}\n");
    exchange(&mut client, &message, &created(0x6200));
    assert_lossy(&proxy);
}

/// libcoap's own retransmission brings the request and its answer through as well.
#[test]
fn libcoap_gets_through() {
    let server = server();
    for (index, client) in ["coap-client-openssl", "coap-client-gnutls"]
        .into_iter()
        .enumerate()
    {
        let proxy = Proxy::start(server.secure_port, BAD, 3);
        let uri = format!(
            "coaps://localhost:{}/api/v1/METERTOKEN1/telemetry",
            proxy.port
        );
        let body = format!("{{\"libcoap\":{index}}}");
        let arguments = ["-m", "post", "-e", &body, "-B", "25", "-v", "7", &uri];
        let output = run_client(client, &arguments, server.directory.path());
        let printed = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(
            server.latest("meter")["libcoap"]["value"],
            serde_json::json!(index),
            "{client}: {printed}"
        );
        assert_lossy(&proxy);
    }
}

/// A program without a timer for its messages: the test is the one that repeats them.
fn exchange(client: &mut Dialogue, message: &[u8], answer: &[u8]) {
    for _ in 0..10 {
        client.send(message);
        if client
            .expect_within(answer, std::time::Duration::from_secs(2))
            .is_ok()
        {
            return;
        }
    }
    panic!("no answer over the lossy link");
}
