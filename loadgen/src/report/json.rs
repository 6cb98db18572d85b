//! The results for programs: numbers under fixed names, and the settings beside them.

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::Report;
use crate::arguments::{Authentication, CredentialSource, Load, Scenario, method_name};
use crate::sockets;
use crate::stats::Sample;

/// The report as one JSON object. Times are microseconds. Percentiles of nothing are 0, and so is
/// what the server used per operation when there was none.
pub(crate) fn json(report: &Report<'_>) -> Value {
    let counters = &report.total.counters;
    let mut object = json!({
        "handshakes": {
            "started": counters.handshakes_started,
            "completed": counters.handshakes_completed,
            "failed": counters.handshakes_failed,
            "per_s": rounded(report.handshakes_per_s()),
        },
        "handshake_us": percentiles(&report.total.handshake),
        "requests": {
            "sent": counters.sent,
            "ok": counters.ok,
            "failed": counters.failed,
            "timeouts": counters.timeouts,
            "retransmissions": counters.retransmissions,
            "per_s": rounded(report.requests_per_s()),
            "offered_per_s": rounded(report.offered_per_s()),
        },
        "latency_us": percentiles(&report.total.latency),
    });
    if report.plan.scenario == Scenario::Resume {
        object["handshakes"]["resumed"] = counters.handshakes_resumed.into();
    }
    if !report.total.service.is_empty() {
        object["service_us"] = percentiles(&report.total.service);
    }
    let Some(members) = object.as_object_mut() else {
        return object;
    };
    if report.plan.rebind_every.is_some() {
        members.insert(
            "rebind".into(),
            json!({
                "address_changes": counters.rebinds,
                "answered": counters.rebinds_ok,
                "failed": counters.rebinds - counters.rebinds_ok,
                "handshakes": counters.reconnects,
            }),
        );
    }
    if let Some(calls) = &report.calls {
        members.insert(
            "observe".into(),
            json!({
                "observers": counters.observers,
                "updates": calls.len(),
                "lost": counters.sent - counters.ok.min(counters.sent),
                "repeated": counters.repeated,
                "disordered": counters.disordered,
                "ended": counters.observations_ended,
            }),
        );
        members.insert("call_us".into(), percentiles(calls));
    }
    if let Some(storm) = &report.storm {
        members.insert("quiet_us".into(), percentiles(&report.total.quiet));
        members.insert("storm".into(), storm_numbers(report, storm));
        members.insert("storm_handshake_us".into(), percentiles(&storm.handshake));
    }
    if let Some(server) = &report.server {
        members.insert(
            "server".into(),
            json!({
                "cpu_us_per_request": rounded(server.cpu_us_per_request),
                "cpu_us_per_handshake": rounded(server.cpu_us_per_handshake),
                "rss_bytes": server.rss_bytes,
                "rss_bytes_per_session": rounded(server.rss_bytes_per_session),
            }),
        );
    }
    if !report.server_threads.is_empty() {
        let threads: Map<String, Value> = report
            .server_threads
            .iter()
            .map(|(name, us)| (name.clone(), rounded(*us).into()))
            .collect();
        members.insert("server_threads".into(), threads.into());
    }
    members.insert("config".into(), config(report).into());
    object
}

fn percentiles(histogram: &Histogram<u64>) -> Value {
    json!({
        "p50": histogram.value_at_quantile(0.5),
        "p90": histogram.value_at_quantile(0.9),
        "p99": histogram.value_at_quantile(0.99),
        "p999": histogram.value_at_quantile(0.999),
        "max": histogram.max(),
    })
}

/// What came over the fleet, and what the fleet lost by it.
fn storm_numbers(report: &Report<'_>, storm: &Sample) -> Value {
    let counters = &storm.counters;
    json!({
        "requests_lost": report.total.counters.failed,
        "p99_to_quiet": rounded(report.p99_to_quiet()),
        "handshakes_started": counters.handshakes_started,
        "handshakes_completed": counters.handshakes_completed,
        "handshakes_failed": counters.handshakes_failed,
        "handshakes_per_s": rounded(report.storm_per_s(counters.handshakes_completed)),
        "hellos_without_cookie": counters.hellos,
        "hellos_with_cookie": counters.hellos_with_cookie,
        "hellos_per_s": rounded(report.storm_per_s(counters.hellos + counters.hellos_with_cookie)),
    })
}

fn config(report: &Report<'_>) -> Map<String, Value> {
    let plan = report.plan;
    let authentication = match plan.authentication {
        Authentication::Token => "token",
        Authentication::X509 => "x509",
        Authentication::Psk => "psk",
        Authentication::None => "none",
    };
    let mut config = Map::new();
    let mut set = |name: &str, value: Value| config.insert(name.to_owned(), value);
    set("target", plan.target.uri.clone().into());
    set("scenario", plan.scenario.name().into());
    set("auth", authentication.into());
    // Where they come from; what they are is nobody's business.
    let credentials = match plan.credentials {
        CredentialSource::Nothing => "none",
        CredentialSource::Token(_) => "token",
        CredentialSource::File(_) => "file",
        CredentialSource::Admin(_) => "registered",
        CredentialSource::Unregistered => "unregistered",
    };
    set("credentials", credentials.into());
    set("devices", report.devices.into());
    set("threads", report.threads.into());
    set("seed", plan.seed.into());
    set("closed", plan.load.is_closed().into());
    match plan.load {
        Load::Closed => None,
        Load::Turns { in_flight } => set("in_flight", in_flight.into()),
        Load::Open { rate } => set("rate", rate.into()),
    };
    set("duration_s", plan.duration.as_secs_f64().into());
    set("measured_s", rounded(report.measured.as_secs_f64()).into());
    set("ramp_s", plan.ramp.as_secs_f64().into());
    if let Some(count) = plan.count {
        set("count", count.into());
    }
    if let Some(length) = plan.cid {
        set("cid", length.into());
    }
    if let Some(every) = plan.rebind_every {
        set("rebind_every_s", every.as_secs_f64().into());
    }
    if let Some(way) = plan.resume_by {
        set("resume_by", way.name().into());
    }
    if let Some(every) = plan.update_every {
        set("update_every_s", every.as_secs_f64().into());
    }
    if let Some(storm) = plan.storm {
        set("quiet_s", storm.quiet.as_secs_f64().into());
        set("storm_devices", storm.devices.into());
        set("storm_spoofed", storm.hellos_per_s.into());
    }
    if let Some(suite) = plan.suite {
        set("suite", suite.name().into());
    }
    if let Some(every) = plan.verify_one_in {
        set("verify_one_in", every.get().into());
    }
    set("method", method_name(plan.method).into());
    set("path", plan.path.clone().into());
    let payload = String::from_utf8_lossy(&plan.payload);
    set("payload", payload.into_owned().into());
    set("payload_bytes", plan.payload.len().into());
    set("timeout_s", plan.answer_timeout.as_secs_f64().into());
    let shared = sockets::are_shared(plan.target.address, plan.shared_sockets);
    set("sockets", if shared { "shared" } else { "each" }.into());
    set("max_errors", plan.max_errors.into());
    config
}

/// Three digits after the point.
fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::super::ServerUse;
    use super::super::tests::example;
    use super::*;

    fn keys(value: &Value) -> Vec<&str> {
        value
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect()
    }

    #[test]
    fn the_keys_are_those_of_the_contract_and_their_values_numbers() {
        let plan = crate::arguments::tests::example();
        let mut report = example(&plan);
        assert_eq!(json(&report).get("server"), None);
        report.server = Some(ServerUse::default());
        report.server_threads = vec![("shard".to_owned(), 3.25)];
        let json = json(&report);
        assert_eq!(
            keys(&json),
            [
                "handshakes",
                "handshake_us",
                "requests",
                "latency_us",
                "server",
                "server_threads",
                "config"
            ]
        );
        assert_eq!(
            keys(&json["handshakes"]),
            ["started", "completed", "failed", "per_s"]
        );
        let percentiles = ["p50", "p90", "p99", "p999", "max"];
        assert_eq!(keys(&json["handshake_us"]), percentiles);
        assert_eq!(keys(&json["latency_us"]), percentiles);
        assert_eq!(
            keys(&json["requests"]),
            [
                "sent",
                "ok",
                "failed",
                "timeouts",
                "retransmissions",
                "per_s",
                "offered_per_s"
            ]
        );
        assert_eq!(
            keys(&json["server"]),
            [
                "cpu_us_per_request",
                "cpu_us_per_handshake",
                "rss_bytes",
                "rss_bytes_per_session"
            ]
        );
        for (name, group) in json.as_object().unwrap() {
            for (key, value) in group.as_object().unwrap() {
                assert!(
                    value.is_number() || name == "config",
                    "{name}.{key}: {value}"
                );
            }
        }
        assert_eq!(json["requests"]["per_s"], 500.0);
        let p50 = json["latency_us"]["p50"].as_u64().unwrap();
        assert!((598..=601).contains(&p50), "{p50}");
    }
}
