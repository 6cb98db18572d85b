//! `tidegate completion` and `tidegate man`: what is made from the command line's own description.

use crate::cli::arguments::{Arguments, CompletionArguments, ManArguments};
use crate::cli::{Failure, output};
use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use std::io::{self, Write as _};
use std::path::Path;

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
            out.write_all(page(&Man::new(program))?.as_bytes())?;
            out.flush()?;
            Ok(())
        }
        Some(directory) => {
            let mut program = program.disable_help_subcommand(true);
            program.build();
            write_pages(&program, directory).map_err(|error| {
                Failure::new(format_args!(
                    "pages cannot be written to {}: {error}",
                    directory.display()
                ))
            })
        }
    }
}

/// Writes the pages of a command and of those below it.
fn write_pages(command: &Command, directory: &Path) -> io::Result<()> {
    for below in command.get_subcommands() {
        write_pages(below, directory)?;
    }
    let man = Man::new(command.clone());
    std::fs::write(directory.join(man.get_filename()), page(&man)?)
}

/// A page. What follows the help is examples first: it gets that heading, and keeps its lines, which
/// are to be typed as they are.
fn page(man: &Man) -> io::Result<String> {
    let mut page = Vec::new();
    man.render(&mut page)?;
    let page = String::from_utf8(page).map_err(io::Error::other)?;
    let Some((before, rest)) = page.split_once(".SH EXTRA\n") else {
        return Ok(page);
    };
    let rest = ["Examples:\n", "Example:\n"]
        .iter()
        .find_map(|heading| rest.strip_prefix(heading))
        .unwrap_or(rest);
    let (kept, after) = rest
        .find("\n.SH ")
        .map_or((rest, ""), |at| rest.split_at(at + 1));
    Ok(format!("{before}.SH EXAMPLES\n.nf\n{kept}.fi\n{after}"))
}
