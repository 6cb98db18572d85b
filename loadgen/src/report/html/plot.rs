//! Lines in a frame, as SVG.

use std::fmt::Write;

use tidegate::time::Duration;

use super::escaped;
use crate::text::{grouped, span};

/// The drawing, in its own units; the page scales it.
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
/// Above the frame, for the legend.
const TOP: f64 = 28.0;
const BOTTOM: f64 = 28.0;

/// Most ticks of an axis, beside that at 0.
const TICKS_MAX: f64 = 8.0;
/// Powers of ten of an axis: up to a hundred thousand seconds.
const DECADES_MAX: u32 = 12;
/// Distances of ticks in time, in seconds.
const TIME_STEPS: [f64; 22] = [
    0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0,
    3600.0, 7200.0, 14_400.0, 21_600.0, 43_200.0, 86_400.0, 432_000.0,
];

/// A mark on an axis.
pub(super) struct Tick {
    pub(super) at: f64,
    pub(super) label: String,
}

/// One direction of the frame.
pub(super) struct Axis {
    from: f64,
    to: f64,
    logarithmic: bool,
    ticks: Vec<Tick>,
}

/// Points joined, with the class that colours them and a label that may be empty.
pub(super) struct Line {
    class: &'static str,
    label: &'static str,
    points: Vec<(f64, f64)>,
}

pub(super) struct Plot {
    pub(super) x: Axis,
    pub(super) y: Axis,
    /// The last one lies on top.
    pub(super) lines: Vec<Line>,
}

impl Line {
    pub(super) fn new(class: &'static str, label: &'static str, points: Vec<(f64, f64)>) -> Self {
        Self {
            class,
            label,
            points,
        }
    }
}

impl Axis {
    pub(super) fn linear(from: f64, to: f64, ticks: Vec<Tick>) -> Self {
        let to = to.max(from + f64::EPSILON);
        let logarithmic = false;
        let mut axis = Self {
            from,
            to,
            logarithmic,
            ticks,
        };
        axis.ticks.retain(|tick| tick.at >= from && tick.at <= to);
        axis
    }

    /// Seconds since the start, above 0, in units that people count in: 15 min rather than 1000 s.
    pub(super) fn seconds(to: f64) -> Self {
        let wanted = to / TICKS_MAX;
        let step = TIME_STEPS.iter().find(|&&step| step >= wanted);
        let step = step.copied().unwrap_or_else(|| round_step(to));
        Self::linear(0.0, to, multiples(step, to, time_label))
    }

    /// From zero to a little more than `highest`, above 0.
    pub(super) fn from_zero(highest: f64) -> Self {
        let to = highest * 1.05;
        let step = round_step(to);
        let label = |at: f64| match step < 1.0 {
            true => format!("{at:.1}"),
            false => grouped(whole(at)),
        };
        Self::linear(0.0, to, multiples(step, to, label))
    }

    /// Microseconds, each power of ten with the same room; with steps between them where they are few.
    pub(super) fn logarithmic_micros(lowest: f64, highest: f64) -> Self {
        let powers = highest.max(1.0) / lowest.max(1.0);
        let factors: &[u64] = if powers < 100.0 { &[1, 2, 5] } else { &[1] };
        let values: Vec<u64> = (0..DECADES_MAX)
            .flat_map(|decade| {
                factors
                    .iter()
                    .map(move |factor| factor * 10_u64.pow(decade))
            })
            .collect();
        // One step below what is drawn, and one above.
        let below = |&&value: &&u64| micros_of(value) <= lowest.max(1.0);
        let above = |&&value: &&u64| micros_of(value) > highest.max(1.0);
        let from = values.iter().rev().find(below).copied().unwrap_or(1);
        let to = values.iter().find(above).copied().unwrap_or(u64::MAX);
        let shown = values
            .into_iter()
            .filter(|value| (from..=to).contains(value));
        let ticks = shown.map(|value| Tick {
            at: micros_of(value),
            label: span(Duration::from_micros(value)),
        });
        Self {
            from: micros_of(from),
            to: micros_of(to),
            logarithmic: true,
            ticks: ticks.collect(),
        }
    }

    /// Where `value` lies, 0 at the start and 1 at the end.
    fn place(&self, value: f64) -> f64 {
        let place = if self.logarithmic {
            (value.max(self.from) / self.from).log10() / (self.to / self.from).log10()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        place.clamp(0.0, 1.0)
    }
}

#[expect(clippy::cast_precision_loss, reason = "powers of ten of a drawing")]
fn micros_of(value: u64) -> f64 {
    value as f64
}

/// A round distance of ticks for an axis from 0 to `to`, with four to ten of them.
fn round_step(to: f64) -> f64 {
    let magnitude = 10_f64.powf(to.max(f64::EPSILON).log10().floor());
    [0.2, 0.5, 1.0, 2.0]
        .into_iter()
        .map(|factor| factor * magnitude)
        .find(|step| to / step <= TICKS_MAX)
        .unwrap_or(magnitude * 5.0)
}

/// Ticks at the multiples of `step` from 0 to `to`.
fn multiples(step: f64, to: f64, label: impl Fn(f64) -> String) -> Vec<Tick> {
    // A hair beyond is on the axis, too: steps of a tenth do not add up exactly.
    (0_u32..)
        .map(|number| f64::from(number) * step)
        .take_while(|&at| at <= to + step * 1e-6)
        .map(|at| Tick {
            at: at.min(to),
            label: label(at),
        })
        .collect()
}

fn time_label(seconds: f64) -> String {
    match seconds > 0.0 {
        true => span(Duration::from_secs_f64(seconds)),
        false => "0".to_owned(),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate: positive, below 2^53"
)]
const fn whole(number: f64) -> u64 {
    number.round() as u64
}

impl Plot {
    fn across(&self, value: f64) -> f64 {
        LEFT + self.x.place(value) * (WIDTH - LEFT - RIGHT)
    }

    fn up(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.place(value) * (HEIGHT - TOP - BOTTOM)
    }

    /// The drawing; `description` is for those who do not see it.
    pub(super) fn svg(&self, description: &str) -> String {
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escaped(description)
        );
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in &self.y.ticks {
            let y = self.up(tick.at);
            let label = escaped(&tick.label);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                LEFT - 6.0,
                y + 4.0
            );
        }
        for tick in &self.x.ticks {
            let x = self.across(tick.at);
            let label = escaped(&tick.label);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                HEIGHT - 8.0
            );
        }
        for line in &self.lines {
            self.draw(line, &mut svg);
        }
        self.legend(&mut svg);
        svg.push_str("</svg>");
        svg
    }

    fn draw(&self, line: &Line, svg: &mut String) {
        let _ = write!(svg, "<path class=\"{}\" d=\"", line.class);
        for (index, &(x, y)) in line.points.iter().enumerate() {
            let command = if index == 0 { 'M' } else { 'L' };
            let _ = write!(svg, "{command}{:.1},{:.1}", self.across(x), self.up(y));
        }
        svg.push_str("\"/>");
    }

    fn legend(&self, svg: &mut String) {
        let labelled = self.lines.iter().filter(|line| !line.label.is_empty());
        let mut x = LEFT + 10.0;
        for line in labelled.rev() {
            let y = TOP / 2.0;
            let _ = write!(
                svg,
                "<line class=\"{}\" stroke-width=\"3\" x1=\"{x}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\"/>\
                 <text x=\"{}\" y=\"{}\">{}</text>",
                line.class,
                x + 18.0,
                x + 24.0,
                y + 4.0,
                line.label
            );
            x += 110.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    #[test]
    fn axes_place_their_ends_and_keep_strays_inside() {
        let linear = Axis::from_zero(100.0);
        assert!((linear.place(0.0)).abs() < 1e-9 && (linear.place(105.0) - 1.0).abs() < 1e-9);
        assert!((linear.place(1e9) - 1.0).abs() < 1e-9);
        assert_eq!(labels(&linear), ["0", "20", "40", "60", "80", "100"]);
        let logarithmic = Axis::logarithmic_micros(120.0, 95_000.0);
        assert!(logarithmic.place(100.0).abs() < 1e-9);
        let middle = logarithmic.place(3162.0);
        assert!((0.45..0.55).contains(&middle), "{middle}");
        assert_eq!(labels(&logarithmic), ["100 us", "1 ms", "10 ms", "100 ms"]);
    }

    #[test]
    fn little_latency_range_has_steps_within_a_power_of_ten() {
        let axis = Axis::logarithmic_micros(1100.0, 4300.0);
        assert_eq!(labels(&axis), ["1 ms", "2 ms", "5 ms"]);
        let point = Axis::logarithmic_micros(1000.0, 1000.0);
        assert_eq!(labels(&point), ["1 ms", "2 ms"]);
        assert_eq!(
            labels(&Axis::logarithmic_micros(0.0, 0.0)),
            ["1 us", "2 us"]
        );
    }

    #[test]
    fn time_is_told_in_the_units_that_people_count_in() {
        let of = |seconds| Axis::seconds(seconds);
        assert_eq!(
            labels(&of(1.0)),
            ["0", "200 ms", "400 ms", "600 ms", "800 ms", "1 s"]
        );
        assert_eq!(
            labels(&of(3.0)),
            ["0", "500 ms", "1 s", "1.5 s", "2 s", "2.5 s", "3 s"]
        );
        assert_eq!(
            labels(&of(60.0)),
            ["0", "10 s", "20 s", "30 s", "40 s", "50 s", "60 s"]
        );
        assert_eq!(
            labels(&of(3600.0)),
            [
                "0", "10 min", "20 min", "30 min", "40 min", "50 min", "60 min"
            ]
        );
        assert_eq!(labels(&of(6.0 * 3600.0)).last(), Some(&"6 h"));
        for seconds in [0.05, 0.3, 7.0, 45.0, 100.0, 500.0, 5000.0, 1e5, 2.7e6] {
            let axis = of(seconds);
            let mut unique = labels(&axis);
            unique.dedup();
            assert_eq!(unique.len(), axis.ticks.len(), "{unique:?}");
            assert!(axis.ticks.len() <= 10, "{unique:?}");
        }
    }

    #[test]
    fn rates_below_ten_have_tenths() {
        assert_eq!(
            labels(&Axis::from_zero(1.0)),
            ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
        );
        assert_eq!(labels(&Axis::from_zero(20_000.0))[1], "5 000");
    }
}
