//! Devices that register themselves by a certificate chain (thingsboard-coap, section 4.1, here for
//! CoAP), and chains that prove nothing.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use serde_json::json;

use super::support::{Link, Server, hex};

struct Authority {
    parameters: CertificateParams,
    key: KeyPair,
    pem: String,
}

fn named(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::new([]).unwrap();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut parameters = named(name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = parameters.self_signed(&key).unwrap().pem();
        Self {
            parameters,
            key,
            pem,
        }
    }

    /// Files of a device: its certificate with this one behind it, and its key.
    fn device(
        &self,
        server: &Server,
        name: &str,
        change: impl Fn(&mut CertificateParams),
    ) -> Files {
        let mut parameters = named(name);
        change(&mut parameters);
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.parameters, &self.key);
        let leaf = parameters.signed_by(&key, &issuer).unwrap().pem();
        let number = std::fs::read_dir(server.directory.path()).unwrap().count();
        let path = |kind: &str| server.path(&format!("{kind}-{number}.pem"));
        let files = (path("chain"), path("key"));
        std::fs::write(&files.0, leaf + &self.pem).unwrap();
        std::fs::write(&files.1, key.serialize_pem()).unwrap();
        files
    }
}

type Files = (PathBuf, PathBuf);

fn server(authority: &Authority, may_create: bool) -> Server {
    let server = Server::start(&[]);
    std::fs::write(server.path("ca.pem"), &authority.pem).unwrap();
    let create = format!("provisioning.allowCreateNewDevicesByX509Certificate={may_create}");
    server.tidegate_ok(&[
        "profile",
        "add",
        "fleet",
        "provisioning.strategy=X509_CERTIFICATE_CHAIN",
        "provisioning.certificate=@ca.pem",
        r"provisioning.certificateRegExPattern=^(.*)\.example\.org$",
        &create,
    ]);
    server
}

/// The code of a reading by certificate, if it is answered.
fn answered(link: &mut Link, message_id: u8) -> Option<u8> {
    let mut message = vec![0x44, 0x02, 0x40, message_id];
    message.extend_from_slice(&hex(
        "deadbeef b3617069 027631 0974656c656d65747279 ff7b743a317d",
    ));
    link.exchange(&message).map(|answer| answer[1])
}

/// The code of a reading by certificate.
fn code(link: &mut Link, message_id: u8) -> u8 {
    answered(link, message_id).expect("an answer")
}

fn devices(server: &Server) -> String {
    server.tidegate_ok(&["device", "list"])
}

#[test]
fn a_device_registers_itself_and_renews_its_certificate() {
    let authority = Authority::new("Fleet CA");
    let server = server(&authority, true);
    let first = authority.device(&server, "d-1.example.org", |_| ());
    let mut link = Link::certificate(&server, &first);
    assert_eq!(code(&mut link, 1), 0x41);
    assert_eq!(server.latest("d-1")["t"]["value"], json!(1));
    let shown = server.tidegate_ok(&["device", "show", "d-1"]);
    assert!(shown.contains("fleet"), "{shown}");
    // A new certificate of the same name takes the old one's place.
    let second = authority.device(&server, "d-1.example.org", |_| ());
    let mut renewed = Link::certificate(&server, &second);
    assert_eq!(code(&mut renewed, 2), 0x41);
    assert_eq!(code(&mut Link::certificate(&server, &second), 3), 0x41);
    // The old one is nobody's, and its session ends. One that was made before does not take its place.
    assert_ne!(answered(&mut link, 6), Some(0x41));
    let old = |parameters: &mut CertificateParams| {
        parameters.not_before = date_time_ymd(1974, 1, 1);
    };
    let old = authority.device(&server, "d-1.example.org", old);
    assert_eq!(code(&mut Link::certificate(&server, &old), 7), 0x81);
    assert_eq!(code(&mut Link::certificate(&server, &second), 8), 0x41);
    // A name that the pattern does not know.
    let stranger = authority.device(&server, "d-2.example.com", |_| ());
    assert_eq!(code(&mut Link::certificate(&server, &stranger), 4), 0x81);
    // A device of another profile, and one with a token, are nobody's to take.
    server.tidegate_ok(&["device", "add", "d-3", "--token", "TOKEN3"]);
    let taken = authority.device(&server, "d-3.example.org", |_| ());
    assert_eq!(code(&mut Link::certificate(&server, &taken), 5), 0x81);
    assert_eq!(devices(&server).matches("d-").count(), 2);
    // The devices learn 4.01; who operates the server learns why.
    server.wait_for_log("a newer certificate");
    server.wait_for_log("its leaf does not match certificateRegExPattern");
    let metrics = server.http("/metrics").expect("metrics");
    for line in [
        "tidegate_provisioning_total{result=\"success\"} 2",
        "tidegate_provisioning_total{result=\"failure\"} 3",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

/// The profile's authority itself is not sent: nobody needs it.
#[test]
fn an_authority_below_the_profile_s_certifies_devices() {
    let authority = Authority::new("Fleet CA");
    let server = server(&authority, true);
    let mut below = Authority::new("Plant 1");
    let issuer = Issuer::from_params(&authority.parameters, &authority.key);
    below.pem = below
        .parameters
        .signed_by(&below.key, &issuer)
        .unwrap()
        .pem();
    let files = below.device(&server, "d-1.example.org", |_| ());
    assert_eq!(code(&mut Link::certificate(&server, &files), 1), 0x41);
    assert_eq!(server.latest("d-1")["t"]["value"], json!(1));
}

#[test]
fn a_new_device_is_told_of_its_packages() {
    let authority = Authority::new("Fleet CA");
    let server = server(&authority, true);
    std::fs::write(server.path("image.bin"), b"an image").unwrap();
    let package = ["--title", "T", "--version", "7"];
    server.tidegate_ok(&[&["ota", "add", "image.bin"], &package[..]].concat());
    server.tidegate_ok(&["ota", "assign", "1", "--profile", "fleet"]);
    let files = authority.device(&server, "d-1.example.org", |_| ());
    // The request that makes the device asks already: GET /api/v1/attributes?sharedKeys=fw_version
    let mut message = vec![0x44, 0x01, 0x40, 1];
    message.extend_from_slice(&hex("deadbeef b3617069 027631 0a61747472696275746573 4d08"));
    message.extend_from_slice(b"sharedKeys=fw_version");
    let answer = Link::certificate(&server, &files).exchange(&message);
    let answer = String::from_utf8_lossy(&answer.expect("an answer")).into_owned();
    assert!(
        answer.ends_with(r#"{"shared":{"fw_version":"7"}}"#),
        "{answer}"
    );
    let latest = server.latest("d-1");
    assert_eq!(latest["target_fw_version"]["value"], json!("7"), "{latest}");
}

#[test]
fn an_authority_belongs_to_one_profile() {
    let authority = Authority::new("Fleet CA");
    let server = server(&authority, true);
    let add = [
        "profile",
        "add",
        "other",
        "provisioning.strategy=X509_CERTIFICATE_CHAIN",
        "provisioning.certificate=@ca.pem",
        "provisioning.certificateRegExPattern=(.*)",
    ];
    let refused = server.tidegate(&add);
    let problem = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && problem.contains("authority"),
        "{problem}"
    );
    // Another one of the same name is another authority.
    std::fs::write(server.path("ca.pem"), Authority::new("Fleet CA").pem).unwrap();
    server.tidegate_ok(&add);
    let files = authority.device(&server, "d-1.example.org", |_| ());
    assert_eq!(code(&mut Link::certificate(&server, &files), 1), 0x41);
    let shown = server.tidegate_ok(&["device", "show", "d-1"]);
    assert!(shown.contains("fleet"), "{shown}");
}

#[test]
fn nothing_is_made_that_the_profile_does_not_allow() {
    let authority = Authority::new("Fleet CA");
    let server = server(&authority, false);
    let files = authority.device(&server, "d-1.example.org", |_| ());
    assert_eq!(code(&mut Link::certificate(&server, &files), 1), 0x81);
    assert!(!devices(&server).contains("d-1"));
}

/// The handshake completes in all cases, as it does for any certificate (TB section 3.2).
#[test]
fn chains_that_prove_nothing_register_nobody() {
    let authority = Authority::new("Fleet CA");
    let server = server(&authority, true);
    let forger = Authority::new("Fleet CA");
    let stranger = Authority::new("another CA");
    let name = "d-1.example.org";
    let expired = |parameters: &mut CertificateParams| {
        parameters.not_before = date_time_ymd(2300, 1, 1);
        parameters.not_after = date_time_ymd(2400, 1, 1);
    };
    let server_only = |parameters: &mut CertificateParams| {
        parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    };
    // A device of the fleet that certifies another.
    let mut device = Authority::new("d-9.example.org");
    device.parameters = named("d-9.example.org");
    let issuer = Issuer::from_params(&authority.parameters, &authority.key);
    let leaf = device.parameters.signed_by(&device.key, &issuer).unwrap();
    device.pem = leaf.pem() + &authority.pem;
    for (number, (what, files)) in (1..).zip([
        (
            "the authority's name, another key",
            forger.device(&server, name, |_| ()),
        ),
        (
            "an unknown authority",
            stranger.device(&server, name, |_| ()),
        ),
        (
            "for servers only",
            authority.device(&server, name, server_only),
        ),
        ("a leaf as authority", device.device(&server, name, |_| ())),
    ]) {
        let mut link = Link::certificate(&server, &files);
        assert_eq!(code(&mut link, number), 0x81, "{what}");
        assert!(!devices(&server).contains("d-1"), "{what}");
    }
    // Out of its dates the leaf ends the handshake already.
    let files = authority.device(&server, name, expired);
    assert_eq!(Link::refused(&server, &files).code(), 42);
    // And none of them has spoilt it for the right one.
    let files = authority.device(&server, name, |_| ());
    assert_eq!(code(&mut Link::certificate(&server, &files), 9), 0x41);
}
