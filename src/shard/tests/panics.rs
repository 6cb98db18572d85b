//! Panics of ours are contained, and take no permit with them.

use super::*;
use crate::auth::request::{Request, Verdict};
use crate::queue::WorkerQueues;
use crate::shard::driver::{MemoryDatagram, MemoryDriver};

/// A shard on datagrams in memory, and the pool's end of its queue.
struct Bench {
    shard: Shard,
    state: State,
    pool: WorkerQueues,
}

impl Bench {
    fn new() -> Self {
        let clock = Clock::start();
        let now = clock.now();
        let metrics = Arc::new(ShardMetrics::new());
        let (queues, mut workers) = RequestQueues::new(1, 64, 1);
        let inboxes: Arc<[_]> = Arc::new([Arc::new(Inbox::new(64))]);
        let endpoint = Endpoint::new(
            0,
            Arc::new(settings(1)),
            Arc::clone(&metrics),
            Box::new(BufferedRandom::default()),
            now,
        );
        let inbox = Arc::clone(&inboxes[0]);
        let neighbours = Neighbours::new(0, inboxes, true);
        let driver = Driver::Memory(Box::new(MemoryDriver::new(64)));
        Self {
            shard: Shard {
                index: 0,
                metrics,
                queue: queues.shard(0).unwrap(),
                inbox,
                clock,
                notes_logged: Cell::new((0, 0)),
            },
            state: State::new(endpoint, driver, neighbours, now.instant),
            pool: workers.remove(0),
        }
    }

    fn now(&self) -> Now {
        self.shard.clock.now()
    }

    /// Requests of so many peers come in a turn, and reach the pool.
    fn requests(&mut self, count: u16) -> Vec<Request> {
        let Driver::Memory(driver) = &mut self.state.driver else {
            unreachable!("made so")
        };
        for number in 0..count {
            driver.arrive(&MemoryDatagram {
                peer: peer(number),
                port: Port::Plain,
                bytes: GET.to_vec(),
            });
        }
        self.shard.turn(&mut self.state).unwrap();
        let mut requests = Vec::new();
        while requests.len() < count.into() {
            assert!(self.pool.take(&mut requests));
        }
        requests
    }

    fn in_work(&self) -> (usize, u64) {
        let metrics = &self.shard.metrics;
        let gauge = metrics.value(Counter::RequestsInWork);
        (self.state.endpoint.requests_in_work(), gauge)
    }
}

/// CON GET without path.
const GET: &[u8] = &[0x40, 1, 0, 1];

fn peer(number: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1000 + number))
}

fn verdict(request: Request) -> Verdict {
    request.into_verdict(Response::empty(0x45))
}

#[test]
fn a_request_whose_datagram_panicked_returns_its_permit() {
    let mut bench = Bench::new();
    let now = bench.now();
    let State {
        endpoint, outbox, ..
    } = &mut bench.state;
    bench
        .shard
        .guarded_datagram(peer(0), Port::Plain.into(), endpoint, |endpoint| {
            endpoint.handle_datagram(now, peer(0), Port::Plain, &mut GET.to_vec(), outbox);
            panic!("on purpose");
        });
    assert_eq!(bench.shard.metrics.value(Counter::Panics), 1);
    // The request is on its way though the peer is gone, and its verdict comes back.
    let requests = bench.requests(1);
    let in_queue = bench.in_work();
    assert_eq!(in_queue, (2, 2));
    let mut all = requests;
    while all.len() < 2 {
        assert!(bench.pool.take(&mut all));
    }
    for request in all {
        bench.shard.inbox.push(verdict(request));
    }
    bench.shard.turn(&mut bench.state).unwrap();
    assert_eq!(bench.in_work(), (0, 0));
    let stale = bench.shard.metrics.drops(DropReason::VerdictStale);
    assert_eq!(stale, 1, "one peer is there, the other is not");
}

/// The verdict in hand, those taken from the inbox with it, and requests that had not left yet.
#[test]
fn a_step_that_panicked_returns_the_permits_of_what_it_had_in_hand() {
    let mut bench = Bench::new();
    for request in bench.requests(10) {
        bench.shard.inbox.push(verdict(request));
    }
    assert_eq!(bench.in_work(), (10, 10));
    let now = bench.now();
    let inbox = Arc::clone(&bench.shard.inbox);
    bench
        .shard
        .guarded("a step", now, &mut bench.state, |state| {
            let State {
                endpoint,
                outbox,
                verdicts,
                ..
            } = state;
            endpoint.handle_datagram(now, peer(20), Port::Plain, &mut GET.to_vec(), outbox);
            verdicts.extend(std::iter::from_fn(|| inbox.pop()).take(5));
            endpoint.handle_verdict(now, verdicts.pop().unwrap(), outbox);
            panic!("on purpose");
        });
    // Five of ten are in the inbox still.
    assert_eq!(bench.in_work(), (5, 5));
    assert_eq!(bench.shard.metrics.value(Counter::PeersCoap), 0);
    bench.shard.turn(&mut bench.state).unwrap();
    assert_eq!(bench.in_work(), (0, 0));
    // Whoever comes anew is served.
    let request = bench.requests(1).remove(0);
    bench.shard.inbox.push(verdict(request));
    bench.shard.turn(&mut bench.state).unwrap();
    let Driver::Memory(driver) = &mut bench.state.driver else {
        unreachable!("made so")
    };
    let mut last = None;
    driver.take_sent(|to, _, bytes| last = Some((to, bytes[..2].to_vec())));
    assert_eq!(last, Some((peer(0), vec![0x60, 0x45])));
}
