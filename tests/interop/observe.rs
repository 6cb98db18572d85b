//! libcoap's client observes, with the commands of ThingsBoard's manual, over a link that loses one
//! datagram in ten of each direction: every change arrives, in order, once.

use std::time::Duration;

use super::proxy::{Faults, Proxy};
use super::support::{Dialogue, Server, run_client, text};

const LOSSY: Faults = Faults {
    loss: 1,
    duplication: 0,
    reordering: 0,
    calm: 0,
};

/// The manual's subscription command for the device with token METERTOKEN1, by way of `port`.
fn subscribe(client: &str, server: &Server, port: u16, feature: &str) -> Dialogue {
    let uri = format!("coaps://localhost:{port}/api/v1/METERTOKEN1/{feature}");
    let arguments = ["-v", "9", "-w", "-B", "3600", "-s", "3600", &uri];
    Dialogue::start(client, &arguments, server.directory.path())
}

fn server() -> Server {
    let server = Server::start(&[]);
    server.tidegate_ok(&["device", "add", "meter", "--token", "METERTOKEN1"]);
    server
}

/// The numbers under `n` in the lines that are such objects, in the order in which they were printed.
fn numbers(output: &[u8]) -> Vec<u64> {
    let number = |line: &str| {
        let number = line.strip_prefix("{\"n\":")?.strip_suffix('}')?;
        number.parse().ok()
    };
    text(output).lines().filter_map(number).collect()
}

/// Sets `count` values one after the other and waits until the client has printed all of them.
fn every_update_arrives(client: &str, count: u64, patience: Duration) {
    let server = server();
    let proxy = Proxy::start(server.secure_port, LOSSY, 11);
    let mut observer = subscribe(client, &server, proxy.port, "attributes");
    if let Err(output) = observer.expect_within(b"\n{}\n", Duration::from_secs(120)) {
        panic!("{client}: no first answer\n{output}");
    }
    for number in 1..=count {
        let body = format!("{{\"n\":{number}}}");
        let (status, answer) = server.api("PUT", "/api/devices/meter/attributes/shared", &body);
        assert_eq!(status, 204, "{answer}");
    }
    let last = format!("\n{{\"n\":{count}}}\n");
    let output = observer.expect_within(last.as_bytes(), patience);
    let output = output.unwrap_or_else(|output| panic!("{client} got {output}"));
    let received = numbers(&output);
    assert_eq!(received, (1..=count).collect::<Vec<_>>(), "{client}");
    let (seen, lost) = proxy.counts();
    assert!(lost * 20 > seen, "{lost} of {seen} datagrams were lost");
}

/// A lost datagram costs its repetition's two to three seconds (RFC 7252 section 4.2), so a minute or
/// so goes by.
#[test]
fn libcoap_gets_every_update_over_a_lossy_link() {
    std::thread::scope(|scope| {
        for client in ["coap-client-openssl", "coap-client-gnutls"] {
            scope.spawn(move || every_update_arrives(client, 60, Duration::from_secs(600)));
        }
    });
}

/// The same with a thousand: `cargo test --test interop -- --ignored thousand`.
#[test]
#[ignore = "takes ten minutes, which its losses cost"]
fn libcoap_gets_a_thousand_updates_over_a_lossy_link() {
    std::thread::scope(|scope| {
        for client in ["coap-client-openssl", "coap-client-gnutls"] {
            scope.spawn(move || every_update_arrives(client, 1000, Duration::from_secs(3600)));
        }
    });
}

#[test]
fn libcoap_is_called_and_its_reply_reaches_the_caller() {
    let server = server();
    for client in ["coap-client-openssl", "coap-client-gnutls"] {
        let mut observer = subscribe(client, &server, server.secure_port, "rpc");
        if let Err(output) = observer.expect_within(b"2.03", Duration::from_secs(60)) {
            panic!("{client}: no first answer\n{output}");
        }
        std::thread::scope(|scope| {
            let call = scope.spawn(|| {
                let body = r#"{"method":"setGpio","params":{"pin":"26","value":1}}"#;
                server.api("POST", "/api/devices/meter/rpc", body)
            });
            let output = observer.expect(br#""method":"setGpio","params":{"pin":"26","value":1}}"#);
            let output = text(&output.unwrap_or_else(|output| panic!("{client} got {output}")));
            let (_, message) = output.rsplit_once("{\"id\":").expect("a call");
            let (id, _) = message.split_once(',').expect("its number");
            let uri = format!(
                "coaps://localhost:{}/api/v1/METERTOKEN1/rpc/{id}",
                server.secure_port
            );
            let reply = ["-m", "post", "-e", "{\"value\":\"A\"}", "-B", "10", &uri];
            run_client(client, &reply, server.directory.path());
            assert_eq!(call.join().unwrap(), (200, r#"{"value":"A"}"#.to_owned()));
        });
    }
}

#[test]
fn libcoap_fetches_a_long_first_answer_block_by_block() {
    let server = server();
    let long = "x".repeat(3000);
    server.tidegate_ok(&["attr", "set", "meter", &format!("long={long}")]);
    for client in ["coap-client-openssl", "coap-client-gnutls"] {
        let uri = format!(
            "coaps://localhost:{}/api/v1/METERTOKEN1/attributes",
            server.secure_port
        );
        let arguments = ["-B", "3", "-s", "3", &uri];
        let output = run_client(client, &arguments, server.directory.path());
        let printed = text(&output.stdout);
        let expected = format!("{{\"long\":\"{long}\"}}");
        assert!(printed.contains(&expected), "{client}: {printed}");
    }
}
