//! The ways in which datagrams can travel (TIDEGATE_DRIVER) under the same loads, in turn, beside the echo.

use crate::Extent;
use crate::host::Host;
use crate::system::load::Report;
use crate::system::tidegate::Tidegate;
use crate::system::{DEVICES, PAYLOAD, SUITE, System};
use crate::table::number;

const DRIVERS: [&str; 2] = ["uring", "mmsg"];
/// Requests per second; none: as fast as the server answers.
const RATES: [Option<u32>; 4] = [Some(1_000), Some(10_000), Some(30_000), None];
/// How often each is measured; of each figure the lowest counts, as whatever else the machine does only adds.
const ROUNDS: usize = 3;

/// Measures both, and returns a table.
///
/// # Errors
///
/// When the server or the echo cannot be run.
pub(crate) fn run(host: &Host, extent: &Extent) -> Result<String, String> {
    let mode = extent.mode();
    let directory = crate::prepare(&extent.out)?;
    let mut system = System::new(mode, &directory)?;
    let mut lowest = [[[f64::INFINITY; FIGURES.len()]; DRIVERS.len()]; RATES.len()];
    let mut answered = [[0.0_f64; DRIVERS.len()]; RATES.len()];
    for _ in 0..ROUNDS {
        system.measure_echo()?;
        for (number, driver) in DRIVERS.into_iter().enumerate() {
            let server = Tidegate::start_with(
                &directory,
                driver,
                system.cpus().server,
                1_000,
                &[("TIDEGATE_DRIVER", driver)],
            )?;
            for (rate, index) in RATES.into_iter().zip(0..) {
                let report = load(&system, &server, driver, rate, &mode.duration())?;
                for (low, (_, pointer)) in lowest[index][number].iter_mut().zip(FIGURES) {
                    *low = low.min(report.number(pointer));
                }
                let per_s = report.number("/requests/per_s");
                answered[index][number] = answered[index][number].max(per_s);
            }
        }
    }
    let mut text = format!(
        "{}{}\n\necho {} us a datagram; lowest of {ROUNDS} rounds, {DEVICES} devices\n\n| Offered | Driver | Answered |",
        host.text(),
        mode.words(),
        number(system.echo().us)
    );
    for (name, _) in FIGURES {
        text += &format!(" {name} |");
    }
    text += &format!("\n|---|---|---|{}\n", "---|".repeat(FIGURES.len()));
    for (index, rate) in RATES.into_iter().enumerate() {
        let offered = rate.map_or_else(|| "closed loop".to_owned(), |rate| format!("{rate}/s"));
        for (number_of, driver) in DRIVERS.into_iter().enumerate() {
            text += &format!(
                "| {offered} | {driver} | {:.0}/s |",
                answered[index][number_of]
            );
            for value in lowest[index][number_of] {
                text += &format!(" {} |", number(value));
            }
            text += "\n";
        }
    }
    Ok(text)
}

/// What is told of each load, and where it stands in the report.
const FIGURES: [(&str, &str); 5] = [
    ("CPU, us", "/server/cpu_us_per_request"),
    ("shard, us", "/server_threads/shard"),
    ("p50, us", "/latency_us/p50"),
    ("p99, us", "/latency_us/p99"),
    ("p99.9, us", "/latency_us/p999"),
];

fn load(
    system: &System,
    server: &Tidegate,
    driver: &str,
    rate: Option<u32>,
    duration: &str,
) -> Result<Report, String> {
    let (target, admin, token, id) = (
        server.target(),
        server.admin(),
        server.admin_token_file(),
        server.id(),
    );
    let rate = rate.map(|rate| rate.to_string());
    let mut arguments = vec![
        "--target",
        &target,
        "--admin",
        &admin,
        "--admin-token-file",
        &token,
        "--server-pid",
        &id,
        "--scenario",
        "telemetry",
        "--auth",
        "token",
        "--sockets",
        "each",
        "--devices",
        DEVICES,
        "--duration",
        duration,
        "--suite",
        SUITE,
        "--payload",
        PAYLOAD,
    ];
    match &rate {
        Some(rate) => arguments.extend(["--rate", rate.as_str()]),
        None => arguments.push("--closed"),
    }
    let name = format!("{driver}-{}", rate.as_deref().unwrap_or("closed"));
    system.load().run(&name, &arguments)
}
