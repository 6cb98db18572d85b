//! `tidegate check`, and the same settings refused by `serve`.

use super::Place;
use serde_json::Value;

fn with_certificate() -> Place {
    let place = Place::new();
    place.run(&["cert", "self-signed", "--out", "."]).ok();
    place
}

#[test]
fn every_setting_is_printed_with_its_origin() {
    let place = Place::new();
    place.write(
        "tidegate.conf",
        "# a comment\nexport COAP_BIND_PORT=15683\nCOAP_TIMEOUT='4000' # kept\n",
    );
    let out = place
        .run_with(
            &["check", "--conf", "tidegate.conf"],
            &[("COAP_TIMEOUT", "5000"), ("TIDEGATE_LOG_FORMAT", "json")],
        )
        .ok();
    let line = |name: &str| {
        let start = format!("{name}=");
        let found = out.lines().find(|line| line.starts_with(&start));
        found
            .unwrap_or_else(|| panic!("no {name} in\n{out}"))
            .to_owned()
    };
    for (name, value, origin) in [
        ("COAP_BIND_PORT", "15683", "tidegate.conf line 2"),
        ("COAP_TIMEOUT", "5000", "environment"),
        ("TIDEGATE_LOG_FORMAT", "json", "environment"),
        ("TIDEGATE_DATA_DIR", "data", "environment"),
        ("COAP_DTLS_BIND_PORT", "5684", "default"),
        ("COAP_DTLS_KEY_STORE_PASSWORD", "****", "default"),
    ] {
        let found = line(name);
        let value = format!("{name}={value} ");
        assert!(found.starts_with(&value), "{found}");
        assert!(found.contains(&format!("# {origin}")), "{found}");
    }
    let unused = line("TB_TRANSPORT_ACTIVITY_REPORTING_STRATEGY");
    assert!(unused.ends_with("default; no effect in this version"));
    assert!(!out.contains("server_ks_password"));
    let explained = place.run(&["check", "--explain"]).ok();
    let meaning = "# A DTLS session idle for this long is dropped [ms]\n\
                   TB_COAP_X509_DTLS_SESSION_INACTIVITY_TIMEOUT=86400000 ";
    assert!(explained.contains(meaning), "{explained}");
    assert!(!place.path("data").exists(), "check made a data directory");
}

/// What is printed is a file that means the same.
#[test]
fn the_output_can_be_read_back() {
    let place = Place::new();
    let settings = [
        (
            "COAP_DTLS_KEY_ALIAS",
            "it's an \"alias\" $HOME # no comment",
        ),
        ("TIDEGATE_ADMIN_BIND", "[::1]:5680"),
        ("COAP_DTLS_CONNECTION_ID_LENGTH", ""),
        ("TIDEGATE_LOG", "info,tidegate::server=debug"),
    ];
    let effective = |report: &Value| {
        let settings = report["settings"].as_array().unwrap().iter();
        let pairs = settings.map(|found| (found["name"].clone(), found["value"].clone()));
        pairs.collect::<Vec<_>>()
    };
    let printed = place.run_with(&["check"], &settings).ok();
    let before = place.run_with(&["check", "--json"], &settings).json();
    place.write("again.conf", printed);
    let after = place
        .run(&["check", "--json", "--conf", "again.conf"])
        .json();
    assert_eq!(effective(&before), effective(&after));
}

#[test]
fn credentials_are_loaded_as_serve_would() {
    let place = with_certificate();
    let on = ("COAP_DTLS_ENABLED", "true");
    let files = [
        ("COAP_DTLS_PEM_CERT", "server.pem"),
        ("COAP_DTLS_PEM_KEY", "server_key.pem"),
    ];
    let out = place.run_with(&["check"], &[on, files[0], files[1]]).ok();
    assert!(out.contains("# subject       CN=localhost"), "{out}");
    let report = place
        .run_with(&["check", "--json"], &[on, files[0], files[1]])
        .json();
    assert_eq!(report["ok"], true);
    assert_eq!(report["certificate"]["certificates"], 1);

    let err = place.run_with(&["check"], &[on]).refused();
    assert!(
        err.contains("COAP_DTLS_PEM_CERT") && err.contains("coapserver.pem"),
        "{err}"
    );
    // Another certificate's key.
    std::fs::create_dir(place.path("other")).unwrap();
    place.run(&["cert", "self-signed", "--out", "other"]).ok();
    let key = ("COAP_DTLS_PEM_KEY", "other/server_key.pem");
    for command in ["check", "serve"] {
        let err = place.run_with(&[command], &[on, files[0], key]).refused();
        assert!(err.contains("does not belong"), "{command}: {err}");
        assert!(err.contains("other/server_key.pem"), "{command}: {err}");
    }
    // Without DTLS nobody needs them.
    place.run_with(&["check"], &[files[0], key]).ok();
}

#[test]
fn names_in_a_file_are_found_beside_it() {
    let place = Place::new();
    std::fs::create_dir(place.path("conf")).unwrap();
    place.run(&["cert", "self-signed", "--out", "conf"]).ok();
    place.write(
        "conf/thingsboard.conf",
        "...\nexport COAP_DTLS_ENABLED=true\nexport COAP_DTLS_CREDENTIALS_TYPE=PEM\nexport \
         COAP_DTLS_PEM_CERT=server.pem\nexport COAP_DTLS_PEM_KEY=server_key.pem\nexport \
         COAP_DTLS_PEM_KEY_PASSWORD=secret\n...\n",
    );
    let out = place
        .run(&["check", "--conf", "conf/thingsboard.conf"])
        .ok();
    assert!(out.contains("conf/server.pem"), "{out}");
    assert!(!out.contains("secret"), "{out}");
}

#[test]
fn wrong_settings_stop_check_and_serve_alike() {
    let place = Place::new();
    place.write(
        "bad.conf",
        "COAP_BIND_PORT=high\nexport TIDEGATE_SHARDS 4\n",
    );
    let environment = [("COAP_TIMEOUT", "-1")];
    let check = place
        .run_with(&["check", "--conf", "bad.conf"], &environment)
        .refused();
    let serve = place
        .run_with(&["serve", "--conf", "bad.conf"], &environment)
        .refused();
    assert_eq!(check, serve);
    assert_eq!(
        check,
        "error: 3 wrong settings:\n  TIDEGATE_SHARDS (bad.conf line 2): not an assignment; write \
         NAME=value, without spaces\n  COAP_BIND_PORT=high (bad.conf line 1): not a whole number; \
         write a whole number from 0 to 65535\n  COAP_TIMEOUT=-1 (environment): out of range; \
         write a whole number from 1 to 31622400000\n"
    );
    let ended = place.run_with(&["check", "--json", "--conf", "bad.conf"], &environment);
    assert_eq!((ended.code, ended.err.as_str()), (Some(1), ""));
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(report["ok"], false);
    assert_eq!(report["errors"].as_array().unwrap().len(), 3);
    let err = place.run(&["serve", "--conf", "missing.conf"]).refused();
    assert!(
        err.contains("--conf=missing.conf") && err.contains("No such file"),
        "{err}"
    );
}

#[test]
fn unknown_names_are_told_with_the_nearest() {
    let place = Place::new();
    let ended = place.run_with(
        &["check"],
        &[("TIDEGATE_SHARD", "2"), ("COAP_BIND_PROT", "1")],
    );
    let err = ended.err.clone();
    ended.ok();
    assert!(
        err.contains("warning: unknown setting COAP_BIND_PROT"),
        "{err}"
    );
    assert!(err.contains("did you mean COAP_BIND_PORT?"), "{err}");
    assert!(err.contains("did you mean TIDEGATE_SHARDS?"), "{err}");
}

#[test]
fn a_wrong_password_is_named_and_not_shown() {
    let place = Place::new();
    place
        .run(&[
            "cert",
            "self-signed",
            "--out",
            ".",
            "--password",
            "right-one",
        ])
        .ok();
    let settings = |password| {
        [
            ("COAP_DTLS_ENABLED", "true"),
            ("COAP_DTLS_PEM_CERT", "server.pem"),
            ("COAP_DTLS_PEM_KEY", "server_key.pem"),
            ("COAP_DTLS_PEM_KEY_PASSWORD", password),
        ]
    };
    let out = place.run_with(&["check"], &settings("right-one")).ok();
    assert!(!out.contains("right-one"));
    let ended = place.run_with(&["check"], &settings("wrong-one"));
    let (out, err) = (ended.out.clone(), ended.refused());
    assert!(err.contains("wrong password"), "{err}");
    assert!(err.contains("COAP_DTLS_PEM_KEY_PASSWORD"), "{err}");
    assert!(!out.contains("wrong-one") && !err.contains("wrong-one"));
}
