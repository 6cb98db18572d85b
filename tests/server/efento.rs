//! A sensor of Efento (thingsboard-coap, section 7.11) at the running server, on plain CoAP and over DTLS.

use serde_json::{Value, json};

use super::support::{Link, Server, hex};

fn post(message_id: u16, resource: char, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0x44, 0x02];
    message.extend_from_slice(&message_id.to_be_bytes());
    message.extend_from_slice(&hex("deadbeef b66566656e746f 01"));
    message.push(u8::try_from(resource).unwrap());
    message.push(0xff);
    message.extend_from_slice(body);
    message
}

#[test]
fn a_sensor_s_messages_become_readings_and_attributes() {
    let server = Server::start(&[]);
    server.tidegate_ok(&["profile", "add", "sensors", "deviceType=EFENTO"]);
    let add = ["device", "add", "sensor", "--token", "EFENTO"];
    server.tidegate_ok(&[&add[..], &["--profile", "sensors"]].concat());
    // Serial number, battery, a period of 180 s; channel 1 measures temperature, from 1700000000 s on,
    // 22.3 and 22.4 degrees; the token.
    let measurements = hex("0a04000004d2 1001 18b401 \
         220e 0801 1080e2cfaa06 2a04be03c003 820106 4546454e544f");
    let configuration = hex("10b401 c20106 4546454e544f");
    let links = [
        ("coap", Link::plain(&server)),
        ("coaps", Link::anonymous(&server)),
    ];
    for (name, mut link) in links {
        let answer = link.exchange(&post(0x2100, 'm', &measurements));
        assert_eq!(answer, Some(hex("64412100deadbeef")), "{name}");
        let latest = server.latest("sensor");
        let expected = json!({"ts": 1_700_000_180_000_u64, "value": 22.4});
        assert_eq!(latest["temperature_1"], expected, "{name}");
        assert_eq!(latest["serial"]["value"], "000004D2", "{name}");
        assert_eq!(latest["measurement_interval"]["value"], 180, "{name}");
        let first = server.tidegate_ok(&["data", "history", "sensor", "temperature_1"]);
        assert!(first.contains("22.3"), "{name}: {first}");
        let answer = link.exchange(&post(0x2101, 'c', &configuration));
        assert_eq!(answer, Some(hex("64412101deadbeef")), "{name}");
        let read = server.tidegate_ok(&["attr", "get", "sensor", "--scope", "client"]);
        let read: Value = serde_json::from_str(&read).unwrap();
        assert_eq!(read["measurement_period_base"]["value"], 180, "{name}");
        let answer = link.exchange(&post(0x2102, 'i', &measurements[..4]));
        assert_eq!(answer, Some(hex("64802102deadbeef")), "{name}: torn");
        let clock = link.exchange(&hex("44012103deadbeef b66566656e746f 0174"));
        let clock = clock.expect("the time");
        assert_eq!(clock[..9], hex("64452103deadbeef ff"), "{name}");
        let seconds = u32::from_be_bytes(clock[9..].try_into().expect("four bytes"));
        assert!(seconds > 1_700_000_000, "{name}");
    }
}
