//! What one seed stands for: sizes, times and faults. Each seed has some faults switched off, so that
//! what one fault hides another seed shows.

use tidegate::random::{Random, SeededRandom};
use tidegate::time::Duration;

/// Longest fault phase.
pub(crate) const FAULTS_LAST: Duration = Duration::from_secs(600);

/// How a device speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// CoAP over UDP, an access token in the path.
    Plain,
    /// CoAP over DTLS without a client certificate, an access token in the path.
    Token,
    /// CoAP over DTLS with a client certificate, which is the device.
    Certificate,
    /// CoAP over DTLS with a pre-shared key, which is the device.
    PreSharedKey,
}

/// How a device comes back when its session is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resumption {
    Never,
    ById,
    ByTicket,
}

/// A device of the fleet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DevicePlan {
    pub(crate) kind: Kind,
    pub(crate) resumption: Resumption,
    /// Longest datagram of its handshakes.
    pub(crate) max_transmission_unit: usize,
    /// How long it waits for an answer.
    pub(crate) response_timeout: Duration,
    /// Requests of 1000 that are NON.
    pub(crate) non_confirmable: u64,
    /// Whether it offers a connection id (RFC 9146), and knows the return routability check (RFC 9853).
    pub(crate) connection_id: bool,
    pub(crate) routability_check: bool,
}

/// What the network does, in chances of 1000 per datagram.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NetworkFaults {
    pub(crate) loss: u64,
    pub(crate) duplication: u64,
    pub(crate) corruption: u64,
    /// A datagram is given to a shard that is not its address's.
    pub(crate) misdelivery: u64,
    /// Delays differ by up to this much, so datagrams overtake each other.
    pub(crate) jitter_ms: u64,
}

/// What happens to the server and the fleet, in chances of 1000 per event of
/// the fault phase: a datagram that arrives, or a step of a device.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mishaps {
    /// A device's address changes.
    pub(crate) rebind: u64,
    /// A device starts over, without a word.
    pub(crate) device_restart: u64,
    /// The server's process dies and comes back.
    pub(crate) server_restart: u64,
    /// One shard loses all its peers.
    pub(crate) shard_amnesia: u64,
    /// A device is removed from the registry.
    pub(crate) removal: u64,
    /// Somebody sends what he saw or made up, from any address.
    pub(crate) stranger: u64,
    /// The wall clock jumps.
    pub(crate) clock_jump: u64,
    /// Everybody is silent for longer than sessions live.
    pub(crate) silence: u64,
}

/// What the store does, in chances of 1000 per batch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StoreFaults {
    pub(crate) refusal: u64,
    pub(crate) failure: u64,
}

/// Everything that a seed decides beforehand.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) shards: usize,
    pub(crate) devices: Vec<DevicePlan>,
    pub(crate) network: NetworkFaults,
    pub(crate) mishaps: Mishaps,
    pub(crate) store: StoreFaults,
    /// Longest time between requests being queued and a worker taking them.
    pub(crate) pool_delay: Duration,
    /// Longest time between a batch and its group commit.
    pub(crate) commit_delay: Duration,
    /// Longest time that datagrams lie in a socket, verdicts and hand-overs in an inbox.
    pub(crate) inbox_delay: Duration,
    /// Datagrams that a shard takes at a time.
    pub(crate) batch: usize,
    /// What a shard's work between two looks at its clock takes.
    pub(crate) work_micros: u64,
    pub(crate) queue_capacity: usize,
    pub(crate) requests_max: usize,
    /// Look-ups of pre-shared keys in work.
    pub(crate) lookups_max: usize,
    /// Answers to them that get lost, of 1000.
    pub(crate) lost_answers: u64,
    pub(crate) handshakes_max: usize,
    pub(crate) sessions_max: usize,
    pub(crate) plain_peers_max: usize,
    pub(crate) inactivity_timeout: Duration,
    pub(crate) report_timeout: Duration,
    pub(crate) server_transmission_unit: usize,
    /// Length of the server's connection ids; `None`: off.
    pub(crate) connection_id_length: Option<u8>,
    /// Whether the kernel delivers by them.
    pub(crate) is_steered: bool,
    /// Requests of the fault phase, which also ends after [`FAULTS_LAST`].
    pub(crate) requests: u64,
    /// Longest time between two requests of a device.
    pub(crate) pause: Duration,
}

impl Plan {
    /// The plan that belongs to `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = SeededRandom::new(seed ^ 0x7469_6465_6761_7465);
        let dice = &mut dice;
        let small_datagrams = one_in(dice, 5);
        let devices = (0..between(dice, 2, 5))
            .map(|_| DevicePlan::new(dice, small_datagrams))
            .collect();
        let narrow = one_in(dice, 3);
        Self {
            shards: size(between(dice, 1, 3)),
            devices,
            network: NetworkFaults {
                loss: sometimes(dice, 2, 250),
                duplication: sometimes(dice, 2, 300),
                corruption: sometimes(dice, 3, 120),
                misdelivery: sometimes(dice, 4, 100),
                jitter_ms: sometimes(dice, 2, 3000),
            },
            mishaps: Mishaps {
                rebind: sometimes(dice, 2, 40),
                device_restart: sometimes(dice, 3, 15),
                server_restart: sometimes(dice, 5, 5),
                shard_amnesia: sometimes(dice, 5, 5),
                removal: sometimes(dice, 5, 5),
                stranger: sometimes(dice, 2, 150),
                clock_jump: sometimes(dice, 5, 10),
                silence: sometimes(dice, 5, 5),
            },
            store: StoreFaults {
                refusal: sometimes(dice, 4, 300),
                failure: sometimes(dice, 4, 200),
            },
            pool_delay: millis(dice, 2, 10, 3000),
            commit_delay: millis(dice, 2, 20, 8000),
            inbox_delay: millis(dice, 2, 1, 500),
            batch: size(if one_in(dice, 2) {
                between(dice, 1, 4)
            } else {
                64
            }),
            work_micros: sometimes(dice, 2, 400),
            queue_capacity: if narrow { 1 } else { 64 },
            requests_max: size(if one_in(dice, 3) {
                between(dice, 1, 3)
            } else {
                64
            }),
            lookups_max: size(if one_in(dice, 3) { 1 } else { 16 }),
            lost_answers: sometimes(dice, 3, 400),
            handshakes_max: size(if one_in(dice, 4) {
                between(dice, 1, 2)
            } else {
                16
            }),
            sessions_max: size(if one_in(dice, 4) {
                between(dice, 5, 8)
            } else {
                64
            }),
            plain_peers_max: size(if one_in(dice, 4) {
                between(dice, 1, 3)
            } else {
                16
            }),
            inactivity_timeout: Duration::from_secs(between(dice, 40, 300)),
            report_timeout: Duration::from_secs(between(dice, 5, 60)),
            server_transmission_unit: size(if small_datagrams {
                between(dice, 128, 600)
            } else {
                1200
            }),
            connection_id_length: match dice.below(5) {
                0 => None,
                1 => Some(0),
                // Of one byte there is one id for each shard: whoever comes second goes without.
                2 => Some(1),
                _ => u8::try_from(between(dice, 2, 9)).ok(),
            },
            is_steered: one_in(dice, 2),
            requests: between(dice, 5, 40),
            pause: millis(dice, 2, 200, 20_000),
        }
    }

    /// Whether runs of the seed repeat to the byte's length: signatures differ in length from run
    /// to run, and where a flight is cut differs with them.
    pub(crate) fn repeats_exactly(&self) -> bool {
        self.server_transmission_unit == 1200
    }
}

impl DevicePlan {
    fn new(dice: &mut SeededRandom, small_datagrams: bool) -> Self {
        Self {
            kind: match dice.below(7) {
                0 => Kind::Plain,
                1 | 2 => Kind::Certificate,
                3 | 4 => Kind::PreSharedKey,
                _ => Kind::Token,
            },
            resumption: match dice.below(3) {
                0 => Resumption::Never,
                1 => Resumption::ById,
                _ => Resumption::ByTicket,
            },
            max_transmission_unit: size(if small_datagrams {
                between(dice, 150, 600)
            } else {
                1200
            }),
            response_timeout: Duration::from_secs(between(dice, 4, 100)),
            non_confirmable: sometimes(dice, 3, 500),
            connection_id: !one_in(dice, 3),
            routability_check: one_in(dice, 2),
        }
    }
}

/// Whether one of `n` says yes.
pub(crate) fn one_in(dice: &mut SeededRandom, n: u64) -> bool {
    dice.below(n) == 0
}

/// A number from `low` to `high`, both included.
pub(crate) fn between(dice: &mut SeededRandom, low: u64, high: u64) -> u64 {
    low + dice.below(high - low + 1)
}

/// Up to `most` in one case of `n`, else 0.
fn sometimes(dice: &mut SeededRandom, n: u64, most: u64) -> u64 {
    let on = one_in(dice, n);
    let value = between(dice, 1, most);
    if on { value } else { 0 }
}

/// Up to `most` milliseconds in one case of `n`, else up to `few`.
fn millis(dice: &mut SeededRandom, n: u64, few: u64, most: u64) -> Duration {
    let most = if one_in(dice, n) { most } else { few };
    Duration::from_millis(between(dice, 0, most))
}

fn size(number: u64) -> usize {
    usize::try_from(number).expect("a small number")
}
