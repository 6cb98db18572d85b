//! Power saving (thingsboard-coap, section 8.4) at the running server: what waits for a device that
//! sleeps, and what it is told when it wakes. Its window is changed in the profile while it sleeps, so
//! that no test depends on how fast the machine is.

use super::support::{Link, Server, hex};

/// Uri-Path api, v1, ACCESS01.
const BASE: &str = "53617069 027631 084143434553533031";
const ATTRIBUTES: &str = "0a61747472696275746573";
const ASLEEP: &str = "powerSaving.psmActivityTimer=1";
const AWAKE: &str = "powerSaving.psmActivityTimer=3600000";

fn device(mode: &str) -> (Server, Link) {
    let server = Server::start(&[]);
    server.tidegate_ok(&["device", "add", "vector", "--token", "ACCESS01"]);
    server.tidegate_ok(&["profile", "set", "default", mode]);
    let link = Link::anonymous(&server);
    (server, link)
}

/// POST telemetry, which is an uplink; answered 2.01 before anything that it lets go.
fn uplink(link: &mut Link, message_id: u16) {
    let mut message = vec![0x44, 0x02];
    message.extend_from_slice(&message_id.to_be_bytes());
    message.extend_from_slice(&hex("cafecafe b3617069 027631 084143434553533031"));
    message.extend_from_slice(&hex("0974656c656d65747279 ff7b743a317d"));
    link.send(&message);
}

/// Message without type, token and Message ID; confirmable ones are acknowledged.
#[track_caller]
fn notified(link: &mut Link) -> Vec<u8> {
    let message = link.receive().expect("a notification");
    if message[0] == 0x44 {
        link.send(&[0x60, 0x00, message[2], message[3]]);
    }
    [&message[1..2], &message[8..]].concat()
}

#[test]
fn a_device_in_psm_is_told_once_when_it_wakes() {
    let (server, mut link) = device("powerSaving.mode=PSM");
    server.tidegate_ok(&["profile", "set", "default", AWAKE]);
    let subscribed = link.exchange(&hex(&format!("44011238deadbeef 60 {BASE} {ATTRIBUTES}")));
    assert_eq!(subscribed, Some(hex("64451238deadbeef 60 6132 ff7b7d")));
    server.tidegate_ok(&["attr", "set", "vector", "led=true", "fan=1"]);
    let awake = [&hex("45 6101 6132 ff")[..], b"{\"fan\":1,\"led\":true}"].concat();
    assert_eq!(notified(&mut link), awake);
    // Its own setting counts, not its profile's.
    server.tidegate_ok(&["device", "set", "vector", "powerSaving.mode=PSM", ASLEEP]);
    server.tidegate_ok(&["attr", "set", "vector", "led=false", "a=1"]);
    server.tidegate_ok(&["attr", "set", "vector", "a=2"]);
    server.tidegate_ok(&["attr", "delete", "vector", "fan"]);
    server.tidegate_ok(&["attr", "delete", "vector", "led"]);
    assert_eq!(link.receive_soon(), None, "it sleeps");
    server.tidegate_ok(&["device", "set", "vector", "powerSaving.mode=PSM", AWAKE]);
    uplink(&mut link, 0x2000);
    // The merged change may overtake the 2.01, which waits for the disk.
    let two = [notified(&mut link), notified(&mut link)];
    let merged = [
        &hex("45 6102 6132 ff")[..],
        b"{\"a\":2,\"deleted\":[\"fan\",\"led\"]}",
    ]
    .concat();
    assert!(two.contains(&vec![0x41]), "{two:02x?}");
    assert!(two.contains(&merged), "{two:02x?}");
    assert_eq!(link.receive_soon(), None, "one message for all of it");
}

#[test]
fn a_kept_call_waits_for_a_device_in_psm() {
    let (server, mut link) = device("powerSaving.mode=PSM");
    server.tidegate_ok(&["profile", "set", "default", ASLEEP]);
    let subscribed = link.exchange(&hex(&format!("4401123adeadbeef 60 {BASE} 03727063")));
    assert_eq!(subscribed, Some(hex("6443123adeadbeef 60")));
    let kept = ["rpc", "send", "vector", "update", "--persistent"];
    let kept = [&kept[..], &["--timeout-ms", "3600000"]].concat();
    server.tidegate_ok(&kept);
    assert_eq!(link.receive_soon(), None, "it sleeps");
    server.tidegate_ok(&["profile", "set", "default", AWAKE]);
    uplink(&mut link, 0x2000);
    let two = [notified(&mut link), notified(&mut link)];
    let body = b"{\"id\":0,\"method\":\"update\",\"params\":{}}";
    let call = [&hex("45 6101 6132 ff")[..], body].concat();
    assert!(two.contains(&call), "{two:02x?}");
}

#[test]
fn edrx_lets_one_more_message_through() {
    let (server, mut link) = device("powerSaving.mode=E_DRX");
    let window = |ms: &str| {
        let field = format!("powerSaving.pagingTransmissionWindow={ms}");
        server.tidegate_ok(&["profile", "set", "default", &field]);
    };
    window("1");
    // NON, so that no acknowledgement of a notification is an uplink.
    let subscribed = link
        .exchange(&hex(&format!("54011238deadbeef 60 {BASE} {ATTRIBUTES}")))
        .expect("an answer");
    assert_eq!(subscribed[8..], hex("60 6132 ff7b7d"));
    for set in ["a=1", "a=2", "b=3"] {
        server.tidegate_ok(&["attr", "set", "vector", set]);
    }
    let once = [&hex("45 6101 6132 ff")[..], b"{\"a\":1}"].concat();
    assert_eq!(notified(&mut link), once);
    assert_eq!(link.receive_soon(), None, "the one message is used");
    window("3600000");
    uplink(&mut link, 0x2000);
    let two = [notified(&mut link), notified(&mut link)];
    let merged = [&hex("45 6102 6132 ff")[..], b"{\"a\":2,\"b\":3}"].concat();
    assert!(two.contains(&merged), "{two:02x?}");
}
