//! The pages for monitoring and for people.

use crate::admin::StatusSource;
use crate::metrics::{self, Encoder, HistogramSum, Latency};
use std::fmt::Write as _;

/// `/metrics`.
pub(super) fn metrics(status: &dyn StatusSource) -> String {
    let mut encoder = Encoder::new();
    encoder.family("tidegate_build_info", "gauge", "The version that runs.");
    let version = concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"");
    encoder.sample("tidegate_build_info", version, 1);
    let ready = u8::from(status.ready().is_ok());
    encoder.single(
        "tidegate_ready",
        "gauge",
        "1 while devices are served.",
        ready,
    );
    if let Some(bytes) = resident_bytes() {
        let help = "Resident memory size in bytes.";
        encoder.single("process_resident_memory_bytes", "gauge", help, bytes);
    }
    encoder.single(
        "tidegate_log_lines_dropped_total",
        "counter",
        "Log lines lost because they came faster than they could be written.",
        crate::logging::dropped_lines(),
    );
    metrics::encode(&mut encoder, &status.shards());
    status.encode(&mut encoder);
    encoder.finish()
}

/// What `/proc` says of this process's memory.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// `/`: the state in a screen.
pub(super) fn status(status: &dyn StatusSource) -> String {
    let mut page = String::from("Tidegate\n\n");
    let ready = status
        .ready()
        .map_or_else(|reason| format!("no: {reason}"), |()| "yes".to_owned());
    let mut lines = vec![("ready".to_owned(), ready)];
    lines.extend(status.facts());
    let shards = status.shards();
    for (latency, name) in [
        (Latency::Request, "request latency"),
        (Latency::Handshake, "handshake latency"),
    ] {
        let sum = HistogramSum::of(shards.iter().map(|shard| shard.histogram(latency)));
        if sum.count() > 0 {
            let at = |quantile| {
                sum.quantile(quantile)
                    .map_or_else(|| "> 67 s".to_owned(), |time| format!("{time:?}"))
            };
            let text = format!("p50 {}, p99 {}, p99.9 {}", at(0.5), at(0.99), at(0.999));
            lines.push((name.to_owned(), text));
        }
    }
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in lines {
        let _ = writeln!(page, "{name:<width$}  {value}");
    }
    page.push_str(
        "\n/metrics           Prometheus\n/healthz /readyz   probes\n/api/devices       \
         devices and their data\n/api/openapi.json  the interface described\n",
    );
    page
}
