//! ThingsBoard's documented configuration, and what a wrong one is answered with.

use super::support::{Server, run_client, text, tidegate};

#[test]
fn the_manual_s_snippet_and_certificate_commands_work_unchanged() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let commands = [
        "ecparam -out server_key.pem -name secp256r1 -genkey",
        "req -new -key server_key.pem -x509 -nodes -days 365 -out server.pem -subj /CN=localhost",
    ];
    for command in commands {
        let arguments: Vec<&str> = command.split(' ').collect();
        let output = run_client("openssl", &arguments, directory.path());
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let snippet = "...\nexport COAP_DTLS_ENABLED=true\nexport COAP_DTLS_CREDENTIALS_TYPE=PEM\n\
                   export COAP_DTLS_PEM_CERT=server.pem\nexport COAP_DTLS_PEM_KEY=server_key.pem\n\
                   export COAP_DTLS_PEM_KEY_PASSWORD=secret\n...\n";
    std::fs::write(directory.path().join("thingsboard.conf"), snippet).expect("a file");
    let output = tidegate()
        .args(["check", "--conf", "thingsboard.conf"])
        .current_dir(directory.path())
        .output()
        .expect("tidegate runs");
    let printed = text(&output.stdout);
    assert!(output.status.success(), "{printed}{}", text(&output.stderr));
    assert!(
        printed.contains("COAP_DTLS_PEM_CERT") && printed.contains("server.pem"),
        "{printed}"
    );
    assert!(
        !printed.contains("secret"),
        "a password is printed: {printed}"
    );

    let server = Server::start_in(directory, &[("COAP_DTLS_PEM_KEY_PASSWORD", "secret")]);
    server.tidegate_ok(&["device", "add", "manual", "--token", "MANUALTOKEN"]);
    let uri = format!(
        "coaps://localhost:{}/api/v1/MANUALTOKEN/telemetry",
        server.secure_port
    );
    let arguments = [
        "-v",
        "9",
        "-m",
        "POST",
        "-t",
        "application/json",
        "-e",
        "{\"temperature\":42}",
        &uri,
    ];
    let output = run_client("coap-client-openssl", &arguments, server.directory.path());
    assert!(text(&output.stdout).contains("2.01") || text(&output.stderr).contains("2.01"));
    assert_eq!(
        server.latest("manual")["temperature"]["value"],
        serde_json::json!(42)
    );
}

#[test]
fn a_keytool_keystore_under_thingsboard_s_settings_serves() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let arguments = [
        "-genkeypair",
        "-alias",
        "serveralias",
        "-keyalg",
        "EC",
        "-groupname",
        "secp256r1",
        "-validity",
        "365",
        "-dname",
        "CN=localhost",
        "-keystore",
        "coapserver.jks",
        "-storepass",
        "server_ks_password",
        "-keypass",
        "server_ks_password",
    ];
    let output = run_client("keytool", &arguments, directory.path());
    assert!(output.status.success(), "{}", text(&output.stdout));
    let server = Server::start_in(
        directory,
        &[
            ("COAP_DTLS_CREDENTIALS_TYPE", "KEYSTORE"),
            ("COAP_DTLS_KEY_STORE", "coapserver.jks"),
            ("COAP_DTLS_KEY_STORE_PASSWORD", "server_ks_password"),
            ("COAP_DTLS_KEY_PASSWORD", "server_ks_password"),
        ],
    );
    server.tidegate_ok(&["device", "add", "jks", "--token", "JKSTOKEN"]);
    let uri = format!(
        "coaps://localhost:{}/api/v1/JKSTOKEN/telemetry",
        server.secure_port
    );
    let output = run_client(
        "coap-client-openssl",
        &["-m", "post", "-e", "{a:1}", &uri],
        server.directory.path(),
    );
    assert!(output.status.success());
    assert_eq!(server.latest("jks")["a"]["value"], serde_json::json!(1));
}

/// Starts `serve` with settings that cannot work and returns what it printed; it must end with 1.
fn refused(settings: &[(&str, &str)]) -> String {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let output = tidegate()
        .arg("serve")
        .envs(settings.iter().copied())
        .env("TIDEGATE_DATA_DIR", directory.path().join("data"))
        .current_dir(directory.path())
        .output()
        .expect("tidegate runs");
    let printed = text(&output.stderr) + &text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(!printed.contains("panicked"), "{printed}");
    printed
}

#[test]
fn a_wrong_start_names_setting_value_and_remedy() {
    let port = refused(&[("COAP_BIND_PORT", "70000")]);
    assert!(
        port.contains("COAP_BIND_PORT") && port.contains("70000"),
        "{port}"
    );
    let missing = refused(&[
        ("COAP_DTLS_ENABLED", "true"),
        ("COAP_DTLS_PEM_CERT", "nowhere.pem"),
    ]);
    assert!(
        missing.contains("COAP_DTLS_PEM_CERT") && missing.contains("nowhere.pem"),
        "{missing}"
    );
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let taken = taken
        .local_addr()
        .map(|address| (taken, address.port()))
        .expect("an address");
    let number = taken.1.to_string();
    let busy = refused(&[
        ("COAP_BIND_ADDRESS", "127.0.0.1"),
        ("COAP_BIND_PORT", &number),
    ]);
    assert!(
        busy.contains("COAP_BIND_PORT") && busy.contains(&number),
        "{busy}"
    );
    let log = refused(&[("TIDEGATE_LOG", "=nonsense=")]);
    assert!(log.contains("TIDEGATE_LOG"), "{log}");
}
