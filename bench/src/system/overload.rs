//! Twice as many requests as the server can answer.
//!
//! ```text
//! core of the server   server; from the second load on also threads that only burn time
//! core of the load     few devices, closed loop, until the store has had all the memory it may have
//!                      then one fleet of many devices:
//!                      in turn, so many at once that all find room           -> saturation
//!                      open loop, half of it                                 -> quiet
//!                      open loop, twice, with little patience                -> overload
//!                      open loop, half                                       -> recovered
//!                      open loop, twice, with little patience                -> memory
//! ```
//!
//! A device has one request under way at a time, so that few of them cannot overload anything: they must be
//! more than socket and queues hold, and give up soon where others would wait seconds before they repeat
//! themselves. A late answer counts as none, so that a server with long queues would have no throughput at all.
//! A generator needs about as much for a request as the server does, so that one core of it could never
//! offer twice what another core answers: hence the threads that burn time; saturation is what is left for the
//! server beside them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;

use super::cpus::pin;
use super::load::Report;
use super::targets::{OVERLOAD_MEMORY, OVERLOAD_RATE, OVERLOAD_RECOVERY};
use super::tidegate::Tidegate;
use super::{PAYLOAD, SUITE, System, ratio, row};
use crate::table::{Figure, Row, number, unless_failed};

/// Threads that take their part of the server's core.
const BURNERS: usize = 2;
/// Requests under way at saturation: they keep the server busy, and all find room.
const IN_FLIGHT: &str = "4000";
/// How long a device waits in an overload: less than ACK_TIMEOUT, so that nothing is sent twice.
const PATIENCE: &str = "500ms";
/// Sent requests over answered ones from which on it is an overload as the target means it. Less than two, as
/// the generator may not have the time for more.
const OFFERED_MIN: f64 = 1.5;

/// What was measured.
struct Overload {
    saturation: Report,
    quiet: Report,
    overload: Report,
    recovered: Report,
    /// The most that was resident until the end of an overload, and of another one.
    bytes: [f64; 2],
    /// Datagrams that found no room in the server's socket, in all.
    lost: f64,
}

impl System {
    /// Throughput, memory and recovery of a server at twice its saturation rate.
    pub(crate) fn overload_rows(&self, rows: &mut Vec<Row>) {
        match self.overload() {
            Ok(measured) => rows.extend(measured.rows()),
            Err(error) => {
                for target in [OVERLOAD_RATE, OVERLOAD_MEMORY, OVERLOAD_RECOVERY] {
                    rows.push(row(target, Err(error.clone())));
                }
            }
        }
    }

    fn overload(&self) -> Result<Overload, String> {
        let devices = self.mode.overload_devices();
        // Each load's devices are others, and in an overload the goodbyes of the last ones get lost.
        let room = 8 * devices;
        let server = Tidegate::start(&self.directory, "overload", self.cpus.server, room)?;
        let duration = self.mode.duration();
        let fleet = devices.to_string();
        let run = |name: &str, pace: &[&str]| self.overload_load(&server, name, &fleet, pace);
        self.fill(&server)?;
        let _burners = Burners::start(self.cpus.server);
        let saturation = run(
            "overload-saturation",
            &["--in-flight", IN_FLIGHT, "--duration", &duration],
        )?;
        let rate = saturation.number("/requests/per_s");
        let [half, twice] = [0.5, 2.0].map(|part| format!("{:.0}", rate * part));
        let calm = ["--rate", &half, "--duration", &duration];
        let storm = [
            "--rate",
            &twice,
            "--duration",
            &duration,
            "--timeout",
            PATIENCE,
        ];
        let quiet = run("overload-quiet", &calm)?;
        let lost_before = udp_receive_errors()?;
        let overload = run("overload", &storm)?;
        let (bytes_first, lost) = (
            server.peak_resident_bytes()?,
            udp_receive_errors()? - lost_before,
        );
        let recovered = run("overload-recovered", &calm)?;
        run("overload-again", &storm)?;
        Ok(Overload {
            saturation,
            quiet,
            overload,
            recovered,
            bytes: [bytes_first, server.peak_resident_bytes()?],
            lost,
        })
    }

    /// Readings until the store had all the memory that it may have, which it keeps.
    fn fill(&self, server: &Tidegate) -> Result<(), String> {
        let (devices, count) = self.mode.filling();
        let pace = ["--closed", "--count", count, "--duration", "5m"];
        self.overload_load(server, "overload-fill", devices, &pace)?;
        Ok(())
    }

    /// A load of so many devices at this pace.
    fn overload_load(
        &self,
        server: &Tidegate,
        name: &str,
        devices: &str,
        pace: &[&str],
    ) -> Result<Report, String> {
        let (target, id) = (server.target(), server.id());
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
            devices,
            "--suite",
            SUITE,
            "--payload",
            PAYLOAD,
        ];
        arguments.extend(pace);
        self.load.run(name, &arguments)
    }
}

/// Threads that burn time on a core until this is dropped.
struct Burners {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Burners {
    fn start(cpu: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..BURNERS)
            .map(|_| {
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || {
                    pin(cpu);
                    while !stop.load(Relaxed) {
                        std::hint::spin_loop();
                    }
                })
            })
            .collect();
        Self { stop, threads }
    }
}

impl Drop for Burners {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
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
            "{} successful answers/s within {PATIENCE} of {} requests/s sent, their p99 {} us from sending; {} at saturation; \
             {} datagrams found no room in the socket, {} requests had another answer, or none in time; \
             {BURNERS} other threads on the server's core; server's CPU {} us per request, at saturation {} us",
            number(answered),
            number(offered),
            number(self.overload.number("/service_us/p99")),
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
            "{} MiB, {} MiB after the first; what the store keeps in memory was full before",
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
        let recovery = ratio(p99(&self.recovered), p99(&self.quiet))
            .map(|x| figure(unless_failed(x, self.recovered.failed()), how));
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
