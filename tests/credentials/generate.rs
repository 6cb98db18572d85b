//! Certificates that we make, read by ourselves and by `openssl`.

use tidegate::credentials::generate::{self, Generated, ServerRequest};
use tidegate::credentials::inspect::{InspectError, Link, inspect};
use tidegate::crypto::fingerprint::{device_fingerprint, to_hex};

use super::tools::{Bench, load, refuse};

fn server(password: Option<&str>) -> Generated {
    generate::server(&ServerRequest {
        common_name: "localhost".to_owned(),
        alternative_names: ["localhost", "127.0.0.1", "::1"]
            .map(str::to_owned)
            .to_vec(),
        days: 365,
        password: password.map(Into::into),
    })
    .unwrap()
}

#[test]
fn a_server_certificate_is_read_by_us_and_by_openssl() {
    let bench = Bench::new();
    for password in [None, Some("right-password")] {
        let directory = bench.path(if password.is_some() { "locked" } else { "open" });
        let (certificate, key) = generate::write(
            &server(password),
            &directory,
            "server.pem",
            "server_key.pem",
        )
        .unwrap();
        let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
        let settings = tidegate::credentials::CredentialSettings {
            pem_cert: certificate.to_owned(),
            pem_key: key.to_owned(),
            pem_key_password: password.unwrap_or_default().into(),
            ..Default::default()
        };
        assert_eq!(load(&settings).warnings, Vec::<String>::new());
        bench.openssl(&format!("verify -CAfile {certificate} {certificate}"));
        bench.openssl(&format!(
            "x509 -in {certificate} -noout -checkhost localhost -checkip 127.0.0.1 -checkend 86400"
        ));
        bench.openssl(&format!(
            "verify -CAfile {certificate} -purpose sslserver -verify_hostname localhost {certificate}"
        ));
        bench.openssl(&format!(
            "pkey -in {key} -passin pass:right-password -check -noout"
        ));
        if password.is_some() {
            let wrong = tidegate::credentials::CredentialSettings {
                pem_key_password: "wrong-password".into(),
                ..settings
            };
            refuse(&wrong, &["COAP_DTLS_PEM_KEY_PASSWORD"]);
        }
    }
}

#[test]
fn a_client_certificate_is_for_clients() {
    let bench = Bench::new();
    let made = generate::client("dev-0001", 30).unwrap();
    bench.write("client.pem", &made.certificate_pem);
    bench.openssl("verify -CAfile client.pem -purpose sslclient client.pem");
    let report = inspect(made.certificate_pem.as_bytes()).unwrap();
    assert_eq!(report.len(), 1);
    assert_eq!(report[0].subject, "CN=dev-0001");
    assert!(report[0].is_leaf && report[0].key_is_supported);
    assert_eq!(report[0].key_type, "ECDSA P-256");
    assert_eq!(report[0].link, Link::SelfSigned);
    assert_eq!(
        report[0].device_fingerprint,
        to_hex(&device_fingerprint(&made.certificate_der))
    );
    let validity = report[0].not_after_unix_s - report[0].not_before_unix_s;
    assert_eq!(validity, 31 * 86_400);
}

#[test]
fn inspection_tells_the_order_of_a_chain() {
    let bench = Bench::new();
    bench.make_pair();
    bench.openssl("ecparam -name secp384r1 -genkey -noout -out ca_key.pem");
    bench.openssl("req -x509 -key ca_key.pem -out ca.pem -days 30 -subj /CN=authority");
    bench.openssl("ecparam -name prime256v1 -genkey -noout -out ca2_key.pem");
    bench.openssl("req -x509 -key ca2_key.pem -out ca2.pem -days 30 -subj /CN=authority");
    bench.openssl("req -new -key key.pem -out request.pem -subj /CN=leaf/O=here");
    bench.openssl(
        "x509 -req -in request.pem -CA ca.pem -CAkey ca_key.pem -set_serial 0x0a0b -out leaf.pem",
    );
    let links = |parts: &[&str]| -> Vec<Link> {
        bench.concatenate(parts, "chain.pem");
        let reports = inspect(&bench.read("chain.pem")).unwrap();
        reports.iter().map(|report| report.link).collect()
    };
    assert_eq!(
        links(&["leaf.pem", "ca.pem"]),
        [Link::IssuedByNext, Link::SelfSigned]
    );
    assert_eq!(
        links(&["leaf.pem", "ca2.pem"]),
        [Link::SignatureWrong, Link::SelfSigned]
    );
    assert_eq!(
        links(&["ca.pem", "leaf.pem"]),
        [Link::NotIssuedByNext, Link::Last]
    );
    assert_eq!(links(&["key.pem", "leaf.pem"]), [Link::Last]);
    let leaf = &inspect(&bench.read("leaf.pem")).unwrap()[0];
    assert_eq!(leaf.serial, "0a:0b");
    assert_eq!(leaf.issuer, "CN=authority");

    bench.openssl("x509 -in leaf.pem -outform DER -out leaf.der");
    assert_eq!(&inspect(&bench.read("leaf.der")).unwrap()[0], leaf);
}

#[test]
fn alternative_names_and_times_are_written_out() {
    let made = server(None);
    let report = &inspect(&made.certificate_der).unwrap()[0];
    assert_eq!(
        report.alternative_names,
        ["DNS:localhost", "IP:127.0.0.1", "IP:::1"]
    );
    assert_eq!(report.not_before.len(), "2026-11-23T18:26:54Z".len());
    assert!(report.not_before.ends_with('Z'));
}

#[test]
fn files_that_are_no_certificates_are_refused() {
    let bench = Bench::new();
    bench.make_pair();
    assert!(matches!(inspect(b""), Err(InspectError::NoCertificate)));
    assert!(matches!(
        inspect(&bench.read("key.pem")),
        Err(InspectError::NoCertificate)
    ));
    assert!(matches!(
        inspect(&[0x30, 3, 1, 1, 1]),
        Err(InspectError::NoCertificate)
    ));
    assert!(matches!(
        inspect(&vec![b'x'; (1 << 20) + 1]),
        Err(InspectError::TooLarge)
    ));
    bench.openssl("pkcs12 -export -in cert.pem -inkey key.pem -out store.p12 -passout pass:x");
    assert!(matches!(
        inspect(&bench.read("store.p12")),
        Err(InspectError::Keystore)
    ));
    let certificate = String::from_utf8(bench.read("cert.pem")).unwrap();
    let damaged = certificate.replacen("\nM", "\nA", 1);
    assert!(matches!(
        inspect(damaged.as_bytes()),
        Err(InspectError::BadCertificate { position: 1 })
    ));
}
