//! The command line of `tidegate rpc`.

use super::{PLACE_HELP, Place};
use crate::admin::timestamp;
use crate::cli::rpc::parse_params;
use clap::{Args, Subcommand};
use serde_json::value::RawValue;

/// Call devices, see what became of calls that are kept, and answer calls of devices.
#[derive(Args, Debug)]
#[command(after_help = format!("\
Examples:
  tidegate rpc send thermometer-1 setGpio '{{\"pin\":26,\"value\":1}}'
  tidegate rpc send thermometer-1 reboot --one-way
  tidegate rpc send thermometer-1 update --persistent --expires 2027-01-01T00:00:00Z
  tidegate rpc list thermometer-1
  tidegate rpc wait                          prints the next call that a device makes
  tidegate rpc answer 7 '{{\"time\":1795628769}}'

{PLACE_HELP}"))]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(in crate::cli) struct RpcArguments {
    #[command(flatten)]
    pub(in crate::cli) place: Place,
    /// Print JSON
    #[arg(long, global = true)]
    pub(in crate::cli) json: bool,
    #[command(subcommand)]
    pub(in crate::cli) command: RpcCommand,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum RpcCommand {
    /// Call a device and print its answer
    Send(SendArguments),
    /// List the calls of a device that are under way or kept
    #[command(after_help = "Example:\n  tidegate rpc list thermometer-1")]
    List {
        /// The device's name
        name: String,
    },
    /// Show a call: JSON
    #[command(after_help = "Example:\n  tidegate rpc show thermometer-1 3")]
    Show {
        /// The device's name
        name: String,
        /// The call's number
        id: i32,
    },
    /// Wait for calls that devices make, and print them, a JSON object a line
    #[command(after_help = "\
Examples:
  tidegate rpc wait
  tidegate rpc wait --timeout 60

Each call is printed once, to one of those who wait. Its device waits for the answer for COAP_TIMEOUT (10 s):
  {\"id\":7,\"device\":\"thermometer-1\",\"method\":\"getTime\",\"params\":{}}")]
    Wait {
        /// Give up after so many seconds; else it waits until there is one
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=600))]
        timeout: Option<u64>,
    },
    /// Answer a call that a device has made
    #[command(after_help = "\
Examples:
  tidegate rpc answer 7 '{\"time\":1795628769}'
  tidegate rpc answer 7 --error 'no such method'")]
    Answer {
        /// The call's number, as `rpc wait` prints it
        id: u64,
        /// The answer, JSON
        #[arg(value_parser = parse_params, required_unless_present = "error", conflicts_with = "error")]
        reply: Option<Box<RawValue>>,
        /// Why there is none: the device gets {"error":"TEXT"}
        #[arg(long, value_name = "TEXT")]
        error: Option<String>,
    },
    /// Delete a call, done or not
    #[command(after_help = "Example:\n  tidegate rpc delete thermometer-1 3")]
    Delete {
        /// The device's name
        name: String,
        /// The call's number
        id: i32,
    },
}

/// Call a device and print its answer.
///
/// The device has to observe its calls (GET .../rpc with Observe). A persistent call waits for it.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidegate rpc send thermometer-1 setGpio '{\"pin\":26,\"value\":1}'
  tidegate rpc send thermometer-1 reboot --one-way
  tidegate rpc send thermometer-1 update --persistent --expires 2027-01-01T00:00:00Z

The device has to observe its calls (GET .../rpc with Observe). A persistent call waits for that.")]
pub(in crate::cli) struct SendArguments {
    /// The device's name
    pub(in crate::cli) name: String,
    /// What to call
    pub(in crate::cli) method: String,
    /// Parameters, JSON; {} when there are none
    #[arg(value_parser = parse_params)]
    pub(in crate::cli) params: Option<Box<RawValue>>,
    /// Expect no answer
    #[arg(long)]
    pub(in crate::cli) one_way: bool,
    /// How long it may take; DEFAULT_SERVER_SIDE_RPC_TIMEOUT when not said, at least MIN_SERVER_SIDE_RPC_TIMEOUT
    #[arg(long, value_name = "MILLISECONDS")]
    pub(in crate::cli) timeout_ms: Option<u64>,
    /// Keep it until it is done or given up (after a day, when nothing else is said), across restarts
    /// of the server; prints its number
    #[arg(long)]
    pub(in crate::cli) persistent: bool,
    /// Most attempts after the first to deliver it
    #[arg(long, requires = "persistent")]
    pub(in crate::cli) retries: Option<u32>,
    /// When to give it up: milliseconds since 1970, or as 2026-11-23T18:00:00Z
    #[arg(long, value_name = "TIME", value_parser = timestamp::parse, requires = "persistent")]
    pub(in crate::cli) expires: Option<i64>,
}
