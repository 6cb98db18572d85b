//! The command line, read into a [`Plan`].

mod check;

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};
use tidegate::coap::code;
use tidegate::crypto::suite::CipherSuite;
use tidegate::time::Duration;

use crate::target::Target;

/// Longest payload: one datagram of at most 4096 bytes, which is what Tidegate receives, without block-wise transfer.
const PAYLOAD_BYTES_MAX: usize = 3900;
/// Shortest payload of `--payload-bytes`: `{"v":""}`.
const PAYLOAD_BYTES_MIN: usize = 8;
/// Where a Tidegate on this host offers its admin interface.
const ADMIN_DEFAULT: &str = "http://127.0.0.1:5680";
/// In place of an admin interface.
const NOWHERE: &str = "none";
const DEVICES_DEFAULT: usize = 100;
/// The same under a storm, each sending once a second.
const STORM_DEVICES_DEFAULT: usize = 2000;
/// ClientHellos a second of a storm: more than two cores of today can take.
const STORM_HELLOS_DEFAULT: f64 = 20_000.0;
const QUIET_DEFAULT: Duration = Duration::from_secs(10);
const REBIND_DEFAULT: Duration = Duration::from_secs(1);
const UPDATE_DEFAULT: Duration = Duration::from_secs(2);
/// Longest connection id that is of use: a record with it must fit a datagram (RFC 9146 section 3).
const CID_LEN_MAX: i64 = 255;
const DEVICES_MAX: usize = 10_000_000;

/// What the simulated fleet does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Every device connects once and then sends requests
    Telemetry,
    /// Every device makes a full handshake, closes, and starts over
    Handshake,
    /// Every device makes a full handshake first, and then offers its session again and again
    Resume,
    /// As telemetry, with connection ids, and each device changes its source port every so often:
    /// its requests must go on without a handshake
    Rebind,
    /// As telemetry in the open loop, first alone and then under a storm: another fleet makes full
    /// handshakes over and over, and strangers flood the server with ClientHellos
    Storm,
    /// Every device connects and observes its shared attributes; then one attribute of all of them
    /// is set at once, again and again: how long until each has its notification?
    Observe,
}

impl Scenario {
    /// Whether an operation is a request on a session that lasts; else it is a handshake.
    pub(crate) const fn sends_requests(self) -> bool {
        match self {
            Self::Telemetry | Self::Rebind | Self::Storm | Self::Observe => true,
            Self::Handshake | Self::Resume => false,
        }
    }

    /// Whether every device makes a handshake before the measured time.
    pub(crate) const fn connects_first(self) -> bool {
        self.sends_requests() || matches!(self, Self::Resume)
    }

    /// The name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetry",
            Self::Handshake => "handshake",
            Self::Resume => "resume",
            Self::Rebind => "rebind",
            Self::Storm => "storm",
            Self::Observe => "observe",
        }
    }
}

/// How devices name the session that they offer again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ResumeBy {
    /// By a ticket, which the server needs not remember
    Ticket,
    /// By the session id
    Id,
}

impl ResumeBy {
    /// The name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Id => "id",
        }
    }
}

/// Whether devices share sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SocketSharing {
    /// Many devices to a socket; needs a target in 127.0.0.0/8
    Shared,
    /// A socket for each device
    Each,
}

/// How devices prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Authentication {
    /// An access token in the path
    Token,
    /// A client certificate
    X509,
    /// A pre-shared key
    Psk,
    /// Not at all
    None,
}

const EXAMPLES: &str = "\
Examples:
  A thousand certificate devices as fast as the server answers, registered at its admin port:
    tidegate-loadgen --target coaps://127.0.0.1:5684 --devices 1000 --auth x509 --closed
  A hundred thousand token devices, 20 000 readings a second, the report as a page:
    tidegate-loadgen --target coaps://127.0.0.1:5684 --devices 100000 --rate 20000 --duration 1m --html report.html
  What a full, and a resumed, handshake costs the server:
    tidegate-loadgen --target coaps://127.0.0.1:5684 --scenario handshake --count 10000 --server-pid $(pidof tidegate)
    tidegate-loadgen --target coaps://127.0.0.1:5684 --scenario resume --count 10000 --server-pid $(pidof tidegate)
  As many full handshakes as one core of this generator can ask for:
    tidegate-loadgen --target coaps://127.0.0.1:5684 --scenario handshake --threads 1 --verify-one-in 16
  Devices whose source port changes every 5 s under a connection id:
    tidegate-loadgen --target coaps://127.0.0.1:5684 --scenario rebind --rebind-every 5s --rate 500
  A fleet alone for 10 s, and then for 30 s under a storm of handshakes:
    tidegate-loadgen --target coaps://127.0.0.1:5684 --scenario storm
  Ten thousand observers, each told of a new value every 2 s, and the server's memory:
    tidegate-loadgen --target coaps://127.0.0.1:5684 --scenario observe --devices 10000 --server-pid $(pidof tidegate)
  A server of another make:
    tidegate-loadgen --target coaps://192.0.2.7/example_data --method PUT --auth none --devices 50 --closed

Exit codes: 0 all went well; 1 an answer was wrong, more than --max-errors operations failed, or the run
could not be made; 2 wrong usage.";

/// Simulates a fleet of devices against a CoAP or CoAPS server, and measures its answers.
///
/// In the open loop (--rate) requests have intended send times, a Poisson process from the seed,
/// and latency counts from those, whatever the server delays. In the closed loop (--closed, the
/// default) every device has one request outstanding.
#[derive(Debug, Parser)]
#[command(name = "tidegate-loadgen", version, max_term_width = 100, after_help = EXAMPLES)]
struct Arguments {
    /// Server: coaps://HOST or coap://HOST, with :PORT if it is not the usual one, and with a path if --path is not given
    #[arg(long, value_name = "URI")]
    target: Target,
    /// What the fleet does
    #[arg(long, value_enum, default_value = "telemetry")]
    scenario: Scenario,
    /// Number of devices [default: 100, in a storm 2000, or all of --devices-file]
    #[arg(long, value_name = "N")]
    devices: Option<usize>,
    /// How devices prove who they are
    #[arg(long, value_enum, default_value = "token")]
    auth: Authentication,
    /// Access token, the same for all devices
    #[arg(long, value_name = "TOKEN", conflicts_with_all = ["devices_file", "admin"])]
    token: Option<String>,
    /// Devices: lines `name,token`, or `name,certificate.pem,key.pem` with --auth x509, or
    /// `name,identity,key in hexadecimal` with --auth psk
    #[arg(long, value_name = "FILE.csv", conflicts_with = "admin")]
    devices_file: Option<PathBuf>,
    /// Admin interface of Tidegate, to register the devices there. When the server must know them
    /// and the target is on this host, http://127.0.0.1:5680 is assumed; `none` makes
    /// certificates and registers them nowhere, for servers that take any
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// File with the token of that interface [default: admin-token in TIDEGATE_DATA_DIR or
    /// ./tidegate-data, unless TIDEGATE_ADMIN_TOKEN is the token]
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// Open loop: operations per second over the fleet [in a storm by default: one per device]
    #[arg(long, value_name = "R", conflicts_with = "closed", value_parser = parse_rate)]
    rate: Option<f64>,
    /// Closed loop: one request outstanding per device, as fast as answers come
    #[arg(long)]
    closed: bool,
    /// Closed loop over the whole fleet: at most N requests outstanding, from the devices in turn; so a large
    /// fleet keeps a server busy and is never more than it takes
    #[arg(long, value_name = "N", conflicts_with_all = ["rate", "closed"], value_parser = clap::value_parser!(u32).range(1..))]
    in_flight: Option<u32>,
    /// How long to measure (500ms, 30s, 5m, 1h); of the scenario storm, how long that lasts
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    duration: Duration,
    /// Spread the devices' connecting over this time; measuring starts after it
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    ramp: Duration,
    /// Stop after this many operations (requests or handshakes), if --duration does not end first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Threads [default: one per core]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Seed of the schedule, of the devices' order and of their names and tokens
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Use connection ids (RFC 9146): the server's in records to it, and ours of LEN bytes in records
    /// to us; 0: only the server's [default: none; with --scenario rebind 0]
    #[arg(long, value_name = "LEN", value_parser = clap::value_parser!(u8).range(0..=CID_LEN_MAX))]
    cid: Option<u8>,
    /// Rebind: how often a device changes its source port, before a request [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    rebind_every: Option<Duration>,
    /// Resume: how devices name their session [default: ticket]
    #[arg(long, value_name = "WAY", value_enum)]
    resume_by: Option<ResumeBy>,
    /// Storm: how long the fleet is measured alone before [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    quiet: Option<Duration>,
    /// Storm: devices of the other fleet, which all connect at once, close and start over, as fast
    /// as the server lets them [default: as many as --devices]
    #[arg(long, value_name = "N")]
    storm_devices: Option<usize>,
    /// Storm: ClientHellos per second from addresses of no device (on loopback each from its own
    /// address of 127.64.0.0/10): half without a cookie, half with a valid one whose handshake then
    /// never goes on. 0: none [default: 20000]
    #[arg(long, value_name = "R", value_parser = parse_rate_or_none)]
    storm_spoofed: Option<f64>,
    /// Observe: how often the attribute is set, for all devices by one call of the admin interface
    /// [default: 2s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    update_every: Option<Duration>,
    /// Offer only this cipher suite (IANA name)
    #[arg(long, value_name = "NAME", value_parser = parse_suite)]
    suite: Option<CipherSuite>,
    /// Verify the server's signature in one full handshake of N, chosen at random, and not in each:
    /// verifying costs the generator more than signing costs the server, so this lets one core keep a
    /// server busy with handshakes
    #[arg(long, value_name = "N")]
    verify_one_in: Option<NonZeroU32>,
    /// Request method
    #[arg(long, default_value = "POST", value_parser = parse_method, value_name = "METHOD")]
    method: u8,
    /// Request path; {token} stands for the device's token [default: the telemetry path]
    #[arg(long)]
    path: Option<String>,
    /// Payload, sent as JSON [default: {"temperature":21.5,"humidity":48.25}]
    #[arg(long, value_name = "JSON", conflicts_with = "payload_bytes")]
    payload: Option<String>,
    /// Payload of this many bytes, a JSON object, instead
    #[arg(long, value_name = "N", value_parser = parse_payload_bytes)]
    payload_bytes: Option<usize>,
    /// How long a request may take, and how long what is outstanding at the end is waited for; the default is
    /// MAX_TRANSMIT_WAIT (RFC 7252)
    #[arg(long, value_name = "TIME", default_value = "93s", value_parser = parse_duration)]
    timeout: Duration,
    /// Sockets: on loopback devices share some, each with an address of 127.0.0.0/8 of its own, unless
    /// each is to have a socket; elsewhere, and where source ports change, each has one [default: shared
    /// where that is possible]
    #[arg(long, value_name = "WAY", value_enum)]
    sockets: Option<SocketSharing>,
    /// Process of the server: adds its CPU time and memory, from /proc. Memory per session is the
    /// growth while the fleet connects: measure it on a freshly started server
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    server_pid: Option<u32>,
    /// Write the results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the latency percentiles as HdrHistogram text, in microseconds
    #[arg(long, value_name = "FILE")]
    hgrm: Option<PathBuf>,
    /// Write a page with the latency distribution, the latency over time and the rates; it needs no
    /// network to be read
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Failed operations that are put up with
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_errors: u64,
}

/// Where the devices' credentials come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CredentialSource {
    /// Devices without credentials.
    Nothing,
    /// One token for all.
    Token(String),
    /// A file with a line per device.
    File(PathBuf),
    /// Made here and registered there.
    Admin(String),
    /// Certificates made here and registered nowhere.
    Unregistered,
}

/// What makes a device act again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Load {
    /// The end of its last operation.
    Closed,
    /// The end of anybody's operation, once it is its turn.
    Turns {
        /// Operations of the fleet under way at once, above 0.
        in_flight: u32,
    },
    /// The schedule, with so many operations a second over the fleet.
    Open {
        /// Operations per second, above 0.
        rate: f64,
    },
}

impl Load {
    /// Whether only answers make devices ask again.
    pub(crate) const fn is_closed(self) -> bool {
        !matches!(self, Self::Open { .. })
    }
}

/// What comes over the fleet in the scenario storm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Storm {
    /// How long the fleet is alone before.
    pub(crate) quiet: Duration,
    /// Devices that reconnect.
    pub(crate) devices: usize,
    /// ClientHellos of strangers per second.
    pub(crate) hellos_per_s: f64,
}

/// Everything that was asked for, checked.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) target: Target,
    pub(crate) scenario: Scenario,
    /// `None`: as many as the file has.
    pub(crate) devices: Option<usize>,
    pub(crate) authentication: Authentication,
    pub(crate) credentials: CredentialSource,
    pub(crate) admin_token_file: Option<PathBuf>,
    pub(crate) load: Load,
    pub(crate) duration: Duration,
    pub(crate) ramp: Duration,
    pub(crate) count: Option<u64>,
    /// Length of the devices' connection ids, when such are used.
    pub(crate) cid: Option<u8>,
    /// How often a device changes its source port.
    pub(crate) rebind_every: Option<Duration>,
    /// Of the scenario resume.
    pub(crate) resume_by: Option<ResumeBy>,
    pub(crate) storm: Option<Storm>,
    /// Of the scenario observe: how often there is something to tell.
    pub(crate) update_every: Option<Duration>,
    /// Whether devices may share sockets.
    pub(crate) shared_sockets: bool,
    pub(crate) threads: usize,
    pub(crate) seed: u64,
    pub(crate) suite: Option<CipherSuite>,
    /// In one handshake of how many the server's signature is verified; in each if this is `None`.
    pub(crate) verify_one_in: Option<NonZeroU32>,
    pub(crate) method: u8,
    pub(crate) path: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) answer_timeout: Duration,
    pub(crate) server_pid: Option<u32>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) hgrm: Option<PathBuf>,
    pub(crate) html: Option<PathBuf>,
    pub(crate) max_errors: u64,
}

impl Plan {
    /// Reads the process's command line.
    ///
    /// # Errors
    ///
    /// A usage error (or the text asked for by `--help`), to be printed by its `exit`.
    pub(crate) fn from_command_line() -> Result<Self, clap::Error> {
        Self::from_arguments(Arguments::try_parse()?)
    }

    fn from_arguments(arguments: Arguments) -> Result<Self, clap::Error> {
        check::check(&arguments)
            .map_err(|message| Arguments::command().error(ErrorKind::ArgumentConflict, message))?;
        let credentials = credential_source(&arguments);
        let path = arguments
            .path
            .or_else(|| arguments.target.path.clone())
            .unwrap_or_else(|| default_path(arguments.auth, arguments.scenario).to_owned());
        let is_observe = arguments.scenario == Scenario::Observe;
        let method = match is_observe {
            true => code::GET,
            false => arguments.method,
        };
        let payload = match (arguments.payload, arguments.payload_bytes) {
            (Some(text), _) => text.into_bytes(),
            (None, Some(length)) => payload_of(length),
            (None, None) if takes_payload(method) => {
                br#"{"temperature":21.5,"humidity":48.25}"#.to_vec()
            }
            (None, None) => Vec::new(),
        };
        let devices = match (&credentials, arguments.devices) {
            (CredentialSource::File(_), devices) => devices,
            (_, Some(devices)) => Some(devices),
            (_, None) if arguments.scenario == Scenario::Storm => Some(STORM_DEVICES_DEFAULT),
            (_, None) => Some(DEVICES_DEFAULT),
        };
        let is_rebind = arguments.scenario == Scenario::Rebind;
        let rebind_every = is_rebind.then(|| arguments.rebind_every.unwrap_or(REBIND_DEFAULT));
        let is_storm = arguments.scenario == Scenario::Storm;
        let fleet = devices.unwrap_or(STORM_DEVICES_DEFAULT);
        let storm = is_storm.then(|| Storm {
            quiet: arguments.quiet.unwrap_or(QUIET_DEFAULT),
            devices: arguments.storm_devices.unwrap_or(fleet),
            hellos_per_s: arguments.storm_spoofed.unwrap_or(STORM_HELLOS_DEFAULT),
        });
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53 devices")]
        let load = match (arguments.rate, arguments.in_flight) {
            (Some(rate), _) => Load::Open { rate },
            (None, Some(in_flight)) => Load::Turns { in_flight },
            (None, None) if is_storm => Load::Open { rate: fleet as f64 },
            (None, None) => Load::Closed,
        };
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            target: arguments.target,
            scenario: arguments.scenario,
            devices,
            authentication: arguments.auth,
            credentials,
            admin_token_file: arguments.admin_token_file,
            load,
            duration: arguments.duration,
            ramp: arguments.ramp,
            count: arguments.count,
            cid: arguments.cid.or_else(|| is_rebind.then_some(0)),
            rebind_every,
            resume_by: (arguments.scenario == Scenario::Resume)
                .then(|| arguments.resume_by.unwrap_or(ResumeBy::Ticket)),
            storm,
            update_every: is_observe.then(|| arguments.update_every.unwrap_or(UPDATE_DEFAULT)),
            // At a shared socket no device has a port to change.
            shared_sockets: arguments.sockets != Some(SocketSharing::Each) && !is_rebind,
            threads: arguments.threads.map_or_else(cores, usize::from),
            seed: arguments.seed,
            suite: arguments.suite,
            verify_one_in: arguments.verify_one_in,
            method,
            path,
            payload,
            answer_timeout: arguments.timeout,
            server_pid: arguments.server_pid,
            json: arguments.json,
            hgrm: arguments.hgrm,
            html: arguments.html,
            max_errors: arguments.max_errors,
        })
    }
}

fn credential_source(arguments: &Arguments) -> CredentialSource {
    if let Some(token) = &arguments.token {
        return CredentialSource::Token(token.clone());
    }
    if let Some(file) = &arguments.devices_file {
        return CredentialSource::File(file.clone());
    }
    match arguments.admin.as_deref() {
        Some(NOWHERE) => return CredentialSource::Unregistered,
        Some(admin) => return CredentialSource::Admin(admin.to_owned()),
        None => {}
    }
    let path = arguments.path.as_ref().or(arguments.target.path.as_ref());
    let shows_token = path.is_none_or(|path| path.contains("{token}"));
    match (arguments.auth, arguments.scenario) {
        (Authentication::None, _)
        | (Authentication::Token, Scenario::Handshake | Scenario::Resume) => {
            CredentialSource::Nothing
        }
        (Authentication::Token, _) if !shows_token => CredentialSource::Nothing,
        (Authentication::X509, Scenario::Handshake | Scenario::Resume) => {
            CredentialSource::Unregistered
        }
        (Authentication::Psk, _)
        | (_, Scenario::Telemetry | Scenario::Rebind | Scenario::Storm | Scenario::Observe) => {
            CredentialSource::Admin(ADMIN_DEFAULT.into())
        }
    }
}

const fn default_path(authentication: Authentication, scenario: Scenario) -> &'static str {
    match (authentication, scenario) {
        (Authentication::Token, Scenario::Observe) => "/api/v1/{token}/attributes",
        (Authentication::X509 | Authentication::Psk, Scenario::Observe) => "/api/v1/attributes",
        (Authentication::Token, _) => "/api/v1/{token}/telemetry",
        (Authentication::X509 | Authentication::Psk, _) => "/api/v1/telemetry",
        (Authentication::None, _) => "/",
    }
}

const fn takes_payload(method: u8) -> bool {
    !matches!(method, code::GET | code::DELETE)
}

/// `{"v":"xx..."}` of exactly `length` bytes.
fn payload_of(length: usize) -> Vec<u8> {
    let mut payload = br#"{"v":""#.to_vec();
    payload.resize(length.saturating_sub(2), b'x');
    payload.extend_from_slice(br#""}"#);
    payload
}

fn parse_payload_bytes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(length) if (PAYLOAD_BYTES_MIN..=PAYLOAD_BYTES_MAX).contains(&length) => Ok(length),
        _ => Err(format!(
            "not a number from {PAYLOAD_BYTES_MIN} to {PAYLOAD_BYTES_MAX}"
        )),
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 && rate <= 1e8 => Ok(rate),
        _ => Err("not a number above 0".into()),
    }
}

fn parse_rate_or_none(text: &str) -> Result<f64, String> {
    if text.parse() == Ok(0.0) {
        return Ok(0.0);
    }
    parse_rate(text)
}

/// `500ms`, `30s`, `1.5m`, `1h`; seconds without unit.
fn parse_duration(text: &str) -> Result<Duration, String> {
    const FORM: &str = "not a time such as 500ms, 30s, 5m or 1h";
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match &text[digits.len()..] {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(FORM.into()),
    };
    let number: f64 = digits.parse().map_err(|_| FORM)?;
    let seconds = number * scale;
    if !(0.0..=31.0 * 86_400.0).contains(&seconds) {
        return Err("not between 0 and 31 days".into());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| FORM.into())
}

fn parse_suite(name: &str) -> Result<CipherSuite, String> {
    CipherSuite::from_name(name).ok_or_else(|| {
        let names: Vec<&str> = CipherSuite::ALL.iter().map(|suite| suite.name()).collect();
        format!("unknown; known are {}", names.join(", "))
    })
}

fn parse_method(name: &str) -> Result<u8, String> {
    Ok(match name.to_ascii_uppercase().as_str() {
        "GET" => code::GET,
        "POST" => code::POST,
        "PUT" => code::PUT,
        "DELETE" => code::DELETE,
        "FETCH" => code::FETCH,
        "PATCH" => code::PATCH,
        "IPATCH" => code::IPATCH,
        _ => return Err("not one of GET, POST, PUT, DELETE, FETCH, PATCH, IPATCH".into()),
    })
}

/// The name of a method code.
pub(crate) const fn method_name(method: u8) -> &'static str {
    match method {
        code::GET => "GET",
        code::POST => "POST",
        code::PUT => "PUT",
        code::DELETE => "DELETE",
        code::FETCH => "FETCH",
        code::PATCH => "PATCH",
        _ => "IPATCH",
    }
}

#[cfg(test)]
pub(crate) mod tests;
