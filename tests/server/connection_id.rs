//! Devices with a connection id keep their session when their address changes (RFC 9146, 9853).

use super::support::{Link, Server};

/// The sum of a metric's lines whose labels contain `label`.
fn metric(server: &Server, name: &str, label: &str) -> u64 {
    let text = server.http("/metrics").expect("the admin port");
    let lines = text
        .lines()
        .filter(|line| line.starts_with(name) && line.contains(label));
    lines
        .map(|line| line.rsplit(' ').next().expect("a value"))
        .map(|value| value.parse::<u64>().expect("a number"))
        .sum()
}

#[test]
fn a_session_goes_on_across_ten_ports_and_two_shards() {
    let server = Server::start(&[
        ("TIDEGATE_SHARDS", "2"),
        ("COAP_DTLS_CONNECTION_ID_LENGTH", "8"),
        ("TIDEGATE_NODE_ID", "77"),
    ]);
    for (name, with_check) in [("moves", false), ("moves-checked", true)] {
        let files = server.certificate_device(name);
        let confirmed = metric(&server, "tidegate_paths_checked_total", "\"confirmed\"");
        let mut link = Link::with_connection_id(&server, &files, with_check);
        for change in 0..=10_u8 {
            if change > 0 {
                link.rebind();
            }
            let mut message = vec![0x44, 0x02, 0, change, 1, 2, 3, change];
            message.extend_from_slice(b"\xb3api\x02v1\x09telemetry\xff");
            message.extend_from_slice(format!("{{\"n\":{change}}}").as_bytes());
            let answer = link.exchange(&message).expect("an answer");
            assert_eq!(answer[..4], [0x64, 0x41, 0, change]);
        }
        assert_eq!(server.latest(name)["n"]["value"], 10);
        let now = metric(&server, "tidegate_paths_checked_total", "\"confirmed\"");
        assert_eq!(now - confirmed, if with_check { 10 } else { 0 });
    }
    let count = |name, label| metric(&server, name, label);
    assert_eq!(count("tidegate_address_changes_total", ""), 20);
    assert_eq!(count("tidegate_handshakes_completed_total", ""), 2);
    assert_eq!(count("tidegate_cid_lookups_total", "missed"), 0);
    assert!(count("tidegate_cid_lookups_total", "hit") >= 22);
    // The kernel delivered each datagram to the shard that owns the session.
    assert_eq!(count("tidegate_handovers_total", ""), 0);
    assert_eq!(count("tidegate_cid_datagrams_total", "elsewhere"), 0);
}
