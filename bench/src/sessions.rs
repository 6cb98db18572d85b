//! What many sessions cost one shard, without a kernel: resident memory each, and the server's CPU
//! time of a handshake.
//!
//! ```text
//! each session:  resumed handshake -> one request, answered -> silence
//! time passes as the sessions come, so that what is kept for a while (last flights, message layers)
//! is given back and taken again as in a fleet that connects over half an hour
//! ```
//!
//! Resident memory is that of the process; what does not grow with the sessions goes by the
//! difference between two counts of them. The devices' ends are thrown away at once.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tidegate::auth::request::Response;
use tidegate::coap::client::{RequestParts, RequestTemplate};
use tidegate::coap::code;
use tidegate::crypto::certificate::LeafInfo;
use tidegate::crypto::key_exchange::{EphemeralKey, NamedGroup};
use tidegate::crypto::random::{BufferedRandom, SystemRandom};
use tidegate::crypto::signature::{SignatureScheme, SigningKey, VerifyingKey};
use tidegate::crypto::suite::CipherSuite;
use tidegate::dtls::client::{ClientConfig, ClientConnection, Context, ResumableSession};
use tidegate::dtls::{
    CookieJar, Credentials, ServerConfig, SessionCache, Sessions, TicketKey, TicketKeys,
};
use tidegate::endpoint::{Endpoint, EndpointSettings, Outbox, Port};
use tidegate::metrics::{Counter, ShardMetrics};
use tidegate::time::{Duration, Instant, Now};

use crate::measure::thread_cpu_ns;

/// Some time in 2026.
const UNIX_MS: u64 = 1_790_000_000_000;
/// Over this time the sessions come.
const RAMP: Duration = Duration::from_secs(1800);
/// After this time of silence nothing of a request or a handshake is kept.
const SILENCE: Duration = Duration::from_secs(600);
/// Sessions before the first look at the memory.
const WARM_UP: usize = 2_000;
/// Certificates of devices; more handshakes than these are of devices that come again.
const CERTIFICATES: usize = 64;

/// How sessions are held.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MemoryPlan {
    pub(crate) sessions: usize,
    /// Length of the server's connection ids; none at 0.
    pub(crate) connection_id: u8,
    /// Whether each session is kept for resumption by id as well.
    pub(crate) cached: bool,
}

/// Bytes of resident memory for each session.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SessionMemory {
    pub(crate) sessions: usize,
    /// Silent for longer than anything is kept.
    pub(crate) idle_bytes: f64,
    /// Of the whole process, in the end.
    pub(crate) resident_bytes: usize,
}

/// The server's CPU time of a handshake, microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HandshakeTimes {
    pub(crate) one_way_us: f64,
    pub(crate) mutual_us: f64,
    pub(crate) resumed_us: f64,
    /// Of the public-key operations that a one-way handshake consists of, measured in turn with it.
    pub(crate) one_way_floor_us: f64,
    /// The same for a mutual one.
    pub(crate) mutual_floor_us: f64,
}

/// What a server's full handshake cannot do without, on P-256.
struct PublicKeyOperations {
    peer: Vec<u8>,
    server: Arc<Credentials>,
    device: VerifyingKey,
    signature: Vec<u8>,
}

/// Of the kinds of handshakes, one-way and mutual before it.
const RESUMED: usize = 2;

const SCHEME: SignatureScheme = SignatureScheme::EcdsaSha256;
const MESSAGE: &[u8] = b"what is signed";

impl PublicKeyOperations {
    fn new() -> Result<Self, String> {
        let device = credentials()?;
        let leaf = device.chain.first().ok_or("no certificate was made")?;
        Ok(Self {
            peer: EphemeralKey::generate(NamedGroup::Secp256r1)
                .map_err(text)?
                .public_key()
                .to_vec(),
            server: credentials()?,
            device: LeafInfo::parse_with_key(leaf).map_err(text)?.1,
            signature: device.key.sign(SCHEME, MESSAGE).map_err(text)?,
        })
    }

    /// CPU time of those of a one-way handshake (0), of a mutual one (1), or of none.
    fn run(&self, kind: usize) -> Result<u64, String> {
        let start = thread_cpu_ns();
        if kind <= 1 {
            let key = EphemeralKey::generate(NamedGroup::Secp256r1).map_err(text)?;
            let signed = self.server.key.sign(SCHEME, MESSAGE).map_err(text)?;
            let secret = key.agree(&self.peer).map_err(text)?;
            std::hint::black_box((signed, secret));
        }
        if kind == 1 {
            let verified = self.device.verify(SCHEME, MESSAGE, &self.signature);
            verified.map_err(text)?;
        }
        Ok(thread_cpu_ns().saturating_sub(start))
    }
}

fn text(error: tidegate::crypto::CryptoError) -> String {
    error.to_string()
}

/// Measures the memory of idle sessions.
///
/// # Errors
///
/// When a session cannot be made.
pub(crate) fn memory(plan: MemoryPlan) -> Result<SessionMemory, String> {
    let mut world = World::new(plan)?;
    let session = world.resumable(&ClientConfig::default())?;
    let resuming = Arc::new(ClientConfig {
        resume: Some(Arc::new(session)),
        ..world.client_config()
    });
    // What is kept for resumption by id is made in full handshakes only.
    let config = if plan.cached {
        Arc::new(world.client_config())
    } else {
        resuming
    };
    let between = RAMP / u32::try_from(plan.sessions).unwrap_or(u32::MAX);
    let warm_up = WARM_UP.min(plan.sessions / 2);
    world.fill(0..warm_up, &config, between)?;
    world.pass(SILENCE);
    let before = resident_bytes()?;
    world.fill(warm_up..plan.sessions, &config, between)?;
    world.pass(SILENCE);
    let idle = resident_bytes()?;
    let held = world.metrics.value(Counter::Sessions);
    if held < plan.sessions as u64 {
        return Err(format!("of {} sessions {held} are held", plan.sessions));
    }
    let sessions = plan.sessions - warm_up;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    Ok(SessionMemory {
        sessions: plan.sessions,
        idle_bytes: idle.saturating_sub(before) as f64 / sessions as f64,
        resident_bytes: idle,
    })
}

/// Measures handshakes, `count` of each kind.
///
/// # Errors
///
/// When a handshake does not end.
pub(crate) fn handshakes(count: usize) -> Result<HandshakeTimes, String> {
    let mut world = World::new(MemoryPlan {
        sessions: 4 * count + 1000,
        ..MemoryPlan::default()
    })?;
    let one_way = world.client_config();
    let devices: Vec<ClientConfig> = (0..CERTIFICATES)
        .map(|_| {
            Ok(ClientConfig {
                credentials: Some(credentials()?),
                ..world.client_config()
            })
        })
        .collect::<Result<_, String>>()?;
    let session = Arc::new(world.resumable(&one_way)?);
    let resuming = ClientConfig {
        resume: Some(session),
        ..world.client_config()
    };
    let operations = PublicKeyOperations::new()?;
    let mut times = [0.0; 3];
    let mut floors = [0.0; 3];
    let mut next = 0;
    let kinds = [vec![one_way], devices, vec![resuming]];
    for (kind, configs) in kinds.into_iter().enumerate() {
        let configs: Vec<_> = configs.into_iter().map(Arc::new).collect();
        for config in configs.iter().cycle().take(CERTIFICATES) {
            world.connect(next, config)?;
            next += 1;
        }
        world.spent_ns = 0;
        let before = world.metrics.value(Counter::HandshakesResumed);
        let mut floor_ns = 0;
        for config in configs.iter().cycle().take(count) {
            world.connect(next, config)?;
            next += 1;
            // In turn with the handshakes, so that whatever else the machine does meets both.
            floor_ns += operations.run(kind)?;
        }
        let resumed = world.metrics.value(Counter::HandshakesResumed) - before;
        if resumed != if kind == RESUMED { count as u64 } else { 0 } {
            return Err(format!("{resumed} of {count} handshakes were resumed"));
        }
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let each_us = |ns: u64| ns as f64 / count as f64 / 1000.0;
        times[kind] = each_us(world.spent_ns);
        floors[kind] = each_us(floor_ns);
    }
    let [one_way_us, mutual_us, resumed_us] = times;
    let [one_way_floor_us, mutual_floor_us, _] = floors;
    Ok(HandshakeTimes {
        one_way_us,
        mutual_us,
        resumed_us,
        one_way_floor_us,
        mutual_floor_us,
    })
}

/// Ways to hold sessions that are measured.
const WAYS: [(&str, u8, bool); 3] = [
    ("AES-128, no connection id", 0, false),
    ("AES-128, connection ids of 8 bytes", 8, false),
    ("the same, each kept for resumption by id", 8, true),
];

/// A table of it all, for who asks for this alone.
///
/// # Errors
///
/// As [`memory`] and [`handshakes`].
pub(crate) fn report(sessions: usize) -> Result<String, String> {
    let mut text = format!(
        "{:<42}  {:>9}  {:>11}  {:>14}\n",
        "memory", "sessions", "idle, bytes", "process, bytes"
    );
    for way in 0..WAYS.len() {
        text += &in_a_process(&["sessions-child", &way.to_string(), &sessions.to_string()])?;
    }
    let times = handshakes(2000)?;
    text += &format!(
        "\nserver's CPU time of a handshake, without the kernel, us\n  \
         one-way {:.1} (public-key operations {:.1}), mutual {:.1} ({:.1}), resumed {:.2}\n",
        times.one_way_us,
        times.one_way_floor_us,
        times.mutual_us,
        times.mutual_floor_us,
        times.resumed_us
    );
    Ok(text)
}

/// A line of the table, of the way with this number. Memory that a process once had it may keep, so
/// each line needs a process of its own.
///
/// # Errors
///
/// As [`memory`].
pub(crate) fn line(way: usize, sessions: usize) -> Result<String, String> {
    let &(name, connection_id, cached) = WAYS.get(way).ok_or("there is no such way")?;
    let memory = memory(MemoryPlan {
        sessions,
        connection_id,
        cached,
    })?;
    Ok(format!(
        "{name:<42}  {:>9}  {:>11.0}  {:>14}\n",
        memory.sessions, memory.idle_bytes, memory.resident_bytes
    ))
}

/// Bytes of an idle session of the first way, measured in a process of its own.
///
/// # Errors
///
/// As [`memory`].
pub(crate) fn idle_bytes(sessions: usize) -> Result<f64, String> {
    let line = in_a_process(&["sessions-child", "0", &sessions.to_string()])?;
    // Sessions, idle, process: the name before them has spaces of its own.
    line.split_ascii_whitespace()
        .nth_back(1)
        .and_then(|bytes| bytes.parse().ok())
        .ok_or_else(|| format!("not a line of the table: {line}"))
}

/// What this program says with these arguments.
fn in_a_process(arguments: &[&str]) -> Result<String, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = std::process::Command::new(program).args(arguments).output();
    let output = output.map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}

/// A shard and the devices that come by.
struct World {
    endpoint: Endpoint,
    metrics: Arc<ShardMetrics>,
    outbox: Outbox,
    now: Now,
    template: RequestTemplate,
    connection_id: bool,
    /// CPU time that the endpoint took.
    spent_ns: u64,
}

impl World {
    fn new(plan: MemoryPlan) -> Result<Self, String> {
        let now = Now {
            instant: Instant::from_micros(1_000_000),
            unix_ms: UNIX_MS,
        };
        let mut settings = EndpointSettings::new(CookieJar::new([7; 32]));
        settings.dtls.store(Some(Arc::new(ServerConfig {
            connection_id_length: (plan.connection_id > 0).then_some(plan.connection_id),
            ..ServerConfig::new(credentials()?)
        })));
        let lifetime = Duration::from_secs(86_400);
        let cache = plan
            .cached
            .then(|| SessionCache::new(2 * plan.sessions, lifetime));
        settings.sessions = Sessions::new(cache);
        if !plan.cached {
            let key = TicketKey::new([1; 16], [2; 32]);
            let keys = TicketKeys::new(vec![key], lifetime);
            settings.sessions.set_ticket_keys(Some(Arc::new(keys)));
        }
        settings.sessions_max = plan.sessions + plan.sessions / 2 + 10;
        settings.session_inactivity_timeout = Duration::from_secs(100_000_000);
        settings.handshakes_per_address = u32::MAX;
        let metrics = Arc::new(ShardMetrics::new());
        let template = RequestTemplate::new(&RequestParts {
            method: code::POST,
            path: &["api", "v1", "ABCDEFGHIJ0123456789", "telemetry"],
            content_format: Some(50),
            ..RequestParts::default()
        });
        Ok(Self {
            endpoint: Endpoint::new(
                0,
                Arc::new(settings),
                Arc::clone(&metrics),
                Box::new(BufferedRandom::default()),
                now,
            ),
            metrics,
            outbox: Outbox::default(),
            now,
            template: template.ok_or("the request is too long")?,
            connection_id: plan.connection_id > 0,
            spent_ns: 0,
        })
    }

    fn client_config(&self) -> ClientConfig {
        ClientConfig {
            cipher_suites: vec![CipherSuite::EcdheEcdsaAes128Gcm],
            connection_id: self.connection_id.then(Vec::new),
            ..ClientConfig::default()
        }
    }

    /// A session that can be offered again and again.
    fn resumable(&mut self, config: &ClientConfig) -> Result<ResumableSession, String> {
        let config = Arc::new(ClientConfig {
            session_tickets: true,
            keep_session: true,
            credentials: config.credentials.clone(),
            ..self.client_config()
        });
        let connection = self.connect(ADDRESSES_MAX, &config)?;
        let session = connection.session().cloned();
        session.ok_or_else(|| "the server gave no session".into())
    }

    /// Makes the sessions of these devices, each with one request.
    fn fill(
        &mut self,
        devices: std::ops::Range<usize>,
        config: &Arc<ClientConfig>,
        between: Duration,
    ) -> Result<(), String> {
        for device in devices {
            let mut connection = self.connect(device, config)?;
            self.ask(device, &mut connection)?;
            self.pass(between);
        }
        Ok(())
    }

    /// A handshake of a device.
    fn connect(
        &mut self,
        device: usize,
        config: &Arc<ClientConfig>,
    ) -> Result<ClientConnection, String> {
        let address = address(device);
        let mut waiting = Vec::new();
        let mut connection = ClientConnection::new(
            self.now,
            Arc::clone(config),
            &mut Context {
                random: &mut SystemRandom,
                out: &mut waiting,
                drops: &mut |_| {},
            },
        );
        while !waiting.is_empty() {
            for datagram in &mut waiting {
                self.deliver(address, datagram);
            }
            waiting.clear();
            for transmit in self.outbox.transmits() {
                let mut datagram = self.outbox.datagram(transmit).to_vec();
                let mut context = Context {
                    random: &mut SystemRandom,
                    out: &mut waiting,
                    drops: &mut |_| {},
                };
                connection.handle_datagram(self.now, &mut datagram, &mut context);
            }
            self.outbox.clear_transmits();
        }
        if connection.is_established() {
            Ok(connection)
        } else {
            Err(format!("the handshake of device {device} did not end"))
        }
    }

    /// A request of a device, answered at once.
    fn ask(&mut self, device: usize, connection: &mut ClientConnection) -> Result<(), String> {
        let mut message = Vec::new();
        self.template
            .encode(true, 7, &[1, 2, 3, 4], b"{\"t\":21.5}", &mut message);
        let (prefix, suffix) = connection.record_overhead();
        let mut record = vec![0; prefix];
        record.extend_from_slice(&message);
        record.resize(prefix + message.len() + suffix, 0);
        let sealed = connection.seal_application_data(&mut record);
        sealed.map_err(|error| error.to_string())?;
        self.deliver(address(device), &mut record);
        let request = self.outbox.requests.pop();
        let request = request.ok_or_else(|| format!("device {device} was not heard"))?;
        let verdict = request.into_verdict(Response::empty(code::CREATED));
        self.endpoint
            .handle_verdict(self.now, verdict, &mut self.outbox);
        self.outbox.clear_transmits();
        Ok(())
    }

    fn deliver(&mut self, from: SocketAddr, datagram: &mut [u8]) {
        let start = thread_cpu_ns();
        self.endpoint.begin_turn(false);
        self.endpoint
            .handle_datagram(self.now, from, Port::Secure, datagram, &mut self.outbox);
        self.endpoint.handle_all_waiting(self.now, &mut self.outbox);
        self.spent_ns += thread_cpu_ns().saturating_sub(start);
    }

    /// Time passes, and timers fire.
    fn pass(&mut self, time: Duration) {
        self.now.instant = self.now.instant + time;
        self.now.unix_ms += u64::try_from(time.as_millis()).unwrap_or(0);
        while self.endpoint.next_timeout() <= self.now.instant {
            self.endpoint.handle_timeout(self.now, &mut self.outbox);
            self.outbox.clear_transmits();
        }
    }
}

/// Addresses of devices are different below this number.
const ADDRESSES_MAX: usize = 1 << 24;

fn address(device: usize) -> SocketAddr {
    let [.., a, b, c] = device.to_be_bytes();
    let port = if device >= ADDRESSES_MAX { 4000 } else { 5000 };
    SocketAddr::from((Ipv4Addr::new(127, a, b, c), port))
}

fn credentials() -> Result<Arc<Credentials>, String> {
    let text = |error: rcgen::Error| error.to_string();
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(text)?;
    let parameters = rcgen::CertificateParams::new(vec!["bench".to_owned()]).map_err(text)?;
    let leaf = parameters.self_signed(&key).map_err(text)?;
    Ok(Arc::new(Credentials {
        chain: vec![leaf.der().to_vec()],
        key: SigningKey::from_der(&key.serialize_der()).map_err(|error| error.to_string())?,
    }))
}

/// Resident memory of this process.
fn resident_bytes() -> Result<usize, String> {
    let failed = || "/proc/self/statm cannot be read".to_owned();
    let text = std::fs::read_to_string("/proc/self/statm").map_err(|_| failed())?;
    let pages = text.split_ascii_whitespace().nth(1).ok_or_else(failed)?;
    let pages: usize = pages.parse().map_err(|_| failed())?;
    Ok(pages * rustix::param::page_size())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_held_and_handshakes_measured() {
        for cached in [false, true] {
            let plan = MemoryPlan {
                sessions: 300,
                connection_id: 8,
                cached,
            };
            let memory = memory(plan).unwrap();
            assert_eq!(memory.sessions, 300);
            assert!(memory.resident_bytes > 0);
        }
        // That each was of its kind is checked where they are measured; how long they took is the machine's.
        let times = handshakes(3).unwrap();
        assert!(times.one_way_us > 0.0 && times.mutual_us > 0.0 && times.resumed_us > 0.0);
        assert!(times.one_way_floor_us > 0.0 && times.mutual_floor_us > 0.0);
    }
}
