//! Help, versions, exit codes, closed outputs.

use super::Place;
use super::support::tidegate;
use std::process::Stdio;

const COMMANDS: &[&[&str]] = &[
    &["serve"],
    &["check"],
    &["device"],
    &["device", "add"],
    &["device", "list"],
    &["device", "show"],
    &["device", "set-credentials"],
    &["device", "set"],
    &["device", "remove"],
    &["device", "import"],
    &["data"],
    &["data", "latest"],
    &["data", "history"],
    &["data", "export"],
    &["data", "delete"],
    &["attr"],
    &["attr", "get"],
    &["attr", "set"],
    &["attr", "set-profile"],
    &["attr", "delete"],
    &["rpc"],
    &["rpc", "send"],
    &["rpc", "list"],
    &["rpc", "show"],
    &["rpc", "delete"],
    &["session"],
    &["session", "list"],
    &["session", "close"],
    &["profile"],
    &["profile", "add"],
    &["profile", "list"],
    &["profile", "show"],
    &["profile", "set"],
    &["profile", "remove"],
    &["ota"],
    &["ota", "add"],
    &["ota", "list"],
    &["ota", "assign"],
    &["ota", "unassign"],
    &["ota", "remove"],
    &["claim"],
    &["claim", "show"],
    &["claim", "accept"],
    &["claim", "release"],
    &["cert"],
    &["cert", "self-signed"],
    &["cert", "client"],
    &["cert", "inspect"],
    &["doctor"],
    &["completion"],
    &["man"],
];

#[test]
fn every_command_explains_itself() {
    let place = Place::new();
    let help = place.run(&["--help"]).ok();
    for command in [
        "serve",
        "check",
        "device",
        "data",
        "attr",
        "rpc",
        "session",
        "profile",
        "ota",
        "claim",
        "completion",
        "man",
        "cert",
        "doctor",
        "Examples:",
        "Exit codes",
    ] {
        assert!(help.contains(command), "{command} is missing in\n{help}");
    }
    for command in COMMANDS {
        let help = place.run(&[command, &["--help"][..]].concat()).ok();
        assert!(help.contains("Usage: tidegate"), "{help}");
        assert!(
            help.contains("Example"),
            "{command:?} has no example\n{help}"
        );
    }
    let version = place.run(&["--version"]).ok();
    assert_eq!(version, format!("tidegate {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_ends_with_two() {
    let place = Place::new();
    for arguments in [
        &[][..],
        &["bogus"],
        &["serve", "now"],
        &["device"],
        &["device", "add"],
        &["device", "add", "a", "--token", "t", "--x509", "c.pem"],
        &["data", "history", "a"],
        &["data", "history", "a", "k", "--limit", "0"],
        &["data", "history", "a", "k", "--from", "yesterday"],
        &["cert", "client", "--out", "."],
        &["attr", "set", "a"],
        &["attr", "set", "a", "b"],
        &["attr", "set", "a", "b=null"],
        &["attr", "delete", "a"],
        &["attr", "get", "a", "--scope", "mine"],
        &["session", "close"],
        &["session", "list", "--limit", "0"],
        &[
            "device",
            "set-credentials",
            "a",
            "--token",
            "t",
            "--x509",
            "c.pem",
        ],
        &["completion"],
        &["cert", "self-signed", "--out", ".", "--days", "soon"],
    ] {
        let ended = place.run(arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.err);
        assert!(ended.out.is_empty(), "{arguments:?} printed {}", ended.out);
        assert!(!ended.err.is_empty());
    }
    assert!(
        !place.path("data").exists(),
        "wrong usage left something behind"
    );
}

/// `tidegate ... | head` closes our output while we write.
#[test]
fn a_reader_that_leaves_is_no_failure() {
    let place = Place::new();
    let many: String = (0..3000)
        .map(|n| format!("device-{n},token-{n}\n"))
        .collect();
    place.write("fleet.csv", many);
    place.run(&["device", "import", "fleet.csv"]).ok();
    for arguments in [
        &["device", "list"][..],
        &["device", "list", "--json"],
        &["check"],
    ] {
        let mut child = tidegate()
            .args(arguments)
            .env("TIDEGATE_DATA_DIR", "data")
            .current_dir(&place)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {err}");
        assert!(err.is_empty(), "{arguments:?}: {err}");
    }
}

#[test]
fn a_full_disk_below_the_output_is_a_failure() {
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = tidegate().arg("check").stdout(full).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("the output cannot be written"), "{err}");
}
