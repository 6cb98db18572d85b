//! The conformance vectors, byte for byte.

use super::*;
use crate::auth::request::RequestMessage;

const VECTORS: &str = include_str!("../../../tests/vectors/coap-messages.txt");

fn parse_code(text: &str) -> u8 {
    let (class, detail) = text.split_once('.').unwrap();
    class.parse::<u8>().unwrap() << 5 | detail.parse::<u8>().unwrap()
}

fn absent_or<'a, T>(text: &'a str, parse: impl FnOnce(&'a str) -> T) -> Option<T> {
    (text != "-").then(|| parse(text))
}

fn parse_request(line: &str) -> RequestMessage {
    let fields: Vec<&str> = line.splitn(5, ' ').collect();
    let method = ["", "GET", "POST", "PUT"]
        .iter()
        .position(|name| *name == fields[0])
        .and_then(|method| u8::try_from(method).ok())
        .unwrap();
    let path = fields[2].split('/');
    let queries = absent_or(fields[3], |text| text.split('&'));
    let mut request = RequestMessage::new(method)
        .with_path(path.map(|segment| segment.replace("%2F", "/")))
        .with_queries(queries.into_iter().flatten())
        .with_payload(absent_or(fields[4], |text| text).unwrap_or_default());
    request.content_format = absent_or(fields[1], |text| text.parse().unwrap());
    request
}

fn parse_response(line: &str) -> Response {
    let fields: Vec<&str> = line.splitn(3, ' ').collect();
    Response {
        code: parse_code(fields[0]),
        content_format: absent_or(fields[1], |text| text.parse().unwrap()),
        payload: absent_or(fields[2], |text| text.as_bytes().to_vec()).unwrap_or_default(),
        ..Response::default()
    }
}

#[test]
fn requests_are_read_and_answers_written_byte_for_byte() {
    let text: Vec<&str> = VECTORS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    let mut seen = 0;
    for vector in text
        .split(|line| line.is_empty())
        .filter(|vector| !vector.is_empty())
    {
        let &[name, received, request, answer, sent] = vector else {
            panic!("{vector:?}");
        };
        let mut peer = Peer::new();
        let Input::Request { exchange, message } = peer.receive_hex(received) else {
            panic!("{name}");
        };
        assert_eq!(message, parse_request(request), "{name}");
        assert_eq!(
            peer.respond(exchange, &parse_response(answer)),
            Ok(()),
            "{name}"
        );
        let [out] = peer.sent().try_into().unwrap();
        let masked = format!("{}xxxx{}", &out[..4], &out[8..]);
        assert!(out == sent || masked == sent, "{name}: {out}");
        seen += 1;
    }
    assert_eq!(seen, 29);
}
