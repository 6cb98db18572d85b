//! The command line of `tidegate attr`.

use super::{PLACE_HELP, Place};
use crate::cli::attr::parse_assignment;
use crate::store::AttributeScope;
use clap::{Args, Subcommand, ValueEnum};

/// Show, set and delete attributes of devices.
#[derive(Args, Debug)]
#[command(after_help = format!("\
Examples:
  tidegate attr get thermometer-1
  tidegate attr get thermometer-1 --scope shared interval
  tidegate attr set thermometer-1 interval=60 name=\"north side\"
  tidegate attr set thermometer-1 --scope server owner=plant-7
  tidegate attr set-profile thermometers interval=60
  tidegate attr delete thermometer-1 interval name

{PLACE_HELP}"))]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(in crate::cli) struct AttrArguments {
    #[command(flatten)]
    pub(in crate::cli) place: Place,
    /// Accepted for symmetry: attributes are always JSON
    #[arg(long, global = true, hide = true)]
    pub(in crate::cli) json: bool,
    #[command(subcommand)]
    pub(in crate::cli) command: AttrCommand,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum AttrCommand {
    /// Show attributes: {"client":{"KEY":{"ts":MILLISECONDS,"value":VALUE},...},"shared":...}
    #[command(
        after_help = "Examples:\n  tidegate attr get thermometer-1\n  tidegate attr get thermometer-1 --scope shared interval"
    )]
    Get {
        /// The device's name
        name: String,
        /// Only of this scope: {"KEY":{...},...}
        #[arg(long, value_enum)]
        scope: Option<Scope>,
        /// Only these keys
        #[arg(value_name = "KEY")]
        keys: Vec<String>,
    },
    /// Set attributes; others stay
    #[command(
        after_help = "Examples:\n  tidegate attr set thermometer-1 interval=60 name=\"north side\"\n  tidegate attr set thermometer-1 --scope server owner=plant-7"
    )]
    Set {
        /// The device's name
        name: String,
        /// Whose they are to be
        #[arg(long, value_enum, default_value = "shared")]
        scope: Scope,
        /// Key and value: JSON if it reads as such, else text
        #[arg(value_name = "KEY=VALUE", required = true, value_parser = parse_assignment)]
        values: Vec<(String, serde_json::Value)>,
    },
    /// Set attributes of every device that has a profile; others stay
    #[command(after_help = "Example:\n  tidegate attr set-profile thermometers interval=60")]
    SetProfile {
        /// The profile's name
        profile: String,
        /// Whose they are to be
        #[arg(long, value_enum, default_value = "shared")]
        scope: Scope,
        /// Key and value: JSON if it reads as such, else text
        #[arg(value_name = "KEY=VALUE", required = true, value_parser = parse_assignment)]
        values: Vec<(String, serde_json::Value)>,
    },
    /// Delete attributes, as far as they are there
    #[command(after_help = "Example:\n  tidegate attr delete thermometer-1 interval name")]
    Delete {
        /// The device's name
        name: String,
        /// Whose they are
        #[arg(long, value_enum, default_value = "shared")]
        scope: Scope,
        /// Their keys
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
}

/// Whose an attribute is.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum Scope {
    /// The device's own
    Client,
    /// Set for the device, which may read them
    Shared,
    /// Set for the server; the device does not see them
    Server,
}

impl From<Scope> for AttributeScope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Client => Self::Client,
            Scope::Shared => Self::Shared,
            Scope::Server => Self::Server,
        }
    }
}
