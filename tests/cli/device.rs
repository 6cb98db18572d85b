//! `tidegate device`: the same with a running server and without.

use super::support::{Server, text, tidegate};
use super::{Ended, Place};
use serde_json::{Value, json};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

/// Runs commands against a data directory, whoever has it open.
type Run<'a> = &'a dyn Fn(&[&str]) -> Ended;

/// Everything that can be done to devices. `write` puts a file where commands run.
fn life_of_devices(run: Run<'_>, write: &dyn Fn(&str, &str)) {
    let added = run(&["device", "add", "thermometer 1", "--json"]).json();
    let token = added["credentialsId"].as_str().unwrap();
    assert_eq!(token.len(), 20);
    assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    assert_eq!(added["profile"], "default");

    let out = run(&["device", "add", "b", "--token", "TOKEN-B", "--profile", "p"]).ok();
    for line in ["name         b", "profile      p", "token        TOKEN-B"] {
        assert!(out.lines().any(|found| found == line), "{line}\n{out}");
    }
    run(&["cert", "client", "--out", "cert-c", "--cn", "c"]).ok();
    run(&["device", "add", "c", "--x509", "cert-c/client.pem"]).ok();

    let err = run(&["device", "add", "b"]).refused();
    assert!(err.contains("a device named \"b\" exists already"), "{err}");
    let err = run(&["device", "add", "d", "--token", "TOKEN-B"]).refused();
    assert!(
        err.contains("the access token belongs to another device"),
        "{err}"
    );
    assert!(!err.contains("TOKEN-B"), "a token is shown: {err}");
    let err = run(&["device", "add", ""]).refused();
    assert!(err.contains("not usable"), "{err}");
    write(
        "no-cert.pem",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    );
    let err = run(&["device", "add", "d", "--x509", "no-cert.pem"]).refused();
    assert!(err.contains("no certificate in the PEM"), "{err}");
    let err = run(&["device", "add", "d", "--x509", "missing.pem"]).refused();
    assert!(err.contains("--x509 missing.pem: No such file"), "{err}");

    let changed = run(&[
        "device",
        "set-credentials",
        "b",
        "--token",
        "TOKEN-B2",
        "--json",
    ])
    .json();
    assert_eq!(changed["credentialsId"], "TOKEN-B2");
    let random = run(&["device", "set-credentials", "b", "--json"]).json();
    assert_eq!(random["credentialsId"].as_str().unwrap().len(), 20);
    run(&["cert", "client", "--out", "cert-b", "--cn", "b"]).ok();
    let x509 = [
        "device",
        "set-credentials",
        "b",
        "--x509",
        "cert-b/client.pem",
    ];
    assert!(run(&x509).ok().contains("X509_CERTIFICATE"));
    let err = run(&[
        "device",
        "set-credentials",
        "b",
        "--x509",
        "cert-c/client.pem",
    ])
    .refused();
    assert!(err.contains("belongs to device \"c\" already"), "{err}");
    let err = run(&["device", "set-credentials", "nobody"]).refused();
    assert!(err.contains("no device named"), "{err}");
    run(&["device", "set-credentials", "b", "--token", "TOKEN-B"]).ok();

    let list = run(&["device", "list", "--json"]).json();
    let names: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|d| &d["name"])
        .collect();
    assert_eq!(names, ["b", "c", "thermometer 1"]);
    assert!(
        list[0].get("credentialsId").is_none(),
        "lists show no credentials"
    );
    let table = run(&["device", "list"]).ok();
    // Who is active is known to a server only.
    let headings = table.lines().next().expect("headings");
    let headings = headings.replace("STATE     ", "");
    let expected = "NAME           PROFILE  CREDENTIALS       ADDED";
    assert_eq!(headings, expected, "{table}");
    assert_eq!(table.lines().count(), 4);
    assert!(!table.contains("TOKEN-B"));

    let shown = run(&["device", "show", "b", "--json"]).json();
    assert_eq!(shown["credentialsId"], "TOKEN-B");
    assert!(
        run(&["device", "show", "none"])
            .refused()
            .contains("no device named \"none\"")
    );

    assert_eq!(run(&["device", "remove", "b"]).ok(), "removed b\n");
    assert!(
        run(&["device", "remove", "b"])
            .refused()
            .contains("no device named \"b\"")
    );
    pre_shared_keys(run);
    // Name and token are free again.
    run(&["device", "add", "b", "--token", "TOKEN-B"]).ok();
    import(run, write);
}

/// A key is shown once, when it was made here, and never again.
fn pre_shared_keys(run: Run<'_>) {
    const KEY: &str = "8f0e1d2c3b4a59687766554433221100";
    let made = run(&[
        "device",
        "add",
        "p1",
        "--psk-identity",
        "Zähler 1",
        "--json",
    ])
    .json();
    assert_eq!(made["credentialsType"], "PRE_SHARED_KEY");
    assert_eq!(made["credentialsId"], "Zähler 1");
    let key = made["psk"].as_str().unwrap();
    assert_eq!(key.len(), 64);
    let out = run(&["device", "add", "p2", "--psk-identity", "p2"]).ok();
    assert!(out.contains("\nkey          "), "{out}");
    let given = run(&["device", "add", "p3", "--psk-identity", "p3", "--psk", KEY]).ok();
    assert!(given.contains("identity     p3"), "{given}");
    for (device, key) in [("p1", key), ("p3", KEY)] {
        for arguments in [
            vec!["device", "show", device],
            vec!["device", "show", device, "--json"],
            vec!["device", "list", "--json"],
        ] {
            let shown = run(&arguments).ok();
            assert!(!shown.contains(key) && !given.contains(KEY), "{shown}");
        }
    }
    let table = run(&["device", "list"]).ok();
    assert!(table.contains("PRE_SHARED_KEY"), "{table}");
    for (arguments, reason) in [
        (&["--psk-identity", "p3"][..], "belongs to device \"p3\""),
        (&["--psk-identity", "x", "--psk", "0011"], "shorter than 16"),
        (&["--psk-identity", "x", "--psk", "key"], "hexadecimal"),
        (&["--psk-identity", ""], "it is empty"),
    ] {
        let command = [&["device", "add", "p4"][..], arguments].concat();
        let err = run(&command).refused();
        assert!(err.contains(reason), "{err}");
    }
    for name in ["p1", "p2", "p3"] {
        run(&["device", "remove", name]).ok();
    }
}

fn import(run: Run<'_>, write: &dyn Fn(&str, &str)) {
    run(&["cert", "client", "--out", "cert-f", "--cn", "f"]).ok();
    write(
        "fleet.csv",
        "name,token\nimported-1,IMPORT1\nimported-2,cert-f/client.pem\n\nimported-1,AGAIN\n\
         imported-3,missing.pem\nimported-4\n# comment\n\"imported, 5\",IMPORT5\nx,y,z\n",
    );
    let ended = run(&["device", "import", "fleet.csv"]);
    assert_eq!(ended.out, "4 added, 3 refused\n", "{}", ended.err);
    let err = ended.refused();
    let numbers: Vec<_> = err
        .lines()
        .filter_map(|line| line.split(':').next())
        .collect();
    assert_eq!(numbers.len(), 3, "{err}");
    for number in ["line 5", "line 6", "line 10"] {
        assert!(numbers.contains(&number), "{number} is missing in {err}");
    }
    let report = run(&["device", "import", "fleet.csv", "--json"]);
    let report: Value = serde_json::from_str(&report.out).unwrap();
    assert_eq!(report["added"], 0);
    let lines: Vec<_> = report["refused"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["line"])
        .collect();
    assert_eq!(json!(lines), json!([2, 3, 5, 6, 7, 9, 10]));
    let shown = run(&["device", "show", "imported-2", "--json"]).json();
    assert_eq!(shown["credentialsType"], "X509_CERTIFICATE");
    let shown = run(&["device", "show", "imported, 5", "--json"]).json();
    assert_eq!(shown["credentialsId"], "IMPORT5");
    assert!(
        run(&["device", "import", "missing.csv"])
            .refused()
            .contains("missing.csv")
    );
    assert!(
        run(&["device", "import", "."])
            .refused()
            .contains("it is a directory")
    );
}

#[test]
fn devices_without_a_server() {
    let place = Place::new();
    let err = place.run(&["device", "list"]).refused();
    assert!(err.contains("there is no data directory data"), "{err}");
    assert!(
        !place.path("data").exists(),
        "looking made a data directory"
    );
    life_of_devices(&|arguments| place.run(arguments), &|name, content| {
        place.write(name, content);
    });
    let mode = std::fs::metadata(place.path("data"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn devices_of_a_running_server() {
    let server = Server::start(&[]);
    let run = |arguments: &[&str]| Ended::new(arguments, &server.tidegate(arguments));
    life_of_devices(&run, &|name, content| {
        std::fs::write(server.path(name), content).unwrap();
    });
}

/// What was done through the server is there without it, and the other way round.
#[test]
fn both_ways_lead_to_the_same_devices() {
    let mut server = Server::start(&[]);
    server.tidegate_ok(&["device", "add", "through-server"]);
    assert!(server.terminate());
    let list = server.tidegate_ok(&["device", "list"]);
    assert!(list.contains("through-server"), "{list}");
    server.tidegate_ok(&["device", "add", "direct"]);
    server.spawn();
    // A killed server leaves its socket behind.
    server.kill();
    assert!(server.path("data/admin.sock").exists());
    let list = server.tidegate_ok(&["device", "list"]);
    assert!(
        list.contains("through-server") && list.contains("direct"),
        "{list}"
    );
    server.spawn();
    let list = server.tidegate_ok(&["device", "list"]);
    assert!(list.contains("direct"), "{list}");
}

#[test]
fn the_data_directory_can_come_from_a_file() {
    let place = Place::new();
    let elsewhere = place.path("elsewhere").display().to_string();
    place.write(
        "tidegate.conf",
        format!("export TIDEGATE_DATA_DIR={elsewhere}\n"),
    );
    let run = |arguments: &[&str]| {
        let mut command = tidegate();
        let output = command
            .args(arguments)
            .current_dir(&place)
            .output()
            .unwrap();
        Ended::new(arguments, &output)
    };
    run(&["device", "add", "a", "--conf", "tidegate.conf"]).ok();
    assert!(
        run(&["device", "--conf", "tidegate.conf", "list"])
            .ok()
            .contains("a ")
    );
    assert!(place.path("elsewhere").exists() && !place.path("tidegate-data").exists());
}

#[test]
fn a_fleet_comes_from_standard_input() {
    let place = Place::new();
    let mut child = tidegate()
        .args(["device", "import", "-"])
        .env("TIDEGATE_DATA_DIR", "data")
        .current_dir(&place)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    for number in 0..2500 {
        writeln!(input, "device-{number:04},token-{number}").unwrap();
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output.stdout), "2500 added, 0 refused\n");
    // More than one page, each device once.
    let list = place.run(&["device", "list", "--json"]).json();
    let names: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d["name"].as_str())
        .collect();
    assert_eq!(names.len(), 2500);
    assert!(names.is_sorted());
    assert_eq!(place.run(&["device", "list"]).ok().lines().count(), 2501);
}

/// A name can hold what a terminal would act on; the list must not.
#[test]
fn names_cannot_steer_the_terminal() {
    let place = Place::new();
    let ended = place.run(&["device", "add", "a\u{1b}[2J"]);
    let out = ended.out.clone() + &ended.err;
    assert!(!out.contains('\u{1b}'), "{out:?}");
    let err = place.run(&["device", "show", "a\u{1b}[2J"]).err;
    assert!(!err.contains('\u{1b}'), "{err:?}");
}
