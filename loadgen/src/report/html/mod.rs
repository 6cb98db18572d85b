//! The results as one page that needs nothing else: no network, no script.

mod plot;

use std::fmt::Write;

use clap::ValueEnum as _;
use clap::builder::PossibleValue;
use hdrhistogram::Histogram;

use self::plot::{Axis, Line, Plot, Tick};
use super::Report;
use super::json::json;
use crate::text::{grouped, micros, rate};

/// What a part of the measured time gave.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Interval {
    /// Seconds since the measured time began.
    pub(crate) from: f64,
    /// The same of its end.
    pub(crate) to: f64,
    /// Operations that ended well, per second.
    pub(crate) per_s: f64,
    /// Operations that did not, per second.
    pub(crate) errors_per_s: f64,
    /// Microseconds; 0 when none ended.
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) max: u64,
}

/// Points of the latency curve to each halving of the distance to 100 %.
const TICKS_PER_HALF_DISTANCE: u32 = 8;
/// Nines that the curve's axis shows at most: 99.99999 %.
const NINES_MAX: f64 = 7.0;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5c6877;--line:#d5dbe3;--ground:#fff;--a:#1769c5;--b:#c4571b;--c:#8a8f98}\
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#9aa6b5;--line:#333c48;--ground:#14181d;--a:#62a8f5;--b:#f0914f;--c:#7f8894}}\
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--ground);max-width:60rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.4rem;margin:0}h2{font-size:1.05rem;margin:2rem 0 .3rem}p{color:var(--soft);margin:.2rem 0}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}th,td{padding:.15rem .9rem .15rem 0;text-align:right;white-space:nowrap}\
th:first-child,td:first-child{text-align:left}th{color:var(--soft);font-weight:normal}\
.wide{overflow-x:auto}svg{width:100%;min-width:36rem;height:auto;font:12px system-ui,sans-serif}svg text{fill:var(--soft)}\
.grid{stroke:var(--line)}.a{stroke:var(--a)}.b{stroke:var(--b)}.c{stroke:var(--c)}\
path.a,path.b,path.c{fill:none;stroke-width:1.6}.bad{color:var(--b)}details{margin-top:2rem}pre{overflow-x:auto}";

/// The page. Writing to a string cannot fail, so the results of `write!` are dropped.
pub(crate) fn html(report: &Report<'_>, course: &[Interval]) -> String {
    let (noun, histogram) = drawn(report);
    let scenario = report.plan.scenario.to_possible_value();
    let scenario = scenario.as_ref().map_or("load", PossibleValue::get_name);
    let title = format!("{scenario} on {}", report.plan.target.uri);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n",
        title = escaped(&title),
    );
    let counters = &report.total.counters;
    let errors = counters.errors() + counters.wrong;
    let _ = writeln!(
        page,
        "<p>{} devices, {:.1} s measured, <span{}>{} errors</span></p>",
        grouped(report.devices as u64),
        report.measured.as_secs_f64(),
        if errors > 0 { " class=\"bad\"" } else { "" },
        grouped(errors),
    );
    let _ = writeln!(page, "<p>{}</p>", report.honesty());
    numbers(report, &mut page);
    if histogram.is_empty() {
        page.push_str("<p>Nothing ended well, so there is nothing to draw.</p>\n");
    } else {
        section(
            &mut page,
            &format!("{noun} by percentile"),
            &distribution(histogram),
        );
        section(&mut page, &format!("{noun} over time"), &over_time(course));
        section(&mut page, "Rate over time", &rates(course));
    }
    let _ = writeln!(
        page,
        "<details><summary>All numbers and settings</summary><pre>{}</pre></details>\n</body></html>",
        escaped(&format!("{:#}", json(report))),
    );
    page
}

/// What is drawn: of requests where there are any, else of handshakes.
fn drawn<'a>(report: &'a Report<'_>) -> (&'static str, &'a Histogram<u64>) {
    if !report.plan.scenario.sends_requests() {
        ("Handshake time", &report.total.handshake)
    } else {
        ("Latency", &report.total.latency)
    }
}

fn section(page: &mut String, title: &str, body: &str) {
    let _ = writeln!(page, "<h2>{title}</h2>\n<div class=\"wide\">{body}</div>");
}

fn numbers(report: &Report<'_>, page: &mut String) {
    let total = &report.total;
    page.push_str(
        "<div class=\"wide\"><table><tr><th></th><th>ended well</th><th>failed</th><th>per s</th>\
         <th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>max</th></tr>",
    );
    let mut row = |name: &str, ok: u64, failed: u64, per_s: f64, histogram: &Histogram<u64>| {
        let _ = write!(
            page,
            "<tr><td>{name}</td><td>{}</td><td>{}</td><td>{}</td>",
            grouped(ok),
            grouped(failed),
            rate(per_s)
        );
        for quantile in [0.5, 0.9, 0.99, 0.999, 1.0] {
            let value = histogram.value_at_quantile(quantile);
            let shown = if histogram.is_empty() {
                "-".to_owned()
            } else {
                micros(value)
            };
            let _ = write!(page, "<td>{shown}</td>");
        }
        page.push_str("</tr>");
    };
    if let Some(storm) = &report.storm {
        let counters = &storm.counters;
        let (ok, failed) = (counters.handshakes_completed, counters.handshakes_failed);
        let per_s = report.storm_per_s(ok);
        row(
            "Handshakes of the storm",
            ok,
            failed,
            per_s,
            &storm.handshake,
        );
        let quiet = report
            .plan
            .storm
            .map_or(0.0, |storm| storm.quiet.as_secs_f64());
        let answers = total.quiet.len();
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        let per_s = answers as f64 / quiet.max(f64::MIN_POSITIVE);
        row("Requests before it", answers, 0, per_s, &total.quiet);
    }
    let counters = &total.counters;
    if counters.handshakes_started > 0 {
        let per_s = report.handshakes_per_s();
        let (ok, failed) = (counters.handshakes_completed, counters.handshakes_failed);
        row("handshakes", ok, failed, per_s, &total.handshake);
    }
    if counters.sent > 0 {
        row(
            "requests",
            counters.ok,
            counters.failed,
            report.requests_per_s(),
            &total.latency,
        );
    }
    page.push_str("</table></div>\n");
    if let Some(server) = &report.server {
        let mut facts = Vec::new();
        if server.cpu_us_per_request > 0.0 {
            facts.push(format!(
                "{:.1} us of CPU per request",
                server.cpu_us_per_request
            ));
        }
        if server.cpu_us_per_handshake > 0.0 {
            facts.push(format!(
                "{:.1} us of CPU per handshake",
                server.cpu_us_per_handshake
            ));
        }
        if server.rss_bytes_per_session > 0.0 {
            facts.push(format!(
                "{:.0} bytes resident per session",
                server.rss_bytes_per_session
            ));
        }
        let _ = writeln!(page, "<p>The server: {}.</p>", facts.join(", "));
    }
}

/// Latency against the percentile, whose axis gives each further nine the same room.
fn distribution(histogram: &Histogram<u64>) -> String {
    let mut points: Vec<(f64, f64)> = Vec::new();
    for step in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        let quantile = step.quantile_iterated_to();
        let nines = if quantile < 1.0 {
            -(1.0 - quantile).log10()
        } else {
            NINES_MAX
        };
        points.push((nines.min(NINES_MAX), to_f64(step.value_iterated_to())));
    }
    // Beyond the number of values the curve is flat: the maximum.
    let end = to_f64(histogram.len()).log10().clamp(1.0, NINES_MAX);
    points.retain(|(nines, _)| *nines < end);
    points.push((end, to_f64(histogram.max())));
    let labels = [
        "0 %",
        "90 %",
        "99 %",
        "99.9 %",
        "99.99 %",
        "99.999 %",
        "99.9999 %",
        "99.99999 %",
    ];
    let ticks = labels.iter().zip(0_u32..).map(|(label, nines)| Tick {
        at: f64::from(nines),
        label: (*label).to_owned(),
    });
    let highest = to_f64(histogram.max());
    Plot {
        x: Axis::linear(0.0, end, ticks.collect()),
        y: Axis::logarithmic_micros(to_f64(histogram.min()), highest),
        lines: vec![Line::new("a", "", points)],
    }
    .svg("Latency by percentile")
}

fn over_time(course: &[Interval]) -> String {
    let with_values = || course.iter().filter(|interval| interval.max > 0);
    let lowest = with_values().map(|interval| interval.p50).min();
    let highest = with_values().map(|interval| interval.max).max();
    let line = |class, label, value: fn(&Interval) -> u64| {
        let points = with_values().flat_map(|interval| level(interval, to_f64(value(interval))));
        Line::new(class, label, points.collect())
    };
    Plot {
        x: Axis::seconds(end_of(course)),
        y: Axis::logarithmic_micros(to_f64(lowest.unwrap_or(1)), to_f64(highest.unwrap_or(1))),
        lines: vec![
            line("c", "max", |interval| interval.max),
            line("b", "p99", |interval| interval.p99),
            line("a", "p50", |interval| interval.p50),
        ],
    }
    .svg("p50, p99 and maximum over time")
}

fn rates(course: &[Interval]) -> String {
    let highest = course
        .iter()
        .map(|interval| interval.per_s.max(interval.errors_per_s))
        .fold(1.0, f64::max);
    let line = |class, label, value: fn(&Interval) -> f64| {
        let points = course
            .iter()
            .flat_map(|interval| level(interval, value(interval)));
        Line::new(class, label, points.collect())
    };
    Plot {
        x: Axis::seconds(end_of(course)),
        y: Axis::from_zero(highest),
        lines: vec![
            line("b", "errors", |interval| interval.errors_per_s),
            line("a", "ended well", |interval| interval.per_s),
        ],
    }
    .svg("Operations per second, and errors")
}

/// A value holds for its whole interval.
fn level(interval: &Interval, value: f64) -> [(f64, f64); 2] {
    [(interval.from, value), (interval.to, value)]
}

fn end_of(course: &[Interval]) -> f64 {
    course.last().map_or(1.0, |interval| interval.to)
}

#[expect(clippy::cast_precision_loss, reason = "a drawing needs no more digits")]
fn to_f64(number: u64) -> f64 {
    number as f64
}

/// `text` where HTML is read.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;

    fn course() -> Vec<Interval> {
        let second = |from: u32| Interval {
            from: f64::from(from),
            to: f64::from(from + 1),
            per_s: 500.0,
            errors_per_s: 0.0,
            p50: 600,
            p99: 1090,
            max: 1099,
        };
        (0..2).map(second).collect()
    }

    /// One interval is enough to be seen, from its start to its end.
    #[test]
    fn a_single_interval_is_a_line_over_the_whole_width() {
        let svg = rates(&course()[..1]);
        let path = svg.split("class=\"a\" d=\"").nth(1).unwrap();
        let xs: Vec<&str> = path
            .split('"')
            .next()
            .unwrap()
            .split(['M', 'L'])
            .filter_map(|point| point.split(',').next().filter(|x| !x.is_empty()))
            .collect();
        assert_eq!(xs, ["80.0", "840.0"]);
    }

    #[test]
    fn the_page_shows_the_numbers_and_asks_nobody_for_more() {
        let plan = crate::arguments::tests::example();
        let page = html(&example(&plan), &course());
        assert_eq!(page.matches("<svg").count(), 3);
        assert_eq!(page.matches("</svg>").count(), 3);
        assert!(page.contains("coordinated omission"));
        for part in ["1 000", "p99.9", "99.9 %", "Latency over time", "0 errors"] {
            assert!(page.contains(part), "{part} is missing");
        }
        for loader in ["<script", "src=", "href=", "url(", "@import"] {
            assert!(!page.contains(loader), "{loader} loads something");
        }
        assert!(!page.contains("NaN") && !page.contains("inf"));
    }

    #[test]
    fn what_came_from_outside_is_escaped_and_nothing_is_drawn_of_nothing() {
        let mut plan = crate::arguments::tests::example();
        plan.target.uri = "coap://<b>&\"".to_owned();
        let mut report = example(&plan);
        report.total.latency.reset();
        report.total.counters.failed = 7;
        let page = html(&report, &[]);
        assert!(!page.contains("<b>") && page.contains("&lt;b&gt;&amp;&quot;"));
        assert!(!page.contains("<svg") && page.contains("7 errors"));
    }

    /// The curve rises with the percentile, and its end is the maximum.
    #[test]
    fn the_curve_ends_at_the_maximum() {
        let plan = crate::arguments::tests::example();
        let report = example(&plan);
        let svg = distribution(&report.total.latency);
        let path = svg.split("<path").nth(1).unwrap();
        let numbers: Vec<f64> = path
            .split(['M', 'L', ' ', ',', '"'])
            .filter_map(|text| text.parse().ok())
            .collect();
        let heights: Vec<f64> = numbers.chunks_exact(2).map(|pair| pair[1]).collect();
        assert!(heights.len() > 20);
        assert!(heights.is_sorted_by(|a, b| a >= b), "{heights:?}");
    }
}
