use super::*;

/// A plan for tests: token devices on plain CoAP, closed loop.
pub(crate) fn example() -> Plan {
    plan("--target coap://127.0.0.1 --token T").unwrap()
}

pub(crate) fn plan(arguments: &str) -> Result<Plan, String> {
    let words = std::iter::once("tidegate-loadgen").chain(arguments.split(' '));
    Arguments::try_parse_from(words)
        .and_then(Plan::from_arguments)
        .map_err(|error| {
            assert_eq!(error.exit_code(), 2);
            error.to_string()
        })
}

#[test]
fn the_documented_command_is_understood() {
    let plan = plan(
        "--target coaps://127.0.0.1:5684 --scenario telemetry --devices 1000 --auth x509 \
         --closed --duration 20s",
    )
    .unwrap();
    assert_eq!(plan.devices, Some(1000));
    assert_eq!(plan.load, Load::Closed);
    assert_eq!(plan.duration, Duration::from_secs(20));
    assert_eq!(plan.path, "/api/v1/telemetry");
    assert_eq!(
        plan.credentials,
        CredentialSource::Admin(ADMIN_DEFAULT.into())
    );
    assert_eq!(plan.method, code::POST);
    assert_eq!(plan.max_errors, 0);
}

#[test]
fn the_path_and_the_payload_have_their_defaults_and_their_order() {
    let token = plan("--target coap://127.0.0.1 --token T").unwrap();
    assert_eq!(token.path, "/api/v1/{token}/telemetry");
    assert_eq!(token.target.address.port(), 5683);
    assert!(serde_json::from_slice::<serde_json::Value>(&token.payload).is_ok());
    let path = plan("--target coap://127.0.0.1/a/b?c --auth none --method get").unwrap();
    assert_eq!((path.path.as_str(), path.payload.len()), ("/a/b?c", 0));
    let path = plan("--target coap://127.0.0.1/a --path /x --auth none").unwrap();
    assert_eq!(path.path, "/x");
    for length in [8, 9, 40, 1024] {
        let sized = plan(&format!(
            "--target coap://[::1] --token T --payload-bytes {length}"
        ));
        let payload = sized.unwrap().payload;
        assert_eq!(payload.len(), length);
        assert!(serde_json::from_slice::<serde_json::Value>(&payload).is_ok());
    }
}

#[test]
fn combinations_that_make_no_sense_are_refused_with_the_reason() {
    for (arguments, reason) in [
        ("--target coap://127.0.0.1 --scenario handshake", "coaps://"),
        ("--target coap://127.0.0.1 --scenario resume", "coaps://"),
        (
            "--target coaps://127.0.0.1 --token T --resume-by id",
            "--scenario resume",
        ),
        ("--target coap://127.0.0.1 --auth x509", "coaps://"),
        ("--target coaps://127.0.0.1 --auth none", "--path"),
        (
            "--target coaps://127.0.0.1 --auth x509 --token T",
            "--auth token",
        ),
        ("--target coaps://127.0.0.1 --rate 5 --closed", "--closed"),
        (
            "--target coaps://127.0.0.1 --rate 5 --in-flight 3",
            "--in-flight",
        ),
        (
            "--target coaps://127.0.0.1 --scenario storm --in-flight 3",
            "--in-flight",
        ),
        ("--target coaps://127.0.0.1 --rate 0", "above 0"),
        ("--target coaps://127.0.0.1 --duration 5y", "500ms"),
        (
            "--target coaps://127.0.0.1 --suite TLS_NULL",
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        ),
        ("--target coaps://192.0.2.1 --auth x509", "--admin"),
        ("--target http://127.0.0.1", "coaps://"),
        (
            "--target coaps://127.0.0.1 --scenario calm",
            "possible values",
        ),
        ("--target coap://127.0.0.1 --scenario storm", "coaps://"),
        (
            "--target coaps://127.0.0.1 --scenario storm --closed",
            "--closed",
        ),
        (
            "--target coaps://127.0.0.1 --scenario storm --quiet 0",
            "--quiet",
        ),
        (
            "--target coaps://127.0.0.1 --storm-spoofed 5",
            "--scenario storm",
        ),
        ("--target coap://127.0.0.1 --scenario observe", "coaps://"),
        (
            "--target coaps://127.0.0.1 --update-every 1s",
            "--scenario observe",
        ),
        (
            "--target coaps://127.0.0.1 --scenario observe --rate 5",
            "--update-every",
        ),
        (
            "--target coaps://127.0.0.1 --scenario observe --update-every 1ms",
            "10ms",
        ),
        (
            "--target coaps://127.0.0.1 --scenario observe --payload {}",
            "no payload",
        ),
        (
            "--target coaps://127.0.0.1 --scenario observe --token T",
            "--admin",
        ),
        ("--target coap://127.0.0.1 --token T --cid 4", "coaps://"),
        (
            "--target coap://127.0.0.1 --token T --verify-one-in 4",
            "coaps://",
        ),
        (
            "--target coaps://127.0.0.1 --auth psk --verify-one-in 4",
            "sign nothing",
        ),
        (
            "--target coaps://127.0.0.1 --token T --verify-one-in 0",
            "zero",
        ),
        ("--target coaps://127.0.0.1 --cid 256", "0..=255"),
        (
            "--target coaps://127.0.0.1 --rebind-every 1s",
            "--scenario rebind",
        ),
        (
            "--target coaps://127.0.0.1 --token T --scenario rebind --sockets shared",
            "--sockets each",
        ),
        (
            "--target coaps://192.0.2.1 --token T --sockets shared",
            "127.0.0.0/8",
        ),
        (
            "--target coaps://127.0.0.1 --token T --json a --html ./a",
            "--json and --html",
        ),
        (
            "--target coaps://127.0.0.1 --token T --hgrm /dev/../dev/x --html /dev/x",
            "--hgrm and --html",
        ),
        ("--target coaps://127.0.0.1 --payload-bytes 7", "from 8"),
        ("--target coaps://127.0.0.1 --devices 0", "from 1"),
        ("--target coaps://127.0.0.1 --admin ftp://x", "http://"),
        ("--devices 1", "--target"),
    ] {
        let message = plan(arguments).expect_err(arguments);
        assert!(message.contains(reason), "{arguments}: {message}");
    }
}

#[test]
fn credentials_are_registered_only_where_the_server_must_know_them() {
    for (arguments, source) in [
        (
            "--auth token",
            CredentialSource::Admin(ADMIN_DEFAULT.into()),
        ),
        ("--auth x509", CredentialSource::Admin(ADMIN_DEFAULT.into())),
        ("--auth x509 --admin none", CredentialSource::Unregistered),
        (
            "--auth x509 --admin http://h:1",
            CredentialSource::Admin("http://h:1".into()),
        ),
        ("--path /time", CredentialSource::Nothing),
        (
            "--path /a/{token}",
            CredentialSource::Admin(ADMIN_DEFAULT.into()),
        ),
        (
            "--auth x509 --scenario handshake",
            CredentialSource::Unregistered,
        ),
        ("--scenario handshake", CredentialSource::Nothing),
        // A key is only worth something where the server knows it.
        (
            "--auth psk --scenario handshake",
            CredentialSource::Admin(ADMIN_DEFAULT.into()),
        ),
        ("--token T", CredentialSource::Token("T".into())),
    ] {
        let plan = plan(&format!("--target coaps://127.0.0.1 {arguments}")).unwrap();
        assert_eq!(plan.credentials, source, "{arguments}");
    }
    assert!(plan("--target coaps://127.0.0.1 --admin none").is_err());
}

#[test]
fn durations_have_units() {
    for (text, milliseconds) in [
        ("500ms", 500),
        ("30s", 30_000),
        ("2", 2000),
        ("1.5m", 90_000),
        ("1h", 3_600_000),
    ] {
        assert_eq!(
            parse_duration(text),
            Ok(Duration::from_millis(milliseconds))
        );
    }
    for text in ["", "s", "-1s", "1d", "nans", "1e9h"] {
        assert!(parse_duration(text).is_err(), "{text}");
    }
}

#[test]
fn a_storm_has_the_parameters_that_a_server_is_judged_by() {
    let plan = plan("--target coaps://127.0.0.1 --scenario storm").unwrap();
    assert_eq!(plan.devices, Some(2000));
    assert_eq!(plan.load, Load::Open { rate: 2000.0 });
    let storm = Storm {
        quiet: Duration::from_secs(10),
        devices: 2000,
        hellos_per_s: 20_000.0,
    };
    assert_eq!(plan.storm, Some(storm));
    assert_eq!(example().storm, None);
}

#[test]
fn observers_read_their_attributes_and_are_told_at_a_pace() {
    let default = plan("--target coaps://127.0.0.1 --scenario observe").unwrap();
    assert_eq!((default.method, default.payload.len()), (code::GET, 0));
    assert_eq!(default.path, "/api/v1/{token}/attributes");
    assert_eq!(default.update_every, Some(UPDATE_DEFAULT));
    let own = "--target coaps://127.0.0.1 --scenario observe --auth x509 --update-every 500ms";
    let own = plan(own).unwrap();
    assert_eq!(own.path, "/api/v1/attributes");
    assert_eq!(own.update_every, Some(Duration::from_millis(500)));
    assert_eq!(
        own.credentials,
        CredentialSource::Admin(ADMIN_DEFAULT.into())
    );
    assert_eq!(example().update_every, None);
}

#[test]
fn rebinding_needs_connection_ids_and_takes_the_server_s_by_default() {
    let default = plan("--target coaps://127.0.0.1 --scenario rebind").unwrap();
    assert_eq!(default.cid, Some(0));
    assert_eq!(default.rebind_every, Some(Duration::from_secs(1)));
    let own = "--target coaps://127.0.0.1 --scenario rebind --cid 8 --rebind-every 200ms";
    let own = plan(own).unwrap();
    assert_eq!(own.cid, Some(8));
    assert_eq!(own.rebind_every, Some(Duration::from_millis(200)));
    assert_eq!((example().cid, example().rebind_every), (None, None));
}

#[test]
fn outputs_in_files_of_their_own_and_sockets_of_either_kind_are_taken() {
    let files = "--target coaps://127.0.0.1 --token T --json a --html b --hgrm c";
    assert!(plan(files).is_ok());
    for (sockets, shared) in [
        ("", true),
        (" --sockets shared", true),
        (" --sockets each", false),
    ] {
        let plan = plan(&format!("--target coaps://127.0.0.1 --token T{sockets}")).unwrap();
        assert_eq!(plan.shared_sockets, shared, "{sockets}");
    }
}

/// Whoever adds an option that changes results adds it to the results, too.
#[test]
fn every_option_is_in_the_results_or_changes_none() {
    let members = [
        ("token", "credentials"),
        ("devices_file", "credentials"),
        ("admin", "credentials"),
        ("timeout", "timeout_s"),
        ("duration", "duration_s"),
        ("ramp", "ramp_s"),
        ("rebind_every", "rebind_every_s"),
        ("update_every", "update_every_s"),
        ("quiet", "quiet_s"),
    ];
    // Where the results go, what is measured beside them, and what opens the admin interface.
    let without = [
        "json",
        "hgrm",
        "html",
        "server_pid",
        "admin_token_file",
        "help",
        "version",
    ];
    let common =
        "--target coaps://127.0.0.1 --token T --suite TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
    let observe = "--target coaps://127.0.0.1 --scenario observe";
    let mut known = std::collections::BTreeSet::new();
    for arguments in [
        format!("{common} --rate 5 --scenario rebind"),
        format!("{common} --in-flight 5 --count 7"),
        format!("{common} --scenario resume --verify-one-in 4"),
        format!("{common} --scenario storm"),
        observe.to_owned(),
    ] {
        let plan = plan(&arguments).unwrap();
        let report = crate::report::tests::example(&plan);
        let json = crate::report::json(&report);
        known.extend(json["config"].as_object().unwrap().keys().cloned());
    }
    for argument in Arguments::command().get_arguments() {
        let id = argument.get_id().as_str();
        let member = members.iter().find(|(option, _)| *option == id);
        let member = member.map_or(id, |(_, member)| member);
        assert!(
            known.contains(member) != without.contains(&id),
            "--{id} in {known:?}"
        );
    }
}
