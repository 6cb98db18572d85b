//! `tidegate-loadgen`: simulates a fleet of devices against a CoAP or CoAPS server, and measures its
//! answers.
//!
//! ```text
//! arguments -> Plan -> fleet (credentials, registered) -> run: phases, live line, report
//!                                                          |  Control (atomics, published samples)
//!              worker 0 .. K: epoll, timer wheel -> device -> link (UDP or DTLS)
//!              in a storm as many again, and flood: strangers who only begin handshakes
//! ```
//!
//! A thread owns its devices outright; it shares nothing with others but [`control::Control`]. The
//! protocols are the library's own, without sockets or clocks of theirs.

mod arguments;
mod clock;
mod control;
mod device;
mod fleet;
mod flood;
mod kit;
mod link;
mod live;
mod pacing;
mod report;
mod run;
mod server_process;
mod sockets;
mod stats;
mod storm;
mod target;
mod text;
mod updates;
mod worker;

use std::process::ExitCode;

/// Exit codes: 0 all went well; 1 an answer was wrong, too many operations failed, or the run could
/// not be made; 2 wrong usage.
fn main() -> ExitCode {
    let plan = match arguments::Plan::from_command_line() {
        Ok(plan) => plan,
        Err(error) => error.exit(),
    };
    match run::run(&plan) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("tidegate-loadgen: {message}");
            ExitCode::FAILURE
        }
    }
}
