//! libcoap's client observes, with the commands of ThingsBoard's manual, over a link that loses one
//! datagram in ten of each direction: every change and every call arrives, in order.

use std::time::{Duration, Instant};

use super::proxy::{Faults, Proxy};
use super::support::{Dialogue, Server, run_client, text};

const LOSSY: Faults = Faults {
    loss: 1,
    duplication: 0,
    reordering: 0,
    calm: 0,
};

const CLIENTS: [&str; 2] = ["coap-client-openssl", "coap-client-gnutls"];

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

/// What is sent to an observer, so many times, and what of it is printed.
struct Stream {
    feature: &'static str,
    /// What the client prints first.
    first: &'static [u8],
    /// Before and after the number in the line of a message.
    around: [&'static str; 2],
    send: fn(&Server, u64),
}

const UPDATES: Stream = Stream {
    feature: "attributes",
    first: b"\n{}\n",
    around: ["{\"n\":", "}"],
    send: |server, number| {
        let body = format!("{{\"n\":{number}}}");
        let (status, answer) = server.api("PUT", "/api/devices/meter/attributes/shared", &body);
        assert_eq!(status, 204, "{answer}");
    },
};

/// Persistent ones, so that the server keeps how far each has come.
const CALLS: Stream = Stream {
    feature: "rpc",
    first: b"2.03",
    around: ["\"method\":\"count\",\"params\":", "}"],
    send: |server, number| {
        let body = format!(
            "{{\"method\":\"count\",\"params\":{number},\"mode\":\"oneway\",\"persistent\":true,\
             \"timeoutMs\":7200000}}"
        );
        let (status, answer) = server.api("POST", "/api/devices/meter/rpc", &body);
        assert_eq!(status, 200, "{answer}");
    },
};

impl Stream {
    /// The number in a line that is a message of this stream, or that tells of one.
    fn number(&self, line: &str) -> Option<u64> {
        let (_, rest) = line.split_once(self.around[0])?;
        rest.split_once(self.around[1])?.0.parse().ok()
    }

    /// The numbers of the messages that the client printed, in their order.
    fn printed(&self, output: &str) -> Vec<u64> {
        let lines = output.lines().filter(|line| line.starts_with('{'));
        lines.filter_map(|line| self.number(line)).collect()
    }

    /// Observe value and number of each message of which the client's log tells.
    fn logged(&self, output: &str) -> Vec<(u64, u64)> {
        let read = |line: &str| {
            let (_, rest) = line.split_once("Observe:")?;
            let observe = rest.split_once([',', ' ', ']'])?.0.parse().ok()?;
            Some((observe, self.number(line)?))
        };
        output.lines().filter_map(read).collect()
    }
}

/// Sends `count` messages one after the other and waits until the client has printed all of them: in
/// order, none lost, and none twice, but for one that had to be sent under a second Message ID.
fn everything_arrives(client: &str, stream: &Stream, count: u64, patience: Duration) -> Server {
    let server = server();
    let proxy = Proxy::start(server.secure_port, LOSSY, 11);
    let begun = Instant::now();
    let mut observer = subscribe(client, &server, proxy.port, stream.feature);
    if let Err(output) = observer.expect_within(stream.first, Duration::from_secs(120)) {
        panic!("{client}: no first answer\n{output}");
    }
    for number in 1..=count {
        (stream.send)(&server, number);
    }
    let [before, after] = stream.around;
    let last = format!("{before}{count}{after}\n");
    let output = observer.expect_within(last.as_bytes(), patience);
    let output = text(&output.unwrap_or_else(|output| panic!("{client} got {output}")));
    let printed = stream.printed(&output);
    let mut received = printed.clone();
    received.dedup();
    assert_eq!(received, (1..=count).collect::<Vec<_>>(), "{client}");
    // The Observe value is that of the message, however often it came, and grows.
    let mut logged = stream.logged(&output);
    logged.dedup();
    let numbers: Vec<u64> = logged.iter().map(|&(_, number)| number).collect();
    assert_eq!(numbers, received, "{client}: one Observe value each");
    assert!(
        logged.is_sorted_by(|one, next| one.0 < next.0),
        "{client}: {logged:?}"
    );
    let (seen, lost) = proxy.counts();
    assert!(lost * 20 > seen, "{lost} of {seen} datagrams were lost");
    println!(
        "{client}, {}: {count} in {:.0} s, {} of them printed again, {lost} of {seen} datagrams lost",
        stream.feature,
        begun.elapsed().as_secs_f64(),
        printed.len() as u64 - count,
    );
    server
}

fn with_both(test: impl Fn(&str) + Sync) {
    std::thread::scope(|scope| {
        for client in CLIENTS {
            scope.spawn(|| test(client));
        }
    });
}

/// A lost datagram costs its repetition's two to three seconds, and a lost acknowledgement the four to
/// six of the next one too (RFC 7252 section 4.2), so a minute or two go by.
#[test]
fn libcoap_gets_every_update_over_a_lossy_link() {
    with_both(|client| {
        everything_arrives(client, &UPDATES, 60, Duration::from_secs(300));
    });
}

/// The same with a thousand: `cargo test --test interop -- --ignored thousand`.
#[test]
#[ignore = "takes half an hour, which its losses cost"]
fn libcoap_gets_a_thousand_updates_over_a_lossy_link() {
    with_both(|client| {
        everything_arrives(client, &UPDATES, 1000, Duration::from_secs(3600));
    });
}

/// A hundred calls: each reaches the device, and the server knows it.
#[test]
fn libcoap_gets_every_call_over_a_lossy_link() {
    with_both(|client| {
        let server = everything_arrives(client, &CALLS, 100, Duration::from_secs(450));
        let delivered = || {
            let (status, calls) = server.api("GET", "/api/devices/meter/rpc", "");
            assert_eq!(status, 200, "{calls}");
            calls.matches("\"DELIVERED\"").count()
        };
        // The last acknowledgement may be lost, too.
        let until = Instant::now() + Duration::from_secs(120);
        while delivered() < 100 {
            assert!(
                Instant::now() < until,
                "{client}: {} delivered",
                delivered()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    });
}

#[test]
fn libcoap_is_called_and_its_reply_reaches_the_caller() {
    let server = server();
    for client in CLIENTS {
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
    for client in CLIENTS {
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
