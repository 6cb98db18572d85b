//! What the unit of `packaging/` forbids the service, held against what a server asks of the kernel.

use std::collections::BTreeSet;
use std::process::Command;

use super::support::{Link, Server, tidegate};

/// The system calls of a group of systemd's, those of the groups in it included.
fn group(name: &str) -> BTreeSet<String> {
    let output = Command::new("systemd-analyze")
        .args(["syscall-filter", name])
        .output()
        .expect("systemd-analyze runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let members = text.lines().filter(|line| line.starts_with(' '));
    let names = members.map(str::trim).filter(|name| !name.starts_with('#'));
    names.flat_map(members_of).collect()
}

fn members_of(name: &str) -> BTreeSet<String> {
    match name.starts_with('@') {
        true => group(name),
        false => BTreeSet::from([name.to_owned()]),
    }
}

/// What the lines of the unit let through: the first says what is allowed, `~` takes away, others add
/// (systemd.exec(5)).
fn allowed(unit: &str) -> BTreeSet<String> {
    let mut allowed = group("@default");
    let lines = unit.lines();
    for list in lines.filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (list, is_denied) = match list.strip_prefix('~') {
            Some(list) => (list, true),
            None => (list, false),
        };
        for call in list.split_whitespace().flat_map(members_of) {
            if is_denied {
                allowed.remove(&call);
            } else {
                allowed.insert(call);
            }
        }
    }
    allowed
}

/// Lets the same command run under strace, which is not its parent, so that signals reach the server.
fn traced(command: &mut Command) {
    let directory = command.get_current_dir().expect("a directory").to_owned();
    let log = std::fs::File::create(directory.join("log")).expect("a log file");
    let mut strace = Command::new("strace");
    strace
        .args(["-D", "-f", "-qq", "-o", "trace"])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(&directory)
        .stdout(log.try_clone().expect("a log file"))
        .stderr(log);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    *command = strace;
}

#[test]
fn the_unit_lets_the_server_call_what_it_calls() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let made = tidegate()
        .args(["cert", "self-signed", "--cn", "localhost", "--out"])
        .arg(directory.path())
        .output()
        .expect("tidegate runs");
    assert!(made.status.success());
    let mut server = Server::start_prepared(directory, &[], traced);
    // Some of all that it does: a device, an upload that is synced, the API, a reload, the last flush.
    let files = server.certificate_device("traced");
    let mut link = Link::certificate(&server, &files);
    let telemetry = b"\x40\x02\x00\x01\xb3api\x02v1\x09telemetry\xff{\"k\":1}";
    let answer = link.exchange(telemetry).expect("an answer");
    assert_eq!(answer[1], 0x41, "{answer:?}");
    assert!(server.http("/metrics").is_some());
    let pid = server.pid().to_string();
    let reload = Command::new("kill").args(["-HUP", &pid]).status();
    assert!(reload.expect("kill runs").success());
    server.wait_for_log("credentials reloaded");
    assert!(server.terminate(), "{}", server.log());

    let trace = std::fs::read_to_string(server.path("trace")).expect("a trace");
    let calls = trace.lines().filter_map(|line| {
        let call = line.split_once(' ')?.1.trim_start().split_once('(')?.0;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        call.bytes().all(is_name).then(|| call.to_owned())
    });
    let calls: BTreeSet<String> = calls.collect();
    for call in ["io_uring_setup", "fdatasync", "sched_setaffinity", "bind"] {
        assert!(calls.contains(call), "no {call} in {calls:?}");
    }
    let unit = include_str!("../../packaging/tidegate.service");
    let allowed = allowed(unit);
    assert!(allowed.len() > 200 && !allowed.contains("mount"));
    let refused: Vec<_> = calls.difference(&allowed).collect();
    assert!(refused.is_empty(), "the unit refuses {refused:?}");
}
