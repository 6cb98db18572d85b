//! `tidegate-bench`: what the parts cost, as CPU time per operation on one thread.

mod coap;
mod crypto;
mod measure;
mod sessions;

use std::io::{IsTerminal, Write, stderr};
use std::process::{Command, ExitCode};

use measure::{Benchmark, Measured, measure};

const ROUNDS: usize = 11;
const ROUNDS_QUICK: usize = 3;
const USAGE: &str = "\
Usage: tidegate-bench [--quick] [WORD]...
       tidegate-bench sessions [COUNT]

Measures the CPU time of cryptography and CoAP per operation, and prints the median of several rounds.
With words: only benchmarks whose group or name holds one of them. Build with --release.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize| arguments.get(index).and_then(|text| text.parse().ok());
    let done = match arguments.first().map(String::as_str) {
        Some("sessions") => {
            tidegate::crypto::random::warm_up();
            let report = sessions::report(number(1).unwrap_or(200_000));
            Some(report.map(|text| format!("{}\n{text}", host())))
        }
        Some("sessions-child") => Some(sessions::line(
            number(1).unwrap_or(0),
            number(2).unwrap_or(0),
        )),
        _ => None,
    };
    match done {
        Some(Ok(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Some(Err(message)) => {
            eprintln!("tidegate-bench: {message}");
            return ExitCode::FAILURE;
        }
        None => {}
    }
    let mut words = Vec::new();
    let mut rounds = ROUNDS;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--quick" => rounds = ROUNDS_QUICK,
            "--help" | "-h" => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            flag if flag.starts_with('-') => {
                eprintln!("tidegate-bench: {flag} is unknown\n\n{USAGE}");
                return ExitCode::from(2);
            }
            word => words.push(word.to_lowercase()),
        }
    }
    match run(&words, rounds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("tidegate-bench: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String], rounds: usize) -> Result<(), String> {
    tidegate::crypto::random::warm_up();
    let mut benchmarks = crypto::benchmarks()?;
    benchmarks.extend(coap::benchmarks()?);
    benchmarks.retain(|benchmark| is_wanted(benchmark, words));
    if benchmarks.is_empty() {
        return Err("no benchmark has such a name".into());
    }
    let measured = measure(benchmarks, rounds, &mut |round| progress(round, rounds));
    progress(rounds, rounds);
    print!("{}\n{}", host(), table(&measured, rounds));
    Ok(())
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

/// Where and of what the numbers are.
fn host() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let information = read("/proc/cpuinfo");
    let processor = information
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown", |(_, name)| name.trim());
    let kernel = read("/proc/sys/kernel/osrelease");
    let commit = Command::new("git")
        .args(["describe", "--always", "--dirty", "--exclude=*"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .map_or_else(
            || "unknown".to_owned(),
            |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        );
    let build = if cfg!(debug_assertions) {
        "debug: these numbers mean nothing, build with --release"
    } else {
        "release"
    };
    format!(
        "CPU     {processor}\nkernel  {}\ncommit  {commit}\nbuild   {build}\n",
        kernel.trim()
    )
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
    fn all_benchmarks_run_and_words_choose_among_them() {
        let mut all = crypto::benchmarks().unwrap();
        all.extend(coap::benchmarks().unwrap());
        let wanted: Vec<Benchmark> = all
            .into_iter()
            .filter(|benchmark| is_wanted(benchmark, &["coap".into(), "cookie".into()]))
            .collect();
        assert!(wanted.len() >= 5);
        let measured = measure(wanted, 1, &mut |_| {});
        assert!(measured.iter().all(|m| m.median > 0.0));
        let table = table(&measured, 1);
        assert!(
            table.contains("coap-lite decode") && !table.contains("P-256"),
            "{table}"
        );
        assert!(host().contains("kernel"));
    }
}
