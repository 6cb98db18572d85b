//! The percentile text of HdrHistogram, as its plotters read it.

use std::fmt::Write;

use hdrhistogram::Histogram;

/// Steps to each halving of the distance to 100 %.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// The distribution of `histogram` (microseconds) as percentile text.
#[expect(
    clippy::cast_precision_loss,
    reason = "values are shown with three digits behind the point"
)]
pub(crate) fn hgrm(histogram: &Histogram<u64>) -> String {
    let mut text = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let mut count = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        count += step.count_since_last_iteration();
        let value = step.value_iterated_to() as f64;
        let quantile = step.quantile_iterated_to();
        let inverse = match quantile {
            quantile if quantile < 1.0 => format!("{:.2}", 1.0 / (1.0 - quantile)),
            _ => String::new(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{value:>12.3} {quantile:>14.12} {count:>10} {inverse:>14}"
        );
    }
    let _ = writeln!(
        text,
        "#[Mean    = {:>12.3}, StdDeviation   = {:>12.3}]\n\
         #[Max     = {:>12.3}, Total count    = {:>12}]\n\
         #[Buckets = {:>12}, SubBuckets     = {:>12}]",
        histogram.mean(),
        histogram.stdev(),
        histogram.max() as f64,
        histogram.len(),
        histogram.buckets(),
        // Of three significant digits.
        2048,
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Sample;

    #[test]
    fn percentiles_rise_and_end_with_all() {
        let mut latency = Sample::new().latency;
        for us in 1..=1000 {
            latency.record(us).unwrap();
        }
        let text = hgrm(&latency);
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .take_while(|line| !line.starts_with('#'))
            .map(|line| {
                line.split_whitespace()
                    .map(|field| field.parse().unwrap())
                    .collect()
            })
            .collect();
        assert!(rows.is_sorted_by(|a, b| a[0] <= b[0] && a[1] <= b[1] && a[2] <= b[2]));
        let last = rows.last().unwrap();
        assert_eq!((last[0], last[1], last[2]), (1000.0, 1.0, 1000.0));
        let half = rows.iter().find(|row| row[1] >= 0.5).unwrap();
        assert!((499.0..=501.0).contains(&half[0]) && (half[3] - 2.0).abs() < 0.01);
        assert!(text.contains("Total count    =         1000]"));
    }
}
