//! `tidegate attr`: the same with a running server and without.

use super::support::Server;
use super::{Ended, Place};
use serde_json::json;

fn life_of_attributes(run: &dyn Fn(&[&str]) -> Ended) {
    run(&["device", "add", "d"]).ok();
    let err = run(&["attr", "get", "nobody"]).refused();
    assert!(err.contains("no device named \"nobody\""), "{err}");
    let nothing = json!({"client": {}, "shared": {}, "server": {}});
    assert_eq!(run(&["attr", "get", "d"]).json(), nothing);
    run(&[
        "attr",
        "set",
        "d",
        "interval=60",
        "on=true",
        "rate=0.5",
        "name=north side",
        "text=\"60\"",
        "list=[1,{\"a\":null}]",
        "a/b?c=d",
        "slash/ü=1",
    ])
    .ok();
    run(&["attr", "set", "d", "--scope", "server", "interval=1"]).ok();
    run(&["attr", "set", "d", "--scope", "client", "model=x"]).ok();
    let found = run(&["attr", "get", "d"]).json();
    for (key, value) in [
        ("interval", json!(60)),
        ("on", json!(true)),
        ("rate", json!(0.5)),
        ("name", json!("north side")),
        ("text", json!("60")),
        ("list", json!([1, {"a": null}])),
        ("a/b?c", json!("d")),
        ("slash/ü", json!(1)),
    ] {
        assert_eq!(found["shared"][key]["value"], value, "{key}");
        assert!(found["shared"][key]["ts"].as_i64().unwrap() > 1_700_000_000_000);
    }
    assert_eq!(found["server"]["interval"]["value"], 1);
    assert_eq!(found["client"]["model"]["value"], "x");
    // A second value takes the place of the first; others stay.
    run(&["attr", "set", "d", "interval=30"]).ok();
    run(&["attr", "delete", "d", "a/b?c", "slash/ü", "unknown", "on"]).ok();
    let found = run(&[
        "attr", "get", "d", "--scope", "shared", "interval", "on", "rate",
    ])
    .json();
    let keys: Vec<_> = found.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["interval", "rate"]);
    assert_eq!(found["interval"]["value"], 30);
    run(&["device", "add", "e"]).ok();
    let changed = run(&["attr", "set-profile", "default", "interval=15"]).json();
    assert_eq!(changed, json!({"devices": 2}));
    for name in ["d", "e"] {
        let found = run(&["attr", "get", name, "--scope", "shared", "interval"]).json();
        assert_eq!(found["interval"]["value"], 15, "{name}");
    }
    let err = run(&["attr", "set-profile", "nope", "interval=15"]).refused();
    assert!(err.contains("nope"), "{err}");
    let key = "k".repeat(256);
    let err = run(&["attr", "set", "d", &format!("{key}=1")]).refused();
    assert!(err.contains("longer than 255 bytes"), "{err}");
    let err = run(&["attr", "set", "d", "big=18446744073709551615"]).refused();
    assert!(err.contains("beyond 64 bits"), "{err}");
}

#[test]
fn attributes_live_without_a_server() {
    let place = Place::new();
    life_of_attributes(&|arguments| place.run(arguments));
}

#[test]
fn attributes_live_with_a_server() {
    let server = Server::start(&[]);
    life_of_attributes(&|arguments| Ended::new(arguments, &server.tidegate(arguments)));
}
