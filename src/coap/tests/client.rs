//! The client's exchange, message by message (RFC 7252 sections 4.2, 4.3, 5.2, 5.3).

use super::super::client::{
    ClientExchange, ClientInput, ClientTimeout, RequestParts, RequestTemplate, StartError,
};
use super::*;

struct Device {
    exchange: ClientExchange,
    settings: Settings,
    random: SeededRandom,
    now: Instant,
    sent: Vec<String>,
}

impl Device {
    fn new() -> Self {
        let mut random = SeededRandom::new(3);
        Self {
            exchange: ClientExchange::new(&mut random),
            settings: Settings::default(),
            random,
            now: Instant::from_micros(1_000_000),
            sent: Vec::new(),
        }
    }

    fn run<T>(
        &mut self,
        action: impl FnOnce(&mut ClientExchange, Instant, &mut Context<'_>) -> T,
    ) -> T {
        let sent = &mut self.sent;
        let mut cx = Context {
            settings: &self.settings,
            random: &mut self.random,
            out: &mut |message| sent.push(to_hex(message)),
            buffers: &mut SpareBuffers::default(),
        };
        action(&mut self.exchange, self.now, &mut cx)
    }

    fn start(&mut self, confirmable: bool) -> Result<(), StartError> {
        let template = template();
        self.run(|exchange, now, cx| {
            let timeout = Duration::from_secs(30);
            exchange.start(now, &template, confirmable, b"{}", timeout, cx)
        })
    }

    /// Starts a request; its Message ID and token.
    fn started(confirmable: bool) -> (Self, String, String) {
        let mut device = Self::new();
        device.start(confirmable).unwrap();
        let sent = device.sent.pop().unwrap();
        (device, sent[4..8].to_owned(), sent[8..16].to_owned())
    }

    fn receive(&mut self, message: &str) -> ClientInput {
        let message = from_hex(message);
        self.run(|exchange, _, cx| exchange.handle_message(&message, cx))
    }

    fn sent(&mut self) -> Vec<String> {
        std::mem::take(&mut self.sent)
    }
}

fn template() -> RequestTemplate {
    RequestTemplate::new(&RequestParts {
        method: code::POST,
        path: &["api", "v1", "ACCESS01", "telemetry"],
        content_format: Some(50),
        ..RequestParts::default()
    })
    .unwrap()
}

fn answer(code: u8, payload: std::ops::Range<usize>) -> ClientInput {
    ClientInput::Answer {
        code,
        observe: None,
        payload,
    }
}

const UNMATCHED: ClientInput = ClientInput::Dropped(DropReason::CoapUnmatched);

/// The first conformance vector, as its sender.
#[test]
fn encodes_into_a_buffer_that_is_used_again() {
    let mut out = vec![1; 100];
    let token = [0xde, 0xad, 0xbe, 0xef];
    template().encode(true, 0x1234, &token, br#"{"temperature":25}"#, &mut out);
    let head = "44021234deadbeefb36170690276310841434345535330310974656c656d657472791132";
    assert_eq!(
        to_hex(&out),
        format!("{head}ff7b2274656d7065726174757265223a32357d")
    );
    template().encode(false, 0x1234, &token, b"", &mut out);
    assert_eq!(to_hex(&out), format!("54{}", &head[2..]));
    let parts = RequestParts {
        method: code::GET,
        queries: &["a=1", "b=2"],
        observe: Some(0),
        ..RequestParts::default()
    };
    RequestTemplate::new(&parts)
        .unwrap()
        .encode(true, 1, &[9; 20], b"", &mut out);
    assert_eq!(
        to_hex(&out),
        "480100010909090909090909609361 3d3103623d32".replace(' ', "")
    );
}

#[test]
fn an_answer_in_the_ack_needs_both_message_id_and_token() {
    let (mut device, id, token) = Device::started(true);
    assert_eq!(device.start(true), Err(StartError::Busy));
    assert_eq!(device.receive(&format!("6445{id}00000000")), UNMATCHED);
    assert_eq!(device.receive(&format!("64450000{token}")), UNMATCHED);
    assert_eq!(
        device.receive(&format!("6445{id}{token}c132ff7b7d")),
        answer(0x45, 11..13)
    );
    assert!(device.exchange.is_idle());
    assert_eq!(
        device.receive(&format!("6445{id}{token}c132ff7b7d")),
        UNMATCHED
    );
    assert_eq!(device.sent(), [""; 0]);
    assert_eq!(device.start(true), Ok(()));
}

/// RFC 7252 section 5.2.2: the separate answer is acknowledged, each copy of it, with or without the
/// empty ACK before it.
#[test]
fn a_separate_answer_is_acknowledged() {
    for empty_ack_arrives in [true, false] {
        let (mut device, id, token) = Device::started(true);
        if empty_ack_arrives {
            assert_eq!(
                device.receive(&format!("6000{id}")),
                ClientInput::Acknowledged
            );
            let wait = device.exchange.next_timeout().unwrap();
            assert_eq!(wait, device.now + Duration::from_secs(30));
        }
        assert_eq!(
            device.receive(&format!("44417001{token}")),
            answer(0x41, 8..8)
        );
        assert_eq!(device.sent(), ["60007001"]);
        let again = device.receive(&format!("44417001{token}"));
        assert_eq!(again, ClientInput::Dropped(DropReason::CoapDuplicate));
        assert_eq!(device.sent(), ["60007001"]);
        // RFC 7252 section 4.2: one that nobody waits for is rejected.
        assert_eq!(device.receive(&format!("44417002{token}")), UNMATCHED);
        assert_eq!(device.sent(), ["70007002"]);
    }
}

#[test]
fn a_non_is_answered_by_a_non_or_never() {
    let (mut device, id, token) = Device::started(false);
    assert_eq!(device.receive(&format!("6441{id}{token}")), UNMATCHED);
    assert_eq!(
        device.receive(&format!("54417001{token}")),
        answer(0x41, 8..8)
    );
    device.start(false).unwrap();
    let deadline = device.exchange.next_timeout().unwrap();
    assert_eq!(deadline, device.now + Duration::from_secs(30));
    device.now = deadline;
    let timeout = device.run(|exchange, now, cx| exchange.handle_timeout(now, cx));
    assert_eq!(timeout, ClientTimeout::TimedOut);
    assert!(device.exchange.is_idle());
    assert_eq!(device.sent().len(), 1);
}

#[test]
fn a_reset_ends_the_exchange() {
    for confirmable in [true, false] {
        let (mut device, id, _) = Device::started(confirmable);
        assert_eq!(device.receive("70000000"), UNMATCHED);
        let malformed = ClientInput::Dropped(DropReason::CoapMalformed);
        assert_eq!(device.receive(&format!("7000{id}00")), malformed);
        assert_eq!(device.receive(&format!("7000{id}")), ClientInput::Reset);
        assert!(device.exchange.is_idle());
    }
}

/// RFC 7252 section 4.2.
#[test]
fn a_request_is_sent_again_until_the_deadline() {
    let (mut device, ..) = Device::started(true);
    let mut copies = Vec::new();
    loop {
        device.now = device.exchange.next_timeout().unwrap();
        if device.run(|exchange, now, cx| exchange.handle_timeout(now, cx))
            == ClientTimeout::TimedOut
        {
            break;
        }
        copies.extend(device.sent());
    }
    // 2-3 s, 6-9 s, 14-21 s; the next would be at 30-45 s.
    assert_eq!(copies.len(), 3);
    assert!(copies.iter().all(|copy| copy == &copies[0]));
    assert_eq!(device.exchange.retransmissions(), 3);
    assert_eq!(device.exchange.next_timeout(), None);
}

/// RFC 7252 sections 3, 4.2, 5.4.1.
#[test]
fn what_is_no_answer_is_rejected() {
    let (mut device, id, token) = Device::started(true);
    let dropped = ClientInput::Dropped;
    assert_eq!(device.receive("40007001"), dropped(DropReason::CoapCode));
    assert_eq!(device.receive("40017002"), dropped(DropReason::CoapCode));
    assert_eq!(
        device.receive(&format!("44457003{token}ff")),
        dropped(DropReason::CoapMalformed)
    );
    assert_eq!(
        device.receive(&format!("44457004{token}90")),
        dropped(DropReason::CoapOption)
    );
    assert_eq!(
        device.sent(),
        ["70007001", "70007002", "70007003", "70007004"]
    );
    assert_eq!(
        device.receive(&format!("6445{id}{token}90")),
        dropped(DropReason::CoapOption)
    );
    assert_eq!(
        device.receive(&format!("6401{id}{token}")),
        dropped(DropReason::CoapCode)
    );
    assert_eq!(device.receive("80457003"), dropped(DropReason::CoapVersion));
    assert!(!device.exchange.is_idle());
    assert_eq!(device.sent(), [""; 0]);
}

/// RFC 7641 sections 3.1, 3.2 and 4.2: an Observe option in the answer begins an observation, a
/// notification without it ends one, and what nobody observes is rejected (section 3.6).
#[test]
fn the_client_observes_under_the_token_of_its_request() {
    let (mut device, id, token) = Device::started(true);
    let answer = device.receive(&format!("6445{id}{token}60"));
    assert!(matches!(
        answer,
        ClientInput::Answer {
            observe: Some(0),
            ..
        }
    ));
    let under = device.exchange.token();
    assert_eq!(device.exchange.observations(), [under]);
    let notification = |observe, payload| ClientInput::Notification {
        token: under,
        code: 0x45,
        observe,
        payload,
    };
    let first = format!("44450101{token}6101ff31");
    assert_eq!(device.receive(&first), notification(Some(1), 11..12));
    assert_eq!(device.sent(), ["60000101"]);
    // It came again: acknowledged again, and not told again.
    let again = device.receive(&first);
    assert_eq!(again, ClientInput::Dropped(DropReason::CoapDuplicate));
    assert_eq!(device.sent(), ["60000101"]);
    let last = device.receive(&format!("44450102{token}"));
    assert_eq!(last, notification(None, 8..8));
    assert!(device.exchange.observations().is_empty());
    device.sent();
    assert_eq!(device.receive(&format!("44450103{token}6102")), UNMATCHED);
    assert_eq!(device.sent(), ["70000103"]);
}
