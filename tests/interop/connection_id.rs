//! Connection ids (RFC 9146) of another author: Mbed TLS keeps its session, and with it its device,
//! while its UDP port changes before every message.
//!
//! libcoap's client has a switch for that (`-d`) since 4.3.5, and ids with other libraries than Debian 12
//! builds it on (4.3.1 on OpenSSL and GnuTLS), so it is not among these.

use super::peers::{Printed, hex};
use super::support::Server;
use super::{certificate_telemetry_post, created, telemetry_post};

/// Port changes of a session.
const MOVES: u16 = 10;
/// Length of the ids that the server hands out.
const ID_LEN: usize = 6;

fn server() -> Server {
    Server::start(&[
        ("COAP_DTLS_CONNECTION_ID_LENGTH", &ID_LEN.to_string()),
        ("TIDEGATE_SHARDS", "2"),
    ])
}

/// Sums the samples of a family, those with all of `labels` in them.
fn metric(server: &Server, family: &str, labels: &[&str]) -> u64 {
    let page = server.http("/metrics").expect("the metrics");
    let values: Vec<u64> = page
        .lines()
        .filter_map(|line| {
            let rest = line.strip_prefix(family)?;
            let (given, value) = rest.rsplit_once(' ')?;
            let wanted = (given.is_empty() || given.starts_with('{'))
                && labels.iter().all(|label| given.contains(label));
            wanted.then(|| value.parse().expect("a number"))
        })
        .collect();
    assert!(!values.is_empty(), "{family} is not in the metrics");
    values.iter().sum()
}

/// Mbed TLS with the id `own`, from eleven ports.
fn wander(server: &Server, arguments: &[&str], own: &str, messages: &[Vec<u8>]) -> Printed {
    let address = format!("127.0.0.1:{}", server.secure_port);
    let messages: Vec<String> = messages.iter().map(|message| hex(message)).collect();
    let mut all = vec![address.as_str(), "--cid", own, "--rebind"];
    all.extend_from_slice(arguments);
    for message in &messages {
        all.extend_from_slice(&["--send", message]);
    }
    Printed::by("mbedtls", server, &all)
}

/// The ids are as they were asked for; every message came from another port and was answered.
fn assert_wandered(printed: &Printed, own: &str, first_message_id: u16) {
    let ids = printed.one("cid");
    let peer = ids.strip_prefix(&format!("own={own} peer="));
    assert_eq!(peer.map(str::len), Some(2 * ID_LEN), "{ids}");
    let mut ports = printed.all("sent from");
    ports.dedup();
    assert_eq!(ports.len(), usize::from(MOVES) + 1);
    let answers: Vec<String> = (0..=MOVES)
        .map(|number| hex(&created(first_message_id + number)))
        .collect();
    assert_eq!(printed.all("received"), answers);
}

/// RFC 9146 section 6: the session goes with the id. Every port is another one to the kernel's hash,
/// so without steering half of the datagrams would reach the other shard.
#[test]
fn a_session_and_its_device_survive_ten_changes_of_port() {
    let server = server();
    let (certificate, key) = server.certificate_device("tracker");
    let files = [certificate.to_str().unwrap(), key.to_str().unwrap()];
    let suites = [
        "TLS-ECDHE-ECDSA-WITH-AES-128-CCM-8",
        "TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256",
    ];
    for (round, suite) in (0..).zip(suites) {
        let first = 0x7000 + 0x100 * round;
        let messages: Vec<Vec<u8>> = (0..=MOVES)
            .map(|number| {
                let body = format!("{{\"move\":{}}}", 100 * round + number);
                certificate_telemetry_post(first + number, &body)
            })
            .collect();
        let arguments = ["--suite", suite, "--cert", files[0], "--key", files[1]];
        let printed = wander(&server, &arguments, "c0ffee", &messages);
        assert_wandered(&printed, "c0ffee", first);
        assert_eq!(
            server.latest("tracker")["move"]["value"],
            serde_json::json!(100 * round + MOVES)
        );
        let completed = "tidegate_handshakes_completed_total";
        assert_eq!(metric(&server, completed, &[]), u64::from(round) + 1);
    }
    assert_no_hop(&server);
}

/// The client has no id of its own: its records carry the server's, the server's carry none.
#[test]
fn an_empty_id_of_the_client_is_enough() {
    let server = server();
    server.tidegate_ok(&["device", "add", "meter", "--token", "METERTOKEN1"]);
    let messages: Vec<Vec<u8>> = (0..=MOVES)
        .map(|number| {
            telemetry_post(
                0x7400 + number,
                "METERTOKEN1",
                &format!("{{\"m\":{number}}}"),
            )
        })
        .collect();
    let printed = wander(&server, &[], "", &messages);
    assert_wandered(&printed, "", 0x7400);
    assert_eq!(
        server.latest("meter")["m"]["value"],
        serde_json::json!(MOVES)
    );
    assert_no_hop(&server);
}

/// RFC 9146 section 3: a server that has no ids to hand out takes none either, and the session is an
/// ordinary one.
#[test]
fn without_ids_the_extension_is_passed_over() {
    let server = Server::start(&[("COAP_DTLS_CONNECTION_ID_LENGTH", "")]);
    server.tidegate_ok(&["device", "add", "meter", "--token", "METERTOKEN1"]);
    let message = hex(&telemetry_post(0x7500, "METERTOKEN1", "{\"m\":1}"));
    let address = format!("127.0.0.1:{}", server.secure_port);
    let arguments = [&address, "--cid", "c0ffee", "--send", &message];
    let printed = Printed::by("mbedtls", &server, &arguments);
    assert_eq!(printed.all("cid"), [""; 0]);
    assert_eq!(printed.one("received"), hex(&created(0x7500)));
}

/// The kernel delivered every record with an id to the shard that owns it.
#[track_caller]
fn assert_no_hop(server: &Server) {
    let datagrams = "tidegate_cid_datagrams_total";
    assert!(metric(server, datagrams, &["at_owner"]) > u64::from(MOVES));
    assert_eq!(metric(server, datagrams, &["elsewhere"]), 0);
    assert_eq!(metric(server, "tidegate_handovers_total", &[]), 0);
}
