//! Instructions per operation, counted by callgrind and compared with what is expected.
//!
//! ```text
//! tidegate-bench count                    (the parent)  compares with bench/instructions.json
//!   '-- valgrind --tool=callgrind tidegate-bench count-child   prints how many operations it did
//! ```
//!
//! A count does not depend on what else the machine does, so a few percent more are a finding. It
//! does depend on the architecture and the compiler, so each pair of them has counts of its own in the
//! file; those of a pair that has none are shown, and judged by nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};
use tidegate::crypto::suite::CipherSuite;
use tidegate::endpoint::HOT_SESSIONS;

use super::world::{BATCH, Full, World};

/// Enough turns that what happens once does not show.
const TURNS: usize = 32;
/// How far a count may be from what is expected, as a part of it.
const TOLERANCE: f64 = 0.03;
/// What is no finding either: a function more or less that the compiler inlines, as seen in a turn without
/// work, which has no more than hundreds.
const INLINING: f64 = 64.0;
/// Operations, and the function whose instructions are theirs.
const OPERATIONS: [(&str, &str); 7] = [
    ("request", "counted_requests"),
    ("answer", "counted_answers"),
    ("nothing", "counted_nothing"),
    ("hello", "counted_hellos"),
    ("one_way", "counted_one_way"),
    ("mutual", "counted_mutual"),
    ("resumption", "counted_resumption"),
];

/// The child's part: does operations, and says how many.
///
/// # Errors
///
/// When one is not answered.
pub(crate) fn child() -> Result<String, String> {
    let mut world = World::new(CipherSuite::ALL[0], 8 * BATCH, HOT_SESSIONS)?;
    world.connect(BATCH)?;
    world.warm_up(0);
    let (mut requests, mut answers, mut hellos, mut handshakes) = (0, 0, 0, 0);
    for turn in 0..TURNS {
        world.pass_time();
        let batch = world.requests(turn * BATCH);
        world.arrive(&batch);
        world.counted_requests();
        requests += world.answer_requests();
        world.counted_answers();
        answers += world.take_sent();
        world.counted_nothing();
        world.pass_time();
        let batch = world.hellos();
        world.arrive(&batch);
        world.counted_hellos();
        hellos += world.take_sent();
    }
    for index in 0..BATCH {
        world.pass_time();
        world.resume(index, &mut |step| step())?;
        world.full(Full::OneWay, &mut |step| step())?;
        world.full(Full::Mutual, &mut |step| step())?;
        handshakes += 1;
    }
    let all = TURNS * BATCH;
    if [requests, answers, hellos] != [all; 3] {
        return Err(format!(
            "of {all} requests {requests} reached the pool and {answers} were answered; of as many hellos {hellos}"
        ));
    }
    let [one_way, mutual, resumptions] = [handshakes; 3];
    let counts = [
        requests,
        answers,
        TURNS,
        hellos,
        one_way,
        mutual,
        resumptions,
    ];
    let object: Map<String, Value> = std::iter::zip(OPERATIONS, counts)
        .map(|((name, _), count)| (name.to_owned(), count.into()))
        .collect();
    Ok(Value::from(object).to_string())
}

/// Counts, and compares with the file, or with `update` writes it. Returns a table.
///
/// # Errors
///
/// When a count is too far above what is expected, or cannot be had.
pub(crate) fn run(expected: &Path, update: bool) -> Result<String, String> {
    let counts = count()?;
    if !cfg!(debug_assertions) {
        let known = Value::Null;
        let (table, _, _) = compare(&counts, &known);
        return Ok(format!(
            "{table}\nA release build: its counts are compared with nothing. `make count` makes the build that they are \
             expected of.\n"
        ));
    }
    let of = built_by()?;
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", expected.display());
    let content = std::fs::read_to_string(expected).map_err(|error| failed(&error))?;
    let mut all: Map<String, Value> =
        serde_json::from_str(&content).map_err(|error| failed(&error))?;
    if update {
        let rounded = counts
            .iter()
            .map(|(name, count)| ((*name).to_owned(), json!(count.round())));
        all.insert(of.clone(), rounded.collect::<Map<_, _>>().into());
        let text = format!("{:#}\n", Value::from(all.clone()));
        std::fs::write(expected, text).map_err(|error| failed(&error))?;
    }
    let Some(known) = all.get(&of) else {
        let (table, _, _) = compare(&counts, &Value::Null);
        return Ok(format!(
            "{table}\nNOT COMPARED: {} has no counts of {of:?}. `make count-update` adds these.\n",
            expected.display()
        ));
    };
    let (mut table, more, less) = compare(&counts, known);
    let shown = expected.display();
    let percent = TOLERANCE * 100.0;
    if !less.is_empty() {
        table += &format!(
            "\nmore than {percent:.0} % below {shown}: {}. Hold that with `make count-update`.\n",
            less.join(", ")
        );
    }
    if more.is_empty() {
        return Ok(table);
    }
    Err(format!(
        "{table}\nmore than {percent:.0} % above {shown}: {}. Find what it is, or, when it is worth it, run `make count-update` and say why in the commit.",
        more.join(", ")
    ))
}

/// What counts depend on: the architecture, and the compiler that the build in the path was made by.
fn built_by() -> Result<String, String> {
    let output = Command::new("rustc").arg("--version").output();
    let output = output.map_err(|error| format!("rustc --version: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = said.split_whitespace().nth(1).unwrap_or("unknown");
    // Of a patch they stay the same.
    let minor = version.rsplit_once('.').map_or(version, |(minor, _)| minor);
    Ok(format!("{} rustc {minor}", std::env::consts::ARCH))
}

/// The table, and the operations that are too far above and below.
fn compare(
    counts: &[(&'static str, f64)],
    known: &Value,
) -> (String, Vec<&'static str>, Vec<&'static str>) {
    let mut table = format!(
        "{:<12}  {:>12}  {:>12}  {:>8}\n",
        "instructions", "counted", "expected", "off"
    );
    let (mut more, mut less) = (Vec::new(), Vec::new());
    for &(name, count) in counts {
        let Some(expected) = known.get(name).and_then(Value::as_f64) else {
            more.push(name);
            table += &format!("{name:<12}  {count:>12.0}  {:>12}\n", "-");
            continue;
        };
        let off = count / expected.max(f64::MIN_POSITIVE) - 1.0;
        let allowed = INLINING.max(expected * TOLERANCE);
        if count - expected > allowed {
            more.push(name);
        } else if expected - count > allowed {
            less.push(name);
        }
        table += &format!(
            "{name:<12}  {count:>12.0}  {expected:>12.0}  {:>+7.2}%\n",
            off * 100.0
        );
    }
    (table, more, less)
}

/// Instructions of each operation.
fn count() -> Result<Vec<(&'static str, f64)>, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let out = Scratch(std::env::temp_dir().join(format!("tidegate-count-{}", std::process::id())));
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--compress-strings=no",
            "--compress-pos=no",
        ])
        .arg(format!("--callgrind-out-file={}", out.0.display()))
        .arg(this)
        .arg("count-child")
        .output()
        .map_err(|error| {
            format!("valgrind cannot be run: {error}; install the package valgrind")
        })?;
    if !output.status.success() {
        return Err(format!(
            "valgrind ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    let operations: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("the child said no numbers: {error}"))?;
    let profile = std::fs::read_to_string(&out.0)
        .map_err(|error| format!("callgrind wrote no profile: {error}"))?;
    OPERATIONS
        .into_iter()
        .map(|(name, function)| {
            let done = operations.get(name).and_then(Value::as_f64).unwrap_or(0.0);
            let instructions = inclusive(&profile, function);
            if done == 0.0 || instructions == 0 {
                return Err(format!("{function} does not show in the profile"));
            }
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            Ok((name, instructions as f64 / done))
        })
        .collect()
}

/// A file that is removed in the end.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Instructions of all calls of a function, with those of what it calls.
///
/// ```text
/// cfn=name
/// calls=COUNT POSITION
/// POSITION INSTRUCTIONS
/// ```
fn inclusive(profile: &str, function: &str) -> u64 {
    let mut sum = 0;
    let mut lines = profile.lines();
    let mut is_wanted = false;
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("cfn=") {
            is_wanted = name.contains(function);
        } else if line.starts_with("calls=") && is_wanted {
            let cost = lines.next().and_then(|line| line.rsplit(' ').next());
            sum += cost.and_then(|cost| cost.parse::<u64>().ok()).unwrap_or(0);
            is_wanted = false;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_of_a_function_add_up() {
        let profile = "fn=main\n1 5\ncfn=bench::counted_requests\ncalls=2 10\n1 700\n\
                       cfi=other\ncfn=bench::counted_answers\ncalls=1 3\n4 50\ncfn=bench::counted_requests\n\
                       calls=1 10\n9 300\nfn=bench::counted_requests\n3 8\n";
        assert_eq!(inclusive(profile, "counted_requests"), 1000);
        assert_eq!(inclusive(profile, "counted_answers"), 50);
        assert_eq!(inclusive(profile, "counted_hellos"), 0);
    }

    #[test]
    fn a_count_that_is_off_is_named() {
        let known = json!({ "request": 10_000, "answer": 5000, "nothing": 800, "hello": 9000 });
        let counts = [
            ("request", 10_290.0),
            ("answer", 4840.0),
            ("nothing", 860.0),
            ("hello", 9280.0),
            ("resumption", 3.0),
        ];
        let (table, more, less) = compare(&counts, &known);
        assert_eq!((more, less), (vec!["hello", "resumption"], vec!["answer"]));
        assert!(table.contains("+2.90%"), "{table}");
    }

    #[test]
    fn the_child_does_what_it_says() {
        let said: Value = serde_json::from_str(&child().unwrap()).unwrap();
        assert_eq!(said["request"], TURNS * BATCH);
        for kind in ["one_way", "mutual", "resumption"] {
            assert_eq!(said[kind], BATCH);
        }
    }
}
