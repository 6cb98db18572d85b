//! Servers of other authors under the load that ours has in the same run: same suite, same payload,
//! same cores.

mod californium;
mod libcoap;

use std::path::Path;

use crate::system::load::{Load, Report};
use crate::system::tidegate::{SHARED_TOKEN, Tidegate};
use crate::system::{DEVICES, HANDSHAKE_DEVICES, Mode, Ours, PAYLOAD, SUITE, System, ratio};
use crate::table::{Figure, Row, Target, number};

/// A server that runs, and how it is spoken to.
#[derive(Debug)]
struct Peer {
    process: crate::system::process::Process,
    port: u16,
    method: &'static str,
    path: &'static str,
}

/// What was measured of a server; what was not is 0.
#[derive(Clone, Debug, Default)]
struct Measured {
    us_per_request: f64,
    requests_per_s: f64,
    us_per_handshake_one_way: f64,
    us_per_handshake_mutual: f64,
    bytes_per_session: f64,
    failed: f64,
}

/// A server or why it could not be measured.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    name: String,
    measured: Result<Measured, String>,
}

/// Measures all peers that this machine has.
pub(crate) fn measure(system: &System, mode: Mode, directory: &Path) -> Vec<Entry> {
    let cpu = system.cpus().server;
    let load = system.load();
    let mut entries = Vec::new();
    for library in ["openssl", "gnutls"] {
        let start = |name: &str| libcoap::start(library, name, cpu, directory);
        entries.push(Entry {
            name: format!("libcoap {}, {library}", libcoap::version(library)),
            measured: measure_peer(load, mode, &format!("libcoap-{library}"), false, &start),
        });
    }
    let start = |name: &str| californium::start(name, cpu, directory);
    entries.push(Entry {
        name: californium::NAME.to_owned(),
        measured: measure_peer(load, mode, "californium", true, &start),
    });
    entries
}

/// `is_compiled_late`: what it costs at first is not what it costs later, so it is warmed up.
fn measure_peer(
    load: &Load,
    mode: Mode,
    name: &str,
    is_compiled_late: bool,
    start: &dyn Fn(&str) -> Result<Peer, String>,
) -> Result<Measured, String> {
    let mut measured = Measured::default();
    let peer = start(name)?;
    let mut failed = 0.0;
    if is_compiled_late {
        requests(load, mode, &format!("{name}-warm-up"), &peer)?;
    }
    let report = requests(load, mode, &format!("{name}-requests"), &peer)?;
    failed += report.number("/requests/failed");
    measured.us_per_request = report.us_per_request();
    measured.requests_per_s = report.number("/requests/per_s");
    for (auth, place) in [
        ("none", &mut measured.us_per_handshake_one_way),
        ("x509", &mut measured.us_per_handshake_mutual),
    ] {
        if auth == "x509" && !is_compiled_late {
            // It was started to take clients without a certificate.
            continue;
        }
        let report = handshakes(load, mode, &format!("{name}-handshake-{auth}"), &peer, auth)?;
        failed += report.number("/handshakes/failed");
        *place = report.us_per_handshake();
    }
    drop(peer);
    let fresh = start(&format!("{name}-fresh"))?;
    let report = sessions(load, mode, &format!("{name}-sessions"), &fresh)?;
    measured.bytes_per_session = report.number("/server/rss_bytes_per_session");
    measured.failed = failed;
    Ok(measured)
}

/// What every load has in common.
fn run(
    load: &Load,
    name: &str,
    peer: &Peer,
    duration: &str,
    arguments: &[&str],
) -> Result<Report, String> {
    let target = format!("coaps://127.0.0.1:{}", peer.port);
    let pid = peer.process.id().to_string();
    let mut all = vec![
        "--target",
        &target,
        "--server-pid",
        &pid,
        "--duration",
        duration,
        "--suite",
        SUITE,
    ];
    all.extend(arguments);
    load.run(name, &all)
        .map_err(|error| format!("{error}; the server: {}", peer.process.said()))
}

fn requests(load: &Load, mode: Mode, name: &str, peer: &Peer) -> Result<Report, String> {
    let arguments = [
        "--scenario",
        "telemetry",
        "--auth",
        "none",
        "--closed",
        "--sockets",
        "each",
        "--devices",
        DEVICES,
        "--method",
        peer.method,
        "--path",
        peer.path,
        "--payload",
        PAYLOAD,
        "--timeout",
        "20s",
    ];
    run(load, name, peer, &mode.duration(), &arguments)
}

fn handshakes(
    load: &Load,
    mode: Mode,
    name: &str,
    peer: &Peer,
    auth: &str,
) -> Result<Report, String> {
    let arguments = [
        "--scenario",
        "handshake",
        "--auth",
        auth,
        "--closed",
        "--sockets",
        "each",
        "--devices",
        HANDSHAKE_DEVICES,
    ];
    run(load, name, peer, &mode.duration(), &arguments)
}

fn sessions(load: &Load, mode: Mode, name: &str, peer: &Peer) -> Result<Report, String> {
    let arguments = [
        "--scenario",
        "telemetry",
        "--auth",
        "none",
        "--devices",
        mode.peer_sessions(),
        "--rate",
        "100",
        "--method",
        peer.method,
        "--path",
        peer.path,
        "--payload",
        PAYLOAD,
        "--timeout",
        "20s",
    ];
    run(load, name, peer, "1s", &arguments)
}

/// Our own server under the same loads, for a run without the rows of `system`.
///
/// # Errors
///
/// When it cannot be run.
pub(crate) fn measure_ours(system: &System, mode: Mode, directory: &Path) -> Result<Ours, String> {
    let start = |name: &str| Tidegate::start(directory, name, system.cpus().server, 100_000);
    let server = start("beside-peers")?;
    let (target, pid, duration) = (server.target(), server.id(), mode.duration());
    let run = |name: &str, arguments: &[&str]| {
        let mut all = vec![
            "--target",
            &target,
            "--server-pid",
            &pid,
            "--duration",
            &duration,
            "--suite",
            SUITE,
            "--closed",
        ];
        all.extend(arguments);
        system.load().run(name, &all)
    };
    let requests = run(
        "requests",
        &[
            "--scenario",
            "telemetry",
            "--auth",
            "token",
            "--token",
            SHARED_TOKEN,
            "--sockets",
            "each",
            "--devices",
            DEVICES,
            "--payload",
            PAYLOAD,
        ],
    )?;
    let handshake = |auth| {
        let name = format!("handshake-{auth}");
        let arguments = [
            "--scenario",
            "handshake",
            "--sockets",
            "each",
            "--devices",
            HANDSHAKE_DEVICES,
            "--auth",
            auth,
        ];
        run(&name, &arguments).map(|report| report.us_per_handshake())
    };
    let (one_way, mutual) = (handshake("none")?, handshake("x509")?);
    drop(server);
    let fresh = start("beside-peers-fresh")?;
    let sessions = system.load().run(
        "sessions",
        &[
            "--target",
            &fresh.target(),
            "--server-pid",
            &fresh.id(),
            "--duration",
            "1s",
            "--suite",
            SUITE,
            "--scenario",
            "telemetry",
            "--auth",
            "token",
            "--token",
            SHARED_TOKEN,
            "--devices",
            mode.peer_sessions(),
            "--rate",
            "100",
        ],
    )?;
    Ok(Ours {
        us_per_request: requests.us_per_request(),
        requests_per_s: requests.number("/requests/per_s"),
        us_per_handshake_one_way: one_way,
        us_per_handshake_mutual: mutual,
        rss_bytes_per_session: sessions.number("/server/rss_bytes_per_session"),
    })
}

/// The servers side by side, as text. Only what was measured shows.
pub(crate) fn text(ours: &Ours, entries: &[Entry]) -> String {
    let mut text = format!(
        "{:<28}  {:>11}  {:>10}  {:>12}  {:>12}  {:>13}\n",
        "one core each, CPU time",
        "us/request",
        "requests/s",
        "us/handshake",
        "mutual",
        "bytes/session"
    );
    let line = |name: &str, numbers: [f64; 5], trouble: &str| {
        let [request, rate, one_way, mutual, bytes] = numbers.map(|number_of| {
            if number_of > 0.0 {
                number(number_of)
            } else {
                "-".to_owned()
            }
        });
        format!(
            "{name:<28}  {request:>11}  {rate:>10}  {one_way:>12}  {mutual:>12}  {bytes:>13}{trouble}\n"
        )
    };
    text += &line(
        "Tidegate, stored durably",
        [
            ours.us_per_request,
            ours.requests_per_s,
            ours.us_per_handshake_one_way,
            ours.us_per_handshake_mutual,
            ours.rss_bytes_per_session,
        ],
        "",
    );
    for entry in entries {
        match &entry.measured {
            Ok(peer) => {
                let trouble = match peer.failed > 0.0 {
                    true => format!("  {} FAILED", number(peer.failed)),
                    false => String::new(),
                };
                let numbers = [
                    peer.us_per_request,
                    peer.requests_per_s,
                    peer.us_per_handshake_one_way,
                    peer.us_per_handshake_mutual,
                    peer.bytes_per_session,
                ];
                text += &line(&entry.name, numbers, &trouble);
            }
            Err(error) => text += &format!("{:<28}  not measured: {error}\n", entry.name),
        }
    }
    text
}

/// The rows of the table that compare.
pub(crate) fn rows(ours: &Ours, entries: &[Entry]) -> Vec<Row> {
    type Part = fn(&Measured) -> f64;
    let compare = |target: Target, word: &str, own: f64, part: Part| {
        let candidates: Vec<&Entry> = entries
            .iter()
            .filter(|entry| entry.name.starts_with(word))
            .collect();
        // Of several builds of a peer the cheapest one is compared with.
        let best = candidates
            .iter()
            .filter_map(|entry| Some((part(entry.measured.as_ref().ok()?), &entry.name)))
            .filter(|(us, _)| *us > 0.0)
            .min_by(|a, b| a.0.total_cmp(&b.0));
        let figure = match best {
            Some((theirs, name)) => ratio(own, theirs).map(|ratio| {
                let how = format!("{} us against {} us of {name}", number(own), number(theirs));
                Figure::full(ratio, how)
            }),
            None => Err(candidates
                .iter()
                .find_map(|entry| entry.measured.clone().err())
                .unwrap_or_else(|| "not measured in this run".to_owned())),
        };
        Row {
            target,
            figure: figure.unwrap_or_else(Figure::Missing),
        }
    };
    let request: Part = |peer| peer.us_per_request;
    vec![
        compare(REQUEST_LIBCOAP, "libcoap", ours.us_per_request, request),
        compare(
            REQUEST_CALIFORNIUM,
            "Californium",
            ours.us_per_request,
            request,
        ),
        compare(
            HANDSHAKE_LIBCOAP,
            "libcoap",
            ours.us_per_handshake_one_way,
            |peer| peer.us_per_handshake_one_way,
        ),
        compare(
            HANDSHAKE_CALIFORNIUM,
            "Californium",
            ours.us_per_handshake_mutual,
            |peer| peer.us_per_handshake_mutual,
        ),
    ]
}

const REQUEST_LIBCOAP: Target = Target {
    what: "CPU per request against libcoap's server, 500 devices",
    at_most: 1.0 / 3.0,
    aim: Some(0.25),
    unit: " x theirs",
};
const REQUEST_CALIFORNIUM: Target = Target {
    what: "CPU per request against Californium's server, 500 devices",
    at_most: 1.0 / 6.0,
    aim: Some(0.1),
    unit: " x theirs",
};
const HANDSHAKE_LIBCOAP: Target = Target {
    what: "CPU per full handshake against libcoap, one-way",
    at_most: 1.0 / 9.0,
    aim: None,
    unit: " x theirs",
};
const HANDSHAKE_CALIFORNIUM: Target = Target {
    what: "CPU per full handshake against Californium, mutual",
    at_most: 1.0 / 24.0,
    aim: None,
    unit: " x theirs",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheapest_build_is_compared_with_and_only_what_was_measured_shows() {
        let ours = Ours {
            us_per_request: 8.0,
            ..Ours::default()
        };
        let peer = |name: &str, us| Entry {
            name: name.to_owned(),
            measured: Ok(Measured {
                us_per_request: us,
                ..Measured::default()
            }),
        };
        let entries = [
            peer("libcoap a", 32.0),
            peer("libcoap b", 20.0),
            Entry {
                name: "Californium 3".to_owned(),
                measured: Err("no java".to_owned()),
            },
        ];
        let rows = rows(&ours, &entries);
        match &rows[0].figure {
            Figure::Measured { value, how, .. } => {
                assert!(
                    (value - 0.4).abs() < 1e-9 && how.contains("libcoap b"),
                    "{how}"
                );
            }
            Figure::Missing(reason) => panic!("{reason}"),
        }
        assert!(matches!(&rows[1].figure, Figure::Missing(reason) if reason == "no java"));
        assert!(matches!(&rows[2].figure, Figure::Missing(_)));
        let text = text(&ours, &entries);
        assert!(
            text.contains("not measured: no java") && !text.contains(" 0 "),
            "{text}"
        );
    }
}
