//! The shim between our DTLS ends and the runner of BoringSSL's `ssl/test/runner`: the runner plays
//! the other end of every test, sets the clock, and says by flags what it wants of us.
//!
//! ```text
//! runner  --- flags --->  shim (one process per test)
//!         <-- TCP: shim id, then packets and clock commands, framed -->
//!         <-- exit code 0, 1, or 89 for what we do not have; stderr names the error ---
//! ```
//!
//! After the handshake the shim sends every plaintext back with all bits turned, until the runner
//! closes. See `tests/conformance/README.md`.

mod end;
mod exchange;
mod flags;
mod transport;

use std::process::ExitCode;

use self::flags::{Flags, Outcome};

/// What the runner takes as "not implemented".
const UNIMPLEMENTED: u8 = 89;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments
        .iter()
        .any(|flag| flag == "-is-handshaker-supported")
    {
        println!("No");
        return ExitCode::SUCCESS;
    }
    let outcome = Flags::parse(&arguments).and_then(|flags| exchange::run(&flags));
    let code = match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Outcome::Unimplemented(what)) => {
            eprintln!("not implemented: {what}");
            ExitCode::from(UNIMPLEMENTED)
        }
        Err(Outcome::Failed(why)) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    };
    // The runner takes what stands behind this line for a tool's complaint.
    eprintln!("--- DONE ---");
    code
}
