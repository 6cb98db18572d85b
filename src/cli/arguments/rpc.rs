//! The command line of `tidegate rpc`.

use super::{PLACE_HELP, Place};
use crate::admin::timestamp;
use crate::cli::rpc::parse_params;
use clap::{Args, Subcommand};
use serde_json::value::RawValue;

/// Call devices, and see what became of calls that are kept.
#[derive(Args, Debug)]
#[command(after_help = format!("\
Examples:
  tidegate rpc send thermometer-1 setGpio '{{\"pin\":26,\"value\":1}}'
  tidegate rpc send thermometer-1 reboot --one-way
  tidegate rpc send thermometer-1 update --persistent --expires 2027-01-01T00:00:00Z
  tidegate rpc list thermometer-1

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
  tidegate rpc send thermometer-1 update --persistent --expires 2027-01-01T00:00:00Z")]
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
    /// How long it may take
    #[arg(long, value_name = "MILLISECONDS")]
    pub(in crate::cli) timeout_ms: Option<u64>,
    /// Keep it until it is done, across restarts of the server; prints its number
    #[arg(long)]
    pub(in crate::cli) persistent: bool,
    /// Most attempts after the first to deliver it
    #[arg(long, requires = "persistent")]
    pub(in crate::cli) retries: Option<u32>,
    /// When to give it up: milliseconds since 1970, or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = timestamp::parse, requires = "persistent")]
    pub(in crate::cli) expires: Option<i64>,
}
