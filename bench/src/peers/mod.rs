//! Servers of other authors under the load that ours has in the same run: same suite, same payload,
//! same cores.

mod californium;
mod libcoap;

use std::path::Path;

use crate::system::load::{Load, Report, troubles};
use crate::system::tidegate::{SHARED_TOKEN, Tidegate};
use crate::system::{
    Costs, DEVICES, HANDSHAKES, Mode, PAYLOAD, ROUNDS, SUITE, System, cheapest, ratio,
};
use crate::table::{Figure, Row, Target, number};

/// A server that runs, and how it is spoken to.
#[derive(Debug)]
struct Peer {
    process: crate::system::process::Process,
    port: u16,
    method: &'static str,
    path: &'static str,
}

/// A server or why it could not be measured.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    name: String,
    measured: Result<Costs, String>,
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
) -> Result<Costs, String> {
    let mut measured = Costs::default();
    let peer = start(name)?;
    if is_compiled_late {
        requests(load, mode, &format!("{name}-warm-up"), &peer)?;
    }
    let rounds = (0..ROUNDS).map(|_| requests(load, mode, &format!("{name}-requests"), &peer));
    measured.set_requests(&cheapest(rounds)?);
    for (auth, place) in [
        ("none", &mut measured.us_per_handshake_one_way),
        ("x509", &mut measured.us_per_handshake_mutual),
    ] {
        if auth == "x509" && !is_compiled_late {
            // It was started to take clients without a certificate.
            continue;
        }
        let report = handshakes(load, mode, &format!("{name}-handshake-{auth}"), &peer, auth)?;
        measured.failed += report.failed();
        *place = report.us_per_handshake();
    }
    drop(peer);
    let fresh = start(&format!("{name}-fresh"))?;
    let report = sessions(load, mode, &format!("{name}-sessions"), &fresh)?;
    measured.set_sessions(mode.peer_sessions(), &report);
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
    let mut arguments = vec!["--scenario", "handshake", "--auth", auth];
    arguments.extend(HANDSHAKES);
    run(load, name, peer, &mode.duration(), &arguments)
}

fn sessions(load: &Load, mode: Mode, name: &str, peer: &Peer) -> Result<Report, String> {
    let arguments = [
        "--scenario",
        "telemetry",
        "--auth",
        "none",
        "--devices",
        &mode.peer_sessions().to_string(),
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
pub(crate) fn measure_ours(system: &System, mode: Mode, directory: &Path) -> Result<Costs, String> {
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
    let requests = || {
        let arguments = [
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
        ];
        run("requests", &arguments)
    };
    let mut ours = Costs::default();
    ours.set_requests(&cheapest((0..ROUNDS).map(|_| requests()))?);
    let handshake = |auth| {
        let name = format!("handshake-{auth}");
        let mut arguments = vec!["--scenario", "handshake", "--auth", auth];
        arguments.extend(HANDSHAKES);
        run(&name, &arguments)
    };
    let (one_way, mutual) = (handshake("none")?, handshake("x509")?);
    ours.us_per_handshake_one_way = one_way.us_per_handshake();
    ours.us_per_handshake_mutual = mutual.us_per_handshake();
    ours.failed += one_way.failed() + mutual.failed();
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
            &mode.peer_sessions().to_string(),
            "--rate",
            "100",
        ],
    )?;
    ours.set_sessions(mode.peer_sessions(), &sessions);
    Ok(ours)
}

/// The servers side by side, as text. Only what was measured shows.
pub(crate) fn text(ours: &Costs, entries: &[Entry]) -> String {
    let mut text = format!(
        "{:<28}  {:>11}  {:>10}  {:>12}  {:>12}  {:>16}\n",
        "one core each, CPU time",
        "us/request",
        "requests/s",
        "us/handshake",
        "mutual",
        "bytes a session"
    );
    let mut line = |name: &str, costs: &Costs| {
        let measured = |value: f64| match value > 0.0 {
            true => number(value),
            false => "-".to_owned(),
        };
        let bytes = match costs.rss_bytes_per_session > 0.0 {
            true => format!(
                "{} of {}",
                number(costs.rss_bytes_per_session),
                costs.sessions
            ),
            false => "-".to_owned(),
        };
        let trouble = match costs.failed > 0.0 {
            true => format!("  {} FAILED", number(costs.failed)),
            false => String::new(),
        };
        text += &format!(
            "{name:<28}  {:>11}  {:>10}  {:>12}  {:>12}  {bytes:>16}{trouble}\n",
            measured(costs.us_per_request),
            measured(costs.requests_per_s),
            measured(costs.us_per_handshake_one_way),
            measured(costs.us_per_handshake_mutual),
        );
    };
    line("Tidegate, stored durably", ours);
    let mut missing = String::new();
    for entry in entries {
        match &entry.measured {
            Ok(costs) => line(&entry.name, costs),
            Err(error) => missing += &format!("{:<28}  not measured: {error}\n", entry.name),
        }
    }
    text + &missing
}

/// The rows of the table that compare.
pub(crate) fn rows(ours: &Costs, entries: &[Entry]) -> Vec<Row> {
    type Part = fn(&Costs) -> f64;
    let compare = |target: Target, word: &str, part: Part| {
        let candidates: Vec<&Entry> = entries
            .iter()
            .filter(|entry| entry.name.starts_with(word))
            .collect();
        // Of several builds of a peer the cheapest one is compared with.
        let best = candidates
            .iter()
            .filter_map(|entry| Some((entry.measured.as_ref().ok()?, &entry.name)))
            .filter(|(costs, _)| part(costs) > 0.0)
            .min_by(|a, b| part(a.0).total_cmp(&part(b.0)));
        let figure = match best {
            Some((theirs, name)) => ratio(part(ours), part(theirs)).map(|ratio| {
                // What a peer loses now and then is told, and no fault of the measurement.
                let how = format!(
                    "{} us against {} us of {name}{}",
                    number(part(ours)),
                    number(part(theirs)),
                    troubles(ours.failed + theirs.failed)
                );
                Figure::of(ratio, ours.failed, how)
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
    let request: Part = |costs| costs.us_per_request;
    let one_way: Part = |costs| costs.us_per_handshake_one_way;
    let mutual: Part = |costs| costs.us_per_handshake_mutual;
    vec![
        compare(REQUEST_LIBCOAP, "libcoap", request),
        compare(REQUEST_CALIFORNIUM, "Californium", request),
        compare(HANDSHAKE_LIBCOAP, "libcoap", one_way),
        compare(HANDSHAKE_CALIFORNIUM, "Californium", mutual),
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
        let ours = Costs {
            us_per_request: 8.0,
            ..Costs::default()
        };
        let peer = |name: &str, us| Entry {
            name: name.to_owned(),
            measured: Ok(Costs {
                us_per_request: us,
                ..Costs::default()
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
