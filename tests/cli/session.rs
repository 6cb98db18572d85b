//! `tidegate session`: the live sessions of a running server.

use super::support::{Link, Server, hex};
use super::{Ended, Place};
use std::collections::BTreeSet;

#[test]
fn sessions_are_listed_and_closed() {
    let server = Server::start(&[("TIDEGATE_SHARDS", "2")]);
    let run = |arguments: &[&str]| Ended::new(arguments, &server.tidegate(arguments));
    assert_eq!(run(&["session", "list"]).ok(), "no sessions\n");
    let files = server.certificate_device("tracker");
    let mut tracker = Link::certificate(&server, &files);
    let others: Vec<_> = (0..5).map(|_| Link::anonymous(&server)).collect();

    let listed = run(&["session", "list", "--json"]).ok();
    let sessions: Vec<serde_json::Value> = listed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(sessions.len(), 1 + others.len());
    let ids: BTreeSet<_> = sessions.iter().map(|one| one["id"].to_string()).collect();
    assert_eq!(ids.len(), sessions.len());
    let device = |one: &&serde_json::Value| one["device"] == "tracker";
    let known: Vec<_> = sessions.iter().filter(device).collect();
    assert_eq!(known.len(), 1);
    assert_eq!(known[0]["identity"], "certificate");
    let suite = known[0]["suite"].as_str().unwrap();
    assert!(suite.starts_with("TLS_ECDHE_ECDSA_WITH_"), "{suite}");
    assert!(known[0]["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    let of_device = run(&["session", "list", "--device", "tracker", "--json"]).json();
    assert_eq!(of_device["id"], known[0]["id"]);
    let limited = run(&["session", "list", "--limit", "3", "--json"]).ok();
    assert_eq!(limited.lines().count(), 3);
    let table = run(&["session", "list"]).ok();
    assert!(table.starts_with("ID  "), "{table}");
    assert_eq!(table.lines().count(), 1 + sessions.len(), "{table}");

    let id = known[0]["id"].as_str().unwrap();
    assert_eq!(
        run(&["session", "close", id]).ok(),
        format!("closed {id}\n")
    );
    assert_eq!(tracker.receive(), None);
    assert!(tracker.is_closed(), "close_notify (RFC 5246 section 7.2.1)");
    let err = run(&["session", "close", id]).refused();
    assert!(err.contains("there is no session"), "{err}");
    let err = run(&["session", "close", "all"]).refused();
    assert!(err.contains("that is no session's id"), "{err}");
    let err = run(&["session", "list", "--device", "nobody"]).refused();
    assert!(err.contains("no device named \"nobody\""), "{err}");
    let metrics = server.http("/metrics").unwrap();
    assert!(metrics.contains("tidegate_sessions_ended_total{cause=\"dismissed\"} 1"));
    // The device comes back by itself.
    let mut again = Link::certificate(&server, &files);
    let upload = hex("44020001deadbeef b3617069 027631 0974656c656d65747279 ff 7b613a317d");
    assert_eq!(again.exchange(&upload).expect("an answer")[1], 0x44 - 3);
}

#[test]
fn without_a_server_there_are_none() {
    let place = Place::new();
    place.run(&["device", "add", "d"]).ok();
    for arguments in [&["session", "list"][..], &["session", "close", "0-0-0"]] {
        let err = place.run(arguments).refused();
        assert!(err.contains("no server runs"), "{err}");
    }
}
