//! The command line.

pub(super) mod attr;
pub(super) mod rpc;
pub(super) mod session;

use crate::admin::timestamp;
use attr::AttrArguments;
use clap::{Args, Parser, Subcommand};
use rpc::RpcArguments;
use session::SessionArguments;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  tidegate serve --dev                       a server to try out, with all it needs
  tidegate serve --conf /etc/tidegate/tidegate.conf
  tidegate check --conf /etc/tidegate/tidegate.conf
  tidegate device add thermometer-1          prints its access token
  tidegate data latest thermometer-1
  tidegate attr set thermometer-1 interval=60
  tidegate rpc send thermometer-1 reboot --one-way
  tidegate profile set default rateLimits.telemetryMessages=10:1
  tidegate ota add firmware.bin --title thermometer --version 1.2
  tidegate session list
  tidegate completion bash > /etc/bash_completion.d/tidegate

Settings are read from the environment, then from --conf FILE (lines as in thingsboard.conf:
export NAME=value), then their defaults apply; `tidegate check` shows all of them.
Exit codes: 0 done, 1 refused or failed, 2 wrong usage.";

/// CoAP-over-DTLS server for large device fleets, a drop-in replacement for ThingsBoard's CoAP
/// transport.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, after_help = EXAMPLES, max_term_width = 100)]
#[command(arg_required_else_help = true, subcommand_required = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the server in the foreground
    Serve(ServeArguments),
    /// Check settings and credentials as `serve` would, and show every setting in effect
    Check(CheckArguments),
    /// Add, show and remove devices and their credentials
    Device(DeviceArguments),
    /// Show the data that devices have sent, and delete it
    Data(DataArguments),
    /// Show, set and delete attributes of devices
    Attr(AttrArguments),
    /// Call devices, and see what became of calls that are kept
    Rpc(RpcArguments),
    /// Show and close the DTLS sessions of a running server
    Session(SessionArguments),
    /// Define and change device profiles: payloads, limits, power saving, provisioning
    Profile(crate::cli::profile::ProfileArguments),
    /// Add firmware and software packages, and assign them
    Ota(crate::cli::ota::OtaArguments),
    /// Assign devices that offer themselves to customers
    Claim(crate::cli::claim::ClaimArguments),
    /// Make and inspect certificates
    Cert(CertArguments),
    /// Look at the host: what would stop or slow the server, why, and the command that mends it
    Doctor(DoctorArguments),
    /// Print a script that completes commands in a shell
    Completion(CompletionArguments),
    /// Print the manual page, or write one for each command
    Man(ManArguments),
}

/// Print a script that completes commands in a shell.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidegate completion bash > /etc/bash_completion.d/tidegate
  tidegate completion zsh > /usr/local/share/zsh/site-functions/_tidegate
  tidegate completion fish > ~/.config/fish/completions/tidegate.fish")]
pub(super) struct CompletionArguments {
    /// The shell
    pub(super) shell: clap_complete::Shell,
}

/// Print the manual page, or write one for each command.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidegate man | man -l -
  tidegate man --out /usr/local/share/man/man1")]
pub(super) struct ManArguments {
    /// Directory for the pages of all commands: tidegate.1, tidegate-device.1 and so on
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
}

/// Run the server in the foreground.
///
/// SIGTERM and SIGINT let it answer what it has taken and stop; SIGHUP reloads certificate and key
/// for new handshakes, shared ticket keys, and the token of the admin interface.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidegate serve --dev
  COAP_DTLS_ENABLED=true COAP_DTLS_PEM_CERT=server.pem COAP_DTLS_PEM_KEY=server_key.pem \\
    tidegate serve
  tidegate serve --conf /etc/thingsboard/conf/thingsboard.conf")]
pub(super) struct ServeArguments {
    /// Read settings from FILE; the environment wins over it
    #[arg(long, value_name = "FILE")]
    pub(super) conf: Option<PathBuf>,
    /// Serve DTLS with a certificate made for localhost, two devices, and the commands to try them
    #[arg(long)]
    pub(super) dev: bool,
}

/// Check settings and credentials as `serve` would, and show every setting in effect.
///
/// Prints each setting with where it came from: default, file and line, or environment. Opens no
/// port. Exit code 0 when `serve` would accept them, else 1.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidegate check
  tidegate check --explain
  tidegate check --conf /etc/tidegate/tidegate.conf --json")]
pub(super) struct CheckArguments {
    /// Read settings from FILE; the environment wins over it
    #[arg(long, value_name = "FILE")]
    pub(super) conf: Option<PathBuf>,
    /// Say what each setting means
    #[arg(long, conflicts_with = "json")]
    pub(super) explain: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// Look at the host: what would stop or slow the server, why, and the command that mends it.
///
/// Reads kernel, io_uring, limits, socket buffers, receive queues, governor, clock and memory nodes.
/// Changes nothing and opens no port. Exit code 1 when something would stop `serve`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidegate doctor
  tidegate doctor --conf /etc/tidegate/tidegate.conf --json")]
pub(super) struct DoctorArguments {
    /// Read settings, of which TIDEGATE_SHARDS counts here, from FILE
    #[arg(long, value_name = "FILE")]
    pub(super) conf: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// Where the data is, for commands that work on it.
#[derive(Args, Debug)]
pub(super) struct Place {
    /// Read settings, of which TIDEGATE_DATA_DIR counts here, from FILE
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) conf: Option<PathBuf>,
}

const PLACE_HELP: &str = "\
Works on the data directory of TIDEGATE_DATA_DIR: through the server's admin socket in it when the
server runs, else directly.";

/// Add, show and remove devices and their credentials.
#[derive(Args, Debug)]
#[command(after_help = format!("\
Examples:
  tidegate device add thermometer-1
  tidegate device add thermometer-2 --token A1_TEST_TOKEN
  tidegate device add gateway-7 --x509 gateway-7.pem
  tidegate device add valve-3 --psk-identity valve-3
  tidegate device list
  tidegate device set-credentials thermometer-1
  tidegate device import fleet.csv

{PLACE_HELP}"))]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(super) struct DeviceArguments {
    #[command(flatten)]
    pub(super) place: Place,
    /// Print JSON instead of a table
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: DeviceCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum DeviceCommand {
    /// Add a device and print its credentials
    #[command(after_help = "\
Examples:
  tidegate device add thermometer-1
  tidegate device add thermometer-2 --token A1_TEST_TOKEN --profile thermometer
  tidegate device add gateway-7 --x509 gateway-7.pem
  tidegate device add valve-3 --psk-identity valve-3
  tidegate device add valve-4 --psk-identity valve-4 --psk \"$(openssl rand -hex 32)\"

A pre-shared key that is made at random is printed once; no command shows a key again.")]
    Add {
        /// Its name, unique
        name: String,
        /// Its access token; made at random when no other credential is given
        #[arg(long, value_name = "T", conflicts_with_all = ["x509", "psk_identity"])]
        token: Option<String>,
        /// Its certificate; the first one in the file identifies it
        #[arg(long, value_name = "CERT.pem")]
        x509: Option<PathBuf>,
        /// The identity of its pre-shared key (RFC 4279), up to 128 characters
        #[arg(long, value_name = "I", conflicts_with = "x509")]
        psk_identity: Option<String>,
        /// Its pre-shared key, 16 to 64 bytes in hexadecimal; made at random when only --psk-identity
        /// is given
        #[arg(long, value_name = "HEX", requires = "psk_identity")]
        psk: Option<String>,
        /// Its device profile
        #[arg(long, value_name = "P")]
        profile: Option<String>,
    },
    /// List all devices, without their credentials
    #[command(
        after_help = "Examples:\n  tidegate device list\n  tidegate device list --json | jq -r '.[].name'"
    )]
    List,
    /// Show a device: its credentials, when it was heard of, what it is to have
    #[command(after_help = "Example:\n  tidegate device show thermometer-1")]
    Show {
        /// Its name
        name: String,
    },
    /// Replace a device's credential and print the new one; the old one ends at once
    #[command(after_help = "\
Examples:
  tidegate device set-credentials thermometer-1                      a new token, made at random
  tidegate device set-credentials thermometer-2 --token A2_TEST_TOKEN
  tidegate device set-credentials gateway-7 --x509 gateway-7-new.pem
  tidegate device set-credentials valve-3 --psk-identity valve-3")]
    SetCredentials {
        /// Its name
        name: String,
        /// An access token; made at random when no other credential is given
        #[arg(long, value_name = "T", conflicts_with_all = ["x509", "psk_identity"])]
        token: Option<String>,
        /// A certificate; the first one in the file identifies the device
        #[arg(long, value_name = "CERT.pem")]
        x509: Option<PathBuf>,
        /// The identity of a pre-shared key (RFC 4279), up to 128 characters
        #[arg(long, value_name = "I", conflicts_with = "x509")]
        psk_identity: Option<String>,
        /// The pre-shared key, 16 to 64 bytes in hexadecimal; made at random when only --psk-identity
        /// is given
        #[arg(long, value_name = "HEX", requires = "psk_identity")]
        psk: Option<String>,
    },
    /// Give a device another profile, or show or change what is set for it alone
    #[command(after_help = "\
Examples:
  tidegate device set tracker-1 profile=tracker
  tidegate device set tracker-1 powerSaving.mode=E_DRX powerSaving.pagingTransmissionWindow=5000
FIELD= takes a field back. provisioned=false lets a device fetch its credentials once more.")]
    Set {
        /// Its name
        name: String,
        /// profile, powerSaving.mode, powerSaving.psmActivityTimer, powerSaving.edrxCycle,
        /// powerSaving.pagingTransmissionWindow (milliseconds), provisioned
        #[arg(value_name = "FIELD=VALUE")]
        fields: Vec<String>,
    },
    /// Remove a device and its data; its credentials end at once
    #[command(after_help = "Example:\n  tidegate device remove thermometer-1")]
    Remove {
        /// Its name
        name: String,
    },
    /// Add many devices from a file
    #[command(
        long_about = "\
Add many devices from a file: a line each, NAME,TOKEN or NAME,CERTIFICATE-FILE (.pem, .crt, .cer or
.der, relative to the file's directory) or NAME,PSK-IDENTITY,KEY (in hexadecimal). With NAME alone a
token is made at random. A bad line is reported by its number, and the rest goes on; the exit code is
1 then.",
        after_help = "\
Examples:
  tidegate device import fleet.csv
  printf 'dev-1,TOKEN1\\ndev-2,certs/dev-2.pem\\n' | tidegate device import -"
    )]
    Import {
        /// The file; - for standard input
        #[arg(value_name = "FILE.csv")]
        file: PathBuf,
    },
}

/// Show the data that devices have sent, as JSON, and delete it.
#[derive(Args, Debug)]
#[command(after_help = format!("\
Examples:
  tidegate data latest thermometer-1
  tidegate data history thermometer-1 temperature --limit 10
  tidegate data history thermometer-1 temperature --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z
  tidegate data export thermometer-1 > thermometer-1.json
  tidegate data delete thermometer-1 humidity

{PLACE_HELP}"))]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(super) struct DataArguments {
    #[command(flatten)]
    pub(super) place: Place,
    /// Accepted for symmetry: what is shown is always JSON
    #[arg(long, global = true, hide = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: DataCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum DataCommand {
    /// The newest reading of each key: {"KEY":{"ts":MILLISECONDS,"value":VALUE},...}
    #[command(after_help = "Example:\n  tidegate data latest thermometer-1")]
    Latest {
        /// The device's name
        name: String,
    },
    /// All readings of a key, oldest first, a JSON object a line
    #[command(
        after_help = "Examples:\n  tidegate data history thermometer-1 temperature --limit 10\n  tidegate data history thermometer-1 temperature --from 2026-11-01T00:00:00Z"
    )]
    History {
        /// The device's name
        name: String,
        /// The key
        key: String,
        /// Not before: milliseconds since 1970, or as 2026-11-23T18:00:00Z
        #[arg(long, value_name = "TIME", value_parser = timestamp::parse, allow_hyphen_values = true)]
        from: Option<i64>,
        /// Not after
        #[arg(long, value_name = "TIME", value_parser = timestamp::parse, allow_hyphen_values = true)]
        to: Option<i64>,
        /// Only the newest N of them
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: Option<u32>,
    },
    /// Everything stored of a device: one object with attributes and all readings
    #[command(after_help = "Example:\n  tidegate data export thermometer-1 > thermometer-1.json")]
    Export {
        /// The device's name
        name: String,
    },
    /// Delete readings of a key: all, or those of a time
    #[command(
        after_help = "Examples:\n  tidegate data delete thermometer-1 humidity\n  tidegate data delete thermometer-1 temperature --to 2026-01-01T00:00:00Z"
    )]
    Delete {
        /// The device's name
        name: String,
        /// The key
        key: String,
        /// Not before: milliseconds since 1970, or as 2026-11-23T18:00:00Z
        #[arg(long, value_name = "TIME", value_parser = timestamp::parse, allow_hyphen_values = true)]
        from: Option<i64>,
        /// Not after
        #[arg(long, value_name = "TIME", value_parser = timestamp::parse, allow_hyphen_values = true)]
        to: Option<i64>,
    },
}

/// Make and inspect certificates.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidegate cert self-signed --out . --cn coap.example.com --san coap.example.com,192.0.2.1
  tidegate cert client --out dev-1 --cn dev-1
  tidegate cert inspect server.pem")]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(super) struct CertArguments {
    #[command(subcommand)]
    pub(super) command: CertCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum CertCommand {
    /// Make a self-signed P-256 certificate for the server: server.pem and server_key.pem
    #[command(after_help = "\
Example:
  tidegate cert self-signed --out . --cn coap.example.com --san coap.example.com,192.0.2.1
then set COAP_DTLS_PEM_CERT=server.pem and COAP_DTLS_PEM_KEY=server_key.pem")]
    SelfSigned {
        /// Directory for the files; existing ones are not overwritten
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Common name
        #[arg(long, value_name = "CN", default_value = "localhost")]
        cn: String,
        /// Further names and addresses that clients reach the server by, with commas or repeated
        #[arg(long, value_name = "NAME", value_delimiter = ',')]
        san: Vec<String>,
        /// Validity in days
        #[arg(long, value_name = "N", default_value_t = 365)]
        days: u32,
        /// Encrypt the key with this password (COAP_DTLS_PEM_KEY_PASSWORD)
        #[arg(long, value_name = "P")]
        password: Option<String>,
    },
    /// Make a self-signed P-256 certificate for a device: client.pem and client_key.pem
    #[command(after_help = "\
Example:
  tidegate cert client --out dev-1 --cn dev-1
  tidegate device add dev-1 --x509 dev-1/client.pem")]
    Client {
        /// Directory for the files; existing ones are not overwritten
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Common name, as a rule the device's name
        #[arg(long, value_name = "CN")]
        cn: String,
        /// Validity in days
        #[arg(long, value_name = "N", default_value_t = 3650)]
        days: u32,
    },
    /// Show what is in a certificate file: subject, validity, key, order of the chain, fingerprint
    #[command(after_help = "Example:\n  tidegate cert inspect server.pem")]
    Inspect {
        /// PEM, or one certificate in DER
        file: PathBuf,
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
}
