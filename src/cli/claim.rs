//! `tidegate claim`: devices that offer to be claimed.

use crate::admin::operations::claims::{Claim, ClaimState};
use crate::admin::timestamp;
use crate::cli::access::{Access, Missing};
use crate::cli::arguments::Place;
use crate::cli::{Failure, output};
use clap::{Args, Subcommand};
use std::io::Write as _;

/// Assign devices that offer themselves to customers.
///
/// A device offers itself by a POST to its claim resource, for a day unless it says otherwise.
/// Offers are known to the server that runs.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidegate claim show tracker-17
  tidegate claim accept tracker-17 --customer \"Alpine Rescue\" --secret 4711
  tidegate claim release tracker-17")]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(super) struct ClaimArguments {
    #[command(flatten)]
    place: Place,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: ClaimCommand,
}

#[derive(Debug, Subcommand)]
enum ClaimCommand {
    /// Show whose a device is, and whether it can be claimed
    #[command(after_help = "Example:\n  tidegate claim show tracker-17")]
    Show {
        /// The device's name
        name: String,
    },
    /// Assign a device that offers itself to a customer
    #[command(
        after_help = "Example:\n  tidegate claim accept tracker-17 --customer \"Alpine Rescue\" --secret 4711"
    )]
    Accept {
        /// The device's name
        name: String,
        /// Who is to have it
        #[arg(long, value_name = "CUSTOMER")]
        customer: String,
        /// The secret that the device has posted, if it posted one
        #[arg(long, value_name = "SECRET", default_value = "")]
        secret: String,
    },
    /// Take a device back from its customer
    #[command(after_help = "Example:\n  tidegate claim release tracker-17")]
    Release {
        /// The device's name
        name: String,
    },
}

pub(super) fn run(arguments: &ClaimArguments) -> Result<(), Failure> {
    let access = Access::open(&arguments.place, Missing::Refuse)?;
    let state = match &arguments.command {
        ClaimCommand::Show { name } => access.claim_state(name)?,
        ClaimCommand::Accept {
            name,
            customer,
            secret,
        } => {
            let claim = Claim {
                customer: customer.clone(),
                secret_key: secret.clone(),
            };
            access.claim(name, &claim)?
        }
        ClaimCommand::Release { name } => access.reclaim(name)?,
    };
    print(&state, arguments.json)
}

fn print(state: &ClaimState, json: bool) -> Result<(), Failure> {
    let mut out = output::stdout();
    if json {
        output::write_json(&mut out, state)?;
    } else {
        let until = state.claimable_until_ms;
        let until = until.and_then(|ms| i64::try_from(ms).ok());
        let fields = [
            (
                "customer",
                state.customer.clone().unwrap_or_else(|| "none".to_owned()),
            ),
            (
                "claimable",
                until.map_or_else(
                    || "no".to_owned(),
                    |ms| format!("until {}", timestamp::format(ms)),
                ),
            ),
        ];
        output::write_fields(&mut out, &fields)?;
    }
    out.flush()?;
    Ok(())
}
