//! dimpl, a DTLS stack in Rust of other authors.

use super::peers::{Printed, hex};
use super::support::Server;
use super::{certificate_telemetry_post, created};

#[test]
fn a_client_certificate_is_the_device() {
    let server = Server::start(&[]);
    let (certificate, key) = server.certificate_device("tracker");
    let messages = [1, 2].map(|speed| {
        let body = format!("{{\"speed\":{speed}}}");
        hex(&certificate_telemetry_post(0x5200 + speed, &body))
    });
    let arguments = [
        &format!("127.0.0.1:{}", server.secure_port),
        "--cert",
        certificate.to_str().unwrap(),
        "--key",
        key.to_str().unwrap(),
        "--send",
        &messages[0],
        "--send",
        &messages[1],
    ];
    let printed = Printed::by("dimpl", &server, &arguments);
    let answers = [0x5201, 0x5202].map(|message_id| hex(&created(message_id)));
    assert_eq!(printed.all("received"), answers);
    assert_eq!(
        server.latest("tracker")["speed"]["value"],
        serde_json::json!(2)
    );
}
