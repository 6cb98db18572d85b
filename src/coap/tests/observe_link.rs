//! An observer and the layer over a link that loses, repeats, delays and reorders, from a seed.
//!
//! A pool in small keeps at most eight notifications at the layer, as the real one does, registers
//! the observer anew when the relation has ended, and goes on where it was. What must hold: each
//! notification arrives, in order, and once but where a relation ended before its acknowledgement; and
//! each relation ends at most once.

use std::collections::{BTreeMap, VecDeque};

use super::super::client::{ClientExchange, ClientInput, RequestParts, RequestTemplate};
use super::*;
use crate::auth::request::{Notification, PeerRef, RelationEnd, RelationEventKind, RelationId};

/// Notifications that the layer has at a time.
const WINDOW: usize = 8;

#[derive(Clone, Copy)]
struct Faults {
    loss: u64,
    duplication: u64,
    delay_max_ms: u64,
    confirmable: bool,
    /// The observer takes a Message ID that it has just acknowledged for done, in silence, as libcoap
    /// 4.3.1 does.
    mute: bool,
}

enum Event {
    ToServer(Vec<u8>),
    ToClient(Vec<u8>),
}

struct Link {
    peer: Peer,
    client: ClientExchange,
    events: BTreeMap<(Instant, u64), Event>,
    random: SeededRandom,
    faults: Faults,
    sequence: u64,
    /// The relation that is open, as the pool knows it.
    open: Option<u64>,
    relations: u64,
    ends: BTreeMap<u64, RelationEnd>,
    /// The next one to be given to the layer, and those that it has.
    next: u64,
    window: VecDeque<u64>,
    /// What the observer got, in order.
    got: Vec<u64>,
    /// Notifications under way that were given up with their relation.
    uncertain: u64,
    last_observe: Option<u32>,
    /// The Message ID of the last CON that the observer got.
    last_con: Option<u16>,
    /// Copies under a new Message ID.
    repeated: u64,
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
            sequence: 0,
            open: None,
            relations: 0,
            ends: BTreeMap::new(),
            next: 0,
            window: VecDeque::new(),
            got: Vec::new(),
            uncertain: 0,
            last_observe: None,
            last_con: None,
            repeated: 0,
        }
    }

    fn transmit(&mut self, messages: Vec<Vec<u8>>, to_event: fn(Vec<u8>) -> Event) {
        for message in messages {
            let copies = match self.random.below(100) {
                roll if roll < self.faults.loss => 0,
                roll if roll < self.faults.loss + self.faults.duplication => 2,
                _ => 1,
            };
            for _ in 0..copies {
                let delay = self.random.below(self.faults.delay_max_ms + 1);
                self.sequence += 1;
                let at = self.peer.now + Duration::from_millis(delay);
                self.events
                    .insert((at, self.sequence), to_event(message.clone()));
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

    fn register(&mut self) {
        let template = RequestTemplate::new(&RequestParts {
            method: code::GET,
            path: &["rpc"],
            observe: Some(0),
            ..RequestParts::default()
        })
        .unwrap();
        self.last_observe = None;
        let confirmable = self.faults.confirmable;
        self.with_client(|client, now, cx| {
            for token in client.observations().to_vec() {
                client.forget(token);
            }
            client.start(
                now,
                &template,
                confirmable,
                b"",
                Duration::from_secs(100),
                cx,
            )
        })
        .unwrap();
    }

    /// What the pool does: takes events, gives what there is room for.
    fn pool(&mut self, count: u64) {
        loop {
            for (relation, kind) in self.peer.events_of_relations() {
                assert!(!self.ends.contains_key(&relation), "an event after the end");
                match kind {
                    RelationEventKind::Ended(end) => {
                        self.ends.insert(relation, end);
                        if self.open == Some(relation) {
                            self.open = None;
                            self.next = self.window.front().copied().unwrap_or(self.next);
                            self.uncertain += self.window.len() as u64;
                            self.window.clear();
                        }
                    }
                    RelationEventKind::Acknowledged { delivery }
                    | RelationEventKind::Sent {
                        delivery,
                        confirmable: false,
                    } => {
                        assert_eq!(self.window.pop_front(), Some(delivery), "in order");
                    }
                    RelationEventKind::Sent { .. } => {}
                }
            }
            let Some(relation) = self.open else { return };
            if self.window.len() >= WINDOW || self.next >= count {
                return;
            }
            let notification = Notification {
                peer: PeerRef {
                    shard: 0,
                    slot: 0,
                    generation: 0,
                },
                relation: RelationId(relation),
                delivery: self.next,
                response: text_response(code::CONTENT, &self.next.to_string()),
                last: false,
            };
            self.window.push_back(self.next);
            self.next += 1;
            let taken = self
                .peer
                .run(|layer, now, cx| layer.notify(now, notification, cx));
            taken.unwrap();
        }
    }

    /// Does the next thing that is due; `false` when there is none.
    fn step(&mut self) -> bool {
        let event_at = self.events.keys().next().map(|&(at, _)| at);
        let timers = [self.peer.layer.next_timeout(), self.client.next_timeout()];
        let Some(next) = timers.into_iter().chain([event_at]).flatten().min() else {
            return false;
        };
        self.peer.now = self.peer.now.max(next);
        if event_at != Some(next) {
            self.peer
                .run(|layer, now, cx| layer.handle_timeout(now, cx));
            self.with_client(|client, now, cx| client.handle_timeout(now, cx));
            return true;
        }
        let Some((_, event)) = self.events.pop_first() else {
            return false;
        };
        match event {
            Event::ToServer(message) => {
                if let Input::Request { exchange, .. } = self.peer.receive(&message) {
                    self.relations += 1;
                    let response = Response {
                        relation: Some(RelationId(self.relations)),
                        ..Response::empty(code::CONTENT)
                    };
                    self.peer.respond(exchange, &response).unwrap();
                    self.open = Some(self.relations);
                }
            }
            Event::ToClient(message) => {
                let head = message::Head::decode(&message).unwrap();
                if head.kind == coap_lite::MessageType::Confirmable {
                    let before = self.last_con.replace(head.message_id);
                    if self.faults.mute && before == Some(head.message_id) {
                        return true;
                    }
                }
                let input = self.with_client(|client, _, cx| client.handle_message(&message, cx));
                // A notification that overtakes the answer is the answer for the client.
                if let ClientInput::Notification {
                    observe, payload, ..
                }
                | ClientInput::Answer {
                    observe, payload, ..
                } = input
                {
                    self.on_notification(observe, &message[payload]);
                }
            }
        }
        true
    }

    fn on_notification(&mut self, observe: Option<u32>, payload: &[u8]) {
        let observe = observe.expect("no last one is sent");
        // RFC 7641 section 3.4: what is older than what was seen is reordered, and only NON can be;
        // the same value again is a copy under another Message ID.
        if self.last_observe.is_some_and(|last| observe <= last) {
            let again = self.last_observe == Some(observe);
            assert!(again || !self.faults.confirmable, "reordered");
            self.repeated += u64::from(again);
            return;
        }
        self.last_observe = Some(observe);
        if payload.is_empty() {
            // The answer itself.
            return;
        }
        let number = std::str::from_utf8(payload).unwrap().parse().unwrap();
        self.got.push(number);
    }
}

impl Peer {
    fn events_of_relations(&mut self) -> Vec<(u64, RelationEventKind)> {
        let events = std::iter::from_fn(|| self.layer.next_event());
        events.map(|(relation, kind)| (relation.0, kind)).collect()
    }
}

/// Runs until `count` notifications arrived, or were sent.
fn run(seed: u64, faults: Faults, count: u64) -> Link {
    let mut link = Link::new(seed, faults);
    for _ in 0..2_000_000 {
        // The observer asks again when it has heard nothing.
        if link.client.is_idle() && (link.client.observations().is_empty() || link.open.is_none()) {
            link.register();
        }
        let alive = link.step();
        link.pool(count);
        let sent = std::mem::take(&mut link.peer.sent);
        link.transmit(sent, Event::ToClient);
        if !alive || (link.next >= count && link.window.is_empty() && link.events.is_empty()) {
            break;
        }
    }
    assert_eq!(link.next, count, "seed {seed}: stuck");
    link.peer.layer.end_relations(RelationEnd::SessionEnded);
    link.pool(count);
    assert_eq!(
        link.ends.len() as u64,
        link.relations,
        "seed {seed}: one end each"
    );
    assert_eq!(link.peer.layer.relation_memory(), (0, 0, 0));
    link
}

/// CON: every notification, in order, none twice but those that were under way when a relation ended
/// (its observer may have them, and gets them again in the next).
#[test]
fn an_observer_of_con_gets_all_over_a_bad_link() {
    let mut retried = 0;
    for seed in 0..60 {
        let faults = Faults {
            loss: 10 + seed % 3 * 10,
            duplication: 20,
            delay_max_ms: 900,
            confirmable: true,
            mute: false,
        };
        let count = 300;
        let link = run(seed, faults, count);
        let mut seen = 0;
        let mut again = 0;
        for &number in &link.got {
            assert!(
                number <= seen,
                "seed {seed}: {seen} is missing before {number}"
            );
            again += u64::from(number < seen);
            seen = seen.max(number + 1);
        }
        assert_eq!(seen, count, "seed {seed}");
        assert!(again <= link.uncertain, "seed {seed}: {again} came twice");
        retried += link.relations - 1;
    }
    assert!(retried > 0, "no relation ever ended: the link was not bad");
}

/// The same for an observer that acknowledges no copy: relations end no more often than for want of
/// luck. Under one Message ID each lost acknowledgement, one in ten, would end one.
#[test]
fn a_mute_observer_gets_all_over_a_bad_link() {
    let (mut relations, mut repeated) = (0, 0);
    for seed in 0..40 {
        let faults = Faults {
            loss: 10,
            duplication: 5,
            delay_max_ms: 300,
            confirmable: true,
            mute: true,
        };
        let link = run(seed, faults, 100);
        let all: Vec<u64> = (0..100).collect();
        let mut got = link.got.clone();
        if link.relations > 1 {
            got.sort_unstable();
            got.dedup();
        }
        assert_eq!(got, all, "seed {seed}");
        relations += link.relations;
        repeated += link.repeated;
    }
    // Of 4000 notifications one in 1300 has no luck; one in ten needs another Message ID.
    assert!(relations <= 50, "{relations} relations for 40 observers");
    assert!(repeated > 100, "{repeated} copies under another Message ID");
}

/// 1000 updates under 10 % of datagrams lost.
#[test]
fn a_thousand_updates_arrive_at_a_tenth_of_loss() {
    let faults = Faults {
        loss: 10,
        duplication: 0,
        delay_max_ms: 60,
        confirmable: true,
        mute: false,
    };
    let link = run(7, faults, 1000);
    assert_eq!(link.got, (0..1000).collect::<Vec<_>>());
    assert_eq!(link.relations, 1);
}

/// NON: in order and none twice, and nearly all of them.
#[test]
fn an_observer_of_non_gets_what_the_link_lets_through() {
    for seed in 0..40 {
        let faults = Faults {
            loss: 10,
            duplication: 20,
            delay_max_ms: 300,
            confirmable: false,
            mute: false,
        };
        let link = run(seed, faults, 200);
        assert!(link.got.is_sorted(), "seed {seed}: {:?}", link.got);
        let got = link.got.len();
        assert!(got >= 120, "seed {seed}: {got}");
    }
}
