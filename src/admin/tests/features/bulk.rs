//! Many devices, many readings, and a device's change of profile.

use super::*;
use crate::registry::DeviceId;
use crate::store::{Batch, StoreError, ValueRef};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// A device that the registry takes.
fn usable(name: &str) -> NewDevice {
    NewDevice {
        token: Some(format!("TOKEN-{name}")),
        ..device(name)
    }
}

#[test]
fn readings_are_deleted() {
    let bench = Bench::new();
    for (name, operations) in bench.both() {
        let added = operations.add(&usable(name)).unwrap();
        let id = DeviceId(added.id);
        let mut batch = Batch::new();
        let value = ValueRef::Bool(true);
        for ts_ms in -1..12_000 {
            batch.push_telemetry(id, ts_ms, "many", value).unwrap();
        }
        batch.push_telemetry(id, 1, "other", value).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        let done = move |result: Result<(), &StoreError>| {
            sender.send(result.is_ok()).unwrap();
        };
        assert!(bench.opened.store.append(batch, Box::new(done)).is_ok());
        assert!(receiver.recv().unwrap());
        let delete = |key, from, to| operations.delete_telemetry(name, key, from, to);
        assert_eq!(delete("many", 10, 5).unwrap().deleted, 0);
        assert_eq!(delete("many", 10, 11_998).unwrap().deleted, 11_989);
        assert_eq!(
            delete("many", 10, 11_998).unwrap().deleted,
            0,
            "they are gone"
        );
        let left = operations.history(name, "many", ALL).unwrap();
        let times: Vec<_> = left.iter().map(|reading| reading.ts).collect();
        assert_eq!(times, (-1..10).chain([11_999]).collect::<Vec<_>>());
        assert_eq!(operations.latest(name).unwrap()["many"].ts, 11_999);
        assert_eq!(delete("many", i64::MIN, i64::MAX).unwrap().deleted, 12);
        assert_eq!(operations.latest(name).unwrap().len(), 1);
        let unknown = operations.delete_telemetry("nobody", "many", 0, 1);
        assert_eq!(kind(unknown), ErrorKind::NotFound);
    }
    let port = bench.admin.address().unwrap().port();
    let head = request_head("DELETE", "/api/devices/remote/telemetry", "");
    let (status, _) = exchange(port, &head, b"");
    assert_eq!(status, 400, "without a key nothing is deleted");
}

#[test]
fn a_device_gets_another_profile_and_its_packages() {
    let bench = Bench::new();
    for (name, operations) in bench.both() {
        let firmware = NewPackage {
            title: name.to_owned(),
            ..package("1")
        };
        let number = operations
            .add_package(&firmware, &mut &b"abc"[..])
            .unwrap()
            .id;
        let profile: ProfileView =
            serde_json::from_value(json!({"name": format!("p-{name}")})).unwrap();
        operations.add_profile(&profile).unwrap();
        operations
            .assign_package(&assignment(Some(number), None, Some(&profile.name)))
            .unwrap();
        let before = operations.add(&usable(name)).unwrap();
        assert!(bench.shared(name).is_empty());
        let after = operations.set_profile(name, &profile.name).unwrap();
        assert_eq!(after.profile, profile.name);
        assert_eq!(
            after.credentials_id, before.credentials_id,
            "all else stays"
        );
        assert_eq!(bench.shared(name)["fw_title"], format!("{name:?}"));
        operations.set_profile(name, "default").unwrap();
        assert!(bench.shared(name).is_empty());
        for wrong in ["", "a\nb"] {
            assert_eq!(
                kind(operations.set_profile(name, wrong)),
                ErrorKind::Invalid
            );
        }
        assert_eq!(
            kind(operations.set_profile("nobody", "p")),
            ErrorKind::NotFound
        );
        let found = bench.opened.registry.device_by_name(name).unwrap();
        assert_eq!(&*found.profile, "default");
        let by_token = bench
            .opened
            .registry
            .device_by_token(&format!("TOKEN-{name}"));
        assert_eq!(by_token.unwrap().profile, found.profile);
    }
}

/// Sends a request over TCP; gives the answer's status, and the rest of it.
fn exchange(port: u16, head: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let _ = stream.write_all(body);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    (status.unwrap(), answer)
}

#[test]
fn a_csv_file_is_imported_with_word_of_the_progress() {
    let bench = Bench::new();
    let port = bench.admin.address().unwrap().port();
    let import = |kind: &str, body: &str| {
        let headers = format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
        let head = request_head("POST", "/api/import", &headers);
        exchange(port, &head, body.as_bytes())
    };
    let mut csv = String::from("name,token\n");
    for number in 0..2500 {
        csv.push_str(&format!("d{number},TOKEN{number}\n"));
    }
    csv.push_str("d7,OTHER\nc1,certificate.pem\np1,p1,8899aabbccddeeff7766554433221100ab\nr1\n");
    let (status, answer) = import("text/csv; charset=utf-8", &csv);
    assert_eq!(status, 200);
    let lines: Vec<serde_json::Value> = answer
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let refused: Vec<_> = lines
        .iter()
        .filter_map(|line| line["line"].as_u64())
        .collect();
    // Of a file on the server's disk nothing is read, or told whether it is there.
    assert_eq!(
        refused,
        [2503, 2502],
        "in the order in which they are known"
    );
    let text = lines.iter().find(|line| line["line"] == 2503).unwrap()["reason"].to_string();
    assert!(text.contains("comes in JSON"), "{text}");
    let progress: Vec<_> = lines
        .iter()
        .filter_map(|line| line["added"].as_u64())
        .collect();
    assert_eq!(progress, [1000, 2000, 2502, 2502]);
    let last = json!({"done": true, "lines": 2505, "added": 2502, "refused": 2});
    assert_eq!(lines.last(), Some(&last));
    assert_eq!(bench.opened.registry.len(), 2502);
    assert!(bench.opened.registry.device_by_token("TOKEN2499").is_some());

    let (status, answer) = import("text/plain", "a,b\n");
    assert_eq!(status, 415, "{answer}");
    assert!(answer.contains("text/csv"), "{answer}");
    assert_eq!(bench.opened.registry.device_by_name("a"), None);
}
