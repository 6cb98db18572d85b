//! Counters, gauges and latencies of one thread, and their sum in the Prometheus text format.
//!
//! Each shard owns one [`ShardMetrics`] and is its only writer: an update is a relaxed load and a
//! relaxed store, so it costs what a plain addition costs. Readers (a scrape, the status page) add
//! the values of all shards up; they may see one counter a moment ahead of another.
//!
//! Names start with `tidegate_`, counters end with `_total`, units are base units. Labels come from
//! the tables in this file only: nothing that a peer chooses ever becomes a label.

use crate::drop_reason::DropReason;
use crate::histogram::{Histogram, HistogramSum, bump};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How a family's value moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

impl Kind {
    /// The word after `# TYPE`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// Metrics of one name, told apart by their labels.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Name as exported.
    pub name: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
    /// The `# HELP` text.
    pub help: &'static str,
    /// Exported once per shard, with a `shard` label, rather than as a sum.
    pub per_shard: bool,
    /// The members, each with its labels (`port="coap"`, or empty).
    pub members: &'static [(Counter, &'static str)],
}

macro_rules! counters {
    ($($kind:ident $name:literal $per_shard:literal $help:literal {
        $($(#[doc = $text:literal])+ $variant:ident $labels:literal,)+
    })+) => {
        /// What is counted: the index into a [`ShardMetrics`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(usize)]
        pub enum Counter {
            $($($(#[doc = $text])+ $variant,)+)+
        }

        impl Counter {
            /// All of them, in the order of their indices.
            pub const ALL: &'static [Self] = &[$($(Self::$variant,)+)+];
        }

        /// The exported families of counters and gauges.
        pub const FAMILIES: &[Family] = &[$(Family {
            name: $name,
            kind: Kind::$kind,
            help: $help,
            per_shard: $per_shard,
            members: &[$((Counter::$variant, $labels),)+],
        },)+];
    };
}

counters! {
    Counter "tidegate_datagrams_received_total" true "Datagrams taken from the sockets." {
        /// On the plain CoAP port.
        DatagramsReceivedCoap r#"port="coap""#,
        /// On the CoAPS port.
        DatagramsReceivedCoaps r#"port="coaps""#,
    }
    Counter "tidegate_datagrams_sent_total" true "Datagrams handed to the kernel." {
        /// From the plain CoAP port.
        DatagramsSentCoap r#"port="coap""#,
        /// From the CoAPS port.
        DatagramsSentCoaps r#"port="coaps""#,
    }
    Counter "tidegate_received_bytes_total" false "Bytes of the received datagrams." {
        /// On the plain CoAP port.
        BytesReceivedCoap r#"port="coap""#,
        /// On the CoAPS port.
        BytesReceivedCoaps r#"port="coaps""#,
    }
    Counter "tidegate_sent_bytes_total" false "Bytes of the sent datagrams." {
        /// From the plain CoAP port.
        BytesSentCoap r#"port="coap""#,
        /// From the CoAPS port.
        BytesSentCoaps r#"port="coaps""#,
    }
    Counter "tidegate_cid_datagrams_total" true "Datagrams with a connection id (RFC 9146), by the shard that they reached first." {
        /// The shard that the connection id names: no hop.
        CidDatagramsDirect r#"arrived="at_owner""#,
        /// Another one.
        CidDatagramsElsewhere r#"arrived="elsewhere""#,
    }
    Counter "tidegate_handovers_total" true "Datagrams handed from one shard to another; those that find no room are among the drops." {
        /// Put into the owner's queue.
        HandoversSent r#"direction="sent""#,
        /// Taken from the own queue.
        HandoversReceived r#"direction="received""#,
    }
    Counter "tidegate_cid_lookups_total" true "Connection ids looked up by the shard that they name." {
        /// A live peer has it.
        CidLookupsHit r#"result="hit""#,
        /// Nobody has it: dropped without an answer.
        CidLookupsMissed r#"result="missed""#,
    }
    Counter "tidegate_cid_exhausted_total" false "Handshakes without a connection id because none was free: COAP_DTLS_CONNECTION_ID_LENGTH is too short." {
        /// The peer cannot change its address.
        CidExhausted "",
    }
    Counter "tidegate_address_changes_total" true "Sessions that moved to another address of their peer (RFC 9146 section 6)." {
        /// By the newest authentic record.
        AddressChanges "",
    }
    Counter "tidegate_paths_checked_total" false "New addresses of peers, by what became of them (RFC 9853)." {
        /// The peer has shown that it receives there.
        PathsConfirmed r#"result="confirmed""#,
        /// It did not answer, and its address is the old one again.
        PathsUnconfirmed r#"result="unconfirmed""#,
    }
    Counter "tidegate_receive_batches_total" false "Batches in which datagrams were received." {
        /// One turn of a shard's loop that received something.
        ReceiveBatches "",
    }
    Counter "tidegate_socket_drops_total" true "Datagrams that the kernel dropped because a socket's buffer was full." {
        /// Those for the plain CoAP port.
        SocketDropsCoap r#"port="coap""#,
        /// Those for the CoAPS port.
        SocketDropsCoaps r#"port="coaps""#,
    }
    Counter "tidegate_driver_trouble_total" true "Times that the way of datagrams through the kernel was not clear." {
        /// All receive buffers of the ring were full; what came waited in the socket's own.
        BuffersExhausted r#"what="receive_buffers_full""#,
        /// The ring's completion queue was full; what completed waited in the kernel, or was lost.
        CompletionsOverflowed r#"what="completion_queue_full""#,
        /// Receiving failed.
        ReceiveErrors r#"what="receive_failed""#,
    }
    Counter "tidegate_hello_verify_requests_total" false "HelloVerifyRequests sent (RFC 6347 section 4.2.1)." {
        /// A ClientHello without a valid cookie was answered; no state was kept.
        HelloVerifyRequests "",
    }
    Counter "tidegate_handshakes_started_total" false "Handshakes begun after a valid cookie." {
        /// State was made for a peer.
        HandshakesStarted "",
    }
    Counter "tidegate_handshakes_completed_total" false "Handshakes whose Finished verified." {
        /// With all flights.
        HandshakesCompleted r#"kind="full""#,
        /// Abbreviated.
        HandshakesResumed r#"kind="resumed""#,
    }
    Counter "tidegate_handshakes_failed_total" false "Handshakes that ended without a session." {
        /// Ended by an alert of ours.
        HandshakesRefused r#"cause="refused""#,
        /// Ended by an alert of the peer.
        HandshakesAborted r#"cause="aborted""#,
        /// The peer fell silent.
        HandshakesTimedOut r#"cause="timeout""#,
        /// Left, and its place or memory was needed.
        HandshakesDisplaced r#"cause="displaced""#,
    }
    Gauge "tidegate_handshakes" true "Handshakes in progress." {
        /// Those that hold state.
        HandshakesOpen "",
    }
    Gauge "tidegate_sessions" true "DTLS sessions held." {
        /// Established and not closed.
        Sessions "",
    }
    Gauge "tidegate_plain_peers" true "Plain CoAP peers remembered." {
        /// Those with CoAP message layer state.
        PeersCoap "",
    }
    Gauge "tidegate_observe_relations" true "Observe relations that are open (RFC 7641)." {
        /// Those of all peers.
        Relations "",
    }
    Counter "tidegate_observe_relations_ended_total" false "Observe relations that ended." {
        /// A Reset answered a notification.
        RelationsReset r#"cause="reset""#,
        /// A notification was never acknowledged.
        RelationsTimedOut r#"cause="timeout""#,
        /// By the observer.
        RelationsCancelled r#"cause="cancelled""#,
        /// By a new registration with the same token.
        RelationsReplaced r#"cause="replaced""#,
        /// With its session.
        RelationsSessionEnded r#"cause="session_ended""#,
        /// By the device API, as when the device was removed.
        RelationsFinished r#"cause="finished""#,
        /// Too many relations of a session, or too many notifications of one.
        RelationsLimit r#"cause="limit""#,
    }
    Counter "tidegate_notifications_total" true "Notifications sent to observers, repetitions not counted." {
        /// To be acknowledged.
        NotificationsConfirmable r#"type="con""#,
        /// Not to be acknowledged.
        NotificationsNonConfirmable r#"type="non""#,
    }
    Counter "tidegate_notifications_acknowledged_total" true "Notifications that their observers acknowledged." {
        /// Those of type="con".
        NotificationsAcknowledged "",
    }
    Counter "tidegate_plain_peers_evicted_total" false "Plain CoAP peers whose state was given up to make room." {
        /// The one that was idle for longest.
        PlainPeersEvicted "",
    }
    Counter "tidegate_block_transfers_displaced_total" false "Peers whose bodies in blocks were given up to make room for others'." {
        /// The one that was without a block for longest.
        BodiesDisplaced "",
    }
    Counter "tidegate_sessions_ended_total" false "DTLS sessions that ended." {
        /// Idle for TB_COAP_X509_DTLS_SESSION_INACTIVITY_TIMEOUT.
        SessionsExpired r#"cause="expired""#,
        /// Never of any use, and its place was needed.
        SessionsDisplaced r#"cause="displaced""#,
        /// By the peer's close_notify or fatal alert.
        SessionsClosed r#"cause="closed""#,
        /// By a newer handshake of the same peer.
        SessionsReplaced r#"cause="replaced""#,
        /// Its device was removed, or got another credential.
        SessionsRevoked r#"cause="revoked""#,
        /// By an administrator.
        SessionsDismissed r#"cause="dismissed""#,
        /// A limit of the session was reached: forged records, or its sequence numbers.
        SessionsExhausted r#"cause="limit""#,
    }
    Counter "tidegate_alerts_received_total" false "DTLS alerts received, close_notify aside, those without effect included." {
        /// Counted per datagram.
        AlertsReceived "",
    }
    Counter "tidegate_retransmissions_total" false "Messages and flights sent again." {
        /// A DTLS flight, after its timer.
        RetransmissionsDtls r#"layer="dtls""#,
        /// A confirmable CoAP message without acknowledgement.
        RetransmissionsCoap r#"layer="coap""#,
    }
    Counter "tidegate_requests_total" false "CoAP requests handed to the authenticator pool." {
        /// From the plain CoAP port.
        RequestsCoap r#"port="coap""#,
        /// From the CoAPS port.
        RequestsCoaps r#"port="coaps""#,
    }
    Counter "tidegate_responses_total" false "CoAP responses by code class (RFC 7252 section 5.9)." {
        /// 2.xx.
        ResponsesSuccess r#"class="2""#,
        /// 4.xx.
        ResponsesClientError r#"class="4""#,
        /// 5.xx.
        ResponsesServerError r#"class="5""#,
    }
    Counter "tidegate_empty_acknowledgements_total" false "Empty ACKs sent because the answer took longer than COAP_PIGGYBACK_TIMEOUT." {
        /// The response follows separately (RFC 7252 section 5.2.2).
        EmptyAcknowledgements "",
    }
    Counter "tidegate_queue_full_total" false "Requests answered 5.03 because the authenticator's queue was full." {
        /// Counted per request.
        QueueFull "",
    }
    Gauge "tidegate_requests_in_work" true "Requests handed to the authenticator pool and not answered yet." {
        /// Permits taken.
        RequestsInWork "",
    }
    Counter "tidegate_verdicts_total" false "Verdicts taken from the inbox." {
        /// Counted per verdict.
        Verdicts "",
    }
    Counter "tidegate_credential_lookups_total" false "Pre-shared keys asked of the authenticator pool by handshakes." {
        /// Counted per question; those for which there is no room are among the drops.
        CredentialLookups "",
    }
    Counter "tidegate_shard_sleeps_total" true "Times that a shard had nothing to do." {
        /// It waited on its sockets, expecting to be needed soon.
        Sleeps r#"where="sockets""#,
        /// It waited in its executor, after a quiet time.
        IdleSleeps r#"where="executor""#,
    }
    Counter "tidegate_shard_panics_total" false "Panics contained by a shard: defects." {
        /// One datagram, or the whole shard, was given up.
        Panics "",
    }
}

macro_rules! latencies {
    ($($(#[doc = $text:literal])+ $variant:ident $name:literal $help:literal,)+) => {
        /// What is timed: the index into a [`ShardMetrics`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(usize)]
        pub enum Latency {
            $($(#[doc = $text])+ $variant,)+
        }

        impl Latency {
            /// All of them, in the order of their indices.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help),+ }
            }
        }
    };
}

latencies! {
    /// From a request's datagram to its response.
    Request "tidegate_request_seconds" "From the datagram of a request to its response.",
    /// From the ClientHello with a valid cookie to the verified Finished.
    Handshake "tidegate_handshake_seconds" "From a ClientHello with a valid cookie to the verified Finished.",
}

const COUNTERS: usize = Counter::ALL.len();
const REASONS: usize = DropReason::ALL.len();
const LATENCIES: usize = Latency::ALL.len();

/// Counters of one shard. Any thread may read; only the owner may write.
///
/// Aligned so that two shards' counters never share a cache line, adjacent-line prefetch included.
#[repr(align(128))]
#[derive(Debug)]
pub struct ShardMetrics {
    counters: [AtomicU64; COUNTERS],
    drops: [AtomicU64; REASONS],
    latencies: [Histogram; LATENCIES],
}

impl Default for ShardMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl ShardMetrics {
    /// All zero.
    pub const fn new() -> Self {
        Self {
            counters: [const { AtomicU64::new(0) }; COUNTERS],
            drops: [const { AtomicU64::new(0) }; REASONS],
            latencies: [const { Histogram::new() }; LATENCIES],
        }
    }

    /// Adds one. Owner only.
    #[inline]
    pub fn increment(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Adds `amount`. Owner only.
    #[inline]
    pub fn add(&self, counter: Counter, amount: u64) {
        bump(&self.counters[counter as usize], amount);
    }

    /// Sets a gauge. Owner only.
    #[inline]
    pub fn set(&self, counter: Counter, value: u64) {
        self.counters[counter as usize].store(value, Relaxed);
    }

    /// Counts something discarded. Owner only.
    #[inline]
    pub fn count_drop(&self, reason: DropReason) {
        bump(&self.drops[reason as usize], 1);
    }

    /// Adds a time taken. Owner only.
    #[inline]
    pub fn record(&self, latency: Latency, time: Duration) {
        self.latencies[latency as usize].record(time);
    }

    /// The value now.
    pub fn value(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].load(Relaxed)
    }

    /// How often that was the reason.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize].load(Relaxed)
    }

    /// How often anything was discarded.
    pub fn drops_total(&self) -> u64 {
        self.drops.iter().map(|cell| cell.load(Relaxed)).sum()
    }

    /// The times recorded.
    pub fn histogram(&self, latency: Latency) -> &Histogram {
        &self.latencies[latency as usize]
    }
}

/// Writes the Prometheus text format (version 0.0.4).
#[derive(Debug, Default)]
pub struct Encoder(String);

impl Encoder {
    /// The content type of what [`Self::finish`] gives.
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// An empty page.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a family. `help` must have no line break or backslash.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        debug_assert!(!help.contains(['\n', '\\']));
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Adds a sample; `labels` as in `port="coap"`, or empty.
    pub fn sample(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = if labels.is_empty() {
            writeln!(self.0, "{name} {value}")
        } else {
            writeln!(self.0, "{name}{{{labels}}} {value}")
        };
    }

    /// A family with one sample without labels.
    pub fn single(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        self.sample(name, "", value);
    }

    /// A histogram, with a bound at each doubling.
    pub fn histogram(&mut self, name: &str, help: &str, sum: &HistogramSum) {
        self.family(name, "histogram", help);
        let bucket_name = format!("{name}_bucket");
        let mut cumulative = 0;
        for (bound, count) in sum.octaves() {
            cumulative += count;
            match bound {
                Some(bound) => {
                    let label = format!("le=\"{}\"", bound.as_secs_f64());
                    self.sample(&bucket_name, &label, cumulative);
                }
                None => self.sample(&bucket_name, "le=\"+Inf\"", cumulative),
            }
        }
        self.sample(&format!("{name}_sum"), "", sum.total().as_secs_f64());
        self.sample(&format!("{name}_count"), "", cumulative);
    }

    /// The page.
    pub fn finish(self) -> String {
        self.0
    }
}

/// Adds the families of all `shards`.
pub fn encode(encoder: &mut Encoder, shards: &[Arc<ShardMetrics>]) {
    for family in FAMILIES {
        encoder.family(family.name, family.kind.as_str(), family.help);
        for &(counter, labels) in family.members {
            if !family.per_shard {
                let total: u64 = shards.iter().map(|shard| shard.value(counter)).sum();
                encoder.sample(family.name, labels, total);
                continue;
            }
            for (index, shard) in shards.iter().enumerate() {
                let comma = if labels.is_empty() { "" } else { "," };
                let labels = format!("{labels}{comma}shard=\"{index}\"");
                encoder.sample(family.name, &labels, shard.value(counter));
            }
        }
    }
    let name = "tidegate_drops_total";
    encoder.family(name, "counter", "Input discarded, by reason.");
    for &reason in DropReason::ALL {
        let total: u64 = shards.iter().map(|shard| shard.drops(reason)).sum();
        encoder.sample(name, &format!("reason=\"{}\"", reason.label()), total);
    }
    for &latency in Latency::ALL {
        let sum = HistogramSum::of(shards.iter().map(|shard| shard.histogram(latency)));
        encoder.histogram(latency.name(), latency.help(), &sum);
    }
}

#[cfg(test)]
mod tests;
