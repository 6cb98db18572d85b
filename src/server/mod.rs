//! The process: what starts when, and what stops when.
//!
//! ```text
//! start   data directory -> credentials -> sockets -> pool -> shards -> admin -> ready
//! SIGHUP  credentials, shared ticket keys and the admin token again; live sessions go on
//! stop    not ready -> shards drain and say goodbye -> pool -> store -> admin
//! ```
//!
//! Whatever can be refused is refused before the first socket is bound. Each step is a file here.

mod address_watch;
mod credentials;
mod dev;
mod downlink;
mod driver;
mod error;
#[cfg(feature = "keylog")]
mod key_log;
mod resumption;
mod revocation;
mod settings;
mod shards;
mod sockets;
mod status;
mod workers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

pub use error::StartError;
#[cfg(feature = "keylog")]
pub(crate) use key_log::warning as key_log_warning;

use self::address_watch::AddressWatch;
use self::credentials::CredentialWatch;
use self::resumption::Tickets;
use self::shards::Shards;
use self::sockets::Sockets;
use self::status::{ServerParts, ServerStatus};
use self::workers::Workers;
use crate::admin::{self, AdminSettings, AdminToken};
use crate::config::Config;
use crate::crypto::random::{SystemRandom, warm_up};
use crate::doctor;
use crate::endpoint::EndpointSettings;
use crate::registry::Registry;
use crate::shard::DriverKind;
use crate::store::embedded::{Opened, StoreSettings};
use crate::store::{self, Store as _};

/// Requests of one shard that the pool may have in work: at 100 000 requests a second and shard,
/// what arrives in 40 ms, the time of a slow sync.
const REQUESTS_MAX: usize = 4096;
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
    address_watch: AddressWatch,
    status: Arc<ServerStatus>,
    shards: Shards,
    workers: Workers,
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
        let driver = check_host(config)?;
        let chains = opened.registry.profiles().offered_chains();
        let (dtls, watch) = credentials::dtls_config(config, chains)?;
        let tickets = Tickets::open(config, &config.tidegate.data_dir)?;
        let token = AdminToken::open(&config.tidegate.data_dir, &mut SystemRandom)?;
        let sockets = Sockets::open(config)?;
        let mut addresses = sockets.addresses;
        let address_watch = AddressWatch::start(&sockets.local_addresses);

        let registry: Arc<dyn Registry> = opened.registry.clone();
        let workers = Workers::start(config, &opened)?;
        let settings = Arc::new(settings::endpoint(config, dtls, Arc::clone(&registry)));
        tickets.publish(&settings.sessions);
        let shards = Shards::start(sockets, driver, &settings, &workers)?;
        revocation::tell(registry.revocations(), Arc::clone(&workers.inboxes));

        let status = Arc::new(ServerStatus::new(
            &shards.metrics,
            &workers,
            ServerParts {
                driver,
                addresses,
                settings: Arc::clone(&settings),
                store: opened.store.clone(),
                registry,
            },
        ));
        let admin = start_admin(config, &token, &opened, &workers, &status)?;
        addresses.admin = admin.address();
        Ok(Self {
            opened,
            addresses,
            token,
            settings,
            watch,
            tickets,
            address_watch,
            status,
            shards,
            workers,
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
                    if let Some(shard) = self.shards.ended() {
                        return Err(StartError::ShardEnded(shard));
                    }
                    self.tickets.tick(&self.settings.sessions);
                    self.address_watch.tick();
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

    /// New handshakes and requests to the admin interface get what the files hold now; a file that
    /// cannot be used changes nothing.
    fn reload(&self, config: &Config) {
        self.tickets.reload(&self.settings.sessions);
        if let Err(error) = self
            .token
            .reload(&config.tidegate.data_dir, &mut SystemRandom)
        {
            tracing::error!("the admin token is not reloaded, the old one stays: {error}");
        }
        let chains = self.opened.registry.profiles().offered_chains();
        match credentials::dtls_config(config, chains) {
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
        self.workers.hub.refuse_client_calls();
        self.shards.stop();
        self.workers.stop();
        self.opened.store.close();
        self.admin.stop();
        tracing::info!("stopped");
    }
}

/// Whether there is something to serve, and the host can do it; and how.
fn check_host(config: &Config) -> Result<DriverKind, StartError> {
    if !config.coap.enabled && !config.dtls.enabled {
        return Err(StartError::NothingToServe);
    }
    // Asked here, as an executor without a ring ends in a panic of its own.
    if let Err(error) = doctor::Host::of_machine().ring() {
        return Err(StartError::Executor(error.to_owned()));
    }
    driver::choose(config.tidegate.driver)
}

/// Opens the admin interface on everything that runs.
fn start_admin(
    config: &Config,
    token: &AdminToken,
    opened: &Opened,
    workers: &Workers,
    status: &Arc<ServerStatus>,
) -> Result<admin::Admin, StartError> {
    let settings = AdminSettings {
        bind: config.tidegate.admin_bind,
        socket: Some(config.admin_socket()),
        token: token.clone(),
        remote_api: config.tidegate.admin_remote_api,
    };
    let (registry, store) = (opened.registry.clone(), opened.store.clone());
    let operations = admin::LocalOperations::new(registry, store, Arc::clone(&workers.hub))
        .with_packages(Arc::clone(&opened.packages))
        .with_claims(Arc::clone(&workers.claims))
        .with_shards(Arc::clone(&workers.inboxes));
    Ok(admin::spawn(
        &settings,
        Arc::new(operations),
        Arc::clone(status) as _,
    )?)
}
