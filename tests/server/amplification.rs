//! Plain CoAP as an amplifier: whoever claims another's address gets him little (RFC 7252 section 11.3,
//! RFC 9175 section 2.4).

use super::support::{Link, Server, hex};

const TOKEN: &str = "ACCESS01";
/// Uri-Path api, v1, ACCESS01, attributes.
const ATTRIBUTES: &str = "b3617069 027631 084143434553533031 0a61747472696275746573";
/// Headers of IPv4 and UDP, which a datagram has besides.
const HEADERS: usize = 28;

fn server(environment: &[(&str, &str)]) -> Server {
    let server = Server::start(environment);
    server.tidegate_ok(&["device", "add", "vector", "--token", TOKEN]);
    let long = format!("long={}", "x".repeat(500));
    server.tidegate_ok(&["attr", "set", "vector", &long]);
    server
}

/// Without a token there is nothing to be had that is longer than three times its question.
#[test]
fn strangers_get_no_more_than_three_times_what_they_send() {
    let server = server(&[]);
    let mut link = Link::plain(&server);
    let provision = r#"{"provisionDeviceKey":"k","provisionDeviceSecret":"s"}"#;
    let provision = [
        hex("4102000877 b3617069 027631 0970726f766973696f6e ff"),
        provision.into(),
    ];
    let wrong = ATTRIBUTES.replace("4143434553533031", "5752574f4e474f4e");
    let questions = [
        hex("40010001"),
        hex("40010002 bb2e77656c6c2d6b6e6f776e 04636f7265"),
        hex("40010003 b3617069"),
        hex("40010004 b178"),
        hex("40010005 90"),
        hex(&format!("40010006 {wrong}")),
        hex(&format!("40010007 60 5{}", &wrong[1..])),
        provision.concat(),
        hex("4101000977 b26677 085858585858585858"),
    ];
    for question in questions {
        let answer = link.exchange(&question).expect("an answer");
        let (came, went) = (question.len() + HEADERS, answer.len() + HEADERS);
        assert!(went <= 3 * came, "{went} bytes for {came}: {answer:02x?}");
        // Piggybacked, so nothing comes again.
        assert_eq!(answer[0] >> 4, 6, "{answer:02x?}");
    }
}

/// By default a token is enough, as clients are about that know no Echo.
#[test]
fn a_device_is_not_asked_for_an_echo_by_default() {
    let server = server(&[]);
    let mut link = Link::plain(&server);
    let answer = link.exchange(&hex(&format!("40011001 {ATTRIBUTES}")));
    let answer = answer.expect("an answer");
    assert_eq!((answer[1], answer.len() > 500), (0x45, true));
}

#[test]
fn a_device_repeats_an_echo_if_the_operator_wants_it() {
    let server = server(&[("TIDEGATE_PLAIN_COAP_ECHO", "true")]);
    let mut link = Link::plain(&server);
    let challenge = link.exchange(&hex(&format!("40011001 {ATTRIBUTES}")));
    let challenge = challenge.expect("an answer");
    assert_eq!(challenge[..6], hex("60811001 d8ef"), "{challenge:02x?}");
    assert_eq!(challenge.len(), 14);
    let again = [
        &hex(&format!("40011002 {ATTRIBUTES} d8e4"))[..],
        &challenge[6..],
    ]
    .concat();
    let answer = link.exchange(&again).expect("an answer");
    assert_eq!((answer[1], answer.len() > 500), (0x45, true));
    // To observe, too, and for each address by itself.
    let observe = |message_id: &str| {
        let rest = ATTRIBUTES.strip_prefix('b').expect("a first option");
        hex(&format!("4401{message_id}deadbeef 60 5{rest}"))
    };
    let first = link.exchange(&observe("1003")).expect("an answer");
    assert_eq!(first[1], 0x45);
    let mut other = Link::plain(&server);
    let first = other.exchange(&observe("1003")).expect("an answer");
    assert_eq!(first[1], 0x81);
    // A DTLS session has shown it by its handshake.
    let mut secure = Link::anonymous(&server);
    let first = secure.exchange(&observe("1003")).expect("an answer");
    assert_eq!(first[1], 0x45);
}
