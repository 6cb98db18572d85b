//! The conformance vectors 1 to 8 (thingsboard-coap, section 10), byte for byte, on plain CoAP and
//! over DTLS. An answer may be piggybacked or separate; ours are piggybacked when fast, so that form
//! is demanded.

use std::path::PathBuf;

use serde_json::{Value, json};
use tidegate::dtls::AlertDescription;

use super::support::{Link, Server, hex};

const TOKEN: &str = "ACCESS01";
/// Uri-Path api, v1, ACCESS01.
const BASE: &str = "b3617069 027631 084143434553533031";
const TELEMETRY: &str = "0974656c656d65747279";
const ATTRIBUTES: &str = "0a61747472696275746573";

/// A server with the vectors' device, reached by plain CoAP and by DTLS without a certificate.
fn server() -> (Server, Vec<(&'static str, Link)>) {
    let server = Server::start(&[]);
    server.tidegate_ok(&["device", "add", "vector", "--token", TOKEN]);
    let links = vec![
        ("coap", Link::plain(&server)),
        ("coaps", Link::anonymous(&server)),
    ];
    (server, links)
}

/// CON POST with token deadbeef, the path's options in hex, and a body.
fn post(message_id: u16, path: &str, body: &str) -> Vec<u8> {
    request(0x02, message_id, path, body)
}

fn request(code: u8, message_id: u16, path: &str, body: &str) -> Vec<u8> {
    let mut message = vec![0x44, code];
    message.extend_from_slice(&message_id.to_be_bytes());
    message.extend_from_slice(&hex("deadbeef"));
    message.extend_from_slice(&hex(path));
    if !body.is_empty() {
        message.push(0xff);
        message.extend_from_slice(body.as_bytes());
    }
    message
}

/// The piggybacked answer without options or payload.
fn bare(code: u8, message_id: u16) -> Vec<u8> {
    let mut message = vec![0x64, code];
    message.extend_from_slice(&message_id.to_be_bytes());
    message.extend_from_slice(&hex("deadbeef"));
    message
}

#[track_caller]
fn exchange(link: &mut Link, name: &str, message: &[u8]) -> Vec<u8> {
    link.exchange(message)
        .unwrap_or_else(|| panic!("{name}: no answer to {message:02x?}"))
}

#[test]
fn vector_1_and_3_telemetry_confirmable_and_not() {
    let (server, mut links) = server();
    for (name, link) in &mut links {
        let confirmable = hex(
            "44021234deadbeef b3617069 027631 084143434553533031 0974656c656d65747279 1132 \
             ff7b2274656d7065726174757265223a32357d",
        );
        assert_eq!(
            exchange(link, name, &confirmable),
            hex("64411234deadbeef"),
            "{name}"
        );
        assert_eq!(
            server.latest("vector")["temperature"]["value"],
            json!(25),
            "{name}"
        );
        // Vector 3: the first byte 54; the answer is NON with a message id of the server's.
        let mut non = confirmable.clone();
        non[0] = 0x54;
        non[3] = 0x35;
        let answer = exchange(link, name, &non);
        assert_eq!(
            (answer[0], answer[1], &answer[4..]),
            (0x54, 0x41, &hex("deadbeef")[..]),
            "{name}"
        );
    }
}

#[test]
fn vector_2_one_path_option_with_slashes_and_lenient_json() {
    let (server, mut links) = server();
    for (name, link) in &mut links {
        let message = hex(
            "44021235deadbeef bd0d2f6170692f76312f41434345535330312f74656c656d65747279 \
             ff7b74656d70657261747572653a32357d",
        );
        assert_eq!(
            exchange(link, name, &message),
            hex("64411235deadbeef"),
            "{name}"
        );
        assert_eq!(
            server.latest("vector")["temperature"]["value"],
            json!(25),
            "{name}"
        );
    }
}

#[test]
fn vector_4_the_certificate_is_the_device() {
    let (server, mut links) = server();
    let message = hex("44021236deadbeef b3617069 027631 0974656c656d65747279 ff7b2274223a317d");
    for (name, link) in &mut links {
        assert_eq!(
            exchange(link, name, &message),
            hex("64811236deadbeef"),
            "{name}"
        );
    }
    let mut unknown = Link::certificate(&server, &server.unregistered_certificate("stranger"));
    assert_eq!(
        exchange(&mut unknown, "unknown", &message),
        hex("64811236deadbeef")
    );
    let files = server.certificate_device("leaf");
    let mut known = Link::certificate(&server, &files);
    assert_eq!(
        exchange(&mut known, "known", &message),
        hex("64411236deadbeef")
    );
    assert_eq!(server.latest("leaf")["t"]["value"], json!(1));
    // A certificate of device A and the token of device B in the path: the data belongs to A.
    let crossed = post(0x1300, &format!("{BASE} {TELEMETRY}"), "{\"whose\":1}");
    assert_eq!(
        exchange(&mut known, "crossed", &crossed),
        bare(0x41, 0x1300)
    );
    assert_eq!(server.latest("leaf")["whose"]["value"], json!(1));
    assert_eq!(server.latest("vector").get("whose"), None);
}

/// A certificate for `name` that ended in 2021, registered as that device.
fn expired_device(server: &Server, name: &str) -> (PathBuf, PathBuf) {
    let mut parameters = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = parameters.self_signed(&key).unwrap().pem();
    let files = (server.path("expired.pem"), server.path("expired_key.pem"));
    std::fs::write(&files.0, certificate).unwrap();
    std::fs::write(&files.1, key.serialize_pem()).unwrap();
    server.tidegate_ok(&["device", "add", name, "--x509", "expired.pem"]);
    files
}

/// The rest of this vector: `lifecycle` (two devices from one port), vector 4 here (a self-signed
/// certificate works, and goes before a token), `psk` of the interoperability tests (a ClientHello
/// with nothing but PSK).
#[test]
fn vector_17_an_expired_certificate() {
    let message = hex("44021236deadbeef b3617069 027631 0974656c656d65747279 ff7b2274223a317d");
    let server = Server::start(&[]);
    let files = expired_device(&server, "old");
    let alert = Link::refused(&server, &files);
    assert_eq!(alert, AlertDescription::BadCertificate);
    assert_eq!(alert.code(), 42);
    let skip = "TB_COAP_X509_DTLS_SKIP_VALIDITY_CHECK_FOR_CLIENT_CERT";
    let server = Server::start(&[(skip, "true")]);
    let files = expired_device(&server, "old");
    let mut link = Link::certificate(&server, &files);
    let answer = exchange(&mut link, "expired", &message);
    assert_eq!(answer, hex("64411236deadbeef"));
    assert_eq!(server.latest("old")["t"]["value"], json!(1));
}

#[test]
fn vector_5_paths_and_methods() {
    let (_server, mut links) = server();
    let wrong = "b3617069 027631 0557524f4e47";
    let cases = [
        (0x02, format!("{wrong} {TELEMETRY}"), 0x81),
        (0x02, format!("{wrong} 03666f6f"), 0x80),
        (0x01, format!("{BASE} {TELEMETRY}"), 0x80),
        (0x03, format!("{BASE} {TELEMETRY}"), 0x85),
        // DELETE, FETCH, PATCH, iPATCH (RFC 8132).
        (0x04, format!("{BASE} {TELEMETRY}"), 0x85),
        (0x05, format!("{BASE} {TELEMETRY}"), 0x85),
        (0x06, format!("{BASE} {TELEMETRY}"), 0x85),
        (0x07, format!("{BASE} {TELEMETRY}"), 0x85),
        (0x01, "b46e6f7065".to_owned(), 0x84),
        (0x02, "b3617069 027631".to_owned(), 0x80),
    ];
    for (name, link) in &mut links {
        for (index, (method, path, expected)) in cases.iter().enumerate() {
            let message_id = 0x1500 + u16::try_from(index).unwrap();
            let message = request(*method, message_id, path, "{}");
            assert_eq!(
                exchange(link, name, &message),
                bare(*expected, message_id),
                "{name}: {method} {path}"
            );
        }
    }
}

#[test]
fn vector_6_telemetry_bodies() {
    let (server, mut links) = server();
    let cases = [
        ("", 0x80),
        ("5", 0x80),
        ("[1]", 0x80),
        ("{\"a\":", 0x80),
        ("{}", 0x41),
        ("{\"a\":null}", 0x41),
        (
            "{\"ts\":1451649600512,\"values\":{\"key1\":\"value1\",\"key2\":true}}",
            0x41,
        ),
        ("[{\"a\":1},{\"ts\":5,\"values\":{\"b\":2}}]", 0x41),
        ("{\"ts\":1,\"values\":3}", 0x80),
        ("{\"ts\":\"x\",\"values\":{}}", 0xa0),
        ("{\"s\":\"007\"}", 0x41),
        ("{\"d\":25.0}", 0x41),
        ("{\"n\":9223372036854775808}", 0x41),
    ];
    for (name, link) in &mut links {
        for (index, (body, expected)) in cases.iter().enumerate() {
            let message_id = 0x1600 + u16::try_from(index).unwrap();
            let message = post(message_id, &format!("{BASE} {TELEMETRY}"), body);
            assert_eq!(
                exchange(link, name, &message),
                bare(*expected, message_id),
                "{name}: {body}"
            );
        }
        let latest = server.latest("vector");
        let at = |key: &str, ts: u64, value: Value| {
            assert_eq!(
                latest[key],
                json!({"ts": ts, "value": value}),
                "{name}: {key}"
            );
        };
        at("key1", 1_451_649_600_512, json!("value1"));
        at("key2", 1_451_649_600_512, json!(true));
        at("b", 5, json!(2));
        assert_eq!(latest["s"]["value"], json!(7), "{name}");
        assert_eq!(latest["d"]["value"].to_string(), "25.0", "{name}");
        assert_eq!(latest["n"]["value"], json!("9223372036854775808"), "{name}");
    }
}

#[test]
fn vector_7_attribute_bodies() {
    let (_server, mut links) = server();
    for (name, link) in &mut links {
        let path = format!("{BASE} {ATTRIBUTES}");
        assert_eq!(
            exchange(link, name, &post(0x1700, &path, "{\"a\":1}")),
            bare(0x41, 0x1700),
            "{name}"
        );
        assert_eq!(
            exchange(link, name, &post(0x1701, &path, "[{\"a\":1}]")),
            bare(0x80, 0x1701),
            "{name}"
        );
    }
}

#[test]
fn vector_8_attributes_are_read() {
    let (_server, mut links) = server();
    for (name, link) in &mut links {
        let path = format!("{BASE} {ATTRIBUTES}");
        assert_eq!(
            exchange(link, name, &post(0x1801, &path, "{\"a\":1}")),
            bare(0x41, 0x1801),
            "{name}"
        );
        let read = hex(
            "44011237deadbeef b3617069 027631 084143434553533031 0a61747472696275746573 \
             4d01636c69656e744b6579733d612c62 0c7368617265644b6579733d63",
        );
        let mut expected = hex("64451237deadbeef c132 ff");
        expected.extend_from_slice(b"{\"client\":{\"a\":1}}");
        assert_eq!(exchange(link, name, &read), expected, "{name}");
        // Without any match: 4.04, Content-Format still there, no payload.
        let miss = request(
            0x01,
            0x1803,
            &format!("{path} 4c636c69656e744b6579733d7a"),
            "",
        );
        assert_eq!(
            exchange(link, name, &miss),
            hex("64841803deadbeef c132"),
            "{name}"
        );
        let all = exchange(link, name, &request(0x01, 0x1804, &path, ""));
        assert_eq!(all[..10], hex("64451804deadbeef c132")[..], "{name}");
        assert_eq!(all[10..], *b"\xff{\"client\":{\"a\":1}}", "{name}");
    }
}
