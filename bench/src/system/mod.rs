//! The server and the load generator, one core each, with the bare echo beside them in one run.

pub(crate) mod cpus;
pub(crate) mod echo;
pub(crate) mod load;
mod mode;
mod overload;
pub(crate) mod process;
mod targets;
pub(crate) mod tidegate;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use self::cpus::{Cpus, on_cpu, pin};
use self::echo::Echo;
use self::load::{Load, Report};
pub(crate) use self::mode::Mode;
use self::targets::{
    ALLOCATIONS, HALF_LOAD, MANY_SESSIONS, MEMORY, MUTUAL, ONE_WAY, REQUEST, RESUMED, SHARD,
    STORM_LOST, STORM_P99,
};
use self::tidegate::{Counted, SHARED_TOKEN, Tidegate};
use crate::micro;
use crate::path::PathCosts;
use crate::sessions;
use crate::table::{Figure, Row, Target, number, unless_failed};

/// What all loads of this comparison use.
pub(crate) const SUITE: &str = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
/// A reading of 40 bytes.
pub(crate) const PAYLOAD: &str = r#"{"temperature":21.523,"humidity":48.251}"#;
/// Devices of the comparison. They have a socket each where they are compared with the echo, whose flows
/// have one each too: what the kernel does for a socket more is in both.
pub(crate) const DEVICES: &str = "500";
/// Devices that make handshakes: enough that the server always has some to do.
const HANDSHAKE_DEVICES: &str = "64";
/// In one handshake of how many the generator verifies the server's signature. In each, it would be the
/// generator's core that limits them, and a server that waits pays the kernel more for each.
const VERIFY_ONE_IN: &str = "16";
/// What all loads of handshakes have in common; they are closed loops, as is the default.
pub(crate) const HANDSHAKES: [&str; 6] = [
    "--sockets",
    "each",
    "--devices",
    HANDSHAKE_DEVICES,
    "--verify-one-in",
    VERIFY_ONE_IN,
];
/// How often the request is measured, in turn with the echo. Of both the least counts.
pub(crate) const ROUNDS: usize = 3;
/// How many times its capacity a server is stormed with.
const STORM: f64 = 10.0;

/// What a server costs under the loads that servers are compared by; what was not measured is 0.
#[derive(Clone, Debug, Default)]
pub(crate) struct Costs {
    pub(crate) us_per_request: f64,
    pub(crate) requests_per_s: f64,
    pub(crate) us_per_handshake_one_way: f64,
    pub(crate) us_per_handshake_mutual: f64,
    pub(crate) rss_bytes_per_session: f64,
    /// Of how many sessions.
    pub(crate) sessions: usize,
    /// Operations of all loads that failed.
    pub(crate) failed: f64,
}

impl Costs {
    /// What a load of requests gave.
    pub(crate) fn set_requests(&mut self, report: &Report) {
        self.us_per_request = report.us_per_request();
        self.requests_per_s = report.number("/requests/per_s");
        self.failed += report.failed();
    }

    /// What a load of so many sessions gave.
    pub(crate) fn set_sessions(&mut self, sessions: usize, report: &Report) {
        self.sessions = sessions;
        self.rss_bytes_per_session = report.number("/server/rss_bytes_per_session");
        self.failed += report.failed();
    }
}

/// The report of the round that cost the least: whatever else the machine does only adds to it.
///
/// # Errors
///
/// That of a round.
pub(crate) fn cheapest(
    rounds: impl IntoIterator<Item = Result<Report, String>>,
) -> Result<Report, String> {
    let rounds: Vec<Report> = rounds.into_iter().collect::<Result<_, _>>()?;
    let least = |a: &Report, b: &Report| a.us_per_request().total_cmp(&b.us_per_request());
    rounds
        .into_iter()
        .min_by(least)
        .ok_or_else(|| "no round was run".to_owned())
}

/// Everything that the system's rows need.
#[derive(Debug)]
pub(crate) struct System {
    mode: Mode,
    cpus: Cpus,
    load: Load,
    directory: std::path::PathBuf,
    echoes: Vec<Echo>,
}

/// A row of a figure or of why there is none.
fn row(target: Target, figure: Result<Figure, String>) -> Row {
    Row {
        target,
        figure: figure.unwrap_or_else(Figure::Missing),
    }
}

impl System {
    /// A run whose files lie in `directory`.
    ///
    /// # Errors
    ///
    /// When the machine has one core, or the generator is not built.
    pub(crate) fn new(mode: Mode, directory: &Path) -> Result<Self, String> {
        let cpus = Cpus::choose()?;
        Ok(Self {
            mode,
            cpus,
            load: Load::new(cpus.load, directory)?,
            directory: directory.to_owned(),
            echoes: Vec::new(),
        })
    }

    /// The cores.
    pub(crate) fn cpus(&self) -> Cpus {
        self.cpus
    }

    /// The generator.
    pub(crate) fn load(&self) -> &Load {
        &self.load
    }

    /// Measures the echo once more.
    pub(crate) fn measure_echo(&mut self) -> Result<(), String> {
        eprintln!("bench: echo");
        let echo = echo::measure(self.cpus.server, self.cpus.load, self.mode.echo_time())?;
        self.echoes.push(echo);
        Ok(())
    }

    /// The echo that cost the least in this run: whatever else the machine does only adds to it.
    pub(crate) fn echo(&self) -> Echo {
        let none = Echo {
            us: 0.0,
            batch: 0.0,
        };
        let least = self.echoes.iter().min_by(|a, b| a.us.total_cmp(&b.us));
        least.copied().unwrap_or(none)
    }

    /// All rows that need no other server. `path` gives the row of allocations.
    ///
    /// # Errors
    ///
    /// When the server or the echo cannot be run at all.
    pub(crate) fn rows(&mut self, path: Option<&PathCosts>) -> Result<(Vec<Row>, Costs), String> {
        let mut rows = Vec::new();
        let mut ours = Costs::default();
        let server = Tidegate::start(&self.directory, "load", self.cpus.server, 100_000)?;
        let rounds = (0..ROUNDS).map(|_| {
            self.measure_echo()?;
            self.requests(&server)
        });
        let requests = cheapest(rounds)?;
        self.request_rows(&requests, path, &mut rows);
        ours.set_requests(&requests);
        let half = ours.requests_per_s / 2.0;
        rows.push(row(HALF_LOAD, self.half_load(&server, half)));
        self.handshake_rows(&server, &mut rows, &mut ours)?;
        self.measure_echo()?;
        self.storm_rows(&server, ours.us_per_handshake_one_way, &mut rows);
        drop(server);
        self.overload_rows(&mut rows);
        self.memory_rows(half, &mut rows, &mut ours);
        Ok((rows, ours))
    }

    /// Requests as fast as the server answers.
    fn requests(&self, server: &Tidegate) -> Result<Report, String> {
        self.load.run(
            "requests",
            &[
                "--target",
                &server.target(),
                "--admin",
                &server.admin(),
                "--admin-token-file",
                &server.admin_token_file(),
                "--server-pid",
                &server.id(),
                "--scenario",
                "telemetry",
                "--auth",
                "token",
                "--sockets",
                "each",
                "--devices",
                DEVICES,
                "--closed",
                "--duration",
                &self.mode.duration(),
                "--suite",
                SUITE,
                "--payload",
                PAYLOAD,
            ],
        )
    }

    fn request_rows(&self, report: &Report, path: Option<&PathCosts>, rows: &mut Vec<Row>) {
        let echo = self.echo();
        let us = report.us_per_request();
        let shard = report.number("/server_threads/shard");
        let threads = [
            "shard",
            "auth",
            "store-commit",
            "store-flush",
            "fjall:worker",
        ]
        .map(|name| (name, report.number(&format!("/server_threads/{name}"))))
        .into_iter()
        .filter(|&(_, us)| us > 0.0)
        .map(|(name, us)| format!("{name} {}", number(us)))
        .collect::<Vec<_>>()
        .join(", ");
        let how = format!(
            "{} us; echo {} us ({} a batch), the least of {ROUNDS} of each in turn; {} requests/s of {DEVICES} devices, closed loop; by thread: \
             {threads}{}",
            number(us),
            number(echo.us),
            number(echo.batch),
            number(report.number("/requests/per_s")),
            report.troubles()
        );
        rows.push(row(
            REQUEST,
            ratio(us, echo.us).map(|x| Figure::of(x, report.failed(), how)),
        ));
        let how = format!("{} us of the shard's thread", number(shard));
        rows.push(row(
            SHARD,
            ratio(shard, echo.us).map(|x| Figure::of(x, report.failed(), how)),
        ));
        let allocations = path.map(|path| {
            let how = format!(
                "{} for the request, {} for its answer; coap-lite alone, were it used, {}",
                number(path.request.allocations),
                number(path.answer.allocations),
                number(path.codec_allocations)
            );
            Figure::full(path.request.allocations + path.answer.allocations, how)
        });
        let missing = || "the path was not measured in this run".to_owned();
        rows.push(row(ALLOCATIONS, allocations.ok_or_else(missing)));
    }

    fn half_load(&self, server: &Tidegate, rate: f64) -> Result<Figure, String> {
        let before = server.counted()?;
        let report = self.load.run(
            "half-load",
            &[
                "--target",
                &server.target(),
                "--admin",
                &server.admin(),
                "--admin-token-file",
                &server.admin_token_file(),
                "--scenario",
                "telemetry",
                "--auth",
                "token",
                "--sockets",
                "each",
                "--devices",
                DEVICES,
                "--rate",
                &format!("{rate:.0}"),
                "--duration",
                &self.mode.duration(),
                "--suite",
                SUITE,
                "--payload",
                PAYLOAD,
            ],
        )?;
        let (p50, p999) = (
            report.number("/latency_us/p50"),
            report.number("/latency_us/p999"),
        );
        let how = format!(
            "p99.9 {} us, median {} us, open loop of {rate:.0} requests/s{}{}",
            number(p999),
            number(p50),
            slowest_sync(server, &before),
            report.troubles()
        );
        let ratio = unless_failed(ratio(p999, p50)?, report.failed());
        Ok(Figure::full(ratio, how))
    }

    /// One kind of handshake over and over, with the datagrams that each took.
    fn handshakes(
        &self,
        server: &Tidegate,
        name: &str,
        arguments: &[&str],
    ) -> Result<(Report, f64), String> {
        let before = server.counted()?;
        let (target, id, duration) = (server.target(), server.id(), self.mode.duration());
        let mut all = vec![
            "--target",
            &target,
            "--server-pid",
            &id,
            "--duration",
            &duration,
            "--suite",
            SUITE,
        ];
        all.extend(HANDSHAKES);
        all.extend(arguments);
        let report = self.load.run(name, &all)?;
        let after = server.counted()?;
        let datagrams = |counted: &Counted| counted.received + counted.sent;
        let pairs = (datagrams(&after) - datagrams(&before)) / 2.0;
        let completed = report.number("/handshakes/completed").max(1.0);
        Ok((report, pairs / completed))
    }

    fn handshake_rows(
        &self,
        server: &Tidegate,
        rows: &mut Vec<Row>,
        ours: &mut Costs,
    ) -> Result<(), String> {
        let handshake = ["--scenario", "handshake", "--auth"];
        let [one_way, mutual] =
            [("handshake-one-way", "none"), ("handshake-mutual", "x509")].map(|(name, auth)| {
                let [scenario, value, flag] = handshake;
                self.handshakes(server, name, &[scenario, value, flag, auth])
            });
        let (one_way, mutual) = (one_way?, mutual?);
        ours.us_per_handshake_one_way = one_way.0.us_per_handshake();
        ours.us_per_handshake_mutual = mutual.0.us_per_handshake();
        ours.failed += one_way.0.failed() + mutual.0.failed();
        let floors = self.key_operations();
        let echo = self.echo().us;
        for (target, (report, pairs), operations) in [(ONE_WAY, &one_way, 2), (MUTUAL, &mutual, 3)]
        {
            let figure = floors.clone().and_then(|floors| {
                let keys: f64 = floors.iter().take(operations).sum();
                let floor = keys + pairs * echo;
                let us = report.us_per_handshake();
                let how = format!(
                    "{} us; P-256 operations {} us and {} datagram pairs of {} us; {} handshakes/s{}",
                    number(us),
                    number(keys),
                    number(*pairs),
                    number(echo),
                    number(report.number("/handshakes/per_s")),
                    report.troubles()
                );
                Ok(Figure::of(ratio(us, floor)?, report.failed(), how))
            });
            rows.push(row(target, figure));
        }
        let resumed = self.handshakes(
            server,
            "resume",
            &["--scenario", "resume", "--auth", "none"],
        );
        let figure = resumed.and_then(|(report, pairs)| {
            let us = report.us_per_handshake();
            let full = ours.us_per_handshake_one_way;
            let how = format!(
                "{} us by ticket against {} us one-way; the echo of its {} datagram pairs alone is {} x; {} handshakes/s{}",
                number(us),
                number(full),
                number(pairs),
                number(pairs * echo / full.max(1.0)),
                number(report.number("/handshakes/per_s")),
                report.troubles()
            );
            Ok(Figure::of(ratio(us, full)?, report.failed(), how))
        });
        rows.push(row(RESUMED, figure));
        Ok(())
    }

    /// The public-key operations of a handshake, microseconds: key exchange, signature, its verification.
    ///
    /// The other core is kept at the same work meanwhile, as it is while handshakes are measured: cores
    /// may be two halves of one, which then does less for each.
    fn key_operations(&self) -> Result<[f64; 3], String> {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                pin(self.cpus.load);
                while !stop.load(Relaxed) {
                    if micro::nanoseconds("signature", "P-256 verify").is_err() {
                        break;
                    }
                }
            });
            let measured = on_cpu(self.cpus.server, || {
                let us = |group, name| micro::nanoseconds(group, name).map(|ns| ns / 1e3);
                Ok([
                    us("key exchange", "Secp256r1 key, public key and agreement")?,
                    us("signature", "P-256 sign")?,
                    us("signature", "P-256 verify")?,
                ])
            });
            stop.store(true, Relaxed);
            measured
        })
    }

    fn storm_rows(&self, server: &Tidegate, us_per_handshake: f64, rows: &mut Vec<Row>) {
        let capacity = 1e6 / us_per_handshake.max(1.0);
        // A little more: the generator sends a little less than it is told to when it has no time.
        let hellos = (capacity * STORM * 1.05).round();
        let before = server.counted().unwrap_or_default();
        let report = self.load.run(
            "storm",
            &[
                "--target",
                &server.target(),
                "--admin",
                &server.admin(),
                "--admin-token-file",
                &server.admin_token_file(),
                "--scenario",
                "storm",
                "--devices",
                DEVICES,
                "--rate",
                "1000",
                "--quiet",
                &self.mode.duration(),
                "--duration",
                &self.mode.duration(),
                "--storm-devices",
                HANDSHAKE_DEVICES,
                "--verify-one-in",
                VERIFY_ONE_IN,
                "--storm-spoofed",
                &hellos.to_string(),
                "--suite",
                SUITE,
                "--payload",
                PAYLOAD,
            ],
        );
        let figures = report.map(|report| {
            let offered = report.number("/storm/hellos_per_s") + report.number("/storm/handshakes_per_s");
            let times = offered / capacity;
            let how = format!(
                "{DEVICES} devices, 1000 requests/s; {} ClientHellos and {} handshakes a second over them, {} x capacity",
                number(report.number("/storm/hellos_per_s")),
                number(report.number("/storm/handshakes_per_s")),
                number(times)
            );
            let lost = report.number("/storm/requests_lost");
            let p99 = format!(
                "p99 {} us, quiet {} us, generator and flood on one core{}; {how}",
                number(report.number("/latency_us/p99")),
                number(report.number("/quiet_us/p99")),
                slowest_sync(server, &before)
            );
            let figure = |value, how| match times >= STORM {
                true => Figure::full(value, how),
                false => Figure::partial(value, how),
            };
            let ratio = unless_failed(report.number("/storm/p99_to_quiet"), lost);
            (figure(lost, how), figure(ratio, p99))
        });
        match figures {
            Ok((lost, p99)) => {
                rows.push(row(STORM_LOST, Ok(lost)));
                rows.push(row(STORM_P99, Ok(p99)));
            }
            Err(error) => {
                rows.push(row(STORM_LOST, Err(error.clone())));
                rows.push(row(STORM_P99, Err(error)));
            }
        }
    }

    /// Sessions that are there and do nothing, and requests spread over many.
    fn memory_rows(&self, rate: f64, rows: &mut Vec<Row>, ours: &mut Costs) {
        let idle = self.mode.idle_sessions();
        let few = self.sessions("sessions-1000", 1000.min(idle), rate);
        let idle_report = self.sessions("sessions-idle", idle, rate);
        if let Ok(report) = &idle_report {
            ours.set_sessions(idle, report);
        }
        eprintln!("bench: memory of idle sessions");
        let held = self.mode.held_sessions();
        let figure = sessions::idle_bytes(held).map(|bytes| {
            let how = format!(
                "{held} sessions in a shard without a kernel, each silent since its first answer; a running server grew by \
                 {} bytes for each of {idle} while they connected, final flights and first requests included",
                number(ours.rss_bytes_per_session)
            );
            match self.mode {
                Mode::Smoke => Figure::partial(bytes, how),
                Mode::Quick | Mode::Full => Figure::full(bytes, how),
            }
        });
        rows.push(row(MEMORY, figure));
        let count = self.mode.many_sessions();
        let many = match count == idle {
            true => idle_report,
            false => self.sessions("sessions-many", count, rate),
        };
        let figure = few.and_then(|few| {
            let many = many?;
            let how = format!(
                "{} us with {count} sessions, {} us with 1000, open loop of {rate:.0} requests/s{}",
                number(many.us_per_request()),
                number(few.us_per_request()),
                many.troubles()
            );
            let ratio = ratio(many.us_per_request(), few.us_per_request())?;
            Ok(match self.mode {
                Mode::Full => Figure::of(ratio, many.failed() + few.failed(), how),
                Mode::Smoke | Mode::Quick => Figure::partial(ratio, how),
            })
        });
        rows.push(row(MANY_SESSIONS, figure));
    }

    /// A fresh server, so many devices connected, and then requests at a rate.
    fn sessions(&self, name: &str, count: usize, rate: f64) -> Result<Report, String> {
        let server = Tidegate::start(&self.directory, name, self.cpus.server, count + 10_000)?;
        self.load.run(
            name,
            &[
                "--target",
                &server.target(),
                "--server-pid",
                &server.id(),
                "--scenario",
                "telemetry",
                "--auth",
                "token",
                "--token",
                SHARED_TOKEN,
                "--devices",
                &count.to_string(),
                "--rate",
                &format!("{rate:.0}"),
                "--duration",
                &self.mode.duration(),
                "--suite",
                SUITE,
                "--payload",
                PAYLOAD,
            ],
        )
    }
}

/// What the slowest sync to the disk since `before` took, as the end of a sentence: latencies of uploads
/// are those of the disk, and who sees a bad one wants to know whose it is.
fn slowest_sync(server: &Tidegate, before: &Counted) -> String {
    let slowest = server.counted().ok();
    match slowest.and_then(|now| now.slowest_sync(before)) {
        Some(seconds) => format!(
            "; the slowest sync of the disk took up to {} ms",
            number(seconds * 1e3)
        ),
        None => String::new(),
    }
}

/// `of` divided by `by`.
///
/// # Errors
///
/// When either was not measured.
pub(crate) fn ratio(of: f64, by: f64) -> Result<f64, String> {
    if of > 0.0 && by > 0.0 {
        Ok(of / by)
    } else {
        Err("a number that it is made of was not measured".into())
    }
}
