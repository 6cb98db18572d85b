//! The commands of the `tidegate` program.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 refused
//! or failed, 2 wrong usage.

mod access;
mod arguments;
mod attr;
mod cert;
mod check;
mod claim;
mod data;
mod device;
mod doctor;
mod import;
mod manual;
mod ota;
mod output;
mod profile;
mod rpc;
mod serve;
mod session;

use crate::admin::OperationError;
use crate::config::{Config, ConfigError, Sources};
use arguments::{Arguments, Command};
use clap::Parser as _;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// Runs the program: reads the command line and does what it says.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.command {
        Command::Serve(arguments) => serve::run(arguments),
        Command::Check(arguments) => check::run(arguments),
        Command::Device(arguments) => device::run(arguments),
        Command::Data(arguments) => data::run(arguments),
        Command::Attr(arguments) => attr::run(arguments),
        Command::Rpc(arguments) => rpc::run(arguments),
        Command::Session(arguments) => session::run(arguments),
        Command::Profile(arguments) => profile::run(arguments),
        Command::Ota(arguments) => ota::run(arguments),
        Command::Claim(arguments) => claim::run(arguments),
        Command::Cert(arguments) => cert::run(arguments),
        Command::Doctor(arguments) => doctor::run(arguments),
        Command::Completion(arguments) => manual::complete(arguments),
        Command::Man(arguments) => manual::manual(arguments),
    };
    match done {
        // Who reads our output has seen enough (`| head`).
        Ok(()) | Err(Failure::OutputClosed) => ExitCode::SUCCESS,
        Err(Failure::Reported) => ExitCode::FAILURE,
        Err(Failure::Message(message)) => {
            output::complain(&format!("error: {message}"));
            ExitCode::FAILURE
        }
    }
}

/// Why a command ends early.
#[derive(Debug)]
enum Failure {
    /// Something to tell.
    Message(String),
    /// What is wrong was told already.
    Reported,
    /// Nobody reads the output any more.
    OutputClosed,
}

impl Failure {
    fn new(message: impl std::fmt::Display) -> Self {
        Self::Message(message.to_string())
    }
}

impl From<OperationError> for Failure {
    fn from(error: OperationError) -> Self {
        Self::new(error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(error)
    }
}

/// Of writing to standard output; other errors are given their context where they occur.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::OutputClosed
        } else {
            Self::new(format_args!("the output cannot be written: {error}"))
        }
    }
}

/// The settings as the server would have them.
fn load_config(file: Option<&Path>, dev: bool) -> Result<Config, ConfigError> {
    Config::load(&Sources::of_process(file, dev))
}
