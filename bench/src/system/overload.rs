//! Twice as many requests as the server can answer.
//!
//! ```text
//! core of the server   server, and threads that only burn time    saturation is what is left for it
//! core of the load     devices whose requests all find room    closed loop           -> saturation
//!                      the same                                open loop, half of it -> quiet
//!                      more than that                          open loop, twice      -> overload
//!                      as before                               open loop, half       -> recovered
//!                      more than that                          open loop, twice      -> memory
//! ```
//!
//! A device has one request under way at a time, so that few of them cannot overload anything: they must be
//! more than socket and queues hold. A generator needs about as much for a request as the server does, so that one core of it could never
//! offer twice what another core answers: hence the threads that burn time.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::cpus::pin;
use super::load::Report;
use super::targets::{OVERLOAD_MEMORY, OVERLOAD_RATE, OVERLOAD_RECOVERY};
use super::tidegate::Tidegate;
use super::{PAYLOAD, SUITE, System, ratio, row};
use crate::table::{Figure, Row, number};

/// Threads that take their part of the server's core.
const BURNERS: usize = 7;
/// Sent requests over answered ones from which on it is an overload as the target means it. Less than two, as
/// a device whose request was lost waits before it sends anything.
const OFFERED_MIN: f64 = 1.5;

/// What was measured.
struct Overload {
    saturation: Report,
    quiet: Report,
    overload: Report,
    recovered: Report,
    /// Resident, without the readings that the store holds in memory for now: after an overload, and after
    /// another one.
    bytes: [f64; 2],
    /// Datagrams that found no room in the server's socket, in all.
    lost: f64,
}

impl System {
    /// Throughput, memory and recovery of a server at twice its saturation rate.
    pub(super) fn overload_rows(&self, rows: &mut Vec<Row>) {
        let stop = AtomicBool::new(false);
        let measured = std::thread::scope(|scope| {
            for _ in 0..BURNERS {
                scope.spawn(|| {
                    pin(self.cpus.server);
                    while !stop.load(Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let measured = self.overload();
            stop.store(true, Relaxed);
            measured
        });
        match measured {
            Ok(measured) => rows.extend(measured.rows()),
            Err(error) => {
                for target in [OVERLOAD_RATE, OVERLOAD_MEMORY, OVERLOAD_RECOVERY] {
                    rows.push(row(target, Err(error.clone())));
                }
            }
        }
    }

    fn overload(&self) -> Result<Overload, String> {
        let server = Tidegate::start(
            &self.directory,
            "overload",
            self.cpus.server,
            2 * self.mode.overload_devices(),
        )?;
        let many = self.mode.overload_devices();
        let few = self.mode.busy_devices();
        let saturation = self.requests_at(&server, "overload-saturation", few, None)?;
        let rate = saturation.number("/requests/per_s");
        let quiet = self.requests_at(&server, "overload-quiet", few, Some(rate / 2.0))?;
        let bytes = || Ok::<_, String>(server.resident_bytes()? - server.stored_bytes()?);
        let lost_before = udp_receive_errors()?;
        let overload = self.requests_at(&server, "overload", many, Some(rate * 2.0))?;
        let (bytes_first, lost) = (bytes()?, udp_receive_errors()? - lost_before);
        let recovered = self.requests_at(&server, "overload-recovered", few, Some(rate / 2.0))?;
        self.requests_at(&server, "overload-again", many, Some(rate * 2.0))?;
        Ok(Overload {
            saturation,
            quiet,
            overload,
            recovered,
            bytes: [bytes_first, bytes()?],
            lost,
        })
    }

    /// A load at this rate, or as fast as the server answers.
    fn requests_at(
        &self,
        server: &Tidegate,
        name: &str,
        devices: usize,
        rate: Option<f64>,
    ) -> Result<Report, String> {
        let (target, id, duration) = (server.target(), server.id(), self.mode.duration());
        let devices = devices.to_string();
        let rate = rate.map(|rate| format!("{rate:.0}"));
        let mut arguments = vec![
            "--target",
            &target,
            "--server-pid",
            &id,
            "--scenario",
            "telemetry",
            "--auth",
            "token",
            "--token",
            super::tidegate::SHARED_TOKEN,
            "--devices",
            &devices,
            "--duration",
            &duration,
            "--suite",
            SUITE,
            "--payload",
            PAYLOAD,
        ];
        match &rate {
            Some(rate) => arguments.extend(["--rate", rate.as_str()]),
            None => arguments.push("--closed"),
        }
        self.load.run(name, &arguments)
    }
}

impl Overload {
    fn rows(&self) -> [Row; 3] {
        let answered_per_s = |report: &Report| report.number("/requests/per_s");
        let (saturation, answered) = (
            answered_per_s(&self.saturation),
            answered_per_s(&self.overload),
        );
        let offered = self.overload.number("/requests/offered_per_s");
        let how = format!(
            "{} successful answers/s of {} requests/s sent, {} at saturation; {} datagrams found no room in the socket, {} requests were \
             refused or failed; {BURNERS} other threads on the server's core; server's CPU {} us per request, at saturation {} us",
            number(answered),
            number(offered),
            number(saturation),
            number(self.lost),
            number(self.overload.number("/requests/failed")),
            number(self.overload.us_per_request()),
            number(self.saturation.us_per_request()),
        );
        let is_overload = offered >= OFFERED_MIN * answered;
        let figure = |value, how| match is_overload {
            true => Figure::full(value, how),
            false => Figure::partial(value, how),
        };
        let rate = ratio(saturation, answered).map(|x| figure(x, how));
        let [first, second] = self.bytes;
        let how = format!(
            "{} MiB, {} MiB after the first, each without what the store has to write yet",
            number(second / MIB),
            number(first / MIB)
        );
        let memory = ratio(second, first).map(|x| figure(x, how));
        let p99 = |report: &Report| report.number("/latency_us/p99");
        let how = format!(
            "p99 {} us at half of the saturation rate from the first second on, {} us before{}",
            number(p99(&self.recovered)),
            number(p99(&self.quiet)),
            self.recovered.troubles()
        );
        let recovery = ratio(p99(&self.recovered), p99(&self.quiet)).map(|x| figure(x, how));
        [
            row(OVERLOAD_RATE, rate),
            row(OVERLOAD_MEMORY, memory),
            row(OVERLOAD_RECOVERY, recovery),
        ]
    }
}

const MIB: f64 = 1_048_576.0;

/// Datagrams that found no room in a socket of this host, since it runs.
fn udp_receive_errors() -> Result<f64, String> {
    let text = std::fs::read_to_string("/proc/net/snmp").map_err(|error| error.to_string())?;
    let mut lines = text.lines().filter(|line| line.starts_with("Udp:"));
    let (names, values) = (lines.next(), lines.next());
    let found = names.zip(values).and_then(|(names, values)| {
        let index = names.split(' ').position(|name| name == "RcvbufErrors")?;
        values.split(' ').nth(index)?.parse().ok()
    });
    found.ok_or_else(|| "/proc/net/snmp says nothing of UDP".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_tells_lost_datagrams() {
        assert!(udp_receive_errors().unwrap() >= 0.0);
    }
}
