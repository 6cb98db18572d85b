//! The way of a datagram through a shard's turns, without a kernel: time, allocations and instructions.
//!
//! What is measured is whole turns on the memory driver, from the batch that arrived to the queue of
//! the pool and from the inbox to what is sent: the same code that a running shard runs ([`world`]).

pub(crate) mod allocations;
pub(crate) mod count;
mod world;

use tidegate::crypto::suite::CipherSuite;
use tidegate::endpoint::HOT_SESSIONS;
use tidegate::time::Duration;

use self::world::{BATCH, Full, World};
use crate::measure::thread_cpu_ns;

/// Devices: their sessions do not all fit the fastest caches, as those of no fleet do.
const DEVICES: usize = 1024;
/// Requests of a device until vectors have grown and caches are warm: until its first one is forgotten, its
/// ring of requests grows.
const WARM_UP_OF_A_DEVICE: usize = 66;
/// Turns until that is so of all.
const WARM_UP: usize = WARM_UP_OF_A_DEVICE * DEVICES / BATCH;
const TURNS: usize = 512;
const TURNS_QUICK: usize = 64;
/// Longer than a request is remembered, so that a device's message layer is given up.
const SILENCE: Duration = Duration::from_secs(400);
/// Handshakes of a kind, of the turns given to all else.
const HANDSHAKES_PER_TURN: usize = 2;

/// What a step costs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) ns: f64,
    pub(crate) allocations: f64,
}

/// What the shard's turns cost per operation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PathCosts {
    /// A record with a request in, until the request is in the pool's queue.
    pub(crate) request: Cost,
    /// From the verdict in the inbox to its answer sent.
    pub(crate) answer: Cost,
    /// A turn without work.
    pub(crate) nothing: Cost,
    /// A request of a device that was silent for long.
    pub(crate) silent: Cost,
    /// A request of a session whose keys are not expanded.
    pub(crate) cold: Cost,
    /// Its answer.
    pub(crate) cold_answer: Cost,
    /// What the codec crate alone allocates for decoding that request and encoding that answer.
    pub(crate) codec_allocations: f64,
    /// A ClientHello without a cookie in, HelloVerifyRequest out.
    pub(crate) hello: Cost,
    /// A full handshake without and with a client certificate, server side, public-key operations included.
    pub(crate) one_way: Cost,
    pub(crate) mutual: Cost,
    /// A resumed handshake, server side.
    pub(crate) resumption: Cost,
}

/// Adds up what steps cost.
#[derive(Default)]
struct Meter {
    ns: u64,
    allocations: u64,
    operations: usize,
}

impl Meter {
    fn measure(&mut self, operations: usize, step: impl FnOnce()) {
        let allocations = allocations::of_this_thread();
        let start = thread_cpu_ns();
        step();
        self.ns += thread_cpu_ns().saturating_sub(start);
        self.allocations += allocations::of_this_thread() - allocations;
        self.operations += operations;
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    fn cost(&self) -> Cost {
        let operations = self.operations.max(1) as f64;
        Cost {
            ns: self.ns as f64 / operations,
            allocations: self.allocations as f64 / operations,
        }
    }
}

/// Measures the path.
///
/// # Errors
///
/// When something is not answered: then there is nothing to measure.
pub(crate) fn measure(suite: CipherSuite, quick: bool) -> Result<PathCosts, String> {
    let turns = if quick { TURNS_QUICK } else { TURNS };
    let handshakes = turns * HANDSHAKES_PER_TURN;
    let mut world = World::new(suite, 2 * (DEVICES + handshakes), HOT_SESSIONS)?;
    world.connect(DEVICES)?;
    turn_over(&mut world, WARM_UP, &mut Rounds::default())?;
    let mut rounds = Rounds::default();
    turn_over(&mut world, turns, &mut rounds)?;
    let (cold, cold_answer) = cold(suite, turns)?;
    let mut silent = Rounds::default();
    for _ in 0..turns * BATCH / DEVICES {
        world.pass(SILENCE);
        turn_over(&mut world, DEVICES / BATCH, &mut silent)?;
    }
    let mut hello = Meter::default();
    for _ in 0..turns {
        world.pass_time();
        let batch = world.hellos();
        world.arrive(&batch);
        hello.measure(batch.len(), || world.counted_hellos());
        if world.take_sent() != BATCH {
            return Err("a ClientHello was not answered".into());
        }
    }
    let mut resumption = Meter::default();
    for index in 0..DEVICES {
        world.pass_time();
        world.resume(index, &mut |step| resumption.measure(0, step))?;
        resumption.operations += 1;
    }
    let [one_way, mutual] = [Full::OneWay, Full::Mutual].map(|full| {
        let mut meter = Meter::default();
        for _ in 0..handshakes {
            world.pass_time();
            world.full(full, &mut |step| meter.measure(0, step))?;
            meter.operations += 1;
        }
        Ok::<_, String>(meter.cost())
    });
    Ok(PathCosts {
        request: rounds.request.cost(),
        answer: rounds.answer.cost(),
        nothing: rounds.nothing.cost(),
        silent: silent.request.cost(),
        cold,
        cold_answer,
        codec_allocations: codec_allocations()?,
        hello: hello.cost(),
        one_way: one_way?,
        mutual: mutual?,
        resumption: resumption.cost(),
    })
}

/// What a request and its answer cost where no session of the fleet, but one, keeps its keys expanded.
fn cold(suite: CipherSuite, turns: usize) -> Result<(Cost, Cost), String> {
    let mut world = World::new(suite, 2 * DEVICES, 1)?;
    world.connect(DEVICES)?;
    turn_over(&mut world, WARM_UP, &mut Rounds::default())?;
    let mut rounds = Rounds::default();
    turn_over(&mut world, turns, &mut rounds)?;
    Ok((rounds.request.cost(), rounds.answer.cost()))
}

/// What the turns of requests cost.
#[derive(Default)]
struct Rounds {
    request: Meter,
    answer: Meter,
    nothing: Meter,
}

/// A batch of requests, its answers, and a turn that finds nothing more; so many times.
fn turn_over(world: &mut World, times: usize, rounds: &mut Rounds) -> Result<(), String> {
    for round in 0..times {
        world.pass_time();
        let batch = world.requests(round * BATCH);
        world.arrive(&batch);
        rounds
            .request
            .measure(batch.len(), || world.counted_requests());
        let arrived = world.answer_requests();
        rounds.answer.measure(arrived, || world.counted_answers());
        let sent = world.take_sent();
        if arrived != BATCH || sent != BATCH {
            return Err(format!(
                "of {BATCH} requests {arrived} reached the pool and {sent} were answered"
            ));
        }
        // As many as there were requests: reading the clock takes longer than such a turn.
        rounds.nothing.measure(BATCH, || {
            for _ in 0..BATCH {
                world.counted_nothing();
            }
        });
    }
    Ok(())
}

/// Allocations of coap-lite for a request's decoding and an answer's encoding.
#[expect(clippy::cast_precision_loss, reason = "a handful")]
fn codec_allocations() -> Result<f64, String> {
    let (decode, encode) = crate::coap::codec()?;
    let before = allocations::of_this_thread();
    std::hint::black_box(decode());
    std::hint::black_box(encode());
    Ok((allocations::of_this_thread() - before) as f64)
}

/// The costs as text.
pub(crate) fn text(costs: &PathCosts) -> String {
    let mut text = format!(
        "{:<56}  {:>9}  {:>12}\n",
        "path (turns of a shard on the memory driver)", "ns", "allocations"
    );
    for (name, cost) in [
        (
            "request: arrived, opened, taken, in the pool's queue",
            costs.request,
        ),
        (
            "answer: out of the inbox, 2.01 encoded, sealed, sent",
            costs.answer,
        ),
        ("a turn that finds nothing to do", costs.nothing),
        (
            "the request of a device that was silent for long",
            costs.silent,
        ),
        ("the request of a session without expanded keys", costs.cold),
        ("its answer", costs.cold_answer),
        (
            "ClientHello without cookie, HelloVerifyRequest",
            costs.hello,
        ),
        (
            "full handshake, public-key operations included",
            costs.one_way,
        ),
        ("the same with a client certificate", costs.mutual),
        ("resumed handshake", costs.resumption),
    ] {
        text += &format!("{name:<56}  {:>9.0}  {:>12.2}\n", cost.ns, cost.allocations);
    }
    text += &format!(
        "{:<56}  {:>9}  {:>12.2}\n",
        "coap-lite alone: the request decoded, the answer encoded", "", costs.codec_allocations
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_measured_and_every_request_answered() {
        let costs = measure(CipherSuite::ALL[0], true).unwrap();
        for cost in [
            costs.request,
            costs.answer,
            costs.nothing,
            costs.silent,
            costs.cold,
            costs.cold_answer,
            costs.hello,
            costs.one_way,
            costs.mutual,
            costs.resumption,
        ] {
            assert!(cost.ns > 0.0, "{costs:?}");
        }
        assert!(costs.codec_allocations > 0.0, "{costs:?}");
        assert!(text(&costs).contains("ClientHello"));
    }

    /// From the batch of the driver to the pool's queue, from the inbox to the driver, and in between:
    /// the turns of a shard that has warmed up allocate nothing at all, with any suite.
    #[test]
    fn turns_of_requests_and_answers_allocate_nothing() {
        for &suite in &CipherSuite::ALL[..7] {
            let mut world = World::new(suite, 2 * BATCH, HOT_SESSIONS).unwrap();
            world.connect(BATCH).unwrap();
            turn_over(&mut world, WARM_UP_OF_A_DEVICE, &mut Rounds::default()).unwrap();
            let mut rounds = Rounds::default();
            turn_over(&mut world, 100, &mut rounds).unwrap();
            let Rounds {
                request,
                answer,
                nothing,
            } = rounds;
            assert_eq!((request.operations, answer.operations), (6400, 6400));
            let allocations = [request, answer, nothing].map(|meter| meter.allocations);
            assert_eq!(allocations, [0; 3], "{suite:?}");
            // Nor when each device was silent for so long that nothing but its session is left of it.
            let mut silent = Rounds::default();
            for _ in 0..3 {
                world.pass(SILENCE);
                turn_over(&mut world, 1, &mut silent).unwrap();
            }
            let allocations = [silent.request, silent.answer].map(|meter| meter.allocations);
            assert_eq!(allocations, [0; 2], "{suite:?}");
        }
    }
}
