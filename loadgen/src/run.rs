//! A run from the first socket to the report: starts the threads and leads them from phase to phase.

mod course;
mod leader;

use std::fs;
use std::io::{Write as _, stdout};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tidegate::coap;

use self::course::Course;
use self::leader::Leader;
use crate::arguments::Plan;
use crate::clock::Clock;
use crate::control::{Control, Phase};
use crate::fleet;
use crate::flood::STRANGERS;
use crate::kit::Work;
use crate::live::Live;
use crate::report::{self, Interval, Report};
use crate::server_process::ServerProcess;
use crate::sockets;
use crate::stats::Sample;
use crate::storm::StormFleet;
use crate::updates::Updates;
use crate::worker::{self, Assignment, DeviceSpec};

/// Does what the plan says; `true` when all went as it should.
///
/// # Errors
///
/// Why the run could not be made, with the remedy.
pub(crate) fn run(plan: &Plan) -> Result<bool, String> {
    let mut live = Live::new();
    let server = plan.server_pid.map(ServerProcess::find).transpose()?;
    for path in plan.json.iter().chain(&plan.hgrm).chain(&plan.html) {
        check_directory(path)?;
    }
    // What cannot be is told before anything is registered.
    let shared_sockets = sockets::are_shared(plan.target.address, plan.shared_sockets);
    let (stormers, strangers) = plan
        .storm
        .map_or((0, 0), |storm| (storm.devices, STRANGERS));
    let descriptors = |devices: usize| {
        // A thread's hubs are its own.
        let spare = if shared_sockets { 2 * plan.threads } else { 0 };
        sockets::descriptors(devices + stormers, shared_sockets) + strangers + spare
    };
    sockets::raise_file_limit(descriptors(plan.devices.unwrap_or(0)))?;
    let specs = fleet::build(plan, &mut live)?;
    sockets::raise_file_limit(descriptors(specs.len()))?;
    let storm = plan
        .storm
        .map(|storm| StormFleet::new(plan, storm, &specs))
        .transpose()?;
    let threads = plan.threads.min(specs.len()).max(1);
    let interrupt = watch_interrupt()?;
    let control = Control::new(threads, plan.count).with_updates(Updates::most(plan));
    let updates = Updates::new(plan)?;
    let work = Work {
        scenario: plan.scenario,
        load: plan.load,
        rebind_every: plan.rebind_every,
        storm: plan.storm,
        shared_sockets,
        payload: plan.payload.clone(),
        answer_timeout: plan.answer_timeout,
        coap: coap::Settings::default(),
    };
    let clock = Clock::start();
    let devices = specs.len();
    let mut leader = Leader {
        plan,
        control: &control,
        storm: storm.as_ref().map(|storm| &storm.control),
        updates,
        clock,
        interrupt,
        server,
        live,
        total: Sample::new(),
        storm_total: Sample::new(),
        fresh: Sample::new(),
        interval: Sample::new(),
        course: Course::of(
            plan.storm
                .map_or(plan.duration, |storm| storm.quiet + plan.duration),
        ),
        devices: devices as u64,
        phase_start: clock.instant(),
        last_line: clock.instant(),
        measured_until: clock.instant(),
    };
    let outcome = std::thread::scope(|scope| {
        let mut first_device = 0;
        for (thread, specs) in divide(specs, threads).into_iter().enumerate() {
            let fleet = devices;
            let next = first_device + specs.len();
            let assignment = Assignment {
                work: &work,
                control: &control,
                thread,
                clock,
                target: plan.target.address,
                specs,
                first_device,
                fleet,
                ramp: plan.ramp,
                seed: plan.seed,
            };
            first_device = next;
            let name = format!("load-{thread}");
            let spawned = std::thread::Builder::new()
                .name(name)
                .spawn_scoped(scope, || worker::run(assignment));
            if let Err(error) = spawned {
                control.fail(format!(
                    "a thread cannot be started: {error}; use fewer --threads"
                ));
            }
        }
        if let Some(storm) = &storm {
            storm.spawn(scope, clock, plan, devices);
        }
        let measured = leader.lead();
        // However it went, the threads end here.
        for control in leader.controls() {
            control.enter(Phase::Stop);
        }
        measured
    });
    leader.live.finish();
    let measured = outcome?;
    leader.collect();
    let report = Report {
        plan,
        devices,
        threads,
        total: leader.total,
        storm: storm.is_some().then_some(leader.storm_total),
        calls: leader.updates.map(|updates| updates.calls),
        connecting: measured.connecting,
        measured: measured.measured,
        hearing: measured.hearing,
        server: measured.server,
        server_threads: measured.server_threads,
        own_cpu: measured.own_cpu,
        own_rss_bytes: measured.own_rss_bytes,
    };
    finish(&report, &leader.course.intervals)
}

fn finish(report: &Report<'_>, course: &[Interval]) -> Result<bool, String> {
    // A reader that went away wants no more of it.
    let _ = stdout().write_all(report::table(report).as_bytes());
    if let Some(path) = &report.plan.json {
        write(path, &format!("{:#}\n", report::json(report)))?;
    }
    if let Some(path) = &report.plan.hgrm {
        write(path, &report::hgrm(report.operations()))?;
    }
    if let Some(path) = &report.plan.html {
        write(path, &report::html(report, course))?;
    }
    Ok(report.is_success())
}

/// Whether a file can be there: after the load it would be too late to say.
fn check_directory(path: &Path) -> Result<(), String> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    match directory {
        Some(directory) if !directory.is_dir() => Err(format!(
            "{}: there is no directory {}",
            path.display(),
            directory.display()
        )),
        _ if path.is_dir() => Err(format!("{}: is a directory", path.display())),
        _ => Ok(()),
    }
}

fn write(path: &Path, content: &str) -> Result<(), String> {
    fs::write(path, content).map_err(|error| format!("{}: {error}", path.display()))
}

/// The first interrupt sets the flag, the second ends the process.
fn watch_interrupt() -> Result<Arc<AtomicBool>, String> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&flag))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)))
            .map_err(|error| format!("signals cannot be watched: {error}"))?;
    }
    Ok(flag)
}

/// Parts of the same size, but for one device.
pub(crate) fn divide(mut specs: Vec<DeviceSpec>, threads: usize) -> Vec<Vec<DeviceSpec>> {
    let mut parts: Vec<_> = (0..threads)
        .map(|part| {
            let left = threads - part;
            specs.split_off(specs.len() - specs.len() / left)
        })
        .collect();
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::tests::plan;

    #[test]
    fn threads_get_parts_of_the_same_size_in_order() {
        let plan = plan("--target coap://127.0.0.1 --token T --devices 7").unwrap();
        let specs = fleet::build(&plan, &mut Live::new()).unwrap();
        let sizes: Vec<usize> = divide(specs.clone(), 3).iter().map(Vec::len).collect();
        assert_eq!(sizes.iter().sum::<usize>(), 7);
        assert!(sizes.iter().all(|size| (2..=3).contains(size)), "{sizes:?}");
        assert_eq!(divide(specs, 1)[0].len(), 7);
    }
}
