//! The command line of `tidegate session`.

use super::Place;
use clap::{Args, Subcommand};

/// Show and close the DTLS sessions of a running server.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidegate session list
  tidegate session list --device gateway-7
  tidegate session list --json | head -1
  tidegate session close 0-17-3

Asks the server that runs on TIDEGATE_DATA_DIR, through the admin socket in it.")]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(in crate::cli) struct SessionArguments {
    #[command(flatten)]
    pub(in crate::cli) place: Place,
    /// Print JSON, an object a line, instead of a table
    #[arg(long, global = true)]
    pub(in crate::cli) json: bool,
    #[command(subcommand)]
    pub(in crate::cli) command: SessionCommand,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum SessionCommand {
    /// List live sessions: peer, identity, cipher suite, connection id, age, last activity
    #[command(
        after_help = "Examples:\n  tidegate session list\n  tidegate session list --device gateway-7"
    )]
    List {
        /// Only those of this device: a device with a token is known while it observes something
        #[arg(long, value_name = "NAME")]
        device: Option<String>,
        /// At most N
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: Option<u32>,
    },
    /// End a session; its peer is told and may come back by another handshake
    #[command(after_help = "Example:\n  tidegate session close 0-17-3")]
    Close {
        /// Its id, as listed
        id: String,
    },
}
