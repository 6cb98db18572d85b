//! The page, and the description of the interface.

use super::{Running, request_head};
use crate::drop_reason::DropReason;
use crate::metrics::{Counter, Latency};
use serde_json::json;
use std::time::Duration;

/// A browser gets the page with a policy that lets it load from nowhere else, and nothing in it
/// wants to.
#[test]
fn the_page_loads_nothing_from_elsewhere() {
    let running = Running::start();
    for (path, kind) in [
        ("/", "text/html"),
        ("/page/page.css", "text/css"),
        ("/page/page.js", "text/javascript"),
        ("/page/parts.js", "text/javascript"),
        ("/page/overview.js", "text/javascript"),
        ("/page/devices.js", "text/javascript"),
        ("/page/device.js", "text/javascript"),
        ("/page/profiles.js", "text/javascript"),
    ] {
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/html,*/*\r\nConnection: \
             close\r\n\r\n"
        );
        let (status, head, body) = running.raw(&head, b"");
        assert_eq!(status, 200);
        assert!(
            head.contains("content-security-policy: default-src 'none'"),
            "{head}"
        );
        assert!(!head.contains("unsafe-inline"), "{head}");
        assert!(head.contains(&format!("content-type: {kind}")), "{head}");
        let body = body.replace("http://www.w3.org/", "");
        assert!(
            !body.contains("style=\"") && !body.contains("onclick=\""),
            "{path}"
        );
        for foreign in ["http://", "https://", "//cdn", "@import", "innerHTML"] {
            assert!(!body.contains(foreign), "{foreign} in {path}");
        }
    }
    assert!(
        running.get("/").1.starts_with("Tidegate\n"),
        "text for others"
    );
}

#[test]
fn the_status_is_there_for_the_page() {
    let running = Running::start();
    let shard = &running.status.shards[1];
    shard.add(Counter::RequestsCoaps, 3);
    shard.set(Counter::Sessions, 2);
    shard.count_drop(DropReason::RecordForged);
    shard.record(Latency::Request, Duration::from_micros(150));
    let (status, body) = running.get("/status.json");
    assert_eq!(status, 200);
    let found: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(found["ready"], true);
    assert_eq!(found["requests"], 3);
    assert_eq!(found["shards"][1]["sessions"], 2);
    assert_eq!(found["latency"]["request"]["p99"], 160);
    assert_eq!(
        found["errors"],
        json!([{"kind": "discarded", "reason": "record_forged", "count": 1}])
    );
    assert!(found["samples"].is_array());
    assert_eq!(running.get("/status.json?after=x").0, 400);
}

/// Each path of the description has the methods that are described, and no other; and each path of
/// the router is described.
#[test]
fn the_description_and_the_routes_agree() {
    let running = Running::start();
    let (status, text) = running.get("/api/openapi.json");
    assert_eq!(status, 200);
    let description: serde_json::Value = serde_json::from_str(&text).unwrap();
    let paths = description["paths"].as_object().unwrap();
    for (path, methods) in paths {
        let target = path
            .split('/')
            .map(|part| if part.starts_with("{") { "1" } else { part })
            .collect::<Vec<_>>()
            .join("/");
        for method in ["get", "put", "post", "delete", "patch"] {
            let head = request_head(&method.to_ascii_uppercase(), &target, "");
            let (status, _, body) = running.raw(&head, b"");
            assert!(!body.contains("no such page"), "{path} is not there");
            let is_there = status != 405;
            let is_described = methods.get(method).is_some();
            assert_eq!(is_there, is_described, "{method} {path}");
        }
    }
    let sources = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/admin/api"));
    let mut routes = 0;
    for entry in sources.unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|kind| kind != "rs") {
            continue;
        }
        let source = std::fs::read_to_string(&file).unwrap();
        let compact: String = source.split_whitespace().collect();
        for route in compact.split(".route(\"").skip(1) {
            let path = route.split('"').next().unwrap();
            routes += 1;
            assert!(paths.contains_key(path), "{path} is not described");
        }
    }
    assert_eq!(routes, paths.len(), "a route is written in another way");
}

/// Every reference in the description leads somewhere.
#[test]
fn the_description_is_closed() {
    fn references<'a>(value: &'a serde_json::Value, found: &mut Vec<&'a str>) {
        match value {
            serde_json::Value::Object(members) => {
                found.extend(members.get("$ref").and_then(|target| target.as_str()));
                members.values().for_each(|value| references(value, found));
            }
            serde_json::Value::Array(items) => {
                items.iter().for_each(|value| references(value, found));
            }
            _ => {}
        }
    }
    let running = Running::start();
    let description: serde_json::Value =
        serde_json::from_str(&running.get("/api/openapi.json").1).unwrap();
    let mut found = Vec::new();
    references(&description, &mut found);
    assert!(found.len() > 10);
    for target in found {
        let pointer = target.strip_prefix('#').unwrap();
        assert!(description.pointer(pointer).is_some(), "{target}");
    }
}
