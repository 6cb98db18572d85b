//! What was answered 2.01 is there after the process was killed, at whatever moment.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::support::Server;

/// How often the server is killed.
const KILLS: u32 = 12;
const DEVICES: usize = 4;

/// Posts counters as device `index` until told to stop; returns the highest one answered 2.01.
fn upload(port: u16, index: usize, first: u64, stop: &AtomicBool) -> u64 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(("127.0.0.1", port)).expect("a peer");
    socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .expect("a timeout");
    let token = format!("KILLED{index:02}");
    let mut acknowledged = first - 1;
    let mut answer = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        let counter = acknowledged + 1;
        let id = u16::try_from(counter % 65_536).unwrap().to_be_bytes();
        let mut message = vec![0x44, 0x02, id[0], id[1], 1, 2, 3, 4];
        message.extend_from_slice(b"\xb3api\x02v1\x08");
        message.extend_from_slice(token.as_bytes());
        message.extend_from_slice(b"\x09telemetry\xff");
        message.extend_from_slice(
            format!("{{\"ts\":{counter},\"values\":{{\"n\":{counter}}}}}").as_bytes(),
        );
        if socket.send(&message).is_err() {
            break;
        }
        match socket.recv(&mut answer) {
            Ok(length) if length >= 4 && answer[1] == 0x41 && answer[2..4] == id => {
                acknowledged = counter;
            }
            Ok(length) => panic!("an answer that is no 2.01: {:02x?}", &answer[..length]),
            // Killed meanwhile; whether this one was stored is nobody's promise.
            Err(_) => break,
        }
    }
    acknowledged
}

#[test]
fn sigkill_loses_no_reading_that_was_answered() {
    let mut server = Server::start(&[("TIDEGATE_SHARDS", "2")]);
    for index in 0..DEVICES {
        let (name, token) = (format!("killed-{index}"), format!("KILLED{index:02}"));
        server.tidegate_ok(&["device", "add", &name, "--token", &token]);
    }
    let mut acknowledged: BTreeMap<usize, u64> = (0..DEVICES).map(|index| (index, 0)).collect();
    let mut total = 0;
    for kill in 0..KILLS {
        let stop = Arc::new(AtomicBool::new(false));
        let uploads: Vec<_> = acknowledged
            .iter()
            .map(|(&index, &last)| {
                let (stop, port) = (Arc::clone(&stop), server.plain_port);
                std::thread::spawn(move || (index, upload(port, index, last + 1, &stop)))
            })
            .collect();
        // Different moments, from while the first group gathers to well into the load.
        std::thread::sleep(Duration::from_millis(30 + u64::from(kill) * 37 % 300));
        server.kill();
        stop.store(true, Ordering::Relaxed);
        for upload in uploads {
            let (index, last) = upload.join().expect("the uploader ends");
            total += last - acknowledged[&index];
            acknowledged.insert(index, last);
        }
        server.spawn();
        for (index, last) in &acknowledged {
            if *last == 0 {
                continue;
            }
            let limit = (last + 10).to_string();
            let history = server.tidegate_ok(&[
                "data",
                "history",
                &format!("killed-{index}"),
                "n",
                "--limit",
                &limit,
                "--from",
                "0",
            ]);
            let stored: Vec<u64> = history
                .lines()
                .map(|line| {
                    let reading: serde_json::Value = serde_json::from_str(line).expect("JSON");
                    assert_eq!(reading["ts"], reading["value"], "a torn reading: {line}");
                    reading["value"].as_u64().expect("a number")
                })
                .collect();
            for counter in 1..=*last {
                assert!(
                    stored.contains(&counter),
                    "kill {kill}: {counter} of {last} is lost"
                );
            }
        }
    }
    assert!(
        total > u64::from(KILLS) * 20,
        "too little load to prove anything: {total} readings"
    );
}
