//! What the parts cost: CPU time per operation on one thread.

use std::io::{IsTerminal, Write, stderr};

use crate::measure::{Benchmark, Measured, measure};
use crate::{coap, crypto};

const ROUNDS: usize = 11;
const ROUNDS_QUICK: usize = 3;

/// Measures the benchmarks whose group or name holds one of `words`, or all without words, and
/// returns a table.
///
/// # Errors
///
/// When no benchmark has such a name.
pub(crate) fn run(words: &[String], quick: bool) -> Result<String, String> {
    let words: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
    let rounds = if quick { ROUNDS_QUICK } else { ROUNDS };
    let mut benchmarks = crypto::benchmarks()?;
    benchmarks.extend(coap::benchmarks()?);
    benchmarks.retain(|benchmark| is_wanted(benchmark, &words));
    if benchmarks.is_empty() {
        return Err("no benchmark has such a name".into());
    }
    let measured = measure(benchmarks, rounds, &mut |round| progress(round, rounds));
    progress(rounds, rounds);
    Ok(table(&measured, rounds))
}

/// The median of one benchmark, nanoseconds, measured now.
///
/// # Errors
///
/// When there is none of that name.
pub(crate) fn nanoseconds(group: &str, name: &str) -> Result<f64, String> {
    let mut benchmarks = crypto::benchmarks()?;
    benchmarks.retain(|benchmark| benchmark.group == group && benchmark.name == name);
    measure(benchmarks, ROUNDS, &mut |_| {})
        .first()
        .map(|measured| measured.median)
        .ok_or_else(|| format!("there is no benchmark {group}: {name}"))
}

fn is_wanted(benchmark: &Benchmark, words: &[String]) -> bool {
    let name = format!("{} {}", benchmark.group, benchmark.name).to_lowercase();
    words.is_empty() || words.iter().any(|word| name.contains(word))
}

fn progress(round: usize, rounds: usize) {
    let mut stream = stderr().lock();
    if stream.is_terminal() {
        let line = if round < rounds {
            format!("round {} of {rounds}", round + 1)
        } else {
            String::new()
        };
        let _ = write!(stream, "\r\x1b[K{line}").and_then(|()| stream.flush());
    }
}

fn table(measured: &[Measured], rounds: usize) -> String {
    let width = measured
        .iter()
        .map(|m| m.name.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = format!(
        "{:<12}  {:<width$}  {:>9}  {:>19}  (median, fastest and slowest of {rounds} rounds)\n",
        "", "", "ns", "ns"
    );
    let mut last = "";
    for m in measured {
        let group = if m.group == last { "" } else { m.group };
        last = m.group;
        let range = format!("{} - {}", number(m.fastest), number(m.slowest));
        text += &format!(
            "{group:<12}  {:<width$}  {:>9}  {range:>19}\n",
            m.name,
            number(m.median)
        );
    }
    text
}

/// Three significant digits or the whole number.
fn number(ns: f64) -> String {
    if ns < 100.0 {
        format!("{ns:.1}")
    } else {
        format!("{ns:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_choose_among_the_benchmarks_and_all_run() {
        let words = ["coap".to_owned(), "Cookie".to_owned()];
        let table = run(&words, true).unwrap();
        assert!(
            table.contains("coap-lite decode") && table.contains("MAC of 38 B"),
            "{table}"
        );
        assert!(!table.contains("P-256"), "{table}");
        assert!(run(&["no such thing".to_owned()], true).is_err());
        assert!(nanoseconds("PRF", "Sha256 Finished").unwrap() > 0.0);
    }
}
