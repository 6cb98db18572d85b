//! `tidegate-bench`: what the parts cost, what a server costs beside the least that it could, and
//! what other servers cost under the same load.
//!
//! ```text
//! micro    cryptography, CoAP: ns per operation
//! path     a datagram's way through the turns of a shard on the memory driver: ns, allocations
//! count    instructions on that way, against bench/instructions.json (callgrind)
//! system   server and load generator on a core each, the bare echo beside them -> the table of targets
//! overload the server at twice of what it can answer
//! drivers  the ways in which datagrams can travel, in turn
//! peers    libcoap's and Californium's servers under the same load
//! all      everything but count and drivers; overload is in system
//! ```

mod coap;
mod crypto;
mod drivers;
mod host;
mod measure;
mod micro;
mod path;
mod peers;
mod sessions;
mod system;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tidegate::crypto::suite::CipherSuite;

use self::host::Host;
use self::path::PathCosts;
use self::system::{Mode, SUITE, System};

/// Measures Tidegate. Build with --release; nothing else should run on the machine meanwhile.
#[derive(Debug, Parser)]
#[command(name = "tidegate-bench", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// CPU time of cryptography and CoAP per operation, median of several rounds
    Micro {
        /// Fewer rounds
        #[arg(long)]
        quick: bool,
        /// Only benchmarks whose group or name holds one of these
        words: Vec<String>,
    },
    /// CPU time and allocations per datagram in the turns of a shard on the memory driver: no kernel
    Path {
        /// Fewer rounds
        #[arg(long)]
        quick: bool,
    },
    /// Instructions per datagram by callgrind; fails when they are not what is expected
    Count {
        /// What is expected
        #[arg(long, default_value = "bench/instructions.json", value_name = "FILE")]
        expected: PathBuf,
        /// Write the file anew
        #[arg(long)]
        update: bool,
    },
    /// Resident memory of idle sessions in a shard without a kernel, and CPU time of handshakes
    Sessions {
        /// How many sessions are held
        #[arg(default_value_t = 200_000, value_parser = parse_count)]
        count: usize,
    },
    /// A line of that, in a process of its own
    #[command(hide = true)]
    SessionsChild {
        /// Which line
        line: usize,
        /// How many sessions
        count: usize,
    },
    /// What `count` runs under callgrind
    #[command(hide = true)]
    CountChild,
    /// The server under load beside the bare echo, against the targets
    System(Extent),
    /// The server at twice of what it can answer: throughput, memory and recovery
    Overload(Extent),
    /// The ways in which datagrams can travel (TIDEGATE_DRIVER) under the same loads
    Drivers(Extent),
    /// Servers of other authors beside ours
    Peers(Extent),
    /// micro, path, system and peers, and the table of all targets
    All(Extent),
}

#[derive(Args, Debug)]
struct Extent {
    /// Measure for longer, with 200 000 and 1 000 000 sessions where the targets say so
    #[arg(long, conflicts_with = "smoke")]
    full: bool,
    /// Only try whether everything runs; the numbers mean nothing
    #[arg(long)]
    smoke: bool,
    /// Where table.md and the reports of the loads go
    #[arg(long, default_value = "target/bench", value_name = "DIRECTORY")]
    out: PathBuf,
}

fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("not a number above 0".into()),
    }
}

impl Extent {
    const fn mode(&self) -> Mode {
        match (self.full, self.smoke) {
            (true, _) => Mode::Full,
            (_, true) => Mode::Smoke,
            (false, false) => Mode::Quick,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tidegate::crypto::random::warm_up();
    match run(&arguments.command) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("tidegate-bench: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(what: &What) -> Result<String, String> {
    let host = Host::read();
    Ok(match what {
        What::Micro { quick, words } => format!("{}\n{}", host.text(), micro::run(words, *quick)?),
        What::Path { quick } => format!("{}\n{}", host.text(), path::text(&path(*quick)?)),
        What::Count { expected, update } => path::count::run(expected, *update)?,
        What::CountChild => path::count::child()?,
        What::Sessions { count } => format!("{}\n{}", host.text(), sessions::report(*count)?),
        What::SessionsChild { line, count } => sessions::line(*line, *count)?,
        What::System(extent) => system(
            &host,
            extent,
            Parts {
                micro: false,
                peers: false,
            },
        )?,
        What::Overload(extent) => overload(&host, extent)?,
        What::Drivers(extent) => drivers::run(&host, extent)?,
        What::Peers(extent) => peers(&host, extent)?,
        What::All(extent) => system(
            &host,
            extent,
            Parts {
                micro: true,
                peers: true,
            },
        )?,
    })
}

fn path(quick: bool) -> Result<PathCosts, String> {
    let suite = CipherSuite::from_name(SUITE).ok_or("the suite is unknown")?;
    path::measure(suite, quick)
}

/// What is measured beside the server under load.
#[derive(Clone, Copy)]
struct Parts {
    micro: bool,
    peers: bool,
}

/// The table, and what else was measured, also as files in the output folder.
fn system(host: &Host, extent: &Extent, parts: Parts) -> Result<String, String> {
    let mode = extent.mode();
    let quick = mode != Mode::Full;
    let directory = prepare(&extent.out)?;
    let mut text = host.text();
    if parts.micro {
        text += &format!("\n{}", micro::run(&[], quick)?);
    }
    let costs = path(quick)?;
    text += &format!("\n{}", path::text(&costs));
    let mut system = System::new(mode, &directory)?;
    let (mut rows, ours) = system.rows(Some(&costs))?;
    let entries = match parts.peers {
        true => peers::measure(&system, mode, &directory),
        false => Vec::new(),
    };
    if parts.peers {
        text += &format!("\n{}", peers::text(&ours, &entries));
    }
    rows.extend(peers::rows(&ours, &entries));
    let table = table::markdown(&rows, host, mode.words());
    let path = extent.out.join("table.md");
    std::fs::write(&path, &table).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(format!(
        "{text}\n{table}\nThis table is {}.\n",
        path.display()
    ))
}

fn overload(host: &Host, extent: &Extent) -> Result<String, String> {
    let mode = extent.mode();
    let directory = prepare(&extent.out)?;
    let mut rows = Vec::new();
    System::new(mode, &directory)?.overload_rows(&mut rows);
    Ok(table::markdown(&rows, host, mode.words()))
}

fn peers(host: &Host, extent: &Extent) -> Result<String, String> {
    let mode = extent.mode();
    let directory = prepare(&extent.out)?;
    let system = System::new(mode, &directory)?;
    let ours = peers::measure_ours(&system, mode, &directory)?;
    let entries = peers::measure(&system, mode, &directory);
    Ok(format!(
        "{}{}\n\n{}",
        host.text(),
        mode.words(),
        peers::text(&ours, &entries)
    ))
}

/// The folder of this run; those of earlier runs go.
fn prepare(out: &Path) -> Result<PathBuf, String> {
    for entry in std::fs::read_dir(out).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("run-") {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    system::tidegate::scratch(out)
}
