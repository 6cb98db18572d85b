//! The process: what starts when, and what stops when.
//!
//! ```text
//! start   data directory -> credentials -> sockets -> pool -> shards -> admin -> ready
//! SIGHUP  credentials and shared ticket keys again, for new handshakes; live sessions go on
//! stop    not ready -> shards drain and say goodbye -> pool -> store -> admin
//! ```
//!
//! Whatever can be refused is refused before the first socket is bound.

mod credentials;
mod dev;
mod downlink;
mod driver;
mod error;
#[cfg(feature = "keylog")]
mod key_log;
mod resumption;
mod revocation;
mod status;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use glommio::ExecutorJoinHandle;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

pub use error::StartError;
#[cfg(feature = "keylog")]
pub(crate) use key_log::warning as key_log_warning;

use self::credentials::CredentialWatch;
use self::resumption::Tickets;
use self::revocation::EndedCredentials;
use self::status::{ServerStatus, ShardsView};
use crate::admin::{self, AdminSettings, AdminToken};
use crate::auth::api::{Api, ApiSettings};
use crate::auth::downlink::{Hub, HubThread};
use crate::auth::pool::Pool;
use crate::auth::request::CREDENTIAL_LOOKUPS_MAX;
use crate::config::Config;
use crate::crypto::random::{SystemRandom, warm_up};
use crate::doctor;
use crate::dtls::CookieJar;
use crate::endpoint::{EndpointSettings, HOT_SESSIONS, Port};
use crate::metrics::ShardMetrics;
use crate::queue::{Inbox, RequestQueues};
use crate::random::Random;
use crate::registry::Registry;
use crate::shard::clock::Clock;
use crate::shard::socket::Socket;
use crate::shard::steering;
use crate::shard::{self, ShardParts};
use crate::store::Store;
use crate::store::embedded::{Opened, StoreSettings};
use crate::{coap, store};

/// Requests of one shard that the pool may have in work: at 100 000 requests a second and shard,
/// what arrives in 40 ms, the time of a slow sync.
const REQUESTS_MAX: usize = 4096;
/// Plain CoAP peers remembered by one shard; the oldest makes room for a new one.
const PLAIN_PEERS_MAX: usize = 65_536;
/// How often the main thread looks after shards and files between signals.
const TICK: Duration = Duration::from_secs(1);

/// Runs the server until SIGTERM or SIGINT.
///
/// # Errors
/// What kept it from starting, with the setting concerned and the remedy.
pub fn run(config: &Config) -> Result<(), StartError> {
    // AWS-LC's first random number takes tens of milliseconds: not at the first handshake's cost.
    warm_up();
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    // From here on a signal waits for the loop below instead of killing a half-started server.
    let signals = signals()?;
    if config.tidegate.dev {
        dev::prepare_files(config)?;
    }
    let store_settings = StoreSettings {
        retention: config.tidegate.retention,
        ..StoreSettings::default()
    };
    let opened = store::embedded::open(&config.tidegate.data_dir, &store_settings)?;
    let server = Server::start(config, opened)?;
    if config.tidegate.dev {
        let registry = &*server.opened.registry;
        dev::register_devices(config, registry, &server.addresses, &server.token)?;
    }
    let served = server.serve(config, &signals);
    server.stop();
    served
}

/// Signals, as they come, from a thread that waits for them.
fn signals() -> Result<mpsc::Receiver<i32>, StartError> {
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error| StartError::Process("waiting for signals", error))?;
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                if sender.send(signal).is_err() {
                    return;
                }
            }
        })
        .map_err(|error| StartError::Process("starting a thread", error))?;
    Ok(receiver)
}

/// Everything that runs.
struct Server {
    opened: Opened,
    addresses: Addresses,
    token: AdminToken,
    settings: Arc<EndpointSettings>,
    watch: Option<CredentialWatch>,
    tickets: Tickets,
    status: Arc<ServerStatus>,
    inboxes: Arc<[Arc<Inbox>]>,
    stop: Arc<AtomicBool>,
    shards: Vec<RunningShard>,
    pool: Arc<Pool>,
    hub: Arc<Hub>,
    hub_thread: HubThread,
    admin: admin::Admin,
}

/// Where the server can be reached.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Addresses {
    pub(crate) plain: Option<SocketAddr>,
    pub(crate) secure: Option<SocketAddr>,
    pub(crate) admin: Option<SocketAddr>,
}

impl Server {
    fn start(config: &Config, opened: Opened) -> Result<Self, StartError> {
        let shards = usize::from(config.tidegate.shards);
        if !config.coap.enabled && !config.dtls.enabled {
            return Err(StartError::NothingToServe);
        }
        // Asked here, as an executor without a ring ends in a panic of its own.
        if let Err(error) = doctor::Host::of_machine().ring() {
            return Err(StartError::Executor(error.to_owned()));
        }
        let driver = driver::choose(config.tidegate.driver)?;
        let (dtls, watch) = credentials::dtls_config(config)?;
        let tickets = Tickets::open(config, &config.tidegate.data_dir)?;
        let token = AdminToken::open(&config.tidegate.data_dir, &mut SystemRandom)?;
        let mut sockets: Vec<Vec<(Port, Socket)>> = (0..shards).map(|_| Vec::new()).collect();
        let mut addresses = Addresses::default();
        // Of no bytes they name no shard.
        let connection_ids = config
            .dtls
            .connection_id_length
            .is_some_and(|length| length > 0);
        if config.coap.enabled {
            let setting = "COAP_BIND_ADDRESS and COAP_BIND_PORT";
            let bound = bind(config.coap.bind, shards, setting, Port::Plain, &mut sockets)?;
            addresses.plain = Some(bound);
        }
        if config.dtls.enabled {
            let setting = "COAP_DTLS_BIND_ADDRESS and COAP_DTLS_BIND_PORT";
            let bound = bind(
                config.dtls.bind,
                shards,
                setting,
                Port::Secure,
                &mut sockets,
            )?;
            addresses.secure = Some(bound);
            if connection_ids {
                steer(&sockets);
            }
        }

        let registry: Arc<dyn Registry> = opened.registry.clone();
        let readings: Arc<dyn Store> = opened.store.clone();
        let workers = usize::from(config.tidegate.auth_threads);
        let (queues, workers) = RequestQueues::new(shards, REQUESTS_MAX, workers);
        let inboxes: Arc<[Arc<Inbox>]> = (0..shards)
            .map(|_| Arc::new(Inbox::new(REQUESTS_MAX)))
            .collect();
        let hub = downlink::hub(config, &registry, &readings, &inboxes);
        let api = Api::new(
            Arc::clone(&registry),
            Arc::clone(&readings),
            Arc::clone(&hub),
            api_settings(config),
        );
        let api = Arc::new(api.with_packages(Arc::clone(&opened.packages)));
        let claims = Arc::clone(api.claims());
        let pool = Pool::start(
            Arc::clone(&queues),
            workers,
            Arc::clone(&inboxes),
            api,
            Arc::clone(&readings),
        )
        .map_err(|error| StartError::Process("starting the authenticator pool", error))?;
        let pool = Arc::new(pool);
        let hub_thread = HubThread::start(&hub)
            .map_err(|error| StartError::Process("starting the downlinks' thread", error))?;

        let mut master = [0; 32];
        SystemRandom.fill(&mut master);
        let settings = Arc::new(EndpointSettings {
            dtls: ArcSwapOption::from_pointee(dtls),
            cookies: CookieJar::new(master),
            sessions: resumption::sessions(config),
            revocations: Arc::new(EndedCredentials::new(Arc::clone(&registry))),
            coap: coap::Settings {
                piggyback_timeout: config.coap.piggyback_timeout,
                echo: config.coap.echo,
                ..coap::Settings::default()
            },
            session_inactivity_timeout: config.x509.session_inactivity_timeout,
            session_report_timeout: config
                .x509
                .session_report_timeout
                .max(Duration::from_millis(1)),
            sessions_max: config.tidegate.sessions_max.div_ceil(shards),
            handshakes_max: config.tidegate.handshakes_max.div_ceil(shards),
            handshakes_per_address: config
                .tidegate
                .handshakes_per_address
                .div_ceil(u32::try_from(shards).unwrap_or(u32::MAX)),
            plain_peers_max: PLAIN_PEERS_MAX,
            requests_max: REQUESTS_MAX,
            credential_lookups_max: CREDENTIAL_LOOKUPS_MAX,
            hot_sessions: HOT_SESSIONS,
            shards: config.tidegate.shards,
            node_id: config.tidegate.node_id,
        });

        tickets.publish(&settings.sessions);
        let metrics: Vec<_> = (0..shards).map(|_| Arc::new(ShardMetrics::new())).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let clock = Clock::start();
        let cpus = allowed_cpus();
        let mut spawned = Vec::with_capacity(shards);
        for (index, sockets) in sockets.into_iter().enumerate() {
            let (started, has_started) = mpsc::channel();
            let parts = ShardParts {
                index: u16::try_from(index).unwrap_or(u16::MAX),
                cpu: cpus[index % cpus.len()],
                sockets,
                driver,
                settings: Arc::clone(&settings),
                metrics: Arc::clone(&metrics[index]),
                queue: queues
                    .shard(index)
                    .ok_or_else(|| StartError::Executor("no queue".into()))?,
                inbox: Arc::clone(&inboxes[index]),
                inboxes: Arc::clone(&inboxes),
                connection_ids,
                stop: Arc::clone(&stop),
                clock,
                started,
            };
            let handle = shard::spawn(parts).map_err(|e| StartError::Executor(e.to_string()))?;
            spawned.push((handle, has_started));
        }
        let shards = await_start(spawned)?;
        revocation::tell(registry.revocations(), Arc::clone(&inboxes));

        let status = Arc::new(ServerStatus::new(
            ShardsView {
                metrics,
                queues: (0..inboxes.len())
                    .filter_map(|shard| queues.shard(shard))
                    .collect(),
                driver,
            },
            Arc::clone(&pool),
            Arc::clone(&readings),
            Arc::clone(&registry),
            Arc::clone(&settings),
            addresses,
        ));
        let admin_settings = AdminSettings {
            bind: config.tidegate.admin_bind,
            socket: Some(config.admin_socket()),
            token: token.clone(),
            remote_api: config.tidegate.admin_remote_api,
        };
        let operations = admin::LocalOperations::new(registry, readings, Arc::clone(&hub))
            .with_packages(Arc::clone(&opened.packages))
            .with_claims(claims)
            .with_shards(Arc::clone(&inboxes));
        let operations = Arc::new(operations);
        let admin = admin::spawn(&admin_settings, operations, Arc::clone(&status) as _)?;
        addresses.admin = admin.address();
        Ok(Self {
            opened,
            addresses,
            token,
            settings,
            watch,
            tickets,
            status,
            inboxes,
            stop,
            shards,
            pool,
            hub,
            hub_thread,
            admin,
        })
    }

    /// Serves until a signal says to stop.
    ///
    /// A shard that ends by itself is a defect, and its peers' datagrams would lie unread: the server
    /// stops then, with an error, so that its supervisor starts it afresh.
    fn serve(&self, config: &Config, signals: &mpsc::Receiver<i32>) -> Result<(), StartError> {
        self.status.set_ready(true);
        tracing::info!(
            coap = self.addresses.plain.map(tracing::field::display),
            coaps = self.addresses.secure.map(tracing::field::display),
            admin = self.addresses.admin.map(tracing::field::display),
            shards = self.shards.len(),
            devices = self.opened.registry.len(),
            "serving"
        );
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        let watch = self.watch.as_ref().filter(|_| config.reload.enabled);
        let mut unwatched = Duration::ZERO;
        loop {
            match signals.recv_timeout(TICK) {
                Ok(SIGHUP) => self.reload(config),
                Ok(signal) => {
                    tracing::info!(signal, "stopping");
                    return Ok(());
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {
                    let hung_up = Err(mpsc::TryRecvError::Disconnected);
                    let ended = self
                        .shards
                        .iter()
                        .position(|(_, shard)| shard.try_recv() == hung_up);
                    if let Some(shard) = ended {
                        return Err(StartError::ShardEnded(shard));
                    }
                    self.tickets.tick(&self.settings.sessions);
                    unwatched += TICK;
                    if unwatched < config.reload.check_interval {
                        continue;
                    }
                    unwatched = Duration::ZERO;
                    if watch.is_some_and(CredentialWatch::changed) {
                        tracing::info!("credential files changed");
                        self.reload(config);
                    }
                }
            }
        }
    }

    /// New handshakes get what the files hold now; a file that cannot be used changes nothing.
    fn reload(&self, config: &Config) {
        self.tickets.reload(&self.settings.sessions);
        match credentials::dtls_config(config) {
            Ok((dtls, _)) => {
                self.settings.dtls.store(dtls.map(Arc::new));
                tracing::info!("credentials reloaded; live sessions go on");
            }
            Err(error) => {
                tracing::error!("credentials not reloaded, the old ones stay: {error}");
            }
        }
    }

    /// Stops in the order in which nothing that was answered, or is in work, gets lost.
    fn stop(mut self) {
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        self.status.set_ready(false);
        self.hub.refuse_client_calls();
        self.stop.store(true, Ordering::Release);
        for inbox in self.inboxes.iter() {
            inbox.wake_always();
        }
        for (shard, _) in self.shards {
            match shard.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "a shard ended with an error"),
                Err(error) => tracing::error!(%error, "a shard ended with an error"),
            }
        }
        self.pool.stop();
        self.hub_thread.stop();
        self.opened.store.close();
        self.admin.stop();
        tracing::info!("stopped");
    }
}

/// What of the device API can be set.
fn api_settings(config: &Config) -> ApiSettings {
    ApiSettings {
        type_cast: config.json.type_cast,
        string_value_length_max: config.json.max_string_value_length.unwrap_or(0),
        server_limits: config.limits.server.clone(),
        rate_limit_refusal: config.limits.refusal,
        claiming_allowed: config.claiming.allowed,
        claim_duration_ms: config.claiming.duration_ms,
    }
}

/// A shard's thread, and what hangs up when it ends.
type RunningShard = (ExecutorJoinHandle<io::Result<()>>, mpsc::Receiver<()>);

/// Waits until every shard serves: one that does not would let its peers' datagrams lie.
fn await_start(spawned: Vec<RunningShard>) -> Result<Vec<RunningShard>, StartError> {
    spawned
        .into_iter()
        .map(|(handle, has_started)| match has_started.recv() {
            Ok(()) => Ok((handle, has_started)),
            Err(mpsc::RecvError) => Err(StartError::Executor(match handle.join() {
                Ok(Ok(())) => "it ended at once".into(),
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            })),
        })
        .collect()
}

/// Binds a port for all shards and hands each its member of the group.
fn bind(
    address: SocketAddr,
    shards: usize,
    setting: &'static str,
    port: Port,
    sockets: &mut [Vec<(Port, Socket)>],
) -> Result<SocketAddr, StartError> {
    let refused = |source| StartError::Bind {
        setting,
        address,
        source,
    };
    let group = Socket::bind_group(address, shards).map_err(refused)?;
    let bound = group
        .first()
        .map_or(Ok(address), Socket::local_addr)
        .map_err(refused)?;
    for (shard, socket) in sockets.iter_mut().zip(group) {
        shard.push((port, socket));
    }
    Ok(bound)
}

/// Lets the kernel deliver datagrams with a connection id to the shards that own them.
fn steer(sockets: &[Vec<(Port, Socket)>]) {
    if sockets.len() < 2 {
        return;
    }
    let mut first = sockets.iter().flatten();
    let Some((_, member)) = first.find(|(port, _)| *port == Port::Secure) else {
        return;
    };
    if let Err(error) = steering::attach(member) {
        tracing::warn!(
            %error,
            "the kernel takes no steering program (SO_ATTACH_REUSEPORT_CBPF): datagrams of devices \
             whose address changed reach their shard through another one, which costs CPU time; \
             nothing is lost by it"
        );
    }
}

/// The cores that the process may run on, never empty.
fn allowed_cpus() -> Vec<usize> {
    let status = std::fs::read_to_string(Path::new("/proc/self/status")).unwrap_or_default();
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .unwrap_or_default();
    let cpus: Vec<usize> = list
        .trim()
        .split(',')
        .filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some(first.parse().ok()?..=last.parse().ok()?)
        })
        .flatten()
        .collect();
    if cpus.is_empty() { vec![0] } else { cpus }
}
