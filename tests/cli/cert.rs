//! `tidegate cert`.

use super::Place;
use super::support::{run_client, text};
use std::os::unix::fs::PermissionsExt as _;

/// The certificate CN=dev-0001 of the fingerprint's documented vector.
const VECTOR: &str = "\
-----BEGIN CERTIFICATE-----
MIIBfTCCASOgAwIBAgIUKS7GPjMYjrzC7DkmvZuKzjDkDvEwCgYIKoZIzj0EAwIwEzERMA8GA1UEAwwIZGV2LTAwMDEwIBcNMjYxMTIzMTgyNjU0
WhgPMjEyNjEwMzAxODI2NTRaMBMxETAPBgNVBAMMCGRldi0wMDAxMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEd/GqrcLMshHzCQJtBN8PiW89
1BmkflhysLXdJwp7+jqAEAmgwANCQZo5wmILOHafoOvmNRNjLS3f0G3k6Ne64aNTMFEwHQYDVR0OBBYEFKohwzuppr4YKS+Xx8+2ADU6YWk7MB8G
A1UdIwQYMBaAFKohwzuppr4YKS+Xx8+2ADU6YWk7MA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIgFSTIerYuBcRFBB42h4L3RIvW
GbmJ3AqpgGMceIX5vKICIQDRTiUu5ES8PvksLal5thoKPtiG+5KiSnZ/YygL28VKCg==
-----END CERTIFICATE-----
";
const VECTOR_FINGERPRINT: &str = "0ff2ce13bf17fd132c07aedaab3b17d45994ff36e826fb93ae15f5d52ac0658d";

#[test]
fn a_server_certificate_has_what_was_asked_for() {
    let place = Place::new();
    let out = place
        .run(&[
            "cert",
            "self-signed",
            "--out",
            "new/dir",
            "--cn",
            "coap.example",
            "--san",
            "a.example,192.0.2.1",
            "--san",
            "::1",
            "--days",
            "10",
        ])
        .ok();
    assert!(
        out.contains("new/dir/server.pem") && out.contains("new/dir/server_key.pem"),
        "{out}"
    );
    let key = place.path("new/dir/server_key.pem");
    let mode = std::fs::metadata(&key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "the key is the owner's");
    // As OpenSSL reads it.
    let arguments = ["x509", "-in", "new/dir/server.pem", "-noout", "-text"];
    let openssl = text(&run_client("openssl", &arguments, place.as_ref()).stdout);
    for part in [
        "CN = coap.example",
        "DNS:coap.example, DNS:a.example, IP Address:192.0.2.1, IP Address:0:0:0:0:0:0:0:1",
        "prime256v1",
        "TLS Web Server Authentication",
    ] {
        assert!(openssl.contains(part), "{part} is missing in\n{openssl}");
    }
    let report = place
        .run(&["cert", "inspect", "--json", "new/dir/server.pem"])
        .json();
    let validity = |name: &str| report[0][name].as_i64().unwrap();
    let days = (validity("not_after_unix_s") - validity("not_before_unix_s")) / 86_400;
    // It begins a day early, for clocks that run behind.
    assert_eq!(days, 11);
}

#[test]
fn nothing_is_overwritten() {
    let place = Place::new();
    place
        .run(&["cert", "client", "--out", ".", "--cn", "dev-1"])
        .ok();
    let key = std::fs::read(place.path("client_key.pem")).unwrap();
    let err = place
        .run(&["cert", "client", "--out", ".", "--cn", "dev-2"])
        .refused();
    assert!(err.contains("client.pem exists"), "{err}");
    assert_eq!(std::fs::read(place.path("client_key.pem")).unwrap(), key);
}

#[test]
fn impossible_certificates_are_refused() {
    let place = Place::new();
    place.write("file", "");
    for (arguments, reason) in [
        (
            &["cert", "client", "--out", ".", "--cn", ""][..],
            "common name",
        ),
        (
            &["cert", "self-signed", "--out", ".", "--san", "a b"],
            "alternative name",
        ),
        (
            &["cert", "self-signed", "--out", ".", "--days", "0"],
            "validity",
        ),
        (&["cert", "client", "--out", "file", "--cn", "a"], "file"),
    ] {
        let err = place.run(arguments).refused();
        assert!(err.contains(reason), "{arguments:?}: {err}");
    }
}

#[test]
fn the_fingerprint_is_thingsboards() {
    let place = Place::new();
    place.write("dev.pem", VECTOR);
    let out = place.run(&["cert", "inspect", "dev.pem"]).ok();
    assert!(
        out.contains(&format!("device fingerprint  {VECTOR_FINGERPRINT}\n")),
        "{out}"
    );
    assert!(out.contains("subject             CN=dev-0001\n"), "{out}");
    assert!(out.contains("key                 ECDSA P-256\n"), "{out}");
    assert!(
        out.contains("valid until         2126-10-30T18:26:54Z\n"),
        "{out}"
    );
    assert!(out.contains("chain               self-signed\n"), "{out}");
    // And it is the credential of a device that is added with it.
    let added = place
        .run(&["device", "add", "dev-0001", "--x509", "dev.pem", "--json"])
        .json();
    assert_eq!(added["credentialsType"], "X509_CERTIFICATE");
    assert_eq!(added["credentialsId"], VECTOR_FINGERPRINT);
    // Also from DER.
    let arguments = [
        "x509", "-in", "dev.pem", "-outform", "DER", "-out", "dev.der",
    ];
    run_client("openssl", &arguments, place.as_ref());
    let err = place
        .run(&["device", "add", "again", "--x509", "dev.der"])
        .refused();
    assert!(
        err.contains("belongs to device \"dev-0001\" already"),
        "{err}"
    );
}

#[test]
fn a_chain_in_the_wrong_order_is_seen() {
    let place = Place::new();
    place
        .run(&["cert", "client", "--out", "a", "--cn", "a"])
        .ok();
    place
        .run(&["cert", "client", "--out", "b", "--cn", "b"])
        .ok();
    let read = |name: &str| std::fs::read_to_string(place.path(name)).unwrap();
    place.write("both.pem", read("a/client.pem") + &read("b/client.pem"));
    let out = place.run(&["cert", "inspect", "both.pem"]).ok();
    assert!(out.contains("certificate         1 (leaf)"), "{out}");
    assert!(out.contains("certificate         2\n"), "{out}");
    assert!(
        out.contains("chain               WRONG: not issued by the next one"),
        "{out}"
    );
}

#[test]
fn files_without_a_certificate_are_refused() {
    let place = Place::new();
    place
        .run(&["cert", "client", "--out", ".", "--cn", "a"])
        .ok();
    place.write("empty", "");
    place.write("noise", [0x30, 0x82, 0xff, 0xff, 0x00]);
    place.write("large", vec![b'x'; 2 << 20]);
    place.write("cut.pem", VECTOR.split_at(300).0);
    for name in [
        "client_key.pem",
        "empty",
        "noise",
        "large",
        "cut.pem",
        "missing",
        ".",
    ] {
        let err = place.run(&["cert", "inspect", name]).refused();
        assert!(err.starts_with(&format!("error: {name}: ")), "{err}");
    }
}
