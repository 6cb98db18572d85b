//! Lines in a frame, as SVG.

use std::fmt::Write;

use super::escaped;
use crate::text::micros;

/// The drawing, in its own units; the page scales it.
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
/// Above the frame, for the legend.
const TOP: f64 = 28.0;
const BOTTOM: f64 = 28.0;

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

    /// Seconds since the start.
    pub(super) fn seconds(to: f64) -> Self {
        Self::linear(
            0.0,
            to.max(1.0),
            steps(to.max(1.0), &|at| format!("{at:.0} s")),
        )
    }

    /// From zero to a little more than `highest`.
    pub(super) fn from_zero(highest: f64, label: fn(f64) -> String) -> Self {
        let to = highest * 1.05;
        Self::linear(0.0, to, steps(to, &label))
    }

    /// Microseconds, each power of ten with the same room.
    pub(super) fn logarithmic_micros(lowest: f64, highest: f64) -> Self {
        let exponent = lowest.max(1.0).log10().floor();
        let from = 10_f64.powf(exponent);
        let to = (highest * 1.1).max(from * 10.0);
        let mut ticks = Vec::new();
        let mut value: u64 = 1;
        while micros_of(value) <= to {
            if micros_of(value) >= from {
                ticks.push(Tick {
                    at: micros_of(value),
                    label: micros(value),
                });
            }
            value = value.saturating_mul(10);
        }
        Self {
            from,
            to,
            logarithmic: true,
            ticks,
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

/// Round numbers from 0 to `to`, four to ten of them.
fn steps(to: f64, label: &dyn Fn(f64) -> String) -> Vec<Tick> {
    let magnitude = 10_f64.powf(to.max(f64::EPSILON).log10().floor());
    let step = [0.2, 0.5, 1.0, 2.0]
        .into_iter()
        .map(|factor| factor * magnitude)
        .find(|step| to / step <= 8.0)
        .unwrap_or(magnitude * 5.0);
    let mut ticks = Vec::new();
    let mut at = 0.0;
    while at <= to {
        ticks.push(Tick {
            at,
            label: label(at),
        });
        at += step;
    }
    ticks
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

    #[test]
    fn axes_place_their_ends_and_keep_strays_inside() {
        let linear = Axis::from_zero(100.0, |at| format!("{at}"));
        assert!((linear.place(0.0)).abs() < 1e-9 && (linear.place(105.0) - 1.0).abs() < 1e-9);
        assert!((linear.place(1e9) - 1.0).abs() < 1e-9);
        assert!((4..=10).contains(&linear.ticks.len()));
        let logarithmic = Axis::logarithmic_micros(120.0, 9_000.0);
        assert!(logarithmic.place(100.0).abs() < 1e-9);
        let middle = logarithmic.place(1000.0);
        assert!((0.4..0.6).contains(&middle), "{middle}");
        let labels: Vec<_> = logarithmic.ticks.iter().map(|tick| tick.at).collect();
        assert_eq!(labels, [100.0, 1000.0]);
    }
}
