//! The message layer from outside: bytes in, bytes out.

mod block;
mod client;
mod codec;
mod deduplication;
mod echo;
mod link;
mod observe;
mod observe_again;
mod observe_link;
mod property;
mod request_options;
mod separate;
mod state_table;
mod vectors;

use super::*;
use crate::auth::request::Response;
use crate::random::SeededRandom;
use crate::time::Instant;

/// A layer with its surroundings.
struct Peer {
    layer: MessageLayer,
    settings: Settings,
    random: SeededRandom,
    now: Instant,
    sent: Vec<Vec<u8>>,
    buffers: SpareBuffers,
}

impl Peer {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let mut random = SeededRandom::new(11);
        Self {
            layer: MessageLayer::new(&mut random),
            settings,
            random,
            now: Instant::from_micros(5_000_000),
            sent: Vec::new(),
            buffers: SpareBuffers::default(),
        }
    }

    /// Runs `action` on the layer with a context that collects what is sent.
    fn run<T>(
        &mut self,
        action: impl FnOnce(&mut MessageLayer, Instant, &mut Context<'_>) -> T,
    ) -> T {
        let sent = &mut self.sent;
        let mut cx = Context {
            settings: &self.settings,
            random: &mut self.random,
            out: &mut |message| sent.push(message.to_vec()),
            buffers: &mut self.buffers,
        };
        action(&mut self.layer, self.now, &mut cx)
    }

    fn receive(&mut self, message: &[u8]) -> Input {
        self.run(|layer, now, cx| layer.handle_message(now, message, cx))
    }

    fn receive_hex(&mut self, message: &str) -> Input {
        self.receive(&from_hex(message))
    }

    /// Receives a request that is expected to come through.
    fn request(&mut self, message: &str) -> u32 {
        match self.receive_hex(message) {
            Input::Request { exchange, .. } => exchange,
            other => panic!("{message}: {other:?}"),
        }
    }

    fn respond(&mut self, exchange: u32, response: &Response) -> Result<(), DropReason> {
        self.run(|layer, now, cx| layer.respond(now, exchange, response, cx))
    }

    /// Lets time pass, calling at each timeout.
    fn advance(&mut self, millis: u64) -> Timeouts {
        let end = self.now + Duration::from_millis(millis);
        let mut total = Timeouts::default();
        while let Some(at) = self.layer.next_timeout()
            && at <= end
        {
            assert!(at >= self.now, "a timeout in the past");
            self.now = at;
            let timeouts = self.run(|layer, now, cx| layer.handle_timeout(now, cx));
            assert!(
                self.layer.next_timeout() != Some(at),
                "the same timeout again"
            );
            total.retransmitted += timeouts.retransmitted;
            total.abandoned += timeouts.abandoned;
        }
        self.now = end;
        total
    }

    /// What was sent since the last call, in hexadecimal.
    fn sent(&mut self) -> Vec<String> {
        self.sent
            .drain(..)
            .map(|message| to_hex(&message))
            .collect()
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| u8::try_from(c.to_digit(16).unwrap()).unwrap())
        .collect();
    assert_eq!(digits.len() % 2, 0, "{text}");
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn text_response(code: u8, text: &str) -> Response {
    Response {
        code,
        content_format: Some(0),
        payload: text.as_bytes().to_vec(),
        ..Response::default()
    }
}
