use super::table::{SETTINGS, Setting};
use super::*;
use crate::credentials::CredentialsType;
use std::collections::BTreeSet;
use std::io::Write as _;

/// ThingsBoard's names and defaults (its manual, and its `thingsboard.yml`), typed in anew here so
/// that a slip in the table shows.
const THINGSBOARD: &[(&str, &str)] = &[
    ("TB_TRANSPORT_API_ENABLED", "true"),
    ("COAP_ENABLED", "true"),
    ("COAP_SERVER_ENABLED", "true"),
    ("COAP_BIND_ADDRESS", "0.0.0.0"),
    ("COAP_BIND_PORT", "5683"),
    ("COAP_TIMEOUT", "10000"),
    ("COAP_PIGGYBACK_TIMEOUT", "500"),
    ("COAP_PSM_ACTIVITY_TIMER", "10000"),
    ("COAP_PAGING_TRANSMISSION_WINDOW", "10000"),
    ("COAP_DTLS_ENABLED", "false"),
    ("COAP_DTLS_BIND_ADDRESS", "0.0.0.0"),
    ("COAP_DTLS_BIND_PORT", "5684"),
    ("COAP_DTLS_RETRANSMISSION_TIMEOUT_MS", "9000"),
    ("COAP_DTLS_CONNECTION_ID_LENGTH", "8"),
    ("COAP_DTLS_MAX_TRANSMISSION_UNIT", "1024"),
    ("COAP_DTLS_MAX_FRAGMENT_LENGTH", "1024"),
    ("COAP_DTLS_CREDENTIALS_TYPE", "PEM"),
    ("COAP_DTLS_PEM_CERT", "coapserver.pem"),
    ("COAP_DTLS_PEM_KEY", "coapserver_key.pem"),
    ("COAP_DTLS_PEM_KEY_PASSWORD", "server_key_password"),
    ("COAP_DTLS_KEY_STORE_TYPE", "JKS"),
    ("COAP_DTLS_KEY_STORE", "coapserver.jks"),
    ("COAP_DTLS_KEY_STORE_PASSWORD", "server_ks_password"),
    ("COAP_DTLS_KEY_ALIAS", "serveralias"),
    ("COAP_DTLS_KEY_PASSWORD", "server_key_password"),
    (
        "TB_COAP_X509_DTLS_SKIP_VALIDITY_CHECK_FOR_CLIENT_CERT",
        "false",
    ),
    ("TB_COAP_X509_DTLS_SESSION_INACTIVITY_TIMEOUT", "86400000"),
    ("TB_COAP_X509_DTLS_SESSION_REPORT_TIMEOUT", "1800000"),
    ("TB_TRANSPORT_SSL_CERTIFICATE_RELOAD_ENABLED", "true"),
    (
        "TB_TRANSPORT_SSL_CERTIFICATE_RELOAD_CHECK_INTERVAL_SECONDS",
        "60",
    ),
    ("TB_TRANSPORT_SESSIONS_INACTIVITY_TIMEOUT", "600000"),
    ("TB_TRANSPORT_SESSIONS_REPORT_TIMEOUT", "3000"),
    ("JSON_TYPE_CAST_ENABLED", "true"),
    ("JSON_MAX_STRING_VALUE_LENGTH", "0"),
    ("SECURITY_CLAIM_ALLOW_CLAIMING_BY_DEFAULT", "true"),
    ("SECURITY_CLAIM_DURATION", "86400000"),
    ("CLIENT_SIDE_RPC_TIMEOUT", "60000"),
    ("TB_TRANSPORT_ACTIVITY_REPORTING_STRATEGY", "LAST"),
    ("DEFAULT_INACTIVITY_TIMEOUT", "600"),
    ("MIN_SERVER_SIDE_RPC_TIMEOUT", "5000"),
    ("DEFAULT_SERVER_SIDE_RPC_TIMEOUT", "10000"),
    ("ACTORS_RPC_MAX_RETRIES", "5"),
    ("ACTORS_RPC_SUBMIT_STRATEGY_TYPE", "BURST"),
    ("ACTORS_RPC_RESPONSE_TIMEOUT_MS", "30000"),
    ("ACTORS_RPC_CLOSE_SESSION_ON_RPC_DELIVERY_TIMEOUT", "false"),
];

/// The snippet of ThingsBoard's manual on CoAP over DTLS, as printed.
const MANUAL: &str = "\
...
export COAP_DTLS_ENABLED=true
export COAP_DTLS_CREDENTIALS_TYPE=PEM
export COAP_DTLS_PEM_CERT=server.pem
export COAP_DTLS_PEM_KEY=server_key.pem
export COAP_DTLS_PEM_KEY_PASSWORD=secret
...
";

fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    pairs.iter().map(owned).collect()
}

fn load(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::load(&Sources {
        environment: environment(pairs),
        ..Sources::default()
    })
}

fn conf_file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn load_file(text: &str, pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let file = conf_file(text);
    Config::load(&Sources {
        environment: environment(pairs),
        file: Some(file.path().to_owned()),
        dev: false,
    })
}

fn effective<'a>(config: &'a Config, name: &str) -> &'a EffectiveSetting {
    let mut settings = config.effective().iter();
    settings.find(|setting| setting.name == name).unwrap()
}

/// The only problem of loading with one setting wrong, as text.
fn problem(name: &str, value: &str) -> String {
    let error = load(&[(name, value)]).unwrap_err();
    assert_eq!(error.problems.len(), 1, "{error}");
    error.to_string()
}

#[test]
fn all_of_thingsboards_names_have_its_defaults() {
    for (name, default) in THINGSBOARD {
        let setting = Setting::find(name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(setting.default, *default, "{name}");
    }
    let ours = |setting: &&Setting| setting.name.starts_with("TIDEGATE_");
    assert_eq!(
        SETTINGS.len() - SETTINGS.iter().filter(ours).count(),
        THINGSBOARD.len(),
        "a setting of ThingsBoard's is in the table and not in this list"
    );
}

#[test]
fn the_table_is_consistent() {
    let names: BTreeSet<_> = SETTINGS.iter().map(|setting| setting.name).collect();
    assert_eq!(names.len(), SETTINGS.len(), "a name occurs twice");
    for setting in SETTINGS {
        assert!(!setting.meaning.is_empty(), "{}", setting.name);
        assert!(
            setting.kind.parse(setting.default).is_ok(),
            "{}",
            setting.name
        );
    }
    // The reference prints each group once.
    let mut groups: Vec<_> = SETTINGS.iter().map(|setting| setting.group).collect();
    groups.dedup();
    let distinct: BTreeSet<_> = groups.iter().map(|group| group.title()).collect();
    assert_eq!(groups.len(), distinct.len(), "a group is split");
}

#[test]
fn defaults_become_fields() {
    let config = load(&[]).unwrap();
    assert_eq!(config.dtls.credentials, CredentialSettings::default());
    assert!(config.coap.enabled);
    assert_eq!(config.coap.bind, "0.0.0.0:5683".parse().unwrap());
    assert_eq!(config.downlink.client_call_timeout, Duration::from_secs(10));
    assert_eq!(config.coap.piggyback_timeout, Duration::from_millis(500));
    assert!(!config.dtls.enabled);
    assert_eq!(config.dtls.bind, "0.0.0.0:5684".parse().unwrap());
    assert_eq!(config.dtls.retransmission_timeout, Duration::from_secs(9));
    assert_eq!(config.dtls.connection_id_length, Some(8));
    assert_eq!(config.dtls.max_transmission_unit, Some(1024));
    assert_eq!(config.dtls.max_fragment_length, Some(1024));
    assert_eq!(config.dtls.cipher_suites, CipherSuite::ALL);
    assert!(!config.x509.skip_validity_check);
    let day = Duration::from_secs(86_400);
    assert_eq!(config.x509.session_inactivity_timeout, day);
    assert_eq!(config.x509.session_report_timeout, day / 48);
    assert!(config.json.type_cast);
    assert_eq!(config.json.max_string_value_length, None);
    assert!(config.reload.enabled);
    assert_eq!(config.reload.check_interval, Duration::from_secs(60));
    let own = &config.tidegate;
    assert_eq!(own.data_dir, Path::new("./tidegate-data"));
    let cpus = std::thread::available_parallelism().unwrap().get();
    assert_eq!(usize::from(own.shards), cpus.min(256));
    assert_eq!(own.auth_threads, (own.shards / 2).max(1));
    assert_eq!(own.admin_bind, Some("127.0.0.1:5680".parse().unwrap()));
    assert_eq!(
        (own.log.as_str(), own.log_format),
        ("info", LogFormat::Text)
    );
    assert_eq!(own.node_id, 0);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert_eq!(config.effective().len(), SETTINGS.len());
    assert!(
        config
            .effective()
            .iter()
            .all(|setting| setting.origin == Origin::Default)
    );
}

#[test]
fn the_manuals_snippet_works_unchanged() {
    let config = load_file(MANUAL, &[]).unwrap();
    assert!(config.dtls.enabled);
    let credentials = &config.dtls.credentials;
    assert_eq!(credentials.credentials_type, CredentialsType::Pem);
    assert_eq!(credentials.pem_cert, "server.pem");
    assert_eq!(credentials.pem_key, "server_key.pem");
    assert_eq!(credentials.pem_key_password, "secret".into());
    assert_eq!(credentials.search_path, [std::env::temp_dir()]);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let password = effective(&config, "COAP_DTLS_PEM_KEY_PASSWORD");
    assert_eq!(password.value, "****");
    assert!(password.origin.to_string().ends_with(" line 6"));
}

#[test]
fn environment_beats_file_beats_default() {
    let text = "COAP_BIND_PORT=1111\nexport COAP_TIMEOUT=2222\nCOAP_TIMEOUT=3333\n";
    let config = load_file(text, &[("COAP_BIND_PORT", "4444")]).unwrap();
    assert_eq!(config.coap.bind.port(), 4444);
    assert_eq!(
        config.downlink.client_call_timeout,
        Duration::from_millis(3333)
    );
    let origin = |name| effective(&config, name).origin.clone();
    assert_eq!(origin("COAP_BIND_PORT"), Origin::Environment);
    assert!(matches!(
        origin("COAP_TIMEOUT"),
        Origin::File { line: 3, .. }
    ));
    assert_eq!(origin("COAP_DTLS_BIND_PORT"), Origin::Default);
}

#[test]
fn an_empty_value_of_the_environment_still_beats_the_file() {
    let text = "COAP_DTLS_CONNECTION_ID_LENGTH=4\nTIDEGATE_ADMIN_BIND=[::1]:80\n";
    let empty = [
        ("COAP_DTLS_CONNECTION_ID_LENGTH", ""),
        ("TIDEGATE_ADMIN_BIND", " "),
        ("COAP_DTLS_KEY_ALIAS", ""),
    ];
    let config = load_file(text, &empty).unwrap();
    assert_eq!(config.dtls.connection_id_length, None);
    assert_eq!(config.tidegate.admin_bind, None);
    assert_eq!(config.dtls.credentials.key_alias, "");
    let config = load_file(text, &[]).unwrap();
    assert_eq!(config.dtls.connection_id_length, Some(4));
    assert_eq!(
        config.tidegate.admin_bind,
        Some("[::1]:80".parse().unwrap())
    );
}

#[test]
fn booleans_are_read_as_spring_reads_them() {
    let name = "JSON_TYPE_CAST_ENABLED";
    for (text, expected) in [
        ("true", true),
        ("TRUE", true),
        ("on", true),
        ("Yes", true),
        (" 1 ", true),
        ("false", false),
        ("OFF", false),
        ("no", false),
        ("0", false),
    ] {
        assert_eq!(load(&[(name, text)]).unwrap().json.type_cast, expected);
    }
    for text in ["", "2", "truee", "t", "enabled"] {
        assert!(
            problem(name, text).contains("write true or false"),
            "{text}"
        );
    }
}

#[test]
fn dtls_is_enabled_by_the_exact_word_only() {
    let name = "COAP_DTLS_ENABLED";
    assert!(load(&[(name, "true")]).unwrap().dtls.enabled);
    for text in ["", "false", "False", "off", "0"] {
        assert!(!load(&[(name, text)]).unwrap().dtls.enabled, "{text}");
    }
    for text in ["True", "yes", "1", "on"] {
        assert!(problem(name, text).contains("exact word"), "{text}");
    }
}

#[test]
fn wrong_values_name_setting_value_origin_and_remedy() {
    for (name, value, reason, remedy) in [
        ("COAP_BIND_PORT", "65536", "out of range", "from 0 to 65535"),
        ("COAP_BIND_PORT", "-1", "out of range", "from 0 to 65535"),
        ("COAP_BIND_PORT", "coap", "not a whole number", "0 to 65535"),
        ("COAP_BIND_PORT", "", "empty", "from 0 to 65535"),
        ("COAP_TIMEOUT", "0", "out of range", "from 1 to"),
        ("COAP_TIMEOUT", "1e3", "not a whole number", "from 1 to"),
        (
            "COAP_TIMEOUT",
            "99999999999999999999",
            "not a whole number",
            "from 1 to",
        ),
        (
            "COAP_DTLS_MAX_TRANSMISSION_UNIT",
            "63",
            "out of range",
            "64 to 65535",
        ),
        (
            "COAP_DTLS_MAX_TRANSMISSION_UNIT",
            "65536",
            "out of range",
            "or 0",
        ),
        (
            "COAP_DTLS_CONNECTION_ID_LENGTH",
            "on",
            "not a whole number",
            "from 0 to 255",
        ),
        (
            "COAP_DTLS_CREDENTIALS_TYPE",
            "DER",
            "unknown",
            "write PEM or KEYSTORE",
        ),
        ("COAP_DTLS_PEM_CERT", " ", "empty", "write a path"),
        (
            "COAP_BIND_ADDRESS",
            "1.2.3.4.5",
            "neither an address nor a name",
            "0.0.0.0",
        ),
        ("COAP_BIND_ADDRESS", "", "empty", "0.0.0.0"),
        (
            "TIDEGATE_ADMIN_BIND",
            "5680",
            "not an address with a port",
            "ADDRESS:PORT",
        ),
        (
            "TIDEGATE_ADMIN_BIND",
            "::1:5680",
            "not an address with a port",
            "[::1]:5680",
        ),
        ("TIDEGATE_SHARDS", "0", "out of range", "from 1 to 256"),
        ("TIDEGATE_NODE_ID", "256", "out of range", "from 0 to 255"),
        ("TIDEGATE_LOG_FORMAT", "xml", "unknown", "text or json"),
        (
            "TIDEGATE_DRIVER",
            "epoll",
            "unknown",
            "auto or uring or mmsg",
        ),
        ("TIDEGATE_LOG", "info,=,", "invalid", "write error, warn"),
        (
            "TIDEGATE_CIPHER_SUITES",
            "TLS_ECDHE_ECDSA_WITH_AES_128_CCM8",
            "no supported cipher suite",
            "did you mean TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8?",
        ),
        (
            "TIDEGATE_CIPHER_SUITES",
            "TLS_ECDHE_ECDSA_WITH_AES_128_CCM,TLS_ECDHE_ECDSA_WITH_AES_128_CCM",
            "named twice",
            "once",
        ),
        (
            "TIDEGATE_CIPHER_SUITES",
            "TLS_ECDHE_ECDSA_WITH_AES_128_CCM,",
            "no supported cipher suite",
            "supported ones are",
        ),
    ] {
        let text = problem(name, value);
        let start = format!("wrong setting: {name}={value} (environment): ");
        assert!(text.starts_with(&start), "{text}");
        assert!(text.contains(reason), "{text}: {reason}");
        assert!(text.contains(remedy), "{text}: {remedy}");
    }
}

#[test]
fn all_wrong_settings_are_reported_together() {
    let text = "COAP_TIMEOUT=soon\nCOAP_BIND_PORT 5683\n";
    let error = load_file(text, &[("TIDEGATE_SHARDS", "many")]).unwrap_err();
    let names: Vec<_> = error.problems.iter().map(|p| p.setting.as_str()).collect();
    assert_eq!(names, ["COAP_BIND_PORT", "COAP_TIMEOUT", "TIDEGATE_SHARDS"]);
    let shown = error.to_string();
    assert!(shown.starts_with("3 wrong settings:\n  "), "{shown}");
    assert_eq!(shown.lines().count(), 4);
    assert!(shown.contains("line 1): not a whole number"), "{shown}");
    assert!(shown.contains("line 2): not an assignment"), "{shown}");
}

#[test]
fn a_value_cannot_forge_lines_of_a_message() {
    let text = problem("COAP_BIND_PORT", "1\nCOAP\u{1b}[2J");
    assert_eq!(text.lines().count(), 1);
    assert!(text.contains(r"1\nCOAP\u{1b}[2J"), "{text}");
    assert!(problem("COAP_BIND_PORT", &"9".repeat(10_000)).len() < 400);
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let refused = |pairs: &[(&str, &str)]| {
        let error = load(pairs).unwrap_err();
        error.problems[0].setting.clone()
    };
    assert_eq!(
        refused(&[("COAP_SERVER_ENABLED", "false")]),
        "COAP_SERVER_ENABLED"
    );
    assert_eq!(
        refused(&[("TB_TRANSPORT_API_ENABLED", "no")]),
        "TB_TRANSPORT_API_ENABLED"
    );
    assert_eq!(refused(&[("COAP_ENABLED", "off")]), "COAP_ENABLED");
    assert_eq!(
        refused(&[("TIDEGATE_PLAIN_COAP", "false")]),
        "TIDEGATE_PLAIN_COAP"
    );
    let same_port = [("COAP_DTLS_ENABLED", "true"), ("COAP_BIND_PORT", "5684")];
    assert_eq!(refused(&same_port), "COAP_DTLS_BIND_PORT");
    let other_address = [
        same_port[0],
        same_port[1],
        ("COAP_BIND_ADDRESS", "127.0.0.1"),
        ("COAP_DTLS_BIND_ADDRESS", "127.0.0.2"),
    ];
    assert!(load(&other_address).is_ok());
}

#[test]
fn numbers_outside_the_usual_mean_what_thingsboard_means() {
    let config = load(&[
        ("COAP_PIGGYBACK_TIMEOUT", "-5"),
        ("COAP_DTLS_MAX_TRANSMISSION_UNIT", "0"),
        ("COAP_DTLS_MAX_FRAGMENT_LENGTH", "1000"),
        ("JSON_MAX_STRING_VALUE_LENGTH", "12"),
        ("COAP_BIND_PORT", "0"),
        ("COAP_DTLS_BIND_PORT", "0"),
        ("COAP_BIND_ADDRESS", "[::1]"),
        ("COAP_DTLS_BIND_ADDRESS", "localhost"),
    ])
    .unwrap();
    assert_eq!(config.coap.piggyback_timeout, Duration::ZERO);
    assert_eq!(config.dtls.max_transmission_unit, None);
    assert_eq!(config.dtls.max_fragment_length, None);
    assert_eq!(config.json.max_string_value_length, Some(12));
    assert_eq!(config.coap.bind, "[::1]:0".parse().unwrap());
    assert!(config.dtls.bind.ip().is_loopback());
}

#[test]
fn unknown_names_are_warned_about_with_the_nearest() {
    let text = "COAP_BIND_PROT=1\nJAVA_OPTS=$(nproc)\nTB_KAFKA_SERVERS=x\n";
    let pairs = [
        ("TIDEGATE_SHARD", "2"),
        ("TIDEGATE_WHATEVER_THIS_IS_MEANT_TO_BE", "2"),
        ("TB_COAP_X509_DTLS_SESSION_INACTIVITY_TIMEOUTS", "2"),
        ("TIDEGATE_PORT_5684_UDP_ADDR", "10.0.0.1"),
        ("TIDEGATE_PORT", "udp://10.0.0.1:5684"),
        ("COAP_SERVICE_HOST", "10.0.0.1"),
        ("HOME", "/"),
    ];
    let warnings = load_file(text, &pairs).unwrap().warnings;
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    assert!(warnings[0].starts_with("unknown setting COAP_BIND_PROT ("));
    assert!(warnings[0].ends_with("line 1): it has no effect; did you mean COAP_BIND_PORT?"));
    assert!(warnings[1].contains("did you mean TB_COAP_X509_DTLS_SESSION_INACTIVITY_TIMEOUT?"));
    assert!(warnings[2].contains("(environment): it has no effect; did you mean TIDEGATE_SHARDS?"));
    assert!(warnings[3].ends_with("it has no effect"), "{}", warnings[3]);
}

#[test]
fn settings_without_effect_say_so_when_changed() {
    let name = "TB_TRANSPORT_ACTIVITY_REPORTING_STRATEGY";
    assert!(load(&[(name, "LAST")]).unwrap().warnings.is_empty());
    let config = load(&[(name, "FIRST")]).unwrap();
    assert_eq!(
        config.warnings,
        [format!(
            "{name} (environment) is accepted but has no effect in this version"
        )]
    );
    assert!(!effective(&config, name).in_effect);
}

/// Half of the ids in use is what finding a free one by chance can bear.
#[test]
fn connection_ids_too_short_for_the_sessions_are_warned_about() {
    let warnings = |length: &str, shards: &str| {
        let pairs = [
            ("COAP_DTLS_ENABLED", "true"),
            ("COAP_DTLS_CONNECTION_ID_LENGTH", length),
            ("TIDEGATE_SESSIONS_MAX", "200000"),
            ("TIDEGATE_SHARDS", shards),
        ];
        load(&pairs).unwrap().warnings
    };
    // A byte names the shard, from 5 bytes on another one the node.
    for (length, ids) in [("1", "makes 1 "), ("2", "256"), ("3", "65536")] {
        let warnings = warnings(length, "1");
        assert_eq!(warnings.len(), 1, "{length}");
        assert!(warnings[0].contains(ids), "{warnings:?}");
    }
    for (length, shards) in [
        ("", "1"),
        ("0", "1"),
        ("4", "1"),
        ("5", "1"),
        ("255", "1"),
        ("3", "8"),
    ] {
        assert!(warnings(length, shards).is_empty(), "{length} {shards}");
    }
}

#[test]
fn dev_brings_dtls_and_a_certificate_of_its_own() {
    let dev = |pairs: &[(&str, &str)]| {
        Config::load(&Sources {
            environment: environment(pairs),
            file: None,
            dev: true,
        })
        .unwrap()
    };
    let config = dev(&[("TIDEGATE_DATA_DIR", "/data")]);
    assert!(config.dtls.enabled && config.tidegate.dev);
    assert_eq!(config.dtls.credentials.pem_cert, "/data/server.pem");
    assert_eq!(config.dtls.credentials.pem_key, "/data/server_key.pem");
    assert_eq!(effective(&config, "COAP_DTLS_ENABLED").origin, Origin::Dev);
    // What the operator says stands.
    let config = dev(&[
        ("COAP_DTLS_ENABLED", "false"),
        ("COAP_DTLS_PEM_CERT", "my.pem"),
    ]);
    assert!(!config.dtls.enabled);
    assert_eq!(config.dtls.credentials.pem_cert, "my.pem");
    assert_eq!(config.dtls.credentials.pem_key, "coapserver_key.pem");
}

#[test]
fn passwords_never_show() {
    let secret = "hunterXYZ";
    let secrets = [
        "COAP_DTLS_PEM_KEY_PASSWORD",
        "COAP_DTLS_KEY_STORE_PASSWORD",
        "COAP_DTLS_KEY_PASSWORD",
    ];
    for name in secrets {
        let config = load(&[(name, secret)]).unwrap();
        assert_eq!(effective(&config, name).value, "****");
        assert!(!format!("{config:?}").contains(secret), "{name} in Debug");
        for bad in [
            format!("{name}='{secret}\n"),
            format!("{name}={secret} tail\n"),
            format!("{name}=a${secret}\n"),
            format!("{name} {secret}\n"),
            format!("{name}={secret}`id`\n"),
        ] {
            let error = load_file(&bad, &[]).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
            assert!(!error.contains(secret), "{error}");
        }
    }
    // Shown empty when it is.
    let config = load(&[("COAP_DTLS_KEY_PASSWORD", "")]).unwrap();
    assert_eq!(effective(&config, "COAP_DTLS_KEY_PASSWORD").value, "");
}

#[test]
fn an_unreadable_file_stops_the_start() {
    let load = |path: &Path| {
        Config::load(&Sources {
            file: Some(path.to_owned()),
            ..Sources::default()
        })
        .unwrap_err()
        .to_string()
    };
    let missing = load(Path::new("/nonexistent/tidegate.conf"));
    assert!(
        missing.starts_with(
            "wrong setting: --conf=/nonexistent/tidegate.conf (command line): cannot be read: No such"
        ),
        "{missing}"
    );
    let directory = tempfile::tempdir().unwrap();
    assert!(load(directory.path()).contains("is a directory"));
    let mut latin1 = tempfile::NamedTempFile::new().unwrap();
    latin1.write_all(b"A=1\nB=\xe9\n").unwrap();
    assert!(load(latin1.path()).contains("line 2 is not UTF-8"));
    let large = conf_file(&"#".repeat(1 << 21));
    assert!(load(large.path()).contains("larger than 1 MiB"));
}

#[test]
fn rate_limits_and_claims() {
    let config = load(&[
        ("TIDEGATE_RATE_LIMIT_MESSAGES", "10:1,300:60"),
        ("TIDEGATE_RATE_LIMIT_RESPONSE", "5.00"),
        ("SECURITY_CLAIM_ALLOW_CLAIMING_BY_DEFAULT", "false"),
        ("SECURITY_CLAIM_DURATION", "60000"),
    ])
    .unwrap();
    assert_eq!(config.limits.server.messages.to_string(), "10:1,300:60");
    assert!(config.limits.server.telemetry_messages.is_unlimited());
    let refusal = crate::auth::api::RateLimitRefusal::InternalServerError;
    assert_eq!(config.limits.refusal, refusal);
    assert!(!config.claiming.allowed);
    assert_eq!(config.claiming.duration_ms, 60_000);
    let bad = problem("TIDEGATE_RATE_LIMIT_MESSAGES", "10");
    assert!(bad.contains("COUNT:SECONDS"), "{bad}");
    problem("TIDEGATE_RATE_LIMIT_RESPONSE", "4.03");
    problem("SECURITY_CLAIM_DURATION", "0");
}
