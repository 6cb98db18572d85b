//! Devices with a connection id whose source port changes: the kernel delivers to the shard that has
//! their session, and nothing hops between shards.

use super::support::{Link, Server};

const SHARDS: usize = 4;
const DEVICES: usize = 8;
const PORT_CHANGES: usize = 10;

/// CON POST /api/v1/{token}/telemetry with a reading.
fn reading(message_id: u16, token: &str, value: usize) -> Vec<u8> {
    let mut message = vec![0x44, 0x02];
    message.extend_from_slice(&message_id.to_be_bytes());
    message.extend_from_slice(b"\x00\x11\x22\x33\xb3api\x02v1");
    message.push(u8::try_from(token.len()).expect("a short token"));
    message.extend_from_slice(token.as_bytes());
    message.extend_from_slice(b"\x09telemetry\x11\x32\xff");
    message.extend_from_slice(format!("{{\"value\":{value}}}").as_bytes());
    message
}

/// The sum of a metric over the shards, and of how many shards it is not 0.
fn metric(server: &Server, name: &str, label: &str) -> (u64, usize) {
    let page = server.http("/metrics").expect("the metrics");
    let values: Vec<u64> = page
        .lines()
        .filter(|line| line.starts_with(name) && line.contains(label))
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect();
    assert!(!values.is_empty(), "{name} is not in the metrics");
    let busy = values.iter().filter(|&&value| value > 0).count();
    (values.iter().sum(), busy)
}

#[test]
fn sessions_survive_ten_port_changes_on_four_shards_without_a_handshake_or_a_hop() {
    let shards = SHARDS.to_string();
    let server = Server::start(&[
        ("TIDEGATE_SHARDS", shards.as_str()),
        ("COAP_DTLS_CONNECTION_ID_LENGTH", "6"),
    ]);
    let mut devices: Vec<_> = (0..DEVICES)
        .map(|number| {
            let token = format!("TOKEN{number}");
            let name = format!("mover{number}");
            server.tidegate_ok(&["device", "add", &name, "--token", &token]);
            // Some want records with an id of their own, some none (RFC 9146 section 3).
            let own = [&[][..], b"mine"][number % 2];
            (
                token,
                name,
                Link::anonymous_with_connection_id(&server, own),
            )
        })
        .collect();
    for change in 0..=PORT_CHANGES {
        for (token, name, link) in &mut devices {
            if change > 0 {
                link.rebind();
            }
            let message_id = u16::try_from(change).expect("few changes");
            let answer = link.exchange(&reading(message_id, token, change));
            let answer = answer.unwrap_or_else(|| panic!("{name}: no answer after {change}"));
            assert_eq!(answer[1], 0x41, "{name}: 2.01 after {change} changes");
        }
    }
    for (_, name, _) in &devices {
        assert_eq!(server.latest(name)["value"]["value"], PORT_CHANGES);
    }
    let completed = metric(&server, "tidegate_handshakes_completed_total", "full").0;
    assert_eq!(completed, DEVICES as u64);
    let (at_owner, owners) = metric(&server, "tidegate_cid_datagrams_total", "at_owner");
    // The Finished and every request of each device came in tls12_cid records of their own.
    assert!(
        at_owner >= (DEVICES * (PORT_CHANGES + 1)) as u64,
        "{at_owner}"
    );
    assert!(owners >= 2, "all devices on one shard");
    let hops = metric(&server, "tidegate_cid_datagrams_total", "elsewhere").0;
    let handovers = metric(&server, "tidegate_handovers_total", "direction").0;
    assert_eq!((hops, handovers), (0, 0));
}
