//! The results for people: a table, the latencies drawn, and what to make of errors.

use std::fmt::Write;

use hdrhistogram::Histogram;

use super::{Report, hints};
use crate::arguments::{Load, Scenario};
use crate::text::{bytes, grouped, micros, rate};

/// Most rows of a drawn distribution.
const ROWS_MAX: usize = 18;
/// Most kinds of the server's threads that are told.
const THREADS_MAX: usize = 6;
/// Widest bar, characters.
const BAR_WIDTH: f64 = 40.0;

/// The report as text, several lines. `write!` to it cannot fail, so its results are dropped.
pub(crate) fn table(report: &Report<'_>) -> String {
    let mut text = String::new();
    headline(report, &mut text);
    let counters = &report.total.counters;
    if counters.handshakes_started > 0 {
        let _ = writeln!(
            text,
            "handshakes   started {}   completed {}   failed {}   {} per s",
            grouped(counters.handshakes_started),
            grouped(counters.handshakes_completed),
            grouped(counters.handshakes_failed),
            rate(report.handshakes_per_s()),
        );
        if report.plan.scenario == Scenario::Resume {
            let resumed = grouped(counters.handshakes_resumed);
            let _ = writeln!(text, "resumed      {resumed}");
        }
        percentiles("handshake", &report.total.handshake, &mut text);
    }
    if let Some(calls) = &report.calls {
        observe(report, calls, &mut text);
    } else if report.plan.scenario.sends_requests() {
        let _ = writeln!(
            text,
            "requests     sent {}   ok {}   failed {}   timeouts {}   retransmissions {}   {} per s",
            grouped(counters.sent),
            grouped(counters.ok),
            grouped(counters.failed),
            grouped(counters.timeouts),
            grouped(counters.retransmissions),
            rate(report.requests_per_s()),
        );
        percentiles("latency", &report.total.latency, &mut text);
        // What is in the latency beyond that waited here, for an earlier answer to the same device.
        percentiles("from sending", &report.total.service, &mut text);
    }
    if report.plan.rebind_every.is_some() {
        let _ = writeln!(
            text,
            "rebind       address changes {}   answered from there {}   handshakes {}",
            grouped(counters.rebinds),
            grouped(counters.rebinds_ok),
            grouped(counters.reconnects),
        );
    }
    storm(report, &mut text);
    server(report, &mut text);
    let name = match report.plan.scenario.sends_requests() {
        true => "latency",
        false => "handshake",
    };
    draw(name, report.operations(), &mut text);
    for hint in hints::hints(report) {
        let _ = writeln!(text, "! {hint}");
    }
    text
}

fn headline(report: &Report<'_>, text: &mut String) {
    let load = match report.plan.load {
        _ if report.calls.is_some() => "observing".to_owned(),
        Load::Closed => "closed loop".to_owned(),
        Load::Turns { in_flight } => {
            format!("closed loop of {} outstanding", grouped(in_flight.into()))
        }
        Load::Open { rate: wanted } => format!("open loop of {} per s", rate(wanted)),
    };
    let _ = writeln!(
        text,
        "{}: {} devices, {load}, {:.1} s measured",
        report.plan.target.uri,
        grouped(report.devices as u64),
        report.measured.as_secs_f64(),
    );
    if report.plan.load.is_closed() {
        let _ = writeln!(text, "{}", report.honesty());
    }
    if let Some(every) = report.plan.verify_one_in.filter(|every| every.get() > 1) {
        let _ = writeln!(
            text,
            "The server's signature is verified in one handshake of {every}, at random: an impostor may go \
             unnoticed."
        );
    }
}

fn percentiles(name: &str, histogram: &Histogram<u64>, text: &mut String) {
    if histogram.is_empty() {
        return;
    }
    let at = |quantile| micros(histogram.value_at_quantile(quantile));
    let _ = writeln!(
        text,
        "{name:<12} p50 {}   p90 {}   p99 {}   p99.9 {}   max {}",
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        micros(histogram.max()),
    );
}

/// What observers were told, and how long that took.
fn observe(report: &Report<'_>, calls: &Histogram<u64>, text: &mut String) {
    let counters = &report.total.counters;
    let _ = writeln!(
        text,
        "observe      observers {}   updates {}   notifications due {}   received {}   lost {}   \
         repeated {}   out of order {}   ended {}",
        grouped(counters.observers),
        grouped(calls.len()),
        grouped(counters.sent),
        grouped(counters.ok),
        grouped(counters.sent.saturating_sub(counters.ok)),
        grouped(counters.repeated),
        grouped(counters.disordered),
        grouped(counters.observations_ended),
    );
    percentiles("call", calls, text);
    percentiles("latency", &report.total.latency, text);
}

/// Before the storm, and what it was made of.
fn storm(report: &Report<'_>, text: &mut String) {
    let Some(storm) = &report.storm else {
        return;
    };
    percentiles("quiet", &report.total.quiet, text);
    let counters = &storm.counters;
    let _ = writeln!(
        text,
        "storm        handshakes completed {}   failed {}   {} per s   ClientHellos without cookie {}   \
         with {}   {} per s   p99 of the fleet {:.1} x quiet",
        grouped(counters.handshakes_completed),
        grouped(counters.handshakes_failed),
        rate(report.storm_per_s(counters.handshakes_completed)),
        grouped(counters.hellos),
        grouped(counters.hellos_with_cookie),
        rate(report.storm_per_s(counters.hellos + counters.hellos_with_cookie)),
        report.p99_to_quiet(),
    );
    percentiles("storm hands.", &storm.handshake, text);
}

fn server(report: &Report<'_>, text: &mut String) {
    if let Some(server) = &report.server {
        let _ = write!(text, "server      ");
        if server.cpu_us_per_request > 0.0 {
            let _ = write!(
                text,
                " CPU {:.2} us per {}  ",
                server.cpu_us_per_request,
                operation(report).1
            );
        }
        if server.cpu_us_per_handshake > 0.0 {
            let _ = write!(
                text,
                " CPU {:.1} us per handshake  ",
                server.cpu_us_per_handshake
            );
        }
        let _ = write!(text, " memory {}", bytes(server.rss_bytes));
        if server.rss_bytes_per_session > 0.0 {
            let _ = write!(text, ", {:.0} B per session", server.rss_bytes_per_session);
        }
        text.push('\n');
    }
    if !report.server_threads.is_empty() {
        let mut threads = report.server_threads.clone();
        threads.sort_by(|a, b| b.1.total_cmp(&a.1));
        let _ = write!(text, "by thread   ");
        for (name, us) in threads.iter().take(THREADS_MAX) {
            let _ = write!(text, " {name} {us:.2} us  ");
        }
        text.push('\n');
    }
    let (operations, operation) = operation(report);
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    let own = report.own_cpu.as_secs_f64() * 1e6 / operations.max(1) as f64;
    let _ = writeln!(
        text,
        "generator    CPU {own:.1} us per {operation}, {} thread{}, memory {}",
        report.threads,
        if report.threads == 1 { "" } else { "s" },
        bytes(report.own_rss_bytes),
    );
}

/// What was done, and how often.
const fn operation(report: &Report<'_>) -> (u64, &'static str) {
    let counters = &report.total.counters;
    match report.plan.scenario {
        Scenario::Observe => (counters.ok, "notification"),
        scenario if scenario.sends_requests() => (counters.sent, "request"),
        _ => (counters.handshakes_started, "handshake"),
    }
}

/// Draws a distribution as bars over logarithmic steps of time.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn draw(name: &str, histogram: &Histogram<u64>, text: &mut String) {
    if histogram.is_empty() {
        return;
    }
    let counts: Vec<(u64, u64, u64)> = edges(histogram.min(), histogram.max())
        .windows(2)
        .map(|edge| {
            (
                edge[0],
                edge[1],
                histogram.count_between(edge[0], edge[1] - 1),
            )
        })
        .collect();
    let longest = counts
        .iter()
        .map(|&(_, _, count)| count)
        .max()
        .unwrap_or(1)
        .max(1) as f64;
    let _ = writeln!(text, "\n{name:>21}  {:>12}  {:>7}", "count", "share");
    for (from, to, count) in counts {
        let share = 100.0 * count as f64 / histogram.len() as f64;
        let _ = writeln!(
            text,
            "{:>9} - {:>9}  {:>12}  {share:>6.2}%  {}",
            micros(from),
            micros(to),
            grouped(count),
            bar(count as f64 / longest),
        );
    }
    text.push('\n');
}

/// A bar of a length from 0 to 1, in eighths of a character; what is not 0 is seen.
fn bar(length: f64) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to 320"
    )]
    let eighths = (length.clamp(0.0, 1.0) * BAR_WIDTH * 8.0).ceil() as usize;
    let mut bar = "█".repeat(eighths / 8);
    bar.push_str(PARTS[eighths % 8]);
    bar
}

/// Edges of the bars: round numbers from below `min` to above `max`, as fine as [`ROWS_MAX`] lets.
fn edges(min: u64, max: u64) -> Vec<u64> {
    const SERIES: [&[u64]; 4] = [
        &[
            100, 110, 120, 130, 150, 160, 180, 200, 220, 240, 270, 300, 330, 360, 390, 430, 470,
            510, 560, 620, 680, 750, 820, 910,
        ],
        &[100, 120, 150, 200, 250, 300, 400, 500, 600, 800],
        &[100, 150, 200, 300, 500, 700],
        &[100, 200, 500],
    ];
    for series in SERIES {
        let edges = edges_of(series, min, max);
        if edges.len() <= ROWS_MAX + 1 {
            return edges;
        }
    }
    edges_of(&[100], min, max)
}

fn edges_of(series: &[u64], min: u64, max: u64) -> Vec<u64> {
    let mut edges = Vec::new();
    let mut scale = 1;
    while scale < 10_u64.pow(12) {
        for &step in series {
            let edge = step * scale / 100;
            if edge == 0 || edges.last() == Some(&edge) {
                continue;
            }
            if edge <= min {
                edges.clear();
            }
            edges.push(edge);
            if edge > max {
                return edges;
            }
        }
        scale *= 10;
    }
    edges
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;
    use crate::arguments::tests::example as plan;

    #[test]
    fn edges_enclose_all_in_few_round_steps() {
        for (min, max) in [
            (1, 1),
            (1, 9),
            (95, 105),
            (123, 4567),
            (1, 200_000_000),
            (999, 1000),
        ] {
            let edges = edges(min, max);
            assert!(edges.len() >= 2 && edges.len() <= ROWS_MAX + 1, "{edges:?}");
            assert!(edges.is_sorted_by(|a, b| a < b), "{edges:?}");
            assert!(edges[0] <= min && edges[edges.len() - 1] > max, "{edges:?}");
            assert!(edges[1] > min, "{edges:?}");
        }
    }

    #[test]
    fn every_latency_is_in_a_bar_and_the_longest_bars_are_full() {
        let plan = plan();
        let mut text = String::new();
        draw("latency", &example(&plan).total.latency, &mut text);
        let rows: Vec<&str> = text.lines().filter(|line| line.contains('%')).collect();
        let count = |row: &str| -> u64 {
            let fields: Vec<&str> = row
                .split("  ")
                .filter(|field| !field.trim().is_empty())
                .collect();
            fields
                .iter()
                .rev()
                .nth(2)
                .map_or(0, |field| field.trim().replace(' ', "").parse().unwrap())
        };
        assert_eq!(
            rows.iter().map(|row| count(row)).sum::<u64>(),
            1000,
            "{text}"
        );
        let full = "█".repeat(40);
        assert_eq!(
            rows.iter().filter(|row| row.contains(&full)).count(),
            2,
            "{text}"
        );
    }

    #[test]
    fn bars_grow_by_eighths_and_little_is_not_nothing() {
        assert_eq!(bar(0.0), "");
        assert_eq!(bar(1e-9), "▏");
        assert_eq!(bar(0.5).chars().count(), 20);
        assert_eq!(bar(2.0).chars().count(), 40);
    }

    #[test]
    fn the_table_says_what_was_measured() {
        let plan = plan();
        let text = table(&example(&plan));
        for part in [
            "sent 1 000",
            "ok 1 000",
            "500 per s",
            "p99.9",
            "closed loop",
            "coordinated omission",
            "memory 20.0 MiB",
            "10 devices",
        ] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
    }
}
