//! The pages for monitoring and for people.

use crate::admin::StatusSource;
use crate::histogram::HistogramSum;
use crate::metrics::{self, Encoder, Latency};
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
    process(&mut encoder);
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

/// The metrics that every process has, under the names that Prometheus' own libraries give them.
fn process(encoder: &mut Encoder) {
    let gauge = "gauge";
    if let Some(bytes) = status_kibibytes("VmRSS:").map(|found| found * 1024) {
        let help = "Resident memory size in bytes.";
        encoder.single("process_resident_memory_bytes", gauge, help, bytes);
    }
    if let Some((used, start)) = times() {
        let help = "Total user and system CPU time spent in seconds.";
        encoder.single("process_cpu_seconds_total", "counter", help, used);
        if let Some(boot) = boot_time() {
            let help = "Start time of the process since unix epoch in seconds.";
            encoder.single("process_start_time_seconds", gauge, help, boot + start);
        }
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        let help = "Number of open file descriptors.";
        encoder.single("process_open_fds", gauge, help, open.count());
    }
    if let Some(limit) = descriptors_limit() {
        let help = "Maximum number of open file descriptors.";
        encoder.single("process_max_fds", gauge, help, limit);
    }
}

/// A line of `/proc/self/status` that ends in kB.
fn status_kibibytes(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The kernel tells times to user space in hundredths of a second, whatever its own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time used, and time of the start since the host's own, both in seconds.
fn times() -> Option<(f64, f64)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field, the program's name, may hold anything. Of those after it the 12th and 13th
    // are user and system time, the 20th is the start.
    let (_, after_name) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    let used = ticks(11)? + ticks(12)?;
    Some((used / TICKS_PER_SECOND, ticks(19)? / TICKS_PER_SECOND))
}

/// When the host started, seconds since the UNIX epoch.
fn boot_time() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

fn descriptors_limit() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
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
