//! `tidegate completion` and `tidegate man`: what is made from the command line's own description.

use crate::cli::arguments::{Arguments, CompletionArguments, ManArguments};
use crate::cli::{Failure, output};
use clap::CommandFactory as _;
use std::io::Write as _;

/// The program's name, as a shell knows it.
const PROGRAM: &str = "tidegate";

pub(super) fn complete(arguments: &CompletionArguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Arguments::command(),
        PROGRAM,
        &mut script,
    );
    let mut out = output::stdout();
    out.write_all(&script)?;
    out.flush()?;
    Ok(())
}

pub(super) fn manual(arguments: &ManArguments) -> Result<(), Failure> {
    let program = Arguments::command();
    match &arguments.out {
        None => {
            let mut out = output::stdout();
            clap_mangen::Man::new(program).render(&mut out)?;
            out.flush()?;
            Ok(())
        }
        Some(directory) => clap_mangen::generate_to(program, directory).map_err(|error| {
            Failure::new(format_args!(
                "pages cannot be written to {}: {error}",
                directory.display()
            ))
        }),
    }
}
