//! Datagrams that nobody should send: counted or answered as the RFC says, never fatal.

use std::net::UdpSocket;
use std::time::Duration;

use super::support::{Link, Server, hex};

/// Reproducible noise (xorshift).
fn noise(seed: &mut u64, length: usize) -> Vec<u8> {
    (0..length)
        .map(|_| {
            *seed ^= *seed << 13;
            *seed ^= *seed >> 7;
            *seed ^= *seed << 17;
            seed.to_le_bytes()[3]
        })
        .collect()
}

#[test]
fn malformed_messages_are_reset_or_ignored() {
    let server = Server::start(&[]);
    // A ping is answered with a reset (RFC 7252 section 4.3).
    assert_eq!(server.plain(&hex("40001234")), Some(hex("70001234")));
    // Confirmable and malformed (a payload marker without payload): rejected by a reset (section 4.2).
    assert_eq!(server.plain(&hex("40021235ff")), Some(hex("70001235")));
    // A token length above 8 is a format error (section 3).
    assert_eq!(
        server.plain(&hex("49021236010203040506070809")),
        Some(hex("70001236"))
    );
    // Not confirmable and malformed, or of another version: silence (sections 4.3 and 3).
    let mut link = Link::plain(&server);
    for message in ["50021237ff", "80021238"] {
        link.send(&hex(message));
        assert_eq!(link.receive_soon(), None);
    }
}

#[test]
fn unknown_critical_options_are_refused_with_4_02() {
    let server = Server::start(&[]);
    let answer = server.plain(&hex("4002123a9155")).expect("an answer");
    assert_eq!(answer[..4], hex("6082123a")[..], "{answer:02x?}");
}

#[test]
fn noise_on_both_ports_leaves_the_server_well() {
    let server = Server::start(&[]);
    server.tidegate_ok(&["device", "add", "calm", "--token", "CALMTOKEN"]);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let mut seed = 0x9e37_79b9_7f4a_7c15;
    for round in 0..4000_usize {
        let mut datagram = noise(&mut seed, round % 300);
        // Every other one looks like a record or message at its start, to get further.
        match round % 4 {
            0 if datagram.len() > 13 => {
                datagram[0] = 20 + u8::try_from(round % 7).unwrap();
                datagram[1..3].copy_from_slice(&[0xfe, 0xfd]);
                let length = u16::try_from(datagram.len() - 13).unwrap();
                datagram[11..13].copy_from_slice(&length.to_be_bytes());
            }
            1 if !datagram.is_empty() => datagram[0] = 0x40 | datagram[0] & 0x3f,
            _ => {}
        }
        let port = if round % 2 == 0 {
            server.secure_port
        } else {
            server.plain_port
        };
        socket
            .send_to(&datagram, ("127.0.0.1", port))
            .expect("a datagram leaves");
        if round % 200 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let post = b"\x44\x02\x11\x11\x01\x02\x03\x04\xb3api\x02v1\x09CALMTOKEN\x09telemetry\xff{a:1}";
    let answer = server.plain(post).expect("the server answers");
    assert_eq!(answer, hex("6441111101020304"));
    let metrics = server.http("/metrics").expect("metrics");
    let value = |name: &str| -> f64 {
        metrics
            .lines()
            .filter(|line| line.starts_with(name))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    };
    assert!(value("tidegate_drops_total") > 500.0, "{metrics}");
    assert_eq!(value("tidegate_shard_panics_total"), 0.0, "{metrics}");
    assert_eq!(value("tidegate_pool_panics_total"), 0.0, "{metrics}");
}
