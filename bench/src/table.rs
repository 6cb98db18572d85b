//! The table of targets: a row each, with what was measured, and whether that meets it.

use crate::host::Host;

/// What a row is to reach.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// What is measured, as the design says it.
    pub(crate) what: &'static str,
    /// The most that it may be.
    pub(crate) at_most: f64,
    /// What would be better still.
    pub(crate) aim: Option<f64>,
    /// Of what the figure is.
    pub(crate) unit: &'static str,
}

/// What became of a row.
#[derive(Clone, Debug)]
pub(crate) enum Figure {
    /// It was measured, and so.
    Measured {
        value: f64,
        how: String,
        /// Whether what the target asks for was done in full; else the row cannot be met.
        in_full: bool,
    },
    /// It was not, because of this.
    Missing(String),
}

impl Figure {
    /// A figure of the whole thing.
    pub(crate) fn full(value: f64, how: impl Into<String>) -> Self {
        Self::Measured {
            value,
            how: how.into(),
            in_full: true,
        }
    }

    /// A figure of the operations that succeeded; when not all did, it cannot meet its target in full.
    pub(crate) fn of(value: f64, failed: f64, how: impl Into<String>) -> Self {
        match failed == 0.0 {
            true => Self::full(value, how),
            false => Self::partial(value, how),
        }
    }

    /// A figure of less than the target asks for.
    pub(crate) fn partial(value: f64, how: impl Into<String>) -> Self {
        Self::Measured {
            value,
            how: how.into(),
            in_full: false,
        }
    }
}

/// A row.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) target: Target,
    pub(crate) figure: Figure,
}

impl Row {
    fn verdict(&self) -> &'static str {
        match &self.figure {
            Figure::Missing(_) => "not measured",
            Figure::Measured { value, in_full, .. } => {
                let met = *value <= self.target.at_most;
                let aimed = self.target.aim.is_some_and(|aim| *value <= aim);
                match (met, aimed, *in_full) {
                    (true, true, true) => "met, aim too",
                    (true, _, true) => "met",
                    (false, _, true) => "**missed**",
                    (true, _, false) => "met, but not measured in full",
                    (false, _, false) => "**missed**, and not measured in full",
                }
            }
        }
    }
}

/// The table in Markdown. `mode` says how much was measured.
pub(crate) fn markdown(rows: &[Row], host: &Host, mode: &str) -> String {
    let mut text = format!(
        "# Tidegate against its targets\n\nCommit {}, {} with {} CPUs, Linux {}, {} build, {mode}.\n\
         Ratios within one run; on another host, or beside other work, they are others.\n\n\
         | | Target | Figure | | Measured how |\n|---|---|---|---|---|\n",
        host.commit, host.processor, host.cpus, host.kernel, host.build
    );
    for row in rows {
        let Target {
            what,
            at_most,
            aim,
            unit,
        } = row.target;
        let aim = aim.map_or_else(String::new, |aim| format!(", aim {}", number(aim)));
        let (figure, how) = match &row.figure {
            Figure::Measured { value, how, .. } => (format!("{}{unit}", number(*value)), how),
            Figure::Missing(reason) => ("-".to_owned(), reason),
        };
        text += &format!(
            "| {what} | at most {}{unit}{aim} | {figure} | {} | {} |\n",
            number(at_most),
            row.verdict(),
            how.replace('|', "/").replace('\n', " ")
        );
    }
    let count = |is_it: fn(&str) -> bool| rows.iter().filter(|row| is_it(row.verdict())).count();
    text += &format!(
        "\n{} rows: {} met, {} met but not measured in full, {} missed, {} not measured.\n",
        rows.len(),
        count(|verdict| verdict.starts_with("met") && !verdict.contains("in full")),
        count(|verdict| verdict.starts_with("met") && verdict.contains("in full")),
        count(|verdict| verdict.contains("missed")),
        rows.iter()
            .filter(|row| matches!(row.figure, Figure::Missing(_)))
            .count()
    );
    text
}

/// A latency's ratio, of a load in which nothing may fail: what failed has no latency.
pub(crate) fn unless_failed(ratio: f64, failed: f64) -> f64 {
    if failed == 0.0 { ratio } else { f64::INFINITY }
}

/// Short: three digits of what is small, none behind the point of what is large.
pub(crate) fn number(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.1 {
        format!("{value:.4}")
    } else if value.abs() < 100.0 {
        let text = format!("{value:.2}");
        let text = text.trim_end_matches('0');
        text.trim_end_matches('.').to_owned()
    } else {
        format!("{value:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Target = Target {
        what: "CPU per request",
        at_most: 2.0,
        aim: Some(1.5),
        unit: " x echo",
    };

    fn row(figure: Figure) -> Row {
        Row {
            target: TARGET,
            figure,
        }
    }

    #[test]
    fn a_missed_target_is_shown_as_missed() {
        let rows = [
            row(Figure::full(1.4, "a")),
            row(Figure::full(1.7, "b")),
            row(Figure::full(2.01, "c")),
            row(Figure::partial(1.0, "d")),
            row(Figure::Missing("no such peer".into())),
        ];
        let verdicts: Vec<_> = rows.iter().map(Row::verdict).collect();
        assert_eq!(
            verdicts,
            [
                "met, aim too",
                "met",
                "**missed**",
                "met, but not measured in full",
                "not measured"
            ]
        );
        let text = markdown(&rows, &Host::read(), "quick");
        assert!(
            text.contains("| at most 2 x echo, aim 1.5 | 2.01 x echo | **missed** | c |"),
            "{text}"
        );
        assert!(
            text.contains(
                "5 rows: 2 met, 1 met but not measured in full, 1 missed, 1 not measured."
            ),
            "{text}"
        );
        assert!(
            text.contains("| - | not measured | no such peer |"),
            "{text}"
        );
    }

    #[test]
    fn what_failed_or_is_not_there_meets_nothing_in_full() {
        let target = Target {
            what: "x",
            at_most: 2.0,
            aim: None,
            unit: "",
        };
        let verdict = |figure| Row { target, figure }.verdict();
        assert_eq!(verdict(Figure::of(1.0, 0.0, "")), "met");
        assert_eq!(
            verdict(Figure::of(1.0, 3.0, "")),
            "met, but not measured in full"
        );
        // No request came through a storm, or the report has another key.
        for ratio in [
            unless_failed(0.0, 8.0),
            unless_failed(1.0, f64::NAN),
            f64::NAN,
        ] {
            assert_eq!(verdict(Figure::full(ratio, "")), "**missed**");
        }
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(number(unless_failed(2.0, 1.0)), "inf");
        assert_eq!(number(unless_failed(2.0, 0.0)), "2");
        let shown = [0.0, 0.0417, 1.0, 1.25, 99.0, 512.4].map(number);
        assert_eq!(shown, ["0", "0.0417", "1", "1.25", "99", "512"]);
    }
}
