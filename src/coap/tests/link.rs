//! A client and the layer over a link that loses, repeats, delays and reorders, from a seed.

use std::collections::{BTreeMap, BTreeSet};

use super::super::client::{
    ClientExchange, ClientInput, ClientTimeout, RequestParts, RequestTemplate,
};
use super::*;

/// How bad the link is, in percent, and how slow the work behind the layer.
#[derive(Clone, Copy)]
struct Faults {
    loss: u64,
    duplication: u64,
    delay_max_ms: u64,
    work_max_ms: u64,
}

enum Event {
    ToServer(Vec<u8>),
    ToClient(Vec<u8>),
    /// The answer to a request is ready.
    Respond(u32, u64),
}

struct Link {
    peer: Peer,
    client: ClientExchange,
    events: BTreeMap<(Instant, u64), Event>,
    random: SeededRandom,
    faults: Faults,
    /// Requests as the server handled them: payload numbers.
    handled: Vec<u64>,
    sequence: u64,
}

impl Link {
    fn new(seed: u64, faults: Faults) -> Self {
        let mut random = SeededRandom::new(seed);
        let mut peer = Peer::new();
        peer.layer = MessageLayer::new(&mut random);
        Self {
            peer,
            client: ClientExchange::new(&mut random),
            events: BTreeMap::new(),
            random,
            faults,
            handled: Vec::new(),
            sequence: 0,
        }
    }

    fn schedule(&mut self, after_ms: u64, event: Event) {
        self.sequence += 1;
        let at = self.peer.now + Duration::from_millis(after_ms);
        self.events.insert((at, self.sequence), event);
    }

    /// Sends messages over the link, each none, once or twice.
    fn transmit(&mut self, messages: Vec<Vec<u8>>, to_event: fn(Vec<u8>) -> Event) {
        for message in messages {
            let copies = match self.random.below(100) {
                roll if roll < self.faults.loss => 0,
                roll if roll < self.faults.loss + self.faults.duplication => 2,
                _ => 1,
            };
            for _ in 0..copies {
                let delay = self.random.below(self.faults.delay_max_ms + 1);
                self.schedule(delay, to_event(message.clone()));
            }
        }
    }

    fn with_client<T>(
        &mut self,
        action: impl FnOnce(&mut ClientExchange, Instant, &mut Context<'_>) -> T,
    ) -> T {
        let mut sent = Vec::new();
        let mut cx = Context {
            settings: &self.peer.settings,
            random: &mut self.random,
            out: &mut |message| sent.push(message.to_vec()),
            buffers: &mut SpareBuffers::default(),
        };
        let result = action(&mut self.client, self.peer.now, &mut cx);
        self.transmit(sent, Event::ToServer);
        result
    }

    fn flush_server(&mut self) {
        let sent = std::mem::take(&mut self.peer.sent);
        self.transmit(sent, Event::ToClient);
    }

    /// Sends request `number` and runs until its answer came or was given up.
    fn exchange(&mut self, number: u64, confirmable: bool) -> Option<u64> {
        let template = RequestTemplate::new(&RequestParts {
            method: code::POST,
            path: &["count"],
            ..RequestParts::default()
        })
        .unwrap();
        let payload = number.to_string();
        self.with_client(|client, now, cx| {
            let timeout = Duration::from_secs(120);
            client.start(now, &template, confirmable, payload.as_bytes(), timeout, cx)
        })
        .unwrap();
        while !self.client.is_idle() {
            if let Some(answer) = self.step() {
                return Some(answer);
            }
        }
        None
    }

    /// Does the next thing that is due; the answer if it reached the client.
    fn step(&mut self) -> Option<u64> {
        let event_at = self.events.keys().next().map(|&(at, _)| at);
        let timers = [self.peer.layer.next_timeout(), self.client.next_timeout()];
        let next = timers.into_iter().chain([event_at]).flatten().min()?;
        self.peer.now = next;
        if event_at != Some(next) {
            self.peer
                .run(|layer, now, cx| layer.handle_timeout(now, cx));
            self.flush_server();
            let timeout = self.with_client(|client, now, cx| client.handle_timeout(now, cx));
            assert!(timeout == ClientTimeout::Nothing || self.client.is_idle());
            return None;
        }
        match self.events.pop_first()?.1 {
            Event::ToServer(message) => {
                if let Input::Request { exchange, message } = self.peer.receive(&message) {
                    let number = std::str::from_utf8(message.payload())
                        .unwrap()
                        .parse()
                        .unwrap();
                    self.handled.push(number);
                    let work = self.random.below(self.faults.work_max_ms + 1);
                    self.schedule(work, Event::Respond(exchange, number));
                }
                self.flush_server();
                None
            }
            Event::Respond(exchange, number) => {
                let response = text_response(code::CONTENT, &number.to_string());
                self.peer.respond(exchange, &response).unwrap();
                self.flush_server();
                None
            }
            Event::ToClient(message) => {
                let input = self.with_client(|client, _, cx| client.handle_message(&message, cx));
                let ClientInput::Answer { code, payload, .. } = input else {
                    return None;
                };
                assert_eq!(code, code::CONTENT);
                let text = std::str::from_utf8(&message[payload]).unwrap();
                Some(text.parse().unwrap())
            }
        }
    }
}

/// Runs many requests: none is handled twice, each answer is its own, and how many were answered.
fn run(seed: u64, faults: Faults, confirmable: bool) -> (u64, Link) {
    let mut link = Link::new(seed, faults);
    let count = 60;
    let mut answered = 0;
    for number in 0..count {
        if let Some(answer) = link.exchange(number, confirmable) {
            assert_eq!(answer, number, "seed {seed}");
            answered += 1;
            assert!(link.handled.contains(&number));
        }
    }
    let distinct: BTreeSet<u64> = link.handled.iter().copied().collect();
    assert_eq!(
        distinct.len(),
        link.handled.len(),
        "seed {seed}: handled twice"
    );
    (answered, link)
}

#[test]
fn a_good_link_needs_one_message_each_way() {
    let faults = Faults {
        loss: 0,
        duplication: 0,
        delay_max_ms: 20,
        work_max_ms: 5,
    };
    for confirmable in [true, false] {
        let (answered, link) = run(1, faults, confirmable);
        assert_eq!((answered, link.client.retransmissions()), (60, 0));
    }
}

/// Every CON is handled exactly once and answered exactly once, however slow the work.
#[test]
fn confirmable_requests_survive_a_bad_link() {
    let mut retransmissions = 0;
    for seed in 0..40 {
        for work_max_ms in [10, 1_500, 20_000] {
            let faults = Faults {
                loss: 15,
                duplication: 20,
                delay_max_ms: 900,
                work_max_ms,
            };
            let (answered, link) = run(seed, faults, true);
            // Five copies lost in a row, of request or answer, are one in ten thousand.
            assert!(answered >= 59, "seed {seed}: {answered}");
            assert!(link.handled.len() >= 59);
            retransmissions += link.client.retransmissions();
        }
    }
    assert!(
        retransmissions > 1_000,
        "the link was not bad: {retransmissions}"
    );
}

#[test]
fn non_confirmable_requests_are_handled_at_most_once() {
    for seed in 0..40 {
        let faults = Faults {
            loss: 15,
            duplication: 30,
            delay_max_ms: 900,
            work_max_ms: 700,
        };
        let (answered, _) = run(seed, faults, false);
        assert!((20..60).contains(&answered), "seed {seed}: {answered}");
    }
}
