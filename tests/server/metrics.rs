//! What packaging/ says of the metrics, held against a running server.

use std::collections::{BTreeMap, BTreeSet};

use super::support::{Link, Server, hex};

/// A family as the server exports it, or as the page describes it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Family {
    kind: String,
    /// Label names with their values; none for those whose values are not listed.
    labels: BTreeMap<String, BTreeSet<String>>,
}

/// Labels whose values are numbers, codes, in a list of their own or a choice of the start.
const OPEN_LABELS: [&str; 4] = ["code", "driver", "shard", "version"];

/// Families and the text of their help.
fn exported(page: &str) -> (BTreeMap<String, Family>, BTreeMap<String, String>) {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut helps = BTreeMap::new();
    let mut current = String::new();
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').expect("a text");
            helps.insert(name.to_owned(), text.to_owned());
        } else if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').expect("a type");
            name.clone_into(&mut current);
            families.entry(current.clone()).or_default().kind = kind.to_owned();
        } else if let Some((_, rest)) = line.split_once('{') {
            let (labels, _) = rest.rsplit_once("} ").expect("a value");
            let family = families.get_mut(&current).expect("declared before");
            for label in labels.split("\",") {
                let (name, value) = label.split_once("=\"").expect("a label");
                if name == "le" {
                    continue;
                }
                let values = family.labels.entry(name.to_owned()).or_default();
                let is_open = OPEN_LABELS.contains(&name) || current == "tidegate_drops_total";
                values.extend((!is_open).then(|| value.trim_end_matches('"').to_owned()));
            }
        }
    }
    (families, helps)
}

fn packaged(name: &str) -> String {
    let path = format!("{}/packaging/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The cells of the tables' rows whose first cell is code.
fn rows(page: &str) -> Vec<Vec<&str>> {
    page.lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect()
}

fn code(cell: &str) -> &str {
    cell.trim().trim_matches('`')
}

fn documented(page: &str) -> BTreeMap<String, Family> {
    let rows = rows(page);
    let families = rows.iter().filter(|row| row.len() == 4).map(|row| {
        let mut labels = BTreeMap::new();
        for label in row[2].split("; ").filter(|label| label.starts_with('`')) {
            let (name, values) = label.split_once(": ").unwrap_or((label, ""));
            let values = values.split(", ").filter(|value| !value.is_empty());
            let values = values.map(|value| code(value).to_owned()).collect();
            labels.insert(code(name).to_owned(), values);
        }
        let family = Family {
            kind: row[1].to_owned(),
            labels,
        };
        (code(row[0]).to_owned(), family)
    });
    families.collect()
}

/// The words of `text` that look like metrics.
fn named(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("tidegate_") || word.starts_with("process_"))
        .collect()
}

#[test]
fn what_packaging_says_of_metrics_is_so() {
    let server = Server::start(&[("TIDEGATE_SHARDS", "2")]);
    // Something of all that is only exported once it happened: answers by code.
    let mut link = Link::anonymous(&server);
    let upload = hex("44020001deadbeef b3617069 027631 054e4f4e4521 0974656c656d65747279 ff 7b7d");
    assert!(link.exchange(&upload).is_some());
    let answer = server.http("/metrics").expect("metrics");
    let (families, helps) = exported(&answer);
    assert!(families.len() > 60);

    let page = packaged("METRICS.md");
    let documented = documented(&page);
    for (name, family) in &families {
        let Family { kind, .. } = family;
        let row = format!("| `{name}` | {kind} | ... | {} |", helps[name]);
        let found = documented
            .get(name)
            .unwrap_or_else(|| panic!("packaging/METRICS.md has no row {row}"));
        assert_eq!(
            found, family,
            "{name}: left in METRICS.md, right in /metrics"
        );
    }
    for name in documented.keys() {
        assert!(families.contains_key(name), "METRICS.md names {name}");
    }

    let rows = rows(&page);
    let reasons: Vec<_> = rows
        .iter()
        .filter(|row| row.len() == 2)
        .map(|row| code(row[0]))
        .collect();
    let exported_reasons: Vec<_> = answer
        .lines()
        .filter_map(|line| line.strip_prefix("tidegate_drops_total{reason=\""))
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert_eq!(reasons, exported_reasons);

    for file in ["grafana-dashboard.json", "prometheus-alerts.yml"] {
        let text = packaged(file);
        let names = named(&text);
        assert!(names.len() > 10, "{file}: {names:?}");
        for name in names {
            let is_part = |suffix| {
                let family = name
                    .strip_suffix(suffix)
                    .and_then(|name| families.get(name));
                family.is_some_and(|family| family.kind == "histogram")
            };
            let known = families.contains_key(name)
                || ["_bucket", "_sum", "_count"].into_iter().any(is_part);
            assert!(known, "{file} names {name}");
        }
    }
    let dashboard: serde_json::Value =
        serde_json::from_str(&packaged("grafana-dashboard.json")).expect("JSON");
    assert!(
        dashboard["panels"]
            .as_array()
            .is_some_and(|panels| panels.len() > 20)
    );
}

/// Handshakes, requests and ended sessions are counted where they happen, and timed.
#[test]
fn what_happens_is_counted_and_timed() {
    let server = Server::start(&[("TIDEGATE_SHARDS", "1")]);
    let files = server.certificate_device("meter");
    let upload = hex("44020001deadbeef b3617069 027631 0974656c656d65747279 ff 7b613a317d");
    {
        let mut link = Link::certificate(&server, &files);
        assert_eq!(link.exchange(&upload).expect("an answer")[1], 0x41);
        link.handshake_again(&files);
    }
    let value = |name: &str| -> f64 {
        let page = server.http("/metrics").expect("metrics");
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        let line = line.unwrap_or_else(|| panic!("{name} is missing"));
        line.trim().parse().expect("a number")
    };
    assert!((value("tidegate_request_seconds_count") - 1.0).abs() < f64::EPSILON);
    assert!(value("tidegate_request_seconds_sum") > 0.0);
    assert!((value("tidegate_handshake_seconds_count") - 2.0).abs() < f64::EPSILON);
    assert!(value("tidegate_handshake_seconds_sum") > 0.0);
    let replaced = value("tidegate_sessions_ended_total{cause=\"replaced\"}");
    assert!((replaced - 1.0).abs() < f64::EPSILON);
    assert!(value("tidegate_certificate_expiry_timestamp_seconds") > 1.7e9);
    assert!(value("process_cpu_seconds_total") > 0.0);
    assert!(value("process_start_time_seconds") > 1.7e9);
    assert!(value("process_open_fds") > 3.0);
}

/// What the features of the device API do is counted under bounded labels.
#[test]
fn limits_provisioning_claims_packages_and_calls_are_counted() {
    let server = Server::start(&[("TIDEGATE_SHARDS", "1")]);
    server.tidegate_ok(&[
        "profile",
        "add",
        "p",
        "rateLimits.telemetryMessages=1:3600",
        "provisioning.strategy=ALLOW_CREATE_NEW_DEVICES",
        "provisioning.key=k",
        "provisioning.secret=s",
    ]);
    server.tidegate_ok(&[
        "device",
        "add",
        "d",
        "--token",
        "ACCESS01",
        "--profile",
        "p",
    ]);
    std::fs::write(server.path("fw.bin"), [1; 700]).expect("a file");
    let file = server.path("fw.bin").display().to_string();
    server.tidegate_ok(&["ota", "add", &file, "--title", "t", "--version", "1"]);
    server.tidegate_ok(&["ota", "assign", "1", "--device", "d"]);
    server.tidegate_ok(&["rpc", "send", "d", "m", "--persistent"]);
    let mut link = Link::anonymous(&server);
    let mut code = |message: &str, body: &str| {
        let message = [&hex(message)[..], body.as_bytes()].concat();
        link.exchange(&message).expect("an answer")[1]
    };
    let path = "b3617069 027631 084143434553533031";
    let upload = |id: &str| format!("4002{id} {path} 0974656c656d65747279 ff");
    assert_eq!(code(&upload("0001"), "{a:1}"), 0x41);
    assert_eq!(code(&upload("0002"), "{a:2}"), 0x9d, "4.29");
    let claim = format!("40020003 {path} 05636c61696d ff");
    assert_eq!(code(&claim, "{}"), 0x41);
    let provision = |id: &str| format!("4002{id} b3617069 027631 0970726f766973696f6e ff");
    let wrong = r#"{"provisionDeviceKey":"k","provisionDeviceSecret":"wrong"}"#;
    assert_eq!(code(&provision("0004"), wrong), 0x80);
    let right = r#"{"provisionDeviceKey":"k","provisionDeviceSecret":"s"}"#;
    assert_eq!(code(&provision("0005"), right), 0x41);
    // GET /fw/ACCESS01
    assert_eq!(code("40010006 b26677 084143434553533031", ""), 0x45);
    let page = server.http("/metrics").expect("metrics");
    for line in [
        "tidegate_rate_limited_total 1",
        "tidegate_claim_offers_total 1",
        "tidegate_provisioning_total{result=\"not_found\"} 1",
        "tidegate_provisioning_total{result=\"success\"} 1",
        "tidegate_provisioning_total{result=\"failure\"} 0",
        "tidegate_package_parts_total{type=\"firmware\"} 1",
        "tidegate_package_bytes_total{type=\"firmware\"} 700",
        "tidegate_calls_total{kind=\"to_device_persistent\"} 1",
        "tidegate_calls_total{kind=\"to_device\"} 0",
        "tidegate_profiles 1",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}\n{page}");
    }
}
