//! `tidegate data`: the same with a running server and without.

use super::support::Server;
use super::{Ended, Place};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::mpsc;
use tidegate::registry::{NewCredential, NewDevice, Registry as _};
use tidegate::store::embedded::{self, StoreSettings};
use tidegate::store::{AttributeScope, Batch, Store as _, StoreError, ValueRef};

/// More than the commands ask for at a time, and than the server gives.
const READINGS: i64 = 12_345;

/// Makes a data directory with one device: `t` every second, and one value of every kind.
fn fill(directory: &Path) {
    let opened = embedded::open(directory, &StoreSettings::default()).expect("a data directory");
    let device = NewDevice {
        name: "d".to_owned(),
        profile: None,
        credential: NewCredential::AccessToken("SECRET-TOKEN".to_owned()),
    };
    let device = opened.registry.add(device).expect("a device").id;
    let mut batch = Batch::new();
    for second in 0..READINGS {
        batch
            .push_telemetry(device, second * 1000, "t", ValueRef::Long(second))
            .unwrap();
    }
    for (key, value) in [
        ("bool", ValueRef::Bool(true)),
        ("double", ValueRef::Double(1e10)),
        ("text \"ü\"", ValueRef::String("a\"\n")),
        ("json", ValueRef::Json(r#"{"b":1,"a":[1.0]}"#)),
    ] {
        batch.push_telemetry(device, -5, key, value).unwrap();
    }
    let attribute = ValueRef::Long(1);
    batch
        .push_attribute(device, AttributeScope::Client, "c", 7, attribute)
        .unwrap();
    batch
        .push_attribute(device, AttributeScope::Shared, "s", 8, attribute)
        .unwrap();
    let (sender, receiver) = mpsc::channel();
    let done = move |result: Result<(), &StoreError>| sender.send(result.is_ok()).unwrap();
    assert!(opened.store.append(batch, Box::new(done)).is_ok());
    assert!(receiver.recv().unwrap());
    opened.store.close();
}

#[test]
fn readings_are_deleted() {
    let place = Place::new();
    fill(&place.path("data"));
    let delete = |arguments: &[&str]| place.run(&[&["data", "delete", "d"], arguments].concat());
    assert_eq!(delete(&["bool"]).ok(), "{\"deleted\":1}\n");
    assert_eq!(delete(&["bool"]).ok(), "{\"deleted\":0}\n");
    let some = delete(&["t", "--from", "1000", "--to", "12343000"]).ok();
    assert_eq!(some, "{\"deleted\":12343}\n");
    let left = times(&place.run(&["data", "history", "d", "t"]).ok());
    assert_eq!(left, [0, 12_344_000]);
    let latest = place.run(&["data", "latest", "d"]).json();
    assert!(latest.get("bool").is_none(), "{latest}");
    assert_eq!(latest["double"]["ts"], json!(-5), "others stay");
    assert!(
        place
            .run(&["data", "delete", "nobody", "t"])
            .refused()
            .contains("nobody")
    );
}

fn times(lines: &str) -> Vec<i64> {
    lines
        .lines()
        .map(|line| {
            let reading: Value = serde_json::from_str(line).expect(line);
            let ts = reading["ts"].as_i64().unwrap();
            assert_eq!(reading["value"], json!(ts / 1000), "{line}");
            ts
        })
        .collect()
}

fn data_of_a_device(run: &dyn Fn(&[&str]) -> Ended) {
    let latest = run(&["data", "latest", "d"]).ok();
    assert_eq!(latest.lines().count(), 1, "one object, one line");
    let expected = concat!(
        r#"{"bool":{"ts":-5,"value":true},"double":{"ts":-5,"value":1.0E10},"#,
        r#""json":{"ts":-5,"value":{"b":1,"a":[1.0]}},"t":{"ts":12344000,"value":12344},"#,
        r#""text \"ü\"":{"ts":-5,"value":"a\"\n"}}"#,
        "\n"
    );
    assert_eq!(latest, expected);

    let all = times(&run(&["data", "history", "d", "t"]).ok());
    assert_eq!(
        all,
        (0..READINGS)
            .map(|second| second * 1000)
            .collect::<Vec<_>>()
    );
    for (arguments, expected) in [
        (&["--from", "12344000"][..], vec![12_344_000]),
        (&["--to", "0"], vec![0]),
        (
            &[
                "--from",
                "1970-01-01T00:00:01Z",
                "--to",
                "1970-01-01T00:00:02.999Z",
            ],
            vec![1000, 2000],
        ),
        (&["--from", "-1", "--to", "999"], vec![0]),
        (&["--limit", "2"], vec![12_343_000, 12_344_000]),
        (&["--limit", "2", "--to", "5000"], vec![4000, 5000]),
        (
            &["--limit", "9", "--from", "3000", "--to", "4000"],
            vec![3000, 4000],
        ),
        (&["--from", "5000", "--to", "4000"], vec![]),
    ] {
        let arguments = [&["data", "history", "d", "t"][..], arguments].concat();
        assert_eq!(times(&run(&arguments).ok()), expected, "{arguments:?}");
    }
    let newest = times(&run(&["data", "history", "d", "t", "--limit", "11000"]).ok());
    assert_eq!(
        (newest.len(), newest[0]),
        (11_000, (READINGS - 11_000) * 1000)
    );
    assert!(newest.is_sorted());
    assert_eq!(run(&["data", "history", "d", "unknown"]).ok(), "");
    assert_eq!(
        run(&["data", "history", "d", "text \"ü\""]).ok(),
        "{\"ts\":-5,\"value\":\"a\\\"\\n\"}\n"
    );

    let export = run(&["data", "export", "d"]).ok();
    assert!(!export.contains("SECRET-TOKEN"), "credentials are exported");
    let export: Value = serde_json::from_str(&export).unwrap();
    assert_eq!(export["device"]["name"], "d");
    assert_eq!(
        export["attributes"]["client"],
        json!({"c": {"ts": 7, "value": 1}})
    );
    assert_eq!(
        export["attributes"]["shared"],
        json!({"s": {"ts": 8, "value": 1}})
    );
    let telemetry = export["telemetry"].as_object().unwrap();
    assert_eq!(telemetry.len(), 5);
    assert_eq!(telemetry["t"].as_array().unwrap().len(), all.len());
    assert_eq!(telemetry["t"][1], json!({"ts": 1000, "value": 1}));

    for command in [
        &["data", "latest", "x"][..],
        &["data", "history", "x", "t"],
        &["data", "export", "x"],
    ] {
        let ended = run(command);
        assert!(ended.out.is_empty(), "{}", ended.out);
        assert!(ended.refused().contains("no device named \"x\""));
    }
}

#[test]
fn data_without_a_server() {
    let place = Place::new();
    fill(&place.path("data"));
    let run = |arguments: &[&str]| place.run(arguments);
    data_of_a_device(&run);
    // Removed with the device; another of that name starts with nothing.
    run(&["device", "remove", "d"]).ok();
    run(&["device", "add", "d"]).ok();
    assert_eq!(run(&["data", "latest", "d"]).ok(), "{}\n");
    assert_eq!(run(&["data", "history", "d", "t"]).ok(), "");
}

#[test]
fn data_of_a_running_server() {
    let place = Place::new();
    fill(&place.path("data"));
    place.run(&["cert", "self-signed", "--out", "."]).ok();
    let server = Server::start_in(place.0, &[]);
    let run = |arguments: &[&str]| Ended::new(arguments, &server.tidegate(arguments));
    data_of_a_device(&run);
    run(&["device", "remove", "d"]).ok();
    run(&["device", "add", "d"]).ok();
    assert_eq!(run(&["data", "latest", "d"]).ok(), "{}\n");
}
